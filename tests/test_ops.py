"""Every row of the test table through every check, on every device present; and that the table is complete."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from case import ANY, Case, listed, tensors
from cases import CASES

import tensorlite as tl
from tensorlite import ops
from tensorlite.autograd.op import Op
from tensorlite.autograd.tape import Node, Var
from tensorlite.backends import cpu, cpu_amp, cpu_many, cpu_optim, get, kernel_sources, philox
from tensorlite.backends.kernels import catalogue
from tensorlite.backends.kernels.elementwise import FORMULAS
from tensorlite.dtypes import DType
from tensorlite.testing import gradcheck, gradgradcheck

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 3e-6, "float64": 1e-12}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DIFFERENTIABLE = [case for case in CASES if case.gradient]
every_gradient = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda case: case.name)


def wide(array: np.ndarray, result: DType) -> np.ndarray:
    """What the reference sees: float64, int64, or bool where the result is no number."""
    if array.dtype.kind == "b":
        return array.astype(np.float64) if result.is_floating_point else array
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def expected_dtypes(case: Case, dtype: DType) -> list[DType]:
    return [rule(dtype) for rule in listed(case.result)]


def check_values(case: Case, out: Any, expected: Any, dtype: DType) -> None:
    results, references = listed(out), listed(expected)
    assert len(results) == len(references)
    for x, reference, wanted in zip(results, references, itertools.cycle(expected_dtypes(case, dtype)), strict=False):
        assert x.dtype is wanted, f"{dtype.name} gave {x.dtype.name}, not {wanted.name}"
        reference = np.asarray(reference)
        assert x.shape == reference.shape, dtype.name
        values = x.detach().cpu().numpy()
        if wanted.is_floating_point:
            coarse = dtype if dtype.is_floating_point and dtype.itemsize < wanted.itemsize else wanted
            tolerance = TOLERANCE[coarse.name]
            scale = np.max(np.abs(reference[np.isfinite(reference)]), initial=1.0)
            np.testing.assert_allclose(values.astype(np.float64), reference, tolerance, tolerance * scale,
                                       err_msg=dtype.name)
        else:
            np.testing.assert_array_equal(values, reference.astype(wanted.numpy), err_msg=dtype.name)


@every_case
def test_values_and_dtypes(case: Case, device: str) -> None:
    for dtype in ANY:
        for shapes in case.shapes:
            arrays = case.arrays(shapes, dtype)
            inputs = tensors(arrays, device)
            if dtype not in case.dtypes:
                if case.strict:
                    with pytest.raises(tl.TensorliteError):
                        case.function(*inputs)
                break
            out = case.function(*inputs)
            expected = case.reference(*[wide(a, expected_dtypes(case, dtype)[0]) for a in arrays])
            check_values(case, out, expected, dtype)
            for x, before in zip(inputs, arrays, strict=True):
                np.testing.assert_array_equal(x.cpu().numpy(), before, err_msg="the op changed its input")


@every_case
def test_results_do_not_depend_on_strides(case: Case, device: str) -> None:
    for shapes in case.shapes:
        arrays = case.arrays(shapes, tl.float64 if tl.float64 in case.dtypes else tl.int64)
        plain = listed(case.function(*tensors(arrays, device)))
        for inputs in (*views(arrays, device), *(numpy_layouts(arrays) if device == "cpu" else ())):
            for x, y in zip(listed(case.function(*inputs)), plain, strict=True):
                np.testing.assert_allclose(x.cpu().numpy(), y.cpu().numpy(), 1e-14, 1e-14)
                assert case.view or x.is_contiguous(), "the result is not dense"


def views(arrays: list[np.ndarray], device: str) -> Iterator[list[tl.Tensor]]:
    """The same values transposed in memory, as every second element, and starting off a 16-byte boundary."""
    backwards = [tuple(reversed(range(a.ndim))) for a in arrays]
    yield [tl.tensor(a.T.copy(), device=device).permute(order) for a, order in zip(arrays, backwards, strict=True)]
    yield [tl.tensor(np.repeat(a, 2, -1), device=device)[..., ::2] if a.ndim else tl.tensor(a, device=device)
           for a in arrays]
    yield [tl.tensor(np.append(a.dtype.type(0), a), device=device)[1:].view(a.shape) for a in arrays]


def numpy_layouts(arrays: list[np.ndarray]) -> Iterator[list[tl.Tensor]]:
    """What only NumPy makes, and shares: negative strides."""
    yield [tl.from_numpy(a[::-1].copy()[::-1] if a.ndim else a) for a in arrays]


@every_case
def test_nan_spreads_as_in_numpy(case: Case, device: str) -> None:
    if not case.nan or tl.float32 not in case.dtypes:
        pytest.skip("the row says nothing of NaN")
    shapes = case.shapes[0]
    for i in range(len(shapes)):
        arrays = case.arrays(shapes, tl.float32)
        arrays[i].reshape(-1)[:1] = np.nan
        with np.errstate(all="ignore"):
            expected = case.reference(*[a.astype(np.float64) for a in arrays])
        for x, reference in zip(listed(case.function(*tensors(arrays, device))), listed(expected), strict=True):
            np.testing.assert_array_equal(np.isnan(x.cpu().numpy()), np.isnan(reference))


@every_gradient
def test_gradient(case: Case, device: str) -> None:
    for shapes in case.shapes:
        assert gradcheck(case.function, tensors(case.arrays(shapes, tl.float64), device, True), atol=1e-6, rtol=1e-5)


@every_gradient
def test_second_gradient(case: Case, device: str) -> None:
    for shapes in case.shapes:
        inputs = tensors(case.arrays(shapes, tl.float64), device, True)
        assert gradgradcheck(case.function, inputs, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("case", [case for case in CASES if not case.gradient], ids=lambda case: case.name)
def test_no_gradient(case: Case, device: str) -> None:
    if tl.float64 in case.dtypes:
        out = case.function(*tensors(case.arrays(case.shapes[0], tl.float64), device, True))
        assert not any(x.requires_grad for x in listed(out))


def backward(case: Case, inputs: list[tl.Tensor]) -> list[tl.Tensor]:
    """Give every input its gradient for random incoming ones, which are returned and must not have changed."""
    outputs = [x for x in listed(case.function(*inputs)) if x.requires_grad]
    incoming = [tl.randn_like(x) for x in outputs]
    copies = [g.clone() for g in incoming]
    tl.autograd.backward(outputs, incoming)
    assert all(tl.equal(g, c) for g, c in zip(incoming, copies, strict=True)), "backward changed the incoming gradient"
    return incoming


@every_gradient
def test_gradients_have_memory_and_shape_of_their_own(case: Case, device: str) -> None:
    for shapes in case.shapes:
        arrays = case.arrays(shapes, tl.float64)
        inputs = tensors(arrays, device, True)
        incoming = backward(case, inputs)
        gradients = [x.grad for x in inputs if x.grad is not None]  # relu_grad has none for its second input
        assert gradients
        for x, before in zip(inputs, arrays, strict=True):
            if x.grad is not None:
                assert (x.grad.shape, x.grad.dtype, x.grad.device) == (x.shape, x.dtype, x.device)
            np.testing.assert_array_equal(x.detach().cpu().numpy(), before)
        if device == "cpu":
            for a, b in itertools.combinations([g.numpy() for g in (*gradients, *incoming)], 2):
                assert not np.shares_memory(a, b)
            for g, x in itertools.product(gradients, inputs):
                assert not np.shares_memory(g.numpy(), x.detach().numpy())
            assert all(g.array.flags.writeable for g in gradients)


@every_gradient
def test_one_tensor_given_twice(case: Case, device: str) -> None:
    for shapes in case.shapes:
        if len(shapes) == 1 or len(set(shapes)) > 1:
            continue
        values = case.arrays(shapes, tl.float64)[0]
        apart = tensors([values] * len(shapes), device, True)
        tl.manual_seed(1)
        backward(case, apart)
        together = tl.tensor(values, device=device, requires_grad=True)
        tl.manual_seed(1)
        backward(case, [together] * len(shapes))
        total = sum(x.grad.cpu().numpy() for x in apart if x.grad is not None)
        np.testing.assert_allclose(together.grad.cpu().numpy(), total, 1e-12, 1e-12)


@every_gradient
@pytest.mark.parametrize("dtype", [tl.float32, tl.float16, tl.bfloat16], ids=lambda dtype: dtype.name)
def test_gradient_in_other_dtypes(case: Case, dtype: DType, device: str) -> None:
    if dtype not in case.dtypes:
        pytest.skip("not a dtype of the op")
    shapes = case.shapes[0]
    arrays = case.arrays(shapes, dtype)
    inputs, exact = tensors(arrays, device, True), tensors([a.astype(np.float64) for a in arrays], device, True)
    outputs, references = ([x for x in listed(case.function(*xs)) if x.requires_grad] for xs in (inputs, exact))
    incoming = [tl.randn_like(x) for x in outputs]
    tl.autograd.backward(outputs, incoming)
    tl.autograd.backward(references, [g.double() for g in incoming])
    for x, reference in zip(inputs, exact, strict=True):
        if x.grad is None and reference.grad is None:
            continue
        assert (x.grad.shape, x.grad.dtype) == (x.shape, dtype)
        values, wanted = x.grad.double().cpu().numpy(), reference.grad.cpu().numpy()
        tolerance = 8 * TOLERANCE[dtype.name] * max(1.0, np.max(np.abs(wanted), initial=0.0))
        np.testing.assert_allclose(values, wanted, tolerance, tolerance)


@pytest.mark.parametrize("function", [ops.amax, ops.amin, ops.max, ops.min], ids=lambda f: f.__name__)
def test_gradient_of_an_extremum_that_is_nan_goes_to_the_nans(function: Any, device: str) -> None:
    x = tl.tensor([1.0, np.nan, 3.0, np.nan], device=device, requires_grad=True)
    function(x).backward()
    assert x.grad.tolist() == [0, 0.5, 0, 0.5]


# --- the table is complete -------------------------------------------------------------------------------------------

MODULES = [module for module in vars(ops).values() if isinstance(module, ModuleType)]
PUBLIC = {name: value for name, value in vars(ops).items()
          if callable(value) and not name.startswith("_") and name != "ValuesIndices"}
NO_ROW = {"imag": "raises, see test_errors"}
ALL_OPS = {value for module in MODULES for value in vars(module).values() if isinstance(value, Op)}
NEEDS_TWO_DEVICES = {"transfer"}


def test_the_cpu_and_the_devices_with_written_kernels_have_the_same() -> None:
    assert set(cpu.KERNELS) == set(catalogue.TABLE)
    functors = set(re.findall(r"^struct (\w+) \{", kernel_sources.read("formulas.cuh"), re.MULTILINE))
    assert functors - {"normal_cdf"} == set(FORMULAS) | {"copy"}  # a part of gelu; what takes any two dtypes


def test_every_op_has_a_row() -> None:
    named = {case.op for case in CASES}
    assert set(PUBLIC) - named - set(NO_ROW) == set()
    assert len({case.name for case in CASES}) == len(CASES), "two rows of one name"


class Walk:
    """Runs all rows with first and second gradients; notes the kernels, ops and rules that they use."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()
        self.ops: set[str] = set()
        self.rules: set[tuple[str, str]] = set()
        backend = get("cpu")
        backend.observers = (*backend.observers, lambda be, kernel, *_: self.kernels.add(kernel))
        try:
            for case in CASES:
                for dtype in (tl.float64, tl.float32) if tl.float64 in case.dtypes else (tl.int64,):
                    self.run(case, dtype)
        finally:
            backend.observers = backend.observers[:-1]

    def run(self, case: Case, dtype: DType) -> None:
        for shapes in case.shapes:
            inputs = tensors(case.arrays(shapes, dtype), "cpu", case.gradient)
            outputs = [x for x in listed(case.function(*inputs)) if x.requires_grad]
            if not outputs:
                continue
            incoming = [tl.randn_like(x).requires_grad_() for x in outputs]
            tl.autograd.grad(outputs, inputs, incoming, retain_graph=True, materialize_grads=True)
            first = tl.autograd.grad(outputs, inputs, incoming, create_graph=True, materialize_grads=True)
            second = [g for g in first if g.requires_grad]
            self.note([x._node for x in (*outputs, *second)])
            if second:
                targets = [*inputs, *incoming]
                tl.autograd.grad(second, targets, [tl.randn_like(g) for g in second], materialize_grads=True)

    def note(self, stack: list[Node | Var | None]) -> None:
        """The ops of a graph, and the rules by which gradients flow through it."""
        seen: set[Any] = set()
        while stack:
            node = stack.pop()
            if not isinstance(node, Node) or node in seen:
                continue
            seen.add(node)
            for position, parent in enumerate(node.parents):
                if parent is not None:
                    self.rules.add((node.op.name, node.op.input_name(position)))
                    stack.append(parent)


@pytest.fixture(scope="module")
def walk() -> Walk:
    return Walk()


def test_every_kernel_is_called_by_some_row(walk: Walk) -> None:
    """Random numbers, optimizers and what goes over many tensors have tests of their own."""
    elsewhere = set().union(*[family.KERNELS for family in (philox, cpu_optim, cpu_many, cpu_amp)])
    assert set(cpu.KERNELS) - elsewhere - walk.kernels == set()


def test_every_rule_runs_in_some_row(walk: Walk) -> None:
    rules = {(op.name, name) for op in ALL_OPS for name in op.rule_of if op.name not in NEEDS_TWO_DEVICES}
    assert rules - walk.rules == set()


def test_names_of_ops_are_unique() -> None:
    names = [op.name for op in ALL_OPS]
    assert sorted(set(names)) == sorted(names)
