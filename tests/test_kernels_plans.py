"""A plan serves the calls that it was made for and no others: calls that differ in one thing, one after the other.

A row of CALLS is a list of calls, of which a later one would get the plan of an earlier one if what tells them apart
were missing in the plan's key, or whose memory must not be accessed in the units of a plainer layout. Results are the
CPU's, and on "cuda:sim" all runs under checks of bounds and alignment.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import Instance, index, layout, reduce
from tensorlite.testing import devices

CPU = get("cpu")
KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

View = Callable[[Any], Any]


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Any:
    chosen: Any = get(request.param)
    chosen.plans.clear()
    yield chosen
    chosen.plans.clear()


class A(NamedTuple):
    """An array: a view of random integers from 0 to below `high`, in memory of some shape."""

    shape: tuple[int, ...]
    view: View = lambda x: x
    dtype: Any = np.float32
    high: int = 50

    def on(self, backend: Backend, seed: int) -> tuple[Any, Any]:
        """The memory, and the view."""
        drawn = np.random.default_rng([seed, *self.shape]).integers(0, self.high, self.shape)
        memory = backend.from_numpy(drawn.astype(self.dtype))
        return memory, self.view(memory)


def _on(backend: Backend, a: Any, seed: int) -> Any:
    """An argument on a device."""
    if type(a) is tuple:
        return tuple([_on(backend, item, seed) for item in a])
    return a.on(backend, seed)[1] if isinstance(a, A) else a


class Call(NamedTuple):
    """backend.run(kernel, out, *args, **params); a tuple of one stands for many arrays."""

    kernel: str
    out: Any
    args: tuple[Any, ...]
    params: Mapping[str, Any] = MappingProxyType({})

    def run(self, backend: Backend) -> np.ndarray:
        """All of the memory in which `out` lies, after the call."""
        many = type(self.out) is tuple
        memory, out = (self.out[0] if many else self.out).on(backend, 99)
        args = [_on(backend, a, seed) for seed, a in enumerate(self.args)]
        backend.run(self.kernel, (out,) if many else out, *args, **self.params)
        return backend.to_numpy(memory)


def watched(backend: Backend) -> contextlib.AbstractContextManager[None]:
    """Under checks of bounds and alignment, where a device has them."""
    return simulator.check(schedules=1) if backend.device.type == "cuda:sim" else contextlib.nullcontext()


# --- views ------------------------------------------------------------------------------------------------------------


def behind(x: Any) -> Any:  # off a 16-byte boundary
    return x[1:]


def left(x: Any) -> Any:  # rows that are followed by what is not theirs
    return x[:, :-2]


def turned(x: Any) -> Any:
    return x.transpose((1, 0))


def second(x: Any) -> Any:
    return x[::2]


def inner_second(x: Any) -> Any:
    return x[:, ::2]


def behind_matrix(x: Any) -> Any:
    return x[1:].reshape(6, 44)


# --- calls ------------------------------------------------------------------------------------------------------------


def softmax(x: A, out: A, kernel: str = "softmax") -> Call:
    return Call(kernel, out, (x,) if kernel == "softmax" else (x, x), {"dim": 1})


def layer_norm(x: A, eps: float = 1e-5, columns: int = 44) -> Call:
    return Call("layer_norm", A((6, columns)), (x, A((columns,)), None), {"dims": (1,), "eps": eps})


def weight_grad(g: A, eps: float = 1e-5) -> Call:
    return Call("layer_norm_weight_grad", A((44,)), (g, A((6, 44))), {"dims": (1,), "eps": eps})


def loss(target: A, logits: A = A((6, 200), high=9)) -> Call:  # noqa: B008
    return Call("cross_entropy", A(()), (logits, target), {"ignore_index": -100})


def slope(target: A, out: A = A((6, 200))) -> Call:  # noqa: B008
    return Call("cross_entropy_grad", out, (A((), high=2), A((6, 200), high=9), target), {"ignore_index": -100})


def ids(*shape: int, view: View = lambda x: x, dtype: Any = np.int64, high: int = 5) -> A:
    return A(shape, view, dtype, high)


def gather(x: A, out: A) -> Call:
    return Call("index", out, (x, ids(7)), {"dims": (0,)})


def scatter(kernel: str, value: A, out: A = A((5, 8)), count: int = 7) -> Call:  # noqa: B008
    return Call(kernel, out, (value, ids(count)), {"dims": (0,)})


def reduction(kernel: str, x: A, out: A, *dims: int) -> Call:
    return Call(kernel, out, (x,), {"dims": dims})


def linear_relu(bias: A | None, dtype: Any = np.float32) -> Call:
    return Call("linear_relu", A((3, 33), dtype=dtype), (A((3, 4), dtype=dtype), A((33, 4), dtype=dtype), bias))


def linear(bias: A | None, out: A = A((3, 33))) -> Call:  # noqa: B008
    return Call("linear", out, (A((3, 4)), A((33, 4)), bias))


def random(kernel: str, out: A, *operands: A, **params: Any) -> Call:
    return Call(kernel, out, (A((2,), dtype=np.uint64), *operands), params)


def sgd(view: View, shape: tuple[int, ...] = (401,)) -> Call:
    options = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.5, "nesterov": False, "maximize": False}
    return Call("sgd_step", (A(shape, view),), ((A(shape, view),), A((), dtype=np.float64, high=3), None), options)


FLOAT16, BFLOAT16, BOOL = np.float16, tl.bfloat16.numpy, np.dtype(np.bool_)
MATRIX = A((5, 5))

CALLS: dict[str, list[Call]] = {
    "elementwise: a number for all, then one for each row": [
        Call("sub", MATRIX, (MATRIX, A((1, 1)))), Call("sub", MATRIX, (MATRIX, A((5, 1))))],
    "elementwise: a number after an array, and before it": [
        Call("sub", MATRIX, (MATRIX, 2.0)), Call("sub", MATRIX, (2.0, MATRIX)), Call("sub", MATRIX, (MATRIX, MATRIX))],
    "elementwise: aligned or not": [
        Call("add", A((400,)), (A((400,)), A((400,)))), Call("add", A((400,)), (A((401,), behind), A((400,)))),
        Call("add", A((401,), behind), (A((400,)), A((400,))))],
    "elementwise: sizes that leave a tail": [Call("add", A((n,), dtype=t), (A((n,), dtype=t), A((n,), dtype=t)))
                                             for n in (1, 7, 33, 1025) for t in (np.uint8, FLOAT16, np.float64)],
    "elementwise: rows that do not begin at packs": [
        Call("neg", A((6, 44)), (A((6, 46), left),)), Call("neg", A((6, 46), left), (A((6, 44)),)),
        Call("copy", A((6, 46), left, FLOAT16), (A((6, 44)),)),
        Call("copy", A((6, 46), left, np.float64), (A((6, 44), dtype=np.uint8),))],
    "sum: a dense result, and one that is not": [
        reduction("sum", A((6, 44)), A((1, 44)), 0), reduction("sum", A((6, 44)), A((1, 88), inner_second), 0)],
    "sum: aligned or not": [
        reduction("sum", A((6, 44)), A((6, 1)), 1), reduction("sum", A((265,), behind_matrix), A((6, 1)), 1),
        reduction("sum", A((4001,), behind), A((1,)), 0), reduction("sum", A((4000,)), A((1,)), 0)],
    "softmax: aligned or not": [
        softmax(A((6, 44)), A((6, 44))), softmax(A((265,), behind_matrix), A((6, 44))),
        softmax(A((6, 44)), A((265,), behind_matrix)), softmax(A((266,), lambda x: x[2:].reshape(6, 44)), A((6, 44)))],
    "softmax: rows that end within a pack, or begin within one": [
        softmax(x, x, kernel) for x in (A((6, 44), left), A((6, 46), left), A((6, 600), left))
        for kernel in ("softmax", "softmax_grad")],
    "layer norm: eps": [layer_norm(A((6, 44)), eps) for eps in (1e-5, 100.0)],
    "layer norm: aligned or not": [layer_norm(A((6, 44))), layer_norm(A((265,), behind_matrix))],
    "layer norm: rows that end within a pack, or begin within one": [
        layer_norm(A((6, 44), left), columns=42), layer_norm(A((6, 46), left))],
    "layer norm of the weight: eps": [weight_grad(A((6, 44)), eps) for eps in (1e-5, 100.0)],
    "layer norm of the weight: layouts of g": [
        weight_grad(A((6, 44))), weight_grad(A((44, 6), turned)), weight_grad(A((265,), behind_matrix)),
        weight_grad(A((6, 46), left))],
    "cross entropy: signed and unsigned targets": [
        make(A((6,), dtype=np.uint8, high=200) if unsigned else ids(6, dtype=np.int8, high=100))
        for make in (loss, slope) for unsigned in (False, True)],
    "cross entropy: targets side by side, or apart": [
        make(target) for make in (loss, slope) for target in (ids(6), ids(12, view=second))],
    "cross entropy: aligned or not": [
        loss(ids(6), A((6, 44), high=9)), loss(ids(6), A((265,), behind_matrix, high=9))],
    "cross entropy: layouts of the derivative": [
        slope(ids(6)), slope(ids(6), A((200, 6), turned)), slope(ids(6), A((6, 202), left)),
        slope(ids(6), A((6, 400), inner_second))],
    "gather: rows that begin at packs, or not": [
        gather(A((5, 8)), A((7, 8))), gather(A((5, 10), left), A((7, 8))), gather(A((5, 8)), A((7, 10), left)),
        gather(A((6, 8), behind), A((7, 8))), gather(A((5, 9), lambda x: x[:, :8], FLOAT16), A((7, 8), dtype=FLOAT16))],
    **{f"{kernel} of {count}: values that repeat, and layouts": [
        *[scatter(kernel, A(shape), count=count) for shape in ((1, 1), (count, 1), (1, 8), (count, 8), ())],
        scatter(kernel, A((count, 10), left), count=count), scatter(kernel, A((count, 8)), A((5, 10), left), count),
        scatter(kernel, A((count, 9), lambda x: x[:, 1:]), count=count)]
       for kernel in ("index_put", "index_add") for count in (7, index.FEW + 9)},
    **{f"{kernel}: dimensions of equal size": [
        Call(kernel, A((5, 5)), (A(()), ids(7)), {"dims": (dim,)}) for dim in (0, 1)]
       for kernel in ("index_put", "index_add")},
    "linear: with a bias, without, and with another one": [
        linear(None), linear(A((33,))), linear(A((66,), second)), linear(A((33,))), linear(None)],
    "linear: sizes": [Call("matmul", A((n, m)), (A((n, 20)), A((20, m)))) for n, m in ((40, 50), (33, 65), (5, 3))],
    "scan: a dense result, and one that is not": [
        Call("cumsum", out, (A((6, 44)),), {"dim": 1}) for out in (A((6, 44)), A((44, 6), turned))],
    "scan: packs that end within a row, or are not aligned": [
        Call("cumsum", A((n, 101)), (x,), {"dim": 1}) for n in (1, 6) for x in (A((n, 101)), A((n, 103), left))],
    "argsort: a dense result, and one that is not": [
        Call("argsort", A(shape, view, np.int64), (A((6, 44)),), {"dim": 1, "descending": False})
        for shape, view in (((6, 44), lambda x: x), ((44, 6), turned))],
    "arange: layouts and types": [
        Call("arange", out, (start, 2)) for start in (1, 0.5) for out in (A((44,)), A((88,), second))],
    "transposition: sizes around tiles": [
        Call("copy", A((n, m)), (A((m, n), turned),)) for n, m in ((33, 31), (16, 65), (40, 32))],
    "random numbers: aligned or not, and tails": [
        random("random_uniform", out, low=0.0, high=1.0) for out in (A((43,)), A((44,), behind), A((86,), second))],
    "linear with ReLU: with a bias, without, another one, and 16 bits": [
        linear_relu(None), linear_relu(A((33,))), linear_relu(A((66,), second)), linear_relu(A((33,))),
        linear_relu(A((33,), dtype=FLOAT16), FLOAT16)],
    "random choices: layouts of the operand": [
        random("random_bernoulli", A((5, 9)), p)
        for p in (A((5, 9), dtype=np.float64, high=2), A((9, 5), turned, np.float64, 2))],
    "optimizer: aligned or not, and tails": [sgd(lambda x: x), sgd(lambda x: x[:400]), sgd(behind)],
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_differ_in_one_thing(name: str, backend: Any) -> None:
    for number, call in enumerate(CALLS[name]):
        with watched(backend):
            actual = call.run(backend)
        expected = call.run(CPU)
        assert actual.dtype == expected.dtype
        tolerance = 2e-3 if actual.itemsize == 2 else 1e-5
        np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), tolerance, tolerance,
                                   err_msg=f"call {number}: {call}")


def test_new_results_of_operands_that_differ_in_one_thing(backend: Any) -> None:
    """The way of most ops, on which a call that was seen before gives the result's shape and dtype too."""
    row, integers = A((5,)), A((5, 5), dtype=np.int32)
    operands: list[tuple[Any, ...]] = [
        (MATRIX, A((1, 1))), (MATRIX, A((5, 1))), (MATRIX, row), (row, MATRIX), (MATRIX, 2.0), (2.0, MATRIX),
        (MATRIX, 3), (MATRIX, MATRIX), (A((5, 5), turned), MATRIX), (MATRIX, A((5, 5), turned)), (integers, integers),
        (integers, 2), (2, integers), (A((26,), lambda x: x[1:].reshape(5, 5)), MATRIX), (A(()), A((1,))), (row, A(())),
        (A((0, 5)), row), (A((5, 5), dtype=np.float64), 2.0), (A((5, 5), dtype=FLOAT16), 2.0),
        (A((5, 5), dtype=BFLOAT16), 2.0)]
    for _, (kernel, dtype), given in itertools.product(range(2), (("sub", None), ("lt", BOOL)), operands):
        results = []
        for on in (backend, CPU):
            args = [a.on(on, seed)[1] if isinstance(a, A) else a for seed, a in enumerate(given)]
            with watched(on):
                results.append(on.to_numpy(on.elementwise(kernel, *args, dtype=dtype)))
        assert (results[0].dtype, results[0].shape) == (results[1].dtype, results[1].shape), (kernel, given)
        np.testing.assert_array_equal(*[r.astype(np.float64) for r in results], err_msg=f"{kernel} {given}")


def test_columns_in_packs_of_every_layout(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are neighbours are folded in packs: of arrays that large, here of small ones."""
    monkeypatch.setattr(reduce, "PACKED", 1)
    dense, not_dense = A((1, 44)), A((1, 88), inner_second)
    layouts = [(A((6, 44)), dense), (A((6, 44)), not_dense), (A((265,), behind_matrix), dense),
               (A((6, 46), left), dense), (A((6, 48), lambda x: x[:, :43]), A((1, 43)))]
    for kernel in ("sum", "amax", "argmax"):
        for x, out in layouts:
            call = reduction(kernel, x, out._replace(dtype=np.int64) if kernel == "argmax" else out, 0)
            with watched(backend):
                actual = call.run(backend)
            np.testing.assert_array_equal(actual, call.run(CPU), err_msg=str(call))


def test_each_thread_has_plans_of_its_own(backend: Any) -> None:
    """A plan holds the arguments of the launch that is under way."""
    x = backend.from_numpy(np.ones(5, np.float32))
    backend.run("neg", x, x)
    seen: list[Any] = []

    def other() -> None:
        seen.append(dict(backend.plans))
        backend.run("neg", x, x)
        seen.append(backend.plans)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert not seen[0]
    (mine,), (its,) = backend.plans.values(), seen[1].values()
    assert mine[0].arguments is not its[0].arguments


# --- 64-bit indices ---------------------------------------------------------------------------------------------------

LARGE = 2**31


def test_counts_from_2_to_the_31_on_take_64_bits() -> None:
    assert [layout.index_type(n) for n in (1, LARGE - 1, LARGE, 2**40)] == ["u32", "u32", "u64", "u64"]
    assert [layout.index_type(*counts) for counts in ((1, LARGE), (LARGE, 1))] == ["u64", "u64"]


@pytest.mark.parametrize("size", (1, 2, 3, 5, 7, 31, 32, 33, 641, 65537, 2**30 - 1, 2**30, 2**30 + 1, LARGE - 1))
def test_division_by_multiplication_is_exact(size: int) -> None:
    divisor, magic, shift = layout.divider(size)
    assert divisor == size and 0 <= magic < 2**32
    for n in {0, 1, size - 1, size, size + 1, 2 * size - 1, 2 * size, LARGE - 2, LARGE - 1, LARGE // size * size - 1}:
        if 0 <= n < LARGE:
            assert ((n * magic >> 32) + n) >> shift == n // size


class _Recorded(Exception):
    """Raised in place of a plan."""


def planned(backend: Any, monkeypatch: pytest.MonkeyPatch, kernel: str, out: Any, *args: Any, **params: Any) -> str:
    """The expression of the instance that a call would launch first."""

    def record(instance: Instance, *_: Any, **__: Any) -> None:
        raise _Recorded(instance.expression)

    monkeypatch.setattr(backend, "plan", record)
    with pytest.raises(_Recorded) as caught:
        backend.run(kernel, out, *args, **params)
    monkeypatch.undo()
    return str(caught.value)


def test_large_arrays_are_counted_in_64_bits(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One element, repeated: no memory is needed to plan."""
    one, row = backend.from_numpy(np.ones(1, np.float32)), backend.from_numpy(np.ones((1, 4), np.float32))
    for n, number in ((LARGE - 1, "u32"), (LARGE, "u64")):
        many, matrix = backend.expand(one, (n,)), backend.expand(one, (2, n))
        assert f", {number}, " in planned(backend, monkeypatch, "neg", many, many)
        assert f", {number}, " in planned(backend, monkeypatch, "sum", one, many, dims=(0,))
        assert f", {number}, " in planned(backend, monkeypatch, "sum", many.reshape(1, n), matrix, dims=(0,))
        at = backend.from_numpy(np.zeros(3, np.int64))
        small = backend.expand(one, (3,))
        assert f", {number}>" in planned(backend, monkeypatch, "index", small, many, at, dims=(0,))
        assert f", {number}>" in planned(backend, monkeypatch, "index_add", many, small, at, dims=(0,))
    rest = backend.expand(row, (LARGE // 8, 4))
    at = backend.from_numpy(np.zeros(9, np.int64))
    moved = backend.expand(one.reshape(1, 1, 1), (9, LARGE // 8, 4))  # few targets, of which each has a large rest
    assert ", u64>" in planned(backend, monkeypatch, "index", moved, rest.reshape(1, LARGE // 8, 4), at, dims=(0,))
    assert ", u64>" in planned(backend, monkeypatch, "index_put", rest.reshape(1, LARGE // 8, 4), moved, at, dims=(0,))
