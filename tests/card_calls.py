"""Calls of functions that are made of operations, by the names of their arguments: what test_cards.py checks cards on.

A floating array is given as a float64 tensor that requires grad, but where its name stands in `CONSTANT`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import ops

random = np.random.default_rng(3)
CONSTANT = {"running_mean", "running_var", "cos", "sin"}


def some(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return random.uniform(low, high, shape)


def losses(target_low: float = -2.0, **more: Any) -> list[dict[str, Any]]:
    return [{"input": some(3, 4), "target": some(3, 4, low=target_low), "reduction": reduction, **more}
            for reduction in ("mean", "sum", "none")]


def signed(**more: Any) -> list[dict[str, Any]]:
    return [{"target": SIGNS, "reduction": reduction, **more} for reduction in ("mean", "sum", "none")]


X, WIDE = some(3, 4), some(3, 4, low=-5, high=5)
WITH_NAN = np.where(X > 1, np.nan, X)
SIGNS = np.where(X > 0, 1, -1)
IMAGES = some(2, 4, 6, 6)
TRIPLET = {name: some(3, 4) for name in ("anchor", "positive", "negative")}
PAIRS = {"x1": some(3, 4), "x2": some(3, 4)}

# of ops, where the card has a derivative
OPS: dict[str, list[dict[str, Any]]] = {
    "addcmul": [{"x": X, "a": some(4), "b": some(3, 1), "value": 3.0}],
    "addcdiv": [{"x": X, "a": some(4), "b": some(3, 1, low=0.5), "value": 3.0}],
    "logsigmoid": [{"x": WIDE}],
    "real": [{"x": X}],
    "mm": [{"x": X, "y": some(4, 2)}],
    "bmm": [{"x": some(2, 3, 4), "y": some(2, 4, 5)}],
    "mv": [{"x": X, "y": some(4)}],
    "dot": [{"x": some(4), "y": some(4)}],
    "outer": [{"x": some(3), "y": some(4)}],
    "addmm": [{"input": some(2), "x": X, "y": some(4, 2)}, {"input": some(3, 2), "x": X, "y": some(4, 2), "beta": 2.0,
                                                           "alpha": 3.0}],
    "std": [{"x": X}, {"x": X, "dim": 1}, {"x": some(2, 3, 4), "dim": (0, -1), "correction": 0, "keepdim": True}],
    "norm": [{"x": X}, {"x": X, "dim": 1}, {"x": X, "p": 3, "dim": (0,), "keepdim": True}, {"x": X, "p": 1}],
    "masked_fill": [{"x": X, "mask": X > 0, "value": 7.0}],
    "logit": [{"x": some(3, 4, low=0.1, high=0.9)}],
    "deg2rad": [{"x": X}],
    "rad2deg": [{"x": X}],
    "frac": [{"x": WIDE}],
    "fmax": [{"x": X, "y": some(4)}, {"x": X, "y": WITH_NAN}, {"x": np.zeros(3), "y": np.zeros(3)}],
    "fmin": [{"x": X, "y": some(4)}, {"x": X, "y": WITH_NAN}, {"x": np.zeros(3), "y": np.zeros(3)}],
    "clamp_max": [{"x": X, "max": 0.5}],
    "clamp_min": [{"x": X, "min": 0.5}],
    "addmv": [{"input": some(3), "mat": X, "vec": some(4), "beta": 2.0, "alpha": 3.0}],
    "baddbmm": [{"input": some(2, 3, 5), "batch1": some(2, 3, 4), "batch2": some(2, 4, 5), "alpha": 3.0}],
    "nansum": [{"x": WITH_NAN}, {"x": WITH_NAN, "dim": 0}, {"x": WITH_NAN, "dim": (0, 1), "keepdim": True}],
    "nanmean": [{"x": WITH_NAN}, {"x": WITH_NAN, "dim": 1}],
}
# of nn.functional: all
FUNCTIONAL: dict[str, list[dict[str, Any]]] = {
    "celu": [{"input": WIDE}, {"input": WIDE, "alpha": 2.0}],
    "selu": [{"input": WIDE}],
    "hardtanh": [{"input": WIDE}, {"input": WIDE, "min_val": -3.0, "max_val": 0.5}],
    "relu6": [{"input": some(40, low=-3, high=9)}],
    "hardsigmoid": [{"input": WIDE}],
    "hardswish": [{"input": WIDE}],
    "mish": [{"input": WIDE}],
    "prelu": [{"input": some(2, 4, 3), "weight": some(4)}, {"input": X, "weight": some(1)}],
    "softmin": [{"input": X, "dim": 0}, {"input": X, "dim": -1}],
    "tanhshrink": [{"input": WIDE}],
    "mse_loss": losses(),
    "l1_loss": losses(),
    "huber_loss": [*losses(), *losses(delta=0.5)],
    "smooth_l1_loss": [*losses(), *losses(beta=0.5)],
    "binary_cross_entropy_with_logits": losses(0.0),
    "binary_cross_entropy": [{"input": some(3, 4, low=0.1, high=0.9), "target": some(3, 4, low=0.1, high=0.9)}],
    "kl_div": losses(0.1),
    "nll_loss": [{"input": X, "target": np.array([0, 3, 1])}, {"input": X, "target": np.array([0, 3, 1]),
                                                             "weight": some(4, low=0.5)}],
    "cross_entropy": [{"input": X, "target": np.array([0, 3, 1])}],
    "normalize": [{"input": X}, {"input": some(2, 3, 4), "dim": -1}],
    "cosine_similarity": [PAIRS],
    "pairwise_distance": [PAIRS],
    "bilinear": [{"input1": some(5, 3), "input2": some(5, 4), "weight": some(2, 3, 4), "bias": some(2)},
                 {"input1": some(2, 5, 3), "input2": some(2, 5, 4), "weight": some(2, 3, 4)}],
    "threshold": [{"input": X, "threshold": 0.5, "value": -3.0}],
    "hardshrink": [{"input": X}],
    "softshrink": [{"input": X}],
    "rrelu": [{"input": X}],
    "glu": [{"input": X}],
    "gumbel_softmax": [{"logits": X}],
    "hinge_embedding_loss": signed(input=some(3, 4)),
    "margin_ranking_loss": signed(input1=some(3, 4), input2=some(3, 4), margin=0.5),
    "soft_margin_loss": signed(input=some(3, 4)),
    "multilabel_soft_margin_loss": losses(0.0),
    "multi_margin_loss": [{"input": X, "target": np.array([0, 3, 1])}],
    "cosine_embedding_loss": [{"input1": some(3, 4), "input2": some(3, 4), "target": np.array([1, -1, 1])}],
    "triplet_margin_loss": [TRIPLET],
    "triplet_margin_with_distance_loss": [TRIPLET],
    "poisson_nll_loss": losses(0.0),
    "gaussian_nll_loss": losses(var=some(3, 4, low=0.5)),
    "embedding": [{"input": np.array([[1, 0], [1, 3]]), "weight": some(4, 3)}],
    "embedding_bag": [{"input": np.array([[1, 0], [1, 3]]), "weight": some(4, 3), "mode": mode}
                      for mode in ("sum", "mean", "max")],
    "instance_norm": [{"input": IMAGES}],
    "local_response_norm": [{"input": IMAGES, "size": 3}],
    "dropout1d": [{"input": some(2, 3, 4)}],
    "dropout2d": [{"input": IMAGES}],
    "apply_rotary": [{"input": some(2, 3, 4), "cos": some(3, 2), "sin": some(3, 2)}],
    "avg_pool1d": [{"input": some(2, 3, 6), "kernel_size": 2}],
    "max_pool1d": [{"input": some(2, 3, 6), "kernel_size": 2}],
    "adaptive_avg_pool1d": [{"input": some(2, 3, 6), "output_size": 2}],
    "adaptive_avg_pool2d": [{"input": IMAGES, "output_size": 2}, {"input": IMAGES, "output_size": 4}],
    "adaptive_max_pool1d": [{"input": some(2, 3, 6), "output_size": 2}],
    "adaptive_max_pool2d": [{"input": IMAGES, "output_size": 2}, {"input": IMAGES, "output_size": 4}],
    "max_unpool2d": [{"input": some(1, 1, 1, 2), "indices": np.array([[[[0, 3]]]]), "kernel_size": 2}],
    "interpolate": [{"input": IMAGES, "size": 4}, {"input": IMAGES, "size": 9, "mode": "bilinear"}],
    "unfold": [{"input": IMAGES, "kernel_size": 2}, {"input": IMAGES, "kernel_size": 3, "padding": 1}],
    "fold": [{"input": some(2, 4, 25), "output_size": 6, "kernel_size": 2}],
    "channel_shuffle": [{"input": IMAGES, "groups": 2}],
    "pixel_shuffle": [{"input": IMAGES, "upscale_factor": 2}],
    "pixel_unshuffle": [{"input": IMAGES, "downscale_factor": 2}],
}


def leaf(*values: Any) -> tl.Tensor:
    return tl.tensor(values, dtype=tl.float64, requires_grad=True)


def overwritten() -> tl.Tensor:
    x = leaf(1.0, 2.0) * 1
    return x.copy_(leaf(3.0, 4.0) * 2)


def with_ignored_rows() -> tl.Tensor:
    logits = tl.tensor(some(4, 3), requires_grad=True)
    out = ops.cross_entropy(logits, tl.tensor([1, -100, 2, -100]))
    (slope,) = tl.autograd.grad(out, logits, create_graph=True)
    tl.autograd.grad(slope.square().sum(), logits)
    return out


KINKS = (-1.0, 0.0, 0.0, 0.5, 1.0, 1.0, -2.0)
# What no row of the test table does: kinks and ties, rows that do not count, two devices, saturation.
PROGRAMS: list[Callable[[], Any]] = [
    overwritten, with_ignored_rows,
    lambda: F.binary_cross_entropy(leaf(0.0, 1.0, 0.3, 1.0), leaf(0.25, 0.5, 0.75, 1.0)),
    lambda: leaf(1.0, 2.0).to("cuda:sim"),
    lambda: leaf(1.0, 2.0).to(tl.float32),
    *[lambda f=f: f(leaf(*KINKS)) for f in (
        ops.relu, ops.abs, ops.sign, ops.leaky_relu, ops.elu, ops.softsign, ops.silu, ops.floor, ops.round, ops.amax,
        ops.amin, ops.prod, ops.sqrt, lambda x: ops.clamp(x, -1, 0.5), lambda x: ops.pow(x, 0), lambda x: ops.pow(x, 2),
        lambda x: ops.cumprod(x, 0), lambda x: ops.softplus(x, threshold=1.0), lambda x: ops.pow(x.abs(), x.abs()),
        lambda x: ops.logsumexp(x - np.inf, 0))],
    *[lambda f=f: f(leaf(*KINKS), leaf(0.0, 0.0, 1.0, 0.5, 1.0, -1.0, 2.0)) for f in (
        ops.maximum, ops.minimum, ops.atan2, ops.copysign, ops.logaddexp)],
    lambda: ops.max_pool2d(tl.zeros(1, 2, 4, 4, dtype=tl.float64, requires_grad=True), 3, 1),
]
