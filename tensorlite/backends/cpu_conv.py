"""Convolutions of the CPU: forward, and the derivatives in the input and in the weight.

Contract: that of `cpu`. x is (N, C, H, W), weight (K, C/groups, R, S), the result (N, K, P, Q); stride, padding and
dilation are pairs. The windows that the weight meets lie in x as a strided view, (N, C, R, S, P, Q). The matrix that
BLAS multiplies is a copy of it and R·S times as large as x: it is made for as many images at a time as a cache holds.
A 1x1 convolution needs no copy, and one that sees a single channel at a time no matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import Array

Pair = tuple[int, ...]

_CACHED: Final = 1 << 18  # elements: 1 MB of float32, what a second-level cache holds


class _Windows(NamedTuple):
    """Which elements of x the weight meets for each element of the result."""

    size: Pair  # P, Q
    kernel: Pair  # R, S
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def extent(self) -> Pair:
        """The size of what all windows cover together, `padding` before x's first element included."""
        return tuple([(p - 1) * s + (r - 1) * d + 1 if p and r else 0 for p, r, s, d in
                      zip(self.size, self.kernel, self.stride, self.dilation, strict=True)])

    @property
    def are_elements(self) -> bool:
        """Whether each window is the one element of x at its place."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    def surrounded(self, x: Array) -> Array:
        """What the windows cover of x, with zeros beyond its edges: a view where there are none."""
        height, width = self.extent
        if self.padding == (0, 0) and height <= x.shape[2] and width <= x.shape[3]:
            return x[:, :, :height, :width]
        covered = np.zeros((*x.shape[:2], height, width), x.dtype)
        inner, inside = self.overlap(covered, x)
        inner[...] = inside
        return covered

    def overlap(self, covered: Array, x: Array) -> tuple[Array, Array]:
        """The elements that a covered area and x share, as views of both."""
        (top, left), (height, width) = self.padding, covered.shape[2:]
        inside = x[:, :, :max(height - top, 0), :max(width - left, 0)]
        return covered[:, :, top:top + inside.shape[2], left:left + inside.shape[3]], inside

    def of(self, covered: Array) -> Array:
        """The windows in a covered area: a view (N, C, R, S, P, Q)."""
        images, channels, down, along = covered.strides
        (s, t), (d, e) = self.stride, self.dilation
        return as_strided(covered, (*covered.shape[:2], *self.kernel, *self.size),
                          (images, channels, down * d, along * e, down * s, along * t))

    def parts(self, images: int, channels: int) -> Iterator[slice]:
        """Stretches of images whose matrix of windows fits the cache."""
        elements = channels * self.size[0] * self.size[1] * self.kernel[0] * self.kernel[1]
        step = max(1, _CACHED // max(elements, 1))
        for first in range(0, images, step):
            yield slice(first, first + step)

    def positions(self) -> Iterator[tuple[int, int]]:
        """The positions (r, s) in the kernel."""
        return iter(np.ndindex(self.kernel))


def conv2d(out: Array, x: Array, weight: Array, bias: Array | None, *, stride: Pair, padding: Pair, dilation: Pair,
           groups: int) -> None:
    windows = _Windows(out.shape[2:], weight.shape[2:], stride, padding, dilation)
    if not (x.size and weight.size):
        out.fill(0)
    elif out.size:
        filters = _by_group(weight, groups)
        for part in windows.parts(*x.shape[:2]):
            met = windows.of(windows.surrounded(x[part]))
            result = out[part].reshape(len(met), groups, -1, *windows.size)
            if _sees_one_channel(weight, groups):
                result.fill(0)
                for r, s in windows.positions():
                    result += filters[:, :, 0, r, s, None, None] * met[:, :, None, r, s]
            else:
                np.matmul(filters.reshape(*filters.shape[:2], -1), _matrices(met, groups),
                          out=result.reshape(*result.shape[:3], -1))
    if bias is not None:
        np.add(out, bias[:, None, None], out)


def conv2d_input_grad(out: Array, g: Array, weight: Array, bias: Array | None, *, stride: Pair, padding: Pair,
                      dilation: Pair, groups: int) -> None:
    windows = _Windows(g.shape[2:], weight.shape[2:], stride, padding, dilation)
    if not (g.size and weight.size):
        out.fill(0)
    elif windows.are_elements and g.shape[2:] == out.shape[2:]:
        filters = weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2)
        np.matmul(filters, g.reshape(len(g), groups, filters.shape[2], -1),
                  out=out.reshape(len(out), groups, filters.shape[1], -1))
    else:
        for part in windows.parts(*out.shape[:2]):
            covered = np.zeros((*out[part].shape[:2], *windows.extent), out.dtype)
            _add_to_windows(windows.of(covered), g[part], _by_group(weight, groups))
            out[part] = 0
            inner, inside = windows.overlap(covered, out[part])
            inside[...] = inner
    if bias is not None:
        np.add(out, bias[:, None, None], out)


def conv2d_weight_grad(out: Array, g: Array, x: Array, *, stride: Pair, padding: Pair, dilation: Pair,
                       groups: int) -> None:
    windows = _Windows(g.shape[2:], out.shape[2:], stride, padding, dilation)
    out.fill(0)
    if not (g.size and x.size and out.size):
        return
    total = _by_group(out, groups)
    for part in windows.parts(*x.shape[:2]):
        met = windows.of(windows.surrounded(x[part]))
        slopes = g[part].reshape(len(met), groups, -1, *windows.size)
        if _sees_one_channel(out, groups):
            for r, s in windows.positions():
                total[:, :, 0, r, s] += np.einsum("ngkpq,ngpq->gk", slopes, met[:, :, r, s])
        else:
            rows = np.moveaxis(slopes, 0, 2).reshape(groups, slopes.shape[2], -1)
            columns = np.moveaxis(met, 0, 3).reshape(groups, -1, rows.shape[2])
            total += np.matmul(rows, columns.swapaxes(1, 2)).reshape(total.shape)


def _add_to_windows(met: Array, g: Array, filters: Array) -> None:
    """Add to each window the filters, each times its element of g."""
    groups, count, channels = filters.shape[:3]
    slopes = g.reshape(len(g), groups, count, *g.shape[2:])
    if groups > 1 and channels == 1:
        for k in range(count):
            for r, s in np.ndindex(*met.shape[2:4]):
                met[:, :, r, s] += slopes[:, :, k] * filters[:, k, 0, r, s, None, None]
        return
    columns = np.matmul(filters.reshape(groups, count, -1).swapaxes(1, 2), slopes.reshape(*slopes.shape[:3], -1))
    columns = columns.reshape(met.shape)
    for r, s in np.ndindex(*met.shape[2:4]):
        met[:, :, r, s] += columns[:, :, r, s]


def _sees_one_channel(weight: Array, groups: int) -> bool:
    """Whether each filter reads one channel of several: a sum of a few scaled images needs no matrix."""
    return groups > 1 and weight.shape[1] == 1


def _by_group(weight: Array, groups: int) -> Array:
    """(groups, K/groups, C/groups, R, S); a view of a dense weight."""
    return weight.reshape(groups, len(weight) // groups, *weight.shape[1:])


def _matrices(met: Array, groups: int) -> Array:
    """Windows (N, C, R, S, P, Q) as matrices (N, groups, C/groups·R·S, P·Q)."""
    return met.reshape(len(met), groups, -1, met.shape[4] * met.shape[5])


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel for kernel in (conv2d, conv2d_input_grad, conv2d_weight_grad)
}
