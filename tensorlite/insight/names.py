"""What to call a tensor: the path of a parameter in its model, or the user's variable that holds it.

Names are kept beside weak references, by id: the reference tells whether the id still belongs to the object it was.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from types import FrameType
from typing import Any, Final

from ..autograd.tape import Node, Var
from ..errors import users_frame
from ..nn import Module
from ..nn.tree import join

_UNHELD: Final = 3  # references to a dict that only the frame holds: the frame's, a variable's, an argument's

_known: dict[int, tuple[weakref.ref[Any], str]] = {}


def learn_model(module: Module, path: str) -> None:
    """Remember the names of a model's parameters and buffers."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        for held in (tensor, tensor.array):  # of what needs no gradient a tape knows the array alone
            _learn(held, join(path, name))


def learn_variables() -> None:
    """Remember the names of the variables in the user's function, as they are now, for what has no name yet."""
    for held, name in _variables().values():
        if not _name(held):
            _learn(held, name)


def _learn(held: Any, name: str) -> None:
    _known[id(held)] = weakref.ref(held, functools.partial(_forget, id(held))), name


def _forget(key: int, _: Any) -> None:
    _known.pop(key, None)


def _name(held: Any) -> str:
    reference, name = _known.get(id(held), (None, ""))
    return name if reference is not None and reference() is held else ""


class Names:
    """Names by tensor, by node, and by array: those remembered, and the variables that the user's function has now."""

    def __init__(self) -> None:
        self._variables = _variables()

    def of(self, held: Var | Node | Any) -> str:
        """The name of a tensor, of the result of a node, or of an array; "" if it has none."""
        return _name(held) or self._variables.get(id(held), (None, ""))[1]


def _variables() -> dict[int, tuple[Any, str]]:
    """Tensors, their nodes and their arrays by id, each with the first of the user's variables that holds it."""
    found: dict[int, tuple[Any, str]] = {}
    for name, value in _locals(users_frame()).items():
        if isinstance(value, Var) and not name.startswith("_"):
            for held in (value, value._node, value.array):
                if held is not None:
                    found.setdefault(id(held), (held, name))
    return found


def _locals(frame: FrameType) -> dict[str, Any]:
    """The variables of a frame.

    Before Python 3.13 a function's frame keeps the dict that it gives out, and with it each graph and model that the
    variables were, until the function ends; so it is emptied again, unless the program holds it too.
    """
    given = frame.f_locals
    variables = dict(given)
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(given, dict) and sys.getrefcount(given) == _UNHELD:
        given.clear()
    return variables
