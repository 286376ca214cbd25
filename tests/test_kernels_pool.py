"""Kernels of pooling on each device with kernels of its own: layouts, dtypes, sizes, and planes in several launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from row_layouts import LAYOUTS, drawn, fitting, place

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.cpu import CpuBackend
from tensorlite.backends.kernels import pool
from tensorlite.dtypes import DType
from tensorlite.testing import devices

KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
PLAIN = CpuBackend()
PLAIN._compiled = {}
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
# kernel_size, stride, padding, dilation: side by side, with gaps, overlapping, dilated, of a stride beyond the plane
GEOMETRIES: tuple[Geometry, ...] = (
    ((2, 2), (2, 2), (0, 0), (1, 1)), ((2, 1), (3, 2), (1, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 3), (1, 2), (1, 2), (2, 2)), ((3, 2), (100, 2), (1, 1), (1, 1)), ((2, 2), (2, 2), (1, 0), (2, 2)))


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def windows_of(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    return (*shape[:2], *[(n + 2 * p - d * (k - 1) - 1) // s + 1
                          for n, k, s, p, d in zip(shape[2:], *geometry, strict=True)])


def calls(shape: tuple[int, ...], geometry: Geometry) -> list[tuple[str, tuple[int, ...], tuple[str, ...], Any]]:
    """Each kernel: its name, the shape of its result, of which shapes its arguments are, and its parameters."""
    kernel_size, stride, padding, dilation = geometry
    windows = windows_of(shape, geometry)
    where: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    maxima = {**where, "dilation": dilation}
    found = [("max_pool2d", windows, ("planes",), maxima), ("max_pool2d_indices", windows, ("planes",), maxima),
             ("max_pool2d_pick", windows, ("planes", "planes"), maxima),
             ("max_pool2d_grad", shape, ("windows", "planes"), maxima)]
    for include, divisor in ((True, None), (False, None), (True, 3)) if dilation == (1, 1) else ():
        means = {**where, "count_include_pad": include, "divisor_override": divisor}
        found += [("avg_pool2d", windows, ("planes",), means), ("avg_pool2d_grad", shape, ("windows",), means)]
    return found


def check(backend: Backend, shape: tuple[int, ...], geometry: Geometry, dtype: DType, layout: str = "dense") -> None:
    """Every kernel gives what NumPy's gives in float64."""
    sizes = {"planes": shape, "windows": windows_of(shape, geometry)}
    for kernel, result, of, params in calls(shape, geometry):
        placed = [place(backend, drawn(sizes[what], dtype, seed), layout) for seed, what in enumerate(of)]
        to = tl.int64 if kernel == "max_pool2d_indices" else dtype
        out = backend.fill(kernel, result, to.numpy, *[array for array, _ in placed], **params)
        wide = np.dtype(np.int64 if to is tl.int64 else np.float64)
        expected = PLAIN.fill(kernel, result, wide, *[values for _, values in placed], **params)
        if to is tl.int64:
            np.testing.assert_array_equal(backend.to_numpy(out), expected)
        else:
            fitting(backend, out, expected, dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_dtype_and_geometry(backend: Backend, geometry: Geometry, dtype: DType) -> None:
    for shape in ((2, 3, 8, 6), (1, 2, 7, 5), (1, 1, 4, 40)):
        check(backend, shape, geometry, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(backend: Backend, layout: str) -> None:
    for geometry in GEOMETRIES[:3]:
        check(backend, (3, 2, 6, 7), geometry, tl.float32, layout)


@pytest.mark.parametrize("layout", ["transposed", "misaligned", "sliced", "reversed"])
def test_results_go_to_views_of_any_layout(backend: Backend, layout: str) -> None:
    shape, geometry = (2, 3, 6, 4), GEOMETRIES[0]
    x, x64 = place(backend, drawn(shape, tl.float32), "dense")
    for kernel, result, of, params in calls(shape, geometry):
        if of == ("planes",) and kernel != "max_pool2d_indices":
            out, _ = place(backend, np.zeros(result, np.float32), layout)
            backend.run(kernel, out, x, **params)
            fitting(backend, backend.copy(out), PLAIN.fill(kernel, result, np.dtype(np.float64), x64, **params),
                    tl.float32)


def test_no_planes(backend: Backend) -> None:
    check(backend, (0, 2, 4, 4), GEOMETRIES[0], tl.float32)
    check(backend, (2, 0, 5, 4), GEOMETRIES[2], tl.float32)


def test_planes_beyond_what_32_bits_count_take_several_launches(
        backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []
    start = backend.start  # type: ignore[attr-defined]
    monkeypatch.setattr(pool, "LARGE", 256)
    monkeypatch.setattr(backend, "start", lambda plan, *args: (launched.append(plan.grid[0]), start(plan, *args)))
    for geometry in (GEOMETRIES[0], ((3, 2), (2, 2), (1, 1), (1, 1))):
        check(backend, (3, 7, 6, 6), geometry, tl.float32)
    assert len(launched) > 2 * len(calls((3, 7, 6, 6), GEOMETRIES[0]))
    with pytest.raises(tl.ShapeError, match=r"planes \(30, 30\) with windows of \(2, 2\) are larger than 32 bits"):
        check(backend, (1, 1, 30, 30), GEOMETRIES[0], tl.float32)


def test_other_dtypes_are_refused(backend: Backend) -> None:
    x, g = backend.from_numpy(np.ones((1, 1, 4, 4), np.int64)), backend.from_numpy(np.ones((1, 1, 2, 2), np.float32))
    for kernel, result, of, params in calls((1, 1, 4, 4), GEOMETRIES[0]):
        if of == ("planes",):
            with pytest.raises(tl.DTypeError, match=rf"{kernel} does not take \(int64\)"):
                backend.fill(kernel, result, np.dtype(np.int64), x, **params)
    with pytest.raises(tl.DTypeError, match=r"max_pool2d_grad does not take \(float32, int64\)"):
        backend.fill("max_pool2d_grad", (1, 1, 4, 4), g.dtype, g, x, kernel_size=(2, 2), stride=(2, 2),
                     padding=(0, 0), dilation=(1, 1))


def test_under_checks() -> None:
    """No access outside the arrays, each element of the result written, whatever the order of threads."""
    with simulator.check(schedules=2):
        for geometry in GEOMETRIES:
            check(get("cuda:sim"), (2, 2, 7, 9), geometry, tl.float32)


def test_gradients_are_the_same_in_every_run(backend: Backend) -> None:
    x, _ = place(backend, drawn((2, 3, 9, 9), tl.float32), "dense")
    g, _ = place(backend, drawn((2, 3, 9, 9), tl.float32, 1), "dense")
    options = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    first, second = [backend.to_numpy(backend.fill("max_pool2d_grad", x.shape, x.dtype, g, x, **options))
                     for _ in range(2)]
    assert first.tobytes() == second.tobytes()


def test_the_instances_of_every_call_are_listed(backend: Backend) -> None:
    listed = {instance.expression for instance in pool.instances()}
    used = {instance.expression for instance in backend._functions  # type: ignore[attr-defined]
            if instance.file == pool.FILE}
    assert used and used <= listed
