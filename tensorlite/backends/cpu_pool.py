"""Pooling on the CPU: the largest or the mean of each window of the planes (..., H, W), and the derivatives.

Contract: that of `cpu`. Arrays have four dimensions, the last two are a plane; window (p, q) of a plane begins at
(p, q)·stride - padding, and `out` says how many windows there are. What lies outside the plane takes no part.

Loops run over the offsets in a window, never over pixels: at one offset the elements of all windows are a strided view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from . import Array

Pair = tuple[int, int]
Key = tuple[Any, ...]


def _reach(windows: int, size: int, offset: int, stride: int) -> tuple[slice, slice]:
    """The windows that meet a dimension of `size` at an offset from their beginning, and where they meet it."""
    first = max(-(offset // stride), 0)
    last = min((size - 1 - offset) // stride, windows - 1)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)


def _offsets(windows: Array, plane: Array, kernel_size: Pair, stride: Pair, padding: Pair,
             dilation: Pair) -> Iterator[tuple[Key, Key]]:
    """Per offset in a window, row by row: an index to the windows that hold an element there, and to those elements."""
    reaches = [[_reach(windows.shape[d], plane.shape[d], i * dilation[d] - padding[d], stride[d])
                for i in range(kernel_size[d])] for d in (-2, -1)]
    for rows, from_rows in reaches[0]:
        for columns, from_columns in reaches[1]:
            yield (..., rows, columns), (..., from_rows, from_columns)


# --- the largest ------------------------------------------------------------------------------------------------------


def _largest(best: Array, x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """Fill `best` with the largest of each window; returns the number of its offset, -1 where there is none.

    Of equals the first one wins, and NaN, the last one, over all.
    """
    best.fill(-np.inf)
    number = np.full(best.shape, -1, np.int32)
    for offset, (windows, elements) in enumerate(_offsets(best, x, kernel_size, stride, padding, dilation)):
        candidates, so_far, chosen = x[elements], best[windows], number[windows]
        wins = (candidates > so_far) | (candidates != candidates) | (chosen < 0)
        np.copyto(so_far, candidates, where=wins)
        np.copyto(chosen, offset, where=wins)
    return number


def max_pool2d(out: Array, x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
    out.fill(-np.inf)
    for windows, elements in _offsets(out, x, kernel_size, stride, padding, dilation):
        np.maximum(out[windows], x[elements], out=out[windows])


def max_pool2d_grad(out: Array, g: Array, x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair,
                    dilation: Pair) -> None:
    """out: g of each window at the window's largest element, summed where windows overlap, else 0."""
    number = _largest(np.empty(g.shape, x.dtype), x, kernel_size, stride, padding, dilation)
    out.fill(0)
    for offset, (windows, elements) in enumerate(_offsets(g, x, kernel_size, stride, padding, dilation)):
        np.add(out[elements], g[windows], out=out[elements], where=number[windows] == offset)


def max_pool2d_pick(out: Array, v: Array, x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair,
                    dilation: Pair) -> None:
    """out: for each window v where x is largest; 0 for a window without elements."""
    number = _largest(np.empty(out.shape, x.dtype), x, kernel_size, stride, padding, dilation)
    out.fill(0)
    for offset, (windows, elements) in enumerate(_offsets(out, x, kernel_size, stride, padding, dilation)):
        np.copyto(out[windows], v[elements], where=number[windows] == offset)


def max_pool2d_indices(out: Array, x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair,
                       dilation: Pair) -> None:
    """out: where in its plane, counted row by row, each window is largest; -1 for a window without elements."""
    positions = np.arange(x.shape[-2] * x.shape[-1]).reshape(1, 1, *x.shape[-2:])
    number = _largest(np.empty(out.shape, x.dtype), x, kernel_size, stride, padding, dilation)
    out.fill(-1)
    for offset, (windows, elements) in enumerate(_offsets(out, x, kernel_size, stride, padding, dilation)):
        np.copyto(out[windows], positions[elements], where=number[windows] == offset)


# --- the mean ---------------------------------------------------------------------------------------------------------


def _lengths(windows: int, size: int, kernel_size: int, stride: int, padding: int, count_include_pad: bool) -> Array:
    """How many elements each window has along a dimension: of the plane, or of the plane and its padding."""
    starts = np.arange(windows) * stride - padding
    margin = padding if count_include_pad else 0
    return np.minimum(starts + kernel_size, size + margin) - np.maximum(starts, -margin)


def _divisors(windows: Array, plane: Array, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool,
              divisor_override: int | None) -> Array:
    """What the sum of each window is divided by, (P, Q) or a number."""
    if divisor_override is not None:
        return windows.dtype.type(divisor_override)
    rows, columns = [_lengths(windows.shape[d], plane.shape[d], kernel_size[d], stride[d], padding[d],
                              count_include_pad) for d in (-2, -1)]
    return np.maximum(rows[:, None] * columns, 1).astype(windows.dtype)


def avg_pool2d(out: Array, x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool,
               divisor_override: int | None) -> None:
    out.fill(0)
    for windows, elements in _offsets(out, x, kernel_size, stride, padding, (1, 1)):
        np.add(out[windows], x[elements], out=out[windows])
    divisors = _divisors(out, x, kernel_size, stride, padding, count_include_pad, divisor_override)
    np.divide(out, divisors, out)


def avg_pool2d_grad(out: Array, g: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool,
                    divisor_override: int | None) -> None:
    """out: the sum over the windows around each element of g divided by what the window's sum was divided by."""
    shares = g / _divisors(g, out, kernel_size, stride, padding, count_include_pad, divisor_override)
    out.fill(0)
    for windows, elements in _offsets(g, out, kernel_size, stride, padding, (1, 1)):
        np.add(out[elements], shares[windows], out=out[elements])


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel
    for kernel in (max_pool2d, max_pool2d_grad, max_pool2d_pick, max_pool2d_indices, avg_pool2d, avg_pool2d_grad)
}
