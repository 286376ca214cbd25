"""The exceptions of tensorlite. Each is also the builtin that a PyTorch or NumPy user catches.

    >>> from tensorlite.errors import ShapeError
    >>> issubclass(ShapeError, ValueError) and issubclass(ShapeError, RuntimeError)
    True

A message names the operation, the shapes, dtypes and devices, and what to do. While an error leaves a
model, each `nn.Module` it passes puts its own name in front of `module_path`, so that the message ends
with the place in the model, e.g. "in module 'encoder.2' (Linear)".
"""

from __future__ import annotations

import linecache
import sys
from types import FrameType


class TensorliteError(Exception):
    """Base of all errors raised on purpose. `module_path` and `module_type` say where in a model."""

    module_path: str | None = None
    module_type: str = ""
    module: object = None  # the outermost nn.Module that the error has left so far

    def __str__(self) -> str:
        message = super().__str__()
        if self.module_path is None:
            return message
        where = f"module '{self.module_path}' ({self.module_type})" if self.module_path else self.module_type
        return f"{message} [in {where}]"


class ShapeError(TensorliteError, ValueError, RuntimeError):
    """Shapes or dimensions that do not fit."""


class DTypeError(TensorliteError, TypeError, RuntimeError):
    """A dtype that the operation does not take, or a mixture that it refuses."""


class DeviceError(TensorliteError, RuntimeError):
    """An unknown or missing device, or operands on two devices."""


class GradError(TensorliteError, RuntimeError):
    """Misuse of autograd: no graph, a freed graph, a saved tensor changed in place."""


class CaptureError(TensorliteError, RuntimeError):
    """Misuse of tl.capture: what a replay could not repeat, or a result that was overwritten."""


class OutOfRangeError(TensorliteError, IndexError, RuntimeError):
    """An index or label outside its range."""


class ArgumentError(TensorliteError, ValueError, RuntimeError):
    """A parameter outside its domain, such as a dropout probability of 1.5."""


class FileFormatError(TensorliteError, ValueError, RuntimeError):
    """A file that is damaged, truncated or not of the expected format; the message names the file."""


class OutOfMemoryError(TensorliteError, MemoryError, RuntimeError):
    """A device has no room; the message says what was asked for and what is free."""


def users_frame() -> FrameType:
    """The innermost frame outside tensorlite."""
    package = __name__.partition(".")[0]
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return frame


def user_line() -> str:
    """The innermost source line outside tensorlite, for messages: 'file.py:12: y = a / b'."""
    frame = users_frame()
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"
