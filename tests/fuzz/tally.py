"""What a run counted: cases, calls and compared arrays by function; what was excused, and why; and failures."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Failure:
    """A case that differs: how to make it again, what differs, and a program."""

    generator: str
    seed: int
    case: int
    what: str
    program: str

    def __str__(self) -> str:
        again = f"# PYTHONPATH=tests python -m fuzz {self.generator} --seed {self.seed} --only {self.case}"
        return f"{again}\n# {self.what}\n{self.program}"


@dataclass
class Tally:
    """Counts of one generator's run."""

    generator: str
    seed: int
    cases: int = 0
    arrays: int = 0
    gradients: int = 0
    second: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def compared(self, count: int = 1) -> None:
        self.arrays += count

    def as_json(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "seed": self.seed,
            "cases": self.cases,
            "arrays": self.arrays,
            "gradients": self.gradients,
            "second_derivatives": self.second,
            "seconds": round(time.perf_counter() - self.started, 1),
            "functions": len(self.calls),
            "calls": dict(sorted(self.calls.items())),
            "outcomes": dict(self.outcomes),
            "excused": dict(self.excused),
            "failures": [str(f) for f in self.failures],
        }

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1))

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        return (
            f"{self.generator} seed {self.seed}: {self.cases} cases, {self.arrays} arrays compared "
            f"({self.gradients} gradients, {self.second} second derivatives) in {seconds:.0f} s "
            f"({self.arrays / max(seconds, 1e-9):.0f}/s), {len(self.calls)} functions, {len(self.failures)} failures"
        )
