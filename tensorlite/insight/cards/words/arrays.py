"""The words of the dialect that move elements: shapes, regions, indices, parts; each beside its transpose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Shape = Sequence[int]


def transposed(a: Any) -> Any:
    """Aᵀ, of the last two dimensions."""
    return np.swapaxes(a, -1, -2)


def expand(a: Any, shape: Shape) -> Any:
    """a repeated to a shape."""
    return np.broadcast_to(a, shape)


def sum_to(a: Any, shape: Shape) -> Any:
    """a summed over what `expand` from a shape repeats."""
    a = np.asarray(a)
    a = a.sum(tuple(range(a.ndim - len(shape))))
    return a.sum(tuple(i for i, n in enumerate(shape) if n == 1 and a.shape[i] != 1), keepdims=True)


def rows(a: Any) -> Any:
    """a with all its dimensions but the last laid into one."""
    return np.reshape(a, (-1, np.shape(a)[-1])) if np.size(a) else np.zeros((0, np.shape(a)[-1]))


def place(a: Any, key: Any, shape: Shape) -> Any:
    """Zeros of a shape with a in the region that a key selects."""
    return put(np.zeros(shape), key, a)


def put(a: Any, key: Any, value: Any) -> Any:
    """A copy of a with a value in the region that a key selects."""
    out = np.array(a)
    out[key] = value
    return out


def on_diagonal(a: Any, shape: Shape, offset: int, first: int, second: int) -> Any:
    """Zeros of a shape with a on a diagonal."""
    places = np.diagonal(np.arange(int(np.prod(shape))).reshape(shape), offset, first, second)
    out = np.zeros(int(np.prod(shape)))
    out[places] = a
    return out.reshape(shape)


def split_as(a: Any, shapes: Sequence[Shape], axis: int) -> Any:
    """The pieces of a that parts of these shapes make when they are joined."""
    return np.split(a, list(itertools.accumulate(shape[axis] for shape in shapes))[:-1], axis)


# --- indices ----------------------------------------------------------------------------------------------------------


def at(indices: Sequence[Any], dims: Sequence[int]) -> Any:
    """The key of integer arrays that index the dimensions `dims`."""
    key: list[Any] = [slice(None)] * (max(dims) + 1)
    for array, dim in zip(indices, dims, strict=True):
        key[dim] = array
    return tuple(key)


def spread(a: Any, key: Any, shape: Shape) -> Any:
    """Zeros of a shape to which a is added at a key; what comes twice adds up."""
    out = np.zeros(shape)
    np.add.at(out, key, a)
    return out


def last(a: Any, key: Any) -> Any:
    """a at a key; of several entries that mean one place only the last one counts, the others are 0."""
    numbers = np.arange(a[key].size).reshape(a[key].shape)
    owner = np.full(np.shape(a), -1)
    owner[key] = numbers
    return np.where(owner[key] == numbers, a[key], 0)


# --- sequences --------------------------------------------------------------------------------------------------------


def windowed(a: Any, axis: int, size: int, step: int, dilation: int) -> Any:
    """The windows of a along a dimension, one every `step`; their elements, `dilation` apart, as last dimension."""
    starts = range(0, np.shape(a)[axis] - (size - 1) * dilation, step)
    parts = [np.take(a, [start + k * dilation for start in starts], axis) for k in range(size)]
    return np.stack(parts, -1) if parts else np.zeros((*np.take(a, list(starts), axis).shape, 0))


def overlap_add(a: Any, shape: Shape, axis: int, step: int, dilation: int) -> Any:
    """Zeros of a shape to which each window is added at its place."""
    out = np.zeros(shape)
    for window, k in itertools.product(range(np.shape(a)[axis]), range(np.shape(a)[-1])):
        np.moveaxis(out, axis, 0)[window * step + k * dilation] += np.take(a[..., k], window, axis)
    return out


def pack(a: Any, batch_sizes: Sequence[int]) -> Any:
    """The first batch_sizes[t] rows of each step t, one below the other."""
    return np.concatenate([step[:size] for step, size in zip(a, batch_sizes, strict=True)])


def unpack(a: Any, batch_sizes: Sequence[int], batch: int) -> Any:
    """Steps of `batch` rows that begin with the next batch_sizes[t] rows of a, and hold 0 behind them."""
    out = np.zeros((len(batch_sizes), batch, *np.shape(a)[1:]))
    for step, size, end in zip(out, batch_sizes, itertools.accumulate(batch_sizes), strict=True):
        step[:size] = a[end - size:end]
    return out


ARRAYS: dict[str, Callable[..., Any]] = {
    "T": transposed, "expand": expand, "sum_to": sum_to, "rows": rows, "place": place, "put": put, "at": at,
    "spread": spread, "last": last, "on_diagonal": on_diagonal, "diagonal": np.diagonal, "split_as": split_as,
    "windowed": windowed, "overlap_add": overlap_add, "pack": pack, "unpack": unpack, "reshape": np.reshape,
    "permute": np.transpose, "concat": np.concatenate, "argsort": np.argsort, "shape_of": np.shape, "full": np.full,
    "einsum": np.einsum,
}
