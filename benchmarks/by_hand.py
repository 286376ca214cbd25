"""The training step that an expert writes in NumPy, or in CuPy: no framework, every buffer made once and used again.

`Mlp` holds parameters, gradients and Adam's moments in four flat arrays, whose views are the layers' weights, so that
the update is one pass of each ufunc over everything, in blocks that stay in the processor's cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
BLOCK = 1 << 14  # numbers of the update in cache at once: six arrays of 64 KiB


class Mlp:
    """Linear-ReLU-...-Linear with cross entropy and Adam, for one batch size. `xp` is numpy or cupy."""

    def __init__(self, xp: Any, sizes: Sequence[int], batch: int, learning_rate: float = 1e-3) -> None:
        self._xp, self._rate = xp, learning_rate
        shapes = [shape for fan_in, fan_out in itertools.pairwise(sizes) for shape in ((fan_out, fan_in), (fan_out,))]
        count = sum(int(np.prod(shape)) for shape in shapes)
        self.params, self._grads, self._m, self._v = (xp.zeros(count, np.float32) for _ in range(4))
        self._block = BLOCK if xp is np else count
        self._scratch = xp.empty(min(self._block, count), np.float32)
        self.views = list(_views(self.params, shapes))
        self._grad_views = list(_views(self._grads, shapes))
        self._outputs = [xp.empty((batch, size), np.float32) for size in sizes[1:]]
        self._deltas = [xp.empty((batch, size), np.float32) for size in sizes[1:]]
        self._masks = [xp.empty((batch, size), np.bool_) for size in sizes[1:-1]]
        self._rows = xp.arange(batch)
        self._column = xp.empty((batch, 1), np.float32)
        self._steps = 0

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take these weights, in the order of the layers, and begin anew."""
        for view, weight in zip(self.views, weights.values(), strict=True):
            view[...] = self._xp.asarray(weight)
        self._m.fill(0)
        self._v.fill(0)
        self._steps = 0

    def step(self, x: Any, labels: Any) -> Any:
        """One training step; the mean loss as an array of no dimensions."""
        self._forward(x)
        loss = self._loss(labels)
        self._backward(x)
        self._update()
        return loss

    def _forward(self, x: Any) -> None:
        xp = self._xp
        for layer, out in enumerate(self._outputs):
            weight, bias = self.views[2 * layer:2 * layer + 2]
            xp.matmul(x, weight.T, out=out)
            xp.add(out, bias, out=out)
            if layer < len(self._masks):
                xp.maximum(out, 0, out=out)
            x = out

    def _loss(self, labels: Any) -> Any:
        """The loss; the scores' gradient goes to the last delta."""
        xp, scores, delta, column = self._xp, self._outputs[-1], self._deltas[-1], self._column
        xp.amax(scores, axis=1, keepdims=True, out=column)
        xp.subtract(scores, column, out=scores)
        xp.exp(scores, out=delta)
        xp.sum(delta, axis=1, keepdims=True, out=column)
        loss = (xp.log(column[:, 0]) - scores[self._rows, labels]).mean()
        xp.multiply(column, len(scores), out=column)
        xp.divide(delta, column, out=delta)
        delta[self._rows, labels] -= 1 / len(scores)
        return loss

    def _backward(self, x: Any) -> None:
        xp = self._xp
        for layer in reversed(range(len(self._outputs))):
            delta = self._deltas[layer]
            weight_grad, bias_grad = self._grad_views[2 * layer:2 * layer + 2]
            xp.matmul(delta.T, self._outputs[layer - 1] if layer else x, out=weight_grad)
            xp.sum(delta, axis=0, out=bias_grad)
            if layer:
                below, mask = self._deltas[layer - 1], self._masks[layer - 1]
                xp.matmul(delta, self.views[2 * layer], out=below)
                xp.greater(self._outputs[layer - 1], 0, out=mask)
                xp.multiply(below, mask, out=below)

    def _update(self) -> None:
        """Adam, as in torch: p -= lr/(1-b1^t) * m / (sqrt(v/(1-b2^t)) + eps)."""
        xp = self._xp
        self._steps += 1
        rate = self._rate / (1 - BETA1**self._steps)
        root = (1 - BETA2**self._steps) ** -0.5
        for start in range(0, len(self.params), self._block):
            p, g, m, v = (array[start:start + self._block] for array in (self.params, self._grads, self._m, self._v))
            t = self._scratch[:len(p)]
            xp.subtract(g, m, out=t)
            xp.multiply(t, 1 - BETA1, out=t)
            xp.add(m, t, out=m)
            xp.multiply(v, BETA2, out=v)
            xp.multiply(g, g, out=t)
            xp.multiply(t, 1 - BETA2, out=t)
            xp.add(v, t, out=v)
            xp.sqrt(v, out=t)
            xp.multiply(t, root, out=t)
            xp.add(t, EPSILON, out=t)
            xp.divide(m, t, out=t)
            xp.multiply(t, rate, out=t)
            xp.subtract(p, t, out=p)


def _views(flat: Any, shapes: Sequence[tuple[int, ...]]) -> Iterator[Any]:
    """Arrays of these shapes that lie one after the other in a flat one."""
    start = 0
    for shape in shapes:
        size = int(np.prod(shape))
        yield flat[start:start + size].reshape(shape)
        start += size
