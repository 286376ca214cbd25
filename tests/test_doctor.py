"""tl.doctor: what it leaves behind, which is nothing; reports, options, check() on copies, threads, captured steps."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import os
import random
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctors import data, line_of, mlp, only, train
from in_threads import THREADS, in_threads
from profiles import FAST, everything

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.autograd import engine
from tensorlite.insight.doctor import Finding, Report, check, instruments
from tensorlite.insight.doctor.rules import ActivationBeforeLoss
from tensorlite.nn import functional as F


def exchanged() -> dict[str, Any]:
    """All that a doctor puts something around."""
    return {**everything(), "accumulate": engine.accumulate, "Module.zero_grad": vars(nn.Module)["zero_grad"]}


class Stop(BaseException):
    """Like KeyboardInterrupt: caught by nobody."""


def failing(where: str) -> None:
    model = mlp()
    if where == "block":
        raise Stop
    if where == "module":
        model(tl.ones(4, 3))
    if where == "loss":
        F.cross_entropy(model(tl.ones(4, 10)), tl.tensor([0, 1, 2, 7]))
    if where == "hook":
        y = model(tl.ones(4, 10))
        y.register_hook(lambda g: "no tensor")
        y.sum().backward()
    if where == "step":
        optim.SGD(model.parameters(), lr=0.1).step(lambda: failing("module"))
    if where == "captured":
        tl.capture(failing)("module")


@pytest.mark.parametrize("where", ["nowhere", "block", "module", "loss", "hook", "step", "captured"])
def test_afterwards_everything_is_as_before(where: str) -> None:
    before = exchanged()
    watch: Any = None
    try:
        with tl.doctor(quiet=True) as d:
            watch, within = d._watch, exchanged()
            failing(where)
    except (Stop, tl.TensorliteError) as error:
        assert where != "nowhere", error
    assert exchanged() == before
    assert {name for name in before if within[name] != before[name]} >= {
        "Op.__call__", "Op.gradients", "Module.__call__", "Module.zero_grad", "backward", "accumulate",
        "Optimizer.step", "Optimizer.zero_grad", "Captured.__call__"}
    assert (watch.hidden, watch.module, instruments._here.watches) == (0, "", [])


def test_importing_tensorlite_does_not_load_it() -> None:
    command = "import sys, tensorlite; print([name for name in sys.modules if 'doctor' in name])"
    finished = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def net_with_noise(device: str = "cpu") -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)).to(device)


def bits(value: Any) -> Any:
    """A nest of tensors as bytes."""
    if isinstance(value, tl.Tensor):
        return value.dtype.name, value.shape, value.detach().cpu().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("captured", [False, True])
def test_results_are_the_same_with_and_without(captured: bool, device: str) -> None:
    start, (x, y) = net_with_noise(device), data(32, device)

    def run(looked_at: bool) -> Any:
        model = copy.deepcopy(start)
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        tl.manual_seed(7)

        def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        called = tl.capture(step) if captured else step
        losses = [called(x, y).item()]
        if looked_at:
            with tl.doctor(quiet=True):
                losses += [called(x, y).item() for _ in range(3)]
        else:
            losses += [called(x, y).item() for _ in range(3)]
        losses += [called(x, y).item() for _ in range(2)]
        return losses, bits(model.state_dict()), bits(optimizer.state_dict()), tl.get_rng_state().tolist()

    assert run(True) == run(False)


# --- reports and options ---------------------------------------------------------------------------------------------


def test_batches_that_the_loop_moves_to_the_device(device: str) -> None:
    model, (x, y) = mlp().to(device), data()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with tl.doctor(quiet=True) as d:
        for start in range(0, 64, 16):
            optimizer.zero_grad()
            batch, labels = x[start:start + 16].to(device), y[start:start + 16].to(device)
            F.cross_entropy(model(batch), labels).backward()
            optimizer.step()
    assert not len(d.report) and d.report.looked_at == "4 steps", d.report


def test_the_report_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with tl.doctor() as d:
        tl.ones(3)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "doctor: no findings in 0 steps\n" == f"{d.report}\n"
    text = io.StringIO()
    with tl.doctor(file=text):
        pass
    with tl.doctor(quiet=True):
        pass
    assert text.getvalue() == "doctor: no findings in 0 steps\n" and capsys.readouterr().out == ""


def test_the_report_is_printed_when_an_error_ends_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(tl.OutOfRangeError), tl.doctor():
        failing("loss")
    assert "labels-out-of-range" in capsys.readouterr().out
    with pytest.raises(Stop), tl.doctor():
        raise Stop
    assert capsys.readouterr().out == ""


def test_a_report() -> None:
    report = train(mlp(nn.LogSoftmax(dim=1)))
    assert report.ok and len(report) == 1 and bool(report) and [*report] == report.findings
    assert report.of("activation-before-loss") == report.findings and report.of("dead-relu") == []
    assert repr(report) == str(report)
    lines = str(report).splitlines()
    assert lines[0] == "doctor: 1 finding in 6 steps"
    assert lines[2].startswith("note: activation-before-loss at ") and "doctors.py" in lines[2]
    assert any(line.startswith("  Fix: ") for line in lines) and max(map(len, lines[3:])) <= 110
    findings = [Finding("a", severity, "seen", "fix") for severity in ("note", "error", "warning")]
    report = Report(findings, "no time")
    assert [finding.severity for finding in report] == ["error", "warning", "note"] and not report.ok
    assert str(report).splitlines()[:3] == ["doctor: 3 findings in no time", "", "error: a"]


def test_the_session_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "doctor.md").read_text(encoding="utf-8")
    program = page.partition("```python\n# train.py\n")[2].partition("```")[0]
    (tmp_path / "train.py").write_text(program)
    path = {**os.environ, "PYTHONPATH": str(Path(tl.__file__).parents[1])}
    finished = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=path, capture_output=True, text=True,
                              check=True)
    assert finished.stdout.replace(f"{tmp_path}/", "") == page.partition("```text\n")[2].partition("```")[0]


def test_rules_that_are_not_wanted() -> None:
    assert not len(train(mlp(nn.Softmax(dim=1)), ignore=["activation-before-loss"]))
    assert not len(train(mlp(nn.Softmax(dim=1)), ignore="activation-before-loss"))
    report = tl.doctor.check(mlp(nn.Softmax(dim=1)), F.cross_entropy, data(), ignore=["activation-before-loss"])
    assert not report.of("activation-before-loss")


@pytest.mark.parametrize("make, message", [
    (lambda: tl.doctor(ignore=["no-such-rule"]), "no rule is called 'no-such-rule'; there are activation-before-loss"),
    (lambda: tl.doctor(every=0), "every must be a positive integer, got 0"),
    (lambda: tl.doctor(every=True), "every must be a positive integer"),
    (lambda: tl.doctor.check(mlp(), F.cross_entropy, data(), steps=0), "steps must be a positive integer, got 0"),
    (lambda: tl.doctor.check(mlp(), F.cross_entropy, data(), ignore="such"), "no rule is called 'such'"),
    (lambda: tl.doctor.check(mlp(), F.cross_entropy, data(), optim.Adam), "optimizer the class Adam"),
    (lambda: tl.doctor.check(mlp(), data(), F.cross_entropy), "loss_fn tuple, batch function"),
    (lambda: tl.doctor.check(nn.Linear, F.cross_entropy, data()), "model the class Linear"),
    (lambda: tl.doctor.check(nn.Sequential(Locked()), F.cross_entropy, data()), "cannot be copied"),
])
def test_arguments_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(tl.ArgumentError, match=message.replace("(", r"\(")):
        make()


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_a_doctor_is_entered_once() -> None:
    d = tl.doctor(quiet=True)
    with d:
        pass
    with pytest.raises(tl.ArgumentError, match="make a new one"), d:
        pass


def test_values_are_looked_at_in_some_steps_only() -> None:
    model, (x, y) = mlp(), data()
    x = x * 1000
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    with tl.doctor(quiet=True, every=4, ignore=["initial-loss", "exploding-gradients", "learning-rate"]) as d:
        for i in range(8):
            optimizer.zero_grad()
            F.cross_entropy(model(x if i in (1, 2, 3, 5) else x / 1000), y).backward()
            optimizer.step()
    assert not len(d.report), d.report
    report = train(mlp(nn.Softmax(dim=1)), every=100)
    assert report.of("activation-before-loss")  # that needs no values


def test_nested_doctors_and_a_check_inside() -> None:
    before = exchanged()
    with tl.doctor(quiet=True) as outer:
        inner = train(mlp(nn.Softmax(dim=1)))
        checked = tl.doctor.check(mlp(nn.Sigmoid()), F.cross_entropy, data())
        train(mlp(nn.Tanh()))
    assert only(inner, "activation-before-loss") and checked.of("activation-before-loss")
    assert not len(outer.report) and outer.report.looked_at == "0 steps"
    assert exchanged() == before


def test_beside_a_profile() -> None:
    before = exchanged()
    profile, d = tl.profile(**FAST), tl.doctor(quiet=True)
    profile.__enter__()
    d.__enter__()
    model, (x, y) = mlp(nn.Softmax(dim=1)), data()
    F.cross_entropy(model(x), y).backward()
    profile.__exit__(None, None, None)
    optim.SGD(model.parameters(), lr=0.1).step()
    d.__exit__(None, None, None)
    assert only(d.report, "activation-before-loss") and {row.name for row in profile.rows()} >= {"softmax"}
    assert exchanged() == before


def test_a_step_leaves_nothing_behind_but_its_last_batch() -> None:
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer, (x, y) = optim.SGD(model.parameters(), lr=0.01), data()
    with tl.doctor(quiet=True):
        for _ in range(3):
            optimizer.zero_grad()
            out = model(x)
            loss = (out - y).square().mean() + F.mse_loss(out.squeeze(1), y.float())
            loss.backward()
            optimizer.step()
            held = [weakref.ref(held) for held in (out, loss, out._node, loss._node)]
            del out, loss
            assert [ref() for ref in held] == [None] * 4


def test_a_doctor_that_has_left_holds_nothing_of_the_program() -> None:
    model, (x, y) = mlp(), data()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    gc.collect()
    gc.disable()
    try:
        with tl.doctor(quiet=True) as d:
            for _ in range(6):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        held = [weakref.ref(held) for held in (model, model[0].weight, optimizer, x)]
        del model, optimizer, x
        assert [ref() for ref in held] == [None] * 4 and d.report.looked_at == "6 steps"
    finally:
        gc.enable()


def test_an_optimizer_whose_class_is_made_inside_the_block() -> None:
    with tl.doctor(quiet=True) as d, tl.profile(**FAST) as profile:
        class Own(optim.SGD):
            def step(self, closure: Any = None) -> Any:
                return super().step(closure)

        model, (x, y) = mlp(), data()
        optimizer = Own(model.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert not len(d.report) and d.report.looked_at == "3 steps"
    assert [row.calls for row in profile.rows() if row.name == "Own.step"] == [3]


def test_optimizers_and_parameters_that_are_gone_are_not_kept() -> None:
    x, y = data()
    with tl.doctor(quiet=True):
        for _ in range(3):
            model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))
            optimizer = optim.Adam(model.parameters())
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            held = [weakref.ref(optimizer), *map(weakref.ref, model.parameters())]
            del model, optimizer
            gc.collect()
            assert [ref() for ref in held] == [None] * 5


def test_a_rule_that_fails_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActivationBeforeLoss, "loss", lambda rule, call: 1 // 0)
    found = only(train(mlp()), "activation-before-loss")
    assert found.severity == "note" and "ZeroDivisionError" in found.seen and "report" in found.fix


# --- threads ---------------------------------------------------------------------------------------------------------


def test_a_doctor_sees_its_own_thread() -> None:
    before = exchanged()

    def run(number: int) -> list[str]:
        if number % 2:
            return [finding.rule for finding in train(mlp(nn.Softmax(dim=1)), steps=3)]
        optimizer_step = optim.SGD((model := mlp()).parameters(), lr=0.05).step
        F.cross_entropy(model(tl.randn(4, 10)), tl.tensor([0, 1, 2, 0])).backward()
        optimizer_step()
        return [finding.rule for finding in train(mlp(), steps=3)]

    assert in_threads(run) == [["activation-before-loss"] if n % 2 else [] for n in range(THREADS)]
    assert exchanged() == before


# --- captured steps --------------------------------------------------------------------------------------------------


def test_a_captured_step_is_looked_at_in_every_call(device: str) -> None:
    model, (x, y) = mlp().to(device), data(32, device)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    calls = itertools.count()

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        next(calls)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(3):
        step(x, y)
    bad = x * np.inf
    with tl.doctor(quiet=True) as d:
        for batch in (x, x, bad):
            step(batch, y)
    found = only(d.report, "not-finite")
    assert "the data holds inf" in found.seen and line_of(found) == "loss = F.cross_entropy(model(x), y)"
    assert "captured: test_a_captured" in str(d.report) or "captured: step" in str(d.report)
    assert next(calls) == 5  # run, recorded, replayed; then run three times


@pytest.mark.parametrize("zeroes", ["inside to None", "inside to 0", "outside", "never"])
def test_a_recorded_step_is_replayed_after_the_doctor_has_left(zeroes: str) -> None:
    def run(looked_at: bool) -> Any:
        tl.manual_seed(1)
        model, (x, y) = mlp(), data(32)
        optimizer = optim.SGD(model.parameters(), lr=0.01)

        @tl.capture
        def step(x: tl.Tensor) -> tl.Tensor:
            if zeroes.startswith("inside"):
                optimizer.zero_grad(set_to_none=zeroes.endswith("None"))
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        losses = []
        for number in range(9):
            if zeroes == "outside":
                optimizer.zero_grad()
            if looked_at and number in (4, 5):
                with tl.doctor(quiet=True):
                    losses.append(step(x).item())
            else:
                losses.append(step(x).item())
        return losses, bits(model.state_dict())

    assert run(True) == run(False)


def test_a_captured_pass_over_data() -> None:
    model, (x, y) = mlp(nn.Softmax(dim=1)), data(64)
    optimizer = optim.SGD(model.parameters(), lr=0.01)

    @tl.capture(unroll=2)
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    with tl.doctor(quiet=True) as d:
        assert sum(len(losses) for losses in step.over((x, y), 8, shuffle=True)) == 8
    assert only(d.report, "activation-before-loss") and d.report.looked_at.startswith("8 steps")


# --- check -----------------------------------------------------------------------------------------------------------


def everything_of(model: nn.Module, optimizer: Any) -> Any:
    grads = [(id(p.grad), None if p.grad is None else bits(p.grad)) for p in model.parameters()]
    tensors = [*model.parameters(), *model.buffers()]
    return (bits(model.state_dict()), [(id(t), t.data_ptr(), t._version) for t in tensors], grads,
            [m.training for m in model.modules()], bits(optimizer.state_dict()), tl.get_rng_state().tolist(),
            random.getstate(), np.random.get_state()[1].tolist(), tl.is_grad_enabled())


@pytest.mark.parametrize("outcome", ["healthy", "findings", "cannot learn", "fails", "interrupted"])
def test_check_leaves_everything_as_it_was(outcome: str, device: str) -> None:
    model, (x, y) = net_with_noise(device), data(16, device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model[1].eval()
    model[4].weight.grad = None

    def loss(scores: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        random.random(), np.random.rand(), tl.rand(3)
        if outcome == "interrupted":
            raise Stop
        decay = sum((p.square().sum() for p in model.parameters()), tl.zeros((), device=device))  # of the model itself
        scores = scores.softmax(1) if outcome == "findings" else scores * (outcome != "cannot learn")
        return F.cross_entropy(scores, y) + 1e-6 * decay

    labels = y + 5 if outcome == "fails" else y
    before = everything_of(model, optimizer)
    try:
        with tl.no_grad() if outcome == "healthy" else tl.enable_grad():
            report = tl.doctor.check(model, loss, (x, labels), optimizer, steps=6, ignore=["no-gradient"])
            assert outcome == "healthy" or len(report), report
    except Stop:
        assert outcome == "interrupted"
    after = everything_of(model, optimizer)
    assert [a == b for a, b in zip(after, before, strict=True)] == [True] * len(before)


@pytest.mark.parametrize("broken", ["inputs", "labels"])
def test_a_batch_that_cannot_be_learned(broken: str) -> None:
    model, x = mlp(outputs=2), data(24)[0]
    x = tl.ones(48, 10) if broken == "inputs" else tl.cat([x, x])
    y = tl.arange(48) // 24
    report = tl.doctor.check(model, F.cross_entropy, (x, y), optim.Adam(model.parameters()))
    found = only(report, "cannot-overfit")
    assert "Adam at 0.001" in found.seen and "in 100 steps" in found.seen and "look whether inputs differ" in found.fix
    assert line_of(found).startswith("report = tl.doctor.check(")


@pytest.mark.parametrize("lr", [1e-6, 1e-5])
def test_a_rate_with_which_a_batch_is_not_learned(lr: float) -> None:
    model = mlp()
    found = only(tl.doctor.check(model, F.cross_entropy, data(), optim.SGD(model.parameters(), lr=lr)), "learning-rate")
    assert f"50 steps of SGD with lr={lr:g}" in found.seen and ", Adam at 0.0" in found.seen
    assert "try another learning rate" in found.fix


def test_batches_of_one_two_and_three() -> None:
    model = nn.Linear(10, 10)
    x, _ = data()
    assert not len(tl.doctor.check(model, lambda p: (p - 1).square().mean(), x))
    assert not len(tl.doctor.check(model, F.mse_loss, (x, x)))
    assert not len(tl.doctor.check(nn.Bilinear(10, 10, 3), F.cross_entropy, [x, x, tl.arange(64) % 3]))
    assert not len(tl.doctor.check(model, nn.MSELoss(reduction="none"), (x, x)))


def test_rules_of_check_that_are_not_wanted() -> None:
    model, (x, y) = mlp(), data()
    optimizer = optim.SGD(model.parameters(), lr=1e-6)
    assert not len(tl.doctor.check(model, F.cross_entropy, (x, y), optimizer, ignore=["learning-rate"]))
    assert not len(tl.doctor.check(model, F.cross_entropy, (x * 0, y), ignore=["cannot-overfit", "no-gradient",
                                                                              "vanishing-gradients"]))


def test_parts_in_eval_mode_stay_so_in_a_check() -> None:
    class Asking(nn.Dropout):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            modes.add(self.training)
            return super().forward(x)

    modes: set[bool] = set()
    model = mlp(Asking())
    model[3].eval()
    tl.doctor.check(model, F.cross_entropy, data(), steps=2)
    assert modes == {False}
    tl.doctor.check(model.eval(), F.cross_entropy, data(), steps=2)
    assert modes == {False, True}


def test_check_tries_the_model_as_in_training() -> None:
    model = net_with_noise().eval()
    assert not len(tl.doctor.check(model, F.cross_entropy, data()))
    assert not model.training


def test_check_without_an_optimizer_says_so() -> None:
    report = tl.doctor.check(mlp(), F.cross_entropy, data(), steps=3)
    assert str(report) == "doctor: no findings in 3 steps (of Adam: no optimizer was given)"


def test_names_that_are_exported() -> None:
    assert tl.doctor is tl.insight.doctor.doctor and tl.doctor.check is check
