"""Normalisation on the CPU: LayerNorm and RMSNorm over rows, BatchNorm and its kin over channels, and derivatives.

Contract: that of `cpu`. Rows are what `dims`, the last dimensions, hold. Over channels, x is (N, C, ...), and
statistics are of the shape (C,), or (N, G) for groups of C/G neighbouring channels of a sample, in the dtype that is
computed in.
Kernels with several results take each dtype as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from . import Array
from .cpu_math import element_count, widened

# --- rows -------------------------------------------------------------------------------------------------------------


def row_norm(out: Array, x: Array, weight: Array | None, bias: Array | None, *, dims: tuple[int, ...], eps: float,
             centered: bool) -> None:
    """LayerNorm where `centered`; RMSNorm, which does not subtract the mean of a row, where not."""
    _normalize(out, x, dims, eps, centered)
    if weight is not None:
        np.multiply(out, weight, out)
    if bias is not None:
        np.add(out, bias, out)


def _normalize(out: Array, x: Array, dims: tuple[int, ...], eps: float, centered: bool) -> Array:
    """out = (x - mean)/deviation over `dims`; returns the deviation, √(mean of squares + eps)."""
    count = element_count(x, dims)
    if centered:
        x = np.subtract(x, np.add.reduce(x, axis=dims, keepdims=True) / count, out)
    deviation = np.sqrt(np.add.reduce(np.square(x), axis=dims, keepdims=True) / count + eps)
    np.divide(x, deviation, out)
    return deviation


def row_norm_grad(out: Array, g: Array, x: Array, weight: Array | None, *, dims: tuple[int, ...], eps: float,
                  centered: bool) -> None:
    count = element_count(x, dims)
    normalized = np.empty(x.shape, x.dtype)
    deviation = _normalize(normalized, x, dims, eps, centered)
    if weight is not None:
        g = g * weight
    along = np.add.reduce(np.multiply(g, normalized, out), axis=dims, keepdims=True)
    np.multiply(normalized, along / count, normalized)
    level = np.add.reduce(g, axis=dims, keepdims=True) / count if centered else 0
    np.subtract(g, level, out)
    np.subtract(out, normalized, out)
    np.divide(out, deviation, out)


def row_norm_weight_grad(out: Array, g: Array, x: Array, *, dims: tuple[int, ...], eps: float, centered: bool) -> None:
    normalized = np.empty(x.shape, x.dtype)
    _normalize(normalized, x, dims, eps, centered)
    np.multiply(normalized, g, normalized)
    np.add.reduce(normalized, axis=tuple(range(dims[0])), out=out)


# --- channels ---------------------------------------------------------------------------------------------------------


def moments(out: tuple[Array, Array], x: Array) -> None:
    """out = (mean, var): of each channel, or of each group of channels, as the results' shape says.

    The second pass also tells by how much the mean was rounded.
    """
    mean, var = out
    x, dims = _grouped(widened(x), mean)
    count = max(element_count(x, dims), 1)
    centre = np.add.reduce(x, axis=dims, keepdims=True) / count
    distances = x - centre
    rest = np.add.reduce(distances, axis=dims, keepdims=True) / count
    mean[...] = (centre + rest).reshape(mean.shape)
    squares = np.add.reduce(np.square(distances, distances), axis=dims, keepdims=True) / count
    var[...] = np.maximum(squares - np.square(rest), 0).reshape(var.shape)


def track_moments(out: tuple[Array, Array], mean: Array, var: Array, momentum: Any, *, count: int) -> None:
    """out = (running_mean, running_var), each moved by its share `momentum` towards a batch's."""
    share = float(momentum)
    for running, value, factor in ((out[0], mean, 1.0), (out[1], var, count / max(count - 1, 1))):
        if value.ndim == 2:
            value = np.add.reduce(value, axis=0) / len(value)
        running[...] = widened(running) * (1 - share) + value * (share * factor)


def batch_norm(out: Array, x: Array, weight: Array | None, bias: Array | None, mean: Array, var: Array, *,
               eps: float) -> None:
    """out = (x - mean)/√(var + eps)·weight + bias."""
    _standardize(out, x, mean, var, eps)
    if weight is not None:
        np.multiply(out, _of_channels(weight, x), out)
    if bias is not None:
        np.add(out, _of_channels(bias, x), out)


def batch_norm_grad(out: tuple[Array, Array, Array], g: Array, x: Array, weight: Array | None, mean: Array, var: Array,
                    *, eps: float, training: bool) -> None:
    """out = (slope, weight's, bias's): the derivatives of batch_norm, in x through the statistics too in training."""
    g, x = widened(g), widened(x)
    normalized = np.empty(x.shape, x.dtype)
    scale = _standardize(normalized, x, mean, var, eps)
    others = (0, *range(2, x.ndim))
    out[1][...] = np.add.reduce(g * normalized, axis=others)
    out[2][...] = np.add.reduce(g, axis=others)
    a, dims = _grouped(g if weight is None else g * _of_channels(widened(weight), x), mean)
    if training:
        normalized, count = normalized.reshape(a.shape), max(element_count(a, dims), 1)
        along = np.add.reduce(a * normalized, axis=dims, keepdims=True) / count
        a = a - np.add.reduce(a, axis=dims, keepdims=True) / count - normalized * along
    out[0][...] = (a * scale).reshape(x.shape)


def _standardize(out: Array, x: Array, mean: Array, var: Array, eps: float) -> Array:
    """out = (x - mean)·scale; returns the scale 1/√(var + eps), which broadcasts to x as `_grouped` has it."""
    x, _ = _grouped(x, mean)
    out, _ = _grouped(out, mean)
    shape = (*mean.shape, *[1] * (x.ndim - 2))
    scale = 1 / np.sqrt(var + var.dtype.type(eps))
    np.subtract(x, mean.reshape(shape), out)
    np.multiply(out, scale.reshape(shape), out)
    return scale.reshape(shape)


def _grouped(x: Array, statistics: Array) -> tuple[Array, tuple[int, ...]]:
    """A view of x, and the dimensions in it, along which the elements of a statistic lie."""
    if statistics.ndim == 1:
        return x, (0, *range(2, x.ndim))
    samples, groups = statistics.shape
    return x.reshape(samples, groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1))


def _of_channels(value: Array, x: Array) -> Array:
    return value.reshape(*value.shape, *[1] * (x.ndim - 2))


KERNELS: Final[dict[str, Callable[..., None]]] = {
    "layer_norm": partial(row_norm, centered=True), "rms_norm": partial(row_norm, centered=False),
    "layer_norm_grad": partial(row_norm_grad, centered=True), "rms_norm_grad": partial(row_norm_grad, centered=False),
    "layer_norm_weight_grad": partial(row_norm_weight_grad, centered=True),
    "rms_norm_weight_grad": partial(row_norm_weight_grad, centered=False),
    "moments": moments, "track_moments": track_moments,
    "batch_norm": batch_norm, "batch_norm_grad": batch_norm_grad,
}
