"""Sums without NaN, moments together, quantiles, counts and covariances: composed of reductions, sorting and adding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import dtypes
from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..mistakes import expected_tensor
from .elementwise import add, ceil, clamp, div, floor, lerp, mul, round, sqrt, sub, where
from .index import gather, index_add, sort
from .logic import eq, ge, isnan, le, logical_and, logical_not
from .matmul import matmul
from .movement import diagonal, expand, flatten, full_like, movedim, reshape, unsqueeze
from .names import numpy_names
from .order import searchsorted
from .reduce import Dims, amax, amin, any, mean, std, sum, var
from .wide import computed_wide, is_tensor

if TYPE_CHECKING:
    from ..tensor import Tensor

INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


class MinMax(NamedTuple):
    """What aminmax gives."""

    min: Any
    max: Any


@numpy_names
def nansum(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ over `dim` of what is not NaN; its gradient is 0 at NaN.

    >>> tl.nansum(tl.tensor([1., float("nan"), 2.]))
    tensor(3.)
    """
    return sum(where(isnan(x), 0, x), dim, keepdim, dtype=dtype)


@numpy_names
@computed_wide
def nanmean(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim` of what is not NaN; NaN of nothing. Raises DTypeError for integers."""
    if not x.dtype.is_floating_point:
        raise DTypeError(f"nanmean: expected a floating dtype, got {x.dtype.name}; convert with .float()")
    counts = sum(logical_not(isnan(x)), dim, keepdim)
    return div(nansum(x, dim, keepdim), counts.to(x.dtype))


@numpy_names
def std_mean(x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:
    """(std, mean) over `dim`."""
    place = None if isinstance(dim, bool) else dim
    return std(x, dim, unbiased, keepdim, correction=correction), mean(x, place, keepdim)


@numpy_names
def var_mean(x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Tensor, Tensor]:
    """(var, mean) over `dim`."""
    place = None if isinstance(dim, bool) else dim
    return var(x, dim, unbiased, keepdim, correction=correction), mean(x, place, keepdim)


@numpy_names
def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """(min, max): amin and amax over `dim`."""
    return MinMax(amin(x, dim, keepdim), amax(x, dim, keepdim))


# --- quantiles -------------------------------------------------------------------------------------------------------


@numpy_names
@computed_wide
def quantile(x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Tensor:
    """The values below which a share q of the elements along `dim` lies; NaN where one is NaN.

    q              a number in [0, 1], or a vector, whose quantiles make up the result's first dimension
    interpolation  between two elements: "linear", "lower", "higher", "midpoint" or "nearest"

    Raises ArgumentError for another q or interpolation, DTypeError for integers, ShapeError of nothing.

    >>> tl.quantile(tl.tensor([4., 1., 3., 2.]), 0.5)
    tensor(2.5000)
    """
    _check_quantile(x, q, interpolation)
    flat = flatten(x) if dim is None or not x.ndim else movedim(x, dim, -1)
    if not flat.shape[-1]:
        raise ShapeError(f"quantile: dimension {dim} of shape {tuple(x.shape)} is empty: no quantile of nothing")
    ordered = sort(flat, -1).values
    shares = q.to(x.dtype) if is_tensor(q) else ordered.new_full((), q)  # which a captured step can repeat
    found = _at_ranks(ordered, mul(reshape(shares, -1), flat.shape[-1] - 1), interpolation)
    spoilt = expand(unsqueeze(any(isnan(flat), -1), -1), found.shape)
    found = where(spoilt, math.nan, found)
    if keepdim and x.ndim:
        found = reshape(found, *[1] * x.ndim, -1) if dim is None else movedim(unsqueeze(found, -1), -1, dim % x.ndim)
    return movedim(found, -1, 0).contiguous() if shares.ndim else reshape(found, found.shape[:-1])


def _check_quantile(x: Any, q: Any, interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ArgumentError(f"quantile: interpolation must be one of {', '.join(INTERPOLATIONS)}, "
                            f"got {interpolation!r}")
    if not x.dtype.is_floating_point:
        raise DTypeError(f"quantile: expected a floating dtype, got {x.dtype.name}; convert with .float()")
    if not is_tensor(q) and not 0 <= q <= 1:
        raise ArgumentError(f"quantile: q must be in [0, 1], got {q}")
    if is_tensor(q) and q.ndim > 1:
        raise ShapeError(f"quantile: q must be a number or a vector, got shape {tuple(q.shape)}")


def _at_ranks(ordered: Any, ranks: Any, interpolation: str) -> Any:
    """The elements of rows at ranks (k,), counted from 0 and not whole: (..., k)."""
    if interpolation == "nearest":
        ranks = round(ranks)
    lower, upper = floor(ranks), ceil(ranks)
    if interpolation == "lower":
        upper = lower
    elif interpolation == "higher":
        lower = upper
    shape = (*ordered.shape[:-1], ranks.shape[0])
    below, above = (gather(ordered, -1, expand(at.to(dtypes.int64), shape)) for at in (lower, upper))
    if interpolation == "midpoint":
        return mul(add(below, above), 0.5)
    return lerp(below, above, expand(sub(ranks, lower), shape)) if interpolation == "linear" else below


# --- counts ----------------------------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... up to the largest occurs in a vector of integers; or the sums of their weights.

    int64; with weights float32 for such, else float64. The result's size is known on the host only, so this waits for
    the device. Raises DTypeError, ShapeError, and OutOfRangeError for a negative number.

    >>> tl.bincount(tl.tensor([0, 2, 2]), minlength=4)
    tensor([1, 0, 2, 0])
    """
    if input.dtype.is_floating_point or input.dtype is dtypes.bool_:
        raise DTypeError(f"bincount: expected integers, got {input.dtype.name}")
    if input.ndim != 1 or (weights is not None and weights.shape != input.shape):
        shapes = tuple(input.shape) if weights is None else f"{tuple(input.shape)}, weights {tuple(weights.shape)}"
        raise ShapeError(f"bincount: expected a vector, and weights of its shape, got {shapes}")
    if minlength < 0:
        raise ArgumentError(f"bincount: minlength must not be negative, got {minlength}")
    size = minlength
    if input.numel():
        least, most = (int(found.item()) for found in aminmax(input))
        if least < 0:
            raise OutOfRangeError(f"bincount: expected no negative numbers, got {least}")
        size = max(size, most + 1)
    values = full_like(input, 1).to(dtypes.int64) if weights is None else weights.detach()
    values = values if weights is None or values.dtype is dtypes.float32 else values.to(dtypes.float64)
    return index_add(values.new_zeros(size), 0, input, values)


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` intervals of one size from min to max, or of all where these are equal.

    In the input's dtype. The last interval has its upper end; what lies outside, and NaN, does not count. Raises
    DTypeError for integers, ArgumentError for no bins or min > max.

    >>> tl.histc(tl.tensor([1., 2., 1., 4.]), bins=3, min=0, max=3)
    tensor([0., 2., 1.])
    """
    if not input.dtype.is_floating_point:
        raise DTypeError(f"histc: expected a floating dtype, got {input.dtype.name}; convert with .float()")
    if bins < 1 or min > max:
        raise ArgumentError(f"histc: needs a bin, and min <= max; got bins={bins}, min={min}, max={max}")
    x = flatten(input.detach())
    low, high = (x.new_full((), end) for end in (min, max))
    if min == max and x.numel():
        low, high = amin(x), amax(x)
        alone = eq(low, high)
        low, high = sub(low, alone), add(high, alone)
    inside = logical_and(ge(x, low), le(x, high))
    places = floor(div(mul(sub(where(inside, x, low), low), bins), sub(high, low))).to(dtypes.int64)
    return index_add(x.new_zeros(bins), 0, clamp(places, 0, bins - 1), inside.to(x.dtype))


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is one of test_elements; `invert` asks whether it is none. NaN is none.

    >>> tl.isin(tl.tensor([1, 2, 3]), tl.tensor([2, 5]))
    tensor([False,  True, False])
    """
    if not is_tensor(elements) and not is_tensor(test_elements):
        raise expected_tensor("isin", elements)
    like = elements if is_tensor(elements) else test_elements
    x, tests = (t.detach() if is_tensor(t) else like.new_tensor(t, dtype=dtypes.as_dtype(type(t)))
                for t in (elements, test_elements))
    ordered = sort(flatten(tests), -1).values
    if not ordered.numel():
        found = full_like(x, 0).to(dtypes.bool_)
    else:
        places = clamp(searchsorted(ordered, x), max=ordered.numel() - 1)
        found = eq(reshape(gather(ordered, 0, reshape(places, -1)), x.shape), x)
    return logical_not(found) if invert else found


# --- covariances -----------------------------------------------------------------------------------------------------


@computed_wide
def cov(x: Tensor, *, correction: float = 1) -> Tensor:
    """The covariances of the rows of a matrix, whose columns are observations; of one row or a vector its variance.

    Raises ShapeError above two dimensions, DTypeError for integers.

    >>> tl.cov(tl.tensor([[0., 2.], [1., 5.]]))
    tensor([[2., 4.],
            [4., 8.]])
    """
    if x.ndim > 2:
        raise ShapeError(f"cov: expected a matrix (variables, observations), got shape {tuple(x.shape)}")
    rows = reshape(x, 1, -1) if x.ndim < 2 else x
    centered = sub(rows, mean(rows, 1, keepdim=True))
    freedom = rows.shape[1] - correction
    found = div(matmul(centered, centered.mT), freedom if freedom > 0 else 0.0)
    return found if len(rows) != 1 else reshape(found, ())


@computed_wide
def corrcoef(x: Tensor) -> Tensor:
    """The correlations of the rows of a matrix, whose columns are observations: cov divided by both deviations."""
    found = cov(x)
    if not found.ndim:
        return div(found, found)
    deviations = sqrt(diagonal(found))
    return clamp(div(div(found, unsqueeze(deviations, 1)), deviations), -1, 1)
