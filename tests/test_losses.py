"""Every loss: golden numbers, torch over random arguments, sample weights, and errors of bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tensorlite.nn import functional as F

LOGITS = [[1.0, 2.0, 3.0], [1.0, 0.0, 0.0], [0.0, 5.0, 1.0]]
IDS = [0, 1, 2]
ONE_HOT = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def _cross_entropy(target=None, **kwargs):
    return F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS if target is None else target), **kwargs).item()


# --- golden numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kwargs", "expected"), [
    ({}, 2.6613),
    ({"weight": [1.0, 2.0, 3.0]}, 2.9308),
    ({"ignore_index": 2}, 1.9795),
    ({"label_smoothing": 0.1}, 2.5835),
    ({"label_smoothing": 0.1, "weight": [1.0, 2.0, 3.0]}, 2.8149),
    ({"target": ONE_HOT, "weight": [1.0, 2.0, 3.0]}, 5.8616),
    ({"target": ONE_HOT}, 2.6613),
])
def test_cross_entropy_golden_numbers(kwargs, expected):
    kwargs = {k: tl.tensor(v) if k == "weight" else v for k, v in kwargs.items()}
    assert _cross_entropy(**kwargs) == pytest.approx(expected, abs=5e-5)


def test_weighted_mean_is_not_the_plain_mean_of_the_weighted_losses():
    rows = F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS), tl.tensor([1.0, 2.0, 3.0]), reduction="none")
    assert rows.tolist() == pytest.approx([2.4076, 3.1029, 12.0742], abs=5e-4)
    assert _cross_entropy(weight=tl.tensor([1.0, 2.0, 3.0])) != pytest.approx(rows.mean().item(), abs=0.1)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", math.nan), ("sum", 0.0)])
def test_all_ignored(reduction, expected):
    x = tl.tensor(LOGITS, requires_grad=True)
    loss = F.cross_entropy(x, tl.tensor([-100, -100, -100]), reduction=reduction)
    assert loss.item() == pytest.approx(expected, nan_ok=True)
    if reduction == "sum":
        loss.backward()
        assert not x.grad.numpy().any()


def test_binary_cross_entropy_clamps_its_logarithms_at_100():
    assert nn.BCELoss()(tl.tensor([0.0]), tl.tensor([1.0])).item() == pytest.approx(100)
    assert nn.BCELoss()(tl.tensor([1.0]), tl.tensor([0.0])).item() == pytest.approx(100)


def test_plain_golden_numbers():
    x, t = tl.tensor([0.0, 0.0, 3.0]), tl.tensor([0.5, -1.0, 0.0])
    assert nn.MSELoss()(x, t).item() == pytest.approx((0.25 + 1 + 9) / 3)
    assert nn.L1Loss()(x, t).item() == pytest.approx(4.5 / 3)
    assert nn.SmoothL1Loss()(x, t).item() == pytest.approx((0.125 + 0.5 + 2.5) / 3)
    assert nn.HuberLoss()(x, t).item() == pytest.approx((0.125 + 0.5 + 2.5) / 3)
    assert nn.HuberLoss(delta=2.0)(x, t).item() == pytest.approx((0.125 + 0.5 + 4.0) / 3)


# --- torch --------------------------------------------------------------------------------------------------


def _compare(ours, theirs, arrays, differentiable, *, rtol=1e-9, atol=1e-12):
    """One loss and its gradients through both libraries; tensors not listed as differentiable are constants."""
    torch = pytest.importorskip("torch")
    mine = [tl.tensor(a, requires_grad=d) for a, d in zip(arrays, differentiable, strict=True)]
    other = [torch.tensor(a, requires_grad=d) for a, d in zip(arrays, differentiable, strict=True)]
    out, expected = ours(*mine), theirs(*other)
    assert tuple(out.shape) == tuple(expected.shape)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol, atol)
    g = np.random.default_rng(1).normal(size=expected.shape)
    out.backward(tl.tensor(g))
    expected.backward(torch.tensor(g))
    for a, b, d in zip(mine, other, differentiable, strict=True):
        if d:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol, atol)


REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
SHAPES = st.sampled_from([(4,), (3, 2), (2, 3, 2), (), (1, 1)])


def _rng_arrays(seed, shape, count):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape) * 2) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]), SHAPES, REDUCTIONS,
       st.sampled_from([0.3, 1.0, 2.5]), st.integers(0, 99))
def test_regression_losses_equal_torch(name, shape, reduction, scale, seed):
    torch = pytest.importorskip("torch")
    kwargs = {"reduction": reduction}
    if name in ("smooth_l1_loss", "huber_loss"):
        kwargs["beta" if name == "smooth_l1_loss" else "delta"] = scale
    _compare(lambda x, t: getattr(F, name)(x, t, **kwargs),
             lambda x, t: getattr(torch.nn.functional, name)(x, t, **kwargs),
             _rng_arrays(seed, shape, 2), [True, True])


@pytest.mark.parametrize("name", ["l1_loss", "smooth_l1_loss", "huber_loss"])
def test_regression_losses_at_their_kinks_equal_torch(name):
    torch = pytest.importorskip("torch")
    arrays = [np.array([0.0, 1.0, -1.0, 2.0]), np.zeros(4)]
    _compare(getattr(F, name), getattr(torch.nn.functional, name), arrays, [True, True])


def test_smooth_l1_with_beta_0_is_l1():
    x, t = tl.tensor([0.5, -3.0]), tl.zeros(2)
    assert F.smooth_l1_loss(x, t, beta=0.0).item() == F.l1_loss(x, t).item()


@settings(max_examples=40, deadline=None)
@given(SHAPES, REDUCTIONS, st.booleans(), st.integers(0, 99))
def test_binary_cross_entropy_equals_torch(shape, reduction, weighted, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.uniform(0.01, 0.99, size=shape)), np.asarray(rng.uniform(size=shape))]
    w = np.asarray(rng.uniform(size=shape[-1:]))
    _compare(
        lambda x, t: F.binary_cross_entropy(x, t, tl.tensor(w) if weighted else None, reduction=reduction),
        lambda x, t: torch.nn.functional.binary_cross_entropy(x, t, torch.tensor(w) if weighted else None,
                                                              reduction=reduction),
        arrays, [True, True])


def test_binary_cross_entropy_at_saturation_equals_torch():
    torch = pytest.importorskip("torch")
    arrays = [np.array([0.0, 0.0, 1.0, 1.0, 1e-300]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])]
    _compare(F.binary_cross_entropy, torch.nn.functional.binary_cross_entropy, arrays, [True, False], rtol=1e-8)


def test_binary_cross_entropy_is_nan_outside_0_1():
    for value in (-0.5, 1.5):
        assert math.isnan(F.binary_cross_entropy(tl.tensor([value]), tl.tensor([0.5])).item())


def test_binary_cross_entropy_second_derivative_equals_torch():
    torch = pytest.importorskip("torch")
    values, targets = np.array([0.2, 0.7]), np.array([1.0, 0.3])
    x, other = tl.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    (g,) = tl.autograd.grad(F.binary_cross_entropy(x, tl.tensor(targets)), [x], create_graph=True)
    (h,) = torch.autograd.grad(torch.nn.functional.binary_cross_entropy(other, torch.tensor(targets)), [other],
                               create_graph=True)
    g.sum().backward()
    h.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(SHAPES, REDUCTIONS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_binary_cross_entropy_with_logits_equals_torch(shape, reduction, weighted, positive, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=shape) * 3), np.asarray(rng.uniform(size=shape))]
    w, p = np.asarray(rng.uniform(size=shape[-1:])), np.asarray(rng.uniform(0.5, 3, size=shape[-1:]))

    def through(functional, tensor):
        return lambda x, t: functional.binary_cross_entropy_with_logits(
            x, t, tensor(w) if weighted else None, reduction=reduction, pos_weight=tensor(p) if positive else None)

    _compare(through(F, tl.tensor), through(torch.nn.functional, torch.tensor), arrays, [True, True],
             rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("logit", [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_binary_cross_entropy_with_logits_is_exact_in_both_tails(logit, target):
    x = tl.tensor([logit], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, tl.tensor([target]))
    loss.backward()
    signed = -logit if target else logit
    exact = max(signed, 0) + math.log1p(math.exp(-abs(signed)))
    assert loss.item() == pytest.approx(exact, rel=1e-6, abs=1e-44)
    slope = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    assert x.grad.item() == pytest.approx(slope - target, rel=1e-5, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(4,), (3, 2), (2, 3, 2)]), st.sampled_from(["mean", "sum", "none", "batchmean"]), st.booleans(),
       st.integers(0, 99))
def test_kl_div_equals_torch(shape, reduction, log_target, seed):
    import warnings

    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    x = np.log(rng.uniform(0.05, 1, size=shape))
    t = np.log(rng.uniform(0.05, 1, size=shape)) if log_target else rng.uniform(0.05, 1, size=shape)

    def theirs(a, b):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.nn.functional.kl_div(a, b, reduction=reduction, log_target=log_target)

    _compare(lambda a, b: F.kl_div(a, b, reduction=reduction, log_target=log_target), theirs, [x, t], [True, True])


def test_kl_div_of_a_zero_target_is_zero():
    x = tl.tensor([-1.0, -2.0], requires_grad=True)
    loss = F.kl_div(x, tl.tensor([0.0, 1.0]), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == [0.0, 2.0]
    assert x.grad.tolist() == [0.0, -1.0]


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([(4, 3), (1, 2), (3,), (2, 3, 4), (2, 3, 2, 2), (5, 1)]), REDUCTIONS, st.booleans(),
    st.sampled_from([-100, 0, 1]), st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from(["ids", "probabilities", "nll"]),
    st.integers(0, 99),
)
def test_cross_entropy_and_nll_equal_torch(shape, reduction, weighted, ignore, smoothing, kind, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    dim = 1 if len(shape) > 1 else 0
    classes = shape[dim]
    x, w = rng.normal(size=shape) * 3, rng.uniform(0.2, 2, size=classes)
    ids = np.asarray(rng.integers(0, classes, size=shape[:dim] + shape[dim + 1:]))
    if ignore == -100 and ids.ndim:
        ids.flat[0] = ignore
    target = rng.dirichlet(np.ones(classes), size=ids.shape) if kind == "probabilities" else ids
    if kind == "probabilities":
        target, ignore = np.moveaxis(target, -1, dim), -100
    kwargs = {"ignore_index": ignore, "reduction": reduction}
    if kind != "nll":
        kwargs["label_smoothing"] = smoothing

    def through(functional, tensor):
        function = functional.nll_loss if kind == "nll" else functional.cross_entropy
        return lambda a, t: function(a, t, tensor(w) if weighted else None, **kwargs)

    _compare(through(F, tl.tensor), through(torch.nn.functional, torch.tensor), [x, target],
             [True, kind == "probabilities"], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("ids", [[0, 2, 1, 1], [0, -100, 1, 1], [-100, -100, -100, 2]])
def test_plain_cross_entropy_equals_torch_in_float32(ids):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 50
    x, other = tl.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    loss, expected = F.cross_entropy(x, tl.tensor(ids)), torch.nn.functional.cross_entropy(other, torch.tensor(ids))
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-5, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([((3, 4), (3, 4), 1), ((2, 3, 4), (1, 4), -1), ((4,), (4,), 0)]), st.integers(0, 99))
def test_cosine_similarity_equals_torch(case, seed):
    torch = pytest.importorskip("torch")
    first, second, dim = case
    rng = np.random.default_rng(seed)
    _compare(lambda a, b: F.cosine_similarity(a, b, dim), lambda a, b: torch.nn.functional.cosine_similarity(a, b, dim),
             [rng.normal(size=first), rng.normal(size=second)], [True, True])


def test_cosine_similarity_of_zero_is_zero_with_finite_gradient():
    x = tl.zeros(1, 3, requires_grad=True)
    out = F.cosine_similarity(x, tl.ones(1, 3))
    out.sum().backward()
    assert out.tolist() == [0.0]
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("make", [
    lambda n: n.MSELoss(reduction="sum"), lambda n: n.L1Loss(), lambda n: n.SmoothL1Loss(beta=0.5),
    lambda n: n.HuberLoss("none", 2.0), lambda n: n.BCEWithLogitsLoss(), lambda n: n.KLDivLoss(reduction="batchmean"),
])
def test_loss_modules_equal_torch(make):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn), make(torch.nn)
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(2)
    _compare(ours, theirs, [rng.normal(size=(3, 2)), rng.uniform(size=(3, 2))], [True, True], rtol=1e-8)


def test_loss_modules_with_weights_equal_torch_and_keep_them_as_buffers():
    torch = pytest.importorskip("torch")
    weight = np.array([1.0, 2.0, 0.5])
    for name in ("CrossEntropyLoss", "NLLLoss"):
        ours = getattr(nn, name)(tl.tensor(weight), ignore_index=1, reduction="sum")
        theirs = getattr(torch.nn, name)(torch.tensor(weight), ignore_index=1, reduction="sum")
        assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
        _compare(ours, theirs, [np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 2, 2])], [True, False])
    loss = nn.BCEWithLogitsLoss(pos_weight=tl.tensor([2.0]))
    assert list(loss.double().state_dict()) == ["pos_weight"]
    assert loss.pos_weight.dtype is tl.float64
    assert loss(tl.zeros(1, dtype=tl.float64), tl.ones(1, dtype=tl.float64)).item() == pytest.approx(2 * math.log(2))


# --- sample weights -----------------------------------------------------------------------------------------

ROWS = np.array([[0.2, 0.9], [0.5, 0.1], [0.7, 0.4]])
OTHER = np.array([[0.3, 0.8], [0.9, 0.2], [0.1, 0.6]])
WEIGHTS = np.array([1.0, 0.0, 2.5])


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                                  "binary_cross_entropy_with_logits", "kl_div"])
def test_sample_weights_multiply_the_loss_of_each_sample(name):
    function, x, t, w = getattr(F, name), tl.tensor(ROWS), tl.tensor(OTHER), tl.tensor(WEIGHTS)
    each = function(x, t, reduction="none")
    weighted = function(x, t, reduction="none", sample_weight=w)
    np.testing.assert_allclose(weighted.numpy(), each.numpy() * WEIGHTS[:, None])
    assert function(x, t, reduction="sum", sample_weight=w).item() == pytest.approx(weighted.numpy().sum())
    assert function(x, t, sample_weight=w).item() == pytest.approx(weighted.numpy().sum() / 6)
    assert function(x, t, sample_weight=tl.ones(3)).item() == pytest.approx(function(x, t).item())


def test_kl_div_batchmean_with_sample_weights():
    each = F.kl_div(tl.tensor(ROWS), tl.tensor(OTHER), reduction="none").numpy()
    weighted = F.kl_div(tl.tensor(ROWS), tl.tensor(OTHER), reduction="batchmean", sample_weight=tl.tensor(WEIGHTS))
    assert weighted.item() == pytest.approx((each * WEIGHTS[:, None]).sum() / 3)


def test_cross_entropy_with_sample_weights_is_averaged_over_the_samples():
    rows = F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS), reduction="none").numpy()
    weighted = _cross_entropy(sample_weight=tl.tensor(WEIGHTS))
    assert weighted == pytest.approx((rows * WEIGHTS).sum() / 3)
    assert _cross_entropy(target=ONE_HOT, sample_weight=tl.tensor(WEIGHTS)) == pytest.approx(weighted)
    assert _cross_entropy(sample_weight=tl.ones(3)) == pytest.approx(2.6613, abs=5e-5)


def test_cross_entropy_with_sample_and_class_weights_divides_by_the_class_weights():
    classes = tl.tensor([1.0, 2.0, 3.0])
    rows = F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS), classes, reduction="none").numpy()
    assert _cross_entropy(weight=classes, sample_weight=tl.tensor(WEIGHTS)) == pytest.approx((rows * WEIGHTS).sum() / 6)
    assert _cross_entropy(weight=classes, sample_weight=tl.ones(3)) == pytest.approx(2.9308, abs=5e-5)


def test_cross_entropy_with_sample_weights_leaves_out_ignored_samples():
    rows = F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS), reduction="none").numpy()
    weighted = _cross_entropy(ignore_index=2, sample_weight=tl.tensor([2.0, 3.0, 9.0]))
    assert weighted == pytest.approx((2 * rows[0] + 3 * rows[1]) / 2)


def test_sample_weights_of_a_loss_per_position():
    x, ids = np.random.default_rng(0).normal(size=(2, 3, 4)), np.array([[0, 1, 2, 0], [1, 1, 0, 2]])
    rows = F.cross_entropy(tl.tensor(x), tl.tensor(ids), reduction="none").numpy()
    weighted = nn.CrossEntropyLoss()(tl.tensor(x), tl.tensor(ids), sample_weight=tl.tensor([0.5, 3.0]))
    assert weighted.item() == pytest.approx((rows * [[0.5], [3.0]]).sum() / 8)


def test_sample_weights_of_the_sigmoid_network():
    """Cross entropy per sample times a weight, averaged: its gradient in the logit is w·(sigmoid(z) - y)/N."""
    z = tl.tensor([0.3, -1.2, 2.0], requires_grad=True)
    y, w = np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.5, 2.0])
    nn.BCELoss()(tl.sigmoid(z), tl.tensor(y, dtype=tl.float32), sample_weight=tl.tensor(w, dtype=tl.float32)).backward()
    sigma = 1 / (1 + np.exp(-z.detach().numpy()))
    np.testing.assert_allclose(z.grad.numpy(), w * (sigma - y) / 3, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (3, 2), ()])
def test_sample_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match="one weight per sample"):
        F.mse_loss(tl.tensor(ROWS), tl.tensor(OTHER), sample_weight=tl.ones(*shape))
    with pytest.raises(ShapeError, match="one weight per sample"):
        F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS), sample_weight=tl.ones(*shape))


# --- errors -------------------------------------------------------------------------------------------------

TWO_TENSORS = ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
               "binary_cross_entropy_with_logits", "kl_div"]


@pytest.mark.parametrize("name", TWO_TENSORS)
@pytest.mark.parametrize(("first", "second", "cure"), [
    ((4, 1), (4,), "write target.unsqueeze(1) or input.squeeze(1)"),
    ((4,), (4, 1), "write input.unsqueeze(1) or target.squeeze(1)"),
    ((2, 3), (3,), "they must be equal"), ((2, 3), (2, 1), "they must be equal"),
])
def test_different_shapes_are_refused_with_both_shapes_and_a_cure(name, first, second, cure):
    with pytest.raises(ShapeError) as caught:
        getattr(F, name)(tl.ones(*first), tl.ones(*second))
    message = str(caught.value)
    assert str(first) in message and str(second) in message
    assert message.endswith(f"wrong loss; {cure}")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", [*TWO_TENSORS, "cross_entropy", "nll_loss"])
def test_unknown_reduction_is_refused(name):
    x = tl.zeros(2, 3)
    target = tl.tensor([0, 1]) if name in ("cross_entropy", "nll_loss") else x
    with pytest.raises(ArgumentError, match="average is not a valid value for reduction"):
        getattr(F, name)(x, target, reduction="average")


@pytest.mark.parametrize("bad", [3, -1])
@pytest.mark.parametrize("kwargs", [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 1}])
def test_class_ids_out_of_bounds_name_value_and_position(bad, kwargs):
    with pytest.raises(OutOfRangeError, match=rf"Target {bad} is out of bounds") as caught:
        F.cross_entropy(tl.zeros(2, 3), tl.tensor([0, bad]), **kwargs)
    assert " 1" in str(caught.value) or "(1,)" in str(caught.value)
    assert isinstance(caught.value, IndexError)


def test_an_ignored_sample_does_not_hide_a_wrong_one():
    with pytest.raises(OutOfRangeError, match=r"Target 7 is out of bounds"):
        F.cross_entropy(tl.zeros(3, 3), tl.tensor([-100, 7, 0]))
    with pytest.raises(OutOfRangeError, match=r"Target 5 is out of bounds: position \(1, 0\), 3 classes"):
        F.nll_loss(tl.zeros(2, 3, 2), tl.tensor([[0, 1], [5, 0]]))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("kwargs", [{}, {"reduction": "none"}])
def test_cross_entropy_takes_every_integer_dtype(dtype, kwargs):
    loss = F.cross_entropy(tl.tensor(LOGITS), tl.tensor(IDS, dtype=getattr(tl, dtype)), **kwargs)
    assert loss.mean().item() == pytest.approx(2.6613, abs=5e-5)


@pytest.mark.parametrize(("target", "error", "match"), [
    ([[0], [1]], ShapeError, r"target\.squeeze\(1\)"),
    ([0, 1, 1, 0], ShapeError, r"input batch_size \(2\) must match target batch_size \(4\)"),
    ([[0, 1, 0], [1, 0, 0]], DTypeError, "probabilities"),
    ([0.0, 1.0], ShapeError, r"target\.long\(\)"),
    ([True, False], DTypeError, "integers"),
])
def test_cross_entropy_refuses_targets_that_do_not_fit(target, error, match):
    with pytest.raises(error, match=match):
        F.cross_entropy(tl.zeros(2, 3), tl.tensor(target))


@pytest.mark.parametrize("call", [
    lambda: F.cross_entropy(tl.zeros(2, 3), tl.zeros(2, 3), ignore_index=2),
    lambda: F.cross_entropy(tl.zeros(2, 3), tl.tensor([0, 1]), label_smoothing=2.0),
    lambda: F.huber_loss(tl.zeros(2), tl.zeros(2), delta=0.0),
    lambda: F.smooth_l1_loss(tl.zeros(2), tl.zeros(2), beta=-1.0),
])
def test_settings_outside_their_domain_are_refused(call):
    with pytest.raises(ArgumentError):
        call()


def test_class_weights_of_another_shape_are_refused():
    for target in (tl.tensor([0, 1]), tl.zeros(2, 3)):
        with pytest.raises(ShapeError, match="all 3 classes"):
            F.cross_entropy(tl.zeros(2, 3), target, tl.ones(2))


def test_nll_refuses_floating_targets():
    with pytest.raises(DTypeError, match=r"target\.long\(\)"):
        F.nll_loss(tl.zeros(2, 3), tl.zeros(2))


def test_cross_entropy_of_a_scalar_is_refused():
    with pytest.raises(ShapeError, match="class dimension"):
        F.cross_entropy(tl.tensor(1.0), tl.tensor(0))
