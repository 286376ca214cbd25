"""The device beside the CPU, whatever it is: here a GPU, or none. PyTorch's names; `tl.cuda` has more."""

from __future__ import annotations

from typing import Any

from . import cuda
from .backends import Device


def is_available() -> bool:
    """Whether there is a GPU to compute on. Never raises.

    >>> device = tl.accelerator.current_accelerator().type if tl.accelerator.is_available() else "cpu"
    """
    return cuda.is_available()


def current_accelerator(check_available: bool = False) -> Device | None:
    """The GPU that "cuda" means in this thread, or None; here that is checked always."""
    return Device("cuda", cuda.current_device()) if cuda.is_available() else None


def device_count() -> int:
    """How many GPUs there are."""
    return cuda.device_count()


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all its work; None is the current GPU. See tl.cuda.synchronize."""
    cuda.synchronize(device)
