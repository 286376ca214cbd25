"""The cells of recurrent layers, and their derivatives: all that happens at one step between two matrix products.

Contract: arrays lie densely, in one floating dtype; the 16-bit ones are computed in float32. A result may lie in the
memory of an operand. Gates lie side by side, (rows, gates·hidden); states are (rows, hidden).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from . import Array
from .cpu_math import sigmoid, widened


def lstm_cell(out: tuple[Array, Array, Array], sums: Array, product: Array, cell: Array) -> None:
    """out = (emitted, next cell, activated gates) from the sums of the input's and the state's products."""
    emitted, next_cell, gates = out
    i, f, g, o = _gates(widened(sums) + widened(product), 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    following = f * widened(cell) + i * g
    next_cell[...] = following
    emitted[...] = o * np.tanh(following)
    np.concatenate((i, f, g, o), axis=-1, out=gates, casting="unsafe")


def lstm_cell_grad(out: tuple[Array, Array], emitted_slope: Array, slope: Array, gates: Array, cell: Array,
                   next_cell: Array) -> None:
    """out = (slopes of the sums, slope of the cell before) from those of what is emitted and of the next cell."""
    sum_slopes, cell_slope = out
    i, f, g, o = _gates(widened(gates), 4)
    bent, from_emitted = np.tanh(widened(next_cell)), widened(emitted_slope)
    total = widened(slope) + from_emitted * o * (1 - bent * bent)
    parts = (total * g * i * (1 - i), total * widened(cell) * f * (1 - f), total * i * (1 - g * g),
             from_emitted * bent * o * (1 - o))
    np.concatenate(parts, axis=-1, out=sum_slopes, casting="unsafe")
    cell_slope[...] = total * f


def gru_cell(out: tuple[Array, Array, Array], sums: Array, product: Array, state: Array) -> None:
    """out = (next state, activated gates, the product for the candidate, which the derivative needs)."""
    next_state, gates, kept = out
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _gates(widened(sums), 3), _gates(widened(product), 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    next_state[...] = n + z * (widened(state) - n)
    kept[...] = h_n
    np.concatenate((r, z, n), axis=-1, out=gates, casting="unsafe")


def gru_cell_grad(out: tuple[Array, Array, Array], slope: Array, gates: Array, kept: Array, state: Array) -> None:
    """out = (slopes of the input's sums, of the state's products, of the state itself) from the next state's slope."""
    sum_slopes, product_slopes, state_slope = out
    (r, z, n), g = _gates(widened(gates), 3), widened(slope)
    candidate = g * (1 - z) * (1 - n * n)
    reset, update = candidate * widened(kept) * r * (1 - r), g * (widened(state) - n) * z * (1 - z)
    np.concatenate((reset, update, candidate), axis=-1, out=sum_slopes, casting="unsafe")
    np.concatenate((reset, update, candidate * r), axis=-1, out=product_slopes, casting="unsafe")
    state_slope[...] = g * z


def _gates(array: Array, count: int) -> list[Array]:
    hidden = array.shape[-1] // count
    return [array[..., k * hidden:(k + 1) * hidden] for k in range(count)]


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel for kernel in (lstm_cell, lstm_cell_grad, gru_cell, gru_cell_grad)
}
