"""GB/s of each operation beside torch and CuPy, or NumPy, and as a share of a measured copy: the roofline of what has
little arithmetic.

    python benchmarks/op_bandwidth.py                             # a GPU; 2^26 and 2^20 elements
    python benchmarks/op_bandwidth.py --rows relu gelu --elements 1048576
    python benchmarks/op_bandwidth.py --device cpu                # compiled kernels, NumPy's and torch; 2^20 elements
    python benchmarks/op_bandwidth.py --device cuda:sim --elements 4096     # dry run: the figures mean nothing

Each library sits in a process of its own and works on the same numbers; for each row they take turns. Reported is the
median over samples; a sample times several calls between two events, queued while the device is busy, on inputs and
outputs that rotate through more memory than the cache holds. The bytes are the least that the operation must move
(`op_rows.py`), for all libraries alike. The copy that counts as 100 % is the fastest of the libraries' and the
driver's own at the same size. Python's cost of a call is measured apart, with the device idle.

Results are written after every row, so a run that is stopped leaves what it has.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import common
import gpu_common
from op_rows import COPY, DRIVER_COPY, ROWS, TARGETS, Maker, Row

WITHOUT_COMPILER = "tensorlite-numpy"  # tensorlite, its kernels for the CPU switched off
LIBRARIES = (common.SUBJECT, WITHOUT_COMPILER, common.RIVAL, "cupy")
CPU_ROWS = ("add", "mul by a number", "relu", "relu, forward and backward", "sigmoid", "tanh", "exp", "add a row",
            "sum of rows", "sum of columns", "softmax, 1024 columns",
            "cross entropy, 1024 classes, forward and backward", "layer norm", "layer norm, forward and backward",
            "Adam", "dropout", "uniform", "gelu", "gelu, forward and backward")
ELEMENTS = {"cuda": [1 << 26, 1 << 20], "cpu": [1 << 20], "cuda:sim": [1 << 20]}
ROTATED_BYTES = {"cuda": 512 << 20, "cpu": 128 << 20, "cuda:sim": 0}  # of inputs and outputs: several times any cache
MAX_CALLS = {"cuda": 24, "cpu": 4, "cuda:sim": 4}  # of a sample: a GPU's queue of launches takes all of them
SAMPLES = {"cuda": 11, "cpu": 5, "cuda:sim": 5}
MAX_RESTARTS = 5  # of a library's process, after errors that broke its GPU context


class Session:
    """A worker's state: one library on one device, and the inputs made last."""

    def __init__(self, library: str) -> None:
        self.library = common.SUBJECT if library == WITHOUT_COMPILER else library

    def setup(self, device: str, elements: int) -> bool:
        """Take the device, with numbers for workloads of up to so many elements."""
        self.clock = gpu_common.clock(self.library, device)
        where = device if self.library == common.SUBJECT else gpu_common.rivals_device(device)
        self.make = Maker(self.library, where, elements)
        if device == "cpu":
            common.build_kernels(self.make.lib)
        self.rotated = ROTATED_BYTES[device]
        self.samples, self.max_calls = SAMPLES[device], MAX_CALLS[device]
        self.kept: tuple[Any, list[Any]] = (None, [])
        return True

    def measure(self, name: str, elements: int) -> dict[str, Any]:
        """GB/s, and a call's time on device and host; or {"missing": why}, or {"error": what, "fatal": whether}."""
        row = DRIVER_COPY if name == DRIVER_COPY.name else ROWS[name]
        bind = row.cupy if self.library == "cupy" else row.torch_like
        if bind is None:
            return {"missing": "no such operation"}
        try:
            return self._timed(row, bind(self.make.lib), elements)
        except Exception as error:
            self.kept = (None, [])
            return {"error": f"{type(error).__name__}: {error}"[:500], "fatal": not self._alive()}

    def _alive(self) -> bool:
        """Whether the device still works: an illegal access breaks a process's context for good."""
        try:
            self.clock.synchronize()
        except Exception:
            return False
        return True

    def _timed(self, row: Row, function: Any, elements: int) -> dict[str, Any]:
        sets = self._input_sets(row, elements)
        results: deque[Any] = deque(maxlen=len(sets))  # outputs rotate too
        calls = min(max(3, len(sets)), self.max_calls)
        place = 0

        def run() -> None:
            nonlocal place
            for _ in range(calls):
                results.append(function(*sets[place % len(sets)]))
                place += 1

        for _ in range(1 + len(sets) // calls):
            run()  # compiles, and takes the memory for all outputs
        device = [self.clock.device(run) / calls for _ in range(self.samples)]
        host = [self.clock.host(run) / calls for _ in range(self.samples)] if self.clock.queues else device
        self.clock.synchronize()
        moved = row.bytes * elements
        return {
            "gb_per_s": moved / statistics.median(device) / 1e9,
            "device_us": statistics.median(device) * 1e6,
            "device_us_spread": [min(device) * 1e6, max(device) * 1e6],
            "host_us": statistics.median(host) * 1e6,
        }

    def _input_sets(self, row: Row, elements: int) -> list[Any]:
        """Enough sets of inputs that a pass over them leaves nothing in the cache; the last ones where they serve."""
        count = max(1, math.ceil(self.rotated / (row.bytes * elements)))
        key = (row.inputs, elements)
        if self.kept[0] != key or len(self.kept[1]) < count:
            self.kept = (None, [])  # first let go of the old ones
            self.kept = (key, [row.inputs(self.make, elements) for _ in range(count)])
        return self.kept[1]


class Subject:
    """A library's process, begun anew after an error that broke it, and given up after several."""

    def __init__(self, library: str, options: argparse.Namespace) -> None:
        self.library, self._options, self._restarts = library, options, 0
        self.missing = why_missing(library, options.device)
        self._worker: common.Worker | None = None

    def measure(self, name: str, elements: int) -> dict[str, Any]:
        """What the library's `Session.measure` says."""
        if self.missing:
            return {"missing": self.missing}
        try:
            if self._worker is None:
                environment = {"TENSORLITE_COMPILED": "0"} if self.library == WITHOUT_COMPILER else {}
                self._worker = common.Worker(__file__, self.library, gpu_common.threads(self._options.device),
                                             **environment)
                self._worker.ask(do="setup", device=self._options.device, elements=max(self._options.elements))
            answer: dict[str, Any] = self._worker.ask(do="measure", name=name, elements=elements)
        except (RuntimeError, BrokenPipeError) as error:
            answer, self._worker = {"error": str(error), "fatal": True}, None
        if answer.get("fatal"):
            self._restart()
        return answer

    def _restart(self) -> None:
        self.close()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            self.missing = f"given up after {self._restarts} errors"

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def why_missing(library: str, device: str) -> str | None:
    """Why a library cannot be measured; None if it can."""
    if library == WITHOUT_COMPILER:
        return None if device == "cpu" else "for the CPU alone"
    return gpu_common.why_missing(library, device)


def copy_bandwidth(measured: Sequence[dict[str, Any]]) -> float:
    """GB/s of the fastest copy, 0 if none could be measured."""
    return max((answer["gb_per_s"] for answer in measured if "gb_per_s" in answer), default=0.0)


def measure_row(name: str, elements: int, subjects: Sequence[Subject], copy: float, judged: bool) -> dict[str, Any]:
    """One row at one size, in every library; `judged` if its speed says something about a GPU."""
    answers = {subject.library: subject.measure(name, elements) for subject in subjects}
    ours = answers[common.SUBJECT].get("gb_per_s")
    share = ours / copy if ours and copy else None
    target = TARGETS.get(ROWS[name].family) if judged else None
    return {
        "row": name,
        "family": ROWS[name].family,
        "elements": elements,
        "bytes": ROWS[name].bytes * elements,
        "share_of_copy": share,
        "target": target,
        "reached": None if share is None or target is None else share >= target,
        "measured": answers,
    }


def print_row(row: dict[str, Any]) -> None:
    """One line: GB/s and Python's µs a call of each library."""
    cells = []
    for library, answer in row["measured"].items():
        if "gb_per_s" in answer:
            cells.append(f"{library} {answer['gb_per_s']:7.0f} GB/s {answer['host_us']:5.0f} us")
        else:
            cells.append(f"{library} {next(iter(answer.items()))[0]:>21}")
    share = "" if row["share_of_copy"] is None else f"{row['share_of_copy']:6.1%}"
    mark = "!" if row["reached"] is False else " "
    print(f"{row['row'][:48]:48} {share:>6}{mark} {'  '.join(cells)}", flush=True)


def print_summary(record: dict[str, Any]) -> None:
    """Which rows miss their target at the largest size, and what went wrong."""
    largest = max(record["elements"])
    judged = [row for row in record["rows"] if row["elements"] == largest and row["reached"] is not None]
    missed = [f"{row['row']} {row['share_of_copy']:.0%}" for row in judged if not row["reached"]]
    if judged:
        asked = ", ".join(f"{family} {share:.0%}" for family, share in TARGETS.items())
        print(f"at {largest} elements {len(judged) - len(missed)} of {len(judged)} rows reach their share of the "
              f"copy's bandwidth ({asked})")
    if missed:
        print(f"below: {', '.join(missed)}")
    for row in record["rows"]:
        for library, answer in row["measured"].items():
            if "error" in answer:
                print(f"error in {library}, {row['row']}, {row['elements']} elements: {answer['error']}")
    if record["not_reached_in_time"]:
        print(f"not measured within the time given: {len(record['not_reached_in_time'])} rows")


def failed(record: dict[str, Any]) -> bool:
    """Whether tensorlite failed in a row, whatever its speed."""
    return any("error" in row["measured"][common.SUBJECT] for row in record["rows"])


def main() -> None:
    parser = common.argument_parser(__doc__, "op_bandwidth.json")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cuda:sim", "cpu"))
    parser.add_argument("--elements", type=int, nargs="+")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW", help="else all; on the CPU some")
    parser.add_argument("--libraries", nargs="+", default=LIBRARIES, choices=LIBRARIES)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further row after this time")
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(Session(options.worker))
        return
    deadline = time.monotonic() + options.seconds
    options.elements = options.elements or ELEMENTS[options.device]
    options.rows = options.rows or (CPU_ROWS if options.device == "cpu" else list(ROWS))
    names = dict.fromkeys((common.SUBJECT, *options.libraries))
    not_here = ("cupy",) if options.device == "cpu" else (WITHOUT_COMPILER,)
    subjects = [Subject(name, options) for name in names if name not in not_here]
    record: dict[str, Any] = {**gpu_common.environment(options.device), "elements": options.elements, "copy": {},
                              "rows": [], "not_reached_in_time": []}
    for elements in options.elements:
        copies = {subject.library: subject.measure(COPY, elements) for subject in subjects}
        driver = [subject.measure(DRIVER_COPY.name, elements) for subject in subjects if subject.library == "cupy"]
        copy = copy_bandwidth([*copies.values(), *driver])
        record["copy"][str(elements)] = {"gb_per_s": copy, "libraries": copies, "driver": driver}
        judged = options.device == "cuda" and elements == max(options.elements)
        print(f"{elements} elements; a copy moves {copy:.0f} GB/s, counting bytes read and written", flush=True)
        for name in options.rows:
            if time.monotonic() > deadline:
                record["not_reached_in_time"].append([name, elements])
                continue
            record["rows"].append(measure_row(name, elements, subjects, copy, judged))
            print_row(record["rows"][-1])
            gpu_common.save(options.json, record)
    for subject in subjects:
        subject.close()
    print_summary(record)
    common.write_json(options.json, record)
    raise SystemExit(failed(record))


if __name__ == "__main__":
    main()
