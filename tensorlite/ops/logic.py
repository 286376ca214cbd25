"""Comparisons, logical and bitwise operations, and tests of single values. Results are bool (bitwise: the operands'
dtype) and carry no gradient. Comparisons follow IEEE: NaN equals nothing, also not itself.
"""

from __future__ import annotations

import numpy as np

from ..autograd.op import ANY, NONE, Op, op
from ..backends import Array, Backend
from ..errors import DTypeError
from .one_kernel import binary, named, unary

_BOOL = np.dtype(np.bool_)

eq = binary("eq", "x == y, elementwise.", dtype=_BOOL)
ne = binary("ne", "x != y, elementwise.", dtype=_BOOL)
lt = binary("lt", "x < y, elementwise.", dtype=_BOOL)
le = binary("le", "x <= y, elementwise.", dtype=_BOOL)
gt = binary("gt", "x > y, elementwise.", dtype=_BOOL)
ge = binary("ge", "x >= y, elementwise.", dtype=_BOOL)
logical_and = binary("logical_and", "Both nonzero.", dtype=_BOOL)
logical_or = binary("logical_or", "At least one nonzero.", dtype=_BOOL)
logical_xor = binary("logical_xor", "Exactly one nonzero.", dtype=_BOOL)
logical_not = unary("logical_not", "Whether x is zero.", promote=NONE, dtype=_BOOL)


def _bitwise(name: str, formula: str) -> Op:
    def forward(be: Backend, x: Array, y: Array) -> Array:
        _refuse_floats(name, x, y)
        return be.elementwise(name, x, y)

    return named(forward, name, f"{formula} Raises DTypeError for floats.", promote=ANY)


def _refuse_floats(name: str, *operands: Array) -> None:
    if any(getattr(a, "dtype", _BOOL).kind not in "biu" or type(a) is float for a in operands):
        raise DTypeError(f"{name} takes integers or bools, got a floating operand; convert it with .to(tl.int64)")


bitwise_and = _bitwise("bitwise_and", "The bits set in both; logical and for bool.")
bitwise_or = _bitwise("bitwise_or", "The bits set in either; logical or for bool.")
bitwise_xor = _bitwise("bitwise_xor", "The bits set in exactly one; logical xor for bool.")
bitwise_left_shift = _bitwise("bitwise_left_shift", "x · 2ʸ on integers.")
bitwise_right_shift = _bitwise("bitwise_right_shift", "⌊x / 2ʸ⌋ on integers.")


@op
def bitwise_not(be: Backend, x: Array) -> Array:
    """All bits flipped; logical not for bool. Raises DTypeError for floats."""
    _refuse_floats("bitwise_not", x)
    return be.elementwise("bitwise_not", x)


def _test(name: str, question: str, of_integers: bool) -> Op:
    """A test of floating values; integers and bools all give `of_integers`."""

    def forward(be: Backend, x: Array) -> Array:
        if x.dtype.kind in "biu":
            return be.fill("fill", x.shape, _BOOL, of_integers)
        return be.elementwise(name, x, dtype=_BOOL)

    return named(forward, name, question, promote=NONE)


isnan = _test("isnan", "Whether x is NaN.", False)
isinf = _test("isinf", "Whether x is inf or -inf.", False)
isfinite = _test("isfinite", "Whether x is neither infinite nor NaN.", True)


@op
def signbit(be: Backend, x: Array) -> Array:
    """Whether the sign bit is set, also of -0.0."""
    if x.dtype.kind in "biu":
        return be.elementwise("lt", x, 0, dtype=_BOOL)
    return be.elementwise("signbit", x, dtype=_BOOL)
