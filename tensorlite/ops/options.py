"""How arguments of operations are read: tensors, floating inputs, options for all dimensions or each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

from ..autograd.tape import Var
from ..errors import ArgumentError, DTypeError
from ..mistakes import expected_tensor

Size = int | Sequence[int]


def sizes(name: str, what: str, value: Size, count: int, least: int) -> tuple[int, ...]:
    """An option for `count` dimensions, given as one number or as many. Raises ArgumentError for other numbers of them,
    for what is no integer, and below `least`.

    >>> from tensorlite.ops.options import sizes
    >>> sizes("conv2d", "stride", 2, count=2, least=1)
    (2, 2)
    """
    listed = tuple(value) if isinstance(value, Sequence) else (value,)
    try:
        numbers = tuple(operator.index(n) for n in (listed * count if len(listed) == 1 else listed))
    except TypeError:
        numbers = ()
    if len(numbers) != count or min(numbers) < least:
        raise ArgumentError(f"{name}: {what} must be an integer >= {least} or a tuple of {count}, got {value!r}")
    return numbers


def pair(name: str, what: str, value: Size, least: int = 1) -> tuple[int, int]:
    """(rows, columns) of an option. Raises ArgumentError as `sizes` does."""
    rows, columns = sizes(name, what, value, 2, least)
    return rows, columns


def is_given(value: Size | None) -> TypeGuard[Size]:
    """Whether an option is not left to its default, as None and () leave it."""
    return value is not None and not (isinstance(value, Sequence) and not value)


def require_tensors(name: str, *values: Any) -> None:
    """Raise DTypeError for the first that is no tensor."""
    for x in values:
        if not isinstance(x, Var):
            raise expected_tensor(name, x)


def require_floating(name: str, x: Any) -> None:
    """Raise DTypeError for what is no tensor of a floating dtype."""
    require_tensors(name, x)
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: expected a floating dtype, got {x.dtype.name}; convert with .float()")
