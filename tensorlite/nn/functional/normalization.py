"""Normalisation as functions: over rows, over channels, and of vectors to unit length."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ... import ops
from ...autograd.autocast import autocasts
from ...errors import ArgumentError, ShapeError
from ...ops.options import require_floating
from ...tensor import Tensor


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias over the last dimensions, whose sizes are `normalized_shape`.

    The variance is the biased one. Ba et al. 2016. Raises ShapeError if the input does not end in normalized_shape.

    >>> F.layer_norm(tl.tensor([[1., 3.]]), [2])
    tensor([[-1.0000,  1.0000]])
    """
    shape = _normalized_shape("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return ops.layer_norm(input, weight, bias, normalized_ndim=len(shape), eps=eps)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """x/√(mean(x²) + eps)·weight over the last dimensions, whose sizes are `normalized_shape`.

    eps None means the machine precision of float32, of float64 for float64. Zhang and Sennrich 2019. Raises ShapeError
    if the input does not end in normalized_shape.

    >>> F.rms_norm(tl.tensor([[1., 7.]]), [2])
    tensor([[0.2000, 1.4000]])
    """
    shape = _normalized_shape("rms_norm", input, normalized_shape, weight=weight)
    return ops.rms_norm(input, weight, normalized_ndim=len(shape), eps=eps)


def _normalized_shape(name: str, input: Tensor, normalized_shape: Sequence[int],
                      **parts: Tensor | None) -> tuple[int, ...]:
    """The shape of a row. Raises ShapeError where input, weight or bias does not fit it."""
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape):] != shape:
        raise ShapeError(f"{name}: given normalized_shape={list(shape)}, expected input with shape "
                         f"{['*', *shape]}, but got input of size {list(input.shape)}")
    for part, factor in parts.items():
        if factor is not None and factor.shape != shape:
            raise ShapeError(f"{name}: {part} has shape {factor.shape}, expected normalized_shape {shape}")
    return shape


# --- over channels ----------------------------------------------------------------------------------------------------


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float | Tensor = 0.1,
               eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias for each channel (dimension 1), over all other dimensions.

    In training, mean and biased variance are the batch's, and the running ones, if given, move towards the batch's mean
    and *unbiased* variance: running = (1-momentum)·running + momentum·batch. Else the running ones are used.
    Ioffe and Szegedy 2015. Raises ShapeError for a batch of one value per channel in training, and for per-channel
    tensors of another size; ArgumentError where running statistics are missing.

    >>> F.batch_norm(tl.tensor([[1.], [3.]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    channels = _channels("batch_norm", input)
    _require_sizes("batch_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not training:
        if running_mean is None or running_var is None:
            missing = "running_mean" if running_mean is None else "running_var"
            raise ArgumentError(f"batch_norm: {missing} must be defined in evaluation mode; pass both running "
                                "statistics, or training=True to use the batch's")
        return ops.batch_norm(input, weight, bias, running_mean, running_var, eps=eps)
    count = input.numel() // channels if channels else 0
    if count == 1:
        raise ShapeError(f"Expected more than 1 value per channel when training, got input size {input.shape}; "
                         "use a larger batch, drop_last=True in the DataLoader, or model.eval()")
    mean, var = ops.moments(input)
    _track("batch_norm", running_mean, running_var, mean, var, momentum, count)
    return ops.batch_norm(input, weight, bias, mean, var, eps=eps, training=True)


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias for each channel of each sample, over the dimensions from 2 on.

    The running statistics, if given, move towards the means of the samples' ones, as those of `batch_norm` do; without
    use_input_stats they are used. Ulyanov et al. 2016. Raises ShapeError for one value per channel of a sample.

    >>> F.instance_norm(tl.tensor([[[1., 3.], [2., 6.]]]))
    tensor([[[-1.0000,  1.0000],
             [-1.0000,  1.0000]]])
    """
    channels = _channels("instance_norm", input)
    _require_sizes("instance_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ArgumentError("instance_norm: expected running_mean and running_var to be defined when "
                                "use_input_stats is false")
        return ops.batch_norm(input, weight, bias, running_mean, running_var, eps=eps)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ShapeError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    mean, var = ops.moments(input, channels)
    _track("instance_norm", running_mean, running_var, mean, var, momentum, count)
    return ops.batch_norm(input, weight, bias, mean, var, eps=eps, training=True)


@autocasts
def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias, with mean and biased variance of each group of channels of each sample.

    A group is C/num_groups neighbouring channels (dimension 1) with all that lies behind them; weight and bias have one
    value per channel. Wu and He 2018. Raises ShapeError where num_groups does not divide the channels.

    >>> F.group_norm(tl.tensor([[1., 3., 5., 5.]]), 2)
    tensor([[-1.0000,  1.0000,  0.0000,  0.0000]])
    """
    channels = _channels("group_norm", input)
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(f"group_norm: expected number of channels in input to be divisible by num_groups, but got "
                         f"input of shape {list(input.shape)} and num_groups={num_groups}")
    _require_sizes("group_norm", input, weight=weight, bias=bias)
    if input.numel() == num_groups and input.shape[0] == 1:
        raise ShapeError(f"Expected more than 1 value per channel when training, got input size {input.shape} and "
                         f"num_groups={num_groups}")
    return ops.group_norm(input, num_groups, weight, bias, eps=eps)


def _channels(name: str, input: Tensor) -> int:
    """How many channels a checked input has. Raises DTypeError for integers, ShapeError for too few dimensions."""
    require_floating(name, input)
    if input.ndim < 2:
        raise ShapeError(f"{name}: expected at least 2 dimensions for input tensor but received {input.ndim}")
    return input.shape[1]


def _require_sizes(name: str, input: Tensor, **parts: Tensor | None) -> None:
    """Raise ShapeError for a per-channel tensor of another size."""
    channels = input.shape[1]
    for part, tensor in parts.items():
        if tensor is not None and tensor.shape != (channels,):
            raise ShapeError(f"{name}: {part} should contain {channels} elements not {tensor.numel()} "
                             f"(input {input.shape} has {channels} channels in dimension 1)")


def _track(name: str, running_mean: Tensor | None, running_var: Tensor | None, mean: Tensor, var: Tensor,
           momentum: float | Tensor, count: int) -> None:
    """Move the running statistics, if there are any and a batch to move them towards."""
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(f"{name}: running_mean and running_var must either both be None or neither be None")
    if running_mean is not None and running_var is not None and count and mean.numel():
        ops.track_moments(running_mean, running_var, mean, var, momentum, count=count)


@autocasts
def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha·mean of x² over `size` neighbouring channels)^beta, with zeros beyond the first and last channel.

    Krizhevsky et al. 2012. Input (N, C, ...). Raises ShapeError for fewer than 3 dimensions, ArgumentError
    for a size below 1.

    >>> F.local_response_norm(tl.ones(1, 2, 1), 2, alpha=2.0, beta=1.0)
    tensor([[[0.5000],
             [0.3333]]])
    """
    if size < 1:
        raise ArgumentError(f"local_response_norm: size must be at least 1, got {size}")
    if input.ndim < 3:
        raise ShapeError(f"local_response_norm: expected 3D or higher dimensionality input (got {input.ndim} "
                         "dimensions)")
    channels, before = input.shape[1], size // 2
    squares = ops.pad(input.square(), (*(0, 0) * (input.ndim - 2), before, size - 1 - before))
    total = squares[:, :channels]
    for first in range(1, size):
        total = total + squares[:, first:first + channels]
    return input / (total * (alpha / size) + k).pow(beta)


# --- vectors ----------------------------------------------------------------------------------------------------------


@autocasts
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along dim.

    >>> F.normalize(tl.tensor([[3., 4.]]))
    tensor([[0.6000, 0.8000]])
    """
    return input / ops.clamp(input.norm(p, dim, keepdim=True), min=eps)
