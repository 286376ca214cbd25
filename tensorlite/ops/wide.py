"""Store narrow, compute wide, for functions that are composed of several operations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

from ..autograd.tape import Var

if TYPE_CHECKING:
    from ..tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def is_tensor(x: Any) -> TypeGuard[Tensor]:
    """Whether something is a Tensor."""
    return isinstance(x, Var)


def widened(x: Any) -> Any:
    """A float16 or bfloat16 Tensor in float32; anything else as it is."""
    return x.float() if is_tensor(x) and x.dtype.is_narrow else x


def computed_wide(function: Callable[P, R]) -> Callable[P, R]:
    """The function; where all its tensors are of one 16-bit floating dtype, it computes in float32 and rounds once."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        kinds = {a.dtype for a in args if is_tensor(a)}
        if len(kinds) != 1 or not (kind := kinds.pop()).is_narrow:
            return function(*args, **kwargs)
        wide: Any = function
        return wide(*[widened(a) for a in args], **kwargs).to(kind)  # type: ignore[no-any-return]

    return call
