"""How accurate every operation is, on every device and in every dtype: measured, published, kept true.

    python tools/audit.py             make tensorlite/insight/audit.json and docs/audit.md anew
    python tools/audit.py --check     say what they would no longer say, and fail if there is anything
    python tools/audit.py --op exp    print one op's rows, and where each figure was found

Whatever has a row in the test table (tests/cases.py) is in the audit. It needs a C++ compiler (for device "cuda:sim"),
mpmath and ml_dtypes; where PyTorch is missing, what was found beside it before is kept.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]

from case import ANY, Case  # noqa: E402
from cases import CASES  # noqa: E402
from cases_functional import FUNCTIONAL  # noqa: E402

import tensorlite as tl  # noqa: E402
from auditing import devices, page, reasons, record  # noqa: E402
from auditing.accuracy import Figure, References, Slopes, forward, gradient, second  # noqa: E402
from tensorlite.dtypes import DType  # noqa: E402

DEVICES = ("cpu", "cuda:sim")
parity: Any = importlib.import_module("auditing.parity") if importlib.util.find_spec("torch") else None
Row = dict[str, Any]


class Op:
    """All rows of the test table for one op, in one dtype; what does not depend on the device is computed once."""

    def __init__(self, name: str, cases: list[Case], dtype: DType) -> None:
        self.name, self.dtype = name, dtype
        self.cases = [case for case in cases if dtype in case.dtypes and case.reference is not None]
        self.curved = [case for case in self.cases if case.gradient and dtype.is_floating_point]
        self.references = {case.name: References(case, dtype) for case in self.cases}
        self.beside = [parity.Beside(case, dtype) for case in self.cases] if parity else []
        self.slopes = {case.name: Slopes(case, dtype) for case in self.curved}

    def row(self, device: str) -> Row:
        with devices.watched() as ran:
            value, slope = Figure(), Figure()
            for case in self.cases:
                value.join(forward(case, self.dtype, device, self.references[case.name]))
            for case in self.curved:
                slope.join(gradient(case, self.dtype, device, self.slopes[case.name]))
            double = all([second(case, self.dtype, device) for case in self.curved])
            outcomes = {devices.captured(case, self.dtype, device) for case in self.cases}
        row: Row = {
            "op": self.name, "dtype": self.dtype.name, "device": device,
            "forward_ulp": record.grade(value.strict), "forward_ulp_of_terms": record.grade(value.of_terms),
            "gradient_error": record.grade(slope.strict) if self.curved else None,
            "double_gradient": ("ok" if double else "wrong") if self.curved else None,
            "parity": parity.combined([parity.parity(b, device) for b in self.beside]) if parity else None,
            "captured": max(outcomes, key=devices.SEVERITY.index),
        }
        if device == "cuda:sim":
            like = devices.listed_like(ran)
            row["instances"] = [len(ran & like), len(like)]
        if not (value.exact and slope.exact):
            row["reference"] = "float64"
        if value.denormal:
            row["denormal"] = True
        row["note"] = reasons.note(row)
        return row


def audit(names: Iterable[str] | None = None) -> dict[str, Any]:
    """The record of some ops, or of all."""
    by_op: dict[str, list[Case]] = defaultdict(list)
    for case in [*CASES, *FUNCTIONAL]:
        if names is None or case.op in names:
            by_op[case.op].append(case)
    rows: list[Row] = []
    for name, cases in sorted(by_op.items()):
        for dtype in ANY:
            if any(dtype in case.dtypes for case in cases):
                print(f"\r{name} {dtype.name}    ", end="", file=sys.stderr, flush=True)
                op = Op(name, cases, dtype)
                rows += [op.row(device) for device in DEVICES]
    return {"environment": record.environment(), "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with what is published, and write nothing")
    parser.add_argument("--op", action="append", help="only this op: print its rows, and write nothing")
    options = parser.parse_args()
    tl.compile_kernels()
    started = time.perf_counter()
    found = audit(options.op)
    print(f"{len(found['rows'])} rows in {time.perf_counter() - started:.0f} s")
    if options.op:
        print(*found["rows"], *(map(" ".join, parity.DETAILS) if parity else ()), sep="\n")
        return 0
    if not parity:
        record.keep_parity(found, record.read())
    wrong = reasons.complaints(found["rows"])
    if options.check:
        wrong += check(found)
    else:
        record.write(found)
        page.write(found)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


def check(found: dict[str, Any]) -> list[str]:
    """How the published record and page differ from what was found."""
    published = record.read()
    wrong = record.differences(published, found)
    if page.FILE.read_text(encoding="utf-8") != page.text(published):
        wrong.append("docs/audit.md is not made of tensorlite/insight/audit.json: run tools/audit.py")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
