"""A linear layer with a ReLU: what stands around the products of matrices, each in one pass.

Results are those of the separate kernels to the last bit: sums of columns run through the tree that `reduce` lays out
for them, and layouts that this file does not take go to the separate kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import FLOATING, Array
from . import Instance, KernelBackend, Launcher, Plan, reduce
from .elementwise import FLOATS, elementwise, refusal
from .layout import c_type, index_type
from .rows import is_aligned

FILE = "linear.cu"
_WIDE = "fd"  # NumPy's codes of the dtypes that are computed in as they are stored


def linear_relu(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                params: dict[str, Any]) -> None:
    """out = max(x · Wᵀ + bias, 0) for x (..., k), W (m, k) and bias (m) or None."""
    x, weight, bias = args
    if any(a is not None and a.dtype != out.dtype for a in args):
        raise refusal(kernel, args)
    if bias is None or out.dtype.char not in _WIDE:  # of 16 bits: rounded once, when the bias has been added
        backend.kernels["linear"](backend, "linear", out, args, {})
        elementwise(backend, "relu", out, (out,), {})
    else:
        backend.kernels["matmul"](backend, "matmul", out, (x, weight.T), {})
        elementwise(backend, "bias_relu", out, (out, bias), {})


class BiasGrad(NamedTuple):
    """The launches of a derivative: one, or one that leaves sums in scratch memory and one that adds these up."""

    first: Plan
    finish: Plan | None
    scratch: int  # elements


def relu_bias_grad(backend: KernelBackend, kernel: str, out: Any, args: tuple[Any, ...],
                   params: dict[str, Any]) -> None:
    """out = (slope, total): g, or 0 where y <= 0, of the shape (..., m), and the sums of its columns, (m)."""
    slope, total = out
    g, y = args
    addresses = [backend.address(a) for a in (slope, total, g, y)]
    key = (kernel, is_aligned(*addresses), slope.shape, *[(a.dtype.char, a.strides) for a in (slope, total, g, y)])
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, slope, total, g, y, key[1]) or ())
    if not plan:
        elementwise(backend, "relu_grad", slope, (g, y), {})
        dims = tuple(range(slope.ndim - 1))
        backend.kernels["sum"](backend, "sum", total.reshape((1,) * len(dims) + total.shape), (slope,), {"dims": dims})
        return
    first, finish, scratch = plan
    if finish is None:
        backend.start(first, (slope, total, g, y), *addresses, 0)
        return
    sums = backend.empty((scratch,), _sum_type(slope.dtype))
    backend.start(first, (slope, total, g, y, sums), *addresses, backend.address(sums))
    backend.start(finish, (total, sums), 0, addresses[1], backend.address(sums))


def _plan(backend: KernelBackend, kernel: str, slope: Array, total: Array, g: Array, y: Array,
          aligned: bool) -> BiasGrad | None:
    """The fused launches; None where the separate kernels serve."""
    arrays = (slope, total, g, y)
    columns = total.size
    dense = aligned and all(a.flags.c_contiguous for a in arrays)
    if not dense or not slope.size or slope.dtype.char not in FLOATING:
        return None
    rows = math.prod(slope.shape[:-1])
    lines = slope.reshape(rows, columns)
    template, width, _, _, share = reduce.layout("sum", total.reshape(1, columns), lines, (0,), aligned)
    if template != "columns":
        return None
    sums = reduce.plan(backend, "sum", total.reshape(1, columns), lines, aligned, (0,))
    splits = -(-rows // share)
    index = index_type(rows, columns)
    siblings = list(_expressions(slope.dtype)) if index == "u32" else []
    first = backend.plan(Instance(FILE, _expression(index, slope.dtype, width)), "PPPPP", "qqqq",
                         [splits, share, rows, columns], sums.first.grid, sums.first.block, siblings=siblings)
    return BiasGrad(first, sums.finish, sums.scratch)


def _sum_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.char in _WIDE else np.dtype(np.float32)


# --- instances --------------------------------------------------------------------------------------------------------


def _expression(index: str, dtype: np.dtype[Any], width: int) -> str:
    return f"relu_bias_grad<{index}, {c_type(dtype)}, {width}>"


def _expressions(dtype: np.dtype[Any]) -> Iterator[str]:
    for width in (1, min(reduce.COLUMNS, 16 // dtype.itemsize)):
        yield _expression("u32", dtype, width)


def instances() -> Iterator[Instance]:
    """Every instance that a call below 2^31 elements can reach."""
    for dtype in FLOATS:
        for expression in _expressions(dtype.numpy):
            yield Instance(FILE, expression)


TABLE: dict[str, Launcher] = {"linear_relu": linear_relu, "relu_bias_grad": relu_bias_grad}
