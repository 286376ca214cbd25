"""Promises about depth, memory, interrupts and threads (reliability rows P, Q, S, V), in figures."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.autograd.mode import is_anomaly_enabled


def training_step(hidden: int = 8, batch: int = 8) -> Callable[[], tl.Tensor]:
    """One step of a small network with Adam, ready to be called again and again."""
    tl.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = tl.randn(batch, 6), tl.randint(0, 3, (batch,))

    def step() -> tl.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


# --- Q: depth --------------------------------------------------------------------------------------------------


def test_q_backward_through_100_000_operations() -> None:
    x = tl.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad is not None and x.grad.item() == 1.0


def test_q_a_chain_that_saves_values_is_exact_and_freed_as_backward_goes() -> None:
    x = tl.tensor(1.0, dtype=tl.float64, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y * 1.0001
    node = y.grad_fn
    y.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.item(), 1.0001**20_000, rtol=1e-9)
    assert node is not None and node.parents[0].saved is None


def test_q_release_of_a_million_operations_does_not_recurse() -> None:
    """In a process of its own: a recursion too deep would end it."""
    program = (
        "import tensorlite as tl\n"
        "x = y = tl.tensor(1.0, requires_grad=True)\n"
        "for _ in range(1_000_000): y = y + 1.0\n"
        "del y\n"
        "print('released')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "released\n"), done.stderr


# --- S: memory ---------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_s_10_000_steps_grow_memory_by_less_than_5_mb() -> None:
    step = training_step(hidden=32, batch=16)
    for _ in range(200):
        step()
    before = resident_bytes()
    for _ in range(10_000):
        step()
    assert resident_bytes() - before < 5e6


def test_s_the_graph_dies_by_reference_counts_alone() -> None:
    gc.collect()
    gc.disable()
    try:
        x = tl.ones(3, requires_grad=True)
        y = (x * 2.0).sigmoid()
        z = (y * y).sum()
        nodes = [weakref.ref(t.grad_fn) for t in (y, z)]
        tensors = [weakref.ref(t) for t in (y, z)]
        z.backward()
        del y, z
        assert [ref() for ref in nodes + tensors] == [None] * 4
    finally:
        gc.enable()


def test_s_a_training_step_leaves_no_reference_cycle() -> None:
    step = training_step()
    step()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(5):
            step()
        gc.collect()
        leaked = [type(o) for o in gc.garbage if type(o).__module__.startswith("tensorlite")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert leaked == []


# --- V: interrupts -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_v_1_000_interrupts_of_a_training_step_leave_no_mode_switched() -> None:
    step = training_step()
    step()
    rng = random.Random(0)
    settings = np.geterr()

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    try:
        while hits < 1_000:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-6, 4e-4))
                while True:
                    step()
            except KeyboardInterrupt:
                hits += 1
                assert tl.is_grad_enabled() and not is_anomaly_enabled()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.geterr() == settings
    first, *_, last = [step().item() for _ in range(200)]
    assert np.isfinite(last) and last < first  # no lock is left held, and the model still learns


# --- P: threads ------------------------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_p_a_leaf_shared_by_16_threads_gets_every_gradient() -> None:
    leaf = tl.zeros(5, dtype=tl.float64, requires_grad=True)

    def work(i: int) -> None:
        for _ in range(50):
            (leaf * float(i + 1)).sum().backward()

    in_threads(16, work)
    assert leaf.grad is not None and leaf.grad.tolist() == [50.0 * sum(range(1, 17))] * 5


def test_p_models_in_threads_train_as_they_do_alone() -> None:
    steps = [training_step() for _ in range(8)]
    losses: list[list[float]] = [[] for _ in steps]

    def work(i: int) -> None:
        losses[i] = [steps[i]().item() for _ in range(40)]

    in_threads(8, work)
    alone = training_step()
    expected = [alone().item() for _ in range(40)]
    assert losses == [expected] * 8


def test_p_grad_mode_belongs_to_one_thread() -> None:
    seen: list[bool] = []
    with tl.no_grad():
        in_threads(1, lambda i: seen.append(tl.is_grad_enabled()))
        assert not tl.is_grad_enabled()
    assert seen == [True]
