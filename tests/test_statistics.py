"""Functions composed of the primitives, beside PyTorch's: arguments, ties, NaN, dtypes and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from case import listed

import tensorlite as tl

torch = pytest.importorskip("torch")

NAN = math.nan
ROWS = np.array([[3.0, -1.0, 2.0, 2.0, 0.5], [0.0, 7.0, -4.0, 1.5, 2.5]])
SPOILT = np.array([[3.0, NAN, 2.0], [0.0, 7.0, -4.0], [NAN, NAN, NAN]])
Call = Callable[[Any, Any], Any]

CALLS: dict[str, tuple[Call, np.ndarray]] = {
    **{f"quantile {q} {dim} {keepdim} {how}": (
        lambda m, x, q=q, dim=dim, keepdim=keepdim, how=how: m.quantile(
            x, m.tensor(q, dtype=x.dtype) if isinstance(q, list) else q, dim, keepdim, interpolation=how), ROWS)
       for q, how in ((0.3, "linear"), ([0.0, 0.25, 1.0], "linear"), ([0.6], "nearest"), (0.5, "midpoint"))
       for dim in (None, 0, -1) for keepdim in (False, True)},
    "quantile nan": (lambda m, x: m.quantile(x, 0.5, dim=1), SPOILT),
    "nansum": (lambda m, x: m.nansum(x), SPOILT),
    "nansum dims": (lambda m, x: m.nansum(x, (0, 1), keepdim=True), SPOILT),
    "nanmean": (lambda m, x: m.nanmean(x[:2], 1), SPOILT),
    "std_mean": (lambda m, x: m.std_mean(x, 1, keepdim=True), ROWS),
    "std_mean all": (lambda m, x: m.std_mean(x), ROWS),
    "std_mean biased": (lambda m, x: m.std_mean(x, False), ROWS),
    "var_mean": (lambda m, x: m.var_mean(x, 0, correction=0), ROWS),
    "aminmax": (lambda m, x: m.aminmax(x, dim=1, keepdim=True), ROWS),
    "aminmax all": (lambda m, x: m.aminmax(x), ROWS),
    "histc": (lambda m, x: m.histc(x.detach(), 7, -2, 3), ROWS),
    "histc own range": (lambda m, x: m.histc(x.detach(), 5), ROWS),
    "histc of equals": (lambda m, x: m.histc(x.detach() * 0 + 2, 4), ROWS),
    "cov": (lambda m, x: m.cov(x), ROWS),
    "cov vector": (lambda m, x: m.cov(x[0], correction=0), ROWS),
    "corrcoef": (lambda m, x: m.corrcoef(x), ROWS),
    "corrcoef vector": (lambda m, x: m.corrcoef(x[0].detach()), ROWS),
    "cdist": (lambda m, x: m.cdist(x, x[:1] * 2), ROWS),
    "cdist 3": (lambda m, x: m.cdist(x, x[:1] + 1, p=3.0), ROWS),
    "cdist 0": (lambda m, x: m.cdist(x.detach(), x.detach()[:1], p=0.0), ROWS),
    "cdist of equals": (lambda m, x: m.cdist(x, x), ROWS),
    "fmax": (lambda m, x: m.fmax(x, x.flip(0)), SPOILT),
    "fmin ties": (lambda m, x: m.fmin(x, x.detach()), ROWS),
    "cross": (lambda m, x: m.cross(x[:, :3], x[:, 2:], dim=1), ROWS),
    "inner": (lambda m, x: m.inner(x, x.flip(1)), ROWS),
    "kron": (lambda m, x: m.kron(x, x[:1]), ROWS),
    "logit": (lambda m, x: m.logit(m.sigmoid(x), eps=0.2), ROWS),
    "logit at the ends": (lambda m, x: m.logit(x.detach().clamp(0, 1)), ROWS),
    "frac": (lambda m, x: m.frac(x * 0.7), ROWS),
    "clamp_min": (lambda m, x: x.clamp_min(2).clamp_max(2.5), ROWS),
    "clamp_min tensor": (lambda m, x: m.clamp_min(x, x.detach().flip(0)), ROWS),
    "baddbmm": (lambda m, x: m.baddbmm(x[None, :, :2], x[None], x.t()[None], beta=2, alpha=0.5), ROWS),
    "addmv": (lambda m, x: m.addmv(x[:, 0], x, x[0], beta=0.5), ROWS),
    "diagflat": (lambda m, x: m.diagflat(x, -2), ROWS),
    "msort": (lambda m, x: m.msort(x), ROWS),
    "sgn": (lambda m, x: m.sgn(x) + m.absolute(x), ROWS),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_numbers_and_gradients_are_pytorchs(name: str, dtype: str) -> None:
    function, values = CALLS[name]
    ours = tl.tensor(values, dtype=getattr(tl, dtype), requires_grad=True)
    theirs = torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=True)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    results, expected = listed(function(tl, ours)), listed(function(torch, theirs))
    for x, y in zip(results, expected, strict=True):
        assert (x.shape, x.dtype.name) == (tuple(y.shape), str(y.dtype).removeprefix("torch."))
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), tolerance, tolerance)
    if any(y.requires_grad for y in expected):
        sum((x.nan_to_num() * 1.5).sum() for x in results).backward()
        sum((y.nan_to_num() * 1.5).sum() for y in expected).backward()
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), tolerance, tolerance)


INTEGERS = np.array([0, 3, 3, 1])
COUNTS: dict[str, tuple[Call, np.ndarray]] = {
    "bincount": (lambda m, x: m.bincount(x), INTEGERS),
    "bincount long": (lambda m, x: m.bincount(x, minlength=9), INTEGERS),
    "bincount weights": (lambda m, x: m.bincount(x, m.tensor([0.5, 1.0, 2.0, 4.0])), INTEGERS),
    "bincount doubles": (lambda m, x: m.bincount(x, x.double(), 2), INTEGERS),
    "bincount integer weights": (lambda m, x: m.bincount(x, x), INTEGERS),
    "bincount bytes": (lambda m, x: m.bincount(x.to(m.uint8)), INTEGERS),
    "bincount of nothing": (lambda m, x: m.bincount(x[:0], minlength=2), INTEGERS),
    "isin": (lambda m, x: m.isin(x, m.tensor([3, 7])), INTEGERS),
    "isin invert": (lambda m, x: m.isin(x.reshape(2, 2), m.tensor([[1], [0]]), invert=True), INTEGERS),
    "isin of nothing": (lambda m, x: m.isin(x, x[:0]), INTEGERS),
    "isin number": (lambda m, x: m.isin(x, 3), INTEGERS),
    "number isin": (lambda m, x: m.isin(3, x), INTEGERS),
    "isin nan": (lambda m, x: m.isin(m.tensor([NAN, 1.0]), m.tensor([NAN, 2.0])), INTEGERS),
    "isin mixed": (lambda m, x: m.isin(x, m.tensor([0.5, 3.0])), INTEGERS),
    "argwhere": (lambda m, x: m.argwhere(x), INTEGERS),
    "nansum of integers": (lambda m, x: m.nansum(x), INTEGERS),
    "deg2rad": (lambda m, x: m.deg2rad(x * 90) + m.rad2deg(x), INTEGERS),
    "isposinf": (lambda m, x: m.isposinf(x / 0 - m.isneginf(-x / 0).float()), INTEGERS),
    "greater": (lambda m, x: m.greater(x, 1) & m.less_equal(x, 3) | m.not_equal(x, x), INTEGERS),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_questions_are_pytorchs(name: str) -> None:
    function, values = COUNTS[name]
    ours, theirs = function(tl, tl.tensor(values)), function(torch, torch.tensor(values))
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-6)


def test_a_quantile_of_16_bits_is_that_of_float32_rounded_once() -> None:
    x = tl.tensor([1.0, 1.0078125, 3.0], dtype=tl.bfloat16)
    assert tl.quantile(x, 0.25).item() == tl.quantile(x.float(), 0.25).bfloat16().item()


def test_questions() -> None:
    x = tl.ones(2, 3)
    assert tl.is_tensor(x) and not tl.is_tensor(x.numpy()) and tl.numel(x) == 6
    assert tl.is_floating_point(x) and not tl.is_floating_point(x.long())
    assert tl.is_nonzero(tl.tensor(2)) and not tl.is_nonzero(tl.tensor([0.0]))
    assert isinstance(x.shape, tl.Size) and tl.Size([2, 3]) == x.shape
    for a in ("bool", "uint8", "int64", "float16", "float64"):
        for b in ("bool", "int8", "int32", "bfloat16", "float32"):
            expected = torch.can_cast(getattr(torch, a), getattr(torch, b))
            assert tl.can_cast(getattr(tl, a), getattr(tl, b)) == expected, (a, b)
