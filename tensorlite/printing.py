"""How a Tensor prints: PyTorch's format, 4 digits, the middle left out above 1000 elements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes

if TYPE_CHECKING:
    from .tensor import Tensor

PRECISION, THRESHOLD, EDGE_ITEMS, LINE_WIDTH = 4, 1000, 3, 80


class _Formatter:
    """One format for all numbers of a tensor: integral, fixed or scientific, padded to the widest."""

    def __init__(self, values: np.ndarray) -> None:
        self.floating = values.dtype.kind == "f"
        self.boolean = values.dtype.kind == "b"
        self.integral = self.scientific = False
        finite = np.abs(values[np.isfinite(values) & (values != 0)]).astype(np.float64) if self.floating else values[:0]
        if self.floating:
            self.integral = bool(np.all(finite == np.ceil(finite)))
            if finite.size:
                low, high = float(finite.min()), float(finite.max())
                self.scientific = high / low > 1000 or high > 1e8 or (not self.integral and low < 1e-4)
        self.width = 1
        sized = values.ravel() if not self.floating or not finite.size else values[np.isfinite(values) & (values != 0)]
        if self.floating and not finite.size:
            sized = values[:0]
        self.width = max((len(self.text(v)) for v in sized.tolist()), default=1)
        if self.floating and self.integral and values.size:
            self.width = max(self.width, max(len(self.text(v)) for v in values.ravel().tolist()) if not np.isfinite(values).all() else 1)

    def text(self, value: Any) -> str:
        if self.boolean or not self.floating:
            return str(value)
        if not math.isfinite(value):
            return str(value)
        if self.scientific:
            return f"{value:.{PRECISION}e}"
        return f"{value:.0f}." if self.integral else f"{value:.{PRECISION}f}"

    def __call__(self, value: Any) -> str:
        return self.text(value).rjust(self.width)


def _edges(n: int) -> list[int | None]:
    """The positions that print of n, with None for the dots."""
    return [*range(EDGE_ITEMS), None, *range(n - EDGE_ITEMS, n)]


def _lines(values: np.ndarray, indent: int, summarize: bool, formatter: _Formatter) -> str:
    if values.ndim == 0:
        return formatter(values.item())
    n = len(values)
    positions = _edges(n) if summarize and n > 2 * EDGE_ITEMS else list(range(n))
    if values.ndim == 1:
        items = ["..." if i is None else formatter(values[i].item()) for i in positions]
        per_line = max(1, (LINE_WIDTH - indent) // (formatter.width + 2))
        rows = [items[i:i + per_line] for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(", ".join(row) for row in rows) + "]"
    parts = ["..." if i is None else _lines(values[i], indent + 1, summarize, formatter) for i in positions]
    separator = "," + "\n" * (values.ndim - 1) + " " * (indent + 1)
    return "[" + separator.join(parts) + "]"


def _shown(values: np.ndarray) -> np.ndarray:
    """The corner elements that a summary prints."""
    for dim, n in enumerate(values.shape):
        if n > 2 * EDGE_ITEMS:
            keep = [i for i in _edges(n) if i is not None]
            values = np.take(values, keep, axis=dim)
    return values


def format_tensor(x: Tensor, prefix: str = "tensor(") -> str:
    """The text of a Tensor: its values, and what is not the default among device, dtype and history."""
    values = x.backend.to_numpy(x.array)
    if x.dtype.is_narrow:
        values = values.astype(np.float32)
    notes = []
    if x.device.type != "cpu":
        notes.append(f"device='{x.device}'")
    if values.size == 0 and values.ndim != 1:
        notes.append(f"size={tuple(values.shape)}")
    if x.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_) or (values.size == 0 and x.dtype is not dtypes.get_default_dtype()):
        notes.append(f"dtype={x.dtype!r}")
    if x.grad_fn is not None:
        notes.append(f"grad_fn={x.grad_fn!r}")
    elif x.requires_grad:
        notes.append("requires_grad=True")
    summarize = values.size > THRESHOLD
    if values.size == 0:
        body = "[]"
    else:
        body = _lines(values, len(prefix), summarize, _Formatter(_shown(values) if summarize else values))
    return _append_notes(prefix + body, notes, len(prefix))


def _append_notes(text: str, notes: list[str], indent: int) -> str:
    """Notes on the last line while they fit, else on lines of their own."""
    last = len(text) - text.rfind("\n") - 1
    for note in notes:
        if last + len(note) + 2 > LINE_WIDTH:
            text += ",\n" + " " * indent + note
            last = indent + len(note)
        else:
            text += ", " + note
            last += len(note) + 2
    return text + ")"
