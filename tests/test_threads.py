"""Threads: promise P. Separate graphs are safe, a shared leaf accumulates exactly, modes belong to one thread.

All sums are of small integers, exact in floating point in whatever order they are added.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from in_threads import THREADS, in_threads

import tensorlite as tl
from tensorlite import autograd, nn, optim
from tensorlite.autograd.mode import is_anomaly_enabled
from tensorlite.nn import functional as F


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Let threads take turns as often as Python can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def trained(number: int, batches: int = 8) -> list[Any]:
    """The weights of a small network after some steps, its data drawn from a generator of its own."""
    generator = tl.Generator().manual_seed(number)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(batches):
        x = tl.randn(5, 6, generator=generator)
        optimizer.zero_grad()
        out = model(x)
        out[:, 0] *= 0.5
        loss = F.cross_entropy(out, tl.tensor([0, 1, 2, 0, 1])) + autograd.checkpoint(model, x).square().mean()
        loss.backward()
        optimizer.step()
    return [p.detach().numpy().copy() for p in model.parameters()]


def test_separate_models_train_as_they_would_alone() -> None:
    """P, Z: bit for bit."""
    together = in_threads(trained)
    for number, weights in enumerate(together):
        for mine, alone in zip(weights, trained(number), strict=True):
            np.testing.assert_array_equal(mine, alone)


def trained_as(kind: str, number: int) -> list[Any]:
    """The weights of a small network after a few steps of a kind, of its own data."""
    generator = tl.Generator().manual_seed(number)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    optimizer, scaler = optim.Adam(model.parameters(), lr=0.01), tl.amp.GradScaler("cpu", enabled=kind == "mixed")
    x = tl.randn(32, 6, generator=generator)
    data = tl.data.TensorDataset(x, x[:, :3].argmax(1))
    loader = tl.data.DataLoader(data, 8, shuffle=True, generator=generator, num_workers=2 if kind == "workers" else 0)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        with tl.autocast("cpu", dtype=tl.float16, enabled=kind == "mixed"):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    run = tl.capture(step) if kind == "captured" else step
    for _ in range(2):
        for batch in loader:
            run(*batch)
    return [tensor.numpy().copy() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("kind", ["captured", "mixed", "workers"])
def test_models_of_every_kind_train_as_they_would_alone(kind: str) -> None:
    """P, Z: bit for bit; captured steps record while others run."""
    together = in_threads(lambda number: trained_as(kind, number % 4))
    alone = [trained_as(kind, number) for number in range(4)]
    for number, weights in enumerate(together):
        for mine, other in zip(weights, alone[number % 4], strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_shared_leaf_accumulates_exactly() -> None:
    """P: no contribution is lost, neither the first ones, which make .grad, nor later ones, which add to it."""
    for _ in range(5):
        shared = tl.ones(50, dtype=tl.float64, requires_grad=True)

        def work(number: int, shared: Any = shared) -> None:
            for i in range(20):
                (shared * float(number * 20 + i)).sum().backward()

        in_threads(work)
        total = sum(range(THREADS * 20))
        assert shared.grad is not None
        assert shared.grad.tolist() == [float(total)] * 50


def test_shared_parameters_of_a_network_accumulate_exactly() -> None:
    """P: many leaves, whose order differs from thread to thread."""
    leaves = [tl.ones(7, requires_grad=True) for _ in range(12)]

    def work(number: int) -> None:
        order = random.Random(number)
        for _ in range(10):
            chosen = order.sample(leaves, len(leaves))
            total = chosen[0] * 1.0
            for leaf in chosen[1:]:
                total = total + leaf * 2.0
            total.sum().backward()
            for leaf in leaves:  # 1 for the first, 2 for the others: bring all to 2
                if leaf is chosen[0]:
                    leaf.sum().backward()

    in_threads(work)
    assert [leaf.grad.tolist() for leaf in leaves if leaf.grad is not None] == [[THREADS * 10 * 2.0] * 7] * 12


def test_gradients_with_history_accumulate_exactly() -> None:
    """P, E."""
    shared = tl.ones(3, dtype=tl.float64, requires_grad=True)
    in_threads(lambda number: (shared * shared * float(number)).sum().backward(create_graph=True))
    assert shared.grad is not None
    assert shared.grad.tolist() == [2.0 * sum(range(THREADS))] * 3


def test_one_graph_is_walked_by_all_with_retain_graph() -> None:
    """P, E."""
    shared = tl.ones(40, dtype=tl.float64, requires_grad=True)
    h = shared * 3.0
    loss = (h * h + h[::2].sum()).sum()
    mine, = autograd.grad(loss, shared, retain_graph=True)

    def work(number: int) -> Any:
        loss.backward(retain_graph=True)
        return autograd.grad(loss, shared, retain_graph=True)[0]

    grads = in_threads(work)
    assert mine is not None
    assert all(tl.equal(g, mine) for g in grads)
    assert shared.grad is not None
    assert tl.equal(shared.grad, mine * float(THREADS))


def test_views_of_one_root_are_refreshed_in_all_threads() -> None:
    """P, B."""
    root = tl.ones(8, dtype=tl.float64, requires_grad=True) * 1.0
    views = [root[i:i + 2] for i in range(6)]
    root.mul_(3.0)

    def work(number: int) -> list[float]:
        g, = autograd.grad(views[number % 6].sum(), root, retain_graph=True)
        assert g is not None
        return g.tolist()  # type: ignore[no-any-return]

    for number, g in enumerate(in_threads(work)):
        assert g == [float(i in (number % 6, number % 6 + 1)) for i in range(8)]


def test_modes_belong_to_one_thread() -> None:
    """P, V."""

    def work(number: int) -> bool:
        choose = random.Random(number)
        x = tl.ones(2, requires_grad=True)

        def nest(depth: int, expected: bool, anomaly: bool) -> None:
            assert tl.is_grad_enabled() == expected
            assert is_anomaly_enabled() == anomaly
            assert (x * 2.0).requires_grad == expected
            if depth == 0:
                return
            kind = choose.randrange(5)
            if kind == 0:
                with tl.no_grad():
                    nest(depth - 1, False, anomaly)
            elif kind == 1:
                tl.enable_grad()(nest)(depth - 1, True, anomaly)
            elif kind == 2:
                with tl.set_grad_enabled(not expected):
                    nest(depth - 1, not expected, anomaly)
            elif kind == 3:
                with autograd.detect_anomaly():
                    nest(depth - 1, expected, True)
            else:
                (tl.ones(2, requires_grad=True) ** 2).sum().backward() if expected else None
                nest(depth - 1, expected, anomaly)
            assert tl.is_grad_enabled() == expected

        for _ in range(30):
            nest(6, True, False)
        return tl.is_grad_enabled()

    with tl.no_grad():
        assert in_threads(work) == [True] * THREADS
        assert not tl.is_grad_enabled()
    assert tl.is_grad_enabled()


def test_a_decorated_function_runs_in_many_threads_at_once() -> None:
    """P: one decorator object, no shared state."""

    @tl.no_grad()
    def quiet(x: Any) -> bool:
        return (x * 2.0).requires_grad

    def work(number: int) -> list[bool]:
        x = tl.ones(2, requires_grad=True)
        seen = []
        for _ in range(50):
            seen += [quiet(x), (x * 2.0).requires_grad]
        return seen

    assert in_threads(work) == [[False, True] * 50] * THREADS


def test_kernels_are_silent_in_every_thread_and_leave_numpys_warnings_to_the_user() -> None:
    """P: the contexts in which kernels run are pooled; none is ever used by two threads."""

    def work(number: int) -> bool:
        with np.errstate(divide="raise" if number % 2 else "warn"):
            before = np.geterr()
            for _ in range(50):
                x = tl.zeros(3, requires_grad=True)
                y = (1.0 / x).log() - tl.tensor(0.0) / 0.0
                y.sum().backward()
            return np.geterr() == before

    assert all(in_threads(work))


def test_an_error_in_one_thread_does_not_disturb_the_others() -> None:
    """P, V."""
    shared = tl.ones(4, dtype=tl.float64, requires_grad=True)

    def work(number: int) -> int:
        refused = 0
        for i in range(20):
            y = (shared * 2.0).exp() if (i + number) % 2 else shared * 2.0
            if (i + number) % 2:
                y.detach().zero_()
                with pytest.raises(RuntimeError, match="modified"):
                    y.sum().backward()
                refused += 1
            else:
                y.sum().backward()
        return refused

    assert in_threads(work) == [10] * THREADS
    assert shared.grad is not None
    assert shared.grad.tolist() == [THREADS * 10 * 2.0] * 4


def test_hooks_run_in_the_thread_of_their_backward() -> None:
    """P."""
    shared = tl.ones(2, requires_grad=True)
    seen: list[tuple[int, int]] = []

    def work(number: int) -> None:
        h = shared * 1.0
        h.register_hook(lambda g: seen.append((number, threading.get_ident())))
        mine = threading.get_ident()
        for _ in range(5):
            h.sum().backward(retain_graph=True)
        assert {ident for n, ident in seen if n == number} == {mine}

    in_threads(work)
    assert len(seen) == THREADS * 5
