"""The path of a module that is being called: "Net.layers.0" for `layers[0]` of a Net that was called from outside."""

from __future__ import annotations

import weakref
from collections import Counter

from ..nn import Module
from ..nn.tree import join

Known = tuple[weakref.ref[Module], str]  # a reference too, because an id is given again when its object is gone


class ModuleNames:
    """Paths by module. Two models of one class are "Net" and "Net (2)"."""

    def __init__(self) -> None:
        self._labels: dict[int, Known] = {}  # of the outermost modules, by id
        self._roots: dict[str, weakref.ref[Module]] = {}  # the same, by label
        self._inside: dict[str, dict[int, Known]] = {}  # by label, and by id: names below the root
        self._count: Counter[str] = Counter()

    def path(self, module: Module, outer: str) -> str:
        """The path of a module called from the module of path `outer`; "" is from outside of modules.

        A module that the outermost one does not own goes by its class, below the one that calls it.
        """
        label = outer.partition(".")[0]
        root = self._roots[label]() if label in self._roots else None
        if root is None:
            return self._label(module)
        known = self._inside[label].get(id(module))
        if known is None or known[0]() is not module:
            self._inside[label].update({id(m): (weakref.ref(m), name) for name, m in root.named_modules()})
            known = self._inside[label].get(id(module))
        if known is None or known[0]() is not module:
            return join(outer, type(module).__name__)
        return join(label, known[1]) if known[1] else label

    def module(self, path: str) -> Module | None:
        """The module that has a path; None if it is gone, or was not owned by the outermost one."""
        label, _, inner = path.partition(".")
        root = self._roots[label]() if label in self._roots else None
        try:
            return None if root is None else root.get_submodule(inner)
        except AttributeError:
            return None

    def _label(self, module: Module) -> str:
        known = self._labels.get(id(module))
        if known is not None and known[0]() is module:
            return known[1]
        name = type(module).__name__
        self._count[name] += 1
        label = name if self._count[name] == 1 else f"{name} ({self._count[name]})"
        self._labels[id(module)] = weakref.ref(module), label
        self._roots[label] = weakref.ref(module)
        self._inside[label] = {}
        return label
