"""Kernels over many tensors of one dtype on the CPU: what is done to gradients between backward and a step.

    many_fill(tensors, value)             every element becomes a number
    many_scale(tensors, factor)           every element times a 0-d array, which is rounded to the tensors' dtype first
    many_clamp(tensors, low, high)        every element limited to [low, high]; NaN stays NaN
    many_norm((total, factor), tensors, order=, max_norm=)
                                          the norm of all as one vector, of order 2 or inf, and the factor that brings
                                          it down to max_norm: min(1, max_norm/(total + 1e-6))

total and factor are 0-d, in the dtype in which the tensors are computed: float32 for 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from . import NARROW, Array
from .cpu_blocks import BLOCK, workspace

Arrays = tuple[Array, ...]


def many_fill(tensors: Arrays, value: float) -> None:
    for x in tensors:
        x.fill(value)


def many_scale(tensors: Arrays, factor: Array) -> None:
    for x in tensors:
        _in_place(np.multiply, x, factor.astype(x.dtype))


def many_clamp(tensors: Arrays, low: float, high: float) -> None:
    for x in tensors:
        _in_place(np.clip, x, low, high)


def _in_place(change: Callable[..., Any], x: Array, *args: Any) -> None:
    """x ← change(x, *args), computed in float32 where x has 16 bits."""
    if x.dtype.char in NARROW:
        x[...] = change(x.astype(np.float32), *[np.float32(a) for a in args])
    else:
        change(x, *args, out=x)


def many_norm(out: Arrays, tensors: Arrays, *, order: float, max_norm: float) -> None:
    total, factor = out
    wide = [x.astype(total.dtype, copy=False) for x in tensors]
    if order == 2:
        parts = [_sum_of_squares(np.ascontiguousarray(x).reshape(-1)) for x in wide]
        total[()] = np.sqrt(np.add.reduce(np.array(parts, total.dtype)))
    else:
        total[()] = np.array([np.maximum(x.max(), -x.min()) for x in wide], total.dtype).max()
    factor[()] = np.minimum(max_norm / (total + 1e-6), 1.0)


def _sum_of_squares(x: Array) -> Any:
    """np.sum(x * x) to the last bit, with squares that stay in the cache: the halves are those of NumPy's own sum."""
    if x.size <= BLOCK:
        (squares,) = workspace.scratch(1, x.shape, x.dtype)
        return np.add.reduce(np.multiply(x, x, squares))
    half = x.size // 2
    half -= half % 8
    return _sum_of_squares(x[:half]) + _sum_of_squares(x[half:])


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel for kernel in (many_fill, many_scale, many_clamp, many_norm)}
