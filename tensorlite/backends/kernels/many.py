"""Gradients of many tensors changed in place by one launch, and their norm by two (kernels/many.cu).

Contract: that of backends/cpu_many.py. Tensors with gaps in memory are gathered first, and put back if they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from .. import Array, computing
from . import THREADS, Instance, KernelBackend, Launcher, Plan, segments
from .layout import c_type

FILE = "many.cu"
CHANGES = {"many_fill": "Fill", "many_scale": "Scale", "many_clamp": "Clamp"}
NORMS = {2: "Euclidean", float("inf"): "Largest"}
ROOMS = segments.capacities(1)
PACKS = 4  # of 16 bytes, for a thread

_FLOATS = tuple(d for d in dtypes.ALL if d.is_floating_point)

Arrays = tuple[Array, ...]


class _Part(NamedTuple):
    """A launch, and the tensors that it works on."""

    plan: Plan
    numbers: Sequence[int]


class _Planned(NamedTuple):
    """The launches for tensors of some layouts, those of them that must be gathered, and what is made at the end."""

    apart: segments.Apart
    gaps: Sequence[int]
    parts: Sequence[_Part]
    blocks: int
    finish: Plan | None


def change(backend: KernelBackend, kernel: str, tensors: Arrays, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Fill, scale or clamp tensors of one dtype."""
    if not tensors:
        return
    factor, numbers = (args[0], ()) if kernel == "many_scale" else (None, args)
    found = _planned(backend, (kernel, *map(float, numbers)), tensors)
    if not found.apart.at(list(map(backend.address, tensors))):
        for tensor in tensors:
            change(backend, kernel, (tensor,), args, params)
        return
    dense = _gathered(backend, tensors, found.gaps)
    pointers = list(map(backend.address, dense))
    fixed = 0 if factor is None else backend.address(factor)
    for plan, chosen in found.parts:
        backend.start(plan, (*dense, factor), fixed, *[pointers[i] for i in chosen])
    for i in found.gaps:
        backend.kernels["copy"](backend, "copy", tensors[i], (dense[i],), {})


def norm(backend: KernelBackend, kernel: str, out: Arrays, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """The norm of all tensors as one vector, and the factor that brings it down to `max_norm`."""
    total, factor = out
    tensors: Arrays = args[0]
    found = _planned(backend, (kernel, params["order"], float(params["max_norm"])), tensors)
    dense = _gathered(backend, tensors, found.gaps)
    partial = backend.empty((found.blocks,), total.dtype)
    pointers = list(map(backend.address, dense))
    at = start = backend.address(partial)
    for plan, chosen in found.parts:
        backend.start(plan, (*dense, partial), at, *[pointers[i] for i in chosen])
        at += plan.grid[0] * partial.dtype.itemsize
    if found.finish is not None:
        backend.start(found.finish, (partial, *out), start, backend.address(total), backend.address(factor))


def _gathered(backend: KernelBackend, tensors: Arrays, gaps: Sequence[int]) -> Sequence[Array]:
    """The tensors, in place of those with gaps dense copies."""
    if not gaps:
        return tensors
    dense = list(tensors)
    for i in gaps:
        dense[i] = backend.empty(tensors[i].shape, tensors[i].dtype)
        backend.kernels["copy"](backend, "copy", dense[i], (tensors[i],), {})
    return dense


def _planned(backend: KernelBackend, work: tuple[Any, ...], tensors: Arrays) -> _Planned:
    """The launches for a kernel and its numbers."""
    key = (*work, tensors[0].dtype.char, tuple([a.shape for a in tensors]), tuple([a.strides for a in tensors]))
    found: _Planned | None = backend.plans.get(key)
    if found is None:
        gaps = [i for i, a in enumerate(tensors) if not segments.is_flat((a,))]
        parts = [_part(backend, work, tensors, room, numbers)
                 for room, numbers in segments.batches(range(len(tensors)), ROOMS)]
        blocks = sum(part.plan.grid[0] for part in parts)
        finish = _finish(backend, work, tensors[0].dtype, blocks) if work[0] == "many_norm" else None
        found = backend.remember(key, _Planned(segments.Apart(tensors), gaps, parts, blocks, finish))
    return found


def _part(backend: KernelBackend, work: tuple[Any, ...], tensors: Arrays, room: int, numbers: Sequence[int]) -> _Part:
    dtype = tensors[0].dtype
    counts = [tensors[i].size for i in numbers]
    grids = [segments.blocks(count, PACKS * 16 // dtype.itemsize) for count in counts]
    values: list[Any] = segments.flat_values(counts, grids, room)
    fields = segments.flat_fields(room)
    if work[0] == "many_norm":
        expression = _fold(NORMS[work[1]], c_type(dtype), room)
    else:
        expression = _change(CHANGES[work[0]], c_type(dtype), room)
        values += (*work[1:], 0.0, 0.0)[:2]
        fields += "dd"
    changing = f"P{segments.pointer_fields((tensors,), len(numbers), room)}"
    plan = backend.plan(Instance(FILE, expression), changing, fields, values, (sum(grids), 1, 1), (THREADS, 1, 1),
                        siblings=_all_expressions())
    return _Part(plan, numbers)


def _finish(backend: KernelBackend, work: tuple[Any, ...], dtype: np.dtype[Any], blocks: int) -> Plan:
    wide = c_type(computing(dtype))
    return backend.plan(Instance(FILE, f"finish<norms::{NORMS[work[1]]}, {wide}>"), "PPP", "qd", (blocks, work[2]),
                        (1, 1, 1), (THREADS, 1, 1), siblings=_all_expressions())


def _change(name: str, dtype: str, room: int) -> str:
    return f"change<changes::{name}, {dtype}, {room}>"


def _fold(name: str, dtype: str, room: int) -> str:
    return f"fold<norms::{name}, {dtype}, {room}>"


TABLE: dict[str, Launcher] = {**dict.fromkeys(CHANGES, change), "many_norm": norm}


@cache
def _all_expressions() -> tuple[str, ...]:
    return tuple(instance.expression for instance in instances())


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in _FLOATS:
        for room in ROOMS:
            for name in CHANGES.values():
                yield Instance(FILE, _change(name, dtype.c_type, room))
            for name in NORMS.values():
                yield Instance(FILE, _fold(name, dtype.c_type, room))
    for name in NORMS.values():
        for wide in ("float", "double"):
            yield Instance(FILE, f"finish<norms::{name}, {wide}>")
