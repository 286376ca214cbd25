"""Activations that cut off, shrink or gate, and a softmax that samples. Subgradients at the corners are PyTorch's."""

from __future__ import annotations

from ... import ops
from ...backends import dimension
from ...creation import zeros_like
from ...errors import ArgumentError, ShapeError
from ...inplace import change
from ...sampling import rand_like
from ...tensor import Tensor


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value; the derivative at the threshold is 0.

    >>> F.threshold(tl.tensor([1.0, 2.0, 3.0]), 2.0, 0.0)
    tensor([0., 0., 3.])
    """
    def cut(x: Tensor) -> Tensor:
        return ops.where(ops.le(x, threshold), value, x).to(x.dtype)

    return change(input, cut) if inplace else cut(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return ops.where(ops.le(ops.abs(input), lambd), 0.0, input).to(input.dtype)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd above lambd, x + lambd below -lambd, else 0. Raises ArgumentError for a negative lambd.

    >>> F.softshrink(tl.tensor([-2.0, 0.3, 1.0]))
    tensor([-1.5000,  0.0000,  0.5000])
    """
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd must not be negative, got {lambd}")
    return input - ops.clamp(input, -lambd, lambd)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a·σ(b) for the two halves a and b of the input along dim. Dauphin et al. 2017.

    Raises ShapeError for a tensor without dimensions, or one of odd size along dim.
    """
    if not input.ndim or input.shape[dimension("glu", dim, input.shape)] % 2:
        raise ShapeError(f"glu: the size along dimension {dim} must be even, got shape {input.shape}")
    first, second = ops.chunk(input, 2, dim)
    return first * ops.sigmoid(second)


def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """x where x > 0, else r·x: in training with r from [lower, upper) for each element, else their mean.

    Xu et al. 2015. Raises ArgumentError unless lower <= upper.
    """
    if not lower <= upper:
        raise ArgumentError(f"rrelu: lower must not be greater than upper, got {lower} and {upper}")

    def leak(x: Tensor) -> Tensor:
        if not training:
            return ops.leaky_relu(x, negative_slope=(lower + upper) / 2)
        slopes = rand_like(x) * (upper - lower) + lower
        return x * ops.where(ops.le(x.detach(), 0), slopes, 1.0)

    return change(input, leak) if inplace else leak(input)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((x + g)/tau) along dim, with g from Gumbel's distribution: a draw that has a gradient.

    With `hard` one-hot, with the gradient of the soft draw. `eps` is unused, as in PyTorch. Jang et al. 2017.
    """
    noise = -ops.log(zeros_like(logits.detach()).exponential_())
    soft: Tensor = ops.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    one_hot = ops.scatter(zeros_like(soft.detach()), dim, soft.detach().argmax(dim, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft
