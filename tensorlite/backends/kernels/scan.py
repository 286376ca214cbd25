"""Running sums and products: a block or a thread to each row, and rows cut into shares where there are few."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from .. import Array, computing
from . import THREADS, WARP, Instance, KernelBackend, Launcher, Plan
from .elementwise import ANY, refusal
from .layout import c_type, coalesce, dims_fields, element_strides, packed_dims
from .reduce import BLOCKS

FILE = "scan.cu"
SCANS = ("cumsum", "cumprod")
ITEMS = 4  # elements that a thread takes at a time, as in scan.cu
TILE = ITEMS * THREADS  # elements that a block of `rows` takes at a time
SHORT = 64  # elements up to which a row is left to one thread

_FIELDS = "qqqqq" + dims_fields(2)


class Geometry(NamedTuple):
    """Rows along a dimension: how many, how long, and the strides, in elements, of x and out."""

    rows: int
    length: int
    strides: tuple[int, int]
    sizes: list[int]  # of the other dimensions, innermost first
    steps: list[tuple[int, ...]]

    @property
    def is_by_columns(self) -> bool:
        """Whether a thread to each row reads memory better than a block does."""
        beside = self.rows >= WARP and abs(self.steps[0][0]) < abs(self.strides[0])
        return beside or self.length <= SHORT


class Scan(NamedTuple):
    """The launches of a call: one, or three with the totals of shares between them."""

    along: Plan  # of x, twice where rows are in shares
    of_totals: Plan | None
    totals: int


def scan(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = the running totals of x along the dimension `dim`."""
    (x,) = args
    if not out.size:
        return
    key = (kernel, x.dtype.char, x.shape, x.strides, out.dtype.char, out.strides, params["dim"])
    known = backend.plans.get(key)
    if known is None:
        known = backend.remember(key, _plan(backend, kernel, out, x, params["dim"]))
    along, of_totals, count = known
    source, target = backend.address(x), backend.address(out)
    if of_totals is None:
        backend.start(along, (out, x), source, target, 0, 0)
        return
    totals = backend.empty((count,), computing(x.dtype))
    before = backend.address(totals)
    backend.start(along, (totals, x), source, 0, 0, before)
    backend.start(of_totals, (totals,), before, before, 0, 0)
    backend.start(along, (out, x, totals), source, target, before, 0)


def _plan(backend: KernelBackend, kernel: str, out: Array, x: Array, dim: int) -> Scan:
    if out.dtype != x.dtype:
        raise refusal(kernel, (x,), f"the result is {dtypes.from_numpy(out.dtype).name}")
    geometry = _geometry(out, x, dim)
    shares, share = _shares(geometry)

    def launch(template: str, dtype: np.dtype[Any], of: Geometry, shares: int, share: int) -> Plan:
        blocks = of.rows if template == "rows" else -(-of.rows // THREADS)
        values = [of.rows, of.length, share, *of.strides, *packed_dims(kernel, of.sizes, of.steps)]
        return backend.plan(Instance(FILE, _expression(template, kernel, dtype)), "PPPP", _FIELDS, values,
                            (blocks, shares, 1), siblings=_siblings(dtype))

    along = launch("columns" if geometry.is_by_columns else "rows", x.dtype, geometry, shares, share)
    if shares == 1:
        return Scan(along, None, 0)
    rows = geometry.rows
    dense = Geometry(rows, shares, (1, 1), [rows], [(shares, shares)])
    return Scan(along, launch("rows", computing(x.dtype), dense, 1, shares), rows * shares)


def _geometry(out: Array, x: Array, dim: int) -> Geometry:
    steps, out_steps = element_strides(x, x.shape), element_strides(out, out.shape)
    others = [d for d in range(x.ndim) if d != dim]
    sizes, starts = coalesce(*[[of[d] for d in others] for of in (x.shape, steps, out_steps)])
    return Geometry(math.prod(sizes), x.shape[dim], (steps[dim], out_steps[dim]), sizes, starts)


def _shares(geometry: Geometry) -> tuple[int, int]:
    """Into how many shares to cut each row, and the length of one."""
    rows, length = geometry.rows, geometry.length
    blocks, least = (-(-rows // THREADS), SHORT) if geometry.is_by_columns else (rows, 4 * TILE)
    shares = min(BLOCKS // blocks, length // least)
    if shares < 4:  # reading everything twice would not pay
        return 1, length
    share = -(-length // (shares * ITEMS)) * ITEMS
    return -(-length // share), share


# --- instances --------------------------------------------------------------------------------------------------------


def _expression(template: str, kernel: str, dtype: np.dtype[Any]) -> str:
    return f"{template}<scans::{kernel}, {c_type(dtype)}>"


def _siblings(dtype: np.dtype[Any]) -> list[str]:
    return [_expression(template, kernel, dtype) for kernel in SCANS for template in ("rows", "columns")]


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in ANY:
        for expression in _siblings(dtype.numpy):
            yield Instance(FILE, expression)


TABLE: dict[str, Launcher] = dict.fromkeys(SCANS, scan)
