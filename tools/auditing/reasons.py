"""Why a row is not exact. Each reason is a paragraph of docs/audit.md; a row's note names those that hold for it.

A row is exact if every figure is at most half a unit in the last place, all of PyTorch's aspects are the same, and a
captured step gives the same bits. `tests/test_audit.py` wants a reason for every other row, and no reason without one.
"""

from __future__ import annotations

from typing import Any

EXACT = 0.5

TEXTS = {
    "library":
        "The function is the C library's, NumPy's or a polynomial of our own, none of which promises the last "
        "bit.",
    "steps": "Composed of several operations, each of which rounds its result.",
    "sum":
        "A sum of n terms: each addition rounds, and the error is at most n·eps/2 of the terms' sum. Where "
        "the terms cancel, the unit in the last place of the result is small, and the strict figure says "
        "nothing; the one in units of the terms does.",
    "cancels":
        "The formula subtracts nearly equal numbers where its result is small (1 + erf, 1 - tanh²): exact to "
        "the terms, not to the result.",
    "jump":
        "The function jumps, and its argument (a quotient, say) is rounded before: at a point next to a jump "
        "it takes the other side, as PyTorch does.",
    "overflow": "A factor overflows on the way to a finite result, as in PyTorch.",
    "chain": "The derivative is a product or sum of rounded factors.",
    "denormal":
        "Derivatives and norms flush denormal numbers (docs/cpu.md): digits below the smallest normal number "
        "are lost, and not counted.",
    "host": "Reads values on the host (a shape or a decision depends on them), so a captured step refuses it.",
    "random": "Draws random numbers; a replay draws new ones.",
}
"""By its name, what a reason says."""


FORWARD: dict[str, tuple[str, ...]] = {}
"""Per op, why results are off by more than half a unit in the last place."""

GRADIENT: dict[str, str] = {}
"""Per op, why gradients are off by more than LARGE; up to there it is the chain's rounding."""

LARGE = 20
DIFFERENCES: dict[str, tuple[tuple[str, ...], str]] = {}
"""Per op, the aspects in which PyTorch's results are others, and why."""


def note(row: dict[str, Any]) -> str:
    """The names of the reasons that hold for a row, with commas between."""
    names: list[str] = []
    if _is_off(row["forward_ulp"], EXACT):
        names += FORWARD.get(row["op"], ())
    if row["gradient_error"] != 0 and _is_off(row["gradient_error"], EXACT) and row["double_gradient"] is not None:
        names.append(GRADIENT.get(row["op"], "chain"))
    names += ["denormal" if row["denormal"] else "", OUTCOMES.get(row["captured"], ""),
              "torch" if "differs" in (row["parity"] or {}).values() else ""]
    return ", ".join(dict.fromkeys(filter(None, names)))


OUTCOMES = {"refused": "host", "draws new numbers": "random"}


def _is_off(figure: float | None, limit: float) -> bool:
    return figure is None or figure > limit


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    """Rows that are not exact and do not say why, and reasons that no row needs any more."""
    found = set()
    forward, gradient, differences = set(), set(), set()
    for row in rows:
        op = row["op"]
        if _is_off(row["forward_ulp"], EXACT):
            forward.add(op)
        if row["double_gradient"] is not None and _is_off(row["gradient_error"], LARGE):
            gradient.add(op)
        differences |= {(op, a) for a, outcome in (row["parity"] or {}).items() if outcome == "differs"}
        if row["double_gradient"] == "wrong":
            found.add(f"{op} {row['dtype']} {row['device']}: the second derivative is wrong")
        if row["captured"] == "differs":
            found.add(f"{op} {row['dtype']} {row['device']}: a captured step gives other numbers")
    known = {(op, aspect) for op, (aspects, _) in DIFFERENCES.items() for aspect in aspects}
    ops = {row["op"] for row in rows}
    for what, seen, table in (("results", forward, set(FORWARD)), ("gradients", gradient, set(GRADIENT)),
                              ("differences to PyTorch", differences, known)):
        found |= {f"{what} without a reason: {x}" for x in seen - table}
        found |= {f"a reason that no row needs: {what} of {x}" for x in table - seen
                  if (x if isinstance(x, str) else x[0]) in ops}
    return sorted(found)
