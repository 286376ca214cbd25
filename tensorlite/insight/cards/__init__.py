"""The cards: for every differentiable operation its formula, derivatives and their derivation; see card.py.

    >>> from tensorlite.insight.cards import card
    >>> card("tanh").derivative_text("x")
    'g·(1 - out²)'
"""

from __future__ import annotations

from . import (
    activation,
    arithmetic,
    composed,
    derived,
    elementary,
    functional,
    layer,
    margin,
    movement,
    product,
    reduction,
)
from .card import Card as Card

_FAMILIES = (activation, arithmetic, elementary, reduction, movement, product, layer, composed, derived, functional,
             margin)

CARDS: dict[str, Card] = {card.name: card for family in _FAMILIES for card in family.CARDS}


def card(name: str) -> Card | None:
    """The card of an op by its name, such as `node.op.name`; None for an op without one, such as a user's own."""
    return CARDS.get(name)
