"""tl.profile: the numbers, the table and the trace, the clock of a GPU, and captured steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_threads import THREADS, in_threads
from profiles import FAST, by_name, everything, train

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import Device, cpu, get, recording
from tensorlite.insight import costs
from tensorlite.insight.costs import Roof, bytes_moved
from tensorlite.insight.device_clock import DeviceClock
from tensorlite.insight.spans import KERNEL, MODULE, Span, Work
from tensorlite.nn import functional as F

# --- the numbers -----------------------------------------------------------------------------------------------------


def test_bytes() -> None:
    x = np.ones((4, 6), np.float32)
    row, picked, scalar = np.broadcast_to(x[0], (4, 6)), np.zeros(2, np.int64), np.zeros((), np.float64)
    assert bytes_moved("add", x, (x, x)) == 3 * 96
    assert bytes_moved("add", x, (x, row)) == 2 * 96 + 24
    assert bytes_moved("fill", x, (1.0,)) == 96
    assert bytes_moved("copy", x[:0], (np.broadcast_to(row[:, :1], (4, 0)),)) == 0
    assert bytes_moved("linear", x, (x, x, None)) == 3 * 96
    assert bytes_moved("index", x[:2], (x, picked)) == 48 + 48 + 16
    assert bytes_moved("index_add", x, (x[:2], picked)) == 48 + 48 + 16
    assert bytes_moved("adam_step", (x, row), ((x, x), scalar, (x, x), None, (scalar, scalar))) == (
        2 * (96 + 24) + 2 * 96 + 2 * (8 + 2 * 96 + 16))


def test_every_update_of_an_optimizer_counts_what_it_reads_and_writes() -> None:
    for cls in optim.Optimizer.__subclasses__():
        if cls.__module__.startswith("tensorlite."):
            group = cls([tl.ones(2, 2, requires_grad=True)]).param_groups[0]
            assert cls._plan(group).kernel.endswith("_step")


def test_floating_point_operations_of_products() -> None:
    x, weight = tl.ones(5, 6), tl.ones(7, 6)
    with tl.profile(**FAST) as p:
        F.linear(x, weight)
        tl.matmul(tl.ones(3, 5, 6), weight.t())
        x.exp()
    rows = by_name(p)
    assert (rows["linear"].flops, rows["matmul"].flops, rows["exp"].flops) == (2 * 5 * 6 * 7, 2 * 3 * 5 * 6 * 7, 0)


@pytest.mark.parametrize(("causal", "pairs"), [(False, 4 * 3), (True, 1 + 2 + 3 + 3)])
def test_floating_point_operations_of_attention(causal: bool, pairs: int) -> None:
    """Of the scores that are looked at: two products forward, five backward."""
    q, k, v = (tl.ones(2, 2, *shape, requires_grad=True) for shape in ((4, 5), (3, 5), (3, 7)))
    with tl.profile(**FAST) as p:
        F.scaled_dot_product_attention(q, k, v, is_causal=causal).sum().backward()
    rows = by_name(p)
    assert rows["scaled_dot_product_attention"].flops == 2 * 4 * pairs * (5 + 7)
    assert rows["scaled_dot_product_attention (backward)"].flops == 2 * 4 * pairs * (3 * 5 + 2 * 7)


def test_the_roofline() -> None:
    roof = Roof(bandwidth=10.0, flops=100.0)
    assert roof.least(Work("cpu", 50, 100)) == 5.0
    assert roof.least(Work("cpu", 50, 1000)) == 10.0
    x = tl.ones(100)
    with tl.profile(bandwidth=1e9, flops=1e9) as p:
        x.exp()
    row = by_name(p)["exp"]
    assert row.bytes == 800
    assert row.of_roofline == pytest.approx(800 / 1e9 / row.time)


def test_the_roofline_is_measured_once_and_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_COPY_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr(costs, "_PRODUCT_SIZE", {"cpu": 16})
    monkeypatch.setattr(costs, "_roofs", {})
    x = tl.ones(100)
    with tl.profile() as outer:
        with tl.profile(bandwidth=5.0) as p:
            x.exp()
        row, = p.rows()
        assert row.of_roofline is not None
    assert {s.name for s in outer.spans} == {"exp"}
    roof = p.roof("cpu")
    assert roof is not None and roof.bandwidth == 5.0 and roof.flops > 0
    assert outer.roof("cpu") == costs.roof("cpu") == costs.roof("cpu")
    assert costs.roof("cuda:sim") is None


def test_what_is_refused() -> None:
    for wrong in ({"bandwidth": 0.0}, {"flops": -1.0}, {"bandwidth": float("nan")}):
        with pytest.raises(tl.ArgumentError, match=f"{next(iter(wrong))} must be above 0"):
            tl.profile(**wrong)
    with tl.profile(**FAST) as p:
        pass
    with pytest.raises(tl.ArgumentError, match="was entered before; make a new one"), p:
        pass
    with pytest.raises(tl.ArgumentError, match="by \"op\" or by \"module\", got 'kernel'"):
        p.rows("kernel")


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_table() -> None:
    step = train("cpu")
    with tl.profile(**FAST) as p:
        step()
    text = str(p)
    assert "roofline of cpu: 20.0 GB/s, 100.0 GFLOP/s" in text
    operations, modules = text.split("\n\n")[1:]
    assert operations.splitlines()[0].split("  ")[0] == "operation"
    words = {line.split("  ")[0]: line.split() for line in operations.splitlines()}
    rows = by_name(p)
    assert words["linear"][1:5] == ["2", f"{rows['linear'].total * 1e3:.3f}", f"{rows['linear'].time * 1e3:.3f}", "2"]
    assert words["linear"][-1].endswith("%")
    assert {len(line) for line in operations.splitlines()[:1]} == {len(line) for line in operations.splitlines()}
    assert [line.split("  ")[0] for line in modules.splitlines()[2:]] == [row.name for row in p.rows("module")]
    assert f"and {len(rows) - 2} more operations" in p.table(limit=2)
    assert repr(p).startswith(f"<profile of {len(p.spans)} spans in ")


def test_an_empty_profile_can_be_shown() -> None:
    with tl.profile() as p:
        pass
    assert p.rows() == p.rows("module") == []
    assert "0 kernels" in str(p)
    assert str(tl.profile())


def test_the_trace(device: str, tmp_path: Path) -> None:
    step = train(device)
    with tl.profile(**FAST) as p:
        step()
        in_threads(lambda number: nn.Tanh()(tl.ones(2)))
    p.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    spans_of = [e for e in events if e["ph"] == "X"]
    rows = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {e["tid"] for e in spans_of} == rows.keys()
    host = [e for e in spans_of if e["tid"] < 1_000_000]
    assert len(host) == len(p.spans)
    assert len({e["tid"] for e in host}) == 1 + THREADS
    assert all(e["ts"] >= 0 and e["ts"] + e["dur"] <= p.duration * 1e6 for e in host)
    assert_nested(host)
    kernel = next(e for e in host if e["cat"] == "kernel" and e["name"] == "linear")
    assert kernel["args"] == {"op": "linear", "module": "Net.layers.0", "device": str(get(device).device),
                              "bytes": 4 * (5 * 8 + 5 * 6 + 8 * 6 + 8), "flops": 2 * 5 * 6 * 8}
    assert {e["name"] for e in host if e["cat"] == "module" and e["name"].startswith("Net")} == {
        "Net (Net)", "Net.layers.0 (Linear)", "Net.act (Tanh)", "Net.layers.1 (Linear)"}


def assert_nested(events: list[dict[str, Any]]) -> None:
    """In each row, a span that begins in another one ends in it; a kernel lies in its op, and that in its module."""
    for row in {e["tid"] for e in events}:
        around: list[dict[str, Any]] = []
        for event in sorted((e for e in events if e["tid"] == row), key=lambda e: (e["ts"], -e["dur"])):
            while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
                around.pop()
            if around:
                assert event["ts"] + event["dur"] <= around[-1]["ts"] + around[-1]["dur"] + 1e-6
            around.append(event)
            if event["cat"] == "kernel" and event["name"] == "tanh":
                assert [e["cat"] for e in around][-3:] == ["module", "op", "kernel"]


# --- the clock of a GPU ----------------------------------------------------------------------------------------------


class Event:
    """Happens when the test says so."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.at, self.done = gpu, 0.0, False

    def record(self, stream: Any) -> None:
        self.gpu.now += 1.0
        self.at, self.done = self.gpu.now, False
        self.gpu.recorded += 1

    def synchronize(self) -> None:
        self.done = True


class Gpu:
    """What a DeviceClock needs of a backend; a millisecond passes from event to event."""

    def __init__(self) -> None:
        self.now, self.recorded, self.made = 0.0, 0, 0

    def new_event(self, blocking: bool, timing: bool) -> Event:
        assert timing
        self.made += 1
        return Event(self)

    def current_stream(self) -> None:
        return None

    def elapsed_time(self, begin: Event, end: Event) -> float:
        assert begin.done or end.done
        return end.at - begin.at


def kernel_span() -> Span:
    with Span(KERNEL, "exp") as span:
        span.work = Work("cuda:0", 0, 0)
    return span


def test_kernels_on_a_gpu_take_the_time_between_events() -> None:
    gpu = Gpu()
    clock = DeviceClock(gpu)
    found = [kernel_span() for _ in range(2)]
    for span in found:
        clock.start(span)
        clock.end(span)
    clock.read(wait=False)
    assert found[0].on_device is None
    clock.read(wait=True)
    assert [s.busy for s in found] == [1_000_000, 1_000_000]
    assert found[0].on_device and found[1].on_device
    assert found[1].on_device[0] - found[0].on_device[0] == 2_000_000
    assert found[0].on_device[0] == clock._origin_time + 1_000_000  # on the host's clock


def test_a_long_profile_of_a_gpu_needs_few_events() -> None:
    gpu = Gpu()
    clock = DeviceClock(gpu)
    for _ in range(5000):
        span = kernel_span()
        clock.start(span)
        clock.end(span)
        for *_, event in clock._running:
            event.done = True
    failed = kernel_span()
    clock.start(failed)
    clock.forget(failed)
    clock.forget(failed)
    clock.end(failed)
    for _ in range(3000):
        clock.start(failed)
        clock.forget(failed)
    clock.read(wait=True)
    assert gpu.recorded == 13_002
    assert gpu.made < 2100
    assert not clock._running and not clock._began


def test_nothing_is_asked_of_a_gpu_that_records(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()
    clock = DeviceClock(gpu)
    before, within = kernel_span(), kernel_span()
    clock.start(before)
    clock.end(before)
    with monkeypatch.context() as recorded:
        recorded.setattr(recording, "here", lambda: "a recorder")
        clock.start(within)
        clock.end(within)
        clock.read(wait=True)
    assert (gpu.recorded, before.on_device, within.on_device) == (3, None, None)
    clock.read(wait=True)
    assert before.on_device is not None


class GpuBackend(cpu.CpuBackend, Gpu):
    """A device with a clock of its own."""

    def __init__(self) -> None:
        cpu.CpuBackend.__init__(self)
        Gpu.__init__(self)
        self.device = Device("cuda", 7)


def test_a_device_with_a_clock_of_its_own(tmp_path: Path) -> None:
    backend = GpuBackend()
    x = tl.Tensor._wrap(np.ones(3, np.float32), backend)
    with tl.profile(**FAST) as p:
        x.exp().sin()
        with pytest.raises(tl.DTypeError):
            tl.matmul(x.reshape(1, 3).bool(), x.reshape(3, 1).bool())
    rows = by_name(p)
    assert rows["exp"].time == rows["sin"].time == 0.001
    assert rows["exp"].of_roofline == pytest.approx(24 / 20e9 / 0.001)
    p.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    row, = [e["tid"] for e in events if e["ph"] == "M" and e["args"]["name"] == "cuda:7"]
    on_device = [e for e in events if e["ph"] == "X" and e["tid"] == row]
    assert [(e["name"], e["dur"]) for e in on_device[:2]] == [("exp", 1000.0), ("sin", 1000.0)]
    assert on_device[1]["ts"] - on_device[0]["ts"] == pytest.approx(2000.0)


# --- captured steps --------------------------------------------------------------------------------------------------


def test_replays_of_a_captured_step(device: str) -> None:
    step = tl.capture(train(device))
    step()
    step()
    with tl.profile(**FAST) as p:
        step()
        step()
    assert step.stats().replays == 2
    rows = by_name(p)
    assert set(rows) == {name := "capture step"}
    assert rows[name].calls == 2
    if device == "cuda":
        assert [s.name for s in p.spans if s.kind is KERNEL] == [f"graph of {step.stats().kernels} kernels"] * 2
        assert rows[name].of_roofline is None
    else:
        assert rows[name].launches == 2 * step.stats().kernels


def test_a_graph_is_one_kernel_and_its_copies_are_not_seen() -> None:
    backend = GpuBackend()
    x = tl.Tensor._wrap(np.ones(3, np.float32), backend)
    step = tl.capture(lambda x: x.exp().sin())
    step(x)
    step(x)
    with tl.profile(**FAST) as p:
        step(x)
    assert [(s.name, s.op) for s in p.spans] == [("graph of 2 kernels", "capture <lambda>"),
                                                ("capture <lambda>", "capture <lambda>")]
    row, = p.rows()
    assert (row.launches, row.time > 0, row.of_roofline) == (1, True, None)


def test_a_captured_step_runs_and_is_recorded_under_a_profile(device: str) -> None:
    plain, captured = train(device), tl.capture(train(device))
    with tl.profile(**FAST) as first:
        captured()
    with tl.profile(**FAST) as second:
        captured()
    with tl.profile(**FAST) as expected:
        plain()
    eager = {row.name: row.launches for row in expected.rows()}
    for p in (first, second):
        assert {row.name: row.launches for row in p.rows() if row.name != "capture step"} == eager
    captured()
    assert captured.stats().replays == 1


def test_recorded_under_a_profile_replays_compute_the_same(device: str) -> None:
    tl.manual_seed(3)
    plain = train(device)
    tl.manual_seed(3)
    captured = tl.capture(train(device))
    losses = [plain().item() for _ in range(5)]
    with tl.profile(**FAST):
        found = [captured().item() for _ in range(3)]
    found += [captured().item() for _ in range(2)]
    assert found == losses


def test_a_profile_inside_of_a_captured_step() -> None:
    seen = []

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        with tl.profile(**FAST) as p:
            y = x.exp()
        seen.append(p)
        return y

    before = everything()
    results = [step(tl.ones(3)).tolist() for _ in range(4)]
    assert results[0] == results[3]
    assert [{s.name for s in p.spans} for p in seen] == [{"exp"}] * 2
    assert everything() == before


def test_modules_make_spans_of_their_class() -> None:
    with tl.profile(**FAST) as p:
        nn.Tanh()(tl.ones(2))
    module, = [s for s in p.spans if s.kind is MODULE]
    assert (module.name, module.module, module.op) == ("Tanh", "Tanh", None)
