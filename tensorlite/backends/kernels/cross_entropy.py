"""Cross entropy with class ids: the mean over rows, and its derivative."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...errors import OutOfRangeError, TensorliteError
from .. import Array
from . import THREADS, Complaint, Instance, KernelBackend, Launcher, Plan, rows
from .elementwise import FLOATS, refusal
from .layout import c_type

FILE = "cross_entropy.cu"
MAX_BLOCKS = 1024  # whose partial sums one block then adds up
COUNTED = 2048  # rows that each block of the derivative counts for itself
_BATCH = "qqqqqqqPQ"
_PARTIAL = 16  # bytes of a Partial, as in cross_entropy.cu
_BYTE, _INT64 = np.dtype(np.uint8), np.dtype(np.int64)


class Loss(NamedTuple):
    """The launches of a call: one, or one that writes partial sums and one that takes their mean."""

    first: Plan
    mean: Plan | None
    blocks: int


class Slope(NamedTuple):
    """The launches of the derivative: where rows are many, they are counted first, in parts."""

    counting: Plan | None
    grad: Plan
    parts: int


def cross_entropy(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                  params: dict[str, Any]) -> None:
    """out () = the mean over rows of -log softmax(logits)[target], without the rows whose target is ignore_index."""
    logits, target = args
    to, x, ids = backend.address(out), backend.address(logits), backend.address(target)
    key = (kernel, params["ignore_index"], x % 16 == 0, logits.dtype.char, logits.shape, logits.strides,
           target.dtype.char, target.strides, out.dtype.char)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan_loss(backend, out, logits, target, params["ignore_index"], x % 16 == 0))
    first, mean, blocks = plan
    if mean is None:
        backend.start(first, (out, logits, target), to, x, ids, 0)
        return
    scratch = backend.empty((blocks * _PARTIAL,), _BYTE)
    partials = backend.address(scratch)
    backend.start(first, (scratch, logits, target), 0, x, ids, partials)
    backend.start(mean, (out, scratch), to, partials)


def _plan_loss(backend: KernelBackend, out: Array, logits: Array, target: Array, ignore_index: int,
               aligned: bool) -> Loss:
    batch = _batch(backend, "cross_entropy", (out, logits), target, ignore_index)
    layout = rows.layout("cross_entropy", 1, (logits,))
    team = layout.team(logits.dtype.itemsize, aligned).piecewise
    grid, block = team.launch(max(layout.rows, 1), layout.columns, MAX_BLOCKS)
    siblings = _siblings(logits.dtype)
    first = backend.plan(Instance(FILE, _loss(team, logits.dtype)), "PPPP", _BATCH, batch, grid, block,
                         siblings=siblings)
    if grid[0] == 1:
        return Loss(first, None, 1)
    mean = backend.plan(Instance(FILE, _mean(logits.dtype)), "PP", "q", [grid[0]], (1, 1, 1), (THREADS, 1, 1),
                        siblings=siblings)
    return Loss(first, mean, grid[0])


def cross_entropy_grad(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                       params: dict[str, Any]) -> None:
    """out = g / (rows kept) · (softmax(logits) - one-hot of target); 0 in rows whose target is ignore_index."""
    if not out.size:
        return
    g, logits, target = args
    to, slope, x, ids = [backend.address(a) for a in (out, *args)]
    aligned = rows.is_aligned(to, x)
    key = (kernel, params["ignore_index"], aligned, logits.dtype.char, logits.shape, logits.strides,
           target.dtype.char, target.strides, g.dtype.char, out.dtype.char, out.strides)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan_grad(backend, (out, *args), params["ignore_index"], aligned))
    counting, grad, parts = plan
    if counting is None:
        backend.start(grad, (out, *args), to, slope, x, ids, 0)
        return
    scratch = backend.empty((parts,), _INT64)
    counts = backend.address(scratch)
    backend.start(counting, (scratch, target), 0, 0, 0, ids, counts)
    backend.start(grad, (out, *args, scratch), to, slope, x, ids, counts)


def _plan_grad(backend: KernelBackend, arrays: tuple[Array, ...], ignore_index: int, aligned: bool) -> Slope:
    out, g, logits, target = arrays
    kernel, dtype = "cross_entropy_grad", logits.dtype
    batch = _batch(backend, kernel, (out, g, logits), target, ignore_index)
    layout = rows.layout(kernel, 1, (out, logits))
    team = layout.team(dtype.itemsize, aligned)
    parts = 0 if layout.rows <= COUNTED else min(-(-layout.rows // COUNTED), THREADS)
    values = [parts, out.strides[0] // out.itemsize, out.strides[1] // out.itemsize, *batch]
    siblings = _siblings(dtype)
    grad = backend.plan(Instance(FILE, _grad(team, dtype)), "PPPPP", "qqq" + _BATCH, values,
                        *team.launch(layout.rows, layout.columns, MAX_BLOCKS), siblings=siblings)
    if not parts:
        return Slope(None, grad, 0)
    counting = backend.plan(Instance(FILE, _COUNT), "PPPPP", "qqq" + _BATCH, values, (parts, 1, 1), (THREADS, 1, 1),
                            siblings=siblings)
    return Slope(counting, grad, parts)


def _batch(backend: KernelBackend, kernel: str, arrays: tuple[Array, ...], target: Array,
           ignore_index: int) -> list[int]:
    """The fields of a `Batch`; the last of the arrays are the logits.

    Raises DTypeError unless the arrays are of one dtype, and the target of integers.
    """
    logits = arrays[-1]
    if target.dtype.kind not in "iu" or any(a.dtype != logits.dtype for a in arrays):
        raise refusal(kernel, (*arrays[1:], target))
    code = backend.code_for(_no_class(*logits.shape))
    steps = [stride // logits.itemsize for stride in logits.strides]
    width = -1 if target.dtype.char == "B" else target.itemsize
    return [*logits.shape, *steps, target.strides[0] // target.itemsize, width, ignore_index, backend.error_word, code]


def _no_class(count: int, classes: int) -> Complaint:
    """What to say of a target that is no class."""

    def complaint(value: int, position: int) -> TensorliteError:
        return OutOfRangeError(f"Target {value} is out of bounds: row {position} of {count}, {classes} classes")

    return complaint


# --- instances ------------------------------------------------------------------------------------------------------

_COUNT = "count_rows<>"


def _loss(team: rows.Team, dtype: np.dtype[Any]) -> str:
    return team.expression("", "cross_entropy", c_type(dtype))


def _mean(dtype: np.dtype[Any]) -> str:
    return f"cross_entropy_mean<{c_type(dtype)}>"


def _grad(team: rows.Team, dtype: np.dtype[Any]) -> str:
    return team.expression("held_grad", "long_rows_grad", c_type(dtype))


def _siblings(dtype: np.dtype[Any]) -> list[str]:
    teams = list(rows.teams(dtype.itemsize))
    losses = dict.fromkeys(_loss(team.piecewise, dtype) for team in teams)
    return [*losses, _mean(dtype), *[_grad(team, dtype) for team in teams], _COUNT]


TABLE: dict[str, Launcher] = {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    yield Instance(FILE, _COUNT)
    for dtype in FLOATS:
        for expression in _siblings(dtype.numpy):
            if expression != _COUNT:
                yield Instance(FILE, expression)
