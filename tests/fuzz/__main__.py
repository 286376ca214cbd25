"""The command: `PYTHONPATH=tests python -m fuzz ops --seed 7 --cases 100000`."""

from __future__ import annotations

import argparse
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

GENERATORS: dict[str, Any] = {g.name: g for g in (Ops, Graphs, Indexing, Capture, Modules, Optimizers)}


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("generator", choices=[*GENERATORS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--seconds", type=float, default=1e9, help="or after so long")
    parser.add_argument("--only", type=int, help="make this case alone, and print it")
    parser.add_argument("--names", nargs="*", help="only these functions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many")
    parser.add_argument("--json", type=Path, help="where to keep the tally, also while the run goes on")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if not options.device.startswith("cuda:sim"):
        tl.compile_kernels()
    extra = {"names": tuple(options.names)} if options.names else {}
    generator = GENERATORS[options.generator](options.seed, options.device, **extra)
    tally = generator.tally
    start = shown = time.perf_counter()
    numbers = range(options.cases) if options.only is None else [options.only]
    for number in numbers:
        generator.run(number)
        now = time.perf_counter() if number % 64 == 0 else shown
        if now - shown > 60:
            shown = now
            print(tally, flush=True)
            if options.json:
                tally.save(options.json)
        if now - start > options.seconds or len(tally.failures) >= options.failures:
            break
    for failure in tally.failures:
        print(failure, end="\n\n")
    if options.json:
        tally.save(options.json)
    print(tally)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
