"""Tensors in few numbers: what the page of a tape shows of a value or a gradient.

A small tensor is there whole. A large one is there as its corner (the first rows and columns of the first matrix), its
least, greatest, mean and so on, and a histogram. Numbers are rounded to what their dtype tells apart, so that
float32's 2.6099999 reads as 2.61. NaN and infinities, which JSON has no word for, are the strings "nan", "inf", "-inf".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import dtypes

WHOLE = 64  # a tensor of at most so many numbers is shown whole
ROWS, COLUMNS = 4, 6  # of the corner of a larger one
BARS = 24  # of a histogram
LEAST_FOR_BARS = 12  # fewer numbers are read faster than their histogram
DIGITS = {"float64": 9, "float32": 6, "float16": 4, "bfloat16": 3}


def summary(values: np.ndarray) -> dict[str, Any]:
    """What the page knows of an array, ready for JSON."""
    name = dtypes.from_numpy(values.dtype).name
    found: dict[str, Any] = {"shape": list(values.shape), "dtype": name}
    digits = DIGITS.get(name)
    wide = values if digits is None else values.astype(np.float64)
    if wide.size <= WHOLE:
        found["values"] = numbers(wide, digits)
    else:
        matrix = wide.reshape(-1, *wide.shape[-2:])[0] if wide.ndim > 1 else wide[None]
        found["corner"] = [numbers(row[:COLUMNS], digits) for row in matrix[:ROWS]]
    if wide.size > 1:
        found |= _statistics(wide.astype(np.float64).ravel())
    return found


def numbers(values: np.ndarray, digits: int | None) -> list[Any]:
    """An array's numbers in a row, for JSON; `digits` is None for integers and bools, which are exact."""
    listed = values.ravel().tolist()
    return listed if digits is None else [rounded(value, digits) for value in listed]


def rounded(value: float, digits: int = 6) -> float | str:
    """A float to so many significant digits; minus zero is zero."""
    return float(f"{value:.{digits}g}") + 0.0 if math.isfinite(value) else str(value)


def plain(number: float) -> float | str:
    """A Python number, for JSON."""
    return number if math.isfinite(number) else str(number)


def _statistics(values: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    is_finite = np.isfinite(values)
    finite = values
    if not is_finite.all():
        found |= {"nan": int(np.isnan(values).sum()), "inf": int(np.isinf(values).sum())}
        finite = values[is_finite]
    found["zeros"] = int(values.size - np.count_nonzero(values))
    found = {name: count for name, count in found.items() if count}
    if not finite.size:
        return found
    low, high = float(finite.min()), float(finite.max())
    scale = max(abs(low), abs(high)) or 1.0  # so that no square overflows
    scaled = finite / scale
    mean, square = float(scaled.mean()), float(scaled @ scaled)
    spread = scaled - mean
    found["stats"] = {"min": rounded(low), "max": rounded(high), "mean": rounded(mean * scale),
                      "std": rounded(math.sqrt(float(spread @ spread) / finite.size) * scale),
                      "norm": rounded(math.sqrt(square) * scale)}
    if finite.size >= LEAST_FOR_BARS and high / scale > low / scale:
        found["bars"] = _bars(scaled, low / scale, high / scale)
    return found


def _bars(values: np.ndarray, low: float, high: float) -> list[int]:
    """How many values fall into each of BARS equal intervals; the greatest value falls into the last."""
    places = ((values - low) * (BARS / (high - low))).astype(np.int64)
    return np.bincount(np.minimum(places, BARS - 1), minlength=BARS).tolist()  # type: ignore[no-any-return]
