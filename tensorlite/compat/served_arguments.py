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

PLACES: Final = {"input": 0, "tensors": 0, "self": 0, "other": 1}
OTHER_PLACES: Final = {"searchsorted": {"sorted_sequence": 0, "input": 1},
                       "where": {"condition": 0, "input": 1, "other": 2}}
SERVED: Final = frozenset({"out", *PLACES})


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
    places = OTHER_PLACES.get(function.__name__, PLACES)

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **options: Any) -> Any:
        given = list(args)
        for name, place in places.items():
            if name in options:
                given.insert(place, options.pop(name))
        result = function(*given, **options)
        return result if out is None else out.copy_(result)

    return call
