"""Running extrema, places in sorted sequences, the k-th value, and which values there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd.tape import wrap
from ..backends import NARROW, normalize_dim
from ..errors import ArgumentError, OutOfRangeError, ShapeError
from .elementwise import logaddexp, maximum, minimum, where
from .index import argsort, gather
from .logic import eq, isnan, logical_and, logical_not, logical_or
from .movement import cat, expand, full_like, narrow, reshape
from .reduce import ValuesIndices

if TYPE_CHECKING:
    from ..tensor import Tensor

_INT64 = np.dtype(np.int64)


def _running(combine: Any, x: Any, dim: int) -> Any:
    """combine(... combine(x[0], x[1]) ..., x[i]) for all i along `dim`: in log2(n) passes, each twice as far back."""
    size, step = x.shape[dim], 1
    while step < size:
        later, earlier = narrow(x, dim, step, size - step), narrow(x, dim, 0, size - step)
        x = cat([narrow(x, dim, 0, step), combine(earlier, later)], dim)
        step *= 2
    return x


def _positions(x: Any, dim: int) -> Any:
    """0, 1, ... along a dimension, in x's shape."""
    shape = [1] * x.ndim
    shape[dim] = x.shape[dim]
    numbers = wrap(x.backend.fill("arange", (x.shape[dim],), _INT64, 0, 1), x.backend)
    return expand(reshape(numbers, shape), x.shape)


def _running_extremum(name: str, combine: Any, x: Any, dim: int) -> ValuesIndices:
    dim = normalize_dim(name, dim, x.ndim)
    if not x.ndim:
        return ValuesIndices(x.clone(), full_like(x, 0).to(dtypes.int64))
    still = x.detach()
    attained = logical_or(eq(still, _running(combine, still, dim)), isnan(still))
    indices = _running(maximum, where(attained, _positions(x, dim), 0), dim)
    return ValuesIndices(gather(x, dim, indices), indices.contiguous())


def cummax(x: Tensor, dim: int) -> ValuesIndices:
    """(values, indices): the largest element up to each place along `dim`, and the last place where it stands.

    NaN counts as the largest.

    >>> tl.cummax(tl.tensor([1, 3, 2]), 0).values
    tensor([1, 3, 3])
    """
    return _running_extremum("cummax", maximum, x, dim)


def cummin(x: Tensor, dim: int) -> ValuesIndices:
    """(values, indices): the smallest element up to each place along `dim`, NaN after one, and where it stands last.

    >>> tl.cummin(tl.tensor([2, 3, 1]), 0).values
    tensor([2, 2, 1])
    """
    return _running_extremum("cummin", minimum, x, dim)


def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """ln of the running sums of eˣ along `dim`, without overflow.

    >>> tl.logcumsumexp(tl.zeros(3), 0).exp()
    tensor([1., 2., 3.])
    """
    dim = normalize_dim("logcumsumexp", dim, x.ndim)
    x = x if x.dtype.is_floating_point else x.to(dtypes.get_default_dtype())
    return _running(logaddexp, x, dim).clone() if x.ndim else x.clone()


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """(values, indices): the k-th smallest along `dim`, counted from 1. NaN counts as the largest.

    >>> values, indices = tl.kthvalue(tl.tensor([5, 3, 4]), 2)
    >>> values, indices
    (tensor(4), tensor(2))
    """
    dim = normalize_dim("kthvalue", dim, x.ndim)
    if not 1 <= k <= (x.shape[dim] if x.ndim else 1):
        raise OutOfRangeError(f"kthvalue: k={k} is outside dimension {dim} of shape {tuple(x.shape)}")
    if not x.ndim:
        return ValuesIndices(x.clone(), full_like(x, 0).to(dtypes.int64))
    indices = narrow(argsort(x, dim), dim, k - 1, 1).contiguous()
    values = gather(x, dim, indices)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(values.squeeze(dim), indices.squeeze(dim))


# --- places in sorted sequences --------------------------------------------------------------------------------------


def searchsorted(sorted_sequence: Tensor, values: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None) -> Tensor:
    """Where each value has to go, for the sequence to stay sorted: before equal elements, with `right` behind them.

    sorted_sequence  (n,), for values of any shape or a number; or (..., n), for values (..., m)
    side             "left" or "right", another way to say it
    The result is int64, or int32. Raises ShapeError, and ArgumentError where side and right contradict each other.

    >>> tl.searchsorted(tl.tensor([1, 3, 5]), tl.tensor([3, 6]))
    tensor([1, 3])
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right' as `right` says, got side={side!r} and "
                            f"right={right}")
    sequence = sorted_sequence.detach()
    wanted = sequence.new_full((), values) if isinstance(values, (int, float)) else values.detach()
    if not sequence.ndim or (sequence.ndim > 1 and sequence.shape[:-1] != wanted.shape[:-1]):
        raise ShapeError(f"searchsorted: values of shape {tuple(wanted.shape)} do not fit sequences "
                         f"{tuple(sequence.shape)}: all but the last dimension must be equal")
    shape = wanted.shape
    if sequence.ndim == 1:
        wanted = reshape(wanted, -1)
    places = reshape(_bisected(sequence, wanted, right or side == "right"), shape)
    return places.to(dtypes.int32) if out_int32 else places


def _bisected(sequence: Any, wanted: Any, right: bool) -> Any:
    """The places of the values along the last dimension, each halving of the stretch in which they lie for all."""
    size = sequence.shape[-1]
    low = full_like(wanted, 0).to(dtypes.int64)
    high = full_like(low, size)
    for _ in range(size.bit_length()):
        middle = (low + high) // 2
        found = gather(sequence, -1, middle.clamp(max=size - 1))
        beyond = logical_not(found > wanted if right else found >= wanted)  # so that NaN is the largest
        low, high = where(logical_and(low < high, beyond), middle + 1, low), where(beyond, high, middle)
    return low


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Between which boundaries each element lies: searchsorted(boundaries, input).

    >>> tl.bucketize(tl.tensor([0.5, 2.5]), tl.tensor([1., 2., 3.]))
    tensor([0, 2])
    """
    if boundaries.ndim != 1:
        raise ShapeError(f"bucketize: boundaries must be a vector, got shape {tuple(boundaries.shape)}")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


# --- which values there are ------------------------------------------------------------------------------------------


def unique(x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different elements (or slices along `dim`) in order; with them where each element's one is, and how often.

    How many there are is known on the host only, so this waits for the device. Each NaN is different. There is no
    gradient.

    >>> tl.unique(tl.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    axis = None if dim is None else normalize_dim("unique", dim, x.ndim)
    values = x.backend.to_numpy(x.array)
    ordered = values.astype(np.float32) if values.dtype.char in NARROW else values  # NumPy takes bfloat16's NaN for 0
    found, inverse, counts = np.unique(ordered, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    found = found.astype(values.dtype)
    if axis is None:
        inverse = inverse.reshape(values.shape)
    parts = [found, *[part for part, asked in ((inverse, return_inverse), (counts, return_counts)) if asked]]
    results = tuple(wrap(x.backend.from_numpy(np.asarray(part, order="C")), x.backend) for part in parts)
    return results if len(results) > 1 else results[0]
