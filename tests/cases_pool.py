"""The rows of pooling, padding and sliding windows, a part of the table in cases.py: references loop over windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from case import ANY, FLOATS, NUMBERS, Case, Shape, integer

from tensorlite import ops
from tensorlite.ops.pool import Windows

RULE: dict[str, Any] = {"dtypes": FLOATS, "strict": False}
POOLED: dict[str, Any] = {"dtypes": FLOATS, "distinct": True}
PLANES = (((2, 2, 5, 6),), ((1, 5, 4),), ((0, 2, 4, 4),))


def starts(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[int]:
    """Where the windows of a dimension begin."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    return [start for start in range(-padding, count * stride - padding, stride) if start < size]


def windows(shape: Shape, kernel: int, stride: int, padding: int = 0, dilation: int = 1,
            ceil_mode: bool = False) -> Iterator[tuple[int, int, np.ndarray]]:
    """The row and column of each window of a plane, and the numbers of its elements."""
    height, width = shape[-2:]
    lines = [list(enumerate(starts(n, kernel, stride, padding, dilation, ceil_mode))) for n in (height, width)]
    steps = range(0, kernel * dilation, dilation)
    for (p, top), (q, left) in itertools.product(*lines):
        yield p, q, np.array([row * width + column for row in range(top, top + len(steps) * dilation, dilation)
                              for column in range(left, left + len(steps) * dilation, dilation)
                              if 0 <= row < height and 0 <= column < width], np.int64)


def flat(x: Any) -> Any:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def pooled(x: Any, reduce: Callable[[Any, np.ndarray], Any], **how: Any) -> Any:
    """reduce(elements of a window as the last dimension, their numbers) for each window."""
    found = {(p, q): reduce(flat(x)[..., numbers], numbers) for p, q, numbers in windows(x.shape, **how)}
    rows, columns = max(found)
    return np.stack([np.stack([found[p, q] for q in range(columns + 1)], -1) for p in range(rows + 1)], -2)


def spread(g: Any, x: Any, weights: Callable[[Any, np.ndarray], Any], **how: Any) -> Any:
    """To each element the sum, over the windows around it, of g times what weights(elements, numbers) gives it."""
    out = np.zeros(flat(x).shape, g.dtype)
    for p, q, numbers in windows(x.shape, **how):
        out[..., numbers] += g[..., p, q, None] * weights(flat(x)[..., numbers], numbers)
    return out.reshape(x.shape)


def largest(elements: Any, numbers: np.ndarray) -> Any:
    return elements.max(-1)


def place(elements: Any, numbers: np.ndarray) -> Any:
    return numbers[elements.argmax(-1)]


def is_largest(elements: Any, numbers: np.ndarray) -> Any:
    return np.arange(len(numbers)) == elements.argmax(-1)[..., None]


def mean_of(count: int | None) -> Callable[[Any, np.ndarray], Any]:
    return lambda elements, numbers: elements.sum(-1) / (count or len(numbers))


def share_of(count: int | None) -> Callable[[Any, np.ndarray], Any]:
    return lambda elements, numbers: np.ones(len(numbers)) / (count or len(numbers))


def picked(v: Any, x: Any, **how: Any) -> Any:
    at = pooled(x, place, **how)
    return np.take_along_axis(flat(v), flat(at), -1).reshape(at.shape)


def row(name: str, function: Callable[..., Any], reference: Callable[..., Any], *shapes: Any, **options: Any) -> Case:
    return Case(name, function, reference, tuple(s if isinstance(s[0], tuple) else (s,) for s in shapes), **options)


HALVES = Windows((2, 3), (2, 2), (2, 2), (0, 0), (1, 1))  # of a plane (5, 6): side by side
OVERLAP = Windows((3, 3), (3, 3), (2, 2), (1, 1), (1, 1))
OVERLAPPING = {"kernel": 3, "stride": 2, "padding": 1}
GIVEN = (((2, 2, 3, 3), (2, 2, 5, 6)),)
SIDE_BY_SIDE = (((2, 2, 2, 3), (2, 2, 5, 6)),)

POOLING = [
    row("max_pool2d", lambda x: ops.max_pool2d(x, 2), lambda x: pooled(x, largest, kernel=2, stride=2), *PLANES,
        **POOLED),
    row("max_pool2d overlapping", lambda x: ops.max_pool2d(x, 3, 2, 1), lambda x: pooled(x, largest, **OVERLAPPING),
        *PLANES, **POOLED),
    row("max_pool2d ceil, dilated", lambda x: ops.max_pool2d(x, 2, 2, 1, 2, ceil_mode=True),
        lambda x: pooled(x, largest, kernel=2, stride=2, padding=1, dilation=2, ceil_mode=True), *PLANES, **POOLED),
    row("max_pool2d_indices", lambda x: ops.max_pool2d_indices(x, 3, 2, 1), lambda x: pooled(x, place, **OVERLAPPING),
        *PLANES, **POOLED, result=integer, gradient=False),
    Case("max_pool2d_grad", lambda g, x: ops.max_pool2d_grad(g, x, windows=HALVES),
         lambda g, x: spread(g, x, is_largest, kernel=2, stride=2), SIDE_BY_SIDE, **RULE, nan=False),
    Case("max_pool2d_grad overlapping", lambda g, x: ops.max_pool2d_grad(g, x, windows=OVERLAP),
         lambda g, x: spread(g, x, is_largest, **OVERLAPPING), GIVEN, **RULE, nan=False),
    Case("max_pool2d_pick", lambda v, x: ops.max_pool2d_pick(v, x, windows=OVERLAP),
         lambda v, x: picked(v, x, **OVERLAPPING), (((2, 2, 5, 6), (2, 2, 5, 6)),), **RULE, nan=False),
    row("avg_pool2d", lambda x: ops.avg_pool2d(x, 2), lambda x: pooled(x, mean_of(None), kernel=2, stride=2), *PLANES,
        dtypes=FLOATS),
    row("avg_pool2d overlapping", lambda x: ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: pooled(x, mean_of(None), **OVERLAPPING), *PLANES, dtypes=FLOATS),
    row("avg_pool2d padded", lambda x: ops.avg_pool2d(x, 3, 2, 1), lambda x: pooled(x, mean_of(9), **OVERLAPPING),
        (2, 2, 5, 5), (0, 2, 5, 5), dtypes=FLOATS),
    row("avg_pool2d divisor", lambda x: ops.avg_pool2d(x, 3, 2, 1, True, True, 7),
        lambda x: pooled(x, mean_of(7), **OVERLAPPING, ceil_mode=True), *PLANES, dtypes=FLOATS),
    row("avg_pool2d_grad", lambda g: ops.avg_pool2d_grad(
        g, plane=(5, 6), windows=OVERLAP, count_include_pad=False, divisor_override=None),
        lambda g: spread(g, np.zeros((2, 2, 5, 6)), share_of(None), **OVERLAPPING), (2, 2, 3, 3), **RULE),
]


def unfolded(x: Any) -> Any:
    """Windows of 3, one every 2, along dimension 1."""
    return np.stack([x[:, k:x.shape[1] - 2 + k:2] for k in range(3)], -1)


def unfold_added(g: Any) -> Any:
    out = np.zeros((*g.shape[:1], 7, *g.shape[2:-1]), g.dtype)
    for window, k in np.ndindex(3, 3):
        out[:, 2 * window + k] += g[:, window, ..., k]
    return out


def padded(mode: str, *widths: tuple[int, int]) -> Callable[[Any], Any]:
    return lambda x: np.pad(x, [(0, 0)] * (x.ndim - len(widths)) + list(widths), mode=mode)


BORDERS: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
WINDOWS = [
    row("unfold", lambda x: x.unfold(1, 3, 2), unfolded, (2, 7), (2, 7, 3), (0, 7), dtypes=ANY, view=True),
    row("unfold 0-d", lambda x: x.unfold(0, 1, 1), lambda x: x.reshape(1), ((),), dtypes=ANY, view=True),
    row("unfold_add", lambda g: ops.unfold_add(g, shape=(*g.shape[:1], 7, *g.shape[2:-1]), dim=1, step=2, dilation=1),
        unfold_added, (2, 3, 3), (2, 3, 2, 3), dtypes=NUMBERS, strict=False),
    *[row(f"pad {mode}", lambda x, mode=mode: ops.pad(x, (1, 2, 2, 1), mode=mode), padded(how, (2, 1), (1, 2)), (3, 4),
          (2, 3, 4), dtypes=ANY) for mode, how in BORDERS.items()],
    *[row(f"pad {mode} and cut", lambda x, mode=mode: ops.pad(x, (-1, 2), mode=mode),
          lambda x, how=how: np.pad(x[:, 1:] if how == "wrap" else x, [(0, 0), (0, 2)], mode=how)[
              :, int(how != "wrap"):], (3, 4), dtypes=ANY) for mode, how in BORDERS.items()],
]
