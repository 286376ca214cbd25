"""Resampling along dimensions: the nearest element, or the straight line between two.

Positions are computed on the device, in the dtype and the order of operations of PyTorch, so that they round alike.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Array, Backend
from .elementwise import add, mul
from .index import _index
from .movement import expand, reshape
from .wide import widened

if TYPE_CHECKING:
    from ..tensor import Tensor

_FLOAT32, _FLOAT64, _INT64 = (np.dtype(t) for t in (np.float32, np.float64, np.int64))


def nearest(x: Tensor, targets: Sequence[int], factors: Sequence[float | None], exact: bool) -> Tensor:
    """The last dimensions of x in other sizes: the element whose cell holds the position of each new one.

    factors  per dimension what positions are divided by; None: target/size
    exact    positions are those of the cells' middles; else of where they begin
    """
    counts = []
    for dim, (target, factor) in enumerate(zip(targets, factors, strict=True), x.ndim - len(targets)):
        size = x.shape[dim]
        scale = _scale(size, target, factor, _computing(x.array.dtype))
        if _repeats(size, target, scale, exact):
            counts.append(target // size)
            continue
        counts.append(1)
        x = _index(x, indices=(_nearest(x.backend, size, target, scale, exact),), dims=(dim,))
    return _repeated(x, counts)


def linear(x: Tensor, targets: Sequence[int], factors: Sequence[float | None], align_corners: bool) -> Tensor:
    """The last dimensions of x in other sizes: means of the two elements around each new one, weighted by nearness.

    With align_corners the first and last elements keep their values; else positions are those of the cells' middles.
    """
    wide = widened(x)
    for dim, (target, factor) in enumerate(zip(targets, factors, strict=True), x.ndim - len(targets)):
        size, dtype = wide.shape[dim], wide.array.dtype
        if target == size:
            continue
        scale = _corner_scale(size, target, dtype) if align_corners else _scale(size, target, factor, dtype)
        left, right, *weights = _neighbours(wide.backend, size, target, scale, dtype, align_corners)
        to_left, to_right = [type(x)._wrap(w.reshape((target,) + (1,) * (x.ndim - 1 - dim)), x.backend)
                             for w in weights]
        wide = add(mul(_index(wide, indices=(left,), dims=(dim,)), to_left),
                   mul(_index(wide, indices=(right,), dims=(dim,)), to_right))
    result: Tensor = wide.to(x.dtype)
    return result


def _computing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return _FLOAT64 if dtype == _FLOAT64 else _FLOAT32


def _scale(size: int, target: int, factor: float | None, dtype: np.dtype[Any]) -> float:
    """How far apart new elements are, in old ones, rounded to the dtype."""
    number = dtype.type
    return float(number(1.0 / factor) if factor else number(size) / number(target))


def _corner_scale(size: int, target: int, dtype: np.dtype[Any]) -> float:
    number = dtype.type
    return float(number(size - 1) / number(target - 1)) if target > 1 else 0.0


@functools.lru_cache(maxsize=1024)
def _repeats(size: int, target: int, scale: float, exact: bool) -> bool:
    """Whether the nearest elements are each old one, equally often."""
    if target % size:
        return False
    steps = np.arange(target, dtype=np.float32)
    number = np.float32(scale)
    places = np.floor((steps + np.float32(0.5)) * number if exact else steps * number)
    return bool(np.array_equal(np.minimum(places, size - 1), np.repeat(np.arange(size), target // size)))


def _nearest(backend: Backend, size: int, target: int, scale: float, exact: bool) -> Array:
    """The index of the nearest element for each new one."""
    steps = backend.fill("arange", (target,), _FLOAT32, 0, 1)
    if exact:
        steps = backend.elementwise("add", steps, 0.5)
    places = backend.cast(backend.elementwise("mul", steps, scale), _INT64)
    return backend.elementwise("minimum", places, size - 1)


def _neighbours(backend: Backend, size: int, target: int, scale: float, dtype: np.dtype[Any],
                align_corners: bool) -> tuple[Array, Array, Array, Array]:
    """For each new element the indices of those to its left and right, and their weights."""
    steps = backend.fill("arange", (target,), dtype, 0, 1)
    if align_corners:
        places = backend.elementwise("mul", steps, scale)
    else:
        middles = backend.elementwise("mul", backend.elementwise("add", steps, 0.5), scale)
        places = backend.elementwise("maximum", backend.elementwise("sub", middles, 0.5), 0.0)
    left = backend.elementwise("minimum", backend.cast(places, _INT64), size - 1)
    right = backend.elementwise("minimum", backend.elementwise("add", left, 1), size - 1)
    beyond = backend.elementwise("sub", places, backend.cast(left, dtype))
    to_right = backend.elementwise("minimum", beyond, 1.0)
    return left, right, backend.elementwise("sub", 1.0, to_right), to_right


def _repeated(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Each element of the last dimensions so many times side by side."""
    if all(count == 1 for count in counts):
        return x
    outer = x.shape[:x.ndim - len(counts)]
    inner = x.shape[x.ndim - len(counts):]
    spread = reshape(x, (*outer, *[m for n in inner for m in (n, 1)]))
    wide = expand(spread, (*outer, *[m for n, count in zip(inner, counts, strict=True) for m in (n, count)]))
    return reshape(wide, (*outer, *[n * count for n, count in zip(inner, counts, strict=True)]))
