"""The optimizers' state: resuming, PyTorch's layout, what is refused, and that it follows the parameter."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from optim_helpers import ALL, leaf, random_leaves, run_both, values

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.optim.optimizer import Optimizer


def trained(cls: Any, steps: int, **options: Any) -> tuple[list[tl.Tensor], Optimizer, np.random.Generator]:
    rng = np.random.default_rng(7)
    leaves = random_leaves(rng, (3, 4), (5, 2))
    optimizer = cls(leaves, **options)
    more(leaves, optimizer, rng, steps)
    return leaves, optimizer, rng


def more(leaves: list[tl.Tensor], optimizer: Optimizer, rng: np.random.Generator, steps: int) -> None:
    for _ in range(steps):
        for p in leaves:
            p.grad = tl.tensor(rng.standard_normal(tuple(p.shape)), dtype=p.dtype)
        optimizer.step()


@pytest.mark.parametrize("cls", [*ALL, optim.Muon, optim.MuonWithAuxAdam])
def test_a_resumed_run_is_bit_equal(cls: Any) -> None:
    options = {} if cls is optim.MuonWithAuxAdam else {"lr": 0.1}
    leaves, optimizer, rng = trained(cls, 4, **options)
    saved = optimizer.state_dict()
    twins = [leaf(p.detach().numpy()) for p in leaves]
    resumed = cls(twins)
    resumed.load_state_dict(saved)
    position = rng.bit_generator.state
    more(leaves, optimizer, rng, 4)
    rng.bit_generator.state = position
    more(twins, resumed, rng, 4)
    for p, q in zip(leaves, twins, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_state_dict_has_pytorchs_layout() -> None:
    a, b, c = leaf([1.0]), leaf([1.0, 2.0]), leaf([1.0])
    optimizer = optim.Adam([{"params": [a, b]}, {"params": [c], "lr": 0.5}])
    b.grad, c.grad = tl.ones(2, dtype=tl.float64), tl.ones(1, dtype=tl.float64)
    optimizer.step()
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2]]
    assert [group["lr"] for group in saved["param_groups"]] == [1e-3, 0.5]
    assert sorted(saved["state"]) == [1, 2]
    assert list(saved["state"][1]) == ["step", "exp_avg", "exp_avg_sq"]
    assert saved["state"][1]["step"].dtype is tl.float32 and saved["state"][1]["step"].shape == ()
    assert saved["state"][1]["exp_avg"] is optimizer.state[b]["exp_avg"]


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "NAdam", "ASGD", "Rprop"])
def test_state_travels_to_and_from_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"lr": 0.05, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {})}
    ours, mine, theirs, other = run_both(name, options, [(3, 2), (4,)], 5)
    rng = np.random.default_rng(9)
    fresh = [leaf(q.detach().numpy()) for q in theirs]
    loaded = getattr(optim, name)(fresh)
    loaded.load_state_dict(other.state_dict())
    assert "foreach" not in loaded.param_groups[0]
    torch_fresh = [torch.tensor(p.detach().numpy(), requires_grad=True) for p in ours]
    torch_loaded = getattr(torch.optim, name)(torch_fresh)
    saved = mine.state_dict()
    saved["state"] = {i: {k: torch.tensor(v.numpy()) for k, v in held.items()} for i, held in saved["state"].items()}
    torch_loaded.load_state_dict(saved)
    for _ in range(3):
        for p, q in zip(fresh, torch_fresh, strict=True):
            g = rng.standard_normal(tuple(p.shape))
            p.grad, q.grad = tl.tensor(g), torch.tensor(g)
        loaded.step()
        torch_loaded.step()
    for p, q in zip(fresh, torch_fresh, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-7, atol=1e-9)


def test_loaded_state_is_a_copy_on_the_parameters_dtype() -> None:
    _, optimizer, _ = trained(optim.Adam, 2)
    saved = optimizer.state_dict()
    twins = [tl.zeros(3, 4, requires_grad=True), tl.zeros(5, 2, dtype=tl.float16, requires_grad=True)]
    loaded = optim.Adam(twins)
    loaded.load_state_dict(saved)
    assert [loaded.state[p]["exp_avg"].dtype for p in twins] == [tl.float32, tl.float32]
    assert [loaded.state[p]["step"].item() for p in twins] == [2.0, 2.0]
    before = saved["state"][0]["exp_avg"].clone()
    more(twins, loaded, np.random.default_rng(0), 1)
    assert saved["state"][0]["exp_avg"].tolist() == before.tolist()
    assert saved["state"][0]["step"].item() == 2.0


def test_load_state_dict_takes_numbers_arrays_and_text_keys() -> None:
    p = leaf([1.0, 2.0])
    optimizer = optim.Adam([p])
    saved = {
        "state": {"0": {"step": 3, "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2, np.float32)}},
        "param_groups": [{"params": [0], "lr": 0.25, "betas": [0.5, 0.5], "foreach": None}],
    }
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.25 and optimizer.param_groups[0]["eps"] == 1e-8
    state = optimizer.state[p]
    assert (state["step"].item(), state["step"].dtype, state["exp_avg_sq"].dtype) == (3.0, tl.float32, tl.float64)
    p.grad = tl.ones(2, dtype=tl.float64)
    optimizer.step()
    assert state["step"].item() == 4.0


def break_groups(saved: dict[str, Any]) -> None:
    saved["param_groups"].append(saved["param_groups"][0])


def break_sizes(saved: dict[str, Any]) -> None:
    saved["param_groups"][0]["params"] = [0]


def break_shape(saved: dict[str, Any]) -> None:
    saved["state"][1]["exp_avg"] = tl.zeros(2, 5)


def break_index(saved: dict[str, Any]) -> None:
    saved["state"][7] = saved["state"].pop(1)


def break_kind(saved: dict[str, Any]) -> None:
    del saved["state"][1]["exp_avg_sq"]


def break_option(saved: dict[str, Any]) -> None:
    saved["param_groups"][0]["lr"] = -1


@pytest.mark.parametrize("damage,message", [
    (break_groups, "different number of parameter groups: 2, the optimizer has 1"),
    (break_sizes, "doesn't match the size of optimizer's group: group 0 has 1 parameters, not 2"),
    (break_shape, r"state 'exp_avg' of parameter 1 has shape \(2, 5\), expected \(5, 2\)"),
    (break_index, "state for parameter 7, but no group has that"),
    (break_kind, r"parameter 1 has \['exp_avg', 'step'\], but Adam needs .*another optimizer"),
    (break_option, "Invalid learning rate: -1"),
])
def test_load_state_dict_is_all_or_nothing(damage: Any, message: str) -> None:
    _, optimizer, _ = trained(optim.Adam, 2)
    saved = optimizer.state_dict()
    damage(saved)
    leaves, other, rng = trained(optim.Adam, 1, lr=0.5)
    groups, state = other.param_groups, other.state
    before = copy.deepcopy([dict(groups[0], params=None), [values(*held.values()) for held in state.values()]])
    with pytest.raises((tl.ArgumentError, tl.ShapeError), match=message):
        other.load_state_dict(saved)
    assert other.param_groups is groups and other.state is state
    after = [dict(groups[0], params=None), [values(*held.values()) for held in state.values()]]
    assert str(after) == str(before)
    more(leaves, other, rng, 1)


def test_a_models_state_is_no_optimizers() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(tl.ArgumentError, match=r"keys 'state' and 'param_groups', got \['bias', 'weight'\]"):
        optim.SGD(model.parameters()).load_state_dict(model.state_dict())
    other = optim.MuonWithAuxAdam(model.parameters())
    with pytest.raises(tl.ArgumentError, match="needs the key 'use_muon'"):
        other.load_state_dict(optim.SGD([{"params": model.weight}, {"params": model.bias}]).state_dict())


def test_state_follows_the_parameter() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    x = tl.ones(4, 3)
    model(x).sum().backward()
    optimizer.step()
    before = optimizer.state[model.weight]["exp_avg"].tolist()
    model.double()
    optimizer.zero_grad()
    model(x.double()).sum().backward()
    optimizer.step()
    state = optimizer.state[model.weight]
    assert state["exp_avg"].dtype is tl.float64 and state["step"].dtype is tl.float32
    assert state["step"].item() == 2.0
    np.testing.assert_allclose(state["exp_avg"].numpy(), 0.9 * np.array(before) + 0.1 * 4.0, rtol=1e-6)


def test_a_model_learns() -> None:
    tl.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = tl.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tl.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2
