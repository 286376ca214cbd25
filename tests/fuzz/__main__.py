"""The command: `PYTHONPATH=tests python -m fuzz ops --seed 7 --cases 100000`."""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import tensorlite as tl
from fuzz.captured import Capture
from fuzz.graphs import Graphs
from fuzz.indexing import Indexing
from fuzz.modules import Modules
from fuzz.ops import Ops
from fuzz.optimizers import Optimizers
from fuzz.tally import Tally
from tensorlite.backends import host

GENERATORS: dict[str, Any] = {g.name: g for g in (Ops, Graphs, Indexing, Capture, Modules, Optimizers)}
BUDGET = {"ops": 60_000, "graphs": 1500, "index": 10_000, "capture": 400, "modules": 4000, "optim": 3000}


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument(
        "generator", choices=[*GENERATORS, "all"], help="all: each for the number of cases that CI runs"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, help="stop after so many")
    parser.add_argument("--seconds", type=float, default=math.inf, help="or after so long")
    parser.add_argument("--only", type=int, help="make this case alone")
    parser.add_argument("--names", nargs="*", help="ops: only these functions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many")
    parser.add_argument("--json", type=Path, help="where to keep the tally, also while the run goes on")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; 1 if something differs."""
    options = parsed(arguments)
    torch.set_num_threads(1)
    if options.device == "cpu" and host.is_available():
        tl.compile_kernels()
    names = [*GENERATORS] if options.generator == "all" else [options.generator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what a program does: complex numbers, dropout of one dimension
        tallies = [run(name, options) for name in names]
    return int(any(tally.failures for tally in tallies))


def run(name: str, options: argparse.Namespace) -> Tally:
    """One generator, until one of the limits is reached."""
    extra = {"names": tuple(options.names)} if options.names else {}
    generator = GENERATORS[name](options.seed, options.device, **extra)
    tally: Tally = generator.tally
    cases = options.cases or (BUDGET[name] if options.generator == "all" else sys.maxsize)
    start = shown = time.perf_counter()
    for number in range(cases) if options.only is None else [options.only]:
        generator.run(number)
        now = time.perf_counter() if number % 64 == 0 else shown
        if now - shown > 60:
            shown = now
            report(tally, options.json)
        if now - start > options.seconds or len(tally.failures) >= options.failures:
            break
    for failure in tally.failures:
        print(failure, end="\n\n")
    report(tally, options.json)
    return tally


def report(tally: Tally, path: Path | None) -> None:
    print(tally, flush=True)
    if path is not None:
        tally.save(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
