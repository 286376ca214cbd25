"""An optimizer hands its parameters over together: those of a group, device and dtype in one kernel call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optim_helpers import ALL, leaf, values

import tensorlite as tl
from tensorlite import optim
from tensorlite.backends import Backend, get

Seen = list[tuple[str, str, int, Any]]  # kernel, device, how many parameters, options


@pytest.fixture(params=tl.testing.devices())
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The updates of all devices from now on."""
    calls: Seen = []

    def watch(backend: Backend, kernel: str, out: Any, args: Any, params: Any) -> None:
        if kernel.endswith("_step"):
            calls.append((kernel, str(backend.device), len(out), params))

    for name in tl.testing.devices():
        monkeypatch.setattr(get(name), "observers", (watch,))
    return calls


def with_gradients(*params: tl.Tensor) -> tuple[tl.Tensor, ...]:
    for p in params:
        p.grad = tl.ones_like(p.detach()) * 0.5
    return params


def on(device: Any, *shapes: tuple[int, ...], dtype: Any = tl.float32) -> tuple[tl.Tensor, ...]:
    return with_gradients(*[tl.ones(shape, device=device, dtype=dtype).requires_grad_() for shape in shapes])


@pytest.mark.parametrize("cls", [*ALL, optim.Muon])
def test_one_call_for_a_group(cls: Any, backend: Backend, seen: Seen) -> None:
    params = on(backend.device, (2, 3), (3, 3), (4, 1))
    optimizer = cls(params)
    for _ in range(2):
        seen.clear()
        optimizer.step()
        assert [call[2] for call in seen] == [3]


def test_calls_by_group_and_dtype_in_the_order_of_the_parameters(seen: Seen) -> None:
    a, b, e = on("cpu", (2,), (3,), (4,))
    c, d = on("cpu", (5,), (), dtype=tl.float64)
    optim.Adam([{"params": [a, c, b, d]}, {"params": [e], "lr": 0.1}]).step()
    assert [call[:3] for call in seen] == [("adam_step", "cpu", n) for n in (2, 2, 1)]


def test_calls_by_device(seen: Seen) -> None:
    devices = tl.testing.devices()
    params = [p for _ in range(2) for device in devices for p in on(device, (2,))]
    optim.Adam(params).step()
    assert [call[1:3] for call in seen] == [(str(get(device).device), 2) for device in devices]


def test_parameters_without_a_gradient_are_left_out(backend: Backend, seen: Seen) -> None:
    a, b, c = on(backend.device, (2,), (3,), (4,))
    optimizer = optim.Adam([a, b, c])
    b.grad = None
    optimizer.step()
    a.grad = b.grad = c.grad = None
    optimizer.step()
    assert [call[2] for call in seen] == [2] and b not in optimizer.state


def test_first_steps_are_apart_only_where_they_differ(seen: Seen) -> None:
    for options, expected in (({"momentum": 0.9, "dampening": 0.5}, [(1, 0.5), (1, 0)]), ({"momentum": 0.9}, [(2, 0)])):
        a, b = with_gradients(leaf([1.0]), leaf([2.0, 3.0]))
        optimizer = optim.SGD([a, b], lr=0.1, **options)
        b.grad = None
        optimizer.step()
        with_gradients(b)
        seen.clear()
        optimizer.step()
        assert [(call[2], call[3]["dampening"]) for call in seen] == expected


@pytest.mark.parametrize("cls", ALL)
def test_each_parameter_counts_its_own_steps(cls: Any, backend: Backend) -> None:
    """One that joins late is updated as if it were alone."""
    late, other, alone = on(backend.device, (6,), (3,), (6,))
    optimizer, its_own = cls([other, late]), cls([alone])
    late.grad = None
    for _ in range(3):
        optimizer.step()
    with_gradients(late)
    for _ in range(2):
        optimizer.step()
        its_own.step()
    np.testing.assert_array_equal(late.detach().cpu().numpy(), alone.detach().cpu().numpy())


def test_a_parameter_listed_twice_is_updated_twice(backend: Backend) -> None:
    (p, q), (alone,) = on(backend.device, (3,), (2,)), on(backend.device, (3,))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = optim.Adam([p, q, p], lr=0.1)
    its_own = optim.Adam([alone], lr=0.1)
    for _ in range(2):
        optimizer.step()
        its_own.step()
        its_own.step()
    np.testing.assert_array_equal(p.detach().cpu().numpy(), alone.detach().cpu().numpy())
    assert optimizer.state[p]["step"].item() == 4


def test_parameters_that_share_memory_are_updated_one_after_the_other(backend: Backend) -> None:
    whole = tl.ones(5, device=backend.device)
    first, second = whole[:4].requires_grad_(), whole[1:].requires_grad_()
    with_gradients(first, second)
    optim.SGD([first, second], lr=1.0, weight_decay=1.0).step()
    assert whole.cpu().tolist() == [-0.5, -0.5 + 0.5 - 0.5, -0.5, -0.5, -0.5]


@pytest.mark.parametrize("where", tl.testing.devices())
def test_nothing_changes_where_infinities_were_found_on_any_device(where: str, backend: Backend) -> None:
    params = on(backend.device, (3,), (2, 2))
    optimizer = optim.Adam(params, lr=0.1)
    optimizer.step()
    before = [p.detach().cpu().numpy() for p in params]
    optimizer._found_inf = tl.ones((), device=where)
    optimizer.step()
    for p, kept in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.detach().cpu().numpy(), kept)
        assert optimizer.state[p]["step"].item() == 1
    optimizer._found_inf = None
    optimizer.step()
    assert all(optimizer.state[p]["step"].item() == 2 for p in params)


def test_an_update_together_is_that_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    shapes = [(300, 7), (5,), (), (0, 2), (70_000,)]
    for dtype in (np.float32, np.float64):
        arrays = [(rng.standard_normal(s).astype(dtype), rng.standard_normal(s).astype(dtype)) for s in shapes]
        results = []
        for together in (True, False):
            params = [tl.from_numpy(p.copy()).requires_grad_() for p, _ in arrays]
            optimizers = [optim.AdamW(params)] if together else [optim.AdamW([p]) for p in params]
            for p, (_, g) in zip(params, arrays, strict=True):
                p.grad = tl.from_numpy(g)
            for _ in range(3):
                for optimizer in optimizers:
                    optimizer.step()
            results.append(values(*params))
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


def test_parameters_that_share_memory_are_skipped_too(backend: Backend) -> None:
    whole = tl.ones(5, device=backend.device)
    first, second = whole[:4].requires_grad_(), whole[1:].requires_grad_()
    with_gradients(first, second)
    optimizer = optim.SGD([first, second], lr=1.0)
    optimizer._found_inf = tl.ones((), device=backend.device)
    optimizer.step()
    assert whole.cpu().tolist() == [1.0] * 5


def test_nothing_changes_in_numpys_kernels_where_they_are_skipped() -> None:
    """Compiled ones may stand before them."""
    p, g, m = (np.full(3, x, np.float32) for x in (1.0, 2.0, 3.0))
    options = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    cpu = get("cpu")
    cpu.run_numpy("lion_step", (p,), ((g,), np.array(0.1), (m,)), {**options, "skip": np.array(1, np.float32)})
    assert p.tolist() == [1.0] * 3 and m.tolist() == [3.0] * 3
    cpu.run_numpy("lion_step", (p,), ((g,), np.array(0.1), (m,)), {**options, "skip": np.array(0, np.float32)})
    assert p.tolist() != [1.0] * 3 and m.tolist() != [3.0] * 3


def test_a_step_is_a_change_in_place_of_parameters_and_state(backend: Backend) -> None:
    (p, w) = on(backend.device, (2,), (2,))
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    for used in (p, optimizer.state[p]["exp_avg"], optimizer.state[p]["step"]):
        product = (w * used).sum()
        optimizer.step()
        with pytest.raises(tl.GradError, match="in-place"):
            product.backward()


def test_gradients_with_a_graph_are_filled_without_it(backend: Backend) -> None:
    (p,) = on(backend.device, (2,))
    p.grad = None
    (p * p * p).sum().backward(create_graph=True)
    assert p.grad is not None and p.grad.requires_grad
    optim.SGD([p]).zero_grad(set_to_none=False)
    assert not p.grad.requires_grad and p.grad.cpu().tolist() == [0.0, 0.0]


def test_state_that_options_ask_for_later_is_made_then(backend: Backend) -> None:
    (p,) = on(backend.device, (2,))
    optimizer = optim.RMSprop([p], centered=True)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "square_avg", "grad_avg", "momentum_buffer"}
