"""Which of torch's names a script uses, read from its syntax tree; the script does not run.

`uses(source)` follows imports, aliases and chains of attributes. It also follows values as far as that is certain: what
a constructor makes, what a function that returns a Tensor returns, attributes of `self`. A method of such a value is a
certain use of `torch.Tensor.view` or the like; a method of an unknown value that has the name of a Tensor's method, and
of nothing in the script or in Python, is a likely one.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from . import torch_names
from .kinds import Foreign, Name, Object, Value, called, item_of, member, operated

PACKAGES: Final = ("torch", "torchvision", "torchaudio", "torchtext")
Arguments = tuple[int | None, tuple[str, ...]]


@dataclass(frozen=True)
class Use:
    """One place where a script uses a name.

    name        torch's full path
    line        the line of the script
    likely      whether it is a guess from a method's name alone
    arguments   how many are passed by place; None where that is unknown, or nothing is called
    keywords    the names of those passed by name
    """

    name: str
    line: int
    likely: bool = False
    arguments: int | None = None
    keywords: tuple[str, ...] = ()


def uses(source: str, filename: str = "<script>") -> list[Use]:
    """All uses in a script, in its order. Raises SyntaxError for what is no Python.

    >>> from tensorlite.compat.script import uses
    >>> [use.name for use in uses("from torch import nn\\nnn.Linear(2, 3).weight.abs()")]
    ['torch.nn', 'torch.nn.Linear', 'torch.Tensor.abs']
    """
    tree = ast.parse(source, filename)
    reader = _Reader(_own_names(tree))
    reader.visit(tree)  # a first time for the names that functions use before the script reaches them
    reader.found.clear()
    reader.visit(tree)
    return sorted(reader.found, key=lambda use: use.line)


def _own_names(tree: ast.AST) -> frozenset[str]:
    """Names of the functions, classes and attributes that a script defines: methods so called are not torch's."""
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    return frozenset(own)


class _Reader(ast.NodeVisitor):
    """Walks through a script with the values of its names, a scope per function."""

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own
        self.scopes: list[dict[str, Value]] = [{}]
        self.found: list[Use] = []

    # --- names ------------------------------------------------------------------------------------------------------

    def look_up(self, name: str) -> Value:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return Foreign() if hasattr(builtins, name) else None

    def bind(self, target: ast.expr, value: Value) -> None:
        """Let an assignment's target mean a value; of the parts of a tuple nothing is known."""
        if isinstance(target, ast.Name):
            self.scopes[-1][target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.bind(part, None)
        elif isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
            owner = self.owner_of(target.value)
            if isinstance(target, ast.Attribute):
                self.note(owner, target)
                if isinstance(owner, Object) and owner.attributes is not None:
                    owner.attributes[target.attr] = value

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            if root not in PACKAGES:
                self.scopes[-1][alias.asname or root] = Foreign()
                continue
            if alias.name != "torch":
                self.found.append(Use(alias.name, node.lineno))
            self.scopes[-1][alias.asname or root] = Name(alias.name if alias.asname else root)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        torchs = not node.level and (node.module or "").partition(".")[0] in PACKAGES
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if torchs and alias.name != "*":
                self.found.append(Use(path, node.lineno))
            self.scopes[-1][alias.asname or alias.name] = Name(path) if torchs else Foreign()

    # --- definitions --------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scopes[-1].setdefault(node.name, None)
        self.function(node, None)

    visit_AsyncFunctionDef = visit_FunctionDef

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, self_value: Value) -> None:
        """A function's own scope, in which the first parameter is `self_value` where that is known."""
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, node.returns):
            if part is not None:
                self.value_of(part)
        scope = self.parameters(node.args)
        first = [*node.args.posonlyargs, *node.args.args][:1]
        if self_value is not None and first:
            scope[first[0].arg] = self_value
        self.scopes.append(scope)
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()

    def parameters(self, arguments: ast.arguments) -> dict[str, Value]:
        """A function's parameters: what is annotated with a class of torch's is known."""
        scope: dict[str, Value] = {}
        rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest):
            annotated = None if argument.annotation is None else self.value_of(argument.annotation)
            known = isinstance(annotated, Name) and argument not in rest
            scope[argument.arg] = annotated.instance() if known and isinstance(annotated, Name) else None
        return scope

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [base for base in map(self.value_of, node.bases) if isinstance(base, Name)]
        known = self.look_up(node.name)
        if not isinstance(known, Name) or known.attributes is None:  # else it is the second pass, with all attributes
            known = bases[0].subclass() if bases else None
        self.scopes[-1][node.name] = known
        self.scopes.append({})
        for statement in node.body:
            if not isinstance(statement, ast.FunctionDef):
                self.visit(statement)
                continue
            if known is not None and known.attributes is not None:
                known.attributes[statement.name] = None
            static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in statement.decorator_list)
            self.function(statement, None if static or known is None else known.instance())
        self.scopes.pop()

    # --- statements ---------------------------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.value_of(node.value)
        for target in node.targets:
            self.bind(target, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        annotated = self.value_of(node.annotation)
        value = None if node.value is None else self.value_of(node.value)
        if value is None and isinstance(annotated, Name):
            value = annotated.instance()
        self.bind(node.target, value)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.bind(node.target, item_of(self.value_of(node.iter)))
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    visit_AsyncFor = visit_For

    def visit_withitem(self, node: ast.withitem) -> None:
        value = self.value_of(node.context_expr)
        if node.optional_vars is not None:
            self.bind(node.optional_vars, value)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.value_of(node)
        else:
            super().generic_visit(node)

    # --- expressions --------------------------------------------------------------------------------------------------

    def value_of(self, node: ast.expr) -> Value:
        """What an expression is known to be; the uses in it are noted."""
        if isinstance(node, ast.Name):
            return self.look_up(node.id)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        self.scopes.append({})
        for loop in (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.comprehension)):
            self.bind(loop.target, item_of(self.value_of(loop.iter)))
        if isinstance(node, ast.Lambda):
            self.scopes[-1].update(self.parameters(node.args))
        values = [self.value_of(part) for part in _parts(node)]
        self.scopes.pop()
        if isinstance(node, ast.NamedExpr):
            self.bind(node.target, values[-1])
        return operated(node, values)

    def attribute(self, node: ast.Attribute, inner: bool = False, call: ast.Call | None = None) -> Value:
        """An attribute; of a chain such as torch.nn.Linear only the longest form is a use, not what is `inner`."""
        owner = self.owner_of(node.value)
        value = member(owner, node.attr)
        if not (inner and isinstance(owner, Name) and owner.attributes is None):
            self.note(owner, node, call)
        return value

    def owner_of(self, node: ast.expr) -> Value:
        """What an attribute is taken of."""
        return self.attribute(node, inner=True) if isinstance(node, ast.Attribute) else self.value_of(node)

    def note(self, owner: Value, node: ast.Attribute, call: ast.Call | None = None) -> None:
        """Note an attribute, if it is one of torch's."""
        name = self.name_of(owner, node.attr)
        if name is not None:
            self.found.append(Use(name, node.lineno, owner is None, *_arguments(call)))

    def name_of(self, owner: Value, attribute: str) -> str | None:
        """torch's name for an attribute of a value; None where it is none of torch's."""
        if isinstance(owner, Foreign):
            return None
        if owner is None:
            likely = attribute in torch_names.TENSOR - torch_names.PYTHON - self.own
            return f"torch.Tensor.{attribute}" if likely else None
        if owner.attributes is not None and attribute in owner.attributes:
            return None
        if isinstance(owner, Name):
            known = owner.attributes is None or attribute in torch_names.of(Object(owner.path).base)
            return f"{owner.path}.{attribute}" if known else None
        return f"{owner.base}.{attribute}" if attribute in torch_names.of(owner.base) else None

    def call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Attribute):
            function = self.attribute(node.func, call=node)
        else:
            function = self.value_of(node.func)
            if isinstance(node.func, ast.Name) and isinstance(function, Name) and function.attributes is None:
                self.found.append(Use(function.path, node.lineno, False, *_arguments(node)))
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.value_of(argument)
        return called(function)


def _arguments(call: ast.Call | None) -> Arguments:
    """How many arguments a call passes by place (None where that is not known), and the names of the others."""
    if call is None:
        return None, ()
    spread = any(isinstance(argument, ast.Starred) for argument in call.args)
    return None if spread else len(call.args), tuple(k.arg for k in call.keywords if k.arg is not None)


def _parts(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions directly below one, with those of its comprehensions; what a comprehension binds is none."""
    for name, child in ast.iter_fields(node):
        for part in child if isinstance(child, list) else [child]:
            if isinstance(part, ast.expr) and name != "target":
                yield part
            elif isinstance(part, ast.comprehension):
                yield from part.ifs
