"""softmax, log_softmax and their derivatives: rows of any strides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import Array
from . import Instance, KernelBackend, Launcher, Plan, rows
from .elementwise import FLOATS
from .layout import c_type

FILE = "softmax.cu"
_TEMPLATES = {
    "softmax": ("held", "long_rows"), "softmax_grad": ("held_grad", "long_rows_grad"),
    "log_softmax": ("held", "long_rows"), "log_softmax_grad": ("held_grad", "long_rows_grad"),
}


def softmax(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = the kernel of its inputs along `dim`: x, or g and y."""
    if not out.size:
        return
    arrays = (out, *args)
    addresses = [backend.address(a) for a in arrays]
    aligned = rows.is_aligned(*addresses)
    key = (kernel, params["dim"], aligned, out.shape, *[(a.dtype.char, a.strides) for a in arrays])
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, arrays, params["dim"], aligned))
    backend.start(plan, arrays, *addresses)


def _plan(backend: KernelBackend, kernel: str, arrays: tuple[Array, ...], dim: int, aligned: bool) -> Plan:
    layout = rows.layout(kernel, dim, arrays)
    dtype = arrays[0].dtype
    team = layout.team(dtype.itemsize, aligned)
    return backend.plan(
        Instance(FILE, _expression(kernel, team, dtype)), "P" * len(arrays), rows.fields(len(arrays)),
        layout.packed(kernel), *team.launch(layout.rows, layout.columns), siblings=_siblings(dtype))


def _expression(kernel: str, team: rows.Team, dtype: np.dtype[Any]) -> str:
    return team.expression(*_TEMPLATES[kernel], c_type(dtype), f"formulas::{kernel}")


def _siblings(dtype: np.dtype[Any]) -> list[str]:
    return [_expression(kernel, team, dtype) for kernel in _TEMPLATES for team in rows.teams(dtype.itemsize)]


TABLE: dict[str, Launcher] = dict.fromkeys(_TEMPLATES, softmax)


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _siblings(dtype.numpy):
            yield Instance(FILE, expression)
