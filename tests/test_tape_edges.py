"""The tape at its edges: other threads, names known before, graphs of many paths, Functions and checkpoints."""

from __future__ import annotations

import threading
from typing import Any

import tensorlite as tl
from tensorlite import nn


class Double(tl.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
        return x * 2.0

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
        return g * 2.0


def test_a_function_of_another_thread_is_left_alone() -> None:
    made: list[tl.Tensor] = []
    with tl.tape():
        thread = threading.Thread(target=lambda: made.append(Double.apply(tl.ones(2, requires_grad=True)).sum()))
        thread.start()
        thread.join()
        here = Double.apply(tl.ones(2, requires_grad=True)).sum()
    assert [r.line for r in made[0].tape().records] == ["", ""] and all(r.line for r in here.tape().records)


def test_a_function_with_one_output_takes_a_turn_with_one_gradient() -> None:
    y = Double.apply(tl.tensor([1.0, 2.0], requires_grad=True)).sum()
    steps = list(y.backward_steps())
    assert [(step.op, step.incoming.tolist()) for step in steps] == [("sum", 1.0), ("Double", [1.0, 1.0])]


class Scaled(tl.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: tl.Tensor, factor: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
        ctx.save_for_backward(factor)
        ctx.mark_non_differentiable(factor)
        return factor, x * factor

    @staticmethod
    def backward(ctx: Any, _: tl.Tensor, g: tl.Tensor) -> Any:
        return g * ctx.saved_tensors[0], None


class Scaling(nn.Module):
    def forward(self, x: tl.Tensor, factor: tl.Tensor) -> tl.Tensor:
        return Scaled.apply(x, factor)[1]


def test_functions_and_checkpoints_have_lines_modules_and_values() -> None:
    model, x, factor = Scaling(), tl.tensor([1.0, 2.0], requires_grad=True), tl.tensor([3.0, 4.0])
    with tl.tape():
        scaled = model(x, factor)
        loss = tl.autograd.checkpoint(lambda t: t.exp(), scaled).sum()
    first, second, _ = loss.tape().records
    assert (first.op, first.module, second.op, second.module) == ("Scaled", "Scaling", "checkpoint", "")
    assert "return Scaled.apply(x, factor)" in first.line and "loss = tl.autograd.checkpoint" in second.line
    assert [i.value.tensor.tolist() for i in first.inputs] == [[1.0, 2.0], [3.0, 4.0]]
    assert [(result.name, result.tensor.tolist()) for result in first.results] == [("scaled", [3.0, 8.0])]
    assert list(loss.backward_steps())[-1].line == first.line


def test_what_a_function_hands_on_keeps_its_own_line() -> None:
    class Beside(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor, other: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
            ctx.mark_non_differentiable(other)
            return x * 2.0, other

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor, _: tl.Tensor) -> Any:
            return g * 2.0, None

    with tl.tape():
        other = Double.apply(tl.tensor(2.0, requires_grad=True))
        _, same = Beside.apply(tl.tensor(1.0, requires_grad=True), other)
    assert same is other and other._node.trace == other.tape().records[0].line and "other = " in other._node.trace


def test_buffers_have_names_and_parameters_keep_theirs() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    with tl.tape():
        loss = model(tl.ones(2, 3)).sum()
        weight = model[0].weight
    names = {i.value.name for record in loss.tape().records for i in record.inputs if hasattr(i.value, "name")}
    assert names >= {"Sequential.0.weight", "Sequential.1.weight", "Sequential.1.running_mean"}, names
    assert weight is model[0].weight and "weight" not in names


def test_a_graph_of_very_many_paths_has_a_record_for_each_operation() -> None:
    y = tl.tensor(1.0, requires_grad=True)
    for _ in range(64):
        y = y + y
    assert len(y.tape().records) == 64


def test_the_text_says_how_to_see_more() -> None:
    y = tl.tensor(2.0, requires_grad=True).exp() * 3.0
    assert str(y.tape()).splitlines()[-1].startswith("2 operations, 4 B saved for backward; compute inside `with")


def test_a_tensor_goes_by_its_first_variable_that_is_no_private_one() -> None:
    _hidden = tl.tensor(2.0, requires_grad=True)
    with tl.tape():
        first = second = _hidden * 3.0
        loss = first + second
    product, total = loss.tape().records
    assert (product.inputs[0].value.name, product.result.name, total.result.name) == ("", "first", "loss")


def test_steps_with_a_graph_have_one_under_no_grad_too() -> None:
    x = tl.tensor(3.0, requires_grad=True)
    y = x.square()
    with tl.no_grad():
        steps = list(y.backward_steps(create_graph=True))
    assert x.grad is not None and x.grad.requires_grad and steps[0].outgoing["x"].requires_grad
    x.grad.backward()
    assert x.grad.item() == 8.0


def test_results_of_a_function_have_shapes_of_their_own() -> None:
    class Halves(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
            return x[:1] * 2.0, x[1:] * 3.0

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor, h: tl.Tensor) -> tl.Tensor:
            return tl.cat([g * 2.0, h * 3.0])

    first, second = Halves.apply(tl.ones(3, requires_grad=True))
    _, added, product, _ = (first.sum() * second).sum().tape().records
    assert [i.value.shape for record in (added, product) for i in record.inputs] == [(1,), (), (2,)]
