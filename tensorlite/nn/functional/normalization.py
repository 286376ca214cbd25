"""Normalisation as functions: layer_norm, batch_norm, normalize."""

from __future__ import annotations

from collections.abc import Sequence

from ... import ops
from ...autograd.autocast import autocasts
from ...errors import ShapeError
from ...tensor import Tensor


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias over the last dimensions, whose sizes are `normalized_shape`.

    The variance is the biased one. Ba et al. 2016. Raises ShapeError if the input does not end in normalized_shape.
    """
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape):] != shape:
        raise ShapeError(f"layer_norm: given normalized_shape={list(shape)}, expected input with shape "
                         f"{['*', *shape]}, but got input of size {list(input.shape)}")
    for name, factor in (("weight", weight), ("bias", bias)):
        if factor is not None and factor.shape != shape:
            raise ShapeError(f"layer_norm: {name} has shape {factor.shape}, expected normalized_shape {shape}")
    return ops.layer_norm(input, weight, bias, normalized_ndim=len(shape), eps=eps)


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float | Tensor = 0.1,
               eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias for each channel (dimension 1), over all other dimensions.

    In training, mean and biased variance are the batch's, and the running ones move towards the batch's mean and
    *unbiased* variance: running = (1-momentum)·running + momentum·batch. Else the running ones are used.
    Ioffe and Szegedy 2015. Raises ShapeError for a batch of one value per channel in training, and for per-channel
    tensors of another size.
    """
    channels = input.shape[1]
    sized = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, tensor in sized.items():
        if tensor is not None and tensor.shape != (channels,):
            raise ShapeError(f"batch_norm: {name} should contain {channels} elements not {tensor.numel()} "
                             f"(input {input.shape} has {channels} channels in dimension 1)")
    x = input.float() if input.dtype.is_narrow else input
    if training or running_mean is None or running_var is None:
        mean, var = _batch_statistics(x, running_mean, running_var, momentum)
    else:
        shape = (channels, *[1] * (x.ndim - 2))
        mean, var = running_mean.reshape(shape), running_var.reshape(shape)
    out = (x - mean) * ops.rsqrt(var + eps)
    for factor, combine in ((weight, ops.mul), (bias, ops.add)):
        if factor is not None:
            out = combine(out, factor.reshape(channels, *[1] * (x.ndim - 2)))
    return out.to(input.dtype)


def _batch_statistics(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                      momentum: float | Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, kept broadcastable; moves the running ones, if given."""
    dims = tuple(i for i in range(x.ndim) if i != 1)
    count = x.numel() // x.shape[1] if x.shape[1] else 0
    if count == 1:
        raise ShapeError(f"Expected more than 1 value per channel when training, got input size {x.shape}; "
                         "use a larger batch, drop_last=True in the DataLoader, or model.eval()")
    mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    for running, batch in ((running_mean, mean.detach()), (running_var, var.detach() * (count / max(count - 1, 1)))):
        if running is not None:
            target = running.detach()
            target.add_((batch.reshape(-1) - target) * momentum)
    return mean, var


@autocasts
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along dim.

    >>> F.normalize(tl.tensor([[3., 4.]]))
    tensor([[0.6000, 0.8000]])
    """
    return input / ops.clamp(input.norm(p, dim, keepdim=True), min=eps)
