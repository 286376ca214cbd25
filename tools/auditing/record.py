"""The rows of the audit: what they hold, their grades, and how the file of them is compared with a new one.

A figure is published as a grade, rounded up: 0 (every number looked at was exact), 0.5 (rounded correctly), 1, 2, 5,
10, 20, and so on. In the environment of the file a new audit must give the same grades; in another one (processor,
NumPy, compiler) none may be worse by more than one.
"""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from auditing import reasons
from tensorlite.backends import host

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tensorlite" / "insight" / "audit.json"
ROUNDING = 1e-9  # of the figures themselves
GRADES = (0.0, 0.5, *[float(m * 10**e) for e in range(16) for m in (1, 2, 5)])
GRADED = ("forward_ulp", "forward_ulp_of_terms", "gradient_error")


def grade(figure: float) -> float | None:
    """The smallest grade that is not below a figure; None for what is beyond all of them.

    >>> [grade(x) for x in (0.0, 1e-3, 0.5, 0.51, 3.0, 1e300)]
    [0.0, 0.5, 0.5, 1.0, 5.0, None]
    """
    return next((g for g in GRADES if figure <= g + ROUNDING), None)


def rank(published: float | None) -> int:
    """The number of a grade."""
    return len(GRADES) if published is None else min(range(len(GRADES)), key=lambda i: abs(GRADES[i] - published))


def environment() -> dict[str, str]:
    """What figures depend on."""
    build: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    compiler = subprocess.run([host.compiler() or "true", "--version"], capture_output=True, text=True, check=False)
    return {
        "machine": platform.machine(), "python": ".".join(platform.python_version_tuple()[:2]), "numpy": np.__version__,
        "simd": " ".join(build["SIMD Extensions"].get("found", [])),
        "blas": " ".join(str(build["Build Dependencies"]["blas"].get(k, "")) for k in ("name", "version")),
        "compiler": (compiler.stdout.splitlines() or ["none"])[0],
    }


def write(record: dict[str, Any], path: Path = FILE) -> None:
    """The record as JSON, one row a line."""
    head = {key: value for key, value in record.items() if key != "rows"}
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in record["rows"])
    path.write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n]\n}}\n', encoding="utf-8")


def read(path: Path = FILE) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["op"], row["dtype"], row["device"]


def differences(published: dict[str, Any], new: dict[str, Any], only: set[str] | None = None) -> list[str]:
    """What of a new record the published one does not say; of some ops only, if named."""
    same = published["environment"] == new["environment"]
    old = {key(row): row for row in published["rows"] if only is None or row["op"] in only}
    found = {key(row): row for row in new["rows"]}
    complaints = [f"{' '.join(k)}: no such row is published" for k in found.keys() - old.keys()]
    complaints += [f"{' '.join(k)}: published, but no longer there" for k in old.keys() - found.keys()]
    for k in sorted(old.keys() & found.keys()):
        complaints += [f"{' '.join(k)}: {text}" for text in _of_rows(old[k], found[k], same)]
    return sorted(complaints)


def _of_rows(old: dict[str, Any], new: dict[str, Any], same_environment: bool) -> list[str]:
    complaints = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if name not in GRADED:
            differs = before != now and not (name == "parity" and now is None)  # without PyTorch there is none
        elif same_environment:
            differs = before != now
        elif name == "forward_ulp" and new.get("forward_ulp_of_terms") != now:
            differs = False  # terms that cancel: how much is left is chance, and the other figure judges it
        else:
            differs = rank(now) > rank(before) + 1
        if differs:
            complaints.append(f"{name} is {now}, published is {before}")
    return complaints


def keep_parity(new: dict[str, Any], published: dict[str, Any]) -> None:
    """Put what was found beside PyTorch before into a record that was made without it."""
    old = {key(row): row["parity"] for row in published["rows"]}
    for row in new["rows"]:
        row["parity"] = old.get(key(row))
        row["note"] = reasons.note(row)
