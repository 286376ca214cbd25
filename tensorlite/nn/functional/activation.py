"""Activations as functions. Most are core operations under PyTorch's signatures; the rest are composed of them.

Subgradients at kinks are PyTorch's: 0 at 0 for relu, at both corners for hardtanh, relu6 and hardsigmoid; the left
branch's slope for leaky_relu, prelu and elu. All are finite where the exact result is.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import ops
from ...autograd.autocast import autocasts
from ...dtypes import DType
from ...errors import ArgumentError, ShapeError
from ...inplace import change
from ...tensor import Tensor

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _apply(function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool) -> Tensor:
    """function(input), written over input if `inplace`."""
    return change(input, function) if inplace else function(input)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); the derivative at 0 is 0.

    >>> F.relu(tl.tensor([-1., 2.]))
    tensor([0., 2.])
    """
    return change(input, ops.relu) if inplace else ops.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6); the derivative at 0 and at 6 is 0."""
    return hardtanh(input, 0, 6, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope·x; the derivative at 0 is negative_slope."""
    return _apply(lambda x: ops.leaky_relu(x, negative_slope=negative_slope), input, inplace)


@autocasts
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight·x. weight has 1 value, or one per channel (dimension 1 of the input).

    He et al. 2015. Raises ShapeError for another number of weights.
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.numel() not in (1, channels):
        raise ShapeError(f"prelu: weight has shape {weight.shape}; input {input.shape} needs 1 or {channels} values")
    if weight.numel() != 1:
        weight = weight.reshape(channels, *[1] * (input.ndim - 2))
    positive = ops.gt(input, 0)
    negative = ops.where(positive, 0, input)  # so that an infinite input has no part in the derivative of the weight
    return ops.where(positive, input, weight * negative)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(eˣ-1). Clevert et al. 2016."""
    return _apply(lambda x: ops.elu(x, alpha=alpha), input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(exp(x/alpha)-1). Barron 2017. Raises ArgumentError for alpha = 0."""
    if alpha == 0:
        raise ArgumentError("celu: alpha must not be 0")
    return _apply(lambda x: ops.elu(x * (1 / alpha)) * alpha, input, inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507·(x where x > 0, else 1.6733·(eˣ-1)). Klambauer et al. 2017."""
    return _apply(lambda x: ops.elu(x, alpha=_SELU_ALPHA) * _SELU_SCALE, input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), Φ the normal distribution; approximate='tanh' is the common formula with tanh.

    Hendrycks and Gimpel 2016. Raises ArgumentError for another value of approximate.
    """
    return ops.gelu(input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·σ(x), also called swish. Elfwing et al. 2018."""
    return _apply(ops.silu, input, inplace)


@autocasts
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x)). Misra 2019."""
    return _apply(lambda x: x * ops.tanh(ops.softplus(x)), input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1/(1+e⁻ˣ)."""
    return ops.sigmoid(input)


@autocasts
def logsigmoid(input: Tensor) -> Tensor:
    """ln σ(x), finite for every finite x."""
    return ops.logsigmoid(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x/6 + ½, 0), 1); the derivative at the corners is 0."""
    return _apply(lambda x: hardtanh(x + 3.0, 0.0, 6.0) * (1 / 6), input, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; the derivative at the corners is 0.

    Raises ArgumentError if min_val > max_val.
    """
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val must not be greater than max_val, got {min_val} and {max_val}")

    def limited(x: Tensor) -> Tensor:
        outside = ops.logical_or(ops.le(x, min_val), ops.ge(x, max_val))
        return ops.where(outside, ops.clamp(x.detach(), min_val, max_val), x)

    return _apply(limited, input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·min(max(x+3, 0), 6)/6. Howard et al. 2019."""
    return _apply(lambda x: x * (hardtanh(x + 3.0, 0.0, 6.0) * (1 / 6)), input, inplace)


def tanh(input: Tensor) -> Tensor:
    """tanh x."""
    return ops.tanh(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh x."""
    return input - ops.tanh(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1+exp(beta·x))/beta, and x itself where beta·x > threshold. Raises ArgumentError for beta = 0."""
    if beta == 0:
        raise ArgumentError("softplus: beta must not be 0")
    return ops.softplus(input, beta=beta, threshold=threshold)


def softsign(input: Tensor) -> Tensor:
    """x/(1+|x|). Bergstra et al. 2009."""
    return ops.softsign(input)


def softmax(input: Tensor, dim: int | None = None, *, dtype: DType | None = None) -> Tensor:
    """exp(x)/Σexp(x) along dim, which must be given; computed in `dtype` if that is given.

    Raises ArgumentError without dim: which dimension is meant cannot be guessed.

    >>> F.softmax(tl.tensor([0., 0.]), dim=0)
    tensor([0.5000, 0.5000])
    """
    dim = _required("softmax", dim)
    return ops.softmax(input if dtype is None else input.to(dtype), dim)


def softmin(input: Tensor, dim: int | None = None, *, dtype: DType | None = None) -> Tensor:
    """softmax(-x) along dim, which must be given."""
    dim = _required("softmin", dim)
    return ops.softmax(-(input if dtype is None else input.to(dtype)), dim)


def log_softmax(input: Tensor, dim: int | None = None, *, dtype: DType | None = None) -> Tensor:
    """x - ln Σexp(x) along dim, which must be given; finite where softmax underflows."""
    dim = _required("log_softmax", dim)
    return ops.log_softmax(input if dtype is None else input.to(dtype), dim)


def _required(name: str, dim: int | None) -> int:
    if dim is None:
        raise ArgumentError(f"{name}: dim is required; write {name}(x, dim=-1) for the last dimension")
    return dim
