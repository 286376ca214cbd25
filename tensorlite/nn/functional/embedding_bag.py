"""embedding_bag: rows of a table, reduced by bags.

A bag is a row of a matrix of indices, or a stretch of a vector of them. Nothing of the indices or offsets is read on
the host, so that the bags of a captured step may change from call to call.
"""

from __future__ import annotations

import math

from ... import ops
from ...dtypes import INTEGER
from ...errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ...ops.index import index_spread
from ...ops.movement import full_like
from ...tensor import Tensor
from .embedding import checked_padding, embedding, refuse_options

MODES = ("sum", "mean", "max")


def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """The sum, mean or maximum of the rows of weight (num, dim) in each bag: (bags, dim).

    input    integers (bags, length), or (N,) with `offsets` (bags,): where each bag begins, increasing, the first at 0;
             with include_last_offset the last one is N and begins no bag
    mode     "sum", which alone takes per_sample_weights of the input's shape, "mean" or "max"
    Rows padding_idx count in no bag and get no gradient; empty bags give zeros. Of equal maxima the first gets the
    gradient. For max_norm and further errors see embedding. Raises ShapeError, DTypeError, ArgumentError,
    OutOfRangeError.

    >>> F.embedding_bag(tl.tensor([0, 1, 1]), tl.tensor([[1., 2.], [3., 4.]]), tl.tensor([0, 2]), mode="sum")
    tensor([[4., 6.],
            [3., 4.]])
    """
    refuse_options("embedding_bag", scale_grad_by_freq, sparse)
    checked_mode(mode)
    if input.ndim not in (1, 2) or (offsets is None) != (input.ndim == 2):
        raise ShapeError("embedding_bag: expected an input (bags, length) alone, or (N,) with offsets, got an input of "
                         f"shape {tuple(input.shape)} {'without' if offsets is None else 'with'} offsets")
    if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != input.shape):
        raise ArgumentError("embedding_bag: per_sample_weights need mode='sum' and the input's shape, got "
                            f"mode={mode!r}, shapes {tuple(per_sample_weights.shape)} and {tuple(input.shape)}")
    if per_sample_weights is not None and per_sample_weights.dtype is not weight.dtype:
        raise DTypeError(f"embedding_bag: per_sample_weights must have weight's dtype {weight.dtype.name}, got "
                         f"{per_sample_weights.dtype.name}")
    if offsets is not None and (offsets.ndim != 1 or offsets.dtype.category != INTEGER):
        raise DTypeError(f"embedding_bag: offsets must be integers (bags,), got {offsets.dtype.name} of shape "
                         f"{tuple(offsets.shape)}; convert with .long()")
    rows = embedding(input, weight, padding_idx, max_norm, norm_type)
    counted = None if padding_idx is None else ops.ne(input, checked_padding(padding_idx, weight.shape[0]))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if counted is not None:
        rows = ops.where(counted.unsqueeze(-1), rows, -math.inf if mode == "max" else 0.0)
    if offsets is None:
        return _of_matrix(rows, counted, mode)
    return _of_vector(rows, counted, mode, offsets[:-1] if include_last_offset else offsets)


def checked_mode(mode: str) -> str:
    """The mode. Raises ArgumentError for one that there is not."""
    if mode not in MODES:
        raise ArgumentError(f"embedding_bag: mode has to be one of sum, mean or max, got {mode!r}")
    return mode


def _of_matrix(rows: Tensor, counted: Tensor | None, mode: str) -> Tensor:
    """Bags of equal length: rows (bags, length, dim)."""
    length = rows.shape[1]
    if mode == "sum" or not length:
        return rows.sum(1)
    if mode == "mean" and counted is None:
        return rows.mean(1)
    sizes = full_like(rows[:, 0, :1], length) if counted is None else counted.sum(1, keepdim=True)
    if mode == "mean":
        return rows.sum(1) / sizes.clamp(min=1)
    return ops.where(sizes > 0, ops.max(rows, 1).values, 0.0)


def _of_vector(rows: Tensor, counted: Tensor | None, mode: str, offsets: Tensor) -> Tensor:
    """Bags one behind the other: rows (N, dim)."""
    bags, count = len(offsets), len(rows)
    try:
        numbers = _bag_numbers(offsets, count)
        present = full_like(numbers, 1) if counted is None else counted.long()
        sizes = _added(present, numbers, bags).unsqueeze(1)
    except OutOfRangeError as error:
        raise OutOfRangeError(f"embedding_bag: offsets begin with 0 and lie in [0, {count}]: {error}") from None
    if mode == "max" and count:
        return ops.where(sizes > 0, _largest(rows, numbers, bags), 0.0)
    summed = _added(rows, numbers, bags)
    return summed if mode == "sum" else summed / sizes.clamp(min=1).to(rows.dtype)


def _bag_numbers(offsets: Tensor, count: int) -> Tensor:
    """The bag of each of `count` elements: how many bags have begun, less 1."""
    begun = _added(full_like(offsets.long(), 1), offsets.long(), count + 1)
    return begun.cumsum(0)[:count] - 1


def _added(values: Tensor, numbers: Tensor, bags: int) -> Tensor:
    """The sums of the values (N, ...) in each bag."""
    return index_spread(values, indices=(numbers.array,), dims=(0,), shape=(bags, *values.shape[1:]), wrap=False)


def _largest(rows: Tensor, numbers: Tensor, bags: int) -> Tensor:
    """The first largest value in each bag and column: what comes first when values fall within their bags."""
    falling = ops.argsort(rows, 0, descending=True)
    order = ops.gather(falling, 0, ops.argsort(numbers[falling], 0))
    sizes = _added(full_like(numbers, 1), numbers, bags)
    starts = (sizes.cumsum(0) - sizes).clamp(max=len(rows) - 1)
    return ops.gather(rows, 0, order[starts])
