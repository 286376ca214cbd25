"""The path of a module that is being called: "Net.layers.0" for `layers[0]` of a Net that was called from outside."""

from __future__ import annotations

import itertools
import weakref

from ..nn import Module
from ..nn.tree import join

Known = tuple[weakref.ref[Module], str]  # a reference too, because an id is given again when its object is gone


class ModuleNames:
    """Paths by module. Two models of one class are "Net" and "Net (2)".

    reusing  whether the label of a model that is gone is given to the next one of its class
    """

    def __init__(self, reusing: bool = False) -> None:
        self._reusing = reusing
        self._labels: dict[int, Known] = {}  # of the outermost modules, by id
        self._roots: dict[str, weakref.ref[Module]] = {}  # the same, by label
        self._inside: dict[str, dict[int, Known]] = {}  # by label, and by id: names below the root

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

    def _label(self, module: Module) -> str:
        known = self._labels.get(id(module))
        if known is not None and known[0]() is module:
            return known[1]
        name = type(module).__name__
        labels = (name if number == 1 else f"{name} ({number})" for number in itertools.count(1))
        label = next(label for label in labels if self._is_free(label))
        self._labels[id(module)] = weakref.ref(module), label
        self._roots[label] = weakref.ref(module)
        self._inside[label] = {}
        return label

    def _is_free(self, label: str) -> bool:
        return label not in self._roots or (self._reusing and self._roots[label]() is None)
