"""Negative log-likelihoods of counts and of normally distributed values."""

from __future__ import annotations

import math

from ... import ops
from ...autograd.autocast import autocasts
from ...errors import ShapeError
from ...tensor import Tensor
from .regression import check_same_shape, reduce


@autocasts
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
                     reduction: str = "mean") -> Tensor:
    """eˣ - t·x for the logarithm x of a rate, or x - t·ln(x + eps) for the rate itself, and counts t.

    `full` adds Stirling's t·ln t - t + ½·ln(2πt) where t > 1. Raises ShapeError if the shapes differ.

    >>> F.poisson_nll_loss(tl.tensor([0.0]), tl.tensor([2.0]))
    tensor(1.)
    """
    check_same_shape("poisson_nll_loss", input, target)
    loss = ops.exp(input) - target * input if log_input else input - target * ops.log(input + eps)
    if full:
        counts = ops.where(ops.gt(target, 1), target, 1.0)  # so that the branch not taken is finite
        stirling = counts * ops.log(counts) - counts + 0.5 * ops.log(2 * math.pi * counts)
        loss = loss + ops.where(ops.gt(target, 1), stirling, 0.0)
    return reduce(loss, reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """½·(ln v + (x - t)²/v) for a mean x, a variance v of at least eps, and values t. `full` adds ½·ln 2π.

    var  of the input's shape, with a last dimension of size 1 or without it, or a number

    The gradient of `var` passes where it is raised to eps. Nix and Weigend 1994. Raises ShapeError for other shapes.
    """
    check_same_shape("gaussian_nll_loss", input, target)
    variance = _variance(input, var)
    raised = variance + (ops.clamp(variance.detach(), min=eps) - variance.detach())
    loss = 0.5 * (ops.log(raised) + ops.square(input - target) / raised)
    return reduce(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def _variance(input: Tensor, var: Tensor | float) -> Tensor:
    """The variance in a shape that broadcasts to the input's."""
    if not isinstance(var, Tensor):
        return input.new_full(input.shape, var)
    if var.shape == input.shape or var.shape == (*input.shape[:-1], 1):
        return var
    if input.ndim and var.shape == input.shape[:-1]:
        return var.unsqueeze(-1)
    raise ShapeError(f"gaussian_nll_loss: var has shape {var.shape}; input {input.shape} needs that, or "
                     f"{(*input.shape[:-1], 1)} or {input.shape[:-1]}")
