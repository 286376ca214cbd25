"""Words for what is nearly right: a value of another library in the place of a Tensor, a name that a module lacks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import DTypeError

_OTHER_LIBRARIES = ("torch", "jax", "jaxlib", "tensorflow", "PIL")  # whose classes are called Tensor, Array, Image


def type_name(value: Any) -> str:
    """The name of a value's class, and which library it is of where the name alone would mislead."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    return f"{library}.{kind.__name__}" if library in _OTHER_LIBRARIES else kind.__name__


def expected_tensor(name: str, value: Any, what: str = "a Tensor") -> DTypeError:
    """The error for what is no Tensor; the message says how to make one of it.

    >>> from tensorlite.mistakes import expected_tensor
    >>> print(expected_tensor("relu", [1.0, -1.0]))
    relu: expected a Tensor, got list; wrap it in tl.tensor(...)
    """
    return DTypeError(f"{name}: expected {what}, got {type_name(value)}{_cure(value)}")


def _cure(value: Any) -> str:
    """How a Tensor is made of a value, if it can be."""
    if type_name(value) == "torch.Tensor":
        return "; convert it with tl.from_numpy(t.detach().cpu().numpy()), or share its memory with tl.from_dlpack(t)"
    numbers = isinstance(value, bool | int | float | complex | list | tuple | np.ndarray | np.generic)
    return "; wrap it in tl.tensor(...)" if numbers else ""


def unknown_name(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error of a module's `__getattr__` for a name that it lacks, with the nearest of those that it has.

    >>> from tensorlite.mistakes import unknown_name
    >>> print(unknown_name("tensorlite.nn", "Conv2D", ["Conv1d", "Conv2d", "Linear"]))
    module 'tensorlite.nn' has no attribute 'Conv2D'; did you mean 'Conv2d'?
    """
    message = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # protocols ask for such names all the time
        return AttributeError(message)
    public = [one for one in known if not one.startswith("_")]
    same = [one for one in public if _plain(one) == _plain(name)]
    near = same or difflib.get_close_matches(name, public, 1, 0.75)
    return AttributeError(f"{message}; did you mean {near[0]!r}?" if near else message)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
