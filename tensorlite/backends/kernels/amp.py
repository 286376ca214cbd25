"""Kernels of loss scaling (kernels/amp.cu): gradients of many tensors divided by the scale, and the next scale.

Contract: that of backends/cpu_amp.py. Gradients with gaps in memory are gathered first, and put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from ... import dtypes
from .. import Array
from . import THREADS, Instance, KernelBackend, Launcher, Plan, segments
from .layout import c_type

FILE = "amp.cu"
ROOMS = segments.capacities(1)
PACKS = 4  # of 16 bytes, for a thread

_FLOATS = tuple(d for d in dtypes.ALL if d.is_floating_point)


class _Planned(NamedTuple):
    """Launches, each with the numbers of its gradients; and the numbers of those that must be gathered."""

    launches: Sequence[tuple[Plan, Sequence[int]]]
    gaps: Sequence[int]


def unscale(backend: KernelBackend, kernel: str, grads: tuple[Array, ...], args: tuple[Any, ...],
            params: dict[str, Any]) -> None:
    """Divide gradients of one dtype by the scale."""
    key = kernel, grads[0].dtype.char, tuple([g.shape for g in grads]), tuple([g.strides for g in grads])
    found: _Planned | None = backend.plans.get(key)
    if found is None:
        found = backend.remember(key, _planned(backend, grads))
    dense, copy = list(grads), backend.kernels["copy"]
    for i in found.gaps:
        dense[i] = backend.empty(grads[i].shape, grads[i].dtype)
        copy(backend, "copy", dense[i], (grads[i],), {})
    pointers, fixed = list(map(backend.address, dense)), list(map(backend.address, args))
    for plan, numbers in found.launches:
        backend.start(plan, (*dense, *args), *fixed, *[pointers[i] for i in numbers])
    for i in found.gaps:
        copy(backend, "copy", grads[i], (dense[i],), {})


def _planned(backend: KernelBackend, grads: tuple[Array, ...]) -> _Planned:
    launches = [(_plan(backend, [grads[i] for i in numbers], room), numbers)
                for room, numbers in segments.batches(range(len(grads)), ROOMS)]
    return _Planned(launches, [i for i, g in enumerate(grads) if not segments.is_flat((g,))])


def _plan(backend: KernelBackend, grads: Sequence[Array], room: int) -> Plan:
    dtype = grads[0].dtype
    counts = [g.size for g in grads]
    grids = [segments.blocks(count, PACKS * 16 // dtype.itemsize) for count in counts]
    changing = f"PP{segments.pointer_fields((grads,), len(grads), room)}"
    return backend.plan(Instance(FILE, _unscale(c_type(dtype), room)), changing, segments.flat_fields(room),
                        segments.flat_values(counts, grids, room), (sum(grids), 1, 1), (THREADS, 1, 1),
                        siblings=_all_expressions())


def update(backend: KernelBackend, kernel: str, scale: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """The scale of the next step, and the number of good steps on the way to its growth."""
    options = params["growth_factor"], params["backoff_factor"], params["growth_interval"]
    key = kernel, options
    plan = backend.plans.get(key)
    if plan is None:
        made = backend.plan(Instance(FILE, "update"), "PPP", "ddq", options, (1, 1, 1), (1, 1, 1),
                            siblings=_all_expressions())
        plan = backend.remember(key, made)
    arrays = scale, *args
    backend.start(plan, arrays, *map(backend.address, arrays))


TABLE: dict[str, Launcher] = {"amp_unscale": unscale, "amp_update": update}


def _unscale(dtype: str, room: int) -> str:
    return f"unscale<{dtype}, {room}>"


@cache
def _all_expressions() -> tuple[str, ...]:
    """All instances, which are compiled in one go."""
    return tuple(instance.expression for instance in instances())


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in _FLOATS:
        for room in ROOMS:
            yield Instance(FILE, _unscale(dtype.c_type, room))
    yield Instance(FILE, "update")
