"""What the fuzzers found, one test each; docs/fuzzing.md tells of them. No test needs PyTorch: the values are its."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.nn import functional as F


def leaf(*values: float) -> tl.Tensor:
    return tl.tensor(list(values), dtype=tl.float64, requires_grad=True)


def test_logaddexp_of_equals_bends() -> None:
    x, y = leaf(1.0), leaf(1.0)
    (g,) = tl.autograd.grad(tl.logaddexp(x, y), x, create_graph=True)
    assert tl.autograd.grad(g, x)[0] == 0.25


def test_logaddexp_of_equal_infinities_shares() -> None:
    x, y = leaf(-math.inf), leaf(-math.inf)
    tl.logaddexp(x, y).sum().backward()
    assert x.grad is not None and y.grad is not None and x.grad == 0.5 and y.grad == 0.5


def test_linear_of_no_features_has_gradients(device: str) -> None:
    x, w = tl.zeros(2, 3, 0, device=device, requires_grad=True), tl.zeros(4, 0, device=device, requires_grad=True)
    F.linear(x, w).sum().backward()
    assert x.grad is not None and w.grad is not None and (x.grad.shape, w.grad.shape) == ((2, 3, 0), (4, 0))


def test_prelu_looks_at_the_weight_below_zero_only() -> None:
    assert F.prelu(leaf(2.0, -1.0), leaf(math.inf)).tolist() == [2.0, -math.inf]
    assert F.prelu(leaf(2.0), leaf(math.nan)).tolist() == [2.0]


def test_prelu_without_channels_keeps_its_shape() -> None:
    assert F.prelu(tl.zeros(3, 0, 4, 1), tl.zeros(0)).shape == (3, 0, 4, 1)


def test_cosine_similarity_broadcasts_along_its_dimension() -> None:
    result = F.cosine_similarity(leaf(3.0, 4.0), leaf(2.0), dim=0)
    assert result.item() == pytest.approx(7 / (5 * math.sqrt(2)))


def test_cosine_similarity_counts_dimensions_after_broadcasting() -> None:
    assert F.cosine_similarity(leaf(3.0, 4.0), tl.ones(3, 2, dtype=tl.float64), dim=-2).shape == (2,)


def test_kl_div_of_one_number_is_a_batch_of_one() -> None:
    x, t = tl.tensor(-0.5), tl.tensor(0.25)
    assert F.kl_div(x, t, reduction="batchmean").item() == pytest.approx(0.25 * (math.log(0.25) + 0.5))


def test_clamp_of_bools_takes_the_numbers_dtype() -> None:
    assert tl.clamp(tl.tensor([True, False]), min=0.5).tolist() == [1.0, 0.5]
    assert tl.clamp(tl.tensor([True, False]), -1, 0).dtype is tl.int64


def test_relu6_of_integers_gives_integers() -> None:
    assert tl.equal(F.relu6(tl.tensor([-1, 3, 9])), tl.tensor([0, 3, 6]))


@pytest.mark.parametrize("function", ["cumsum", "cumprod", "softmax", "log_softmax"])
def test_a_number_has_one_dimension_to_go_along(function: str) -> None:
    assert getattr(tl, function)(tl.tensor(2.0), -1).shape == ()
    with pytest.raises(tl.OutOfRangeError, match=function):
        getattr(tl, function)(tl.tensor(2.0), 1)


def test_a_number_is_not_permuted() -> None:
    with pytest.raises(tl.ShapeError, match="permute"):
        tl.tensor(2.0).permute(0)


def test_masked_scatter_needs_no_source_where_nothing_is_masked(device: str) -> None:
    x, mask = tl.ones(2, device=device), tl.zeros(2, dtype=tl.bool, device=device)
    assert tl.masked_scatter(x, mask, tl.zeros(0, device=device)).tolist() == [1.0, 1.0]


def test_masked_scatter_of_nothing_keeps_the_history() -> None:
    source = tl.zeros(0, requires_grad=True)
    assert tl.masked_scatter(tl.zeros(0), tl.zeros(0, dtype=tl.bool), source).requires_grad


def test_attention_derives_in_the_values_alone(device: str) -> None:
    q, k = tl.ones(1, 2, 3, device=device), tl.ones(1, 4, 3, device=device)
    v = tl.ones(1, 4, 2, device=device, requires_grad=True)
    F.scaled_dot_product_attention(q, k, v).sum().backward()
    assert v.grad is not None
    np.testing.assert_allclose(v.grad.cpu().numpy(), np.full((1, 4, 2), 0.5), rtol=1e-6)


def test_a_power_of_a_number_derives_at_infinity() -> None:
    x = leaf(-math.inf, 2.0)
    tl.pow(1.5, x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, pytest.approx(2.25 * math.log(1.5))]


def test_repeat_interleave_by_a_number_can_be_captured(device: str) -> None:
    step = tl.capture(lambda x: x.repeat_interleave(2, 0) + 1)
    for i in range(3):
        assert step(tl.full((2,), float(i), device=device)).tolist() == [i + 1.0] * 4


def test_inner_of_no_features_is_zero() -> None:
    assert tl.inner(tl.zeros(2, 0), tl.zeros(3, 0)).tolist() == [[0.0] * 3] * 2


def test_the_covariance_of_one_row_is_a_number() -> None:
    assert tl.cov(tl.tensor([[1.0, 3.0]])).shape == tl.corrcoef(tl.tensor([[1.0, 3.0]])).shape == ()
    assert tl.cov(tl.tensor([[1.0, 3.0]])).item() == 2.0


def test_multi_margin_loss_has_derivative_0_at_its_corner() -> None:
    x = leaf(-0.5, 0.0)
    F.multi_margin_loss(x, tl.tensor(1), margin=0.5).backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0]


def test_cumprod_of_float16_derives_in_float32() -> None:
    x = tl.tensor([60000.0, 2.0, 0.0, 1.0], dtype=tl.float16, requires_grad=True)
    tl.cumprod(x, 0).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [3.0, 60000.0, math.inf, 0.0]
