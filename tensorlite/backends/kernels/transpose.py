"""The copy between arrays that lie densely along different dimensions: a kernel behind "copy"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ... import dtypes
from . import Instance, KernelBackend, Plan
from .layout import DIVIDER, LARGE, c_type, dims_fields, divider, packed_dims

FILE = "movement.cu"
TILE = 32  # as in kernels/movement.cu
BLOCK = (TILE, 8, 1)
LEAST = 16  # sizes below which most of a tile would be empty


def transposition(backend: KernelBackend, out: np.dtype[Any], x: np.dtype[Any], sizes: Sequence[int],
                  steps: Sequence[tuple[int, ...]]) -> Plan | None:
    """The plan of a copy over merged dimensions, innermost of out first; None where tiles would not make it faster.

    Its changing fields are the addresses of out and x.
    """
    rows_at = next((dim for dim, step in enumerate(steps) if step[1] == 1), 0)
    rows, columns = sizes[rows_at], sizes[0]
    row_tiles, column_tiles = -(-rows // TILE), -(-columns // TILE)
    batch = [dim for dim in range(len(sizes)) if dim not in (0, rows_at)]
    blocks = row_tiles * column_tiles * math.prod([sizes[dim] for dim in batch])
    if not rows_at or steps[0][0] != 1 or steps[0][1] == 0 or min(rows, columns) < LEAST or blocks >= LARGE:
        return None
    values = [rows, columns, steps[rows_at][0], steps[0][1], *divider(row_tiles), *divider(column_tiles),
              *packed_dims("copy", [sizes[dim] for dim in batch] or [1], [steps[dim] for dim in batch] or [(0, 0)])]
    return backend.plan(Instance(FILE, _expression(c_type(out), c_type(x))), "PP",
                        "qqqq" + DIVIDER * 2 + dims_fields(2), values, (blocks, 1, 1), BLOCK)


def _expression(out: str, x: str) -> str:
    return f"transpose<{out}, {x}>"


def instances() -> Iterator[Instance]:
    """One for each pair of dtypes."""
    for to in dtypes.ALL:
        for source in dtypes.ALL:
            yield Instance(FILE, _expression(to.c_type, source.c_type))
