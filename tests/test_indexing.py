"""Index expressions: what they select, copy and write, the gradients, and what they refuse. NumPy is the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl

X = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
MASK = X % 5 == 0
BASIC = {
    "int": 1, "negative int": -1, "two ints": (1, -2), "three ints": (0, 2, 3), "slice": slice(1, None),
    "steps": (slice(None), slice(None, None, 2)), "negative step": slice(None, None, -1),
    "negative steps": (slice(None, None, -1), slice(2, 0, -1), slice(None, None, -3)), "dots": (..., 1),
    "dots in the middle": (0, ..., 2), "none": (None, 0, None, ..., None), "nothing": (), "only dots": ...,
    "empty slice": slice(5, 9), "out of range slice": (slice(-9, 9), slice(2, 1)), "numpy int": np.int64(1),
}
ADVANCED = {
    "list": [1, 0, 1], "negative list": [-1, 0], "array": np.array([[1, 0], [0, 1]]),
    "list in second place": (slice(None), [2, 0]),
    "two arrays": ([0, 1, 1], [2, 0, 0]), "broadcast arrays": ([[0], [1]], [2, 0, 1]),
    "three arrays": ([0, 1], [1, 2], [3, 0]),
    "array and slice": ([1, 0], slice(1, 3)), "slice between": ([0, 1], slice(None), [1, 3]), "empty list": [],
    "mask": MASK, "row mask": np.array([False, True]), "mask of two": MASK[..., 0],
    "mask and int array": (MASK[:, 0, 0], [0, 1]), "true": True, "false": False,
    "slice and mask": (slice(None), np.array([True, False, True])), "dots and array": (..., [3, 1]),
    "none and array": (None, [1, 0]), "small ints": np.array([1, 0], np.uint8),
}
EVERY = BASIC | ADVANCED


@pytest.mark.parametrize("name", EVERY)
def test_selection(name: str) -> None:
    key = EVERY[name]
    x = tl.tensor(X)
    selected, expected = x[key], X[key]
    assert selected.shape == expected.shape
    np.testing.assert_array_equal(selected.numpy(), expected)
    assert np.shares_memory(selected.numpy(), x.numpy()) == (name in BASIC and selected.numel() > 0)


@pytest.mark.parametrize("name", EVERY)
def test_gradient_of_selection(name: str) -> None:
    key = EVERY[name]
    x = tl.tensor(X, requires_grad=True)
    weights = np.arange(1.0, 1 + X[key].size).reshape(X[key].shape)
    x[key].backward(tl.tensor(weights))
    expected = np.zeros_like(X)
    np.add.at(expected, key, weights)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("recorded", [False, True], ids=["raw", "recorded"])
@pytest.mark.parametrize("name", EVERY)
def test_assignment(name: str, recorded: bool) -> None:
    """A number, an array of the selected shape, and one that broadcasts; with duplicates the last one wins."""
    key = EVERY[name]
    shape = X[key].shape
    for value in (-1.0, -1 - np.arange(float(math.prod(shape))).reshape(shape), np.full(shape[-1:], -2.0)):
        expected = X.copy()
        expected[key] = value
        source = tl.tensor(value, dtype=tl.float64, requires_grad=recorded)
        x = tl.tensor(X, requires_grad=recorded) * 1
        x[key] = source
        np.testing.assert_array_equal(x.detach().numpy(), expected)
        if recorded:
            assert x.requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_gradients_of_assignment(name: str) -> None:
    key = EVERY[name]
    before = tl.tensor(X, requires_grad=True)
    value = tl.tensor(np.ones(X[key].shape), requires_grad=True)
    x = before * 1
    x[key] = value
    weights = 1 + X
    x.backward(tl.tensor(weights))
    kept = weights.copy()
    kept[key] = 0
    np.testing.assert_array_equal(before.grad.numpy(), kept)
    owners = np.full(X.shape, -1)
    numbers = np.arange(value.numel()).reshape(value.shape)
    owners[key] = numbers
    np.testing.assert_array_equal(value.grad.numpy(), np.where(owners[key] == numbers, weights[key], 0))


@st.composite
def numpy_keys(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and a key of ints, slices, None and at most one array or mask, on which NumPy and PyTorch agree."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    items: list[Any] = []
    special = draw(st.integers(0, len(shape)))  # the dimension that gets an array, if any
    for i, n in enumerate(shape[:draw(st.integers(0, len(shape)))]):
        bound = st.none() | st.integers(-n - 1, n + 1)
        simple = st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1, -2]))
        if i == special:
            items.append(draw(st.lists(st.integers(-n, n - 1), max_size=3).map(lambda v: np.array(v, np.int64))
                              | st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)))
        else:
            items.append(draw(simple if special < len(shape) else simple | st.integers(-n, n - 1)))
    if draw(st.booleans()):
        items.insert(0, None)
    return shape, tuple(items)


@settings(max_examples=200)
@given(numpy_keys())
def test_random_keys(shape_and_key: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, key = shape_and_key
    x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    t = tl.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(t[key].detach().numpy(), x[key])
    t[key].sum().backward()
    expected = np.zeros_like(x)
    np.add.at(expected, key, 1.0)
    np.testing.assert_array_equal(t.grad.numpy(), expected)
    written = t.detach().clone()
    written[key] = -1.0
    x[key] = -1.0
    np.testing.assert_array_equal(written.numpy(), x)


# --- where PyTorch and NumPy part -------------------------------------------------------------------------------------


def test_an_int_selects_before_arrays_do_as_in_pytorch() -> None:
    x = tl.tensor(X)
    assert x[0, :, [1, 2]].shape == (3, 2)
    assert X[0, :, [1, 2]].shape == (2, 3)
    np.testing.assert_array_equal(x[0, :, [1, 2]].numpy(), X[0][:, [1, 2]])
    np.testing.assert_array_equal(x[:, 1, [0, 3]].numpy(), X[:, 1][:, [0, 3]])


def test_tensors_as_keys() -> None:
    x = tl.tensor(X)
    np.testing.assert_array_equal(x[tl.tensor(1)].numpy(), X[1])
    assert np.shares_memory(x[tl.tensor(1)].numpy(), x.numpy()), "a 0-d integer is an int"
    np.testing.assert_array_equal(x[tl.tensor([1, 0])].numpy(), X[[1, 0]])
    np.testing.assert_array_equal(x[tl.tensor([[1]], dtype=tl.int8), tl.tensor([2, 0])].numpy(), X[[[1]], [2, 0]])
    np.testing.assert_array_equal(x[x > 7].numpy(), X[X > 7])
    np.testing.assert_array_equal(x[:, tl.tensor([True, False, True])].numpy(), X[:, [True, False, True]])
    assert x[tl.tensor(1):].shape == (1, 3, 4)


def test_an_index_may_change_after_use() -> None:
    x, index = tl.tensor(X, requires_grad=True), np.array([1, 1])
    y = x[index]
    index[:] = 0
    y.sum().backward()
    assert x.grad[1].sum().item() == 24
    assert x.grad[0].sum().item() == 0


def test_duplicates_add_in_gradients_and_the_last_one_wins_in_writes() -> None:
    x = tl.zeros(3, requires_grad=True)
    x[[1, 1, 2]].backward(tl.tensor([1.0, 2.0, 4.0]))
    assert x.grad.tolist() == [0, 3, 4]
    y = tl.zeros(3)
    y[[1, 1, 2]] = tl.tensor([1.0, 2.0, 4.0])
    assert y.tolist() == [0, 2, 4]
    assert tl.zeros(2).index_add(0, tl.tensor([1, 1]), tl.tensor([1.0, 2.0])).tolist() == [0, 3]
    assert tl.zeros(2).scatter(0, tl.tensor([1, 1]), tl.tensor([1.0, 2.0])).tolist() == [0, 2]


def test_assignment_through_a_view_reaches_the_root() -> None:
    x = tl.zeros(3, 4)
    x[1][2] = 5
    x.T[0, 2] = 7
    x[::-1][:, ::2][0] = 1
    assert x.tolist() == [[0, 0, 0, 0], [0, 0, 5, 0], [1, 0, 1, 0]]


def test_assignment_converts_to_the_tensors_dtype() -> None:
    x = tl.zeros(3, dtype=tl.int32)
    x[0] = 2.9
    x[1] = tl.tensor(True)
    x[2:] = np.array([7.5])
    assert x.tolist() == [2, 1, 7]
    x[:2] = [4, 5]
    assert x.tolist() == [4, 5, 7]


def test_a_value_may_have_surplus_leading_dimensions_of_one() -> None:
    x = tl.zeros(2, 3)
    x[0] = tl.ones(1, 3)
    x[1, :2] = tl.full((1, 1, 2), 5.0)
    x[1, 2] = tl.tensor([7.0])
    assert x.tolist() == [[1, 1, 1], [5, 5, 7]]


def test_iteration_and_unpacking_carry_gradients() -> None:
    x = tl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    a, b, c = x
    (a * 2 + b * 3 + c).backward()
    assert x.grad.tolist() == [2, 3, 1]


@pytest.mark.parametrize(("key", "error", "message"), [
    (2, IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
    ((0, -4), IndexError, "index -4 is out of bounds for dimension 1 with size 3"),
    ((0, 0, 0, 0), IndexError, "too many indices for tensor of dimension 3"),
    ([0, 2], IndexError, r"index 2 at position \(1,\) is out of bounds for dimension 0 with size 2"),
    ((slice(None), [[0], [-4]]), IndexError, r"index -4 at position \(1, 0\) is out of bounds for dimension 1"),
    (([0, 1], [0, 1, 2]), ValueError, r"shapes \(2,\) and \(3,\) do not broadcast"),
    ((..., ...), ValueError, "a single ellipsis"),
    (np.array([True, False, True]), IndexError, r"mask of shape \(3,\) does not fit"),
    (np.ones((2, 3, 4, 1), bool), IndexError, "too many indices"),
    (1.5, TypeError, "index must hold integers, got float64"),
    ([0.5], TypeError, "index must hold integers, got float64"),
    ("a", TypeError, "index"),
    (slice(None, None, 0), ValueError, "step"),
    (slice(1.5, None), TypeError, "slice"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_refusals(key: Any, error: type[Exception], message: str) -> None:
    for use in (lambda x: x[key], lambda x: x.__setitem__(key, 1.0)):
        x = tl.tensor(X)
        with pytest.raises(error, match=message) as caught:
            use(x)
        assert isinstance(caught.value, tl.TensorliteError)
        np.testing.assert_array_equal(x.numpy(), X)


@pytest.mark.parametrize(("key", "value"), [
    (0, np.ones(3)), ([0, 1], np.ones((3, 4, 4))), (MASK, np.ones(2)), ((), np.ones(5)), (0, np.ones((2, 3, 4)))])
def test_values_that_do_not_fit_are_refused(key: Any, value: np.ndarray) -> None:
    for requires_grad in (False, True):
        x = tl.tensor(X, requires_grad=requires_grad) * 1
        with pytest.raises(tl.ShapeError, match="setitem: a value of shape"):
            x[key] = tl.tensor(value)
        np.testing.assert_array_equal(x.detach().numpy(), X)
