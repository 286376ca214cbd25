"""GradScaler: PyTorch's scales, skipped steps and parameters; all of it on the device; and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.amp import GradScaler, autocast
from tensorlite.backends import get
from tensorlite.nn import functional as F

OPTIONS = {"init_scale": 1024.0, "growth_interval": 3, "growth_factor": 2.0, "backoff_factor": 0.5}
PLANTED = {2: np.inf, 3: np.nan, 8: -np.inf}  # step -> what its gradient holds
STEPS = 14


def leaf(device: str = "cpu", *shape: int) -> tl.Tensor:
    return tl.ones(*(shape or (3,)), device=device, requires_grad=True)


def optimizer_and_scaler(device: str = "cpu", **options: Any) -> tuple[tl.Tensor, optim.Optimizer, GradScaler]:
    w = leaf(device)
    return w, optim.SGD([w], lr=0.5), GradScaler(device, **{**OPTIONS, **options})


# --- PyTorch's numbers -----------------------------------------------------------------------------------------------

RULES: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"lr": 0.1, "weight_decay": 0.01}, "AdamW": {"lr": 0.1},
    "RMSprop": {"lr": 0.1, "momentum": 0.9}, "Adagrad": {"lr": 0.1}, "Adadelta": {"lr": 1.0}, "Adamax": {"lr": 0.1},
    "NAdam": {"lr": 0.1}, "RAdam": {"lr": 0.1}, "Rprop": {"lr": 0.1}, "ASGD": {"lr": 0.1},
}


def trained(lib: Any, scaler: Any, rule: str, tensor: Callable[[np.ndarray], Any]) -> list[list[Any]]:
    """Scale and parameters after each of STEPS, of which some meet inf or NaN."""
    rng = np.random.default_rng(1)
    params = [tensor(rng.normal(size=shape).astype(np.float32)).requires_grad_() for shape in ((7,), (4, 5), ())]
    optimizer = getattr(lib.optim, rule)(params, **RULES[rule])
    seen = []
    for step in range(STEPS):
        slopes = [tensor(rng.normal(size=tuple(p.shape)).astype(np.float32)) for p in params]
        if step in PLANTED:
            slopes[1][2, 3] = PLANTED[step]
        optimizer.zero_grad()
        loss = sum((p * slope).sum() for p, slope in zip(params, slopes, strict=True))
        scaler.scale(loss).backward()
        if step % 2:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        seen.append([scaler.get_scale(), *[p.detach().cpu().numpy().copy() for p in params]])
    return seen


@pytest.mark.parametrize("rule", RULES)
def test_scales_and_parameters_are_pytorchs(rule: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    ours = trained(tl, GradScaler(device, **OPTIONS), rule, lambda a: tl.tensor(a, device=device))
    theirs = trained(torch, torch.amp.GradScaler("cpu", **OPTIONS), rule, torch.tensor)
    for step, (mine, expected) in enumerate(zip(ours, theirs, strict=True)):
        assert mine[0] == expected[0], step
        for p, e in zip(mine[1:], expected[1:], strict=True):
            np.testing.assert_allclose(p, e, rtol=2e-5, atol=2e-6, err_msg=f"step {step}")
    scales = [row[0] for row in ours]
    assert scales[:7] == [1024.0, 1024.0, 512.0, 256.0, 256.0, 256.0, 512.0]


def test_a_skipped_step_changes_nothing_at_all(device: str) -> None:
    w, _, scaler = optimizer_and_scaler(device)
    optimizer = optim.Adam([w], lr=0.1, weight_decay=0.1)
    for slope in (1.0, np.inf, 1.0):
        before = [w.detach().cpu().numpy().copy(), *[t.cpu().numpy().copy() for t in optimizer.state[w].values()]]
        optimizer.zero_grad()
        scaler.scale((w * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        after = [w.detach().cpu().numpy(), *[t.cpu().numpy() for t in optimizer.state[w].values()]]
        unchanged = all(np.array_equal(a, b) for a, b in zip(after, before, strict=False))
        assert unchanged == (slope == np.inf)
    assert optimizer.state[w]["step"].item() == 2.0


def test_nothing_waits_for_the_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w, optimizer, scaler = optimizer_and_scaler(device)
    backend: Any = get(device)
    scaler.scale(w.sum()).backward()

    def refuse(*args: Any) -> Any:
        raise AssertionError("a number was taken to the host")

    with monkeypatch.context() as patched:
        for name in ("to_numpy", "synchronize"):
            patched.setattr(type(backend), name, refuse)
        scaler.unscale_(optimizer)
        tl.nn.utils.clip_grad_norm_([w], 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert w[0].item() == pytest.approx(1 - 0.5 / 3**0.5)


def test_gradients_of_several_dtypes_and_many_tensors(device: str) -> None:
    params = [leaf(device, 2) for _ in range(150)]
    params += [tl.ones(3, device=device, dtype=dtype, requires_grad=True) for dtype in (tl.float64, tl.bfloat16)]
    optimizer, scaler = optim.SGD(params, lr=0.5), GradScaler(device, **OPTIONS)
    total = params[0].sum()
    for p in params[1:]:
        total = total + p.sum().float()
    scaler.scale(total).backward()
    scaler.step(optimizer)
    assert all((p == 0.5).all().item() for p in params)


@pytest.mark.parametrize("bad", [0, 1, None])
def test_one_optimizer_on_two_devices(bad: int | None, device: str) -> None:
    params = [leaf("cpu"), leaf(device)]
    optimizer, scaler = optim.SGD(params, lr=0.5), GradScaler("cpu", **OPTIONS)
    losses = [(p * (np.inf if i == bad else 1.0)).sum().to("cpu") for i, p in enumerate(params)]
    scaler.scale(losses[0] + losses[1]).backward()
    scaler.step(optimizer)
    scaler.update()
    assert [p[0].item() for p in params] == ([0.5, 0.5] if bad is None else [1.0, 1.0])
    assert scaler.get_scale() == (1024.0 if bad is None else 512.0)


def test_one_optimizer_that_finds_inf_does_not_stop_another() -> None:
    a, b = leaf(), leaf()
    first, second, scaler = optim.SGD([a], lr=0.5), optim.SGD([b], lr=0.5), GradScaler("cpu", **OPTIONS)
    scaler.scale((a * np.inf).sum() + b.sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert a[0].item() == 1.0 and b[0].item() == 0.5
    assert scaler.get_scale() == 512.0


def test_an_optimizer_with_a_step_of_its_own_is_skipped_too() -> None:
    class Own(optim.Optimizer):
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data = p.data - p.grad

    w, scaler = leaf(), GradScaler("cpu", **OPTIONS)
    optimizer = Own([w], {})
    for slope, expected in ((1.0, 0.0), (np.nan, 0.0), (1.0, -1.0)):
        w.grad = None
        scaler.scale((w * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert w[0].item() == expected


def test_outputs_of_any_form_are_scaled() -> None:
    scaler = GradScaler("cpu", **OPTIONS)
    a, b = scaler.scale([tl.ones(2), tl.ones(())])
    assert a[0].item() == b.item() == 1024.0
    assert [x.item() for x in scaler.scale(x for x in (tl.ones(()), tl.ones(())))] == [1024.0, 1024.0]
    assert isinstance(scaler.scale((tl.ones(1),)), tuple)


def test_a_scale_that_float16_cannot_hold() -> None:
    scaler = GradScaler("cpu")
    assert scaler.scale(tl.tensor([0.5], dtype=tl.float16)).item() == 32768.0
    loss = scaler.scale(tl.tensor(3.0, dtype=tl.float16))
    assert loss.dtype is tl.float32 and loss.item() == 3 * 65536


def test_disabled_it_does_nothing_of_its_own() -> None:
    w, optimizer, scaler = optimizer_and_scaler(enabled=False)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w[0].item() == 0.5 and scaler.get_scale() == 1.0 and scaler.state_dict() == {}
    scaler.load_state_dict({})
    assert not scaler.is_enabled()


# --- the scale -------------------------------------------------------------------------------------------------------


def test_the_scale_stays_finite_and_can_be_set(device: str) -> None:
    w, optimizer, scaler = optimizer_and_scaler(device, init_scale=2.0**127, growth_interval=1)
    for new, expected in ((None, 2.0**127), (8.0, 8.0), (tl.tensor([4.0]), 4.0), (None, 8.0)):
        optimizer.zero_grad()
        scaler.scale(w.sum() * 2.0**-100).backward()
        scaler.step(optimizer)
        scaler.update(new)
        assert scaler.get_scale() == expected


def test_state_goes_to_pytorch_and_back(device: str) -> None:
    torch = pytest.importorskip("torch")
    w, optimizer, scaler = optimizer_and_scaler(device)
    for _ in range(4):
        optimizer.zero_grad()
        scaler.scale(w.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    theirs = torch.amp.GradScaler("cpu")
    theirs.load_state_dict(scaler.state_dict())
    assert theirs.state_dict() == scaler.state_dict()
    assert scaler.state_dict() == {"scale": 2048.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3,
                                   "_growth_tracker": 1}
    for other in (GradScaler(device), copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        other.load_state_dict(theirs.state_dict())
        assert other.state_dict() == scaler.state_dict()
        other.scale(w.sum())
        assert other.state_dict() == scaler.state_dict()
    scaler.load_state_dict({**scaler.state_dict(), "scale": 16.0, "_growth_tracker": 0})
    assert scaler.scale(tl.ones((), device=device)).item() == 16.0 and scaler.state_dict()["_growth_tracker"] == 0


def test_a_checkpoint_holds_it(tmp_path: Path) -> None:
    scaler, other = GradScaler("cpu", init_scale=32.0), GradScaler("cpu")
    tl.save_checkpoint(tmp_path / "run.safetensors", scaler=scaler)
    tl.load_checkpoint(tmp_path / "run.safetensors", scaler=other)
    assert other.get_scale() == 32.0


def test_factors_are_read_and_set() -> None:
    scaler = GradScaler("cpu")
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (2.0, 0.5, 2000)
    scaler.set_growth_factor(3.0)
    scaler.set_backoff_factor(0.25)
    scaler.set_growth_interval(10)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (3.0, 0.25, 10)


def test_a_backward_through_what_was_changed_since_is_refused() -> None:
    w, optimizer, scaler = optimizer_and_scaler()
    late = scaler.scale(w.sum())
    scaler.scale(w.sum()).backward()
    q = leaf()
    of_gradient = (q * w.grad).sum()
    scaler.step(optimizer)
    scaler.update()
    for loss in (late, of_gradient):
        with pytest.raises(tl.GradError, match="modified by an in-place operation"):
            loss.backward()


# --- what is refused -------------------------------------------------------------------------------------------------


def scaled(half: bool = False) -> tuple[tl.Tensor, optim.Optimizer, GradScaler]:
    w = tl.ones(3, dtype=tl.float16 if half else tl.float32, requires_grad=True)
    optimizer, scaler = optim.SGD([w], lr=0.5), GradScaler("cpu", init_scale=4.0)
    scaler.scale(w.sum()).backward()
    return w, optimizer, scaler


def twice(first: str, second: str) -> None:
    _, optimizer, scaler = scaled()
    getattr(scaler, first)(optimizer)
    getattr(scaler, second)(optimizer)


def without_gradient() -> None:
    w, optimizer, scaler = scaled()
    w.grad = None
    scaler.step(optimizer)


def pickled_within_a_step() -> None:
    _, optimizer, scaler = scaled()
    scaler.unscale_(optimizer)
    pickle.dumps(scaler)


MISUSE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: twice("unscale_", "unscale_"), RuntimeError, "unscale_.. has already been called"),
    (lambda: twice("step", "unscale_"), RuntimeError, "unscale_.. is being called after step"),
    (lambda: twice("step", "step"), RuntimeError, "step.. has already been called since the last update"),
    (lambda: scaled()[2].update(), RuntimeError, "No inf checks were recorded prior to update"),
    (lambda: scaled()[2].update(tl.ones(2)), ValueError, "new_scale must hold one number"),
    (without_gradient, RuntimeError, "No inf checks were recorded for this optimizer"),
    (lambda: GradScaler("cpu").step(scaled()[1]), RuntimeError, "Attempted step but nothing was scaled"),
    (lambda: scaled()[2].step(scaled()[1], closure=lambda: 0), RuntimeError, "Closure use is not currently supported"),
    (lambda: scaled()[2].step(scaled()[1], lambda: 0), RuntimeError, "Closure use is not currently supported"),
    (lambda: scaled(half=True)[2].unscale_(scaled(half=True)[1]), TypeError, "Attempting to unscale FP16 gradients"),
    (lambda: scaled()[2].scale(3.0), TypeError, "expected a Tensor or an iterable of Tensors, got float"),
    (lambda: scaled()[2].load_state_dict({}), RuntimeError, "source state dict is empty"),
    (pickled_within_a_step, RuntimeError, "only be copied or pickled at the beginning"),
    (lambda: GradScaler("cpu", growth_factor=1.0), ValueError, "growth_factor must be > 1.0"),
    (lambda: GradScaler("cpu", backoff_factor=1.0), ValueError, "backoff_factor between 0 and 1"),
    (lambda: GradScaler("gpu"), RuntimeError, "did you mean 'cuda'"),
]


@pytest.mark.parametrize("call,error,message", MISUSE, ids=[message for _, _, message in MISUSE])
def test_misuse(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- recorded steps --------------------------------------------------------------------------------------------------


class Training:
    """A model with dropout, Adam and loss scaling, on batches of which some overflow."""

    def __init__(self, device: str, dtype: Any) -> None:
        tl.manual_seed(3)
        self.device, self.dtype = device, dtype
        self.model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4)).to(device)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.scaler = GradScaler(device, **OPTIONS)

    def step(self, x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        self.optimizer.zero_grad()
        with autocast(self.device, self.dtype):
            loss = F.cross_entropy(self.model(x), y)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


@pytest.mark.parametrize("dtype", [tl.bfloat16, tl.float16])
def test_a_captured_step_is_the_eager_one(device: str, dtype: Any) -> None:
    runs = []
    for captured in (False, True):
        training = Training(device, dtype)
        step = tl.capture(training.step) if captured else training.step
        rng = np.random.default_rng(0)
        seen = []
        for i in range(12):
            x = rng.normal(size=(6, 10)).astype(np.float32) * (np.inf if i in (4, 5, 9) else 1.0)
            loss = step(tl.tensor(x, device=device), tl.tensor(rng.integers(0, 4, 6), device=device))
            seen.append([loss.item(), training.scaler.get_scale(),
                         *[p.detach().cpu().numpy().copy() for p in training.model.parameters()]])
        runs.append(seen)
    scales = [row[1] for row in runs[0]]
    assert scales[4] == scales[3] / 2 and scales[5] == scales[3] / 4
    for i, (eager, replayed) in enumerate(zip(*runs, strict=True)):
        for a, b in zip(eager, replayed, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"step {i}")


def test_a_captured_step_in_a_region_around_it(device: str) -> None:
    """The region's casts of earlier, eager uses are no part of the recording."""
    w, x = leaf(device, 3, 3), tl.ones(2, 3, device=device)
    optimizer = optim.SGD([w], lr=0.25)

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        optimizer.zero_grad()
        y = F.linear(x, w)
        y.sum().backward()
        optimizer.step()
        return y

    with autocast(device, tl.bfloat16):
        seen = [(F.linear(x, w)[0, 0].item(), step(x)[0, 0].item()) for _ in range(5)]
    assert seen == [(y, y) for y in (3.0, 1.5, 0.0, -1.5, -3.0)]


def test_factors_that_changed_are_not_ignored_by_replays(device: str) -> None:
    training = Training(device, tl.bfloat16)
    step = tl.capture(training.step)
    x, y = tl.ones(6, 10, device=device), tl.zeros(6, dtype=tl.int64, device=device)
    for _ in range(3):
        step(x, y)
    assert training.scaler.get_scale() == 2048.0
    training.scaler.set_growth_interval(1)
    step(x, y)
    assert training.scaler.get_scale() == 4096.0


def test_the_first_loss_is_not_scaled_while_recording() -> None:
    scaler = GradScaler("cpu")
    calls = 0

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        nonlocal calls
        calls += 1
        return scaler.scale(x) if calls > 1 else x

    step(tl.ones(()))
    with pytest.raises(tl.CaptureError, match="the first loss that a GradScaler scales"):
        step(tl.ones(()))


# --- several optimizers, several dtypes ------------------------------------------------------------------------------


def test_inf_in_gradients_of_one_dtype_counts_for_all(device: str) -> None:
    w, wide = leaf(device), tl.ones(3, dtype=tl.float64, device=device, requires_grad=True)
    optimizer, scaler = optim.SGD([w, wide], lr=0.5), GradScaler(device, **OPTIONS)
    scaler.scale((w * np.inf).sum() + (wide * 2.0).sum().float()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == wide.tolist() == [1.0] * 3
    assert scaler.get_scale() == 512.0


def test_the_scale_shrinks_for_inf_in_any_optimizer(device: str) -> None:
    first, second = leaf(device), leaf(device)
    optimizers, scaler = [optim.SGD([w], lr=0.5) for w in (first, second)], GradScaler(device, **OPTIONS)
    scaler.scale((first * 2.0).sum() + (second * np.inf).sum()).backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert (first.tolist(), second.tolist()) == ([0.0] * 3, [1.0] * 3)
    assert scaler.get_scale() == 512.0


def test_a_step_without_the_scaler_is_not_skipped(device: str) -> None:
    w, optimizer, scaler = optimizer_and_scaler(device)
    scaler.scale((w * np.inf).sum()).backward()
    scaler.step(optimizer)
    assert w.tolist() == [1.0] * 3
    w.grad = tl.ones(3, device=device)
    optimizer.step()
    assert w.tolist() == [0.5] * 3


def test_a_parameter_listed_twice_is_unscaled_once(device: str) -> None:
    w = leaf(device)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = optim.SGD([w, w], lr=0.5)
    scaler = GradScaler(device, **OPTIONS)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad is not None and w.grad.tolist() == [1.0] * 3


def test_a_shallow_copy_has_a_scale_of_its_own(device: str) -> None:
    w, optimizer, scaler = optimizer_and_scaler(device)
    scaler.scale(w.sum())
    other = copy.copy(scaler)
    other.scale((w * np.inf).sum()).backward()
    other.step(optimizer)
    other.update()
    assert (scaler.get_scale(), other.get_scale()) == (1024.0, 512.0)


def test_loading_a_scale_changes_that_of_losses_before(device: str) -> None:
    w, _, scaler = optimizer_and_scaler(device)
    loss = scaler.scale((w * w).sum())
    scaler.load_state_dict(scaler.state_dict())
    with pytest.raises(tl.GradError, match="in-place"):
        loss.backward()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_step_that_is_broken_off_leaves_the_next_gradients_to_be_unscaled(error: type[BaseException]) -> None:
    """They were once taken for those that had been divided: a step larger by the factor of the scale."""
    w = tl.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    scaler = tl.amp.GradScaler("cpu", init_scale=1024.0)

    def step() -> None:
        optimizer.zero_grad()
        scaler.scale(w.sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    def break_off(*_: Any) -> None:
        raise error

    handle = optimizer.register_step_pre_hook(break_off)
    with pytest.raises(error):
        step()
    handle.remove()
    step()
    assert w.tolist() == [0.5]


def test_a_step_that_is_broken_off_after_unscaling_by_hand_says_how_to_go_on() -> None:
    w = tl.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    scaler = tl.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)  # and here comes Ctrl-C
    for way_on in (scaler.update, lambda: scaler.load_state_dict(scaler.state_dict())):
        optimizer.zero_grad()
        scaler.scale(w.sum()).backward()
        with pytest.raises(tl.errors.GradError, match="broken off, call update"):
            scaler.unscale_(optimizer)
        way_on()
        scaler.unscale_(optimizer)
        assert w.grad is not None
        assert w.grad.tolist() == [1.0]
    scaler.step(optimizer)
    with pytest.raises(tl.errors.GradError, match="broken off, call update"):
        scaler.step(optimizer)
