"""Convolutions as layers: Conv1d, Conv2d, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from .. import ops
from ..creation import empty
from ..dtypes import DType
from ..errors import ArgumentError, ShapeError
from ..ops.options import Size, sizes
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

_PADDING_MODES: Final = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What convolutions share: their options, and the parameters drawn from U(±1/√fan_in)."""

    NDIM: int
    weight: Parameter
    bias: Parameter | None
    output_padding: tuple[int, ...]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, padding: Size | str,
                 dilation: Size, groups: int, bias: bool, padding_mode: str, device: Any, dtype: DType | None) -> None:
        super().__init__()
        name, ndim = type(self).__name__, self.NDIM
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(f"{name}: groups must be positive and divide in_channels and out_channels, got "
                                f"groups={groups}, in_channels={in_channels}, out_channels={out_channels}")
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(f"{name}: padding_mode must be one of {_PADDING_MODES}, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes(name, "kernel_size", kernel_size, ndim, 1)
        self.stride = sizes(name, "stride", stride, ndim, 1)
        self.padding = padding if isinstance(padding, str) else sizes(name, "padding", padding, ndim, 0)
        self.dilation = sizes(name, "dilation", dilation, ndim, 1)
        self.groups = groups
        self.padding_mode = padding_mode
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(f"{name}: padding must be 'same', 'valid', an integer or a tuple, got {padding!r}")
        if padding == "same" and max(self.stride) > 1:
            raise ArgumentError(f"{name}: padding='same' needs stride 1, got {self.stride}")
        shape = self._weight_shape()
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw the parameters anew from U(±1/√fan_in), fan_in = weight.shape[1]·(elements of the kernel)."""
        fan_in = math.prod(self.weight.shape[1:])
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        ndim = self.NDIM
        described = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        output_padding = getattr(self, "output_padding", (0,) * ndim)
        for name, value, usual in (("padding", self.padding, (0,) * ndim), ("dilation", self.dilation, (1,) * ndim),
                                   ("output_padding", output_padding, (0,) * ndim), ("groups", self.groups, 1),
                                   ("bias", self.bias is not None, True), ("padding_mode", self.padding_mode, "zeros")):
            if value != usual:
                described.append(f"{name}={value}")
        return ", ".join(described)


class _Convolution(_Conv):
    """A convolution whose input is padded, by zeros in the operation itself, by its own values beforehand."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
                 padding: Size | str = 0, dilation: Size = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        padding: Size | str = self.padding
        if self.padding_mode != "zeros":
            input, padding = ops.pad(input, self._widths(), mode=self.padding_mode), 0
        convolve = F.conv1d if self.NDIM == 1 else F.conv2d
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _widths(self) -> list[int]:
        """The padding as `pad` takes it: before and behind, the last dimension first."""
        widths: list[int] = []
        for axis in reversed(range(self.NDIM)):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                widths += [total // 2, total - total // 2]
            else:
                widths += [self.padding[axis]] * 2
        return widths


class Conv2d(_Convolution):
    """A convolution over images: input (N, in_channels, H, W) or (in_channels, H, W), see F.conv2d.

    The result has H' = (H + 2·padding - dilation·(kernel_size - 1) - 1) // stride + 1, and W' alike. padding_mode
    'reflect', 'replicate' or 'circular' pads with the input's own values. Parameters weight (out_channels,
    in_channels/groups, *kernel_size) and bias (out_channels,), both drawn from U(±1/√fan_in).

    >>> nn.Conv2d(1, 6, kernel_size=5, padding=2)(tl.zeros(8, 1, 28, 28)).shape
    (8, 6, 28, 28)
    """

    NDIM = 2


class Conv1d(_Convolution):
    """A convolution over signals: input (N, in_channels, L) or (in_channels, L), else as Conv2d.

    >>> nn.Conv1d(4, 8, 3, stride=2)(tl.zeros(2, 4, 9)).shape
    (2, 8, 4)
    """

    NDIM = 1


class _ConvTranspose(_Conv):
    """A transposed convolution, whose result can have any of the sizes that the convolution brings to its input's."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None) -> None:
        if padding_mode != "zeros":
            raise ArgumentError(f"{type(self).__name__}: padding_mode must be 'zeros', got {padding_mode!r}")
        if isinstance(padding, str):
            raise ArgumentError(f"{type(self).__name__}: padding must be an integer or a tuple, got {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         device, dtype)
        self.output_padding = sizes(type(self).__name__, "output_padding", output_padding, self.NDIM, 0)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """The result has `output_size`, if given (with or without the first two sizes), else as output_padding says."""
        output_padding = self.output_padding if output_size is None else self._missing(input, tuple(output_size))
        spread = F.conv_transpose1d if self.NDIM == 1 else F.conv_transpose2d
        padding: Any = self.padding
        return spread(input, self.weight, self.bias, self.stride, padding, output_padding, self.groups, self.dilation)

    def _missing(self, input: Tensor, output_size: tuple[int, ...]) -> tuple[int, ...]:
        """The output_padding that leads to a size."""
        ndim = self.NDIM
        wanted = output_size[-ndim:]
        padding: Any = self.padding
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in zip(
            input.shape[-ndim:], self.stride, padding, self.dilation, self.kernel_size, strict=True))
        missing = tuple(w - n for w, n in zip(wanted, least, strict=False))
        if len(output_size) not in (ndim, input.ndim) or any(
                not 0 <= m < s for m, s in zip(missing, self.stride, strict=True)):
            most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
            raise ShapeError(f"{type(self).__name__}: output_size {output_size} is not one of {least} to {most}, "
                             f"the sizes possible for input {tuple(input.shape)}")
        return missing


class ConvTranspose2d(_ConvTranspose):
    """A transposed convolution over images: input (N, in_channels, H, W) or without N, see F.conv_transpose2d.

    The result has H' = (H - 1)·stride - 2·padding + dilation·(kernel_size - 1) + output_padding + 1, and W' alike.
    Parameters weight (in_channels, out_channels/groups, *kernel_size) and bias (out_channels,), both drawn from
    U(±1/√fan_in) with fan_in = weight.shape[1]·(elements of the kernel).

    >>> nn.ConvTranspose2d(8, 4, 2, stride=2)(tl.zeros(1, 8, 7, 7)).shape
    (1, 4, 14, 14)
    """

    NDIM = 2


class ConvTranspose1d(_ConvTranspose):
    """A transposed convolution over signals: input (N, in_channels, L) or (in_channels, L), else as ConvTranspose2d.

    >>> nn.ConvTranspose1d(4, 2, 3, stride=2)(tl.zeros(1, 4, 5)).shape
    (1, 2, 11)
    """

    NDIM = 1
