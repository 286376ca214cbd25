"""NumPy's keyword names for PyTorch's: `axis` for `dim`, `keepdims` for `keepdim`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")

_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(function: Callable[P, R]) -> Callable[P, R]:
    """The function, also callable with `axis` and `keepdims`. Raises ArgumentError where both names are given."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            for theirs, ours in _NAMES.items():
                if theirs in kwargs:
                    if ours in kwargs:
                        raise ArgumentError(f"{function.__name__}: got both {ours}= and {theirs}=; give one")
                    kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return call
