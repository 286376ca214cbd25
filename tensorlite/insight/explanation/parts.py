"""What an explanation says, part by part: formulas and words of the card, what was read from the objects that run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ...autograd.op import Op
from ..cards import Card
from ..tables import table
from .facts import audit_of, costs_of, dtypes_of
from .sources import Source, cpu_kernel, cuda_kernel, forward_of, is_compiled, kernels_of, reference_of, rules_of


class Part(NamedTuple):
    """A part of an explanation: a title, and lines of text, or pieces of source."""

    title: str
    lines: list[str]
    sources: list[Source]


def parts_of(card: Card, op: Op | None) -> list[Part]:
    """All parts that have something to say; `op` is None for a function composed of others."""
    made = [*_formulas(card), *_properties(card, op), *_sources(op), _audit(card.name)]
    return [part for part in made if part.lines or part.sources]


def _formulas(card: Card) -> Iterator[Part]:
    yield Part("formula", [f"out = {card.formula_text}"], [])
    yield Part("made of", [", ".join(card.made_of)], []) if card.made_of else Part("", [], [])
    derivatives = [f"∂L/∂{name} = {card.derivative_text(name)}" for name in card.derivatives]
    yield Part("derivatives", derivatives or ["by the chain rule, through what it is made of"], [])
    meanings = {**card.where_text, **({"g": "∂L/∂out, the gradient that arrives"} if card.derivatives else {})}
    yield Part("where", [f"{name} = {text}" for name, text in meanings.items()]
               + [f"{word}: {text}" for word, text in card.words.items()], [])
    yield Part("derivation", card.derivation.splitlines(), [])
    yield Part("subgradient", card.subgradient.splitlines(), [])


def _properties(card: Card, op: Op | None) -> Iterator[Part]:
    kernels = kernels_of(op) if op is not None else []
    yield Part("shapes", card.shapes.splitlines(), [])
    stated = [dtypes_of(op, kernels)] if op is not None else []
    yield Part("dtypes", [text for text in (*stated, card.dtypes) if text], [])
    yield Part("costs", [f"{kernel}: {text}" for kernel in kernels if (text := costs_of(kernel))], [])


def _sources(op: Op | None) -> Iterator[Part]:
    if op is None:
        return
    shown = [forward_of(op), reference_of(op)]
    yield Part("forward", [], [source for source in shown if source is not None])
    yield Part("rules", [], [Source(f"{source.place}, for {name}", source.text)
                             for name, source in rules_of(op).items()])
    kernels = kernels_of(op)
    on_cpu = [(kernel, cpu_kernel(kernel)) for kernel in kernels]
    yield Part("on the CPU", [], [
        Source(f"{kernel}: {source.place}" + (", and compiled" if is_compiled(kernel) else ""), source.text)
        for kernel, source in on_cpu if source is not None])
    on_gpu = [(kernel, cuda_kernel(kernel)) for kernel in kernels]
    yield Part("on CUDA", [], [Source(f"{kernel}: {source.place}", source.text)
                               for kernel, source in on_gpu if source is not None])


def _audit(name: str) -> Part:
    rows = audit_of(name.removeprefix("F."))
    if not rows:
        return Part("audit", ["not audited"], [])
    columns = [column for column in _AUDITED if any(_cell(column, row) for row in rows)]
    lines = table([title for _, title in columns], [[_cell(column, row) for column in columns] for row in rows],
                  "<" * len(columns))
    return Part("audit", [], [Source("docs/audit.md says what the columns mean", "\n".join(lines))])


_AUDITED = [("dtype", "dtype"), ("device", "device"), ("forward_ulp", "ulp"), ("forward_ulp_of_terms", "ulp of terms"),
            ("gradient_error", "gradient"), ("double_gradient", "second"), ("parity", "PyTorch"),
            ("captured", "captured"), ("note", "why")]


def _cell(column: tuple[str, str], row: dict[str, Any]) -> str:
    """A figure of the audit as a word; of the comparison with PyTorch its outcomes, and in which aspects."""
    value = row.get(column[0])
    if isinstance(value, dict):
        alike = len(value) == 1
        return "; ".join(outcome if alike else f"{outcome}: {', '.join(of.split())}" for outcome, of in value.items())
    if value is None:
        return "∞" if column[0].startswith("forward") and column[0] in row else ""
    return f"{value:g}" if isinstance(value, float) else str(value)
