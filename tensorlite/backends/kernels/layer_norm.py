"""LayerNorm, RMSNorm and their derivatives: the normalised dimensions are the last ones, and make one row together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import Array, computing
from . import WARP, Instance, KernelBackend, Launcher, Plan, rows
from .elementwise import FLOATS, copy
from .layout import c_type

FILE = "layer_norm.cu"
_TEMPLATES = {
    "layer_norm": ("held", "long_rows"),
    "layer_norm_grad": ("held_grad", "long_rows_grad"),
    "layer_norm_weight_grad": ("held_weight_grad", "long_rows_weight_grad"),
}
_CENTERED = "layer_norm"  # what the names of kernels that subtract the mean of a row begin with
_PARTIALS = 2**20  # elements of the sums that teams keep, about: few beside what they read
_LEAST_TEAMS, _MOST_TEAMS = 256, 2048
_ROWS_OF_A_TEAM = 4


class WeightGrad(NamedTuple):
    """The launches of the weight's derivative: sums by teams, and the sums of these."""

    partial: Plan
    total: Plan
    teams: int


def layer_norm(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
               params: dict[str, Any]) -> None:
    """out = (x - mean)/√(var + eps)·weight + bias, or x/√(mean(x²) + eps)·weight + bias; from g, x and weight, the
    derivative of one of them in x."""
    if not out.size:
        return
    parameters = 1 if kernel.endswith("_grad") else 2
    whole, parts = args[:-parameters], args[-parameters:]
    dims, eps = params["dims"], params["eps"]
    target = _lines(backend, out, dims)
    arrays = [_dense(out, backend, dims) if target is None else target,
              *[_as_lines(backend, a, dims) for a in whole]]
    vectors = [None if a is None else _vector(backend, a, out.dtype) for a in parts]
    addresses = [0 if a is None else backend.address(a) for a in (*arrays, *vectors)]
    aligned = rows.is_aligned(*addresses)
    key = (kernel, eps, aligned, arrays[0].shape, *[(a.dtype.char, a.strides) for a in arrays])
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, arrays, len(addresses), eps, aligned))
    backend.start(plan, (*arrays, *[a for a in vectors if a is not None]), *addresses)
    if target is None:
        copy(backend, "copy", out, (arrays[0].reshape(out.shape),), {})


def _plan(backend: KernelBackend, kernel: str, arrays: list[Array], pointers: int, eps: float,
          aligned: bool) -> Plan:
    layout = rows.layout(kernel, 1, arrays)
    dtype = arrays[0].dtype
    team = layout.team(dtype.itemsize, aligned)
    return backend.plan(
        Instance(FILE, _expression(kernel, team, dtype)), "P" * pointers, "dq" + rows.fields(len(arrays)),
        [eps, kernel.startswith(_CENTERED), *layout.packed(kernel)], *team.launch(layout.rows, layout.columns),
        siblings=_siblings(dtype))


def layer_norm_weight_grad(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                           params: dict[str, Any]) -> None:
    """out = Σ over rows of g·(the normalised x), in the shape of the normalised dimensions."""
    if not out.size:
        return
    dims, eps = params["dims"], params["eps"]
    g, x = [_as_lines(backend, a, dims) for a in args]
    slope, source = backend.address(g), backend.address(x)
    aligned = rows.is_aligned(slope, source)
    key = (kernel, eps, aligned, x.shape, x.dtype.char, x.strides, g.dtype.char, g.strides, out.dtype.char)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan_weight_grad(backend, kernel, out, g, x, eps, aligned))
    partial, total, teams = plan
    scratch = backend.empty((teams, out.size), computing(x.dtype))
    partials = backend.address(scratch)
    backend.start(partial, (scratch, g, x), partials, slope, source)
    dense = out if out.flags.c_contiguous else backend.empty(out.shape, out.dtype)
    backend.start(total, (dense, scratch), backend.address(dense), partials)
    if dense is not out:
        copy(backend, "copy", out, (dense,), {})


def _plan_weight_grad(backend: KernelBackend, kernel: str, out: Array, g: Array, x: Array, eps: float,
                      aligned: bool) -> WeightGrad:
    layout = rows.layout(kernel, 1, (g, x))
    dtype, columns = x.dtype, layout.columns
    team = layout.team(dtype.itemsize, aligned)
    busy = min(max(_PARTIALS // columns, _LEAST_TEAMS), _MOST_TEAMS)
    grid, block = team.launch(max(min(busy, layout.rows // _ROWS_OF_A_TEAM), 1), columns)
    teams = grid[0] * {"Thread": block[0], "Warp": block[0] // WARP, "Block": 1}[team.name]
    siblings = _siblings(dtype)
    partial = backend.plan(Instance(FILE, _expression(kernel, team, dtype)), "PPP", "dq" + rows.fields(2),
                           [eps, kernel.startswith(_CENTERED), *layout.packed(kernel)], grid, block, siblings=siblings)
    total = backend.plan(Instance(FILE, _total(out.dtype)), "PP", "qq", [teams, columns],
                         (-(-columns // WARP), 1, 1), (WARP * WARP, 1, 1), siblings=siblings)
    return WeightGrad(partial, total, teams)


# --- arrays as matrices of rows -------------------------------------------------------------------------------------


def _lines(backend: KernelBackend, array: Array, dims: tuple[int, ...]) -> Array | None:
    """The array as (rows, columns), `dims` being its last ones; None where its strides do not allow that."""
    if len(dims) == 1 and array.ndim == 2:
        return array
    first = dims[0]
    return backend.view(array, (math.prod(array.shape[:first]), math.prod(array.shape[first:])))


def _dense(array: Array, backend: KernelBackend, dims: tuple[int, ...]) -> Array:
    columns = math.prod(array.shape[dims[0]:])
    return backend.empty((array.size // columns, columns), array.dtype)


def _as_lines(backend: KernelBackend, array: Array, dims: tuple[int, ...]) -> Array:
    """The array as (rows, columns): a view, else a dense copy."""
    lines = _lines(backend, array, dims)
    if lines is None:
        lines = _dense(array, backend, dims)
        copy(backend, "copy", lines.reshape(array.shape), (array,), {})
    return lines


def _vector(backend: KernelBackend, parameter: Array, dtype: np.dtype[Any]) -> Array:
    """A weight or bias, dense and of the dtype of x: itself, else a copy."""
    if parameter.flags.c_contiguous and parameter.dtype == dtype:
        return parameter
    vector = backend.empty(parameter.shape, dtype)
    copy(backend, "copy", vector, (parameter,), {})
    return vector


# --- instances ------------------------------------------------------------------------------------------------------


def _expression(kernel: str, team: rows.Team, dtype: np.dtype[Any]) -> str:
    return team.expression(*_TEMPLATES[kernel.replace("rms_norm", _CENTERED)], c_type(dtype))


def _total(dtype: np.dtype[Any]) -> str:
    return f"column_sums<{c_type(dtype)}>"


def _siblings(dtype: np.dtype[Any]) -> list[str]:
    return [*[_expression(kernel, team, dtype) for kernel in _TEMPLATES for team in rows.teams(dtype.itemsize)],
            _total(dtype)]


TABLE: dict[str, Launcher] = {
    **dict.fromkeys(("layer_norm", "layer_norm_grad", "rms_norm", "rms_norm_grad"), layer_norm),
    **dict.fromkeys(("layer_norm_weight_grad", "rms_norm_weight_grad"), layer_norm_weight_grad),
}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _siblings(dtype.numpy):
            yield Instance(FILE, expression)
