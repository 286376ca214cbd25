"""Products of floating matrices on a GPU, by cuBLAS: the kernels "matmul" and "linear" of device "cuda".

cuBLAS counts elements column by column, we row by row. A row-major matrix is its own transpose there, so out = x·y is
asked for as outᵀ = yᵀ·xᵀ, factors exchanged. Transposed factors and rows that lie apart are a flag and a distance
between rows; a factor is copied only if neither of its dimensions lies densely. Products of float16 and bfloat16 are
summed in float32. Other dtypes are left to the kernels of kernels/.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import DeviceError
from . import Array, precision
from .cuda_requirements import advice
from .cupy_import import cupy
from .kernels import KernelBackend, Launcher
from .kernels.layout import element_strides, merge

Shape = tuple[int, ...]


class _Type(NamedTuple):
    """How cuBLAS names an element type, and the type in which it sums; the addresses of 1 and 0 in the latter."""

    data: int  # cudaDataType_t
    compute: int  # cublasComputeType_t
    one: int
    zero: int


_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_NUMBERS = (ctypes.c_float(1), ctypes.c_float(0), ctypes.c_double(1), ctypes.c_double(0))  # kept: cuBLAS reads them
_SINGLE, _DOUBLE = [tuple(map(ctypes.addressof, pair)) for pair in (_NUMBERS[:2], _NUMBERS[2:])]
_TYPES = {
    "f": _Type(0, _COMPUTE_32F, *_SINGLE), "d": _Type(1, _COMPUTE_64F, *_DOUBLE),
    "e": _Type(2, _COMPUTE_32F, *_SINGLE), "E": _Type(14, _COMPUTE_32F, *_SINGLE),
}
_DEFAULT_ALGORITHM = -1


class _Plan(NamedTuple):
    """One product of cuBLAS for given shapes and strides, or several of them that differ in where they start."""

    copies: tuple[bool, bool]  # whether x and y must be made dense first
    shape: tuple[int, int, int]  # columns of out, rows of out, length of the sums
    operations: tuple[int, int]  # of y and x: 1 where it is transposed
    leading: tuple[int, int, int]  # of y, x and out: elements from row to row (column to column if transposed)
    strides: tuple[int, int, int]  # of y, x and out: elements from one matrix of the batch to the next
    matrices: int  # of the batch
    starts: tuple[tuple[int, int, int], ...]  # of y, x and out: bytes from the first element


class _Handles(threading.local):
    """cuBLAS handles of this thread by GPU: asking CuPy each time costs more than the call."""

    def __init__(self) -> None:
        self.by_gpu: dict[int, int] = {}


_handles = _Handles()


def table(others: Mapping[str, Launcher]) -> dict[str, Launcher]:
    """The kernels of this file; dtypes that cuBLAS does not multiply go to those of `others` with the same names."""

    def matmul(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """out = x·y for x (..., n, k) and y (..., k, m), batch dimensions broadcast."""
        if out.dtype.char in _TYPES:
            multiply(backend, out, *args)
        else:
            others[kernel](backend, kernel, out, args, params)

    def linear(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """out = x·Wᵀ + bias for x (..., k), W (m, k), bias (m,) or None; rounded once, after the bias."""
        if out.dtype.char not in _TYPES:
            others[kernel](backend, kernel, out, args, params)
            return
        x, weight, bias = args
        if bias is not None and out.size:
            others["copy"](backend, "copy", out, (bias,), {})
        multiply(backend, out, x, weight, transpose_y=True, accumulate=bias is not None)

    return {"matmul": matmul, "linear": linear}


def multiply(backend: Any, out: Array, x: Array, y: Array, transpose_y: bool = False, accumulate: bool = False) -> None:
    """out = x·y, or x·yᵀ, or that added to out. `out` is dense."""
    if not out.size:
        return
    key = ("matmul", transpose_y, out.dtype.char, x.shape, x.strides, y.shape, y.strides)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(out, x, y, transpose_y))
    if not plan.shape[2]:  # sums of nothing
        if not accumulate:
            backend.kernels["fill"](backend, "fill", out, (0,), {})
        return
    if plan.copies[0]:
        x = backend.copy(x)
    if plan.copies[1]:
        y = backend.copy(y)
    with backend.current():
        handle = _handle(backend)
        try:
            _call(plan, _TYPES[out.dtype.char], handle, y.data.ptr, x.data.ptr, out.data.ptr, accumulate)
        except (cupy.cuda.cublas.CUBLASError, OverflowError) as error:  # the latter: a size beyond 2^31
            raise DeviceError(f"matmul of {out.dtype.name} {x.shape} and {y.shape} on '{backend.device}': cuBLAS "
                              f"refused it: {error}") from error


def _handle(backend: Any) -> int:
    handle = _handles.by_gpu.get(backend.index)
    if handle is None:
        try:
            handle = _handles.by_gpu[backend.index] = cupy.cuda.get_cublas_handle()
        except ImportError as error:
            raise DeviceError(f"matmul on '{backend.device}' needs cuBLAS: {error}\n{advice()}") from error
    return handle


def _call(plan: _Plan, kind: _Type, handle: int, y: int, x: int, out: int, accumulate: bool) -> None:
    (m, n, k), (op_y, op_x), (ld_y, ld_x, ld_out) = plan.shape, plan.operations, plan.leading
    data, compute, one, zero = kind
    if data == 0 and precision.get_float32_matmul_precision() != "highest":
        compute = _COMPUTE_32F_FAST_TF32
    beta = one if accumulate else zero
    for start_y, start_x, start_out in plan.starts:
        if plan.matrices == 1:
            cupy.cuda.cublas.gemmEx(
                handle, op_y, op_x, m, n, k, one, y + start_y, data, ld_y, x + start_x, data, ld_x, beta,
                out + start_out, data, ld_out, compute, _DEFAULT_ALGORITHM)
        else:
            cupy.cuda.cublas.gemmStridedBatchedEx(
                handle, op_y, op_x, m, n, k, one, y + start_y, data, ld_y, plan.strides[0], x + start_x, data, ld_x,
                plan.strides[1], beta, out + start_out, data, ld_out, plan.strides[2], plan.matrices, compute,
                _DEFAULT_ALGORITHM)


# --- from shapes and strides to a plan --------------------------------------------------------------------------------


def _plan(out: Array, x: Array, y: Array, transpose_y: bool) -> _Plan:
    batch = out.shape[:-2] if x.ndim > 1 else ()
    n, m = out.shape[-2:]
    k = x.shape[-1]
    x_strides, y_strides = _padded(x, batch), _padded(y, batch)
    x_form, y_form = _form(n, k, *x_strides[-2:]), _form(*y.shape[-2:], *y_strides[-2:])
    copies = x_form is None, y_form is None
    if x_form is None:
        x_strides, x_form = _dense(x.shape, batch), (0, max(k, 1))
    if y_form is None:
        y_strides, y_form = _dense(y.shape, batch), (0, max(y.shape[-1], 1))
    dims = [dim for dim in zip(batch, zip(y_strides, x_strides, _dense(out.shape, batch), strict=False), strict=False)
            if dim[0] != 1][::-1]
    rows = _folded(n, x_form, m, k, dims)
    if rows is not None:
        n, x_form = rows
        dims = []
    sizes, steps = merge([(size, step) for size, step in dims]) if dims else ([1], [(0, 0, 0)])
    inner = max(range(len(sizes)), key=sizes.__getitem__)  # the largest is cuBLAS's batch, the others a loop
    rest = [range(size) if i != inner else range(1) for i, size in enumerate(sizes)]
    item = out.dtype.itemsize
    starts = tuple(
        tuple(item * sum(at * step[operand] for at, step in zip(place, steps, strict=True)) for operand in range(3))
        for place in itertools.product(*rest))
    return _Plan(copies, (m, n, k), (y_form[0] ^ transpose_y, x_form[0]), (y_form[1], x_form[1], m),
                 steps[inner], sizes[inner], starts)  # type: ignore[arg-type]


def _padded(array: Array, batch: Shape) -> Shape:
    """Strides in elements of a factor with its batch dimensions broadcast to `batch`."""
    return element_strides(array, (*batch, *array.shape[-2:]))


def _dense(shape: Shape, batch: Shape) -> Shape:
    """The strides in elements of a dense array of `shape` whose batch dimensions are broadcast to `batch`."""
    own = [math.prod(shape[i + 1:]) if shape[i] != 1 else 0 for i in range(len(shape))]
    return (0,) * (len(batch) + 2 - len(shape)) + tuple(own)


def _form(rows: int, columns: int, row_stride: int, column_stride: int) -> tuple[int, int] | None:
    """Whether a matrix lies transposed, and the distance of its rows or columns; None if neither is dense."""
    if (column_stride == 1 or columns == 1) and (row_stride >= columns or rows == 1):
        return 0, max(row_stride if rows > 1 else columns, 1)
    if (row_stride == 1 or rows == 1) and (column_stride >= rows or columns == 1):
        return 1, max(column_stride if columns > 1 else rows, 1)
    return None


def _folded(n: int, x_form: tuple[int, int], m: int, k: int,
            dims: list[tuple[int, tuple[int, int, int]]]) -> tuple[int, tuple[int, int]] | None:
    """The rows of all matrices of x as rows of one, where y is one matrix for all: a single, larger product.

    Returns their number and the form of that x; None where the rows do not lie evenly.
    """
    if not dims or x_form[0] or any(step[0] for _, step in dims):
        return None
    own = [(n, (0, x_form[1], m))] if n > 1 else []
    sizes, steps = merge(own + dims)
    return (sizes[0], (0, steps[0][1])) if len(sizes) == 1 and steps[0][1] >= k and steps[0][2] == m else None
