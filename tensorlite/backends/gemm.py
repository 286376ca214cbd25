"""Products of matrices as NVIDIA's libraries take them: from shapes and strides to sizes, flags and distances.

The libraries count elements column by column, we row by row. A row-major matrix is its own transpose there, so
out = x·y is asked for as outᵀ = yᵀ·xᵀ, factors exchanged. Transposed factors and rows that lie apart are a flag and a
distance between rows; a factor is copied only if neither of its dimensions lies densely.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from . import Array, precision
from .kernels.layout import element_strides, merge

Shape = tuple[int, ...]


class Kind(NamedTuple):
    """An element type, and the type in which its products are summed; the addresses of 1 and 0 in the latter."""

    itemsize: int
    data: int  # cudaDataType_t
    compute: int  # cublasComputeType_t
    scale: int  # cudaDataType_t of the sums
    one: int
    zero: int


_R_32F, _R_64F, _R_16F, _R_16BF = 0, 1, 2, 14
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_NUMBERS = (ctypes.c_float(1), ctypes.c_float(0), ctypes.c_double(1), ctypes.c_double(0))  # kept: their addresses count
_SINGLE, _DOUBLE = [tuple(map(ctypes.addressof, pair)) for pair in (_NUMBERS[:2], _NUMBERS[2:])]
_KINDS = {
    "f": Kind(4, _R_32F, _COMPUTE_32F, _R_32F, *_SINGLE), "d": Kind(8, _R_64F, _COMPUTE_64F, _R_64F, *_DOUBLE),
    "e": Kind(2, _R_16F, _COMPUTE_32F, _R_32F, *_SINGLE), "E": Kind(2, _R_16BF, _COMPUTE_32F, _R_32F, *_SINGLE),
}
_TF32 = _KINDS["f"]._replace(compute=_COMPUTE_32F_FAST_TF32)


def kind(dtype: np.dtype[Any]) -> Kind | None:
    """How to ask for products of a dtype, float32 as `precision` says; None for what the libraries do not multiply."""
    if dtype.char == "f" and precision.get_float32_matmul_precision() != "highest":
        return _TF32
    return _KINDS.get(dtype.char)


class Gemm(NamedTuple):
    """One product of matrices for given shapes and strides, or several of them that differ in where they start."""

    copies: tuple[bool, bool]  # whether x and y must be made dense first
    shape: tuple[int, int, int]  # columns of out, rows of out, length of the sums
    operations: tuple[int, int]  # of y and x: 1 where it is transposed
    leading: tuple[int, int, int]  # of y, x and out: elements from row to row (column to column if transposed)
    strides: tuple[int, int, int]  # of y, x and out: elements from one matrix of the batch to the next
    matrices: int  # of the batch
    starts: tuple[tuple[int, int, int], ...]  # of y, x and out: bytes from the first element


def plan(out: Array, x: Array, y: Array, transpose_y: bool) -> Gemm:
    """out = x·y, or x·yᵀ, for x (..., n, k), y (..., k, m) (or y (m, k)) and a dense out."""
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
    inner = max(range(len(sizes)), key=sizes.__getitem__)  # the largest is the library's batch, the others a loop
    rest = [range(size) if i != inner else range(1) for i, size in enumerate(sizes)]
    item = out.dtype.itemsize
    starts = tuple(
        tuple(item * sum(at * step[operand] for at, step in zip(place, steps, strict=True)) for operand in range(3))
        for place in itertools.product(*rest))
    return Gemm(copies, (m, n, k), (y_form[0] ^ transpose_y, x_form[0]), (y_form[1], x_form[1], m),
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
