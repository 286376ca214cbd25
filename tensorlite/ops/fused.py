"""Fused primitives of training: one kernel where a composition would make several passes, with equal results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..autograd.op import op
from ..autograd.tape import Var
from ..backends import Array, Backend
from ..errors import DTypeError, ShapeError
from .elementwise import mul, sub
from .matmul import _matmul, require_same_dtype
from .movement import _permute, full_like, unsqueeze
from .reduce import _sum, mean, softmax, sum
from .wide import widened

if TYPE_CHECKING:
    from ..tensor import Tensor


@op
def _linear(be: Backend, x: Array, weight: Array, bias: Array) -> Array:
    return be.fill("linear", (*x.shape[:-1], weight.shape[0]), x.dtype, x, weight, bias)


@op
def _matmul_tn(be: Backend, x: Array, y: Array) -> Array:
    """xᵀy of two matrices."""
    return be.matmul(x.T, y)


_matmul_tn.rules(x=lambda g, y: _matmul(y, _permute(g, dims=(1, 0))), y=lambda g, x: _matmul(x, g))


def _linear_weight(g: Any, x: Any) -> Any:
    if g.ndim != 2:
        g, x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    return _matmul_tn(g, x)


_linear.name = "linear"
_linear.rules(
    x=lambda g, weight: _matmul(g, weight),
    weight=lambda g, x: _linear_weight(g, x),
    bias=lambda g: _sum(g, dims=tuple(range(g.ndim - 1)), keepdim=False),
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (..., in), W (out, in), b (out,). Raises ShapeError or DTypeError naming both operands."""
    if not isinstance(x, Var):
        raise DTypeError(f"linear: expected a Tensor, got {type(x).__name__}; wrap it in tl.tensor(...)")
    if x.array.dtype is not weight.array.dtype:
        require_same_dtype("linear", x, weight)
    if weight.array.ndim != 2 or x.array.ndim == 0 or x.array.shape[-1] != weight.array.shape[1]:
        raise ShapeError(f"linear expects last dim {weight.shape[-1]}, got {x.shape[-1] if x.ndim else 'a 0-d tensor'} "
                         f"(input {tuple(x.shape)}, weight {tuple(weight.shape)})")
    if bias is not None and bias.array.shape != weight.array.shape[:1]:
        raise ShapeError(f"linear: bias has shape {tuple(bias.shape)}, expected {tuple(weight.shape[:1])}")
    if x.array.ndim == 1:  # the rules multiply matrices
        return _linear(unsqueeze(x, 0), weight, bias).squeeze(0)
    return _linear(x, weight, bias)


@op
def _cross_entropy(be: Backend, logits: Array, target: Array) -> Array:
    return be.fill("cross_entropy", (), logits.dtype, logits, target)


@op
def cross_entropy_grad(be: Backend, grad: Array, logits: Array, target: Array) -> Array:
    """grad/N·(softmax(logits)[i] - onehot(target)[i]) for row i of N."""
    return be.fill("cross_entropy_grad", logits.shape, logits.dtype, grad, logits, target)


def _cross_entropy_bend(g: Any, grad: Any, logits: Any) -> Any:
    """The derivative of cross_entropy_grad in the logits: that of the softmax, times grad/N."""
    p = softmax(logits, 1)
    weighted = mul(g, p)
    return mul(sub(weighted, mul(p, sum(weighted, 1, keepdim=True))), mul(grad, 1 / max(logits.shape[0], 1)))


def _cross_entropy_slope(g: Any, grad: Any, logits: Any, target: Any) -> Any:
    """The derivative of cross_entropy_grad in grad, in which it is linear."""
    return sum(mul(g, cross_entropy_grad(full_like(grad, 1), logits, target)))


_cross_entropy.name = "cross_entropy"
_cross_entropy.rules(logits=lambda g, logits, target: cross_entropy_grad(g, logits, target))
cross_entropy_grad.rules(grad=_cross_entropy_slope, logits=_cross_entropy_bend)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over rows i of -ln softmax(logits)[i, target[i]]: logits (N, C), target (N,) integers, result ().

    NaN for N = 0. Raises OutOfRangeError for a target outside [0, C), with its value and row.
    """
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ShapeError(f"cross_entropy: logits {tuple(logits.shape)} and target {tuple(target.shape)} do not fit; "
                         "expected (N, C) and (N,)")
    if target.array.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: class targets must be integers, got {target.dtype.name}")
    if not logits.dtype.is_floating_point:
        raise DTypeError(f"cross_entropy: logits must be floating, got {logits.dtype.name}")
    return _cross_entropy(logits, target)


@op
def _layer_norm(be: Backend, x: Array, weight: Array, bias: Array, *, dims: Any, eps: Any) -> Array:
    return be.fill("layer_norm", x.shape, x.dtype, x, weight, bias, dims=dims, eps=eps)


def _normalized(x: Any, dims: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    x = widened(x)
    centered = sub(x, mean(x, dims, keepdim=True))
    scale = (mean(centered * centered, dims, keepdim=True) + eps).rsqrt()
    return mul(centered, scale), scale


def _layer_norm_x(g: Any, x: Any, weight: Any, dims: tuple[int, ...], eps: float) -> Any:
    normalized, scale = _normalized(x, dims, eps)
    g = widened(g) if weight is None else mul(widened(g), weight)
    return mul(scale, g - mean(g, dims, keepdim=True) - mul(normalized, mean(mul(g, normalized), dims, keepdim=True)))


_layer_norm.name = "layer_norm"
_layer_norm.rules(
    x=_layer_norm_x,
    weight=lambda g, x, dims, eps: mul(g, _normalized(x, dims, eps)[0]),
    bias=lambda g: g,
)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, normalized_ndim: int,
               eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias over the last `normalized_ndim` dimensions; var is the biased one.

    Ba et al. 2016. weight and bias have the shape of those dimensions, or are None.
    """
    if not x.dtype.is_floating_point:
        raise DTypeError(f"layer_norm: expected a floating dtype, got {x.dtype.name}")
    shape = x.shape[x.ndim - normalized_ndim:]
    for name, part in (("weight", weight), ("bias", bias)):
        if isinstance(part, Var) and part.array.shape != shape:
            raise ShapeError(f"layer_norm: {name} has shape {tuple(part.shape)}, expected {tuple(shape)}")
    return _layer_norm(x, weight, bias, dims=tuple(range(x.ndim - normalized_ndim, x.ndim)), eps=eps)
