"""Losses with margins, likelihoods, and activations that cut off: PyTorch's numbers and gradients, and their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tensorlite.nn import functional as F
from tensorlite.testing import gradcheck, gradgradcheck

SIGNS = np.array([1, -1, 1, -1, -1])
IDS = np.array([2, 0, 1, 1, 2])


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, shape)


X, Y, Z = values(5, 3), values(5, 3, seed=1), values(5, 3, seed=2)
COUNTS, VARIANCES, WEIGHTS = np.round(np.abs(Y) * 2), np.abs(Z) + 0.1, np.array([1.0, 2.0, 0.5])
Call = Callable[..., Any]

# What is called, the inputs that get a gradient, and those that get none.
LOSSES: dict[str, tuple[Call, list[np.ndarray], list[np.ndarray]]] = {
    "hinge": (lambda m, x, t: m.hinge_embedding_loss(x, t), [X[:, 0]], [SIGNS]),
    "hinge margin": (lambda m, x, t: m.hinge_embedding_loss(x, t, margin=0.3, reduction="sum"), [X[:, 0]], [SIGNS]),
    "cosine": (lambda m, x, y, t: m.cosine_embedding_loss(x, y, t), [X, Y], [SIGNS]),
    "cosine margin": (lambda m, x, y, t: m.cosine_embedding_loss(x, y, t, margin=0.2, reduction="none"), [X, Y],
                      [SIGNS]),
    "cosine vector": (lambda m, x, y, t: m.cosine_embedding_loss(x, y, t), [X[0], Y[0]], [np.array(-1)]),
    "ranking": (lambda m, x, y, t: m.margin_ranking_loss(x, y, t, margin=0.4), [X[:, 0], Y[:, 0]], [SIGNS]),
    "triplet": (lambda m, x, y, z: m.triplet_margin_loss(x, y, z), [X, Y, Z], []),
    "triplet swap": (lambda m, x, y, z: m.triplet_margin_loss(x, y, z, 0.5, 1.0, swap=True, reduction="none"),
                     [X, Y, Z], []),
    "triplet vector": (lambda m, x, y, z: m.triplet_margin_loss(x, y, z, p=3), [X[0], Y[0], Z[0]], []),
    "triplet distance": (lambda m, x, y, z: m.triplet_margin_with_distance_loss(
        x, y, z, distance_function=lambda a, b: 1 - m.cosine_similarity(a, b), margin=0.3, swap=True), [X, Y, Z], []),
    "triplet no distance": (lambda m, x, y, z: m.triplet_margin_with_distance_loss(x, y, z), [X, Y, Z], []),
    "soft margin": (lambda m, x, t: m.soft_margin_loss(x, t), [X[:, 0]], [SIGNS.astype(float)]),
    "multi margin": (lambda m, x, t: m.multi_margin_loss(x, t), [X], [IDS]),
    "multi margin 2": (lambda m, x, t, w: m.multi_margin_loss(x, t, 2, 0.7, w, reduction="none"), [X], [IDS, WEIGHTS]),
    "multi margin vector": (lambda m, x, t: m.multi_margin_loss(x, t), [X[0]], [IDS[0]]),
    "labels": (lambda m, x, t: m.multilabel_soft_margin_loss(x, t), [X], [(Y > 0).astype(float)]),
    "labels weight": (lambda m, x, t, w: m.multilabel_soft_margin_loss(x, t, w, reduction="sum"), [X],
                      [(Y > 0).astype(float), WEIGHTS]),
    "poisson": (lambda m, x, t: m.poisson_nll_loss(x, t), [X], [COUNTS]),
    "poisson full": (lambda m, x, t: m.poisson_nll_loss(x, t, full=True, reduction="none"), [X], [COUNTS]),
    "poisson rate": (lambda m, x, t: m.poisson_nll_loss(x, t, log_input=False, eps=1e-3), [np.abs(X)], [COUNTS]),
    "gaussian": (lambda m, x, t, v: m.gaussian_nll_loss(x, t, v), [X, Y, VARIANCES], []),
    "gaussian rows": (lambda m, x, t, v: m.gaussian_nll_loss(x, t, v, full=True, reduction="sum"),
                      [X, Y, VARIANCES[:, 0]], []),
    "gaussian small": (lambda m, x, t, v: m.gaussian_nll_loss(x, t, v, eps=0.5), [X, Y, VARIANCES[:, :1]], []),
    "gaussian number": (lambda m, x, t: m.gaussian_nll_loss(x, t, 0.7, reduction="none"), [X, Y], []),
    "threshold": (lambda m, x: m.threshold(x, 0.3, -7.0), [X], []),
    "threshold in place": (lambda m, x: m.threshold(x * 1, 0.3, -7.0, True), [X], []),
    "hardshrink": (lambda m, x: m.hardshrink(x, 0.7), [X], []),
    "softshrink": (lambda m, x: m.softshrink(x, 0.7), [X], []),
    "glu": (lambda m, x: m.glu(x), [values(3, 4)], []),
    "glu dim": (lambda m, x: m.glu(x, 0), [values(4, 3)], []),
    "rrelu": (lambda m, x: m.rrelu(x, 0.1, 0.4), [X], []),
    "rrelu in place": (lambda m, x: m.rrelu(x * 1, inplace=True), [X], []),
}


def tensors(arrays: list[np.ndarray], device: str, requires_grad: bool, dtype: Any = tl.float64) -> list[tl.Tensor]:
    return [tl.tensor(a, dtype=dtype if a.dtype.kind == "f" else None, device=device, requires_grad=requires_grad)
            for a in arrays]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_numbers_and_gradients_are_pytorchs(name: str, dtype: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    function, varied, fixed = LOSSES[name]
    ours = tensors(varied, device, True, getattr(tl, dtype))
    theirs = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in varied]
    kinds = {"f": getattr(torch, dtype), "i": torch.int64}
    others = [torch.tensor(a, dtype=kinds[a.dtype.kind]) for a in fixed]
    result = function(F, *ours, *tensors(fixed, device, False, getattr(tl, dtype)))
    expected = function(torch.nn.functional, *theirs, *others)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    assert (result.shape, result.dtype.name) == (tuple(expected.shape), dtype)
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected.detach().numpy(), tolerance, tolerance)
    result.sum().backward()
    expected.sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.cpu().numpy(), y.grad.numpy(), tolerance, tolerance)


@pytest.mark.parametrize("name", [name for name in LOSSES if "in place" not in name and name != "gaussian small"])
def test_derivatives(name: str) -> None:
    function, varied, fixed = LOSSES[name]
    others = tensors(fixed, "cpu", False)
    inputs = tensors(varied, "cpu", True)
    assert gradcheck(lambda *xs: function(F, *xs, *others), inputs)
    assert gradgradcheck(lambda *xs: function(F, *xs, *others), inputs, atol=1e-5)


MODULES: dict[str, tuple[Callable[[Any], Any], list[np.ndarray]]] = {
    "HingeEmbeddingLoss": (lambda m: m.HingeEmbeddingLoss(0.5, reduction="sum"), [X[:, 0], SIGNS]),
    "CosineEmbeddingLoss": (lambda m: m.CosineEmbeddingLoss(0.1), [X, Y, SIGNS]),
    "MarginRankingLoss": (lambda m: m.MarginRankingLoss(0.2, reduction="none"), [X[:, 0], Y[:, 0], SIGNS]),
    "TripletMarginLoss": (lambda m: m.TripletMarginLoss(0.3, 1.0, 1e-3, True, reduction="sum"), [X, Y, Z]),
    "TripletMarginWithDistanceLoss": (lambda m: m.TripletMarginWithDistanceLoss(margin=0.6, swap=True), [X, Y, Z]),
    "SoftMarginLoss": (lambda m: m.SoftMarginLoss(reduction="sum"), [X[:, 0], SIGNS.astype(float)]),
    "MultiMarginLoss": (lambda m: m.MultiMarginLoss(2, 0.9), [X, IDS]),
    "MultiLabelSoftMarginLoss": (lambda m: m.MultiLabelSoftMarginLoss(reduction="none"), [X, (Y > 0).astype(float)]),
    "PoissonNLLLoss": (lambda m: m.PoissonNLLLoss(False, True, eps=1e-2, reduction="sum"), [np.abs(X), COUNTS]),
    "GaussianNLLLoss": (lambda m: m.GaussianNLLLoss(full=True, eps=0.2, reduction="sum"), [X, Y, VARIANCES]),
    "Threshold": (lambda m: m.Threshold(0.1, 20), [X]),
    "Hardshrink": (lambda m: m.Hardshrink(0.2), [X]),
    "Softshrink": (lambda m: m.Softshrink(0.2), [X]),
    "GLU": (lambda m: m.GLU(0), [X[:4]]),
    "RReLU": (lambda m: m.RReLU(0.2, 0.3).eval(), [X]),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, arrays = MODULES[name]
    ours, theirs = make(nn), make(torch.nn)
    result = ours(*tensors(arrays, "cpu", False))
    expected = theirs(*[torch.tensor(a) for a in arrays])
    np.testing.assert_allclose(result.numpy(), expected.numpy(), 1e-12)
    assert repr(ours) == repr(theirs)


def test_a_weight_of_classes_is_a_buffer() -> None:
    loss = nn.MultiMarginLoss(weight=tl.tensor(WEIGHTS))
    assert [name for name, _ in loss.named_buffers()] == ["weight"]


CORNERS = [0.0, 0.5, -0.5, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("name", ["threshold", "hardshrink", "softshrink"])
def test_corners_and_what_is_not_finite(name: str) -> None:
    torch = pytest.importorskip("torch")
    arguments = (0.5, 3.0) if name == "threshold" else (0.5,)
    x, y = tl.tensor(CORNERS, requires_grad=True), torch.tensor(CORNERS, requires_grad=True)
    result, expected = getattr(F, name)(x, *arguments), getattr(torch.nn.functional, name)(y, *arguments)
    np.testing.assert_array_equal(result.detach().numpy(), expected.detach().numpy())
    result.nan_to_num(0, 0, 0).sum().backward()
    expected.nan_to_num(0, 0, 0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:3], y.grad.numpy()[:3])


def test_a_soft_margin_is_finite_for_large_scores() -> None:
    x = tl.tensor([2000.0, -2000.0], requires_grad=True)
    loss = F.soft_margin_loss(x, tl.tensor([-1.0, -1.0]), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == [2000.0, 0.0] and x.grad.tolist() == [1.0, 0.0]


def test_rrelu_draws_slopes_in_training(device: str) -> None:
    x = tl.full((1000,), -1.0, device=device, requires_grad=True)
    y = nn.RReLU(0.2, 0.6)(x)
    y.sum().backward()
    slopes = -y.detach().cpu().numpy()
    assert 0.2 <= slopes.min() < 0.25 and 0.55 < slopes.max() <= 0.6
    np.testing.assert_array_equal(x.grad.cpu().numpy(), slopes)
    assert F.rrelu(tl.tensor([3.0, 0.0]), training=True).tolist() == [3.0, 0.0]


def test_gumbel_softmax(device: str) -> None:
    logits = tl.tensor([1.0, 3.0, 2.0], device=device).log().expand(1500, 3)
    picked = F.gumbel_softmax(logits, tau=0.5, hard=True)
    np.testing.assert_allclose(picked.mean(0).cpu().numpy(), [1 / 6, 3 / 6, 2 / 6], atol=0.05)
    assert picked.sum(1).eq(1).all()
    soft = F.gumbel_softmax(logits[:5].contiguous().requires_grad_(), tau=2.0, dim=0)
    np.testing.assert_allclose(soft.sum(0).detach().cpu().numpy(), 1, 1e-6)
    assert 0 < float(soft.min().item()) and float(soft.max().item()) < 1
    x = tl.zeros(2, 3, device=device, requires_grad=True)
    F.gumbel_softmax(x, hard=True)[:, 0].sum().backward()
    assert x.grad.ne(0).all()


def test_gumbel_softmax_captured_draws_anew() -> None:
    step = tl.capture(lambda x: F.gumbel_softmax(x, hard=True).argmax(1))
    x = tl.zeros(200, 3)
    results = [step(x).clone() for _ in range(4)]
    assert not tl.equal(results[-1], results[-2])


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "hinge": (lambda: F.hinge_embedding_loss(tl.zeros(3, 1), tl.ones(3)), ShapeError, "unsqueeze"),
    "cosine": (lambda: F.cosine_embedding_loss(tl.zeros(3, 2), tl.zeros(3, 2), tl.ones(2)), ShapeError, r"\(N, D\)"),
    "ranking": (lambda: F.margin_ranking_loss(tl.zeros(3), tl.zeros(3), tl.ones(3, 1)), ShapeError, "broadcast"),
    "triplet": (lambda: F.triplet_margin_loss(tl.zeros(3, 2), tl.zeros(3, 2), tl.zeros(2)), ShapeError, "triplet"),
    "soft": (lambda: F.soft_margin_loss(tl.zeros(3), tl.ones(2)), ShapeError, "soft_margin_loss"),
    "multi p": (lambda: F.multi_margin_loss(tl.zeros(3, 2), tl.zeros(3, dtype=tl.int64), 3), ArgumentError, "1 or 2"),
    "multi shape": (lambda: F.multi_margin_loss(tl.zeros(3, 2), tl.zeros(2, dtype=tl.int64)), ShapeError, "ids"),
    "multi ids": (lambda: F.multi_margin_loss(tl.zeros(3, 2), tl.zeros(3)), DTypeError, "long"),
    "multi range": (lambda: F.multi_margin_loss(tl.zeros(1, 2), tl.tensor([2])), OutOfRangeError, "2"),
    "labels": (lambda: F.multilabel_soft_margin_loss(tl.zeros(3, 2), tl.zeros(3)), ShapeError, "multilabel"),
    "poisson": (lambda: F.poisson_nll_loss(tl.zeros(3), tl.zeros(3, 1)), ShapeError, "poisson"),
    "gaussian": (lambda: F.gaussian_nll_loss(tl.zeros(3, 2), tl.zeros(3, 2), tl.ones(2)), ShapeError, "var has shape"),
    "softshrink": (lambda: F.softshrink(tl.zeros(1), -1.0), ArgumentError, "negative"),
    "glu": (lambda: F.glu(tl.zeros(3)), ShapeError, "even"),
    "glu dim": (lambda: F.glu(tl.zeros(2, 2), 5), OutOfRangeError, "glu"),
    "glu 0-d": (lambda: F.glu(tl.tensor(1.0)), ShapeError, "even"),
    "rrelu": (lambda: F.rrelu(tl.zeros(1), 1.0, 0.5), ArgumentError, "greater"),
    "reduction": (lambda: nn.SoftMarginLoss(reduction="avg")(tl.zeros(1), tl.ones(1)), ArgumentError, "reduction"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        function()


@pytest.mark.parametrize("name", ["hinge", "cosine", "triplet", "multi margin", "poisson", "labels", "glu"])
def test_captured_is_eager(name: str, device: str) -> None:
    function, varied, fixed = LOSSES[name]
    inputs, others = tensors(varied, device, False), tensors(fixed, device, False)
    step = tl.capture(lambda *xs: function(F, *xs, *others))
    for _ in range(3):
        inputs = [x * 0.9 for x in inputs]
        np.testing.assert_array_equal(step(*inputs).cpu().numpy(), function(F, *inputs, *others).cpu().numpy())


def test_under_autocast_they_compute_in_float32() -> None:
    x = tl.tensor(X, dtype=tl.bfloat16)
    with tl.autocast("cpu", dtype=tl.bfloat16):
        assert F.triplet_margin_loss(x, x * 2, -x).dtype is tl.float32
        assert F.poisson_nll_loss(x, x.abs()).dtype is tl.float32
