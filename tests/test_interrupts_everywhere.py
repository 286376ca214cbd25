"""Ctrl-C at every place of a step where Python can notice it: promise V, systematically.

After each interrupt: no mode is switched and no recording left open; every parameter, buffer and moment has the bits
that it had before the step or those that it has after it, nothing between (NumPy's kernels, where nothing is compiled,
take several passes for an update: there all is finite); and the step, made again from the state of before, gives the
same bits as undisturbed. A lock left held would hang, which an alarm ends.

TENSORLITE_TEST_LONG=1 tries every place instead of a sample; docs/reliability.md says how many that were.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupting import Interrupter
from long_runs import count

import tensorlite as tl
from tensorlite import autograd, nn, optim
from tensorlite.autograd.mode import is_anomaly_enabled
from tensorlite.backends import recording
from tensorlite.nn import functional as F

pytestmark = pytest.mark.skipif(not hasattr(signal, "alarm"), reason="needs alarms")

@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[Callable[[], None]]:
    """What waits for a lock that is never given back is broken off."""

    def give_up(*signal_and_frame: object) -> None:
        raise AssertionError("still waiting after a minute")

    before = signal.signal(signal.SIGALRM, give_up)
    yield lambda: (signal.alarm(60), None)[1]
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Scenario:
    """A model that is trained by steps of some kind, and all that a step changes."""

    norm: Callable[[int], nn.Module] = staticmethod(nn.BatchNorm1d)

    def __init__(self) -> None:
        tl.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), self.norm(8), nn.Dropout(0.2), nn.Linear(8, 3))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.x = tl.randn(12, 6)
        self.y = self.x[:, :3].argmax(1)
        self.data = tl.data.TensorDataset(self.x, self.y)
        self.seen: list[dict[str, bytes]] | None = None

    def step(self) -> Any:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def start(self) -> None:
        """Steps after which all that is kept has been made."""
        for _ in range(3):
            self.step()

    def tensors(self) -> dict[str, Any]:
        kept = self.optimizer.state_dict()["state"]
        moments = {f"{i}.{key}": value for i, state in kept.items() for key, value in state.items()}
        return {**self.model.state_dict(), **moments}

    def bits(self) -> dict[str, bytes]:
        return {name: np.asarray(t.numpy() if isinstance(t, tl.Tensor) else t).tobytes()
                for name, t in self.tensors().items()}

    def note(self) -> None:
        """Between the steps that one call of step() makes: remember the state, if asked to."""
        if self.seen is not None:
            self.seen.append(self.bits())

    def trajectory(self) -> list[dict[str, bytes]]:
        """Run step(). Returns the states before, between and after its steps."""
        self.seen = [self.bits()]
        self.step()
        self.note()
        seen, self.seen = self.seen, None
        return seen

    def keep(self) -> Callable[[], None]:
        """A function that brings back the present state: tensors in place, generators, the loss scale."""
        before = {name: t.detach().clone() for name, t in self.tensors().items() if isinstance(t, tl.Tensor)}
        random = tl.get_rng_state()

        def restore() -> None:
            now = self.tensors()
            with tl.no_grad():
                for name, t in before.items():
                    now[name].detach().copy_(t)
            tl.set_rng_state(random)

        return restore


class Amp(Scenario):
    """Mixed precision with a loss scale and clipped gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.scaler = tl.amp.GradScaler("cpu", init_scale=1024.0)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        with tl.autocast("cpu", dtype=tl.bfloat16):
            loss = F.cross_entropy(self.model(self.x), self.y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def bits(self) -> dict[str, bytes]:
        state = self.scaler.state_dict()
        return super().bits() | {key: repr(state[key]).encode() for key in ("scale", "_growth_tracker")}

    def keep(self) -> Callable[[], None]:
        back, state = super().keep(), self.scaler.state_dict()

        def restore() -> None:
            back()
            self.scaler.load_state_dict(state)

        return restore


class Rich(Scenario):
    """Recomputation, second derivatives, hooks, a view that is changed in place, gradients clipped."""

    norm = staticmethod(nn.LayerNorm)  # recomputation counts a batch twice in BatchNorm's statistics, as in PyTorch

    def step(self) -> Any:
        self.optimizer.zero_grad()
        logits = autograd.checkpoint(self.model, self.x)
        logits[:, 0] *= 1.5
        logits.register_hook(lambda g: g * 1.0)
        loss = F.cross_entropy(logits, self.y)
        g, = autograd.grad(loss, self.model[0].weight, create_graph=True)
        with autograd.detect_anomaly():
            (loss + (g * g).sum()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


class Workers(Scenario):
    """A pass over a DataLoader with worker threads."""

    def step(self) -> Any:
        for x, y in tl.data.DataLoader(self.data, 6, shuffle=True, num_workers=2):
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            self.note()


class Captured(Scenario):
    """A replay of a captured step."""

    def __init__(self) -> None:
        super().__init__()
        self.captured = tl.capture(lambda x, y: Scenario.step(self))

    def step(self) -> Any:
        self.captured(self.x, self.y)


class Recorded(Captured):
    """A captured step from its first call on: run, recorded, replayed."""

    def step(self) -> Any:
        self.captured.reset()
        for _ in range(3):
            self.captured(self.x, self.y)
            self.note()


def assert_nothing_is_switched() -> None:
    assert tl.is_grad_enabled()
    assert not is_anomaly_enabled()
    assert not tl.is_autocast_enabled("cpu")
    assert recording.active is None
    cpu = tl.backends.get("cpu")
    assert "empty" not in vars(cpu)
    assert cpu.observers == ()


def assert_whole(scenario: Scenario, states: list[dict[str, bytes]], where: str) -> None:
    """All is old or new; without compiled kernels, whose updates are one call, at least finite."""
    for key, bits in scenario.bits().items():
        if tl.backends.get("cpu")._compiled:
            assert bits in [state[key] for state in states], f"{where}: {key} is neither old nor new"
    for key, tensor in scenario.tensors().items():
        assert np.isfinite(np.asarray(tensor.numpy() if isinstance(tensor, tl.Tensor) else tensor)).all(), (where, key)


SCENARIOS: dict[str, tuple[type[Scenario], int]] = {  # and how far apart the places are that `make test` tries
    "eager": (Scenario, 11), "amp": (Amp, 29), "rich": (Rich, 397), "workers": (Workers, 43), "captured": (Captured, 5),
    "recorded": (Recorded, 499),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_interrupt_at_any_place_of_a_step_leaves_all_usable(name: str, no_hanging: Callable[[], None]) -> None:
    """V: see above."""
    kind, stride = SCENARIOS[name]
    scenario = kind()
    scenario.start()
    numpy_errors, threads = np.geterr(), threading.active_count()
    restore = scenario.keep()
    states = scenario.trajectory()
    restore()
    interrupted = 0
    for place in itertools.count(0, count(stride, 1)):
        no_hanging()
        raised = Interrupter(place).run(scenario.step)
        interrupted += raised
        assert_nothing_is_switched()
        assert np.geterr() == numpy_errors
        assert_whole(scenario, states, f"{name}: place {place}")
        restore()
        scenario.step()
        assert scenario.bits() == states[-1], f"{name}: place {place}: the next step differs"
        restore()
        if not raised:
            break
    assert interrupted > 10
    while threading.active_count() > threads:  # workers end on their own, or the alarm rings
        time.sleep(0.001)
    print(f"{name}: {interrupted} places")



def test_an_interrupt_at_any_place_of_saving_leaves_the_old_file_or_the_new(
    tmp_path: Path, no_hanging: Callable[[], None]
) -> None:
    """V, W: complete in either case, and what is left beside it goes at the next save of another process."""
    path = tmp_path / "run.safetensors"
    scenario = Scenario()
    scenario.start()
    tl.save_checkpoint(path, **scenario.parts(), epoch=0)
    strays = 0
    for place in itertools.count(0, count(41, 1)):
        no_hanging()
        raised = Interrupter(place).run(lambda: tl.save_checkpoint(path, **scenario.parts(), epoch=1))
        names = os.listdir(tmp_path)
        strays += len(names) > 1
        assert tl.load_checkpoint(path)["epoch"] in (0, 1)
        for name in set(names) - {path.name}:
            assert name.endswith(".tmp")
            (tmp_path / name).unlink()
        tl.save_checkpoint(path, **scenario.parts(), epoch=0)
        if not raised:
            break
    assert strays <= 2  # between the making of the file and the block that removes it


def test_an_interrupt_at_any_place_of_loading_changes_all_or_nothing(
    tmp_path: Path, no_hanging: Callable[[], None]
) -> None:
    """V, W."""
    path = tmp_path / "run.safetensors"
    scenario = Scenario()
    scenario.start()
    old = scenario.bits() | {"random": tl.get_rng_state().numpy().tobytes()}
    tl.save_checkpoint(tmp_path / "old", **scenario.parts())
    scenario.step()
    tl.save_checkpoint(path, **scenario.parts())
    new = scenario.bits() | {"random": tl.get_rng_state().numpy().tobytes()}
    for place in itertools.count(0, count(211, 1)):
        no_hanging()
        tl.load_checkpoint(tmp_path / "old", **scenario.parts())
        raised = Interrupter(place).run(lambda: tl.load_checkpoint(path, **scenario.parts()))
        found = scenario.bits() | {"random": tl.get_rng_state().numpy().tobytes()}
        assert found in (old, new), (place, [key for key in new if found[key] != new[key]])
        if not raised:
            break
    assert found == new
