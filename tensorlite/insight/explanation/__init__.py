"""`tl.explain(op)`: an operation's formula, derivatives and their derivation, its source, its costs and its audit.

    >>> tl.explain("sigmoid").card.derivative_text("x")
    'g·out·(1 - out)'

parts.py puts it together: sources.py has where an operation stands, facts.py its dtypes, costs and audit. page.py and
plot.py make HTML of it.

Contract. What a card says is proved (cards/card.py), or read from the objects that run when it is asked for. Nothing is
imported or computed before `tl.explain` is called.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ... import nn, ops
from ...autograd.op import Op
from ...autograd.tape import Node, Var
from ...errors import ArgumentError
from ...nn import functional
from ...tensor import Tensor
from ..cards import CARDS, Card
from .page import page
from .parts import Part, parts_of
from .plot import plot

_WIDTH = 100


class Explanation:
    """What `tl.explain` returns. Printed it is a card for the terminal; `.to_html(path)` writes a page of it.

    card   formula, derivatives, derivation; see tensorlite.insight.cards.Card
    op     the Op, or None for a function composed of others
    parts  all that is said, in order
    """

    def __init__(self, card: Card, op: Op | None) -> None:
        self.card = card
        self.op = op

    @functools.cached_property
    def parts(self) -> list[Part]:
        """All parts that have something to say."""
        return parts_of(self.card, self.op)

    def __repr__(self) -> str:
        where = f"op '{self.card.name}'" if self.op is not None else f"function '{self.card.name}'"
        lines = [where, "=" * _WIDTH]
        for part in self.parts:
            lines += _of_terminal(part)
        return "\n".join(lines)

    def to_html(self, path: str | Path) -> None:
        """Write a self-contained page: no network, no scripts."""
        Path(path).write_text(self._repr_html_(), encoding="utf-8")

    def _repr_html_(self) -> str:
        return page(self.card.name, self.parts, self.card.math, plot(self.card, self.op))


def explain(operation: Any) -> Explanation:
    """Explain an operation: formula, derivative and derivation, shapes, dtypes, source, kernels, costs, audit.

    operation  a name ("relu", "F.gelu", "ReLU"), a function (`tl.relu`, `F.relu`, `tl.Tensor.relu`), an Op, an
               `nn.ReLU` or an instance of it, a node (`loss.grad_fn`), or a tensor, whose node is meant
    Raises ArgumentError where there is no card, with the names that are near.

    >>> print(tl.explain(tl.relu).card.formula_text)
    max(x, 0)
    """
    op = _op_of(operation)
    if op is not None and op.name not in _WITHOUT_CARD and op is not _ops().get(op.name):
        return Explanation(_own_card(op), op)
    card = CARDS.get(_name_of(operation))
    if card is None:
        raise ArgumentError(_no_card(operation))
    return Explanation(card, _ops().get(card.name))


# --- from what was given to the name of a card ----------------------------------------------------------------------


def _op_of(operation: Any) -> Op | None:
    """The Op that is meant by itself, a method, a node or a tensor."""
    if isinstance(operation, Var):
        operation = operation._node
    if isinstance(operation, Node):
        operation = operation.op
    operation = getattr(operation, "__func__", operation)  # of a bound method
    return operation if isinstance(operation, Op) else None


def _name_of(operation: Any) -> str:
    """The name of the card that is meant; "" where none is."""
    if isinstance(operation, str):
        return _of_text(operation)
    op = _op_of(operation)
    if op is not None:
        return op.name
    operation = getattr(operation, "__func__", operation)
    if isinstance(operation, nn.Module):
        operation = type(operation)
    if isinstance(operation, type) and issubclass(operation, nn.Module):
        return _of_module(operation)
    if isinstance(operation, FunctionType):
        return _of_function(operation)
    return ""


def _of_text(text: str) -> str:
    """relu, relu_, F.relu, torch.nn.functional.relu, nn.ReLU, Tensor.relu, ReluBackward0, and other names of them."""
    of_functional = re.search(r"(^|\.)(F|functional)\.", text) is not None
    name = text.rpartition(".")[2].removesuffix("()")
    for candidate in (name, name.rstrip("_")):
        if of_functional and f"F.{candidate}" in CARDS:
            return f"F.{candidate}"
        if candidate in CARDS:
            return candidate
        for owner in _OWNERS:
            found = getattr(owner, candidate, None)
            if callable(found) and (known := _name_of(found)) in CARDS:
                return known
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Backward0")).lower()
    return snake if name.endswith("Backward0") and snake in CARDS else ""


_OWNERS: tuple[Any, ...] = (ops, functional, nn, Tensor, sys.modules[__name__.partition(".")[0]])


def _of_function(function: FunctionType) -> str:
    function = inspect.unwrap(function)
    name = function.__name__
    if function.__module__.startswith(functional.__name__) and f"F.{name}" in CARDS:
        return f"F.{name}"
    return name if function.__module__.startswith("tensorlite.") else ""


def _of_module(module: type[nn.Module]) -> str:
    """The card that has a layer's name, else that of the first function which its forward calls."""
    if module in _MAIN_PART:
        return _MAIN_PART[module]
    forward = inspect.unwrap(module.forward)
    if not isinstance(forward, FunctionType) or not forward.__module__.startswith(_LAYERS):
        return ""
    own = {name.removeprefix("F.").replace("_", ""): name for name in sorted(CARDS, key=lambda name: "F." in name)}
    named = [own[base.__name__.lower()] for base in module.__mro__ if base.__name__.lower() in own]
    called = (name for function in _called_by(forward) if (name := _name_of(function)) in CARDS)
    return named[0] if named else next(called, "")


_LAYERS = f"{nn.__name__}."
_MAIN_PART: dict[type[nn.Module], str] = {
    nn.MultiheadAttention: "scaled_dot_product_attention", nn.Sequential: "", nn.Module: "",
}


def _called_by(function: FunctionType) -> Iterator[Any]:
    """The functions that a function names: in its module, or as attributes of modules named there."""
    scope = function.__globals__
    modules = [scope[name] for name in function.__code__.co_names if isinstance(scope.get(name), ModuleType)]
    for name in function.__code__.co_names:
        for owner in modules:
            if callable(found := getattr(owner, name, None)):
                yield found
        if callable(found := scope.get(name)):
            yield found


@functools.cache
def _ops() -> dict[str, Op]:
    """All ops of the package by name."""
    loaded = [module for name, module in sys.modules.items() if name.partition(".")[0] == "tensorlite" and module]
    return {value.name: value for module in loaded for value in vars(module).values() if isinstance(value, Op)}


_WITHOUT_CARD = {"function_output": "a result of your autograd.Function", "checkpoint": "a checkpoint of your function"}


def _no_card(operation: Any) -> str:
    if isinstance(operation, type) or isinstance(operation, nn.Module):
        text = getattr(operation, "__name__", type(operation).__name__)
        return f"explain: {text} is not one operation; explain a layer or a function that it is made of"
    text = operation if isinstance(operation, str) else _callable_name(operation)
    if text in _WITHOUT_CARD:
        return f"explain: {text} is {_WITHOUT_CARD[text]}; what it computes stands in your own source"
    if not text:
        return (f"explain: expected the name of an operation, a function, an Op, a layer or a node, got "
                f"{type(operation).__name__}")
    near = difflib.get_close_matches(text.rpartition(".")[2], CARDS, 3, 0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "tensorlite.insight.cards.CARDS lists all"
    return f"explain: there is no card for {text!r}, or it has no derivative; {hint}"


def _callable_name(operation: Any) -> str:
    op = _op_of(operation)
    return op.name if op is not None else str(getattr(operation, "__name__", ""))


def _own_card(op: Op) -> Card:
    """The card of an operation that a user has made: what it says of itself."""
    said = inspect.getdoc(getattr(op, "reference", op.forward)) or "as its source below says"
    rules = {name: "by the rule below" for name in op.rule_of}
    return Card(op.name, said.splitlines()[0], rules, "An operation of your own: a Card can say why its derivative is "
                "so (tensorlite.insight.cards).", executable=False)


# --- the terminal -----------------------------------------------------------------------------------------------------


def _of_terminal(part: Part) -> list[str]:
    """The lines of a part: its title on the left, wrapped text on the right; sources below, indented."""
    margin = " " * 13
    lines: list[str] = []
    for text in part.lines:
        lines += textwrap.wrap(text, _WIDTH - len(margin), subsequent_indent="  ") or [""]
    for source in part.sources:
        lines += [f"# {source.place}", *source.text.splitlines()]
    head, *rest = lines
    return [f"{part.title:<{len(margin)}}{head}", *[margin + line if line else "" for line in rest]]
