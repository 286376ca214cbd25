"""Convolutions without PyTorch: the CPU's kernels, NumPy's and compiled, and how layers begin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases_conv import convolved
from profiles import by_name
from test_cpu_compiled import compiled, needs_compiler

import tensorlite as tl
from tensorlite import nn, ops
from tensorlite.backends import cpu_compiled, cpu_conv, get

__all__ = ["compiled"]  # the fixture

# x, weight, stride, padding, dilation, groups: strips that end within a row, at its end, early; one to many tiles
SHAPES = [
    ((3, 1, 28, 28), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((2, 6, 14, 14), (16, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1),
    ((20, 3, 7, 9), (33, 3, 3, 2), (1, 1), (1, 1), (1, 1), 1),
    ((2, 3, 17, 40), (13, 3, 3, 3), (2, 3), (1, 2), (2, 1), 1),
    ((3, 8, 9, 9), (12, 4, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((3, 6, 9, 9), (12, 1, 3, 3), (1, 2), (1, 1), (1, 1), 6),
    ((3, 5, 9, 40), (5, 1, 3, 4), (1, 1), (1, 2), (1, 2), 5),
    ((2, 4, 9, 16), (4, 1, 3, 1), (2, 1), (1, 0), (2, 1), 4),
    ((2, 3, 6, 7), (3, 1, 3, 3), (1, 1), (2, 4), (1, 1), 3),  # more padding than the kernel reaches over
    ((2, 19, 6, 6), (24, 19, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 2, 3, 3), (2, 2, 4, 4), (1, 1), (5, 5), (1, 1), 1),
    ((1, 30, 5, 5), (70, 30, 3, 3), (1, 1), (1, 1), (1, 1), 1),
]
KERNELS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
every_shape = pytest.mark.parametrize("shapes", SHAPES, ids=lambda s: f"{s[0]} {s[1]}")
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def call(kernel: str, shapes: Any, dtype: Any, bias: bool = True) -> tuple[np.ndarray, list[Any], dict[str, Any]]:
    """An empty result, arguments and options."""
    x, w, stride, padding, dilation, groups = shapes
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)]
    g = (x[0], w[0], *size)
    out, *inputs = {"conv2d": (g, x, w, w[:1]), "conv2d_input_grad": (x, g, w, x[1:2]),
                    "conv2d_weight_grad": (w, g, x)}[kernel]
    random = np.random.default_rng([*x, *w])
    arrays: list[Any] = [random.normal(size=shape).astype(dtype) for shape in inputs]
    if not bias and len(arrays) == 3:
        arrays[2] = None
    return np.empty(out, dtype), arrays, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 1e-5 if found.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, tolerance, tolerance * np.max(np.abs(expected), initial=1.0))


@every_shape
def test_numpy_kernels_by_parts(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images are worked on at a time, and each kernel as the transpose of the first."""
    out, (x, w, bias), options = call("conv2d", shapes, np.float64)
    cpu_conv.conv2d(out, x, w, bias, **options)
    assert_near(out, convolved(x, w, bias, **options))
    monkeypatch.setattr(cpu_conv, "_CACHED", 1)
    by_one = np.empty_like(out)
    cpu_conv.conv2d(by_one, x, w, bias, **options)
    assert_near(by_one, out)
    g = np.random.default_rng(1).normal(size=out.shape)
    for_x, for_w = np.empty_like(x), np.empty_like(w)
    cpu_conv.conv2d_input_grad(for_x, g, w, None, **options)
    cpu_conv.conv2d_weight_grad(for_w, g, x, **options)
    product = ((out - bias[:, None, None]) * g).sum()
    assert math.isclose((for_x * x).sum(), product, rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose((for_w * w).sum(), product, rel_tol=1e-9, abs_tol=1e-9)


@needs_compiler
@every_dtype
@every_shape
@pytest.mark.parametrize("kernel", KERNELS)
def test_compiled_kernels(compiled: cpu_compiled.Library, kernel: str, shapes: Any, dtype: Any) -> None:
    for bias in (True, False):
        out, arrays, options = call(kernel, shapes, dtype, bias)
        expected = np.empty_like(out)
        out.fill(np.nan)
        assert compiled.run[kernel](out, *arrays, **options)
        getattr(cpu_conv, kernel)(expected, *arrays, **options)
        assert_near(out, expected)


@needs_compiler
@pytest.mark.parametrize("kernel", KERNELS)
def test_compiled_kernels_know_no_threads(compiled: cpu_compiled.Library, kernel: str,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    shapes = ((40, 8, 20, 20), (16, 8, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    for threads in ("1", "3"):
        with monkeypatch.context() as patch:
            patch.setenv("TENSORLITE_THREADS", threads)
            cpu_compiled._loaded(cpu_compiled.build())
        out, arrays, options = call(kernel, shapes, np.float32)
        assert compiled.run[kernel](out, *arrays, **options)
        results.append(out)
    cpu_compiled._loaded(cpu_compiled.build())
    np.testing.assert_array_equal(*results)


@needs_compiler
@pytest.mark.parametrize("shapes", [((2, 2, 5, 7), (3, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1),
                                    ((2, 2, 5, 7), (2, 1, 3, 3), (1, 1), (1, 1), (1, 1), 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_infinities_stay_where_they_are(compiled: cpu_compiled.Library, kernel: str, shapes: Any) -> None:
    """What lies beside a strip, or was there before, touches no other element."""
    out, arrays, options = call(kernel, shapes, np.float32, bias=False)
    other, others, _ = call(kernel, shapes, np.float32, bias=False)
    for array in filter(lambda a: a is not None, others):
        array.fill(np.inf)
    compiled.run[kernel](other, *others, **options)  # leaves infinities in the threads' scratch
    arrays[-1 if kernel == "conv2d_weight_grad" else 0][0, 0, 2, 6] = np.inf
    expected = np.empty_like(out)
    assert compiled.run[kernel](out, *arrays, **options)
    get("cpu").run_numpy(kernel, expected, tuple(arrays), options)
    np.testing.assert_array_equal(np.isfinite(out), np.isfinite(expected))


@needs_compiler
def test_what_is_left_to_numpy(compiled: cpu_compiled.Library) -> None:
    shapes = SHAPES[0]
    for kernel in KERNELS:
        out, arrays, options = call(kernel, shapes, np.float32)
        turned = np.ascontiguousarray(arrays[0].swapaxes(2, 3)).swapaxes(2, 3)
        assert not compiled.run[kernel](out, turned, *arrays[1:], **options)
        assert not compiled.run[kernel](out, arrays[0].astype(np.float64), *arrays[1:], **options)
        assert not compiled.run[kernel](out, *arrays, **{**options, "stride": (1, 1, 1)})
        if kernel != "conv2d_weight_grad":
            assert not compiled.run[kernel](out[:0], arrays[0][:0], *arrays[1:], **options)


@needs_compiler
@every_dtype
@pytest.mark.parametrize("shape", [(3, 5, 4, 7), (2, 3, 1), (64, 2, 40, 41), (0, 2, 3, 3), (3, 2, 0, 4)])
def test_sums_over_all_but_channels(compiled: cpu_compiled.Library, shape: Any, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    dims = (0, *range(2, x.ndim))
    out = np.empty([n if k == 1 else 1 for k, n in enumerate(shape)], dtype)
    assert compiled.run["sum"](out, x, dims=dims)
    np.testing.assert_allclose(out, x.astype(np.float64).sum(dims, keepdims=True), *((1e-5, 1e-4) if dtype is np.float32
                                                                                    else (1e-12, 1e-12)))
    assert not compiled.run["sum"](out, x, dims=tuple(reversed(dims))) or x.ndim == 2


@pytest.mark.parametrize("use_compiled", [False, pytest.param(True, marks=needs_compiler)])
def test_the_door_gives_dense_results(compiled: cpu_compiled.Library, use_compiled: bool,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """16-bit floats, and inputs of any layout, eager and through both ways."""
    monkeypatch.setattr(get("cpu"), "_compiled", compiled.run if use_compiled else {})
    x = tl.randn(3, 5, 6, 2).permute(0, 3, 2, 1)
    w = tl.randn(3, 3, 2, 4).permute(3, 2, 0, 1)
    expected = convolved(x.numpy().astype(np.float64), w.numpy().astype(np.float64))
    np.testing.assert_allclose(tl.conv2d(x, w).numpy(), expected, 1e-4, 1e-4)
    assert tl.conv2d(x, w).is_contiguous()
    half = tl.conv2d(x.half(), w.half())
    assert half.dtype is tl.float16
    np.testing.assert_allclose(half.numpy().astype(np.float64), expected, 0.02, 0.05)


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "fan_in"), [
    (lambda: nn.Conv2d(6, 64, (3, 5), groups=2), 3 * 15), (lambda: nn.ConvTranspose2d(64, 6, 3, groups=2), 3 * 9),
    (lambda: nn.Conv1d(4, 90, 5), 20)])
def test_parameters_begin_within_the_bounds_of_their_fan(layer: Any, fan_in: int) -> None:
    tl.manual_seed(0)
    made, bound = layer(), 1 / math.sqrt(fan_in)
    for parameter, least in ((made.weight, 0.98), (made.bias, 0.6)):
        assert least * bound < parameter.abs().max().item() <= bound


def test_layers_without_channels_have_no_bounds() -> None:
    assert nn.Conv2d(0, 2, 3)(tl.zeros(1, 0, 5, 5)).shape == (1, 2, 3, 3)


def test_autocast_runs_them_in_16_bits() -> None:
    layer, line = nn.Conv2d(2, 3, 3), nn.ConvTranspose1d(2, 3, 3)
    with tl.autocast("cpu", tl.bfloat16):
        out, longer = layer(tl.ones(1, 2, 4, 4)), line(tl.ones(1, 2, 4))
    assert out.dtype is longer.dtype is tl.bfloat16
    (out.float().sum() + longer.float().sum()).backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype is tl.float32


def test_the_profiler_counts_their_operations() -> None:
    x, w, g = tl.ones(2, 4, 6, 6), tl.ones(6, 2, 3, 2), tl.ones(2, 6, 4, 5)
    options = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 2}
    with tl.profile(bandwidth=1e9, flops=1e9) as p:
        tl.conv2d(x, w, groups=2)
        ops.conv2d_input_grad(g, w, None, size=(6, 6), **options)
        ops.conv2d_weight_grad(g, x, size=(3, 2), **options)
    assert {name: row.flops for name, row in by_name(p).items()} == dict.fromkeys(KERNELS, 2 * g.numel() * 12)
