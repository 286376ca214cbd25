"""Functions of other classes and modules that are wrapped while a tool looks on, and are the old ones afterwards.

Contract. An attribute that several tools wrap at once calls them all, the one that came last outermost; they may go in
any order. When the last has gone the attribute holds the very object that it held before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

Wrapper = Callable[[Any], Any]

_lock = threading.RLock()
_places: dict[tuple[int, str], _Place] = {}


class _Place:
    """An attribute of a class or module, with the wrappers that are around what it held."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name
        self.wrappers: dict[object, Wrapper] = {}
        self._before = self._now = vars(owner)[name]

    def wrap(self) -> None:
        """Put the wrappers around, unless somebody else has set the attribute since, who is left alone."""
        if vars(self.owner).get(self.name) is not self._now:
            return
        self._now = self._before
        for wrapper in self.wrappers.values():
            self._now = wrapper(self._now)
        setattr(self.owner, self.name, self._now)


class Exchanges:
    """The wrappers of one tool; `take_away` removes them all."""

    def __init__(self) -> None:
        self._mine: list[tuple[tuple[int, str], object]] = []

    def exchange(self, owner: Any, name: str, wrapper: Wrapper) -> None:
        """Wrap a function that a class or module has itself; one that it inherits is left to the ancestor."""
        if name not in vars(owner):
            return
        with _lock:
            key, token = (id(owner), name), object()
            place = _places.get(key)
            if place is None:
                place = _places[key] = _Place(owner, name)
            place.wrappers[token] = wrapper
            self._mine.append((key, token))
            place.wrap()

    def take_away(self) -> None:
        with _lock:
            for key, token in reversed(self._mine):
                place = _places[key]
                del place.wrappers[token]
                place.wrap()
                if not place.wrappers:
                    del _places[key]
            self._mine.clear()


def with_subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    """A class and all that is derived from it."""
    yield cls
    for subclass in cls.__subclasses__():
        yield from with_subclasses(subclass)


def is_outermost(wrapped: Any, cls: type[Any], name: str) -> bool:
    """Whether a wrapper (made with functools.wraps) is the first of its tool's that a call of `cls.name` meets.

    It is not, where that of a subclass has called it by `super()`; a class made since then has no wrapper of its own.
    """
    for owner in cls.__mro__:
        function = vars(owner).get(name)
        while function is not None:
            if getattr(function, "__code__", None) is wrapped.__code__:
                return function is wrapped
            function = getattr(function, "__wrapped__", None)
    return False
