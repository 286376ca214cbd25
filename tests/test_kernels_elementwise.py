"""Every formula of kernels/formulas.cuh, for every dtype that it takes, in every layout: the same as on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import Backend, get
from tensorlite.backends.cpu import CpuBackend
from tensorlite.backends.kernels import Instance, elementwise
from tensorlite.backends.kernels.elementwise import FORMULAS, Formula
from tensorlite.dtypes import ALL, DType
from tensorlite.testing import devices

CPU = CpuBackend()
CPU._compiled = {}  # NumPy's kernels: the compiled derivatives flush denormal numbers
KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

# Relative to the result, or to 1 where it is smaller; the libraries' functions differ in the last bits.
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 4e-15}
POSITIVE = {"log", "log2", "log10", "log1p", "sqrt", "rsqrt", "acosh", "pow", "square", "cube"}
UNIT = {"asin", "acos", "atanh", "sigmoid_grad", "tanh_grad"}
PARTS = {"cube", "bias_relu"}  # of the kernels pow and linear_relu; the CPU has none of these names
FUNCTIONS = [name for name in FORMULAS if name not in PARTS]


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(kernel: str, shape: tuple[int, ...], dtype: DType, seed: int, divisor: bool = False) -> np.ndarray:
    """Numbers that the formula takes, exactly those of the dtype; integers of both signs where it has them."""
    random = np.random.default_rng([seed, *shape, *kernel.encode()])
    if dtype is tl.bool:
        return random.integers(0, 2, shape).astype(bool)
    if not dtype.is_floating_point:
        low, high = (0, 6) if "shift" in kernel or kernel == "pow" else (-100, 100)
        drawn = random.integers(max(low, 0) if dtype is tl.uint8 else low, high, shape)
        return np.where(drawn == 0, 1, drawn).astype(dtype.numpy) if divisor else drawn.astype(dtype.numpy)
    low, high = (0.1, 3.0) if kernel in POSITIVE else (-0.95, 0.95) if kernel in UNIT else (-4.0, 4.0)
    drawn = random.uniform(low + (1.0 if kernel == "acosh" else 0.0), high, shape)
    return drawn.astype(dtype.numpy)


def operands(kernel: str, formula: Formula, shape: tuple[int, ...], dtype: DType) -> list[np.ndarray]:
    divides = kernel in ("div", "floor_divide", "remainder", "fmod")
    return [values(kernel, shape, tl.bool if letter == "b" else dtype, seed, divides and seed == 1)
            for seed, letter in enumerate(formula.inputs)]


def result_dtype(formula: Formula, dtype: DType) -> np.dtype[Any]:
    return np.dtype(np.bool_) if formula.gives_bool else dtype.numpy


def expected(kernel: str, formula: Formula, arrays: list[Any], shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """The CPU's result, whose narrow floats are computed in float32."""
    out = np.empty(shape, result_dtype(formula, dtype))
    CPU.run(kernel, out, *[a.item() if kernel in SCALAR_PARAMETERS and i >= SCALAR_PARAMETERS[kernel] else a
                           for i, a in enumerate(arrays)])
    return out


SCALAR_PARAMETERS = {"leaky_relu": 1, "leaky_relu_grad": 2, "elu": 1, "elu_grad": 2, "softplus": 1,
                     "softplus_grad": 2, "clamp": 1}


def arguments(kernel: str, formula: Formula, shape: tuple[int, ...], dtype: DType) -> list[Any]:
    """Operands, with numbers (as 0-d arrays here) where the operation takes numbers."""
    arrays = operands(kernel, formula, shape, dtype)
    for position in range(SCALAR_PARAMETERS.get(kernel, len(arrays)), len(arrays)):
        arrays[position] = np.array([[1, 2][position % 2]], dtype.numpy).reshape(())
    return arrays


def check(kernel: str, actual: np.ndarray, wanted: np.ndarray, dtype: DType) -> None:
    if actual.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, wanted, err_msg=f"{kernel} {dtype.name}")
        return
    tolerance = TOLERANCE[dtype.name]
    np.testing.assert_allclose(actual.astype(np.float64), wanted.astype(np.float64), tolerance, tolerance,
                               err_msg=f"{kernel} {dtype.name}")


def run(backend: Backend, kernel: str, out: Any, arrays: list[Any]) -> None:
    first = SCALAR_PARAMETERS.get(kernel, len(arrays))
    backend.run(kernel, out, *arrays[:first], *[backend.to_numpy(a).item() for a in arrays[first:]])


@pytest.mark.parametrize("kernel", FUNCTIONS)
def test_every_dtype_at_sizes_around_packs_warps_and_blocks(kernel: str, backend: Backend) -> None:
    formula = FORMULAS[kernel]
    for dtype in formula.dtypes:
        for n in (1, 3, 4, 5, 8, 17, 33, 1023):
            arrays = arguments(kernel, formula, (n,), dtype)
            out = backend.empty((n,), result_dtype(formula, dtype))
            run(backend, kernel, out, [backend.from_numpy(a) for a in arrays])
            check(kernel, backend.to_numpy(out), expected(kernel, formula, arrays, (n,), dtype), dtype)


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same values as views of device memory; the sizes of `a` are 6, 5 and 8."""
    dense = backend.from_numpy
    padded = dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))
    return {
        "dense": dense(a),
        "transposed": dense(np.ascontiguousarray(a.transpose(2, 0, 1))).transpose((1, 2, 0)),
        "inner exchanged": dense(np.ascontiguousarray(a.transpose(0, 2, 1))).transpose((0, 2, 1)),
        "every second": dense(np.repeat(a, 2, -1))[..., ::2],
        "wide rows": dense(np.concatenate([a, a], -1))[..., :8],
        "backwards": dense(np.ascontiguousarray(a[::-1, :, ::-1]))[::-1, :, ::-1],
        "misaligned": padded[1:].reshape(a.shape),
    }


@pytest.mark.parametrize("kernel", ["relu", "add", "lt", "where", "gelu_grad", "bitwise_xor"])
def test_every_layout_of_inputs_and_result(kernel: str, backend: Backend) -> None:
    formula = FORMULAS[kernel]
    for dtype in [d for d in formula.dtypes if d.name in ("float32", "float16", "float64", "uint8", "int64")]:
        arrays = operands(kernel, formula, (6, 5, 8), dtype)
        wanted = expected(kernel, formula, arrays, (6, 5, 8), dtype)
        for name, first in layouts(backend, arrays[0]).items():
            rest = [backend.from_numpy(a) for a in arrays[1:]]
            for place, out in layouts(backend, np.zeros((6, 5, 8), wanted.dtype)).items():
                run(backend, kernel, out, [first, *rest])
                check(f"{kernel} of {name} into {place}", backend.to_numpy(out), wanted, dtype)


BROADCASTS = [((6, 5, 8), (8,)), ((6, 5, 8), (5, 1)), ((6, 5, 8), (6, 1, 1)), ((6, 5, 8), (1, 5, 8)),
              ((6, 5, 8), ()), ((1, 1, 8), (6, 5, 1)), ((3, 7), (7,)), ((3, 7), (3, 1)), ((), ()), ((1, 1), (1,))]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_broadcasting(shapes: tuple[tuple[int, ...], ...], backend: Backend) -> None:
    for dtype in (tl.float32, tl.bfloat16, tl.int8):
        arrays = [values("sub", shape, dtype, seed) for seed, shape in enumerate(shapes)]
        out = backend.elementwise("sub", *map(backend.from_numpy, arrays))
        wanted = CPU.elementwise("sub", *arrays)
        assert out.shape == wanted.shape
        check("sub", backend.to_numpy(out), wanted, dtype)


@pytest.mark.parametrize("source", ALL, ids=lambda d: d.name)
def test_copies_convert_every_dtype_to_every_other(source: DType, backend: Backend) -> None:
    for target in ALL:
        numbers = values("copy", (5, 33), source, 0)
        if not target.is_floating_point and source.is_floating_point:
            numbers = np.abs(numbers)  # a negative float has no uint8, and each machine its own wrong one
        out = backend.cast(backend.from_numpy(numbers), target.numpy)
        np.testing.assert_array_equal(backend.to_numpy(out), numbers.astype(target.numpy), f"{source} to {target}")


def test_special_values_are_those_of_the_cpu(backend: Backend) -> None:
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 3e38, -3e38, 88.0, -88.0]
    for kernel, formula in FORMULAS.items():
        if tl.float32 not in formula.dtypes or formula.inputs not in ("T", "TT") or kernel in SCALAR_PARAMETERS:
            continue
        if kernel in PARTS:
            continue
        x = np.array(special, np.float32)
        grid = [x] if formula.inputs == "T" else [a.reshape(-1).copy() for a in np.meshgrid(x, x)]
        out = backend.empty(grid[0].shape, result_dtype(formula, tl.float32))
        backend.run(kernel, out, *map(backend.from_numpy, grid))
        wanted = np.empty(grid[0].shape, out.dtype)
        CPU.run(kernel, wanted, *grid)
        actual = backend.to_numpy(out)
        np.testing.assert_allclose(actual, wanted, 2e-6, 1e-37, equal_nan=True, err_msg=kernel)


@pytest.mark.parametrize("dtype", elementwise.INTEGERS, ids=lambda d: d.name)
def test_integers_at_their_edges_are_those_of_the_cpu(dtype: DType, backend: Backend) -> None:
    """The smallest number divided by -1, shifts by the width and more or by less than 0, sums that wrap around."""
    info = tl.dtypes.iinfo(dtype)
    edges = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, info.max, info.max - 1]
    edges += [-1, -2, -7, info.min, info.min + 1] if info.min else []
    x = np.array([n for n in edges if n <= info.max], dtype.numpy)
    grid = [a.reshape(-1).copy() for a in np.meshgrid(x, x)]
    for kernel, formula in FORMULAS.items():
        if dtype not in formula.dtypes or set(formula.inputs) != {"T"} or len(formula.inputs) > 2 or kernel in PARTS:
            continue
        arrays = grid[:len(formula.inputs)]
        if kernel in ("floor_divide", "remainder", "fmod", "pow"):
            arrays = [a[grid[1] > 0 if kernel == "pow" else grid[1] != 0] for a in arrays]
        out = backend.empty(arrays[0].shape, result_dtype(formula, dtype))
        backend.run(kernel, out, *map(backend.from_numpy, arrays))
        wanted = np.empty(arrays[0].shape, result_dtype(formula, dtype))
        with np.errstate(all="ignore"):
            CPU.run(kernel, wanted, *arrays)
        np.testing.assert_array_equal(backend.to_numpy(out), wanted, f"{kernel} {dtype.name}")


@pytest.mark.parametrize("kernel", ["floor_divide", "remainder", "fmod", "div", "mul", "add", "sub", "copysign", "neg",
                                    "abs", "floor", "ceil", "trunc", "round", "sqrt", "sign"])
def test_zeros_have_the_signs_of_the_cpus(kernel: str, backend: Backend) -> None:
    x = np.array([0.0, -0.0, 0.3, -0.3, 1.0, -1.0, 2.0, -2.0, np.inf, -np.inf], np.float64)
    arrays = [a.reshape(-1).copy() for a in np.meshgrid(x, x)][:len(FORMULAS[kernel].inputs)]
    out, wanted = backend.empty(arrays[0].shape, x.dtype), np.empty(arrays[0].shape, x.dtype)
    backend.run(kernel, out, *map(backend.from_numpy, arrays))
    with np.errstate(all="ignore"):
        CPU.run(kernel, wanted, *arrays)
    zero = wanted == 0
    actual = backend.to_numpy(out)
    np.testing.assert_array_equal(actual, wanted, err_msg=kernel)
    np.testing.assert_array_equal(np.signbit(actual[zero]), np.signbit(wanted[zero]), err_msg=f"{kernel} of {arrays}")


ACTIVATIONS: dict[str, list[tuple[float, ...]]] = {  # and their derivatives: the numbers behind the arrays
    "leaky_relu": [(0.1,), (-0.5,)], "elu": [(0.7,)], "softplus": [(1.0, 20.0), (4.0, 3.0)],
    "relu": [()], "sigmoid": [()], "tanh": [()], "silu": [()], "gelu": [()], "gelu_tanh": [()], "softsign": [()],
}


@pytest.mark.parametrize("kernel", [*ACTIVATIONS, *[f"{name}_grad" for name in ACTIVATIONS if name != "softsign"]])
def test_activations_at_their_edges_are_those_of_the_cpu(kernel: str, backend: Backend) -> None:
    """At 0, at the threshold, in both tails, and of what is no number."""
    x = np.array([0.0, -0.0, 1e-30, -1e-30, 0.75, 5.0, 20.0, np.nextafter(20, 30), -0.75, -5.0, -20.0, 90.0, -90.0,
                  800.0, -800.0, np.inf, -np.inf, np.nan])
    arrays = [np.full_like(x, 3.0), x] if kernel.endswith("_grad") else [x]
    for numbers in ACTIVATIONS[kernel.removesuffix("_grad")]:
        for dtype in (np.float32, np.float64):
            inputs = [a.astype(dtype) for a in arrays]
            out, wanted = backend.empty(x.shape, np.dtype(dtype)), np.empty(x.shape, dtype)
            backend.run(kernel, out, *map(backend.from_numpy, inputs), *numbers)
            with np.errstate(all="ignore"):
                CPU.run(kernel, wanted, *inputs, *numbers)
            tolerance = 2e-6 if dtype is np.float32 else 1e-14
            near_zero = tolerance if "gelu" in kernel else 1e-37  # gelu's sum cancels in the left tail
            np.testing.assert_allclose(backend.to_numpy(out), wanted, tolerance, near_zero, err_msg=kernel)


def test_indices_of_64_bits_give_the_same(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tensor of more than 2^31 elements takes, at a size that a test can afford."""
    loaded: list[Instance] = []
    load = type(backend).function

    def recording(self: Any, instance: Instance, siblings: Sequence[str] = ()) -> Any:
        loaded.append(instance)
        return load(self, instance, siblings)

    monkeypatch.setattr(type(backend), "function", recording)
    monkeypatch.setattr(elementwise, "index_type", lambda *counts: "u64")
    backend.plans.clear()  # type: ignore[attr-defined]
    for shapes in (((1025,), (1025,)), ((3, 5, 8), (5, 1)), ((7, 3), (3,))):
        arrays = [values("add", shape, tl.float32, seed) for seed, shape in enumerate(shapes)]
        out = backend.elementwise("add", *map(backend.from_numpy, arrays))
        np.testing.assert_array_equal(backend.to_numpy(out), arrays[0] + arrays[1])
    backend.plans.clear()  # type: ignore[attr-defined]
    assert {", u64," in instance.expression for instance in loaded} == {True}


def test_an_integer_division_by_zero_is_named(backend: Backend) -> None:
    x, zero = (backend.from_numpy(np.array(a)) for a in ([4, 5, 6], [1, 0, 2]))
    out = backend.elementwise("floor_divide", x, zero)
    with pytest.raises(tl.errors.ArgumentError, match=r"division or modulo by zero \(element 1 of the result\)"):
        backend.synchronize()
    np.testing.assert_array_equal(backend.to_numpy(out)[[0, 2]], [4, 3])  # the context goes on
    for kernel in ("floor_divide", "remainder", "fmod"):
        with pytest.raises(tl.errors.ArgumentError, match="by zero"):
            backend.elementwise(kernel, x, 0)
    with pytest.raises(tl.errors.ArgumentError, match="negative integer powers"):
        backend.elementwise("pow", x, -1)
    backend.elementwise("pow", x, backend.from_numpy(np.array([1, -2, 1])))
    with pytest.raises(tl.errors.ArgumentError, match="exponent -2 of element 1"):
        backend.synchronize()


def test_numbers_that_a_dtype_does_not_hold(backend: Backend) -> None:
    small = backend.from_numpy(np.array([1, 2], np.int8))
    with pytest.raises(tl.errors.DTypeError, match=r"add does not take \(int8, 500\)"):
        backend.elementwise("add", small, 500)
    with pytest.raises(tl.errors.DTypeError, match=r"add does not take \(int8, 0.5\)"):
        backend.elementwise("add", small, 0.5)
    floats = backend.from_numpy(np.array([1.0, -1.0], np.float32))
    np.testing.assert_array_equal(backend.to_numpy(backend.elementwise("mul", floats, 1e39)), [np.inf, -np.inf])
    with pytest.raises(tl.errors.DTypeError, match="too large"):
        backend.elementwise("mul", floats, 10**400)
    with pytest.raises(tl.errors.DTypeError, match=r"exp does not take \(int8\)"):
        backend.elementwise("exp", small)


@pytest.mark.parametrize("dtype", [d for d in ALL if not d.is_floating_point], ids=lambda d: d.name)
def test_numbers_up_to_the_limits_of_an_integer_dtype(dtype: DType, backend: Backend) -> None:
    limits = (0, 1) if dtype is tl.bool else (tl.dtypes.iinfo(dtype).min, tl.dtypes.iinfo(dtype).max)
    x = np.array([*limits, 1, 0], dtype.numpy)
    on_device = backend.from_numpy(x)
    for kernel in ("eq", "lt", "add", "maximum"):
        out_dtype = np.dtype(np.bool_) if FORMULAS[kernel].gives_bool else dtype.numpy
        for number in (*map(bool if dtype is tl.bool else int, limits), True):
            for number_first in (False, True):
                wanted = np.empty(x.shape, out_dtype)
                CPU.run(kernel, wanted, *((number, x) if number_first else (x, number)))
                out = backend.empty(x.shape, out_dtype)
                backend.run(kernel, out, *((number, on_device) if number_first else (on_device, number)))
                np.testing.assert_array_equal(backend.to_numpy(out), wanted, f"{kernel} {dtype.name} {number}")
        compared = FORMULAS[kernel].gives_bool and dtype is not tl.bool  # which any number can be
        for number in () if compared else (limits[0] - 1, limits[1] + 1):
            with pytest.raises(tl.errors.DTypeError, match=rf"{kernel} does not take \({dtype.name}, {number}\)"):
                backend.run(kernel, backend.empty(x.shape, out_dtype), on_device, number)


def test_a_limit_of_clamp_may_be_missing(backend: Backend) -> None:
    for dtype in (tl.int8, tl.uint8, tl.float16, tl.float64):
        x = np.array([0, 3, 100, 127] if dtype is tl.uint8 else [-128, -3, 100, 127], dtype.numpy)
        if dtype.is_floating_point:
            x[:2] = np.nan, -np.inf
        for low, high in ((None, 5), (5, None), (7, 5), (None, None), (5, 7)):
            out, wanted = backend.empty(x.shape, x.dtype), np.empty_like(x)
            backend.run("clamp", out, backend.from_numpy(x), low, high)
            CPU.run("clamp", wanted, x, low, high)
            np.testing.assert_array_equal(backend.to_numpy(out), wanted, f"{dtype.name} {low} {high}")


def test_more_dimensions_than_a_kernel_takes(backend: Backend) -> None:
    x = backend.from_numpy(np.zeros((2,) * 10, np.float32))
    every = backend.from_numpy(np.zeros((4,) * 9, np.float32))[(slice(None, None, 2),) * 9]
    assert backend.elementwise("neg", x).shape == x.shape  # dense ones become one
    with pytest.raises(tl.errors.ShapeError, match="more than 8 dimensions"):
        backend.elementwise("neg", every)


def test_plans_do_not_pile_up(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorlite.backends.kernels.MAX_PLANS", 8)
    for n in range(1, 40):
        x = backend.from_numpy(np.full(n, 2.0, np.float32))
        np.testing.assert_array_equal(backend.to_numpy(backend.elementwise("square", x)), np.full(n, 4.0))
    assert len(backend.plans) <= 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16], ids=lambda d: d.name)
def test_a_number_is_rounded_to_16_bits_whatever_was_compared_before(dtype: DType, backend: Backend) -> None:
    x = tl.tensor([0.1, 0.3], dtype=dtype, device=backend.device)
    _ = x == 1
    assert (x == 0.1).tolist() == [True, False]


@pytest.mark.parametrize(("dtype", "number"), [(tl.int8, 300), (tl.int8, -300), (tl.uint8, -1), (tl.int64, 2**63)])
def test_comparing_with_integers_that_the_dtype_does_not_hold(dtype: DType, number: int, backend: Backend) -> None:
    here, there = (tl.tensor([1, 2], dtype=dtype, device=d) for d in ("cpu", backend.device))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        assert getattr(tl, name)(there, number).tolist() == getattr(tl, name)(here, number).tolist(), name


def test_a_result_of_another_dtype_is_refused(backend: Backend) -> None:
    x = backend.from_numpy(np.ones(4, np.float32))
    for kernel, dtype in (("exp", np.float64), ("isnan", np.float32)):
        with pytest.raises(tl.errors.DTypeError, match=f"{kernel} does not take"):
            backend.run(kernel, backend.empty((4,), np.dtype(dtype)), x)
