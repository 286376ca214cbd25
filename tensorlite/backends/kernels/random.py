"""Random kernels: the numbers of `backends/philox.py`, bit for bit, drawn on the device.

A call is two launches: one makes the numbers, the other advances the state, which the first one only reads. What
numbers are made of is in kernels/distributions.cuh; its functors are the rows of `DISTRIBUTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...dtypes import DType
from .. import Array
from ..philox import largest_below
from . import Instance, KernelBackend, Launcher, Plan, elementwise, one_dimensional
from .layout import c_type, dims_fields, element_strides, merge, packed_dims

FILE = "random.cu"
ADVANCE = Instance(FILE, "advance")

_FLOAT64 = np.dtype(np.float64)


class Distribution(NamedTuple):
    """A functor of kernels/distributions.cuh: its name, its fields, their values for a call, and the dtypes drawn."""

    name: str
    fields: str
    values: Callable[..., tuple[Any, ...]]  # (dtype of out, *parameters of the call)
    dtypes: tuple[DType, ...]


def _uniform(dtype: np.dtype[Any], low: float, high: float) -> tuple[float, ...]:
    return high - low, low, float(largest_below(high, low, dtype))


def _integers(dtype: np.dtype[Any], low: int, high: int) -> tuple[int, ...]:
    return low % 2**64, (high - low) % 2**64


def _as_given(dtype: np.dtype[Any], *parameters: Any) -> tuple[Any, ...]:
    return parameters


_FLOATS = tuple(d for d in dtypes.ALL if d.is_floating_point)

DISTRIBUTIONS: dict[str, Distribution] = {
    "random_uniform": Distribution("Uniform", "ddd", _uniform, _FLOATS),
    "random_normal": Distribution("Normal", "dd", _as_given, _FLOATS),
    "random_exponential": Distribution("Exponential", "d", _as_given, _FLOATS),
    "random_integers": Distribution("Integers", "QQ", _integers, dtypes.ALL),
    "random_bernoulli": Distribution("Bernoulli", "d", _as_given, dtypes.ALL),
    "random_choice": Distribution("Choice", "qq", _as_given, (dtypes.int64,)),
}


# --- the kernels, as backends/philox.py defines them ------------------------------------------------------------------


def random_uniform(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                   params: dict[str, Any]) -> None:
    """Uniform on [low, high)."""
    _draw(backend, kernel, out, args[0], (params["low"], params["high"]))


def random_normal(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                  params: dict[str, Any]) -> None:
    """mean + std z with z standard normal."""
    _draw(backend, kernel, out, args[0], (params["mean"], params["std"]))


def random_exponential(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                       params: dict[str, Any]) -> None:
    """-log(u) / rate."""
    _draw(backend, kernel, out, args[0], (params["rate"],))


def random_integers(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                    params: dict[str, Any]) -> None:
    """Integers low <= x < high."""
    _draw(backend, kernel, out, args[0], (params["low"], params["high"]))


def random_bits(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """The words themselves: integers from a range of 2^64."""
    _draw(backend, "random_integers", out, args[0], (0, 2**64))


def random_bernoulli(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                     params: dict[str, Any]) -> None:
    """1 with probability p, a number or an array of the shape of `out`, else 0."""
    state, p = args
    if isinstance(p, float):
        _draw(backend, kernel, out, state, (p,))
        return
    if p.dtype != _FLOAT64:
        p, given = backend.empty(p.shape, _FLOAT64), p
        elementwise.copy(backend, "copy", p, (given,), {})
    _draw(backend, kernel, out, state, (0.0,), p, p.strides)


def random_choice(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                  params: dict[str, Any]) -> None:
    """Categories by cumulative counts: out (N, S), cumulative (N, C) of int64."""
    state, cumulative = args
    across, along = cumulative.strides
    _draw(backend, kernel, out, state, (cumulative.shape[1], along // cumulative.itemsize), cumulative, (across, 0))


# --- from a call to a launch ------------------------------------------------------------------------------------------


def _draw(backend: KernelBackend, kernel: str, out: Array, state: Array, parameters: tuple[Any, ...],
          operand: Array = None, strides: tuple[int, ...] | None = None) -> None:
    """Fill `out` and advance the state. `strides` (in bytes) lead through the operand as through `out`."""
    if not out.size:
        return
    to, stream = backend.address(out), backend.address(state)
    aligned = to % 16 == 0
    key = (kernel, parameters, out.dtype.char, out.shape, out.strides, aligned, strides)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, out, parameters, strides, aligned))
    fill, advance = plan
    if operand is None:
        backend.start(fill, (out, state), to, stream, 0)
    else:
        backend.start(fill, (out, state, operand), to, stream, backend.address(operand))
    backend.start(advance, (state,), stream)


def _plan(backend: KernelBackend, kernel: str, out: Array, parameters: tuple[Any, ...],
          strides: tuple[int, ...] | None, aligned: bool) -> tuple[Plan, Plan]:
    """The plans of the two launches of a draw."""
    distribution = DISTRIBUTIONS[kernel]
    sizes, steps = _row_major(out, strides)
    is_dense = aligned and strides is None and len(sizes) == 1 and steps[0][0] == 1
    expression = _expression("dense" if is_dense else "strided", distribution, c_type(out.dtype))
    values = [out.size, *packed_dims(kernel, sizes, steps), *distribution.values(out.dtype, *parameters)]
    blocks = -(-out.size // 4)
    fill = backend.plan(Instance(FILE, expression), "PPP", f"q{dims_fields(2)}{distribution.fields}", values,
                        *one_dimensional(blocks), siblings=_all_expressions())
    advance = backend.plan(ADVANCE, "P", "Q", [blocks], (1, 1, 1), (1, 1, 1), siblings=_all_expressions())
    return fill, advance


def _row_major(out: Array, strides: tuple[int, ...] | None) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes and strides (of `out` and the operand) in elements, innermost first, in the order in which words come."""
    second = [0] * out.ndim if strides is None else [stride // 8 for stride in strides]  # operands have 8-byte elements
    dims = [(size, step) for size, *step in zip(out.shape, element_strides(out, out.shape), second, strict=True)
            if size != 1]
    return merge(dims[::-1] or [(1, [1, 0])])


def _expression(template: str, distribution: Distribution, dtype: str) -> str:
    return f"{template}<distributions::{distribution.name}, {dtype}>"


@cache
def _all_expressions() -> tuple[str, ...]:
    """All instances: where compiling one costs as much as many, they are compiled in one go."""
    return tuple(instance.expression for instance in instances())


TABLE: dict[str, Launcher] = {
    "random_uniform": random_uniform, "random_normal": random_normal, "random_exponential": random_exponential,
    "random_integers": random_integers, "random_bits": random_bits, "random_bernoulli": random_bernoulli,
    "random_choice": random_choice,
}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    yield ADVANCE
    for distribution in DISTRIBUTIONS.values():
        for dtype in distribution.dtypes:
            for template in ("dense", "strided"):
                yield Instance(FILE, _expression(template, distribution, dtype.c_type))
