"""Joining arrays, and numbers in even steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import dtypes
from .. import Array
from . import Instance, KernelBackend, Launcher, one_dimensional, transpose
from .elementwise import copy, refusal
from .layout import c_type, element_strides

FILE = "movement.cu"
_LETTERS = {"i64": "qq", "double": "dd"}


def concat(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """The parts side by side along `dim`: each is copied to its place in out."""
    before = (slice(None),) * params["dim"]
    start = 0
    for part in args:
        end = start + part.shape[params["dim"]]
        copy(backend, "copy", out[(*before, slice(start, end))], (part,), {})
        start = end


def arange(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out[i] = start + i·step, computed as int64 where both are integers, else as float64."""
    if not out.size:
        return
    integral = all(isinstance(a, (int, np.integer)) for a in args)
    if integral and not all(-2**63 <= a < 2**63 for a in args):
        raise refusal(kernel, args, "these integers do not fit int64")
    key = (kernel, out.dtype.char, out.shape, out.strides, integral)
    plan = backend.plans.get(key)
    if plan is None:
        number, to = "i64" if integral else "double", c_type(out.dtype)
        plan = backend.remember(key, backend.plan(
            Instance(FILE, _expression(to, number)), "P" + _LETTERS[number], "qq",
            [out.size, element_strides(out, out.shape)[0]], *one_dimensional(out.size),
            siblings=[_expression(to, other) for other in _LETTERS]))
    backend.start(plan, (out,), backend.address(out), *args)


def _expression(out: str, number: str) -> str:
    return f"arange<{out}, {number}>"


TABLE: dict[str, Launcher] = {"concat": concat, "arange": arange}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach, and those of the transposition behind "copy"."""
    for dtype in dtypes.ALL:
        for number in _LETTERS:
            yield Instance(FILE, _expression(dtype.c_type, number))
    yield from transpose.instances()
