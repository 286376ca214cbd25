"""Pooling of planes and its derivatives, of arrays (N, C, H, W); what does not lie densely is copied first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import ShapeError
from .. import FLOATING, Array
from . import Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import FLOATS, copy, dense, refusal
from .layout import DIVIDER, LARGE, c_type, divider

FILE = "pool.cu"
_FIELDS = "q" + 2 * DIVIDER + 12 * "i" + "qq"
_INT32 = np.dtype(np.int32)
_TEMPLATES = ("max_pool_grad_cells", "max_pool_grad", "avg_pool", "avg_pool_grad")
Pair = tuple[int, int]


def max_pool2d(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out, of windows: the largest of each, where in its plane that is, or what another array has there."""
    written = {"max_pool2d": "largest_value", "max_pool2d_indices": "largest_place",
               "max_pool2d_pick": "picked_value"}[kernel]
    _check(kernel, args)
    x, v = args[-1], args[0] if kernel == "max_pool2d_pick" else None
    expression = _max_pool(written, c_type(out.dtype), c_type(x.dtype))
    _run(backend, expression, out, v, x, _windows(kernel, out, x, params), out.shape[2:])


def max_pool2d_grad(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                    params: dict[str, Any]) -> None:
    """out, of elements: g of the windows that are largest there, from g and x."""
    _check(kernel, args)
    g, x = args
    windows = _windows(kernel, g, x, params)
    if _overlap(params):
        places = backend.empty(g.shape, _INT32)
        _run(backend, _max_pool("largest_place", "i32", c_type(x.dtype)), places, None, x, windows, g.shape[2:])
        _run(backend, _of("max_pool_grad", c_type(x.dtype)), out, g, places, windows, out.shape[2:])
        return
    cells = [-(-(n + p) // s) for n, p, s in zip(x.shape[2:], params["padding"], params["stride"], strict=True)]
    _run(backend, _of("max_pool_grad_cells", c_type(x.dtype)), out, g, x, windows, (cells[0], cells[1]))


def avg_pool2d(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out: the means of windows; or, from the derivative in them, that in the elements."""
    _check(kernel, args)
    (x,) = args
    template, windows, planes = ("avg_pool", out, x) if kernel == "avg_pool2d" else ("avg_pool_grad", x, out)
    expression = _of(template, c_type(x.dtype))
    _run(backend, expression, out, None, x, _windows(kernel, windows, planes, params), out.shape[2:])


def _check(kernel: str, args: tuple[Any, ...]) -> None:
    """Refuse arrays that are not of one floating dtype."""
    if any(a.dtype != args[0].dtype for a in args) or args[0].dtype.char not in FLOATING:
        raise refusal(kernel, args)


def _windows(kernel: str, windows: Array, planes: Array, params: dict[str, Any]) -> list[int]:
    """The fields from `rows` on of the struct in pool.cu. Raises ShapeError for what 32 bits do not count."""
    axes, extent = [], 1
    for d in (0, 1):
        size, count, kernel_size = planes.shape[2 + d], windows.shape[2 + d], params["kernel_size"][d]
        padding, dilation = params["padding"][d], params["dilation"][d] if "dilation" in params else 1
        span = (kernel_size - 1) * dilation + 1
        stride = min(params["stride"][d], size + padding)  # larger ones make one window too
        axes += [size, count, kernel_size, stride, padding, dilation if kernel_size > 1 else 1]
        extent *= size + padding + span + stride
    if extent >= LARGE:
        raise ShapeError(f"{kernel}: planes {tuple(planes.shape[2:])} with windows of {params['kernel_size']} are "
                         "larger than 32 bits count")
    return [*axes, params.get("divisor_override") or 0, int(params.get("count_include_pad", False))]


def _overlap(params: dict[str, Any]) -> bool:
    """Whether two windows may reach into one cell of `stride` elements."""
    return any((k - 1) * d + 1 > s for k, d, s in zip(params["kernel_size"], params["dilation"], params["stride"],
                                                     strict=True))


def _run(backend: KernelBackend, expression: str, out: Array, g: Array | None, x: Array,
         windows: list[int], grid: Pair) -> None:
    """Launch a kernel whose threads make up `grid` in each plane, so many planes at a time that 32 bits count them."""
    if not out.size:
        return
    planes, step = out.shape[0] * out.shape[1], (LARGE - 1) // (grid[0] * grid[1])
    g, x = g if g is None else dense(backend, g), dense(backend, x)
    target = out if out.flags.c_contiguous else backend.empty(out.shape, out.dtype)
    for first in range(0, planes, step):
        part = slice(first, min(first + step, planes))
        parts = [a if a is None else a.reshape(planes, *a.shape[2:])[part] for a in (target, g, x)]
        key = (expression, part.stop - first, grid, *windows)
        plan = backend.plans.get(key)
        if plan is None:
            plan = backend.remember(key, _plan(backend, expression, part.stop - first, grid, windows))
        backend.start(plan, [a for a in parts if a is not None],
                      *[0 if a is None else backend.address(a) for a in parts])
    if target is not out:
        copy(backend, "copy", out, (target,), {})


def _plan(backend: KernelBackend, expression: str, planes: int, grid: Pair, windows: list[int]) -> Plan:
    threads = planes * grid[0] * grid[1]
    values = [threads, *divider(grid[1]), *divider(grid[0]), *windows]
    siblings = next(group for group in _groups() if expression in group)
    return backend.plan(Instance(FILE, expression), "PPP", _FIELDS, values, *one_dimensional(threads),
                        siblings=siblings)


# --- instances --------------------------------------------------------------------------------------------------------


def _of(template: str, numbers: str) -> str:
    return f"{template}<{numbers}>"


def _max_pool(written: str, out: str, numbers: str) -> str:
    return f"max_pool<{written}, {out}, {numbers}>"


def _groups() -> Iterator[list[str]]:
    """The instances for each dtype, which are compiled together."""
    for dtype in FLOATS:
        of = dtype.c_type
        written = (("largest_value", of), ("picked_value", of), ("largest_place", "i32"), ("largest_place", "i64"))
        yield [*[_max_pool(what, out, of) for what, out in written], *[_of(name, of) for name in _TEMPLATES]]


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for group in _groups():
        for expression in group:
            yield Instance(FILE, expression)


TABLE: dict[str, Launcher] = {
    "max_pool2d": max_pool2d, "max_pool2d_indices": max_pool2d, "max_pool2d_pick": max_pool2d,
    "max_pool2d_grad": max_pool2d_grad, "avg_pool2d": avg_pool2d, "avg_pool2d_grad": avg_pool2d,
}
