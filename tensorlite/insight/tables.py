"""Tables for a terminal, and short words for shapes and sizes."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines with columns two blanks apart, under a rule; `align` has "<" or ">" for each column."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
             for row in cells]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def shape(sizes: Sequence[int]) -> str:
    """A tensor's shape: "2x3", or "number"."""
    return "x".join(map(str, sizes)) or "number"


def size(count: int) -> str:
    """A number of bytes: "96 B", "1.5 kB", "23.0 MB"."""
    if count < 1000:
        return f"{count} B"
    scale, unit = next((scale, unit) for scale, unit in _UNITS if count < 999.95 * scale or unit == "TB")
    return f"{count / scale:.1f} {unit}"


_UNITS = ((10**3, "kB"), (10**6, "MB"), (10**9, "GB"), (10**12, "TB"))
