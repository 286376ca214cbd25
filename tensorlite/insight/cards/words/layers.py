"""The words of the dialect for layers: patches of images, pooling windows, channels, attention's weights, labels.

Images are (N, C, H, W). A patch is what one place of a filter or of a pooling window sees; `patches` reads them, and
`unpatch`, its transpose, adds them up again where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Shape = Sequence[int]
Pair = tuple[int, int]


class Places:
    """Where the elements of all patches lie in a plane: rows (P, 1, R, 1) and columns (1, Q, 1, S)."""

    def __init__(self, plane: Shape, counts: Shape, kernel: Shape, stride: Shape, padding: Shape,
                 dilation: Shape) -> None:
        offsets = [np.arange(count)[:, None] * s + np.arange(k) * d - p
                   for count, k, s, p, d in zip(counts, kernel, stride, padding, dilation, strict=True)]
        inside = [(0 <= o) & (o < n) for o, n in zip(offsets, plane, strict=True)]
        rows, columns = (np.clip(o, 0, n - 1) for o, n in zip(offsets, plane, strict=True))
        self.key = (..., rows[:, None, :, None], columns[None, :, None, :])
        self.inside = inside[0][:, None, :, None] & inside[1][None, :, None, :]

    def read(self, x: Any, outside: float) -> Any:
        """(..., P, Q, R, S) of (..., H, W)."""
        return np.where(self.inside, x[self.key], outside)

    def add(self, patches: Any, shape: Shape) -> Any:
        """The sum of all patches at their places in zeros of a shape."""
        out = np.zeros(shape)
        index: Any = self.key
        np.add.at(out, index, np.where(self.inside, patches, 0))
        return out


# --- convolution ------------------------------------------------------------------------------------------------------


def convolution(values: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The words for convolutions, bound to the op's stride, padding, dilation and groups."""
    groups = values["groups"]
    geometry = values["stride"], values["padding"], values["dilation"]

    def places(plane: Shape, kernel: Shape) -> Places:
        counts = [(n + 2 * p - d * (k - 1) - 1) // s + 1
                  for n, k, s, p, d in zip(plane, kernel, *geometry, strict=True)]
        return Places(plane, counts, kernel, *geometry)

    def patches(x: Any, weight: Shape) -> Any:
        """What the filter sees at each place, (N, groups, C/groups, P, Q, R, S), with zeros beyond the edges."""
        found = places(x.shape[2:], weight[2:]).read(x, 0.0)
        return found.reshape(x.shape[0], groups, x.shape[1] // groups, *found.shape[2:])

    def unpatch(parts: Any, shape: Shape) -> Any:
        """The sum of all patches at their places in zeros of a shape."""
        together = parts.reshape(parts.shape[0], parts.shape[1] * parts.shape[2], *parts.shape[3:])
        return places(shape[2:], parts.shape[5:]).add(together, shape)

    def by_group(a: Any) -> Any:
        """(N, C, ...) as (N, groups, C/groups, ...)."""
        return a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])

    def filters(weight: Any) -> Any:
        """The weight (K, ...) as (groups, K/groups, ...)."""
        return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])

    def by_filter(bias: Any) -> Any:
        """The bias (K,) beside the elements of its output channel."""
        return np.reshape(bias, (groups, -1, 1, 1)) if np.ndim(bias) else bias

    def by_channel(bias: Any) -> Any:
        """The bias (C,) beside the elements of its channel."""
        return np.reshape(bias, (-1, 1, 1)) if np.ndim(bias) else bias

    def grown(grad: Any, weight: Any, size: Shape) -> Shape:
        """The shape of a transposed convolution's result."""
        return (grad.shape[0], weight.shape[1] * groups, *size)

    return {"patches": patches, "unpatch": unpatch, "by_group": by_group, "filters": filters, "by_filter": by_filter,
            "by_channel": by_channel, "grown": grown}


# --- pooling ----------------------------------------------------------------------------------------------------------


def _window_places(plane: Shape, windows: Any) -> Places:
    return Places(plane, *windows)


def taken(x: Any, windows: Any, outside: float) -> Any:
    """The elements of each pooling window, (N, C, P, Q, R·S)."""
    found = _window_places(x.shape[2:], windows).read(x, outside)
    return found.reshape(*found.shape[:4], math.prod(windows.kernel_size))


def untaken(parts: Any, shape: Shape, windows: Any) -> Any:
    """The sum of what windows hold, at their places in zeros of a shape."""
    parts = np.broadcast_to(parts, (*parts.shape[:4], math.prod(windows.kernel_size)))
    return _window_places(shape[2:], windows).add(parts.reshape(*parts.shape[:4], *windows.kernel_size), shape)


def each(a: Any) -> Any:
    """A number per window, beside each of its elements."""
    return np.asarray(a)[..., None]


def amount(p: Any) -> Any:
    """The sum of the elements of each window."""
    return np.sum(p, -1)


def largest(p: Any) -> Any:
    """The largest element of each window."""
    return np.max(p, -1)


def hit(p: Any) -> Any:
    """1 at the first of the largest elements of each window, else 0."""
    return np.arange(p.shape[-1]) == np.argmax(p, -1)[..., None]


def members(shape: Shape, windows: Any, count_include_pad: bool, divisor_override: float) -> Any:
    """By how much the sum of each window is divided, (P, Q); divisor_override 0 is none."""
    if divisor_override:
        return divisor_override
    plane, margin = tuple(shape[-2:]), windows.padding if count_include_pad else (0, 0)
    full = np.zeros(tuple(n + 2 * p for n, p in zip(plane, windows.padding, strict=True)))
    inner = tuple(slice(p - m, p + n + m) for n, p, m in zip(plane, windows.padding, margin, strict=True))
    full[inner] = 1
    everywhere = windows._replace(padding=(0, 0), dilation=(1, 1))
    return _window_places(full.shape, everywhere).read(full, 0.0).sum((-1, -2))


# --- statistics of channels -------------------------------------------------------------------------------------------


def channel(value: Any, x: Any) -> Any:
    """A value per channel, (C,), beside x (N, C, ...)."""
    return np.reshape(value, (-1, *[1] * (np.ndim(x) - 2))) if np.ndim(value) else value


def channel_sum(a: Any) -> Any:
    """The sum over all dimensions but that of the channels."""
    return a.sum((0, *range(2, a.ndim)))


def of_channels(value: Any, x: Any) -> Any:
    """A statistic, (C,) or (N, groups), beside the elements of x (N, C, ...) that it belongs to."""
    if value.ndim == 1:
        return channel(value, x)
    spread = np.repeat(value, x.shape[1] // max(value.shape[1], 1), 1)
    return spread.reshape(*spread.shape, *[1] * (x.ndim - 2))


def average(a: Any, statistic: Any) -> Any:
    """The mean of a over all elements that share a statistic, beside each of them."""
    if statistic.ndim == 1:
        total = a.sum((0, *range(2, a.ndim)), keepdims=True)
        return total * (total.size / max(a.size, 1))
    grouped = a.reshape(*statistic.shape, -1).mean(-1) if a.size else np.zeros(statistic.shape)
    return of_channels(grouped, a)


# --- attention, labels ------------------------------------------------------------------------------------------------


def heads(a: Any, q: Any) -> Any:
    """k or v, each of its heads repeated for those of q that look at it."""
    return np.repeat(a, q.shape[1] // a.shape[1], 1)


def fold_heads(a: Any, k: Any) -> Any:
    """The sum over the heads of q that look at one of k."""
    return a.reshape(k.shape[0], k.shape[1], -1, *a.shape[2:]).sum(2) if a.size else np.zeros(k.shape)


def masked(scores: Any, mask: Any, causal: bool) -> Any:
    """The scores with -inf where they do not count, or with numbers added."""
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    return np.where(mask, scores, -np.inf) if np.asarray(mask).dtype.kind == "b" else scores + mask


def weights(scores: Any) -> Any:
    """exp(s)/Σ exp(s) along the last dimension; 0 in rows of only -inf."""
    top = np.max(scores, -1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    return e / np.maximum(e.sum(-1, keepdims=True), np.finfo(float).tiny)


def onehot(target: Any, ignore_index: int, logits: Any) -> Any:
    """A row with a 1 at its class for each target; zeros for those that are ignored."""
    return (target[:, None] == np.arange(logits.shape[1])) & (target[:, None] != ignore_index)


def rowsum(a: Any) -> Any:
    """The sum along the last dimension, which stays with size 1."""
    return np.sum(a, -1, keepdims=True)


def total(a: Any) -> Any:
    """The sum of all elements."""
    return np.sum(a)


def reduced(a: Any, reduction: str) -> Any:
    """The mean or sum of all elements, or a itself, as `reduction` says."""
    return np.mean(a) if reduction == "mean" else np.sum(a) if reduction == "sum" else a


def shared(g: Any, a: Any, reduction: str) -> Any:
    """What each element of a gets of the gradient of its reduction."""
    return g / np.size(a) if reduction == "mean" else g


LAYERS: dict[str, Callable[..., Any]] = {word.__name__: word for word in (
    taken, untaken, each, amount, largest, hit, members, channel, channel_sum, of_channels, average, heads, fold_heads,
    masked, weights, onehot, rowsum, total, reduced, shared)}
