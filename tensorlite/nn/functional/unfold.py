"""Windows as columns of a matrix and back, and channels that become pixels: elements move, nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ... import ops
from ...errors import ArgumentError, ShapeError
from ...ops.options import pair
from ...ops.pool import count_of_windows
from ...ops.unfold import unfold_windows
from ...ops.wide import widened
from ...tensor import Tensor

Sizes = int | Sequence[int]


def unfold(input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Tensor:
    """The windows of the zero-padded planes of an input (N, C, H, W) as columns: (N, C·elements of a window, windows).

    Without N for an input (C, H, W). Raises ShapeError for another number of dimensions and where no window fits.

    >>> F.unfold(tl.tensor([[[1., 2., 3.]]]), (1, 2))
    tensor([[1., 2.],
            [2., 3.]])
    """
    if input.ndim not in (3, 4):
        raise ShapeError(f"unfold: expected an input (N, C, H, W) or (C, H, W), got {tuple(input.shape)}")
    geometry = _Geometry("unfold", input.shape[-2:], kernel_size, dilation, padding, stride)
    top, side = geometry.padding
    x = ops.pad(input, (side, side, top, top)) if top or side else input
    for dim in (-2, -1):  # (..., C, P, Q, rows, columns of a window)
        x = unfold_windows(x, input.ndim + dim, geometry.kernel_size[dim], geometry.stride[dim], geometry.dilation[dim])
    return x.movedim((-2, -1), (-4, -3)).flatten(-2).flatten(-4, -2)


def fold(input: Tensor, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0,
         stride: Sizes = 1) -> Tensor:
    """Planes (N, C, *output_size) to which the columns of unfold are added at their windows' places.

    Without N for an input of two dimensions. Raises ShapeError for an input that unfold does not make of such planes.

    >>> F.fold(tl.tensor([[1., 2.], [2., 3.]]), (1, 3), (1, 2))
    tensor([[[1., 4., 3.]]])
    """
    plane = pair("fold", "output_size", output_size)
    geometry = _Geometry("fold", plane, kernel_size, dilation, padding, stride)
    (rows, columns), (p, q) = geometry.kernel_size, geometry.windows
    if input.ndim not in (2, 3) or input.shape[-2] % (rows * columns) or input.shape[-1] != p * q:
        raise ShapeError(f"fold: expected (N, C·{rows * columns}, {p * q}), or without N, for planes of {plane}, "
                         f"got {tuple(input.shape)}")
    x: Tensor = widened(input)  # so that what both dimensions add up is rounded once
    x = x.unflatten(-1, (p, q)).unflatten(-3, (-1, rows, columns)).movedim((-4, -3), (-2, -1))
    for dim, size in ((-1, plane[1]), (-2, plane[0])):
        padded = size + 2 * geometry.padding[dim]
        at = x.ndim - 3
        shape = (*x.shape[:at], padded, *x.shape[at + 1:-1])
        x = ops.unfold_add(x, shape=shape, dim=at, step=geometry.stride[dim], dilation=geometry.dilation[dim])
    top, side = geometry.padding
    return (x.narrow(-2, top, plane[0]).narrow(-1, side, plane[1]) if top or side else x).to(input.dtype)


class _Geometry:
    """Checked sizes of windows in a plane, (rows, columns) each."""

    def __init__(self, name: str, plane: Sequence[int], kernel_size: Sizes, dilation: Sizes, padding: Sizes,
                 stride: Sizes) -> None:
        self.kernel_size, self.dilation = pair(name, "kernel_size", kernel_size), pair(name, "dilation", dilation)
        self.padding, self.stride = pair(name, "padding", padding, 0), pair(name, "stride", stride)
        self.windows = [count_of_windows(n, (k - 1) * d + 1, s, p) for n, k, d, s, p in zip(
            plane, self.kernel_size, self.dilation, self.stride, self.padding, strict=True)]
        if min(self.windows) < 1:
            raise ShapeError(f"{name}: windows of {self.kernel_size} with dilation {self.dilation} do not fit planes "
                             f"of {tuple(plane)} with padding {self.padding}")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C·r², H, W) as (..., C, r·H, r·W): r² channels become r x r pixels. Shi et al. 2016.

    Raises ShapeError where r² does not divide the channels, ArgumentError for a factor that is not positive.

    >>> F.pixel_shuffle(tl.arange(4).reshape(4, 1, 1), 2)
    tensor([[[0, 1],
             [2, 3]]])
    """
    r = _factor("pixel_shuffle", input, upscale_factor)
    if input.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: {r}² does not divide the {input.shape[-3]} channels of {tuple(input.shape)}")
    x = input.unflatten(-3, (input.shape[-3] // (r * r), r, r))
    return x.movedim((-4, -3), (-3, -1)).flatten(-2).flatten(-3, -2)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, r·H, r·W) as (..., C·r², H, W): what pixel_shuffle undoes.

    >>> F.pixel_unshuffle(tl.arange(4).reshape(1, 2, 2), 2).flatten()
    tensor([0, 1, 2, 3])
    """
    r = _factor("pixel_unshuffle", input, downscale_factor)
    height, width = input.shape[-2:]
    if height % r or width % r:
        raise ShapeError(f"pixel_unshuffle: {r} does not divide the planes of {tuple(input.shape)}")
    x = input.unflatten(-1, (width // r, r)).unflatten(-3, (height // r, r))
    return x.movedim((-3, -1), (-4, -3)).flatten(-5, -3)


def _factor(name: str, input: Tensor, factor: int) -> int:
    if input.ndim < 3:
        raise ShapeError(f"{name}: expected an input (..., C, H, W), got {tuple(input.shape)}")
    if factor < 1:
        raise ArgumentError(f"{name}: the factor must be positive, got {factor}")
    return factor


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, ...) with channel k of each of the `groups` side by side: (0, 2, 1, 3) for 4 in 2. Zhang et al. 2018.

    Raises ShapeError where the groups do not divide the channels or there are fewer than three dimensions.

    >>> F.channel_shuffle(tl.arange(4).reshape(1, 4, 1), 2).flatten()
    tensor([0, 2, 1, 3])
    """
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise ShapeError(f"channel_shuffle: {groups} groups do not divide the channels of {tuple(input.shape)}; "
                         "expected (N, C, ...) of at least three dimensions")
    return input.unflatten(1, (groups, input.shape[1] // groups)).transpose(1, 2).flatten(1, 2)
