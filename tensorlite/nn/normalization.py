"""Normalising layers: over rows, over channels of a batch or of each sample, and between neighbouring channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from ..creation import ones, tensor, zeros
from ..dtypes import DType, int64
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


def _as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """The sizes of which one may be given as a number, be it NumPy's."""
    return tuple(shape) if isinstance(shape, Iterable) else (shape,)


class LayerNorm(Module):
    """(x - mean)/√(var + eps)·weight + bias over the last dimensions, whose sizes are normalized_shape. Ba et al. 2016.

    weight starts as 1 and bias as 0; the variance is the biased one.

    >>> nn.LayerNorm(2)(tl.tensor([[1., 3.]]))
    tensor([[-1.0000,  1.0000]], grad_fn=<LayerNormBackward0>)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device: Any = None, dtype: DType | None = None) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        _register_affine(self, self.normalized_shape, elementwise_affine, bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        _reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class RMSNorm(Module):
    """x/√(mean(x²) + eps)·weight over the last dimensions, whose sizes are normalized_shape. Zhang and Sennrich 2019.

    weight starts as 1; eps None means the machine precision of what is computed in.

    >>> nn.RMSNorm(2)(tl.tensor([[1., 7.]]))
    tensor([[0.2000, 1.4000]], grad_fn=<RmsNormBackward0>)
    """

    weight: Parameter | None

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None,
                 elementwise_affine: bool = True, device: Any = None, dtype: DType | None = None) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = Parameter(ones(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def reset_parameters(self) -> None:
        """Set weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """(x - mean)/√(var + eps)·weight + bias, over groups of channels of each sample: input (N, C, ...).

    A group is num_channels/num_groups neighbouring channels with all that lies behind them; weight (C,) starts as 1 and
    bias (C,) as 0. Wu and He 2018. Raises ArgumentError where num_groups does not divide num_channels.

    >>> nn.GroupNorm(2, 4)(tl.tensor([[1., 3., 5., 9.]]))
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]], grad_fn=<BatchNormBackward0>)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
                 dtype: DType | None = None, *, bias: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: num_channels ({num_channels}) must be divisible by num_groups "
                                f"({num_groups})")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        _register_affine(self, num_channels, affine, bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        _reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")


def _register_affine(module: Module, shape: int | tuple[int, ...], affine: bool, bias: bool, **options: Any) -> None:
    """Give a module its weight of ones and bias of zeros, or None for them."""
    module.register_parameter("weight", Parameter(ones(shape, **options)) if affine else None)
    module.register_parameter("bias", Parameter(zeros(shape, **options)) if affine and bias else None)


def _reset_affine(module: LayerNorm | GroupNorm | _TrackingNorm) -> None:
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)


class _TrackingNorm(Module):
    """What BatchNorm and InstanceNorm share: weight and bias per channel, and running statistics."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def _build(self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
               bias: bool, **options: Any) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = tracked = track_running_stats
        _register_affine(self, num_features, affine, bias, **options)
        self.register_buffer("running_mean", zeros(num_features, **options) if tracked else None)
        self.register_buffer("running_var", ones(num_features, **options) if tracked else None)
        count = tensor(0, dtype=int64, device=options["device"]) if tracked else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the batches seen: mean 0, variance 1, count 0."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                init.constant_(buffer, value)

    def reset_parameters(self) -> None:
        """Set weight to 1, bias to 0, and forget the batches seen."""
        self.reset_running_stats()
        _reset_affine(self)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


# --- over the batch ---------------------------------------------------------------------------------------------------


class _BatchNorm(_TrackingNorm):
    """BatchNorm for inputs of `_ndims` dimensions."""

    _ndims: ClassVar[tuple[int, ...]]

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: DType | None = None, *,
                 bias: bool = True) -> None:
        super().__init__()
        self._build(num_features, eps, momentum, affine, track_running_stats, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self._ndims:
            expected = " or ".join(f"{n}D" for n in self._ndims)
            raise ShapeError(f"{type(self).__name__}: expected {expected} input (got {input.ndim}D input), channels in "
                             "dimension 1")
        own = self.training or self.running_mean is None or self.running_var is None
        tracks = own and self.training and self.track_running_stats
        running = (self.running_mean, self.running_var) if tracks or not own else (None, None)
        count = self.num_batches_tracked if tracks else None
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.momentum is None and count is not None:
            momentum = (count.double() + 1).reciprocal()
        out = F.batch_norm(input, *running, self.weight, self.bias, own, momentum, self.eps)
        if count is not None:
            count.add_(1)
        return out


class BatchNorm1d(_BatchNorm):
    """(x - mean)/√(var + eps)·weight + bias per channel: input (N, C) or (N, C, L). Ioffe and Szegedy 2015.

    In training, the batch's mean and biased variance; buffers running_mean and running_var move towards its mean and
    unbiased variance by `momentum` (None: the average of all batches so far). In eval mode those are used.
    Without track_running_stats the batch's are used always. Raises ShapeError for one value per channel in training.

    >>> layer = nn.BatchNorm1d(1)
    >>> _ = layer(tl.tensor([[1.], [3.]]))
    >>> layer.running_mean, layer.running_var
    (tensor([0.2000]), tensor([1.1000]))
    """

    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """BatchNorm1d for images: input (N, C, H, W), statistics per channel over N, H and W.

    >>> nn.BatchNorm2d(1)(tl.tensor([[[[1., 3.]]]]))
    tensor([[[[-1.0000,  1.0000]]]], grad_fn=<BatchNormBackward0>)
    """

    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """BatchNorm1d for volumes: input (N, C, D, H, W), statistics per channel over all dimensions but C.

    >>> nn.BatchNorm3d(2)(tl.zeros(1, 2, 1, 2, 2)).shape
    (1, 2, 1, 2, 2)
    """

    _ndims = (5,)


# --- over each sample -------------------------------------------------------------------------------------------------


class _InstanceNorm(_TrackingNorm):
    """InstanceNorm for inputs of `_ndim` dimensions, or of one less without a batch."""

    _ndim: ClassVar[int]

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: DType | None = None, *,
                 bias: bool = True) -> None:
        super().__init__()
        self._build(num_features, eps, momentum, affine, track_running_stats, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (self._ndim, self._ndim - 1):
            raise ShapeError(f"{type(self).__name__}: expected {self._ndim - 1}D or {self._ndim}D input (got "
                             f"{input.ndim}D input), channels in dimension -{self._ndim - 1}")
        batch = input if input.ndim == self._ndim else input.unsqueeze(0)
        if batch.shape[1] != self.num_features and not self.affine:
            warnings.warn(f"{type(self).__name__}({self.num_features}) got {batch.shape[1]} channels, input "
                          f"{input.shape}: num_features is not used with affine=False", stacklevel=2)
        out = F.instance_norm(batch, self.running_mean, self.running_var, self.weight, self.bias,
                              self.training or not self.track_running_stats,
                              0.0 if self.momentum is None else self.momentum, self.eps)
        return out if batch is input else out.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """(x - mean)/√(var + eps)·weight + bias per sample and channel: input (N, C, L) or (C, L). Ulyanov et al. 2016.

    weight and bias are there with `affine` only. With track_running_stats, buffers running_mean and running_var move
    towards the samples' mean statistics by `momentum`, and are used in eval mode. Raises ShapeError for L = 1.

    >>> nn.InstanceNorm1d(2)(tl.tensor([[[1., 3.], [2., 2.]]]))
    tensor([[[-1.0000,  1.0000],
             [ 0.0000,  0.0000]]])
    """

    _ndim = 3


class InstanceNorm2d(_InstanceNorm):
    """InstanceNorm1d for images: input (N, C, H, W) or (C, H, W).

    >>> nn.InstanceNorm2d(2)(tl.zeros(1, 2, 3, 3)).shape
    (1, 2, 3, 3)
    """

    _ndim = 4


class InstanceNorm3d(_InstanceNorm):
    """InstanceNorm1d for volumes: input (N, C, D, H, W) or (C, D, H, W).

    >>> nn.InstanceNorm3d(2)(tl.zeros(2, 2, 2, 2)).shape
    (2, 2, 2, 2)
    """

    _ndim = 5


# --- between neighbouring channels ------------------------------------------------------------------------------------


class LocalResponseNorm(Module):
    """x / (k + alpha·mean of x² over `size` neighbouring channels)^beta: input (N, C, ...). Krizhevsky et al. 2012.

    >>> nn.LocalResponseNorm(2)
    LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
