"""Indexing on the CPU: one integer array per indexed dimension; negative ones count from the end if they `wrap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..errors import OutOfRangeError
from . import Array
from .cpu_math import UNSIGNED


def _key(indices: tuple[Array, ...], dims: tuple[int, ...]) -> tuple[Any, ...]:
    key: list[Any] = [slice(None)] * (dims[-1] + 1)
    for dim, index in zip(dims, indices, strict=True):
        key[dim] = index
    return tuple(key)


def _check_range(shape: tuple[int, ...], indices: tuple[Array, ...], dims: tuple[int, ...], wrap: bool) -> None:
    """Raise for the first index outside its dimension, naming value and position."""
    for dim, index in zip(dims, indices, strict=True):
        size = shape[dim]
        wrong = np.argwhere((index < (-size if wrap else 0)) | (index >= size))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise OutOfRangeError(
                f"index {index[at]} at position {at} is out of bounds for dimension {dim} with size {size}"
            )


def index(out: Array, x: Array, *indices: Array, dims: tuple[int, ...], wrap: bool = True) -> None:
    if len(indices) == 1 and np.maximum.reduce(indices[0].view(UNSIGNED[8]), axis=None, initial=0) < x.shape[dims[0]]:
        np.take(x, indices[0], axis=dims[0], out=out, mode="clip")  # all in range; other modes would copy twice
        return
    if not wrap and any([np.minimum.reduce(i, axis=None, initial=0) < 0 for i in indices]):
        _check_range(x.shape, indices, dims, wrap)
    try:
        np.copyto(out, x[_key(indices, dims)])
    except IndexError:
        _check_range(x.shape, indices, dims, wrap)
        raise


def index_put(out: Array, value: Any, *indices: Array, dims: tuple[int, ...], wrap: bool = True) -> None:
    """Write `value` where the indices point; of duplicates the last one wins."""
    _check_range(out.shape, indices, dims, wrap)
    out[_key(indices, dims)] = value


def index_add(out: Array, value: Array, *indices: Array, dims: tuple[int, ...], wrap: bool = True) -> None:
    """Add `value` where the indices point; duplicates add up."""
    _check_range(out.shape, indices, dims, wrap)
    np.add.at(out, _key(indices, dims), value)


KERNELS: Final[dict[str, Callable[..., None]]] = {"index": index, "index_put": index_put, "index_add": index_add}
HANDLES_NARROW: Final = frozenset({"index", "index_put"})
UPDATES_OUT: Final = frozenset({"index_add"})  # they read out before they write it
