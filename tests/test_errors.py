"""Every error that the core raises on purpose: its class and its message. A `raise` that no row reaches fails the test."""

from __future__ import annotations

import ast
import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes, ops, testing
from tensorlite.autograd.op import op
from tensorlite.backends import Device, cpu, get

PACKAGE = Path(tl.__file__).parent
CORE = ["dtypes.py", "creation.py", "tensor.py", "inplace.py", "numpy_protocol.py", "testing.py", "backends/__init__.py",
        "backends/cpu.py", *sorted(f"{f}/{p.name}" for f in ("autograd", "ops") for p in (PACKAGE / f).glob("*.py"))]
# Not reached here: ml_dtypes is installed; guards of what cannot happen unless the core itself has a bug.
UNREACHED = {"bfloat16 needs the package ml_dtypes"}

Row = tuple[Callable[[], Any], type[Exception], str]


def vector(*shape: int, **options: Any) -> tl.Tensor:
    return tl.ones(*(shape or (3,)), **options)


def elsewhere() -> tl.Tensor:
    """A tensor on a second device, made up for the test."""
    backend = cpu.CpuBackend()
    backend.device = Device("cuda", 7)
    return tl.Tensor._wrap(np.ones(3, np.float32), backend)


leaf = {"requires_grad": True}
integers = tl.tensor([1, 2, 3])
bools = tl.tensor([True, False, True])
