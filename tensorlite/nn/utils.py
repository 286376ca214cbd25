"""Clipping of gradients, and all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import ops
from ..creation import zeros
from ..errors import ArgumentError, GradError, ShapeError
from ..tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place by min(1, max_norm/(norm + 1e-6)); returns the norm of all *before* that.

    norm_type may be inf for the largest absolute value. Parameters without a gradient are left out. Nothing waits for
    the device unless error_if_nonfinite, which raises GradError for a norm that is inf or NaN, before scaling.

    >>> w = tl.zeros(4, requires_grad=True); w.grad = tl.full((4,), 3.)
    >>> nn.utils.clip_grad_norm_([w], 1.0)
    tensor(6.)
    """
    grads = _grads(parameters)
    if not grads:
        return zeros(())
    total = _total_norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradError(f"clip_grad_norm_: the total norm of order {norm_type} is {total.item()}, so it cannot be "
                        "clipped; look for its cause with tl.autograd.detect_anomaly, or pass error_if_nonfinite=False")
    scale = ops.clamp(max_norm / (total + 1e-6), max=1.0)
    for g in grads:
        g.mul_(scale.to(device=g.device, dtype=g.dtype))
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit each element of each gradient to [-clip_value, clip_value], in place.

    >>> w = tl.zeros(2, requires_grad=True); w.grad = tl.tensor([3., -9.])
    >>> nn.utils.clip_grad_value_([w], 4.0); w.grad
    tensor([ 3., -4.])
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value must not be negative, got {clip_value}")
    for g in _grads(parameters):
        g.clamp_(-float(clip_value), float(clip_value))


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients that exist and have elements, detached: writing them is not recorded."""
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad.detach() for p in listed if p.grad is not None and p.grad.numel()]


def _total_norm(grads: list[Tensor], norm_type: float) -> Tensor:
    """The norm of all gradients as one vector; those of 16 bits are summed in float32."""
    wide = [g.float() if g.dtype.is_narrow else g for g in grads]
    parts = [ops.square(g).sum() if norm_type == 2 else g.norm(norm_type) for g in wide]
    together = ops.stack([part.to(parts[0].device) for part in parts])
    return ops.sqrt(together.sum()) if norm_type == 2 else together.norm(norm_type)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and joined into one vector; differentiable.

    >>> nn.utils.parameters_to_vector(nn.Linear(2, 3).parameters()).shape
    (9,)
    """
    return ops.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy consecutive pieces of a vector into the parameters.

    Raises ShapeError, before anything is written, if its size is not theirs.
    """
    listed = list(parameters)
    total = sum(p.numel() for p in listed)
    if vec.shape != (total,):
        raise ShapeError(f"vector_to_parameters: vec has shape {vec.shape}, the parameters hold {total} elements")
    values, start = vec.detach(), 0
    for p in listed:
        p.detach().copy_(values[start:start + p.numel()].reshape(p.shape))
        start += p.numel()
