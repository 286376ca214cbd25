"""Rows of the test table: joining, turning, combinations, running extrema, sorted sequences, and writing at indices."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from case import ANY, FLOATS, FULL, INDEX, MASK, MATRIX, NUMBERS, ROWS, Case, along, floating, integer, same

from tensorlite import ops

MOVED: dict[str, Any] = {"dtypes": ANY, "view": True}
ORDER: dict[str, Any] = {"dtypes": ANY, "distinct": True}
PAIRS = (((2, 3), (2, 3)), ((3,), (3,)))
FIRST_TWO = np.array([1, 0])


def each(*shapes: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    return tuple((shape,) for shape in shapes)


def last_place(x: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Where a running extremum along dimension 1 was last attained."""
    places = np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    return np.maximum.accumulate(np.where((x == running) | (x != x), places, 0), 1)


def running(ufunc: np.ufunc) -> Any:
    def reference(x: np.ndarray) -> Any:
        found = ufunc.accumulate(x, 1)
        return found, last_place(x, found)

    return reference


def kth(x: np.ndarray) -> Any:
    order = np.argsort(x, 1, kind="stable")
    return np.take_along_axis(x, order, 1)[:, 1], order[:, 1]


def filled(x: np.ndarray) -> np.ndarray:
    out = np.array(x)
    out[:, [2, 0]] = 1
    return out


def copied(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    out = np.array(x)
    out[:, [2, 0]] = v
    return out


def mask_scattered(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    out = np.array(np.broadcast_to(x, MASK.shape))
    out[MASK] = v.ravel()[:MASK.sum()]
    return out


def reduced(name: str, include_self: bool) -> Any:
    """scatter_reduce along dimension 1 at INDEX, element by element."""
    best = {"sum": sum, "mean": lambda v: sum(v) / len(v), "amax": np.max, "amin": np.min}[name]

    def reference(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        out = np.array(x)
        for i, j in np.ndindex(x.shape):
            parts = [v[i, k] for k in range(v.shape[1]) if INDEX[i, k] == j]
            if parts:
                out[i, j] = best([x[i, j], *parts] if include_self else parts)
        return out

    return reference


SELECTING = [
    Case("hstack", lambda x, y: ops.hstack([x, y]), lambda x, y: np.hstack([x, y]), PAIRS, dtypes=ANY),
    Case("vstack", lambda x, y: ops.vstack([x, y]), lambda x, y: np.vstack([x, y]), PAIRS, dtypes=ANY),
    Case("dstack", lambda x, y: ops.dstack([x, y]), lambda x, y: np.dstack([x, y]), PAIRS, dtypes=ANY),
    Case("column_stack", lambda x, y: ops.column_stack([x, y]), lambda x, y: np.column_stack([x, y]), PAIRS,
         dtypes=ANY),
    Case("atleast_1d", ops.atleast_1d, np.atleast_1d, FULL, **MOVED),
    Case("atleast_2d", ops.atleast_2d, np.atleast_2d, FULL, **MOVED),
    Case("atleast_3d", ops.atleast_3d, np.atleast_3d, FULL, **MOVED),
    Case("fliplr", ops.fliplr, np.fliplr, ROWS, dtypes=ANY),
    Case("flipud", ops.flipud, np.flipud, ROWS, dtypes=ANY),
    *[Case(f"rot90 {k}", lambda x, k=k: ops.rot90(x, k, (1, 0)), lambda x, k=k: np.rot90(x, k, (1, 0)), ROWS, **MOVED)
      for k in range(4)],
    Case("cartesian_prod", ops.cartesian_prod,
         lambda x, y: np.array([*itertools.product(x, y)], x.dtype).reshape(-1, 2), (((2,), (3,)), ((0,), (2,))),
         dtypes=ANY),
    Case("combinations", ops.combinations,
         lambda x: np.array([*itertools.combinations(x, 2)], x.dtype).reshape(-1, 2), each((4,), (1,)), **MOVED),
    Case("cummax", lambda x: ops.cummax(x, 1), running(np.maximum), MATRIX, **ORDER, result=(same, integer)),
    Case("cummin", lambda x: ops.cummin(x, 1), running(np.minimum), MATRIX, **ORDER, result=(same, integer)),
    Case("logcumsumexp", lambda x: ops.logcumsumexp(x, 1), lambda x: np.log(np.cumsum(np.exp(x), 1)), MATRIX,
         dtypes=ANY, result=floating),
    Case("kthvalue", lambda x: ops.kthvalue(x, 2, 1), kth, each((3, 4), (2, 3, 4)), **ORDER, result=(same, integer)),
    Case("searchsorted", lambda x, v: ops.searchsorted(ops.sort(x).values, v),
         lambda x, v: np.searchsorted(np.sort(x), v), (((5,), (3, 4)), ((0,), (3,)), ((4,), ())), dtypes=ANY,
         result=integer, gradient=False),
    Case("bucketize", lambda x, v: ops.bucketize(v, ops.sort(x).values, right=True),
         lambda x, v: np.searchsorted(np.sort(x), v, "right"), (((5,), (3, 4)),), dtypes=ANY, result=integer,
         gradient=False),
    Case("unique", ops.unique, np.unique, FULL, dtypes=ANY, gradient=False),
    Case("index_fill", lambda x: ops.index_fill(x, 1, along(x, [2, 0]), 1), filled, ROWS, dtypes=ANY),
    Case("index_copy", lambda x, v: ops.index_copy(x, 1, along(x, [2, 0]), v), copied, (((3, 4), (3, 2)),),
         dtypes=ANY),
    Case("masked_scatter", lambda x, v: ops.masked_scatter(x, along(x, MASK), v), mask_scattered,
         (((3, 4), (2, 4)), ((4,), (8,))), dtypes=ANY),
    *[Case(f"scatter_reduce {name}{'' if own else ' without self'}",
           lambda x, v, n=name, o=own: ops.scatter_reduce(x, 1, along(x, INDEX), v, n, include_self=o),
           reduced(name, own), (((2, 4), (2, 3)),), distinct=True, dtypes=FLOATS if name == "mean" else NUMBERS,
           strict=False, nan=name in ("sum", "mean"))
      for name in ("sum", "mean", "amax", "amin") for own in (True, False)],
]
