"""Kernels of attention and its derivatives: sizes around tiles, masks, layouts, dtypes, shared heads, and what is empty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from row_layouts import drawn

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.dtypes import DType

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
TOLERANCE = {tl.float16: 4e-3, tl.bfloat16: 4e-2, tl.float32: 4e-6, tl.float64: 4e-14}
NAMES = ("values", "log_sums", "q_grad", "k_grad", "v_grad")


@pytest.fixture
def backend(device: str) -> Backend:
    if device == "cpu":
        pytest.skip("of the kernels for GPUs")
    return get(device)


class Sizes(NamedTuple):
    """Of a call: q (batch, heads, queries, size), k (batch, key_heads, keys, size), v (..., keys, value_size)."""

    queries: int = 5
    keys: int = 7
    size: int = 8
    value_size: int = 8
    batch: int = 1
    heads: int = 1
    key_heads: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        of_keys = (self.batch, self.key_heads, self.keys)
        of_queries = (self.batch, self.heads, self.queries)
        return {"q": (*of_queries, self.size), "k": (*of_keys, self.size), "v": (*of_keys, self.value_size),
                "g": (*of_queries, self.value_size)}


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, mask: np.ndarray | None, scale: float,
              causal: bool) -> dict[str, np.ndarray]:
    """Attention and its derivatives by the whole matrix of scores, in float64."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, 1) for x in (k, v))
    scores = scale * q @ k.swapaxes(2, 3)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf)
    with np.errstate(all="ignore"):
        top = scores.max(3, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = weights.sum(3, keepdims=True)
        log_sums = (np.where(top == -np.inf, 0, top) + np.log(total))[..., 0]
        weights = np.where(total == 0, 0, weights / total)
    values = weights @ v
    slopes = weights * (g @ v.swapaxes(2, 3) - (g * values).sum(3, keepdims=True))
    parts = (scale * slopes.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ g)
    of_keys = [x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(2) for x in parts]
    return dict(zip(NAMES, (values, log_sums, scale * slopes @ k, *of_keys), strict=True))


def computed(backend: Backend, q: Array, k: Array, v: Array, g: Array, mask: Array | None, scale: float,
             causal: bool, empty: Callable[..., Array] | None = None) -> dict[str, np.ndarray]:
    """The same by the kernels."""
    empty = empty or backend.empty
    values, log_sums = empty(g.shape, q.dtype), empty(q.shape[:3], tl.float32.numpy if q.itemsize == 2 else q.dtype)
    backend.run("attention", (values, log_sums), q, k, v, mask, scale=scale, causal=causal)
    grads = tuple([empty(x.shape, x.dtype) for x in (q, k, v)])
    backend.run("attention_grad", grads, g, q, k, v, mask, values, log_sums, scale=scale, causal=causal)
    return dict(zip(NAMES, map(backend.to_numpy, (values, log_sums, *grads)), strict=True))


def check(backend: Backend, sizes: Sizes, dtype: DType = tl.float32, mask: np.ndarray | None = None,
          scale: float | None = None, causal: bool = False, place: Callable[..., Array] | None = None) -> None:
    """Every result of the kernels is the reference's; `place` lays an operand out on the device."""
    operands = {name: drawn(shape, dtype, seed) for seed, (name, shape) in enumerate(sizes.shapes().items())}
    scale = 1 / math.sqrt(max(sizes.size, 1)) if scale is None else scale
    shape = (sizes.batch, sizes.heads, sizes.queries, sizes.keys)
    on_device = None if mask is None else backend.expand(backend.from_numpy(mask), shape)
    wide = {name: x.astype(np.float64) for name, x in operands.items()}
    wide_mask = None if mask is None else mask if mask.dtype == bool else mask.astype(np.float64)
    expected = reference(**wide, mask=wide_mask, scale=scale, causal=causal)
    put = place or (lambda backend, x: backend.from_numpy(x))
    actual = computed(backend, **{name: put(backend, x) for name, x in operands.items()}, mask=on_device, scale=scale,
                      causal=causal)
    for name in NAMES:
        tolerance = TOLERANCE[dtype] * max(1.0, float(np.abs(expected[name]).max(initial=0, where=np.isfinite(
            expected[name]))))
        np.testing.assert_allclose(actual[name].astype(np.float64), expected[name], rtol=TOLERANCE[dtype],
                                   atol=tolerance, err_msg=f"{name} of {sizes} in {dtype}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_every_dtype(backend: Backend, dtype: DType, causal: bool) -> None:
    check(backend, Sizes(70, 90, 20, 12, batch=2, heads=2, key_heads=2), dtype, causal=causal)
