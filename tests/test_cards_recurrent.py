"""The cards of recurrent layers are text: it is followed here word by word, and compared with autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import card_calls
import numpy as np
from test_cards import array

import tensorlite as tl
from tensorlite import ops


def layer(gates: int) -> dict[str, np.ndarray]:
    """Three steps of a batch of one, with 2 inputs and 3 hidden units."""
    shapes = {"x": (3, 1, 2), "h0": (1, 3), "weight_ih": (3 * gates, 2), "weight_hh": (3 * gates, 3)}
    return {name: card_calls.some(*shape) for name, shape in shapes.items()}


def check_layer(outputs: Callable[..., Any], given: dict[str, np.ndarray], follow: Callable[..., Any]) -> None:
    """Compare the gradients of a layer with those of `follow(states, what arrives at them)`."""
    tensors_of = {name: tl.tensor(value, requires_grad=True) for name, value in given.items()}
    states = outputs(**tensors_of)[0]
    g = np.random.default_rng(5).uniform(-1, 1, (3, 3))
    found = tl.autograd.grad(states, list(tensors_of.values()), tl.tensor(g[:, None]))
    said = follow(np.concatenate([given["h0"], array(states)[:, 0]]), g)
    for (name, value), gradient in zip(given.items(), found, strict=True):
        np.testing.assert_allclose(np.reshape(said[name], value.shape), array(gradient), 1e-9, 1e-11, err_msg=name)


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_words_on_rnn_are_right() -> None:
    given = {**layer(1), "bias": card_calls.some(3)}

    def follow(h: np.ndarray, g: np.ndarray) -> dict[str, Any]:
        delta = np.zeros((4, 3))
        for t in (2, 1, 0):
            delta[t] = (g[t] + given["weight_hh"].T @ delta[t + 1]) * (1 - h[t + 1] ** 2)
        delta = delta[:3]
        return {"x": delta @ given["weight_ih"], "h0": given["weight_hh"].T @ delta[0], "bias": delta.sum(0),
                "weight_ih": delta.T @ given["x"][:, 0], "weight_hh": delta.T @ h[:3]}

    check_layer(ops.rnn, given, follow)


def test_the_words_on_lstm_are_right() -> None:
    given = {**layer(4), "bias": card_calls.some(12), "c0": card_calls.some(1, 3)}

    def follow(h: np.ndarray, g: np.ndarray) -> dict[str, Any]:
        sums = given["x"][:, 0] @ given["weight_ih"].T + h[:3] @ given["weight_hh"].T + given["bias"]
        i, f, n, o = (squash(part) for squash, part in zip((sigma, sigma, np.tanh, sigma), np.split(sums, 4, 1),
                                                           strict=True))
        c = [given["c0"][0]]
        for t in range(3):
            c.append(f[t] * c[t] + i[t] * n[t])
        delta, kappa = np.zeros((4, 12)), np.zeros(3)
        for t in (2, 1, 0):
            eta, tanh = g[t] + given["weight_hh"].T @ delta[t + 1], np.tanh(c[t + 1])
            kappa = eta * o[t] * (1 - tanh**2) + (kappa * f[t + 1] if t < 2 else 0)
            delta[t] = np.concatenate([kappa * n[t] * i[t] * (1 - i[t]), kappa * c[t] * f[t] * (1 - f[t]),
                                       kappa * i[t] * (1 - n[t]**2), eta * tanh * o[t] * (1 - o[t])])
        delta = delta[:3]
        return {"x": delta @ given["weight_ih"], "h0": given["weight_hh"].T @ delta[0], "c0": kappa * f[0],
                "weight_ih": delta.T @ given["x"][:, 0], "weight_hh": delta.T @ h[:3], "bias": delta.sum(0)}

    check_layer(ops.lstm, given, follow)


def test_the_words_on_gru_are_right() -> None:
    given = {**layer(3), "bias_ih": card_calls.some(9), "bias_hh": card_calls.some(9)}

    def follow(h: np.ndarray, g: np.ndarray) -> dict[str, Any]:
        of_x = given["x"][:, 0] @ given["weight_ih"].T + given["bias_ih"]
        of_h = h[:3] @ given["weight_hh"].T + given["bias_hh"]
        r, z = sigma(of_x + of_h)[:, :3], sigma(of_x + of_h)[:, 3:6]
        n = np.tanh(of_x[:, 6:] + r * of_h[:, 6:])
        delta, epsilon, eta = np.zeros((3, 9)), np.zeros((3, 9)), g[2]
        for t in (2, 1, 0):
            d_n = eta * (1 - z[t]) * (1 - n[t]**2)
            d_z, d_r = eta * (h[t] - n[t]) * z[t] * (1 - z[t]), d_n * of_h[t, 6:] * r[t] * (1 - r[t])
            delta[t], epsilon[t] = np.concatenate([d_r, d_z, d_n]), np.concatenate([d_r, d_z, r[t] * d_n])
            through = given["weight_hh"].T @ epsilon[t] + eta * z[t]
            eta = (g[t - 1] if t else 0) + through
        return {"x": delta @ given["weight_ih"], "h0": eta, "weight_ih": delta.T @ given["x"][:, 0],
                "weight_hh": epsilon.T @ h[:3], "bias_ih": delta.sum(0), "bias_hh": epsilon.sum(0)}

    check_layer(ops.gru, given, follow)
