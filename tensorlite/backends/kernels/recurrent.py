"""The cells of recurrent layers: one launch between two products of matrices.

Arrays lie densely; results may lie where operands do. (rows, hidden) is the shape of the states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import FLOATING, Array
from . import THREADS, WARP, Instance, KernelBackend, Launcher, Plan
from .elementwise import FLOATS, refusal
from .layout import c_type

FILE = "recurrent.cu"
KERNELS = ("lstm_cell", "lstm_cell_grad", "gru_cell", "gru_cell_grad")
MAX_ROWS = 65535  # of a grid; a block goes on to further ones


def cell(backend: KernelBackend, kernel: str, out: tuple[Array, ...], args: tuple[Any, ...],
         params: dict[str, Any]) -> None:
    """One step of a cell, or its derivative: fills the tuple `out` from args, whose last one is an array of states."""
    arrays = (*out, *args)
    rows, hidden = args[-1].shape
    key = (kernel, rows, hidden, *[a.dtype.char for a in arrays])
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, arrays, rows, hidden))
    if rows and hidden:
        backend.start(plan, arrays, *map(backend.address, arrays))


def _plan(backend: KernelBackend, kernel: str, arrays: tuple[Array, ...], rows: int, hidden: int) -> Plan:
    dtype = arrays[0].dtype
    if dtype.char not in FLOATING or any(a.dtype != dtype for a in arrays):
        raise refusal(kernel, arrays)
    block = min(THREADS, -(-hidden // WARP) * WARP)
    return backend.plan(Instance(FILE, _expression(kernel, c_type(dtype))), "P" * len(arrays), "qq", [rows, hidden],
                        (-(-hidden // max(block, 1)), min(rows, MAX_ROWS), 1), (block, 1, 1),
                        siblings=[_expression(name, c_type(dtype)) for name in KERNELS])


def _expression(kernel: str, dtype: str) -> str:
    return f"{kernel}<{dtype}>"


TABLE: dict[str, Launcher] = dict.fromkeys(KERNELS, cell)


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for kernel in KERNELS:
            yield Instance(FILE, _expression(kernel, dtype.c_type))
