"""concat, arange and the tiled transposition behind "copy": the same as on the CPU, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import movement, transpose
from tensorlite.dtypes import ALL, DType
from tensorlite.testing import devices

CPU = get("cpu")
KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")
every_dtype = pytest.mark.parametrize("dtype", ALL, ids=lambda dtype: dtype.name)


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: tuple[int, ...], dtype: DType, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    return random.integers(0, 2 if dtype is tl.bool else 100, shape).astype(dtype.numpy)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


def copied(backend: Backend, x: Any, dtype: np.dtype[Any]) -> np.ndarray:
    return backend.to_numpy(backend.fill("copy", x.shape, dtype, x))


def used(backend: Any) -> set[str]:
    """The templates of movement.cu that were launched so far."""
    return {instance.expression for instance in backend._functions if instance.file == "movement.cu"}


# --- the transposition behind "copy" ----------------------------------------------------------------------------------


@every_dtype
def test_transposed_copies_of_every_dtype(dtype: DType, backend: Backend) -> None:
    for shape in ((16, 16), (33, 31), (64, 100)):
        x = values(shape, dtype)
        assert_same_bits(copied(backend, backend.from_numpy(x).transpose((1, 0)), x.dtype), x.T)
    assert f"transpose<{dtype.c_type}, {dtype.c_type}>" in used(backend)


@pytest.mark.parametrize("pair", ((tl.float32, tl.float16), (tl.bfloat16, tl.float64), (tl.int64, tl.float32),
                                  (tl.float64, tl.int8), (tl.uint8, tl.bool)), ids=str)
def test_transposed_copies_convert(pair: tuple[DType, DType], backend: Backend) -> None:
    x = values((40, 50), pair[0])
    expected = np.empty((50, 40), pair[1].numpy)
    CPU.run("copy", expected, x.T)
    assert_same_bits(copied(backend, backend.from_numpy(x).transpose((1, 0)), expected.dtype), expected)


@pytest.mark.parametrize("order", ((0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2)), ids=str)
def test_permutations_of_batches(order: tuple[int, ...], backend: Backend) -> None:
    for shape in ((3, 33, 65), (33, 3, 40), (20, 21, 22)):
        x = values(shape, tl.float32)
        assert_same_bits(copied(backend, backend.from_numpy(x).transpose(order), x.dtype), x.transpose(order))


def test_four_dimensions_and_views(backend: Backend) -> None:
    x = values((5, 20, 3, 34), tl.float32)
    on_device = backend.from_numpy(x)
    for order in ((3, 1, 2, 0), (0, 3, 2, 1), (3, 2, 1, 0)):
        assert_same_bits(copied(backend, on_device.transpose(order), x.dtype), x.transpose(order))
        view, same = on_device[::2, 1:, ::-1], x[::2, 1:, ::-1]
        assert_same_bits(copied(backend, view.transpose(order), x.dtype), same.transpose(order))


def test_into_a_transposed_view(backend: Backend) -> None:
    x, out = values((40, 50), tl.float32), backend.from_numpy(values((50, 60), tl.float32, 1))
    expected = backend.to_numpy(out)
    expected[:, 5:45] = x.T
    backend.run("copy", out.transpose((1, 0))[5:45], backend.from_numpy(x))
    assert_same_bits(backend.to_numpy(out), expected)


def test_neither_backwards_rows_nor_a_strided_result_are_taken_for_dense_ones(backend: Backend) -> None:
    x, out = values((40, 33), tl.float32), backend.from_numpy(values((66, 40), tl.float32, 1))
    assert_same_bits(copied(backend, backend.from_numpy(x)[:, ::-1].transpose((1, 0)), x.dtype), x[:, ::-1].T)
    assert_same_bits(copied(backend, backend.from_numpy(x)[::-1].transpose((1, 0)), x.dtype), x[::-1].T)
    backend.run("copy", out[::2].transpose((1, 0)), backend.from_numpy(x))
    assert_same_bits(backend.to_numpy(out)[::2], x.T)
    out = backend.from_numpy(np.zeros((33, 80), np.float32))
    backend.run("copy", out[:, ::2], backend.from_numpy(x).transpose((1, 0)))
    assert_same_bits(backend.to_numpy(out)[:, ::2], x.T)
    assert not backend.to_numpy(out)[:, 1::2].any()


def test_repeated_elements_are_not_transposed(backend: Backend) -> None:
    column = values((40, 1), tl.float64)
    assert_same_bits(copied(backend, backend.expand(backend.from_numpy(column), (40, 50)), column.dtype),
                     np.repeat(column, 50, 1))


# --- concat -----------------------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("dim", (0, 1, 2))
def test_concat(dtype: DType, dim: int, backend: Backend) -> None:
    shapes = [tuple(n if d == dim else size for d, size in enumerate((2, 3, 4))) for n in (1, 5, 0, 8)]
    parts = [values(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    joined = np.concatenate(parts, dim)
    out = backend.fill("concat", joined.shape, joined.dtype, *map(backend.from_numpy, parts), dim=dim)
    assert_same_bits(backend.to_numpy(out), joined)


def test_concat_of_strided_parts_into_a_strided_result(backend: Backend) -> None:
    x, y = values((5, 6), tl.float32), values((3, 6), tl.float32, 1)
    out = backend.from_numpy(np.zeros((16, 6), np.float32))[::2]
    backend.run("concat", out, backend.from_numpy(np.ascontiguousarray(x.T)).transpose((1, 0)),
                backend.from_numpy(y[::-1].copy())[::-1], dim=0)
    assert_same_bits(backend.to_numpy(out), np.concatenate([x, y]))


# --- arange -----------------------------------------------------------------------------------------------------------


@every_dtype
def test_arange_equals_the_cpu(dtype: DType, backend: Backend) -> None:
    for start, step in ((0, 1), (5, -2), (0.5, 0.1), (-3, 0.25), (True, 2)):
        for count in (0, 1, 31, 257):
            expected = CPU.fill("arange", (count,), dtype.numpy, start, step)
            assert_same_bits(backend.to_numpy(backend.fill("arange", (count,), dtype.numpy, start, step)), expected)


def test_arange_is_exact_for_large_integers_and_fills_views(backend: Backend) -> None:
    int64 = np.dtype(np.int64)
    assert backend.to_numpy(backend.fill("arange", (3,), int64, 2**60, 1)).tolist() == [2**60, 2**60 + 1, 2**60 + 2]
    out = backend.from_numpy(np.zeros(6, np.int64))
    backend.run("arange", out[::-2], 1, 1)
    assert backend.to_numpy(out).tolist() == [0, 3, 0, 2, 0, 1]


def test_arange_refuses_what_int64_does_not_hold(backend: Backend) -> None:
    with pytest.raises(tl.DTypeError, match=r"arange does not take .*do not fit int64"):
        backend.fill("arange", (3,), np.dtype(np.int64), 0, 2**63)


# --- all together -----------------------------------------------------------------------------------------------------


def test_under_checks() -> None:
    backend = get("cuda:sim")
    with simulator.check(schedules=2):
        x = values((40, 33), tl.float32)
        assert_same_bits(copied(backend, backend.from_numpy(x).transpose((1, 0)), x.dtype), x.T)
        out = backend.fill("arange", (300,), np.dtype(np.float32), 0, 1)
    assert_same_bits(backend.to_numpy(out), np.arange(300, dtype=np.float32))


def test_the_instances_of_every_call_are_listed() -> None:
    listed = {instance.expression for instance in movement.instances()}
    assert {instance.expression for instance in transpose.instances()} < listed
    for name in KERNEL_DEVICES:
        assert used(get(name)) <= listed
