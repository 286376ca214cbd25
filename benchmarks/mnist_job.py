"""The whole MNIST job, from the start of the process to 97, 98 and 99 % of the test digits right: wall time.

    TENSORLITE_DATA=folder python benchmarks/mnist_job.py               # both jobs
    python benchmarks/mnist_job.py --jobs five-epochs --runs 9
    python benchmarks/mnist_job.py --device cuda --jobs five-epochs

Two recipes, each the same in every library: plain MLPs with ReLU, Adam, batches of 128, a learning rate that rises over
the first tenth of the steps and falls linearly to zero. `five-epochs` trains 784-256-128-10 and reaches 98 %;
`99-percent` trains 784-512-512-10 for 12 epochs on digits moved by up to one pixel, with label smoothing 0.1, and
reaches 99.08 to 99.18 % (seeds 0 to 3 of tensorlite).

Every run is a fresh process: imports, compiling, reading the four gzipped files, training and a test after each epoch
all count. Initial weights, order and shifts are drawn by NumPy and are the same for all. Digits stay on the device as
bytes; a batch is gathered and made floats there. A process finds what earlier ones compiled; the variants that do not
(`-cold`), or may not compile at all, run once. tensorlite captures its step; torch runs eagerly with its fused Adam,
for compiling costs it more than it gains here; JAX scans over an epoch in one jitted function.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import common
import gpu_common
import mnist_trainers
from mnist_trainers import JOBS, TRAINERS, Job


class Variant(NamedTuple):
    """A library and the environment of its processes. One that is not `main` runs once, and the first job alone."""

    label: str
    library: str
    main: bool = True
    cold: bool = False
    environment: tuple[tuple[str, str], ...] = ()


VARIANTS = {
    "tensorlite": Variant("tensorlite, captured", "tensorlite"),
    "torch": Variant("torch, eager, fused Adam", "torch"),
    "jax": Variant("JAX, scan in jit", "jax"),
    "tensorlite-numpy": Variant("tensorlite, captured, without a compiler", "tensorlite", False,
                                environment=(("TENSORLITE_COMPILED", "0"),)),
    "jax-cold": Variant("JAX, nothing compiled before", "jax", False, True),
    "tensorlite-cold": Variant("tensorlite, nothing compiled before", "tensorlite", False, True),
}
CACHES = ("TENSORLITE_CACHE", "JAX_COMPILATION_CACHE_DIR")  # variables that name folders of compiled code
RUNS = {"five-epochs": 3, "99-percent": 1}
THRESHOLDS = (0.97, 0.98, 0.99)
BUILD = "import tensorlite; tensorlite.compile_kernels()"


def worker(subject: str, job: Job, device: str, seed: int, started: float) -> None:
    """Train and print what happened: a point (seconds since the start, of them in training, accuracy) per epoch."""
    points = [(time.time() - started, training, accuracy)
              for training, accuracy in mnist_trainers.train(subject, job, device, seed)]
    print(json.dumps(points))


def run(name: str, job: Job, options: argparse.Namespace, warm_cache: str) -> dict[str, Any]:
    """One fresh process: its wall time, and the accuracy after each epoch with the time when it was reached."""
    variant = VARIANTS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        environment = {**common.process_environment(options.threads), "JAX_COMPILATION_CACHE_DIR": warm_cache,
                       "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **dict(variant.environment)}
        if variant.cold:
            environment.update(dict.fromkeys(CACHES, empty))
        own = variant.library == common.SUBJECT
        device = options.device if own else gpu_common.rivals_device(options.device)
        command = [sys.executable, __file__, "--worker", variant.library, "--recipe", json.dumps(job._asdict()),
                   "--seed", str(options.seed), "--device", device]
        start = time.time()
        finished = subprocess.run([*command, "--started", repr(start)], stdout=subprocess.PIPE, text=True, check=True,
                                  env=environment)
        seconds = time.time() - start
    points = json.loads(finished.stdout.splitlines()[-1])
    return {"seconds": seconds, "points": points, "accuracy": points[-1][2]}


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over runs of the wall time, and of the time to each accuracy where every run reached it."""
    result: dict[str, Any] = {"median_s": {}, "accuracy": {}, "seconds_to": {}, "training_seconds_to": {}}
    for subject, made in runs.items():
        result["median_s"][subject] = statistics.median(run["seconds"] for run in made)
        result["accuracy"][subject] = statistics.median(run["accuracy"] for run in made)
        for column, key in enumerate(("seconds_to", "training_seconds_to")):
            result[key][subject] = {f"{share:.0%}": median_time(made, share, column) for share in THRESHOLDS}
    return result


def median_time(made: list[dict[str, Any]], threshold: float, column: int) -> float | None:
    """When a test first had so many digits right: since the process's start (column 0), or of training (1)."""
    times = [next((point[column] for point in run["points"] if point[2] >= threshold), None) for run in made]
    known = [value for value in times if value is not None]
    return statistics.median(known) if len(known) == len(times) else None


def measure(job: str, names: list[str], count: int, options: argparse.Namespace, warm_cache: str) -> dict[str, Any]:
    """All runs of one job, in turns."""

    def one(name: str) -> dict[str, Any]:
        made = run(name, recipe(job, options), options, warm_cache)
        print(f"{job}: {VARIANTS[name].label:42} {made['seconds']:7.2f} s, {made['accuracy']:.2%} right", flush=True)
        return made

    return common.take_turns(names, count, one)


def warm_up(options: argparse.Namespace, warm_cache: str) -> None:
    """Have the libraries compile what later processes find."""
    if "tensorlite" in options.subjects and options.device == "cpu":
        subprocess.run([sys.executable, "-c", BUILD], check=True, env=common.process_environment(options.threads))
    if "jax" in options.subjects:
        for job in options.jobs:
            run("jax", recipe(job, options)._replace(epochs=1), options, warm_cache)


def recipe(job: str, options: argparse.Namespace) -> Job:
    """The job's recipe, with what the options change in it."""
    changes = {name: value for name in ("epochs", "hidden", "batch", "digits") if (value := getattr(options, name))}
    return JOBS[job]._replace(**changes)


def main() -> None:
    parser = common.argument_parser(__doc__, "mnist_job.json")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--subjects", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "cuda:sim"))
    parser.add_argument("--runs", type=int, help="of each job and library; else 3 of the short job, 1 of the long one")
    for name in ("epochs", "batch", "digits"):
        parser.add_argument(f"--{name}", type=int, help="instead of the job's own")
    parser.add_argument("--hidden", type=int, nargs="+", help="instead of the job's own")
    parser.add_argument("--threads", type=int, default=common.cores())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=list(TRAINERS), help=argparse.SUPPRESS)
    parser.add_argument("--recipe", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, Job(**options.recipe), options.device, options.seed, options.started)
        return
    common.use_cores(options.threads)
    if "TENSORLITE_DATA" not in os.environ:
        print("TENSORLITE_DATA is not set: the sample of 7,000 digits inside the package serves")
    options.subjects = [name for name in options.subjects if not (reason := why_missing(name, options.device))
                        or print(f"left out: {name}: {reason}")]
    main_ones = [name for name in options.subjects if VARIANTS[name].main]
    others = [name for name in options.subjects if not VARIANTS[name].main]
    record = {**gpu_common.environment(options.device), "threads": options.threads, "seed": options.seed,
              "sample": "TENSORLITE_DATA" not in os.environ,
              "labels": {name: VARIANTS[name].label for name in options.subjects}, "jobs": {}}
    with tempfile.TemporaryDirectory() as warm_cache:
        warm_up(options, warm_cache)
        runs = {job: measure(job, main_ones, options.runs or RUNS[job], options, warm_cache) for job in options.jobs}
        runs[options.jobs[0]].update(measure(options.jobs[0], others, 1, options, warm_cache))
    record["jobs"] = {job: {**recipe(job, options)._asdict(), **summary(made), "runs": made}
                      for job, made in runs.items()}
    print_results(record)
    common.write_json(options.json, record)


def why_missing(name: str, device: str) -> str | None:
    """Why a variant cannot be measured on a device; None if it can."""
    if not common.installed(VARIANTS[name].library):
        return "not installed"
    if device != "cpu" and not VARIANTS[name].main:
        return f"not for device {device}"
    return None


def print_results(record: dict[str, Any]) -> None:
    """A line for each job and variant."""
    for job, result in record["jobs"].items():
        for name, seconds in result["median_s"].items():
            training = result["training_seconds_to"][name]
            times = [f"{share} after {value:.2f} s ({training[share]:.2f} s of training and tests)"
                     for share, value in result["seconds_to"][name].items() if value]
            print(f"{job}: {record['labels'][name]}: {seconds:.2f} s in all; "
                  f"{', '.join(times) or 'no threshold reached'}")


if __name__ == "__main__":
    main()
