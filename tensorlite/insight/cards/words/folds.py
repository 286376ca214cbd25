"""The words of the dialect that fold or scan the dimensions for which an op was called."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Axes = int | tuple[int, ...] | None


def folds(values: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The words, bound to the op's `dims` or `dim`; what they fold stays with size 1."""
    axes = values.get("dims", values.get("dim"))
    return {name: functools.partial(word, axes=axes) for name, word in FOLDS.items()}


def total(a: Any, axes: Axes) -> Any:
    """The sum over the dimensions that are folded, which stay with size 1."""
    return np.sum(a, axis=axes, keepdims=True)


def mean(a: Any, axes: Axes) -> Any:
    """The mean over the dimensions that are folded, which stay with size 1."""
    return total(a, axes) / count(a, axes)


def prod(a: Any, axes: Axes) -> Any:
    """The product over the dimensions that are folded, which stay with size 1."""
    return np.prod(a, axis=axes, keepdims=True)


def top(a: Any, axes: Axes) -> Any:
    """The largest element over the dimensions that are folded, which stay with size 1."""
    return np.max(a, axis=axes, keepdims=True)


def bottom(a: Any, axes: Axes) -> Any:
    """The smallest element over the dimensions that are folded, which stay with size 1."""
    return np.min(a, axis=axes, keepdims=True)


def count(a: Any, axes: Axes) -> Any:
    """How many elements are folded into one."""
    return total(np.ones(np.shape(a)), axes)


def cumsum(a: Any, axes: Axes) -> Any:
    """Running sums along the dimension."""
    return np.cumsum(a, axis=axes)  # type: ignore[arg-type]


def cumprod(a: Any, axes: Axes) -> Any:
    """Running products along the dimension."""
    return np.cumprod(a, axis=axes)  # type: ignore[arg-type]


def reverse(a: Any, axes: Axes) -> Any:
    """The order along the dimension reversed."""
    return np.flip(a, axis=axes)


def others(x: Any, axes: tuple[int, ...]) -> Any:
    """Per element, the product of all that are folded with it but itself, by that definition."""
    ends = tuple(range(-len(axes), 0))
    moved = np.moveaxis(np.asarray(x), axes, ends)
    kept = moved.ndim - len(axes)
    flat = moved.reshape(*moved.shape[:kept], math.prod(moved.shape[kept:]))
    result = np.empty(flat.shape)
    for i in range(flat.shape[-1]):
        result[..., i] = np.prod(np.delete(flat, i, -1), -1)
    return np.moveaxis(result.reshape(moved.shape), ends, axes)


def cumprod_grad(g: Any, x: Any, axes: int) -> Any:
    """Per element i, Σ g_j Π x_k over j ≥ i and k ≤ j but k ≠ i, by that definition."""
    result = np.zeros(np.shape(x))
    for i in range(np.shape(x)[axes]):
        without = np.moveaxis(np.array(x, np.float64), axes, 0)
        without[i] = 1
        weighted = np.moveaxis(np.asarray(g), axes, 0) * np.cumprod(without, 0)
        np.moveaxis(result, axes, 0)[i] = np.sum(weighted[i:], 0)
    return result


FOLDS: dict[str, Callable[..., Any]] = {
    "sum": total, "mean": mean, "prod": prod, "top": top, "bottom": bottom, "count": count, "others": others,
    "cumsum": cumsum, "cumprod": cumprod, "cumprod_grad": cumprod_grad, "reverse": reverse,
}
