"""Comparisons, logical and bitwise operations, and tests of single values. Results are bool (bitwise: the operands'
dtype) and carry no gradient. Comparisons follow IEEE: NaN equals nothing, also not itself.
"""

from __future__ import annotations

import numpy as np

from ..autograd.op import ANY, op
from ..backends import Array, Backend
from ..errors import DTypeError

_BOOL = np.dtype(np.bool_)


@op(promote=ANY)
def eq(be: Backend, x: Array, y: Array) -> Array:
    """x == y, elementwise."""
    return be.elementwise("eq", x, y, dtype=_BOOL)


@op(promote=ANY)
def ne(be: Backend, x: Array, y: Array) -> Array:
    """x != y, elementwise."""
    return be.elementwise("ne", x, y, dtype=_BOOL)


@op(promote=ANY)
def lt(be: Backend, x: Array, y: Array) -> Array:
    """x < y, elementwise."""
    return be.elementwise("lt", x, y, dtype=_BOOL)


@op(promote=ANY)
def le(be: Backend, x: Array, y: Array) -> Array:
    """x <= y, elementwise."""
    return be.elementwise("le", x, y, dtype=_BOOL)


@op(promote=ANY)
def gt(be: Backend, x: Array, y: Array) -> Array:
    """x > y, elementwise."""
    return be.elementwise("gt", x, y, dtype=_BOOL)


@op(promote=ANY)
def ge(be: Backend, x: Array, y: Array) -> Array:
    """x >= y, elementwise."""
    return be.elementwise("ge", x, y, dtype=_BOOL)


@op(promote=ANY)
def logical_and(be: Backend, x: Array, y: Array) -> Array:
    """Both nonzero."""
    return be.elementwise("logical_and", x, y, dtype=_BOOL)


@op(promote=ANY)
def logical_or(be: Backend, x: Array, y: Array) -> Array:
    """At least one nonzero."""
    return be.elementwise("logical_or", x, y, dtype=_BOOL)


@op(promote=ANY)
def logical_xor(be: Backend, x: Array, y: Array) -> Array:
    """Exactly one nonzero."""
    return be.elementwise("logical_xor", x, y, dtype=_BOOL)


@op
def logical_not(be: Backend, x: Array) -> Array:
    """Whether x is zero."""
    return be.elementwise("logical_not", x, dtype=_BOOL)


def _bitwise(be: Backend, kernel: str, x: Array, y: Array) -> Array:
    if any(getattr(a, "dtype", _BOOL).kind not in "biu" or type(a) is float for a in (x, y)):
        raise DTypeError(f"{kernel} takes integers or bools, got a floating operand; convert it with .to(tl.int64)")
    return be.elementwise(kernel, x, y)


@op(promote=ANY)
def bitwise_and(be: Backend, x: Array, y: Array) -> Array:
    """The bits set in both; logical and for bool. Raises DTypeError for floats."""
    return _bitwise(be, "bitwise_and", x, y)


@op(promote=ANY)
def bitwise_or(be: Backend, x: Array, y: Array) -> Array:
    """The bits set in either; logical or for bool. Raises DTypeError for floats."""
    return _bitwise(be, "bitwise_or", x, y)


@op(promote=ANY)
def bitwise_xor(be: Backend, x: Array, y: Array) -> Array:
    """The bits set in exactly one; logical xor for bool. Raises DTypeError for floats."""
    return _bitwise(be, "bitwise_xor", x, y)


@op(promote=ANY)
def bitwise_left_shift(be: Backend, x: Array, y: Array) -> Array:
    """x · 2ʸ on integers. Raises DTypeError for floats."""
    return _bitwise(be, "bitwise_left_shift", x, y)


@op(promote=ANY)
def bitwise_right_shift(be: Backend, x: Array, y: Array) -> Array:
    """⌊x / 2ʸ⌋ on integers. Raises DTypeError for floats."""
    return _bitwise(be, "bitwise_right_shift", x, y)


@op
def bitwise_not(be: Backend, x: Array) -> Array:
    """All bits flipped; logical not for bool. Raises DTypeError for floats."""
    if x.dtype.kind not in "biu":
        raise DTypeError("bitwise_not takes integers or bools, got a floating operand; convert it with .to(tl.int64)")
    return be.elementwise("bitwise_not", x)


def _test(be: Backend, kernel: str, x: Array, of_integers: bool) -> Array:
    """A test of floating values; integers and bools all give `of_integers`."""
    if x.dtype.kind in "biu":
        return be.fill("fill", x.shape, _BOOL, of_integers)
    return be.elementwise(kernel, x, dtype=_BOOL)


@op
def isnan(be: Backend, x: Array) -> Array:
    """Whether x is NaN."""
    return _test(be, "isnan", x, False)


@op
def isinf(be: Backend, x: Array) -> Array:
    """Whether x is inf or -inf."""
    return _test(be, "isinf", x, False)


@op
def isfinite(be: Backend, x: Array) -> Array:
    """Whether x is neither infinite nor NaN."""
    return _test(be, "isfinite", x, True)


@op
def signbit(be: Backend, x: Array) -> Array:
    """Whether the sign bit is set, also of -0.0."""
    return be.elementwise("lt", x, 0, dtype=_BOOL) if x.dtype.kind in "biu" else _test(be, "signbit", x, False)
