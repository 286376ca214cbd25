"""How a Tensor prints: PyTorch's format; 4 digits, the middle left out above 1000 elements, unless told otherwise."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .errors import ArgumentError

if TYPE_CHECKING:
    from .tensor import Tensor



@dataclasses.dataclass
class _Options:
    """What set_printoptions sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {"default": _Options(), "short": _Options(precision=2, edgeitems=2), "full": _Options(threshold=math.inf)}
_options = _Options()


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Say how Tensors print from now on, in all threads; what is None stays as it is, but for sci_mode.

    precision  digits behind the point
    threshold  how many elements print in full; of more the first and last `edgeitems` of each dimension
    linewidth  characters in a line
    profile    "default", "short" or "full": all of these at once, before the others
    sci_mode   whether numbers are written as 1.0e+00; None for where their magnitudes ask for it

    Raises ArgumentError for another profile, or a number below 0.

    >>> tl.set_printoptions(precision=2)
    >>> tl.tensor([0.12345])
    tensor([0.12])
    >>> tl.set_printoptions(profile="default")
    """
    if profile is not None and profile not in _PROFILES:
        raise ArgumentError(f"set_printoptions: profile must be one of {', '.join(_PROFILES)}, got {profile!r}")
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is not None and not value >= 0:
            raise ArgumentError(f"set_printoptions: {name} must be at least 0, got {value!r}")
    chosen = dataclasses.asdict(_options if profile is None else _PROFILES[profile])
    chosen.update({name: value for name, value in given.items() if value is not None}, sci_mode=sci_mode)
    for name, value in chosen.items():
        setattr(_options, name, value)


class _Formatter:
    """One format for all numbers of a tensor: integral, fixed or scientific, padded to the widest."""

    def __init__(self, values: np.ndarray) -> None:
        self.floating = values.dtype.kind == "f"
        self.integral, self.scientific = True, False
        sized = values.ravel()
        if self.floating:
            sized = sized[np.isfinite(sized) & (sized != 0)]
            if sized.size:
                self._choose(np.abs(sized).astype(np.float64))
        self.width = max((len(self.text(v)) for v in sized.tolist()), default=1)

    def _choose(self, magnitudes: np.ndarray) -> None:
        low, high = float(magnitudes.min()), float(magnitudes.max())
        self.integral = bool(np.all(magnitudes == np.ceil(magnitudes)))
        wanted = high / low > 1000 or high > 1e8 or low < 1e-4
        self.scientific = wanted if _options.sci_mode is None else _options.sci_mode

    def text(self, value: Any) -> str:
        if not self.floating or not math.isfinite(value):
            return str(value)
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        return f"{value:.0f}." if self.integral else f"{value:.{_options.precision}f}"

    def __call__(self, value: Any) -> str:
        return self.text(value).rjust(self.width)


def _positions(n: int, summarize: bool) -> list[int | None]:
    """The positions that print of n, with None for dots."""
    if summarize and n > 2 * _options.edgeitems:
        return [*range(_options.edgeitems), None, *range(n - _options.edgeitems, n)]
    return list(range(n))


def _lines(values: np.ndarray, indent: int, summarize: bool, formatter: _Formatter) -> str:
    if values.ndim == 0:
        return formatter(values.item())
    positions = _positions(len(values), summarize)
    if values.ndim == 1:
        items = [" ..." if i is None else formatter(values[i].item()) for i in positions]
        per_line = max(1, (_options.linewidth - indent) // (formatter.width + 2))
        rows = [items[i:i + per_line] for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(", ".join(row) for row in rows) + "]"
    parts = ["..." if i is None else _lines(values[i], indent + 1, summarize, formatter) for i in positions]
    separator = "," + "\n" * (values.ndim - 1) + " " * (indent + 1)
    return "[" + separator.join(parts) + "]"


def _corners(values: np.ndarray) -> np.ndarray:
    """The elements that a summary prints."""
    for dim, n in enumerate(values.shape):
        values = np.take(values, [i for i in _positions(n, True) if i is not None], axis=dim)
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
        notes.append(f"size={values.shape}")
    unmarked = {dtypes.get_default_dtype()} | ({dtypes.int64, dtypes.bool_} if values.size else set())
    if x.dtype not in unmarked:
        notes.append(f"dtype={x.dtype!r}")
    if x.grad_fn is not None:
        notes.append(f"grad_fn={x.grad_fn!r}")
    elif x.requires_grad:
        notes.append("requires_grad=True")
    summarize = values.size > _options.threshold
    formatter = _Formatter(_corners(values) if summarize else values)
    body = _lines(values, len(prefix), summarize, formatter) if values.size else "[]"
    return _append_notes(prefix + body, notes, len(prefix))


def _append_notes(text: str, notes: list[str], indent: int) -> str:
    """Notes on the last line while they fit, else on lines of their own."""
    last = len(text) - text.rfind("\n") + 1
    for note in notes:
        fits = last + len(note) + 2 <= _options.linewidth
        text += (", " if fits else ",\n" + " " * indent) + note
        last = last + len(note) + 2 if fits else indent + len(note)
    return text + ")"
