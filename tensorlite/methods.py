"""The operations as methods of Tensor: each one line onto ops, so that `x.relu()` is `tl.relu(x)`.

A function (or Op) in a class body is a method. A method with an underscore changes the tensor in place, see inplace.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import inplace, ops, random

if TYPE_CHECKING:
    from .tensor import Tensor


class Methods:
    """Mixed into Tensor."""

    # elementwise
    abs, neg, negative, sign, square, reciprocal = ops.abs, ops.neg, ops.neg, ops.sign, ops.square, ops.reciprocal
    add, sub, subtract, mul, multiply, div = ops.add, ops.sub, ops.sub, ops.mul, ops.mul, ops.div
    divide, true_divide = ops.div, ops.div
    floor_divide, remainder, fmod, pow = ops.floor_divide, ops.remainder, ops.fmod, ops.pow
    exp, exp2, expm1, log, log2, log10, log1p = ops.exp, ops.exp2, ops.expm1, ops.log, ops.log2, ops.log10, ops.log1p
    sqrt, rsqrt, logaddexp = ops.sqrt, ops.rsqrt, ops.logaddexp
    sin, cos, tan, asin, acos, atan, atan2 = ops.sin, ops.cos, ops.tan, ops.asin, ops.acos, ops.atan, ops.atan2
    arcsin, arccos, arctan, arctan2 = ops.asin, ops.acos, ops.atan, ops.atan2
    sinh, cosh, tanh, asinh, acosh, atanh = ops.sinh, ops.cosh, ops.tanh, ops.asinh, ops.acosh, ops.atanh
    arcsinh, arccosh, arctanh = ops.asinh, ops.acosh, ops.atanh
    floor, ceil, trunc, fix, round = ops.floor, ops.ceil, ops.trunc, ops.trunc, ops.round
    maximum, minimum, clamp, clip = ops.maximum, ops.minimum, ops.clamp, ops.clamp
    copysign, erf, lerp, addcmul, addcdiv = ops.copysign, ops.erf, ops.lerp, ops.addcmul, ops.addcdiv
    nan_to_num, isclose, allclose, equal = ops.nan_to_num, ops.isclose, ops.allclose, ops.equal
    # comparisons, logic, bits
    eq, ne, lt, le, gt, ge = ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge
    logical_and, logical_or, logical_xor = ops.logical_and, ops.logical_or, ops.logical_xor
    bitwise_and, bitwise_or, bitwise_xor = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor
    logical_not, bitwise_not = ops.logical_not, ops.bitwise_not
    bitwise_left_shift, bitwise_right_shift = ops.bitwise_left_shift, ops.bitwise_right_shift
    isnan, isinf, isfinite, signbit = ops.isnan, ops.isinf, ops.isfinite, ops.signbit
    # activations
    relu, sigmoid, softmax, log_softmax = ops.relu, ops.sigmoid, ops.softmax, ops.log_softmax
    # reductions and scans
    sum, mean, var, std, prod = ops.sum, ops.mean, ops.var, ops.std, ops.prod
    amax, amin, argmax, argmin, max, min = ops.amax, ops.amin, ops.argmax, ops.argmin, ops.max, ops.min
    any, all, count_nonzero, logsumexp, norm = ops.any, ops.all, ops.count_nonzero, ops.logsumexp, ops.norm
    cumsum, cumprod, diff, median = ops.cumsum, ops.cumprod, ops.diff, ops.median
    # shapes and views
    reshape, view, flatten, unflatten, squeeze, unsqueeze = (
        ops.reshape, ops.view, ops.flatten, ops.unflatten, ops.squeeze, ops.unsqueeze)
    expand, broadcast_to, permute, movedim, moveaxis = (
        ops.expand, ops.broadcast_to, ops.permute, ops.movedim, ops.movedim)
    t, transpose, swapaxes, swapdims = ops.t, ops.transpose, ops.transpose, ops.transpose
    narrow, select, diagonal, diag, unbind = ops.narrow, ops.select, ops.diagonal, ops.diag, ops.unbind
    split, chunk, tensor_split, flip, roll, tile, repeat = (
        ops.split, ops.chunk, ops.tensor_split, ops.flip, ops.roll, ops.tile, ops.repeat)
    unfold = ops.unfold
    # products
    matmul, mm, bmm, mv, dot, outer, trace, addmm = (
        ops.matmul, ops.mm, ops.bmm, ops.mv, ops.dot, ops.outer, ops.trace, ops.addmm)
    # indexing and order
    gather, take, take_along_dim, index_select = ops.gather, ops.take, ops.take_along_dim, ops.index_select
    scatter, scatter_add, index_add = ops.scatter, ops.scatter_add, ops.index_add
    masked_fill, masked_select, nonzero = ops.masked_fill, ops.masked_select, ops.nonzero
    sort, argsort, topk, tril, triu, repeat_interleave = (
        ops.sort, ops.argsort, ops.topk, ops.tril, ops.triu, ops.repeat_interleave)
    index_fill, index_copy, masked_scatter, scatter_reduce = (
        ops.index_fill, ops.index_copy, ops.masked_scatter, ops.scatter_reduce)
    cummax, cummin, logcumsumexp, kthvalue, unique = (
        ops.cummax, ops.cummin, ops.logcumsumexp, ops.kthvalue, ops.unique)
    fliplr, flipud, rot90, ravel = ops.fliplr, ops.flipud, ops.rot90, ops.flatten
    clone, conj, positive = ops.clone, ops.real, ops.real
    # composed of these
    absolute, sgn, ger, clamp_min, clamp_max = ops.abs, ops.sign, ops.outer, ops.clamp_min, ops.clamp_max
    frac, deg2rad, rad2deg, logit, fmax, fmin = ops.frac, ops.deg2rad, ops.rad2deg, ops.logit, ops.fmax, ops.fmin
    isposinf, isneginf, baddbmm, addmv, inner, kron, cross = (
        ops.isposinf, ops.isneginf, ops.baddbmm, ops.addmv, ops.inner, ops.kron, ops.cross)
    msort, argwhere, diagflat = ops.msort, ops.argwhere, ops.diagflat
    nansum, nanmean, aminmax, quantile = ops.nansum, ops.nanmean, ops.aminmax, ops.quantile
    bincount, histc, cov, corrcoef = ops.bincount, ops.histc, ops.cov, ops.corrcoef
    greater, greater_equal, less, less_equal, not_equal = ops.gt, ops.ge, ops.lt, ops.le, ops.ne

    def where(self: Any, condition: Tensor, other: Any) -> Tensor:
        """self where the condition holds, else other."""
        return ops.where(condition, self, other)

    def view_as(self: Any, other: Tensor) -> Tensor:
        """A view in other's shape."""
        return ops.view(self, other.shape)

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """reshape to other's shape."""
        return ops.reshape(self, other.shape)

    def expand_as(self: Any, other: Tensor) -> Tensor:
        """expand to other's shape."""
        return ops.expand(self, other.shape)

    # operators
    __pos__ = ops.clone
    __neg__, __abs__, __invert__ = ops.neg, ops.abs, ops.bitwise_not
    __add__, __sub__, __mul__, __truediv__, __floordiv__, __mod__, __pow__ = (
        ops.add, ops.sub, ops.mul, ops.div, ops.floor_divide, ops.remainder, ops.pow)
    __radd__, __rmul__ = ops.add, ops.mul
    __matmul__ = ops.matmul
    __and__, __or__, __xor__, __lshift__, __rshift__ = (
        ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_left_shift, ops.bitwise_right_shift)
    __rand__, __ror__, __rxor__ = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor
    __lt__, __le__, __gt__, __ge__ = ops.lt, ops.le, ops.gt, ops.ge

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __rlshift__(self, other: Any) -> Tensor:
        return ops.bitwise_left_shift(other, self)

    def __rrshift__(self, other: Any) -> Tensor:
        return ops.bitwise_right_shift(other, self)

    def __eq__(self, other: object) -> Any:
        return False if other is None or isinstance(other, str) else ops.eq(self, other)

    def __ne__(self, other: object) -> Any:
        return True if other is None or isinstance(other, str) else ops.ne(self, other)

    __hash__ = object.__hash__


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method by which a tensor's contents become function(tensor, ...)."""

    def method(self: Any, *args: Any, **params: Any) -> Tensor:
        return inplace.change(self, function, *args, **params)

    method.__doc__ = f"{function.__name__.strip('_')}, in place: see that function for the arguments."
    return method


class InPlaceMethods:
    """Mixed into Tensor: the methods that change it."""

    add_, sub_, mul_, div_ = _in_place(ops.add), _in_place(ops.sub), _in_place(ops.mul), _in_place(ops.div)
    pow_, floor_divide_, remainder_ = _in_place(ops.pow), _in_place(ops.floor_divide), _in_place(ops.remainder)
    neg_, abs_, square_, reciprocal_ = (
        _in_place(ops.neg), _in_place(ops.abs), _in_place(ops.square), _in_place(ops.reciprocal))
    exp_, log_, sqrt_, sin_, cos_ = (
        _in_place(ops.exp), _in_place(ops.log), _in_place(ops.sqrt), _in_place(ops.sin), _in_place(ops.cos))
    tanh_, sigmoid_, relu_ = _in_place(ops.tanh), _in_place(ops.sigmoid), _in_place(ops.relu)
    floor_, ceil_, round_ = _in_place(ops.floor), _in_place(ops.ceil), _in_place(ops.round)
    clamp_, clip_, lerp_ = _in_place(ops.clamp), _in_place(ops.clamp), _in_place(ops.lerp)
    clamp_min_, clamp_max_ = _in_place(ops.clamp_min), _in_place(ops.clamp_max)
    rsqrt_, expm1_, log1p_, log2_, log10_, erf_ = (
        _in_place(ops.rsqrt), _in_place(ops.expm1), _in_place(ops.log1p), _in_place(ops.log2), _in_place(ops.log10),
        _in_place(ops.erf))
    trunc_, frac_, sign_, nan_to_num_, fmod_ = (
        _in_place(ops.trunc), _in_place(ops.frac), _in_place(ops.sign), _in_place(ops.nan_to_num), _in_place(ops.fmod))
    cumsum_, cumprod_, addmm_, baddbmm_ = (
        _in_place(ops.cumsum), _in_place(ops.cumprod), _in_place(ops.addmm), _in_place(ops.baddbmm))
    subtract_, multiply_, divide_ = _in_place(ops.sub), _in_place(ops.mul), _in_place(ops.div)
    addcmul_, addcdiv_ = _in_place(ops.addcmul), _in_place(ops.addcdiv)
    masked_fill_, tril_, triu_ = _in_place(ops.masked_fill), _in_place(ops.tril), _in_place(ops.triu)
    scatter_, scatter_add_, index_add_ = (
        _in_place(ops.scatter), _in_place(ops.scatter_add), _in_place(ops.index_add))
    index_fill_, index_copy_, masked_scatter_, scatter_reduce_ = (
        _in_place(ops.index_fill), _in_place(ops.index_copy), _in_place(ops.masked_scatter),
        _in_place(ops.scatter_reduce))

    def logical_not_(self: Any) -> Tensor:
        """Each element becomes whether it is zero, in the tensor's dtype."""
        return inplace.change(self, inplace.replaced, ops.logical_not(self))

    def copy_(self: Any, source: Any, non_blocking: bool = False) -> Tensor:
        """Take the (broadcast) values of another tensor, of any dtype and device."""
        return inplace.change(self, inplace.replaced, source)

    def fill_(self: Any, value: Any) -> Tensor:
        """Every element becomes `value`."""
        return inplace.change(self, inplace.replaced, value)

    def zero_(self: Any) -> Tensor:
        """Every element becomes 0."""
        return inplace.change(self, inplace.replaced, 0)

    def uniform_(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None) -> Tensor:
        """Uniform random numbers from [from_, to)."""
        return inplace.overwrite(self, random.fill_uniform_, from_, to, generator)

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Normal random numbers."""
        return inplace.overwrite(self, random.fill_normal_, mean, std, generator)

    def random_(self: Any, low: int | None = None, high: int | None = None, *, generator: Any = None) -> Tensor:
        """Random integers from [low, high); `random_(n)` is [0, n), `random_()` all that the dtype counts to."""
        low, high = (0, low) if high is None else (low, high)
        return inplace.overwrite(self, random.fill_integers_, low, high, generator)

    def exponential_(self: Any, rate: float = 1.0, *, generator: Any = None) -> Tensor:
        """Exponential random numbers of mean 1/rate."""
        return inplace.overwrite(self, random.fill_exponential_, rate, generator)

    def bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Tensor:
        """1 with probability p (a number, or one per element), else 0."""
        return inplace.overwrite(self, random.fill_bernoulli_, p, generator)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_
    __ipow__, __ifloordiv__, __imod__ = pow_, floor_divide_, remainder_
    __iand__, __ior__, __ixor__ = _in_place(ops.bitwise_and), _in_place(ops.bitwise_or), _in_place(ops.bitwise_xor)
    __ilshift__, __irshift__ = _in_place(ops.bitwise_left_shift), _in_place(ops.bitwise_right_shift)
