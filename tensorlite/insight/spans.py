"""Spans: stretches of time in which a thread was in a module, an operation, a kernel; nested as the calls were.

Contract. A Span is a context manager. The spans that a thread is in form a stack, from which each new one learns to
which operation and to which module its time belongs. A span that ended goes to all `sinks` that were there when it
began. Work belongs to the innermost operation, with two exceptions: what a rule of backward computes belongs to the
operation whose rule it is, and a kernel outside of any operation stands for itself.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from time import perf_counter_ns
from types import TracebackType
from typing import NamedTuple, Protocol, Self

MODULE, OP, BACKWARD, STEP, CAPTURE, KERNEL = "module", "op", "backward", "optimizer", "capture", "kernel"


class Work(NamedTuple):
    """What a kernel did: on which device, the bytes it read and wrote, its floating-point operations in products.

    0 bytes where that is not known.
    """

    device: str
    bytes: int
    flops: int


class Sink(Protocol):
    """Takes the spans that begin after `began`, in nanoseconds of perf_counter, as they end."""

    began: int
    spans: list[Span]


sinks: tuple[Sink, ...] = ()
_threads = itertools.count(1)


class _Here(threading.local):
    """The spans that this thread is in, what the thread is called, and whether nobody is to see what it does."""

    def __init__(self) -> None:
        self.stack: list[Span] = []
        self.unseen = False
        self.thread = next(_threads), threading.current_thread().name


_here = _Here()


class Span:
    """A stretch of time; all times in nanoseconds of perf_counter.

    kind      MODULE, OP, BACKWARD (a rule, or the whole of backward), STEP, CAPTURE or KERNEL
    op        the operation to which the time belongs; None between the operations of a module
    owns      whether this span is that operation, once
    module    the path of the module to which it belongs, "" outside of modules
    closed    whether operations inside count as part of this one
    inside    the time of the spans directly inside this one
    work      what a kernel did
    on_device when a kernel began on a device with a clock of its own, and how long it took
    """

    __slots__ = ("closed", "end", "inside", "kind", "module", "name", "on_device", "op", "owns", "start", "thread",
                 "work")

    def __init__(self, kind: str, name: str, module: str | None = None, closed: bool = False) -> None:
        self.kind, self.name, self.closed = kind, name, closed
        self.start = self.end = self.inside = 0
        self.work: Work | None = None
        self.on_device: tuple[int, int] | None = None
        stack = _here.stack
        outer = stack[-1] if stack else None
        self.module: str = module if module is not None else outer.module if outer else ""
        self.op: str | None = None if kind is MODULE else name
        self.owns = kind is not MODULE
        if outer is not None and outer.op is not None and self._is_part_of(outer):
            self.op, self.owns, self.closed = outer.op, False, outer.closed
        self.thread = _here.thread

    def _is_part_of(self, outer: Span) -> bool:
        if self.kind is KERNEL:
            return True
        again = outer.kind is OP and outer.name == self.name  # an op that calls itself with other arguments
        return self.kind is OP and (outer.closed or again)

    @property
    def duration(self) -> int:
        """From start to end, on the host's clock."""
        return self.end - self.start

    @property
    def busy(self) -> int:
        """How long a kernel took, on the clock of its device."""
        return self.on_device[1] if self.on_device else self.duration - self.inside

    def __enter__(self) -> Self:
        _here.stack.append(self)
        self.start = perf_counter_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        now = perf_counter_ns()
        stack = _here.stack
        if self not in stack:  # a rule that an error left half done, tidied up only now
            return
        while stack.pop() is not self:  # such rules, above this span
            pass
        outer = stack[-1] if stack else None
        if self.kind is KERNEL and self.work is None:  # it failed, or was a call of the span inside it
            if outer is not None:
                outer.inside += self.inside
            return
        self.end = self.end or now
        if outer is not None:
            outer.inside += self.duration
        for sink in () if _here.unseen else sinks:
            if self.start >= sink.began:
                sink.spans.append(self)


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Keep what this thread does out of all profiles."""
    before, _here.unseen = _here.unseen, True
    try:
        yield
    finally:
        _here.unseen = before


def open_kernel() -> Span | None:
    """The kernel that this thread is in, and of which nothing is known yet."""
    stack = _here.stack
    last = stack[-1] if stack else None
    return last if last is not None and last.kind is KERNEL and last.work is None else None


def current_module() -> str:
    """The path of the module that this thread is in."""
    stack = _here.stack
    return stack[-1].module if stack else ""
