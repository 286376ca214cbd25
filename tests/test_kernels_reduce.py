"""Every reducer of kernels/reducers.cuh, for every dtype, layout and geometry, against NumPy in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import Array, Backend, get
from tensorlite.backends.kernels import Instance, layout, reduce
from tensorlite.backends.kernels.reduce import REDUCERS, Geometry
from tensorlite.dtypes import DType
from tensorlite.testing import devices

KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

# Of the values that were added, multiplied, ...: one rounding of the result, and a few of the tree.
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 1e-14}
SIZES = (1, 3, 4, 5, 31, 32, 33, 255, 256, 257, 1023, 1025, 3000)


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: tuple[int, ...], dtype: DType, kernel: str) -> np.ndarray:
    """Numbers of the dtype whose sum is not near 0, and whose product does not leave the range of floats."""
    random = np.random.default_rng([*shape, *kernel.encode()])
    if dtype is tl.bool:
        return random.random(shape) < (0.01 if kernel == "any" else 0.99)
    if not dtype.is_floating_point:
        return random.integers(-3 if dtype is not tl.uint8 else 0, 9, shape).astype(dtype.numpy)
    drawn = 1 + random.uniform(-1, 1, shape) * (0.01 if kernel == "prod" else 1)
    return drawn.astype(dtype.numpy)


def logsumexp(x: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    top = x.max(axis=dims, keepdims=True)
    return np.asarray(top + np.log(np.exp(x - top).sum(axis=dims, keepdims=True)))


def position(find: Callable[..., Any]) -> Callable[..., Any]:
    def flat(x: np.ndarray, dims: tuple[int, ...]) -> Any:
        return find(x, axis=dims[0], keepdims=True) if len(dims) == 1 else find(x).reshape((1,) * x.ndim)

    return flat


def folding(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda x, dims: ufunc.reduce(x, axis=dims, keepdims=True, dtype=None if x.dtype.kind == "f" else x.dtype)


REFERENCES: dict[str, Callable[..., Any]] = {
    "sum": folding(np.add), "prod": folding(np.multiply), "amax": folding(np.maximum), "amin": folding(np.minimum),
    "any": folding(np.logical_or), "all": folding(np.logical_and),
    "mean": lambda x, dims: x.mean(axis=dims, keepdims=True),
    "var": lambda x, dims, correction: (np.square(x - x.mean(axis=dims, keepdims=True)).sum(axis=dims, keepdims=True)
                                        / max(math.prod(x.shape[d] for d in dims) - correction, 0)),
    "logsumexp": logsumexp, "argmax": position(np.argmax), "argmin": position(np.argmin),
}


def parameters(kernel: str) -> dict[str, Any]:
    return {"correction": 1} if kernel == "var" else {}


def run(backend: Backend, kernel: str, x: Array, dims: tuple[int, ...], **params: Any) -> np.ndarray:
    dtype = np.dtype(np.int64) if kernel.startswith("arg") else x.dtype
    return backend.to_numpy(backend.reduce(kernel, x, dims, True, dtype, **params))


def check(backend: Backend, kernel: str, a: np.ndarray, dims: tuple[int, ...], x: Array | None = None) -> None:
    """The kernel's result for the values `a`, which lie in x, is NumPy's."""
    dtype, params = tl.dtypes.from_numpy(a.dtype), parameters(kernel)
    actual = run(backend, kernel, backend.from_numpy(a) if x is None else x, dims, **params)
    with np.errstate(all="ignore"):
        wanted = REFERENCES[kernel](a.astype(np.float64) if dtype.is_floating_point else a, dims, **params)
    where = f"{kernel} {dtype.name} {a.shape} {dims}"
    assert actual.shape == wanted.shape, where
    if actual.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, wanted, err_msg=where)
    else:
        rtol = TOLERANCE[dtype.name] * (max(1, a.size ** 0.5 / 4) if kernel == "prod" else 1)
        np.testing.assert_allclose(actual.astype(np.float64), wanted, rtol, rtol, err_msg=where)


@pytest.mark.parametrize("kernel", REDUCERS)
def test_every_dtype_at_sizes_around_packs_warps_and_blocks(kernel: str, backend: Backend) -> None:
    for dtype, n in itertools.product(REDUCERS[kernel], SIZES):
        check(backend, kernel, values((n,), dtype, kernel), (0,))
        check(backend, kernel, values((3, n), dtype, kernel), (1,))
        check(backend, kernel, values((n, 3), dtype, kernel), (0,))


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same values as views of device memory; `a` has three dimensions."""
    dense = backend.from_numpy
    return {
        "dense": dense(a),
        "transposed": dense(np.ascontiguousarray(a.transpose(2, 0, 1))).transpose((1, 2, 0)),
        "inner exchanged": dense(np.ascontiguousarray(a.transpose(0, 2, 1))).transpose((0, 2, 1)),
        "every second": dense(np.repeat(a, 2, -1))[..., ::2],
        "wide rows": dense(np.concatenate([a, a], -1))[..., :a.shape[-1]],
        "backwards": dense(np.ascontiguousarray(a[::-1, :, ::-1]))[::-1, :, ::-1],
        "misaligned": dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))[1:].reshape(a.shape),
    }


@pytest.mark.parametrize("kernel", REDUCERS)
@pytest.mark.parametrize("shape", [(6, 5, 8), (3, 2, 300)])
def test_every_layout_and_every_choice_of_dimensions(kernel: str, shape: tuple[int, ...], backend: Backend) -> None:
    several = ((0, 1, 2),) if kernel.startswith("arg") else ((0, 1), (0, 2), (1, 2), (0, 1, 2), ())
    for dtype in [d for d in REDUCERS[kernel] if d.name in ("bool", "float32", "float16", "float64", "int64")]:
        a = values(shape, dtype, kernel)
        for x in layouts(backend, a).values():
            for dims in ((0,), (1,), (2,), *several):
                check(backend, kernel, a, dims, x)


@pytest.mark.parametrize("kernel", ["sum", "argmax", "var"])
def test_repeated_elements(kernel: str, backend: Backend) -> None:
    a = values((1, 40, 1), tl.float32, kernel)
    x = backend.expand(backend.from_numpy(a), (5, 40, 6))
    for dims in ((0,), (1,), (2,), (0, 1, 2)):
        check(backend, kernel, np.broadcast_to(a, (5, 40, 6)), dims, x)


# --- geometry: splits, packs of columns, 64-bit indices --------------------------------------------------------------

SPLIT = {"full": ((90_001,), (0,)), "rows": ((3, 70_001), (1,)), "few columns": ((20_001, 3), (0,)),
         "columns": ((1025, 40), (0,)), "outer and inner": ((70, 4, 300), (0, 2))}


@pytest.mark.parametrize("case", SPLIT)
@pytest.mark.parametrize("kernel", ["sum", "amax", "var", "logsumexp", "argmin"])
def test_reductions_that_are_split_over_the_grid(kernel: str, case: str, backend: Backend) -> None:
    shape, dims = SPLIT[case]
    if kernel.startswith("arg") and len(dims) > 1:
        dims = (0, 1, 2)
    check(backend, kernel, values(shape, tl.float32, kernel), dims)


@pytest.mark.parametrize("kernel", ["sum", "mean", "argmax"])
@pytest.mark.parametrize("dtype", [tl.float32, tl.bfloat16, tl.float64, tl.uint8], ids=lambda d: d.name)
def test_columns_in_packs(kernel: str, dtype: DType, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "PACKED", 1)
    if dtype in REDUCERS[kernel]:
        for shape in ((37, 44), (1100, 132)):  # shapes of this test alone, for plans are kept
            check(backend, kernel, values(shape, dtype, kernel), (0,))


@pytest.mark.parametrize("kernel", ["sum", "argmax"])
def test_64_bit_indices(kernel: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LARGE", 1)
    for shape, dim in (((7, 1030), 1), ((1031, 7), 0), ((33_009,), 0), ((1, 5, 3), 1)):
        check(backend, kernel, values(shape, tl.float32, kernel), (dim,))


def geometry(folded: int, kept: int, step: int = 1, kept_step: int = 1) -> Geometry:
    return Geometry([folded], [(step,)], [kept], [(kept_step, 1)])


def test_threads_lie_along_what_is_close_together() -> None:
    rows = reduce._layout(geometry(4096, 4096, 1, 4096), 4, True)
    columns = reduce._layout(geometry(4096, 4096, 4096, 1), 4, True)
    assert (rows.template, rows.width, rows.across, rows.share) == ("rows", 4, 256, 4096)
    assert (columns.template, columns.width, columns.across, columns.down) == ("columns", 4, 32, 8)
    assert 4096 // columns.share * (4096 // (32 * 4)) == reduce.BLOCKS  # enough blocks for a large GPU
    assert reduce._layout(geometry(10, 1000, 1, 10), 4, True)[:4] == ("rows", 1, 16, 16)
    assert reduce._layout(geometry(1, 1000), 4, True)[:4] == ("columns", 1, 256, 1)


# --- values that are special ------------------------------------------------------------------------------------------


def test_no_elements_and_no_results(backend: Backend) -> None:
    for kernel, identity in {"sum": 0.0, "prod": 1.0, "mean": np.nan, "var": np.nan, "logsumexp": -np.inf}.items():
        for shape, dims in (((0,), (0,)), ((3, 0), (1,)), ((0, 3), (0,))):
            actual = run(backend, kernel, backend.from_numpy(np.empty(shape, np.float32)), dims, **parameters(kernel))
            np.testing.assert_array_equal(actual, np.full(actual.shape, identity, np.float32), err_msg=kernel)
        empty = backend.from_numpy(np.empty((0, 3), np.float32))
        assert run(backend, kernel, empty, (1,), **parameters(kernel)).shape == (0, 1)
    nothing = backend.from_numpy(np.empty((0,), np.bool_))
    assert not run(backend, "any", nothing, (0,)).item()
    assert run(backend, "all", nothing, (0,)).item()


@pytest.mark.parametrize("kernel", [k for k in REDUCERS if k not in ("any", "all", "var")])
def test_a_number_without_dimensions(kernel: str, backend: Backend) -> None:
    result = run(backend, kernel, backend.from_numpy(np.array(2.5, np.float32)), ())
    assert result.item() == (0 if kernel.startswith("arg") else 2.5)


@pytest.mark.parametrize("n", [5, 300, 40_000])
def test_nan_wins_and_the_first_of_equals_is_found(n: int, backend: Backend) -> None:
    a = np.zeros(n, np.float32)
    for kernel in ("argmax", "argmin"):
        check(backend, kernel, a, (0,))
        check(backend, kernel, np.full(n, np.inf if kernel == "argmin" else -np.inf, np.float32), (0,))
    a[[n // 2, n - 1]] = np.nan
    a[n - 2] = np.inf
    for kernel in ("amax", "amin", "sum", "prod", "mean", "var", "logsumexp", "argmax", "argmin"):
        check(backend, kernel, a, (0,))


@pytest.mark.parametrize("dtype", [d for d in tl.dtypes.ALL if not d.is_floating_point], ids=lambda d: d.name)
def test_integers_at_their_limits(dtype: DType, backend: Backend) -> None:
    """Where all are the smallest number, or all the largest, what a fold begins with must not show."""
    least, most = (0, 1) if dtype is tl.bool else (tl.dtypes.iinfo(dtype).min, tl.dtypes.iinfo(dtype).max)
    for n in (1, 5, 40, 1025):
        for number in (least, most):
            a = np.full((n, 3), number, dtype.numpy)
            for kernel, dims in itertools.product(("amax", "amin", "argmax", "argmin"), ((0,), (1,))):
                check(backend, kernel, a, dims)


def test_infinities(backend: Backend) -> None:
    a = np.array([[np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf] * 3, [np.inf] * 3, [1e30] * 3, [100, 1000, -1000]], "f")
    wanted = [np.inf, 2 + np.log1p(np.exp(-1)), -np.inf, np.inf, 1e30, 1000]
    np.testing.assert_allclose(run(backend, "logsumexp", backend.from_numpy(a), (1,))[:, 0], wanted, 1e-6)
    variance = run(backend, "var", backend.from_numpy(a), (1,), correction=0)[:, 0]
    np.testing.assert_array_equal(np.isnan(variance), [True, True, True, True, False, False])
    assert variance[4] == 0


def test_the_divisor_of_a_variance(backend: Backend) -> None:
    x = backend.from_numpy(np.array([1.0, 2.0, 4.0], np.float64))
    with np.errstate(all="ignore"):
        for correction in (0, 1, 0.5, 3, 5):
            wanted = np.float64(14 / 3) / max(3 - correction, 0)
            np.testing.assert_allclose(run(backend, "var", x, (0,), correction=correction), [wanted], 1e-14)


def test_a_variance_far_from_zero_keeps_its_digits(backend: Backend) -> None:
    a = (np.random.default_rng(0).normal(size=50_000) + 4096).astype(np.float32)
    np.testing.assert_allclose(run(backend, "var", backend.from_numpy(a), (0,), correction=1),
                               [a.astype(np.float64).var(ddof=1)], 1e-4)


def test_narrow_floats_are_summed_wide_and_integers_wrap(backend: Backend) -> None:
    assert run(backend, "sum", backend.from_numpy(np.full(4096, 1.0, np.float16)), (0,)).item() == 4096
    assert run(backend, "sum", backend.from_numpy(np.full(300, 1, np.uint8)), (0,)).item() == 44
    check(backend, "prod", np.full(70, 3, np.int64), (0,))


def test_the_result_may_be_a_view(backend: Backend) -> None:
    x = backend.from_numpy(np.arange(60, dtype=np.float32).reshape(3, 4, 5))
    whole = backend.from_numpy(np.full((1, 5, 8), -1, np.float32))
    backend.run("sum", whole[:, :, ::2].transpose((0, 2, 1)), x, dims=(0,))
    written = backend.to_numpy(whole)
    np.testing.assert_array_equal(written[0, :, ::2], np.arange(60).reshape(3, 4, 5).sum(0).T)
    assert (written[0, :, 1::2] == -1).all()


def test_sums_are_the_same_in_every_run(backend: Backend) -> None:
    x = backend.from_numpy(np.random.default_rng(0).normal(size=70_001).astype(np.float32))
    assert len({run(backend, "sum", x, (0,)).tobytes() for _ in range(3)}) == 1


def test_dtypes_that_a_reducer_does_not_take(backend: Backend) -> None:
    out = backend.empty((1,), np.dtype(np.int64))
    integers = backend.from_numpy(np.arange(3))
    for kernel in ("mean", "var", "logsumexp", "any"):
        with pytest.raises(tl.DTypeError, match=rf"{kernel} does not take \(int64\)"):
            backend.run(kernel, out, integers, dims=(0,), **parameters(kernel))


def test_the_list_of_instances_names_each_kernel_once() -> None:
    listed = list(reduce.instances())
    assert len(listed) == len(set(listed)) > 300
    assert Instance("reduce.cu", "columns<reducers::sum, u32, float, float, 4>") in listed
