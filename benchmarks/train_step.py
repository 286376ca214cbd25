"""One training step of an MLP (784-h-h-10, Adam, cross entropy) in microseconds, in tensorlite and its rivals.

    python benchmarks/train_step.py                             # four sizes with all subjects, then a grid with three
    python benchmarks/train_step.py --sizes 16/16 --rounds 31 --grid none
    python benchmarks/train_step.py --grid full                 # every size from 1 to 4096

Each subject (subjects.py) sits in a process of its own with the same threads, data, initial weights and batch order;
the parent lets them take turns. Before any timing the losses of the first steps must agree: all do the same.

Reported are the median step of each subject, and the median over rounds of each one's step divided by that of the
fastest rival; in brackets the ratio of the quickest rounds: where the two differ, something else was running on the
machine. The loss of a turn's last step is read, and all work waited for, before the clock stops. A second, shorter pass
reads the loss after every step: that costs those nothing who do not queue work ahead, and JAX something.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from typing import Any

import common
import subjects
from subjects import RIVALS, SUBJECTS

OURS = ("tensorlite-captured", "tensorlite-numpy")
SIZES = ("16/16", "128/64", "256/128", "1024/512")
GRID_SUBJECTS = (OURS[0], "torch", "jax")
GRIDS = {
    "none": [],
    "few": [(16, 1), (64, 16), (256, 1), (256, 1024), (1024, 16), (1024, 128), (4096, 16)],
    "full": [*itertools.product((16, 64, 256, 1024, 4096), (1, 16, 128, 1024, 4096))],
}
CHECKED_STEPS = 8  # of wide networks, the rounding of more grows beyond what a mistake would show
ON_CPU = [name for name, subject in SUBJECTS.items() if "cpu" in subject.devices]


def fastest(medians: dict[str, float]) -> str | None:
    """The rival with the shortest step."""
    return min((name for name in medians if name in RIVALS), key=medians.__getitem__, default=None)


def measure(workers: dict[str, common.Worker], hidden: int, batch: int, options: argparse.Namespace,
            rounds: int, read_rounds: int) -> dict[str, Any]:
    """Rounds in turns for one size."""
    differences = prepare(workers, hidden, batch, options.seed)
    names = list(workers)

    def turns(count: int, read_each: bool) -> dict[str, list[float]]:
        return common.take_turns(names, count, lambda name: workers[name].ask(
            do="turn", seconds=options.seconds, read_each=read_each), options.pause)

    times, reading = turns(rounds, False), turns(read_rounds, True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    row = {
        "hidden": hidden,
        "batch": batch,
        "median_us": medians,
        "minimum_us": {name: min(values) for name, values in times.items()},
        "median_us_reading_each_loss": {name: statistics.median(values) for name, values in reading.items() if values},
        "loss_differences": differences,
        "denormal_share": {name: worker.ask(do="denormals") for name, worker in workers.items()},
        "rounds_us": times,
    }
    rival = fastest(medians)
    if rival:
        row["fastest_rival"] = rival
        row["ratio"] = {name: statistics.median(a / b for a, b in zip(times[name], times[rival], strict=True))
                        for name in names}
        row["ratio_of_minima"] = {name: min(times[name]) / min(times[rival]) for name in names}
    return row


def prepare(workers: dict[str, common.Worker], hidden: int, batch: int, seed: int) -> dict[str, float]:
    """Set all up, and compare the losses of the first steps; more difference than float32 explains is an error."""
    sizes = [784, hidden, hidden, 10]
    losses = {}
    for name, worker in workers.items():
        worker.ask(do="setup", sizes=sizes, batch=batch, seed=seed)
        losses[name] = worker.ask(do="losses", steps=CHECKED_STEPS)
    first = next(iter(losses.values()))
    differences = {name: subjects.disagreement(values, first) for name, values in losses.items()}
    if not max(differences.values()) < 1e-3:
        raise SystemExit(f"the libraries disagree at hidden {hidden}, batch {batch}: {differences}: {losses}")
    return differences


def print_row(row: dict[str, Any]) -> None:
    """Medians, each with what it is when every loss is read; then the ratio to the fastest rival."""
    print(f"hidden {row['hidden']}, batch {row['batch']}")
    for name, value in row["median_us"].items():
        reading = row["median_us_reading_each_loss"].get(name)
        print(f"    {SUBJECTS[name].label:40} {value:10.1f} us" + (f"   {reading:10.1f} us" if reading else ""))
    for name in OURS:
        if name in row.get("ratio", {}):
            print(f"    {SUBJECTS[name].label} / {SUBJECTS[row['fastest_rival']].label}: {row['ratio'][name]:.2f} "
                  f"({row['ratio_of_minima'][name]:.2f})", flush=True)
    for name, share in row["denormal_share"].items():
        if share > 1e-4:
            print(f"    {name}: {share:.2%} of gradients and state are denormal", flush=True)


def main() -> None:
    parser = common.argument_parser(__doc__, "train_step.json")
    parser.add_argument("--sizes", nargs="*", default=SIZES, metavar="HIDDEN/BATCH")
    parser.add_argument("--subjects", nargs="+", default=ON_CPU, choices=ON_CPU)
    parser.add_argument("--grid", default="few", choices=GRIDS)
    common.add_turns(parser, rounds=15, seconds=0.12)
    parser.add_argument("--worker", choices=ON_CPU, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(SUBJECTS[options.worker].make())
        return
    common.use_cores(options.threads)
    missing = {name: reason for name in options.subjects if (reason := subjects.why_missing(name, "cpu"))}
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    names = [name for name in options.subjects if name not in missing]
    workers = {name: subjects.start(__file__, name, options.threads) for name in names}
    print(f"{options.threads} threads; microseconds a step, and when every loss is read", flush=True)
    record = {**common.environment(options.threads), "labels": subjects.labels(names), "missing": missing,
              "rows": [], "grid": []}
    for size in options.sizes:
        hidden, batch = map(int, size.split("/"))
        record["rows"].append(measure(workers, hidden, batch, options, options.rounds, max(3, options.rounds // 3)))
        print_row(record["rows"][-1])
    some = {name: worker for name, worker in workers.items() if name in GRID_SUBJECTS}
    for hidden, batch in GRIDS[options.grid]:
        record["grid"].append(measure(some, hidden, batch, options, max(3, options.rounds // 3), 0))
        print_row(record["grid"][-1])
    record["config"] = {name: config for name, worker in workers.items() if (config := worker.ask(do="config"))}
    for worker in workers.values():
        worker.close()
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
