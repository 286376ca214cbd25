"""Fused layers of the CPU: softmax and its kin, linear, cross entropy, and their derivatives.

Contract: that of `cpu`. They see float32 or float64, and `dim` or `dims` counted from the left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ..errors import OutOfRangeError
from . import NARROW, Array
from .cpu_math import UNSIGNED, relu_grad


def softmax(out: Array, x: Array, *, dim: int) -> None:
    if x.size:
        np.subtract(x, np.maximum.reduce(x, axis=dim, keepdims=True), out)
        np.exp(out, out)
        np.divide(out, np.add.reduce(out, axis=dim, keepdims=True), out)


def softmax_grad(out: Array, g: Array, y: Array, *, dim: int) -> None:
    np.multiply(g, y, out)
    weighted = np.add.reduce(out, axis=dim, keepdims=True)
    np.subtract(g, weighted, out)
    np.multiply(out, y, out)


def log_softmax(out: Array, x: Array, *, dim: int) -> None:
    if x.size:
        np.subtract(x, np.maximum.reduce(x, axis=dim, keepdims=True), out)
        np.subtract(out, np.log(np.add.reduce(np.exp(out), axis=dim, keepdims=True)), out)


def log_softmax_grad(out: Array, g: Array, y: Array, *, dim: int) -> None:
    np.exp(y, out)
    np.multiply(out, np.add.reduce(g, axis=dim, keepdims=True), out)
    np.subtract(g, out, out)


def linear(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
    np.matmul(x, weight.T, out=out)
    if bias is not None:
        np.add(out, bias, out)


def linear_relu(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
    linear(out, x, weight, bias)
    np.maximum(out, out.dtype.type(0), out=out)


def relu_bias_grad(out: tuple[Array, Array], g: Array, y: Array) -> None:
    """out = (slope, total): relu_grad(g, y), and the sums of its columns. It takes each dtype as it is."""
    slope, total = out
    relu_grad(slope, g, y)
    rows = tuple(range(slope.ndim - 1))
    if slope.dtype.char in NARROW:
        total[...] = np.add.reduce(slope.astype(np.float32), axis=rows)
    else:
        np.add.reduce(slope, axis=rows, out=total)


def cross_entropy(out: Array, logits: Array, target: Array, *, ignore_index: int) -> None:
    rows, classes = logits.shape
    if ignore_index >= 0 or (rows and np.maximum.reduce(target.view(UNSIGNED[target.itemsize])) >= classes):
        kept = _kept_rows(target, classes, ignore_index)
        logits, target = logits[kept], target[kept]
        rows = len(target)
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    chosen = shifted[np.arange(rows), target]
    losses = np.log(np.add.reduce(np.exp(shifted, out=shifted), axis=1))
    np.subtract(losses, chosen, losses)
    out[...] = np.add.reduce(losses) / rows if rows else np.nan


def _kept_rows(target: Array, classes: int, ignore_index: int) -> Array:
    """Which rows count; the others' target is ignore_index. Raises OutOfRangeError for a target that is no class."""
    kept: Array = target != ignore_index
    wrong = kept & (target.view(UNSIGNED[target.itemsize]) >= classes)  # a negative target is a huge one
    if wrong.any():
        at = int(np.argmax(wrong))
        raise OutOfRangeError(f"Target {target[at]} is out of bounds: row {at} of {len(target)}, {classes} classes")
    return kept


def cross_entropy_grad(out: Array, g: Array, logits: Array, target: Array, *, ignore_index: int) -> None:
    rows, classes = logits.shape
    softmax(out, logits, dim=1)
    if ignore_index < -classes:  # then it cannot pass for an index of a class, counted from the right
        try:
            out[np.arange(rows), target] -= 1
        except IndexError:
            pass  # some rows are ignored
        else:
            np.multiply(out, g / out.dtype.type(rows), out)
            return
    kept = _kept_rows(target, classes, ignore_index)
    out[kept, target[kept]] -= 1
    np.multiply(out, g / out.dtype.type(np.count_nonzero(kept)), out)
    out[~kept] = 0


def dropout(out: Array, x: Array, noise: Array, *, chance: float, scale: float) -> None:
    """out = x·scale where the mask `noise`, drawn with probability `chance`, is true, else x·0."""
    np.multiply(noise, out.dtype.type(scale), out)
    np.multiply(out, x, out)


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel
    for kernel in (softmax, softmax_grad, log_softmax, log_softmax_grad, linear, cross_entropy, cross_entropy_grad,
                   dropout, linear_relu, relu_bias_grad)
}
