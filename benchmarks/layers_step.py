"""One training step of LeNet and of a small GPT (Adam, cross entropy), in tensorlite and torch, with its memory.

    python benchmarks/layers_step.py                        # both models, all subjects
    python benchmarks/layers_step.py --models gpt --threads 1 --rounds 9

Each subject sits in a process of its own with the same threads, data, initial weights and batch order; the parent lets
them take turns. Before any timing the losses of the first steps must agree: all do the same.

Reported are the median step of each subject, and the median over rounds of each one's step divided by eager torch's; in
brackets the ratio of the quickest rounds. The memory of a step is the process's largest resident set during the first
steps, less what was resident when model, data and optimizer stood: gradients, activations, optimizer state, and what a
recording or a compiled step keeps. It is read in processes of their own, which do nothing else.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import common
import layers
import subjects
from growth import peak_bytes
from layers import MODELS

MEMORY_STEPS = 5
CHECKED_STEPS = 4
BASE = "torch"


class _Layers:
    """A subject of subjects.py that trains one of `MODELS`."""

    def setup(self, model: str, seed: int = 0) -> str | None:
        """Model, optimizer and data, ready for the first step; what the library lacks, if it does."""
        self.model_name, self.seed, self.learning_rate, self.estimate = model, seed, 1e-3, 0.0
        random = np.random.default_rng(seed + 1)
        try:
            self.prepare([MODELS[model].batch(random) for _ in range(subjects.BATCHES)])  # type: ignore[attr-defined]
        except Exception as error:  # a layer or a compiler that is not there
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return None

    def network(self) -> Any:
        return layers.built(self.lib, self.model_name, self.seed)  # type: ignore[attr-defined]

    def memory(self, steps: int) -> int:
        """The bytes by which the resident set grew at most in so many steps."""
        before = resident_bytes()
        forget_peak()
        for number in range(steps):
            self.step(number)  # type: ignore[attr-defined]
        return peak_bytes_since() - before


class Eager(_Layers, subjects.Eager):
    """The step that users of tensorlite and of torch write."""


class Captured(_Layers, subjects.Captured):
    """tensorlite's step as `tl.capture` records and replays it."""


class TorchCompile(_Layers, subjects.TorchCompile):
    """torch with forward and backward compiled."""


SUBJECTS: dict[str, Any] = {
    "tensorlite-captured": Captured,
    "tensorlite": lambda: Eager(common.SUBJECT),
    "torch": lambda: Eager(common.RIVAL),
    "torch-compile": TorchCompile,
}


# --- memory ----------------------------------------------------------------------------------------------------------


def _status(field: str) -> int | None:
    """A line of what Linux tells of this process, in bytes."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def resident_bytes() -> int:
    """What is resident now; where the system does not tell, the most that ever was."""
    return _status("VmRSS") or peak_bytes()


def forget_peak() -> None:
    """Have Linux begin anew with the largest resident set, which importing may have set."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_bytes_since() -> int:
    """The largest resident set since `forget_peak`."""
    return _status("VmHWM") or peak_bytes()


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times in turns, then the memory of each subject."""
    workers, missing, losses = {}, {}, {}
    for name in options.subjects:
        worker = subjects.start(__file__, name, options.threads)
        reason = worker.ask(do="setup", model=model, seed=options.seed)
        if reason:
            missing[name] = reason
            worker.close()
        else:
            workers[name] = worker
            losses[name] = worker.ask(do="losses", steps=CHECKED_STEPS)
    names = list(workers)
    differences = {name: subjects.disagreement(values, losses[names[0]]) for name, values in losses.items()}
    if not max(differences.values(), default=0.0) < 1e-3:
        raise SystemExit(f"the libraries disagree about {model}: {differences}: {losses}")
    times = common.take_turns(names, options.rounds, lambda name: workers[name].ask(
        do="turn", seconds=options.seconds), options.pause)
    for worker in workers.values():
        worker.close()
    row = {
        "model": model,
        "label": MODELS[model].label,
        "median_us": {name: statistics.median(values) for name, values in times.items()},
        "minimum_us": {name: min(values) for name, values in times.items()},
        "loss_differences": differences,
        "missing": missing,
        "memory_bytes": {name: memory(name, model, options) for name in names},
        "rounds_us": times,
    }
    if BASE in times:
        row["ratio"] = {name: statistics.median(a / b for a, b in zip(times[name], times[BASE], strict=True))
                        for name in names}
        row["ratio_of_minima"] = {name: min(times[name]) / min(times[BASE]) for name in names}
        row["ratio_of_memory"] = {name: used / row["memory_bytes"][BASE] for name, used in row["memory_bytes"].items()}
    return row


def memory(name: str, model: str, options: argparse.Namespace) -> int:
    """The memory of a step, in a process of its own."""
    worker = subjects.start(__file__, name, options.threads)
    worker.ask(do="setup", model=model, seed=options.seed)
    used: int = worker.ask(do="memory", steps=MEMORY_STEPS)
    worker.close()
    return used


def print_row(row: dict[str, Any]) -> None:
    print(row["label"])
    for name, value in row["median_us"].items():
        ratio = f"   {row['ratio'][name]:5.2f} ({row['ratio_of_minima'][name]:.2f})" if "ratio" in row else ""
        print(f"    {subjects.SUBJECTS[name].label:28} {value / 1e3:8.2f} ms{ratio}"
              f"   {row['memory_bytes'][name] / 1e6:7.1f} MB", flush=True)
    for name, reason in row["missing"].items():
        print(f"    left out: {name}: {reason}")


def main() -> None:
    parser = common.argument_parser(__doc__, "layers_step.json")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    common.add_turns(parser, rounds=11, seconds=0.5)
    parser.add_argument("--worker", choices=SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(SUBJECTS[options.worker]())
        return
    common.use_cores(options.threads)
    absent = {name: reason for name in options.subjects if (reason := subjects.why_missing(name, "cpu"))}
    options.subjects = [name for name in options.subjects if name not in absent]
    record: dict[str, Any] = {**common.environment(options.threads), "labels": subjects.labels(options.subjects),
                              "missing": absent, "rows": []}
    print(f"{options.threads} threads; a step, its ratio to {subjects.SUBJECTS[BASE].label}, its memory", flush=True)
    for model in options.models:
        record["rows"].append(measure(model, options))
        print_row(record["rows"][-1])
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
