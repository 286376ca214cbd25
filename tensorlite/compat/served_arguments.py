"""Arguments that torch's functions take and tensorlite's do not, and that a script that is run here may pass.

`out=` and the names of the first arguments: `torch.matmul(input=a, other=b, out=c)`, `torch.flip(x, dims=(0,))`. With
`--run` alone; in `tl` tensors and sizes are passed by place, and there is no `out`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from ..autograd.op import Op
from .places import Missing, find

# The names of what torch takes first, in order; where they are others than `input` (or `tensors`) and `other`.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("addcdiv", "addcmul"), ("input", "tensor1", "tensor2")),
    **dict.fromkeys(("bmm", "mm"), ("input", "mat2")),
    **dict.fromkeys(("empty", "ones", "rand", "randn", "zeros"), ("size",)),
    **dict.fromkeys(("flip", "permute", "tile"), ("input", "dims")),
    "addmm": ("input", "mat1", "mat2"),
    "dot": ("input", "tensor"),
    "mv": ("input", "vec"),
    "outer": ("input", "vec2"),
    "pow": ("input", "exponent"),
    "reshape": ("input", "shape"),
    "searchsorted": ("sorted_sequence", "input"),
    "where": ("condition", "input", "other"),
}
_USUAL: Final = {"input": 0, "tensors": 0, "self": 0, "other": 1}
_MODULES: Final = ("tensorlite.ops.", "tensorlite.creation", "tensorlite.sampling")


def places(function: Callable[..., Any]) -> dict[str, int]:
    """By the name of a first argument the place that it has."""
    names = _NAMES.get(function.__name__)
    return _USUAL if names is None else {name: place for place, name in enumerate(names)}


def serves(path: str, argument: str) -> bool:
    """Whether a torch path is of a function that is served with an argument of this name: one of `torch` itself."""
    if path.count(".") != 1:
        return False
    try:
        found = find(path)
    except Missing:
        return False
    return is_operation(found) and (argument == "out" or argument in places(found))


def is_operation(found: Any) -> bool:
    """Whether something is an operation on tensors, or makes them."""
    return isinstance(found, Op) or (inspect.isfunction(found) and found.__module__.startswith(_MODULES))


@functools.cache
def served(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that also takes these arguments."""
    named = places(function)

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **options: Any) -> Any:
        given = list(args)
        for name, place in named.items():
            if name in options:
                given.insert(place, options.pop(name))
        result = function(*given, **options)
        return result if out is None else out.copy_(result)

    return call
