"""How the cost of a training step grows with depth, width and batch: time, and the memory that training takes.

    python benchmarks/growth.py
    python benchmarks/growth.py --axes depth --points 1 10 100

Three axes, one at a time: depth 1 to 10,000 hidden layers (width 16, batch 16), width (2 layers, batch 16), and batch
(2 layers of 64). Square layers begin as the identity and the learning rate is next to nothing, so that signals neither
fade nor grow at any depth and no number is denormal. Memory is the peak of the resident set beyond what the process had
before it built the network; for each axis and library a process goes from small to large.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
from collections.abc import Callable

import common
import subjects
from subjects import SUBJECTS

NAMES = ("tensorlite-captured", "tensorlite", "torch")
LEARNING_RATE = 1e-20


class Axis:
    """The points along which one number grows, and the network and batch at each."""

    def __init__(self, points: list[int], sizes: Callable[[int], list[int]], batch: Callable[[int], int]) -> None:
        self.points, self.sizes, self.batch = points, sizes, batch


AXES = {
    "depth": Axis([1, 10, 100, 1000, 10_000], lambda n: [16] * (n + 1) + [10], lambda n: 16),
    "width": Axis([16, 64, 256, 1024, 4096], lambda n: [784, n, n, 10], lambda n: 16),
    "batch": Axis([1, 16, 128, 1024, 4096], lambda n: [784, 64, 64, 10], lambda n: n),
}


def peak_bytes() -> int:
    """The largest resident set that this process has had."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


class Measured:
    """A worker's state: a subject, and the memory that the process had before the subject did anything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.session = SUBJECTS[name].make()
        self.session.setup([16, 16, 10], 16)  # what a library makes once, at first use, is none of the network's
        self.session.turn(0.0)
        self.before = peak_bytes()

    def point(self, axis: str, value: int, seconds: float) -> dict[str, float]:
        """Microseconds a step, and bytes beyond the process without a network."""
        session = self.session
        for name in ("model", "optimizer", "captured", "batches", "begun"):
            vars(session).pop(name, None)
        gc.collect()
        sizes, batch = AXES[axis].sizes(value), AXES[axis].batch(value)
        session.setup(sizes, batch, learning_rate=LEARNING_RATE, identity=True)
        return {"us": session.turn(seconds), "bytes": peak_bytes() - self.before}


def measure(axis: str, points: list[int], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Time and memory of every subject at every point of an axis."""
    result: dict[str, dict[str, list[float]]] = {}
    for name in options.subjects:
        worker = subjects.start(__file__, name, options.threads)
        answers = [worker.ask(do="point", axis=axis, value=value, seconds=options.seconds) for value in points]
        worker.close()
        result[name] = {key: [answer[key] for answer in answers] for key in ("us", "bytes")}
        times = "  ".join(f"{value}: {answer['us']:.0f} us, {answer['bytes'] / 1e6:.1f} MB"
                          for value, answer in zip(points, answers, strict=True))
        print(f"{axis:6} {SUBJECTS[name].label:26} {times}", flush=True)
    return result


def main() -> None:
    parser = common.argument_parser(__doc__, "growth.json")
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=list(AXES))
    parser.add_argument("--points", nargs="+", type=int, help="instead of an axis's own")
    parser.add_argument("--subjects", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--threads", type=int, default=common.cores())
    parser.add_argument("--seconds", type=float, default=0.2, help="of steps at each point; at least 3 steps")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(Measured(options.worker))
        return
    common.use_cores(options.threads)
    options.subjects = [name for name in options.subjects if subjects.why_missing(name, "cpu") is None]
    record = {**common.environment(options.threads), "labels": subjects.labels(options.subjects), "axes": {}}
    for axis in options.axes:
        points = options.points or AXES[axis].points
        record["axes"][axis] = {"points": points, "measured": measure(axis, points, options)}
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
