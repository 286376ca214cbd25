"""Questions about values and dtypes as functions, under PyTorch's names."""

from __future__ import annotations

from typing import Any, TypeGuard

from . import dtypes
from .dtypes import DType
from .tensor import Tensor


def is_tensor(obj: Any) -> TypeGuard[Tensor]:
    """Whether something is a Tensor.

    >>> tl.is_tensor(tl.ones(2)), tl.is_tensor([1.0])
    (True, False)
    """
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether a Tensor holds floating numbers."""
    return input.is_floating_point()


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element of a Tensor is not 0. Raises ShapeError for more or fewer elements."""
    return bool(input)


def numel(input: Tensor) -> int:
    """How many elements a Tensor has."""
    return input.numel()


def can_cast(from_: DType, to: DType) -> bool:
    """Whether values of a dtype may become those of another in place: not from floats to integers, nor to bools.

    >>> tl.can_cast(tl.int64, tl.float32), tl.can_cast(tl.float32, tl.int64)
    (True, False)
    """
    return dtypes.as_dtype(to).category >= dtypes.as_dtype(from_).category
