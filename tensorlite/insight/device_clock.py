"""The time that kernels take on a GPU: an event before and one after each of them, read when both have happened.

A launch returns before its kernel has begun, so the host's clock says nothing about the kernel. Nothing here waits for
the GPU before the end of a profile, and events are used again, so a long profile needs no more of them than there is
work under way.
"""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter_ns
from typing import Any

from ..backends import recording
from .spans import Span

_UNDER_WAY = 1024  # kernels of which the events are kept before a look at which have happened


class DeviceClock:
    """The clock of one GPU."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._free: list[Any] = []
        self._running: deque[tuple[Span, Any, Any]] = deque()
        self._lock = threading.Lock()
        self._began: dict[Span, Any] = {}
        self._origin: Any = None  # an event, and the host's time when it happened
        self._origin_time = 0

    def start(self, span: Span) -> None:
        """The kernel of a span comes next on this thread's stream."""
        if recording.here() is not None:  # what is recorded does not run now
            return
        if self._origin is None:
            self._set_origin()
        self._began[span] = self._mark()

    def end(self, span: Span) -> None:
        """The kernel of a span was the last one on this thread's stream."""
        began = self._began.pop(span, None)
        if began is not None:
            self._running.append((span, began, self._mark()))
            if len(self._running) > _UNDER_WAY:
                self.read(wait=False)

    def forget(self, span: Span) -> None:
        """There was no kernel of this span."""
        began = self._began.pop(span, None)
        if began is not None:
            self._free.append(began)

    def read(self, wait: bool) -> None:
        """Give spans their times: those of kernels that are done, or with `wait` all."""
        if recording.here() is not None:  # to ask for events would end the recording
            return
        with self._lock:
            while self._running:
                span, began, ended = self._running[0]
                if wait:
                    ended.synchronize()
                elif not ended.done:
                    return
                start, duration = self._since(self._origin, began), self._since(began, ended)
                span.on_device = self._origin_time + start, duration
                self._running.popleft()
                self._free += [began, ended]

    def _set_origin(self) -> None:
        with self._lock:
            if self._origin is None:
                origin = self._mark()
                origin.synchronize()
                self._origin_time = perf_counter_ns()
                self._origin = origin

    def _mark(self) -> Any:
        try:
            event = self._free.pop()
        except IndexError:
            event = self._backend.new_event(blocking=False, timing=True)
        event.record(self._backend.current_stream())
        return event

    def _since(self, begin: Any, end: Any) -> int:
        milliseconds: float = self._backend.elapsed_time(begin, end)
        return round(milliseconds * 1e6)
