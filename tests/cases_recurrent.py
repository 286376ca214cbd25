"""Rows of the test table: recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import ANY, FLOATS, Case, sigmoid

from tensorlite import ops

STEPS, BATCH, IN, HIDDEN, PROJECTED = 3, 2, 3, 2, 1
SIZES = (2, 2, 1)  # of the batches of sequences of different lengths


def walked(cell: Any, sums: np.ndarray, states: tuple[np.ndarray, ...], reverse: bool = False,
           sizes: tuple[int, ...] = (BATCH,) * STEPS) -> tuple[np.ndarray, ...]:
    """What a cell emits at each step, and its last states; rows from sizes[t] on rest at step t."""
    emitted: dict[int, np.ndarray] = {}
    for t in reversed(range(STEPS)) if reverse else range(STEPS):
        n = sizes[t]
        states = tuple(np.concatenate([new[:n], old[n:]])
                       for new, old in zip(cell(sums[t], *states), states, strict=True))
        emitted[t] = states[0]
    return np.stack([emitted[t] for t in range(STEPS)]), *states


def rnn(x: Any, h: Any, w: Any, u: Any, b: Any = 0, activation: Any = np.tanh, **options: Any) -> Any:
    return walked(lambda s, h: (activation(s + h @ u.T),), x @ w.T + b, (h,), **options)


def gru(x: Any, h: Any, w: Any, u: Any, b: Any = 0, d: Any = 0, **options: Any) -> Any:
    def cell(s: Any, h: Any) -> Any:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(s, 3, -1), np.split(h @ u.T + d, 3, -1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        return ((1 - z) * np.tanh(x_n + r * h_n) + z * h,)

    return walked(cell, x @ w.T + b, (h,), **options)


def lstm(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any = 0, p: Any = None, **options: Any) -> Any:
    def cell(s: Any, h: Any, c: Any) -> Any:
        i, f, g, o = np.split(s + h @ u.T, 4, -1)
        following = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        emitted = sigmoid(o) * np.tanh(following)
        return emitted if p is None else emitted @ p.T, following

    return walked(cell, x @ w.T + b, (h, c), **options)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def shapes(gates: int, biases: int = 1, states: int = 1) -> tuple[tuple[int, ...], ...]:
    return ((STEPS, BATCH, IN), *[(BATCH, HIDDEN)] * states, (gates * HIDDEN, IN), (gates * HIDDEN, HIDDEN),
            *[(gates * HIDDEN,)] * biases)


PROJECTION = ((STEPS, BATCH, IN), (BATCH, PROJECTED), (BATCH, HIDDEN), (4 * HIDDEN, IN), (4 * HIDDEN, PROJECTED),
              (4 * HIDDEN,), (PROJECTED, HIDDEN))
LAYER: dict[str, Any] = {"dtypes": FLOATS, "nan": False, "view": True, "strict": False}
RESTING = {"reverse": True, "batch_sizes": SIZES}


def packed(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[t, :n] for t, n in enumerate(SIZES)])


def padded(x: np.ndarray) -> np.ndarray:
    out = np.full((STEPS, BATCH, *x.shape[1:]), 1, x.dtype)
    out[0], out[1], out[2, 0] = x[:2], x[2:4], x[4]
    return out


RECURRENT = [
    Case("rnn", ops.rnn, rnn, (shapes(1), shapes(1, biases=0)), (-1, 1), **LAYER),
    Case("rnn relu", lambda *a: ops.rnn(*a, nonlinearity="relu"), lambda *a: rnn(*a, activation=relu), (shapes(1),),
         (0.1, 1), **LAYER),
    Case("rnn resting", lambda *a: ops.rnn(*a, **RESTING), lambda *a: rnn(*a, reverse=True, sizes=SIZES), (shapes(1),),
         (-1, 1), **LAYER),
    Case("gru", ops.gru, gru, (shapes(3, biases=2), shapes(3, biases=0)), (-1, 1), **LAYER),
    Case("gru resting", lambda *a: ops.gru(*a, **RESTING), lambda *a: gru(*a, reverse=True, sizes=SIZES),
         (shapes(3, biases=2),), (-1, 1), **LAYER),
    Case("lstm", ops.lstm, lstm, (shapes(4, states=2), shapes(4, biases=0, states=2)), (-1, 1), **LAYER),
    Case("lstm resting", lambda *a: ops.lstm(*a, **RESTING), lambda *a: lstm(*a, reverse=True, sizes=SIZES),
         (shapes(4, states=2),), (-1, 1), **LAYER),
    Case("lstm projected", ops.lstm, lstm, (PROJECTION,), (-1, 1), **LAYER),
    Case("lstm projected resting", lambda *a: ops.lstm(*a, batch_sizes=SIZES), lambda *a: lstm(*a, sizes=SIZES),
         (PROJECTION,), (-1, 1), **LAYER),
    Case("packed_steps", lambda x: ops.packed_steps(x, batch_sizes=SIZES), packed,
         (((STEPS, BATCH),), ((STEPS, BATCH, 2),)), dtypes=ANY),
    Case("padded_steps", lambda x: ops.padded_steps(x, batch_sizes=SIZES, batch=BATCH, value=1), padded,
         (((sum(SIZES),),), ((sum(SIZES), 2),)), dtypes=ANY),
]
