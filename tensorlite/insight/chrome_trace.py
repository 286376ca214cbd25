"""A profile in Chrome's trace event format: one row per thread, and one per device that has a clock of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from .spans import MODULE, Span

_DEVICES = 1_000_000  # the rows of devices are numbered from here on, those of threads from 1


def write(path: str | PathLike[str], spans: Iterable[Span], began: int) -> None:
    """Write spans, with times from `began` on, as JSON that chrome://tracing and ui.perfetto.dev read."""
    events = list(_events(sorted(spans, key=lambda span: span.start), began))
    Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}), encoding="utf-8")


def _events(spans: list[Span], began: int) -> Iterator[dict[str, Any]]:
    rows: dict[int, str] = {}
    devices: dict[str, int] = {}
    for span in spans:
        number, name = span.thread
        rows[number] = name
        yield _event(span, number, span.start - began, span.duration)
        if span.on_device and span.work:
            row = devices.setdefault(span.work.device, _DEVICES + len(devices))
            rows[row] = span.work.device
            start, duration = span.on_device
            yield _event(span, row, start - began, duration)
    for row, name in rows.items():
        yield {"name": "thread_name", "ph": "M", "pid": os.getpid(), "tid": row, "args": {"name": name}}


def _event(span: Span, row: int, start: int, duration: int) -> dict[str, Any]:
    """A complete event; its times are in microseconds."""
    details: dict[str, Any] = {"module": span.module} if span.op is None else {"op": span.op, "module": span.module}
    if span.work:
        details |= span.work._asdict()
    name = f"{span.module} ({span.name})" if span.kind is MODULE else span.name
    return {"name": name, "cat": span.kind, "ph": "X", "ts": start / 1e3, "dur": duration / 1e3, "pid": os.getpid(),
            "tid": row, "args": details}
