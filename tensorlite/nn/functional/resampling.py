"""Planes in other sizes, and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ... import ops
from ...errors import ArgumentError, ShapeError
from ...ops import resample
from ...ops.options import require_floating
from ...tensor import Tensor
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d

_LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}  # mode -> dimensions of its input
_MODES = ("nearest", "nearest-exact", *_LINEAR, "area")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with a border: pad = (left, right) of the last dimension, then of the one before, and so on.

    mode 'constant' puts `value` (0 by default) there, 'reflect' the elements mirrored at the edge, 'replicate' the edge
    itself, 'circular' the elements of the other end. Negative widths cut. Raises ShapeError for widths that do not fit
    the shape, ArgumentError for another mode.

    >>> F.pad(tl.tensor([1, 2, 3]), (2, 1), mode="reflect")
    tensor([3, 2, 1, 2, 3, 2])
    """
    return ops.pad(input, pad, mode, value)


def interpolate(input: Tensor, size: int | Sequence[int] | None = None,
                scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """An input (N, C, L), (N, C, H, W) or (N, C, D, H, W) in another size, or larger by a scale_factor.

    mode 'nearest' takes the element in whose cell the new cell begins, 'nearest-exact' that of its middle; 'linear',
    'bilinear' and 'trilinear', for one number of dimensions each, weight the elements around it; 'area' is
    adaptive_avg_pool1d or 2d. With align_corners, for the linear modes, the corners keep their values. The sizes are
    rounded down; recompute_scale_factor computes the factors anew from them. Raises ArgumentError for other modes and
    arguments that do not fit the mode, ShapeError for inputs that do not, DTypeError for integers.

    >>> F.interpolate(tl.tensor([[[1., 2.]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    >>> F.interpolate(tl.tensor([[[1., 2.]]]), size=4, mode="linear")
    tensor([[[1.0000, 1.2500, 1.7500, 2.0000]]])
    """
    _check(input, mode, align_corners, antialias)
    targets, factors = _targets(input, size, scale_factor, least=0 if mode == "area" else 1)
    if recompute_scale_factor:
        if size is not None:
            raise ArgumentError(f"interpolate: recompute_scale_factor needs scale_factor, not size={size}")
        factors = [None] * len(targets)
    if mode in _LINEAR:
        return resample.linear(input, targets, factors, align_corners is True)
    if mode == "area":
        return adaptive_avg_pool1d(input, targets) if input.ndim == 3 else adaptive_avg_pool2d(input, targets)
    return resample.nearest(input, targets, factors, mode == "nearest-exact")


def _check(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _MODES:
        raise ArgumentError(f"interpolate: unknown mode {mode!r}; use one of {', '.join(map(repr, _MODES))}")
    if antialias or (align_corners is not None and mode not in _LINEAR):
        raise ArgumentError(f"interpolate: mode {mode!r} takes no {'antialias' if antialias else 'align_corners'}")
    require_floating("interpolate", input)
    fits = input.ndim == _LINEAR.get(mode, input.ndim) and 3 <= input.ndim <= (4 if mode == "area" else 5)
    if not fits or 0 in input.shape[1:]:
        raise ShapeError(f"interpolate: mode {mode!r} expects (N, C, ...) of {_LINEAR.get(mode, '3 or more')} "
                         f"dimensions, with elements, got {tuple(input.shape)}")


def _targets(input: Tensor, size: int | Sequence[int] | None,
             scale_factor: float | Sequence[float] | None, least: int) -> tuple[list[int], list[float | None]]:
    """The new sizes of all dimensions behind the second, and the factors where those were given."""
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"interpolate: give either size or scale_factor, got {size} and {scale_factor}")
    sizes = input.shape[2:]
    if size is not None and any(isinstance(s, float) for s in (size if isinstance(size, Sequence) else (size,))):
        raise ArgumentError(f"interpolate: sizes are integers, got {size}; a factor is scale_factor=")
    given = size if scale_factor is None else scale_factor
    listed = list(given) if isinstance(given, Sequence) else [given] * len(sizes)
    if len(listed) != len(sizes):
        raise ArgumentError(f"interpolate: {tuple(input.shape)} needs {len(sizes)} sizes or factors, got {given}")
    factors: list[float | None] = [None] * len(sizes) if scale_factor is None else [float(f or 0) for f in listed]
    targets = [int(t or 0) if f is None else math.floor(n * f) for n, t, f in zip(sizes, listed, factors, strict=True)]
    if min(targets) < least:
        raise ArgumentError(f"interpolate: {tuple(sizes)} would become {tuple(targets)}; sizes must be positive")
    return targets, factors
