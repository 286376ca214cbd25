"""Rows of the test table for the norms: over rows, over channels, and running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import FLOATS, ROWS, TWO, Case, along, standardized, standardized_grad

import tensorlite as tl
from tensorlite import ops
from tensorlite.dtypes import DType

EPS = 1e-5
RULE: dict[str, Any] = {"dtypes": FLOATS, "strict": False}  # of what only rules call
MEAN, VAR = np.array([0.5, -1.0, 0.25, 0.0]), np.array([0.5, 2.0, 1.0, 4.0])


def rms(x: Any, axes: tuple[int, ...]) -> Any:
    return x / np.sqrt(np.mean(x * x, axes, keepdims=True) + EPS)


def rms_grad(a: Any, x: Any) -> Any:
    """The derivative of rms(x, (-1,)) in x, given that of its result."""
    n = rms(x, (-1,))
    return (a - n * (a * n).mean(-1, keepdims=True)) / np.sqrt(np.mean(x * x, -1, keepdims=True) + EPS)


def channels(value: Any, x: Any) -> Any:
    """A value (C,) for each channel of x."""
    return value.reshape(-1, *[1] * (x.ndim - 2))


def affine(n: Any, w: Any, b: Any) -> Any:
    return n * channels(w, n) + channels(b, n)


def over_batch(x: Any) -> Any:
    return standardized(x, (0, *range(2, x.ndim)))


def over_groups(x: Any, groups: int) -> Any:
    if x.size == 0:
        return x
    return standardized(x.reshape(len(x), groups, -1), (2,)).reshape(x.shape)


def computing(dtype: DType) -> DType:
    return tl.float32 if dtype.is_narrow else dtype


def moments_of_channels(x: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes)


def moments_of_groups(x: Any) -> Any:
    rows = x.reshape(len(x), 2, -1)
    return rows.mean(-1), rows.var(-1)


def tracked(x: tl.Tensor, groups: int | None, count: int, momentum: Any) -> tuple[tl.Tensor, tl.Tensor]:
    """Running statistics after a batch, from 0 and 1 on."""
    size, like = x.shape[1], {"dtype": x.dtype, "device": x.device}
    running = tl.zeros(size, **like), tl.ones(size, **like)
    share = momentum if isinstance(momentum, float) else tl.tensor(momentum[0], dtype=tl.float64, device=x.device)
    ops.track_moments(*running, *ops.moments(x, groups), share, count=count)
    return running


def tracked_reference(x: Any, axes: tuple[int, ...], count: int, momentum: float) -> Any:
    mean, var = x.mean(axes), x.var(axes) * (count / (count - 1))
    if mean.ndim == 2:
        mean, var = mean.mean(0), var.mean(0)
    return momentum * mean, (1 - momentum) + momentum * var


IMAGES = ((3, 4, 2, 3), (4,), (4,))
VECTORS = ((5, 4), (4,), (4,))
NORMS = [
    Case("layer_norm", lambda x: ops.layer_norm(x, None, None, normalized_ndim=1), lambda x: standardized(x, (-1,)),
         ROWS, dtypes=FLOATS),
    Case("layer_norm affine", lambda x, w, b: ops.layer_norm(x, w, b, normalized_ndim=2),
         lambda x, w, b: standardized(x, (-2, -1)) * w + b, (((3, 4), (3, 4), (3, 4)), ((2, 3, 4), (3, 4), (3, 4))),
         dtypes=FLOATS),
    Case("layer_norm_grad", lambda g, x, w: ops.layer_norm_grad(g, x, w, dims=(1,), eps=EPS),
         lambda g, x, w: standardized_grad(g * w, x), (((3, 4), (3, 4), (4,)),), **RULE),
    Case("layer_norm_grad plain", lambda g, x: ops.layer_norm_grad(g, x, None, dims=(1,), eps=EPS),
         standardized_grad, TWO[:1], **RULE),
    Case("layer_norm_weight_grad", lambda g, x: ops.layer_norm_weight_grad(g, x, dims=(1,), eps=EPS),
         lambda g, x: (g * standardized(x, (-1,))).sum(0), TWO[:1], **RULE),
    Case("rms_norm", lambda x: ops.rms_norm(x, None, normalized_ndim=1, eps=EPS), lambda x: rms(x, (-1,)), ROWS,
         dtypes=FLOATS),
    Case("rms_norm affine", lambda x, w: ops.rms_norm(x, w, normalized_ndim=2, eps=EPS),
         lambda x, w: rms(x, (-2, -1)) * w, (((3, 4), (3, 4)), ((2, 3, 4), (3, 4))), dtypes=FLOATS),
    Case("rms_norm_grad", lambda g, x, w: ops.rms_norm_grad(g, x, w, dims=(1,), eps=EPS),
         lambda g, x, w: rms_grad(g * w, x), (((3, 4), (3, 4), (4,)),), **RULE),
    Case("rms_norm_grad plain", lambda g, x: ops.rms_norm_grad(g, x, None, dims=(1,), eps=EPS), rms_grad, TWO[:1],
         **RULE),
    Case("rms_norm_weight_grad", lambda g, x: ops.rms_norm_weight_grad(g, x, dims=(1,), eps=EPS),
         lambda g, x: (g * rms(x, (-1,))).sum(0), TWO[:1], **RULE),
    Case("moments", ops.moments, moments_of_channels, ((IMAGES[0],), (VECTORS[0],)), dtypes=FLOATS,
         result=(computing, computing), gradient=False),
    Case("moments of groups", lambda x: ops.moments(x, 2), moments_of_groups, ((IMAGES[0],), (VECTORS[0],)),
         dtypes=FLOATS, result=(computing, computing), gradient=False),
    Case("track_moments", lambda x: tracked(x, None, 18, 0.25),
         lambda x: tracked_reference(x, (0, 2, 3), 18, 0.25), ((IMAGES[0],),), dtypes=FLOATS, gradient=False),
    Case("track_moments of samples", lambda x: tracked(x, 4, 6, (0.125,)),
         lambda x: tracked_reference(x, (2, 3), 6, 0.125), ((IMAGES[0],),), dtypes=FLOATS, gradient=False),
    Case("batch_norm", lambda x, w, b: ops.batch_norm(x, w, b, *ops.moments(x), training=True),
         lambda x, w, b: affine(over_batch(x), w, b), (IMAGES, VECTORS), dtypes=FLOATS),
    Case("batch_norm plain", lambda x: ops.batch_norm(x, None, None, *ops.moments(x), training=True), over_batch,
         ((IMAGES[0],),), dtypes=FLOATS),
    Case("batch_norm of other moments",
         lambda x, w, b: ops.batch_norm(x, w, b, along(x, MEAN), along(x, VAR)),
         lambda x, w, b: affine((x - channels(MEAN, x)) / np.sqrt(channels(VAR, x) + EPS), w, b),
         (IMAGES, VECTORS, ((0, 4, 3), (4,), (4,))), dtypes=FLOATS),
    Case("group_norm", lambda x, w, b: ops.group_norm(x, 2, w, b), lambda x, w, b: affine(over_groups(x, 2), w, b),
         (IMAGES, VECTORS, ((0, 4, 3), (4,), (4,))), dtypes=FLOATS),
    Case("group_norm plain", lambda x: ops.group_norm(x, 4, None, None), lambda x: over_groups(x, 4), ((IMAGES[0],),),
         dtypes=FLOATS),
]
