"""How a Module finds what it owns, and under which names.

Owned are attributes that are a `Parameter`, a buffer (a tensor named by `register_buffer`), a `Module`, or a plain
list, tuple or dict that holds Parameters and Modules at any depth. They are found by looking, each time, so a list
that grows later is seen. The name of a list's item is its place: `layers.0`, `heads.left`.

Two rules keep lists harmless. An object that is an attribute of some module of the tree is found as that attribute
only, so `self.last = self.layers[-1]` adds a name and takes one away; and an object that is in lists only is found
once. To hold a module without owning it, keep it in an object that is no list, tuple or dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from ..tensor import Tensor
from .parameter import Parameter

if TYPE_CHECKING:
    from .module import Module

Named = list[tuple[str, "Module"]]
NamedParameters = list[tuple[str, Parameter]]


class ModuleTree:
    """The part of Module that finds parameters, buffers and modules."""

    _buffers: Mapping[str, bool] = MappingProxyType({})  # name -> persistent

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all modules below it, parents first, each with its dotted name."""
        for name, module, _ in walk(self, prefix, remove_duplicate):
            yield name, module

    def modules(self) -> Iterator[Module]:
        """This module and all modules below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, each once, with their names."""
        seen = {id(self)}
        for name, child in Finder(self).own(self)[0]:
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one, each once."""
        for _, child in self.named_children():
            yield child

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The Parameters of this module and (with `recurse`) those below it; a tied one once, by its first name."""
        seen: set[int] = set()
        for name, _, parameters in walk(self, prefix, remove_duplicate, recurse):
            for key, parameter in parameters:
                if not remove_duplicate or id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield join(name, key), parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The Parameters of this module and (with `recurse`) those below it, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers of this module and (with `recurse`) those below it, with their dotted names."""
        seen: set[int] = set()
        for name, module, _ in walk(self, prefix, remove_duplicate, recurse):
            for key in module._buffers:
                buffer = getattr(module, key)
                if buffer is not None and not (remove_duplicate and id(buffer) in seen):
                    seen.add(id(buffer))
                    yield join(name, key), buffer

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and (with `recurse`) those below it, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module with that dotted name; '' is this module. Raises AttributeError if there is none."""
        module = _resolve(self, target)
        if not isinstance(module, ModuleTree):
            raise AttributeError(f"`{target}` of {type(self).__name__} is not an nn.Module")
        return cast("Module", module)

    def get_parameter(self, target: str) -> Parameter:
        """The Parameter with that dotted name. Raises AttributeError if there is none."""
        parameter = _resolve(self, target)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"`{target}` of {type(self).__name__} is not an nn.Parameter")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with that dotted name. Raises AttributeError if there is none."""
        parent, _, name = target.rpartition(".")
        module = self.get_submodule(parent)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` of {type(module).__name__} is not a buffer")
        return cast(Tensor, getattr(module, name))


def join(prefix: str, name: str) -> str:
    """A dotted name."""
    return f"{prefix}.{name}" if prefix else name


class Finder:
    """Finds the members of modules of one tree, by the two rules of this file."""

    def __init__(self, root: ModuleTree) -> None:
        self._root = root
        self._attributes: set[int] | None = None  # ids; computed when the first list with members turns up

    def own(self, module: ModuleTree) -> tuple[Named, NamedParameters]:
        """The modules and the Parameters directly inside a module, in order of assignment, with local names."""
        modules: Named = []
        parameters: NamedParameters = []
        for name, member, listed in _members(module):
            if listed and self._is_attribute(member):
                continue
            if isinstance(member, Parameter):
                parameters.append((name, member))
            else:
                modules.append((name, cast("Module", member)))
        return modules, parameters

    def _is_attribute(self, member: ModuleTree | Parameter) -> bool:
        if self._attributes is None:
            self._attributes = _attribute_ids(self._root)
        return id(member) in self._attributes


def _attribute_ids(root: ModuleTree) -> set[int]:
    """The ids of the root and of all objects that are an attribute of some module reached from it."""
    ids, reached, waiting = {id(root)}, {id(root)}, [root]
    while waiting:
        for _, member, listed in _members(waiting.pop()):
            if not listed:
                ids.add(id(member))
            if isinstance(member, ModuleTree) and id(member) not in reached:
                reached.add(id(member))
                waiting.append(member)
    return ids


_PLAIN = frozenset({bool, int, float, str, type(None)})  # most attributes: passed over quickly


def _members(module: ModuleTree) -> Iterator[tuple[str, ModuleTree | Parameter, bool]]:
    """Name, object, and whether it stands in a list, tuple or dict, for all that the attributes of a module hold."""
    for name, value in list(vars(module).items()):
        if type(value) in _PLAIN:
            continue
        if isinstance(value, (Parameter, ModuleTree)):
            if name not in module._buffers:
                yield name, value, False
        elif isinstance(value, (list, tuple, dict)):
            for path, member in _listed(name, value, ()):
                yield path, member, True


def _listed(path: str, container: Any, outer: tuple[int, ...]) -> Iterator[tuple[str, ModuleTree | Parameter]]:
    """What a plain container holds; `outer` are the ids of the containers around it, which it may hold itself."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in list(items):
        if isinstance(value, (Parameter, ModuleTree)):
            yield f"{path}.{key}", value
        elif isinstance(value, (list, tuple, dict)) and id(value) not in outer:
            yield from _listed(f"{path}.{key}", value, (*outer, id(container)))


def walk(root: ModuleTree, prefix: str = "", remove_duplicate: bool = True,
         recurse: bool = True) -> Iterator[tuple[str, Module, NamedParameters]]:
    """Each module from `root` down, parents first, with its dotted name and its own Parameters.

    With `remove_duplicate` a module comes once; without, once for each attribute that holds it.
    """
    return _Walk(root, remove_duplicate, recurse).visit(prefix, root)


class _Walk:
    """What a walk has seen. A class, because a function nested in `walk` that calls itself would keep the tree alive
    in a ring of references."""

    def __init__(self, root: ModuleTree, remove_duplicate: bool, recurse: bool) -> None:
        self._finder = Finder(root)
        self._seen: set[int] = set()
        self._remove_duplicate, self._recurse = remove_duplicate, recurse

    def visit(self, name: str, module: ModuleTree) -> Iterator[tuple[str, Module, NamedParameters]]:
        self._seen.add(id(module))
        children, found = self._finder.own(module)
        parameters = []
        for key, parameter in found:
            if self._is_new(key, parameter):
                self._seen.add(id(parameter))
                parameters.append((key, parameter))
        yield name, cast("Module", module), parameters
        if self._recurse:
            for key, child in children:
                if self._is_new(key, child):
                    yield from self.visit(join(name, key), child)

    def _is_new(self, name: str, member: ModuleTree | Parameter) -> bool:
        item = "." in name  # only items of lists have a dot in their local name
        once = item or (self._remove_duplicate and isinstance(member, ModuleTree))
        return not once or id(member) not in self._seen


def children_first(root: ModuleTree) -> Iterator[Module]:
    """Each module from `root` down once, children before parents."""
    return _visit_children_first(root, Finder(root), {id(root)})


def _visit_children_first(module: ModuleTree, finder: Finder, seen: set[int]) -> Iterator[Module]:
    for _, child in finder.own(module)[0]:
        if id(child) not in seen:
            seen.add(id(child))
            yield from _visit_children_first(child, finder, seen)
    yield cast("Module", module)


def _resolve(module: ModuleTree, target: str) -> Any:
    """The object with that dotted name: attributes of modules, items of lists, tuples and dicts."""
    found: Any = module
    for name in target.split(".") if target else ():
        if isinstance(found, dict):
            present = {str(key): value for key, value in found.items()}
        elif isinstance(found, (list, tuple)):
            present = {str(i): value for i, value in enumerate(found)}
        else:
            present = vars(found) if isinstance(found, ModuleTree) else {}
        if name not in present:
            raise AttributeError(f"{type(found).__name__} has no attribute `{name}` (looking for `{target}`)")
        found = present[name]
    return found
