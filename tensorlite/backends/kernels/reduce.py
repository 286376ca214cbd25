"""Reductions: which reducers there are, for which dtypes, and how the threads of a call are laid out.

Threads lie along the folded elements of a result (`rows`) or along the results (`columns`), whichever are closer
together in memory. Where there are few results, the elements of each are split over the grid, and a second launch
(`finish`) folds the states of the splits. All of that depends on shapes and strides alone, never on the GPU, so that
sums are the same on every one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...dtypes import DType
from .. import Array
from . import THREADS, WARP, Instance, KernelBackend, Launcher, Plan
from .elementwise import ANY, FLOATS, refusal
from .layout import c_type, coalesce, dims_fields, element_strides, index_type, merge, packed_dims, power_of_two

FILE = "reduce.cu"
AHEAD = 4  # accesses that a thread has in flight, as in columns.cuh
COLUMNS = 4  # neighbouring results of a thread of `columns`, at most
MAX_STATE = 24  # bytes of a reducer's state, as in reduce.cu
BLOCKS = 1024  # as many as a large GPU runs at the same time
PACKED = 2**20  # elements from which packs of results are worth fewer threads

_BOOL, _INT64 = np.dtype(np.bool_), np.dtype(np.int64)

# Reducer -> the dtypes that it takes.
REDUCERS: dict[str, tuple[DType, ...]] = {
    **dict.fromkeys(("sum", "prod", "amax", "amin", "argmax", "argmin"), ANY),
    **dict.fromkeys(("mean", "var", "logsumexp"), FLOATS),
    **dict.fromkeys(("any", "all"), (dtypes.bool_,)),
}
_POSITIONS = ("argmax", "argmin")  # reducers whose result is where an element stands


class Geometry(NamedTuple):
    """What a reduction folds: sizes, innermost first, and strides in elements (of x; of x and out)."""

    folded: list[int]
    folded_steps: list[tuple[int, ...]]
    kept: list[int]
    kept_steps: list[tuple[int, ...]]

    @property
    def elements(self) -> int:
        """Elements of a result."""
        return math.prod(self.folded)

    @property
    def results(self) -> int:
        return math.prod(self.kept)

    @property
    def is_dense(self) -> bool:
        """Whether the elements of a result are neighbours."""
        return len(self.folded) == 1 and self.folded_steps[0] == (1,)

    @property
    def is_by_columns(self) -> bool:
        """Whether neighbouring results are closer together in x than neighbouring elements of one."""
        if self.elements == 1 or self.results == 1:
            return self.elements == 1
        return abs(self.kept_steps[0][0]) < abs(self.folded_steps[0][0])

    def is_packable(self, width: int) -> bool:
        """Whether elements of `width` neighbouring results are neighbours at a multiple of `width`, if x starts so."""
        inner, *outer = self.kept_steps
        return (inner[0] == 1 and self.kept[0] % width == 0
                and all(step[0] % width == 0 for step in (*outer, *self.folded_steps)))


class Layout(NamedTuple):
    """The template of the first launch, elements or results in a pack, threads, and elements of a split."""

    template: str
    width: int
    across: int  # blockDim.x
    down: int  # blockDim.y
    share: int


class Reduction(NamedTuple):
    """The launches of a call: one, or one that writes states to scratch memory and one that folds these."""

    first: Plan
    finish: Plan | None
    scratch: int  # states


def reduce(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = the reduction of x over the dimensions `dims`, which out has as size 1."""
    (x,) = args
    if not out.size:
        return
    source = backend.address(x)
    key = (kernel, x.dtype.char, x.shape, x.strides, out.dtype.char, out.strides, source % 16, *params.values())
    known = backend.plans.get(key)
    if known is None:
        known = backend.remember(key, plan(backend, kernel, out, x, source % 16 == 0, **params))
    first, finish, states = known
    if finish is None:
        backend.start(first, (out, x), source, backend.address(out), 0)
        return
    scratch = backend.empty((states * MAX_STATE,), np.dtype(np.uint8))
    partial = backend.address(scratch)
    backend.start(first, (scratch, x), source, 0, partial)
    backend.start(finish, (out, scratch), 0, backend.address(out), partial)


def plan(backend: KernelBackend, kernel: str, out: Array, x: Array, aligned: bool, dims: tuple[int, ...],
         correction: float = 0) -> Reduction:
    """The launches of a call; `aligned` says whether x starts at a multiple of 16 bytes."""
    if dtypes.from_numpy(x.dtype) not in REDUCERS[kernel] or out.dtype != _result(kernel, x.dtype):
        raise refusal(kernel, (x,))
    geometry = _geometry(kernel, out, x, dims)
    template, width, across, down, share = _layout(geometry, x.dtype.itemsize, aligned)
    count, results = geometry.elements, geometry.results
    splits = -(-count // share) if count else 1
    divisor = max(count - correction, 0)
    values = [splits, share, count, results, divisor,
              *packed_dims(kernel, [max(size, 1) for size in geometry.folded], geometry.folded_steps),
              *packed_dims(kernel, geometry.kept, geometry.kept_steps)]
    index = index_type(count, results)
    siblings = _siblings(x.dtype) if index == "u32" else []

    def launch(template: str, width: int, across: int, down: int, blocks: int, splits: int) -> Plan:
        instance = Instance(FILE, _expression(template, kernel, index, x.dtype, width))
        return backend.plan(instance, "PPP", "qqqqd" + dims_fields(1) + dims_fields(2), values,
                            (blocks, splits, 1), (across, down, 1), siblings=siblings)

    per_block = down if template == "rows" else across * width
    first = launch(template, width, across, down, -(-results // per_block), splits)
    if splits == 1:
        return Reduction(first, None, 0)
    across, down = _tile(results, splits)
    return Reduction(first, launch("finish", 1, across, down, -(-results // across), 1), splits * results)


def _result(kernel: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    return _INT64 if kernel in _POSITIONS else dtype


def _geometry(kernel: str, out: Array, x: Array, dims: tuple[int, ...]) -> Geometry:
    steps, out_steps = element_strides(x, x.shape), element_strides(out, out.shape)
    others = [d for d in range(x.ndim) if d not in dims]
    kept, kept_steps = coalesce(*[[of[d] for d in others] for of in (x.shape, steps, out_steps)])
    if kernel in _POSITIONS:  # counted in the order of the dimensions, whatever the strides
        folded, folded_steps = merge([(x.shape[d], (steps[d],)) for d in reversed(dims) if x.shape[d] != 1]
                                     or [(1, (1,))])
    else:
        folded, folded_steps = coalesce([x.shape[d] for d in dims], [steps[d] for d in dims])
    return Geometry(folded, folded_steps, kept, kept_steps)


# --- threads ----------------------------------------------------------------------------------------------------------


def layout(kernel: str, out: Array, x: Array, dims: tuple[int, ...], aligned: bool) -> Layout:
    """How `plan` lays out the threads of that call."""
    return _layout(_geometry(kernel, out, x, dims), x.dtype.itemsize, aligned)


def _layout(geometry: Geometry, itemsize: int, aligned: bool) -> Layout:
    return _columns(geometry, itemsize, aligned) if geometry.is_by_columns else _rows(geometry, itemsize)


def _rows(geometry: Geometry, itemsize: int) -> Layout:
    """Threads along the folded elements: a part of a warp, a warp or a block to each result."""
    count, results = geometry.elements, geometry.results
    width = 16 // itemsize
    if not geometry.is_dense or count < 16 * width:
        width = 1
    packs = -(-count // width)
    few_results = results < 4096
    across = THREADS if packs > (64 if few_results else 512) else min(WARP, power_of_two(packs))
    down = min(THREADS // across, max(power_of_two(results), WARP // across))
    return Layout("rows", width, across, down, share(count, across * width, -(-results // down)))


def _columns(geometry: Geometry, itemsize: int, aligned: bool) -> Layout:
    """Threads along the results, and several to a result."""
    count, results = geometry.elements, geometry.results
    width = min(COLUMNS, 16 // itemsize)
    if not aligned or count * results < PACKED or not geometry.is_packable(width):
        width = 1
    across, down = _tile(results // width, count)
    return Layout("columns", width, across, down, share(count, down, -(-results // (across * width))))


def _tile(results: int, count: int) -> tuple[int, int]:
    """A block whose x counts results, a warp of them if there are so many, and whose y shares their elements."""
    across = min(WARP, power_of_two(results))
    down = min(THREADS // across, power_of_two(-(-count // AHEAD)))
    return min(THREADS // down, power_of_two(results)), down


def share(count: int, at_once: int, blocks: int) -> int:
    """Into parts of how many elements to cut `count`, of which a block reads `at_once` in one go."""
    step = at_once * AHEAD
    if blocks >= BLOCKS or count <= 8 * step:
        return count
    splits = min(BLOCKS // blocks, count // (2 * step))
    return -(-count // (splits * at_once)) * at_once


# --- instances --------------------------------------------------------------------------------------------------------


def _expression(template: str, kernel: str, index: str, dtype: np.dtype[Any], width: int) -> str:
    last = "" if template == "finish" else f", {width}"
    return f"{template}<reducers::{kernel}, {index}, {c_type(_result(kernel, dtype))}, {c_type(dtype)}{last}>"


def _of_dtype(kernel: str, index: str, dtype: np.dtype[Any]) -> Iterator[str]:
    widest = 16 // dtype.itemsize
    for template, width in (("rows", 1), ("rows", widest), ("columns", 1), ("columns", min(COLUMNS, widest)),
                            ("finish", 1)):
        yield _expression(template, kernel, index, dtype, width)


def _siblings(dtype: np.dtype[Any]) -> list[str]:
    row = dtypes.from_numpy(dtype)
    return [expression for kernel, taken in REDUCERS.items() if row in taken
            for expression in _of_dtype(kernel, "u32", dtype)]


def instances() -> Iterator[Instance]:
    """Every instance that a call below 2^31 elements can reach, and the 64-bit ones of sum and argmax of float32."""
    for kernel, taken in REDUCERS.items():
        for dtype in taken:
            wide = kernel in ("sum", "argmax") and dtype is dtypes.float32
            for index in ("u32", "u64") if wide else ("u32",):
                for expression in _of_dtype(kernel, index, dtype.numpy):
                    yield Instance(FILE, expression)


TABLE: dict[str, Launcher] = dict.fromkeys(REDUCERS, reduce)
