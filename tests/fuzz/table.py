"""The registry of functions: each name with what draws a call of it."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.calls import Call
from fuzz.draw import Draw

Row = Callable[[Draw, str], Call]
ROWS: dict[str, Row] = {}


def row(*names: str) -> Callable[[Row], Row]:
    """Enter a function that draws calls of each of the names (words of one text count as several)."""

    def enter(draw: Row) -> Row:
        for name in " ".join(names).split():
            assert name not in ROWS, name
            ROWS[name] = draw
        return draw

    return enter
