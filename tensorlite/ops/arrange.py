"""Joining and turning tensors, and combinations of elements: functions of the movements in movement.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import normalize_dim
from ..errors import ArgumentError, ShapeError
from .index import index_select
from .movement import cat, flatten, flip, meshgrid, narrow, reshape, stack, transpose, unsqueeze

if TYPE_CHECKING:
    from ..tensor import Tensor


def atleast_1d(*tensors: Any) -> Any:
    """Each tensor with at least one dimension.

    >>> tl.atleast_1d(tl.tensor(5))
    tensor([5])
    """
    return _each(lambda x: reshape(x, 1) if x.ndim == 0 else x, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """Each tensor with at least two dimensions; a vector becomes a row.

    >>> tl.atleast_2d(tl.tensor([1, 2]))
    tensor([[1, 2]])
    """
    return _each(lambda x: reshape(x, 1, -1) if x.ndim < 2 else x, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Each tensor with at least three dimensions; a vector (n,) becomes (1, n, 1), a matrix (n, m, 1).

    >>> tl.atleast_3d(tl.ones(2, 3)).shape
    (2, 3, 1)
    """
    return _each(lambda x: reshape(x, 1, -1, 1) if x.ndim < 2 else unsqueeze(x, -1) if x.ndim == 2 else x, tensors)


def _each(function: Callable[[Any], Any], tensors: tuple[Any, ...]) -> Any:
    """One result for one tensor, a tuple for several or for a sequence."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple(map(function, tensors[0]))
    return function(tensors[0]) if len(tensors) == 1 else tuple(map(function, tensors))


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side: cat along dimension 1, or 0 for vectors.

    >>> tl.hstack([tl.tensor([[1], [2]]), tl.tensor([[3], [4]])])
    tensor([[1, 3],
            [2, 4]])
    """
    parts = atleast_1d(list(tensors))
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """One below the other: cat along dimension 0, vectors as rows.

    >>> tl.vstack([tl.tensor([1, 2]), tl.tensor([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    return cat(atleast_2d(list(tensors)), 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """One behind the other: cat along dimension 2.

    >>> tl.dstack([tl.tensor([1, 2]), tl.tensor([3, 4])])
    tensor([[[1, 3],
             [2, 4]]])
    """
    return cat(atleast_3d(list(tensors)), 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side, vectors as columns.

    >>> tl.column_stack([tl.tensor([1, 2]), tl.tensor([3, 4])])
    tensor([[1, 3],
            [2, 4]])
    """
    return hstack([reshape(x, -1, 1) if x.ndim < 2 else x for x in tensors])


def fliplr(x: Tensor) -> Tensor:
    """The columns in reverse order.

    >>> tl.fliplr(tl.tensor([[1, 2], [3, 4]]))
    tensor([[2, 1],
            [4, 3]])
    """
    if x.ndim < 2:
        raise ShapeError(f"fliplr: expected at least 2 dimensions, got shape {tuple(x.shape)}")
    return flip(x, 1)


def flipud(x: Tensor) -> Tensor:
    """The rows in reverse order.

    >>> tl.flipud(tl.tensor([[1, 2], [3, 4]]))
    tensor([[3, 4],
            [1, 2]])
    """
    if x.ndim < 1:
        raise ShapeError("flipud: expected at least 1 dimension, got a 0-d tensor")
    return flip(x, 0)


def rot90(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by k right angles in the plane of two dimensions, from the first towards the second.

    >>> tl.rot90(tl.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    if len(dims) != 2 or x.ndim < 2:
        raise ShapeError(f"rot90: expected two dimensions of a tensor that has them, got {tuple(dims)} of shape "
                         f"{tuple(x.shape)}")
    first, second = (normalize_dim("rot90", d, x.ndim) for d in dims)
    if first == second:
        raise ShapeError(f"rot90: the two dimensions must differ, got {tuple(dims)}")
    if k % 2 == 0:
        return flip(x, first, second) if k % 4 else x.clone()
    return transpose(flip(x, second), first, second) if k % 4 == 1 else flip(transpose(x, first, second), second)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples of one element of each vector, as rows; the last one runs fastest. A single vector is returned.

    >>> tl.cartesian_prod(tl.tensor([1, 2]), tl.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    if any(x.ndim != 1 for x in tensors) or not tensors:
        raise ShapeError(f"cartesian_prod: expected vectors, got shapes {[tuple(x.shape) for x in tensors]}")
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(grid) for grid in meshgrid(*tensors, indexing="ij")], 1)


def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, in order, as rows.

    >>> tl.combinations(tl.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if x.ndim != 1:
        raise ShapeError(f"combinations: expected a vector, got shape {tuple(x.shape)}")
    if r < 0:
        raise ArgumentError(f"combinations: r must not be negative, got {r}")
    if r == 0:
        return narrow(x, 0, 0, 0).clone()
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(len(x)), r)), np.int64).reshape(-1, r)
    return reshape(index_select(x, 0, rows.reshape(-1)), *rows.shape)
