"""The fuzzers: a small budget of each finds nothing, and planted bugs in rules and kernels are found."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from fuzz.__main__ import GENERATORS, main
from fuzz.differences import DIFFERENCES
from fuzz.functions import NAMES

import tensorlite as tl
from tensorlite import ops
from tensorlite.autograd.op import Op
from tensorlite.backends import cpu, get
from tensorlite.ops import elementwise, fused, index, movement, reduce

CASES = {"ops": 4000, "graphs": 60, "index": 800, "capture": 40, "modules": 250, "optim": 250}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_small_budget_finds_nothing(name: str) -> None:
    generator = GENERATORS[name](1)
    for number in range(CASES[name]):
        generator.run(number)
    assert not generator.tally.failures, "\n\n".join(map(str, generator.tally.failures[:3]))
    assert generator.tally.arrays > CASES[name]


@pytest.mark.filterwarnings("ignore")
def test_a_small_budget_on_the_simulator_finds_nothing() -> None:
    if "cuda:sim" not in tl.testing.devices():
        pytest.skip("no host compiler")
    names = ("add", "mul", "where", "sum", "softmax", "matmul", "gather", "cat", "permute", "Tensor.add_")
    generator = GENERATORS["ops"](1, "cuda:sim", names=names)
    for number in range(60):
        generator.run(number)
    assert not generator.tally.failures, "\n\n".join(map(str, generator.tally.failures[:3]))


# --- planted bugs -----------------------------------------------------------------------------------------------------


def rule(op: Op, **rules: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Another derivative of an op."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(op, "rule_of", dict(op.rule_of))
        patch.setattr(op, "_plans", {})
        op.rules(**rules)

    return plant


def kernel(name: str, wrong: Callable[..., None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Another kernel of the CPU, for which no compiled one stands in."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(cpu.KERNELS, name, wrong)
        patch.setattr(get("cpu"), "_compiled", {})

    return plant


def fill(function: Callable[..., Any]) -> Callable[..., None]:
    return lambda out, *args, **params: np.copyto(out, function(*args, **params), casting="unsafe")


def in_float32(x: np.ndarray) -> np.ndarray:
    return np.exp(x.astype(np.float32))


def without_order(x: np.ndarray) -> np.ndarray:
    """As if strides were never negative."""
    return -np.flip(x, [i for i, stride in enumerate(x.strides) if stride < 0])


NOISE = itertools.cycle((0.0, 1e-15))
KERNELS = dict(cpu.KERNELS)


def scaled(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def larger(out: np.ndarray, *args: Any, **params: Any) -> None:
        KERNELS[name](out, *args, **params)
        out *= 1.001

    return kernel(name, larger)


def biased(*args: Any, **params: Any) -> None:
    KERNELS["track_moments"](*args, **{**params, "count": 10**9})


def with_other_eps(*args: Any, **params: Any) -> None:
    KERNELS["adam_step"](*args, **{**params, "eps": params["eps"] * 2})


PLANTED: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "tanh' = 1 - tanh": ("ops", "tanh", rule(ops.tanh, x=lambda g, out: g * (1.0 - out))),
    "mul' of the wrong factor": ("ops", "mul", rule(ops.mul, x=lambda g, x: g * x)),
    "pow' without -1": ("ops", "pow", rule(ops.pow, x=lambda g, x, y: g * y * ops.pow(x, y))),
    "atan2' without its sign": ("ops", "atan2", rule(
        ops.atan2, y=lambda g, x, y: g * elementwise._div(x, elementwise._square_radius(x, y)))),
    "logaddexp'' cut at equals": ("ops", "logaddexp", rule(
        ops.logaddexp, x=lambda g, x, y: g * ops.sigmoid(ops.where(ops.eq(x, y), 0.0, x - y)))),
    "softmax'' without its sum": ("ops", "softmax", rule(
        reduce.softmax_grad, y=lambda g, grad, y, dim: g * (grad - ops.sum(grad * y, dim, keepdim=True)))),
    "cumsum' runs forward": ("ops", "cumsum", rule(reduce._cumsum, x=lambda g, dim: ops.cumsum(g, dim))),
    "maximum's ties to the first": ("ops", "maximum", rule(
        ops.maximum, x=lambda g, x, y: ops.where(ops.ge(x, y), g, 0.0),
        y=lambda g, x, y: ops.where(ops.lt(x, y), g, 0.0))),
    "linear' too large by a thousandth": ("ops", "nn.functional.linear", rule(
        fused._linear, weight=lambda g, x: fused._linear_weight(g, x) * 1.001)),
    "permute' not inverted": ("ops", "permute", rule(
        movement._permute, x=lambda g, dims, shapes: movement.reshape(movement._permute(g, dims=dims), shapes[0]))),
    "expand' of the last part": ("ops", "broadcast_to", rule(
        movement._expand,
        x=lambda g, shapes: movement.reshape(movement.reshape(g, -1)[:math.prod(shapes[0])], shapes[0]))),
    "exp in float32": ("ops", "exp", kernel("exp", fill(in_float32))),
    "strides taken for positive": ("ops", "neg", kernel("neg", fill(without_order))),
    "floor division cut": ("ops", "floor_divide", kernel("floor_divide", fill(lambda x, y: np.trunc(x / y)))),
    "NaN lost by a maximum": ("ops", "amax", kernel("amax", fill(lambda x, dims: np.nanmax(x, dims, keepdims=True)))),
    "an index without gradient": ("index", "", rule(
        index._index, x=lambda g, shapes: movement.expand(g.sum() * 0, shapes[0]))),
    "a change that nobody counts": ("graphs", "", lambda patch: patch.setattr(tl.Tensor, "_bump", lambda self: None)),
    "a kernel that is not the same twice": ("capture", "", kernel("cos", fill(lambda x: np.cos(x) + next(NOISE)))),
    "running variance without n - 1": ("modules", "", kernel("track_moments", biased)),
    "layer_norm' a thousandth off": ("modules", "", scaled("layer_norm_grad")),
    "Adam's eps doubled": ("optim", "", kernel("adam_step", with_other_eps)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator_name, function, plant = PLANTED[name]
    plant(monkeypatch)
    generator = GENERATORS[generator_name](5, **({"names": (function,)} if function else {}))
    for number in range(400):
        generator.run(number)
        if generator.tally.failures:
            return
    pytest.fail("not noticed")


@pytest.mark.filterwarnings("ignore")
def test_a_failure_is_printed_as_a_program_that_makes_it_again(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTED["tanh' = 1 - tanh"][2](monkeypatch)
    assert main(["ops", "--seed", "5", "--names", "tanh", "--cases", "400", "--failures", "1"]) == 1
    printed = capsys.readouterr().out
    again = re.search(r"python -m fuzz (.*)", printed)
    program = re.search(r"^x0 = .*^y = tl.tanh\(x0\)$", printed, re.MULTILINE | re.DOTALL)
    assert again is not None and program is not None
    assert main([*again[1].split(), "--names", "tanh"]) == 1
    scope: dict[str, Any] = {"tl": tl, "math": math}
    exec(program[0], scope)
    assert scope["y"].shape == scope["x0"].shape


def test_each_meant_difference_is_of_functions_that_are_drawn_and_is_documented() -> None:
    page = Path(__file__).parents[1] / "docs" / "fuzzing.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    for difference in DIFFERENCES:
        drawn = {name.partition(".rounded")[0] for name in NAMES}
        assert difference.names == "*" or set(difference.names.split()) <= drawn, difference
        assert difference.reason in text, difference.reason
