"""Sequences of different lengths: steps of a batch as rows without padding, and back. Each is the other's derivative.

Sequences lie from the longest to the shortest; batch_sizes[t] of them, the first ones, are longer than t.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ..autograd.op import op
from ..backends import Array, Backend


def _runs(batch_sizes: Sequence[int]) -> Iterator[tuple[slice, int, slice]]:
    """Stretches of steps with as many sequences each: the steps, that number, and their rows among all."""
    start = row = 0
    for size, group in itertools.groupby(batch_sizes):
        count = len(list(group))
        yield slice(start, start + count), size, slice(row, row + count * size)
        start, row = start + count, row + count * size


@op
def packed_steps(be: Backend, x: Array, *, batch_sizes: Any) -> Array:
    """The first batch_sizes[t] rows of each step t of x (steps, batch, ...), one below the other."""
    out = be.empty((sum(batch_sizes), *x.shape[2:]), x.dtype)
    for steps, size, rows in _runs(batch_sizes):
        region = x[steps, :size]
        be.run("copy", out[rows].reshape(region.shape), region)
    return out


@op
def padded_steps(be: Backend, data: Array, *, batch_sizes: Any, batch: Any, value: Any = 0) -> Array:
    """(steps, batch, ...) whose step t begins with the next batch_sizes[t] rows of the data; `value` elsewhere."""
    out = be.fill("fill", (len(batch_sizes), batch, *data.shape[1:]), data.dtype, value)
    for steps, size, rows in _runs(batch_sizes):
        region = out[steps, :size]
        be.run("copy", region, data[rows].reshape(region.shape))
    return out


packed_steps.rules(x=lambda g, batch_sizes, shapes: padded_steps(g, batch_sizes=batch_sizes, batch=shapes[0][1]))
padded_steps.rules(data=lambda g, batch_sizes: packed_steps(g, batch_sizes=batch_sizes))
