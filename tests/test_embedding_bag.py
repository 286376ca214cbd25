"""EmbeddingBag against torch, in eager and captured steps; max_norm of tables; one_hot in captured steps; errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tensorlite.nn import functional as F

ROWS, DIM = 6, 3
MATRIX = np.array([[0, 5, 2, 2], [1, 1, 1, 1], [3, 1, 4, 0]])
VECTOR = np.array([0, 5, 2, 2, 1, 3, 1])
BAGS = {"matrix": (MATRIX, None), "one bag": (VECTOR, np.array([0])), "bags": (VECTOR, np.array([0, 3, 4])),
        "empty bags": (VECTOR, np.array([0, 0, 3, 3, 7, 7])), "nothing": (VECTOR[:0], np.array([0, 0])),
        "no bags of a matrix": (MATRIX[:0], None)}
MODES = ("sum", "mean", "max")


def table(dtype: Any = np.float64) -> np.ndarray:
    values = np.random.default_rng(0).uniform(-1, 1, (ROWS, DIM)).astype(dtype)
    values[4] = values[3]  # equal maxima: the first gets the gradient
    return values


def placed(array: np.ndarray | None, device: str) -> tl.Tensor | None:
    return None if array is None else tl.tensor(array, device=device)


@pytest.mark.parametrize(("bags", "mode", "padding", "last"), [
    (bags, mode, padding, last) for bags, mode, padding, last in itertools.product(BAGS, MODES, (None, 1, -5), (0, 1))
    if not last or BAGS[bags][1] is not None])
def test_bags_equal_torch(bags: str, mode: str, padding: int | None, last: int, device: str) -> None:
    torch = pytest.importorskip("torch")
    index, offsets = BAGS[bags]
    if last:
        offsets = np.append(offsets, len(index))
    options: dict[str, Any] = {"mode": mode, "padding_idx": padding, "include_last_offset": bool(last)}
    mine = tl.tensor(table(), device=device, requires_grad=True)
    theirs = torch.tensor(table(), requires_grad=True)
    a = F.embedding_bag(tl.tensor(index, device=device), mine, placed(offsets, device), **options)
    b = torch.nn.functional.embedding_bag(torch.tensor(index), theirs,
                                          None if offsets is None else torch.tensor(offsets), **options)
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), 1e-12, 1e-12)
    weight = np.random.default_rng(1).uniform(-1, 1, a.shape)
    (a * tl.tensor(weight, device=device)).sum().backward()
    (b * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(mine.grad.cpu().numpy(), theirs.grad.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_empty_bags_of_a_matrix_give_zeros(mode: str, device: str) -> None:
    """Where torch fails."""
    out = F.embedding_bag(tl.zeros(2, 0, dtype=tl.int64, device=device), tl.tensor(table(), device=device), mode=mode)
    assert out.tolist() == [[0.0] * DIM] * 2


@pytest.mark.parametrize("bags", ["matrix", "bags"])
def test_weights_of_samples_equal_torch(bags: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    index, offsets = BAGS[bags]
    weights = np.random.default_rng(2).uniform(-1, 1, index.shape)
    mine = [tl.tensor(v, device=device, requires_grad=True) for v in (table(), weights)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (table(), weights)]
    a = F.embedding_bag(tl.tensor(index, device=device), mine[0], placed(offsets, device), mode="sum",
                        per_sample_weights=mine[1], padding_idx=1)
    b = torch.nn.functional.embedding_bag(torch.tensor(index), theirs[0],
                                          None if offsets is None else torch.tensor(offsets), mode="sum",
                                          per_sample_weights=theirs[1], padding_idx=1)
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), 1e-12, 1e-12)
    a.square().sum().backward()
    b.square().sum().backward()
    for x, y in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(x.grad.cpu().numpy(), y.grad.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("options", [{}, {"mode": "sum", "padding_idx": 1}, {"max_norm": 0.5, "norm_type": 1.0},
                                     {"mode": "max", "include_last_offset": True}], ids=str)
def test_the_layer_equals_torch(options: dict[str, Any], device: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.EmbeddingBag(ROWS, DIM, **options)
    ours = nn.EmbeddingBag(ROWS, DIM, **options).to(device)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: tl.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    offsets = np.array([0, 3, 7])
    a = ours(tl.tensor(VECTOR, device=device), tl.tensor(offsets, device=device))
    b = theirs(torch.tensor(VECTOR), torch.tensor(offsets))
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), 1e-6, 1e-6)
    np.testing.assert_allclose(ours.weight.detach().cpu().numpy(), theirs.weight.detach().numpy(), 1e-6)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
def test_max_norm_of_an_embedding_equals_torch(norm_type: float, device: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Embedding(ROWS, DIM, max_norm=0.7, norm_type=norm_type)
    ours = nn.Embedding(ROWS, DIM, max_norm=0.7, norm_type=norm_type).to(device)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: tl.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    a, b = ours(tl.tensor(MATRIX[:1], device=device)), theirs(torch.tensor(MATRIX[:1]))
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), 1e-5)
    np.testing.assert_allclose(ours.weight.detach().cpu().numpy(), theirs.weight.detach().numpy(), 1e-5)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(ours.weight.grad.cpu().numpy(), theirs.weight.grad.numpy(), 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_captured_bags_may_change_from_step_to_step(mode: str, device: str) -> None:
    layer = nn.EmbeddingBag(ROWS, DIM, mode=mode).to(device)

    def step(index: tl.Tensor, offsets: tl.Tensor) -> tl.Tensor:
        return layer(index, offsets).detach()

    captured = tl.capture(step)
    for k in range(5):
        random = np.random.default_rng(k)
        index = tl.tensor(random.integers(0, ROWS, 8), device=device)
        offsets = tl.tensor(np.sort(np.append(0, random.integers(0, 9, 3))), device=device)
        assert tl.equal(captured(index, offsets), step(index, offsets))


def test_one_hot_in_a_captured_step(device: str) -> None:
    captured = tl.capture(lambda y: F.one_hot(y, 4))
    for k in range(4):
        y = tl.tensor(np.random.default_rng(k).integers(0, 4, (2, 3)), device=device)
        np.testing.assert_array_equal(captured(y).cpu().numpy(), np.eye(4, dtype=np.int64)[y.cpu().numpy()])


def test_one_hot_reports_a_class_out_of_range(device: str) -> None:
    with pytest.raises(OutOfRangeError, match="7"):
        F.one_hot(tl.tensor([0, 7], device=device), 4).cpu()


def test_an_index_or_offset_out_of_range_is_refused(device: str) -> None:
    weight = tl.tensor(table(), device=device)
    for index, offsets in (([0, 6], [0]), ([0, -1], [0]), ([0, 1], [1]), ([0, 1], [0, 3])):
        with pytest.raises(OutOfRangeError):
            F.embedding_bag(tl.tensor(index, device=device), weight, tl.tensor(offsets, device=device)).cpu()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda i, w: F.embedding_bag(i, w), ShapeError, "without offsets"),
    (lambda i, w: F.embedding_bag(i.reshape(1, -1), w, i), ShapeError, "with offsets"),
    (lambda i, w: F.embedding_bag(i, w, i[:1], mode="median"), ArgumentError, "sum, mean or max"),
    (lambda i, w: F.embedding_bag(i, w, i[:1], per_sample_weights=w[:2, 0]), ArgumentError, "mode='sum'"),
    (lambda i, w: F.embedding_bag(i, w, i[:1], mode="sum", per_sample_weights=w[:1, 0]), ArgumentError, "shape"),
    (lambda i, w: F.embedding_bag(i, w, i[:1], mode="sum", per_sample_weights=i), DTypeError, "weight's dtype float"),
    (lambda i, w: F.embedding_bag(i, w, i[:1].float()), DTypeError, r"offsets must be integers \(bags,\), got float32"),
    (lambda i, w: F.embedding_bag(i, w, i[None]), DTypeError, r"of shape \(1, 2\)"),
    (lambda i, w: F.embedding([0, 1], w), DTypeError, "expected a Tensor of indices, got list"),
    (lambda i, w: F.embedding_bag(i, w, i[:1], scale_grad_by_freq=True), ArgumentError, "scale_grad_by_freq=True"),
    (lambda i, w: F.embedding(i, w, sparse=True), ArgumentError, "sparse=True is not supported"),
    (lambda i, w: nn.Embedding(3, 2, sparse=True), ArgumentError, "Embedding: sparse=True"),
    (lambda i, w: nn.EmbeddingBag(3, 2, mode="min"), ArgumentError, "got 'min'"),
    (lambda i, w: nn.EmbeddingBag(3, 2, padding_idx=3), ArgumentError, "padding_idx"),
])
def test_errors(call: Callable[[Any, Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tl.tensor([0, 1]), tl.tensor(table()))
