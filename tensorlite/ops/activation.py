"""Differentiable activations. Each derivative with a kernel of its own (`relu_grad`, ...) is an op like any other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..autograd.op import FLOAT, op
from ..backends import Array, Backend
from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..tensor import Tensor


@op
def relu(be: Backend, x: Array) -> Array:
    """max(x, 0); the derivative at 0 is 0. NaN stays NaN."""
    return be.elementwise("relu", x)


@op
def relu_grad(be: Backend, grad: Array, y: Array) -> Array:
    """0 where y <= 0, else g."""
    return be.elementwise("relu_grad", grad, y)


relu.rules(x=lambda g, out: relu_grad(g, out))
relu_grad.rules(grad=lambda g, y: relu_grad(g, y))


@op(promote=FLOAT)
def sigmoid(be: Backend, x: Array) -> Array:
    """1/(1+e⁻ˣ), without overflow."""
    return be.elementwise("sigmoid", x)


@op
def sigmoid_grad(be: Backend, grad: Array, y: Array) -> Array:
    """g·y·(1-y), with y = sigmoid(x)."""
    return be.elementwise("sigmoid_grad", grad, y)


sigmoid.rules(x=lambda g, out: sigmoid_grad(g, out))
sigmoid_grad.rules(grad=lambda g, y: sigmoid_grad(g, y), y=lambda g, grad, y: g * grad * (1.0 - 2.0 * y))


@op(promote=FLOAT)
def tanh(be: Backend, x: Array) -> Array:
    """tanh x."""
    return be.elementwise("tanh", x)


@op
def tanh_grad(be: Backend, grad: Array, y: Array) -> Array:
    """g·(1-y²), with y = tanh x."""
    return be.elementwise("tanh_grad", grad, y)


tanh.rules(x=lambda g, out: tanh_grad(g, out))
tanh_grad.rules(grad=lambda g, y: tanh_grad(g, y), y=lambda g, grad, y: g * grad * y * -2.0)


@op(promote=FLOAT)
def leaky_relu(be: Backend, x: Array, *, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope·x; the derivative at 0 is negative_slope."""
    return be.elementwise("leaky_relu", x, float(negative_slope))


@op
def leaky_relu_grad(be: Backend, grad: Array, x: Array, *, negative_slope: Any) -> Array:
    """g where x > 0, else negative_slope·g."""
    return be.elementwise("leaky_relu_grad", grad, x, float(negative_slope))


leaky_relu.rules(x=lambda g, x, negative_slope: leaky_relu_grad(g, x, negative_slope=negative_slope))
leaky_relu_grad.rules(grad=lambda g, x, negative_slope: leaky_relu_grad(g, x, negative_slope=negative_slope))


@op(promote=FLOAT)
def elu(be: Backend, x: Array, *, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha·(eˣ-1). Clevert et al. 2016."""
    return be.elementwise("elu", x, float(alpha))


@op
def elu_grad(be: Backend, grad: Array, x: Array, *, alpha: Any) -> Array:
    """g where x > 0, else g·alpha·eˣ."""
    return be.elementwise("elu_grad", grad, x, float(alpha))


elu.rules(x=lambda g, x, alpha: elu_grad(g, x, alpha=alpha))
elu_grad.rules(
    grad=lambda g, x, alpha: elu_grad(g, x, alpha=alpha),
    x=lambda g, grad, x, alpha: (x <= 0) * elu_grad(g * grad, x, alpha=alpha),
)


@op(promote=FLOAT)
def silu(be: Backend, x: Array) -> Array:
    """x·sigmoid(x). Elfwing et al. 2018."""
    return be.elementwise("silu", x)


@op
def silu_grad(be: Backend, grad: Array, x: Array) -> Array:
    """g·s·(1 + x·(1-s)), with s = sigmoid(x)."""
    return be.elementwise("silu_grad", grad, x)


silu.rules(x=lambda g, x: silu_grad(g, x))
def _silu_grad_x(g: Any, grad: Any, x: Any) -> Any:
    s: Any = sigmoid(x)
    return sigmoid_grad(g * grad, s) * (2.0 + x * (1.0 - 2.0 * s))


silu_grad.rules(grad=lambda g, x: silu_grad(g, x), x=_silu_grad_x)


@op(promote=FLOAT)
def _gelu(be: Backend, x: Array) -> Array:
    return be.elementwise("gelu", x)


_gelu.name = "gelu"


@op
def gelu_grad(be: Backend, grad: Array, x: Array) -> Array:
    """g·(Φ(x) + x·φ(x)), with the normal distribution Φ and its density φ."""
    return be.elementwise("gelu_grad", grad, x)


_gelu.rules(x=lambda g, x: gelu_grad(g, x))
gelu_grad.rules(
    grad=lambda g, x: gelu_grad(g, x),
    x=lambda g, grad, x: g * grad * (2.0 - x * x) * (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi)),
)


@op(promote=FLOAT)
def _gelu_tanh(be: Backend, x: Array) -> Array:
    return be.elementwise("gelu_tanh", x)


_gelu_tanh.name = "gelu_tanh"


@op
def gelu_tanh_grad(be: Backend, grad: Array, x: Array) -> Array:
    """g·(s + x·s·(1-s)·d), with s = σ(√(8/π)(x+0.044715x³)) and d the derivative of σ's argument."""
    return be.elementwise("gelu_tanh_grad", grad, x)


def _gelu_tanh_bend(g: Any, grad: Any, x: Any) -> Any:
    """The derivative of gelu_tanh_grad in x: g·grad·w·(2d + x(1-2s)d² + x·d'), with w = s(1-s)."""
    square = x * x
    s = sigmoid(x * (square * (_STEEPNESS * 0.044715) + _STEEPNESS))
    slope = square * (3 * 0.044715 * _STEEPNESS) + _STEEPNESS
    bend = slope * 2.0 + x * (1.0 - s * 2.0) * slope * slope + square * (6 * 0.044715 * _STEEPNESS)
    return g * grad * s * (1.0 - s) * bend


_STEEPNESS = math.sqrt(8 / math.pi)
_gelu_tanh.rules(x=lambda g, x: gelu_tanh_grad(g, x))
gelu_tanh_grad.rules(grad=lambda g, x: gelu_tanh_grad(g, x), x=_gelu_tanh_bend)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), Φ the normal distribution; or ½x(1+tanh(√(2/π)(x+0.044715x³))) for approximate='tanh'.

    Hendrycks and Gimpel 2016. Raises ArgumentError for another value of `approximate`.
    """
    if approximate == "none":
        return _gelu(x)
    if approximate != "tanh":
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu_tanh(x)


@op(promote=FLOAT)
def softplus(be: Backend, x: Array, *, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """ln(1+exp(beta·x))/beta, and x itself where beta·x > threshold."""
    return be.elementwise("softplus", x, float(beta), float(threshold))


@op
def softplus_grad(be: Backend, grad: Array, x: Array, *, beta: Any, threshold: Any) -> Array:
    """g·sigmoid(beta·x), and g where beta·x > threshold."""
    return be.elementwise("softplus_grad", grad, x, float(beta), float(threshold))


softplus.rules(x=lambda g, x, beta, threshold: softplus_grad(g, x, beta=beta, threshold=threshold))
softplus_grad.rules(
    grad=lambda g, x, beta, threshold: softplus_grad(g, x, beta=beta, threshold=threshold),
    x=lambda g, grad, x, beta, threshold: (
        (x * beta <= threshold) * sigmoid_grad(g * grad, sigmoid(x * beta)) * beta
    ),
)


@op(promote=FLOAT)
def softsign(be: Backend, x: Array) -> Array:
    """x/(1+|x|). Bergstra et al. 2009."""
    return be.elementwise("softsign", x)


def _softsign_x(g: Any, x: Any) -> Any:
    t = abs(x) + 1.0
    return g / t / t  # not g/t²: the square leaves the range of float16


softsign.rules(x=_softsign_x)


def logsigmoid(x: Tensor) -> Tensor:
    """ln sigmoid(x) = -softplus(-x), finite for every finite x."""
    return softplus(x * -1.0, threshold=math.inf) * -1.0
