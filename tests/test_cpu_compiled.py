"""The CPU's compiled kernels against NumPy's and wide arithmetic, and what they leave to NumPy."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import cpu_compiled, get, host
from tensorlite.errors import OutOfRangeError

BACKEND = get("cpu")
SIZES = (0, 1, 7, 16, 33, 1000, 600_001)  # the last one is shared by threads
FLOATS = (np.float32, np.float64)
SPECIAL = (0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-3, -1e-3, 20.5, -20.5, 100.0, -100.0)

needs_compiler = pytest.mark.skipif(not host.is_available(), reason="no C++ compiler")
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def compiled() -> cpu_compiled.Library:
    """The library, built if need be; NumPy goes on serving the process if it did so far."""
    library, reason = cpu_compiled._loaded(cpu_compiled.build())
    assert library is not None, reason
    return library


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process computes with the compiled kernels during the test, whatever it does otherwise."""
    monkeypatch.setenv("TENSORLITE_COMPILED", "")
    monkeypatch.setattr(cpu_compiled, "_state", cpu_compiled._State())
    monkeypatch.setattr(get("cpu"), "_compiled", None)
    assert cpu_compiled.compile_kernels()


def values(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape) * 3, dtype)


def by_numpy(kernel: str, out: Any, *args: Any, **params: Any) -> None:
    BACKEND.run_numpy(kernel, out, args, params)


def assert_close(actual: np.ndarray, expected: np.ndarray, ulp: float, what: str = "") -> None:
    """Equal within `ulp` units in the last place of the expected value, or both denormal, NaN or the same infinity."""
    tiny = np.finfo(expected.dtype).tiny
    wide = expected.astype(np.longdouble)
    with np.errstate(all="ignore"):
        error = np.abs(actual.astype(np.longdouble) - wide) / np.spacing(np.maximum(np.abs(expected), tiny))
        flushed = (np.abs(actual) < tiny) & (np.abs(expected) < tiny)
    fine = (error <= ulp) | (actual == expected) | (np.isnan(actual) & np.isnan(expected)) | flushed
    assert fine.all(), f"{what}: {actual[~fine][:3]} instead of {expected[~fine][:3]}, {error[~fine].max()} ulp"


# --- elementwise ------------------------------------------------------------------------------------------------------

# name -> arrays, numbers, units in the last place by which it may differ from NumPy's
ELEMENTWISE: dict[str, tuple[int, tuple[float, ...], float]] = {
    "neg": (1, (), 0), "square": (1, (), 0), "add": (2, (), 0), "sub": (2, (), 0), "mul": (2, (), 0), "div": (2, (), 0),
    "relu": (1, (), 0), "relu_grad": (2, (), 0), "sigmoid": (1, (), 4), "sigmoid_grad": (2, (), 0),
    "tanh_grad": (2, (), 0), "leaky_relu": (1, (0.1,), 0), "leaky_relu_grad": (2, (0.1,), 0), "softsign": (1, (), 0),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    arrays, numbers, ulp = ELEMENTWISE[name]
    for size in SIZES:
        operands = [values(size, dtype=dtype, seed=k) for k in range(arrays)]
        out, expected = np.empty(size, dtype), np.empty(size, dtype)
        assert compiled.run[name](out, *operands, *numbers) is True
        by_numpy(name, expected, *operands, *numbers)
        assert_close(out, expected, ulp, f"{name} of {size}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_of_special_values(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    arrays, numbers, ulp = ELEMENTWISE[name]
    pairs = np.array(list(itertools.product(SPECIAL, repeat=2)), dtype)
    operands = [np.ascontiguousarray(pairs[:, k]) for k in range(arrays)]
    out, expected = np.empty(len(pairs), dtype), np.empty(len(pairs), dtype)
    assert compiled.run[name](out, *operands, *numbers)
    by_numpy(name, expected, *operands, *numbers)
    assert_close(out, expected, ulp, name)


def exact(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """A function of Python's float for arrays of longdouble."""
    return np.vectorize(lambda x: function(float(x)), otypes=[np.longdouble])


def _cdf(x: Any) -> Any:
    return exact(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(x)


def _density(x: Any) -> Any:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.longdouble(np.pi))


def _sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(np.longdouble(0), -x))


def _angle(x: Any) -> Any:
    return np.sqrt(2 / np.longdouble(np.pi)) * (x + np.longdouble("0.044715") * x**3)


# name -> numbers, the formula in wide arithmetic, and units in the last place of the largest part of its sum
ANALYTIC: dict[str, tuple[tuple[float, ...], Callable[..., Any], float]] = {
    "sigmoid": ((), _sigmoid, 3),
    "silu": ((), lambda x: x * _sigmoid(x), 4),
    "elu": ((1.5,), lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))), 4),
    "softplus": ((2.0, 20.0), lambda x: np.where(2 * x > 20, x, np.logaddexp(np.longdouble(0), 2 * x) / 2), 4),
    "gelu": ((), lambda x: x * _cdf(x), 4),
    "gelu_tanh": ((), lambda x: x * _sigmoid(2 * _angle(x)), 6),
    "elu_grad": ((1.5,), lambda x: np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))), 4),
    "softplus_grad": ((2.0, 20.0), lambda x: np.where(2 * x > 20, 1, _sigmoid(2 * x)), 4),
    "silu_grad": ((), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))), 6),
    "gelu_grad": ((), lambda x: _cdf(x) + x * _density(x), 6),
    "gelu_tanh_grad": ((), lambda x: _sigmoid(2 * _angle(x)) + 2 * x * _sigmoid(2 * _angle(x)) * _sigmoid(
        -2 * _angle(x)) * np.sqrt(2 / np.longdouble(np.pi)) * (1 + 3 * np.longdouble("0.044715") * x * x), 6),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ANALYTIC)
def test_functions_of_analysis(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    """Over the whole range, against wide arithmetic: near 0 of the result the error is that of its parts."""
    numbers, formula, ulp = ANALYTIC[name]
    random = np.random.default_rng(0)
    least = math.log(np.finfo(dtype).tiny) + 1  # further down are denormal numbers, which are flushed
    x = np.concatenate([random.normal(size=4000) * 10.0 ** random.uniform(-20, 1, 4000), random.uniform(-30, 30, 4000),
                        random.uniform(-700, 700, 1000)]).astype(dtype)
    x = x[(x > least / 2) & (np.abs(x) > 1e-25)]
    out, g = np.empty_like(x), np.ones_like(x)
    assert compiled.run[name](out, *([g] if name.endswith("_grad") else []), x, *numbers)
    with np.errstate(all="ignore"):
        expected = formula(x.astype(np.longdouble))
    scale = np.maximum(np.abs(expected), np.minimum(np.abs(x), 1) if "elu" in name and "grad" not in name else 0)
    if "_grad" in name or name.startswith("gelu"):  # sums of parts of the size of 1, and of x
        scale = np.maximum(scale, np.abs(x) if name == "silu_grad" else 1)
        scale = np.maximum(scale, 1)
    error = np.abs(out - expected) / np.finfo(dtype).eps / np.maximum(scale, np.finfo(dtype).tiny)
    assert error.max() <= ulp, (x[error.argmax()], out[error.argmax()], expected[error.argmax()])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ANALYTIC)
def test_functions_of_analysis_of_special_values(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    numbers, _, _ = ANALYTIC[name]
    x = np.array([v for v in SPECIAL if abs(v) != math.inf] + [88.72, -103.5, 709.0, -745.0, 1e30, -1e30], dtype)
    if not name.endswith("_grad"):
        x = np.append(x, np.array([math.inf], dtype))
    arguments = ([np.full_like(x, 2.0)] if name.endswith("_grad") else []) + [x, *numbers]
    out, expected = np.empty_like(x), np.empty_like(x)
    assert compiled.run[name](out, *arguments)
    by_numpy(name, expected, *arguments)
    np.testing.assert_allclose(out, expected, rtol=20 * float(np.finfo(dtype).eps), atol=float(np.finfo(dtype).tiny))


def test_numbers_on_either_side(compiled: cpu_compiled.Library) -> None:
    x = values(50)
    for name in ("add", "sub", "mul", "div"):
        for operands in ((x, 2.5), (2.5, x), (x, 3), (True, x)):
            out, expected = np.empty_like(x), np.empty_like(x)
            assert compiled.run[name](out, *operands)
            by_numpy(name, expected, *operands)
            np.testing.assert_array_equal(out, expected)


def test_column_major_and_in_place(compiled: cpu_compiled.Library) -> None:
    x = values(5, 7)
    out = np.empty((7, 5), np.float32).T
    assert compiled.run["relu"](out, x.T.copy().T)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    assert compiled.run["relu"](x, x)
    np.testing.assert_array_equal(out, x)


def test_copies_and_fills(compiled: cpu_compiled.Library) -> None:
    for dtype in (np.float32, np.float64, np.int64):
        x = np.asarray(values(40) * 1e3, dtype)
        out = np.empty_like(x)
        assert compiled.run["copy"](out, x)
        np.testing.assert_array_equal(out, x)
    out = np.empty(33, np.float32)
    assert compiled.run["fill"](out, 2)
    assert (out == 2).all()
    table, index = values(6, 3), np.array([5, 0, 5])
    out = np.empty((3, 3), np.float32)
    assert compiled.run["index"](out, table, index, dims=(0,))
    np.testing.assert_array_equal(out, table[index])
    index = np.array([[5, 0], [2, 5], [5, 1]])
    out = np.empty((3, 2, 3), np.float32)
    assert compiled.run["index"](out, table, index, dims=(0,))
    np.testing.assert_array_equal(out, table[index])


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_added_at_an_index(compiled: cpu_compiled.Library, dtype: Any) -> None:
    """Bit for bit as NumPy adds them, duplicates in their order, also where threads share the columns."""
    for shape, columns in (((7,), (3,)), ((4, 5), (2, 3)), ((0,), (4,)), ((3000,), (600,)), ((6,), ())):
        index = np.random.default_rng(0).integers(0, 5, shape)
        x = np.random.default_rng(1).standard_normal((*shape, *columns)).astype(dtype)
        out, expected = (np.ones((5, *columns), dtype) for _ in range(2))
        assert compiled.run["index_add"](out, x, index, dims=(0,))
        by_numpy("index_add", expected, x, index, dims=(0,))
        np.testing.assert_array_equal(out, expected)
    for wrong in (5, -1):  # nothing is added before all are known to be rows
        index[-1] = wrong
        before = out.copy()
        assert not compiled.run["index_add"](out, x, index, dims=(0,))
        np.testing.assert_array_equal(out, before)


def unaligned() -> np.ndarray:
    return np.empty(17, np.uint8)[1:].view(np.float32)


def windows() -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(values(9), 5)


def read_only() -> np.ndarray:
    out = np.empty(3, np.float32)
    out.flags.writeable = False
    return out


LEFT_TO_NUMPY: dict[str, Callable[[], tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "another dtype": lambda: ("add", (np.empty(3, np.int32),) + (np.ones(3, np.int32),) * 2, {}),
    "two dtypes": lambda: ("copy", (np.empty(3, np.float64), values(3)), {}),
    "strides": lambda: ("relu", (np.empty(3, np.float32), values(6)[::2]), {}),
    "two layouts": lambda: ("relu", (np.empty((2, 3), np.float32), values(3, 2).T), {}),
    "a row that repeats": lambda: ("add", (np.empty((2, 3), np.float32), values(2, 3), values(3)), {}),
    "read-only": lambda: ("relu", (read_only(), values(3)), {}),
    "unaligned": lambda: ("relu", (unaligned(), unaligned()), {}),
    "too large a number": lambda: ("mul", (np.empty(3, np.float32), values(3), 10**400), {}),
    "no number": lambda: ("mul", (np.empty(3, np.float32), values(3), "2"), {}),
    "two numbers": lambda: ("mul", (np.empty(3, np.float32), 2.0, 3.0), {}),
    "too few arguments": lambda: ("relu_grad", (np.empty(3, np.float32), values(3)), {}),
    "an option is missing": lambda: ("softmax", (np.empty((2, 3), np.float32), values(2, 3)), {}),
    "another dimension": lambda: ("softmax", (np.empty((2, 3), np.float32), values(2, 3)), {"dim": 0}),
    "other dimensions": lambda: ("sum", (np.empty((2, 1), np.float32), values(2, 3)), {"dims": (1,)}),
    "batches of matrices": lambda: ("matmul", (np.empty((2, 3, 3), np.float32),) + (values(2, 3, 3),) * 2, {}),
    "nothing to multiply": lambda: ("matmul", (np.empty((2, 3), np.float32), values(2, 0), values(0, 3)), {}),
    "its own transpose": lambda: ("matmul", (np.empty((2, 2), np.float32), (x := values(2, 3)), x.T), {}),
    "a copy of what has gaps": lambda: ("copy", (np.empty(3, np.float32), values(6)[::2]), {}),
    "columns with gaps": lambda: ("matmul", (np.empty((4, 2), np.float32), values(4, 6)[:, ::2], values(3, 2)), {}),
    "rows that overlap": lambda: ("matmul", (np.empty((5, 2), np.float32), windows(), values(5, 2)), {}),
    "norms of columns": lambda: ("layer_norm", (np.empty((2, 3), np.float32), values(2, 3), None, None),
                                 {"dims": (0,), "eps": 1e-5}),
    "a sum of all": lambda: ("sum", (np.empty((1, 1), np.float32), values(2, 3)), {"dims": (0, 1)}),
    "a mask of another shape": lambda: ("dropout", (np.empty((2, 3), np.float32), values(2, 3),
                                                    np.ones((3, 2), np.bool_)), {"chance": 0.5, "scale": 2.0}),
    "a result of another shape": lambda: ("relu_bias_grad", ((np.empty((2, 3), np.float32), np.empty(3, np.float32)),
                                                             values(2, 3), values(3, 2)), {}),
    "turned batches": lambda: ("linear", (np.empty((2, 3, 4), np.float32), values(2, 5, 3).transpose(0, 2, 1),
                                          values(4, 5), values(4)), {}),
    "a weight with gaps": lambda: ("layer_norm", (np.empty((2, 3), np.float32), values(2, 3), values(6)[::2], None),
                                   {"dims": (1,), "eps": 1e-5}),
    "a large matrix and a vector": lambda: ("matmul", (np.empty((900, 1), np.float32), values(900, 300),
                                                       values(300, 1)), {}),
    "an index behind the last": lambda: ("index", (np.empty((1, 3), np.float32), values(6, 3), np.array([6])),
                                         {"dims": (0,)}),
    "indices of columns": lambda: ("index", (np.empty((6, 6), np.float32), values(6, 6), np.arange(6)), {"dims": (1,)}),
    "indices with gaps": lambda: ("index", (np.empty((2, 3), np.float32), values(6, 3), np.arange(4)[::2]),
                                  {"dims": (0,)}),
    "negative indices": lambda: ("index", (np.empty((1, 3), np.float32), values(6, 3), np.array([-1])), {"dims": (0,)}),
}


@pytest.mark.parametrize("case", LEFT_TO_NUMPY)
def test_left_to_numpy(compiled: cpu_compiled.Library, case: str) -> None:
    name, args, params = LEFT_TO_NUMPY[case]()
    assert compiled.run[name](*args, **params) is False
    if "index" not in name:  # whose data decides
        assert compiled.pack[name](*args, **params) is None


# --- matrices and rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul(compiled: cpu_compiled.Library, dtype: Any) -> None:
    """Bit for bit as np.matmul where that calls the same routine; a sum of one or another order where it does not."""
    for n, k, m in ((2, 3, 4), (16, 784, 16), (33, 65, 17), (1, 5, 4), (5, 1, 4), (5, 4, 1), (64, 128, 784)):
        for x_turned, y_turned in itertools.product((False, True), repeat=2):
            x = values(k, n, dtype=dtype).T if x_turned else values(n, k, dtype=dtype)
            y = values(m, k, dtype=dtype, seed=1).T if y_turned else values(k, m, dtype=dtype, seed=1)
            out = np.empty((n, m), dtype)
            assert compiled.run["matmul"](out, x, y)
            if min(n, k, m) > 1:
                np.testing.assert_array_equal(out, x @ y)
            else:
                np.testing.assert_allclose(out, x @ y, rtol=1e-5, atol=1e-4)


def test_linear_of_a_matrix_laid_out_by_columns(compiled: cpu_compiled.Library) -> None:
    x, weight, bias = values(5, 3).T, values(4, 5), values(4)
    out, expected = np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
    assert compiled.run["linear"](out, x, weight, bias)
    by_numpy("linear", expected, x, weight, bias)
    np.testing.assert_array_equal(out, expected)


def test_matmul_of_parts_of_matrices(compiled: cpu_compiled.Library) -> None:
    x, y = values(6, 9)[1:4, 2:7], values(8, 9)[:5, 3:5]
    out = np.empty((3, 2), np.float32)
    assert compiled.run["matmul"](out, x, y)
    np.testing.assert_array_equal(out, x @ y)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["linear", "linear_relu"])
def test_linear(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    for lead in ((16,), (2, 3), (600,)):
        x, weight, bias = values(*lead, 7, dtype=dtype), values(500, 7, dtype=dtype), values(500, dtype=dtype)
        out, expected = np.empty((*lead, 500), dtype), np.empty((*lead, 500), dtype)
        assert compiled.run[name](out, x, weight, bias)
        by_numpy(name, expected, x, weight, bias)
        if len(lead) == 1:
            np.testing.assert_array_equal(out, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert compiled.run[name](out, x, weight, None)
    by_numpy(name, expected, x, weight, None)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_columns(compiled: cpu_compiled.Library, dtype: Any) -> None:
    """In the order of the rows, as NumPy adds them."""
    for rows, columns in ((0, 3), (1, 1), (5, 7), (16, 16), (128, 300), (700, 1000)):
        x, y = values(rows, columns, dtype=dtype), values(rows, columns, dtype=dtype, seed=1)
        out, expected = np.empty((1, columns), dtype), np.empty((1, columns), dtype)
        assert compiled.run["sum"](out, x, dims=(0,))
        by_numpy("sum", expected, x, dims=(0,))
        assert_close(out, expected, 0 if columns > 1 else 1)
        slope, total = np.empty_like(x), np.empty(columns, dtype)
        assert compiled.run["relu_bias_grad"]((slope, total), x, y)
        np.testing.assert_array_equal(slope, np.where(y <= 0, 0, x))
        np.testing.assert_array_equal(total, slope.sum(0))


ROWS = ((0, 3), (1, 1), (5, 7), (16, 10), (300, 33), (3, 9000), (4000, 40))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_grad", "log_softmax_grad"])
def test_softmax(compiled: cpu_compiled.Library, name: str, dtype: Any) -> None:
    for shape in ROWS:
        operands = [values(*shape, dtype=dtype, seed=k) for k in range(2 if name.endswith("grad") else 1)]
        out, expected = np.empty(shape, dtype), np.empty(shape, dtype)
        assert compiled.run[name](out, *operands, dim=1)
        by_numpy(name, expected, *operands, dim=1)
        scale = np.abs(expected).max(initial=1)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=8 * float(np.finfo(dtype).eps) * scale)


def test_softmax_of_special_values(compiled: cpu_compiled.Library) -> None:
    x = np.array([[math.inf, 1, 2], [-math.inf] * 3, [math.nan, 1, 2], [-math.inf, 0, 0]], np.float32)
    for name in ("softmax", "log_softmax"):
        out, expected = np.empty_like(x), np.empty_like(x)
        assert compiled.run[name](out, x, dim=1)
        by_numpy(name, expected, x, dim=1)
        np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy(compiled: cpu_compiled.Library, dtype: Any, ignored: int) -> None:
    for rows, classes in ((0, 3), (1, 3), (16, 10), (128, 10), (3, 9000), (3000, 40)):
        logits, g = values(rows, classes, dtype=dtype), np.array(1.5, dtype)
        target = np.random.default_rng(0).integers(0, classes, rows)
        options = {"ignore_index": ignored}
        for name, out, arguments in (("cross_entropy", np.empty((), dtype), (logits, target)),
                                     ("cross_entropy_grad", np.empty_like(logits), (g, logits, target))):
            expected = np.empty_like(out)
            assert compiled.run[name](out, *arguments, **options)
            by_numpy(name, expected, *arguments, **options)
            np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-7)


def test_rows_that_do_not_count_have_no_gradient_whatever_they_hold(compiled: cpu_compiled.Library) -> None:
    logits, target = values(3, 5), np.array([1, -100, 4])
    logits[1] = math.nan
    out, expected = np.empty_like(logits), np.empty_like(logits)
    arguments = np.array(2, np.float32), logits, target
    assert compiled.run["cross_entropy_grad"](out, *arguments, ignore_index=-100)
    by_numpy("cross_entropy_grad", expected, *arguments, ignore_index=-100)
    assert (out[1] == 0).all()
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_a_label_that_is_no_class_is_named_as_by_numpy(in_use: None) -> None:
    for target in ([0, 3], [-1, 0]):
        with pytest.raises(OutOfRangeError, match=r"Target -?\d is out of bounds: row \d of 2, 3 classes"):
            tl.nn.functional.cross_entropy(tl.zeros(2, 3), tl.tensor(target))


@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_norm(compiled: cpu_compiled.Library, dtype: Any) -> None:
    for shape, dims in (((5, 7), (1,)), ((16, 33), (1,)), ((2, 3, 40), (1, 2)), ((2, 3, 40), (2,)), ((3000, 64), (1,))):
        part = shape[dims[0]:]
        x, g = values(*shape, dtype=dtype), values(*shape, dtype=dtype, seed=1)
        weight, bias = values(*part, dtype=dtype, seed=2), values(*part, dtype=dtype, seed=3)
        for name, out, arguments in (("layer_norm", np.empty_like(x), (x, weight, bias)),
                                     ("layer_norm", np.empty_like(x), (x, None, None)),
                                     ("layer_norm_grad", np.empty_like(x), (g, x, weight)),
                                     ("layer_norm_grad", np.empty_like(x), (g, x, None)),
                                     ("layer_norm_weight_grad", np.empty_like(weight), (g, x))):
            expected = np.empty_like(out)
            assert compiled.run[name](out, *arguments, dims=dims, eps=1e-5)
            by_numpy(name, expected, *arguments, dims=dims, eps=1e-5)
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(out, expected, rtol=1e-5, atol=60 * float(np.finfo(dtype).eps) * scale)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout(compiled: cpu_compiled.Library, dtype: Any) -> None:
    """The same words, the same mask, and the generator advanced as far."""
    for size, chance in ((0, 0.5), (1, 0.5), (6, 0.0), (6, 1.0), (1001, 0.8), (100_003, 0.3)):
        mine, theirs = (np.array([2**63 + 5, 11], np.uint64) for _ in range(2))
        mask, expected = np.empty(size, np.bool_), np.empty(size, np.bool_)
        for _ in range(2):
            assert compiled.run["dropout_noise"](mask, mine, count=size, chance=chance)
            by_numpy("dropout_noise", expected, theirs, count=size, chance=chance)
            np.testing.assert_array_equal(mask, expected)
            np.testing.assert_array_equal(mine, theirs)
        x = values(size, dtype=dtype)
        x[: size // 2 : 3] = math.nan
        out, wanted = np.empty_like(x), np.empty_like(x)
        assert compiled.run["dropout"](out, x, mask, chance=chance, scale=1.25)
        by_numpy("dropout", wanted, x, mask, chance=chance, scale=1.25)
        np.testing.assert_array_equal(out, wanted)


def test_dropout_writes_no_more_than_its_mask(compiled: cpu_compiled.Library) -> None:
    for size in range(9):
        memory = np.full(16, 7, np.uint8)
        state = np.array([3, 0], np.uint64)
        assert compiled.run["dropout_noise"](memory[:size].view(np.bool_), state, count=size, chance=0.5)
        assert (memory[size:] == 7).all() and state[1] == -(-size // 4)


# --- optimizers -------------------------------------------------------------------------------------------------------

BETAS = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
FLAGS = {"decoupled_weight_decay": False, "maximize": False}
# kernel, 0-d states, other states that are given, options
RULES: list[tuple[str, int, tuple[bool, ...], dict[str, Any]]] = [
    ("sgd_step", 0, (False,), {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False,
                               "maximize": False}),
    ("sgd_step", 0, (True,), {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "nesterov": False,
                              "maximize": True}),
    ("sgd_step", 0, (True,), {"momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": True,
                              "maximize": False}),
    ("adam_step", 1, (True, True, False), BETAS | FLAGS),
    ("adam_step", 1, (True, True, True), BETAS | {"decoupled_weight_decay": True, "maximize": True}),
    ("rmsprop_step", 1, (True, False, False), {"alpha": 0.9, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0,
                                               "maximize": False}),
    ("rmsprop_step", 1, (True, False, True), {"alpha": 0.9, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.0,
                                              "maximize": False}),
    ("rmsprop_step", 1, (True, True, True), {"alpha": 0.9, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.5,
                                             "maximize": True}),
    ("adagrad_step", 1, (True,), {"lr_decay": 0.1, "eps": 1e-8, "weight_decay": 0.1, "maximize": False}),
    ("adadelta_step", 1, (True, True), {"rho": 0.9, "eps": 1e-6, "weight_decay": 0.0, "maximize": False}),
    ("adamax_step", 1, (True, True), BETAS | {"maximize": False}),
    ("nadam_step", 2, (True, True), BETAS | FLAGS | {"momentum_decay": 4e-3}),
    ("radam_step", 1, (True, True), BETAS | FLAGS),
    ("rprop_step", 1, (True, True), {"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 50.0,
                                     "maximize": False}),
    ("asgd_step", 3, (True,), {"lambd": 1e-4, "alpha": 0.75, "t0": 2.0, "weight_decay": 0.1, "maximize": False}),
    ("lion_step", 0, (True,), {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}),
]


def arguments_of(rule: tuple[str, int, tuple[bool, ...], dict[str, Any]], dtype: Any) -> list[Any]:
    """Parameters of several sizes, one of them column-major, with gradients, rate and states."""
    shapes = ((3, 5), (), (0,), (600_001,), (6, 4))
    made = [[values(*shape, dtype=dtype, seed=k) for shape in shapes] for k in range(2 + len(rule[2]))]
    for k, arrays in enumerate(made):
        arrays[-1] = np.asfortranarray(arrays[-1])
        if k > 1:  # averages of squares, steps and norms are positive
            made[k] = [np.asarray(np.abs(a), dtype) if a.ndim < 2 else np.abs(a) for a in arrays]
    counts = [tuple(np.array(1.0 if k else step, np.float32) for step in (0, 0, 7, 3, 3)) for k in range(rule[1])]
    states = [tuple(s) if given else None for s, given in zip(made[2:], rule[2], strict=True)]
    return [tuple(made[0]), tuple(made[1]), np.array(0.01), *counts, *states]


def copied(arguments: list[Any]) -> list[Any]:
    return [tuple(a.copy("K") for a in x) if isinstance(x, tuple) else x for x in arguments]


def flat(arguments: list[Any]) -> Iterator[np.ndarray]:
    for x in arguments:
        yield from x if isinstance(x, tuple) else ()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
def test_updates(compiled: cpu_compiled.Library, rule: tuple[str, int, tuple[bool, ...], dict[str, Any]],
                 dtype: Any) -> None:
    mine = arguments_of(rule, dtype)
    theirs = copied(mine)
    for _ in range(8):  # RAdam is rectified from the sixth on
        assert compiled.run[rule[0]](*mine, **rule[3])
        by_numpy(rule[0], *theirs, **rule[3])
    for actual, expected in zip(flat(mine), flat(theirs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-6 if dtype is np.float32 else 1e-13, atol=1e-7)


def test_updates_are_skipped(compiled: cpu_compiled.Library) -> None:
    for rule in RULES:
        arguments = arguments_of(rule, np.float32)
        before = copied(arguments)
        assert compiled.run[rule[0]](*arguments, skip=np.array(1, np.float32), **rule[3])
        for actual, expected in zip(flat(arguments), flat(before), strict=True):
            np.testing.assert_array_equal(actual, expected)
        assert compiled.run[rule[0]](*arguments, skip=np.array(0, np.float32), **rule[3])
        assert any((a != b).any() for a, b in zip(flat(arguments), flat(before), strict=True))


def test_updates_left_to_numpy(compiled: cpu_compiled.Library) -> None:
    rule = RULES[3]
    update = compiled.run["adam_step"]
    arguments = arguments_of(rule, np.float32)
    assert not update(*arguments, **{k: v for k, v in rule[3].items() if k != "beta1"})  # an option is missing
    assert not update(*arguments[:-1], **rule[3])  # a state is
    assert not update(*arguments[:1], arguments[1][:-1], *arguments[2:], **rule[3])  # fewer gradients
    other = (*arguments[1][:-1], np.ascontiguousarray(arguments[1][-1]))
    assert not update(arguments[0], other, *arguments[2:], **rule[3])  # two layouts
    assert not update(*arguments[:2], np.array(0.01, np.float32), *arguments[3:], **rule[3])  # a rate of another dtype
    assert not update(*arguments, skip=np.array(1.0), **rule[3])
    before = copied(arguments)
    for actual, expected in zip(flat(arguments), flat(before), strict=True):
        np.testing.assert_array_equal(actual, expected)


# --- denormal numbers -------------------------------------------------------------------------------------------------


def test_denormal_numbers_are_flushed_in_loops_alone(compiled: cpu_compiled.Library) -> None:
    tiny = np.full(40, 1e-40, np.float32)
    out = np.empty_like(tiny)
    assert compiled.run["sigmoid_grad"](out, tiny, np.full_like(tiny, 0.5))
    assert (out == 0).all()
    assert compiled.run["mul"](out, tiny, 0.5)  # plain arithmetic keeps them
    np.testing.assert_array_equal(out, tiny * np.float32(0.5))
    assert (tiny + tiny != 0).all()  # NumPy's state is as it was


def test_denormal_numbers_in_the_state_of_adam(compiled: cpu_compiled.Library) -> None:
    rule = RULES[3]
    arguments = arguments_of(rule, np.float32)
    for moments in arguments[-3:-1]:
        for array in moments:
            array[...] = 1e-40
    assert compiled.run["adam_step"](*arguments[:1], tuple(np.zeros_like(g) for g in arguments[1]), *arguments[2:],
                                     **rule[3] | {"weight_decay": 0.0})
    for moments in arguments[-3:-1]:
        assert all((array == 0).all() for array in moments)


def test_set_flush_denormal(in_use: None) -> None:
    tiny = np.full(40, 1e-40, np.float32)
    seen = []
    flushing = threading.Event()
    other = threading.Thread(target=lambda: (flushing.wait(), seen.append((tiny * np.float32(0.5)).any())), daemon=True)
    other.start()
    try:
        assert cpu_compiled.set_flush_denormal(True)
        assert (tiny * np.float32(0.5) == 0).all()
        assert cpu_compiled.kernels()["sigmoid_grad"](np.empty_like(tiny), tiny, tiny)  # which flushes by itself
        assert (tiny * np.float32(0.5) == 0).all()
        flushing.set()
        other.join()
    finally:
        assert cpu_compiled.set_flush_denormal(False)
    assert seen == [True]  # the calling thread alone
    assert (tiny * np.float32(0.5) != 0).all()
