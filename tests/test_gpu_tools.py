"""What measures on a GPU works where there is none: `make gpu` as a dry run, its steps' limits, the benchmarks."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tensorlite as tl

ROOT = Path(__file__).resolve().parent.parent
ROWS_WITH_OTHER_TRAFFIC = ("backward", "Adam", "uniform", "normal", "rows by index")  # inputs or outputs are not arrays


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/gpu.py as a module."""
    return imported("gpu", "tools", monkeypatch)


def imported(name: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of a folder that is no package."""
    monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module(name)


def run_step(gpu: ModuleType, code: str, limit: float = 30, headline: str = "x", **options: Any) -> dict[str, Any]:
    step = gpu.Step("name", [sys.executable, "-c", code], limit, headline, **options)
    result: dict[str, Any] = gpu.run(step, limit, io.StringIO())
    return result


def make_gpu(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "tools/gpu.py", *options], cwd=ROOT, env={**os.environ, "OUT": str(out)},
                          capture_output=True, text=True, timeout=500)


# --- make gpu --------------------------------------------------------------------------------------------------------


def test_a_step_says_how_it_ended_and_what_it_found(gpu: ModuleType) -> None:
    done = run_step(gpu, "print('a'); print('found 3 of 4'); print('b')", headline=r"found \d")
    assert (done["outcome"], done["headline"]) == ("ok", ["found 3"])
    failed = run_step(gpu, "print('FAILED tests/test_a.py::test_b - why'); print('last words'); raise SystemExit(5)")
    assert (failed["outcome"], failed["headline"]) == ("failed, status 5", ["last words"])
    assert failed["failures"] == ["tests/test_a.py::test_b - why"]


def test_a_step_that_hangs_is_killed_with_its_children(gpu: ModuleType, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    child = f"import time; time.sleep(2); open({str(sign)!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    start = time.monotonic()
    assert run_step(gpu, code, limit=1)["outcome"] == "out of time"
    assert time.monotonic() - start < 20
    time.sleep(2)
    assert not sign.exists()


def test_what_is_not_installed_is_missing_and_no_failure(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_step(gpu, "print(1)", missing="needs a tool")["outcome"] == "missing"
    monkeypatch.setattr(gpu, "sanitizer", lambda: None)
    steps = {step.name: step for step in gpu.steps(Path("out"), dry_run=False)}
    assert steps["memcheck"].missing == steps["racecheck"].missing == "compute-sanitizer is not installed"
    assert sum(step.limit for step in steps.values()) < 9 * 60


def test_on_a_gpu_the_sanitizer_watches_the_kernel_tests(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "sanitizer", lambda: "/bin/compute-sanitizer")
    steps = {step.name: step for step in gpu.steps(Path("out"), dry_run=False)}
    for tool in ("memcheck", "racecheck"):
        assert steps[tool].missing is None
        assert steps[tool].command[:3] == ["/bin/compute-sanitizer", "--tool", tool]
        assert {"tests/test_kernels_elementwise.py", "tests/test_capture.py"} <= set(steps[tool].command)


@pytest.mark.skipif("cuda" in tl.testing.devices(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_how_to_try(tmp_path: Path) -> None:
    finished = make_gpu(tmp_path / "out")
    assert finished.returncode == 1 and "device 'cuda'" in finished.stderr and "--dry-run" in finished.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("cuda:sim" not in tl.testing.devices(), reason="needs a C++ compiler")
def test_the_dry_run_goes_through_every_step(tmp_path: Path) -> None:
    finished = make_gpu(tmp_path, "--dry-run", "--commit", "abc")
    summary = json.loads((tmp_path / "summary.json").read_text())
    ended = {step["step"]: step["outcome"] for step in summary["steps"]}
    names = ("tests", "memcheck", "racecheck", "bandwidth", "conv", "attention", "step", "mnist")
    assert ended == dict.fromkeys(names, "ok"), finished.stdout
    assert finished.returncode == 0
    assert summary["dry_run"] and summary["commit"] == "abc" and summary["device"] == "cuda:sim"
    bandwidth = json.loads((tmp_path / "op_bandwidth.json").read_text())
    assert all(row["measured"]["tensorlite"]["gb_per_s"] > 0 for row in bandwidth["rows"])
    assert {row["measured"]["cupy"].get("missing") for row in bandwidth["rows"]} <= {"not installed", "needs a GPU"}
    assert not any(row["reached"] for row in bandwidth["rows"]), "the speed of a simulation is not judged"
    convolutions = json.loads((tmp_path / "gpu_conv.json").read_text())["results"]
    assert len(convolutions) == 6
    attention = json.loads((tmp_path / "gpu_attention.json").read_text())["results"]
    assert len(attention) == 4 and all(case["difference"] is not None for case in attention)
    assert all(case["measured"]["tensorlite"]["device_us"] > 0 for case in (*convolutions, *attention))
    step = json.loads((tmp_path / "gpu_step.json").read_text())
    assert step["results"]["tensorlite"]["step_us"] > 0 and step["results"]["tensorlite-captured"]["step_us"] > 0
    assert step["missing"]["torch-graph"] == "not for device cpu" and not step["ratios"]
    (job,) = json.loads((tmp_path / "mnist_job.json").read_text())["jobs"].values()
    assert len(job["runs"]["tensorlite"][0]["points"]) == 1, "one epoch, one test"


# --- the choice of tests ---------------------------------------------------------------------------------------------


def select(folder: Path, *options: str) -> dict[str, int]:
    """How the tests of a folder end under the plugin."""
    (folder / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('device', ['cpu', 'cuda:sim'])\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_each(device, n): pass\n"
        "def test_no_device(): pass\n"
    )
    (folder / "test_cuda_layer.py").write_text("def test_gpu(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_device", "-p", "no:cacheprovider", *options, "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools"), "PYTEST_ADDOPTS": ""}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    words = finished.stdout.splitlines()[-1].replace(",", "").split()
    counts = {word: int(number) for number, word in itertools.pairwise(words) if number.isdecimal()}
    return {**counts, "status": finished.returncode}


def test_the_plugin_runs_one_devices_tests(tmp_path: Path) -> None:
    assert select(tmp_path, "--only-device", "cuda:sim") == {"passed": 3, "deselected": 5, "status": 0}
    assert select(tmp_path, "--only-device", "cuda") == {"passed": 1, "deselected": 7, "status": 0}


def test_the_plugin_stops_when_time_is_up_and_counts_what_is_left(tmp_path: Path) -> None:
    assert select(tmp_path, "--only-device", "cpu", "--seconds", "0") == {
        "passed": 1, "skipped": 2, "deselected": 5, "status": 0
    }


def test_a_device_without_tests_has_not_passed_them(tmp_path: Path) -> None:
    assert select(tmp_path, "--only-device", "cuda", "--ignore", "test_cuda_layer.py")["status"] == 1


# --- the benchmarks --------------------------------------------------------------------------------------------------


def test_every_row_runs_and_counts_the_bytes_of_its_inputs_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = imported("op_rows", "benchmarks", monkeypatch)
    elements = 1 << 18
    make = rows.Maker("tensorlite", "cpu", elements)
    for row in rows.ROWS.values():
        inputs = row.inputs(make, elements)
        output = row.torch_like(tl)(*inputs)
        if not any(word in row.name for word in ROWS_WITH_OTHER_TRAFFIC):
            read = inputs[:-1] if row.name.startswith("layer norm") else inputs  # the last is backward's
            moved = sum(np.asarray(tensor.detach().cpu()).nbytes for tensor in (*read, output))
            assert moved == pytest.approx(row.bytes * elements, rel=0.01), row.name


def test_other_libraries_get_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    rows = imported("op_rows", "benchmarks", monkeypatch)
    ours, theirs = (rows.Maker(library, "cpu", 4096) for library in ("tensorlite", "torch"))
    for name in ("layer norm", "cross entropy, 1024 classes", "add int64", "embedding, forward and backward"):
        for a, b in zip(rows.ROWS[name].inputs(ours, 4096), rows.ROWS[name].inputs(theirs, 4096), strict=True):
            assert np.array_equal(a.detach().numpy(), b.detach().numpy()), name


def test_the_device_is_kept_busy_until_all_calls_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    common = imported("gpu_common", "benchmarks", monkeypatch)
    log: list[str] = []

    class Recording(common.EventClock):  # type: ignore[misc,name-defined]
        """A device that takes 10 ms to copy what keeps it busy."""

        def synchronize(self) -> None:
            log.append("wait")

        def _event(self) -> None:
            log.append("event")

        def _seconds(self, start: Any, stop: Any) -> float:
            return 0.01

        def _occupy(self) -> None:
            log.append("occupy")

    clock = Recording()
    log.clear()
    assert clock.device(lambda: (time.sleep(0.05), log.append("calls"))[1]) == 0.01
    assert log[:3] == ["wait", "calls", "wait"], "the calls are first made to see how long queueing takes"
    assert log.count("occupy") >= 9 and log[-5:] == ["occupy", "event", "calls", "event", "wait"]


def test_cases_that_differ_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = imported("gpu_cases", "benchmarks", monkeypatch)

    def result(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
        answers = {"tensorlite": ours, "torch": theirs}
        case = {"layer": "LeNet, first", "batch": 64, "precision": "float32", "name": "forward"}
        return {"case": case, "difference": cases.difference(answers), "measured": answers}

    good, other = ({"elements": [1.0, -2.0 + error], "device_us": 2.0} for error in (0.0, 1e-3))
    assert cases.complaints([result(good, good), result(good, {"error": "none left"})]) == []
    assert cases.complaints([result(other, good), result({"error": "no memory"}, good)]) == [
        "wrong: LeNet, first, 64, float32, forward: 5.0e-04 from torch's",
        "wrong: LeNet, first, 64, float32, forward: no memory"]
    faster = cases.summary([result(good, {**good, "device_us": 4.0})])
    assert faster.startswith("time of tensorlite / torch: median 0.5")


def test_operations_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, attention = (imported(name, "benchmarks", monkeypatch) for name in ("gpu_conv", "gpu_attention"))
    assert conv.LAYERS["64 to 64, 3x3"].flops(2) == 2 * 2 * 64 * 32 * 32 * 64 * 9
    shape = attention.Shape(2, 3, 10, 8, False)
    assert shape.flops(False) == 2 * (2 * 2 * 3 * 10 * 10 * 8) and shape.flops(True) == 7 * (2 * 2 * 3 * 10 * 10 * 8)
    assert shape._replace(causal=True).flops(False) == shape.flops(False) // 2
