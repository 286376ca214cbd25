"""Clipping of gradients, and all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ... import dtypes, inplace, ops
from ...autograd.tape import wrap
from ...backends import Backend
from ...creation import zeros
from ...dtypes import DType
from ...errors import ArgumentError, GradError, ShapeError
from ...tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place by min(1, max_norm/(norm + 1e-6)); returns the norm of all *before* that.

    norm_type may be inf for the largest absolute value. Parameters without a gradient are left out. Nothing waits for
    the device unless error_if_nonfinite, which raises GradError for a norm that is inf or NaN, before scaling.

    >>> w = tl.zeros(4, requires_grad=True); w.grad = tl.full((4,), 3.)
    >>> nn.utils.clip_grad_norm_([w], 1.0)
    tensor(6.)
    """
    grads = _grads(parameters, ops.mul)
    if not grads:
        return zeros(())
    total, factor = _norm_and_factor(grads, norm_type, max_norm)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradError(f"clip_grad_norm_: the total norm of order {norm_type} is {total.item()}, so it cannot be "
                        "clipped; look for its cause with tl.autograd.detect_anomaly, or pass error_if_nonfinite=False")
    for (backend, dtype), listed in _together(grads).items():
        change_all("many_scale", listed, factor.to(device=backend.device, dtype=_wide(dtype)).array)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit each element of each gradient to [-clip_value, clip_value], in place.

    >>> w = tl.zeros(2, requires_grad=True); w.grad = tl.tensor([3., -9.])
    >>> nn.utils.clip_grad_value_([w], 4.0); w.grad
    tensor([ 3., -4.])
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value must not be negative, got {clip_value}")
    change_all("many_clamp", _grads(parameters, ops.clamp), -float(clip_value), float(clip_value))


def change_all(kernel: str, tensors: Iterable[Tensor], *args: Any) -> None:
    """Change tensors in place by a kernel over many; those of one device and dtype in one go. Nothing is recorded."""
    for (backend, _), listed in _together(tensors).items():
        for tensor in listed:
            tensor._bump()
        backend.run(kernel, tuple([tensor.array for tensor in listed]), *args)


def _grads(parameters: Tensor | Iterable[Tensor], function: Any) -> list[Tensor]:
    """The gradients that exist and have elements. Raises GradError where `function` cannot change one in place."""
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [grad for p in listed if (grad := p.grad) is not None and grad.numel()]
    for grad in grads:
        inplace.check_writable(grad, function)
    return grads


def _together(tensors: Iterable[Tensor]) -> dict[tuple[Backend, Any], list[Tensor]]:
    """Tensors by device and NumPy dtype."""
    found: dict[tuple[Backend, Any], list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault((tensor.backend, tensor.array.dtype), []).append(tensor)
    return found


def _wide(dtype: Any) -> DType:
    """The dtype in which elements of a NumPy dtype are computed."""
    return dtypes.from_numpy(dtype).wide


def _norm_and_factor(grads: list[Tensor], order: float, max_norm: float) -> tuple[Tensor, Tensor]:
    """The norm of all gradients as one vector, and min(1, max_norm/(norm + 1e-6)), both on the first one's device."""
    (backend, dtype), *others = _together(grads)
    if not others and order in (2, math.inf):
        wide = _wide(dtype).numpy
        total, factor = backend.empty((), wide), backend.empty((), wide)
        arrays = tuple([g.array for g in grads])
        backend.run("many_norm", (total, factor), arrays, order=order, max_norm=float(max_norm))
        return wrap(total, backend), wrap(factor, backend)
    wide_grads = [g.detach().to(_wide(g.array.dtype)) for g in grads]
    norms = [g.norm(order).to(grads[0].device) for g in wide_grads]
    norm = ops.stack(norms).norm(order)
    return norm, ops.clamp(max_norm / (norm + 1e-6), max=1.0)


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
