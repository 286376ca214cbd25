"""All benchmarks of the CPU, one after the other, and the page made of them: what `make bench` runs.

    python benchmarks/run.py                    # about ten minutes on two cores
    python benchmarks/run.py --quick            # two or three: the same, fewer rounds
    python benchmarks/run.py --full             # up to an hour: training steps of every size from 1 to 4096
    python benchmarks/run.py --only train_step mnist_job

A benchmark that fails, or takes more than its limit, is named at the end, and the others run all the same; its last
record stays. Nothing else should run on the machine meanwhile: a busy one is said to be so.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
BUSY = 0.5  # load a minute before, above which figures would be of the neighbours


class Benchmark(NamedTuple):
    """A script, its options, those for a hurry and for all the time in the world, and the seconds until it is ended."""

    script: str
    limit: float
    options: Sequence[str] = ()
    quick: Sequence[str] = ()
    full: Sequence[str] = ()


BENCHMARKS = {
    "train_step": Benchmark("train_step.py", 370, quick=("--rounds", "5", "--seconds", "0.08", "--grid", "none"),
                            full=("--grid", "full")),
    "layers_step": Benchmark("layers_step.py", 140,
                             quick=("--rounds", "3", "--subjects", "tensorlite-captured", "torch")),
    "mnist_job": Benchmark("mnist_job.py", 330, quick=("--jobs", "five-epochs", "--runs", "1")),
    "growth": Benchmark("growth.py", 110, quick=("--seconds", "0.02")),
    "cpu_bandwidth": Benchmark("op_bandwidth.py", 100, ("--device", "cpu", "--seconds", "75"),
                               quick=("--elements", "262144")),
    "footprint": Benchmark("footprint.py", 90, quick=("--rounds", "2")),
    "denormals": Benchmark("denormals.py", 60, quick=("--rounds", "2", "--steps", "20")),
}
FULL_TIMES = 10  # by which the limits grow with --full


def run(name: str, benchmark: Benchmark, options: Sequence[str], results: Path) -> str | None:
    """Run one, its output shown; what went wrong, if anything did."""
    print(f"\n--- {name}", flush=True)
    command = [sys.executable, str(FOLDER / benchmark.script), *benchmark.options, *options]
    process = subprocess.Popen([*command, "--json", str(results / f"{name}.json")], start_new_session=True)
    try:
        status = process.wait(benchmark.limit)
    except subprocess.TimeoutExpired:
        return f"took more than {benchmark.limit:.0f} s"
    finally:
        if process.poll() is None:  # out of time, or interrupted: with all the workers
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"ended with status {status}" if status else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="fewer rounds; the figures are rougher")
    effort.add_argument("--full", action="store_true", help="every size of the training step")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--no-report", action="store_true", help="leave page, charts and README as they are")
    options = parser.parse_args()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
        print(f"the machine is busy, load {os.getloadavg()[0]:.1f}: the figures will say so too", flush=True)
    begun = time.monotonic()
    failures = {}
    for name in options.only:
        start = time.monotonic()
        benchmark = BENCHMARKS[name]
        extra = benchmark.quick if options.quick else benchmark.full if options.full else ()
        if options.full:
            benchmark = benchmark._replace(limit=benchmark.limit * FULL_TIMES)
        failure = run(name, benchmark, extra, options.results.resolve())
        print(f"({time.monotonic() - start:.0f} s)", flush=True)
        if failure:
            failures[name] = failure
    if not options.no_report:
        subprocess.run([sys.executable, str(FOLDER / "report.py"), "--results", str(options.results)], check=True)
    print(f"{time.monotonic() - begun:.0f} s in all")
    for name, failure in failures.items():
        print(f"{name}: {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
