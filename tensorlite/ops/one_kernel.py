"""Ops that are one elementwise kernel of the same name: a row each, with the formula and the derivative.

    exp = unary("exp", "eˣ.", x=lambda g, out: mul(g, out))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.op import ANY, FLOAT, Op, Rule
from ..backends import Array, Backend


def unary(name: str, formula: str, *, promote: str = FLOAT, dtype: np.dtype[Any] | None = None, **rules: Rule) -> Op:
    """The op `name` of one operand; the result has its dtype, or `dtype`. The rules are those of Op.rules."""

    def forward(be: Backend, x: Array) -> Array:
        return be.elementwise(name, x, dtype=dtype)

    return named(forward, name, formula, promote=promote, **rules)


def binary(name: str, formula: str, *, promote: str = ANY, dtype: np.dtype[Any] | None = None, **rules: Rule) -> Op:
    """The op `name` of two broadcast operands; the result has their common dtype, or `dtype`."""

    def forward(be: Backend, x: Array, y: Array) -> Array:
        return be.elementwise(name, x, y, dtype=dtype)

    return named(forward, name, formula, promote=promote, **rules)


def named(forward: Callable[..., Array], name: str, formula: str, *, promote: str, **rules: Rule) -> Op:
    """An op of a forward function that was made for it."""
    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = formula
    result = Op(forward, promote, view=False)
    result.rules(**rules)
    return result
