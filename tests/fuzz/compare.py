"""When two arrays agree, and the second opinion where they seem not to.

Integers and booleans agree if equal, NaN with NaN, infinities with themselves. Floats agree within a few units in the
last place of the dtype: of each element where the function is computed element by element, else of the largest. That
is strict: sums that cancel or arguments near a pole fail it. Then PyTorch is asked again, with the same inputs in
float64, and with inputs moved by one unit in the last place. What PyTorch itself is away from the former, and by how
much the latter moves, tells how well this result can be known at all; tensorlite may be away from it some times as far,
but never so far that a wrong formula would pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
ULPS = 4.0  # of each element, for functions that are computed element by element
NORMWISE = 8.0  # of the largest element, for all others
LARGEST = {"float16": 65504.0, "bfloat16": 3.39e38, "float32": 3.4028235e38, "float64": 1.797e308}
TINY = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
FAR = 16.0  # times as far from the truth as PyTorch is, and as the truth moves
SLACK = 1024.0  # units of `least` that a second opinion grants: 2e-13 in float64, 1e-4 in float32
CAP = {"float16": 0.1, "bfloat16": 0.2, "float32": 1e-3, "float64": 1e-7}  # a condition may not excuse more


def array_of(tensor: Any) -> np.ndarray:
    """Either library's tensor in NumPy, 16-bit floats as float32."""
    tensor = tensor.detach()
    if tensor.itemsize == 2 and tensor.is_floating_point():
        tensor = tensor.float()
    return tensor.numpy(force=True)  # type: ignore[no-any-return]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to 1 or the largest element."""
    with np.errstate(invalid="ignore"):
        found = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)
    return float(found / max(1.0, np.abs(b).max(initial=0.0))) if np.isfinite(found) else math.inf


def worst(a: np.ndarray, b: np.ndarray) -> str:
    """Small arrays as they are; of others the place where they are furthest apart."""
    if a.size <= 12:
        return f"{a.tolist()}, PyTorch {b.tolist()}"
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    place = np.unravel_index(int(np.nan_to_num(apart, nan=np.inf).argmax()), a.shape)
    return f"{a[place]} at {tuple(map(int, place))}, PyTorch {b[place]}"


def dtype_of(tensor: Any) -> str:
    return str(tensor.dtype).partition(".")[2]


def agree(a: np.ndarray, b: np.ndarray, dtype: str, exact: bool, least: float = 0.0) -> bool:
    """Whether `a` is `b` up to rounding; `least`: a magnitude that rounding errors are relative to anyway."""
    if a.dtype == b.dtype and (a == b).all():
        return True
    if dtype not in EPSILON:
        return False
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    a, b = a[finite], b[finite]
    if not a.size:
        return True
    size = np.abs(b)
    room = ULPS * size if exact else NORMWISE * np.maximum(size.max(), least)
    return bool((np.abs(a - b) <= EPSILON[dtype] * room + 2 * TINY[dtype]).all())


def excusable(
    a: np.ndarray, b: np.ndarray, truth: np.ndarray, moved: list[np.ndarray], dtype: str, least: float = 0.0
) -> bool:
    """Whether `a` is as near to the truth as can be asked, seen how far PyTorch's `b` is, and what moves it."""
    a, b, truth = (np.asarray(x, np.float64) for x in (a, b, truth))
    if not all(x.shape == a.shape for x in (truth, *moved)):
        return False
    beyond = np.abs(truth) >= LARGEST[dtype] * (1 - EPSILON[dtype])
    truth = np.where(beyond, np.copysign(np.inf, truth), truth)
    finite = np.isfinite(truth) & np.all([np.isfinite(m) for m in moved], axis=0)
    same = (a == b) | (a == truth) | (np.isnan(a) & (np.isnan(b) | np.isnan(truth)))
    if not same[~finite | ~np.isfinite(a)].all():
        return False
    known = finite & np.isfinite(a)
    if not known.any():
        return True
    size = np.abs(truth[known]).max()
    with np.errstate(invalid="ignore"):
        spread = np.nan_to_num(np.abs(b - truth)[known], posinf=0.0).max()
    sway = max(np.abs(m - truth)[known].max() for m in moved)
    room = FAR * (spread + sway) + EPSILON[dtype] * (ULPS * size + SLACK * least)
    limit = min(room, CAP[dtype] * max(size, least, TINY[dtype])) + 4 * TINY[dtype]
    return bool((np.abs(a - truth)[known] <= limit).all())
