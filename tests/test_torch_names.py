"""Names that PyTorch scripts ask for: set_printoptions, accelerator, linalg, autograd.functional, swa_utils, utils."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim

VALUES = [
    [1.23456, -2.0, 1000.0], [1.0, 2.0, 3.0], [1e-6, 2.0, 3.0], [0.5, float("nan"), float("inf")], list(range(40)),
]


@pytest.fixture
def default_printing() -> Iterator[None]:
    yield
    tl.set_printoptions(profile="default")


OPTIONS: list[dict[str, Any]] = [
    {"precision": 2}, {"precision": 0}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 30},
    {"threshold": 10, "edgeitems": 2}, {"profile": "short"}, {"profile": "full", "precision": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_printing_is_pytorchs(options: dict[str, Any], default_printing: None) -> None:
    torch = pytest.importorskip("torch")
    tl.set_printoptions(**options)
    torch.set_printoptions(**options)
    try:
        for values in VALUES:
            assert repr(tl.tensor(values)) == repr(torch.tensor(values)), options
    finally:
        torch.set_printoptions(profile="default")


def test_options_that_are_not_given_stay(default_printing: None) -> None:
    tl.set_printoptions(precision=1, sci_mode=True)
    tl.set_printoptions(linewidth=40)
    assert repr(tl.tensor([0.25])) == "tensor([0.2])"
    with pytest.raises(tl.ArgumentError, match="default, short, full"):
        tl.set_printoptions(profile="long")
    with pytest.raises(tl.ArgumentError, match="precision must be at least 0, got -1"):
        tl.set_printoptions(precision=-1)
    tl.set_printoptions(profile="default")
    assert repr(tl.tensor([0.25])) == "tensor([0.2500])"


def test_numbers_in_texts() -> None:
    assert f"{tl.tensor(1.5, requires_grad=True)}" == "1.5" and f"{tl.tensor(2):03d}" == "002"
    assert f"{nn.Parameter(tl.tensor(1.5))}".startswith("Parameter containing")
    assert f"{tl.tensor([1.5])}" == "tensor([1.5000])"


def test_the_accelerator_is_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tl.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tl.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(tl.cuda, "device_count", lambda: 2)
    waited: list[Any] = []
    monkeypatch.setattr(tl.cuda, "synchronize", waited.append)
    tl.accelerator.synchronize("cuda:1")
    assert tl.accelerator.is_available() and tl.accelerator.device_count() == 2 and waited == ["cuda:1"]
    assert tl.accelerator.current_accelerator() == tl.device("cuda:1")
    monkeypatch.setattr(tl.cuda, "is_available", lambda: False)
    assert not tl.accelerator.is_available() and tl.accelerator.current_accelerator() is None


def test_utils_lead_to_what_lies_elsewhere() -> None:
    from tensorlite.utils.data import DataLoader

    from tensorlite.utils.checkpoint import checkpoint

    assert DataLoader is tl.data.DataLoader and tl.utils.data is tl.data and checkpoint is tl.autograd.checkpoint


NORMS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("norm", (3, 4), {}), ("norm", (3, 4), {"ord": "fro"}), ("norm", (3, 4), {"dim": 1}), ("norm", (5,), {"ord": 3}),
    ("norm", (2, 3, 4), {"ord": "fro", "dim": (0, 2), "keepdim": True}), ("norm", (2, 3, 4), {}),
    ("norm", (3, 4), {"ord": float("inf"), "dim": -1}), ("vector_norm", (3, 4), {}),
    ("vector_norm", (3, 4), {"ord": 1, "dim": (0, 1), "keepdim": True}),
    ("vector_norm", (3, 4), {"ord": 0.5, "dim": 0}),
]


@pytest.mark.parametrize(("name", "shape", "options"), NORMS)
def test_norms_are_pytorchs(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=shape)
    result = getattr(tl.linalg, name)(tl.tensor(values), **options)
    expected = getattr(torch.linalg, name)(torch.tensor(values), **options)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), 1e-12)


def test_cross_along_the_last_dimension_and_a_norm_that_is_not_there() -> None:
    x = tl.tensor(np.random.default_rng(0).normal(size=(3, 3)))
    np.testing.assert_allclose(tl.linalg.cross(x, x.flip(0)).numpy(), np.cross(x.numpy(), x.flip(0).numpy()))
    with pytest.raises(tl.ArgumentError, match=r"only Frobenius' norm.*vector_norm"):
        tl.linalg.norm(x, 2)


# --- autograd.functional ----------------------------------------------------------------------------------------------

JACOBIANS: dict[str, tuple[Callable[..., Any], int]] = {
    "square": (lambda x: x**2, 1), "sum": (lambda x: x.sum(), 1), "rows": (lambda x: x.sin().sum(0), 1),
    "two": (lambda x, y: (x * y).sum(1), 2), "unused": (lambda x, y: x.exp(), 2), "constant": (lambda x: x.detach(), 1),
}


@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobians_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, count = JACOBIANS[name]
    arrays = [np.random.default_rng(i).normal(size=(2, 3)) for i in range(count)]
    ours, theirs = tuple(map(tl.tensor, arrays)), tuple(map(torch.tensor, arrays))
    with tl.no_grad():
        found = tl.autograd.functional.jacobian(function, ours)
    for x, y in zip(found, torch.autograd.functional.jacobian(function, theirs), strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), 1e-12)
        assert not x.requires_grad
    assert all(x.grad is None for x in ours)


def test_a_jacobian_can_be_differentiated() -> None:
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    tl.autograd.functional.jacobian(lambda y: y**3, x, create_graph=True).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_hessians_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(3).normal(size=(2, 2))
    found = tl.autograd.functional.hessian(lambda x: (x.exp() * x.flip(0)).sum(), tl.tensor(values))
    expected = torch.autograd.functional.hessian(lambda x: (x.exp() * x.flip(0)).sum(), torch.tensor(values))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-12)
    with pytest.raises(tl.ShapeError):
        tl.autograd.functional.hessian(lambda x: x * 1, tl.tensor(values))


# --- swa_utils --------------------------------------------------------------------------------------------------------


def averaged(m: Any, n: Any, how: str) -> list[Any]:
    """The averages of a small model whose parameters and buffers take five values, in tensorlite or PyTorch."""
    swa = m.optim.swa_utils
    options = {"mean": {}, "ema": {"avg_fn": swa.get_ema_avg_fn(0.75)}, "buffers": {"use_buffers": True},
               "multi": {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.75), "use_buffers": True}}[how]
    model = n.Sequential(n.Linear(2, 2), n.BatchNorm1d(2))
    average = swa.AveragedModel(model, **options)
    for step in range(5):
        for place, tensor in enumerate([*model.parameters(), *model.buffers()]):
            tensor.data.fill_(step**2 + place)
        average.update_parameters(model)
    return [*average.parameters(), *average.buffers()]


@pytest.mark.parametrize("how", ["mean", "ema", "buffers", "multi"])
def test_averages_of_models_are_pytorchs(how: str) -> None:
    torch = pytest.importorskip("torch")
    for x, y in zip(averaged(tl, nn, how), averaged(torch, torch.nn, how), strict=True):
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), 1e-6)


def test_an_average_is_a_model_and_is_saved_as_one() -> None:
    model = nn.Linear(2, 1)
    average = optim.swa_utils.AveragedModel(model)
    before = copy.deepcopy(model.state_dict())
    assert list(average.state_dict()) == ["n_averaged", "module.weight", "module.bias"]
    model.weight.data.fill_(9)
    assert tl.equal(average.module.weight, before["weight"])
    average.update_parameters(model)
    assert tl.equal(average(tl.ones(1, 2)), model(tl.ones(1, 2))) and average.n_averaged.item() == 1


@pytest.mark.parametrize("options", [{"avg_fn": optim.swa_utils.get_ema_avg_fn(0.9)},
                                     {"multi_avg_fn": optim.swa_utils.get_ema_multi_avg_fn(0.9)}], ids=list)
def test_the_first_update_copies_bit_for_bit(options: dict[str, Any]) -> None:
    model = nn.Linear(40, 40)
    average = optim.swa_utils.AveragedModel(model, **options)
    model.weight.data.add_(0.1)
    average.update_parameters(model)
    assert tl.equal(average.module.weight, model.weight)


def test_an_average_in_a_captured_step(device: str) -> None:
    model = nn.Linear(2, 1).to(device)
    rule = optim.swa_utils.get_ema_avg_fn(0.5)
    average, eager = (optim.swa_utils.AveragedModel(model, avg_fn=rule) for _ in range(2))
    step = tl.capture(lambda: average.update_parameters(model))
    for value in range(4):
        model.weight.data.fill_(value**2)
        step()
        eager.update_parameters(model)
    assert tl.equal(average.module.weight, eager.module.weight)


def test_update_bn_takes_the_statistics_of_one_pass() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1, momentum=0.3)).eval()
    batches = [(tl.tensor([[1.0], [3.0]]), 0), (tl.tensor([[5.0], [9.0]]), 0)]
    optim.swa_utils.update_bn(batches, model)
    assert model[0].running_mean.item() == 4.5 and model[0].running_var.item() == 5.0
    assert model[0].momentum == 0.3 and not model.training
    optim.swa_utils.update_bn(batches, nn.Linear(1, 1))
