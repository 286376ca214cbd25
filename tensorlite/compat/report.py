"""What becomes of a script's torch names in tensorlite: `check(path)` gives a Report, whose text is the command's.

A name is "same", "different" (it exists, and the row says what differs) or "missing" (and what to do instead). An
argument that is not taken is a row of its own, `torch.add(out=)`.
"""

from __future__ import annotations

import inspect
import os
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from . import torch_names
from .differences import ARGUMENTS, difference, instead
from .kinds import signature
from .places import OF_OBJECTS, exists, find
from .script import Use, uses
from .served_arguments import serves
from .stand_ins import stands_in

SAME, DIFFERENT, MISSING = "same", "different", "missing"
_NUMPY: Final = {"axis": "dim", "keepdims": "keepdim"}  # which reductions take as torch's do
_ORDER: Final = (MISSING, DIFFERENT, SAME)


@dataclass
class Row:
    """One name of torch's in a script: what becomes of it, a note, the lines, and whether it is a guess."""

    name: str
    status: str
    note: str
    likely: bool
    lines: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ", ".join(str(line) for line in self.lines[:4]) + (", ..." if len(self.lines) > 4 else "")
        note = f"\n      {self.note}" if self.note else ""
        return f"{self.name}  line{'s' if len(self.lines) > 1 else ''} {lines}{note}"


@dataclass
class Report:
    """All names of a script. `rows` are in the order of their first lines."""

    path: str
    rows: list[Row]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing for certain."""
        return not any(row.status == MISSING and not row.likely for row in self.rows)

    def count(self, status: str, likely: bool | None = None) -> int:
        """How many names have a status; certain ones, guesses, or both."""
        return sum(row.status == status and likely in (None, row.likely) for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        totals = {status: self.count(status) for status in (SAME, DIFFERENT, MISSING)}
        return {"path": self.path, "totals": totals, "names": [vars(row) for row in self.rows]}

    def __str__(self) -> str:
        parts = [f"{self.path}: {len(self.rows)} names of torch"]
        for status in _ORDER:
            for likely in (False, True):
                rows = [row for row in self.rows if row.status == status and row.likely == likely]
                if rows:
                    guess = ", by methods' names alone" if likely else ""
                    parts.append(f"  {status}{guess} ({len(rows)})")
                    parts.extend([_together(rows)] if status == SAME else [f"    {row}" for row in rows])
        return "\n".join(parts)


def _together(rows: Iterable[Row]) -> str:
    """Names of which there is nothing to say, in lines of at most 118 characters."""
    lines = [""]
    for name in (row.name.removeprefix("torch.") for row in rows):
        if len(lines[-1]) + len(name) > 110:
            lines.append("")
        lines[-1] += f" {name}"
    return "\n".join(f"   {line}" for line in lines)


def check(path: str | os.PathLike[str]) -> Report:
    """The report on a script. Raises OSError for a file that cannot be read, SyntaxError for what is no Python."""
    with tokenize.open(path) as script:  # in the encoding that it says
        source = script.read()
    return judge(uses(source, os.fspath(path)), os.fspath(path))


def judge(found: Iterable[Use], path: str = "<script>") -> Report:
    """The report on uses that were read from a script.

    >>> from tensorlite.compat import judge, uses
    >>> print(judge(uses("import torch\\nx = torch.relu(torch.ones(2))\\nx.apply_(abs)")))
    <script>: 3 names of torch
      missing (1)
        torch.Tensor.apply_  line 3
          compute with whole tensors, or with NumPy: x.numpy()
      same (2)
        relu ones
    """
    rows: dict[str, Row] = {}
    for use in found:
        for name, status, note in _judged(use):
            row = rows.setdefault(name, Row(name, status, note, use.likely))
            row.likely = row.likely and use.likely
            if use.line not in row.lines:
                row.lines.append(use.line)
    return Report(path, list(rows.values()))


def _judged(use: Use) -> Iterator[tuple[str, str, str]]:
    """The rows to which one use adds: its name's, and those of arguments that are not taken."""
    note = difference(use.name)
    if not exists(use.name):
        served = stands_in(use.name)
        yield use.name, DIFFERENT if served else MISSING, (note or "") if served else instead(use.name)
        return
    yield use.name, SAME if note is None else DIFFERENT, note or ""
    if use.arguments is None and not use.keywords:
        return
    for name in _not_taken(use):
        served = serves(use.name, name)
        advice = ARGUMENTS.get(name, "not taken")
        argument = f"{use.name}({name}=)" if name.isidentifier() else f"{use.name}({name})"
        yield argument, DIFFERENT if served else MISSING, f"with --run alone; {advice}" if served else advice


def _not_taken(use: Use) -> Iterator[str]:
    """The names of a call's arguments that its function does not take; "by place" stands for those without one."""
    known = None if use.name in OF_OBJECTS else signature(find(use.name))
    if known is None:
        return
    parameters = list(known.parameters.values())
    if torch_names.of(use.name.rpartition(".")[0]):  # a method, which gets its object first
        parameters = parameters[1:]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        taken = {p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}
        yield from (name for name in use.keywords if _NUMPY.get(name, name) not in taken)
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if use.arguments is not None and use.arguments > len(by_place):
        if not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            yield f"argument {len(by_place) + 1} by place"
