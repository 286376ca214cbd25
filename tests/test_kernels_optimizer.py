"""The optimizers on devices with kernels of our own: the CPU's steps, and all that surrounds them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optim_helpers import ALL

import tensorlite as tl
from tensorlite import dtypes, nn, optim, simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import optimizer as family
from tensorlite.backends.kernels import segments

FLOATS = [dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]
ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
DECAY = {"weight_decay": 0.1, "maximize": True}
COUPLED, DECOUPLED = ({"decoupled_weight_decay": d, "maximize": False} for d in (False, True))

# kernel, options, the 0-d states before the first step, and whether each other state is there
CASES: list[tuple[str, dict[str, Any], list[float], list[bool]]] = [
    ("sgd_step", {"momentum": 0.0, "dampening": 0.0, "nesterov": False, **DECAY}, [], [False]),
    ("sgd_step", {"momentum": 0.9, "dampening": 0.5, "nesterov": False, **DECAY}, [], [True]),
    ("sgd_step", {"momentum": 0.9, "dampening": 0.0, "nesterov": True, "weight_decay": 0.0, "maximize": False}, [],
     [True]),
    ("adam_step", {**ADAM, **COUPLED}, [0], [True, True, False]),
    ("adam_step", {**ADAM, **COUPLED, **DECAY}, [3], [True, True, True]),
    ("adam_step", {**ADAM, **DECOUPLED, "weight_decay": 0.1}, [0], [True, True, False]),
    ("rmsprop_step", {"alpha": 0.9, "eps": 1e-8, "momentum": 0.0, **DECAY}, [0], [True, False, False]),
    ("rmsprop_step", {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9, **DECAY}, [0], [True, True, False]),
    ("rmsprop_step", {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9, **DECAY}, [0], [True, True, True]),
    ("adagrad_step", {"lr_decay": 0.1, "eps": 1e-10, **DECAY}, [0], [True]),
    ("adadelta_step", {"rho": 0.9, "eps": 1e-6, **DECAY}, [0], [True, True]),
    ("adamax_step", {**ADAM, **DECAY}, [0], [True, True]),
    ("nadam_step", {**ADAM, **COUPLED, **DECAY, "momentum_decay": 0.004}, [0, 1], [True, True]),
    ("nadam_step", {**ADAM, **DECOUPLED, "weight_decay": 0.1, "momentum_decay": 0.004}, [0, 1], [True, True]),
    ("radam_step", {**ADAM, **COUPLED, **DECAY}, [0], [True, True]),
    ("radam_step", {**ADAM, **DECOUPLED, "weight_decay": 0.1}, [7], [True, True]),
    ("rprop_step", {"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 0.1, "maximize": True}, [0],
     [True, True]),
    ("asgd_step", {"lambd": 1e-4, "alpha": 0.75, "t0": 1, **DECAY}, [0, 0.01, 1], [True]),
    ("lion_step", {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}, [], [True]),
    ("muon_step", {"momentum": 0.95, "nesterov": True, "weight_decay": 0.1, "ns_coefficients": (3.4, -4.8, 2.0),
                   "eps": 1e-7, "ns_steps": 3, "match_rms": False}, [], [True]),
]
NAMES = [f"{case[0]}-{i}" for i, case in enumerate(CASES)]
ELEMENTWISE = CASES[:-1]  # all but Muon's, which takes matrices


def watched(backend: Backend) -> contextlib.AbstractContextManager[None]:
    """Under checks of bounds, alignment and races, where a device has them."""
    return simulator.check(schedules=1) if backend.device.type == "cuda:sim" else contextlib.nullcontext()


@pytest.fixture(params=[name for name in tl.testing.devices() if name != "cpu"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def check(backend: Backend, case: Any, shape: tuple[int, ...], dtype: Any, steps: int = 3,
          view: Callable[[Any], Any] = lambda x: x, of_state: Callable[[Any], Any] | None = None,
          values: Any = None, tolerance: float = 0.0) -> None:
    """Steps of a kernel on views of random arrays, against the CPU's, the memory around the views included.

    The results are equal but for the rounding of what the GPU's compiler fuses, and of its pow.
    """
    kernel, options, counts, present = case
    rng = np.random.default_rng(0)
    wide = dtype.wide.numpy
    param = rng.standard_normal(shape).astype(dtype.numpy)
    grads = [(rng.standard_normal(shape) if values is None else rng.choice(values, shape)).astype(dtype.numpy)
             for _ in range(steps)]
    shapes = shape if of_state is None else view(param).shape
    states = [rng.uniform(0.1, 1, shapes).astype(wide) if p else None for p in present]
    scalars = [np.array(c, np.float32) for c in counts]
    rate = np.array(0.01)
    of_state = of_state or view
    here = [param, *scalars, *states]
    there = [None if a is None else backend.from_numpy(a) for a in here]
    for grad in grads:
        for device, (p, *rest), lr in ((get("cpu"), here, rate), (backend, there, backend.from_numpy(rate))):
            counting = [(a,) for a in rest[:len(scalars)]]
            state = [None if a is None else (of_state(a),) for a in rest[len(scalars):]]
            device.run(kernel, (view(p),), (view(device.from_numpy(grad)),), lr, *counting, *state, **options)
    step = {2: 2e-3, 4: 1e-6, 8: 1e-13}[dtype.numpy.itemsize]
    allowed = tolerance or (0.0 if backend.device.type == "cuda:sim" else step)
    for ours, theirs in zip(here, there, strict=True):
        if ours is not None:
            np.testing.assert_allclose(backend.to_numpy(theirs).astype(np.float64), ours.astype(np.float64),
                                       rtol=allowed, atol=allowed)


# --- the kernels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ELEMENTWISE, ids=NAMES[:-1])
def test_sizes(case: Any, dtype: Any, backend: Backend) -> None:
    for n in (0, 1, 3, 4, 5, 255, 1025, 5003):
        check(backend, case, (n,), dtype)
    check(backend, case, (), dtype)


@pytest.mark.parametrize("dtype", [dtypes.bfloat16, dtypes.float32])
@pytest.mark.parametrize("shape, view", [
    ((13, 9), lambda x: x.transpose(1, 0)), ((257,), lambda x: x[1:]), ((8, 12), lambda x: x[:, 1:-3]),
    ((61,), lambda x: x[::-1]), ((4, 5, 6), lambda x: x.transpose(2, 0, 1)), ((40, 3), lambda x: x[::2, ::-1]),
])
@pytest.mark.parametrize("case", ELEMENTWISE, ids=NAMES[:-1])
def test_views(case: Any, shape: Any, view: Any, dtype: Any, backend: Backend) -> None:
    check(backend, case, shape, dtype, view=view)
    check(backend, case, shape, dtype, view=view, of_state=lambda x: x)


@pytest.mark.parametrize("case", ELEMENTWISE, ids=NAMES[:-1])
def test_blocks_that_stride_over_many_elements(case: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_BLOCKS", 3)
    backend.plans.clear()
    check(backend, case, (9001,), dtypes.float32)
    check(backend, case, (60, 90), dtypes.float32, view=lambda x: x[:, 1:])
    backend.plans.clear()


@pytest.mark.parametrize("case", ELEMENTWISE, ids=NAMES[:-1])
def test_gradients_that_are_zero_nan_or_infinite(case: Any, backend: Backend) -> None:
    check(backend, case, (300,), dtypes.float32, values=[0.0, -0.0, 1.0, -2.0, np.nan, np.inf, -np.inf])


@pytest.mark.parametrize("dtype, tolerance", [(dtypes.float16, 2e-3), (dtypes.float32, 1e-4), (dtypes.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 12), (12, 5), (33, 32), (0, 4), (4, 0)])
@pytest.mark.parametrize("options", [{}, {"nesterov": False, "match_rms": True, "ns_steps": 0}])
def test_muon(options: dict[str, Any], shape: tuple[int, int], dtype: Any, tolerance: float, backend: Backend) -> None:
    kernel, usual, counts, present = CASES[-1]
    case = kernel, {**usual, **options}, counts, present
    check(backend, case, shape, dtype, tolerance=tolerance)
    check(backend, case, shape, dtype, tolerance=tolerance, view=lambda x: x.transpose(1, 0))


# --- many parameters in one call --------------------------------------------------------------------------------------

Many = tuple[str, Any, list[Any], list[Any]]  # a kernel, its options, (params, grads, *states), and their memory


def many(backend: Backend, case: Any, dtype: Any, sizes: list[tuple[tuple[int, ...], Callable[[Any], Any]]]) -> Many:
    """Views of random arrays, the same ones on every device; each parameter has done another number of steps."""
    kernel, options, counts, present = case
    rng, memory, columns = np.random.default_rng(0), [], []
    for kind in ("param", "grad", *counts, *present):
        if kind is False:
            columns.append(None)
            continue
        held = []
        for i, (shape, view) in enumerate(sizes):
            if kind is True or isinstance(kind, str):
                wide = dtype.numpy if isinstance(kind, str) else dtype.wide.numpy
                whole = rng.uniform(0.1, 1, shape).astype(wide)
            else:
                whole, view = np.array(kind + i % 3, np.float32), (lambda x: x)
            memory.append(backend.from_numpy(whole))
            held.append(view(memory[-1]))
        columns.append(tuple(held))
    return kernel, options, columns, memory


def step_many(backend: Backend, given: Many, steps: int = 2, **more: Any) -> list[np.ndarray]:
    """All memory after some steps."""
    kernel, options, (params, grads, *states), memory = given
    rate = backend.from_numpy(np.array(0.01))
    for _ in range(steps):
        backend.run(kernel, params, grads, rate, *states, **options, **more)
    return [backend.to_numpy(a).astype(np.float64) for a in memory]


def whole(x: Any) -> Any:
    return x


LAYOUTS: list[tuple[tuple[int, ...], Callable[[Any], Any]]] = [
    ((5,), whole), ((70, 100), whole), ((), whole), ((9, 3), lambda x: x.transpose(1, 0)), ((0, 3), whole),
    ((64,), lambda x: x[1:]), ((8, 12), lambda x: x[:, 1:-3]), ((5003,), whole), ((61,), lambda x: x[::-1])]


@pytest.mark.parametrize("dtype", [dtypes.bfloat16, dtypes.float32, dtypes.float64])
@pytest.mark.parametrize("case", ELEMENTWISE, ids=NAMES[:-1])
def test_parameters_of_all_layouts_together(case: Any, dtype: Any, backend: Backend) -> None:
    here = step_many(get("cpu"), many(get("cpu"), case, dtype, LAYOUTS))
    with watched(backend):
        there = step_many(backend, many(backend, case, dtype, LAYOUTS))
    exact = backend.device.type == "cuda:sim"
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, ours, 0 if exact else 1e-5, 0 if exact else 1e-6)


def launches(backend: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that the backend launches from now on."""
    seen: list[Any] = []
    launch = backend.launch
    monkeypatch.setattr(backend, "launch", lambda function, *args: (seen.append(function), launch(function, *args)))
    return seen


@pytest.mark.parametrize("case, count, expected", [
    (CASES[3], 6, 1), (CASES[3], 66, 1), (CASES[3], 67, 2), (CASES[0], 110, 1), (CASES[-2], 111, 2)])
def test_as_many_parameters_as_fit_share_a_launch(case: Any, count: int, expected: int, backend: Backend,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [((1 + i % 4,), whole) for i in range(count)]
    given = many(backend, case, dtypes.float32, sizes)
    seen = launches(backend, monkeypatch)
    there = step_many(backend, given, steps=1)
    assert len(seen) == expected
    here = step_many(get("cpu"), many(get("cpu"), case, dtypes.float32, sizes), steps=1)
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, ours, 1e-6, 1e-7)


def test_steps_are_counted_by_a_launch_more_where_blocks_share_a_parameter(backend: Backend,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    given = many(backend, CASES[3], dtypes.float32, [((3,), whole), ((family.ALONE + 1,), whole)])
    seen = launches(backend, monkeypatch)
    step_many(backend, given, steps=1)
    assert len(seen) == 2 and seen[0] is not seen[1]
    assert [float(backend.to_numpy(step)) for step in given[2][2]] == [1, 2]


def test_parameters_that_overlap_are_updated_one_after_the_other(backend: Backend,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Layouts are always the same, so that one plan serves all: where the arrays lie decides."""
    seen = launches(backend, monkeypatch)
    results = []
    for device in (get("cpu"), backend):
        kernel, options, columns, memory = many(device, CASES[1], dtypes.float32, [((12,), whole)] * 3)
        results.append([])
        for start, expected in ((6, 1), (3, 3), (4, 3), (0, 3), (6, 1)):
            cut = [(held[0][:6], held[1], held[2][:6]) for held in columns]
            cut[0] = (memory[0][:6], memory[1], memory[0][start:start + 6])
            seen.clear()
            results[-1] += step_many(device, (kernel, options, cut, memory), steps=1)
            assert device is not backend or len(seen) == expected
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(theirs, ours, 1e-6)


@pytest.mark.parametrize("device", tl.testing.devices())
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_nothing_changes_where_it_is_skipped(case: Any, device: str) -> None:
    backend = get(device)
    sizes = [((4, 3), whole), ((70, 100), whole), ((8, 12), lambda x: x[:, 1:-3])]
    for value in (1.0, float("nan"), 0.0):
        given = many(backend, case, dtypes.float32, sizes)
        before = step_many(backend, given, steps=0)
        after = step_many(backend, given, skip=backend.from_numpy(np.array(value, np.float32)))
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert not any(changed) if value else sum(changed) >= len(sizes)


# --- the optimizers ---------------------------------------------------------------------------------------------------


def model_on(device: Any) -> nn.Module:
    tl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(device)


def train(model: nn.Module, optimizer: Any, steps: int, first: int = 0, after: Callable[[], Any] = lambda: None,
          set_to_none: bool = True) -> list[float]:
    """The losses of some steps on batches that depend on the step's number alone."""
    device = next(iter(model.parameters())).device
    losses = []
    for step in range(first, first + steps):
        rng = np.random.default_rng(step)
        x, y = (tl.tensor(rng.standard_normal(shape), dtype=tl.float32).to(device) for shape in ((6, 4), (6, 3)))
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        after()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().cpu().numpy() for p in model.parameters()]


def assert_alike(model: nn.Module, other: nn.Module) -> None:
    for ours, theirs in zip(weights(model), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("cls", [*ALL, optim.MuonWithAuxAdam])
def test_training_follows_the_cpu(cls: Any, backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    losses = [train(model, cls(model.parameters()), 4) for model in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert_alike(*models)


@pytest.mark.parametrize("rate", [0.05, lambda device: tl.tensor(0.05), lambda device: tl.tensor(0.05, device=device)])
def test_the_rate_is_a_number_or_a_tensor_anywhere(rate: Any, backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    for model, lr in zip(models, (0.05, rate(backend.device) if callable(rate) else rate), strict=True):
        train(model, optim.Adam(model.parameters(), lr=lr), 2)
    assert_alike(*models)


def test_groups_and_schedules(backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    for model in models:
        first, *others = model.parameters()
        optimizer = optim.AdamW([{"params": [first], "lr": 0.1, "weight_decay": 0.5}, {"params": others}], lr=0.01)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step in range(4):
            train(model, optimizer, 1, first=step)
            schedule.step()
    assert_alike(*models)


def test_gradients_are_filled_with_zeros_or_dropped(backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    for model in models:
        train(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), 3, set_to_none=False)
    assert_alike(*models)
    optimizer = optim.SGD(models[1].parameters())
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad.cpu().numpy().any() == 0 for p in models[1].parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in models[1].parameters())


@pytest.mark.parametrize("clip", [
    lambda p: nn.utils.clip_grad_norm_(p, 0.1), lambda p: nn.utils.clip_grad_norm_(p, 0.1, float("inf")),
    lambda p: nn.utils.clip_grad_norm_(p, 0.1, 1.0, error_if_nonfinite=True),
    lambda p: nn.utils.clip_grad_value_(p, 0.02),
])
def test_gradients_are_clipped(clip: Any, backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    for model in models:
        train(model, optim.SGD(model.parameters(), lr=1.0), 3, after=lambda model=model: clip(model.parameters()))
    assert_alike(*models)


def test_parameters_as_one_vector(backend: Backend) -> None:
    model = model_on(backend.device)
    before = weights(model)
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector.detach() * 2, model.parameters())
    for new, old in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(new, old * 2)


@pytest.mark.parametrize("cls", [*ALL, optim.MuonWithAuxAdam])
def test_a_state_dict_goes_on_on_another_device(cls: Any, backend: Backend) -> None:
    models = [model_on(device) for device in ("cpu", backend.device)]
    optimizers = [cls(model.parameters()) for model in models]
    train(models[0], optimizers[0], 2)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for state in optimizers[1].state.values():
        assert all(held.device == backend.device for held in state.values())
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 2, first=2)
    assert_alike(*models)
    back = cls(model_on("cpu").parameters())
    back.load_state_dict(optimizers[1].state_dict())
    assert all(str(held.device) == "cpu" for state in back.state.values() for held in state.values())


def test_parameters_that_move_take_their_state_along(backend: Backend) -> None:
    model, other = model_on("cpu"), model_on("cpu")
    optimizers = [optim.Adam(m.parameters(), lr=0.01) for m in (model, other)]
    train(model, optimizers[0], 2)
    model.to(backend.device)
    train(model, optimizers[0], 2, first=2)
    train(other, optimizers[1], 4)
    assert_alike(model, other)
    for p in model.parameters():
        assert {state.backend for state in optimizers[0].state[p].values()} == {backend}


def test_a_copy_goes_on_by_itself(backend: Backend) -> None:
    model = model_on(backend.device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer, 1)
    other, its_optimizer = copy.deepcopy((model, optimizer))
    before = weights(model)
    train(other, its_optimizer, 1, first=1)
    for old, kept in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, kept)
    train(model, optimizer, 1, first=1)
    assert_alike(model, other)


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16])
def test_16_bit_parameters_keep_their_state_in_float32(dtype: Any, backend: Backend) -> None:
    steps = []
    for device in ("cpu", backend.device):
        p = tl.tensor([1.0, -2.0, 3.0], dtype=dtype, device=device, requires_grad=True)
        optimizer = optim.Adam([p], lr=0.01)
        for _ in range(3):
            p.grad = tl.tensor([0.5, 0.25, -1.0], dtype=dtype, device=device)
            optimizer.step()
        assert optimizer.state[p]["exp_avg"].dtype is tl.float32
        steps.append(p.detach().cpu().float().numpy())
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-2)


@pytest.mark.parametrize("cls", [*ALL, optim.Muon])
def test_a_recorded_step_can_be_replayed_with_another_learning_rate(cls: Any, backend: Backend) -> None:
    """All that changes from step to step is in device memory; setting the rate is no part of the recording."""
    p, q = (tl.eye(3, device=backend.device).requires_grad_() for _ in range(2))
    p.grad, q.grad = (tl.tensor([[1.0, -2, 3], [0.5, 1, 1], [0.1, 2, -1]], device=backend.device) for _ in range(2))
    optimizer, eager = cls([p], lr=0.1), cls([q], lr=0.1)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.05
    calls: list[Any] = []
    backend.observers = (lambda be, kernel, out, args, params: calls.append((kernel, out, args, params)),)
    try:
        optimizer.step()
    finally:
        backend.observers = ()
    (kernel, out, args, params), = calls
    backend.overwrite(args[1], 0.02)
    backend.run(kernel, out, *args, **params)
    for rate in (0.1, 0.05, 0.02):
        eager.param_groups[0]["lr"] = rate
        eager.step()
    np.testing.assert_array_equal(p.detach().cpu().numpy(), q.detach().cpu().numpy())
