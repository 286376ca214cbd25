"""What an expression of a script is known to be: a name of torch's, an object of a class of torch's, or nothing of it.

None stands for what is not known. What a call gives follows from the annotations of tensorlite's own functions, so that
there is no second list of them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from typing import Any, Final

from ..autograd.op import Op
from ..nn import Module
from ..optim import Optimizer
from ..tensor import Tensor
from .places import Missing, find

Attributes = dict[str, "Value"]

# Attributes that are Tensors: of Tensors, and of layers.
TENSORS: Final = frozenset({"T", "mT", "data", "grad", "real", "weight", "bias"})
PLAIN: Final = ("bool", "float", "int", "np.ndarray", "str")  # as they are annotated
LITERALS: Final = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.DictComp,
                   ast.SetComp, ast.GeneratorExp, ast.Lambda)


@dataclasses.dataclass
class Object:
    """An object of the class `path`; `attributes` are those that the script gives it, None where it cannot."""

    path: str
    attributes: Attributes | None = None

    @property
    def base(self) -> str:
        """The class of torch's whose methods it has."""
        return base_of(self.path)


@dataclasses.dataclass
class Name:
    """What stands at `path`: a module, a class, a function, or, with `owner`, a method of that object.

    A script's own class is the Name of the class it derives from, with the attributes that it adds.
    """

    path: str
    attributes: Attributes | None = None
    owner: Object | None = None

    def instance(self) -> Object:
        return Object(self.path, self.attributes)

    def subclass(self) -> Name:
        return Name(self.path, {} if self.attributes is None else dict(self.attributes))


@dataclasses.dataclass
class Foreign:
    """Surely nothing of torch's: a literal, or what comes from another package."""


Value = Name | Object | Foreign | None
TENSOR: Final = Object("torch.Tensor")


def base_of(path: str) -> str:
    """The class that torch documents the methods of `path` with: those of nn.Linear are nn.Module's.

    >>> from tensorlite.compat.kinds import base_of
    >>> base_of("torch.nn.Linear"), base_of("torch.optim.SGD"), base_of("torch.nn.Parameter")
    ('torch.nn.Module', 'torch.optim.Optimizer', 'torch.Tensor')
    """
    try:
        found = find(path)
    except Missing:
        found = None
    if isinstance(found, type):
        for kind, name in ((Tensor, "torch.Tensor"), (Module, "torch.nn.Module"), (Optimizer, "torch.optim.Optimizer")):
            if issubclass(found, kind):
                return name
    return path


def member(owner: Value, attribute: str) -> Value:
    """What `owner.attribute` is."""
    if owner is None:  # whatever has one of these, it gives no Tensor
        return Foreign() if attribute in ("item", "numpy", "tolist") else None
    if isinstance(owner, Foreign):
        return owner
    if owner.attributes is not None and attribute in owner.attributes:
        return owner.attributes[attribute]
    if isinstance(owner, Name):
        return Name(f"{owner.path}.{attribute}")
    if attribute in TENSORS and owner.base in ("torch.Tensor", "torch.nn.Module"):
        return TENSOR
    path = f"{owner.base}.{attribute}"
    try:
        return Name(path, None, owner) if callable(find(path)) else None
    except Missing:
        return None


def called(function: Value) -> Value:
    """What a call gives."""
    if function is None or isinstance(function, Foreign):
        return function
    if isinstance(function, Object):
        own = function.attributes is not None and "forward" in function.attributes
        if own or function.base != "torch.nn.Module":
            return None
        return _returned(f"{function.path}.forward", function)
    if function.attributes is not None:
        return function.instance()
    return _returned(function.path, function.owner)


def _returned(path: str, owner: Object | None) -> Value:
    """What a class or function at a path gives, by its annotations."""
    try:
        found = find(path)
    except Missing:
        return None
    if isinstance(found, type):
        return Object(path)
    if isinstance(found, Op):
        return TENSOR
    returned = getattr(inspect.unwrap(found), "__annotations__", {}).get("return")
    if returned == "Tensor":
        return TENSOR
    if returned in PLAIN or path in ("torch.Tensor.item", "torch.Tensor.tolist"):
        return Foreign()
    return owner if returned in ("Self", "Module") else None


def item_of(value: Value) -> Value:
    """What a loop over a value gives."""
    return value if value == TENSOR else None


def operated(node: ast.expr, values: list[Value]) -> Value:
    """What an expression of operators, literals or brackets gives, of what its parts are."""
    if isinstance(node, LITERALS):
        return Foreign()
    if isinstance(node, ast.Subscript | ast.Starred | ast.Await | ast.NamedExpr):
        return item_of(values[0])
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Compare):
        if any(isinstance(value, Object) and value.base == "torch.Tensor" for value in values):
            return TENSOR
        return Foreign() if all(isinstance(value, Foreign) for value in values) else None
    if isinstance(node, ast.IfExp):
        return values[1] if values[1] == values[2] else None
    return None


def signature(found: Any) -> inspect.Signature | None:
    """How a class or function is called; of an operation what it takes beside the backend. None where that is unknown.

    >>> from tensorlite.compat.kinds import signature
    >>> signature(tl.sum)
    <Signature (x: 'Tensor', dim: 'Dims' = None, keepdim: 'bool' = False, *, dtype: 'Any' = None) -> 'Tensor'>
    """
    try:
        known = inspect.signature(found.forward if isinstance(found, Op) else found)
    except (TypeError, ValueError):
        return None
    return known.replace(parameters=list(known.parameters.values())[1:]) if isinstance(found, Op) else known
