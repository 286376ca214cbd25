"""Module: state_dict and load_state_dict, moving to dtypes and devices, repr, copies, lifetime."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, GradError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(tl.ones(3))
        self.second = nn.Sequential(nn.ReLU(), nn.Linear(3, 1))
        self.register_buffer("seen", tl.zeros(1))
        self.register_buffer("scratch", tl.zeros(2), persistent=False)

    def forward(self, x):
        return self.second(self.first(x) * self.scale)


def torch_net():
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(2, 3)
            self.scale = torch.nn.Parameter(torch.ones(3))
            self.second = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(3, 1))
            self.register_buffer("seen", torch.zeros(1))
            self.register_buffer("scratch", torch.zeros(2), persistent=False)

    return Net()


# --- state --------------------------------------------------------------------------------------------------


def test_state_dict_is_ordered_detached_and_shares_memory():
    net = Net()
    state = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert not any(t.requires_grad for t in state.values())
    with tl.no_grad():
        net.scale.add_(1)
    assert state["scale"].tolist() == [2, 2, 2]
    assert net.state_dict(keep_vars=True)["scale"] is net.scale


def test_load_state_dict_copies_and_keeps_identity():
    source, target = Net(), Net()
    before = list(target.parameters())
    keys = target.load_state_dict(source.state_dict())
    assert repr(keys) == "<All keys matched successfully>" and keys == ([], [])
    for old, new, given in zip(before, target.parameters(), source.parameters(), strict=True):
        assert old is new and new.tolist() == given.tolist()
        assert new.requires_grad
    with tl.no_grad():
        source.scale.add_(5)
    assert target.scale.tolist() == [1, 1, 1]


def test_load_state_dict_casts_and_takes_arrays():
    layer = nn.Linear(1, 1)
    layer.load_state_dict({"weight": np.array([[2.0]]), "bias": tl.tensor([3], dtype=tl.int64)})
    assert layer.weight.dtype is tl.float32
    assert layer(tl.ones(1, 1)).item() == 5


def test_all_problems_are_listed_in_one_error_and_nothing_is_written():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    given = net.state_dict()
    given = {k: tl.full_like(v, 9) for k, v in given.items() if k != "1.bias"}
    given["0.bias"] = tl.zeros(5)
    given["1.weight"] = "text"
    given["2.num_batches_tracked"] = tl.tensor(1.5)
    given["extra"] = tl.zeros(1)
    with pytest.raises(ArgumentError) as caught:
        net.load_state_dict(given)
    message = str(caught.value)
    assert message.startswith("Error(s) in loading state_dict for Sequential:\n\t")
    assert 'Missing key(s) in state_dict: "1.bias". ' in message
    assert 'Unexpected key(s) in state_dict: "extra". ' in message
    assert ("size mismatch for 0.bias: copying a param with shape (5,) from checkpoint, "
            "the shape in current model is (2,).") in message
    assert 'While copying the parameter named "1.weight", expected a Tensor' in message
    assert "dtype mismatch for 2.num_batches_tracked" in message
    assert isinstance(caught.value, RuntimeError)
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before


def test_not_strict_allows_keys_but_no_sizes():
    layer = nn.Linear(2, 3)
    keys = layer.load_state_dict({"weight": tl.zeros(3, 2), "other": tl.zeros(1)}, strict=False)
    assert keys.missing_keys == ["bias"] and keys.unexpected_keys == ["other"]
    assert layer.weight.tolist() == [[0, 0]] * 3
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        layer.load_state_dict({"weight": tl.ones(2, 3)}, strict=False)
    assert layer.weight.tolist() == [[0, 0]] * 3
    with pytest.raises(TypeError, match="dict-like"):
        layer.load_state_dict([1, 2])


def test_swapping_layers_by_their_names():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = net.state_dict()
    first, second = state["0.weight"].tolist(), state["1.weight"].tolist()
    net.load_state_dict({"0.weight": state["1.weight"], "1.weight": state["0.weight"],
                         "0.bias": state["1.bias"], "1.bias": state["0.bias"]})
    assert net[0].weight.tolist() == second and net[1].weight.tolist() == first


def test_loading_ones_own_state_changes_nothing():
    net = Net()
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    net.load_state_dict(net.state_dict())
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before


def test_assign_takes_over_memory_and_dtype_and_keeps_identity():
    layer = nn.Linear(1, 1)
    weight, given = layer.weight, tl.tensor([[4.0]], dtype=tl.float64)
    layer.load_state_dict({"weight": given, "bias": tl.zeros(1, dtype=tl.float64)}, assign=True)
    assert layer.weight is weight and weight.dtype is tl.float64 and weight.requires_grad
    given.mul_(2)
    assert weight.tolist() == [[8]]
    with pytest.raises(ArgumentError, match="dtype mismatch for bias"):
        layer.load_state_dict({"weight": given, "bias": tl.tensor([1])}, assign=True)


def test_memory_that_cannot_be_written_is_refused_before_anything_is_written():
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    frozen = np.ones((1, 1), np.float32)
    frozen.flags.writeable = False
    net[1].weight = nn.Parameter(tl.from_numpy(frozen))
    before = net[0].weight.tolist()
    with pytest.raises(GradError, match="read-only"):
        net.load_state_dict(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).state_dict())
    assert net[0].weight.tolist() == before


def test_tied_weights_load_under_both_names():
    def tied():
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        return net

    source, target = tied(), tied()
    target.load_state_dict(source.state_dict())
    assert target[1].weight is target[0].weight
    assert target[0].weight.tolist() == source[0].weight.tolist()


def test_state_round_trip_with_torch():
    theirs, ours = torch_net(), Net()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name].numpy(), value.numpy())


# --- moving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("move", "dtype"), [
    (lambda m: m.double(), "float64"), (lambda m: m.half(), "float16"), (lambda m: m.bfloat16(), "bfloat16"),
    (lambda m: m.to(tl.float64), "float64"), (lambda m: m.to("cpu", tl.float64), "float64"),
    (lambda m: m.to(dtype=tl.float64), "float64"), (lambda m: m.to(tl.zeros(1, dtype=tl.float16)), "float16"),
    (lambda m: m.double().float(), "float32"), (lambda m: m.cpu(), "float32"), (lambda m: m.to("float64"), "float64"),
    (lambda m: m.to(device="cpu"), "float32"),
])
def test_to_converts_floating_tensors_and_keeps_identity(move, dtype):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net(tl.ones(2, 2)).sum().backward()
    before, count = list(net.parameters()), net[1].num_batches_tracked
    assert move(net) is net
    for old, new in zip(before, net.parameters(), strict=True):
        assert old is new and new.dtype.name == dtype and new.requires_grad and new.is_leaf
        assert new.grad.dtype.name == dtype
    assert net[1].running_mean.dtype.name == dtype
    assert net[1].num_batches_tracked is count and count.dtype is tl.int64


def test_to_keeps_an_optimizer_working_and_tied_weights_tied():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    held = list(net.parameters())
    net.double()
    assert net[1].weight is net[0].weight is held[0]
    net(tl.ones(1, 2, dtype=tl.float64)).sum().backward()
    assert held[0].grad.dtype is tl.float64


def test_to_refuses_integers_and_unknown_devices():
    with pytest.raises(DTypeError, match="only accepts floating point dtypes"):
        Net().to(tl.int32)
    with pytest.raises(RuntimeError, match="did you mean 'cuda'"):
        Net().to("gpu")


# --- repr, copies -------------------------------------------------------------------------------------------


def test_repr_equals_torch():
    torch = pytest.importorskip("torch")

    def build(n):
        return n.Sequential(OrderedDict(
            body=n.Sequential(n.Linear(2, 3), n.ReLU(), n.Sequential()),
            many=n.ModuleList([*(n.Linear(1, 1) for _ in range(2)), n.ReLU(), *(n.Sequential(n.Tanh()) for _ in "ab")]),
            table=n.ModuleDict({"a": n.Identity(), "b": n.BatchNorm1d(2)}),
            empty=n.ModuleList(),
        ))

    assert repr(build(nn)) == repr(build(torch.nn))


def test_extra_repr_of_several_lines():
    class Wide(nn.Module):
        def extra_repr(self):
            return "one=1,\ntwo=2"

    assert repr(Wide()) == "Wide(\n  one=1,\n  two=2\n)"
    assert repr(nn.Sequential(Wide())) == "Sequential(\n  (0): Wide(\n    one=1,\n    two=2\n  )\n)"


def test_parameter_repr_and_grad():
    parameter = nn.Parameter(tl.tensor([1.0, 2.0]))
    assert repr(parameter) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert isinstance(parameter, tl.Tensor) and parameter.is_leaf
    assert type(parameter * 2) is tl.Tensor
    assert type(parameter.detach()) is tl.Tensor
    with pytest.raises(DTypeError, match="floating"):
        nn.Parameter(tl.zeros(2, dtype=tl.int64))
    assert not nn.Parameter(tl.zeros(2, dtype=tl.int64), requires_grad=False).requires_grad


def test_parameter_shares_its_data_and_cuts_its_history():
    source = tl.ones(2, requires_grad=True)
    parameter = nn.Parameter(source * 3)
    assert parameter.is_leaf
    data = tl.zeros(2)
    shared = nn.Parameter(data)
    data.fill_(4)
    assert shared.tolist() == [4, 4]


def test_deepcopy_keeps_ties_and_separates_memory():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net.extras = [net[0], nn.Linear(1, 1)]
    twin = copy.deepcopy(net)
    assert twin[1].weight is twin[0].weight and twin.extras[0] is twin[0]
    assert type(twin[0].weight) is nn.Parameter and twin[0].weight.requires_grad
    with tl.no_grad():
        twin[0].weight.zero_()
    assert net[0].weight.tolist() != twin[0].weight.tolist()
    assert list(twin.state_dict()) == list(net.state_dict())


def test_a_module_is_freed_without_the_collector():
    gc.disable()
    try:
        net = Net()
        net(tl.ones(2, 2)).sum().backward()
        gone = weakref.ref(net.first)
        del net
        assert gone() is None
    finally:
        gc.enable()
