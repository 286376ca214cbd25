"""Losses and distances as modules: their settings are attributes, tensors among them are buffers.

A call takes input, target and, by keyword, `sample_weight`, one number per sample by which its loss is multiplied
before the reduction ('mean', 'sum' or 'none'). The functions of the same names say the formulas.
"""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .module import Module


class _Loss(Module):
    """A loss with a reduction."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with a fixed weight, which is a buffer and so moves with the module."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)


class MSELoss(_Loss):
    """(x - t)². Raises ShapeError if the shapes differ.

    >>> nn.MSELoss()(tl.tensor([1., 2.]), tl.tensor([1., 4.]))
    tensor(2.)
    """

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction, sample_weight=sample_weight)


class L1Loss(_Loss):
    """|x - t|. Raises ShapeError if the shapes differ."""

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction, sample_weight=sample_weight)


class SmoothL1Loss(_Loss):
    """½d²/beta where |d| < beta, else |d| - ½beta, with d = x - t. Girshick 2015."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta, sample_weight=sample_weight)


class HuberLoss(_Loss):
    """½d² where |d| <= delta, else delta·(|d| - ½delta), with d = x - t. Huber 1964."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.huber_loss(input, target, self.reduction, self.delta, sample_weight=sample_weight)


class BCELoss(_WeightedLoss):
    """-(t·ln x + (1-t)·ln(1-x)) for probabilities x, each logarithm at least -100."""

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction, sample_weight=sample_weight)


class BCEWithLogitsLoss(_WeightedLoss):
    """-(pos_weight·t·ln σ(x) + (1-t)·ln σ(-x)) for logits x: finite for every finite x."""

    pos_weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean",
                 pos_weight: Tensor | None = None) -> None:
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.weight, reduction=self.reduction,
                                                  pos_weight=self.pos_weight, sample_weight=sample_weight)


class NLLLoss(_WeightedLoss):
    """-x_y for log-probabilities x (N, C, ...) and class ids y (N, ...)."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                          sample_weight=sample_weight)


class CrossEntropyLoss(_WeightedLoss):
    """-ln softmax(x)_y for raw logits x (N, C, ...) and class ids (N, ...) or probabilities of x's shape.

    See nn.functional.cross_entropy for weights, smoothing and what 'mean' divides by.

    >>> nn.CrossEntropyLoss()(tl.zeros(2, 4), tl.tensor([0, 3]))
    tensor(1.3863)
    """

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.cross_entropy(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                               label_smoothing=self.label_smoothing, sample_weight=sample_weight)


class KLDivLoss(_Loss):
    """t·(ln t - x) for log-probabilities x; use reduction='batchmean' for the Kullback-Leibler divergence."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target,
                        sample_weight=sample_weight)


class CosineSimilarity(Module):
    """x₁·x₂ / (max(‖x₁‖, eps)·max(‖x₂‖, eps)) along dim."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """‖x₁ - x₂ + eps‖ₚ over the last dimension."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
