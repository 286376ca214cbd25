"""Launches of the simulator under checks: bounds, data races, and results that depend on the order of threads.

Contract. `launch` runs a kernel plainly, or while `checking` is on, instrumented and under several schedules: in order
first, then in random orders that are the same in every run. Arrays are restored in between, and results must be equal
bit for bit, unless the kernel adds floats atomically: then their order may show in the last bits, and is not compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from . import Array
from .simulator_library import Function, Grid, SimulatorError
from .simulator_library import launch as launch_plainly

_SEED = 0x9E3779B97F4A7C15  # its multiples, modulo 2^64, are far apart; any odd number would do
_OFFSET = re.compile(r"<offset (0x[0-9a-f]+)>")


class _Extent(ctypes.Structure):
    """Mirrors `Extent` of kernels/simulator_checks.h."""

    _fields_ = (("begin", ctypes.c_void_p), ("size", ctypes.c_size_t), ("name", ctypes.c_char_p),
                ("granule", ctypes.c_uint), ("is_shared", ctypes.c_bool))


class _Watch(ctypes.Structure):
    """Mirrors `Watch` of kernels/simulator_checks.h."""

    _fields_ = (("extents", ctypes.c_void_p), ("count", ctypes.c_uint), ("used_float_atomics", ctypes.c_bool))


class Stretch(NamedTuple):
    """Memory that a launch may touch; dtype None is for what is not an array, and not compared."""

    begin: int
    size: int
    name: str
    dtype: np.dtype[Any] | None = None


def _schedules_of_environment() -> int:
    """TENSORLITE_SIM_CHECK: under how many schedules every launch is checked; 0, or unset, for none."""
    value = os.environ.get("TENSORLITE_SIM_CHECK") or "0"
    if not value.isdecimal():
        raise ArgumentError(f"TENSORLITE_SIM_CHECK={value}: expected a number of schedules, such as 1 or 8")
    return int(value)


_schedules = _schedules_of_environment()


@contextlib.contextmanager
def checking(schedules: int) -> Iterator[None]:
    """While inside, every launch of the process is checked under so many schedules. Raises ArgumentError below 1."""
    global _schedules
    if not isinstance(schedules, int) or schedules < 1:
        raise ArgumentError(f"check: schedules must be an integer, at least 1, got {schedules!r}")
    before, _schedules = _schedules, schedules
    try:
        yield
    finally:
        _schedules = before


def chosen(function: Function) -> Function:
    """The version of a kernel that `launch` runs now: with checks or without."""
    return function.checked if _schedules else function


def launch(function: Function, grid: Grid, block: Grid, shared_bytes: int, arguments: int, arrays: Sequence[Any],
           others: Sequence[Stretch] = ()) -> None:
    """Run a grid. `arrays`, and those in tuples among them, are all that the kernel may touch, beside `others`.

    Raises SimulatorError.
    """
    if _schedules == 0:
        launch_plainly(function, grid, block, shared_bytes, arguments)
        return
    memory, checked = _stretches(arrays), function.checked
    known = [*memory, Stretch(arguments, checked.arguments_size, "the kernel's arguments"), *others]
    _run_schedules(checked, (grid, block, shared_bytes, arguments), memory, known)


def _run_schedules(function: Function, how: tuple[Grid, Grid, int, int], memory: Sequence[Stretch],
                   known: Sequence[Stretch]) -> None:
    shared = [_Extent(s.address, s.size, s.name.encode(), bool(s.name), True)
              for s in function.library.shared_variables]
    touched = [_Extent(s.begin, s.size, s.name.encode(), 0 if s.dtype is None else s.dtype.itemsize) for s in known]
    listed = sorted(shared + touched, key=lambda extent: extent.begin)
    extents = (_Extent * len(listed))(*listed)
    watch = _Watch(ctypes.addressof(extents), len(listed))
    before = _contents(memory)
    first: list[bytes] = []
    for schedule in range(_schedules):
        if schedule:
            for stretch, content in zip(memory, before, strict=True):
                ctypes.memmove(stretch.begin, content, stretch.size)
        seed = schedule * _SEED % 2**64
        problem = function.run(*how, seed=seed, watch=ctypes.addressof(watch))
        if problem is not None:
            raise SimulatorError(_with_lines(problem, function.library.path))
        if schedule == 0:
            first = _contents(memory)
        elif not watch.used_float_atomics:
            _compare(function, memory, first, _contents(memory), schedule)


def _contents(memory: Sequence[Stretch]) -> list[bytes]:
    return [ctypes.string_at(stretch.begin, stretch.size) for stretch in memory]


def _compare(function: Function, memory: Sequence[Stretch], first: Sequence[bytes], now: Sequence[bytes],
             schedule: int) -> None:
    """Raise SimulatorError where two schedules left different bytes."""
    for stretch, a, b in zip(memory, first, now, strict=True):
        if a != b:
            assert stretch.dtype is not None
            item = stretch.dtype.itemsize
            at = int(np.flatnonzero(np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8))[0]) // item
            values = [np.frombuffer(x, stretch.dtype)[at] for x in (a, b)]
            raise SimulatorError(
                f"{function.name}: the result depends on the order of threads: element {at} of {stretch.name} is "
                f"{values[0]} with threads in order and {values[1]} under schedule {schedule}; is a __syncthreads "
                "missing, or an atomic?")


def _stretches(arrays: Sequence[Any]) -> list[Stretch]:
    """The extents of arrays in memory; those that overlap are made one, with the smaller elements."""
    found = []
    for number, array in enumerate(_listed(arrays)):
        if isinstance(array, np.ndarray) and array.size:
            low, high = np.lib.array_utils.byte_bounds(_plain(array))
            name = f"array {number} of the launch ({array.dtype}, shape {array.shape})"
            found.append(Stretch(low, high - low, name, array.dtype))
    merged: list[Stretch] = []
    for stretch in sorted(found):
        last = merged[-1] if merged else None
        if last is None or stretch.begin >= last.begin + last.size:
            merged.append(stretch)
        else:
            size = max(last.begin + last.size, stretch.begin + stretch.size) - last.begin
            smaller = min(last, stretch, key=lambda s: s.dtype.itemsize if s.dtype else 0)
            merged[-1] = Stretch(last.begin, size, last.name, smaller.dtype)
    return merged


def _listed(arrays: Sequence[Any]) -> Iterator[Any]:
    """What is in a sequence, and in the tuples in it."""
    for item in arrays:
        if isinstance(item, tuple):
            yield from _listed(item)
        else:
            yield item


def _plain(array: Array) -> np.ndarray:
    plain: np.ndarray = array.view(np.ndarray)
    return plain


def _with_lines(problem: str, library: Path) -> str:
    """Offsets in a library as lines of the kernel text, where the program addr2line is there to tell them."""
    tool = shutil.which("addr2line")

    def line_of(match: re.Match[str]) -> str:
        if tool is None:
            return match[0]
        done = subprocess.run([tool, "-i", "-e", str(library), match[1]], capture_output=True, text=True, check=False)
        frames = [Path(line.partition(" ")[0]).name for line in done.stdout.splitlines()]
        kernel_text = [frame for frame in frames if not frame.startswith(("simulator.h:", "??"))]
        return kernel_text[0] if kernel_text else match[0]

    return _OFFSET.sub(line_of, problem)
