"""What denormal numbers in Adam's state cost, and what flushing them saves: microseconds a step.

    python benchmarks/denormals.py

Units that died and batches that were learned by heart get gradients of zero, Adam's moments fade, and pass on their way
through the denormal numbers, on which processors are slower: some twice, some a hundred times. Here all hidden units
are dead and all moments are denormal (hidden 256, batch 128): the worst case. The same step with normal numbers stands
beside it.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any, NamedTuple

import common
import subjects
from subjects import SUBJECTS

SIZES, BATCH = [784, 256, 256, 10], 128
TINY = 1e-39  # in float32 a denormal; v fades so slowly that it stays one for thousands of steps
DEAD = -1e3  # the bias of a unit that never fires


class Case(NamedTuple):
    """A subject, and whether it is told to flush denormal numbers."""

    label: str
    subject: str
    flush: bool


CASES = {
    "tensorlite": Case("tensorlite, compiled kernels", "tensorlite-captured", False),
    "numpy": Case("tensorlite, without a compiler", "tensorlite-numpy", False),  # which cannot flush
    "torch": Case("torch, fused Adam", "torch", False),
    "torch-flush": Case("torch, fused Adam, set_flush_denormal(True)", "torch", True),
}


class Fading:
    """A worker's state: a network whose units are dead and whose optimizer's moments are denormal, or a normal one."""

    def __init__(self, name: str) -> None:
        case = CASES[name]
        self.session = SUBJECTS[case.subject].make()
        if case.flush:
            self.session.lib.set_flush_denormal(True)
        self.session.setup(SIZES, BATCH)
        self.session.timed(1)
        self.normal = {key: value.clone() for key, value in self.session.begun.items()}

    def turn(self, steps: int, faded: bool) -> float:
        """Microseconds a step."""
        self.session.moments = TINY if faded else 0.0
        for name, value in self.session.begun.items():
            value.copy_(self.normal[name])
            if faded and name.endswith("bias") and len(value) != SIZES[-1]:
                value.fill_(DEAD)
        return float(self.session.timed(steps)[0])

    def denormals(self) -> float:
        """The share of denormal numbers that the last turn left."""
        return float(self.session.denormals())


def main() -> None:
    parser = common.argument_parser(__doc__, "denormals.json")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=common.cores())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="of a turn")
    parser.add_argument("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(Fading(options.worker))
        return
    common.use_cores(options.threads)
    names = [name for name in options.cases if subjects.why_missing(CASES[name].subject, "cpu") is None]
    workers = {name: common.Worker(__file__, name, options.threads, **dict(SUBJECTS[CASES[name].subject].environment))
               for name in names}
    turns = common.take_turns(names, options.rounds, lambda name: [
        workers[name].ask(do="turn", steps=options.steps, faded=faded) for faded in (False, True)], pause=0.05)
    rows: list[dict[str, Any]] = []
    for name in names:
        normal, faded = (statistics.median(values) for values in zip(*turns[name], strict=True))
        rows.append({"label": CASES[name].label, "normal_us": normal, "denormal_us": faded,
                     "left_denormal": workers[name].ask(do="denormals")})
        workers[name].close()
        print(f"{CASES[name].label:58} {normal:8.0f} us, with denormals {faded:8.0f} us: {faded / normal:.2f} x; "
              f"{rows[-1]['left_denormal']:.0%} still denormal at the end", flush=True)
    common.write_json(options.json, {**common.environment(options.threads), "rows": rows})


if __name__ == "__main__":
    main()
