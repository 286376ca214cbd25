"""The tape made visible: `tl.tape`, `Tensor.tape` and `Tensor.backward_steps`."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.autograd import function
from tensorlite.autograd.op import Op
from tensorlite.insight.exchange import Exchanges
from tensorlite.nn import functional as F


def worked_by_hand(device: str) -> tuple[Any, dict[str, Any]]:
    """The network N3 of the notes on backpropagation: its loss and its parameters."""
    x, y = (tl.tensor(v, dtype=tl.float64, device=device) for v in ([[1.0], [2.0]], [[3.0]]))
    W1, b1, W2, b2 = (tl.tensor(v, dtype=tl.float64, device=device, requires_grad=True)
                      for v in ([[0.5, 0.2], [0.3, 0.7]], [[0.1], [0.2]], [[0.6, 0.9]], [[0.3]]))
    with tl.tape():
        z1 = W1 @ x + b1
        a1 = z1.relu()
        z2 = W2 @ a1 + b2
        L = (z2 - y).square().sum() * 0.5
    table = L.tape()
    return table, {"W1": W1, "b1": b1, "W2": W2, "b2": b2}


def test_the_numbers_of_a_network_worked_by_hand(device: str) -> None:
    table, parameters = worked_by_hand(device)
    assert [r.op for r in table.records] == ["matmul", "add", "relu", "matmul", "add", "sub", "square", "sum", "mul"]
    named = {r.result.name: r.value.cpu().numpy().ravel() for r in table.records if r.result.name}
    assert {name: np.round(v, 10).tolist() for name, v in named.items()} == {
        "z1": [1.0, 1.9], "a1": [1.0, 1.9], "z2": [2.61], "L": [0.07605]}
    assert [[getattr(i.value, "name", i.value) for i in r.inputs] for r in table.records] == [
        ["W1", "x"], ["", "b1"], ["z1"], ["W2", "a1"], ["", "b2"], ["z2", "y"], [""], [""], ["", 0.5]]
    incoming = [(s.op, np.round(s.incoming.cpu().numpy(), 10).ravel().tolist()) for s in table.tensor.backward_steps()]
    assert incoming[4:] == [("add", [-0.39]), ("matmul", [-0.39]), ("relu", [-0.234, -0.351]),
                            ("add", [-0.234, -0.351]), ("matmul", [-0.234, -0.351])]
    grads = {name: np.round(p.grad.cpu().numpy(), 10).tolist() for name, p in parameters.items()}
    assert grads == {"W1": [[-0.234, -0.468], [-0.351, -0.702]], "b1": [[-0.234], [-0.351]],
                     "W2": [[-0.39, -0.741]], "b2": [[-0.39]]}


def test_a_graph_on_two_devices() -> None:
    w = tl.tensor([1.0, 2.0], requires_grad=True)
    with tl.tape():
        there = w.to("cuda:sim") * 3.0
        loss = there.cpu().sum()
    records = loss.tape().records
    values = [(r.op, str(r.value.device), r.value.tolist()) for r in records]
    assert values == [("transfer", "cuda:sim", [1.0, 2.0]), ("mul", "cuda:sim", [3.0, 6.0]),
                      ("transfer", "cpu", [3.0, 6.0]), ("sum", "cpu", 9.0)]
    assert [str(r.inputs[0].value.tensor.device) for r in records] == ["cpu", "cuda:sim", "cuda:sim", "cpu"]


def test_a_tape_keeps_no_graph_of_a_function_that_goes_on() -> None:
    gc.collect()
    gc.disable()
    try:
        model, x = nn.Linear(3, 2), tl.ones(2, 3)
        with tl.tape():
            loss = model(x).square().sum()
        table = loss.tape()
        held = [weakref.ref(held) for held in (model, loss, loss._node, table)]
        del model, loss, table
        assert [ref() for ref in held] == [None] * 4
    finally:
        gc.enable()


def test_a_program_that_holds_its_variables_keeps_them() -> None:
    w = tl.tensor(2.0, requires_grad=True)
    own = locals()
    with tl.tape():
        loss = w * 3.0
    assert loss.tape().records[0].inputs[0].value.name == "w" and own["w"] is w


def test_blocks_inside_of_each_other() -> None:
    w = tl.tensor(2.0, requires_grad=True)
    with tl.tape():
        with tl.tape():
            y = w * 2.0
        z = y * 3.0
    assert all(record.line and record.value is not None for record in z.tape().records)
    assert not (w * 2.0).tape().records[0].line


def test_after_a_module_that_failed_its_path_is_left() -> None:
    with tl.tape():
        with pytest.raises(tl.ShapeError):
            nn.Sequential(nn.Linear(3, 2))(tl.ones(2, 5))
        y = tl.tensor(2.0, requires_grad=True) * 2.0
    assert y.tape().records[0].module == ""


def test_lines_modules_and_sizes_are_in_the_table() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 2))
    with tl.tape():
        loss = F.cross_entropy(model(tl.ones(3, 5)), tl.tensor([0, 1, 0]))
    first, second, third, last = loss.tape().records
    assert (first.op, first.module, second.module, third.module, last.module) == (
        "linear", "Sequential.0", "Sequential.1", "Sequential.2", "")
    assert [i.value.name for i in first.inputs[1:]] == ["Sequential.0.weight", "Sequential.0.bias"]
    assert "test_tape.py" in last.line and "loss = F.cross_entropy(" in last.line
    assert (third.result.shape, third.result.dtype, third.result.nbytes) == ((3, 2), "float32", 24)
    text = str(loss.tape())
    assert "test_tape.py:" in text and "Sequential.0.weight 4x5" in text and "4 operations" in text


def test_a_linear_layer_and_its_relu_are_seen_one_by_one(device: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).to(device)
    x = tl.randn(5, 3).to(device)
    fused = model(x).sum()
    with tl.tape():
        seen = model(x).sum()
    assert [r.op for r in fused.tape().records] == ["linear_relu", "linear", "sum"]
    assert [r.op for r in seen.tape().records] == ["linear", "relu", "linear", "sum"]
    assert seen.item() == fused.item()
    fused.backward()
    expected = [p.grad.tolist() for p in model.parameters()]
    model.zero_grad()
    seen.backward()
    assert [p.grad.tolist() for p in model.parameters()] == expected


def test_without_looking_on_the_graph_alone_is_shown() -> None:
    w = tl.ones(2, 3, requires_grad=True)
    table = (w * 2.0).sum(1).tape()
    assert [(r.result.shape, r.value is None, r.line) for r in table.records] == [((2, 3), True, ""), ((2,), False, "")]
    assert "with tl.tape()" in str(table)
    assert table.leaves[0] is w


def test_a_tensor_without_history_has_no_tape() -> None:
    for tensor in (tl.ones(2), tl.ones(2, requires_grad=True)):
        with pytest.raises(tl.GradError, match="set requires_grad=True on an input"):
            tensor.tape()


def test_values_changed_in_place_are_marked_and_freed_ones_said() -> None:
    w = tl.ones(2, requires_grad=True)
    with tl.tape():
        y = w * 2.0
        z = y + 1.0
    with tl.no_grad():
        y.mul_(3.0)
    first, second = z.tape().records
    assert first.result.changed and not second.result.changed
    loss = (w * w).sum()
    loss.backward()
    assert loss.tape().records[0].saved is None and "freed" in str(loss.tape())


def test_saved_memory_is_counted_once() -> None:
    x = tl.ones(100, requires_grad=True)
    loss = (x.exp() * x.exp()).sum()
    assert loss.tape().saved_bytes == 800  # two results of exp, each kept by its exp and by the product


class TwoOutputs(tl.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2.0, x * 3.0

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        return g * 2.0 + h * 3.0


def test_a_function_is_one_operation_with_all_its_results() -> None:
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    with tl.tape():
        a, b = TwoOutputs.apply(x)
        loss = (a * b).sum()
    function, product, _ = loss.tape().records
    assert (function.op, [v.name for v in function.results], [v.tensor.tolist() for v in function.results]) == (
        "TwoOutputs", ["a", "b"], [[2.0, 4.0], [3.0, 6.0]])
    assert [(i.source is function, i.output) for i in product.inputs] == [(True, 0), (True, 1)]
    last = list(loss.backward_steps())[-1]
    assert last.op == "TwoOutputs" and [g.tolist() for g in last.incoming] == [[3.0, 6.0], [2.0, 4.0]]
    assert x.grad.tolist() == [12.0, 24.0]


def models() -> list[Any]:
    tl.manual_seed(0)
    return [(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)), tl.randn(4, 6)),
            (nn.LSTM(6, 5, num_layers=2), tl.randn(3, 2, 6)),
            (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), tl.randn(2, 1, 8, 8)),
            (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), tl.randn(3, 2, 8))]


@pytest.mark.parametrize("number", range(4))
def test_steps_give_the_gradients_of_backward(number: int) -> None:
    model, x = models()[number]

    def loss() -> Any:
        out = model(x)
        return (out[0] if isinstance(out, tuple) else out).square().sum()

    loss().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    one = loss()
    count = sum(1 for _ in one.backward_steps(retain_graph=True))
    assert count == len(one.tape().records)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert p.grad.tolist() == g.tolist()
    for _ in one.backward_steps():
        pass
    with pytest.raises(tl.GradError, match="second time"):
        list(one.backward_steps())


def test_a_walk_that_is_left_changes_no_grad() -> None:
    w = tl.tensor(3.0, requires_grad=True)
    for step in (w * w).exp().backward_steps(retain_graph=True):
        assert step.op == "exp"
        break
    assert w.grad is None and tl.is_grad_enabled()


def test_steps_can_be_differentiated() -> None:
    w = tl.tensor(2.0, requires_grad=True)
    *_, last = (w**3).backward_steps(create_graph=True)
    assert tl.autograd.grad(last.outgoing["x"], w)[0].item() == 12.0
    w.grad = None  # it holds a graph that leads to w itself


def test_steps_refuse_what_backward_refuses() -> None:
    w = tl.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(tl.GradError, match="scalar outputs"):
        next((w * w).backward_steps())
    y = w * w
    with pytest.raises(tl.ShapeError, match="gradient of shape"):
        next(y.backward_steps(tl.ones(3)))


def test_a_step_reads_like_the_chain_rule() -> None:
    table, _ = worked_by_hand("cpu")
    text = [str(step) for step in table.tensor.backward_steps()][5]
    assert text.startswith("#3 matmul") and "z2 = W2 @ a1 + b2" in text
    assert "∂L/∂W2 = tensor([[-0.3900, -0.7410]]" in text and "∂L/∂a1 = " in text


# --- what it leaves behind --------------------------------------------------------------------------------------------


def test_afterwards_everything_is_as_before() -> None:
    before = Op._record, nn.Module.__call__, function._hang_outputs
    w = tl.ones(2, requires_grad=True)
    with tl.tape(), tl.tape(), tl.profile():
        assert (w * 2.0)._node.seen is not None
    assert (Op._record, nn.Module.__call__, function._hang_outputs) == before
    node = (w * 2.0)._node
    assert node.seen is None and node.trace is None and node.module == ""


def test_a_block_left_by_an_error_leaves_nothing() -> None:
    before = Op._record
    with pytest.raises(RuntimeError, match="mine"), tl.tape():
        raise RuntimeError("mine")
    assert Op._record is before


def test_other_threads_are_not_looked_at() -> None:
    w = tl.ones(2, requires_grad=True)
    nodes: list[Any] = []
    with tl.tape():
        thread = threading.Thread(target=lambda: nodes.append((w * 2.0)._node))
        thread.start()
        thread.join()
    assert nodes[0].seen is None


def test_no_ring_of_references_holds_what_was_seen() -> None:
    gc.collect()
    gc.disable()
    try:
        w = tl.ones(3, requires_grad=True)
        with tl.tape():
            y = w * 2.0
            y.add_(1.0)
            a, b = TwoOutputs.apply(y)
            loss = (a * b).sum()
        loss.tape()
        list(loss.backward_steps())
        del y, a, b, loss
        assert gc.collect() == 0
    finally:
        gc.enable()


class Owner:
    def method(self) -> list[str]:
        return ["own"]


def around(name: str) -> Any:
    return lambda before: lambda self: [name, *before(self)]


def test_wrappers_may_go_in_any_order() -> None:
    original = Owner.method
    first, second = Exchanges(), Exchanges()
    first.exchange(Owner, "method", around("first"))
    second.exchange(Owner, "method", around("second"))
    assert Owner().method() == ["second", "first", "own"]
    first.take_away()
    assert Owner().method() == ["second", "own"]
    second.take_away()
    assert Owner.method is original


def test_a_function_that_somebody_else_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = Exchanges()
    exchanges.exchange(Owner, "method", around("first"))
    monkeypatch.setattr(Owner, "method", lambda self: ["theirs"])
    exchanges.take_away()
    assert Owner().method() == ["theirs"]
