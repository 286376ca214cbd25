"""The cells' kernels on each device, and in NumPy: sizes, dtypes, results in the memory of operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from row_layouts import drawn, fitting, place

import tensorlite as tl
from tensorlite.backends import Array, Backend, cpu_recurrent, get
from tensorlite.backends.cpu import CpuBackend
from tensorlite.dtypes import DType

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
SIZES = [(1, 1), (3, 7), (2, 32), (5, 33), (2, 300), (70, 64), (9, 1000)]
# gates of each result and of each operand, and which operand's memory a result may take
KERNELS = {
    "lstm_cell": ((1, 1, 4), (4, 4, 1), {2: 0}),
    "lstm_cell_grad": ((4, 1), (1, 1, 4, 1, 1), {1: 1}),
    "gru_cell": ((1, 3, 1), (3, 3, 1), {1: 0}),
    "gru_cell_grad": ((3, 3, 1), (1, 3, 1, 1), {2: 0}),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def numpy_backend() -> CpuBackend:
    backend = CpuBackend()
    backend._compiled = {}
    return backend


@pytest.fixture
def backend(device: str) -> Backend:
    return get(device)


def operands(kernel: str, rows: int, hidden: int, dtype: DType) -> list[np.ndarray]:
    return [drawn((rows, gates * hidden), dtype, seed) for seed, gates in enumerate(KERNELS[kernel][1])]


def expected(kernel: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """By NumPy's kernel in float64, which the test table holds against formulas of its own."""
    wide = [a.astype(np.float64) for a in arrays]
    rows, hidden = wide[-1].shape
    out = tuple(np.empty((rows, gates * hidden)) for gates in KERNELS[kernel][0])
    function: Callable[..., None] = getattr(cpu_recurrent, kernel)
    function(out, *wide)
    return list(out)


def results(backend: Backend, kernel: str, arrays: list[Array], in_place: bool) -> tuple[Array, ...]:
    rows, hidden = arrays[-1].shape
    out = [backend.empty((rows, gates * hidden), arrays[0].dtype) for gates in KERNELS[kernel][0]]
    if in_place:
        for result, operand in KERNELS[kernel][2].items():
            out[result] = arrays[operand]
    backend.run(kernel, tuple(out), *arrays)
    return tuple(out)


def check(backend: Backend, kernel: str, rows: int, hidden: int, dtype: DType, in_place: bool) -> None:
    values = operands(kernel, rows, hidden, dtype)
    references = expected(kernel, values)
    arrays = [place(backend, a, "dense")[0] for a in values]
    for result, wanted in zip(results(backend, kernel, arrays, in_place), references, strict=True):
        fitting(backend, result, wanted, dtype)


@every_kernel
@pytest.mark.parametrize("in_place", [False, True])
def test_every_size(backend: Backend, kernel: str, in_place: bool) -> None:
    for rows, hidden in SIZES:
        check(backend, kernel, rows, hidden, tl.float32, in_place)


@every_kernel
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
def test_every_dtype(backend: Backend, kernel: str, dtype: DType, in_place: bool) -> None:
    check(backend, kernel, 3, 40, dtype, in_place)


@every_kernel
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_numpy_serves_where_nothing_is_compiled(kernel: str, dtype: DType) -> None:
    for in_place in (False, True):
        check(numpy_backend(), kernel, 4, 9, dtype, in_place)


@every_kernel
def test_more_rows_than_a_grid_holds(kernel: str) -> None:
    check(get("cuda:sim"), kernel, 65537, 1, tl.float32, False)


@every_kernel
@pytest.mark.parametrize(("rows", "hidden"), [(0, 4), (3, 0)])
def test_nothing_is_done_for_no_units(backend: Backend, kernel: str, rows: int, hidden: int) -> None:
    results(backend, kernel, [backend.empty((rows, gates * hidden), np.dtype(np.float32))
                              for gates in KERNELS[kernel][1]], False)


@every_kernel
def test_saturated_gates_give_finite_numbers(backend: Backend, kernel: str) -> None:
    values = [a * 1e4 for a in operands(kernel, 2, 8, tl.float32)]
    if kernel.endswith("grad"):  # what gates cannot be
        values = [np.clip(a, -1, 1) for a in values]
    for result in results(backend, kernel, [place(backend, a, "dense")[0] for a in values], False):
        assert np.isfinite(backend.to_numpy(result)).all()


@every_kernel
def test_results_are_the_same_in_every_run(backend: Backend, kernel: str) -> None:
    arrays = [place(backend, a, "dense")[0] for a in operands(kernel, 300, 64, tl.float32)]
    first, second = (results(backend, kernel, arrays, False) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert backend.to_numpy(a).tobytes() == backend.to_numpy(b).tobytes()


@every_kernel
def test_other_dtypes_are_refused(kernel: str) -> None:
    sim = get("cuda:sim")
    arrays: list[Any] = [sim.from_numpy(a.astype(np.int64)) for a in operands(kernel, 2, 3, tl.float32)]
    with pytest.raises(tl.DTypeError, match=f"{kernel} does not take"):
        results(sim, kernel, arrays, False)
