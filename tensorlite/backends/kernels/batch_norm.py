"""BatchNorm and its kin over x (N, C, ...): the launches of `batch_norm.cu`.

Statistics are of the shape (C,), or (N, G) for groups of C/G neighbouring channels of a sample. They, weights and
biases go to the kernels dense and in computing type. Where statistics are few, the elements of each are split over the
grid, by shapes alone, so that sums are the same on every GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from .. import Array, computing
from . import THREADS, WARP, Instance, KernelBackend, Launcher, Plan, one_dimensional, reduce
from .elementwise import FLOATS, copy, dense, fill, refusal
from .layout import DIVIDER, c_type, divider, power_of_two
from .rows import is_aligned

FILE = "batch_norm.cu"
LONG = 16  # neighbours of a stretch along which threads lie side by side
_STATE = 3  # numbers of a state, at most
_COMPUTING = (np.dtype(np.float32), np.dtype(np.float64))


class Geometry(NamedTuple):
    """x (N, C, ...), and of how many channels of a sample a statistic is; 0: of a channel of all samples."""

    samples: int
    channels: int
    plane: int
    together: int

    @property
    def per_statistic(self) -> int:
        """Elements of a statistic."""
        return self.plane * (self.together or self.samples)

    def stretches(self) -> tuple[int, int, int]:
        """(outer, count, inner) of what `fold_stretches` folds for the statistics."""
        if not self.together:
            return self.samples, self.channels, self.plane
        return 1, self.samples * self.channels // self.together, self.together * self.plane

    def packed(self) -> list[int]:
        """The fields of a `Planes`."""
        return [self.samples * self.channels * self.plane, not self.together, *divider(self.plane),
                *divider(self.channels), *divider(self.together or 1)]

    @staticmethod
    def fields() -> str:
        return "qq" + DIVIDER * 3


def _geometry(x: Array, statistics: Array) -> Geometry:
    samples, channels = x.shape[:2]
    together = 0 if statistics.ndim == 1 else channels // statistics.shape[1]
    return Geometry(samples, channels, math.prod(x.shape[2:]), together)


# --- the kernels ------------------------------------------------------------------------------------------------------


def moments(backend: KernelBackend, kernel: str, out: tuple[Array, Array], args: tuple[Any, ...],
            params: dict[str, Any]) -> None:
    """out = (mean, var): of each channel, or of each group of channels, as the results' shape says."""
    (x,) = args
    if not out[0].size:
        return
    if dtypes.from_numpy(x.dtype) not in FLOATS or any(a.dtype != computing(x.dtype) for a in out):
        raise refusal(kernel, args)
    geometry = _geometry(x, out[0])
    _fold(backend, "Moments", geometry.stretches(), 0, geometry.channels, 0.0, computing(x.dtype), first=out[0],
          second=out[1], x=dense(backend, x))


def batch_norm(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = (x - mean)/√(var + eps)·weight + bias."""
    if not out.size:
        return
    x = dense(backend, args[0])
    if x.dtype != out.dtype or dtypes.from_numpy(x.dtype) not in FLOATS:
        raise refusal(kernel, args)
    target = out if out.flags.c_contiguous else backend.empty(out.shape, out.dtype)
    vectors = [_vector(backend, a, computing(x.dtype)) for a in args[1:]]
    _over_planes(backend, "normalise", _geometry(x, args[3]), [target, x, *vectors], [params["eps"]])
    if target is not out:
        copy(backend, "copy", out, (target,), {})


def batch_norm_grad(backend: KernelBackend, kernel: str, out: tuple[Array, Array, Array], args: tuple[Any, ...],
                    params: dict[str, Any]) -> None:
    """out = (slope, weight's, bias's): the derivatives of batch_norm, in x through the statistics too in training."""
    slope, weight_grad, bias_grad = out
    g, x = dense(backend, args[0]), dense(backend, args[1])
    if {g.dtype, x.dtype} != {slope.dtype} or dtypes.from_numpy(x.dtype) not in FLOATS:
        raise refusal(kernel, args)
    if not slope.size:
        for grad in (weight_grad, bias_grad):
            fill(backend, "fill", grad, (0.0,), {})
        return
    dtype, eps = computing(x.dtype), params["eps"]
    weight, mean, var = [_vector(backend, a, dtype) for a in args[2:]]
    geometry = _geometry(x, args[3])
    along, level = _parameter_grads(backend, geometry, weight_grad, bias_grad, g, x, weight, mean, var, eps)
    if not params["training"]:
        along = level = None
    _over_planes(backend, "slope", geometry, [slope, g, x, weight, mean, var, along, level],
                 [eps, geometry.per_statistic])


def _parameter_grads(backend: KernelBackend, geometry: Geometry, weight_grad: Array, bias_grad: Array, g: Array,
                     x: Array, weight: Array | None, mean: Array, var: Array, eps: float) -> tuple[Array, Array]:
    """The derivatives in weight and bias, and such sums over the elements of each statistic."""
    dtype, (samples, channels, plane, together) = mean.dtype, geometry
    if not together:
        _fold(backend, "Grads", geometry.stretches(), 0, channels, eps, dtype, first=weight_grad, second=bias_grad, g=g,
              x=x, mean=mean, var=var)
        return weight_grad, bias_grad
    planes = [backend.empty((samples, channels), dtype) for _ in range(2)]
    _fold(backend, "Grads", (1, samples * channels, plane), together, channels, eps, dtype, first=planes[0],
          second=planes[1], g=g, x=x, mean=mean, var=var)
    for of_planes, total in zip(planes, (weight_grad, bias_grad), strict=True):
        backend.kernels["sum"](backend, "sum", total.reshape(1, channels), (of_planes,), {"dims": (0,)})
    along, level = backend.empty(mean.shape, dtype), backend.empty(mean.shape, dtype)
    _fold(backend, "Groups", (1, mean.size, together), 0, channels, eps, dtype, first=along, second=level,
          x=planes[0], g=planes[1], weight=weight)
    return along, level


def track_moments(backend: KernelBackend, kernel: str, out: tuple[Array, Array], args: tuple[Any, ...],
                  params: dict[str, Any]) -> None:
    """out = (running_mean, running_var), each moved by its share, the momentum, towards a batch's."""
    *given, momentum = args
    mean, var = [dense(backend, a) for a in given]
    if not out[0].size:
        return
    running = [dense(backend, a) for a in out]
    count = params["count"]
    rows = mean.shape[0] if mean.ndim == 2 else 1
    key = (kernel, running[0].shape, rows, count, running[0].dtype.char, mean.dtype.char)
    plan = backend.plans.get(key)
    if plan is None:
        channels = running[0].size
        plan = backend.remember(key, backend.plan(
            Instance(FILE, f"track<{c_type(running[0].dtype)}, {c_type(mean.dtype)}>"), "PPPPPd", "dqq",
            [count / max(count - 1, 1), rows, channels], *one_dimensional(channels)))
    arrays, number = [*running, mean, var], 0.0
    if type(momentum) is float:
        number, address = momentum, 0
    else:
        arrays.append(momentum)
        address = backend.address(momentum)
    backend.start(plan, arrays, *[backend.address(a) for a in arrays[:4]], address, number)
    for target, changed in zip(out, running, strict=True):
        if changed is not target:
            copy(backend, "copy", target, (changed,), {})


# --- sums -------------------------------------------------------------------------------------------------------------

_OPERANDS = ("first", "second", "g", "x", "mean", "var", "weight")  # of a `Fold`, as it lists them


class Sums(NamedTuple):
    """The launches of a fold: one, or one that leaves states in scratch memory and one that folds these."""

    first: Plan
    finish: Plan | None
    scratch: int  # bytes


def _fold(backend: KernelBackend, what: str, stretches: tuple[int, int, int], together: int, channels: int, eps: float,
          dtype: np.dtype[Any], **operands: Array | None) -> None:
    """Fold `what` of kernels/batch_norm.cu over stretches of neighbours (outer, count, inner)."""
    arrays = [operands.get(name) for name in _OPERANDS]
    addresses = [0 if a is None else backend.address(a) for a in arrays]
    x = operands["x"]
    assert x is not None
    aligned = is_aligned(addresses[2], addresses[3])
    key = (what, stretches, together, channels, eps, x.dtype.char, aligned)
    sums = backend.plans.get(key)
    if sums is None:
        sums = backend.remember(key, _sums(backend, what, stretches, together, channels, eps, x.dtype, aligned))
    present = [a for a in arrays if a is not None]
    if sums.finish is None:
        backend.start(sums.first, present, *addresses, 0)
        return
    scratch = backend.empty((sums.scratch,), np.dtype(np.uint8))
    backend.start(sums.first, [*present, scratch], *addresses, backend.address(scratch))
    backend.start(sums.finish, [*present, scratch], *addresses, backend.address(scratch))


def _sums(backend: KernelBackend, what: str, stretches: tuple[int, int, int], together: int, channels: int, eps: float,
          dtype: np.dtype[Any], aligned: bool) -> Sums:
    outer, count, inner = stretches
    widest = 16 // dtype.itemsize
    width = widest if what != "Groups" and aligned and inner % widest == 0 else 1
    packs = outer * inner // width
    if inner >= LONG or count == 1:
        across, down = 1, min(THREADS, max(WARP, power_of_two(-(-packs // reduce.AHEAD))))
    else:
        across = min(WARP, power_of_two(count))
        down = min(THREADS // across, power_of_two(-(-packs // reduce.AHEAD)))
    blocks = -(-count // across)
    share = reduce.share(packs, down, blocks)
    splits = -(-packs // share) if packs else 1
    values = [splits, share, outer, count, inner, together, channels, eps]
    siblings = list(_expressions(dtype))

    def launch(expression: str, blocks: int, splits: int, across: int, down: int) -> Plan:
        return backend.plan(Instance(FILE, expression), "P" * 8, "qqqqqqqd", values, (blocks, splits, 1),
                            (across, down, 1), siblings=siblings)

    first = launch(f"fold_stretches<{what}, {c_type(dtype)}, {width}>", blocks, splits, across, down)
    if splits == 1:
        return Sums(first, None, 0)
    down = min(THREADS, power_of_two(splits))
    of = dtype if what == "Moments" else computing(dtype)  # which looks at x once more
    finish = launch(f"finish<{what}, {c_type(of)}>", count, 1, 1, down)
    return Sums(first, finish, splits * count * _STATE * computing(dtype).itemsize)


# --- planes -----------------------------------------------------------------------------------------------------------


def _over_planes(backend: KernelBackend, template: str, geometry: Geometry, arrays: list[Array | None],
                 numbers: list[float]) -> None:
    """Launch `normalise` or `slope`, V elements of a plane to a thread; the first array is dense and the result."""
    addresses = [0 if a is None else backend.address(a) for a in arrays]
    dtype: np.dtype[Any] = arrays[0].dtype  # type: ignore[union-attr]
    elements = 2 if template == "normalise" else 3  # arrays of x's shape
    width = 16 // dtype.itemsize
    if geometry.plane % width or not is_aligned(*addresses[:elements]):
        width = 1
    key = (template, geometry, width, dtype.char, *numbers)
    plan = backend.plans.get(key)
    if plan is None:
        threads = geometry.samples * geometry.channels * geometry.plane // width
        plan = backend.remember(key, backend.plan(
            Instance(FILE, f"{template}<{c_type(dtype)}, {width}>"), "P" * len(arrays),
            "d" * len(numbers) + Geometry.fields(), [*numbers, *geometry.packed()], *one_dimensional(threads),
            siblings=list(_expressions(dtype))))
    backend.start(plan, [a for a in arrays if a is not None], *addresses)


# --- operands ---------------------------------------------------------------------------------------------------------


def _vector(backend: KernelBackend, array: Array | None, dtype: np.dtype[Any]) -> Array | None:
    """A dense array of that dtype: itself, else a copy."""
    if array is None or (array.flags.c_contiguous and array.dtype == dtype):
        return array
    vector = backend.empty(array.shape, dtype)
    copy(backend, "copy", vector, (array,), {})
    return vector


# --- instances --------------------------------------------------------------------------------------------------------


def _expressions(dtype: np.dtype[Any]) -> Iterator[str]:
    """What calls of that dtype can reach, but for running statistics."""
    yield f"finish<Moments, {c_type(dtype)}>"
    for width in (1, 16 // dtype.itemsize):
        for name in ("fold_stretches<Moments, ", "fold_stretches<Grads, ", "normalise<", "slope<"):
            yield f"{name}{c_type(dtype)}, {width}>"


def _sums_expressions(dtype: np.dtype[Any]) -> Iterator[str]:
    """What lies in computing type."""
    for name in ("finish<Grads, ", "finish<Groups, "):
        yield f"{name}{c_type(dtype)}>"
    yield f"fold_stretches<Groups, {c_type(dtype)}, 1>"


TABLE: dict[str, Launcher] = {
    "moments": moments, "track_moments": track_moments, "batch_norm": batch_norm, "batch_norm_grad": batch_norm_grad,
}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _expressions(dtype.numpy):
            yield Instance(FILE, expression)
        for statistics in _COMPUTING:
            yield Instance(FILE, f"track<{dtype.c_type}, {c_type(statistics)}>")
    for dtype_of_sums in _COMPUTING:
        for expression in _sums_expressions(dtype_of_sums):
            yield Instance(FILE, expression)
