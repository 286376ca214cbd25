"""Module: what it owns and finds, names, modes, hooks, state, moving, repr, copies, errors with their place."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, TensorliteError
from tensorlite.nn import functional as F


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


def names(pairs):
    return [name for name, _ in pairs]


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


# --- finding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    lambda m: names(m.named_parameters()),
    lambda m: names(m.named_parameters("net")),
    lambda m: names(m.named_parameters(recurse=False)),
    lambda m: names(m.named_buffers()),
    lambda m: names(m.named_modules()),
    lambda m: names(m.named_modules(prefix="p")),
    lambda m: names(m.named_children()),
    lambda m: list(m.state_dict()),
    lambda m: list(m.state_dict(prefix="net.")),
    lambda m: [type(part).__name__ for part in m.modules()],
    lambda m: [type(part).__name__ for part in m.children()],
    lambda m: [tuple(p.shape) for p in m.parameters()],
    lambda m: [tuple(b.shape) for b in m.buffers()],
    repr,
])
def test_names_and_order_equal_torch(call):
    assert call(Net()) == call(torch_net())


def test_tied_parameters_come_once_but_stand_twice_in_the_state():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert names(net.named_parameters()) == ["0.weight", "0.bias", "1.bias"]
    assert names(net.named_parameters(remove_duplicate=False)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_shared_module_comes_once():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert names(net.named_modules()) == ["", "0", "1"]
    assert names(net.named_children()) == ["0", "1"]
    assert names(net.named_modules(remove_duplicate=False)) == ["", "0", "1", "2"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert net(tl.ones(1, 2)).shape == (1, 2)


def test_get_submodule_parameter_buffer():
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("second.1") is net.second[1]
    assert net.get_parameter("second.1.weight") is net.second[1].weight
    assert net.get_buffer("seen") is net.seen
    with pytest.raises(AttributeError, match="Sequential has no attribute `7`"):
        net.get_submodule("second.7")
    with pytest.raises(AttributeError, match="is not an nn"):
        net.get_submodule("first.weight")
    with pytest.raises(AttributeError, match="is not an nn"):
        net.get_parameter("first")
    with pytest.raises(AttributeError, match="not a buffer"):
        net.get_buffer("scale")


# --- plain lists, tuples and dicts --------------------------------------------------------------------------


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
        self.heads = {"left": nn.Linear(2, 1), "right": (nn.Linear(2, 1), [nn.Identity()])}
        self.shifts = [nn.Parameter(tl.zeros(2)), tl.zeros(2), None, 3]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["left"](x) + self.shifts[0].sum()


def test_plain_containers_are_registered_under_their_place():
    net = Lists()
    assert names(net.named_children()) == ["layers.0", "layers.1", "heads.left", "heads.right.0", "heads.right.1.0"]
    assert names(net.named_parameters())[:3] == ["shifts.0", "layers.0.weight", "layers.0.bias"]
    assert "heads.right.0.weight" in net.state_dict()
    assert net.get_parameter("heads.right.0.weight") is net.heads["right"][0].weight
    net(tl.ones(1, 2)).sum().backward()
    assert net.layers[0].weight.grad is not None and net.shifts[0].grad is not None
    net.eval()
    assert not net.layers[1].training


def test_a_plain_list_stays_the_users_list_and_may_grow():
    net = Lists()
    mine = net.layers
    assert type(mine) is list
    mine.append(nn.Linear(2, 2))
    assert "layers.2.weight" in names(net.named_parameters())
    del mine[0]
    assert names(net.named_parameters()).count("layers.1.weight") == 1
    assert len(list(net.layers)) == 2


def test_state_of_plain_containers_loads():
    source, target = Lists(), Lists()
    target.load_state_dict(source.state_dict())
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        assert a.tolist() == b.tolist()


def test_what_is_an_attribute_is_found_as_that_only():
    net = Net()
    net.tagged = [net.first, net.second[1], net.scale]
    net.groups = {"decay": [net.first.weight]}
    reference = Net()
    assert names(net.named_parameters()) == names(reference.named_parameters())
    assert names(net.named_modules()) == names(reference.named_modules())
    assert list(net.state_dict()) == list(reference.state_dict())


def test_an_object_in_lists_only_is_found_once():
    layer = nn.Linear(1, 1)
    net = nn.Module()
    net.one, net.two = [layer, layer], (layer,)
    assert list(net.state_dict()) == ["one.0.weight", "one.0.bias"]
    assert names(net.named_modules()) == ["", "one.0"]


def test_a_child_that_lists_its_parent_makes_no_endless_walk():
    net = Net()
    net.first.owner = [net]
    reference = Net()
    assert names(net.named_modules()) == names(reference.named_modules())
    assert list(net.state_dict()) == list(reference.state_dict())
    assert net.eval() is net and net.first.train() is net.first
    net.apply(lambda module: None)
    assert copy.deepcopy(net).first.owner[0].scale.tolist() == [1, 1, 1]
    assert "(owner.0): ..." in repr(net)


def test_a_list_that_holds_itself_makes_no_endless_walk():
    net = nn.Module()
    net.knot = [nn.Linear(1, 1)]
    net.knot.append(net.knot)
    assert list(net.state_dict()) == ["knot.0.weight", "knot.0.bias"]


def test_other_objects_hide_a_module():
    net = nn.Module()
    net.teacher = SimpleNamespace(module=nn.Linear(1, 1))
    assert list(net.parameters()) == []


def test_equal_names_in_a_dict_are_refused():
    net = nn.Module()
    net.heads = {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}
    with pytest.raises(KeyError, match="have the name"):
        net.state_dict()


# --- assigning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind"), [
    (nn.Linear(1, 1), "module"), (nn.Parameter(tl.zeros(1)), "parameters"),
])
def test_forgetting_super_init(value, kind):
    class Broken(nn.Module):
        def __init__(self):
            self.part = value

    with pytest.raises(AttributeError, match=rf"cannot assign {kind} before Module.__init__\(\) call.*super\(\)"):
        Broken()


@pytest.mark.parametrize("method", ["register_buffer", "register_parameter", "add_module"])
def test_forgetting_super_init_before_registering(method):
    class Broken(nn.Module):
        def __init__(self):
            getattr(self, method)("part", None)

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Broken()


def test_a_plain_tensor_over_a_parameter_is_refused():
    layer = nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"cannot assign 'Tensor' as parameter 'weight' \(nn.Parameter or None exp"):
        layer.weight = tl.zeros(3, 2)
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter 'bias'"):
        layer.bias = 3
    layer.weight = nn.Parameter(tl.ones(3, 2))
    layer.bias = None
    assert names(layer.named_parameters()) == ["weight"]
    with pytest.raises(TypeError, match="as parameter 'bias'"):
        layer.bias = tl.zeros(3)


def test_something_else_over_a_module_or_buffer_is_refused():
    net = Net()
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="cannot assign 'int' object to buffer 'seen'"):
        net.seen = 3
    net.seen = tl.ones(1)
    assert net.state_dict()["seen"].tolist() == [1]
    net.seen = None
    assert "seen" not in net.state_dict()
    net.first = None
    assert names(net.named_children()) == ["second"]
    del net.second, net.scratch
    assert names(net.named_modules()) == [""]


def test_a_parameter_over_a_buffer_is_a_parameter():
    net = Net()
    net.seen = nn.Parameter(tl.zeros(1))
    assert "seen" in names(net.named_parameters()) and "seen" not in names(net.named_buffers())


def test_a_name_that_is_a_method_is_refused():
    net = Net()
    with pytest.raises(AttributeError, match="method of that name"):
        net.children = nn.Linear(1, 1)


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda m: m.register_buffer("first", None), KeyError, "already exists"),
    (lambda m: m.register_buffer("a.b", None), KeyError, "name can.*contain"),
    (lambda m: m.register_buffer("", None), KeyError, "be empty"),
    (lambda m: m.register_buffer(3, None), TypeError, "should be a string"),
    (lambda m: m.register_buffer("q", 3), TypeError, "to buffer 'q'"),
    (lambda m: m.register_parameter("q", tl.zeros(1)), TypeError, "to parameter 'q'"),
    (lambda m: m.add_module("q", 3), TypeError, "not a Module subclass"),
    (lambda m: m.add_module("train", nn.ReLU()), KeyError, "already exists"),
    (lambda m: m.train("yes"), TypeError, "boolean"),
    (lambda m: m.missing, AttributeError, "'Net' object has no attribute 'missing'"),
])
def test_registering_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call(Net())


def test_register_parameter_and_add_module():
    net = nn.Module()
    net.register_parameter("w", None)
    net.add_module("sub", nn.ReLU())
    net.add_module("none", None)
    assert names(net.named_parameters()) == [] and names(net.named_children()) == ["sub"]
    net.w = nn.Parameter(tl.zeros(1))
    assert names(net.named_parameters()) == ["w"]


def test_forward_is_required():
    with pytest.raises(NotImplementedError, match=r'Module \[Module\] is missing the required "forward" function'):
        nn.Module()(1)


# --- modes, gradients, apply --------------------------------------------------------------------------------


def test_train_and_eval_return_self_and_reach_everything():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(part.training for part in net.modules())
    assert net.train() is net and all(part.training for part in net.modules())


def test_a_childs_own_train_is_respected():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            for part in self:
                part.eval()
            return self

    net = nn.Sequential(Frozen(nn.Dropout()), nn.Dropout())
    net.train()
    assert net[0].training and not net[0][0].training and net[1].training


def test_requires_grad_and_zero_grad():
    net = Net()
    net(tl.ones(4, 2)).sum().backward()
    grad = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0, 0, 0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert grad is not None
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())
    assert not net(tl.ones(4, 2)).requires_grad


def test_zero_grad_of_a_recorded_gradient():
    layer = nn.Linear(1, 1)
    (layer(tl.ones(1, 1)) ** 2).sum().backward(create_graph=True)
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0]] and not layer.weight.grad.requires_grad


def test_apply_goes_children_first():
    order = []
    net = Net()
    assert net.apply(lambda module: order.append(type(module).__name__)) is net
    assert order == ["Linear", "ReLU", "Linear", "Sequential", "Net"]


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


# --- errors that say where ----------------------------------------------------------------------------------


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(3, 4))
        self.blocks = [nn.Linear(2, 2), nn.Linear(3, 3)]

    def forward(self, x, listed=False):
        return self.blocks[1](x) if listed else self.net(x)


def test_an_error_names_its_place_in_the_model():
    with pytest.raises(ShapeError, match=r"last dim 3, got 5 \(input \(2, 5\), weight \(4, 3\)\)") as caught:
        Outer()(tl.zeros(2, 2))
    assert caught.value.module_path == "net.2" and caught.value.module_type == "Linear"
    assert str(caught.value).endswith("[in module 'net.2' (Linear)]")


def test_the_place_of_a_listed_a_lone_and_an_unregistered_module():
    with pytest.raises(ShapeError) as caught:
        Outer()(tl.zeros(2, 2), listed=True)
    assert caught.value.module_path == "blocks.1"
    with pytest.raises(ShapeError, match=r"\[in Linear\]"):
        nn.Linear(2, 3)(tl.zeros(1))

    class Hidden(nn.Module):
        def forward(self, x):
            return nn.Sequential(nn.Linear(3, 3))(x)

    with pytest.raises(ShapeError) as caught:
        nn.Sequential(Hidden())(tl.zeros(1))
    assert caught.value.module_path == "0.(Sequential).0" and caught.value.module_type == "Linear"


def test_an_error_caught_inside_leaves_no_trace():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            try:
                return self.layer(x)
            except TensorliteError as error:
                return error.module_path

    assert Careful()(tl.zeros(1)) == ""


def test_other_errors_pass_unchanged():
    class Raises(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        nn.Sequential(Raises())(1)
