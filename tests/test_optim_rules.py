"""What an optimizer's step may and may not do; parameter groups, options, hooks, copies, errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from optim_helpers import ALL, leaf

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.optim.optimizer import Optimizer


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("cls", ALL)
def test_a_step_never_changes_a_gradient(cls: Any, weight_decay: float) -> None:
    p = leaf([1.0, -2.0, 3.0])
    optimizer = cls([p], lr=0.1, **({} if cls in (optim.Rprop,) else {"weight_decay": weight_decay}))
    g = tl.tensor([0.5, 0.5, -0.5], dtype=tl.float64)
    p.grad = g
    for _ in range(3):
        optimizer.step()
        assert p.grad is g
        assert g.tolist() == [0.5, 0.5, -0.5]


def test_maximize_climbs_without_changing_the_gradient() -> None:
    for cls in ALL:
        if cls is optim.Lion:
            continue
        p = leaf([1.0, -2.0])
        p.grad = tl.tensor([1.0, 1.0], dtype=tl.float64)
        cls([p], lr=0.1, maximize=True).step()
        assert (p.detach().numpy() > [1.0, -2.0]).all()
        assert p.grad.tolist() == [1.0, 1.0]


def test_parameters_without_gradient_are_left_alone() -> None:
    moved, frozen = leaf([1.0]), leaf([1.0])
    optimizer = optim.Adam([moved, frozen], weight_decay=0.1)
    moved.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    assert frozen.item() == 1.0 and frozen not in optimizer.state
    assert moved.item() < 1.0 and optimizer.state[moved]["step"].item() == 1


def test_an_update_is_in_place_and_backward_notices_it() -> None:
    p = leaf([1.0, 2.0])
    memory = p.detach().numpy()
    loss = (p * p).sum()
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tl.ones(2, dtype=tl.float64)
    optimizer.step()
    assert memory.tolist() == pytest.approx([0.9, 1.9])
    with pytest.raises(tl.GradError, match="modified by an in-place operation"):
        loss.backward()


def test_backward_notices_changed_state() -> None:
    p = leaf([1.0])
    optimizer = optim.Adam([p])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    w = leaf([2.0])
    loss = (w * optimizer.state[p]["exp_avg"]).sum()
    optimizer.step()
    with pytest.raises(tl.GradError):
        loss.backward()


def test_no_mode_is_switched_and_closures_run_with_grad() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    seen = []

    def closure() -> tl.Tensor:
        seen.append(tl.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    with tl.no_grad():
        assert optimizer.step(closure).item() == pytest.approx(0.64)
        assert not tl.is_grad_enabled()
    assert seen == [True, True]
    assert p.item() == pytest.approx(0.64)


@pytest.mark.parametrize("cls", [*ALL, optim.Muon])
def test_a_recorded_step_can_be_replayed_with_another_learning_rate(cls: Any) -> None:
    """The step number and the rate live in device memory: the recorded arguments stay valid."""
    p, q = leaf(np.eye(3)), leaf(np.eye(3))
    g = np.random.default_rng(0).standard_normal((3, 3))
    optimizer, eager = cls([p], lr=0.1), cls([q], lr=0.1)
    p.grad, q.grad = tl.tensor(g), tl.tensor(g)
    optimizer.step()
    calls: list[Any] = []
    backend = p.backend
    backend.observers = (lambda be, kernel, out, args, params: calls.append((kernel, out, args, params)),)
    try:
        optimizer.step()
    finally:
        backend.observers = ()
    assert len(calls) == 1
    for _ in range(3):
        for kernel, out, args, params in calls:
            backend.run(kernel, out, *args, **params)
    rate = calls[0][2][1]
    assert rate.shape == () and rate.dtype == np.float64
    rate[...] = 0.02
    for kernel, out, args, params in calls:
        backend.run(kernel, out, *args, **params)
    for _ in range(5):
        eager.step()
    eager.param_groups[0]["lr"] = 0.02
    eager.step()
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_the_learning_rate_may_change_between_steps() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    assert p.item() == pytest.approx(0.89)
    optimizer.param_groups[0]["lr"] = tl.tensor(0.5)
    optimizer.step()
    assert p.item() == pytest.approx(0.39)


def test_options_may_change_between_steps() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.RMSprop([p], centered=True)
    optimizer.step()
    optimizer.param_groups[0].update(momentum=0.9)
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "square_avg", "momentum_buffer", "grad_avg"}
    adam = optim.Adam([p])
    adam.step()
    adam.param_groups[0]["amsgrad"] = True
    adam.step()
    assert adam.state[p]["max_exp_avg_sq"].item() == adam.state[p]["exp_avg_sq"].item()


# --- groups -----------------------------------------------------------------------------------------------------


def test_groups_have_options_of_their_own() -> None:
    a, b, c = leaf([1.0]), leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "name": "head"}], lr=0.1)
    optimizer.add_param_group({"params": (x for x in [c]), "momentum": 0.9})
    for p in (a, b, c):
        p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    assert [a.item(), b.item(), c.item()] == pytest.approx([0.9, 0.5, 0.9])
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    assert optimizer.param_groups[1]["name"] == "head"
    assert list(optimizer.state[c]) == ["momentum_buffer"]


def test_named_parameters() -> None:
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is model.weight
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("weight", model.weight), model.bias])
    with pytest.raises(ValueError, match=r"with/without names\. cannot add param group without names"):
        optimizer.add_param_group({"params": [leaf(1.0)]})


def test_parameters_that_are_refused() -> None:
    w = leaf([1.0])
    cases: list[tuple[Any, type[Exception], str]] = [
        ([], ValueError, "optimizer got an empty parameter list"),
        (w, TypeError, "should be an iterable of Tensors or dicts, but got Tensor"),
        ({"params": [w]}, TypeError, r"but got one dict; pass \[group\]"),
        ({w}, TypeError, "ordered collections"),
        ([{"params": {w}}], TypeError, "ordered collections"),
        (nn.Linear(2, 2), TypeError, r"'Linear'; did you mean model.parameters\(\)\?"),
        ([nn.Linear(2, 2)], TypeError, r"did you mean model.parameters\(\)\?"),
        ([{"params": nn.Linear(2, 2)}], TypeError, r"did you mean model.parameters\(\)\?"),
        ([w, 3.0], TypeError, "optimizer can only optimize Tensors, but one of the params is float"),
        ([w * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([w.detach().expand(3).requires_grad_()], ValueError, r"whose elements share memory \(expanded\)"),
        ([tl.from_numpy(np.broadcast_to(np.ones(1), (1,)))], ValueError, "that is read-only"),
        ([{"lr": 0.1}], ValueError, "needs the key 'params'"),
        ([{"params": [w]}, w], TypeError, "param_group must be a dict, but got"),
        ([{"params": [w]}, {"params": [w]}], ValueError, "some parameters appear in more than one parameter group"),
    ]
    for params, error, message in cases:
        with pytest.raises(error, match=message):
            optim.SGD(params, lr=0.1)


def test_a_parameter_listed_twice_warns() -> None:
    w = leaf([1.0])
    with pytest.warns(UserWarning, match="duplicate parameters") as caught:
        optimizer = optim.SGD([w, w], lr=0.1)
    assert caught[0].filename != optim.optimizer.__file__
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 0]


BAD_OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    *[(cls, {"lr": -1}, "Invalid learning rate: -1") for cls in ALL],
    *[(cls, {"lr": float("nan")}, "Invalid learning rate: nan") for cls in ALL],
    (optim.SGD, {"momentum": -0.5}, "Invalid momentum value: -0.5"),
    (optim.SGD, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
    (optim.Adam, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    (optim.AdamW, {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    (optim.Adam, {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
    (optim.RMSprop, {"alpha": -1}, "Invalid alpha value: -1"),
    (optim.Adagrad, {"lr_decay": -1}, "Invalid lr_decay value: -1"),
    (optim.Adagrad, {"initial_accumulator_value": -1}, "Invalid initial_accumulator_value value: -1"),
    (optim.Adadelta, {"rho": 1.5}, "Invalid rho value: 1.5"),
    (optim.NAdam, {"momentum_decay": -1}, "Invalid momentum_decay value: -1"),
    (optim.Rprop, {"etas": (1.5, 1.2)}, "Invalid eta values: 1.5, 1.2"),
    (optim.Rprop, {"step_sizes": (2, 1)}, "Invalid step sizes: 2, 1"),
    *[(cls, {"weight_decay": -1}, "Invalid weight_decay value: -1") for cls in ALL if cls is not optim.Rprop],
    (optim.Muon, {"lr": -1}, "Learning rate should be >= 0 but is: -1"),
    (optim.Muon, {"momentum": -1}, "momentum should be >= 0 but is: -1"),
    (optim.Muon, {"weight_decay": -1}, "weight decay should be >= 0 but is: -1"),
    (optim.Muon, {"adjust_lr_fn": "other"}, "Adjust learning rate function other is not supported"),
    (optim.Muon, {"ns_coefficients": (1, 2)}, "Coefficients must be a tuple of exactly 3 values"),
    (optim.Muon, {"ns_steps": 100}, "Number of steps must be less than 100"),
]


@pytest.mark.parametrize("cls,options,message", BAD_OPTIONS)
def test_bad_options_are_refused_everywhere(cls: Any, options: dict[str, Any], message: str) -> None:
    w = leaf([[1.0]])
    with pytest.raises(tl.ArgumentError, match=message):
        cls([w], **options)
    with pytest.raises(tl.ArgumentError, match=message):
        cls([{"params": [w], **options}])
    optimizer = cls([leaf([[1.0]])])
    with pytest.raises(tl.ArgumentError, match=message):
        optimizer.add_param_group({"params": [w], **options})
    assert len(optimizer.param_groups) == 1


def test_repr_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    options = {"lr": 0.1, "momentum": 0.9}
    theirs = repr(torch.optim.SGD([torch.zeros(1, requires_grad=True)], **options))
    expected = [line for line in theirs.split("\n") if line.split(":")[0].strip() not in optim.optimizer.NOT_OURS]
    assert repr(optim.SGD([leaf(1.0)], **options)).split("\n") == expected


# --- zero_grad, hooks, copies, subclasses ---------------------------------------------------------------------------


def test_zero_grad() -> None:
    a, b = leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([a, b])
    a.grad = g = tl.ones(1, dtype=tl.float64)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is g and g.item() == 0.0 and b.grad is None
    optimizer.zero_grad()
    assert a.grad is None


def test_zero_grad_detaches_a_gradient_with_history() -> None:
    a = leaf([3.0])
    (a**3).sum().backward(create_graph=True)
    assert a.grad.requires_grad
    optim.SGD([a]).zero_grad(set_to_none=False)
    assert a.grad.item() == 0.0 and not a.grad.requires_grad


def test_step_hooks() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.SGD([p], lr=0.1)
    seen: list[Any] = []
    pre = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", o is optimizer, p.item())))
    post = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", o is optimizer, p.item())))
    optimizer.step()
    assert seen == [("pre", True, 1.0), ("post", True, 0.9)]
    pre.remove()
    post.remove()
    optimizer.step()
    assert len(seen) == 2
    with optimizer.register_step_pre_hook(lambda o, args, kwargs: ((lambda: "other",), {})):
        assert optimizer.step(lambda: "first") == "other"
    with optimizer.register_step_pre_hook(lambda o, args, kwargs: 3):
        with pytest.raises(ValueError, match=r"None or \(args, kwargs\), got 3"):
            optimizer.step()


def test_deepcopy_goes_on_by_itself() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    (q,) = twin.param_groups[0]["params"]
    assert q is not p
    q.grad = tl.ones(1, dtype=tl.float64)
    twin.step()
    optimizer.step()
    assert q.item() == p.item()
    twin.step()
    assert q.item() < p.item() and twin.state[q]["exp_avg"] is not optimizer.state[p]["exp_avg"]


def test_an_optimizer_of_ones_own() -> None:
    class Plain(Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["calls"] = self.state[p].get("calls", 0) + 1
                    p.data.sub_(p.grad * group["lr"])

    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = Plain([p], lr=0.1)
    optimizer.step()
    assert p.item() == pytest.approx(0.9)
    other = Plain([leaf([1.0])], lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == 0.1
    assert list(other.state.values()) == [{"calls": 1}]

    class Nothing(Optimizer):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing has neither a kernel nor a step\(\) of its own"):
        Nothing([p], {"lr": 1.0}).step()
