"""Activations of the CPU and their derivatives, which get the incoming gradient g, and y where the output suffices.

Contract: that of `cpu`. They see float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from . import Array
from .cpu_math import erf, put_where, relu_grad, sigmoid, softplus


def relu(out: Array, x: Array) -> None:
    np.maximum(x, out.dtype.type(0), out=out)


def sigmoid_grad(out: Array, g: Array, y: Array) -> None:
    np.subtract(1, y, out)
    np.multiply(out, y, out)
    np.multiply(out, g, out)


def tanh_grad(out: Array, g: Array, y: Array) -> None:
    np.multiply(y, y, out)
    np.subtract(1, out, out)
    np.multiply(out, g, out)


def leaky_relu(out: Array, x: Array, slope: float) -> None:
    np.multiply(x, slope, out)
    put_where(out, x > 0, x)


def leaky_relu_grad(out: Array, g: Array, x: Array, slope: float) -> None:
    np.multiply(g, slope, out)
    put_where(out, x > 0, g)


def elu(out: Array, x: Array, alpha: float) -> None:
    np.expm1(x, out)
    np.multiply(out, alpha, out)
    put_where(out, x > 0, x)


def elu_grad(out: Array, g: Array, x: Array, alpha: float) -> None:
    np.minimum(x, 0, out=out)
    np.exp(out, out)
    np.multiply(out, alpha, out)
    np.multiply(out, g, out)
    put_where(out, x > 0, g)


def silu(out: Array, x: Array) -> None:
    np.multiply(sigmoid(x, out), x, out)


def silu_grad(out: Array, g: Array, x: Array) -> None:
    s = sigmoid(x)
    np.subtract(1, s, out)
    np.multiply(out, x, out)
    np.add(out, 1, out)
    np.multiply(out, s, out)
    np.multiply(out, g, out)


def gelu(out: Array, x: Array) -> None:
    np.multiply(_normal_cdf(x), x, out)


def gelu_grad(out: Array, g: Array, x: Array) -> None:
    np.multiply(x, x, out)
    np.multiply(out, -0.5, out)
    np.exp(out, out)
    np.multiply(out, 0.3989422804014327, out)  # 1/√(2π): the density
    np.multiply(out, x, out)
    np.add(out, _normal_cdf(x), out)
    np.multiply(out, g, out)


def _normal_cdf(x: Array) -> Array:
    return (erf(x * 0.7071067811865476) + 1) * 0.5


def gelu_tanh(out: Array, x: Array) -> None:
    np.multiply(sigmoid(_gelu_angle(x)), x, out)


def gelu_tanh_grad(out: Array, g: Array, x: Array) -> None:
    angle = _gelu_angle(x)
    small = np.exp(-np.abs(angle))
    slope = small / np.square(1 + small)  # of σ
    np.multiply(x * x, 3 * 0.0713548162726002527, out)
    np.add(out, 1.59576912160573071, out)
    np.multiply(out, x, out)
    np.multiply(out, slope, out)
    np.copyto(out, 0, where=slope == 0)  # far out, where the cubic may be infinite
    np.add(out, sigmoid(angle), out)
    np.multiply(out, g, out)


def _gelu_angle(x: Array) -> Array:
    """√(8/π)·(x + 0.044715x³)."""
    angle: Array = x * (x * x * 0.0713548162726002527 + 1.59576912160573071)
    return angle


def softplus_kernel(out: Array, x: Array, beta: float, threshold: float) -> None:
    np.multiply(x, beta, out)
    linear = out > threshold
    np.multiply(softplus(out), 1 / beta, out)
    np.copyto(out, x, where=linear)


def softplus_grad(out: Array, g: Array, x: Array, beta: float, threshold: float) -> None:
    scaled = x * beta
    np.multiply(g, sigmoid(scaled), out)
    np.copyto(out, g, where=scaled > threshold)


def softsign(out: Array, x: Array) -> None:
    np.abs(x, out)
    np.add(out, 1, out)
    np.divide(x, out, out)


KERNELS: Final[dict[str, Callable[..., None]]] = {
    "relu": relu, "relu_grad": relu_grad, "sigmoid_grad": sigmoid_grad, "tanh_grad": tanh_grad,
    "leaky_relu": leaky_relu, "leaky_relu_grad": leaky_relu_grad, "elu": elu, "elu_grad": elu_grad,
    "silu": silu, "silu_grad": silu_grad, "gelu": gelu, "gelu_grad": gelu_grad,
    "gelu_tanh": gelu_tanh, "gelu_tanh_grad": gelu_tanh_grad,
    "softplus": softplus_kernel, "softplus_grad": softplus_grad, "softsign": softsign,
}
