"""A program on a device does what it does on the CPU: tensors, autograd, modules, optimizers, data, files, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import DataLoader, TensorDataset
from tensorlite.nn import functional as F
from tensorlite.testing import assert_close, devices

DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mlp(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.LayerNorm(16), nn.Dropout(dropout), nn.Linear(16, 5))


def batches(n: int, device: str, dtype: tl.dtype = tl.float32) -> list[tuple[tl.Tensor, tl.Tensor]]:
    random = np.random.default_rng(0)
    return [(tl.tensor(random.standard_normal((10, 12)), dtype=dtype, device=device),
             tl.tensor(random.integers(0, 5, 10), device=device)) for _ in range(n)]


def train(model: nn.Module, optimizer: optim.Optimizer, device: str, steps: int = 5) -> list[float]:
    losses = []
    for x, y in batches(steps, device):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=1e-2),
    "adamw": lambda p: optim.AdamW(p, lr=1e-2, amsgrad=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-2, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_lands_on_the_losses_of_the_cpu(name: str, device: str) -> None:
    tl.manual_seed(0)
    on_cpu = mlp()
    on_device = copy.deepcopy(on_cpu).to(device)
    a = train(on_cpu, OPTIMIZERS[name](on_cpu.parameters()), "cpu")
    b = train(on_device, OPTIMIZERS[name](on_device.parameters()), device)
    np.testing.assert_allclose(b, a, 1e-5)
    for p, q in zip(on_cpu.parameters(), on_device.parameters(), strict=True):
        assert str(q.device).startswith("cuda")
        assert_close(q.cpu(), p, rtol=2e-4, atol=2e-5)


def test_dropout_and_initial_weights_are_the_same_numbers(device: str) -> None:
    tl.manual_seed(3)
    a = F.dropout(tl.ones(4, 33), 0.4)
    weights = nn.Linear(7, 9).weight
    tl.manual_seed(3)
    assert_close(F.dropout(tl.ones(4, 33, device=device), 0.4).cpu(), a, rtol=0, atol=0)
    there = nn.Linear(7, 9, device=device).weight
    assert there.device == tl.device(device)
    assert there.shape == weights.shape


@pytest.mark.parametrize("make", [lambda d: tl.rand(3, 41, device=d), lambda d: tl.randn(129, device=d),
                                  lambda d: tl.randint(0, 1000, (77,), device=d), lambda d: tl.randperm(50, device=d),
                                  lambda d: tl.bernoulli(tl.full((9,), 0.3, device=d)),
                                  lambda d: tl.empty(65, device=d).exponential_(2.0)])
def test_random_numbers_are_equal_bit_for_bit(make: Any, device: str) -> None:
    tl.manual_seed(11)
    here = [make("cpu").numpy() for _ in range(2)]
    tl.manual_seed(11)
    there = [make(device).cpu().numpy() for _ in range(2)]
    for a, b in zip(here, there, strict=True):
        assert a.tobytes() == b.tobytes()


def test_tensors_move_and_take_their_history_along(device: str) -> None:
    x = tl.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    y = x.to(device)
    assert y.device == tl.device(device) and not y.is_leaf
    (y * y).sum().backward()
    assert x.grad is not None and x.grad.device == tl.device("cpu")
    assert_close(x.grad, 2 * x.detach())
    back = y.detach().T.cpu()
    assert_close(back, x.detach().T)
    assert y.to(device) is y
    assert tl.zeros_like(y).device == y.device == y.new_ones(2).device


def test_what_reads_values_on_the_host(device: str) -> None:
    x = tl.tensor([[1.5, 2.0], [3.0, 4.0]], device=device)
    assert x.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert x[0, 0].item() == 1.5 and float(x.sum()) == 10.5 and bool((x > 0).all())
    assert f"device='{tl.device(device)}'" in repr(x) and "1.5" in repr(x)
    assert len(x) == 2 and [row.tolist() for row in x] == x.tolist()
    with pytest.raises(tl.errors.DeviceError, match=r"tensor.cpu\(\)"):
        np.asarray(x)
    with pytest.raises(tl.errors.DeviceError, match=r"tensor.cpu\(\)"):
        x.numpy()


def test_in_place_views_and_indexing(device: str) -> None:
    results = []
    for where in ("cpu", device):
        x = tl.arange(24, dtype=tl.float32, device=where).reshape(4, 6)
        x[1] = 7.0
        x[:, 2] += 1
        x[x > 20] = -1.0
        x[[0, 3], [1, 1]] = tl.tensor([100.0, 200.0], device=where)
        x.mul_(2).clamp_(max=150)
        x.T[5].add_(0.5)
        results.append((x.cpu(), x[[2, 0, 2]].cpu(), x.gather(1, tl.tensor([[0, 5]] * 4, device=where)).cpu(),
                        x.sort(1)[0].cpu(), x.topk(2)[1].cpu(), x.nonzero().cpu(), tl.diag(x[:4, :4]).cpu()))
    for a, b in zip(*results, strict=True):
        assert_close(b, a, rtol=0, atol=0)


def test_a_tensor_is_written_from_itself(device: str) -> None:
    for key, part in ((..., lambda x: x.T), (slice(1, None), lambda x: x[:-1]), ([3, 0], lambda x: x[:2])):
        here, there = (tl.arange(16, device=where).reshape(4, 4) for where in ("cpu", device))
        wanted = here.clone()
        wanted[key] = part(here).clone()
        for x in (here, there):
            x[key] = part(x)
            assert_close(x.cpu(), wanted)


def test_mixed_devices_are_refused_and_named(device: str) -> None:
    here, there = tl.ones(2, 3), tl.ones(2, 3, device=device)
    with pytest.raises(tl.errors.DeviceError, match=rf"(?s)\(2, 3\) on 'cpu'.*\(2, 3\) on '{tl.device(device)}'"):
        here + there
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(device)
    with pytest.raises(tl.errors.DeviceError, match=f"'cpu'.*'{tl.device(device)}'") as caught:
        model(here)
    assert caught.value.module_path == "0"
    with pytest.raises(tl.errors.DeviceError):
        F.cross_entropy(there, tl.tensor([0, 1]))
    with pytest.raises(tl.errors.DeviceError):
        there += here
    with pytest.raises(tl.errors.TensorliteError):
        tl.randn(3, device=device, generator=tl.Generator())


def test_labels_out_of_range_are_an_error_and_not_garbage(device: str) -> None:
    logits = tl.randn(6, 4, device=device)
    with pytest.raises(IndexError, match=r"Target 9 is out of bounds.*4 classes"):
        F.cross_entropy(logits, tl.tensor([0, 1, 9, 3, 2, 1], device=device)).item()
    with pytest.raises(IndexError, match=r"index 7 at position"):
        tl.ones(5, 2, device=device)[tl.tensor([0, 7], device=device)].cpu()
    assert F.cross_entropy(logits, tl.tensor([0, 1, 2, 3, 2, 1], device=device)).item() > 0  # the device goes on


def test_what_takes_its_device_from_data_and_what_waits(device: str) -> None:
    x = tl.ones(3, device=device)
    assert tl.tensor(x).device == x.device and tl.tensor(x, device="cpu").device == tl.device("cpu")
    _ = x[tl.tensor([0, 5], device=device)]
    with pytest.raises(IndexError, match=r"index 5 at position \(1,\) .*\(kernel 'index'\)"):
        tl.cuda.synchronize(device)
    with pytest.raises(tl.errors.DTypeError, match="force=True"):
        np.histogram(x)


def test_ignored_labels(device: str) -> None:
    logits = tl.randn(6, 4)
    labels = tl.tensor([0, -100, 2, 3, -100, 1])
    here, there = (F.cross_entropy(logits.to(d), labels.to(d)).item() for d in ("cpu", device))
    assert there == pytest.approx(here, rel=1e-6)


def test_an_optimizer_remembers_its_state_on_the_device(device: str) -> None:
    model = mlp().to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    train(model, optimizer, device, 2)
    again = mlp().to(device)
    again.load_state_dict(model.state_dict())
    other = optim.Adam(again.parameters(), lr=1e-2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    np.testing.assert_allclose(train(again, other, device), train(model, optimizer, device), 1e-6)
    first = other.state[next(iter(again.parameters()))]["exp_avg"]
    assert first.device == tl.device(device)


def test_schedules_and_clipping(device: str) -> None:
    losses = []
    for where in ("cpu", device):
        tl.manual_seed(1)
        model = mlp().to(where)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for x, y in batches(4, where):
            optimizer.zero_grad(set_to_none=False)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[4:], losses[:4], 1e-5)


def test_files_are_read_back_to_a_device(tmp_path: Path, device: str) -> None:
    model = mlp().to(device)
    tl.save(model.state_dict(), tmp_path / "model.safetensors")
    other = mlp().to(device)
    other.load_state_dict(tl.load(tmp_path / "model.safetensors"))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert q.device == tl.device(device)
        assert_close(q.cpu(), p.cpu(), rtol=0, atol=0)


def test_copies_and_pickles(device: str) -> None:
    x = tl.randn(3, 4, device=device, requires_grad=True)
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.device == x.device and y.requires_grad
        assert_close(y.detach().cpu(), x.detach().cpu(), rtol=0, atol=0)


def test_a_loader_feeds_a_device(device: str) -> None:
    data = TensorDataset(tl.arange(20, dtype=tl.float32).reshape(10, 2), tl.arange(10))
    seen = [label.to(device).cpu().tolist() for _, label in DataLoader(data, batch_size=4)]
    assert [label for labels in seen for label in labels] == list(range(10))


def test_checkpoints_hooks_and_double_backward(device: str) -> None:
    x = tl.tensor([0.3, -0.7], dtype=tl.float64, device=device, requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append(g.device))
    y = tl.autograd.checkpoint(lambda t: (t.sin() * t).sum(), x)
    (g,) = tl.autograd.grad(y, x, create_graph=True)
    (h,) = tl.autograd.grad(g.sum(), x)
    value = np.array([0.3, -0.7])
    assert_close(h.cpu().numpy(), 2 * np.cos(value) - value * np.sin(value), rtol=1e-12)
    assert seen and all(d == tl.device(device) for d in seen)


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float64])
def test_other_dtypes_train(dtype: tl.dtype, device: str) -> None:
    results = []
    for where in ("cpu", device):
        tl.manual_seed(0)
        model = mlp().to(where, dtype)
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        for x, y in batches(3, where, dtype):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        assert all(p.dtype is dtype for p in model.parameters())
        results.append(loss.item())
    assert results[1] == pytest.approx(results[0], rel={tl.float16: 5e-3, tl.bfloat16: 4e-2, tl.float64: 1e-12}[dtype])
