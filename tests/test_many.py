"""Kernels over many tensors: zeroing, clipping and norms of gradients in a few launches, whatever their number."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes, nn, ops, optim, simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import many as family

FLOATS = [dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]
TURNED: Callable[[Any], Any] = lambda x: x.transpose(1, 0)  # noqa: E731
LAYOUTS: list[tuple[tuple[int, ...], Callable[[Any], Any]]] = [
    ((5,), lambda x: x), ((70, 100), lambda x: x), ((), lambda x: x), ((9, 3), TURNED), ((0, 3), lambda x: x),
    ((64,), lambda x: x[1:]), ((8, 12), lambda x: x[:, 1:-3]), ((5003,), lambda x: x), ((61,), lambda x: x[::-1])]
CALLS: dict[str, tuple[Any, ...]] = {
    "many_fill": (2.5,), "many_clamp": (-0.3, 0.7), "many_scale": (np.array(0.37, np.float64),)}


@pytest.fixture(params=tl.testing.devices())
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


@pytest.fixture(params=[name for name in tl.testing.devices() if name != "cpu"])
def device(request: pytest.FixtureRequest) -> Any:
    return get(request.param)


def watched(backend: Backend) -> contextlib.AbstractContextManager[None]:
    """Under checks of bounds, alignment and races, where a device has them."""
    return simulator.check(schedules=2) if backend.device.type == "cuda:sim" else contextlib.nullcontext()


def arrays(dtype: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype.numpy) for shape, _ in LAYOUTS]


def on(backend: Backend, memory: list[np.ndarray]) -> tuple[list[Any], tuple[Any, ...]]:
    """Memory on a device, and the views of it."""
    there = [backend.from_numpy(a.copy()) for a in memory]
    return there, tuple([view(a) for a, (_, view) in zip(there, LAYOUTS, strict=True)])


def factor_on(backend: Backend, dtype: Any, value: Any) -> Any:
    return backend.from_numpy(np.array(value, dtype.wide.numpy))


def launched(backend: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the backend launches from now on."""
    seen: list[Any] = []
    launch = backend.launch
    monkeypatch.setattr(backend, "launch", lambda function, *args: (seen.append(function), launch(function, *args)))
    return seen


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", CALLS)
def test_changes_are_those_of_the_kernels_for_one_tensor(kernel: str, dtype: Any, backend: Backend) -> None:
    memory = arrays(dtype)
    there, views = on(backend, memory)
    args = [factor_on(backend, dtype, a) if kernel == "many_scale" else a for a in CALLS[kernel]]
    with watched(backend):
        backend.run(kernel, views, *args)
    cpu = get("cpu")
    for whole, (_, view), changed in zip(memory, LAYOUTS, there, strict=True):
        expected = whole.copy()
        x = view(expected)
        if kernel == "many_scale":
            cpu.run("mul", x, x.copy(), np.array(args[0] if backend is cpu else CALLS[kernel][0]).astype(x.dtype))
        elif kernel == "many_clamp":
            cpu.run("clamp", x, x.copy(), *args)
        else:
            cpu.run("fill", x, *args)
        np.testing.assert_array_equal(backend.to_numpy(changed), expected)


@pytest.mark.parametrize("order", [2, math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("max_norm", [1.0, 1e9])
def test_norms(dtype: Any, order: float, max_norm: float, backend: Backend) -> None:
    memory = [a for a in arrays(dtype) if a.size]
    views = tuple([view(backend.from_numpy(a)) for a, (shape, view) in zip(
        memory, [layout for layout in LAYOUTS if 0 not in layout[0]], strict=True)])
    total, factor = (backend.empty((), dtype.wide.numpy) for _ in range(2))
    with watched(backend):
        backend.run("many_norm", (total, factor), views, order=order, max_norm=max_norm)
    flat = np.concatenate([backend.to_numpy(v).astype(np.float64).ravel() for v in views])
    expected = np.linalg.norm(flat, order)
    tolerance = 1e-5 if dtype.wide is dtypes.float32 else 1e-13
    np.testing.assert_allclose(backend.to_numpy(total), expected, tolerance)
    np.testing.assert_allclose(backend.to_numpy(factor), min(1, max_norm / (expected + 1e-6)), tolerance)


def test_norms_on_the_cpu_are_those_of_operations_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    for size in (*[40] * 20, 70, 100):  # up to a million elements, more than go in one piece
        grads = [tl.tensor(rng.standard_normal(rng.integers(1, size, rng.integers(0, 4))).astype(np.float32))
                 for _ in range(rng.integers(1, 12))]
        grads.append(tl.tensor(rng.standard_normal((size, 3)).astype(np.float32)).T)
        params = [tl.zeros_like(g).requires_grad_() for g in grads]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        total = nn.utils.clip_grad_norm_(params, 1.0)
        expected = ops.sqrt(ops.stack([ops.square(g).sum() for g in grads]).sum())
        scale = ops.clamp(1.0 / (expected + 1e-6), max=1.0)
        assert total.item() == expected.item()
        for p, g in zip(params, grads, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), (g * scale).numpy())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_norms_of_what_is_not_finite(value: float, backend: Backend) -> None:
    for order in (2.0, math.inf):
        w = tl.zeros(700, device=backend.device).requires_grad_()
        w.grad = tl.full((700,), 2.0, device=backend.device)
        w.grad[650] = value
        total = nn.utils.clip_grad_norm_([w], 1.0, order).item()
        assert math.isnan(total) if math.isnan(value) else total == math.inf
        scaled = w.grad[0].item()
        assert math.isnan(scaled) if math.isnan(value) else scaled == 0


def test_a_few_launches_for_all_tensors(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(3, 2), (7,), (), (5000,)]
    params = [tl.zeros(shape, device=device.device).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = tl.ones(p.shape, device=device.device)
    seen = launched(device, monkeypatch)
    nn.utils.clip_grad_norm_(params, 1.0)
    assert len(seen) == 3
    nn.utils.clip_grad_value_(params, 1.0)
    assert len(seen) == 4
    optim.SGD(params).zero_grad(set_to_none=False)
    assert len(seen) == 5
    monkeypatch.undo()
    assert not any(p.grad.cpu().numpy().any() for p in params)


def test_more_tensors_than_a_launch_holds(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = family.ROOMS
    for count, launches in ((few, 1), (few + 1, 1), (many, 1), (many + 1, 2), (2 * many + 3, 3)):
        values = [np.full(1 + i % 3, i + 1, np.float32) for i in range(count)]
        there = tuple([device.from_numpy(a) for a in values])
        total, factor = (device.empty((), np.dtype(np.float32)) for _ in range(2))
        seen = launched(device, monkeypatch)
        device.run("many_norm", (total, factor), there, order=2, max_norm=1.0)
        assert len(seen) == launches + 1
        device.run("many_scale", there, factor)
        assert len(seen) == 2 * launches + 1
        monkeypatch.undo()
        expected = np.linalg.norm(np.concatenate(values))
        np.testing.assert_allclose(device.to_numpy(total), expected, 1e-5)
        for a, value in zip(there, values, strict=True):
            np.testing.assert_allclose(device.to_numpy(a), value / expected, 1e-5)


def test_nothing_is_done_to_no_tensors(backend: Backend) -> None:
    backend.run("many_fill", (), 1.0)
    optim.SGD([tl.zeros(2, device=backend.device).requires_grad_()]).zero_grad(set_to_none=False)


def test_tensors_listed_twice_are_scaled_twice(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: the blocks of a launch come in no order."""
    x = backend.from_numpy(np.ones(9, np.float32))
    other = backend.from_numpy(np.ones(6, np.float32))
    half = factor_on(backend, dtypes.float32, 0.5)
    seen = [] if backend.device.type == "cpu" else launched(backend, monkeypatch)
    for views in ((x[:6], other, x[3:]), (x[:6], other, other), (x[:6], other, x[3:])):
        backend.run("many_scale", views, half)
    assert len(seen) in (0, 9)
    np.testing.assert_array_equal(backend.to_numpy(x), [0.125] * 3 + [2**-5] * 3 + [0.25] * 3)
    np.testing.assert_array_equal(backend.to_numpy(other), [2**-4] * 6)


def test_gradients_of_several_dtypes_and_devices() -> None:
    places = [(name, dtype) for name in tl.testing.devices() for dtype in (tl.float32, tl.float64, tl.bfloat16)]
    params = [tl.zeros(4, device=name, dtype=dtype).requires_grad_() for name, dtype in places]
    for p in params:
        p.grad = tl.full((4,), 2.0, device=p.device, dtype=p.dtype)
    total = nn.utils.clip_grad_norm_(params, 1.0)
    expected = math.sqrt(len(params) * 16)
    assert total.item() == pytest.approx(expected, rel=1e-6)
    for p in params:
        np.testing.assert_allclose(p.grad.cpu().numpy().astype(np.float64), 2 / expected, 4e-3)
    nn.utils.clip_grad_value_(params, 0.25)
    optim.SGD(params).zero_grad(set_to_none=False)
    assert all(p.grad.cpu().tolist() == [0.0] * 4 for p in params)


def test_changes_are_seen_by_backward(backend: Backend) -> None:
    for change in (lambda p: nn.utils.clip_grad_norm_([p], 1e-3), lambda p: nn.utils.clip_grad_value_([p], 1e-3),
                   lambda p: optim.SGD([p]).zero_grad(set_to_none=False)):
        w, p = (tl.ones(2, device=backend.device).requires_grad_() for _ in range(2))
        p.sum().backward()
        y = (w * p.grad).sum()
        change(p)
        with pytest.raises(tl.GradError, match="in-place"):
            y.backward()


def test_gradients_that_cannot_be_changed_in_place_are_refused(backend: Backend) -> None:
    p, q = (tl.zeros(4, device=backend.device).requires_grad_() for _ in range(2))
    p.grad = tl.ones(4, device=backend.device)
    q.grad = tl.ones(1, device=backend.device).expand(4)
    for clip in (nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_):
        with pytest.raises(tl.GradError, match="shares memory among its elements"):
            clip([p, q], 0.5)
    assert p.grad.cpu().tolist() == [1] * 4


def test_a_norm_counts_what_lies_below_zero(backend: Backend) -> None:
    total, factor = (backend.empty((), np.dtype(np.float32)) for _ in range(2))
    tensors = [backend.from_numpy(np.array(a, np.float32)) for a in ([1.0, -3.0], [-2.0, 2.5])]
    backend.run("many_norm", (total, factor), tuple(tensors), order=math.inf, max_norm=1.0)
    assert backend.to_numpy(total) == 3


def test_squares_are_summed_as_numpy_sums_them() -> None:
    rng = np.random.default_rng(2)
    for size in range(131_080, 140_000, 433):
        x = rng.standard_normal(size).astype(np.float32)
        total, factor = np.empty((), np.float32), np.empty((), np.float32)
        get("cpu").run("many_norm", (total, factor), (x,), order=2, max_norm=1.0)
        assert total == np.sqrt(np.add.reduce(x * x))


def test_tensors_of_one_shape_and_other_strides(backend: Backend) -> None:
    """What was planned for dense ones serves no others."""
    half = factor_on(backend, dtypes.float32, 0.5)
    for view in (lambda x: x.reshape(-1)[:12].reshape(4, 3), lambda x: x[:, :3], lambda x: x[:, ::2]):
        whole = backend.from_numpy(np.arange(24, dtype=np.float32).reshape(4, 6))
        expected = np.arange(24, dtype=np.float32).reshape(4, 6)
        part, wanted = view(whole), view(expected)
        backend.run("many_scale", (part,), half)
        wanted *= np.float32(0.5)
        np.testing.assert_array_equal(backend.to_numpy(part), wanted)
        np.testing.assert_array_equal(backend.to_numpy(whole), expected)


def test_tensors_that_overlap_by_one_element_or_backwards(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a launch for itself, however often the same ones come."""
    half = factor_on(device, dtypes.float32, 0.5)
    x = device.from_numpy(np.ones(11, np.float32))
    seen = launched(device, monkeypatch)
    for _ in range(2):
        device.run("many_scale", (x[:6], x[5:]), half)
    assert len(seen) == 4
    np.testing.assert_array_equal(device.to_numpy(x), [0.25] * 5 + [2**-4] + [0.25] * 5)
    device.run("many_scale", (x[5:][::-1], x[6:10]), half)
    np.testing.assert_array_equal(device.to_numpy(x), [0.25] * 5 + [2**-5] + [2**-4] * 4 + [0.125])
