"""Losses that compare two tensors of one shape, and distances between vectors.

Every loss takes `reduction`: 'mean' (over all elements), 'sum' or 'none'; and `sample_weight`, one number per sample
(N,) by which its loss is multiplied before the reduction. 'mean' still divides by the number of elements, so weights
that are all 1 change nothing.
"""

from __future__ import annotations

import math

from ... import ops
from ...autograd.autocast import autocasts
from ...autograd.op import FLOAT, op
from ...backends import Array, Backend
from ...errors import ArgumentError, ShapeError
from ...tensor import Tensor


def check_reduction(reduction: str) -> None:
    """Raise ArgumentError for anything but 'mean', 'sum' and 'none'."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{reduction} is not a valid value for reduction; it is 'mean', 'sum' or 'none'")


def reduce(loss: Tensor, reduction: str, sample_weight: Tensor | None = None) -> Tensor:
    """The loss of each element, weighted by sample, then averaged, summed or left alone."""
    if sample_weight is not None:
        loss = weigh_samples(loss, sample_weight)
    if reduction == "mean":
        return loss.mean()
    check_reduction(reduction)
    return loss if reduction == "none" else loss.sum()


def weigh_samples(loss: Tensor, sample_weight: Tensor) -> Tensor:
    """loss (N, ...) times sample_weight (N,). Raises ShapeError for another shape of the weights."""
    if sample_weight.shape != loss.shape[:1] or not loss.ndim:
        raise ShapeError(f"sample_weight has shape {sample_weight.shape}, expected one weight per sample: "
                         f"{loss.shape[:1]} for losses of shape {loss.shape}")
    return loss * (sample_weight if loss.ndim == 1 else sample_weight.reshape(-1, *[1] * (loss.ndim - 1)))


def check_same_shape(name: str, input: Tensor, target: Tensor) -> None:
    """Raise ShapeError, with the usual cure, where a loss would silently broadcast."""
    if input.shape == target.shape:
        return
    cure = "they must be equal"
    if input.shape == (*target.shape, 1):
        cure = "write target.unsqueeze(1) or input.squeeze(1)" if target.ndim == 1 else "write target.unsqueeze(-1)"
    elif target.shape == (*input.shape, 1):
        cure = "write input.unsqueeze(1) or target.squeeze(1)" if input.ndim == 1 else "write input.unsqueeze(-1)"
    raise ShapeError(f"{name}: input has shape {input.shape} and target {target.shape}, which would broadcast to a "
                     f"wrong loss; {cure}")


@autocasts
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """(x - t)². Raises ShapeError if the shapes differ.

    >>> F.mse_loss(tl.tensor([1., 2.]), tl.tensor([1., 4.]))
    tensor(2.)
    """
    if input.shape != target.shape:
        check_same_shape("mse_loss", input, target)
    return reduce(ops.square(input - target), reduction, sample_weight)


@autocasts
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """|x - t|; the derivative at 0 is 0. Raises ShapeError if the shapes differ."""
    check_same_shape("l1_loss", input, target)
    return reduce(ops.abs(input - target), reduction, sample_weight)


@autocasts
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0,
                   sample_weight: Tensor | None = None) -> Tensor:
    """½d²/beta where |d| < beta, else |d| - ½beta, with d = x - t; beta = 0 gives l1_loss. Girshick 2015.

    Raises ShapeError if the shapes differ, ArgumentError for a negative beta.
    """
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss does not support negative values for beta, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction, sample_weight=sample_weight)
    check_same_shape("smooth_l1_loss", input, target)
    return reduce(_huber(input - target, beta) * (1 / beta), reduction, sample_weight)


@autocasts
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               *, sample_weight: Tensor | None = None) -> Tensor:
    """½d² where |d| <= delta, else delta·(|d| - ½delta), with d = x - t. Huber 1964.

    Raises ShapeError if the shapes differ, ArgumentError for delta <= 0.
    """
    if delta <= 0:
        raise ArgumentError(f"huber_loss does not support non-positive values for delta, got {delta}")
    check_same_shape("huber_loss", input, target)
    return reduce(_huber(input - target, delta), reduction, sample_weight)


def _huber(d: Tensor, delta: float) -> Tensor:
    """c·(d - ½c) with c = d limited to ±delta: both branches at once, and no square to overflow."""
    c = ops.clamp(d, -delta, delta)
    return c * (d - c * 0.5)


@autocasts
def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean",
                         sample_weight: Tensor | None = None) -> Tensor:
    """-(t·ln x + (1-t)·ln(1-x)) for probabilities x, each logarithm at least -100, as in PyTorch.

    `weight` multiplies elements and broadcasts. Prefer binary_cross_entropy_with_logits, which loses no precision.
    NaN for x outside [0, 1]. Raises ShapeError if the shapes differ.

    >>> F.binary_cross_entropy(tl.tensor([0.]), tl.tensor([1.]))
    tensor(100.)
    """
    check_same_shape("binary_cross_entropy", input, target)
    loss: Tensor = _bce(input, target)
    return reduce(loss if weight is None else loss * weight, reduction, sample_weight)


@op(promote=FLOAT)
def _bce(be: Backend, x: Array, t: Array) -> Array:
    positive = be.elementwise("mul", t, _bounded_log(be, x))
    one_minus_t, one_minus_x = be.elementwise("sub", 1, t), be.elementwise("sub", 1, x)
    negative = be.elementwise("mul", one_minus_t, _bounded_log(be, one_minus_x))
    return be.elementwise("neg", be.elementwise("add", positive, negative))


def _bounded_log(be: Backend, x: Array) -> Array:
    return be.elementwise("maximum", be.elementwise("log", x), -100.0)


_bce.name = "binary_cross_entropy"
_bce.rules(  # at saturation finite, where the chain of the logarithms would give 0·inf
    x=lambda g, x, t: g * (x - t) / ops.clamp(x * (1.0 - x), min=1e-12),
    t=lambda g, x: g * (ops.clamp(ops.log(1.0 - x), min=-100.0) - ops.clamp(ops.log(x), min=-100.0)),
)


@autocasts
def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, *,
                                     reduction: str = "mean", pos_weight: Tensor | None = None,
                                     sample_weight: Tensor | None = None) -> Tensor:
    """-(pos_weight·t·ln σ(x) + (1-t)·ln σ(-x)) for logits x: finite for every finite x, exact in both tails.

    `weight` multiplies elements, `pos_weight` the part of the positive class; both broadcast.
    Raises ShapeError if the shapes differ.
    """
    check_same_shape("binary_cross_entropy_with_logits", input, target)
    positive = target * ops.softplus(-input, threshold=math.inf)
    if pos_weight is not None:
        positive = positive * pos_weight
    loss = positive + (1.0 - target) * ops.softplus(input, threshold=math.inf)
    return reduce(loss if weight is None else loss * weight, reduction, sample_weight)


@autocasts
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False,
           sample_weight: Tensor | None = None) -> Tensor:
    """t·(ln t - x), where the input x is a *log*-probability; exp(t)·(t - x) with `log_target`. 0·ln 0 is 0.

    reduction='batchmean' divides the sum by the number of samples, which is the Kullback-Leibler divergence;
    'mean' divides by the number of elements, as in PyTorch, and is not. Raises ShapeError if the shapes differ.
    """
    check_same_shape("kl_div", input, target)
    if log_target:
        loss = ops.exp(target) * (target - input)
    else:
        safe = ops.where(ops.eq(target, 0), 1.0, target)
        loss = target * (ops.log(safe) - input)
    if reduction != "batchmean":
        return reduce(loss, reduction, sample_weight)
    samples = input.shape[0] if input.ndim else 1
    return reduce(loss, "sum", sample_weight) * (1 / samples if samples else math.nan)


@autocasts
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂ / (max(‖x₁‖, eps)·max(‖x₂‖, eps)) along dim; the inputs broadcast.

    >>> F.cosine_similarity(tl.tensor([[1., 0.]]), tl.tensor([[1., 1.]]))
    tensor([0.7071])
    """
    x1, x2 = ops.broadcast_tensors(x1, x2)
    first = x1 / ops.clamp(x1.norm(2, dim, keepdim=True), min=eps)
    second = x2 / ops.clamp(x2.norm(2, dim, keepdim=True), min=eps)
    return (first * second).sum(dim)


@autocasts
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """‖x₁ - x₂ + eps‖ₚ over the last dimension; the inputs broadcast."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
