"""Modules that hold other modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar, overload

from ..errors import OutOfRangeError
from ..tensor import Tensor
from .activation import ReLU
from .linear import Linear
from .module import Module, indent
from .parameter import Parameter

T = TypeVar("T", Module, Parameter)


class _Named(Module, Generic[T]):
    """Items of one kind, kept as attributes in their order."""

    _kind: type[Any] = Module

    def _items(self) -> dict[str, T]:
        kind = self._kind
        return {name: value for name, value in self.__dict__.items() if isinstance(value, kind)}

    def __len__(self) -> int:
        return len(self._items())

    def _add(self, name: str, item: Any) -> None:
        self._check_new_name("module" if self._kind is Module else "parameter", name)
        self._put(name, item)

    def _put(self, name: str, item: Any) -> None:
        if self._kind is Parameter and isinstance(item, Tensor) and not isinstance(item, Parameter):
            item = Parameter(item)
        if not isinstance(item, self._kind):
            raise TypeError(f"{type(item).__name__} is not a {self._kind.__name__} subclass; "
                            f"{type(self).__name__} holds {self._kind.__name__}s only")
        setattr(self, name, item)


class _Row(_Named[T]):
    """Items named '0', '1', ...: what ModuleList, ParameterList and Sequential share."""

    def __iter__(self) -> Iterator[T]:
        return iter(self._items().values())

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> T | Self:
        names = list(self._items())
        if isinstance(index, slice):
            return self._like([(name, getattr(self, name)) for name in names[index]])
        item: T = getattr(self, names[self._place(index, len(names))])
        return item

    def _like(self, items: list[tuple[str, T]]) -> Self:
        result = type(self)()
        result._replace([item for _, item in items])
        return result

    def _place(self, index: int, size: int) -> int:
        place = operator.index(index)
        if not -size <= place < size:
            raise OutOfRangeError(f"index {index} is out of range for {type(self).__name__} of {size}")
        return place % size

    def _replace(self, items: Iterable[T]) -> None:
        """Hold these items under the names '0', '1', ..."""
        added = list(items)
        for name in self._items():
            delattr(self, name)
        self.extend(added)

    def __setitem__(self, index: int, item: T) -> None:
        names = list(self._items())
        self._put(names[self._place(index, len(names))], item)

    def __delitem__(self, index: int | slice) -> None:
        items = list(self)
        if not isinstance(index, slice):
            index = self._place(index, len(items))
        del items[index]
        self._replace(items)

    def append(self, item: T) -> Self:
        """Add an item at the end; returns self."""
        self._add(str(len(self)), item)
        return self

    def extend(self, items: Iterable[T]) -> Self:
        """Add items at the end; returns self."""
        for item in items:
            self.append(item)
        return self

    def insert(self, index: int, item: T) -> Self:
        """Put an item in front of the one at `index`; the later ones are renumbered. Returns self."""
        items = list(self)
        items.insert(index, item)
        self._replace(items)
        return self

    def pop(self, index: int = -1) -> T:
        """Remove and return an item; the later ones are renumbered."""
        item = self[index]
        del self[index]
        return item


class Sequential(_Row[Module]):
    """Calls its modules one after the other, each with the result of the one before.

    Takes modules, or one OrderedDict of names to modules. Supports len, iteration, indexing, slicing, append,
    insert, extend and pop. A Linear and the ReLU behind it are computed as one operation, unless either has hooks.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> model(tl.zeros(4, 2)).shape
    (4, 3)
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self._add(name, module)
        else:
            self.extend(args)

    def forward(self, input: Any) -> Tensor:
        modules = [module for module in self.__dict__.values() if isinstance(module, Module)]
        last = len(modules) - 1
        is_done = False  # by the module before
        for i, module in enumerate(modules):
            if is_done:
                is_done = False
            elif i < last and type(module) is Linear and _is_plain(module, Linear) and _is_plain(modules[i + 1], ReLU):
                input = module(input, relu=True)
                is_done = True
            else:
                input = module(input)
        result: Tensor = input
        return result

    def _like(self, items: list[tuple[str, Module]]) -> Self:
        return type(self)(dict(items))


def _is_plain(module: Module, kind: type[Module]) -> bool:
    """Whether a module does what its class does, and nothing else: no subclass, no hooks, no forward of its own."""
    return type(module) is kind and module._hooks is None and "forward" not in module.__dict__


class ModuleList(_Row[Module]):
    """A list of modules, registered under the names '0', '1', ...; it has no forward of its own.

    >>> layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), layers[-1]
    (3, Linear(in_features=2, out_features=2, bias=True))
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)

    def _child_lines(self) -> list[str]:
        """Equal neighbours share a line, as in `(0-2): 3 x ReLU()`."""
        runs: list[tuple[int, int, str]] = []
        for i, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        return [
            indent(f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}")
            for first, last, text in runs
        ]


class ParameterList(_Row[Parameter]):
    """A list of Parameters, registered under the names '0', '1', ...; plain tensors become Parameters.

    >>> len(nn.ParameterList([tl.zeros(2), tl.ones(3)]))
    2
    """

    _kind = Parameter

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if values is None else values)

    def __repr__(self) -> str:
        lines = [f"    ({i}): {_summary(p)}" for i, p in enumerate(self)]
        return "ParameterList(\n" + "\n".join(lines) + "\n)" if lines else "ParameterList()"


class _Table(_Named[T]):
    """Items by name: what ModuleDict and ParameterDict share. Names are strings that no attribute has."""

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self.update({} if items is None else items)

    def __getitem__(self, name: str) -> T:
        return self._items()[name]

    def __setitem__(self, name: str, item: T) -> None:
        if name in self:
            self._put(name, item)
        else:
            self._add(name, item)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._items().keys()

    def values(self) -> Iterable[T]:
        """The items."""
        return self._items().values()

    def items(self) -> Iterable[tuple[str, T]]:
        """Pairs of name and item."""
        return self._items().items()

    def update(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace items, from a mapping or from pairs."""
        for name, item in items.items() if isinstance(items, (Mapping, _Table)) else items:
            self[name] = item

    def pop(self, name: str) -> T:
        """Remove and return an item."""
        item = self[name]
        del self[name]
        return item

    def clear(self) -> None:
        """Remove all items."""
        for name in self._items():
            delattr(self, name)


class ModuleDict(_Table[Module]):
    """A dict of modules, registered under their keys.

    >>> nn.ModuleDict({"act": nn.ReLU()})["act"]
    ReLU()
    """


class ParameterDict(_Table[Parameter]):
    """A dict of Parameters, registered under their keys; plain tensors become Parameters.

    >>> list(nn.ParameterDict({"scale": tl.ones(2)}))
    ['scale']
    """

    _kind = Parameter

    def __repr__(self) -> str:
        lines = [f"  ({name}): {_summary(p)}" for name, p in self.items()]
        return "ParameterDict(\n" + "\n".join(lines) + "\n)" if lines else "ParameterDict()"


def _summary(parameter: Parameter) -> str:
    size = "x".join(map(str, parameter.shape))
    device = "" if parameter.device.type == "cpu" else f" ({parameter.device})"
    return f"Parameter containing: [{parameter.dtype!r} of size {size}{device}]"
