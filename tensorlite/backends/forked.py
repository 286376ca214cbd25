"""GPUs in a forked process: CUDA does not survive a fork, and says so late, obscurely or never.

Contract. `guard(backend)` costs the process that calls it nothing. In its forked children the backend is not found by
its device any more, so `tl.cuda.is_available()` is False there; that of tensors which the child inherited becomes one
whose every way to the GPU raises a DeviceError with the fork and the way out.
"""

from __future__ import annotations

import os
from typing import Any, Final, NoReturn

from ..errors import DeviceError
from . import _loaded

_METHODS: Final = ("empty", "from_numpy", "pinned", "to_numpy", "synchronize", "synchronize_stream", "memory_info",
                   "empty_cache", "current", "launch", "launch_graph", "recorder")
_PROPERTIES: Final = ("allocated", "reserved", "name")

_first_user: int | None = None  # the process in which a GPU was first used


def guard(backend: Any) -> None:
    """Have the backend of a GPU refuse all work in children that this process forks from now on."""
    global _first_user
    _first_user = _first_user or os.getpid()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _cut_off(backend))


def refuse_here(device: str) -> None:
    """Raise DeviceError in a child of a process that used a GPU before it forked."""
    if _first_user not in (None, os.getpid()):
        raise _error(device)


def _cut_off(backend: Any) -> None:
    _loaded.pop(backend.device, None)
    owner = type(backend)
    refusing = dict.fromkeys(_METHODS, _refuse) | dict.fromkeys(_PROPERTIES, property(_refuse))
    backend.__class__ = type(f"Forked{owner.__name__}", (owner,), refusing)


def _refuse(backend: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise _error(str(backend.device))


def _error(device: str) -> DeviceError:
    return DeviceError(
        f"device '{device}' cannot be used in this process: it was forked from one that uses a GPU, and CUDA does not "
        "survive a fork. Start it with multiprocessing.get_context('spawn'), or fork before a GPU is first used")
