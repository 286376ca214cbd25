"""The words of the dialect that move elements: shapes, regions, indices, windows; each beside its transpose."""

from __future__ import annotations

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


def place(a: Any, key: Any, shape: Shape) -> Any:
    """Zeros of a shape with a in the region that a key selects."""
    out = np.zeros(shape)
    out[key] = a
    return out


def put(a: Any, key: Any, value: Any) -> Any:
    """A copy of a with a value in the region that a key selects."""
    out = np.array(a)
    out[key] = value
    return out


def at(indices: Sequence[Any], dims: Sequence[int]) -> Any:
    """The key of integer arrays that index neighbouring dimensions."""
    return (*[slice(None)] * dims[0], *indices)


def spread(a: Any, key: Any, shape: Shape) -> Any:
    """Zeros of a shape to which a is added at a key; what comes twice adds up."""
    out = np.zeros(shape)
    np.add.at(out, key, a)
    return out


ARRAYS: dict[str, Callable[..., Any]] = {
    "T": transposed, "expand": expand, "sum_to": sum_to, "place": place, "put": put, "at": at, "spread": spread,
    "reshape": np.reshape, "permute": np.transpose, "argsort": np.argsort, "shape": np.shape, "einsum": np.einsum,
    "zeros": np.zeros,
}
