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
from ..cards.pretty import pretty
from ..records import Record, Value
from .formulas import Formulas, is_plain

LONGEST_ALIAS = 18
_ATOM = re.compile(r"\w*|\w*\([^()]*\)[²³]?")  # a name, a call, or what stands in parentheses

Reference = dict[str, Any]  # "name", and "tensor": its place in the page's list, or None
Formula = dict[str, Any]


def result(record: Record, references: Mapping[str, Reference]) -> Formula | None:
    """How the result was formed."""
    known = card(record.op)
    return _formula(known, known.formula, record, references) if known else None


def gradient(record: Record, label: str, references: Mapping[str, Reference]) -> Formula | None:
    """How the gradient of one input was formed; `references` has the incoming one as "g"."""
    known = card(record.op)
    if known is None or label not in known.derivatives:
        return None
    return _formula(known, known.derivatives[label], record, references)


def alias(formula: Formula | None) -> str:
    """What to call a result without a name: its formula, if that is short and plain, such as "(W @ x)"; else ""."""
    if formula is None or "plain" not in formula:
        return ""
    text = "".join(part if isinstance(part, str) else part["name"] for part in formula["parts"])
    if len(text) > LONGEST_ALIAS:
        return ""
    return text if _ATOM.fullmatch(text) else f"({text})"


def _formula(known: Card, formula: str, record: Record, references: Mapping[str, Reference]) -> Formula:
    """A formula for the page: its parts, whether they are plain, and what abbreviations in it mean."""
    if not known.executable:
        return {"parts": [formula]}
    numbers = {**record.node.op.defaults, **record.params,
               **{given.label: given.value for given in record.inputs if not isinstance(given.value, Value)}}
    absent = {name: known.missing.get(name, 0.0) for name, value in numbers.items() if value is None}
    shapes = {given.label: given.value.shape for given in record.inputs if isinstance(given.value, Value)}
    if record.result is not None:
        shapes |= {"out": record.result.shape, "g": record.result.shape}
    formulas = Formulas(references, numbers | absent, shapes, known.where)
    parts = formulas.parts(formula)
    where = [[pretty(name), meaning] for name, meaning in formulas.abbreviations(formula).items()]
    return {"parts": parts} | ({"plain": True} if is_plain(parts) else {}) | ({"where": where} if where else {})


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
