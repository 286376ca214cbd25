"""One eager training step of an MLP (784-h-h-10, Adam, cross entropy) in microseconds, beside torch's.

    python benchmarks/train_step.py                       # the four sizes, all cores
    python benchmarks/train_step.py --sizes 16/16 --rounds 31

Each library sits in a process of its own with the same threads, data, initial weights and batch order; the
parent lets them take turns of about 0.15 s. Before any timing the losses of the first steps must agree: both
do the same mathematics. Reported are each library's median step and the median of the per-round ratios; in
brackets the ratio of the quickest rounds: where the two differ, something else was running on the machine.
`torch` is torch's default Adam; `torch-fused` its Adam(fused=True).
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from typing import Any

import numpy as np

import common

SIZES = ("16/16", "128/64", "256/128", "1024/512")
BATCHES = 8
CHECKED_STEPS = 20


class Session:
    """A worker's state: a model, its optimizer and a cycle of batches."""

    def __init__(self, subject: str) -> None:
        library, self.adam_options = common.SUBJECTS[subject]
        self.lib = importlib.import_module(library)

    def setup(self, hidden: int, batch: int, seed: int) -> bool:
        """A fresh model, optimizer and data for one size."""
        lib = self.lib
        self.model = common.build_mlp(lib, (784, hidden, hidden, 10), seed)
        self.optimizer = lib.optim.Adam(self.model.parameters(), lr=1e-3, **self.adam_options)
        generator = np.random.default_rng(seed + 1)
        self.batches = []
        for _ in range(BATCHES):
            x = generator.standard_normal((batch, 784), dtype=np.float32)
            y = generator.integers(0, 10, batch)
            self.batches.append((lib.from_numpy(x), lib.from_numpy(y)))
        return True

    def step(self, x: Any, y: Any) -> Any:
        """The step that both libraries' users write."""
        self.optimizer.zero_grad()
        loss = self.lib.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, steps: int) -> list[float]:
        """The losses of the next steps, for the check that both libraries do the same."""
        return [self.step(*self.batches[i % BATCHES]).item() for i in range(steps)]

    def run(self, steps: int) -> float:
        """Microseconds a step, after a few untimed ones that wake the thread pools."""
        step, batches = self.step, self.batches
        for i in range(3):
            step(*batches[i])
        start = time.perf_counter()
        for i in range(steps):
            step(*batches[i % BATCHES])
        return (time.perf_counter() - start) / steps * 1e6


def check_same_losses(losses: dict[str, list[float]]) -> float:
    """The largest relative difference between the libraries; more than float32 explains is an error."""
    columns = np.array(list(losses.values()))
    difference = float((np.ptp(columns, axis=0) / columns.max(axis=0)).max())
    if not difference < 1e-3:
        raise SystemExit(f"the libraries disagree: losses differ by {difference:.2e}: {losses}")
    return difference


def measure(workers: list[common.Worker], size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds in turns for one size, each round beginning with another library."""
    hidden, batch = map(int, size.split("/"))
    for worker in workers:
        worker.ask(do="setup", hidden=hidden, batch=batch, seed=options.seed)
    difference = check_same_losses({w.subject: w.ask(do="losses", steps=CHECKED_STEPS) for w in workers})
    guess = max(worker.ask(do="run", steps=10) for worker in workers)
    steps = max(5, round(options.seconds * 1e6 / guess))
    times: dict[str, list[float]] = {worker.subject: [] for worker in workers}
    for turn in range(options.rounds):
        for place in range(len(workers)):
            worker = workers[(turn + place) % len(workers)]
            time.sleep(options.pause)  # the previous library's thread pool spins a while before it sleeps
            times[worker.subject].append(worker.ask(do="run", steps=steps))
    first, *others = (worker.subject for worker in workers)
    ratios = {
        other: statistics.median(a / b for a, b in zip(times[first], times[other], strict=True))
        for other in others
    }
    return {
        "size": size,
        "steps_per_round": steps,
        "loss_difference": difference,
        "measured": first,
        "median_us": {subject: statistics.median(values) for subject, values in times.items()},
        "minimum_us": {subject: min(values) for subject, values in times.items()},
        "ratio_to": ratios,
        "ratio_of_minima_to": {other: min(times[first]) / min(times[other]) for other in others},
        "rounds_us": times,
    }


def print_row(row: dict[str, Any]) -> None:
    """One line a size: medians, then ratios, in brackets those of the quickest rounds."""
    medians = "  ".join(f"{subject} {value:8.1f} us" for subject, value in row["median_us"].items())
    minima = row["ratio_of_minima_to"]
    ratios = "  ".join(
        f"{row['measured']}/{rival} {value:.2f} ({minima[rival]:.2f})" for rival, value in row["ratio_to"].items()
    )
    print(f"hidden/batch {row['size']:>9}:  {medians}  |  {ratios}", flush=True)


def main() -> None:
    parser = common.argument_parser(__doc__, "train_step.json")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HIDDEN/BATCH")
    known = list(common.SUBJECTS)
    parser.add_argument("--subjects", nargs="+", default=known, choices=known)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.15, help="length of a turn")
    parser.add_argument("--pause", type=float, default=0.05, help="rest before a turn, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=known, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        session = Session(options.worker)
        common.serve({"setup": session.setup, "losses": session.losses, "run": session.run})
        return
    subjects = [s for s in options.subjects if common.installed(common.SUBJECTS[s][0])]
    for missing in sorted(set(options.subjects) - set(subjects)):
        print(f"left out, not installed: {missing}")
    print(f"{options.threads} threads, {options.rounds} rounds a library, in turns")
    workers = [common.Worker(__file__, subject, options.threads) for subject in subjects]
    rows = []
    for size in options.sizes:
        rows.append(measure(workers, size, options))
        print_row(rows[-1])
    for worker in workers:
        worker.close()
    common.write_json(options.json, {**common.environment(options.threads), "rows": rows})


if __name__ == "__main__":
    main()
