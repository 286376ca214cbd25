"""Attention of the CPU, by blocks of queries of one head, so that its scores stay in the cache.

Contract: that of `cpu`, and of ops/attention.py. 16-bit floats are widened here, since results come in tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from . import Array
from .cpu_math import widened

_BLOCK: Final = 128  # queries at once

Mask = Array | None


def attention(out: tuple[Array, Array], q: Array, k: Array, v: Array, mask: Mask, *, scale: float,
              causal: bool) -> None:
    values, lse = out
    q, k, v = map(widened, (q, k, v))
    mask = None if mask is None else widened(mask)
    for head, shared, rows, keys in _blocks(q, k, causal):
        scores = _scores(q[head][rows], k[shared][:keys], _part(mask, head, rows, keys), scale, rows.start, causal)
        top = np.maximum.reduce(scores, axis=1, keepdims=True, initial=-np.inf)
        weights = np.exp(np.subtract(scores, np.where(np.isneginf(top), 0, top), scores), scores)
        total = np.add.reduce(weights, axis=1, keepdims=True)
        dead = total == 0
        values[head][rows] = np.divide(weights @ v[shared][:keys], np.where(dead, 1, total))
        lse[head][rows] = np.where(dead, np.inf, top + np.log(total))[:, 0]


def attention_grad(out: tuple[Array, Array, Array], g: Array, q: Array, k: Array, v: Array, mask: Mask, values: Array,
                   lse: Array, *, scale: float, causal: bool) -> None:
    slopes = [np.zeros(x.shape, lse.dtype) for x in out]
    dq, dk, dv = slopes
    g, q, k, v, values = map(widened, (g, q, k, v, values))
    mask = None if mask is None else widened(mask)
    for head, shared, rows, keys in _blocks(q, k, causal):
        query, slope = q[head][rows], g[head][rows]
        weights = _scores(query, k[shared][:keys], _part(mask, head, rows, keys), scale, rows.start, causal)
        np.exp(np.subtract(weights, lse[head][rows, None], weights), weights)
        dv[shared][:keys] += weights.T @ slope
        along = np.add.reduce(slope * values[head][rows], axis=1, keepdims=True)
        of_scores = np.subtract(slope @ v[shared][:keys].T, along) * weights * weights.dtype.type(scale)
        dq[head][rows] = of_scores @ k[shared][:keys]
        dk[shared][:keys] += of_scores.T @ query
    for to, computed in zip(out, slopes, strict=True):
        to[...] = computed


def _blocks(q: Array, k: Array, causal: bool) -> Iterator[tuple[tuple[int, int], tuple[int, int], slice, int]]:
    """Per block: its batch element and head, those of k and v, its rows, and how many keys they may look at."""
    batch, heads, length, _ = q.shape
    group = heads // (k.shape[1] or 1)
    for n, head in np.ndindex(batch, heads):
        for first in range(0, length, _BLOCK):
            last = min(first + _BLOCK, length)
            yield (n, head), (n, head // group), slice(first, last), min(last, k.shape[2]) if causal else k.shape[2]


def _part(mask: Mask, head: tuple[int, int], rows: slice, keys: int) -> Mask:
    return None if mask is None else mask[head][rows, :keys]


def _scores(q: Array, k: Array, mask: Mask, scale: float, first: int, causal: bool) -> Array:
    """q kᵀ·scale of some rows, of which `first` is the first, with -inf where they may not look."""
    scores = q @ k.T
    np.multiply(scores, scores.dtype.type(scale), scores)
    if mask is not None and mask.dtype.kind == "b":
        np.copyto(scores, -np.inf, where=~mask)
    elif mask is not None:
        np.add(scores, mask, scores)
    if causal:
        rows, keys = scores.shape
        np.copyto(scores, -np.inf, where=np.arange(keys) > np.arange(first, first + rows)[:, None])
    return scores


KERNELS: Final[dict[str, Callable[..., None]]] = {"attention": attention, "attention_grad": attention_grad}
