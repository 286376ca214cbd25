"""tl.progress: a bar on a terminal, whole lines in a log, and no look at the meters that is not shown."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import tensorlite as tl
from tensorlite.data import DataLoader, TensorDataset


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Counting(tl.meters.Mean):
    """Counts how often it is read, each of which would wait for a GPU."""

    read = 0

    def compute(self) -> float:
        self.read += 1
        return super().compute()


class Clock:
    """Seconds that pass only where a test lets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(count: int, file: io.StringIO, seconds: float = 1.0, **options: Any) -> tuple[Counting, list[float]]:
    clock, meters = Clock(), tl.Meters(loss=Counting())
    seen = []
    for x in tl.progress([float(i) for i in range(count)], meters, file=file, clock=clock, **options):
        seen.append(x)
        meters.loss.update(x)
        clock.now += seconds
    return meters["loss"], seen  # type: ignore[return-value]


def test_lines_in_a_log() -> None:
    log = io.StringIO()
    meter, seen = run(25, log, desc="epoch 3")
    assert seen == [float(i) for i in range(25)]
    assert log.getvalue().splitlines() == [
        "epoch 3: 10/25 in 10.0 s, 1/s, loss 4.5", "epoch 3: 20/25 in 20.0 s, 1/s, loss 9.5",
        "epoch 3: 25/25 in 25.0 s, 1/s, loss 12"]
    assert meter.read == 3, "read for what is shown, and for nothing else"


@pytest.mark.parametrize(("options", "lines"), [
    ({"interval": 0.0}, ["1/3 in 2.0 s, 0.5/s, loss 0", "2/3 in 4.0 s, 0.5/s, loss 0.5",
                         "3/3 in 6.0 s, 0.5/s, loss 1"]),
    ({"interval": 100.0}, ["3/3 in 6.0 s, 0.5/s, loss 1"])])
def test_intervals(options: dict[str, Any], lines: list[str]) -> None:
    log = io.StringIO()
    run(3, log, seconds=2.0, **options)
    assert log.getvalue().splitlines() == lines


def test_what_need_not_stay() -> None:
    log, terminal = io.StringIO(), Terminal()
    meter, _ = run(12, log, leave=False)
    assert log.getvalue() == "10/12 in 10.0 s, 1/s, loss 4.5\n" and meter.read == 1
    meter, _ = run(3, terminal, seconds=0.0, leave=False)
    assert terminal.getvalue().endswith("\r") and meter.read == 0


def test_an_empty_loop_says_so() -> None:
    log = io.StringIO()
    assert run(0, log)[1] == []
    assert log.getvalue() == "0/0 in 0.0 s, loss nan\n"


def endless() -> Iterator[int]:
    i = 0
    while True:
        yield i
        i += 1


def test_a_loop_that_is_left_early_and_has_no_length() -> None:
    log = io.StringIO()
    bar = tl.progress(endless(), file=log, clock=lambda: 0.0)
    for i in bar:
        if i == 3:
            break
    del i
    iterator = iter(tl.progress(endless(), file=log, clock=lambda: 0.0))
    next(iterator)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert log.getvalue().splitlines() == ["3 in 0.0 s", "1 in 0.0 s"]
    with pytest.raises(TypeError, match="generator has no length; pass total="):
        len(bar)
    assert len(tl.progress(endless(), total=7)) == 7


def test_an_error_in_the_loop_comes_out_and_the_line_is_written() -> None:
    log = io.StringIO()

    def failing() -> Iterator[int]:
        yield 1
        raise OSError("a disk")

    with pytest.raises(OSError, match="a disk"):
        list(tl.progress(failing(), file=log, clock=lambda: 0.0))
    assert log.getvalue() == "1 in 0.0 s\n"


def test_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    meter, seen = run(4, terminal, desc="epoch 1")
    text = terminal.getvalue()
    assert seen == [0.0, 1.0, 2.0, 3.0]
    assert re.search(r"epoch 1: 100%\|[█#]+\| 4/4 .*loss 1.5", text), text
    assert text.endswith("\n")
    assert meter.read == 5
    meter, _ = run(4, Terminal(), seconds=0.1)
    assert meter.read == 1, "half a second had not passed"


def test_a_bar_is_closed_when_the_loop_is_left() -> None:
    terminal = Terminal()
    iterator = iter(tl.progress(range(9), tl.meters.Mean(), file=terminal))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert terminal.getvalue().endswith("\n")


def test_a_loader_and_a_single_meter() -> None:
    log = io.StringIO()
    loader = DataLoader(TensorDataset(tl.arange(10.0)), batch_size=4)
    accuracy = tl.meters.Accuracy()
    for (x,) in tl.progress(loader, accuracy, file=log, clock=lambda: 0.0):
        accuracy.update(x.long(), x.long())
    assert log.getvalue() == "3/3 in 0.0 s, accuracy 100.00%\n"


def test_standard_error_is_that_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in tl.progress([1, 2], clock=lambda: 0.0):
        pass
    assert capsys.readouterr().err == "2/2 in 0.0 s\n"


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tl.progress([], 3), "expected Meters or a Meter, got int"),  # type: ignore[arg-type]
    (lambda: tl.progress([], interval=-1.0), "interval must be at least 0 seconds, got -1.0"),
    (lambda: tl.progress([], interval=float("nan")), "interval must be at least 0 seconds, got nan")])
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(tl.ArgumentError, match=message):
        call()


def test_nothing_is_loaded_before_it_is_used() -> None:
    """import tensorlite loads none of this, and using meters and progress in a log loads no tqdm."""
    program = """
import sys
import tensorlite as tl
assert not [name for name in sys.modules if name.startswith("tensorlite.insight")]
meters = tl.Meters(loss=tl.meters.Mean())
for x in tl.progress([1.0], meters):
    meters.loss.update(x)
tl.nn.Linear(2, 2).summary(tl.ones(1, 2))
assert not {"tqdm", "matplotlib", "tensorboardX"} & set(sys.modules)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.fullmatch(r"1/1 in \d+\.\d s.*, loss 1\n", finished.stderr)
