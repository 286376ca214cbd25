"""The dtype table: names, limits, promotion over the whole lattice, the default dtype, what is accumulated wide."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes

SHORT = {"b": tl.bool, "u8": tl.uint8, "i8": tl.int8, "i16": tl.int16, "i32": tl.int32, "i64": tl.int64,
         "f16": tl.float16, "bf": tl.bfloat16, "f32": tl.float32, "f64": tl.float64}
ALL = list(SHORT.values())
# What PyTorch 2.13 gives for each pair, in the order of SHORT.
PAIRS = """
      b  u8  i8 i16 i32 i64 f16  bf f32 f64
     u8  u8 i16 i16 i32 i64 f16  bf f32 f64
     i8 i16  i8 i16 i32 i64 f16  bf f32 f64
    i16 i16 i16 i16 i32 i64 f16  bf f32 f64
    i32 i32 i32 i32 i32 i64 f16  bf f32 f64
    i64 i64 i64 i64 i64 i64 f16  bf f32 f64
    f16 f16 f16 f16 f16 f16 f16 f32 f32 f64
     bf  bf  bf  bf  bf  bf f32  bf f32 f64
    f32 f32 f32 f32 f32 f32 f32 f32 f32 f64
    f64 f64 f64 f64 f64 f64 f64 f64 f64 f64"""
# Dimensioned with 0-d: only a higher category counts.
WITH_ZERO_DIM = """
      b  u8  i8 i16 i32 i64 f16  bf f32 f64
     u8  u8  u8  u8  u8  u8 f16  bf f32 f64
     i8  i8  i8  i8  i8  i8 f16  bf f32 f64
    i16 i16 i16 i16 i16 i16 f16  bf f32 f64
    i32 i32 i32 i32 i32 i32 f16  bf f32 f64
    i64 i64 i64 i64 i64 i64 f16  bf f32 f64
    f16 f16 f16 f16 f16 f16 f16 f16 f16 f16
     bf  bf  bf  bf  bf  bf  bf  bf  bf  bf
    f32 f32 f32 f32 f32 f32 f32 f32 f32 f32
    f64 f64 f64 f64 f64 f64 f64 f64 f64 f64"""
WITH_NUMBER = {True: "b u8 i8 i16 i32 i64 f16 bf f32 f64", 2: "i64 u8 i8 i16 i32 i64 f16 bf f32 f64",
               1.5: "f32 f32 f32 f32 f32 f32 f16 bf f32 f64"}


def rows(table: str) -> Iterator[tuple[dtypes.DType, dtypes.DType, dtypes.DType]]:
    for a, line in zip(ALL, table.split("\n")[1:], strict=True):
        for b, word in zip(ALL, line.split(), strict=True):
            yield a, b, SHORT[word]


def ones(dtype: dtypes.DType, *shape: int) -> tl.Tensor:
    return tl.ones(*shape, dtype=dtype)


def test_promotion_of_every_pair() -> None:
    for a, b, expected in rows(PAIRS):
        assert tl.promote_types(a, b) is expected
        assert (ones(a, 2) * ones(b, 2)).dtype is expected
        assert (ones(a) * ones(b)).dtype is expected, "two 0-d tensors combine as two dimensioned ones"


def test_promotion_with_zero_dim_tensors() -> None:
    for a, b, expected in rows(WITH_ZERO_DIM):
        assert (ones(a, 2) * ones(b)).dtype is expected
        assert (ones(b) * ones(a, 2)).dtype is expected


@pytest.mark.parametrize("number", WITH_NUMBER)
def test_promotion_with_python_numbers(number: Any) -> None:
    for dtype, word in zip(ALL, WITH_NUMBER[number].split(), strict=True):
        for x in (ones(dtype, 2), ones(dtype)):
            assert (x * number).dtype is SHORT[word]
            assert (number * x).dtype is SHORT[word]


def test_numpy_scalars_count_as_python_numbers_if_they_are_and_as_zero_dim_tensors_else() -> None:
    assert (ones(tl.float32, 2) * np.float64(2)).dtype is tl.float32
    assert (ones(tl.int8, 2) * np.int64(2)).dtype is tl.int8
    assert (ones(tl.int8, 2) * np.float32(2)).dtype is tl.float32


@pytest.mark.parametrize("dtype", [d for d in ALL if not d.is_floating_point], ids=lambda d: d.name)
def test_integers_divide_and_round_as_in_python(dtype: dtypes.DType) -> None:
    x = ones(dtype, 2)
    assert (x / x).dtype is tl.float32
    assert tl.sqrt(x).dtype is tl.float32
    assert x.sum().dtype is tl.int64
    assert x.cumprod(0).dtype is tl.int64
    if dtype is not tl.bool:
        assert (x // x).dtype is dtype
        assert (x % x).dtype is dtype


def test_floor_and_remainder_follow_the_divisors_sign() -> None:
    x = tl.tensor([-3, 3, -4, 5])
    assert (x // 2).tolist() == [-2, 1, -2, 2]
    assert (x % 2).tolist() == [1, 1, 0, 1]
    assert (x % -2).tolist() == [-1, -1, 0, -1]
    assert tl.fmod(x, 2).tolist() == [-1, 1, 0, 1]
    assert tl.div(x, 2, rounding_mode="trunc").tolist() == [-1, 1, -2, 2]
    large = tl.tensor([2**62 + 1])
    assert tl.div(large, 1, rounding_mode="trunc").item() == 2**62 + 1, "integers divide without a detour by floats"


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float32, tl.float64], ids=lambda d: d.name)
def test_finfo(dtype: dtypes.DType) -> None:
    expected = ml_dtypes.finfo(dtype.numpy)
    limits = tl.finfo(dtype)
    for name in ("eps", "max", "min", "tiny", "smallest_normal", "resolution"):
        assert math.isclose(getattr(limits, name), float(getattr(expected, name)), rel_tol=1e-3), name
    assert limits.bits == expected.bits
    assert limits.max == float(expected.max)


@pytest.mark.parametrize("dtype", [tl.uint8, tl.int8, tl.int16, tl.int32, tl.int64], ids=lambda d: d.name)
def test_iinfo(dtype: dtypes.DType) -> None:
    expected = np.iinfo(dtype.numpy)
    got = tl.iinfo(dtype)
    assert (got.min, got.max, got.bits) == (expected.min, expected.max, expected.bits)


def test_names_and_what_stands_for_a_dtype() -> None:
    for dtype in ALL:
        assert dtypes.as_dtype(dtype) is dtype
        assert dtypes.as_dtype(dtype.name) is dtype
        assert dtypes.as_dtype(dtype.numpy) is dtype
        assert dtypes.from_numpy(dtype.numpy) is dtype
        assert dtype.itemsize == dtype.numpy.itemsize
        assert repr(dtype) == f"tensorlite.{dtype.name}"
    assert [dtypes.as_dtype(t) for t in (bool, int, float)] == [tl.bool, tl.int64, tl.float64]
    assert (tl.half, tl.float, tl.double, tl.short, tl.int, tl.long) == (
        tl.float16, tl.float32, tl.float64, tl.int16, tl.int32, tl.int64)
    assert dtypes.as_dtype(np.longlong) is tl.int64
    assert dtypes.as_dtype(np.int_) is tl.int64


def test_there_is_one_object_per_dtype() -> None:
    for dtype in ALL:
        assert copy.deepcopy(dtype) is dtype
        assert pickle.loads(pickle.dumps(dtype)) is dtype


@pytest.fixture
def restore_default() -> Iterator[None]:
    yield
    tl.set_default_dtype(tl.float32)


def test_default_dtype(restore_default: None) -> None:
    assert tl.get_default_dtype() is tl.float32
    tl.set_default_dtype(tl.float64)
    made = (tl.tensor([1.5]), tl.zeros(2), tl.arange(0, 1, 0.5), tl.full((2,), 1.5), tl.ones(2, dtype=tl.int64) / 2,
            tl.linspace(0, 1, 3), tl.ones(2, dtype=tl.int64) * 1.5)
    assert {x.dtype for x in made} == {tl.float64}
    assert repr(tl.tensor([1.5])) == "tensor([1.5000])"
    assert repr(tl.tensor([1.5], dtype=tl.float32)) == "tensor([1.5000], dtype=tensorlite.float32)"
    tl.set_default_dtype("float16")
    assert tl.zeros(1).dtype is tl.float16


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16], ids=lambda d: d.name)
def test_narrow_floats_are_computed_wide(dtype: dtypes.DType) -> None:
    """Sums, means, products and softmax are rounded once, at the end; what is too large becomes inf."""
    x = tl.full((4096,), 1.0, dtype=dtype)
    assert x.sum().item() == 4096, "a sum in 16 bits would stop growing"
    assert x.mean().item() == 1
    assert (x.reshape(1, -1) @ x.reshape(-1, 1)).item() == 4096
    assert x.softmax(0).double().sum().item() == pytest.approx(1, abs=1e-3)
    assert x.cumsum(0)[-1].item() == 4096
    assert x.var(correction=0).item() == 0
    assert x.norm().item() == 64
    assert (tl.full((2,), 3e38, dtype=tl.bfloat16) * 2).tolist() == [math.inf, math.inf]
    assert (tl.full((2,), 6e4, dtype=tl.float16) * 2).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float32, tl.float64], ids=lambda d: d.name)
def test_a_number_compares_as_the_tensors_dtype_holds_it(dtype: dtypes.DType) -> None:
    x = tl.tensor([0.1], dtype=dtype)
    for same in (x == 0.1, x >= 0.1, x <= 0.1, 0.1 == x, ~(x != 0.1), ~(x < 0.1), ~(x > 0.1), x == tl.tensor(0.1)):
        assert same.item() or dtype is tl.float64


@pytest.mark.parametrize("count", range(1, 100, 7))
def test_the_mean_of_equal_numbers_is_that_number(count: int) -> None:
    for value in (1.0, 7.0):
        x = tl.full((count,), value, dtype=tl.float64)
        assert x.mean().item() == value
        assert x.var(correction=0).item() == 0


def test_integers_cast_as_in_c() -> None:
    assert tl.tensor([1.9, -1.9]).to(tl.int32).tolist() == [1, -1]
    assert tl.tensor([300, -1]).to(tl.uint8).tolist() == [44, 255]
    assert tl.tensor([0.0, 0.5, math.nan]).to(tl.bool).tolist() == [False, True, True]
    assert tl.tensor([True, False]).to(tl.float32).tolist() == [1.0, 0.0]


def test_casting_between_all_dtypes_keeps_small_integers() -> None:
    for a, b in itertools.product(ALL, ALL):
        assert tl.tensor([0, 1], dtype=a).to(b).tolist() == tl.tensor([0, 1], dtype=b).tolist()
