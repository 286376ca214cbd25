"""`tl.doctor`: what is wrong with a training loop, with the line and the fix.

Contract. A doctor sees the thread that entered it, through what instruments.py puts around operations, modules and
optimizers while it is there and takes away at the end; watch.py hands events on to the rules (rules/), each of which
knows one fault. It changes no result. docs/doctor.md lists the rules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TextIO

from ...errors import ArgumentError, TensorliteError
from . import instruments
from .errors import FAILED, explain
from .report import Finding as Finding
from .report import Report as Report
from .rules import RULES
from .trial import check as check
from .trial import known_rules
from .watch import Watch


class doctor:
    """Look on while a `with` block trains, and print at its end what is wrong: with numbers, the line and the fix.

    ignore  names of rules that are not wanted
    every   look at values in each so many-th step only; the rest is always seen
    file    where the report is printed, standard output by default; with `quiet` nowhere: `d.report` has it

    Seen is what this thread does. A captured step is run as an ordinary function meanwhile, so that its operations are
    seen; results are the same. `tl.doctor.check(model, loss_fn, batch, optimizer)` tries one batch before training.
    Raises ArgumentError for an unknown rule, or if it is entered twice.

    >>> model = nn.Linear(4, 3)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> x, y = tl.randn(8, 4), tl.randint(0, 3, (8,))
    >>> with tl.doctor(quiet=True) as d:
    ...     for step in range(3):
    ...         F.cross_entropy(model(x), y).backward()
    ...         optimizer.step()
    >>> [(finding.rule, finding.severity) for finding in d.report]
    [('no-zero-grad', 'error')]
    """

    check = staticmethod(check)

    def __init__(self, *, ignore: Iterable[str] = (), every: int = 1, file: TextIO | None = None,
                 quiet: bool = False) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ArgumentError(f"doctor: every must be a positive integer, got {every!r}")
        ignored = known_rules(ignore)
        self._watch = Watch([rule for rule in RULES if rule.name not in ignored], every)
        self._file, self._quiet = file, quiet
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise ArgumentError("doctor: this doctor was entered before; make a new one with tl.doctor()")
        self._entered = True
        instruments.start(self._watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        instruments.stop(self._watch)
        if isinstance(error, TensorliteError):
            found = explain(error)
            if found.rule != FAILED:  # an error that says itself what is wrong
                self._watch.findings.append(found)
        if error is None or isinstance(error, Exception):
            self._watch.tell("end")
            if not self._quiet:
                print(self.report, file=self._file or sys.stdout)
        self._watch.close()

    @property
    def report(self) -> Report:
        """What was found so far; complete when the block has ended."""
        return self._watch.report()
