"""LayerNorm and its derivatives on each device: lengths, layouts, dtypes, and what is left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from row_layouts import COLUMNS, LAYOUTS, drawn, fitting, place

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.dtypes import DType
from tensorlite.nn import functional as F

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
EPS = 1e-5
DEVIATION = {tl.float16: 3.0, tl.bfloat16: 3.0}  # of x; narrow results are compared where they are not near 0


@pytest.fixture
def backend(device: str) -> Backend:
    return get(device)


def moments(x: np.ndarray, dims: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x normalised, and 1 / √(var + eps)."""
    scale = 1 / np.sqrt(x.var(dims, keepdims=True) + EPS)
    return (x - x.mean(dims, keepdims=True)) * scale, scale


def slope_of(g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, dims: tuple[int, ...]) -> np.ndarray:
    normalised, scale = moments(x, dims)
    a = g if weight is None else g * weight
    return scale * (a - a.mean(dims, keepdims=True) - normalised * (a * normalised).mean(dims, keepdims=True))


def check(backend: Backend, shape: tuple[int, ...], dims: tuple[int, ...], dtype: DType, layout: str = "dense",
          parameters: tuple[bool, bool] = (True, True)) -> None:
    """All three kernels on arrays of a layout, with or without weight and bias."""
    x, x64 = place(backend, drawn(shape, dtype, 1, DEVIATION.get(dtype, 1.0)), layout)
    g, g64 = place(backend, drawn(shape, dtype, 2, 0.5), layout)
    vectors: list[Array | None] = [None, None]
    wide: list[np.ndarray | None] = [None, None]
    for i in range(2):
        if parameters[i]:
            vectors[i], wide[i] = place(backend, drawn(shape[dims[0]:], dtype, 3 + i, 0.5), "dense")
    normalised, _ = moments(x64, dims)
    forward = normalised * (1 if wide[0] is None else wide[0]) + (0 if wide[1] is None else wide[1])
    result = backend.fill("layer_norm", shape, dtype.numpy, x, *vectors, dims=dims, eps=EPS)
    fitting(backend, result, forward, dtype)
    result = backend.fill("layer_norm_grad", shape, dtype.numpy, g, x, vectors[0], dims=dims, eps=EPS)
    fitting(backend, result, slope_of(g64, x64, wide[0], dims), dtype)
    result = backend.fill("layer_norm_weight_grad", shape[dims[0]:], dtype.numpy, g, x, dims=dims, eps=EPS)
    fitting(backend, result, (g64 * normalised).sum(tuple(range(dims[0]))), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rows_of_every_length(backend: Backend, dtype: DType) -> None:
    for columns in COLUMNS[1:]:
        check(backend, (3, columns), (1,), dtype)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 31, 33, 257, 3000])
def test_rows_of_every_number(backend: Backend, rows: int) -> None:
    for columns in (8, 33, 64):
        check(backend, (rows, columns), (1,), tl.float64)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "dims"), [((5, 12), (1,)), ((3, 4, 40), (2,)), ((4, 5, 8), (1, 2)),
                                             ((2, 300), (1,)), ((2, 1500), (1,)), ((6, 7), (0, 1))], ids=str)
def test_every_layout(backend: Backend, shape: tuple[int, ...], dims: tuple[int, ...], layout: str) -> None:
    check(backend, shape, dims, tl.float32, layout)


@pytest.mark.parametrize("parameters", [(False, False), (False, True), (True, False), (True, True)])
def test_weight_and_bias_may_be_left_out(backend: Backend, parameters: tuple[bool, bool]) -> None:
    for columns in (8, 40, 1500, 17000):
        check(backend, (3, columns), (1,), tl.float32, parameters=parameters)


@pytest.mark.parametrize("layout", ["transposed", "misaligned", "sliced", "reversed"])
def test_results_go_to_views_of_any_layout(backend: Backend, layout: str) -> None:
    (x, x64), (g, g64) = place(backend, drawn((4, 5, 6), tl.float32), "dense"), place(
        backend, drawn((4, 5, 6), tl.float32, 1), "dense")
    out, _ = place(backend, np.zeros((4, 5, 6), np.float32), layout)
    backend.run("layer_norm", out, x, None, None, dims=(1, 2), eps=EPS)
    fitting(backend, backend.copy(out), moments(x64, (1, 2))[0], tl.float32)
    out, _ = place(backend, np.zeros((5, 6), np.float32), layout)
    backend.run("layer_norm_weight_grad", out, g, x, dims=(1, 2), eps=EPS)
    fitting(backend, backend.copy(out), (g64 * moments(x64, (1, 2))[0]).sum(0), tl.float32)


def test_a_weight_of_any_layout_and_dtype(backend: Backend) -> None:
    x, x64 = place(backend, drawn((3, 40), tl.float32), "dense")
    for layout, dtype in itertools.product(("misaligned", "sliced", "reversed"), (tl.float16, tl.float32)):
        weight, weight64 = place(backend, drawn((40,), dtype, 1), layout)
        result = backend.fill("layer_norm", x.shape, x.dtype, x, weight, weight, dims=(1,), eps=EPS)
        fitting(backend, result, moments(x64, (1,))[0] * weight64 + weight64, tl.float32)


@pytest.mark.parametrize("columns", [5, 40, 1500, 17000])
def test_nan_and_infinity_stay_in_their_rows(backend: Backend, columns: int) -> None:
    rows = drawn((3, columns), tl.float32)
    rows[0, -1], rows[1, 0] = np.nan, np.inf
    x, x64 = place(backend, rows, "dense")
    expected = np.full(rows.shape, np.nan)
    expected[2] = moments(x64[2:], (1,))[0]
    fitting(backend, backend.fill("layer_norm", x.shape, x.dtype, x, None, None, dims=(1,), eps=EPS), expected,
            tl.float32)


def test_the_variance_of_a_large_mean_is_exact(backend: Backend) -> None:
    for columns in (8, 64, 1500, 17000):
        x, x64 = place(backend, drawn((2, columns), tl.float64) + 1e6, "dense")
        result = backend.to_numpy(backend.fill("layer_norm", x.shape, x.dtype, x, None, None, dims=(1,), eps=EPS))
        np.testing.assert_allclose(result, moments(x64, (1,))[0], atol=1e-8)


def test_no_rows_have_zero_gradients(device: str) -> None:
    x = tl.zeros(0, 4, device=device, requires_grad=True)
    weight = tl.ones(4, device=device, requires_grad=True)
    F.layer_norm(x, (4,), weight).sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 4)
    assert weight.grad is not None and weight.grad.tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients_equal_those_of_the_composed_formula(device: str, dtype: DType) -> None:
    drawn_x, drawn_w, drawn_b = drawn((4, 6), dtype, 1), drawn((6,), dtype, 2), drawn((6,), dtype, 3)
    found = []
    for function in (lambda x, w, b: F.layer_norm(x, (6,), w, b),
                     lambda x, w, b: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + EPS).sqrt()
                     * w + b):
        inputs = [tl.tensor(a, device=device, requires_grad=True) for a in (drawn_x, drawn_w, drawn_b)]
        (function(*inputs) * tl.tensor(drawn((4, 6), dtype, 4), device=device)).sum().backward()
        found.append([x.grad.cpu().double().numpy() for x in inputs if x.grad is not None])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=0.2 if dtype.itemsize == 2 else 1e-5)


def test_sums_are_the_same_in_every_run(backend: Backend) -> None:
    x, _ = place(backend, drawn((700, 33), tl.float32), "dense")
    first, second = [backend.to_numpy(backend.fill("layer_norm_weight_grad", (33,), x.dtype, x, x, dims=(1,), eps=EPS))
                     for _ in range(2)]
    assert first.tobytes() == second.tobytes()


def test_other_dtypes_are_refused() -> None:
    backend = get("cuda:sim")
    x, g = backend.from_numpy(np.ones((2, 3), np.int64)), backend.from_numpy(np.ones((2, 3), np.float32))
    with pytest.raises(tl.DTypeError, match="layer_norm does not take"):
        backend.fill("layer_norm", x.shape, x.dtype, x, None, None, dims=(1,), eps=EPS)
    with pytest.raises(tl.DTypeError, match="layer_norm_grad does not take"):
        backend.fill("layer_norm_grad", x.shape, g.dtype, g, x, None, dims=(1,), eps=EPS)
    with pytest.raises(tl.DTypeError, match="layer_norm_weight_grad does not take"):
        backend.fill("layer_norm_weight_grad", (3,), g.dtype, g, x, dims=(1,), eps=EPS)
