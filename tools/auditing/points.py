"""Where an op is looked at: each row's own inputs, and for elementwise ops the points at which formulas break.

All are made from fixed seeds, exactly representable in the dtype that is looked at.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
from case import Case

import tensorlite as tl
from tensorlite.dtypes import DType

SEEDS = 2
DRAWN = 96  # random points of an elementwise op
MODERATE = 2.0**-8, 10.0  # the sizes at which gradients are looked at: no exp of them overflows in any dtype


def inputs(case: Case, dtype: DType) -> list[list[np.ndarray]]:
    """The sets of inputs at which results are looked at."""
    sets = [case.arrays(shapes, dtype, seed) for shapes in case.shapes for seed in range(SEEDS)]
    if dtype.is_floating_point and is_elementwise(case) and case.result(dtype).is_floating_point:
        sets.append(hard_points(case, dtype))
    return sets


def gradient_inputs(case: Case, dtype: DType) -> list[list[np.ndarray]]:
    """The sets of inputs at which derivatives are looked at."""
    sets = [case.arrays(case.shapes[0], dtype)]
    if is_elementwise(case):
        columns = hard_points(case, dtype)
        size = np.abs(np.stack([c.astype(np.float64) for c in columns]))
        moderate = ((size >= MODERATE[0]) & (size <= MODERATE[1])).all(0)
        sets.append([c[moderate] for c in columns])
    return sets


@cache
def is_elementwise(case: Case) -> bool:
    """Whether each element of the result is made of those at its place alone: seen from the reference."""
    if case.reference is None or tl.float64 not in case.dtypes or isinstance(case.result, tuple):
        return False
    count = len(case.shapes[0])
    if any(len(shapes) != count for shapes in case.shapes):
        return False
    order = np.array([3, 1, 4])
    for shape in ((6,), (6, 2)):
        columns = case.arrays((shape,) * count, tl.float64)
        try:
            with np.errstate(all="ignore"):
                whole, part = (np.asarray(case.reference(*c)) for c in (columns, [c[order] for c in columns]))
        except Exception:  # whatever a reference raises for shapes that it was not written for
            return False
        if whole.shape != shape or not np.array_equal(whole[order], part):
            return False
    return True


def hard_points(case: Case, dtype: DType) -> list[np.ndarray]:
    """One vector per input: zero, denormal, tiny, near 1, large, at the range's end, and some of all magnitudes."""
    info = tl.finfo(dtype)
    sizes = np.array([0.0, _denormal(dtype), 3 * _denormal(dtype), info.tiny, info.eps, 1e-3, 0.1, 0.5, 1 - info.eps,
                      1.0, 1 + info.eps, 1.5, np.pi / 2, 2.0, np.e, 3.0, np.pi, 6.0, 9.0, 15.0, 20.0, 50.0, 87.0, 100.0,
                      700.0, 1e4, info.max / 2, info.max])
    count = len(case.shapes[0])
    sizes = sizes[sizes <= (info.max if count == 1 else info.max**0.25)]  # no overflow on the way to a finite result
    fixed = np.concatenate([sizes, -sizes[1:]])
    random = np.random.default_rng(zlib.crc32(case.name.encode()))
    columns = []
    for _ in range(count):
        drawn = random.choice([-1.0, 1.0], DRAWN) * 2.0 ** random.uniform(-8, 4, DRAWN)
        chosen = fixed if count == 1 else random.choice(fixed, 3 * len(fixed))
        columns.append(np.concatenate([chosen, drawn]).astype(dtype.numpy))
    return columns


def _denormal(dtype: DType) -> float:
    info = tl.finfo(dtype)
    return float(info.tiny * info.eps)
