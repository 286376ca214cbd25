"""KeyboardInterrupt at the n-th place of a program at which Python would notice Ctrl-C: not at random, but at each.

CPython looks for signals when a function begins, after a call and at the end of a loop's pass, and nowhere else. A
trace function counts these places while a piece of work runs, in the library, the standard library and the work itself,
and raises at the one that is asked for. It is called one instruction late; where another handler begins or ends just
there, as after the last call of a `with` block, it would raise past the handler that Python finds, and passes on.

Python's own `threading` is left out: an interrupt inside of a Condition comes out of it as "RuntimeError: release
unlocked lock".
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_LOOKS = tuple(number for name, number in dis.opmap.items()
               if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")))
_LEFT_OUT = (__file__, threading.__file__)


class Interrupter:
    """Counts the places of a piece of work, and interrupts it at one."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.raised = False
        self._passed = 0
        self._last: dict[int, int] = {}  # where in its code each frame was last; by id, which keeps no frame alive

    def run(self, work: Callable[[], Any]) -> bool:
        """Run the work with the interrupt. Returns whether it came so far.

        One in a finalizer is swallowed by Python, and forgotten here: pytest would keep it, and with it the frames of
        the work and their tensors.
        """
        before, hook = sys.gettrace(), sys.unraisablehook
        sys.unraisablehook = lambda unraisable: None
        sys.settrace(self._enter)
        try:
            work()
        except KeyboardInterrupt:
            if not self.raised:
                raise
        finally:
            sys.settrace(before)
            sys.unraisablehook = hook
        return self.raised

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename in _LEFT_OUT or self.raised:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._at_opcode

    def _at_opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._last.pop(id(frame), None)
        if event != "opcode" or self.raised:
            return self._at_opcode
        now, last = frame.f_lasti, self._last.get(id(frame))
        self._last[id(frame)] = now
        if last is not None and _is_place(frame.f_code, last, now):
            self._passed += 1
            if self._passed > self.place:
                self.raised = True
                raise KeyboardInterrupt
        return self._at_opcode


@functools.cache
def _is_place(code: CodeType, last: int, now: int) -> bool:
    """Whether Python looks for signals after the instruction at `last`, and has the same handler for that at `now`."""
    return code.co_code[last] in _LOOKS and _handler(code, last) == _handler(code, now)


@functools.cache
def _handler(code: CodeType, offset: int) -> int | None:
    """Where an exception of the instruction at this offset is handled."""
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        if entry.start <= offset < entry.end:
            return int(entry.target)
    return None
