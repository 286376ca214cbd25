"""Module: what it owns and finds, names, plain lists, assigning, modes, and errors that name their place."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ShapeError, TensorliteError


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
