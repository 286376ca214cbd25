"""Pooling beside PyTorch's over a grid of arguments; NaN, ties, capture, and the compiled kernels against NumPy's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.backends import cpu_compiled, get, host
from tensorlite.backends.cpu import CpuBackend
from tensorlite.nn import functional as F
from tensorlite.testing import gradcheck, gradgradcheck

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def drawn(*shape: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_parity(device: str, name: str, values: np.ndarray, *args: Any, **options: Any) -> None:
    """Results, indices and gradients of F.name(values, ...) are PyTorch's; where PyTorch refuses, so do we."""
    torch = pytest.importorskip("torch")
    mine = tl.tensor(values, device=device, requires_grad=True)
    theirs = torch.tensor(values, requires_grad=True)
    try:
        expected = getattr(torch.nn.functional, name)(theirs, *args, **options)
    except RuntimeError:
        with pytest.raises(tl.TensorliteError):
            getattr(F, name)(mine, *args, **options)
        return
    result = getattr(F, name)(mine, *args, **options)
    if isinstance(expected, tuple):
        np.testing.assert_array_equal(result[1].cpu().numpy(), expected[1].numpy())
        result, expected = result[0], expected[0]
    tolerance = TOLERANCE[values.dtype.type]
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected.detach().numpy(), tolerance, tolerance)
    slope = drawn(*expected.shape, dtype=values.dtype, seed=1)
    expected.backward(torch.tensor(slope))
    result.backward(tl.tensor(slope, device=device))
    assert mine.grad is not None
    np.testing.assert_allclose(mine.grad.cpu().numpy(), theirs.grad.numpy(), tolerance, tolerance)


KERNELS = (((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 3), (1, 0)), ((1, 4), (2, 1), (0, 2)),
           ((2, 2), (3, 4), (1, 1)), ((5, 5), (5, 5), (2, 2)), ((8, 8), (1, 1), (0, 0)))
SHAPES = ((2, 3, 8, 8), (1, 2, 7, 5), (3, 6, 9), (1, 1, 1, 9))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), KERNELS, ids=str)
def test_max_pool2d(kernel: Any, stride: Any, padding: Any, ceil_mode: bool, device: str) -> None:
    for shape, dtype in itertools.product(SHAPES, TOLERANCE):
        assert_parity(device, "max_pool2d", drawn(*shape, dtype=dtype), kernel, stride, padding, 1, ceil_mode, True)
    assert_parity(device, "max_pool2d", drawn(2, 3, 9, 8), kernel, stride, 0, (2, 3), ceil_mode, True)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), KERNELS, ids=str)
def test_avg_pool2d(kernel: Any, stride: Any, padding: Any, ceil_mode: bool, device: str) -> None:
    for shape, include, divisor in itertools.product(SHAPES, (True, False), (None, 3)):
        assert_parity(device, "avg_pool2d", drawn(*shape, dtype=np.float32), kernel, stride, padding, ceil_mode,
                      include, divisor)
    assert_parity(device, "avg_pool2d", drawn(2, 3, 8, 9), kernel, stride, padding, ceil_mode)


def test_one_dimension(device: str) -> None:
    for shape, (size, stride, padding), ceil_mode in itertools.product(
            ((2, 3, 8), (3, 7)), ((2, None, 0), (3, 2, 1), ((3,), (1,), (1,))), (False, True)):
        values = drawn(*shape)
        assert_parity(device, "max_pool1d", values, size, stride, padding, 1, ceil_mode)
        assert_parity(device, "max_pool1d", values, 2, stride, 0, 2, ceil_mode, True)
        assert_parity(device, "avg_pool1d", values, size, stride, padding, ceil_mode, False)


@pytest.mark.parametrize("target", [1, 2, 3, 5, 8, 11, (1, 3), (None, 4), (4, None)], ids=str)
def test_adaptive_pooling(target: Any, device: str) -> None:
    for shape, dtype in itertools.product(((2, 3, 8, 6), (3, 7, 5)), TOLERANCE):
        values = drawn(*shape, dtype=dtype)
        assert_parity(device, "adaptive_avg_pool2d", values, target)
        assert_parity(device, "adaptive_max_pool2d", values, target, return_indices=True)
        if isinstance(target, int):
            assert_parity(device, "adaptive_avg_pool1d", values[0], target)
            assert_parity(device, "adaptive_max_pool1d", values[0], target, return_indices=True)


def test_no_windows_at_all(device: str) -> None:
    x = tl.ones(2, 3, 4, 5, device=device)
    for function in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
        assert [function(x, target).shape for target in ((0, 2), (3, 0), (0, 0))] == [
            (2, 3, 0, 2), (2, 3, 3, 0), (2, 3, 0, 0)]


@pytest.mark.parametrize("size", [None, (7, 9), (2, 3, 7, 9)], ids=str)
def test_max_unpool2d(size: Any, device: str) -> None:
    torch = pytest.importorskip("torch")
    plane = (7, 9) if size else (6, 8)
    values = drawn(2, 3, *plane)
    found, indices = torch.nn.functional.max_pool2d(torch.tensor(values), 2, return_indices=True)
    expected = torch.nn.functional.max_unpool2d(found, indices, 2, output_size=size)
    x = tl.tensor(found.numpy(), device=device, requires_grad=True)
    result = F.max_unpool2d(x, tl.tensor(indices.numpy(), device=device), 2, output_size=size)
    np.testing.assert_array_equal(result.detach().cpu().numpy(), expected.numpy())
    assert gradcheck(lambda x: F.max_unpool2d(x, tl.tensor(indices.numpy(), device=device), 2, output_size=size), x)


@pytest.mark.parametrize("values", [(np.nan, 1, 2, 3), (1, np.nan, np.nan, 3), (1, 2, 3, np.nan), (2, 2, 2, 2),
                                    (-np.inf,) * 4, (np.inf, 1, np.inf, 2), (1, 3, 3, 2)], ids=str)
def test_nan_infinities_and_ties(values: Any, device: str) -> None:
    """The first of equals, the last NaN: in windows side by side, and in overlapping ones."""
    plane = np.tile(np.array(values, np.float64).reshape(1, 1, 2, 2), (1, 2, 2, 3))
    assert_parity(device, "max_pool2d", plane, 2, return_indices=True)
    assert_parity(device, "max_pool2d", plane, 2, 1, 1, return_indices=True)
    assert_parity(device, "adaptive_max_pool2d", plane, 3, return_indices=True)


def test_what_a_window_does_not_hold_does_not_reach_its_mean(device: str) -> None:
    x = tl.tensor([[[1.0, 2.0, 3.0, 4.0, np.nan]]], device=device)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, (1, 3)).cpu().numpy(), [[[1.5, 3.0, np.nan]]])
    np.testing.assert_array_equal(F.avg_pool2d(x, (1, 2), 1).cpu().numpy(), [[[1.5, 2.5, 3.5, np.nan]]])


def test_a_window_without_elements_is_minus_infinity_and_gets_no_gradient(device: str) -> None:
    x = tl.ones(1, 1, 1, 2, device=device, requires_grad=True)
    values, indices = F.max_pool2d(x, (1, 2), (1, 1), (0, 2), (1, 3), return_indices=True)
    assert values.tolist() == [[[[1.0, 1.0, -np.inf]]]] or -1 in indices.tolist()[0][0][0]
    values.backward(tl.ones_like(values))
    assert x.grad is not None
    assert x.grad.sum().item() == sum(i >= 0 for i in indices.tolist()[0][0][0])


def test_double_backward(device: str) -> None:
    x = tl.tensor(drawn(2, 2, 5, 6), device=device, requires_grad=True)
    for function in (lambda x: F.max_pool2d(x, 3, 2, 1).square(), lambda x: F.avg_pool2d(x, 3, 2, 1).square(),
                     lambda x: F.adaptive_avg_pool2d(x, (3, 4)).square(),
                     lambda x: F.adaptive_max_pool2d(x, (2, 4)).square()):
        assert gradcheck(function, x) and gradgradcheck(function, x, fast_mode=True)


def test_captured_steps_give_what_eager_ones_do(device: str) -> None:
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d((2, 3)))

    def step(x: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
        leaf = x.detach().requires_grad_()
        out = model(leaf)
        out.square().sum().backward()
        assert leaf.grad is not None
        return out.detach(), leaf.grad

    captured = tl.capture(step)
    for i in range(5):
        x = tl.tensor(drawn(2, 3, 8, 10, seed=i, dtype=np.float32), device=device)
        for mine, eager in zip(captured(x), step(x), strict=True):
            assert mine.tolist() == eager.tolist()


@pytest.mark.parametrize("make", [
    lambda n: n.MaxPool2d(2), lambda n: n.MaxPool2d((3, 2), stride=(2, 1), padding=1, ceil_mode=True),
    lambda n: n.MaxPool1d(3, dilation=2), lambda n: n.AvgPool1d(2, 1), lambda n: n.AvgPool2d(2, padding=1),
    lambda n: n.AvgPool2d((2, 3), ceil_mode=True, count_include_pad=False, divisor_override=5),
    lambda n: n.AdaptiveAvgPool1d(3), lambda n: n.AdaptiveAvgPool2d((None, 2)), lambda n: n.AdaptiveMaxPool2d(3),
    lambda n: n.AdaptiveMaxPool1d(2)])
def test_layers(make: Any) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = make(nn), make(torch.nn)
    assert repr(mine) == repr(theirs)
    x = drawn(2, 6, 7) if "1d" in repr(mine) else drawn(2, 3, 6, 7)
    np.testing.assert_allclose(mine(tl.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), 1e-12)


def test_indices_lead_back_through_the_layers() -> None:
    x = tl.tensor(drawn(2, 3, 6, 8))
    pooled, indices = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(pooled, indices)
    assert back.shape == x.shape and tl.equal(nn.MaxPool2d(2)(back.abs()), pooled.abs())
    assert repr(nn.MaxUnpool2d((2, 3))) == "MaxUnpool2d(kernel_size=(2, 3), stride=(2, 3), padding=0)"
    assert nn.AdaptiveMaxPool2d(2, return_indices=True)(x)[1].dtype is tl.int64


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one dimension": (lambda: F.max_pool1d(tl.ones(3), 1), tl.ShapeError, r"expected an input \(N, C, L\)"),
    "two sizes": (lambda: F.avg_pool1d(tl.ones(1, 3), (1, 2)), tl.ArgumentError, "expected one number"),
    "adaptive dtype": (lambda: F.adaptive_avg_pool2d(tl.ones(1, 2, 2).long(), 1), tl.DTypeError, "convert with"),
    "adaptive shape": (lambda: F.adaptive_max_pool2d(tl.ones(2, 2), 1), tl.ShapeError, "expected 3 or 4 dimensions"),
    "adaptive size": (lambda: F.adaptive_avg_pool2d(tl.ones(1, 2, 2), (1, 2, 3)), tl.ArgumentError, "must be 2 sizes"),
    "unpool": (lambda: F.max_unpool2d(tl.ones(1, 2, 2), tl.zeros(1, 2, 1).long(), 2), tl.ShapeError, "indices of its"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


# --- the compiled kernels against NumPy's -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    if not host.is_available():
        pytest.skip("no C++ compiler")
    library, reason = cpu_compiled._loaded(cpu_compiled.build())
    assert library is not None, reason
    return library.run


GEOMETRIES = (((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)), ((3, 2), (1, 3), (1, 0), (2, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 2, 2, 300), (3, 50, 7, 9), (2, 200, 28, 28), (1, 1, 600, 640),
                                   (0, 2, 6, 6)], ids=str)
def test_compiled_kernels_equal_numpy(compiled: dict[str, Any], shape: Any, dtype: Any) -> None:
    """Planes of one thread and of several, tiles that end within a plane, windows wider than a tile."""
    plain = CpuBackend()
    plain._compiled = {}
    x, ulp = drawn(*shape, dtype=dtype), 10 * np.finfo(dtype).eps
    x[..., ::5] = 0.5  # ties
    x[:1, :1, :4] = -np.inf
    x[..., -1:, -3:] = np.nan
    for kernel, stride, padding, dilation in GEOMETRIES:
        size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(shape[2:], kernel, stride, padding,
                                                                              dilation, strict=True)]
        if min(size) < 1:
            continue
        windows = (*shape[:2], *size)
        g, where = drawn(*windows, dtype=dtype, seed=1), {"kernel_size": kernel, "stride": stride, "padding": padding}
        means = {**where, "count_include_pad": False, "divisor_override": None}
        calls: list[tuple[str, Any, Any, tuple[Any, ...], dict[str, Any]]] = [
            ("max_pool2d", windows, dtype, (x,), {**where, "dilation": dilation}),
            ("max_pool2d_grad", shape, dtype, (g, x), {**where, "dilation": dilation}),
            ("max_pool2d_pick", windows, dtype, (x + 1, x), {**where, "dilation": dilation}),
            ("max_pool2d_indices", windows, np.int64, (x,), {**where, "dilation": dilation}),
        ]
        if dilation == (1, 1):
            calls += [("avg_pool2d", windows, dtype, (x,), means), ("avg_pool2d_grad", shape, dtype, (g,), means),
                      ("avg_pool2d", windows, dtype, (x,), {**means, "divisor_override": 3})]
        for name, result, of, args, params in calls:
            out = np.full(result, -7, of)
            assert compiled[name](out, *args, **params) is True
            expected = plain.fill(name, result, np.dtype(of), *args, **params)
            np.testing.assert_allclose(out, expected, ulp, ulp, err_msg=f"{name} {kernel}")


def test_compiled_kernels_leave_strided_arrays_to_numpy(compiled: dict[str, Any]) -> None:
    x, out = drawn(2, 3, 4, 4).transpose(1, 0, 2, 3), np.empty((3, 2, 2, 2))
    options = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    assert compiled["max_pool2d"](out, x, **options) is False
    assert compiled["max_pool2d"](np.empty((3, 2, 2, 2), np.float32), np.ascontiguousarray(x), **options) is False
    get("cpu").run("max_pool2d", out, x, **options)
    np.testing.assert_array_equal(out, x.reshape(3, 2, 2, 2, 2, 2).max((3, 5)))
