"""softmax, log_softmax, cross entropy and their derivatives on each device: lengths, layouts, dtypes, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from row_layouts import COLUMNS, LAYOUTS, drawn, fitting, place

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.dtypes import DType
from tensorlite.nn import functional as F

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
INTEGERS = (tl.uint8, tl.int8, tl.int16, tl.int32, tl.int64)
IGNORED = -100


@pytest.fixture
def backend(device: str) -> Backend:
    return get(device)


def log_softmax(x: np.ndarray, dim: int) -> np.ndarray:
    shifted = x - x.max(dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


FORWARD = {"softmax": lambda x, dim: np.exp(log_softmax(x, dim)), "log_softmax": log_softmax}
BACKWARD = {
    "softmax_grad": lambda g, y, dim: y * (g - (g * y).sum(dim, keepdims=True)),
    "log_softmax_grad": lambda g, y, dim: g - np.exp(y) * g.sum(dim, keepdims=True),
}


def check_forward(backend: Backend, kernel: str, x: Array, values: np.ndarray, dim: int, dtype: DType) -> None:
    with np.errstate(all="ignore"):
        expected = FORWARD[kernel](values, dim)
    fitting(backend, backend.fill(kernel, x.shape, x.dtype, x, dim=dim), expected, dtype)


def slopes_and_outputs(kernel: str, shape: tuple[int, ...], dim: int, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    g, x = drawn(shape, dtype, 1, spread=0.3), drawn(shape, tl.float64, 2)
    return g, FORWARD[kernel.removesuffix("_grad")](x, dim).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kernel", FORWARD)
def test_rows_of_every_length(backend: Backend, kernel: str, dtype: DType) -> None:
    for columns in COLUMNS:
        x, values = place(backend, drawn((3, columns), dtype), "dense")
        check_forward(backend, kernel, x, values, 1, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kernel", BACKWARD)
def test_derivatives_of_rows_of_every_length(backend: Backend, kernel: str, dtype: DType) -> None:
    for columns in COLUMNS:
        g, y = slopes_and_outputs(kernel, (3, columns), 1, dtype)
        (slope, g64), (output, y64) = place(backend, g, "dense"), place(backend, y, "dense")
        result = backend.fill(kernel, (3, columns), dtype.numpy, slope, output, dim=1)
        fitting(backend, result, BACKWARD[kernel](g64, y64, 1), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 12), (4, 3, 40), (2, 3, 300), (2, 1500)], ids=str)
@pytest.mark.parametrize("kernel", FORWARD)
def test_every_dimension_in_every_layout(backend: Backend, kernel: str, shape: tuple[int, ...], layout: str) -> None:
    for dtype in (tl.float16, tl.float32):
        for dim in range(len(shape)):
            x, values = place(backend, drawn(shape, dtype), layout)
            check_forward(backend, kernel, x, values, dim, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", BACKWARD)
def test_derivatives_in_every_layout(backend: Backend, kernel: str, layout: str) -> None:
    for shape, dim in [((5, 12), 0), ((4, 3, 40), 2), ((4, 40, 3), 1), ((2, 300), 1), ((2, 1500), 1)]:
        g, y = slopes_and_outputs(kernel, shape, dim, tl.float32)
        (slope, g64), (output, y64) = place(backend, g, layout), place(backend, y, "dense")
        result = backend.fill(kernel, shape, y.dtype, slope, output, dim=dim)
        fitting(backend, result, BACKWARD[kernel](g64, y64, dim), tl.float32)


@pytest.mark.parametrize("layout", ["transposed", "misaligned", "sliced", "reversed"])
def test_results_go_to_views_of_any_layout(backend: Backend, layout: str) -> None:
    x, values = place(backend, drawn((6, 64), tl.float32), "dense")
    out, _ = place(backend, np.zeros((6, 64), np.float32), layout)
    backend.run("softmax", out, x, dim=1)
    fitting(backend, backend.copy(out), FORWARD["softmax"](values, 1), tl.float32)


def test_many_columns_side_by_side_have_a_thread_each(backend: Backend) -> None:
    x, values = place(backend, drawn((20, 4100), tl.float32), "dense")
    check_forward(backend, "softmax", x, values, 0, tl.float32)


@pytest.mark.parametrize("kernel", FORWARD)
@pytest.mark.parametrize("columns", [5, 40, 1500, 17000])
def test_infinities_and_nan_as_in_numpy(backend: Backend, kernel: str, columns: int) -> None:
    rows = drawn((7, columns), tl.float32)
    rows[0] = -np.inf
    rows[1, : columns - 1] = -np.inf  # a masked row: all but the last
    rows[2, columns // 2] = np.inf
    rows[3, -1] = np.nan
    rows[4, 0] = np.nan
    rows[5] = 3e38
    rows[6, 0] = 1000  # the logarithms of the others are far below those of the smallest numbers
    x, values = place(backend, rows, "dense")
    check_forward(backend, kernel, x, values, 1, tl.float32)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4)], ids=str)
def test_nothing_in_nothing_out(device: str, shape: tuple[int, ...]) -> None:
    x = tl.zeros(*shape, device=device, requires_grad=True)
    for dim in range(len(shape)):
        (x.softmax(dim) + x.log_softmax(dim)).sum().backward()
    assert x.grad is not None and x.grad.shape == shape


def test_results_are_the_same_in_every_run(backend: Backend) -> None:
    x, _ = place(backend, drawn((4, 5000), tl.float32), "dense")
    first, second = [backend.to_numpy(backend.fill("softmax", x.shape, x.dtype, x, dim=1)) for _ in range(2)]
    assert first.tobytes() == second.tobytes()


# --- cross entropy ----------------------------------------------------------------------------------------------------


def targets(rows: int, classes: int, dtype: DType = tl.int64) -> np.ndarray:
    return np.random.default_rng([rows, classes]).integers(0, min(classes, 100), rows).astype(dtype.numpy)


def reference(x: np.ndarray, ids: np.ndarray, ignored: int = IGNORED) -> tuple[float, np.ndarray]:
    """The loss, and its derivative times 2."""
    kept = ids != ignored
    chosen = np.where(kept, ids, 0)
    rows, logp = np.arange(len(ids)), log_softmax(x, 1)
    with np.errstate(all="ignore"):
        loss = -logp[rows, chosen][kept].sum() / np.float64(kept.sum())
        slope = np.exp(logp)
        slope[rows, chosen] -= 1
        return loss, np.where(kept[:, None], slope * (2 / np.float64(kept.sum())), 0)


def check_loss(backend: Backend, x: np.ndarray, ids: np.ndarray, dtype: DType, layout: str = "dense",
               ignored: int = IGNORED) -> None:
    (logits, values), target = place(backend, x, layout), backend.from_numpy(ids)
    loss, slope = reference(values, ids, ignored)
    result = backend.fill("cross_entropy", (), dtype.numpy, logits, target, ignore_index=ignored)
    fitting(backend, result, np.asarray(loss), dtype)
    g = backend.from_numpy(np.full((), 2, dtype.numpy))
    result = backend.fill("cross_entropy_grad", x.shape, dtype.numpy, g, logits, target, ignore_index=ignored)
    fitting(backend, result, slope, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_loss_of_classes_of_every_number(backend: Backend, dtype: DType) -> None:
    for classes in COLUMNS:
        check_loss(backend, drawn((5, classes), dtype), targets(5, classes), dtype)


@pytest.mark.parametrize("rows", [1, 8, 9, 31, 33, 255, 257, 1025, 2049, 5000])
def test_loss_of_rows_of_every_number(backend: Backend, rows: int) -> None:
    check_loss(backend, drawn((rows, 10), tl.float32), targets(rows, 10), tl.float32)
    check_loss(backend, drawn((rows, 20), tl.float32), targets(rows, 20), tl.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_in_every_layout(backend: Backend, layout: str) -> None:
    for classes in (10, 40, 300, 1500):
        check_loss(backend, drawn((6, classes), tl.float32), targets(6, classes), tl.float32, layout)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_targets_of_every_integer_dtype(backend: Backend, dtype: DType) -> None:
    check_loss(backend, drawn((9, 12), tl.float32), targets(9, 12, dtype), tl.float32)
    check_loss(backend, drawn((9, 12), tl.float32), np.array([3, 4, 3, 3, 0, 11, 5, 3, 1], dtype.numpy), tl.float32,
               ignored=3)


@pytest.mark.parametrize("dtype", INTEGERS[1:], ids=str)
def test_negative_targets_of_every_integer_dtype(backend: Backend, dtype: DType) -> None:
    x, ids = drawn((9, 12), tl.float32), np.array([3, -7, 3, 3, 0, 11, -7, 3, 1], dtype.numpy)
    check_loss(backend, x, ids, tl.float32, ignored=-7)
    with pytest.raises(tl.OutOfRangeError, match=r"Target -7 is out of bounds: row 1 of 9, 12 classes"):
        backend.fill("cross_entropy", (), x.dtype, backend.from_numpy(x), backend.from_numpy(ids), ignore_index=3)
        backend.synchronize()


def test_targets_of_any_stride(backend: Backend) -> None:
    x, ids = drawn((6, 12), tl.float32), targets(12, 12)
    logits, values = place(backend, x, "dense")
    target = backend.from_numpy(ids)[::-2]
    result = backend.fill("cross_entropy", (), x.dtype, logits, target, ignore_index=IGNORED)
    fitting(backend, result, np.asarray(reference(values, ids[::-2])[0]), tl.float32)


@pytest.mark.parametrize("ignored", [IGNORED, -1, 2])
@pytest.mark.parametrize("classes", [10, 300])
def test_ignored_rows_count_for_nothing(backend: Backend, ignored: int, classes: int) -> None:
    ids = targets(2500, classes)
    ids[::3] = ignored
    check_loss(backend, drawn((2500, classes), tl.float64), ids, tl.float64, ignored=ignored)
    check_loss(backend, drawn((4, classes), tl.float64), ids[:4], tl.float64, ignored=ignored)


@pytest.mark.parametrize("rows", [0, 3])
def test_loss_is_nan_where_no_row_counts(device: str, rows: int) -> None:
    x = tl.zeros(rows, 4, device=device, requires_grad=True)
    loss = F.cross_entropy(x, tl.full((rows,), IGNORED, dtype=tl.int64, device=device))
    loss.backward()
    assert math.isnan(loss.item())
    assert x.grad is not None and not x.grad.cpu().numpy().any()


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
@pytest.mark.parametrize("rows", [3, 5000])
def test_a_target_that_is_no_class_is_named(device: str, rows: int, bad: int) -> None:
    x = tl.zeros(rows, 4, device=device, requires_grad=True)
    ids = np.zeros(rows, np.int64)
    ids[rows - 2] = bad
    message = rf"Target {bad} is out of bounds: row {rows - 2} of {rows}, 4 classes"
    with pytest.raises(tl.OutOfRangeError, match=message):
        F.cross_entropy(x, tl.tensor(ids, device=device)).item()
    if device != "cpu" or bad > 0:  # the CPU's derivative leaves it to the loss to refuse negative ones
        with pytest.raises(tl.OutOfRangeError, match=message):
            tl.ops.cross_entropy_grad(tl.tensor(1.0, device=device), x, tl.tensor(ids, device=device)).cpu()
    ids[rows - 2] = 3
    assert F.cross_entropy(x, tl.tensor(ids, device=device)).item() == pytest.approx(math.log(4))  # all is well again


def test_second_derivative_leaves_out_ignored_rows(device: str) -> None:
    values, ids = drawn((3, 4), tl.float64), np.array([1, IGNORED, 3])
    gradients = []
    for kept in (np.array([True, True, True]), ids != IGNORED):
        x = tl.tensor(values[kept], device=device, requires_grad=True)
        loss = F.cross_entropy(x, tl.tensor(ids[kept], device=device))
        (g,) = tl.autograd.grad(loss, [x], create_graph=True)
        (h,) = tl.autograd.grad((g * g).sum(), [x])
        gradients.append(h.cpu().numpy())
    assert not gradients[0][1].any()
    np.testing.assert_allclose(gradients[0][[0, 2]], gradients[1], rtol=1e-12)


@pytest.mark.parametrize("kernel", ["softmax", "cross_entropy", "cross_entropy_grad"])
def test_other_dtypes_are_refused(kernel: str) -> None:
    backend = get("cuda:sim")
    x, target = backend.from_numpy(np.ones((2, 3), np.int64)), backend.from_numpy(np.zeros(2, np.int64))
    g = backend.from_numpy(np.ones((), np.float32))
    with pytest.raises(tl.DTypeError, match=kernel):
        if kernel == "softmax":
            backend.fill(kernel, x.shape, x.dtype, x, dim=1)
        elif kernel == "cross_entropy":
            backend.fill(kernel, (), np.dtype(np.float32), x, target, ignore_index=IGNORED)
        else:
            backend.fill(kernel, x.shape, g.dtype, g, x, target, ignore_index=IGNORED)
