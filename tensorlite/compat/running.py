"""Runs a script written for PyTorch on tensorlite, unchanged: `import torch` and all below it is served by tensorlite.

Only in this process, and for all that it imports: what tensorlite has, stand-ins for what changes nothing anyway, and
for all else an error that says what to do instead. torch itself is not loaded, even where it is installed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .differences import instead
from .places import Missing, find
from .served_arguments import is_operation, served
from .stand_ins import STAND_INS, is_module

_SERVED = ("torch", "torchvision")


class Served(types.ModuleType):
    """A module of torch's, whose names are looked for in tensorlite."""

    def __getattr__(self, name: str) -> Any:
        path = f"{self.__name__}.{name}"
        if path in STAND_INS and STAND_INS[path] is not None:
            return STAND_INS[path]
        if is_served_module(path):
            return importlib.import_module(path)
        try:
            found = find(path)
        except Missing:
            if name.startswith("__"):
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None
            raise AttributeError(f"{path} is missing in tensorlite; instead: {instead(path)}") from None
        return served(found) if self.__name__ == "torch" and is_operation(found) else found

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(_module(self.__name__)) if not name.startswith("_"))})


def _module(path: str) -> Any:
    """The module of tensorlite's that stands for a path, or nothing."""
    try:
        return find(path)
    except Missing:
        return None


def is_served_module(path: str) -> bool:
    """Whether a path is a module here: tensorlite's, one of stand-ins, or on the way to one that lies elsewhere."""
    return path in _SERVED or isinstance(_module(path), types.ModuleType) or is_module(path)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torch's modules before Python looks for them on its path."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: types.ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in _SERVED:
            return None
        if not is_served_module(fullname):
            raise ModuleNotFoundError(f"{fullname} is missing in tensorlite; instead: {instead(fullname)}",
                                      name=fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Served(spec.name, "Served by tensorlite.")

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing runs: names are looked for when they are asked for."""


@contextmanager
def serving() -> Iterator[None]:
    """Within the block, imports of torch are served by tensorlite. torch itself, where it is loaded, is put aside.

    >>> from tensorlite.compat import serving
    >>> with serving():
    ...     import torch.nn.functional
    ...     torch.nn.functional.relu(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    loaded = _taken_out()
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _taken_out()
        sys.modules.update(loaded)


def _taken_out() -> dict[str, types.ModuleType]:
    """The modules below those that are served, which Python now takes for not loaded."""
    names = [name for name in sys.modules if name.partition(".")[0] in _SERVED]
    return {name: sys.modules.pop(name) for name in names}


def run(path: str | os.PathLike[str], arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Run a script as `python path arguments` would, with torch served by tensorlite; its global names at the end."""
    before, before_path = sys.argv, sys.path[:]
    sys.argv = [os.fspath(path), *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    try:
        with serving():
            return runpy.run_path(os.fspath(path), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = before, before_path
