"""The tiled products of matrices: every dtype and layout, sizes around tiles and steps, batches, biases, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import matmul
from tensorlite.dtypes import ALL, DType
from tensorlite.testing import devices

KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

NUMBERS = [dtype for dtype in ALL if dtype is not tl.bool]
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 4e-15}  # of the sum of magnitudes


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: tuple[int, ...], dtype: DType, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    if dtype.is_floating_point:
        return random.uniform(-1, 1, shape).astype(dtype.numpy)
    return random.integers(0 if dtype is tl.uint8 else -20, 20, shape).astype(dtype.numpy)


def product(x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """In float64, or in integers that wrap around at the end."""
    exact = np.dtype(np.int64) if x.dtype.kind in "iu" else np.dtype(np.float64)
    result = x.astype(exact) @ y.astype(exact)
    return result if bias is None else result + bias.astype(exact)


def check(actual: np.ndarray, x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> None:
    expected = product(x, y, bias)
    if x.dtype.kind in "iu":
        np.testing.assert_array_equal(actual, expected.astype(x.dtype))
        return
    magnitude = product(np.abs(x), np.abs(y), None if bias is None else np.abs(bias)).max(initial=0)
    tolerance = TOLERANCE[tl.dtypes.from_numpy(x.dtype).name]
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance * magnitude)


def multiply(backend: Backend, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return backend.to_numpy(backend.matmul(backend.from_numpy(x), backend.from_numpy(y)))


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
def test_every_dtype_with_both_tiles(dtype: DType, backend: Backend) -> None:
    for n, k, m in ((1, 1, 1), (3, 4, 5), (17, 33, 16), (65, 31, 70)):
        x, y = values((n, k), dtype), values((k, m), dtype, 1)
        check(multiply(backend, x, y), x, y)


@pytest.mark.parametrize("n", (1, 15, 16, 17, 32, 33, 64, 65, 129))
@pytest.mark.parametrize("m", (1, 16, 33, 64, 65))
def test_sizes_around_tiles(n: int, m: int, backend: Backend) -> None:
    for k in (1, 15, 16, 17, 40):
        x, y = values((n, k), tl.float32), values((k, m), tl.float32, 1)
        check(multiply(backend, x, y), x, y)


@pytest.mark.parametrize("shapes", (
    ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((5, 1, 4), (4, 2)),
    ((5, 1, 4), (5, 4, 2)), ((2, 5, 1, 4), (2, 1, 4, 2)), ((1, 3, 4), (6, 4, 1)), ((2, 3, 20, 4), (2, 1, 4, 40)),
), ids=str)
def test_batches_broadcast(shapes: tuple[tuple[int, ...], tuple[int, ...]], backend: Backend) -> None:
    x, y = (values(shape, tl.float32, seed) for seed, shape in enumerate(shapes))
    actual = multiply(backend, x, y)
    assert actual.shape == np.matmul(x, y).shape
    check(actual, x, y)


def test_empty_products_are_zeros(backend: Backend) -> None:
    for n, k, m in ((2, 0, 3), (0, 4, 3), (2, 4, 0)):
        x, y = values((n, k), tl.float32), values((k, m), tl.float32)
        np.testing.assert_array_equal(multiply(backend, x, y), np.zeros((n, m)))


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same matrix as views of device memory."""
    dense = backend.from_numpy
    padded = dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))
    return {
        "transposed": dense(np.ascontiguousarray(a.T)).transpose((1, 0)),
        "every second": dense(np.repeat(np.repeat(a, 2, 0), 2, 1))[::2, ::2],
        "backwards": dense(np.ascontiguousarray(a[::-1, ::-1]))[::-1, ::-1],
        "misaligned": padded[1:].reshape(a.shape),
    }


def test_every_layout_of_operands_and_result(backend: Backend) -> None:
    x, y = values((33, 20), tl.float32), values((20, 37), tl.float32, 1)
    for of_x in layouts(backend, x).values():
        for of_y in layouts(backend, y).values():
            check(backend.to_numpy(backend.matmul(of_x, of_y)), x, y)
    for out in layouts(backend, np.zeros((33, 37), np.float32)).values():
        backend.run("matmul", out, backend.from_numpy(x), backend.from_numpy(y))
        check(backend.to_numpy(out), x, y)


def test_operands_that_repeat_rows(backend: Backend) -> None:
    row, y = values((1, 20), tl.float32), values((20, 7), tl.float32, 1)
    repeated = backend.expand(backend.from_numpy(row), (40, 20))
    check(backend.to_numpy(backend.matmul(repeated, backend.from_numpy(y))), np.repeat(row, 40, 0), y)


@pytest.mark.parametrize("with_bias", (True, False))
@pytest.mark.parametrize("shape", ((4,), (3, 4), (2, 3, 4), (70, 4), (2, 0, 4)), ids=str)
def test_linear(shape: tuple[int, ...], with_bias: bool, backend: Backend) -> None:
    for dtype in (tl.float16, tl.float32, tl.float64, tl.int32):
        x, weight = values(shape, dtype), values((33, 4), dtype, 1)
        bias = values((33,), dtype, 2) if with_bias else None
        out = backend.empty((*shape[:-1], 33), dtype.numpy)
        backend.run("linear", out, *[None if a is None else backend.from_numpy(a) for a in (x, weight, bias)])
        check(backend.to_numpy(out), x, weight.T, bias)


def test_linear_of_strided_rows_and_a_strided_bias(backend: Backend) -> None:
    x, weight, bias = values((5, 2, 4), tl.float32), values((3, 4), tl.float32, 1), values((3,), tl.float32, 2)
    out = backend.empty((2, 5, 3), np.dtype(np.float32))
    backend.run("linear", out, backend.from_numpy(x).transpose((1, 0, 2)), backend.from_numpy(weight),
                backend.from_numpy(np.repeat(bias, 2))[::2])
    check(backend.to_numpy(out), x.transpose(1, 0, 2), weight.T, bias)


def test_narrow_floats_accumulate_in_float32(backend: Backend) -> None:
    ones = np.ones((1, 4096), np.float16)
    assert multiply(backend, ones, ones.T)[0, 0] == 4096  # in float16 the sum would stop at 2048


def test_nan_and_infinity_spread(backend: Backend) -> None:
    x = np.array([[np.nan, 0], [np.inf, 1], [1, 1]], np.float32)
    y = np.array([[1, 0], [1, -np.inf]], np.float32)
    np.testing.assert_array_equal(multiply(backend, x, y), np.array([[np.nan] * 2, [np.inf, np.nan], [2, -np.inf]]))


def test_refusals_say_what_to_do() -> None:
    backend = get("cuda:sim")
    bools = backend.from_numpy(np.ones((2, 2), np.bool_))
    with pytest.raises(tl.DTypeError, match=r"matmul does not take \(bool, bool\): .*\.to\(tl\.int64\)"):
        backend.matmul(bools, bools)
    floats = backend.from_numpy(np.ones((2, 2), np.float32))
    doubles = backend.from_numpy(np.ones((2, 2)))
    with pytest.raises(tl.DTypeError, match=r"linear does not take \(float32, float64, None\)"):
        backend.run("linear", backend.empty((2, 2), np.dtype(np.float32)), floats, doubles, None)


def test_results_do_not_depend_on_the_order_of_threads() -> None:
    x, y = values((33, 20), tl.float32), values((20, 35), tl.float32, 1)
    check(simulator.check(lambda: multiply(get("cuda:sim"), x, y), schedules=2), x, y)


def test_the_instances_of_every_call_are_listed() -> None:
    listed = {instance.expression for instance in matmul.instances()}
    assert {"matmul<float, 16, 4>", "matmul<f16, 8, 2>", "matmul<i64, 16, 4>"} <= listed
