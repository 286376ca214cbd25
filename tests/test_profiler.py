"""tl.profile: whose work is whose, by operation and by module, on every device."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from profiles import FAST, by_name, train

import tensorlite as tl
from tensorlite import nn, ops, optim
from tensorlite.backends import get
from tensorlite.insight import costs, spans
from tensorlite.insight.spans import KERNEL, OP, Span, Work


@pytest.fixture
def door(device: str) -> Iterator[list[str]]:
    """The names of all kernels that a device ran, seen by an observer of the test's own."""
    backend, seen = get(device), list[str]()
    backend.observers = (*backend.observers, lambda be, kernel, *rest: seen.append(kernel))
    yield seen
    backend.observers = backend.observers[:-1]


# --- whose work ------------------------------------------------------------------------------------------------------


def test_a_training_step_by_operation(device: str, door: list[str]) -> None:
    step = train(device)
    del door[:]
    with tl.profile(**FAST) as p:
        step()
    kernels = [span.name for span in sorted(p.spans, key=lambda s: s.start) if span.kind is KERNEL]
    assert kernels == door
    rows = by_name(p)
    assert sum(row.launches for row in rows.values()) == len(door)
    calls = {name: row.calls for name, row in rows.items()}
    for name, count in {"linear": 2, "tanh": 1, "mul": 1, "cross_entropy": 1}.items():
        assert calls[name] == calls[f"{name} (backward)"] == count
        assert rows[name].launches == count
        assert rows[f"{name} (backward)"].launches >= count
    assert calls["Adam.step"] == calls["Adam.zero_grad"] == calls["backward"] == 1
    assert rows["Adam.step"].launches == sum(kernel.startswith("adam") for kernel in door) > 0
    assert set(calls) <= {"linear", "tanh", "mul", "cross_entropy", "linear (backward)", "tanh (backward)", "backward",
                          "mul (backward)", "cross_entropy (backward)", "Adam.step", "Adam.zero_grad"}


def test_a_training_step_by_module(device: str) -> None:
    step = train(device)
    with tl.profile(**FAST) as p:
        step()
        step()
    rows = by_name(p, "module")
    assert list(rows) == ["(outside of modules)", "Net", "Net.layers.0", "Net.act", "Net.layers.1"]
    assert [row.calls for row in rows.values()] == [0, 2, 2, 2, 2]
    inside = [rows[f"Net.{name}"] for name in ("layers.0", "act", "layers.1")]
    own = [s for s in p.spans if s.module == "Net" and s.kind is KERNEL]
    assert {s.op for s in own} == {"mul", "mul (backward)"}
    assert rows["Net"].launches == sum(row.launches for row in inside) + len(own)
    assert rows["Net"].total > sum(row.total for row in inside)
    backward = {(s.op, s.module) for s in p.spans if s.kind is KERNEL and s.op and s.op.endswith("(backward)")}
    assert backward == {("linear (backward)", "Net.layers.0"), ("linear (backward)", "Net.layers.1"),
                        ("tanh (backward)", "Net.act"), ("mul (backward)", "Net"), ("cross_entropy (backward)", "")}
    assert rows["Net"].launches + rows["(outside of modules)"].launches == sum(row.launches for row in p.rows())


def test_times_are_within_the_wall_clock(device: str) -> None:
    step = train(device)
    with tl.profile(**FAST) as p:
        for _ in range(3):
            step()
    rows = p.rows()
    assert all(0 <= row.time and 0 <= row.total for row in rows)
    kernels = [s for s in p.spans if s.kind is KERNEL]
    assert 0 < sum(s.duration - s.inside for s in kernels) / 1e9 <= sum(row.total for row in rows) <= p.duration
    modules = by_name(p, "module")
    assert modules["Net"].total + modules["(outside of modules)"].total <= p.duration
    assert rows == sorted(rows, key=lambda row: -row.time)
    if device != "cuda":
        assert sum(row.time for row in rows) <= sum(row.total for row in rows)


def test_a_sum_that_undoes_a_broadcast_belongs_to_the_rule() -> None:
    x, bias = tl.ones(4, 3), tl.zeros(3, requires_grad=True)
    y = (x + bias).sum()
    with tl.profile(**FAST) as p:
        y.backward()
    assert {(s.name, s.op) for s in p.spans if s.kind is KERNEL} >= {("sum", "add (backward)"), ("fill", "backward")}


def test_a_kernel_outside_of_operations_stands_for_itself() -> None:
    with tl.profile(**FAST) as p:
        tl.zeros(3)
    row = by_name(p)["fill"]
    assert (row.calls, row.launches, row.bytes) == (1, 1, 12)


def test_functions_and_checkpoints() -> None:
    class Cube(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
            x, = ctx.saved_tensors
            return 3 * x * x * g

    x, layer = tl.ones(3, requires_grad=True), nn.Tanh()
    with tl.profile(**FAST) as p:
        tl.autograd.checkpoint(lambda t: layer(t).exp(), Cube.apply(x)).sum().backward()
    rows = by_name(p)
    assert (rows["Cube"].calls, rows["Cube"].launches) == (1, 2)
    assert (rows["Cube (backward)"].calls, rows["Cube (backward)"].launches) == (1, 3)
    assert rows["tanh"].calls == 2  # the second time in backward, in its module
    assert (rows["tanh (backward)"].calls, rows["exp (backward)"].calls) == (1, 1)
    assert {s.module for s in p.spans if s.op == "tanh (backward)"} == {"Tanh"}
    assert not spans._here.stack


def test_an_operation_that_takes_a_numpy_array_counts_once() -> None:
    x = tl.ones(3)
    with tl.profile(**FAST) as p:
        tl.add(x, np.ones(3, np.float32))
    assert by_name(p)["add"].calls == 1


def test_a_closure_is_not_part_of_the_optimizer() -> None:
    x = tl.ones(3, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)

    def closure() -> tl.Tensor:
        loss = x.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # the first one makes what later ones find
    with tl.profile(**FAST) as p:
        optimizer.step(closure)
    rows = by_name(p)
    assert rows["SGD.step"].launches == 1
    assert rows["square"].launches == rows["sum"].launches == 1


def test_rules_and_steps_of_subclasses_count_once() -> None:
    class Careful(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    x, weight = tl.ones(2, 3), tl.ones(4, 3, requires_grad=True)
    optimizer = Careful([weight], lr=0.1)
    with tl.profile(**FAST) as p:
        y = ops.linear_relu(x, weight, tl.zeros(4, requires_grad=True))
        weight.grad, = tl.autograd.grad(y.sum(), weight, create_graph=True)
        optimizer.step()
    rows = by_name(p)
    assert rows["linear_relu (backward)"].calls == rows["Careful.step"].calls == 1


def test_the_time_of_a_kernel_is_its_own(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tl.ones(1 << 16, device=device)
    x.exp()
    x.exp()
    with tl.profile(**FAST) as p:
        x.exp()
    row = by_name(p)["exp"]
    assert row.time > 0.5 * row.total  # on the simulator too, where an elementwise kernel does not pass by `run`
    work = costs.work
    monkeypatch.setattr(costs, "work", lambda *args: time.sleep(0.05) or work(*args))
    with tl.profile(**FAST) as p:
        x[:1].exp()
    assert by_name(p)["exp"].time < 0.05


def test_a_kernel_around_a_kernel_counts_once() -> None:
    with Span(OP, "outer") as outer, Span(KERNEL, "elementwise"):
        with Span(KERNEL, "run") as kernel:
            kernel.work = Work("cpu", 1, 1)
    assert outer.inside == kernel.duration > 0


# --- the names of modules --------------------------------------------------------------------------------------------


def test_names_of_modules() -> None:
    shared = nn.Tanh()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = {"left": shared}

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return nn.Sigmoid()(self.parts["left"](x))

    first, second, x = Outer(), Outer(), tl.ones(3)
    with tl.profile(**FAST) as p:
        for model in (first, second, first, shared):
            model(x)
        first.late = nn.ReLU()
        first.late(x)
        first.parts["left"] = nn.ReLU()
        first(x)
    calls = {row.name: row.calls for row in p.rows("module")}
    assert calls == {"Outer": 3, "Outer.parts.left": 3, "Outer.Sigmoid": 3, "Outer (2)": 1, "Outer (2).parts.left": 1,
                     "Outer (2).Sigmoid": 1, "Tanh": 1, "ReLU": 1}


def test_a_module_at_the_address_of_one_that_is_gone() -> None:
    x = tl.ones(3)
    with tl.profile(**FAST) as p:
        for _ in range(20):
            nn.Tanh()(x)
            gc.collect()
            nn.Sequential(nn.ReLU())(x)
    names = {row.name.partition(" ")[0].partition(".")[0] for row in p.rows("module")}
    assert names == {"Tanh", "Sequential"}
    assert {s.op for s in p.spans if s.module.startswith("Tanh") and s.kind is KERNEL} == {"tanh"}


def test_a_part_at_the_address_of_one_that_is_gone() -> None:
    class Changing(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            for name in ("a", "b"):
                if hasattr(self, name):
                    x = getattr(self, name)(x)
            return x

    model, x = Changing(), tl.ones(3)
    with tl.profile(**FAST) as p:
        for _ in range(20):
            model.a = nn.Tanh()
            model(x)
            del model.a
            model.b = nn.ReLU()
            model(x)
            del model.b
    assert {(s.op, s.module) for s in p.spans if s.kind is KERNEL} == {("tanh", "Changing.a"), ("relu", "Changing.b")}
