"""Differentiable reductions and scans. `dim` may be an int, a tuple or None (all); sums accumulate in the wide type.

Of nothing: sum 0, prod 1, mean and var NaN; max, min, argmax and argmin raise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import dtypes
from ..autograd.autocast import autocasts
from ..autograd.op import Op, op
from ..backends import Array, Backend, normalize_dim, normalize_dims
from ..errors import ArgumentError, DTypeError, ShapeError
from .elementwise import abs, exp, mul, neg, pow, sqrt, square, sub, where
from .logic import eq, isnan, logical_and, logical_or, ne
from .movement import cat, expand, flip, full_like, movedim
from .names import numpy_names
from .wide import computed_wide

if TYPE_CHECKING:
    from ..tensor import Tensor

Dims = int | Sequence[int] | None
_INT64 = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)


class ValuesIndices(NamedTuple):
    """What max, min, sort, topk, ... give for one dimension."""

    values: Any
    indices: Any


def _spread(g: Any, shape: tuple[int, ...], dims: tuple[int, ...]) -> Any:
    """The gradient of a reduction's result, with the folded dimensions back as size 1 (0-d broadcasts as it is)."""
    if g.ndim == 0:
        return g
    return g.reshape(tuple(1 if i in dims else n for i, n in enumerate(shape)))


@op
def _sum(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("sum", x, dims, keepdim)


_sum.name = "sum"
_sum.rules(x=lambda g, shapes, dims: expand(_spread(g, shapes[0], dims), shapes[0]))


@numpy_names
def sum(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x over `dim`. Integers and bools give int64, unless `dtype` says otherwise.

    >>> tl.sum(tl.ones(2, 3), dim=1)
    tensor([3., 3.])
    """
    return _sum(_accumulable(x, dtype), dims=normalize_dims("sum", dim, x.ndim), keepdim=keepdim)


def _accumulable(x: Any, dtype: Any) -> Any:
    """x in the dtype in which its sum or product is formed."""
    if dtype is not None:
        return x.to(dtypes.as_dtype(dtype))
    return x.to(dtypes.int64) if x.array.dtype.kind in "biu" else x


def _floating(name: str, x: Any, dtype: Any) -> Any:
    x = x if dtype is None else x.to(dtypes.as_dtype(dtype))
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: expected a floating dtype, got {x.dtype.name}; convert with .float() or pass dtype=")
    return x


@op
def _mean(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("mean", x, dims, keepdim)


_mean.name = "mean"
_mean.rules(x=lambda g, shapes, dims: expand(mul(_spread(g, shapes[0], dims), 1 / _count(shapes[0], dims)), shapes[0]))


def _count(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    count = 1
    for dim in dims:
        count *= shape[dim]
    return max(count, 1)


@numpy_names
def mean(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σx/n over `dim`; NaN for n = 0. Raises DTypeError for integers: say .float() or dtype=."""
    return _mean(_floating("mean", x, dtype), dims=normalize_dims("mean", dim, x.ndim), keepdim=keepdim)


@op
def _var(be: Backend, x: Array, *, dims: Any, keepdim: Any, correction: Any) -> Array:
    return be.reduce("var", x, dims, keepdim, correction=correction)


_var.name = "var"
_var.rules(x=lambda g, x, dims, correction: mul(
    mul(_spread(g, x.shape, dims), 2 / _freedom(x.shape, dims, correction)), sub(x, mean(x, dims, keepdim=True))))


def _freedom(shape: tuple[int, ...], dims: tuple[int, ...], correction: float) -> float:
    """The divisor of a variance; 0 becomes tiny, so that its inverse is inf."""
    return (_count(shape, dims) - correction) or math.ulp(0.0)


@numpy_names
def var(x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Tensor:
    """Σ(x-mean)²/(n - correction) over `dim`; correction is 1 unless given (`unbiased=False` is correction 0).

    Warns, and gives NaN or inf, where n <= correction.
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    dims = normalize_dims("var", dim, x.ndim)
    if _count(x.shape, dims) <= correction:
        warnings.warn(f"var: {_count(x.shape, dims)} values leave no degree of freedom with correction={correction}",
                      stacklevel=2)
    return _var(_floating("var", x, None), dims=dims, keepdim=keepdim, correction=correction)


@numpy_names
def std(x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Tensor:
    """√var, with the arguments of `var`; the gradient is 0 where it is 0."""
    return _root(var(x, dim, unbiased, keepdim, correction=correction))


def _root(x: Tensor) -> Tensor:
    """√x, whose derivative at 0 is taken as 0."""
    return mul(sqrt(where(eq(x, 0), 1.0, x)), ne(x, 0))


@op
def _prod(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("prod", x, dims, keepdim)


_prod.name = "prod"
_prod.rules(x=lambda g, x, dims: mul(_spread(g, x.shape, dims), _product_of_others(x, dims)))


def _product_of_others(x: Any, dims: tuple[int, ...]) -> Any:
    """Per element, the product over `dims` of all elements but itself; no division, so zeros do no harm."""
    if not dims or x.array.size == 0:
        return full_like(x, 1)
    last = tuple(range(x.ndim - len(dims), x.ndim))
    moved = movedim(x, dims, last)
    flat = moved.reshape((*moved.shape[:x.ndim - len(dims)], -1))
    one, n = full_like(flat.narrow(-1, 0, 1), 1), flat.shape[-1]
    before = cumprod(cat([one, flat.narrow(-1, 0, n - 1)], -1), -1)
    after = flip(cumprod(cat([one, flip(flat, -1).narrow(-1, 0, n - 1)], -1), -1), -1)
    return movedim(mul(before, after).reshape(moved.shape), last, dims)


@numpy_names
def prod(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Π x over `dim`; its gradient is exact with zeros. Integers and bools give int64."""
    return _prod(_accumulable(x, dtype), dims=normalize_dims("prod", dim, x.ndim), keepdim=keepdim)


def _extremum_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...]) -> Any:
    """Equal shares for all elements that attain the extremum (or are the NaN that it became)."""
    top = _spread(out, x.shape, dims)
    chosen = logical_or(eq(x, top), logical_and(isnan(x), isnan(top))).to(x.dtype)
    return mul(_spread(g, x.shape, dims), chosen / sum(chosen, dims, keepdim=True))


@op
def _amax(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("amax", x, dims, keepdim)


@op
def _amin(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("amin", x, dims, keepdim)


_amax.name, _amin.name = "amax", "amin"
_amax.rules(x=_extremum_rule)
_amin.rules(x=_extremum_rule)


def require_elements(name: str, x: Any, dims: tuple[int, ...]) -> None:
    """Raise ShapeError where `dims` fold no element into a result that needs one."""
    if 0 in [x.shape[d] for d in dims]:
        raise ShapeError(f"{name}: dimensions {dims} of shape {tuple(x.shape)} are empty: no {name} of nothing")


@numpy_names
def amax(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest value over `dim`; NaN if one is NaN. Ties share the gradient. Raises ShapeError for no elements."""
    dims = normalize_dims("amax", dim, x.ndim)
    require_elements("amax", x, dims)
    return _amax(x, dims=dims, keepdim=keepdim)


@numpy_names
def amin(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest value over `dim`; NaN if one is NaN. Ties share the gradient. Raises ShapeError for no elements."""
    dims = normalize_dims("amin", dim, x.ndim)
    require_elements("amin", x, dims)
    return _amin(x, dims=dims, keepdim=keepdim)


@op
def _argmax(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("argmax", x, dims, keepdim, dtype=_INT64)


@op
def _argmin(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("argmin", x, dims, keepdim, dtype=_INT64)


_argmax.name, _argmin.name = "argmax", "argmin"


def _arg(name: str, find: Op, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    dims = normalize_dims(name, dim, x.ndim)
    if x.array.size == 0:
        require_elements(name, x, dims)
    return find(x, dims=dims, keepdim=keepdim)


@numpy_names
def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The (first) index of the largest value, int64; the flat index for dim=None. NaN counts as the largest."""
    return _arg("argmax", _argmax, x, dim, keepdim)


@numpy_names
def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The (first) index of the smallest value, int64; the flat index for dim=None. NaN counts as the smallest."""
    return _arg("argmin", _argmin, x, dim, keepdim)


@numpy_names
def any(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero."""
    return _any(ne(x, 0) if x.array.dtype.kind != "b" else x, dims=normalize_dims("any", dim, x.ndim), keepdim=keepdim)


@numpy_names
def all(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero; True of nothing."""
    return _all(ne(x, 0) if x.array.dtype.kind != "b" else x, dims=normalize_dims("all", dim, x.ndim), keepdim=keepdim)


@op
def _any(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("any", x, dims, keepdim)


@op
def _all(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("all", x, dims, keepdim)


_any.name, _all.name = "any", "all"


@numpy_names
def count_nonzero(x: Tensor, dim: Dims = None) -> Tensor:
    """How many elements are nonzero, int64."""
    return sum(ne(x, 0), dim)


@op
def _logsumexp(be: Backend, x: Array, *, dims: Any, keepdim: Any) -> Array:
    return be.reduce("logsumexp", x, dims, keepdim)


_logsumexp.name = "logsumexp"
_logsumexp.rules(x=lambda g, x, out, dims: mul(_spread(g, x.shape, dims), _exp_shifted(x, _spread(out, x.shape, dims))))


def _exp_shifted(x: Any, top: Any) -> Any:
    """exp(x - top), and 0 where both are -inf."""
    return exp(sub(x, where(eq(top, -np.inf), 0.0, top)))


@numpy_names
def logsumexp(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over `dim`, without overflow; -inf of only -inf."""
    x = x if x.dtype.is_floating_point else x.to(dtypes.get_default_dtype())
    return _logsumexp(x, dims=normalize_dims("logsumexp", dim, x.ndim), keepdim=keepdim)


@numpy_names
@autocasts
@computed_wide
def norm(x: Tensor, p: float | str = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """(Σ|x|ᵖ)^(1/p) over `dim`; p may be inf, -inf, 0 (count of nonzeros) or 'fro' (2). The gradient at x = 0 is 0."""
    x = _floating("norm", x, None)
    if p in ("fro", 2):
        return _root(sum(square(x), dim, keepdim))
    if p == np.inf:
        return amax(abs(x), dim, keepdim)
    if p == -np.inf:
        return amin(abs(x), dim, keepdim)
    if p == 0:
        return sum(ne(x, 0).to(x.dtype), dim, keepdim)
    if p == 1:
        return sum(abs(x), dim, keepdim)
    if not isinstance(p, (int, float)):
        raise ArgumentError(f"norm: p must be a number or 'fro', got {p!r}")
    return _power_safely(sum(_power_safely(abs(x), p), dim, keepdim), 1 / p)


def _power_safely(x: Tensor, p: float) -> Tensor:
    """xᵖ, whose derivative at 0 is taken as 0, for p > 0."""
    return mul(pow(where(eq(x, 0), 1.0, x), p), ne(x, 0)) if p > 0 else pow(x, p)


@op
def _cumsum(be: Backend, x: Array, *, dim: Any) -> Array:
    return be.fill("cumsum", x.shape, x.dtype, x, dim=dim)


_cumsum.name = "cumsum"
_cumsum.rules(x=lambda g, dim: flip(_cumsum(flip(g, dim), dim=dim), dim))


@numpy_names
def cumsum(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along `dim`. Integers and bools give int64."""
    x, dim = _accumulable(x, dtype), normalize_dim("cumsum", dim, x.ndim)
    return _cumsum(x, dim=dim) if x.ndim else x.clone()


@op
def _cumprod(be: Backend, x: Array, *, dim: Any) -> Array:
    return be.fill("cumprod", x.shape, x.dtype, x, dim=dim)


@computed_wide
def _cumprod_rule(g: Any, x: Any, dim: int) -> Any:
    """d/dx_j Σ_i g_i Π_{k<=i} x_k = (Π_{k<j} x_k)·r_j, where r_j = g_j + x_{j+1}·r_{j+1}: exact with zeros."""
    parts = [x.narrow(dim, i, 1) for i in range(x.shape[dim])]
    weights = [g.narrow(dim, i, 1) for i in range(x.shape[dim])]
    if not parts:
        return full_like(x, 0)
    tails = [weights[-1]]
    for part, weight in zip(reversed(parts[1:]), reversed(weights[:-1]), strict=True):
        tails.append(weight + part * tails[-1])
    heads = [full_like(parts[0], 1)]
    for part in parts[:-1]:
        heads.append(heads[-1] * part)
    return mul(cat(heads, dim), cat(tails[::-1], dim))


_cumprod.name = "cumprod"
_cumprod.rules(x=lambda g, x, dim: _cumprod_rule(g, x, dim))


@numpy_names
def cumprod(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running products along `dim`; the gradient is exact with zeros. Integers and bools give int64."""
    x, dim = _accumulable(x, dtype), normalize_dim("cumprod", dim, x.ndim)
    return _cumprod(x, dim=dim) if x.ndim else x.clone()


@op
def _softmax(be: Backend, x: Array, *, dim: Any) -> Array:
    return be.fill("softmax", x.shape, x.dtype, x, dim=dim)


@op
def softmax_grad(be: Backend, grad: Array, y: Array, *, dim: Any) -> Array:
    """y·(grad - Σ grad·y), with y = softmax(x)."""
    return be.fill("softmax_grad", y.shape, y.dtype, grad, y, dim=dim)


_softmax.name = "softmax"
_softmax.rules(x=lambda g, out, dim: softmax_grad(g, out, dim=dim))
softmax_grad.rules(
    grad=lambda g, y, dim: softmax_grad(g, y, dim=dim),
    y=lambda g, grad, y, dim: sub(mul(g, sub(grad, sum(mul(grad, y), dim, keepdim=True))),
                                  mul(grad, sum(mul(g, y), dim, keepdim=True))),
)


@numpy_names
def softmax(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """eˣ/Σeˣ along `dim`, without overflow."""
    x, dim = _floating("softmax", x, dtype), normalize_dim("softmax", dim, x.ndim)
    return _softmax(x, dim=dim) if x.ndim else exp(sub(x, x))


@op
def _log_softmax(be: Backend, x: Array, *, dim: Any) -> Array:
    return be.fill("log_softmax", x.shape, x.dtype, x, dim=dim)


@op
def log_softmax_grad(be: Backend, grad: Array, y: Array, *, dim: Any) -> Array:
    """grad - eʸ·Σ grad, with y = log_softmax(x)."""
    return be.fill("log_softmax_grad", y.shape, y.dtype, grad, y, dim=dim)


_log_softmax.name = "log_softmax"
_log_softmax.rules(x=lambda g, out, dim: log_softmax_grad(g, out, dim=dim))
log_softmax_grad.rules(
    grad=lambda g, y, dim: sub(g, sum(mul(g, exp(y)), dim, keepdim=True)),
    y=lambda g, grad, y, dim: neg(mul(mul(g, exp(y)), sum(grad, dim, keepdim=True))),
)


@numpy_names
def log_softmax(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """x - ln Σeˣ along `dim`, without overflow."""
    x, dim = _floating("log_softmax", x, dtype), normalize_dim("log_softmax", dim, x.ndim)
    return _log_softmax(x, dim=dim) if x.ndim else sub(x, x)
