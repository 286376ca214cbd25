"""Copies of a tensor with values written where indices or masks point: index_fill, index_copy, masked_scatter,
scatter_reduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd.op import op
from ..autograd.tape import wrap
from ..backends import Array, Backend, broadcast_shapes, dimension
from ..errors import ArgumentError, ShapeError
from .elementwise import mul, where
from .index import (
    _along,
    _index_put,
    _listed_slices,
    _raw_index,
    _same_dtype,
    _source,
    _value_like,
    argsort,
    gather,
    index_spread,
)
from .logic import eq, isnan, logical_and, logical_or
from .movement import cat, full_like, reshape
from .reduce import cumsum

if TYPE_CHECKING:
    from ..tensor import Tensor

_INT64 = np.dtype(np.int64)


def index_fill(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of x in which the listed slices of dimension `dim` hold `value`, a number or 0-d tensor.

    >>> tl.index_fill(tl.tensor([1, 2, 3]), 0, tl.tensor([0, 2]), 7)
    tensor([7, 2, 7])
    """
    dim = dimension("index_fill", dim, x.shape)
    filled = _value_like(x, value)
    if filled.ndim:
        raise ShapeError(f"index_fill: expected a number or 0-d tensor, got shape {tuple(filled.shape)}")
    return _index_put(x, filled, indices=(_raw_index("index_fill", index, x.backend).reshape(-1),), dims=(dim,))


def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of x in which the listed slices of dimension `dim` are the source's; of duplicates the last one wins.

    >>> tl.index_copy(tl.zeros(3), 0, tl.tensor([2, 0]), tl.tensor([1., 2.]))
    tensor([2., 0., 1.])
    """
    dim, array = _listed_slices("index_copy", x, dim, index, source)
    return _index_put(x, source, indices=(array,), dims=(dim,))


def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of x with the source's elements, in their order, where the (broadcast) bool mask holds.

    Raises OutOfRangeError where the source has too few.

    >>> tl.masked_scatter(tl.zeros(3), tl.tensor([True, False, True]), tl.tensor([5., 6.]))
    tensor([5., 0., 6.])
    """
    _same_dtype("masked_scatter", x, source)
    shape = broadcast_shapes("masked_scatter", x.shape, mask.shape)
    x, mask = x.expand(shape), mask.expand(shape)
    flat, source = reshape(mask, -1), reshape(source, -1)
    source = cat([full_like(reshape(x, -1)[:1].detach(), 0), source])  # where the mask does not hold: never looked at
    numbers = where(flat, cumsum(flat, 0), 0)
    return where(mask, reshape(gather(source, 0, numbers), shape), x)


# --- scatter_reduce --------------------------------------------------------------------------------------------------

REDUCTIONS = ("sum", "mean", "amax", "amin")


def scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *,
                   include_self: bool = True) -> Tensor:
    """A copy of x with src reduced into out[index[i][j]][j] for dim 0, and so on: by "sum", "mean", "amax" or "amin".

    Without include_self the elements of x to which nothing is reduced alone stay. Equal extrema share the gradient.
    Raises ArgumentError for another reduction.

    >>> tl.scatter_reduce(tl.zeros(2), 0, tl.tensor([0, 1, 1]), tl.tensor([1., 2., 5.]), "amax")
    tensor([1., 5.])
    """
    if reduce not in REDUCTIONS:
        raise ArgumentError(f"scatter_reduce: reduce must be one of {', '.join(REDUCTIONS)}, got {reduce!r}")
    dim, array = _along("scatter_reduce", x, dim, index)
    values = reshape(_source(x, src, array), -1)
    numbers = wrap(x.backend.fill("arange", (x.numel(),), _INT64, 0, 1), x.backend)
    targets = reshape(gather(reshape(numbers, x.shape), dim, wrap(array, x.backend)), -1)
    flat = reshape(x, -1)
    counts = _added(full_like(targets, 1), targets, flat)
    if include_self:
        values, targets, counts = cat([flat, values]), cat([numbers, targets]), counts + 1
    reduced = (_sums if reduce in ("sum", "mean") else _extrema)(reduce, values, targets, counts)
    return reshape(where(counts > 0, reduced, flat), x.shape)


def _added(values: Any, targets: Any, like: Any) -> Any:
    """Sums of the values by target, as many as `like` has elements."""
    return index_spread(values, indices=(targets.array,), dims=(0,), shape=like.shape, wrap=False)


def _sums(reduce: str, values: Any, targets: Any, counts: Any) -> Any:
    sums = _added(values, targets, counts)
    if reduce == "sum":
        return sums
    rounding = None if values.dtype.is_floating_point else "floor"
    return sums.div(counts.clamp(min=1).to(values.dtype), rounding_mode=rounding)


def _extrema(reduce: str, values: Any, targets: Any, counts: Any) -> Any:
    """The best value of each target: what comes first in it once all values are sorted."""
    still = values.detach()
    if not values.numel():
        return full_like(counts, 0).to(values.dtype)
    by_value = argsort(still, 0, descending=reduce == "amax")
    spoilt = isnan(still) if values.dtype.is_floating_point else None
    if spoilt is not None and reduce == "amin":  # NaN first
        by_value = gather(by_value, 0, argsort(gather(spoilt, 0, by_value), 0, descending=True))
    order = gather(by_value, 0, argsort(gather(targets, 0, by_value), 0))
    starts = (cumsum(counts, 0) - counts).clamp(max=values.numel() - 1)
    best = gather(still, 0, gather(order, 0, starts))
    own = gather(best, 0, targets)
    attained = eq(still, own) if spoilt is None else logical_or(eq(still, own), logical_and(spoilt, isnan(own)))
    if not values.dtype.is_floating_point:
        return best
    ties = _added(attained.to(dtypes.int64), targets, counts)
    share = attained.to(values.dtype) / gather(ties, 0, targets).clamp(min=1).to(values.dtype)
    return _attained(values, best=best.array, share=share.array, targets=targets.array)


@op
def _attained(be: Backend, values: Array, *, best: Any, share: Any, targets: Any) -> Array:
    """The best value of each target, of which every value that attains it has a share."""
    return be.copy(best)


_attained.name = "attained"
_attained.rules(values=lambda g, share, targets: mul(
    gather(g, 0, wrap(targets, g.backend)), wrap(share, g.backend)))
