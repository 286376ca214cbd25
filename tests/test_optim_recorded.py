"""Optimizers in captured steps: what may change between replays, what is refused, and what makes a recording anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import CaptureError, optim
from tensorlite.optim import recorded


@pytest.fixture(params=tl.testing.devices())
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Training:
    """Two parameters and a captured step over them."""

    def __init__(self, device: str, make: Callable[..., Any] = optim.Adam, **options: Any) -> None:
        self.params = [tl.tensor(values, device=device).requires_grad_() for values in ([1.0, 2.0], [[3.0], [-1.0]])]
        self.optimizer = make(self.params, **{"lr": 0.1, **options})
        self.device = device
        self.step = tl.capture(self.plain)

    def plain(self, x: tl.Tensor) -> tl.Tensor:
        self.optimizer.zero_grad()
        loss = sum(((p * x).square().sum() for p in self.params), tl.zeros((), device=self.device))
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, steps: int, captured: bool = True) -> list[np.ndarray]:
        for number in range(steps):
            (self.step if captured else self.plain)(tl.tensor(1.0 + number, device=self.device))
        return self.values()

    def values(self) -> list[np.ndarray]:
        return [p.detach().cpu().numpy() for p in self.params]

    @property
    def replays(self) -> int:
        return self.step.stats().replays


def assert_equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [0.1, lambda: tl.tensor(0.1), lambda: np.float32(0.1)])
def test_the_learning_rate_of_the_day(rate: Any, device: str) -> None:
    rate = rate() if callable(rate) else rate
    trainings = [Training(device, lr=rate) for _ in range(2)]
    for training, captured in zip(trainings, (True, False), strict=True):
        training.run(3, captured)
        group = training.optimizer.param_groups[0]
        group["lr"] = 0.5 * group["lr"]
        training.run(2, captured)
        group["lr"] = 0.01
        training.run(1, captured)
    assert_equal(trainings[0].values(), trainings[1].values())
    assert trainings[0].replays == 4


@pytest.mark.parametrize("device", [name for name in tl.testing.devices() if name != "cpu"])
def test_a_rate_on_a_gpu_is_refused_while_recording(device: str) -> None:
    training = Training(device, lr=tl.tensor(0.1, device=device))
    with pytest.raises(CaptureError, match=r"\.item\(\)"):
        training.run(2)


def test_each_group_has_its_own_rate(device: str) -> None:
    results = []
    for captured in (True, False):
        training = Training(device)
        training.optimizer = optim.SGD([{"params": [p], "lr": 0.1 * (i + 1)} for i, p in enumerate(training.params)])
        training.run(3, captured)
        training.optimizer.param_groups[1]["lr"] = 0.03
        results.append(training.run(2, captured))
    assert_equal(*results)


@pytest.mark.parametrize("make, name, value, message", [
    (optim.Adam, "betas", (0.8, 0.999), r"Adam: beta1 was changed from 0\.9 to 0\.8; .*step\.reset\(\)"),
    (optim.Adam, "weight_decay", 0.5, r"Adam: weight_decay was changed from 0 to 0\.5"),
    (optim.Adam, "amsgrad", True, r"Adam: the state it keeps was changed from .*None.* to .*max_exp_avg_sq"),
    (optim.SGD, "momentum", 0.9, r"SGD: momentum was changed from 0 to 0\.9"),
])
def test_other_options_may_not_change(make: Any, name: str, value: Any, message: str, device: str) -> None:
    training = Training(device, make)
    training.run(3)
    group = training.optimizer.param_groups[0]
    before, group[name] = group[name], value
    kept = training.values()
    with pytest.raises(CaptureError, match=message):
        training.run(1)
    assert_equal(training.values(), kept)
    group[name] = before
    training.run(1)
    group[name] = value
    training.step.reset()
    training.run(3)
    assert training.replays == 1


def test_what_no_kernel_depends_on_may_change(device: str) -> None:
    training = Training(device)
    group = training.optimizer.param_groups[0]
    group["initial_lr"] = 0.1
    training.run(3)
    group["initial_lr"] = 0.2
    group["note"] = "new"
    training.run(2)
    assert training.replays == 3


@pytest.mark.parametrize("replace", [
    lambda o: o.load_state_dict(o.state_dict()),
    lambda o: o.add_param_group({"params": [tl.zeros(1, device=o.param_groups[0]["params"][0].device)]}),
    lambda o: o.state[o.param_groups[0]["params"][0]].update(
        exp_avg=o.state[o.param_groups[0]["params"][0]]["exp_avg"].clone()),
    lambda o: o.param_groups[0]["params"].pop(),
], ids=["load_state_dict", "add_param_group", "a state tensor", "a parameter"])
def test_what_is_replaced_is_recorded_anew(replace: Callable[[Any], Any], device: str) -> None:
    results = []
    for captured in (True, False):
        training = Training(device)
        training.run(3, captured)
        replace(training.optimizer)
        results.append(training.run(3, captured))
        assert training.replays == (2 if captured else 0)  # all but two first calls and two recordings
    assert_equal(*results)


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_hooks_are_refused_while_recording(register: str, device: str) -> None:
    training = Training(device)
    calls: list[int] = []
    handle = getattr(training.optimizer, register)(lambda *_: calls.append(1))
    training.run(1)
    with pytest.raises(CaptureError, match=r"Adam has step hooks.*remove"):
        training.run(1)
    assert calls == [1]
    handle.remove()
    training.run(3)
    assert training.replays == 1


def test_a_first_step_cannot_be_recorded(device: str) -> None:
    """What a step makes once, a replay would make anew."""
    for make, message in ((optim.Adam, "makes the state 'step'"), (optim.SGD, "makes room for its learning rate")):
        training = Training(device, make)
        training.run(1)
        training.optimizer = make(training.params)
        with pytest.raises(CaptureError, match=message):
            training.step(tl.tensor(1.0, device=device))
        training.run(4)
        assert training.replays == 2


def test_one_watch_for_all_steps_of_a_recording(device: str) -> None:
    training = Training(device)
    training.run(1)

    def twice(x: tl.Tensor) -> None:
        training.plain(x)
        training.plain(x)

    step = tl.capture(twice)
    x = tl.tensor(1.0, device=device)
    step(x)
    step(x)
    (found,) = step._recordings.values()
    watches = [known for known in found._recorder.callbacks if isinstance(known, recorded.Watch)]
    assert [watch.optimizer for watch in watches] == [training.optimizer]


def test_a_closure_is_recorded_with_the_step(device: str) -> None:
    results = []
    for captured in (True, False):
        training = Training(device)

        def closure(training: Training = training) -> tl.Tensor:
            training.optimizer.zero_grad()
            loss = training.params[0].square().sum()
            loss.backward()
            return loss

        step = tl.capture(lambda t=training, c=closure: t.optimizer.step(c).detach(), device=device)
        losses = [(step() if captured else training.optimizer.step(closure)).item() for _ in range(5)]
        results.append([*training.values(), np.array(losses)])
    assert_equal(*results)


def test_a_step_that_found_infinities_is_skipped_in_replays_too(device: str) -> None:
    results = []
    for captured in (True, False):
        training = Training(device)
        found = training.optimizer._found_inf = tl.zeros((), device=device)
        training.run(3, captured)
        before = training.values()
        found.fill_(1.0)
        assert_equal(training.run(2, captured), before)
        assert all(s["step"].item() == 3 for s in training.optimizer.state.values())
        found.fill_(0.0)
        results.append(training.run(2, captured))
        assert all(s["step"].item() == 5 for s in training.optimizer.state.values())
    assert_equal(*results)


def test_each_of_two_optimizers_has_its_own_rate(device: str) -> None:
    results = []
    for captured in (True, False):
        training = Training(device)
        first, second = (optim.SGD([p], lr=0.1) for p in training.params)

        def plain(x: tl.Tensor, training: Training = training, optimizers: Any = (first, second)) -> None:
            training.optimizer.zero_grad()
            sum(((p * x).square().sum() for p in training.params), tl.zeros((), device=device)).backward()
            for optimizer in optimizers:
                optimizer.step()

        step = tl.capture(plain) if captured else plain
        for rate in (0.1, 0.1, 0.1, 0.05, 0.02):
            second.param_groups[0]["lr"] = rate
            step(tl.tensor(0.5, device=device))
        results.append(training.values())
    assert_equal(*results)
