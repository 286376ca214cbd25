"""Losses that ask for a margin: between vectors that are alike and not, between ranked numbers, between scores.

Targets are 1 and -1, class ids, or ones and zeros for each class; `reduction` is that of regression.py. Where a margin
is just kept, the derivative is that of the side on which it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ... import ops
from ...autograd.autocast import autocasts
from ...creation import arange
from ...dtypes import INTEGER
from ...errors import ArgumentError, DTypeError, ShapeError
from ...tensor import Tensor
from .regression import check_same_shape, pairwise_distance, reduce


@autocasts
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1; x is a distance. Raises ShapeError.

    >>> F.hinge_embedding_loss(tl.tensor([0.5, 0.2]), tl.tensor([1, -1]), reduction="none")
    tensor([0.5000, 0.8000])
    """
    check_same_shape("hinge_embedding_loss", input, target)
    apart = ops.where(ops.ne(target, 1), _above_zero(margin - input), 0.0)
    return reduce(apart + ops.where(ops.ne(target, -1), input, 0.0), reduction)


@autocasts
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *,
                          reduction: str = "mean") -> Tensor:
    """1 - cos(x₁, x₂) where the target is 1, max(0, cos(x₁, x₂) - margin) where it is -1.

    input1, input2  (N, D), or (D,) with a target of no dimension
    target          (N,)

    Raises ShapeError for other shapes.
    """
    if input1.shape != input2.shape or input1.ndim not in (1, 2) or target.shape != input1.shape[:-1]:
        raise ShapeError(f"cosine_embedding_loss: expected inputs (N, D) and a target (N,), or (D,) and (), got inputs "
                         f"{input1.shape} and {input2.shape}, target {target.shape}")
    squares = (ops.square(input1).sum(-1) + 1e-12) * (ops.square(input2).sum(-1) + 1e-12)
    cosine = (input1 * input2).sum(-1) / ops.sqrt(squares)
    alike = ops.where(ops.eq(target, 1), 1.0 - cosine, 0.0)
    return reduce(alike + ops.where(ops.eq(target, -1), _above_zero(cosine - margin), 0.0), reduction)


@autocasts
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *,
                        reduction: str = "mean") -> Tensor:
    """max(0, -t·(x₁ - x₂) + margin): t = 1 says that x₁ ranks higher, t = -1 that x₂ does. Raises ShapeError."""
    check_same_shape("margin_ranking_loss", input1, input2)
    check_same_shape("margin_ranking_loss", input1, target)
    return reduce(_above_zero(margin - target * (input1 - input2)), reduction)


@autocasts
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean") -> Tensor:
    """max(0, d(a, p) - d(a, n) + margin) of vectors (N, D) or (D,), with d = pairwise_distance of order p.

    `swap` takes d(p, n) in place of d(a, n) where it is smaller. Balntas et al. 2016. Raises ShapeError.
    """
    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Tensor:
    """triplet_margin_loss with a distance of one's own; pairwise_distance unless given."""
    distance = pairwise_distance if distance_function is None else distance_function
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(name: str, anchor: Tensor, positive: Tensor, negative: Tensor,
             distance: Callable[[Tensor, Tensor], Tensor], margin: float, swap: bool, reduction: str) -> Tensor:
    check_same_shape(name, anchor, positive)
    check_same_shape(name, anchor, negative)
    apart = distance(anchor, negative)
    if swap:
        apart = ops.minimum(apart, distance(positive, negative))
    return reduce(_above_zero(distance(anchor, positive) - apart + margin), reduction)


@autocasts
def soft_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """ln(1 + exp(-t·x)) for t = 1 or -1; finite for every finite x. Raises ShapeError if the shapes differ."""
    check_same_shape("soft_margin_loss", input, target)
    return reduce(ops.softplus(-target * input, threshold=math.inf), reduction)


@autocasts
def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, *,
                      reduction: str = "mean") -> Tensor:
    """Σ_{j≠y} max(0, margin - x_y + x_j)ᵖ·w_y / C for scores x (N, C) and class ids y (N,), or (C,) and ().

    Raises ShapeError for other shapes, DTypeError for ids that are no integers, ArgumentError for p other than 1 and 2,
    and OutOfRangeError for an id outside [0, C).
    """
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    if input.ndim not in (1, 2) or target.shape != input.shape[:-1]:
        raise ShapeError("multi_margin_loss: expected scores (N, C) and ids (N,), or (C,) and (), got "
                         f"{input.shape} and {target.shape}")
    if target.dtype.category != INTEGER:
        raise DTypeError(f"multi_margin_loss: class ids must be integers, got {target.dtype.name}; use .long()")
    classes = input.shape[-1]
    ids = target.long().unsqueeze(-1)
    losses = ops.relu(input - ops.gather(input, -1, ids) + margin)  # unlike the others': the derivative at 0 is 0
    if p == 2:
        losses = ops.square(losses)
    losses = ops.where(ops.eq(arange(classes, device=input.device), ids), 0.0, losses).sum(-1) * (1 / classes)
    if weight is not None:
        losses = losses * weight[target.long()]
    return reduce(losses, reduction)


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *,
                                reduction: str = "mean") -> Tensor:
    """-(t·ln σ(x) + (1-t)·ln σ(-x)), times a weight (C,), averaged over the classes: the last dimension.

    input, target (N, C): logits, and ones where the class applies. Raises ShapeError if the shapes differ.
    """
    check_same_shape("multilabel_soft_margin_loss", input, target)
    losses = -(target * ops.logsigmoid(input) + (1.0 - target) * ops.logsigmoid(-input))
    return reduce((losses if weight is None else losses * weight).mean(-1), reduction)


def _above_zero(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 1."""
    return ops.clamp(x, min=0.0)
