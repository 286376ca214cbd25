"""What a card is: an operation's formula and derivatives, in words a student reads and a test evaluates.

Contract. Formulas are written in a small dialect of Python expressions (see dialect.py): over the names of the op's
inputs and parameters, over `out`, the result, and in derivatives over `g`, the gradient ∂L/∂out that arrives from
above. A derivative is the whole rule ∂L/∂input, before the sum over what broadcasting repeated. `tests/test_cards.py`
evaluates each of them in float64 beside the op and its rule; what is not `executable` (a recurrence, say) is text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ArgumentError
from .dialect import evaluate, names
from .mathml import mathml
from .pretty import pretty
from .words import meaning


@dataclass(frozen=True)
class Card:
    """One operation, explained.

    name         of the op, as `Node.op.name` and PyTorch have it
    formula      the result
    derivatives  input -> ∂L/∂input; an input without one gets no gradient
    derivation   why, in 1 to 5 lines
    subgradient  what is taken where no derivative exists
    shapes       of inputs and result
    dtypes       what is not said by the op's promotion
    where        abbreviations in the formulas -> what they stand for
    missing      input or parameter that may be None -> what stands in its place, 0 unless given
    made_of      the ops of which a composed function is made; empty for an op of its own
    executable   whether the formulas are in the dialect

    >>> from tensorlite.insight.cards import card
    >>> card("sigmoid").derivative_text("x")
    'g·out·(1 - out)'
    """

    name: str
    formula: str
    derivatives: Mapping[str, str]
    derivation: str
    subgradient: str = ""
    shapes: str = ""
    dtypes: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    made_of: tuple[str, ...] = ()
    executable: bool = True

    @property
    def formula_text(self) -> str:
        """The formula as a reader wants it: "ln(1 + x)"."""
        return self._text(self.formula)

    def derivative_text(self, name: str) -> str:
        """∂L/∂name as a reader wants it."""
        return self._text(self.derivatives[name])

    @property
    def math(self) -> dict[str, str]:
        """MathML by the left side: "out", "∂L/∂x", abbreviations; empty where the formulas are text."""
        if not self.executable:
            return {}
        left = {"out": self.formula, **{f"∂L/∂{name}": formula for name, formula in self.derivatives.items()}}
        return {name: mathml(formula, name) for name, formula in {**left, **self.where}.items()}

    @property
    def where_text(self) -> dict[str, str]:
        """The abbreviations as a reader wants them."""
        return {pretty(name): self._text(meaning) for name, meaning in self.where.items()}

    @property
    def words(self) -> dict[str, str]:
        """The words of the formulas that a reader may not know -> what they mean."""
        return {word: meaning(word) for word in sorted(self._names) if meaning(word)}

    def value(self, /, **values: Any) -> Any:
        """The formula's value in NumPy, for inputs and parameters by name; ArgumentError where one is missing."""
        return self._evaluated(self.formula, values)

    def gradient(self, name: str, g: Any, /, **values: Any) -> Any:
        """∂L/∂name in NumPy, for the incoming gradient, the inputs, the parameters and `out` by name.

        Raises ArgumentError where one of them is missing, or for an input without a gradient.
        """
        if name not in self.derivatives:
            raise ArgumentError(f"card of {self.name}: no gradient for {name!r}; there is one for "
                                f"{', '.join(self.derivatives) or 'none'}")
        return self._evaluated(self.derivatives[name], {**values, "g": g})

    def _evaluated(self, formula: str, values: Mapping[str, Any]) -> Any:
        if not self.executable:
            raise ArgumentError(f"card of {self.name}: its formulas are told in words, which have no value")
        try:
            return evaluate(formula, self._prepared(values), self.where)
        except NameError as missing:
            raise ArgumentError(f"card of {self.name}: the formula {formula!r} also needs {missing.name!r}") from None

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.missing.get(name, 0.0) if value is None and name in self._names else value
                for name, value in values.items()}

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        """All names in the formulas."""
        formulas = (self.formula, *self.derivatives.values(), *self.where.values()) if self.executable else ()
        return frozenset().union(*map(names, formulas))

    def _text(self, formula: str) -> str:
        return pretty(formula) if self.executable else formula
