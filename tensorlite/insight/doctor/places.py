"""Where in the user's program something happens: the source line, the module, and the loss that is being computed.

Contract. All of it is read from the call stack. A loss is known by the code of its function and not by its name, so it
makes no difference how a program came to hold it: as F.cross_entropy, in a variable, or inside nn.CrossEntropyLoss.
"""

from __future__ import annotations

import inspect
import linecache
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, NamedTuple

from ...nn import functional as F
from ...tensor import Tensor

_PACKAGE = __name__.partition(".")[0]
_SEEN = "(seen by the doctor)"  # no name that a function could use; it stands among the locals of a loss


class Place(NamedTuple):
    """A line of the user's program, and the path of the module in which it ran."""

    file: str
    line: int
    module: str = ""

    @property
    def text(self) -> str:
        """The source line itself."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {self.text}"
        return f"{where} [in {self.module}]" if self.module else where


class LossCall(NamedTuple):
    """A call of a loss function: its name, its two tensors, and all its arguments by name.

    Its place names no module: `nn.CrossEntropyLoss()(scores, labels)` in a loop is another module in each step.
    """

    name: str
    input: Tensor
    target: Tensor
    arguments: dict[str, Any]
    place: Place


LOSSES: Final[dict[CodeType, str]] = {
    inspect.unwrap(getattr(F, name)).__code__: name
    for name in ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
                 "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")
}


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def locate(module: str) -> tuple[Place, LossCall | None]:
    """The innermost line outside tensorlite, and the loss function that it called, if that was not seen before."""
    frame, loss = sys._getframe(1), None
    while frame.f_back is not None and _is_ours(frame):
        if frame.f_code in LOSSES:
            loss = frame
        frame = frame.f_back
    place = Place(frame.f_code.co_filename, frame.f_lineno, module)
    return place, None if loss is None else _loss_call(loss, place._replace(module=""))


def _loss_call(frame: FrameType, place: Place) -> LossCall | None:
    arguments = frame.f_locals
    if _SEEN in arguments:  # one of the further operations of the same call
        return None
    arguments[_SEEN] = True
    return _as_loss_call(frame, place)


def _as_loss_call(frame: FrameType, place: Place) -> LossCall | None:
    given = dict(frame.f_locals)
    input, target = given.get("input"), given.get("target")
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        return None
    return LossCall(LOSSES[frame.f_code], input, target, given, place)


def of_error(trace: TracebackType | None, caller: Place | None) -> tuple[Place | None, LossCall | None]:
    """The innermost line outside tensorlite that an error passed, and the loss function that it came from."""
    place, loss = caller, None
    while trace is not None:
        frame = trace.tb_frame
        if not _is_ours(frame):
            place, loss = Place(frame.f_code.co_filename, trace.tb_lineno), None
        elif frame.f_code in LOSSES and loss is None:
            loss = frame
        trace = trace.tb_next
    return place, None if loss is None or place is None else _as_loss_call(loss, place)
