"""What a function uses besides its arguments: variables of the functions around it, globals, attributes of objects.

Contract. `Surroundings(function)` looks once. Numbers, strings and other plain values were written into a recording and
would stay there if they changed; objects were found by name and would stay if another took the name: `check` raises for
both. Modules may change between training and evaluation: `modes()` tells, and a recording is made for each.

Names are read from the code: `scale`, `self.scale`, `config.scale`, `config["scale"]`. Followed are the functions and
methods of the same package that are called by name, what a decorator wraps, and `forward` of each module that is
found or an argument. Loops over a container, and objects of this library other than modules, are not looked into.
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from operator import is_not
from typing import Any, NamedTuple

from ..errors import CaptureError
from ..nn import Module, Parameter
from ..optim import Optimizer

PLAIN = (int, float, complex, bool, str, bytes, type(None))
_FOLLOWED = (types.FunctionType, types.MethodType, functools.partial)
_LIBRARY = __name__.partition(".")[0]
_MISSING: Any = object()


class _Name(NamedTuple):
    """A name that the function uses, how to see what it means now, and what it meant."""

    name: str
    now: Callable[[], Any]
    value: Any


class Surroundings:
    """The names that a function uses, with what they meant when this was made."""

    def __init__(self, function: Any, arguments: Sequence[Any] = ()) -> None:
        found = _Search(function, [argument for argument in arguments if isinstance(argument, Module)])
        self._names = found.names
        self._now = [entry.now for entry in found.names]
        self._then = [entry.value for entry in found.names]
        self._modules = found.modules

    @property
    def values(self) -> list[Any]:
        """The objects that the names mean."""
        return [entry.value for entry in self._names]

    def modes(self) -> tuple[bool, ...]:
        """Which modules are in training mode."""
        return tuple([module.training for module in self._modules])

    def check(self, step: str) -> None:
        """Raise CaptureError if a name means something else than when this was made."""
        values = [now() for now in self._now]
        if any(map(is_not, values, self._then)):
            for entry, now in zip(self._names, values, strict=True):
                if now is not entry.value and not _equal(now, entry.value):
                    raise CaptureError(_message(step, entry, now))
            self._then = values  # equal ones are found faster next time


def _equal(now: Any, then: Any) -> bool:
    return type(now) is type(then) and isinstance(now, PLAIN) and (now == then or (now != now and then != then))


def _message(step: str, entry: _Name, now: Any) -> str:
    if isinstance(entry.value, PLAIN):
        what = f"was {entry.value!r} and is now {'gone' if now is _MISSING else repr(now)}"
    else:
        what = f"was {_one(entry.value)} and is now {_one(now, 'another')}"
    return (f"the captured step '{step}' uses '{entry.name}', which {what}: a replay would use the old one. Pass what "
            "changes as an argument (numbers as tensors), change tensors in place, or call .reset() to record anew")


def _one(value: Any, article: str = "one") -> str:
    return "gone" if value is _MISSING else f"{article} {type(value).__name__}"


class _Owner(NamedTuple):
    """The object whose method is read: its attributes go by their own names."""

    value: Any


class _Subscript(NamedTuple):
    """A constant in brackets after a container."""

    container: Any
    key: Any


class _Search:
    """Goes through a function's code, and through that of what it calls."""

    def __init__(self, function: Any, modules: Sequence[Module]) -> None:
        self.names: list[_Name] = []
        self.modules: list[Module] = []
        self._package = _package(getattr(function, "func", function))
        self._seen: dict[Any, Any] = {}  # what ids stand for is kept, so that they stand for nothing else
        self._functions: list[Any] = []
        self._functions.append(function)
        for module in modules:
            self._follow(module)
        while self._functions:
            self._read(self._functions.pop())

    def _is_new(self, key: Any, *kept: Any) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = kept
        return True

    def _note(self, name: str, place: Any, key: Any, now: Callable[[], Any]) -> Any:
        """Take note of a name; gives what it means."""
        value = now()
        if value is not _MISSING and self._is_new((id(place), key), place):
            self.names.append(_Name(name, now, value))
            self._follow(value)
        return value

    def _note_key(self, name: str, place: Mapping[Any, Any], key: Any) -> Any:
        return self._note(name, place, key, functools.partial(place.get, key, _MISSING))

    # --- what is followed -------------------------------------------------------------------------------------------

    def _follow(self, value: Any) -> None:
        """Look into what was found by name, if it is something to look into."""
        if isinstance(value, Module):
            for module in value.modules():
                if self._is_new(id(module), module):
                    self._follow_module(module)
        elif type(value) in (list, tuple, dict):
            for item in value.values() if type(value) is dict else value:
                if isinstance(item, Module):
                    self._follow(item)
        elif isinstance(value, _FOLLOWED) or hasattr(value, "__wrapped__"):
            parts = getattr(value, "__func__", value), getattr(value, "__self__", None)
            if _package(value) == self._package and self._is_new(tuple(map(id, parts)), parts):
                self._functions.append(value)

    def _follow_module(self, module: Module) -> None:
        """A module's hooks, its own modules, parameters and buffers, and what its forward() uses."""
        self.modules.append(module)
        own, kind = vars(module), type(module).__name__
        self._note(f"hooks of {kind}", own, "_hooks", functools.partial(own.get, "_hooks"))
        for name, value in own.items():
            if isinstance(value, (Module, Parameter)) or name in module._buffers:
                self._note_key(f"{kind}.{name}", own, name)
        self._functions.append(_forward_of(module))

    def _read(self, function: Any) -> None:
        """Take note of the names that one function uses."""
        if isinstance(function, functools.partial):
            positional = {f"argument {i}": value for i, value in enumerate(function.args)}
            given = {"func": function.func, **positional, **function.keywords}
            for name in given:
                self._note_key(name, given, name)
            return
        if not isinstance(function, (types.FunctionType, types.MethodType)):
            function = getattr(function, "__wrapped__", None) or function.__call__  # of a callable object
        plain, owner = getattr(function, "__func__", function), getattr(function, "__self__", None)
        code = getattr(plain, "__code__", None)
        if code is None:  # not written in Python
            return
        for name, cell in zip(code.co_freevars, plain.__closure__ or (), strict=True):
            self._note(name, cell, name, functools.partial(_contents, cell))
        if isinstance(owner, Module):
            self._follow(owner)
        if hasattr(plain, "__wrapped__"):
            self._follow(_bound(plain.__wrapped__, owner))
        owners = {code.co_varnames[0]: _Owner(owner)} if owner is not None and code.co_argcount else {}
        cells = dict(zip(code.co_freevars, plain.__closure__ or (), strict=True))
        _Reader(self, plain.__globals__ if _package(plain) != _LIBRARY else {}).read(code, owners, cells)

    # --- what expressions mean --------------------------------------------------------------------------------------

    def global_(self, place: dict[str, Any], name: str) -> Any:
        return self._note_key(name, place, name)

    def item(self, at: Any) -> Any:
        """What `container[constant]` means."""
        if not isinstance(at, _Subscript):
            return _MISSING
        place, key = at
        if type(place) is dict and key in place:
            return self._note_key(f"[{key!r}]", place, key)
        if type(place) is list and type(key) is int and -len(place) <= key < len(place):
            return self._note(f"[{key}]", place, key, functools.partial(_element, place, key))
        return _MISSING

    def attribute(self, owner: Any, name: str) -> Any:
        """What `owner.name` means; nothing for objects of the library and of Python itself."""
        if isinstance(owner, _Owner):
            owner, label = owner.value, name
        else:
            label = f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
        if isinstance(owner, types.ModuleType):
            return self._attribute_of_python_module(owner, label, name)
        is_options = isinstance(owner, Optimizer) and name == "param_groups"  # where learning rates are read
        if not isinstance(owner, (Module, type)) and _package(type(owner)) in (_LIBRARY, "builtins") and not is_options:
            return _MISSING
        if name == "training" and isinstance(owner, Module):
            return _MISSING  # one of the modes
        own = getattr(owner, "__dict__", {})
        if name in own and not isinstance(owner, type):
            return self._note_key(label, own, name)
        for cls in (owner if isinstance(owner, type) else type(owner)).__mro__:
            if name in vars(cls):
                return self._attribute_of_class(owner, cls, label, name)
        return _MISSING

    def _attribute_of_python_module(self, module: types.ModuleType, label: str, name: str) -> Any:
        value = vars(module).get(name, _MISSING)
        if isinstance(value, PLAIN):
            return self._note_key(label, vars(module), name)
        self._follow(value)
        return value

    def _attribute_of_class(self, owner: Any, cls: type, label: str, name: str) -> Any:
        value = vars(cls)[name]
        if isinstance(value, PLAIN):
            return self._note_key(label, vars(cls), name)
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, (staticmethod, classmethod)):
            owner, value = cls, value.__func__
        if isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
            self._follow(_bound(getattr(value, "__wrapped__", value), None if isinstance(owner, type) else owner))
        return _MISSING


class _Reader:
    """Reads names off the instructions of a function."""

    def __init__(self, search: _Search, names: dict[str, Any]) -> None:
        self._search = search
        self._globals = names

    def read(self, code: types.CodeType, owners: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        """Go through a piece of code and the functions inside it; `owners` are its known variables."""
        last: Any = _MISSING  # what the instruction before put on the stack
        for instruction in dis.get_instructions(code):
            operation, argument = instruction.opname, instruction.argval
            if operation != "EXTENDED_ARG":
                name = argument[-1] if isinstance(argument, tuple) and argument else argument
                last = self._meaning(operation, name, last, owners, cells)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                free = inner.co_freevars
                self.read(inner, {name: owners[name] for name in free if name in owners},
                          {name: cells[name] for name in free if name in cells})

    def _meaning(self, operation: str, name: Any, last: Any, owners: Mapping[str, Any],
                 cells: Mapping[str, Any]) -> Any:
        """What is on top of the stack after an instruction, as far as that is known before the function runs."""
        if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
            return self._search.global_(self._globals, name)
        if operation.startswith(("LOAD_FAST", "LOAD_DEREF")):
            return owners[name] if name in owners else _contents(cells[name]) if name in cells else _MISSING
        if last is _MISSING or operation == "COPY":  # as in x.n += 1, which reads and then sets
            return last
        if operation in ("LOAD_ATTR", "LOAD_METHOD"):
            return self._search.attribute(last, name)
        if operation == "LOAD_CONST":
            return _Subscript(last, name)
        if operation in ("BINARY_SUBSCR", "BINARY_OP"):
            return self._search.item(last)
        return _MISSING


def _forward_of(module: Module) -> Any:
    """A module's forward(). Of one that is captured in its class, what it captures: asking the module for it would make
    its recordings, which begin with this search."""
    function = inspect.getattr_static(type(module), "forward")
    if isinstance(function, types.FunctionType) or "forward" in vars(module):
        return module.forward
    return _bound(getattr(function, "__wrapped__", function), module)


def _bound(function: Any, owner: Any) -> Any:
    """A function as the method of an object, if there is one."""
    if owner is None or not isinstance(function, types.FunctionType):
        return function
    return types.MethodType(function, owner)


def _element(place: list[Any], index: int) -> Any:
    return place[index] if -len(place) <= index < len(place) else _MISSING


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # deleted
        return _MISSING


def _package(function: Any) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]
