"""Sliding windows along a dimension, as views, and sums of what overlapping windows hold: each other's derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.op import op
from ..backends import NARROW, Array, Backend, normalize_dim
from ..errors import ArgumentError, ShapeError
from .movement import reshape, select

if TYPE_CHECKING:
    from ..tensor import Tensor

_FLOAT32 = np.dtype(np.float32)


@op(view=True)
def _unfold(be: Backend, x: Array, *, dim: Any, size: Any, step: Any, dilation: Any) -> Array:
    """The elements at window·step + k·dilation of dimension `dim`, with k as a further, last dimension."""
    windows = (x.shape[dim] - (size - 1) * dilation - 1) // step + 1
    stride = x.strides[dim]
    return be.strided(x, (*x.shape[:dim], windows, *x.shape[dim + 1:], size),
                      (*x.strides[:dim], stride * step, *x.strides[dim + 1:], stride * dilation))


@op
def unfold_add(be: Backend, g: Array, *, shape: Any, dim: Any, step: Any, dilation: Any) -> Array:
    """Zeros of `shape` to which each window in g is added at its place: the derivative of unfold."""
    dtype = g.dtype
    if dtype.char in NARROW:  # sums are rounded once
        g = be.cast(g, _FLOAT32)
    out = be.fill("fill", shape, g.dtype, 0)
    reach = (g.shape[dim] - 1) * step + 1
    for k in range(g.shape[-1]):
        part = out[(slice(None),) * dim + (slice(k * dilation, k * dilation + reach, step),)]
        be.run("add", part, part, g[..., k])
    return be.cast(out, dtype)


_unfold.name = "unfold"
_unfold.rules(x=lambda g, shapes, dim, step, dilation: unfold_add(
    g, shape=shapes[0], dim=dim, step=step, dilation=dilation))
unfold_add.rules(g=lambda g, dim, step, dilation, shapes: _unfold(
    g, dim=dim, size=shapes[0][-1], step=step, dilation=dilation))


def unfold_windows(x: Tensor, dim: int, size: int, step: int, dilation: int) -> Tensor:
    """unfold of checked arguments, with the elements of a window `dilation` apart."""
    return _unfold(x, dim=dim, size=size, step=step, dilation=dilation)


def unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` elements along a dimension, one every `step`, the windows' elements as last dimension.

    A view: windows that overlap share elements. Raises ShapeError for a size beyond the dimension's, ArgumentError for
    a negative one or a step that is not positive.

    >>> tl.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    if not x.ndim:  # one window, without a dimension that counts it
        return select(unfold(reshape(x, 1), dimension, size, step), 0, 0)
    dim = normalize_dim("unfold", dimension, x.ndim)
    if size < 0 or step < 1:
        raise ArgumentError(f"unfold: size must be at least 0 and step at least 1, got {size} and {step}")
    if size > x.shape[dim]:
        raise ShapeError(f"unfold: windows of {size} do not fit dimension {dim} of shape {tuple(x.shape)}")
    return unfold_windows(x, dim, size, step, 1)
