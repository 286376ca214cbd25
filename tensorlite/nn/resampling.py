"""Layers that change how large planes are: upsampling, padding, windows as columns, channels that become pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..tensor import Tensor
from . import functional as F
from .module import Module

Sizes = int | Sequence[int]


class Upsample(Module):
    """An input (N, C, ...) in another size, or larger by a scale_factor; modes and errors are those of F.interpolate.

    >>> nn.Upsample(scale_factor=2)(tl.tensor([[[1., 2.]]]))
    tensor([[[1., 1., 2., 2.]]])
    """

    def __init__(self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None,
                 mode: str = "nearest", align_corners: bool | None = None,
                 recompute_scale_factor: bool | None = None) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = tuple(map(float, scale_factor)) if isinstance(scale_factor, Sequence) else (
            float(scale_factor) if scale_factor else None)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners,
                             self.recompute_scale_factor)

    def extra_repr(self) -> str:
        what = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample of an input (N, C, H, W) by the nearest element.

    >>> nn.UpsamplingNearest2d(scale_factor=2)(tl.tensor([[[[1., 2.]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """

    def __init__(self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Upsample of an input (N, C, H, W) by means of the elements around, so that the corners keep their values.

    >>> nn.UpsamplingBilinear2d(size=(1, 3))(tl.tensor([[[[1., 2.]]]]))
    tensor([[[[1.0000, 1.5000, 2.0000]]]])
    """

    def __init__(self, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


# --- padding ----------------------------------------------------------------------------------------------------------


class _Pad(Module):
    """What padding layers share: the widths, one for all sides or (left, right), (left, right, top, bottom), ...;
    negative ones cut."""

    mode: str
    ndim: int

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, Iterable) else (padding,) * (2 * self.ndim)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """A border of `value` around the last dimension.

    >>> nn.ConstantPad1d(1, 7.)(tl.tensor([[1., 2.]]))
    tensor([[7., 1., 2., 7.]])
    """

    mode, ndim = "constant", 1

    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """A border of `value` around the last two dimensions.

    >>> nn.ConstantPad2d((1, 0, 0, 1), 7.)(tl.tensor([[[1., 2.]]]))
    tensor([[[7., 1., 2.],
             [7., 7., 7.]]])
    """

    ndim = 2


class ZeroPad1d(_Pad):
    """A border of zeros around the last dimension.

    >>> nn.ZeroPad1d((2, 1))(tl.tensor([[1., 2.]]))
    tensor([[0., 0., 1., 2., 0.]])
    """

    mode, ndim = "constant", 1


class ZeroPad2d(_Pad):
    """A border of zeros around the last two dimensions.

    >>> nn.ZeroPad2d((1, 0, 0, 1))(tl.tensor([[[1., 2.]]]))
    tensor([[[0., 1., 2.],
             [0., 0., 0.]]])
    """

    mode, ndim = "constant", 2


class ReflectionPad1d(_Pad):
    """A border of the elements mirrored at the edges of the last dimension.

    >>> nn.ReflectionPad1d(2)(tl.tensor([[1., 2., 3.]]))
    tensor([[3., 2., 1., 2., 3., 2., 1.]])
    """

    mode, ndim = "reflect", 1


class ReflectionPad2d(_Pad):
    """A border of the elements mirrored at the edges of the last two dimensions.

    >>> nn.ReflectionPad2d((1, 0, 0, 0))(tl.tensor([[[1., 2.]]]))
    tensor([[[2., 1., 2.]]])
    """

    mode, ndim = "reflect", 2


class ReplicationPad1d(_Pad):
    """A border of the edges of the last dimension.

    >>> nn.ReplicationPad1d(2)(tl.tensor([[1., 2.]]))
    tensor([[1., 1., 1., 2., 2., 2.]])
    """

    mode, ndim = "replicate", 1


class ReplicationPad2d(_Pad):
    """A border of the edges of the last two dimensions.

    >>> nn.ReplicationPad2d((0, 1, 1, 0))(tl.tensor([[[1., 2.]]]))
    tensor([[[1., 2., 2.],
             [1., 2., 2.]]])
    """

    mode, ndim = "replicate", 2


class CircularPad1d(_Pad):
    """A border of the elements at the other end of the last dimension.

    >>> nn.CircularPad1d(1)(tl.tensor([[1., 2., 3.]]))
    tensor([[3., 1., 2., 3., 1.]])
    """

    mode, ndim = "circular", 1


class CircularPad2d(_Pad):
    """A border of the elements at the other ends of the last two dimensions.

    >>> nn.CircularPad2d((1, 1, 0, 0))(tl.tensor([[[1., 2., 3.]]]))
    tensor([[[3., 1., 2., 3., 1.]]])
    """

    mode, ndim = "circular", 2


# --- windows and pixels -----------------------------------------------------------------------------------------------


class Unfold(Module):
    """The windows of zero-padded planes (N, C, H, W) as columns: (N, C·rows·columns of a window, windows).

    >>> nn.Unfold((1, 2))(tl.tensor([[[1., 2., 3.]]]))
    tensor([[1., 2.],
            [2., 3.]])
    """

    def __init__(self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
                f"stride={self.stride}")


class Fold(Module):
    """Planes (N, C, *output_size) to which the columns that Unfold makes are added at their windows' places.

    >>> nn.Fold((1, 3), (1, 2))(tl.tensor([[1., 2.], [2., 3.]]))
    tensor([[[1., 4., 3.]]])
    """

    def __init__(self, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0,
                 stride: Sizes = 1) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
                f"padding={self.padding}, stride={self.stride}")


class PixelShuffle(Module):
    """(..., C·r², H, W) as (..., C, r·H, r·W): r² channels become r x r pixels. Shi et al. 2016.

    >>> nn.PixelShuffle(2)(tl.zeros(1, 8, 3, 3)).shape
    (1, 2, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(..., C, r·H, r·W) as (..., C·r², H, W): what PixelShuffle undoes.

    >>> nn.PixelUnshuffle(2)(tl.zeros(1, 2, 6, 6)).shape
    (1, 8, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """(N, C, ...) with channel k of each of the `groups` side by side. Zhang et al. 2018.

    >>> nn.ChannelShuffle(2)(tl.arange(4).reshape(1, 4, 1)).flatten()
    tensor([0, 2, 1, 3])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
