"""The curves of an elementwise function of one operand and of its derivative, drawn from the card's formulas as SVG."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ...autograd.op import Op
from ...backends.kernels.elementwise import FORMULAS
from ..cards import Card

_WIDTH, _HEIGHT, _MARGIN = 560, 260, 28
_REACH = 4.0  # x from -4 to 4
_LIMIT = 4.0  # y at most from -4 to 4
_COLOURS = {"out": "#2563c9", "∂out/∂x": "#d0562b"}


def plot(card: Card, op: Op | None) -> str:
    """An SVG of the function and its derivative; empty for what is no function of one number."""
    if op is None or op.inputs != ["x"] or set(card.derivatives) != {"x"} or card.name not in FORMULAS:
        return ""
    keywords = {p.name for p in inspect.signature(op.forward).parameters.values() if p.kind is p.KEYWORD_ONLY}
    if keywords - set(op.defaults):
        return ""
    x = np.linspace(-_REACH, _REACH, 641)
    values = {"x": x, **op.defaults, "shapes": [x.shape]}
    out = _spread(card.value(**values), x)
    slope = _spread(card.gradient("x", np.ones_like(x), **values, out=out), x)
    return _svg(x, {"out": out, "∂out/∂x": np.where(np.isnan(out), np.nan, slope)})


def _spread(values: Any, x: Any) -> Any:
    return np.broadcast_to(np.asarray(values, np.float64), x.shape)


def _svg(x: Any, curves: dict[str, Any]) -> str:
    low, high = _range(list(curves.values()))
    left, right, top, bottom = _MARGIN, _WIDTH - _MARGIN, 12, _HEIGHT - _MARGIN

    def across(value: float) -> float:
        return left + (value + _REACH) / (2 * _REACH) * (right - left)

    def down(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    axes = (f'<path class="axis" d="M{left} {down(0):.1f}H{right}M{across(0):.1f} {top}V{bottom}"/>'
            + "".join(f'<text x="{across(v):.1f}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>'
                      for v in (-4, -2, 0, 2, 4))
            + "".join(f'<text x="{left - 6}" y="{down(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
                      for v in {int(np.ceil(low)), 0, int(np.floor(high))}))
    lines = "".join(f'<path fill="none" stroke="{_COLOURS[name]}" stroke-width="2" '
                    f'd="{_path(x, y, across, down, high - low)}"/>' for name, y in curves.items())
    names = "".join(f'<text x="{left + 8 + 60 * i}" y="{top + 12}" fill="{_COLOURS[name]}">{name}</text>'
                    for i, name in enumerate(curves))
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="curves">{axes}{lines}{names}</svg>'


def _range(curves: list[Any]) -> tuple[float, float]:
    """What of y is shown: all finite values, but no more than the limit, with 0 and room around."""
    finite = np.concatenate([y[np.isfinite(y)] for y in curves])
    low, high = np.clip([finite.min(initial=0), finite.max(initial=0)], -_LIMIT, _LIMIT)
    room = 0.08 * max(high - low, 0.5)
    return float(low - room), float(high + room)


def _path(x: Any, y: Any, across: Any, down: Any, height: float) -> str:
    """The curve as a path that is lifted where there is no value, outside the frame, and at jumps."""
    parts, drawing, before = [], False, 0.0
    limit = _LIMIT + 0.3
    for at, value in zip(x, y, strict=True):
        inside = bool(np.isfinite(value)) and abs(value) <= limit
        if inside:
            draws = drawing and abs(value - before) < height / 12
            parts.append(f"{'L' if draws else 'M'}{across(at):.1f} {down(value):.1f}")
        drawing, before = inside, float(value)
    return "".join(parts)
