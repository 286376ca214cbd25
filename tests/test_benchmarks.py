"""The benchmarks measure what they say: the same mathematics in every subject, runs from the start, honest pages."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SIZES = [12, 6, 6, 4]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of benchmarks/, which is no package, by its name; none of them builds kernels for this process."""
    monkeypatch.setenv("TENSORLITE_COMPILED", "0")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def subjects(load: Any) -> ModuleType:
    module: ModuleType = load("subjects")
    return module


def run(script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, f"benchmarks/{script}", *options], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, timeout=300)


# --- the training step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorlite-captured", "tensorlite-numpy", "tensorlite", "torch", "jax", "numpy"])
def test_every_subject_does_the_same_mathematics(subjects: ModuleType, name: str) -> None:
    pytest.importorskip(subjects.SUBJECTS[name].library)
    reference = subjects.SUBJECTS["numpy"].make()
    reference.setup(SIZES, 8)
    session = subjects.SUBJECTS[name].make()
    session.setup(SIZES, 8)
    losses = session.losses(20)
    assert subjects.disagreement(losses, reference.losses(20)) < 1e-4
    assert losses == session.losses(20), "a run begins with the initial weights and an optimizer that made no step"
    assert losses[-1] < losses[0]


def test_layers_step_compares_models_and_their_memory(tmp_path: Path) -> None:
    """Eager and captured steps give the same losses, or the script ends with an error; memory is that of the steps."""
    record = tmp_path / "layers_step.json"
    finished = run("layers_step.py", "--subjects", "tensorlite-captured", "tensorlite", "--threads", "1",
                   "--rounds", "1", "--seconds", "0", "--pause", "0", "--json", str(record))
    assert finished.returncode == 0, finished.stderr
    rows = {row["model"]: row for row in json.loads(record.read_text())["rows"]}
    for model, least in (("lenet", 2e6), ("gpt", 20e6)):  # GPT: activations of 16 MB, weights of 3 MB four times
        row = rows[model]
        assert not row["missing"] and set(row["median_us"]) == {"tensorlite-captured", "tensorlite"}
        assert max(row["loss_differences"].values()) < 1e-5
        assert all(least < used < 300e6 for used in row["memory_bytes"].values()), row["memory_bytes"]


def test_numpy_by_hand_is_the_step_in_float64(subjects: ModuleType, load: Any) -> None:
    """Against Adam and back-propagation written down once more, plainly."""
    weights = load("common").initial_weights(SIZES, 0)
    batches = subjects.random_batches(SIZES[0], SIZES[-1], 8, 1)
    mlp = load("by_hand").Mlp(np, SIZES, 8)
    mlp.load(weights)
    params = [weight.astype(np.float64) for weight in weights.values()]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    for number, (x, labels) in enumerate(batches, 1):
        loss = mlp.step(x, labels)
        activations = [x.astype(np.float64)]
        for layer in range(3):
            out = activations[-1] @ params[2 * layer].T + params[2 * layer + 1]
            activations.append(np.maximum(out, 0) if layer < 2 else out)
        chances = np.exp(activations[-1])
        chances /= chances.sum(1, keepdims=True)
        assert loss == pytest.approx(-np.log(chances[range(8), labels]).mean(), rel=1e-5)
        delta = (chances - np.eye(4)[labels]) / 8
        grads: list[Any] = []
        for layer in (2, 1, 0):
            grads = [delta.T @ activations[layer], delta.sum(0), *grads]
            delta = delta @ params[2 * layer] * (activations[layer] > 0)
        for i, grad in enumerate(grads):
            m, v = moments[i]
            moments[i] = m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
            params[i] = params[i] - 1e-3 * (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.999**number)) + 1e-8)
    for view, param in zip(mlp.views, params, strict=True):
        np.testing.assert_allclose(view, param, atol=2e-6)


def test_a_turn_is_made_of_short_runs_from_the_start(subjects: ModuleType) -> None:
    class Steady(subjects.Session):  # type: ignore[misc,name-defined]
        """Notes what it is asked to do; a step takes no time."""

        def __init__(self) -> None:
            self.runs: list[int] = []

        def prepare(self, batches: Any) -> None: ...

        def start_over(self) -> None:
            self.runs.append(0)

        def step(self, number: int) -> Any:
            self.runs[-1] += 1
            return np.float32(0)

    session = Steady()
    session.setup(SIZES, 8)
    session.turn(0.02)
    assert len(session.runs) > 2
    assert max(session.runs) == subjects.STEPS_FROM_START + subjects.WARM_UP_STEPS


def test_denormal_numbers_are_found(subjects: ModuleType) -> None:
    session = subjects.SUBJECTS["tensorlite-numpy"].make()
    session.setup(SIZES, 8)
    session.losses(3)
    assert session.denormals() == 0
    session.moments = 1e-39
    session.start_over()
    assert session.denormals() > 0.5


def test_losses_that_are_no_numbers_do_not_agree(subjects: ModuleType) -> None:
    assert subjects.disagreement([1.0, 2.0], [1.0, 2.002]) == pytest.approx(1e-3, rel=0.01)
    assert subjects.disagreement([1.0, float("nan")], [1.0, 2.0]) == float("inf")


def test_identity_networks_keep_signals_at_any_depth(load: Any, subjects: ModuleType) -> None:
    session = subjects.SUBJECTS["tensorlite"].make()
    session.setup([16] * 301 + [10], 4, learning_rate=load("growth").LEARNING_RATE, identity=True)
    session.losses(3)
    grads = [np.abs(p.grad.numpy()).max() for p in session.model.parameters()]
    assert min(grads) > 1e-6 and max(grads) < 10


def test_the_training_step_benchmark_leaves_a_record(tmp_path: Path) -> None:
    target = tmp_path / "train_step.json"
    finished = run("train_step.py", "--subjects", "tensorlite-captured", "numpy", "tinygrad", "--sizes", "4/4",
                   "--rounds", "1", "--seconds", "0", "--grid", "none", "--json", str(target), CC="/nowhere/clang",
                   TENSORLITE_COMPILED="0")
    assert finished.returncode == 0, finished.stderr
    record = json.loads(target.read_text())
    (row,) = record["rows"]
    assert row["median_us"].keys() == {"tensorlite-captured", "numpy"} and min(row["median_us"].values()) > 0
    assert "tinygrad" in record["missing"] and "ratio" not in row, "NumPy by hand is no rival"
    assert row["denormal_share"]["tensorlite-captured"] == 0


# --- the MNIST job ----------------------------------------------------------------------------------------------------


def test_digits_are_moved_by_no_more_than_asked(load: Any) -> None:
    trainers = load("mnist_trainers")
    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 14, 14] = 1 + np.arange(200)
    moved = trainers.moved(images, 1, np.random.default_rng(0)).reshape(-1, 28, 28)
    places = np.array([np.argwhere(image)[0] for image in moved]) - 14
    assert {tuple(place) for place in places} == {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    assert (moved.max((1, 2)) == images.max((1, 2))).all(), "in their order"
    assert np.array_equal(trainers.moved(images, 0, np.random.default_rng(0)), images.reshape(200, 784))


def test_learning_rates_rise_and_fall(load: Any) -> None:
    trainers = load("mnist_trainers")
    job = trainers.Job((4,), 10, peak=1e-2)
    rates = trainers.learning_rates(job, 10)
    assert len(rates) == 100 and rates.argmax() == 10 and rates.max() == pytest.approx(1e-2) and rates.min() > 0


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_library_trains_to_the_same_accuracy(load: Any, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    monkeypatch.delenv("TENSORLITE_DATA", raising=False)  # the sample inside the package
    trainers = load("mnist_trainers")
    job = trainers.JOBS["99-percent"]._replace(hidden=(16, 16), epochs=2, batch=64, digits=1280)
    try:
        ours, theirs = ([accuracy for _, accuracy in trainers.train(name, job, "cpu", 0)]
                        for name in ("tensorlite", library))
    finally:
        for name in {"tensorlite", library} - {"jax"}:
            importlib.import_module(name).set_flush_denormal(False)
    assert len(ours) == 2 and ours[-1] > ours[0]
    assert np.abs(np.subtract(ours, theirs)).max() <= 0.005


def test_time_to_an_accuracy(load: Any) -> None:
    job = load("mnist_job")
    runs = [{"seconds": 9.0, "points": [[1.0, 0.5, 0.96], [2.0, 1.5, 0.975], [3.0, 2.5, 0.985]], "accuracy": 0.985},
            {"seconds": 7.0, "points": [[1.5, 0.5, 0.971], [2.5, 1.5, 0.97], [3.5, 2.5, 0.979]], "accuracy": 0.979}]
    result = job.summary({"a": runs})
    assert result["seconds_to"]["a"] == {"97%": 1.75, "98%": None, "99%": None}, "one run never got there"
    assert result["training_seconds_to"]["a"]["97%"] == 1.0
    assert result["median_s"]["a"] == 8.0


# --- costs ------------------------------------------------------------------------------------------------------------


def test_what_a_package_requires_is_counted_with_it(load: Any) -> None:
    footprint = load("footprint")
    assert {"tensorlite", "numpy", "tqdm"} <= footprint.requirements("tensorlite")
    assert {"pooch", "requests", "urllib3"} <= footprint.requirements("pooch")
    assert {"cupy-cuda12x", "pooch"}.isdisjoint(footprint.requirements("tensorlite")), "extras are not required"
    sizes = footprint.sizes(["numpy", "tensorlite"])
    assert 1e6 < sizes["tensorlite"] - sizes["numpy"] < 20e6


# --- pages ------------------------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    return {"cpu": "A CPU", "threads": 2, "memory_gb": 8.0, "cores": 2, "load": 0.1, "system": "Linux-6",
            "python": "3.11", "versions": {"numpy": "2.4", "torch": "2.13"}, "commit": "abc123",
            "date": "2026-01-02T03:04:05+00:00"}


def records() -> dict[str, Any]:
    """One small record of each benchmark, as the scripts write them."""
    labels = {"tensorlite-captured": "tensorlite, captured", "torch": "torch, eager", "numpy": "NumPy by hand"}
    row = {"hidden": 16, "batch": 16, "median_us": {"tensorlite-captured": 40.0, "torch": 80.0, "numpy": 90.0},
           "median_us_reading_each_loss": {"tensorlite-captured": 41.0, "torch": 81.0, "numpy": 91.0},
           "fastest_rival": "torch", "ratio": {"tensorlite-captured": 0.5, "torch": 1.0, "numpy": 1.1},
           "ratio_of_minima": {"tensorlite-captured": 0.52, "torch": 1.0, "numpy": 1.1},
           "denormal_share": {"tensorlite-captured": 0.0}}
    names = ["tensorlite", "torch"]
    runs = {name: [{"seconds": 4.0 + i, "points": [[2.0, 1.0, 0.96], [4.0 + i, 3.0, 0.981]], "accuracy": 0.981}]
            for i, name in enumerate(names)}
    job = {"hidden": [256, 128], "epochs": 2, "reach": 0, "median_s": {"tensorlite": 4.0, "torch": 5.0},
           "accuracy": dict.fromkeys(names, 0.981), "runs": runs,
           "seconds_to": {name: {"97%": 4.0, "98%": 4.0, "99%": None} for name in names}}
    grown = {name: {"us": [50.0, 500.0], "bytes": [1e5, 3e6]} for name in ("tensorlite-captured", "torch")}
    speeds = {"tensorlite": {"gb_per_s": 9.0}, "tensorlite-numpy": {"gb_per_s": 3.0}, "torch": {"missing": "why"}}
    return {
        "train_step": {**environment(), "labels": labels, "missing": {}, "rows": [row],
                       "grid": [{**row, "hidden": 64, "batch": 1}]},
        "mnist_job": {**environment(), "sample": False, "jobs": {"five-epochs": job},
                      "labels": {"tensorlite": "tensorlite, captured", "torch": "torch"}},
        "growth": {**environment(), "labels": labels, "axes": {"depth": {"points": [1, 10], "measured": grown}}},
        "cpu_bandwidth": {**environment(), "elements": [64], "copy": {"64": {"gb_per_s": 10.0}},
                          "rows": [{"row": "relu", "elements": 64, "measured": speeds}]},
        "footprint": {**environment(), "import_s": {"numpy": 0.1, "tensorlite": 0.13},
                      "installed_bytes": {"numpy": 5e7, "tensorlite": 6e7}, "peak_bytes": {"tensorlite": 6e7}},
        "denormals": {**environment(), "rows": [{"label": "torch", "normal_us": 100.0, "denormal_us": 450.0}]},
    }


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A folder with a page, a README and charts made of the records."""
    pytest.importorskip("matplotlib")
    for name, record in records().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    marks = re.findall(r"<!-- written by benchmarks/report.py.*?-->\n", (ROOT / "README.md").read_text())
    (tmp_path / "README.md").write_text(f"before\n{marks[0]}old figures\n{marks[1]}after\n")
    finished = run("report.py", "--results", str(tmp_path), "--page", str(tmp_path / "page.md"), "--readme",
                   str(tmp_path / "README.md"), "--images", str(tmp_path / "images"))
    assert finished.returncode == 0, finished.stderr
    return tmp_path


def test_the_page_shows_what_the_records_say_and_where_that_was_measured(reported: Path) -> None:
    page = (reported / "page.md").read_text()
    for cell in ("| 40 µs |", "| **0.50** (0.52) |", "| 1.25 | 98.10% | 4.00 s | 4.00 s | - |", "| 500 µs, 3.0 MB |",
                 "| relu | 9.0 | 3.0 | - |", "| tensorlite | 130 ms | 60.0 MB | 60 MB |", "| 450 µs | 4.50 |"):
        assert cell in page, cell
    where = "A CPU, 2 threads, 8.0 GB; Linux, Python 3.11, numpy 2.4, torch 2.13; commit abc123, 2026-01-02"
    assert page.count(where) == 7
    assert "busy" not in page.partition("## A training step")[2].partition("brackets")[0]
    charts = set(re.findall(r"images/(\w+)\.svg", page))
    assert charts == {path.stem for path in (reported / "images").iterdir()}, "every chart is shown, and drawn"


def test_charts_name_what_they_show(reported: Path) -> None:
    step = (reported / "images" / "train_step.svg").read_text()
    assert all(text in step for text in ("tensorlite, captured", "40 µs", "0.50 x torch", "commit abc123"))
    assert "torch 5.0 s" in (reported / "images" / "mnist.svg").read_text()


def test_the_readme_changes_between_its_marks_alone(reported: Path) -> None:
    text = (reported / "README.md").read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n")
    assert "old figures" not in text and "| 40 µs |" in text


def test_a_readme_without_marks_is_left_alone(reported: Path) -> None:
    (reported / "README.md").write_text("no marks")
    finished = run("report.py", "--results", str(reported), "--page", str(reported / "page.md"), "--readme",
                   str(reported / "README.md"), "--images", str(reported / "images"))
    assert finished.returncode == 1 and "needs both marks" in finished.stderr
    assert (reported / "README.md").read_text() == "no marks"


def test_a_busy_machine_is_named(load: Any) -> None:
    report = load("report")
    assert "busy" not in report.measured_on(environment())
    assert "the machine was busy, load 7.0" in report.measured_on({**environment(), "load": 7.0})


def test_a_benchmark_that_hangs_is_ended_and_named(load: Any, tmp_path: Path) -> None:
    runner = load("run")
    (tmp_path / "sleep.py").write_text(f"import time; time.sleep(3); open({str(tmp_path / 'sign')!r}, 'w')")
    hanging = runner.Benchmark(str(tmp_path / "sleep.py"), limit=0.5)
    assert runner.run("sleep", hanging, (), tmp_path) == "took more than 0 s"
    time.sleep(3)
    assert not (tmp_path / "sign").exists(), "it is ended, not waited for"
    failing = runner.Benchmark(str(tmp_path / "missing.py"), limit=30)
    assert runner.run("missing", failing, (), tmp_path) == "ended with status 2"


def test_all_of_make_bench_fits_into_its_time(load: Any) -> None:
    assert sum(benchmark.limit for benchmark in load("run").BENCHMARKS.values()) <= 20 * 60
