"""The kernels of BatchNorm and its kin and of RMSNorm on each device: lengths, layouts, dtypes; the CPU's both ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from row_layouts import LAYOUTS, TOLERANCE, drawn, fitting, place

import tensorlite as tl
from tensorlite.backends import Array, Backend, cpu_compiled, get, host
from tensorlite.backends.cpu import CpuBackend
from tensorlite.dtypes import DType

FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
EPS = 1e-3
# (N, C, ...) and groups: planes of 1, of fewer and of more than 16, whole packs or not, few and many statistics.
SHAPES: list[tuple[tuple[int, ...], int | None]] = [
    ((5, 4), None), ((300, 3), None), ((3, 300), None), ((7, 5, 3), None), ((40, 6, 2, 2), None), ((6, 3, 4, 4), None),
    ((2, 5, 3, 7), None), ((3, 2, 40, 50), None), ((1, 1, 5000), None), ((900, 2, 8), None), ((4, 70, 1, 2), None),
    ((4, 6), 2), ((3, 6, 5), 1), ((3, 6, 4, 4), 3), ((2, 8, 3, 7), 8), ((2, 4, 40, 50), 2), ((70, 2, 16), 1),
    ((2, 300), 10),
]


@pytest.fixture(params=[*tl.testing.devices(), "numpy"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each device present, and the CPU's without compiled kernels."""
    if request.param != "numpy":
        yield get(request.param)
        return
    plain = CpuBackend()
    plain._compiled = {}
    yield plain


def over(x: np.ndarray, statistics: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape of x, and the axes in it, along which the elements of a statistic lie."""
    if len(statistics) == 1:
        return x.shape, (0, *range(2, x.ndim))
    return (*statistics, x.shape[1] // statistics[1], *x.shape[2:]), tuple(range(2, x.ndim + 1))


def of_channels(value: np.ndarray, x: np.ndarray) -> np.ndarray:
    return value.reshape(-1, *[1] * (x.ndim - 2))


def expected(g: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray,
             training: bool) -> tuple[np.ndarray, ...]:
    """The normalised x, and the derivatives in x, weight and bias."""
    shape, axes = over(x, mean.shape)
    spread = (*mean.shape, *[1] * (len(shape) - len(mean.shape) - (mean.ndim == 1)))
    scale = 1 / np.sqrt(var.reshape(spread) + EPS)
    n = (x.reshape(shape) - mean.reshape(spread)) * scale
    a = (g * of_channels(weight, x)).reshape(shape)
    if training:
        a = a - a.mean(axes, keepdims=True) - n * (a * n).mean(axes, keepdims=True)
    n, others = n.reshape(x.shape), (0, *range(2, x.ndim))
    return n, (a * scale).reshape(x.shape), (g * n).sum(others), g.sum(others)


def close(backend: Backend, result: Array, wanted: np.ndarray, dtype: DType) -> None:
    """As `fitting`, by the largest of the values: sums over many elements are as exact as that."""
    actual = backend.to_numpy(result)
    tolerance = 4 * TOLERANCE[dtype.name]
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(actual.astype(np.float64), wanted, tolerance, tolerance * scale)


def check(backend: Backend, shape: tuple[int, ...], groups: int | None, dtype: DType, layout: str = "dense") -> None:
    """All kernels on arrays of a layout, each from the exact statistics."""
    compute = tl.float32 if dtype.is_narrow else dtype
    statistics = shape[1:2] if groups is None else (shape[0], groups)
    x, x64 = place(backend, drawn(shape, dtype, 1, 2.0), layout)
    g, g64 = place(backend, drawn(shape, dtype, 2), layout)
    weight, weight64 = place(backend, drawn(shape[1:2], dtype, 3), "dense" if layout == "repeated" else layout)
    bias, bias64 = place(backend, drawn(shape[1:2], dtype, 4), "dense")

    def fresh(size: tuple[int, ...], of: DType) -> Array:
        return backend.empty(size, of.numpy)

    split, axes = over(x64, statistics)
    rows = x64.reshape(split)
    exact = rows.mean(axes), rows.var(axes)
    mean, var = fresh(statistics, compute), fresh(statistics, compute)
    backend.run("moments", (mean, var), x)
    close(backend, mean, exact[0], compute)
    close(backend, var, exact[1], compute)

    out = fresh(shape, dtype)
    normalised, *_ = expected(g64, x64, weight64, *exact, False)
    backend.run("batch_norm", out, x, weight, bias, mean, var, eps=EPS)
    close(backend, out, normalised * of_channels(weight64, x64) + of_channels(bias64, x64), dtype)
    backend.run("batch_norm", out, x, None, None, mean, var, eps=EPS)
    close(backend, out, normalised, dtype)
    for training, factor in itertools.product((True, False), (weight, None)):
        grads = fresh(shape, dtype), fresh(shape[1:2], compute), fresh(shape[1:2], compute)
        backend.run("batch_norm_grad", grads, g, x, factor, mean, var, eps=EPS, training=training)
        weight_of = weight64 if factor is not None else np.ones_like(weight64)
        _, *wanted = expected(g64, x64, weight_of, *exact, training)
        for result, value, of in zip(grads, wanted, (dtype, compute, compute), strict=True):
            close(backend, result, value, of)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
def test_shapes(backend: Backend, shape: tuple[int, ...], groups: int | None, dtype: DType) -> None:
    check(backend, shape, groups, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "groups"), [((6, 4, 4), None), ((6, 4, 3, 8), 2), ((9, 8), None)], ids=str)
def test_layouts(backend: Backend, shape: tuple[int, ...], groups: int | None, layout: str) -> None:
    check(backend, shape, groups, tl.float64, layout)


def test_results_go_to_views(backend: Backend) -> None:
    x, x64 = place(backend, drawn((4, 3, 5), tl.float64), "dense")
    zeros, ones = (place(backend, np.full(3, value), "dense")[0] for value in (0.0, 1.0))
    for layout in ("transposed", "misaligned", "sliced", "reversed"):
        out, _ = place(backend, np.zeros((4, 3, 5)), layout)
        backend.run("batch_norm", out, x, None, None, zeros, ones, eps=0.0)
        fitting(backend, backend.copy(out), x64, tl.float64)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("changing", [False, True])
def test_running_statistics(backend: Backend, dtype: DType, changing: bool) -> None:
    compute = tl.float32 if dtype.is_narrow else dtype
    momentum: Any = backend.from_numpy(np.array(0.25)) if changing else 0.25
    for shape in ((300,), (5, 7)):
        (mean, mean64), (var, var64) = (place(backend, abs(drawn(shape, compute, k)), "dense") for k in (1, 2))
        running = [place(backend, drawn(shape[-1:], dtype, k), layout) for k, layout in ((3, "dense"), (4, "sliced"))]
        backend.run("track_moments", (running[0][0], running[1][0]), mean, var, momentum, count=9)
        for (result, before), value, factor in zip(running, (mean64, var64), (1, 9 / 8), strict=True):
            batch = (value if value.ndim == 1 else value.mean(0)) * factor
            close(backend, backend.copy(result), 0.75 * before + 0.25 * batch, dtype)


@pytest.mark.parametrize("shape", [(6, 4, 4, 4), (40, 4)])
def test_nan_stays_in_its_channel(backend: Backend, shape: tuple[int, ...]) -> None:
    values = drawn(shape, tl.float32)
    values[1, 2] = np.nan
    mean, var = (backend.empty((4,), np.dtype(np.float32)) for _ in range(2))
    x = backend.from_numpy(values)
    backend.run("moments", (mean, var), x)
    out, *parts = (backend.empty(size, x.dtype) for size in (shape, (4,), (4,)))
    backend.run("batch_norm_grad", (out, *parts), x, x, None, mean, var, eps=EPS, training=True)
    for result in (backend.to_numpy(a) for a in (mean, var, *parts)):
        assert np.isnan(result).tolist() == [False, False, True, False]
    of_channel = np.moveaxis(backend.to_numpy(out), 1, 0).reshape(4, -1)
    assert np.isnan(of_channel).any(1).tolist() == [False, False, True, False]


# --- RMSNorm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rms_norm(backend: Backend, dtype: DType) -> None:
    """The lengths at which other kernels take over; the mean of a row is far from 0, and must not matter."""
    for columns, layout in itertools.product((1, 5, 16, 40, 129, 1024, 5000, 17000), ("dense", "transposed")):
        x, x64 = place(backend, drawn((3, columns), dtype) + dtype.numpy.type(2), layout)
        g, g64 = place(backend, drawn((3, columns), dtype, 1), layout)
        weight, weight64 = place(backend, drawn((columns,), dtype, 2), "dense")
        scale = 1 / np.sqrt((x64 * x64).mean(1, keepdims=True) + EPS)
        n, a = x64 * scale, g64 * weight64
        results = {
            "rms_norm": ((x, weight, None), n * weight64),
            "rms_norm_grad": ((g, x, weight), scale * (a - n * (a * n).mean(1, keepdims=True))),
            "rms_norm_weight_grad": ((g, x), (g64 * n).sum(0)),
        }
        for name, (arguments, wanted) in results.items():
            out = backend.fill(name, wanted.shape, dtype.numpy, *arguments, dims=(1,), eps=EPS)
            close(backend, out, wanted, dtype)


# --- what the CPU's compiled kernels leave to NumPy -------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> cpu_compiled.Library:
    if not host.is_available():
        pytest.skip("no C++ compiler")
    library, reason = cpu_compiled._loaded(cpu_compiled.build())
    assert library is not None, reason
    return library


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_kernels_take_what_is_dense_and_nothing_else(compiled: cpu_compiled.Library, dtype: Any) -> None:
    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype)

    def taken(name: str, out: Any, *args: Any, **params: Any) -> bool:
        ran, packed = compiled.run[name](out, *args, **params), compiled.pack[name](out, *args, **params)
        assert ran == (packed is not None)
        return bool(ran)

    x, vector = zeros(3, 4, 5), zeros(4)
    given = {"eps": 1.0}
    assert taken("moments", (vector, zeros(4)), x)
    assert taken("moments", (zeros(3, 2), zeros(3, 2)), x)
    assert taken("batch_norm", zeros(3, 4, 5), x, None, vector, vector, vector, **given)
    assert taken("batch_norm_grad", (zeros(3, 4, 5), zeros(4), zeros(4)), x, x, vector, vector, vector, training=False,
                 **given)
    refused = [
        ("moments", (vector, zeros(4)), x.transpose(0, 2, 1)[:, :4]), ("moments", (zeros(5), zeros(5)), x),
        ("moments", (zeros(4), zeros(4)), zeros(0, 4)), ("moments", (zeros(2, 2), zeros(2, 2)), x),
        ("moments", (zeros(8)[::2], zeros(4)), x), ("moments", (zeros(4), zeros(4)), x.astype(np.float16)),
    ]
    for name, out, *args in refused:
        assert not taken(name, out, *args)
    for operands in ((zeros(3, 4, 10)[..., ::2], None, None, vector, vector), (x, zeros(8)[::2], None, vector, vector),
                     (x, None, zeros(5), vector, vector), (x, None, None, vector, zeros(2, 2)),
                     (x, None, None, vector.astype(np.float16), vector)):
        assert not taken("batch_norm", zeros(3, 4, 5), *operands, **given)
    assert not taken("batch_norm", zeros(3, 4, 5), x, None, None, vector, vector)
    for grads, operands in (((zeros(3, 5, 4), vector, vector), (x, x)), ((zeros(3, 4, 5), vector, vector), (x[:2], x)),
                            ((zeros(3, 4, 5), vector.astype(np.float16), vector), (x, x))):
        assert not taken("batch_norm_grad", grads, *operands, None, vector, vector, training=True, **given)
    assert not taken("batch_norm_grad", (zeros(3, 4, 5), vector, vector), x, x, None, vector, vector, **given)
