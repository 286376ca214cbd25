"""Hooks of a Module, and the containers: Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, OutOfRangeError
from tensorlite.nn import functional as F


def names(pairs):
    return [name for name, _ in pairs]


# --- hooks --------------------------------------------------------------------------------------------------


def test_forward_hooks_see_and_replace():
    layer, seen = nn.Identity(), []
    pre = layer.register_forward_pre_hook(lambda module, args: seen.append(("pre", args[0].item())) or (args[0] + 1,))
    post = layer.register_forward_hook(lambda module, args, out: seen.append(("post", out.item())) or out * 10)
    assert layer(tl.tensor(1.0)).item() == 20
    assert seen == [("pre", 1.0), ("post", 2.0)]
    pre.remove()
    assert layer(tl.tensor(1.0)).item() == 10
    with post:
        pass
    assert layer(tl.tensor(1.0)).item() == 1
    post.remove()


def test_hooks_with_kwargs_and_order():
    class Add(nn.Module):
        def forward(self, x, *, y):
            return x + y

    layer, order = Add(), []
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"y": kwargs["y"] * 2}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, out: order.append(kwargs["y"]), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, out: order.append("first"), prepend=True)
    assert layer(1, y=2) == 5
    assert order == ["first", 4]
    layer.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(ArgumentError, match="must return None or"):
        layer(1, y=2)


def test_full_backward_hook_equals_torch():
    torch = pytest.importorskip("torch")
    seen = {}

    def run(lib, layer, x, key):
        layer.register_full_backward_hook(
            lambda m, gin, gout: seen.update({key: ([g.tolist() for g in gin], [g.tolist() for g in gout])}))
        layer(x).sum().backward()
        return x.grad.tolist()

    ours, theirs = nn.Linear(2, 3), torch.nn.Linear(2, 3)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    a = run(tl, ours, tl.tensor([[1.0, 2.0]], requires_grad=True), "ours")
    b = run(torch, theirs, torch.tensor([[1.0, 2.0]], requires_grad=True), "theirs")
    assert np.allclose(a, b)
    for mine, other in zip(seen["ours"], seen["theirs"], strict=True):
        assert np.allclose(mine, other)


def test_full_backward_hook_replaces_the_gradients_of_all_inputs():
    layer = nn.Bilinear(2, 2, 1)
    layer.register_full_backward_hook(lambda m, gin, gout: (gin[0] * 0 + 5, gin[1] * 0 + 7))
    a, b = tl.ones(1, 2, requires_grad=True), tl.ones(1, 2, requires_grad=True)
    layer(a, b).sum().backward()
    assert a.grad.tolist() == [[5, 5]] and b.grad.tolist() == [[7, 7]]
    assert layer.weight.grad is not None


def test_full_backward_hook_without_gradient_at_the_input():
    layer, seen = nn.Linear(2, 1), []
    handle = layer.register_full_backward_hook(lambda m, gin, gout: seen.append((gin, gout[0].tolist())))
    layer(tl.ones(3, 2)).sum().backward()
    assert seen == [((None,), [[1.0], [1.0], [1.0]])]
    handle.remove()
    layer(tl.ones(3, 2)).sum().backward()
    assert len(seen) == 1


def test_full_backward_hook_refuses_wrong_returns():
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda m, gin, gout: (gin[0], gin[0]))
    with pytest.raises(ArgumentError, match="returned 2 gradients for 1 inputs"):
        layer(tl.ones(1, requires_grad=True)).backward()

    class Dict(nn.Module):
        def forward(self, x):
            return {"x": x}

    other = Dict()
    other.register_full_backward_hook(lambda m, gin, gout: None)
    with pytest.raises(ArgumentError, match="Tensor or a tuple of Tensors"):
        other(tl.ones(1, requires_grad=True))


# --- containers ---------------------------------------------------------------------------------------------


def test_sequential_indexing_and_slicing():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3 and isinstance(net[-1], nn.Linear) and [*net][1] is net[1]
    head = net[:2]
    assert isinstance(head, nn.Sequential) and names(head.named_children()) == ["0", "1"] and head[0] is net[0]
    assert list(net[1:].state_dict()) == list(pytest.importorskip("torch").nn.Sequential(
        *(pytest.importorskip("torch").nn.Linear(1, 1) for _ in range(3)))[1:].state_dict())[2:]
    with pytest.raises(OutOfRangeError, match="index 3 is out of range"):
        net[3]
    with pytest.raises(TypeError):
        net["a"]


def test_sequential_append_insert_extend_pop_delete_set():
    net = nn.Sequential(nn.ReLU())
    assert net.append(nn.Tanh()) is net
    net.insert(0, nn.Linear(1, 2)).extend([nn.Sigmoid(), nn.Linear(2, 1)])
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Tanh", "Sigmoid", "Linear"]
    assert names(net.named_children()) == ["0", "1", "2", "3", "4"]
    assert isinstance(net.pop(1), nn.ReLU)
    del net[-1]
    net[0] = nn.Identity()
    assert [type(m).__name__ for m in net] == ["Identity", "Tanh", "Sigmoid"]
    assert net(tl.tensor(0.0)).item() == 0.5
    del net[1:]
    assert len(net) == 1
    with pytest.raises(TypeError, match="Sequential holds Modules only"):
        net.append(F.relu)
    with pytest.raises(TypeError):
        net[0] = 3


def test_named_sequential():
    net = nn.Sequential(OrderedDict([("fc", nn.Linear(2, 2)), ("act", nn.ReLU())]))
    assert net.fc is net[0]
    assert list(net.state_dict()) == ["fc.weight", "fc.bias"]
    assert names(net[:1].named_children()) == ["fc"]
    with pytest.raises(KeyError, match="contain"):
        nn.Sequential(OrderedDict([("a.b", nn.ReLU())]))


def test_module_list():
    layers = nn.ModuleList([nn.Linear(1, 1)])
    layers += [nn.ReLU()]
    assert len(layers) == 2 and len(layers + nn.ModuleList([nn.Tanh()])) == 3
    assert isinstance(layers[0:1], nn.ModuleList)
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]
    with pytest.raises(NotImplementedError):
        layers(1)


def test_module_dict():
    table = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    table["a"] = nn.Tanh()
    table.update([("c", nn.Identity())])
    assert list(table) == list(table.keys()) == ["a", "b", "c"] and "b" in table and len(table) == 3
    assert isinstance(table["a"], nn.Tanh) and isinstance(dict(table.items())["c"], nn.Identity)
    assert isinstance(table.pop("b"), nn.Linear)
    del table["a"]
    assert [type(m).__name__ for m in table.values()] == ["Identity"]
    table.clear()
    assert not table.keys()
    for call in (lambda: table["zz"], lambda: table.pop("zz"), lambda: table.__delitem__("zz"),
                 lambda: table.update({"keys": nn.ReLU()})):
        with pytest.raises(KeyError):
            call()
    with pytest.raises(TypeError, match="ModuleDict holds Modules only"):
        table["x"] = 3


def test_parameter_list_and_dict():
    torch = pytest.importorskip("torch")
    values = nn.ParameterList([tl.zeros(2, 3), nn.Parameter(tl.ones(1))])
    theirs = torch.nn.ParameterList([torch.zeros(2, 3), torch.nn.Parameter(torch.ones(1))])
    assert names(values.named_parameters()) == names(theirs.named_parameters()) == ["0", "1"]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in values)
    assert repr(values).replace("tensorlite", "torch") == repr(theirs)
    values[0] = tl.ones(4)
    assert isinstance(values[0], nn.Parameter) and values[0].shape == (4,)
    table = nn.ParameterDict({"a": tl.zeros(2)})
    assert table["a"].requires_grad and names(table.named_parameters()) == ["a"]
    assert "Parameter containing: [tensorlite.float32 of size 2]" in repr(table)


def test_sequential_of_one_dict_like_argument_only():
    with pytest.raises(TypeError, match="holds Modules only"):
        nn.Sequential([nn.ReLU(), nn.ReLU()])
