"""Indexing by integer arrays: gather, scatter (of duplicates the last one wins) and scatter-add.

The terms are those of kernels/index.cu: the indexed dimensions of an array are its box, the others its rest, and a
target is a row-major number within the box. The array with the box is x for a gather and out for the others; the
array with the gathered shape is out or value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...errors import OutOfRangeError
from .. import Array, broadcast_shapes, computing
from . import Complaint, Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import copy, refusal
from .layout import (
    DIVIDER,
    c_type,
    dense_strides,
    dims_fields,
    divider,
    element_strides,
    index_type,
    merge,
    packed_dims,
    row_major,
)

FILE = "index.cu"
UNITS = {1: "u8", 2: "u16", 4: "u32", 8: "u64", 16: "Pack<u64, 2>"}  # what is moved at once, by its size in bytes
LOADS = 2  # as in kernels/index.cu
FEW = 256  # values that find each other by comparing all targets: cheaper than to sort
LEAST_CHUNK = 16  # values that one thread adds; more where a target that all point to would have too many chunks
_INT64 = np.dtype(np.int64)
_OWNERS = {"u32": np.dtype(np.uint32), "u64": np.dtype(np.uint64)}
_C_TYPES = {dtype: name for name, dtype in _OWNERS.items()}


# --- from indices to targets --------------------------------------------------------------------------------------


def _dense(backend: KernelBackend, index: Array) -> Array:
    """An index as the kernels read it: int64, dense and row-major."""
    if index.dtype == _INT64 and index.flags.c_contiguous:
        return index
    result = backend.empty(index.shape, _INT64)
    copy(backend, "copy", result, (index,), {})
    return result


def _out_of_range(kernel: str, shape: tuple[int, ...], dim: int, size: int) -> Complaint:
    def complaint(value: int, position: int) -> OutOfRangeError:
        at = tuple(int(i) for i in np.unravel_index(position, shape))
        return OutOfRangeError(f"index {value} at position {at} is out of bounds for dimension {dim} with size {size} "
                               f"(kernel '{kernel}')")

    return complaint


def _targets(backend: KernelBackend, kernel: str, boxed: Array, indices: Sequence[Array], dims: tuple[int, ...],
             wrap: bool, owner: Array | None = None) -> Array:
    """The targets of dense indices, broadcast; where they point, `owner` becomes 0."""
    box = tuple([boxed.shape[d] for d in dims])
    shape = _common_shape(indices)
    number = index_type(math.prod(shape), math.prod(box)) if owner is None else _C_TYPES[owner.dtype]
    known = ("resolve", box, dims, wrap, number, *[i.shape for i in indices])
    plan = backend.plans.get(known)
    if plan is None:
        plan = backend.remember(known, _resolve_plan(backend, kernel, number, box, shape, indices, dims, wrap))
    targets = backend.empty(shape, _INT64)
    address = backend.address
    arrays = (targets, *indices) if owner is None else (targets, *indices, owner)
    backend.start(plan, arrays, address(targets), 0 if owner is None else address(owner), *map(address, indices))
    return targets


def _common_shape(indices: Sequence[Array]) -> tuple[int, ...]:
    return indices[0].shape if len(indices) == 1 else broadcast_shapes("index", *[i.shape for i in indices])


def _resolve_plan(backend: KernelBackend, kernel: str, number: str, box: tuple[int, ...], shape: tuple[int, ...],
                  indices: Sequence[Array], dims: tuple[int, ...], wrap: bool) -> Plan:
    count, many = math.prod(shape), len(indices)
    codes = [backend.code_for(_out_of_range(kernel, i.shape, d, n)) for i, d, n in zip(indices, dims, box, strict=True)]
    places = packed_dims(kernel, *row_major(shape, *[element_strides(i, shape) for i in indices]))
    return backend.plan(
        Instance(FILE, f"resolve<{many}, {number}>"), "P" * (2 + many), f"P{many}Q{2 * many + 1}q{dims_fields(many)}",
        [backend.error_word, *codes, *[-n if wrap else 0 for n in box], *box, count, *places], *one_dimensional(count),
        siblings=[f"resolve<{n}, u32>" for n in (1, 2, 3)])


# --- geometry -----------------------------------------------------------------------------------------------------


class _Geometry(NamedTuple):
    """How units are moved: sizes and strides (boxed array, gathered array, targets), and the box in the boxed array."""

    sizes: list[int]
    steps: list[tuple[int, ...]]
    box_sizes: list[int]
    box_steps: list[tuple[int, ...]]

    def in_units(self, item: int, alignment: int) -> tuple[int, _Geometry]:
        """The size in bytes of the largest unit that fits, and the geometry that counts in it."""
        sizes, steps, box_sizes, box_steps = self
        if steps[0] != (1, 1, 0):
            return item, self
        lengths = [sizes[0], *[n for step in steps[1:] for n in step[:2]],
                   *[step for n, (step,) in zip(box_sizes, box_steps, strict=True) if n != 1]]
        unit = math.gcd(16, alignment, *[n * item for n in lengths])
        ratio = unit // item
        return unit, _Geometry(
            [sizes[0] // ratio, *sizes[1:]],
            [steps[0], *[(boxed // ratio, gathered // ratio, target) for boxed, gathered, target in steps[1:]]],
            box_sizes, [(n // ratio,) for (n,) in box_steps])


def _geometry(boxed: Array, gathered: Array, indices: Sequence[Array], dims: tuple[int, ...]) -> _Geometry:
    """Of arrays of which `gathered` may still have to be broadcast to the gathered shape."""
    strides = element_strides(boxed, boxed.shape)
    rest = [d for d in range(boxed.ndim) if d not in dims]
    before = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0  # the indices' place among the rest
    common = _common_shape(indices)

    def spread(of_rest: Sequence[int], of_indices: Sequence[int]) -> tuple[int, ...]:
        return (*of_rest[:before], *of_indices, *of_rest[before:])

    shape = spread([boxed.shape[d] for d in rest], common)
    sizes, steps = row_major(
        shape, spread([strides[d] for d in rest], (0,) * len(common)), element_strides(gathered, shape),
        spread((0,) * len(rest), dense_strides(common)))
    return _Geometry(sizes, steps, *row_major([boxed.shape[d] for d in dims], [strides[d] for d in dims]))


def _require_same_dtype(kernel: str, out: Array, args: Sequence[Array]) -> None:
    """Raise DTypeError where values would have to be converted."""
    if args[0].dtype != out.dtype:
        raise refusal(kernel, (out, *args))


# --- gather -------------------------------------------------------------------------------------------------------


def index(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = x at integer arrays, one per dimension of `dims`; negative ones count from the end if they `wrap`."""
    x, dims, wrap = args[0], params["dims"], params.get("wrap", True)
    indices = [_dense(backend, i) for i in args[1:]]
    if not out.size:
        if math.prod(_common_shape(indices)):
            _targets(backend, kernel, x, indices, dims, wrap)  # they are checked all the same
        return
    address = backend.address
    to, source = address(out), address(x)
    known = (kernel, out.dtype.char, x.dtype.char, out.shape, out.strides, x.shape, x.strides, dims, wrap,
             *[i.shape for i in indices], (to | source) % 16)
    plan = backend.plans.get(known)
    if plan is None:
        _require_same_dtype(kernel, out, args)
        plan = backend.remember(known, _gather_plan(backend, kernel, out, x, indices, dims, wrap,
                                                     (to | source) % 16))
    chosen = indices[0] if len(indices) == 1 else _targets(backend, kernel, x, indices, dims, wrap)
    backend.start(plan, (out, x, chosen), to, source, address(chosen))


def _gather_plan(backend: KernelBackend, kernel: str, out: Array, x: Array, indices: Sequence[Array],
                 dims: tuple[int, ...], wrap: bool, alignment: int) -> Plan:
    unit, found = _geometry(x, out, indices, dims).in_units(out.dtype.itemsize, alignment)
    count, box = math.prod(found.sizes), math.prod([x.shape[d] for d in dims])
    code, lowest = 0, 0
    if len(indices) == 1:
        code, lowest = backend.code_for(_out_of_range("index", indices[0].shape, dims[0], box)), -box if wrap else 0
    order = [(to, source, target) for source, to, target in found.steps]
    values = [backend.error_word, code, lowest, box, count, *packed_dims(kernel, found.sizes, order),
              *packed_dims(kernel, found.box_sizes, found.box_steps)]
    return backend.plan(
        Instance(FILE, f"gather<{UNITS[unit]}, {index_type(count, box)}>"), "PPP",
        "PQqqq" + dims_fields(3) + dims_fields(1), values, *one_dimensional(-(-count // LOADS)),
        siblings=[f"gather<{name}, u32>" for name in UNITS.values()])


# --- scatter ------------------------------------------------------------------------------------------------------


def _scatter_key(kernel: str, out: Array, value: Array, targets: Array, dims: tuple[int, ...],
                 alignment: int) -> tuple[Any, ...]:
    """What the plans of a scatter depend on."""
    return (kernel, out.dtype.char, value.dtype.char, out.shape, out.strides, value.shape, value.strides, dims,
            targets.shape, alignment)


def index_put(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out at integer arrays = value; of duplicates the last one, in row-major order, wins."""
    value, dims = args[0], params["dims"]
    indices = [_dense(backend, i) for i in args[1:]]
    count = math.prod(_common_shape(indices))
    if not count:
        return
    box = math.prod([out.shape[d] for d in dims])
    number = index_type(count, box, count * out.size // max(box, 1))
    owner = backend.empty((box,), _OWNERS[number])
    targets = _targets(backend, kernel, out, indices, dims, params.get("wrap", True), owner)
    if not out.size:
        return  # the indices are checked all the same
    address = backend.address
    to, source = address(out), address(value)
    known = _scatter_key(kernel, out, value, targets, dims, (to | source) % 16)
    plans = backend.plans.get(known)
    if plans is None:
        _require_same_dtype(kernel, out, args)
        plans = backend.remember(known, _put_plans(backend, kernel, number, out, value, targets, dims,
                                                  (to | source) % 16))
    claim, put = plans
    backend.start(claim, (targets, owner), address(targets), address(owner))
    backend.start(put, (out, value, targets, owner), to, source, address(targets), address(owner))


def _put_plans(backend: KernelBackend, kernel: str, number: str, out: Array, value: Array, targets: Array,
               dims: tuple[int, ...], alignment: int) -> tuple[Plan, Plan]:
    unit, found = _geometry(out, value, [targets], dims).in_units(out.dtype.itemsize, alignment)
    count = math.prod(found.sizes)
    siblings = [f"put<{name}, u32>" for name in UNITS.values()] + ["claim<u32>"]
    claim = backend.plan(Instance(FILE, f"claim<{number}>"), "PP", "q", [targets.size],
                         *one_dimensional(targets.size), siblings=siblings)
    values = [count, *packed_dims(kernel, found.sizes, found.steps),
              *packed_dims(kernel, found.box_sizes, found.box_steps)]
    put = backend.plan(Instance(FILE, f"put<{UNITS[unit]}, {number}>"), "PPPP", "q" + dims_fields(3) + dims_fields(1),
                       values, *one_dimensional(count), siblings=siblings)
    return claim, put


# --- scatter-add --------------------------------------------------------------------------------------------------


class _Adding(NamedTuple):
    """The kernels of a scatter-add, and the size of the array of partial sums that they share; 0 for few values."""

    plans: tuple[Plan, ...]
    partials: int


def index_add(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out at integer arrays += value; duplicates add up, in an order that is the same in every run."""
    value, dims = args[0], params["dims"]
    indices = [_dense(backend, i) for i in args[1:]]
    if not math.prod(_common_shape(indices)):
        return
    targets = _targets(backend, kernel, out, indices, dims, params.get("wrap", True))
    if not out.size:
        return  # the indices are checked all the same
    address = backend.address
    to, source = address(out), address(value)
    known = _scatter_key(kernel, out, value, targets, dims, (to | source) % 16)
    adding = backend.plans.get(known)
    if adding is None:
        _require_same_dtype(kernel, out, args)
        adding = backend.remember(known, _add_plans(backend, kernel, out, value, targets, dims, (to | source) % 16))
    if not adding.partials:
        backend.start(adding.plans[0], (out, value, targets), to, source, address(targets), 0, 0)
        return
    order, partial = backend.empty((targets.size,), _INT64), backend.empty((adding.partials,), computing(out.dtype))
    backend.kernels["argsort"](backend, "argsort", order, (targets.reshape(-1),), {"dim": 0, "descending": False})
    for plan in adding.plans:
        backend.start(plan, (out, value, targets, order, partial), to, source, address(targets), address(order),
                      address(partial))


def _add_plans(backend: KernelBackend, kernel: str, out: Array, value: Array, targets: Array, dims: tuple[int, ...],
               alignment: int) -> _Adding:
    found = _geometry(out, value, [targets], dims)
    rest, values = _part(found, False, slice(0, 2)), _part(found, True, slice(1, 2))
    count, item = targets.size, out.dtype.itemsize
    width = _width(item)
    if found.in_units(item, alignment)[0] < width * item:
        width = 1
    packs = math.prod(rest[0]) // width
    few = count <= FEW
    chunk = count if few else max(LEAST_CHUNK, math.isqrt(count) // 4)
    chunks = -(-count // chunk)
    fixed = [count, chunk, chunks, *divider(packs), *packed_dims(kernel, *rest),
             *packed_dims(kernel, found.box_sizes, found.box_steps), *packed_dims(kernel, *values)]
    box = math.prod([out.shape[d] for d in dims])
    number = index_type(count * packs * width, box)
    name = c_type(out.dtype)
    return _Adding(tuple([
        backend.plan(
            Instance(FILE, _adding(step, name, width, number)), "P" * 5, "qqq" + DIVIDER + dims_fields(2)
            + dims_fields(1) * 2, fixed, *one_dimensional(packs * (count if few else chunks)),
            siblings=[_adding(step, name, v, "u32") for step in _STEPS for v in (1, _width(item))])
        for step in (_STEPS[:1] if few else _STEPS[1:])]), 0 if few else chunks * 2 * packs * width)


def _part(found: _Geometry, of_targets: bool, operands: slice) -> tuple[list[int], list[tuple[int, ...]]]:
    """The dimensions along which targets change, or do not, and some operands' strides over them."""
    parts = [(n, step[operands]) for n, step in zip(found.sizes, found.steps, strict=True)
             if bool(step[2]) == of_targets]
    return merge(parts) if parts else ([1], [tuple([0, 0][operands])])


_STEPS = ("add_few", "add_chunks", "add_partials")


def _width(item: int) -> int:
    """Neighbours that one thread adds: 16 bytes of them, but not more than fit in registers as computing types."""
    return min(8, 16 // item)


def _adding(step: str, name: str, width: int, number: str) -> str:
    return f"{step}<{name}, {width}, {number}>"


TABLE: dict[str, Launcher] = {"index": index, "index_put": index_put, "index_add": index_add}


def instances() -> Iterator[Instance]:
    """Every instance for up to four indices, and of 64-bit sums those of one dtype: the others differ in no line."""
    for number in ("u32", "u64"):
        yield Instance(FILE, f"claim<{number}>")
        for many in (1, 2, 3, 4):
            yield Instance(FILE, f"resolve<{many}, {number}>")
        for unit in UNITS.values():
            yield Instance(FILE, f"gather<{unit}, {number}>")
            yield Instance(FILE, f"put<{unit}, {number}>")
    for dtype in dtypes.ALL:
        for step in _STEPS:
            for width in (1, _width(dtype.itemsize)):
                for number in ("u32", "u64") if dtype is dtypes.float32 else ("u32",):
                    yield Instance(FILE, _adding(step, dtype.c_type, width, number))
