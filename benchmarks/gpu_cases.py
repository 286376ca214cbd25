"""Benchmarks of one operation on a GPU beside torch's, case by case.

Each library sits in a process of its own and gets the same numbers; for each case they take turns. Reported are medians
over samples of the device's time a call, several calls standing between two events while the host is ahead, and of the
host's. Of each result some elements are compared, how far they are apart is recorded, and results that differ end in
status 1. Results are written after every case.

Contract. A benchmark derives from `Session`, which runs in the processes, what a call does and how many operations it
takes, and gives `run` its cases: dicts of names and numbers, with "precision" one of PRECISIONS.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import common
import gpu_common

LIBRARIES = (common.SUBJECT, common.RIVAL)
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
CALLS = {"cuda": 20, "cuda:sim": 1, "cpu": 1}  # of a sample
COMPARED = 64  # elements of a result
TOLERANCE = {"float32": 1e-5, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 4e-2}  # of the largest element

Case = dict[str, Any]


class Session(ABC):
    """A worker's state: one library on one device."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.lib = importlib.import_module(library)

    @abstractmethod
    def call(self, **case: Any) -> Callable[[], Any]:
        """What is timed, on inputs of this case; it returns a result."""

    @abstractmethod
    def flops(self, **case: Any) -> int:
        """Floating-point operations of a call."""

    def place(self, values: np.ndarray, precision: str) -> Any:
        """An operand: float32 numbers on the device, in the dtype of a precision."""
        dtype = getattr(self.lib, "float32" if precision == "tf32" else precision)
        return self.lib.from_numpy(values).to(self.device).to(dtype)

    def setup(self, device: str, samples: int) -> bool:
        """Get ready; answers that it is."""
        self.clock = gpu_common.clock(self.library, device)
        self.device = device if self.library == common.SUBJECT else gpu_common.rivals_device(device)
        self.samples, self.calls = samples, CALLS[device]
        if self.library == common.RIVAL:
            self.lib.backends.cudnn.benchmark = True  # tries all its algorithms before it is timed
        return True

    def measure(self, **case: Any) -> Case:
        """A call's time on device and host, and some elements of its result; or {"error": what}."""
        try:
            self._choose(case["precision"])
            call = self.call(**case)
            elements = call().reshape(-1)[:COMPARED].to(self.lib.float32).cpu().tolist()  # compiles, and tries
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"[:500]}

        def run() -> None:
            for _ in range(self.calls):
                call()

        run()
        device = [self.clock.device(run) / self.calls for _ in range(self.samples)]
        host = [self.clock.host(run) / self.calls for _ in range(self.samples)] if self.clock.queues else device
        self.clock.synchronize()
        seconds = statistics.median(device)
        return {"device_us": seconds * 1e6, "host_us": statistics.median(host) * 1e6, "elements": elements,
                "tflop_per_s": self.flops(**case) / seconds / 1e12}

    def _choose(self, precision: str) -> None:
        """Let float32 be rounded to TF32, or not."""
        if self.library == common.RIVAL:
            self.lib.backends.cudnn.allow_tf32 = self.lib.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        else:
            self.lib.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def difference(answers: dict[str, Case]) -> float | None:
    """How far the libraries' elements are apart, as a share of the largest; None where one of them has none."""
    if any("elements" not in answer for answer in answers.values()) or len(answers) < len(LIBRARIES):
        return None
    ours, theirs = (np.array(answers[library]["elements"]) for library in LIBRARIES)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def measure_case(workers: dict[str, common.Worker], case: Case) -> Case:
    """One case in every library."""
    answers = {library: worker.ask(do="measure", **case) for library, worker in workers.items()}
    apart = difference(answers)
    for answer in answers.values():
        answer.pop("elements", None)
    return {"case": case, "difference": apart, "measured": answers}


def label(result: Case) -> str:
    """The words of a case."""
    return ", ".join(map(str, result["case"].values()))


def print_case(result: Case) -> None:
    """One line."""
    cells = [f"{library} {answer['device_us']:9.1f} us {answer['tflop_per_s']:6.2f} TFLOP/s, host "
             f"{answer['host_us']:6.1f} us" if "device_us" in answer else f"{library} {answer['error'].splitlines()[0]}"
             for library, answer in result["measured"].items()]
    print(f"{label(result):48} {'  '.join(cells)}", flush=True)


def complaints(results: Sequence[Case]) -> list[str]:
    """What is wrong with results of this project, one line each."""
    found = []
    for result in results:
        apart, error = result["difference"], result["measured"][common.SUBJECT].get("error")
        if error:
            found.append(f"wrong: {label(result)}: {error}")
        elif apart is not None and not apart < TOLERANCE[result["case"]["precision"]]:
            found.append(f"wrong: {label(result)}: {apart:.1e} from {common.RIVAL}'s")
    return found


def summary(results: Sequence[Case]) -> str:
    """The ratios to the rival's time."""
    pairs = [[result["measured"].get(library, {}).get("device_us") for library in LIBRARIES] for result in results]
    ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
    if not ratios:
        return f"{len(results)} cases without {common.RIVAL}"
    return (f"time of {common.SUBJECT} / {common.RIVAL}: median {statistics.median(ratios):.2f}, from "
            f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} cases")


def run(script: str, parser: argparse.ArgumentParser, session: type[Session],
        cases: Callable[[argparse.Namespace], list[Case]]) -> None:
    """A benchmark's main: measure the cases that its options choose, and end with status 1 if results are wrong."""
    parser.add_argument("--device", default="cuda", choices=tuple(CALLS))
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(session(options.worker))
        return
    missing = {library: reason for library in LIBRARIES
               if (reason := gpu_common.why_missing(library, options.device)) is not None}
    for library, reason in missing.items():
        print(f"left out: {library}: {reason}", flush=True)
    if common.SUBJECT in missing:
        raise SystemExit(1)
    workers = {library: common.Worker(script, library, gpu_common.threads(options.device))
               for library in LIBRARIES if library not in missing}
    for worker in workers.values():
        worker.ask(do="setup", device=options.device, samples=options.samples)
    record = {**gpu_common.environment(options.device), "missing": missing}
    results: list[Case] = []
    for case in cases(options):
        results.append(measure_case(workers, case))
        print_case(results[-1])
        gpu_common.save(options.json, {**record, "results": results})
    for worker in workers.values():
        worker.close()
    wrong = complaints(results)
    print("\n".join([*wrong, summary(results) if options.device == "cuda" else f"{len(results)} cases: a dry run"]))
    raise SystemExit(bool(wrong))
