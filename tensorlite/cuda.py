"""What a program asks about GPUs before it uses one."""

from __future__ import annotations

from .backends import get
from .errors import DeviceError


def is_available() -> bool:
    """Whether tensors can move to device "cuda".

    >>> tl.device("cuda" if tl.cuda.is_available() else "cpu")
    device(type='cpu')
    """
    try:
        get("cuda")
    except DeviceError:
        return False
    return True
