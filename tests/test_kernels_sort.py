"""argsort of every dtype, layout and length, exactly as the CPU orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.backends.kernels import layout, sort
from tensorlite.dtypes import ALL, DType
from tensorlite.testing import devices

CPU = get("cpu")
KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

INT64 = np.dtype(np.int64)


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Few different values, so that many are equal; and of floats also those that compare in ways of their own."""
    random = np.random.default_rng([*shape, dtype.itemsize])
    if dtype is tl.bool:
        return random.integers(0, 2, shape).astype(bool)
    if not dtype.is_floating_point:
        info = tl.dtypes.iinfo(dtype)
        return random.choice(np.array([info.min, info.max, 0, 1, 2, 3, 100], dtype.numpy), shape)
    special = np.array([0.0, -0.0, 1, -1, 0.5, 100, -100, np.inf, -np.inf, np.nan, -np.nan, 6e-8, -6e-8])
    return random.choice(special.astype(dtype.numpy), shape)


def check(backend: Backend, a: np.ndarray, dim: int, x: Array | None = None) -> None:
    """The order of the values `a`, which lie in x, is the CPU's, both ways."""
    for descending in (False, True):
        order = backend.fill("argsort", a.shape, INT64, backend.from_numpy(a) if x is None else x, dim=dim,
                             descending=descending)
        wanted = CPU.fill("argsort", a.shape, INT64, a, dim=dim, descending=descending)
        np.testing.assert_array_equal(backend.to_numpy(order), wanted, err_msg=f"{a.dtype.name} {a.shape} {dim}")


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_every_dtype(dtype: DType, backend: Backend) -> None:
    for n in (1, 2, 3, 5, 31, 32, 33, 200):
        check(backend, values((3, n), dtype), 1)
    check(backend, values((2050,), dtype), 0)


@pytest.mark.parametrize("shape", [(1,), (2,), (1023,), (1024,), (1025,), (2048,), (5000,), (1000, 3), (2, 2500)])
def test_lengths_around_those_of_tiles_and_runs(shape: tuple[int, ...], backend: Backend) -> None:
    check(backend, values(shape, tl.float32), len(shape) - 1)


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same values as views of device memory; `a` has three dimensions."""
    dense = backend.from_numpy
    return {
        "dense": dense(a),
        "transposed": dense(np.ascontiguousarray(a.transpose(2, 0, 1))).transpose((1, 2, 0)),
        "every second": dense(np.repeat(a, 2, -1))[..., ::2],
        "backwards": dense(np.ascontiguousarray(a[::-1, :, ::-1]))[::-1, :, ::-1],
        "misaligned": dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))[1:].reshape(a.shape),
    }


def test_every_layout_and_dimension(backend: Backend) -> None:
    for dtype in (tl.float32, tl.float16, tl.int64):
        a = values((6, 5, 8), dtype)
        for x in layouts(backend, a).values():
            for dim in range(3):
                check(backend, a, dim, x)
    long = values((3, 1100, 2), tl.float32)
    check(backend, long, 1)
    check(backend, long, 1, layouts(backend, long)["transposed"])


def test_no_elements_and_repeated_ones(backend: Backend) -> None:
    for shape in ((0,), (3, 0), (0, 3)):
        check(backend, np.empty(shape, np.float32), len(shape) - 1)
    a = values((1, 40), tl.float32)
    x = backend.expand(backend.from_numpy(a), (5, 40))
    for dim in range(2):
        check(backend, np.broadcast_to(a, (5, 40)), dim, x)


def test_64_bit_indices(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LARGE", 1)
    for shape in ((2, 77), (2, 2077)):  # shapes of this test alone, for plans are kept
        check(backend, values(shape, tl.float32), 1)


def test_more_rows_than_a_grid_has(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sort, "MAX_GRID_Y", 2)
    check(backend, values((5, 1031), tl.float32), 1)  # a shape of this test alone, for plans are kept


def test_the_result_may_be_a_view(backend: Backend) -> None:
    a = values((3, 1500), tl.int32)
    whole = backend.from_numpy(np.full((1500, 6), -1))
    backend.run("argsort", whole[:, ::2].transpose((1, 0)), backend.from_numpy(a), dim=1, descending=False)
    written = backend.to_numpy(whole)
    np.testing.assert_array_equal(written[:, ::2].T, np.argsort(a, 1, kind="stable"))
    assert (written[:, 1::2] == -1).all()
