"""`tl.profile`: where a program's time goes, by operation and by module.

Contract. A Profile collects the spans of all threads (spans.py) while its `with` block runs, and computes nothing
before it is asked. Several may be active at once, nested or in several threads; each has the spans that begin and end
while it is active.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from os import PathLike
from time import perf_counter_ns
from types import TracebackType
from typing import NamedTuple, Self

from ..errors import ArgumentError
from . import chrome_trace, costs, instruments
from .costs import Roof
from .spans import KERNEL, MODULE, Span
from .tables import table

OUTSIDE = "(outside of modules)"


class Row(NamedTuple):
    """A line of the table: an operation, or a module with all that is inside it.

    calls        how often it was called
    launches     of kernels
    time         seconds that kernels took, on the clock of their device
    total        seconds of the host: kernels that it computes or launches, and Python
    bytes        read and written by kernels
    flops        floating-point operations of matrix products
    of_roofline  the least time in which the device could do this, divided by `time`; None where that is not known
    """

    name: str
    calls: int
    launches: int
    time: float
    total: float
    bytes: int
    flops: int
    of_roofline: float | None


class Profile:
    """What happened in a `with` block; made by `tl.profile`.

    duration  seconds from beginning to end
    spans     what happened, in order of the ends
    """

    def __init__(self, bandwidth: float | None = None, flops: float | None = None) -> None:
        for name, value in (("bandwidth", bandwidth), ("flops", flops)):
            if value is not None and not value > 0:
                raise ArgumentError(f"profile: {name} must be above 0, got {value}; None measures it")
        self._given = bandwidth, flops
        self.began = self._ended = 0
        self.spans: list[Span] = []

    def __enter__(self) -> Self:
        if self.began:
            raise ArgumentError("profile: this profile was entered before; make a new one with tl.profile()")
        instruments.start(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._ended = perf_counter_ns()
        instruments.stop(self, wait=error is None)

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the block to its end, or until now."""
        return ((self._ended or perf_counter_ns()) - self.began) / 1e9 if self.began else 0.0

    def rows(self, by: str = "op") -> list[Row]:
        """The table as numbers, by "op", the longest time first, or by "module", in order of the first call.

        A module's row contains those inside it. Raises ArgumentError for another `by`.
        """
        if by == "op":
            return sorted(self._by_op(), key=lambda row: (row.time, row.total), reverse=True)
        if by == "module":
            return self._by_module()
        raise ArgumentError(f'profile: rows are by "op" or by "module", got {by!r}')

    def _by_op(self) -> list[Row]:
        grouped: defaultdict[str, list[Span]] = defaultdict(list)
        for span in self.spans:
            if span.op is not None:
                grouped[span.op].append(span)
        return [self._row(name, spans, sum(span.owns for span in spans)) for name, spans in grouped.items()]

    def _by_module(self) -> list[Row]:
        grouped: defaultdict[str, list[Span]] = defaultdict(list)
        calls = Counter(span.module for span in self.spans if span.kind is MODULE)
        modules = {span.module for span in self.spans}  # a list in a path, the "layers" of "Net.layers.0", is none
        for span in sorted(self.spans, key=lambda span: span.start):
            for path in _with_outer(span.module) if span.module else [OUTSIDE]:
                if path in modules or path is OUTSIDE:
                    grouped[path].append(span)
        return [self._row(path, spans, calls[path]) for path, spans in grouped.items()]

    def _row(self, name: str, spans: Iterable[Span], calls: int) -> Row:
        """The sums of some spans; of a span's own time, without that of the spans in it."""
        busy = total = moved = flops = launches = 0
        least: float | None = 0.0
        for span in spans:
            total += span.duration - span.inside
            if span.kind is not KERNEL or span.work is None:
                continue
            launches += 1
            busy += span.busy
            moved += span.work.bytes
            flops += span.work.flops
            roof = self.roof(span.work.device) if span.work.bytes else None
            least = None if roof is None or least is None else least + roof.least(span.work)
        share = least / (busy / 1e9) if busy and least is not None else None
        return Row(name, calls, launches, busy / 1e9, total / 1e9, moved, flops, share)

    def roof(self, device: str) -> Roof | None:
        """What a device reaches at best: as given to `tl.profile`, else measured, once, when it is first asked for."""
        bandwidth, flops = self._given
        if bandwidth is not None and flops is not None:
            return Roof(bandwidth, flops)
        measured = costs.roof(device)
        return measured and Roof(bandwidth or measured.bandwidth, flops or measured.flops)

    def export_chrome_trace(self, path: str | PathLike[str]) -> None:
        """Write what happened as JSON for chrome://tracing and ui.perfetto.dev: nested spans by thread and device."""
        chrome_trace.write(path, self.spans, self.began)

    def table(self, limit: int = 20) -> str:
        """The tables by operation, cut after `limit` rows, and by module."""
        rows, modules = self.rows(), self.rows("module")
        lines = [self._heading(rows), *self._roofs(), "", *_table("operation", rows[:limit])]
        if len(rows) > limit:
            lines.append(f"... and {len(rows) - limit} more operations")
        if any(row.name != OUTSIDE for row in modules):
            lines += ["", *_table("module, with what is inside it", modules)]
        return "\n".join(lines)

    __str__ = table

    def __repr__(self) -> str:
        return f"<profile of {len(self.spans)} spans in {self.duration:.3g} s>"

    def _heading(self, rows: list[Row]) -> str:
        launches, busy = sum(row.launches for row in rows), sum(row.time for row in rows)
        return f"{self.duration * 1e3:.3f} ms, {launches} kernels that took {busy * 1e3:.3f} ms"

    def _roofs(self) -> list[str]:
        roofs = {device: self.roof(device) for device in sorted({s.work.device for s in self.spans if s.work})}
        return [f"roofline of {device}: {roof.bandwidth / 1e9:.1f} GB/s, {roof.flops / 1e9:.1f} GFLOP/s"
                for device, roof in roofs.items() if roof is not None]


def profile(*, bandwidth: float | None = None, flops: float | None = None) -> Profile:
    """Look at what a `with` block does: `print` the Profile, or take its `rows` or `export_chrome_trace`.

    `bandwidth` (bytes per second) and `flops` (per second) are what the device can reach; what is not given is measured
    when it is first needed, in about a fifth of a second. All threads are seen. Raises ArgumentError for numbers that
    are not above 0.

    >>> model, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), tl.ones(4, 3)
    >>> with tl.profile(bandwidth=20e9, flops=100e9) as p:
    ...     loss = model(x).sum()
    >>> [(row.name, row.calls, row.launches) for row in p.rows("module")]
    [('Sequential', 1, 2), ('Sequential.0', 1, 1), ('Sequential.1', 1, 1), ('(outside of modules)', 0, 1)]
    """
    return Profile(bandwidth, flops)


def _with_outer(path: str) -> list[str]:
    """'a.b.c' -> a, a.b, a.b.c."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


# --- the table ------------------------------------------------------------------------------------------------------

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("calls", lambda row: str(row.calls)),
    ("total ms", lambda row: f"{row.total * 1e3:.3f}"),
    ("kernels ms", lambda row: f"{row.time * 1e3:.3f}"),
    ("launches", lambda row: str(row.launches)),
    ("MB", lambda row: f"{row.bytes / 1e6:.3f}"),
    ("GB/s", lambda row: f"{row.bytes / row.time / 1e9:.2f}" if row.time else "-"),
    ("GFLOP/s", lambda row: f"{row.flops / row.time / 1e9:.2f}" if row.flops else "-"),
    ("of roofline", lambda row: "-" if row.of_roofline is None else f"{row.of_roofline:.0%}"),
)


def _table(title: str, rows: list[Row]) -> list[str]:
    """Lines of text: names to the left, numbers to the right."""
    cells = [[row.name, *[text(row) for _, text in _COLUMNS]] for row in rows]
    return table([title, *[name for name, _ in _COLUMNS]], cells, "<" + ">" * len(_COLUMNS))
