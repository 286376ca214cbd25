"""What the doctor says: findings, and the report that lists them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final, NamedTuple

from .places import Place

ERROR, WARNING, NOTE = "error", "warning", "note"
_ORDER: Final = (ERROR, WARNING, NOTE)
_WIDTH = 110


class Finding(NamedTuple):
    """One thing that is wrong, or worth a look.

    rule      the name under which docs/doctor.md lists it, and which `ignore` takes
    severity  "error": training cannot work so; "warning": it probably suffers; "note": worth a look
    seen      what was seen, with numbers
    fix       what to do
    place     the user's line and the module; None where the finding is about no line in particular
    """

    rule: str
    severity: str
    seen: str
    fix: str
    place: Place | None = None

    def __str__(self) -> str:
        where = f" at {self.place}" if self.place else ""
        lines = [f"{self.severity}: {self.rule}{where}"]
        for text in (self.seen, f"Fix: {self.fix}"):
            lines += textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)


class Report:
    """The findings of a doctor, the gravest first; printed, a text of a few lines for each.

    findings  a list of Finding
    looked_at in words: how many steps, and what was seen in another way than it usually runs
    """

    def __init__(self, findings: list[Finding], looked_at: str) -> None:
        self.findings = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
        self.looked_at = looked_at

    @property
    def ok(self) -> bool:
        """Whether there is neither an error nor a warning; notes do not count."""
        return all(finding.severity == NOTE for finding in self.findings)

    def of(self, rule: str) -> list[Finding]:
        """The findings of one rule."""
        return [finding for finding in self.findings if finding.rule == rule]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __bool__(self) -> bool:
        """A report is there, also one without findings: ask `ok`."""
        return True

    def __str__(self) -> str:
        count = len(self.findings)
        heading = f"doctor: {count or 'no'} finding{'s' if count != 1 else ''} in {self.looked_at}"
        return "\n\n".join([heading, *map(str, self.findings)])

    __repr__ = __str__
