"""What the page says about how an operation computes its result and its gradients: cards, in the operation's own names.

An operation without a card, such as a user's Function, is explained by the source of its rules.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from ...autograd.op import Op
from ..cards import Card, card
from ..records import Record, Value
from .formulas import Part, parts

LONGEST_ALIAS = 18
_ATOM = re.compile(r"\w*|\w*\([^()]*\)[²³]?")  # a name, a call, or what stands in parentheses

Reference = dict[str, Any]  # "name", and "tensor": its place in the page's list, or None


def result(record: Record, references: Mapping[str, Reference]) -> list[Part] | None:
    """How the result was formed."""
    known = card(record.op)
    return _parts(known, known.formula, record, references) if known else None


def gradient(record: Record, label: str, references: Mapping[str, Reference]) -> list[Part] | None:
    """How the gradient of one input was formed; `references` has the incoming one as "g"."""
    known = card(record.op)
    return _parts(known, known.derivatives[label], record, references) if known and label in known.derivatives else None


def alias(formula: list[Part] | None) -> str:
    """What to call a result without a name: its formula, if that is short, such as "(W @ x)"; else ""."""
    text = "".join(part if isinstance(part, str) else part["name"] for part in formula or [])
    if len(text) > LONGEST_ALIAS:
        return ""
    return text if _ATOM.fullmatch(text) else f"({text})"


def _parts(known: Card, formula: str, record: Record, references: Mapping[str, Reference]) -> list[Part]:
    if not known.executable:
        return [formula]
    numbers = {**record.node.op.defaults, **record.params,
               **{given.label: given.value for given in record.inputs if not isinstance(given.value, Value)}}
    absent = {name: known.missing.get(name, 0.0) for name, value in numbers.items() if value is None}
    shapes = {given.label: given.value.shape for given in record.inputs if isinstance(given.value, Value)}
    if record.result is not None:
        shapes |= {"out": record.result.shape, "g": record.result.shape}
    found = parts(formula, references, numbers | absent, shapes, known.where)
    if all(isinstance(part, dict) or known.where.keys().isdisjoint(re.findall(r"\w+", part)) for part in found):
        return found
    return [part if isinstance(part, str) else {"name": part["name"]} for part in found]  # not to be told in numbers


def described(op: Op) -> dict[str, Any]:
    """An operation's card for the page: formulas, their derivation, and the rules as they stand in the source."""
    found: dict[str, Any] = {"source": rules(op)}
    known = card(op.name)
    if known:
        found |= {"formula": known.formula_text, "derivation": known.derivation, "subgradient": known.subgradient,
                  "derivatives": {name: known.derivative_text(name) for name in known.derivatives},
                  "where": known.where_text}
    return {name: value for name, value in found.items() if value}


def rules(op: Op) -> str:
    """The source of an operation's rules: of its inputs, or of the backward of a user's Function."""
    function = getattr(op, "function", None)
    listed = [rule for rule, _ in op.rule_of.values()] if function is None else [function.backward]
    return "\n".join(dict.fromkeys(filter(None, map(_source, listed))))


def _source(rule: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(rule)).strip()
    except (OSError, TypeError):  # written in an interpreter, or not in Python
        return ""
