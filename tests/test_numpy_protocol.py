"""NumPy's functions on Tensors: a Tensor with its gradient comes out, or a refusal; never a silent copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl

X = np.array([[0.5, 2.0, 1.5], [3.0, 0.25, 1.0]])
UFUNCS = """absolute negative positive square reciprocal exp exp2 expm1 log log2 log10 log1p sqrt sin cos tan arctan
    sinh cosh tanh arcsinh floor ceil trunc rint sign isnan isinf isfinite signbit logical_not""".split()
BINARY_UFUNCS = """add subtract multiply divide true_divide floor_divide remainder fmod power float_power maximum
    minimum arctan2 copysign logaddexp equal not_equal less less_equal greater greater_equal logical_and logical_or
    logical_xor""".split()
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x: np.sum(x), "sum axis": lambda x: np.sum(x, axis=0),
    "sum keepdims": lambda x: np.sum(x, 1, keepdims=True),
    "sum dtype": lambda x: np.sum(x, None, np.float64), "mean": lambda x: np.mean(x, axis=(0, 1)),
    "prod": lambda x: np.prod(x, -1),
    "max": lambda x: np.max(x, axis=1), "amin": lambda x: np.amin(x), "argmax": lambda x: np.argmax(x, axis=0),
    "argmin": lambda x: np.argmin(x), "all": lambda x: np.all(x > 0), "any": lambda x: np.any(x > 2, axis=0),
    "var": lambda x: np.var(x), "var ddof": lambda x: np.var(x, axis=1, ddof=1), "std": lambda x: np.std(x, 0),
    "cumsum": lambda x: np.cumsum(x), "cumsum axis": lambda x: np.cumsum(x, axis=1),
    "cumprod": lambda x: np.cumprod(x, 0),
    "count_nonzero": lambda x: np.count_nonzero(x, axis=0), "norm": lambda x: np.linalg.norm(x),
    "norm axis": lambda x: np.linalg.norm(x, ord=1, axis=1, keepdims=True), "shape": lambda x: np.shape(x),
    "ndim": lambda x: np.ndim(x), "size": lambda x: np.size(x), "reshape": lambda x: np.reshape(x, (3, -1)),
    "ravel": lambda x: np.ravel(x), "transpose": lambda x: np.transpose(x),
    "transpose axes": lambda x: np.transpose(x, (1, 0)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1), "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "squeeze": lambda x: np.squeeze(x[:1]), "expand_dims": lambda x: np.expand_dims(x, 1),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 2, 3)), "copy": lambda x: np.copy(x),
    "concatenate": lambda x: np.concatenate([x, X], axis=1), "stack": lambda x: np.stack([x, x]),
    "array_split": lambda x: np.array_split(x, 2, axis=1), "tile": lambda x: np.tile(x, (2, 1)),
    "repeat": lambda x: np.repeat(x, 2), "repeat axis": lambda x: np.repeat(x, 2, axis=1), "flip": lambda x: np.flip(x),
    "flip axis": lambda x: np.flip(x, 1), "roll": lambda x: np.roll(x, 2), "roll axis": lambda x: np.roll(x, 1, axis=1),
    "diff": lambda x: np.diff(x), "diag": lambda x: np.diag(x), "diagonal": lambda x: np.diagonal(x, 1),
    "tril": lambda x: np.tril(x), "triu": lambda x: np.triu(x, 1), "trace": lambda x: np.trace(x),
    "outer": lambda x: np.outer(x, x), "dot": lambda x: np.dot(x, X.T), "dot vector": lambda x: np.dot(x, X[0]),
    "dot reversed": lambda x: np.dot(X.T, x), "matmul": lambda x: x @ X.T, "matmul reversed": lambda x: X.T @ x,
    "tensordot": lambda x: np.tensordot(x, X, axes=2), "einsum": lambda x: np.einsum("ij,kj->ik", x, X),
    "sort": lambda x: np.sort(x, axis=0), "argsort": lambda x: np.argsort(x), "take": lambda x: np.take(x, [5, 0]),
    "take axis": lambda x: np.take(x, [2, 0], axis=1), "nonzero": lambda x: np.nonzero(x),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[1], [0]]), axis=1),
    "where": lambda x: np.where(x > 1, x, 0.0),
    "where condition": lambda x: np.where(x > 1), "clip": lambda x: np.clip(x, 0.6, 1.7),
    "round": lambda x: np.round(x),
    "around": lambda x: np.around(x, 1), "nan_to_num": lambda x: np.nan_to_num(x),
    "isclose": lambda x: np.isclose(x, X),
    "allclose": lambda x: np.allclose(x, X), "array_equal": lambda x: np.array_equal(x, X),
    "zeros_like": lambda x: np.zeros_like(x), "ones_like": lambda x: np.ones_like(x),
}


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    elif isinstance(ours, tl.Tensor):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, 1e-12)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", UFUNCS)
def test_unary_ufuncs(name: str) -> None:
    x = tl.tensor(X, requires_grad=True)
    result = getattr(np, name)(x)
    assert isinstance(result, tl.Tensor)
    assert_same(result, getattr(np, name)(X))
    assert result.requires_grad == result.is_floating_point()


@pytest.mark.parametrize("name", BINARY_UFUNCS)
def test_binary_ufuncs_with_arrays_and_numbers_on_either_side(name: str) -> None:
    x = tl.tensor(X, requires_grad=True)
    ufunc = getattr(np, name)
    for a, b in ((x, x), (x, X), (X, x), (x, 2.0), (2.0, x)):
        result = ufunc(a, b)
        assert isinstance(result, tl.Tensor)
        assert_same(result, ufunc(*[X if v is x else v for v in (a, b)]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    x = tl.tensor(X, requires_grad=True)
    result, expected = FUNCTIONS[name](x), FUNCTIONS[name](X)
    assert_same(result, expected)
    if isinstance(result, tl.Tensor) and result.is_floating_point() and not name.endswith("_like"):
        assert result.requires_grad, "the gradient was lost on the way"


def test_gradients_flow_through_numpy_functions() -> None:
    x = tl.tensor([0.5, 2.0], requires_grad=True)
    np.sum(np.exp(x) * np.array([1.0, 2.0], np.float32)).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([0.5, 2.0]) * [1, 2], 1e-6)


def test_numpy_scalars_and_arrays_on_the_left() -> None:
    x = tl.tensor([1.0, 2.0])
    for result in (np.float64(2) * x, np.ones(2) + x, np.float32(2) - x, np.array(2.0) / x, np.arange(2) == x):
        assert isinstance(result, tl.Tensor)
    assert (np.float64(2) * x).dtype is tl.float32


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: np.add.reduce(x), "np.add.reduce"), (lambda x: np.add.outer(x, x), "np.add.outer"),
    (lambda x: np.add(x, 1, out=np.zeros((2, 3))), "out="), (lambda x: np.add(x, 1, where=X > 1), "where="),
    (lambda x: np.hypot(x, x), "np.hypot"), (lambda x: np.sum(x, initial=3), "initial"),
    (lambda x: np.median(x), "np.median"), (lambda x: np.meshgrid(x, x), "np.meshgrid"),
    (lambda x: np.pad(x, 1), "np.pad"),
    (lambda x: np.sum(x, out=np.zeros(())), "out"), (lambda x: np.fft.fft(x), "np.fft"),
    (lambda x: np.linalg.norm(x, ord=2), "matrix norm"), (lambda x: np.linalg.norm(x, "nuc"), "matrix norm"),
])
def test_what_is_refused_says_so(call: Callable[[tl.Tensor], Any], message: str) -> None:
    with pytest.raises(tl.TensorliteError, match=message):
        call(tl.tensor(X))


def test_an_array_is_not_changed_by_a_tensor_in_place() -> None:
    array = np.ones(2)
    with pytest.raises(TypeError, match="out="):
        array += tl.ones(2)
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize(("name", "call"), [
    ("where", lambda: tl.where(np.array([True, False]), tl.zeros(2), tl.ones(2))),
    ("where", lambda: tl.zeros(2).masked_fill(np.array([True, False]), 1.0)),
    ("cat", lambda: tl.cat([tl.zeros(2), np.zeros(2)])),
    ("stack", lambda: tl.stack([[1, 2], [3, 4]])),
    ("pad", lambda: tl.nn.functional.pad([1.0, 2.0], (1, 1))),
])
def test_arrays_and_lists_are_not_taken_for_tensors(name: str, call: Callable[[], tl.Tensor]) -> None:
    with pytest.raises(tl.DTypeError, match=rf"{name}: expected a Tensor, got \w+; wrap it in tl.tensor"):
        call()
