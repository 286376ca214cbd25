"""tl.capture: replays do what the function does, to the last bit; what they could not repeat is refused."""

from __future__ import annotations

import copy
import functools
import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import get, recording
from tensorlite.backends.recording_memory import Pool
from tensorlite.errors import ArgumentError, CaptureError, DeviceError, GradError, OutOfRangeError, ShapeError
from tensorlite.nn import functional as F

SIZES = (12, 16, 10)  # of the network
scale = 1.0  # a global that steps use


def batches(device: str, count: int = 4, rows: int = 6) -> list[tuple[tl.Tensor, tl.Tensor]]:
    generator = np.random.default_rng(0)
    return [(tl.from_numpy(generator.standard_normal((rows, SIZES[0]), dtype=np.float32)).to(device),
             tl.from_numpy(generator.integers(0, SIZES[-1], rows)).to(device)) for _ in range(count)]


class Training:
    """A network, its optimizer and a step over them."""

    def __init__(self, device: str, make: Callable[..., Any] = optim.AdamW, dropout: float = 0.0, **options: Any):
        tl.manual_seed(3)
        inputs, hidden, classes = SIZES
        self.model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout),
                                   nn.LayerNorm(hidden), nn.Linear(hidden, classes)).to(device)
        self.optimizer = make(self.model.parameters(), **{"lr": 0.01, **options})

    def step(self, x: tl.Tensor, y: tl.Tensor) -> Any:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss, norm

    def weights(self) -> list[np.ndarray]:
        return [p.detach().cpu().numpy().copy() for p in self.model.parameters()]


def assert_same(found: list[np.ndarray], wanted: list[np.ndarray], device: str) -> None:
    """To the last bit; within rounding where the captured step may use other kernels."""
    for a, b in zip(found, wanted, strict=True):
        if device == "cuda":
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)


# --- captured equals eager -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, options", [
    (optim.AdamW, {"weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    (optim.NAdam, {}), (optim.RAdam, {}), (optim.ASGD, {}), (optim.Lion, {}),
], ids=lambda value: getattr(value, "__name__", ""))
def test_two_hundred_steps_equal_the_eager_ones(device: str, make: Any, options: dict[str, Any]) -> None:
    steps = 200 if device == "cpu" or make is optim.AdamW else 12
    found, losses = [], []
    for captured in (False, True):
        training = Training(device, make, dropout=0.25, **options)
        scheduler = optim.lr_scheduler.CosineAnnealingLR(training.optimizer, steps)
        step = tl.capture(training.step) if captured else training.step
        tl.manual_seed(5)
        data, seen = batches(device), []
        for i in range(steps):
            loss, norm = step(*data[i % len(data)])
            scheduler.step()
            if i % 7 == 0:
                seen.append(np.array([loss.item(), norm.item()]))
        found.append(training.weights())
        losses.append(seen)
        if captured:
            assert step.stats().replays == steps - 2
    assert_same(found[1], found[0], device)
    assert_same(losses[1], losses[0], device)


def test_dropout_draws_anew_in_each_replay(device: str) -> None:
    drop = tl.capture(lambda x: F.dropout(x, 0.5))
    x = tl.ones(64).to(device)
    masks = [tuple(drop(x).tolist()) for _ in range(5)]
    assert len(set(masks)) == 5
    tl.manual_seed(0)
    first = drop(x).tolist()
    tl.manual_seed(0)
    assert drop(x).tolist() == first


def test_gradients_are_there_after_a_replay(device: str) -> None:
    training = Training(device)
    step = tl.capture(training.step)
    data = batches(device)
    for x, y in data:
        step(x, y)
    weight = next(training.model.parameters())
    seen = weight.grad.cpu().numpy().copy()
    weight.grad = None
    step(*data[0])
    assert weight.grad is not None
    assert not np.array_equal(weight.grad.cpu().numpy(), seen)


def test_steps_between_replays_may_be_eager(device: str) -> None:
    found = []
    for captured in (False, True):
        training = Training(device)
        step = tl.capture(training.step) if captured else training.step
        for i, (x, y) in enumerate(batches(device, 8)):
            (training.step if i % 3 == 2 else step)(x, y)
        found.append(training.weights())
    assert_same(found[1], found[0], device)


def test_gradients_accumulate_over_replays_when_the_optimizer_is_outside(device: str) -> None:
    found = []
    for captured in (False, True):
        training = Training(device, optim.SGD)

        def gradients(x: tl.Tensor, y: tl.Tensor, training: Training = training) -> tl.Tensor:
            loss = F.cross_entropy(training.model(x), y)
            loss.backward()
            return loss.detach()

        run = tl.capture(gradients) if captured else gradients
        for p in training.model.parameters():
            p.grad = tl.zeros_like(p)
        for i, (x, y) in enumerate(batches(device, 8)):
            run(x, y)
            if i % 2:
                training.optimizer.step()
                training.optimizer.zero_grad(set_to_none=False)
        found.append(training.weights())
    assert_same(found[1], found[0], device)


def test_modules_in_evaluation_get_a_recording_of_their_own(device: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).to(device)

    @tl.capture
    @tl.no_grad()
    def run(x: tl.Tensor) -> tl.Tensor:
        return model(x)

    x = tl.ones(2, 3).to(device)
    for _ in range(3):
        run(x)
    model.eval()
    results = [run(x).tolist() for _ in range(3)]
    assert results[0] == results[1] == results[2] == model(x).tolist()
    assert len(run.stats().recordings) == 2


def test_modes_get_recordings_of_their_own(device: str) -> None:
    weight = tl.full((3, 3), 1.001).to(device)
    run = tl.capture(lambda x: x @ weight)
    x = tl.full((2, 3), 1.001).to(device)
    for _ in range(3):
        wide = run(x).tolist()
        with tl.no_grad():
            assert run(x).tolist() == wide
        with tl.autocast(x.device.type, tl.bfloat16):
            assert run(x).tolist() != wide
    assert len(run.stats().recordings) == 3


def test_arguments_in_containers_and_results_in_containers(device: str) -> None:
    @tl.capture
    def run(pair: tuple[tl.Tensor, dict[str, tl.Tensor]], factor: float = 2.0) -> dict[str, Any]:
        a, named = pair
        return {"sum": a + named["b"], "list": [a * factor, 7], "none": None}

    for i in range(4):
        a, b = tl.tensor([1.0, i]).to(device), tl.tensor([10.0, 20.0]).to(device)
        result = run((a, {"b": b}), factor=3.0)
        assert result["sum"].tolist() == [11.0, 20.0 + i]
        assert result["list"][0].tolist() == [3.0, 3.0 * i]
        assert result["list"][1] == 7 and result["none"] is None


def test_each_signature_has_its_recording(device: str) -> None:
    square = tl.capture(lambda x: x * x)
    for size in (2, 3, 2, 3, 2, 3):
        assert square(tl.full((size,), 3.0).to(device)).tolist() == [9.0] * size
    stats = square.stats()
    assert (stats.calls, stats.replays, len(stats.recordings)) == (6, 2, 2)
    assert stats.recordings[0].signature == "float32 (2,)"


def test_too_many_signatures_are_refused() -> None:
    scaled = tl.capture(lambda x, by: x * by)
    with pytest.raises(CaptureError, match=r"64 different signatures.*tensors"):
        for i in range(100):
            scaled(tl.ones(2), float(i))


def test_methods_have_recordings_per_object(device: str) -> None:
    class Model:
        def __init__(self, by: float) -> None:
            self.by = by

        @tl.capture
        def run(self, x: tl.Tensor) -> tl.Tensor:
            return x * self.by

    two, three = Model(2.0), Model(3.0)
    x = tl.ones(2).to(device)
    for _ in range(3):
        assert two.run(x).tolist() == [2.0, 2.0] and three.run(x).tolist() == [3.0, 3.0]
    assert two.run is two.run
    assert copy.deepcopy(two).run is not two.run
    two.by = 5.0
    with pytest.raises(CaptureError, match=r"'by', which was 2.0 and is now 5.0"):
        two.run(x)


def test_the_forward_of_a_module_may_be_captured_in_its_class(device: str) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.by = nn.Linear(2, 2, bias=False), 2.0

        @tl.capture
        @tl.no_grad()
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.linear(x) * self.by

    scaled = Scaled().to(device)
    nn.init.eye_(scaled.linear.weight)
    x = tl.ones(2).to(device)
    assert [scaled(x).tolist() for _ in range(4)] == [[2.0, 2.0]] * 4
    assert scaled.forward.stats().replays == 2 and nn.Sequential(scaled)(x).tolist() == [2.0, 2.0]
    scaled.by = 5.0
    with pytest.raises(CaptureError, match=r"'by', which was 2.0 and is now 5.0"):
        scaled(x)


def test_a_captured_step_in_another_one_is_part_of_its_recording(device: str) -> None:
    inner = tl.capture(lambda x: x + 1.0)
    outer = tl.capture(lambda x: inner(x) * 2.0)
    assert [outer(tl.tensor([float(i)]).to(device)).item() for i in range(4)] == [2.0, 4.0, 6.0, 8.0]
    assert outer.stats().kernels == 2


# --- what cannot be recorded -----------------------------------------------------------------------------------------


def branch(x: tl.Tensor) -> tl.Tensor:
    return x if x.sum() > 0 else -x


@pytest.mark.parametrize("use", [
    lambda x: x.sum().item(),
    lambda x: x.cpu().numpy(),
    lambda x: x.tolist(),
    lambda x: print(x),
    lambda x: float(x.sum()),
    lambda x: tl.nonzero(x),
    lambda x: x[x > 0],
    lambda x: x[[0, 1]],
    lambda x: x + tl.tensor([1.0, 2.0], device=x.device),
    branch,
], ids=["item", "numpy", "tolist", "print", "float", "nonzero", "mask", "list index", "tensor", "branch"])
def test_what_needs_the_host_is_refused_with_the_line(device: str, use: Callable[[tl.Tensor], Any]) -> None:
    def run(x: tl.Tensor) -> tl.Tensor:
        use(x)
        return x * 2.0

    step = tl.capture(run)
    x = tl.tensor([1.0, 2.0]).to(device)
    step(x)
    with pytest.raises(CaptureError, match=r"test_capture.py:\d+: "):
        step(x)
    assert run(x).tolist() == [2.0, 4.0]  # the next eager call works
    assert step(x).tolist() == [2.0, 4.0]
    assert recording.active is None


def test_an_exception_in_the_middle_leaves_everything_usable(device: str) -> None:
    training = Training(device)
    fail = [False]

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> Any:
        loss = F.cross_entropy(training.model(x), y)
        if fail[0]:
            raise KeyboardInterrupt
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        return loss

    data = batches(device)
    backend = get(device)
    before = backend.empty, backend.observers
    step(*data[0])
    fail[0] = True
    with pytest.raises(KeyboardInterrupt):
        step(*data[0])
    assert recording.active is None
    assert (backend.empty, backend.observers) == before
    fail[0] = False
    for x, y in data:
        step(x, y)
    assert step.stats().replays == 2


def test_an_error_of_a_kernel_comes_out_of_a_replay_too(device: str) -> None:
    training = Training(device)
    step = tl.capture(training.step)
    x, y = batches(device)[0]
    for _ in range(3):
        step(x, y)
    wrong = tl.full((len(y),), 77).to(device)
    with pytest.raises(OutOfRangeError, match="77"):
        loss, _ = step(x, wrong)
        loss.item()
    assert np.isfinite(F.cross_entropy(training.model(x), y).item())
    step(x, y)


def test_other_threads_compute_as_ever_while_one_records(device: str) -> None:
    entered, done = threading.Event(), threading.Event()
    kept: list[tl.Tensor] = []

    def other() -> None:
        entered.wait(10)
        kept.append(tl.ones(4).to(device) * 3.0)
        kept.append(tl.tensor([kept[0].sum().item()]))
        done.set()

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        entered.set()
        done.wait(10)
        return x * 2.0

    thread = threading.Thread(target=other)
    x = tl.ones(4).to(device)
    done.set()
    step(x)
    entered.clear()
    done.clear()
    thread.start()
    step(x)
    thread.join()
    for _ in range(3):
        step(x)
    assert step.stats().kernels == 1
    assert kept[0].tolist() == [3.0] * 4 and kept[1].item() == 12.0


# --- what changes between calls --------------------------------------------------------------------------------------


def test_a_number_that_changes_is_refused(device: str) -> None:
    global scale
    x, local = tl.ones(2).to(device), 2.0
    step = tl.capture(lambda x: x * scale * local)
    for _ in range(3):
        step(x)
    scale = 3.0
    try:
        with pytest.raises(CaptureError, match=r"'scale', which was 1.0 and is now 3.0.*reset"):
            step(x)
        step.reset()
        assert [step(x).tolist() for _ in range(3)] == [[6.0, 6.0]] * 3
    finally:
        scale = 1.0
    step.reset()
    for _ in range(3):
        step(x)
    local = 4.0
    with pytest.raises(CaptureError, match="'local'"):
        step(x)


def test_an_attribute_is_not_taken_for_a_global_of_the_same_name() -> None:
    global scale

    class Other:
        scale = 2.0

    other = Other()
    double = tl.capture(lambda x: x * other.scale)
    try:
        for i in range(4):
            scale = float(i)
            assert double(tl.ones(1)).item() == 2.0
    finally:
        scale = 1.0


def test_a_name_that_means_another_object_is_refused(device: str) -> None:
    weight = tl.ones(2).to(device)

    def helper(x: tl.Tensor) -> tl.Tensor:
        return x * weight

    step = tl.capture(lambda x: helper(x) + 1.0)
    x = tl.ones(2).to(device)
    for _ in range(3):
        step(x)
    weight = tl.zeros(2).to(device)
    with pytest.raises(CaptureError, match="'weight', which was one Tensor and is now another Tensor"):
        step(x)


def test_a_changed_option_of_an_optimizer_is_refused(device: str) -> None:
    training = Training(device)
    step = tl.capture(training.step)
    x, y = batches(device)[0]
    for _ in range(3):
        step(x, y)
    training.optimizer.param_groups[0]["lr"] = 0.5
    step(x, y)
    training.optimizer.param_groups[0]["weight_decay"] = 0.5
    with pytest.raises(CaptureError, match="weight_decay"):
        step(x, y)
    step.reset()
    for _ in range(3):
        step(x, y)


@pytest.mark.parametrize("change", [
    lambda t: t.optimizer.load_state_dict(t.optimizer.state_dict()),
    lambda t: setattr(t.model[0].weight, "data", t.model[0].weight.detach().clone() * 2),
    lambda t: t.model.load_state_dict({name: value * 2 for name, value in t.model.state_dict().items()}),
], ids=["optimizer state", "data", "model state"])
def test_memory_that_is_replaced_is_followed(device: str, change: Callable[[Training], None]) -> None:
    found = []
    for captured in (False, True):
        training = Training(device)
        step = tl.capture(training.step) if captured else training.step
        for i, (x, y) in enumerate(batches(device, 9)):
            if i == 4:
                change(training)
            step(x, y)
        found.append(training.weights())
    assert_same(found[1], found[0], device)


def test_state_that_is_carried_on_must_be_changed_in_place(device: str) -> None:
    class Memory:
        def __init__(self) -> None:
            self.hidden = tl.zeros(2).to(device)

        def replaced(self, x: tl.Tensor) -> tl.Tensor:
            self.hidden = self.hidden * 0.5 + x
            return self.hidden + 0.0

        def in_place(self, x: tl.Tensor) -> tl.Tensor:
            self.hidden.copy_(self.hidden * 0.5 + x)
            return self.hidden + 0.0

    x, memory = tl.ones(2).to(device), Memory()
    bad = tl.capture(memory.replaced)
    bad(x)
    with pytest.raises(CaptureError, match=r"'hidden', which was one Tensor and is now another"):
        bad(x)
    hidden = tl.capture(lambda x: Memory.replaced(memory, x))  # where names do not show it
    hidden(x)
    with pytest.raises(CaptureError, match=r"nothing holds after it.*copy_"):
        hidden(x)
    good, eager = tl.capture(Memory().in_place), Memory()
    for _ in range(5):
        assert good(x).tolist() == eager.in_place(x).tolist()


def test_a_scheduler_inside_a_step_is_refused(device: str) -> None:
    training = Training(device)
    scheduler = optim.lr_scheduler.StepLR(training.optimizer, 1)

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> None:
        training.step(x, y)
        scheduler.step()

    x, y = batches(device)[0]
    step(x, y)
    with pytest.raises(CaptureError, match=r"scheduler.*test_capture.py"):
        step(x, y)


def test_gradients_that_are_there_or_not_make_a_difference(device: str) -> None:
    training = Training(device)

    @tl.capture
    def gradients(x: tl.Tensor, y: tl.Tensor) -> None:
        F.cross_entropy(training.model(x), y).backward()

    x, y = batches(device)[0]
    for _ in range(3):
        training.optimizer.zero_grad()
        gradients(x, y)
    with pytest.raises(CaptureError, match=r"was None before the step, and is now a tensor.*zero_grad"):
        gradients(x, y)


def test_gradients_that_are_gone_make_a_difference(device: str) -> None:
    w, x = tl.ones(2).to(device).requires_grad_(), tl.ones(2).to(device)
    w.grad = tl.zeros(2).to(device)

    @tl.capture
    def gradients(x: tl.Tensor) -> None:
        (w * x).sum().backward()

    for i in range(3):
        gradients(x)
        assert w.grad.tolist() == [i + 1.0] * 2
    w.grad = None
    with pytest.raises(CaptureError, match=r"was a tensor before the step, and is now None.*zero_grad"):
        gradients(x)


def test_an_update_without_the_gradients_that_it_had_is_refused(device: str) -> None:
    w = tl.ones(2).to(device).requires_grad_()
    optimizer = optim.SGD([w], lr=0.5)
    update = tl.capture(lambda: optimizer.step(), device=device)
    w.grad = tl.ones(2).to(device)
    for _ in range(3):
        update()
    optimizer.zero_grad()
    with pytest.raises(CaptureError, match="was a tensor before the step, and is now None"):
        update()
    assert w.tolist() == [-0.5, -0.5]


def test_a_step_that_drops_its_gradients_drops_those_of_others(device: str) -> None:
    training = Training(device)

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> None:
        training.step(x, y)
        training.optimizer.zero_grad()

    x, y = batches(device)[0]
    weight = next(training.model.parameters())
    for _ in range(4):
        weight.grad = tl.ones_like(weight.detach())
        step(x, y)
        assert weight.grad is None


def test_an_optimizer_step_follows_gradients_made_elsewhere(device: str) -> None:
    training = Training(device)
    update = tl.capture(lambda: training.optimizer.step(), device=device)
    with pytest.raises(CaptureError, match="is now another tensor"):
        for x, y in batches(device):
            training.optimizer.zero_grad()
            F.cross_entropy(training.model(x), y).backward()
            update()


def test_a_replay_counts_as_a_change_in_place(device: str) -> None:
    training = Training(device)
    step = tl.capture(training.step)
    x, y = batches(device)[0]
    for _ in range(3):
        step(x, y)
    loss = F.cross_entropy(training.model(x), y)
    step(x, y)
    with pytest.raises(GradError, match="in-place"):
        loss.backward()


def test_a_change_through_a_view_counts_too(device: str) -> None:
    weight = tl.ones(3).to(device).requires_grad_()

    @tl.capture
    def step(x: tl.Tensor) -> None:
        weight.detach()[1:].add_(x)

    x = tl.ones(2).to(device)
    for _ in range(3):
        step(x)
    squares = weight * weight
    step(x)
    with pytest.raises(GradError, match="in-place"):
        squares.sum().backward()


# --- results ---------------------------------------------------------------------------------------------------------


def test_a_result_is_overwritten_by_the_next_call(device: str) -> None:
    double = tl.capture(lambda x: x * 2.0)
    kept, clones = [], []
    for i in range(4):
        result = double(tl.full((2,), float(i)).to(device))
        kept.append(result)
        clones.append(result.clone())
    assert [clone.tolist() for clone in clones] == [[0.0, 0.0], [2.0, 2.0], [4.0, 4.0], [6.0, 6.0]]
    assert kept[0].tolist() == [0.0, 0.0]  # the first call was eager
    assert kept[3].tolist() == [6.0, 6.0]
    for use in (lambda t: t + 1, lambda t: t.item(), lambda t: t.shape, repr, lambda t: t.numpy(), len):
        with pytest.raises(CaptureError, match=r"overwritten.*clone"):
            use(kept[2])


@pytest.mark.parametrize("view", [lambda t: t.detach(), lambda t: t[1:], lambda t: t.reshape(2, 1)],
                         ids=["detach", "slice", "reshape"])
def test_a_view_of_a_result_stops_the_next_call(device: str, view: Callable[[tl.Tensor], Any]) -> None:
    double = tl.capture(lambda x: x * 2.0)
    x = tl.ones(2).to(device)
    double(x)
    double(x)
    held = view(double(x))
    with pytest.raises(CaptureError, match=r"still held.*clone"):
        double(x)
    del held
    assert double(x).tolist() == [2.0, 2.0]


def test_the_numpy_array_of_a_result_stops_the_next_call() -> None:
    double = tl.capture(lambda x: x * 2.0)
    for _ in range(2):
        double(tl.ones(2))
    held = double(tl.ones(2)).numpy()
    with pytest.raises(CaptureError, match="still held"):
        double(tl.ones(2))
    assert held.tolist() == [2.0, 2.0]


def test_an_argument_that_is_returned_is_a_result(device: str) -> None:
    same = tl.capture(lambda x: (x, x + 1.0))
    kept = []
    for i in range(4):
        x, _ = same(tl.full((2,), float(i)).to(device))
        assert x.tolist() == [float(i)] * 2
        kept.append(x)
    with pytest.raises(CaptureError, match="overwritten"):
        kept[2].tolist()


def test_a_view_of_a_returned_argument_stops_the_next_call(device: str) -> None:
    same, x = tl.capture(lambda x: (x, x[1:], x + 1.0)), tl.ones(2).to(device)
    for _ in range(3):
        same(x)
    for place in range(2):
        held = same(x)[place].detach()
        with pytest.raises(CaptureError, match="still held"):
            same(x)
        del held


def test_a_parameter_that_is_returned_is_itself(device: str) -> None:
    weight = nn.Parameter(tl.ones(2).to(device))
    run = tl.capture(lambda x: (weight, (weight * x).detach()))
    for _ in range(4):
        assert run(tl.ones(2).to(device))[0] is weight


def test_a_result_that_waits_for_backward_is_refused(device: str) -> None:
    training = Training(device)
    forward = tl.capture(lambda x: training.model(x))
    x, _ = batches(device)[0]
    forward(x)
    with pytest.raises(CaptureError, match=r"waits for backward.*no_grad"):
        forward(x)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_arguments_that_cannot_be_copied_are_refused(device: str) -> None:
    step = tl.capture(lambda x: x * 2.0)
    with pytest.raises(CaptureError, match=r"NumPy array.*from_numpy"):
        step(np.ones(2, np.float32))
    x = tl.ones(2).to(device).requires_grad_()
    with tl.no_grad():
        step(x)
        with pytest.raises(CaptureError, match=r"requires grad.*detach"):
            step(x)


def test_an_argument_that_the_step_changes_is_refused(device: str) -> None:
    for change in (lambda x: x.add_(1.0), lambda x: x[0].add_(1.0), lambda x: x.detach().mul_(2.0)):
        step = tl.capture(change)
        x = tl.zeros(2).to(device)
        step(x)
        with pytest.raises(CaptureError, match="changes its tensor argument 0 in place"):
            step(x)


def test_arguments_on_two_devices_are_refused() -> None:
    if "cuda:sim" not in tl.testing.devices():
        pytest.skip("needs a second device")
    step = tl.capture(lambda x, y: x * 2.0)
    x, y = tl.ones(2), tl.ones(2).to("cuda:sim")
    step(x, y)
    with pytest.raises(DeviceError, match=r"argument 1 is on device 'cuda:sim'.*'cpu'"):
        step(x, y)
    moved = tl.capture(lambda x: x.to("cuda:sim"), device="cuda:sim")
    with pytest.raises(DeviceError, match=r"argument 0 is on device 'cpu'"):
        moved(x)
        moved(x)


def test_results_on_another_device_and_empty_recordings_are_refused() -> None:
    if "cuda:sim" not in tl.testing.devices():
        pytest.skip("needs a second device")
    elsewhere = tl.ones(2).to("cuda:sim")
    step = tl.capture(lambda x: (x + 1.0, elsewhere + 1.0))
    step(tl.ones(2))
    with pytest.raises(DeviceError, match="result is on device 'cuda:sim'"):
        step(tl.ones(2))
    nothing = tl.capture(lambda x: x)
    nothing(tl.ones(2))
    with pytest.raises(CaptureError, match="does nothing on device 'cpu'"):
        nothing(tl.ones(2))


def test_gradients_on_another_device_are_refused() -> None:
    if "cuda:sim" not in tl.testing.devices():
        pytest.skip("needs a second device")
    w = tl.ones(2, device="cuda:sim").requires_grad_()

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        (w * 3.0).sum().backward()
        return x * 2.0

    step(tl.ones(2))
    with pytest.raises(CaptureError, match=r"the gradient of a tensor of shape .* on device 'cuda:sim'"):
        step(tl.ones(2))


def test_what_is_no_function_or_a_bad_unroll_is_refused() -> None:
    with pytest.raises(ArgumentError, match="takes a function, got int"):
        tl.capture(3)  # type: ignore[call-overload]
    for unroll in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match="unroll must be a positive integer"):
            tl.capture(lambda x: x, unroll=unroll)


# --- several steps in one recording ----------------------------------------------------------------------------------


def test_unrolled_steps_equal_single_ones(device: str) -> None:
    found = []
    x = tl.stack([x for x, _ in batches(device, 8)])
    y = tl.stack([y for _, y in batches(device, 8)])
    for unroll in (None, 2):
        training = Training(device, dropout=0.25)
        tl.manual_seed(5)
        step = training.step if unroll is None else tl.capture(training.step, unroll=unroll)
        losses = []
        if unroll is None:
            losses = [step(x[i], y[i])[0].item() for i in range(8)]
        else:
            for i in range(0, 8, unroll):
                losses += step(x[i:i + unroll], y[i:i + unroll])[0].tolist()
        found.append([*training.weights(), np.array(losses)])
    assert_same(found[1], found[0], device)


def test_passes_over_data_take_the_order_of_a_data_loader(device: str) -> None:
    data = batches(device, 1, 23)[0]
    found = []
    for captured in (False, True):
        training = Training(device)
        losses: list[float] = []
        tl.manual_seed(9)
        if captured:
            step = tl.capture(training.step, unroll=2)
            for _ in range(4):
                for loss, _norm in step.over(data, batch_size=4, shuffle=True):
                    losses += loss.tolist()
            assert len(step._gathering(data).stats().recordings) == 3  # 2 steps, 1 step, the last 3 rows
        else:
            loader = tl.data.DataLoader(tl.data.TensorDataset(*data), 4, shuffle=True)
            for _ in range(4):
                losses += [training.step(x, y)[0].item() for x, y in loader]
        found.append([*training.weights(), np.array(losses)])
    assert_same(found[1], found[0], device)


def test_passes_without_unroll_give_one_result_a_batch() -> None:
    total = tl.capture(lambda x: x.sum())
    x = tl.arange(7.0)
    for _ in range(3):
        assert [t.item() for t in total.over(x, 3)] == [3.0, 12.0, 6.0]
        assert [t.item() for t in total.over(x, 3, drop_last=True)] == [3.0, 12.0]


def test_bad_passes_and_bad_unrolled_arguments_are_refused() -> None:
    step = tl.capture(lambda x: x.sum(), unroll=2)
    for bad in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match="batch_size must be a positive integer"):
            step.over(tl.ones(4), bad)
    with pytest.raises(ShapeError, match="one common first dimension"):
        step.over((tl.ones(4), tl.ones(3)), 2)
    with pytest.raises(ShapeError, match="one common first dimension"):
        step.over(tl.tensor(1.0), 2)
    for shape in ((3, 2), (0, 2), ()):
        with pytest.raises(ShapeError, match="first dimension of one size up to 2"):
            step(tl.ones(*shape))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_is_reused_by_lifetime(device: str) -> None:
    def chain(x: tl.Tensor) -> tl.Tensor:
        for _ in range(20):
            x = x * 1.5
        return x

    step = tl.capture(chain)
    x = tl.ones(1000).to(device)
    wanted = chain(x).tolist()
    for _ in range(3):
        assert step(x).tolist() == wanted
    stats = step.stats()
    assert stats.kernels == 20
    assert stats.buffers <= 3 and stats.bytes <= 3 * 4096


def test_replays_do_not_grow_memory() -> None:
    training = Training("cpu", dropout=0.25)
    step = tl.capture(training.step)
    x, y = batches("cpu")[0]
    for _ in range(10):
        step(x, y)
    gc.collect()
    tracemalloc.start()
    for _ in range(3000):  # some counters reach numbers that Python does not keep ready
        step(x, y)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2000):
        step(x, y)
    growth = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert growth < 2000


def test_recordings_are_freed_with_their_step() -> None:
    class Watched(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return x * 2.0

    model = Watched()
    step = tl.capture(lambda x: model(x))
    for _ in range(3):
        step(tl.ones(2))
    recordings = len(recording._recorders)
    assert recordings > 0
    del step
    gc.collect()
    assert len(recording._recorders) < recordings


# --- what makes another recording ------------------------------------------------------------------------------------


class Options:
    """An argument that is no tensor and no plain value: told apart by its identity."""

    def __init__(self, by: float) -> None:
        self.by = by


def test_dtypes_and_types_of_numbers_are_part_of_a_signature(device: str) -> None:
    scaled = tl.capture(lambda x, by: x * by)
    for _ in range(3):
        for dtype in (tl.float32, tl.int64):
            for by in (2, 2.0):
                x = tl.ones(2, dtype=dtype, device=device)
                assert scaled(x, by).dtype is (x * by).dtype
    assert len(scaled.stats().recordings) == 4


def test_names_of_arguments_are_part_of_a_signature(device: str) -> None:
    difference = tl.capture(lambda a, b: a - b)
    x, y = tl.full((2,), 5.0).to(device), tl.ones(2).to(device)
    for _ in range(3):
        assert difference(a=x, b=y).tolist() == [4.0, 4.0]
        assert difference(b=x, a=y).tolist() == [-4.0, -4.0]


def test_devices_are_part_of_a_signature() -> None:
    double = tl.capture(lambda x: x * 2.0)
    for _ in range(3):
        for name in tl.testing.devices():
            assert double(tl.ones(2, device=name)).device.type == tl.ones(1, device=name).device.type
    assert len(double.stats().recordings) == len(tl.testing.devices())


def test_modes_of_modules_that_are_arguments_are_part_of_a_signature(device: str) -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).to(device), tl.ones(2, 3).to(device)
    run = tl.capture(lambda model, x: model(x).detach())
    for _ in range(3):
        run(model, x)
    model[1].eval()
    for _ in range(3):
        assert run(model, x).tolist() == model(x).tolist()


def test_settings_are_part_of_a_signature(device: str) -> None:
    run, x = tl.capture(lambda x: (x * 2.0, tl.ones(2, device=x.device))), tl.ones(2).to(device)
    precision = tl.get_float32_matmul_precision()
    try:
        for _ in range(3):
            tl.set_default_dtype(tl.float64)
            assert run(x)[1].dtype is tl.float64
            tl.set_default_dtype(tl.float32)
            assert run(x)[1].dtype is tl.float32
            tl.set_float32_matmul_precision("highest" if precision != "highest" else "high")
            run(x)
            tl.set_float32_matmul_precision(precision)
            with tl.autograd.detect_anomaly():
                run(x)
    finally:
        tl.set_default_dtype(tl.float32)
        tl.set_float32_matmul_precision(precision)
    assert len(run.stats().recordings) == 4


def test_another_object_at_the_address_of_one_that_is_gone_is_another_argument() -> None:
    scaled, x = tl.capture(lambda x, options: x * options.by), tl.ones(1)
    for by in range(20):
        options = Options(float(by))
        for _ in range(3):
            assert scaled(x, options).item() == by
        del options


def test_as_many_signatures_as_are_allowed_and_no_more() -> None:
    scaled = tl.capture(lambda x, by: x * by)
    for i in range(64):
        scaled(tl.ones(2), float(i))
    with pytest.raises(CaptureError, match="64 different signatures"):
        scaled(tl.ones(2), 64.0)


def test_tuples_with_names_keep_them_and_dicts_their_order(device: str) -> None:
    class Pair(NamedTuple):
        first: tl.Tensor
        second: tl.Tensor

    swapped = tl.capture(lambda pair: {"b": Pair(pair.second * 1.0, pair.first * 1.0), "a": pair.first + 0.0})
    for i in range(3):
        result = swapped(Pair(tl.full((1,), float(i)).to(device), tl.ones(1).to(device)))
        assert list(result) == ["b", "a"] and isinstance(result["b"], Pair)
        assert (result["b"].first.item(), result["b"].second.item()) == (1.0, i)


# --- what a function uses --------------------------------------------------------------------------------------------


def test_models_made_in_the_first_call_are_looked_at_from_then_on(device: str) -> None:
    made: nn.Sequential | None = None

    def run(x: tl.Tensor) -> tl.Tensor:
        nonlocal made
        if made is None:
            made = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).to(device)
        return made(x).detach()

    step, x = tl.capture(run), tl.ones(2, 3).to(device)
    for _ in range(4):
        step(x)
    assert step.stats().replays == 2
    assert made is not None
    made[1].eval()
    for _ in range(3):
        assert step(x).tolist() == made(x).tolist()


def test_modes_of_a_module_whose_method_is_captured(device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.inner(x)

        @tl.capture
        def run(self, x: tl.Tensor) -> tl.Tensor:
            return self(x).detach()

    net, x = Net().to(device), tl.ones(2, 3).to(device)
    for _ in range(3):
        net.run(x)
    net.eval()
    for _ in range(3):
        assert net.run(x).tolist() == net(x).tolist()


def test_modes_of_a_module_in_a_partial(device: str) -> None:
    model, x = nn.Dropout(0.5).to(device), tl.ones(64).to(device)
    run = tl.capture(functools.partial(lambda x, model: model(x) * 1.0, model=model))
    for _ in range(3):
        run(x)
    model.eval()
    for _ in range(3):
        assert run(x).tolist() == [1.0] * 64


def test_a_number_may_change_until_it_is_recorded(device: str) -> None:
    local = 2.0
    step, x = tl.capture(lambda x: x * local), tl.ones(1).to(device)
    step(x)
    local = 3.0
    assert [step(x).item() for _ in range(3)] == [3.0] * 3


@pytest.mark.parametrize("before, now", [(2, 2.0), (1, True), (2.0, None)])
def test_a_number_of_another_type_is_another_number(before: Any, now: Any) -> None:
    local = before
    step, x = tl.capture(lambda x: x * (2 if local is None else local)), tl.ones(1, dtype=tl.int64)
    for _ in range(3):
        step(x)
    local = now
    with pytest.raises(CaptureError, match="'local', which was"):
        step(x)


def test_one_nan_is_as_good_as_another() -> None:
    local = float("nan")
    step = tl.capture(lambda x: x * local)
    for _ in range(3):
        step(tl.ones(1))
    local = float("nan")
    assert np.isnan(step(tl.ones(1)).item())
    local = 1.0
    step.reset()
    for _ in range(3):
        step(tl.ones(1))
    local = float("nan")
    with pytest.raises(CaptureError, match=r"'local', which was 1\.0 and is now nan"):
        step(tl.ones(1))


def test_names_are_seen_in_functions_inside_of_functions_and_in_callable_objects(device: str) -> None:
    global scale

    class Factors:
        def __init__(self) -> None:
            self.by = 1.0

        def by_generator(self, x: tl.Tensor) -> tl.Tensor:
            return sum((x * factor * self.by for factor in (1.0, 2.0)), x)

        def __call__(self, x: tl.Tensor) -> tl.Tensor:
            return x * self.by

        def of_another(self, other: Options, x: tl.Tensor) -> tl.Tensor:
            return x * other.by

    x, factors, options = tl.ones(1).to(device), Factors(), Options(2.0)
    steps = [tl.capture(factors.by_generator), tl.capture(factors), tl.capture(lambda x: [x * scale for _ in range(2)]),
             tl.capture(lambda x: sum((x * factors.by for _ in range(2)), x))]
    of_another = tl.capture(factors.of_another)
    for _ in range(3):
        of_another(options, x)
        for step in steps:
            step(x)
    factors.by = scale = 3.0
    try:
        assert of_another(options, x).item() == 2.0
        for step, name in zip(steps, ("'by", "'by", "'scale", r"'Factors\.by"), strict=True):
            with pytest.raises(CaptureError, match=f"{name}', which was 1.0 and is now 3.0"):
                step(x)
    finally:
        scale = 1.0


def test_names_in_static_methods_and_in_modules_of_python(device: str) -> None:
    global scale
    here, x = sys.modules[__name__], tl.ones(1).to(device)

    class Scaling:
        @staticmethod
        def plain(x: tl.Tensor) -> tl.Tensor:
            return x * scale

        @classmethod
        def of_class(cls, x: tl.Tensor) -> tl.Tensor:
            return x * scale

    steps = [tl.capture(lambda x: Scaling.plain(x)), tl.capture(lambda x: Scaling.of_class(x)),
             tl.capture(lambda x: x * here.scale)]
    for step in steps * 3:
        step(x)
    scale = 3.0
    try:
        for step in steps:
            with pytest.raises(CaptureError, match=r"scale', which was 1\.0 and is now 3\.0"):
                step(x)
    finally:
        scale = 1.0


def test_modules_in_lists_and_what_modules_hold(device: str) -> None:
    layers, x = [nn.Dropout(0.5).to(device)], tl.ones(64).to(device)
    model = nn.Module()
    model.register_buffer("offset", tl.zeros(64).to(device))

    def run(x: tl.Tensor) -> tl.Tensor:
        for layer in layers:
            x = layer(x)
        return x + model.get_buffer("offset")

    step = tl.capture(run)
    for _ in range(3):
        step(x)
    layers[0].eval()
    assert [step(x).tolist() for _ in range(3)] == [[1.0] * 64] * 3
    model.offset = tl.ones(64).to(device)
    with pytest.raises(CaptureError, match="offset', which was one Tensor"):
        step(x)


def recursive(x: tl.Tensor, depth: int) -> tl.Tensor:
    return x if depth == 0 else recursive(x * 2.0, depth - 1)


def test_functions_that_call_themselves_are_followed_once() -> None:
    step = tl.capture(lambda x: recursive(x, 3))
    assert [step(tl.ones(1)).item() for _ in range(3)] == [8.0] * 3


def test_what_other_packages_keep_to_themselves_may_change() -> None:
    elsewhere: dict[str, Any] = {"__name__": "elsewhere", "count": 0}
    exec("def helper(x):\n    global count\n    count += 1\n    return x * 2.0", elsewhere)
    helper = elsewhere["helper"]
    step = tl.capture(lambda x: helper(x))
    assert [step(tl.ones(1)).item() for _ in range(3)] == [2.0] * 3
    assert elsewhere["count"] == 2


def test_a_step_without_arguments_records_where_its_model_is(device: str) -> None:
    model = nn.Linear(2, 2, bias=False).to(device)
    step = tl.capture(lambda: model.weight.detach() * 2.0)
    wanted = (model.weight * 2.0).tolist()
    assert [step().tolist() for _ in range(3)] == [wanted] * 3


# --- memory that calls name ------------------------------------------------------------------------------------------


def test_parts_of_memory_are_found_again(device: str) -> None:
    """Slices of what the step makes; a transposed matrix and a reversed vector from outside."""
    generator = np.random.default_rng(0)
    weight = tl.from_numpy(generator.standard_normal((4, 3), dtype=np.float32)).to(device)
    part = tl.from_numpy(np.arange(9, dtype=np.float32)[::-1]).to(device)[2:6]

    def run(x: tl.Tensor) -> tl.Tensor:
        doubled = x * 2.0
        return doubled[1:, 1:] @ weight[1:].T[:, ::2] + doubled[:-1, :2] + part[:2]

    step = tl.capture(run)
    for i in range(4):
        x = tl.from_numpy(generator.standard_normal((3, 4), dtype=np.float32)).to(device) + i
        assert_same([step(x).cpu().numpy()], [run(x).cpu().numpy()], device)


def test_memory_that_a_recording_let_go_of_goes_to_no_other_thread(device: str) -> None:
    free, taken = threading.Event(), threading.Event()
    kept: list[tl.Tensor] = []

    def other() -> None:
        free.wait(10)
        kept.append(tl.full((4,), 3.0, device=device))
        taken.set()

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        x + 1.0
        free.set()
        taken.wait(10)
        return x * 2.0

    x = tl.ones(4).to(device)
    taken.set()
    step(x)
    free.clear()
    taken.clear()
    thread = threading.Thread(target=other)
    thread.start()
    step(x)
    thread.join()
    step(x)
    assert kept[0].tolist() == [3.0] * 4


def test_a_replay_counts_as_a_change_of_tensors_that_nobody_looked_at_before(device: str) -> None:
    hidden, w = tl.ones(2).to(device), tl.ones(2).to(device).requires_grad_()

    @tl.capture
    def step(x: tl.Tensor) -> None:
        hidden.add_(x)

    x = tl.ones(2).to(device)
    step(x)
    step(x)
    product = (w * hidden).sum()
    step(x)
    with pytest.raises(GradError, match="in-place"):
        product.backward()


def test_a_result_waits_for_backward_through_operations_that_keep_nothing(device: str) -> None:
    w = tl.ones(2).to(device).requires_grad_()
    forward = tl.capture(lambda x: (w * x) + 1.0)
    x = tl.ones(2).to(device)
    forward(x)
    with pytest.raises(CaptureError, match="waits for backward"):
        forward(x)


def test_recordings_inside_one_another_and_those_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get("cpu")
    with backend.recorder(), pytest.raises(CaptureError, match="inside another one"), backend.recorder():
        pass
    failing = backend.recorder()

    def begin() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(failing, "_begin", begin)
    with pytest.raises(KeyboardInterrupt), failing:
        pass
    assert recording.active is None and not recording._one_at_a_time.locked()
    assert "empty" not in vars(backend)


def test_a_pool_gives_the_smallest_block_that_is_not_far_too_large() -> None:
    pool = Pool(np.ndarray)
    held = [pool.empty((size,), np.dtype(np.uint8)) for size in (100_000, 30_000, 20_000)]
    addresses = [array.__array_interface__["data"][0] for array in held]
    assert all(address % 256 == 0 for address in addresses)
    held.clear()
    again = [pool.empty((size,), np.dtype(np.uint8)) for size in (19_000, 28_000, 10)]
    found = [array.__array_interface__["data"][0] for array in again]
    assert found[:2] == [addresses[2], addresses[1]] and found[2] not in addresses
    assert (pool.bytes, pool.buffers) == (150_010, 4)


def test_other_memory_of_tensors_that_a_step_does_not_use_is_none_of_its_business(device: str) -> None:
    other, step, x = tl.ones(2).to(device), tl.capture(lambda x: x * 2.0), tl.ones(2).to(device)
    for i in range(5):
        step(x)
        other.data = tl.zeros(2).to(device)
        assert step.stats().replays == max(0, i - 1)


# --- passes over data ------------------------------------------------------------------------------------------------


def test_passes_draw_from_the_generator_that_is_given() -> None:
    x = tl.arange(12.0)
    step = tl.capture(lambda x: x * 1.0)
    for _ in range(3):
        seed = step.stats().calls
        found = [t.tolist() for t in step.over(x, 4, shuffle=True, generator=tl.Generator().manual_seed(seed))]
        loader = tl.data.DataLoader(tl.data.TensorDataset(x), 4, shuffle=True,
                                    generator=tl.Generator().manual_seed(seed))
        assert found == [batch.tolist() for (batch,) in loader]


def test_passes_over_other_data_and_after_a_reset() -> None:
    global scale
    step, a, b = tl.capture(lambda x, y: (x + y) * scale), tl.arange(4.0), tl.ones(4)
    for _ in range(3):
        assert [t.tolist() for t in step.over((a, b), 2)] == [[1.0, 2.0], [3.0, 4.0]]
        assert [t.tolist() for t in step.over((a, a), 2)] == [[0.0, 2.0], [4.0, 6.0]]
    scale = 2.0
    try:
        with pytest.raises(CaptureError, match="'scale'"):
            list(step.over((a, b), 2))
        step.reset()
        assert [t.tolist() for t in step.over((a, b), 2)] == [[2.0, 4.0], [6.0, 8.0]]
    finally:
        scale = 1.0


def test_methods_and_copies_keep_what_was_said_of_them() -> None:
    class Model:
        @tl.capture(unroll=2)
        def run(self, x: tl.Tensor) -> Any:
            return x.sum(), 7

    for step in (Model().run, copy.deepcopy(tl.capture(lambda x: (x.sum(), 7), unroll=2))):
        for _ in range(3):
            sums, sevens = step(tl.ones(2, 3))
            assert sums.tolist() == [3.0, 3.0] and sevens == [7, 7]
