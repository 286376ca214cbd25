"""Arguments that torch's functions take and tensorlite's do not, and that a script that is run here may pass.

`out=` and the names of the first arguments: `torch.matmul(input=a, other=b, out=c)`. With `--run` alone; in `tl`
tensors are passed by place, and there is no `out`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ..autograd.op import Op
from .places import Missing, find

BY_PLACE: Final = ("input", "tensors", "self", "other")  # in this order before all others
SERVED: Final = frozenset({"out", *BY_PLACE})


def takes_served(path: str) -> bool:
    """Whether a torch path is of a function that is served with these arguments: those of `torch` itself."""
    if path.count(".") != 1:
        return False
    try:
        return is_operation(find(path))
    except Missing:
        return False


def is_operation(found: Any) -> bool:
    """Whether something is an operation on tensors."""
    return isinstance(found, Op) or str(getattr(found, "__module__", "")).startswith("tensorlite.ops.")


@functools.cache
def served(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that also takes these arguments."""

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **options: Any) -> Any:
        first = [options.pop(name) for name in BY_PLACE if name in options]
        result = function(*(*first, *args) if "input" not in options else args, **options)
        return result if out is None else out.copy_(result)

    return call
