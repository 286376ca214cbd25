"""Products of matrices by a tiled kernel, for every dtype of numbers and any strides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from .. import Array
from . import Instance, KernelBackend, Launcher, Plan
from .elementwise import NUMBERS, refusal
from .layout import DIVIDER, c_type, dims_fields, divider, element_strides, packed_dims, row_major

FILE = "matmul.cu"
TILES = {16: "8, 2", 64: "16, 4"}  # edge of a block's tile of out -> edge of its threads, outputs per thread and edge
BLOCK = {16: (64, 1, 1), 64: (256, 1, 1)}


def matmul(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = x · y for matrices (..., n, k) and (..., k, m), batch dimensions broadcast."""
    x, y = args
    _multiply(backend, kernel, out, x, y, None, args)


def linear(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = x · Wᵀ + bias for x (..., k), W (m, k) and bias (m) or None."""
    x, weight, bias = args
    if x.ndim == 1:
        x, out = x.reshape(1, -1), out.reshape(1, -1)
    _multiply(backend, kernel, out, x, weight.T, bias, args)


def _multiply(backend: KernelBackend, kernel: str, out: Array, x: Array, y: Array, bias: Array | None,
              args: tuple[Any, ...]) -> None:
    if not out.size:
        return
    key = (kernel, out.dtype.char, x.dtype.char, y.dtype.char, out.shape, out.strides, x.shape, x.strides, y.shape,
           y.strides, None if bias is None else (bias.dtype.char, bias.strides))
    plan = backend.plans.get(key)
    if plan is None:
        _require_numbers(kernel, out, args)
        plan = backend.remember(key, _plan(backend, kernel, out, x, y, bias))
    address = backend.address
    arrays = (out, x, y) if bias is None else (out, x, y, bias)
    backend.start(plan, arrays, address(out), address(x), address(y), 0 if bias is None else address(bias))


def _require_numbers(kernel: str, out: Array, args: tuple[Any, ...]) -> None:
    """Raise DTypeError for bools, and for operands of different dtypes."""
    if out.dtype.kind == "b":
        raise refusal(kernel, args, "bool tensors are not numbers; use .to(tl.int64), or a logical operation")
    if any(a is not None and a.dtype != out.dtype for a in args):
        raise refusal(kernel, args)


def _plan(backend: KernelBackend, kernel: str, out: Array, x: Array, y: Array, bias: Array | None) -> Plan:
    (*_, columns), (*_, depth) = out.shape, x.shape
    out_steps, x_steps, y_steps = (element_strides(a, (*out.shape[:-2], *a.shape[-2:])) for a in (out, x, y))
    sizes, steps = _rows_and_batch(out.shape[:-1], out_steps[:-1], x_steps[:-1], (*y_steps[:-2], 0))
    rows, (out_row, x_row, _) = sizes.pop(0), steps.pop(0)
    tile = 64 if min(rows, columns) > 32 else 16
    row_tiles, column_tiles = -(-rows // tile), -(-columns // tile)
    values = [rows, columns, depth, out_row, out_steps[-1], x_row, x_steps[-1], y_steps[-2], y_steps[-1],
              0 if bias is None else element_strides(bias, bias.shape)[0],
              *divider(row_tiles), *divider(column_tiles), *packed_dims(kernel, sizes, steps)]
    name = c_type(out.dtype)
    return backend.plan(
        Instance(FILE, _expression(name, tile)), "PPPP", "10q" + DIVIDER * 2 + dims_fields(3), values,
        (row_tiles * column_tiles * math.prod(sizes), 1, 1), BLOCK[tile],
        siblings=[_expression(name, edge) for edge in TILES])


def _rows_and_batch(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes and strides of the rows, then of the batch; rows take in the batch dimensions that share one y and lie
    evenly behind them."""
    sizes, steps = row_major(shape, *strides)
    if steps[0][-1] != 0:  # a single row per matrix, and each has a y of its own
        sizes, steps = [1, *sizes], [(0,) * len(strides), *steps]
    return (sizes, steps) if len(sizes) > 1 else ([*sizes, 1], [*steps, (0,) * len(strides)])


def _expression(name: str, tile: int) -> str:
    return f"matmul<{name}, {TILES[tile]}>"


TABLE: dict[str, Launcher] = {"matmul": matmul, "linear": linear}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in NUMBERS:
        for tile in TILES:
            yield Instance(FILE, _expression(dtype.c_type, tile))
