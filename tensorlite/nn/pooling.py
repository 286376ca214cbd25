"""Pooling layers: the largest or the mean of windows, of given sizes or of a given number."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from . import functional as F
from .module import Module

Sizes = int | Sequence[int]
Targets = int | None | Sequence[int | None]


class _MaxPool(Module):
    """What MaxPool1d and MaxPool2d share: their options."""

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
                 return_indices: bool = False, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The largest element of each window along the last dimension: input (N, C, L) or (C, L).

    With return_indices also where it was. Arguments and errors as F.max_pool2d has them.

    >>> nn.MaxPool1d(2)(tl.tensor([[1., 3., 2., 0.]]))
    tensor([[3., 2.]])
    """

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool1d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                            self.return_indices)


class MaxPool2d(_MaxPool):
    """The largest element of each window of the planes of an input (N, C, H, W) or (C, H, W).

    With return_indices also where in its plane it was. Arguments and errors as F.max_pool2d has them.

    >>> nn.MaxPool2d(2)(tl.tensor([[[1., 2.], [3., 4.]]]))
    tensor([[[4.]]])
    """

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                            self.return_indices)


class MaxUnpool2d(Module):
    """Planes of zeros with each element of the input where a MaxPool2d with return_indices found it.

    >>> pooled, indices = nn.MaxPool2d(2, return_indices=True)(tl.tensor([[[1., 2.], [4., 3.]]]))
    >>> nn.MaxUnpool2d(2)(pooled, indices)
    tensor([[[0., 0.],
             [4., 0.]]])
    """

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _single(size: Sizes) -> Sizes:
    """A size as a tuple, as PyTorch shows it for AvgPool1d."""
    return size if isinstance(size, Sequence) else (size,)


class AvgPool1d(Module):
    """The mean of each window along the last dimension: input (N, C, L) or (C, L), padded with zeros.

    The padding counts as elements unless count_include_pad is False.

    >>> nn.AvgPool1d(2)(tl.tensor([[1., 3., 2., 0.]]))
    tensor([[2., 1.]])
    """

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        self.kernel_size = _single(kernel_size)
        self.stride = self.kernel_size if stride is None else _single(stride)
        self.padding = _single(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                            self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window of the planes of an input (N, C, H, W) or (C, H, W), padded with zeros.

    The padding counts as elements unless count_include_pad is False; divisor_override is divided by instead of the
    number of elements.

    >>> nn.AvgPool2d(2)(tl.tensor([[[1., 2.], [3., 4.]]]))
    tensor([[[2.5000]]])
    """

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                            self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptivePool(Module):
    """What layers with a given number of results share."""

    def __init__(self, output_size: Targets) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of windows that make output_size of them along the last dimension: input (N, C, L) or (C, L).

    >>> nn.AdaptiveAvgPool1d(2)(tl.tensor([[1., 2., 3.]]))
    tensor([[1.5000, 2.5000]])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of windows that make output_size = (P, Q) of them of each plane; None keeps a size.

    Input (N, C, H, W) or (C, H, W). Window p holds the rows from floor(p·H/P) to ceil((p+1)·H/P).

    >>> nn.AdaptiveAvgPool2d(1)(tl.tensor([[[1., 2.], [3., 4.]]]))
    tensor([[[2.5000]]])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: Targets, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of the windows of AdaptiveAvgPool1d; with return_indices also where they were.

    >>> nn.AdaptiveMaxPool1d(2)(tl.tensor([[1., 2., 3.]]))
    tensor([[2., 3.]])
    """

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of the windows of AdaptiveAvgPool2d; with return_indices also where they were.

    >>> nn.AdaptiveMaxPool2d(1)(tl.tensor([[[1., 2.], [3., 4.]]]))
    tensor([[[4.]]])
    """

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)
