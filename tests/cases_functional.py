"""Rows of F's functions, which are composed of operations: for the audit, beside the test table of the operations.

Whoever is also an operation has a row here that calls the function: its name begins alike, and its figures join the
operation's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from case import (
    FLOATS,
    INTS,
    LABELS,
    ONE,
    Case,
    along,
    dropout_mask,
    gelu,
    integer,
    logsumexp,
    number,
    same,
    sigmoid,
    softmax,
    standardized,
)
from cases_attention import attended
from cases_margins import CUTS, MARGINS
from cases_norm import MEAN, VAR, affine, channels, over_batch, over_groups, rms
from cases_pool import largest, mean_of, place, pooled

import tensorlite as tl
from tensorlite.nn import functional as F

WEIGHTS = np.array([0.5, 2.0, 1.0, 1.5])
PROBABILITIES = np.array([[0.125, 0.5, 0.25, 0.125], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]])
BAGS = np.array([[2, 0], [1, 2]])
SAME = (((3, 4), (3, 4)),)
SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def row(name: str, function: Any, reference: Any, *shapes: Any, **options: Any) -> Case:
    """One input per shape; a single shape stands for one input."""
    each = tuple(s if not s or isinstance(s[0], tuple) else (s,) for s in shapes)
    return Case(name, function, reference, each, **{"dtypes": FLOATS, "strict": False, **options})


def activation(name: str, function: Any, reference: Any, **options: Any) -> Case:
    return Case(name, function, reference, ONE, **{"dtypes": FLOATS, "strict": False, **options})


def between(x: Any, low: float, high: float) -> Any:
    return np.minimum(np.maximum(x, low), high)


def elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(x - np.maximum(x, 0)))


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def plain_gelu(x: tl.Tensor) -> tl.Tensor:
    return F.gelu(x)


def generator(x: tl.Tensor) -> tl.Generator:
    return tl.Generator(x.device).manual_seed(5)


ACTIVATIONS = [
    activation("relu functional", F.relu, lambda x: np.maximum(x, 0), kinks=(0,)),
    activation("relu6", F.relu6, lambda x: between(x, 0, 6), domain=(-2, 8), kinks=(0, 6)),
    activation("leaky_relu functional", lambda x: F.leaky_relu(x, 0.25), lambda x: np.where(x > 0, x, 0.25 * x),
               kinks=(0,)),
    activation("elu functional", lambda x: F.elu(x, 0.5), lambda x: elu(x, 0.5), kinks=(0,)),
    activation("celu", lambda x: F.celu(x, 2.0), lambda x: elu(x / 2) * 2, kinks=(0,)),
    activation("selu", F.selu, lambda x: SELU[1] * elu(x, SELU[0]), kinks=(0,)),
    activation("gelu functional", plain_gelu, gelu),
    activation("silu functional", F.silu, lambda x: x * sigmoid(x)),
    activation("mish", F.mish, lambda x: x * np.tanh(softplus(x))),
    activation("sigmoid functional", F.sigmoid, sigmoid),
    activation("logsigmoid functional", F.logsigmoid, lambda x: -softplus(-x)),
    activation("hardsigmoid", F.hardsigmoid, lambda x: between(x + 3, 0, 6) / 6, domain=(-4, 4), kinks=(-3, 3)),
    activation("hardtanh", F.hardtanh, lambda x: between(x, -1, 1), kinks=(-1, 1)),
    activation("hardswish", F.hardswish, lambda x: x * between(x + 3, 0, 6) / 6, domain=(-4, 4), kinks=(-3, 3)),
    activation("tanh functional", F.tanh, np.tanh),
    activation("tanhshrink", F.tanhshrink, lambda x: x - np.tanh(x)),
    activation("softplus functional", F.softplus, lambda x: np.where(x > 20, x, softplus(x))),
    activation("softsign functional", F.softsign, lambda x: x / (1 + np.abs(x)), kinks=(0,)),
    row("softmax functional", lambda x: F.softmax(x, dim=-1), lambda x: softmax(x, -1), (3, 4)),
    row("softmin", lambda x: F.softmin(x, dim=0), lambda x: softmax(-x, 0), (3, 4)),
    row("log_softmax functional", lambda x: F.log_softmax(x, dim=1), lambda x: x - logsumexp(x, 1, True), (3, 4)),
    row("prelu", F.prelu, lambda x, w: np.where(x > 0, x, channels(w, x) * x), ((2, 3, 4), (3,)), kinks=(0,)),
]


def rows_of(weight: Any) -> Any:
    return weight[BAGS]


def bags(mode: str) -> Callable[..., Any]:
    return lambda w: F.embedding_bag(along(w, BAGS), w, mode=mode)


LINEAR = [
    row("linear functional", F.linear, lambda x, w, b: x @ w.T + b, ((3, 4), (2, 4), (2,)), nan=False),
    row("bilinear", F.bilinear, lambda x, y, w, b: np.einsum("ni,kij,nj->nk", x, w, y) + b,
        ((3, 2), (3, 4), (5, 2, 4), (5,)), nan=False),
    row("embedding", lambda w: F.embedding(along(w, BAGS), w), rows_of, (3, 4)),
    row("embedding padding", lambda w: F.embedding(along(w, [0, 1]), w, padding_idx=-1), lambda w: w[[0, 1]], (3, 4)),
    row("embedding_bag sum", bags("sum"), lambda w: rows_of(w).sum(1), (3, 4)),
    row("embedding_bag mean", bags("mean"), lambda w: rows_of(w).sum(1) / 2, (3, 4)),
    row("embedding_bag max", bags("max"), lambda w: rows_of(w).max(1), (3, 4), distinct=True),
    row("one_hot", lambda x: F.one_hot(x, 7), lambda x: np.eye(7, dtype=np.int64)[x], (3, 4), domain=(0, 6),
        dtypes=INTS, result=integer, gradient=False),
    row("scaled_dot_product_attention functional", F.scaled_dot_product_attention, attended,
        ((2, 3, 5), (2, 4, 5), (2, 4, 6)), nan=False),
    row("apply_rotary", F.apply_rotary, lambda x, c, s: np.stack(
        [x[..., ::2] * c - x[..., 1::2] * s, x[..., ::2] * s + x[..., 1::2] * c], -1).reshape(x.shape),
        ((2, 3, 4), (3, 2), (3, 2))),
    row("apply_rotary halves", lambda x, c, s: F.apply_rotary(x, c, s, interleaved=False),
        lambda x, c, s: np.concatenate([x[..., :2] * c - x[..., 2:] * s, x[..., :2] * s + x[..., 2:] * c], -1),
        ((2, 3, 4), (3, 2), (3, 2))),
    row("dropout functional", lambda x: F.dropout(x, 0.25, generator=generator(x)), lambda x: x * dropout_mask(x.shape),
        (3, 4)),
    row("dropout1d", lambda x: F.dropout1d(x, 0.25, generator=generator(x)),
        lambda x: x * dropout_mask(x.shape[:2])[:, :, None], (2, 3, 4)),
    row("dropout2d", lambda x: F.dropout2d(x, 0.25, generator=generator(x)),
        lambda x: x * dropout_mask(x.shape[:2])[:, :, None, None], (2, 3, 2, 2)),
]


def neighbours(x: Any) -> Any:
    """The sum of squares of three neighbouring channels."""
    padded = np.pad(x * x, [(0, 0), (1, 1), *[(0, 0)] * (x.ndim - 2)])
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


NORMS = [
    row("layer_norm functional", lambda x, w, b: F.layer_norm(x, (4,), w, b),
        lambda x, w, b: standardized(x, (-1,)) * w + b, ((3, 4), (4,), (4,))),
    row("rms_norm functional", lambda x, w: F.rms_norm(x, (4,), w, 1e-5), lambda x, w: rms(x, (-1,)) * w,
        ((3, 4), (4,))),
    row("batch_norm functional", lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: affine(over_batch(x), w, b), ((3, 4, 2), (4,), (4,))),
    row("batch_norm evaluating", lambda x: F.batch_norm(x, along(x, MEAN).to(x.dtype), along(x, VAR).to(x.dtype)),
        lambda x: (x - channels(MEAN, x)) / np.sqrt(channels(VAR, x) + number(1e-5, x)), (3, 4, 2)),
    row("group_norm functional", lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda x, w, b: affine(over_groups(x, 2), w, b), ((3, 4, 2), (4,), (4,))),
    row("instance_norm", F.instance_norm, lambda x: standardized(x, (2,)), (2, 3, 5)),
    row("local_response_norm", lambda x: F.local_response_norm(x, 3, alpha=0.5),
        lambda x: x / (neighbours(x) * number(0.5, x) / 3 + 1) ** number(0.75, x), (2, 4, 3)),
    row("normalize", F.normalize, lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)), (3, 4)),
]


def bins(size: int, target: int) -> list[slice]:
    return [slice(i * size // target, -(-(i + 1) * size // target)) for i in range(target)]


def adaptive(x: Any, target: int, function: Any) -> Any:
    """Of the bins along the last dimension."""
    return np.stack([function(x[..., part]) for part in bins(x.shape[-1], target)], -1)


def mean(x: Any) -> Any:
    return x.sum(-1) / x.shape[-1]


def greatest(x: Any) -> Any:
    return x.max(-1)


def in_plane(x: Any, height: int, function: Any) -> Any:
    """Of the upper and the lower half of a plane, and of two bins along its width."""
    top, bottom = x[..., :height // 2, :], x[..., height // 2:, :]
    return np.stack([np.stack([function(half[..., part].reshape(*x.shape[:-2], -1))
                               for part in bins(x.shape[-1], 2)], -1) for half in (top, bottom)], -2)


def windows_of(x: Any, size: int) -> Any:
    """Neighbouring windows along the last dimension."""
    return x[..., :x.shape[-1] // size * size].reshape(*x.shape[:-1], -1, size)


def unpooled(x: Any) -> Any:
    """Each value of a plane (2, 2) in the first place of its window of (2, 2)."""
    out = np.zeros((*x.shape[:-2], 4, 4), x.dtype)
    out[..., ::2, ::2] = x
    return out


FIRST_PLACES = np.array([[0, 2], [8, 10]])
DISTINCT: dict[str, Any] = {"distinct": True}


def unpool(x: tl.Tensor) -> tl.Tensor:
    return F.max_unpool2d(x, along(x, FIRST_PLACES).expand(x.shape), 2)


POOLING = [
    row("max_pool2d functional", lambda x: F.max_pool2d(x, 2), lambda x: pooled(x, largest, kernel=2, stride=2),
        (2, 2, 4, 6), **DISTINCT),
    row("max_pool2d functional indices", lambda x: F.max_pool2d(x, 2, return_indices=True),
        lambda x: (pooled(x, largest, kernel=2, stride=2), pooled(x, place, kernel=2, stride=2)), (2, 2, 4, 6),
        **DISTINCT, result=(same, integer)),
    row("max_pool1d", lambda x: F.max_pool1d(x, 2), lambda x: windows_of(x, 2).max(-1), (2, 3, 7), **DISTINCT),
    row("avg_pool2d functional", lambda x: F.avg_pool2d(x, 2), lambda x: pooled(x, mean_of(None), kernel=2, stride=2),
        (2, 2, 4, 6)),
    row("avg_pool1d", lambda x: F.avg_pool1d(x, 2), lambda x: windows_of(x, 2).sum(-1) / 2, (2, 3, 7)),
    row("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 3), lambda x: adaptive(x, 3, mean), (2, 3, 7)),
    row("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 3), lambda x: adaptive(x, 3, greatest), (2, 3, 7),
        **DISTINCT),
    row("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 2), lambda x: in_plane(x, 4, mean), (2, 4, 5)),
    row("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2), lambda x: in_plane(x, 4, greatest), (2, 4, 5),
        **DISTINCT),
    row("max_unpool2d", unpool, unpooled, (1, 2, 2, 2)),
]


def halfway(x: Any) -> Any:
    """Linear interpolation to twice the size along the last dimension, with the corners half a pixel outside."""
    left, right = np.concatenate([x[..., :1], x[..., :-1]], -1), np.concatenate([x[..., 1:], x[..., -1:]], -1)
    return np.stack([(left + 3 * x) / 4, (3 * x + right) / 4], -1).reshape(*x.shape[:-1], -1)


def columns_of(x: Any) -> Any:
    """The windows (2, 2) of a plane, a column each."""
    n, c, height, width = x.shape
    parts = [x[:, :, r:height - 1 + r, s:width - 1 + s] for r in range(2) for s in range(2)]
    return np.stack(parts, 2).reshape(n, c * 4, -1)


def folded(x: Any) -> Any:
    """Columns of windows (2, 2) added up in a plane (3, 3)."""
    out = np.zeros((len(x), x.shape[1] // 4, 3, 3), x.dtype)
    windows = x.reshape(len(x), -1, 4, 2, 2)
    for k in range(4):
        out[:, :, k // 2:k // 2 + 2, k % 2:k % 2 + 2] += windows[:, :, k]
    return out


def shuffled(x: Any, r: int) -> Any:
    n, c, height, width = x.shape
    parts = x.reshape(n, c // r**2, r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // r**2, height * r, width * r)


def unshuffled(x: Any, r: int) -> Any:
    n, c, height, width = x.shape
    parts = x.reshape(n, c, height // r, r, width // r, r).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, c * r**2, height // r, width // r)


RESAMPLING = [
    row("pad functional", lambda x: F.pad(x, (1, 2)), lambda x: np.pad(x, [(0, 0), (1, 2)]), (3, 4)),
    row("interpolate nearest", lambda x: F.interpolate(x, scale_factor=2), lambda x: np.repeat(x, 2, -1), (2, 3, 4)),
    row("interpolate linear", lambda x: F.interpolate(x, scale_factor=2, mode="linear"), halfway, (2, 3, 4)),
    row("interpolate bilinear", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: np.swapaxes(halfway(np.swapaxes(halfway(x), -1, -2)), -1, -2), (2, 2, 3, 4)),
    row("unfold functional", lambda x: F.unfold(x, 2), columns_of, (2, 3, 3, 4)),
    row("fold", lambda x: F.fold(x, 3, 2), folded, (2, 8, 4)),
    row("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), lambda x: shuffled(x, 2), (2, 8, 2, 3)),
    row("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), lambda x: unshuffled(x, 2), (2, 2, 4, 6)),
    row("channel_shuffle", lambda x: F.channel_shuffle(x, 2),
        lambda x: np.swapaxes(x.reshape(len(x), 2, -1, *x.shape[2:]), 1, 2).reshape(x.shape), (2, 4, 3)),
]


def averaged(x: Any) -> Any:
    return np.sum(x) / np.size(x)


def huber(d: Any, delta: float) -> Any:
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - number(delta, d) / 2))


def binary(p: Any, t: Any) -> Any:
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def length(x: Any) -> Any:
    return np.sqrt((x * x).sum(-1))


def picked(logp: Any) -> Any:
    return logp[np.arange(3), LABELS]


def log_softmax(x: Any) -> Any:
    return x - logsumexp(x, 1, True)


LOSSES = [
    row("mse_loss", F.mse_loss, lambda x, y: averaged((x - y) ** 2), *SAME),
    row("mse_loss none", lambda x, y: F.mse_loss(x, y, reduction="none"), lambda x, y: (x - y) ** 2, *SAME),
    row("l1_loss", F.l1_loss, lambda x, y: averaged(np.abs(x - y)), *SAME, distinct=True, domain=((-2, 0), (0.1, 2))),
    row("smooth_l1_loss", F.smooth_l1_loss, lambda x, y: averaged(huber(x - y, 1.0)), *SAME),
    row("huber_loss", lambda x, y: F.huber_loss(x, y, delta=0.5), lambda x, y: averaged(huber(x - y, 0.5)), *SAME),
    row("binary_cross_entropy", F.binary_cross_entropy, lambda p, t: averaged(binary(p, t)), *SAME,
        domain=((0.1, 0.9), (0, 1))),
    row("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits,
        lambda x, t: averaged(np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))), *SAME,
        domain=((-2, 2), (0, 1))),
    row("kl_div", lambda x, t: F.kl_div(x, t, reduction="sum"), lambda x, t: np.sum(t * (np.log(t) - x)), *SAME,
        domain=((-2, 0), (0.1, 0.9))),
    row("cosine_similarity", F.cosine_similarity, lambda x, y: (x * y).sum(1) / (length(x) * length(y)), *SAME),
    row("pairwise_distance", F.pairwise_distance, lambda x, y: length(x - y + number(1e-6, x)), *SAME),
    row("cross_entropy functional", lambda x: F.cross_entropy(x, along(x, LABELS), along(x, WEIGHTS).to(x.dtype)),
        lambda x: -np.sum(picked(log_softmax(x)) * WEIGHTS[LABELS]) / WEIGHTS[LABELS].sum(), (3, 4)),
    row("cross_entropy smoothed", lambda x: F.cross_entropy(x, along(x, LABELS), label_smoothing=0.25),
        lambda x: averaged(-(picked(log_softmax(x)) * 3 + log_softmax(x).sum(1) / 4) / 4), (3, 4)),
    row("cross_entropy probabilities", lambda x: F.cross_entropy(x, along(x, PROBABILITIES).to(x.dtype)),
        lambda x: -np.sum(log_softmax(x) * PROBABILITIES) / 3, (3, 4)),
    row("nll_loss", lambda x: F.nll_loss(x, along(x, LABELS)), lambda x: -averaged(picked(x)), (3, 4)),
]

FUNCTIONAL = [*ACTIVATIONS, *LINEAR, *NORMS, *POOLING, *RESAMPLING, *LOSSES, *MARGINS, *CUTS]
