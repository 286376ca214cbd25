"""argsort: short rows by one launch, longer ones by runs that further launches merge two by two."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import Array
from . import THREADS, Instance, KernelBackend, Launcher, Plan
from .elementwise import ANY
from .layout import c_type, coalesce, dims_fields, element_strides, index_type, packed_dims, power_of_two

FILE = "sort.cu"
TILE = 1024  # elements of a run that one block sorts, as in sort.cu
MAX_GRID_Y = 65535

_FIELDS = "qqqqqq" + dims_fields(2)
_UINT32, _UINT64 = np.dtype(np.uint32), np.dtype(np.uint64)


class Sort(NamedTuple):
    """The launches of a call, and what scratch memory holds between them, twice: keys and indices."""

    tiles: Plan
    merges: list[Plan]
    elements: int
    key_dtype: np.dtype[Any]
    index_dtype: np.dtype[Any]


def argsort(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = the indices that sort x along the dimension `dim`, stably; NaN is the largest value."""
    (x,) = args
    if not out.size:
        return
    key = (kernel, x.dtype.char, x.shape, x.strides, out.strides, params["dim"], params["descending"])
    known = backend.plans.get(key)
    if known is None:
        known = backend.remember(key, _plan(backend, kernel, out, x, **params))
    source, target = backend.address(x), backend.address(out)
    if not known.merges:
        backend.start(known.tiles, (out, x), source, 0, 0, 0, 0, target)
        return
    scratch = [(backend.empty((known.elements,), known.key_dtype), backend.empty((known.elements,), known.index_dtype))
               for _ in range(2)]
    keys, indices = scratch[0]
    backend.start(known.tiles, (keys, indices, x), source, 0, 0, backend.address(keys), backend.address(indices), 0)
    for merge in known.merges[:-1]:
        (keys, indices), (merged_keys, merged_indices) = scratch
        backend.start(merge, (merged_keys, merged_indices, keys, indices), 0, backend.address(keys),
                      backend.address(indices), backend.address(merged_keys), backend.address(merged_indices), 0)
        scratch.reverse()
    keys, indices = scratch[0]
    backend.start(known.merges[-1], (out, keys, indices), 0, backend.address(keys), backend.address(indices), 0, 0,
                  target)


def _plan(backend: KernelBackend, kernel: str, out: Array, x: Array, dim: int, descending: bool) -> Sort:
    steps, out_steps = element_strides(x, x.shape), element_strides(out, out.shape)
    others = [d for d in range(x.ndim) if d != dim]
    sizes, starts = coalesce(*[[of[d] for d in others] for of in (x.shape, steps, out_steps)])
    rows, length = math.prod(sizes), x.shape[dim]
    index = index_type(length)

    def launch(expression: str, run: int, blocks: tuple[int, int], threads: int) -> Plan:
        values = [rows, length, run, int(descending), steps[dim], out_steps[dim], *packed_dims(kernel, sizes, starts)]
        return backend.plan(Instance(FILE, expression), "PPPPPP", _FIELDS, values, (*blocks, 1), (threads, 1, 1),
                            siblings=_expressions(x.dtype, index))

    sort_tiles, sort_merges = _expressions(x.dtype, index)
    run = min(TILE, power_of_two(length))
    block = max(min(TILE, power_of_two(rows * run)), 2)
    tiles = launch(sort_tiles, run, (-(-rows // (block // run)) * -(-length // run), 1), block // 2)
    merges = []
    while run < length:
        merges.append(launch(sort_merges, run, (-(-length // THREADS), min(rows, MAX_GRID_Y)), THREADS))
        run *= 2
    return Sort(tiles, merges, rows * length, np.dtype(f"u{x.dtype.itemsize}"), _UINT32 if index == "u32" else _UINT64)


# --- instances --------------------------------------------------------------------------------------------------------


def _expressions(dtype: np.dtype[Any], index: str) -> tuple[str, str]:
    """The kernels that sort tiles of a dtype, and merge their keys."""
    return f"tiles<{c_type(dtype)}, {index}>", f"merge<u{8 * dtype.itemsize}, {index}>"


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    seen: set[str] = set()
    for dtype in ANY:
        for index in ("u32", "u64"):
            for expression in _expressions(dtype.numpy, index):
                if expression not in seen:
                    seen.add(expression)
                    yield Instance(FILE, expression)


TABLE: dict[str, Launcher] = {"argsort": argsort}
