"""Rows of F's losses with margins, likelihoods, and activations that cut off, for the audit."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import FLOATS, LABELS, ONE, Case, along, number, sigmoid

import tensorlite as tl
from tensorlite.nn import functional as F

SIGNS = np.array([1.0, -1.0, 1.0])
SIGN_TABLE = np.array([[1.0, -1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, 1.0]])
ONES_AND_ZEROS = (SIGN_TABLE + 1) / 2
PAIR = ((3, 4), (3, 4))
TRIPLE = ((3, 4), (3, 4), (3, 4))


def row(name: str, function: Any, reference: Any, *shapes: Any, **options: Any) -> Case:
    return Case(name, function, reference, shapes, **{"dtypes": FLOATS, "strict": False, **options})


def signs(x: tl.Tensor) -> tl.Tensor:
    return along(x, SIGNS).to(x.dtype)


def sign_table(x: tl.Tensor) -> tl.Tensor:
    return along(x, SIGN_TABLE).to(x.dtype)


def above_zero(x: Any) -> Any:
    return np.maximum(x, 0)


def averaged(x: Any) -> Any:
    return np.sum(x) / np.size(x)


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def distance(x: Any, y: Any) -> Any:
    d = x - y + number(1e-6, x)
    return np.sqrt((d * d).sum(-1))


def cosine(x: Any, y: Any) -> Any:
    least = number(1e-12, x).sum(-1) / x.shape[-1]
    return (x * y).sum(-1) / np.sqrt(((x * x).sum(-1) + least) * ((y * y).sum(-1) + least))


def beyond(scores: Any) -> Any:
    """Of each row the margins that other classes violate."""
    own = scores[np.arange(3), LABELS][:, None]
    return above_zero(1 - own + scores) * (1 - np.eye(4)[LABELS])


MARGINS = [
    row("hinge_embedding_loss", lambda x: F.hinge_embedding_loss(x, sign_table(x)),
        lambda x: averaged(np.where(SIGN_TABLE == 1, x, above_zero(1 - x))), ((3, 4),)),
    row("cosine_embedding_loss", lambda x, y: F.cosine_embedding_loss(x, y, signs(x)),
        lambda x, y: averaged(np.where(SIGNS == 1, 1 - cosine(x, y), above_zero(cosine(x, y)))), PAIR),
    row("margin_ranking_loss", lambda x, y: F.margin_ranking_loss(x, y, sign_table(x), margin=0.5),
        lambda x, y: averaged(above_zero(0.5 - SIGN_TABLE * (x - y))), PAIR),
    row("triplet_margin_loss", F.triplet_margin_loss,
        lambda a, p, n: averaged(above_zero(distance(a, p) - distance(a, n) + 1)), TRIPLE),
    row("triplet_margin_with_distance_loss", F.triplet_margin_with_distance_loss,
        lambda a, p, n: averaged(above_zero(distance(a, p) - distance(a, n) + 1)), TRIPLE),
    row("soft_margin_loss", lambda x: F.soft_margin_loss(x, sign_table(x)),
        lambda x: averaged(softplus(-SIGN_TABLE * x)), ((3, 4),)),
    row("multi_margin_loss", lambda x: F.multi_margin_loss(x, along(x, LABELS)),
        lambda x: averaged(beyond(x).sum(1) / 4), ((3, 4),)),
    row("multilabel_soft_margin_loss", lambda x: F.multilabel_soft_margin_loss(x, along(x, ONES_AND_ZEROS).to(x.dtype)),
        lambda x: averaged(ONES_AND_ZEROS * softplus(-x) + (1 - ONES_AND_ZEROS) * softplus(x)), ((3, 4),)),
    row("poisson_nll_loss", F.poisson_nll_loss, lambda x, t: averaged(np.exp(x) - t * x), PAIR,
        domain=((-2, 2), (0, 3))),
    row("gaussian_nll_loss", F.gaussian_nll_loss, lambda x, t, v: averaged((np.log(v) + (x - t) ** 2 / v) / 2), TRIPLE,
        domain=((-2, 2), (-2, 2), (0.5, 2))),
]


def cut(name: str, function: Any, reference: Any, kinks: tuple[float, ...]) -> Case:
    return Case(name, function, reference, ONE, dtypes=FLOATS, strict=False, kinks=kinks)


CUTS = [
    cut("threshold", lambda x: F.threshold(x, 0.5, 0.25), lambda x: np.where(x > 0.5, x, number(0.25, x)), (0.5,)),
    cut("hardshrink", F.hardshrink, lambda x: np.where(np.abs(x) > 0.5, x, number(0, x)), (-0.5, 0.5)),
    cut("softshrink", F.softshrink, lambda x: x - np.minimum(np.maximum(x, -0.5), 0.5), (-0.5, 0.5)),
    cut("rrelu", lambda x: F.rrelu(x, 0.125, 0.25), lambda x: np.where(x > 0, x, x * 0.1875), (0,)),
    row("glu", F.glu, lambda x: x[..., :2] * sigmoid(x[..., 2:]), ((3, 4),)),
]
