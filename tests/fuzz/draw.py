"""Where random shapes, dtypes, layouts and values come from.

Values are cut from long tables that a seed fills once: a draw costs a slice, and a case is made anew from its seed and
its number alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from fuzz.calls import FLOATS, INTEGERS, NUMPY, PLAIN, WAYS, Layout, Leaf

Shape = tuple[int, ...]
ROOM = 1 << 14  # elements of a table; no case asks for more than a quarter of it
TIES = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 1.0, 1.5, -3.0, 6.0)
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1e-40, -1e-310, 7e4, -1e38, 1e-8)
DTYPES = (*["float64"] * 8, *["float32"] * 6, "float16", "float16", "bfloat16", "bfloat16", "bool", *INTEGERS)


def tables(seed: int) -> dict[str, np.ndarray]:
    """Kinds of values."""
    rng = np.random.default_rng(seed)
    wide = np.exp(rng.uniform(-7, 5, ROOM)) * rng.choice([-1, 1], ROOM)
    return {
        "smooth": rng.uniform(-2, 2, ROOM),
        "ties": rng.choice(TIES, ROOM),
        "wide": wide,
        "special": np.where(rng.random(ROOM) < 0.4, rng.choice(SPECIAL, ROOM), rng.uniform(-2, 2, ROOM)),
        "nans": np.where(rng.random(ROOM) < 0.05, math.nan, rng.choice(TIES, ROOM)),
        "positive": rng.uniform(0.2, 3, ROOM),
        "unit": rng.uniform(0, 1, ROOM),
        "integers": rng.integers(-4, 5, ROOM).astype(np.float64),
        "bits": rng.integers(0, 2, ROOM).astype(np.float64),
        "counts": rng.integers(1, 6, ROOM).astype(np.float64),
    }


class Draw:
    """The choices of one case. `special` allows NaN, infinities, ties and other values of special interest."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tables = tables(seed)
        self.rng = random.Random()

    def begin(self, number: int) -> Draw:
        self.rng.seed(self.seed * 1_000_000_007 + number)
        rng = self.rng.random()
        self.kind = "smooth" if rng < 0.5 else "ties" if rng < 0.75 else "wide" if rng < 0.85 else "special"
        self.large = self.rng.random() < 0.3
        return self

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.random() * len(options))]

    def int(self, low: int, high: int) -> int:
        """low to high, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    # --- shapes

    def size(self) -> int:
        """Mostly small; once in a while a larger one, but one in a case."""
        if self.large and self.chance(0.1):
            self.large = False
            return self.int(6, 40)
        return self.pick((0, 1, 1, 2, 2, 3, 3, 4, 5))

    def shape(self, least: int = 0, most: int = 4, empty: bool = True) -> Shape:
        sizes = tuple(self.size() for _ in range(self.int(least, most)))
        return sizes if empty else tuple(max(n, 1) for n in sizes)

    def broadcastable(self, count: int, least: int = 0) -> list[Shape]:
        """Shapes that broadcast with each other; rarely such as do not."""
        whole = self.shape(least)
        parts = []
        for _ in range(count):
            kept = whole[self.int(0, len(whole)) :] if self.chance(0.4) else whole
            parts.append(tuple(1 if self.chance(0.15) else n for n in kept))
        if self.chance(0.02):
            parts[0] = self.shape()
        return parts

    def dim(self, ndim: int, wrong: float = 0.02) -> int:
        """A dimension from the front or the back; rarely one that is not there."""
        reach = max(ndim, 1)
        return self.int(-reach, reach - 1) if not self.chance(wrong) else self.pick((-reach - 1, reach, reach + 1))

    def dims(self, ndim: int) -> Any:
        """One dimension, several, or None."""
        if self.chance(0.3):
            return None
        if ndim < 2 or self.chance(0.6):
            return self.dim(ndim)
        chosen = self.rng.sample(range(ndim), self.int(1, ndim))
        return tuple(d - ndim if self.chance(0.3) else d for d in chosen)

    # --- values

    def cut(self, kind: str, shape: Shape) -> np.ndarray:
        count = math.prod(shape)
        start = self.int(0, ROOM - count - 1)
        return self.tables[kind][start : start + count].reshape(shape)

    def dtype(self) -> str:
        return self.pick(DTYPES)

    def floating(self) -> str:
        return self.pick(DTYPES[:18])

    def values(self, shape: Shape, dtype: str, kind: str | None = None) -> np.ndarray:
        kind = kind or self.kind
        if dtype in FLOATS:
            with np.errstate(over="ignore"):
                return self.cut(kind, shape).astype(NUMPY[dtype])
        if dtype == "bool":
            return self.cut("bits", shape).astype(bool)
        whole = self.cut("counts" if kind in ("positive", "counts", "unit") else "integers", shape)
        if dtype == "uint8":
            whole = np.asarray(np.abs(whole))
        return whole.astype(NUMPY[dtype])

    def layout(self, shape: Shape) -> Layout:
        ndim = len(shape)
        if ndim == 0 or self.chance(0.45):
            return PLAIN
        order = None
        if ndim > 1 and self.chance(0.5):
            order = tuple(self.rng.sample(range(ndim), ndim))
        ways = tuple(self.pick(tuple(WAYS)) for _ in shape) if self.chance(0.6) or order is None else None
        return Layout(order, ways)

    def leaf(
        self, shape: Shape, dtype: str | None = None, kind: str | None = None, grad: float = 0.75, repeats: bool = True
    ) -> Leaf:
        """`repeats`: whether elements may share their memory, as those of an expanded tensor do."""
        dtype = dtype or self.dtype()
        values, layout = self.values(shape, dtype, kind), self.layout(shape)
        if repeats and layout is not PLAIN and values.size and self.chance(0.12):
            dim = self.int(0, len(shape) - 1)
            values = np.repeat(values.take([0], dim), shape[dim], dim)
            layout = Layout(layout.order, layout.ways, (dim,))
        return Leaf(values, dtype, dtype in FLOATS and self.chance(grad), layout)

    def index(self, shape: Shape, below: int, wrong: float = 0.02) -> Leaf:
        """Whole numbers from 0 to below; rarely one that is not."""
        start = self.int(0, ROOM - math.prod(shape) - 1)
        unit = self.tables["unit"][start : start + math.prod(shape)].reshape(shape)
        values = (unit * below).astype(np.int64)
        if values.size and self.chance(wrong):
            values.flat[-1] = self.pick((below, -below - 1))
        return Leaf(values, "int64", False, self.layout(shape))
