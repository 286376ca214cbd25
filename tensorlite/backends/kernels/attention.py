"""Attention and its derivatives, tile by tile: the scores of all queries and keys never lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ShapeError
from .. import FLOATING, Array, computing
from ..precision import get_float32_matmul_precision
from . import WARP, Grid, Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import FLOATS, refusal
from .layout import LARGE, c_type, element_strides

FILE = "attention.cu"
TILE = 64  # queries and keys that a block has in hand

# Template -> element type -> columns of a block's result, multiplied in computing type; derivatives hold more besides.
_WIDTHS: dict[str, dict[str, tuple[int, ...]]] = {
    "attention": {"f16": (64,), "bf16": (64,), "float": (32, 64, 128), "double": (32, 64, 128)},
    "attention_query_grad": {"f16": (64,), "bf16": (64,), "float": (32, 64), "double": (32, 64)},
    "attention_key_grad": {"f16": (64,), "bf16": (64,), "float": (32, 64), "double": (32,)},
}
# Element type -> sizes of a head that stay in registers on tensor cores; larger ones go without these.
_HEADS = {"f16": (64, 128), "bf16": (64, 128), "float": (64,)}

_LONGEST = LARGE // 2  # of what a kernel counts in 32 bits, a tile beyond the end included
_NO_MASK, _MAY_ATTEND, _ADDED = range(3)
_STRIDES = "4q"
_PROBLEM = "d10q" + _STRIDES  # behind the address of the mask
_BOOL = np.dtype(np.bool_)


def attention(backend: KernelBackend, kernel: str, out: Any, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = (softmax(q·kᵀ·scale + mask)·v, the logarithms of the softmax's sums)."""
    values, log_sums = out
    q, k, v, mask = args
    if not log_sums.size:
        return
    arrays = (values, log_sums, q, k, v)
    key = (kernel, *_key(arrays, mask), params["scale"], params["causal"], get_float32_matmul_precision())
    plan = backend.plans.get(key)
    if plan is None:
        _require_dtypes(kernel, (q, k, v, values), mask, log_sums)
        problem = _Problem(kernel, q, k, v, mask, params["scale"], params["causal"])
        plan = backend.remember(key, problem.plan(backend, "attention", arrays, q, v.shape[3]))
    _start(backend, plan, arrays, mask)


class Grad(NamedTuple):
    """The launches of the derivatives: the sums that both others need; of q; of k and v. None where it is empty."""

    deltas: Plan | None
    queries: Plan | None
    keys: Plan | None


def attention_grad(backend: KernelBackend, kernel: str, out: Any, args: tuple[Any, ...],
                   params: dict[str, Any]) -> None:
    """out = the derivatives in q, k and v, from that in the values, the operands, and what attention gave."""
    g, q, k, v, mask, values, log_sums = args
    deltas = backend.empty(log_sums.shape, log_sums.dtype)
    arrays = (*out, g, q, k, v, log_sums, deltas)
    key = (kernel, *_key((*arrays, values), mask), params["scale"], params["causal"], get_float32_matmul_precision())
    plan = backend.plans.get(key)
    if plan is None:
        _require_dtypes(kernel, (g, q, k, v, values, *out), mask, log_sums)
        problem = _Problem(kernel, q, k, v, mask, params["scale"], params["causal"])
        plan = backend.remember(key, _plan_grad(backend, problem, arrays, values))
    of_rows = (deltas, g, values)
    if plan.deltas is not None:
        backend.start(plan.deltas, of_rows, *map(backend.address, of_rows))
    for part in (plan.queries, plan.keys):
        if part is not None:
            _start(backend, part, arrays, mask)


def _plan_grad(backend: KernelBackend, problem: _Problem, arrays: Sequence[Array], values: Array) -> Grad:
    q_grad, k_grad, v_grad, g, q, k, v, _, deltas = arrays
    return Grad(
        _plan_deltas(backend, problem, deltas, g, values) if deltas.size else None,
        problem.plan(backend, "attention_query_grad", arrays, q, q.shape[3]) if q_grad.size else None,
        problem.plan(backend, "attention_key_grad", arrays, k, max(q.shape[3], v.shape[3]))
        if k_grad.size or v_grad.size else None)


def _plan_deltas(backend: KernelBackend, problem: _Problem, deltas: Array, g: Array, values: Array) -> Plan:
    grid, block = one_dimensional(deltas.size * WARP)
    name = c_type(g.dtype)
    return backend.plan(
        Instance(FILE, f"attention_deltas<{name}>"), "PPP", "4q" + _STRIDES * 2,
        [deltas.size, *g.shape[1:], *_strides(g), *_strides(values)], problem.checked(grid), block,
        siblings=_siblings(name))


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
        engines = self._engines(backend, template, name)
        engine = next((e for e in engines if e.width >= columns), engines[-1])
        tiles, slices = -(-rows.shape[2] // TILE), max(-(-columns // engine.width), 1)
        grid = self.checked((rows.shape[0] * rows.shape[1] * tiles * slices, 1, 1))
        return backend.plan(
            Instance(FILE, f"{template}<{engine.name}>"), "P" * (len(arrays) + 1), _PROBLEM + _STRIDES * len(arrays),
            [*self.packed(tiles, slices), *[stride for a in arrays for stride in _strides(a)]],
            grid, (engine.threads, 1, 1), siblings=_siblings(name))

    def _engines(self, backend: KernelBackend, template: str, name: str) -> list[_Engine]:
        """How the products may be computed, by width; the last one serves wider results by slices."""
        size = max(self.q.shape[3], self.v.shape[3])
        allowed = backend.tensor_cores and (name != "float" or get_float32_matmul_precision() != "highest")
        heads = [head for head in _HEADS.get(name, ()) if head >= size] if allowed else []
        return [_tensor_cores(template, name, heads[0])] if heads else _strips(template, name)

    def packed(self, tiles: int, slices: int) -> list[Any]:
        """The fields of a `Problem` of kernels/attention.cuh."""
        (_, heads, queries, size), (_, key_heads, keys, value_size) = self.q.shape, self.v.shape
        mask = self.mask
        kind = _NO_MASK if mask is None else _MAY_ATTEND if mask.dtype == _BOOL else _ADDED
        return [self.scale, heads, key_heads, queries, keys, size, value_size, self.is_causal, kind, tiles, slices,
                *((0,) * 4 if mask is None else _strides(mask))]

    def checked(self, grid: Grid) -> Grid:
        """The grid itself. Raises ShapeError for more blocks than a launch may have, or lengths of a billion."""
        longest = max(*self.q.shape[2:], *self.v.shape[2:])
        if grid[0] >= LARGE or longest >= _LONGEST:
            raise ShapeError(f"{self.kernel}: q {self.q.shape} and k {self.k.shape} take {grid[0]} blocks of a GPU, "
                             f"and a launch may have {LARGE - 1}, with lengths below {_LONGEST}; split the batch")
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
    if not is_same or log_sums.dtype != computing(dtype) or dtype.char not in FLOATING:
        raise refusal(kernel, (*arrays, *([] if mask is None else [mask]), log_sums))


def _key(arrays: Sequence[Array], mask: Array | None) -> tuple[Any, ...]:
    return tuple([None if a is None else (a.shape, a.dtype.char, a.strides) for a in (*arrays, mask)])


def _strides(array: Array) -> tuple[int, ...]:
    """The fields of a `Strides` of kernels/attention.cuh."""
    strides = element_strides(array, array.shape)
    return strides + (0,) * (4 - len(strides))


# --- instances ------------------------------------------------------------------------------------------------------


class _Engine(NamedTuple):
    """How a kernel multiplies: a type of kernels/attention_*.cuh, the columns of a block's result, and its threads."""

    name: str
    width: int
    threads: int


def _tensor_cores(template: str, name: str, head: int) -> _Engine:
    width = head if template == "attention" else 64
    if (template, name) == ("attention_key_grad", "float"):  # whose operands take twice the registers
        width = 32
    return _Engine(f"TensorCores<{name}, {head}, {width}>", width, 128)


def _strips(template: str, name: str) -> list[_Engine]:
    threads = 256 if name == "double" else 128
    return [_Engine(f"Strips<{name}, {width}>", width, threads) for width in _WIDTHS[template][name]]


def _siblings(name: str) -> list[str]:
    engines = {template: [*_strips(template, name), *[_tensor_cores(template, name, head)
                                                      for head in _HEADS.get(name, ())]] for template in _WIDTHS}
    return [*[f"{template}<{engine.name}>" for template in _WIDTHS for engine in engines[template]],
            f"attention_deltas<{name}>"]


TABLE: dict[str, Launcher] = {"attention": attention, "attention_grad": attention_grad}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _siblings(dtype.c_type):
            yield Instance(FILE, expression)
