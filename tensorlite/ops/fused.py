"""Fused primitives of training: one kernel where a composition would make several passes, with equal results."""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any

from ..autograd.op import NONE, Op, op, unpack
from ..autograd.tape import Node, Var, wrap
from ..backends import Array, Backend
from ..errors import DTypeError, ShapeError
from ..mistakes import expected_tensor
from .activation import relu_grad
from .elementwise import div, mul, sub, where
from .logic import ne
from .matmul import _matmul, require_same_dtype
from .movement import _permute, full_like, unsqueeze
from .reduce import _sum, softmax, sum

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
        g, x = (t.reshape(math.prod(t.shape[:-1]), t.shape[-1]) for t in (g, x))
    return _matmul_tn(g, x)


def _linear_bias(g: Any) -> Any:
    return _sum(g, dims=tuple(range(g.ndim - 1)), keepdim=False)


_linear.name = "linear"
_linear.rules(
    x=lambda g, weight: _matmul(g, weight),
    weight=lambda g, x: _linear_weight(g, x),
    bias=lambda g: _linear_bias(g),
)


class _LinearReluOp(Op):
    """The op of linear_relu, whose gradients share one: that of what the ReLU was applied to."""

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        if create_graph:  # by the rules, which can be differentiated
            yield from super().gradients(node, g, create_graph, useful)
            return
        x, weight, bias = [parent is not None and (useful is None or parent in useful) for parent in node.parents]
        saved = unpack(node, g.backend, create_graph)
        if bias:
            slope, total = _relu_bias_grad(g, saved["out"])
            yield 2, total
        else:
            slope = relu_grad(g, saved["out"])
        if x:
            yield 0, _matmul(slope, saved["weight"])
        if weight:
            yield 1, _linear_weight(slope, saved["x"])


def _relu_bias_grad(g: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """relu_grad(g, y), and the sum of its columns."""
    be, shape, dtype = g.backend, g.array.shape, g.array.dtype
    slope, total = be.empty(shape, dtype), be.empty(shape[-1:], dtype)
    be.run("relu_bias_grad", (slope, total), g.array, y.array)
    return wrap(slope, be), wrap(total, be)


@functools.partial(_LinearReluOp, promote=NONE, view=False)
def _linear_relu(be: Backend, x: Array, weight: Array, bias: Array) -> Array:
    return be.fill("linear_relu", (*x.shape[:-1], weight.shape[0]), x.dtype, x, weight, bias)


_linear_relu.name = "linear_relu"
_linear_relu.rules(
    x=lambda g, out, weight: _matmul(relu_grad(g, out), weight),
    weight=lambda g, out, x: _linear_weight(relu_grad(g, out), x),
    bias=lambda g, out: _linear_bias(relu_grad(g, out)),
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (..., in), W (out, in), b (out,). Raises ShapeError or DTypeError naming both operands."""
    return _affine(_linear, x, weight, bias)


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """max(x Wᵀ + b, 0), with operands and errors as linear has them: a ReLU behind it without a pass of its own.

    >>> tl.ops.linear_relu(tl.ones(1, 2), tl.tensor([[1., 2.], [-3., 2.]]), tl.tensor([0.5, 0.]))
    tensor([[3.5000, 0.0000]])
    """
    return _affine(_linear_relu, x, weight, bias)


def _affine(function: Op, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """linear or linear_relu, of operands that fit."""
    if not isinstance(x, Var):
        raise expected_tensor("linear", x)
    if x.array.dtype is not weight.array.dtype:
        require_same_dtype("linear", x, weight)
    if weight.array.ndim != 2:
        raise ShapeError(f"linear: weight has shape {tuple(weight.shape)}, expected a matrix (out, in); see reshape")
    if x.array.ndim == 0 or x.array.shape[-1] != weight.array.shape[1]:
        raise ShapeError(f"linear expects last dim {weight.shape[-1]}, got {x.shape[-1] if x.ndim else 'a 0-d tensor'} "
                         f"(input {tuple(x.shape)}, weight {tuple(weight.shape)})")
    if bias is not None and bias.array.shape != weight.array.shape[:1]:
        raise ShapeError(f"linear: bias has shape {tuple(bias.shape)}, expected {tuple(weight.shape[:1])}")
    if x.array.ndim == 1:  # the rules multiply matrices
        return function(unsqueeze(x, 0), weight, bias).squeeze(0)
    return function(x, weight, bias)


@op
def _cross_entropy(be: Backend, logits: Array, target: Array, *, ignore_index: Any) -> Array:
    return be.fill("cross_entropy", (), logits.dtype, logits, target, ignore_index=ignore_index)


@op
def cross_entropy_grad(be: Backend, grad: Array, logits: Array, target: Array, *, ignore_index: Any = -100) -> Array:
    """grad/N·(softmax(logits)[i] - onehot(target)[i]) for row i of the N whose target is not ignore_index, else 0."""
    return be.fill("cross_entropy_grad", logits.shape, logits.dtype, grad, logits, target, ignore_index=ignore_index)


def _cross_entropy_bend(g: Any, grad: Any, logits: Any, target: Any, ignore_index: int) -> Any:
    """The derivative of cross_entropy_grad in the logits: that of the softmax, times grad/N."""
    p = softmax(logits, 1)
    weighted = mul(g, p)
    bend = sub(weighted, mul(p, sum(weighted, 1, keepdim=True)))
    kept = ne(target, ignore_index)
    return where(unsqueeze(kept, 1), mul(bend, div(grad, sum(kept))), 0.0)


def _cross_entropy_slope(g: Any, grad: Any, logits: Any, target: Any, ignore_index: int) -> Any:
    """The derivative of cross_entropy_grad in grad, in which it is linear."""
    return sum(mul(g, cross_entropy_grad(full_like(grad, 1), logits, target, ignore_index=ignore_index)))


_cross_entropy.name = "cross_entropy"
_cross_entropy.rules(logits=lambda g, logits, target, ignore_index: cross_entropy_grad(
    g, logits, target, ignore_index=ignore_index))
cross_entropy_grad.rules(grad=_cross_entropy_slope, logits=_cross_entropy_bend)


def cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """The mean over rows i of -ln softmax(logits)[i, target[i]]: logits (N, C), target (N,) integers, result ().

    Rows whose target is ignore_index do not count; NaN where no row counts. Raises OutOfRangeError for another target
    outside [0, C), with its value and row.
    """
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ShapeError(f"cross_entropy: logits {tuple(logits.shape)} and target {tuple(target.shape)} do not fit; "
                         "expected (N, C) and (N,)")
    if target.array.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: class targets must be integers, got {target.dtype.name}")
    if not logits.dtype.is_floating_point:
        raise DTypeError(f"cross_entropy: logits must be floating, got {logits.dtype.name}")
    return _cross_entropy(logits, target, ignore_index=ignore_index)
