"""The operations as methods of Tensor: each one line onto ops, so that `x.relu()` is `tl.relu(x)`.

A function (or Op) in a class body is a method. A method with an underscore changes the tensor in place, see inplace.py.
"""

from __future__ import annotations

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
    logical_and, logical_or, logical_xor, logical_not = ops.logical_and, ops.logical_or, ops.logical_xor, ops.logical_not
    bitwise_and, bitwise_or, bitwise_xor, bitwise_not = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_not
    bitwise_left_shift, bitwise_right_shift = ops.bitwise_left_shift, ops.bitwise_right_shift
    isnan, isinf, isfinite, signbit = ops.isnan, ops.isinf, ops.isfinite, ops.signbit
    # activations
    relu, sigmoid, softmax, log_softmax = ops.relu, ops.sigmoid, ops.softmax, ops.log_softmax
    # reductions and scans
    sum, mean, var, std, prod = ops.sum, ops.mean, ops.var, ops.std, ops.prod
    amax, amin, max, min, argmax, argmin, median = ops.amax, ops.amin, ops.max, ops.min, ops.argmax, ops.argmin, ops.median
    any, all, count_nonzero, logsumexp, norm = ops.any, ops.all, ops.count_nonzero, ops.logsumexp, ops.norm
    cumsum, cumprod, diff = ops.cumsum, ops.cumprod, ops.diff
    # shapes and views
    reshape, view, flatten, unflatten, squeeze, unsqueeze = (
        ops.reshape, ops.view, ops.flatten, ops.unflatten, ops.squeeze, ops.unsqueeze)
    expand, broadcast_to, permute, transpose, swapaxes, swapdims, t, movedim, moveaxis = (
        ops.expand, ops.broadcast_to, ops.permute, ops.transpose, ops.transpose, ops.transpose, ops.t, ops.movedim, ops.movedim)
    narrow, select, diagonal, diag, unbind = ops.narrow, ops.select, ops.diagonal, ops.diag, ops.unbind
    split, chunk, tensor_split, flip, roll, tile, repeat = (
        ops.split, ops.chunk, ops.tensor_split, ops.flip, ops.roll, ops.tile, ops.repeat)
    # products
    matmul, mm, bmm, mv, dot, outer, trace, addmm = (
        ops.matmul, ops.mm, ops.bmm, ops.mv, ops.dot, ops.outer, ops.trace, ops.addmm)
    # indexing and order
    gather, take, take_along_dim, index_select = ops.gather, ops.take, ops.take_along_dim, ops.index_select
    scatter, scatter_add, index_add = ops.scatter, ops.scatter_add, ops.index_add
    masked_fill, masked_select, nonzero = ops.masked_fill, ops.masked_select, ops.nonzero
    sort, argsort, topk, tril, triu, repeat_interleave = (
        ops.sort, ops.argsort, ops.topk, ops.tril, ops.triu, ops.repeat_interleave)
    clone = ops.clone

    def where(self: Tensor, condition: Tensor, other: Any) -> Tensor:  # type: ignore[misc]
        """self where the condition holds, else other."""
        return ops.where(condition, self, other)  # type: ignore[no-any-return]

    def view_as(self: Tensor, other: Tensor) -> Tensor:  # type: ignore[misc]
        """A view in other's shape."""
        return ops.view(self, other.shape)

    def reshape_as(self: Tensor, other: Tensor) -> Tensor:  # type: ignore[misc]
        """reshape to other's shape."""
        return ops.reshape(self, other.shape)

    def expand_as(self: Tensor, other: Tensor) -> Tensor:  # type: ignore[misc]
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
        return ops.sub(other, self)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)  # type: ignore[no-any-return]

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> Any:
        return False if other is None or isinstance(other, str) else ops.eq(self, other)

    def __ne__(self, other: object) -> Any:
        return True if other is None or isinstance(other, str) else ops.ne(self, other)

    __hash__ = object.__hash__


class InPlaceMethods:
    """Mixed into Tensor: the methods that change it."""

    def add_(self, other: Any, *, alpha: float = 1) -> Tensor:
        return inplace.change(self, ops.add, other, alpha=alpha)

    def sub_(self, other: Any, *, alpha: float = 1) -> Tensor:
        return inplace.change(self, ops.sub, other, alpha=alpha)

    def mul_(self, other: Any) -> Tensor:
        return inplace.change(self, ops.mul, other)

    def div_(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        return inplace.change(self, ops.div, other, rounding_mode=rounding_mode)

    def pow_(self, exponent: Any) -> Tensor:
        return inplace.change(self, ops.pow, exponent)

    def floor_divide_(self, other: Any) -> Tensor:
        return inplace.change(self, ops.floor_divide, other)

    def remainder_(self, other: Any) -> Tensor:
        return inplace.change(self, ops.remainder, other)

    def neg_(self) -> Tensor:
        return inplace.change(self, ops.neg)

    def abs_(self) -> Tensor:
        return inplace.change(self, ops.abs)

    def exp_(self) -> Tensor:
        return inplace.change(self, ops.exp)

    def log_(self) -> Tensor:
        return inplace.change(self, ops.log)

    def sqrt_(self) -> Tensor:
        return inplace.change(self, ops.sqrt)

    def square_(self) -> Tensor:
        return inplace.change(self, ops.square)

    def reciprocal_(self) -> Tensor:
        return inplace.change(self, ops.reciprocal)

    def sin_(self) -> Tensor:
        return inplace.change(self, ops.sin)

    def cos_(self) -> Tensor:
        return inplace.change(self, ops.cos)

    def tanh_(self) -> Tensor:
        return inplace.change(self, ops.tanh)

    def sigmoid_(self) -> Tensor:
        return inplace.change(self, ops.sigmoid)

    def relu_(self) -> Tensor:
        return inplace.change(self, ops.relu)

    def floor_(self) -> Tensor:
        return inplace.change(self, ops.floor)

    def ceil_(self) -> Tensor:
        return inplace.change(self, ops.ceil)

    def round_(self, *, decimals: int = 0) -> Tensor:
        return inplace.change(self, ops.round, decimals=decimals)

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        return inplace.change(self, ops.clamp, min, max)

    clip_ = clamp_

    def lerp_(self, end: Tensor, weight: Any) -> Tensor:
        return inplace.change(self, ops.lerp, end, weight)

    def addcmul_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        return inplace.change(self, ops.addcmul, a, b, value=value)

    def addcdiv_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        return inplace.change(self, ops.addcdiv, a, b, value=value)

    def logical_not_(self) -> Tensor:
        return inplace.change(self, lambda x: ops.logical_not(x).to(x.dtype))

    def masked_fill_(self, mask: Tensor, value: Any) -> Tensor:
        return inplace.change(self, ops.masked_fill, mask, value)

    def scatter_(self, dim: int, index: Tensor, src: Any) -> Tensor:
        return inplace.change(self, ops.scatter, dim, index, src)

    def scatter_add_(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        return inplace.change(self, ops.scatter_add, dim, index, src)

    def index_add_(self, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        return inplace.change(self, ops.index_add, dim, index, source, alpha=alpha)

    def tril_(self, diagonal: int = 0) -> Tensor:
        return inplace.change(self, ops.tril, diagonal)

    def triu_(self, diagonal: int = 0) -> Tensor:
        return inplace.change(self, ops.triu, diagonal)

    def copy_(self, source: Any, non_blocking: bool = False) -> Tensor:
        """Take the (broadcast) values of another tensor, of any dtype and device."""
        return inplace.change(self, inplace.replaced, source)

    def fill_(self, value: Any) -> Tensor:
        """Every element becomes `value`."""
        return inplace.change(self, inplace.replaced, value)

    def zero_(self) -> Tensor:
        """Every element becomes 0."""
        return inplace.change(self, inplace.replaced, 0)

    def uniform_(self, from_: float = 0.0, to: float = 1.0, *, generator: Any = None) -> Tensor:
        """Uniform random numbers from [from_, to)."""
        return inplace.overwrite(self, random.fill_uniform_, from_, to, generator)

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Normal random numbers."""
        return inplace.overwrite(self, random.fill_normal_, mean, std, generator)

    def bernoulli_(self, p: float = 0.5, *, generator: Any = None) -> Tensor:
        """1 with probability p, else 0."""
        return inplace.overwrite(self, random.fill_bernoulli_, p, generator)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_
    __ipow__, __ifloordiv__, __imod__ = pow_, floor_divide_, remainder_

    def __iand__(self, other: Any) -> Tensor:
        return inplace.change(self, ops.bitwise_and, other)

    def __ior__(self, other: Any) -> Tensor:
        return inplace.change(self, ops.bitwise_or, other)

    def __ixor__(self, other: Any) -> Tensor:
        return inplace.change(self, ops.bitwise_xor, other)
