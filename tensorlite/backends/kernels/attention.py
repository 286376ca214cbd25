"""Attention and its derivatives, tile by tile: the scores of all queries and keys never lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ShapeError
from .. import NARROW, Array
from . import WARP, Grid, Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import FLOATS, refusal
from .layout import LARGE, c_type, element_strides

FILE = "attention.cu"
TILE = 64  # queries and keys that a block has in hand

# Template -> columns of a block's result: a derivative has registers for fewer.
_WIDTHS = {"attention": (32, 64, 128), "attention_query_grad": (32, 64), "attention_key_grad": (32, 64)}
_NO_MASK, _MAY_ATTEND, _ADDED = range(3)
_STRIDES = "4q"
_PROBLEM = "d10q" + _STRIDES  # behind the address of the mask
_FLOAT32, _BOOL = np.dtype(np.float32), np.dtype(np.bool_)


def attention(backend: KernelBackend, kernel: str, out: Any, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = (softmax(q·kᵀ·scale + mask)·v, the logarithms of the softmax's sums)."""
    values, log_sums = out
    q, k, v, mask = args
    if not log_sums.size:
        return
    arrays = (values, log_sums, q, k, v)
    key = (kernel, *_key(arrays, mask), params["scale"], params["causal"])
    plan = backend.plans.get(key)
    if plan is None:
        _require_dtypes(kernel, (q, k, v, values), mask, log_sums)
        problem = _Problem(kernel, q, k, v, mask, params["scale"], params["causal"])
        plan = backend.remember(key, problem.plan(backend, "attention", arrays, q, v.shape[3]))
    _start(backend, plan, arrays, mask)


class Grad(NamedTuple):
    """The launches of the derivatives: the sums that both others need; of q; of k and v. None where it is empty."""

    deltas: Plan
    queries: Plan | None
    keys: Plan | None


def attention_grad(backend: KernelBackend, kernel: str, out: Any, args: tuple[Any, ...],
                   params: dict[str, Any]) -> None:
    """out = the derivatives in q, k and v, from that in the values, the operands, and what attention gave."""
    g, q, k, v, mask, values, log_sums = args
    deltas = backend.empty(log_sums.shape, log_sums.dtype)
    arrays = (*out, g, q, k, v, log_sums, deltas)
    key = (kernel, *_key((*arrays, values), mask), params["scale"], params["causal"])
    plan = backend.plans.get(key)
    if plan is None:
        _require_dtypes(kernel, (g, q, k, v, values, *out), mask, log_sums)
        problem = _Problem(kernel, q, k, v, mask, params["scale"], params["causal"])
        plan = backend.remember(key, _plan_grad(backend, problem, arrays, values))
    of_rows = (deltas, g, values)
    if deltas.size:
        backend.start(plan.deltas, of_rows, *map(backend.address, of_rows))
    for part in (plan.queries, plan.keys):
        if part is not None:
            _start(backend, part, arrays, mask)


def _plan_grad(backend: KernelBackend, problem: _Problem, arrays: Sequence[Array], values: Array) -> Grad:
    q_grad, k_grad, v_grad, g, q, k, v, _, deltas = arrays
    grid, block = one_dimensional(deltas.size * WARP)
    rows = [deltas.size, q.shape[1], q.shape[2], g.shape[3], *_strides(g), *_strides(values)]
    queries = problem.plan(backend, "attention_query_grad", arrays, q, q.shape[3]) if q_grad.size else None
    keys = (problem.plan(backend, "attention_key_grad", arrays, k, max(q.shape[3], v.shape[3]))
            if k_grad.size or v_grad.size else None)
    name = c_type(q.dtype)
    deltas_plan = backend.plan(Instance(FILE, f"attention_deltas<{name}>"), "PPP", "4q" + _STRIDES * 2, rows,
                               problem.checked(grid), block, siblings=_siblings(name))
    return Grad(deltas_plan, queries, keys)


class _Problem(NamedTuple):
    """What all launches of a call share."""

    kernel: str
    q: Array
    k: Array
    v: Array
    mask: Array | None
    scale: float
    is_causal: bool

    def plan(self, backend: KernelBackend, template: str, arrays: Sequence[Array], rows: Array, columns: int) -> Plan:
        """The launch of a template that computes so many columns for the rows of q or of k; `arrays` in its order."""
        name = c_type(self.q.dtype)
        widths = _WIDTHS[template]
        width = next((w for w in widths if w >= columns), widths[-1])
        tiles, slices = -(-rows.shape[2] // TILE), max(-(-columns // width), 1)
        grid = self.checked((rows.shape[0] * rows.shape[1] * tiles * slices, 1, 1))
        return backend.plan(
            Instance(FILE, _expression(template, name, width)), "P" * (len(arrays) + 1),
            _PROBLEM + _STRIDES * len(arrays),
            [*self.packed(tiles, slices), *[stride for a in arrays for stride in _strides(a)]],
            grid, _block(name), siblings=_siblings(name))

    def packed(self, tiles: int, slices: int) -> list[Any]:
        """The fields of a `Problem` of kernels/attention.cuh."""
        (_, heads, queries, size), (_, key_heads, keys, value_size) = self.q.shape, self.v.shape
        mask = self.mask
        kind = _NO_MASK if mask is None else _MAY_ATTEND if mask.dtype == _BOOL else _ADDED
        return [self.scale, heads, key_heads, queries, keys, size, value_size, self.is_causal, kind, tiles, slices,
                *((0,) * 4 if mask is None else _strides(mask))]

    def checked(self, grid: Grid) -> Grid:
        """The grid itself. Raises ShapeError for more blocks than a launch may have."""
        if grid[0] >= LARGE:
            raise ShapeError(f"{self.kernel}: q {self.q.shape} and k {self.k.shape} take {grid[0]} blocks of a GPU, "
                             f"and a launch may have {LARGE - 1}; split the batch")
        return grid


def _start(backend: KernelBackend, plan: Plan, arrays: Sequence[Array], mask: Array | None) -> None:
    addresses = [backend.address(a) for a in arrays]
    if mask is None:
        backend.start(plan, arrays, *addresses, 0)
    else:
        backend.start(plan, (*arrays, mask), *addresses, backend.address(mask))


def _require_dtypes(kernel: str, arrays: Sequence[Array], mask: Array | None, log_sums: Array) -> None:
    """Raise DTypeError but for floats of one dtype, with a mask of these or of bools, and sums in computing type."""
    dtype = arrays[0].dtype
    is_same = all(a.dtype == dtype for a in arrays) and (mask is None or mask.dtype in (dtype, _BOOL))
    computed = _FLOAT32 if dtype.char in NARROW else dtype
    if not is_same or log_sums.dtype != computed or dtype not in [d.numpy for d in FLOATS]:
        raise refusal(kernel, (*arrays, *([] if mask is None else [mask]), log_sums))


def _key(arrays: Sequence[Array], mask: Array | None) -> tuple[Any, ...]:
    return tuple([None if a is None else (a.shape, a.dtype.char, a.strides) for a in (*arrays, mask)])


def _strides(array: Array) -> tuple[int, ...]:
    """The fields of a `Strides` of kernels/attention.cuh."""
    strides = element_strides(array, array.shape)
    return strides + (0,) * (4 - len(strides))


# --- instances ------------------------------------------------------------------------------------------------------


def _block(name: str) -> Grid:
    return (256 if name == "double" else 128, 1, 1)


def _expression(template: str, name: str, width: int) -> str:
    return f"{template}<{name}, {width}>"


def _siblings(name: str) -> list[str]:
    return [*[_expression(template, name, width) for template, widths in _WIDTHS.items() for width in widths],
            f"attention_deltas<{name}>"]


TABLE: dict[str, Launcher] = {"attention": attention, "attention_grad": attention_grad}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _siblings(dtype.c_type):
            yield Instance(FILE, expression)
