"""Programs of device "cpu": recorded kernel calls, replayed with as little Python as there can be.

Contract. A CpuProgram does what its calls did, in order, on the same memory, and to the last bit the same. Neighbouring
calls of compiled kernels are joined to one stretch, which is a single call into the library; the others are Python
calls of NumPy's kernels. With observers present, each call is made through the door instead, so that they see it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import cpu_compiled
from .recording import Call, Program

if TYPE_CHECKING:
    from .cpu import CpuBackend


class CpuProgram(Program):
    """Noted calls of device "cpu"; it keeps the arrays that they name."""

    def __init__(self, backend: CpuBackend, calls: list[Call]) -> None:
        self._backend = backend
        self._calls = calls
        self._steps = list(_steps(backend, calls))
        self.kernels = len(calls)

    def run(self) -> None:
        if self._backend.observers:
            for kernel, out, args, params in self._calls:
                self._backend.run(kernel, out, *args, **params)
        else:
            self._backend.quietly(self._run_steps)

    def _run_steps(self) -> None:
        for step in self._steps:
            step()


def _steps(backend: CpuBackend, calls: list[Call]) -> Iterator[Callable[[], None]]:
    """The calls as functions without arguments, compiled neighbours joined."""
    compiled = cpu_compiled.library()
    tasks: list[tuple[bytes, Callable[[], None]]] = []
    for call in calls:
        in_numpy = backend.numpy_call(call)
        task = None if compiled is None else compiled.packed(call)
        if task is not None:
            tasks.append((task, in_numpy))
            continue
        if compiled is not None and tasks:
            yield _Stretch(compiled.replay, tasks)
            tasks = []
        yield in_numpy
    if compiled is not None and tasks:
        yield _Stretch(compiled.replay, tasks)


class _Stretch:
    """Tasks of compiled kernels, one after the other in memory, and NumPy's kernel for each that refuses its data."""

    def __init__(self, replay: Callable[[bytes, int], int], tasks: list[tuple[bytes, Callable[[], None]]]) -> None:
        self._replay = replay
        self._tasks = b"".join(task for task, _ in tasks)
        self._end = len(self._tasks)
        ends = itertools.accumulate(len(task) for task, _ in tasks)
        self._instead = {end - len(task): (in_numpy, end) for (task, in_numpy), end in zip(tasks, ends, strict=True)}

    def __call__(self) -> None:
        at = self._replay(self._tasks, 0)
        while at != self._end:
            in_numpy, end = self._instead[at]
            in_numpy()  # raises the error in the data
            at = self._replay(self._tasks, end)
