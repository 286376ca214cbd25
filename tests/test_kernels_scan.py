"""Running sums and products of every dtype, layout and geometry, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.backends.kernels import scan
from tensorlite.dtypes import ALL, DType
from tensorlite.testing import devices

KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 3e-6, "float64": 1e-13}
UFUNCS = {"cumsum": np.add, "cumprod": np.multiply}
SIZES = (1, 3, 4, 5, 31, 33, 64, 65, 255, 256, 257, 1023, 1025, 3000)


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: tuple[int, ...], dtype: DType, kernel: str) -> np.ndarray:
    random = np.random.default_rng([*shape, *kernel.encode()])
    if dtype is tl.bool:
        return random.random(shape) < (0.01 if kernel == "cumsum" else 0.99)
    if not dtype.is_floating_point:
        return random.integers(0, 9, shape).astype(dtype.numpy)
    if kernel == "cumprod":
        return (1 + random.uniform(-0.01, 0.01, shape)).astype(dtype.numpy)
    return random.uniform(0, 2, shape).astype(dtype.numpy)


def check(backend: Backend, kernel: str, a: np.ndarray, dim: int, x: Array | None = None) -> None:
    """The kernel's result for the values `a`, which lie in x, is NumPy's."""
    actual = backend.to_numpy(backend.fill(kernel, a.shape, a.dtype, backend.from_numpy(a) if x is None else x,
                                           dim=dim))
    where = f"{kernel} {a.dtype.name} {a.shape} {dim}"
    if a.dtype.kind in "biu":
        wanted: Any = UFUNCS[kernel].accumulate(a, axis=dim, dtype=a.dtype)
        np.testing.assert_array_equal(actual, wanted, err_msg=where)
        return
    tolerance = TOLERANCE[a.dtype.name] * (10 if kernel == "cumprod" else 1)
    with np.errstate(invalid="ignore"):
        wanted = UFUNCS[kernel].accumulate(a.astype(np.float64), axis=dim)
    np.testing.assert_allclose(actual.astype(np.float64), wanted, tolerance, tolerance, err_msg=where)


@pytest.mark.parametrize("kernel", scan.SCANS)
@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_every_dtype_at_sizes_around_packs_warps_and_blocks(kernel: str, dtype: DType, backend: Backend) -> None:
    for n in SIZES:
        check(backend, kernel, values((n,), dtype, kernel), 0)
        check(backend, kernel, values((3, n), dtype, kernel), 1)
        check(backend, kernel, values((n, 40), dtype, kernel), 0)


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same values as views of device memory; `a` has three dimensions."""
    dense = backend.from_numpy
    return {
        "dense": dense(a),
        "transposed": dense(np.ascontiguousarray(a.transpose(2, 0, 1))).transpose((1, 2, 0)),
        "every second": dense(np.repeat(a, 2, -1))[..., ::2],
        "wide rows": dense(np.concatenate([a, a], -1))[..., :a.shape[-1]],
        "backwards": dense(np.ascontiguousarray(a[::-1, :, ::-1]))[::-1, :, ::-1],
        "misaligned": dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))[1:].reshape(a.shape),
    }


@pytest.mark.parametrize("kernel", scan.SCANS)
@pytest.mark.parametrize("shape", [(6, 5, 8), (70, 3, 300)])
def test_every_layout_and_dimension(kernel: str, shape: tuple[int, ...], backend: Backend) -> None:
    for dtype in (tl.float32, tl.float16, tl.int64):
        a = values(shape, dtype, kernel)
        for x in layouts(backend, a).values():
            for dim in range(3):
                check(backend, kernel, a, dim, x)


def test_repeated_elements(backend: Backend) -> None:
    a = np.full((1, 1, 6), 2.0, np.float32)
    x = backend.expand(backend.from_numpy(a), (5, 100, 6))
    for dim in range(3):
        check(backend, "cumsum", np.broadcast_to(a, (5, 100, 6)), dim, x)


@pytest.mark.parametrize("kernel", scan.SCANS)
@pytest.mark.parametrize(("shape", "dim"), [((70_001,), 0), ((2, 50_000), 1), ((1500, 33), 0), ((4, 900, 40), 1)])
def test_rows_in_shares(kernel: str, shape: tuple[int, ...], dim: int, backend: Backend) -> None:
    geometry = scan._geometry(*[np.empty(shape, np.int64)] * 2, dim)
    assert scan._shares(geometry)[0] > 1
    for dtype in (tl.float32, tl.bfloat16, tl.int64):
        check(backend, kernel, values(shape, dtype, kernel), dim)


def test_no_elements(backend: Backend) -> None:
    for shape, dim in (((0,), 0), ((3, 0), 1), ((3, 0), 0)):
        result = backend.fill("cumsum", shape, np.dtype(np.float32), backend.empty(shape, np.dtype(np.float32)),
                              dim=dim)
        assert backend.to_numpy(result).shape == shape


def test_nan_and_infinity_spread_from_where_they_stand(backend: Backend) -> None:
    a = np.ones((2, 2000), np.float32)
    a[0, 1200], a[0, 1500], a[1, 7] = np.inf, -np.inf, np.nan
    for kernel in scan.SCANS:
        check(backend, kernel, a, 1)


def test_integers_wrap_and_the_result_may_be_x(backend: Backend) -> None:
    check(backend, "cumprod", np.full(70, 3, np.int64), 0)
    x = backend.from_numpy(np.full(3000, 1, np.uint8))
    backend.run("cumsum", x, x, dim=0)
    np.testing.assert_array_equal(backend.to_numpy(x), np.arange(1, 3001).astype(np.uint8))


def test_the_result_may_be_a_view(backend: Backend) -> None:
    x = backend.from_numpy(np.ones((3, 100), np.float32))
    whole = backend.from_numpy(np.full((100, 6), -1, np.float32))
    backend.run("cumsum", whole[:, ::2].transpose((1, 0)), x, dim=1)
    written = backend.to_numpy(whole)
    np.testing.assert_array_equal(written[:, ::2], np.broadcast_to(np.arange(1, 101)[:, None], (100, 3)))
    assert (written[:, 1::2] == -1).all()


def test_a_result_of_another_dtype_is_refused(backend: Backend) -> None:
    with pytest.raises(tl.DTypeError, match=r"cumsum does not take \(int32\): the result is int64"):
        backend.run("cumsum", backend.empty((3,), np.dtype(np.int64)), backend.from_numpy(np.ones(3, np.int32)),
                    dim=0)
