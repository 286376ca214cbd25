"""Ctrl-C in a training step: promise V. A thousand interrupts leave no mode switched, no lock held, no half gradient.

A timer raises KeyboardInterrupt wherever the step happens to be. Afterwards all that a next step relies on is looked
at. One that comes in a finalizer is swallowed by Python itself, with a warning, which is none of the library's.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import autograd, nn, optim
from tensorlite.autograd.mode import is_anomaly_enabled
from tensorlite.nn import functional as F

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")


class Alarm:
    """Raises KeyboardInterrupt in the main thread, at most once for each call of `interrupt`."""

    def __init__(self) -> None:
        self.armed = False
        self.raised = 0

    def __call__(self, *signal_and_frame: object) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def interrupt(self, work: Callable[[], Any], delay: float) -> bool:
        """Run `work`, interrupted after `delay` seconds if it takes longer. Returns whether it was."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, delay)
            work()
            self.armed = False
        except KeyboardInterrupt:
            self.raised += 1
            return True
        signal.setitimer(signal.ITIMER_REAL, 0)
        return False


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    result = Alarm()
    previous = signal.signal(signal.SIGALRM, result)
    yield result
    result.armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


class Training:
    """A step with all that the library does behind the user's back: random numbers, recomputation, user's Functions."""

    class Scale(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            out = x * 2.0
            ctx.save_for_backward(x)
            return out

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2.0

    def __init__(self) -> None:
        tl.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.1), nn.BatchNorm1d(16), nn.Linear(16, 4))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.x = tl.randn(32, 10)
        self.y = (self.x[:, :4]).argmax(1)

    def plain(self) -> float:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def rich(self) -> float:
        def closure() -> Any:
            self.optimizer.zero_grad()
            logits = autograd.checkpoint(self.model, self.x) + self.Scale.apply(self.model(self.x)) * 0.5
            logits[:, 0] *= 1.5
            logits.register_hook(lambda g: g * 1.0)
            loss = F.cross_entropy(logits, self.y)
            weight = self.model[0].weight
            g, = autograd.grad(loss, weight, create_graph=True)
            loss = loss + (g * g).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            return loss

        return float(self.optimizer.step(closure).item())

    def evaluation(self) -> float:
        with np.errstate(all="warn"):
            return float((self.model(self.x).argmax(1) == self.y).float().mean().item())


def assert_all_is_in_order(training: Training, numpy_errors: dict[str, str]) -> None:
    """No mode is switched, NumPy warns the user as before and not inside kernels, and no lock is held."""
    assert tl.is_grad_enabled()
    assert not is_anomaly_enabled()
    assert np.geterr() == numpy_errors
    assert (tl.ones(1, requires_grad=True) * 2.0).requires_grad
    assert (tl.ones(2) / tl.zeros(2)).isinf().all()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.ones(2) / np.zeros(2)
    losses: list[float] = []

    def go_on() -> None:  # in a thread that can be given up, should a lock be held
        for work in (training.plain, training.rich, training.evaluation):
            losses.append(work())
        tl.rand(3)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "a lock was left held"
    assert len(losses) == 3
    assert all(np.isfinite(losses))


def duration(work: Callable[[], Any]) -> float:
    """How long a call takes, at its shortest."""
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


@timers
@pytest.mark.parametrize(("step", "count"), [("plain", 1000), ("rich", 500)])
def test_interrupts_of_a_training_step_leave_nothing_switched(step: str, count: int, alarm: Alarm) -> None:
    """V: at random moments of the step; afterwards it still trains, to a loss as low as undisturbed."""
    training = Training()
    work = getattr(training, step)
    numpy_errors, longest = np.geterr(), 1.2 * duration(work)
    choose = random.Random(0)
    switched = 0
    while alarm.raised < count:
        alarm.interrupt(work, choose.uniform(1e-6, longest))
        switched += not tl.is_grad_enabled() or is_anomaly_enabled() or np.geterr() != numpy_errors
        if alarm.raised % 100 == 0:
            assert_all_is_in_order(training, numpy_errors)
    assert switched == 0
    for _ in range(100):
        work()
    assert training.evaluation() > 0.9


@timers
def test_an_interrupted_backward_leaves_each_gradient_whole(alarm: Alarm) -> None:
    """V: each .grad is the old one or the new one, never a part of it, and the next backward adds to it exactly."""
    leaves = [tl.ones(20, dtype=tl.float64, requires_grad=True) for _ in range(20)]

    def backward() -> None:
        total = leaves[0].sum()
        for i, leaf in enumerate(leaves):
            total = total + (leaf * float(i + 1)).sum() + (leaf * leaf).sum() * 0.5
        total.backward()

    longest = 1.2 * duration(backward)
    choose = random.Random(1)
    interrupted = 0
    while interrupted < 300:
        for leaf in leaves:
            leaf.grad = None
        interrupted += alarm.interrupt(backward, choose.uniform(1e-6, longest))
        for i, leaf in enumerate(leaves):
            assert leaf.grad is None or leaf.grad.tolist() == [i + 2.0 + (i == 0)] * 20
        before = [0.0 if leaf.grad is None else leaf.grad[0].item() for leaf in leaves]
        backward()
        for i, leaf in enumerate(leaves):
            assert leaf.grad is not None
            assert leaf.grad.tolist() == [before[i] + i + 2.0 + (i == 0)] * 20


@timers
def test_an_interrupted_change_in_place_is_noticed_by_backward(alarm: Alarm) -> None:
    """V, B: the version is counted before the memory is written."""
    choose = random.Random(2)
    x = tl.ones(30_000, requires_grad=True)
    h = x * 1.0
    longest = 1.2 * duration(lambda: h.detach().copy_(tl.zeros(30_000)))
    interrupted = 0
    while interrupted < 300:
        h = x * 1.0
        y = h.exp()
        target, zeros = y.detach(), tl.zeros(30_000)
        interrupted += alarm.interrupt(functools.partial(target.copy_, zeros), choose.uniform(1e-6, longest))
        x.grad = None
        try:
            y.sum().backward()
        except RuntimeError:
            continue
        assert x.grad is not None
        assert bool((x.grad == y).all())
        assert bool((y > 2.0).all())


@timers
def test_an_interrupted_recomputation_restores_the_random_state(alarm: Alarm) -> None:
    """V, R: checkpoint draws the old numbers again, then the stream goes on where it was."""
    x = tl.ones(1000, requires_grad=True)
    choose = random.Random(3)

    def forward() -> Any:
        return autograd.checkpoint(lambda t: F.dropout(t * tl.rand(1000), 0.5), x).sum()

    longest = 1.2 * duration(lambda: forward().backward())
    interrupted = 0
    while interrupted < 200:
        loss = forward()
        before = np.asarray(tl.get_rng_state()).tolist()
        interrupted += alarm.interrupt(loss.backward, choose.uniform(1e-6, longest))
        assert np.asarray(tl.get_rng_state()).tolist() == before


def test_interrupts_in_another_thread_leave_nothing_switched() -> None:
    """V, P: an exception raised in a training thread from outside, as by debuggers and notebooks."""
    raised: list[bool] = []
    ready, finished = threading.Event(), threading.Event()

    def train() -> None:
        training = Training()
        while not finished.is_set():
            try:
                ready.set()
                while not finished.is_set():
                    training.plain()
            except KeyboardInterrupt:
                raised.append(tl.is_grad_enabled() and not is_anomaly_enabled())

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    choose = random.Random(4)
    target, error = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
    for _ in range(200):
        assert ready.wait(60)
        ready.clear()
        time.sleep(choose.uniform(0.0, 1e-3))
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(target, error) == 1
    assert ready.wait(60)
    finished.set()
    thread.join(60)
    assert not thread.is_alive()
    assert raised == [True] * 200
    assert_all_is_in_order(Training(), np.geterr())


def test_interrupts_at_every_call_of_a_step() -> None:
    """V: not at random, but at the begin and the end of each Python function that a step calls, one after another."""
    training = Training()
    numpy_errors = np.geterr()
    for work in (training.plain, training.rich):
        work()
        position = 0
        while interrupted_at(work, position):
            assert tl.is_grad_enabled(), position
            assert not is_anomaly_enabled(), position
            position += 3 if work == training.plain else 23
        assert position > 100
        assert_all_is_in_order(training, numpy_errors)


def interrupted_at(work: Callable[[], Any], position: int) -> bool:
    """Run `work` with a KeyboardInterrupt at its call or return of this number. Returns whether it came so far."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "return") and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            count += 1
            if count > position:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_the_library_installs_no_signal_handler() -> None:
    """V: it leaves Ctrl-C to the user, also while workers and files are in use."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    training = Training()
    training.rich()
    data = tl.data.TensorDataset(training.x, training.y)
    for _ in tl.data.DataLoader(data, batch_size=8, shuffle=True):
        pass
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before
