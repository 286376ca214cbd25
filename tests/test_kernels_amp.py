"""The kernels of loss scaling on every device: any dtype, size, layout and number of tensors; where inf is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes, simulator
from tensorlite.backends import Backend, get

FLOATS = [d for d in dtypes.ALL if d.is_floating_point]
SIZES = (1, 0, 3, 4096, 4097, 7, 8193, 12)  # around the elements of a block, and of 16 bytes


def unscaled(backend: Backend, grads: list[Any], scale: float) -> float:
    found = backend.fill("fill", (), np.dtype(np.float32), 0.0)
    backend.run("amp_unscale", tuple(grads), backend.fill("fill", (), np.dtype(np.float32), scale), found)
    return float(backend.to_numpy(found))


def drawn(dtype: Any, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", FLOATS, ids=[d.name for d in FLOATS])
def test_gradients_are_multiplied_by_the_rounded_inverse(dtype: Any, device: str) -> None:
    backend = get(device)
    values = [drawn(dtype, n) for n in SIZES]
    grads = [backend.from_numpy(v.copy()) for v in values]
    assert unscaled(backend, grads, 3.0) == 0.0
    inverse = np.float32(1 / 3)
    for g, v in zip(grads, values, strict=True):
        wide = v.astype(np.float32) if dtype.is_narrow else v
        np.testing.assert_array_equal(backend.to_numpy(g), (wide * inverse).astype(v.dtype))


@pytest.mark.parametrize("layout", [
    lambda x: x.T, lambda x: x[:, 1:], lambda x: x[::2], lambda x: x[::-1], lambda x: x[:0], lambda x: x[3, 4],
    lambda x: x.reshape(-1)[1:],
])
def test_any_layout_and_nothing_beside_it_changes(layout: Any, device: str) -> None:
    backend = get(device)
    values = drawn(tl.float32, 9, 7)
    memory = backend.from_numpy(values.copy())
    part = layout(memory)
    part = part if part.shape else memory[3:4, 4:5].reshape(())
    expected = values.copy()
    view = layout(expected) if layout(expected).shape else expected[3:4, 4:5].reshape(())
    view *= np.float32(0.25)
    assert unscaled(backend, [part, backend.from_numpy(drawn(tl.float32, 5))], 4.0) == 0.0
    np.testing.assert_array_equal(backend.to_numpy(memory), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=[d.name for d in FLOATS])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("tensor,place", [(0, 0), (7, 4), (3, 4095), (4, 4096), (6, 8192), (7, 11)])
def test_inf_and_nan_are_found_wherever_they_are(tensor: int, place: int, value: float, dtype: Any,
                                                 device: str) -> None:
    backend = get(device)
    values = [np.zeros(n, dtype.numpy) for n in SIZES]
    values[tensor][place] = value
    assert unscaled(backend, [backend.from_numpy(v) for v in values], 2.0) == 1.0


def test_finite_values_at_the_edge_of_the_range_are_not_inf(device: str) -> None:
    backend = get(device)
    for dtype in FLOATS:
        edge = np.array([dtypes.finfo(dtype).max, -dtypes.finfo(dtype).max, 0.0]).astype(dtype.numpy)
        assert unscaled(backend, [backend.from_numpy(edge)], 1.0) == 0.0
        assert unscaled(backend, [backend.from_numpy(edge)], 0.5) == 0.0  # it is the scaled gradient that counts


def test_found_inf_is_never_cleared(device: str) -> None:
    backend = get(device)
    found = backend.fill("fill", (), np.dtype(np.float32), 1.0)
    one = backend.fill("fill", (), np.dtype(np.float32), 1.0)
    backend.run("amp_unscale", (backend.from_numpy(np.ones(5, np.float32)),), one, found)
    assert float(backend.to_numpy(found)) == 1.0


def test_more_tensors_than_one_launch_takes(device: str) -> None:
    backend = get(device)
    grads = [backend.from_numpy(np.full(n % 5, n, np.float32)) for n in range(300)]
    grads[299] = backend.from_numpy(np.array([np.inf], np.float32))
    assert unscaled(backend, grads, 2.0) == 1.0
    for n, g in enumerate(grads[:299]):
        np.testing.assert_array_equal(backend.to_numpy(g), np.full(n % 5, n / 2, np.float32))


def test_a_plan_serves_other_memory_and_other_sizes_get_another(device: str) -> None:
    backend = get(device)
    for sizes in ((5, 9), (9, 5), (5, 9), (14,), (4096, 4097)):
        values = [drawn(tl.float32, n) for n in sizes]
        memory = [backend.from_numpy(np.concatenate([[7.0], v, [7.0]]).astype(np.float32)) for v in values]
        unscaled(backend, [m[1:-1] for m in memory], 2.0)  # not aligned
        for m, v in zip(memory, values, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(m), np.concatenate([[7.0], v / 2, [7.0]]))


@pytest.mark.parametrize("found,good,scale,expected", [
    (1.0, 2, 8.0, (2.0, 0)), (0.0, 0, 8.0, (8.0, 1)), (0.0, 3, 8.0, (24.0, 0)), (2.0, 3, 8.0, (2.0, 0)),
    (0.0, 3, 3e38, (3e38, 0)),  # would not be finite
])
def test_the_next_scale(found: float, good: int, scale: float, expected: tuple[float, int], device: str) -> None:
    backend = get(device)
    f, s = (backend.fill("fill", (), np.dtype(np.float32), x) for x in (found, scale))
    tracker = backend.fill("fill", (), np.dtype(np.int32), good)
    backend.run("amp_update", s, tracker, f, growth_factor=3.0, backoff_factor=0.25, growth_interval=4)
    assert (float(backend.to_numpy(s)), int(backend.to_numpy(tracker))) == (np.float32(expected[0]), expected[1])


@pytest.mark.skipif(not simulator.is_available(), reason="no C++ compiler")
def test_bounds_alignment_and_races_under_the_simulators_checks() -> None:
    backend = get("cuda:sim")
    with simulator.check():
        for dtype in FLOATS:
            memory = [backend.from_numpy(drawn(dtype, n)) for n in SIZES]
            memory[4] = backend.from_numpy(np.full(4097, np.nan, dtype.numpy))  # many threads find it
            assert unscaled(backend, [*memory, backend.from_numpy(drawn(dtype, 30))[1:]], 2.0) == 1.0


def test_plans_go_by_strides_and_factors(device: str) -> None:
    backend = get(device)
    for view in (lambda x: x.reshape(-1)[:12].reshape(4, 3), lambda x: x[:, :3], lambda x: x[:, ::2]):
        whole, expected = backend.from_numpy(drawn(tl.float32, 4, 6)), drawn(tl.float32, 4, 6)
        part, wanted = view(whole), view(expected)
        unscaled(backend, [part], 4.0)
        wanted *= np.float32(0.25)
        np.testing.assert_array_equal(backend.to_numpy(part), wanted)
        np.testing.assert_array_equal(backend.to_numpy(whole), expected)
    for growth, backoff, interval, expected_scale in ((2.0, 0.5, 1, 16.0), (4.0, 0.5, 1, 32.0), (4.0, 0.5, 2, 8.0)):
        scale, found = (backend.fill("fill", (), np.dtype(np.float32), x) for x in (8.0, 0.0))
        tracker = backend.fill("fill", (), np.dtype(np.int32), 0)
        backend.run("amp_update", scale, tracker, found, growth_factor=growth, backoff_factor=backoff,
                    growth_interval=interval)
        assert float(backend.to_numpy(scale)) == expected_scale
