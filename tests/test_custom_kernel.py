"""`tl.kernel`: users' own kernels on every device present; that `check` finds what is wrong; and what is refused."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import get, host
from tensorlite.custom import CustomKernel, kernel
from tensorlite.testing import gradcheck, gradgradcheck

EXAMPLE = Path(__file__).resolve().parent.parent / "examples/custom_kernel.py"
needs_simulator = pytest.mark.skipif(not host.is_available(), reason="no C++ compiler")


squareplus = kernel(
    "squareplus", "(x + sqrt(x * x + b)) * 0.5", reference=lambda x, *, b=4.0: (x + np.sqrt(x * x + b)) / 2,
    derivative=lambda g, x, b: g * (0.5 + x / (2.0 * (x * x + b).sqrt())))
blend = kernel(
    "blend", "const T share = clip / (clip + 1.0); return x * share + y * (1.0 - share);",
    reference=lambda x, y, clip: x * (clip / (clip + 1)) + y * (1 - clip / (clip + 1)),
    derivative={"x": lambda g, clip: g * (clip / (clip + 1.0)), "y": lambda g, clip: g * (1.0 / (clip + 1.0)),
                "clip": None})
tenth = kernel("tenth", "x * .1 + 1e-1", reference=lambda x: x * 0.1 + 0.1)
powers = kernel("powers", "x * x * factor", reference=lambda x, *, factor=3: x * x * factor, promote="any",
                derivative=lambda g, x, factor: g * x * (2 * factor))

PREFIX_SUM = """
template <class T>
__global__ void prefix_sum(const Args<T> args) {
  const i64 row = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= args.rows) return;
  Compute<T> sum = args.start;
  for (i64 j = 0; j < args.columns; ++j) {
    sum += widen(args.x[row * args.columns + j]);
    args.out[row * args.columns + j] = narrow<T>(sum);
  }
}
"""
prefix_sum = kernel(
    "prefix_sum", source=PREFIX_SUM, reference=lambda x, *, start=0: np.cumsum(x, 1) + start, promote="any",
    derivative=lambda g: g.flip(1).cumsum(1).flip(1), grid=lambda x: -(-x.shape[0] // 32), block=32,
    numbers={"rows": lambda x: x.shape[0], "columns": lambda out: out.shape[1]})

ROW_MAX = """
template <class T>
__global__ void row_max(const Args<T> args) {  // one block of 64 threads per row
  extern __shared__ float largest[];
  float mine = float(Limits<Compute<T>>::lowest());
  for (i64 j = threadIdx.x; j < args.columns; j += blockDim.x)
    mine = fmaxf(mine, float(widen(args.x[i64(blockIdx.x) * args.columns + j])));
  largest[threadIdx.x] = mine;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) largest[threadIdx.x] = fmaxf(largest[threadIdx.x], largest[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x == 0) args.out[blockIdx.x] = narrow<T>(largest[0]);
}
"""


def row_max(source: str = ROW_MAX, **options: Any) -> CustomKernel:
    launch = {"grid": lambda out: out.size, "block": 64, "shared": 4 * 64, "out_shape": lambda x: x.shape[:1],
              "numbers": {"columns": lambda x: x.shape[1]}}
    return kernel("row_max", source=source, reference=lambda x: x.max(1), **{**launch, **options})


# --- formulas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [squareplus, blend, powers], ids=lambda op: op.name)
def test_check_agrees_on_each_device(op: CustomKernel, device: str) -> None:
    report = op.check(devices=[device])
    assert str(report).startswith(f"{op.name} agrees with its reference\n  {device}")
    assert "float16 bfloat16 float32 float64" in str(report)
    assert str(report).endswith("3 layouts; gradient; second gradient")
    assert ("int64" in str(report)) == (op is powers)


def test_a_formula_is_an_op(device: str) -> None:
    x = tl.tensor([[-1.0, 0.0, 1.0]], device=device, requires_grad=True)
    y = squareplus(x, b=1)
    assert repr(y.grad_fn).startswith("<SquareplusBackward")
    np.testing.assert_allclose(y.detach().cpu().numpy(), [[0.20710678, 0.5, 1.2071068]], 1e-6)
    y.backward(tl.ones(1, 3, device=device))
    np.testing.assert_allclose(x.grad.cpu().numpy(), [[0.14644663, 0.5, 0.85355335]], 1e-6)
    assert squareplus(tl.tensor([0, 3], device=device)).dtype is tl.float32
    assert powers(tl.tensor([2, 3], device=device), factor=-1).tolist() == [-4, -9]
    assert squareplus(tl.zeros(0, 3, device=device)).shape == (0, 3)
    assert (repr(squareplus), squareplus.__doc__) == ("<kernel squareplus(x, b)>", "(x + sqrt(x * x + b)) * 0.5")


def test_operands_broadcast_and_may_be_numbers(device: str) -> None:
    x, y = tl.ones(2, 1, device=device, requires_grad=True), tl.zeros(3, device=device, requires_grad=True)
    out = blend(x, y, 3.0)
    assert out.tolist() == [[0.75] * 3] * 2
    out.backward(tl.ones(2, 3, device=device))
    assert (x.grad.tolist(), y.grad.tolist()) == ([[2.25], [2.25]], [0.5, 0.5, 0.5])


def test_an_input_whose_rule_is_none_gets_no_gradient(device: str) -> None:
    clip = tl.ones(3, device=device, requires_grad=True)
    assert not blend(tl.ones(3, device=device), 1.0, clip).requires_grad
    assert not tenth(clip).requires_grad


def test_a_rule_must_return_a_tensor() -> None:
    rules: tuple[Callable[..., Any], ...] = (lambda g: np.ones(2), lambda g: 2.0)
    for rule in rules:
        op = kernel("of_numpy", "x", reference=lambda x: x, derivative=rule)
        out = op(tl.ones(2, requires_grad=True)).sum()
        with pytest.raises(tl.ArgumentError, match="of_numpy: the derivative of x must return a Tensor, got"):
            out.backward()


def test_a_reference_cannot_write_into_its_inputs() -> None:
    op = kernel("careless", "x * 2.0", reference=lambda x: np.multiply(x, 2, out=x), derivative=lambda g: g * 2.0)
    x = tl.ones(2, requires_grad=True)
    message = r"careless: the reference must not write into its inputs.*read-only"
    for call in (lambda: op(x), lambda: op.check((2,), devices=["cpu"])):
        with pytest.raises(tl.ArgumentError, match=message):
            call()
    assert x.tolist() == [1, 1]
    with pytest.raises(ValueError, match="negative dimensions"):  # the reference's own errors stay what they are
        kernel("broken", "x", reference=lambda x: np.zeros(-1))(x)


def test_comments_in_a_formula_are_passed_over(device: str) -> None:
    for text in ("x * 2.0  // twice, to return y", "x /* by a\nnumber */ * 2.0"):
        op = kernel("commented", text, reference=lambda x: x * 2)
        assert op(tl.ones(2, device=device)).tolist() == [2, 2]


def test_decimal_numbers_are_of_the_type_of_the_elements(device: str) -> None:
    values = np.arange(100, dtype=np.float32)
    exact = values * np.float32(0.1) + np.float32(0.1)  # as doubles some of them would be rounded otherwise
    np.testing.assert_allclose(tenth(tl.tensor(values, device=device)).cpu().numpy(), exact, 1.2e-7)


def test_every_way_to_write_a_decimal_number_is_of_the_type_of_the_elements(device: str) -> None:
    numbers = ("0.5", ".5", "1.", "1e-1", "1e+1", "2E3", "1.5e-2", ".5e1")
    sizes = " && ".join(f"sizeof({number}) == sizeof(T)" for number in numbers)
    op = kernel("decimals", f"{sizes} && sizeof(0.5f) == 4 && sizeof(3) == 4 ? x : -x", reference=lambda x: x)
    for dtype in (tl.float16, tl.float32, tl.float64):
        assert op(tl.ones(2, dtype=dtype, device=device)).tolist() == [1, 1]


def test_parameters_are_told_apart_by_their_names(device: str) -> None:
    op = kernel("line", "x * slope + offset", reference=lambda x, *, slope, offset: x * slope + offset)
    x = tl.tensor([1.0, 2.0], device=device)
    assert op(x, slope=10.0, offset=1.0).tolist() == op(x, offset=1.0, slope=10.0).tolist() == [11, 21]


def test_derivatives_are_those_of_the_rules(device: str) -> None:
    x = tl.tensor([0.5, -2.0], dtype=tl.float64, device=device, requires_grad=True)
    assert gradcheck(lambda x: squareplus(x, b=2.0), x) and gradgradcheck(lambda x: squareplus(x, b=2.0), x)


def test_the_door_sees_the_kernel_by_its_name(device: str) -> None:
    backend, seen = get(device), []
    backend.observers = (*backend.observers, lambda be, name, out, args, params: seen.append((name, out.shape)))
    try:
        squareplus(tl.ones(2, 3, device=device))
        prefix_sum(tl.ones(2, 3, device=device).t())
    finally:
        backend.observers = backend.observers[:-1]
    wanted = [("squareplus", (2, 3)), ("prefix_sum", (3, 2))]
    assert [call for call in seen if call[0] not in ("fill", "copy")] == wanted


def test_a_name_used_again_leaves_the_first_kernel_as_it_was(device: str) -> None:
    first = kernel("used_again", "x + 1.0", reference=lambda x: x + 1)
    second = kernel("used_again", "x + 2.0", reference=lambda x: x + 2)
    x = tl.zeros(2, device=device)
    assert [first(x).tolist(), second(x).tolist(), first(x).tolist()] == [[1, 1], [2, 2], [1, 1]]


# --- whole kernels --------------------------------------------------------------------------------------------------


def test_a_whole_kernel_is_an_op(device: str) -> None:
    assert "int32 int64, 3 layouts; gradient; second gradient" in str(prefix_sum.check((40, 3), devices=[device]))
    assert prefix_sum(tl.ones(2, 3, device=device), start=5).tolist() == [[6, 7, 8]] * 2
    assert prefix_sum(tl.zeros(0, 3, device=device)).shape == (0, 3)


def test_a_whole_kernel_has_shared_memory_and_a_shape_of_its_own(device: str) -> None:
    assert "no derivative" in str(row_max().check((5, 100), devices=[device], slack=1e4))


def test_calls_of_a_whole_kernel_that_differ_in_one_thing(device: str) -> None:
    x = tl.ones(2, 3, device=device)
    assert [prefix_sum(x, start=start).tolist()[0] for start in (0, 5, 0)] == [[1, 2, 3], [6, 7, 8], [1, 2, 3]]
    assert prefix_sum(x.to(tl.int32), start=5).tolist()[0] == [6, 7, 8]
    op = row_max()
    for columns in (3, 100, 3):  # results of one shape
        x = tl.arange(2.0 * columns, device=device).reshape(2, columns)
        assert op(x).tolist() == [columns - 1, 2 * columns - 1]


def test_a_launch_of_its_own(device: str) -> None:
    source = """template <class T> __global__ void where_am_i(const Args<T> args) {
      const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      args.out[block * blockDim.x + threadIdx.x] = narrow<T>(float(block) + args.offset);
    }"""
    op = kernel("where_am_i", source=source, reference=lambda x, *, offset: np.repeat(np.arange(12.0), 4) + offset,
                grid=(2, 3, 2), block=[4], out_shape=(48,))
    out = op(tl.ones(1, device=device), offset=0.5)
    np.testing.assert_array_equal(out.cpu().numpy(), np.repeat(np.arange(12.0), 4) + 0.5)


# --- check finds what is wrong --------------------------------------------------------------------------------------


def wrong(formula: str = "x * x", **options: Any) -> CustomKernel:
    return kernel("wrong", formula, **{"reference": lambda x: x * x, "derivative": lambda g, x: g * x * 2, **options})


def test_check_finds_a_wrong_derivative(device: str) -> None:
    with pytest.raises(tl.GradError, match=rf"wrong on '{device}': gradcheck: the Jacobian of output 0 for input 0"):
        wrong(derivative=lambda g, x: g * x * 2.01).check(devices=[device])


def test_check_finds_a_wrong_second_derivative(device: str) -> None:
    op = wrong(derivative=lambda g, x: g * x.detach() * 2)
    with pytest.raises(tl.GradError, match=f"wrong on '{device}'"):
        op.check(devices=[device])
    assert str(op.check(devices=[device], second=False)).endswith("gradient")


@needs_simulator
@pytest.mark.parametrize(("formula", "where"), [
    ("x * x + 0.1", "float16, dense: 15 of 15 values differ"),
    ("float(x) * float(x)", "float64, dense"),
    ("T(is_same<T, double> ? 2.0 : 1.0) * x * x", "float64, dense"),
])
def test_check_finds_a_formula_that_is_not_the_reference(formula: str, where: str) -> None:
    with pytest.raises(AssertionError, match=f"wrong on 'cuda:sim', {where}"):
        wrong(formula).check((3, 5))


@needs_simulator
def test_check_finds_a_removed_barrier() -> None:
    broken = ROW_MAX.replace("largest[threadIdx.x] = mine;\n  __syncthreads();", "largest[threadIdx.x] = mine;")
    with pytest.raises(simulator.SimulatorError, match=r"row_max.* in your text\n[\s\S]*block \(0, 0, 0\), thread"):
        row_max(broken).check((5, 100), slack=1e4)


@needs_simulator
def test_check_finds_a_race_that_does_not_show() -> None:
    source = """template <class T> __global__ void several(const Args<T> args) {
      args.out[0] = args.x[0];
    }"""
    op = kernel("several", source=source, reference=lambda x: x[:1], out_shape=(1,), block=32)
    with pytest.raises(simulator.SimulatorError, match="data race"):
        op.check((3,))
    fixed = source.replace("args.out", "if (threadIdx.x == 0) args.out")
    report = kernel("several", source=fixed, reference=lambda x: x[:1], out_shape=(1,), block=32).check((3,))
    assert "cuda:sim  float16 bfloat16 float32 float64, 3 layouts; no derivative; no race or access out of bounds " \
           "under 2 schedules" in str(report)


@needs_simulator
def test_check_says_whose_value_is_which() -> None:
    with pytest.raises(AssertionError, match=r": 3\.0 and 1\.0 .*first is the kernel's, the second the reference's"):
        wrong("x * x + 2.0").check(np.ones(2), devices=["cuda:sim"])


def test_check_takes_values_numbers_and_arrays(device: str) -> None:
    log = kernel("my_log", "log(x)", reference=lambda x: np.log(x), derivative=lambda g, x: g / x)
    log.check(tl.tensor([0.5, 1.0, 2.0]), devices=[device])
    blend.check((2, 3), 1.0, np.ones(3), devices=[device])
    squareplus.check((), b=1.0, devices=[device])


def test_the_report_says_what_was_not_checked() -> None:
    present = tl.testing.devices()
    lines = str(tenth.check((3,))).splitlines()[1:]
    assert len(lines) == 3
    for line in lines:
        assert ("not checked: " in line) == (line.split()[0] not in present)
    with pytest.raises(tl.DeviceError, match="unknown device 'gpu'"):
        tenth.check(devices=["gpu"])


def test_check_finds_a_result_of_another_shape() -> None:
    op = row_max(out_shape=None, grid=lambda x: x.shape[0])
    with pytest.raises(tl.ShapeError, match=r"row_max: the reference makes shape \(2,\) and the kernel \(2, 3\)"):
        op(tl.ones(2, 3))
    if host.is_available():
        with pytest.raises(AssertionError, match=r"got float16 \(2, 3\), the reference gives float16 \(2,\)"):
            op.check((2, 3), devices=["cuda:sim"])


# --- errors in the user's text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiling", [name for name in tl.testing.devices() if name != "cpu"])
def test_what_the_compiler_refuses_is_shown_with_the_line(compiling: str) -> None:
    op = kernel("misspelt", "x *\n  tanj(x)", reference=lambda x: x)
    with pytest.raises(tl.TensorliteError, match=r"in your text\n +2 \|   tanj\(x\)\n[\s\S]*tanj"):
        op(tl.ones(3, device=compiling))


@pytest.mark.parametrize("compiling", [name for name in tl.testing.devices() if name != "cpu"])
def test_a_formula_that_falls_off_its_end_is_refused(compiling: str) -> None:
    op = kernel("falls_off", "const T y = x;\nif (y > 0.0) return y;\n\n", reference=lambda x: x)
    with pytest.raises(tl.TensorliteError, match=r"in your text\n +2 \| if \(y > 0.0\) return y;\n[\s\S]*non-void"):
        op(tl.ones(3, device=compiling))


@needs_simulator
def test_a_divergent_barrier_is_shown_with_the_line() -> None:
    op = row_max(ROW_MAX.replace("  __syncthreads();\n  for", "  if (threadIdx.x) __syncthreads();\n  for"))
    line = r"if \(threadIdx.x\) __syncthreads\(\);"
    with pytest.raises(tl.DeviceError, match=rf"in your text\n[\s\S]*{line}[\s\S]*barrier"):
        op(tl.ones(2, 3, device="cuda:sim"))


@needs_simulator
def test_the_checks_of_the_simulator_show_the_line() -> None:
    source = PREFIX_SUM.replace("if (row >= args.rows) return;", "").replace("prefix_sum", "unbounded")
    op = kernel("unbounded", source=source, reference=lambda x, *, start=0: x, block=32,
                numbers={"rows": lambda x: x.shape[0], "columns": lambda x: x.shape[1]})
    with pytest.raises(tl.DeviceError, match=r"thread \(3, 0, 0\): out of bounds: reads 4 bytes at") as caught:
        simulator.check(op, tl.ones(3, 4, device="cuda:sim"))
    if shutil.which("addr2line"):
        assert "8 |     sum += widen(args.x[row * args.columns + j]);" in str(caught.value)
    with simulator.check():
        assert prefix_sum(tl.ones(3, 4, device="cuda:sim")).tolist() == [[1, 2, 3, 4]] * 3


# --- what is refused at the definition, and at a call ---------------------------------------------------------------


def identity(x: Any) -> Any:
    return x


def define(*args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: kernel(*args, **{"reference": identity, **options})


LAUNCH = {"source": PREFIX_SUM, "reference": identity}
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "identifier": (define("my-op", "x"), tl.ArgumentError, "'my-op' cannot name a kernel: use letters"),
    "word of C++": (define("double", "x"), tl.ArgumentError, "'double' cannot name a kernel"),
    "built-in": (define("exp", "x"), tl.ArgumentError, "exp: the library has a kernel of that name.*my_exp"),
    "promote": (define("a", "x", promote="none"), tl.ArgumentError, "promote must be 'float' or 'any', got 'none'"),
    "neither": (define("a"), tl.ArgumentError, "give either a formula, or a whole kernel as source="),
    "both": (define("a", "x", source="y"), tl.ArgumentError, "give either a formula"),
    "empty": (define("a", " "), tl.ArgumentError, "a: the formula is empty"),
    "unknown name": (define("a", "x * y"), tl.ArgumentError,
                     "the formula uses 'y', and the reference has no such parameter, only x"),
    "macro": (define("a", "x * M_PI"), tl.ArgumentError, "'M_PI', .* no macros: M_PI is 3.14159"),
    "comment alone": (define("a", "// x"), tl.ArgumentError, "a: the formula is empty"),
    "grid": (define("a", "x", grid=3), tl.ArgumentError, "out_shape, grid, block, shared and numbers are for a whole"),
    "too many": (define("a", "v", reference=lambda v, w, x, y, z: v), tl.ArgumentError,
                 "takes up to 4 inputs and parameters, got 5: v, w, x, y, z"),
    "no input": (define("a", "1", reference=lambda: 1), tl.ArgumentError, "a kernel needs at least one input"),
    "variadic": (define("a", "x", reference=lambda *x: x), tl.ArgumentError, r"one by one, not as \*x"),
    "default": (define("a", "x", reference=lambda x, y=1: x), tl.ArgumentError, r"put a \* before it"),
    "reserved": (define("a", "T", reference=lambda T: T), tl.ArgumentError, "cannot be called 'T'"),
    "reserved for rules": (define("a", "g", reference=lambda g: g, derivative=lambda g: g), tl.ArgumentError,
                           "cannot be called 'g'"),
    "no signature": (define("a", "x", reference=dict), tl.ArgumentError, "the reference does not tell its parameters"),
    "ufunc": (define("a", "exp(x)", reference=np.exp), tl.ArgumentError,
              r"wrap it in a lambda: reference=lambda x: exp\(x\)"),
    "one rule for two": (define("a", "x", reference=lambda x, y: x, derivative=lambda g: g), tl.ArgumentError,
                         "give a derivative for each by name: derivative={'x': ...}"),
    "rule of no input": (define("a", "x", derivative={"y": lambda g: g}), tl.ArgumentError, "'y', which is no input"),
    "rule left out": (define("a", "x", reference=lambda x, y: x, derivative={"x": lambda g: g}), tl.ArgumentError,
                      "derivative says nothing of input 'y'; give it a rule, or None .* 'y': None"),
    "derivative that is none": (define("a", "x", derivative=2.0), tl.ArgumentError,
                                "derivative must be a function, or a dict of them by input, got float"),
    "rule that is none": (define("a", "x", derivative={"x": 2.0}), tl.ArgumentError,
                          "the derivative of x must be a function of g and more, or None, got float"),
    "rule that asks": (define("a", "x", derivative=lambda g, y: g), tl.ArgumentError,
                       "the derivative of x asks for 'y'; there are g, out, shapes, x"),
    "source without kernel": (define("a", source=PREFIX_SUM), tl.ArgumentError,
                              "the source must define the kernel by its name: .* void a.const Args<T> args"),
    "field": (define("prefix_sum", **LAUNCH, numbers={"x": 3}), tl.ArgumentError, "'x' cannot be a field"),
    "launch that asks": (define("prefix_sum", **LAUNCH, grid=lambda y: 1), tl.ArgumentError,
                         "a function of the launch asks for 'y'; there are x, out"),
    "shape that asks": (define("prefix_sum", **LAUNCH, out_shape=lambda out: 1), tl.ArgumentError,
                        "out_shape asks for 'out'"),
    "inputs": (lambda: squareplus(tl.ones(2), 3.0), tl.ArgumentError, "squareplus: the inputs are x, got 2 of them"),
    "parameter": (lambda: squareplus(tl.ones(2), c=3.0), tl.ArgumentError, "the parameters are b, got c"),
    "parameter type": (lambda: squareplus(tl.ones(2), b=tl.ones(1)), tl.ArgumentError,
                       "parameter b must be a number, got Tensor"),
    "integer parameter": (lambda: powers(tl.ones(2), factor=0.5), tl.ArgumentError,
                          "parameter factor must be an integer as its default is, got 0.5"),
    "number": (lambda: kernel("two", source=PREFIX_SUM.replace("prefix_sum", "two"), reference=lambda x, y: x)(
        tl.ones(2, 3), 2.0), tl.DTypeError, "two: a whole kernel takes Tensors, got a number"),
    "check inputs": (lambda: squareplus.check((2,), (3,)), tl.ArgumentError,
                     "squareplus.check: takes a shape, Tensor or array for each of x, got 2"),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED.keys())
def test_refused(row: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, error, message = row
    with pytest.raises(error, match=message):
        call()


@needs_simulator
@pytest.mark.parametrize(("options", "message"), [
    ({"grid": 0}, "row_max: grid must be one to three positive integers, got 0"),
    ({"block": (1, 1, 1, 1)}, "row_max: block must be one to three positive integers"),
    ({"grid": lambda x: x.size / 2}, "row_max: grid must be an integer, got 3.0; use // to divide"),
    ({"numbers": {"columns": 2.5}}, "row_max: columns must be an integer, got 2.5"),
    ({"grid": lambda x, out: x.shape[2]},
     r"row_max: the function for grid raises IndexError \(.*\) for x of shape \(2, 3\), out of shape \(2,\)"),
    ({"out_shape": lambda x: x.shape[2:3][0]}, "row_max: the function for out_shape raises IndexError"),
    ({"out_shape": lambda x: x.shape[0] / 2}, "row_max: out_shape must be an integer, got 1.0"),
], ids=["no block", "four dimensions", "half a block", "half a number", "no such axis", "no such size",
        "half a row"])
def test_a_launch_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tl.ArgumentError, match=message):
        row_max(**options)(tl.ones(2, 3, device="cuda:sim"))


# --- around it ------------------------------------------------------------------------------------------------------


def test_kernel_is_loaded_on_first_use() -> None:
    command = "import sys, tensorlite as tl; assert 'tensorlite.custom' not in sys.modules; print(tl.kernel.__name__)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "kernel\n"


def test_the_example_runs(device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["custom_kernel", "--device", device, "--steps", "50"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("3 layouts; gradient; second gradient") == 3
    losses = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("step")]
    assert len(losses) == 2 and losses[1] < losses[0] / 4


@needs_simulator
def test_minus_zero_is_another_parameter_than_zero() -> None:
    sign_of = tl.kernel("sign_of", source="""
        template <class T> __global__ void sign_of(const Args<T> args) {
          if (threadIdx.x == 0 && blockIdx.x == 0) args.out[0] = narrow<T>(::copysign(1.0, args.s));
        }""", reference=lambda x, *, s=0.0: np.copysign(np.ones(1), s), derivative={"x": None})
    x = tl.ones(1, device="cuda:sim")
    assert (sign_of(x, s=0.0).tolist(), sign_of(x, s=-0.0).tolist()) == ([1.0], [-1.0])
