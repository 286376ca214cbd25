"""Shapes and strides as kernels want them: few dimensions, innermost first, strides in elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import dtypes
from ...errors import ShapeError
from .. import Array

MAX_DIMS = 8  # as in kernels/common.cuh
DIVIDER = "QII"  # the fields of a Divider
LARGE = 2**31  # elements from which index arithmetic needs 64 bits


def element_strides(array: Array, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array broadcast to `shape`: 0 where it repeats."""
    item = array.dtype.itemsize
    own = [stride // item if size != 1 else 0 for size, stride in zip(array.shape, array.strides, strict=True)]
    return (0,) * (len(shape) - len(own)) + tuple(own)


def coalesce(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes and strides with as few dimensions as possible, innermost first: the order is that of the first operand.

    Returns sizes, and per dimension the stride of each operand. At least one dimension is left.

    >>> from tensorlite.backends.kernels.layout import coalesce
    >>> coalesce((2, 3, 4), (12, 4, 1), (12, 4, 1))  # both dense: one dimension
    ([24], [(1, 1)])
    >>> coalesce((2, 3, 4), (12, 4, 1), (0, 0, 1))  # a row that repeats
    ([4, 6], [(1, 1), (4, 0)])
    """
    dims = [(size, step) for size, *step in zip(shape, *strides, strict=True) if size != 1]
    dims.sort(key=lambda dim: abs(dim[1][0]))
    return merge(dims or [(1, [1] * len(strides))])


def row_major(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Like coalesce, but elements keep the numbers that they have in the row-major order of `shape`.

    >>> from tensorlite.backends.kernels.layout import row_major
    >>> row_major((2, 3, 4), (1, 8, 2))  # a transposed operand
    ([12, 2], [(2,), (1,)])
    """
    dims = [(size, step) for size, *step in zip(shape, *strides, strict=True) if size != 1]
    return merge(dims[::-1] or [(1, [1] * len(strides))])


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides in elements of a dense, row-major array.

    >>> from tensorlite.backends.kernels.layout import dense_strides
    >>> dense_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides, count = [], 1
    for size in reversed(shape):
        strides.append(count)
        count *= size
    return tuple(reversed(strides))


def merge(dims: Sequence[tuple[int, Sequence[int]]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Neighbouring (size, strides), innermost first, made one dimension where all operands step through them evenly."""
    sizes, steps = [dims[0][0]], [tuple(dims[0][1])]
    for size, step in dims[1:]:
        if all(outer == inner * sizes[-1] for outer, inner in zip(step, steps[-1], strict=True)):
            sizes[-1] *= size
        else:
            sizes.append(size)
            steps.append(tuple(step))
    return sizes, steps


def divider(divisor: int) -> tuple[int, int, int]:
    """The fields of a Divider: (divisor, magic, shift)."""
    if divisor >= LARGE:
        return divisor, 0, 0  # divided by as 64 bits
    shift = max(divisor - 1, 0).bit_length()
    return divisor, ((2**32 * (2**shift - divisor)) // divisor + 1) % 2**32, shift


def packed_sizes(op: str, sizes: Sequence[int]) -> list[int]:
    """The fields of `Divider size[MAX_DIMS]`. Raises ShapeError for more dimensions than a kernel takes."""
    if len(sizes) > MAX_DIMS:
        raise ShapeError(f"{op}: more than {MAX_DIMS} dimensions are left after merging those that lie densely in "
                         "memory; call .contiguous() on the operands, or .flatten() some dimensions")
    return [field for size in (*sizes, *[1] * (MAX_DIMS - len(sizes))) for field in divider(size)]


def packed_strides(steps: Sequence[tuple[int, ...]]) -> list[int]:
    """The fields of `i64 stride[MAX_DIMS][operands]`."""
    width = len(steps[0])
    return [stride for step in steps for stride in step] + [0] * (width * (MAX_DIMS - len(steps)))


def index_type(*counts: int) -> str:
    """The C++ type that counts so many elements."""
    return "u32" if max(counts) < LARGE else "u64"


def c_type(dtype: np.dtype[Any]) -> str:
    """The name of an element type in kernels/common.cuh."""
    return "u64" if dtype == np.uint64 else dtypes.from_numpy(dtype).c_type  # the state of a generator is uint64


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()


def dims_fields(operands: int) -> str:
    """struct's letters for a `Dims<operands>` of kernels/dims.cuh."""
    return "q" + DIVIDER * MAX_DIMS + "q" * (MAX_DIMS * operands)


def packed_dims(op: str, sizes: Sequence[int], steps: Sequence[tuple[int, ...]]) -> list[int]:
    """The fields of a `Dims` with these sizes, innermost first, and the stride of each operand in them."""
    return [len(sizes), *packed_sizes(op, sizes), *packed_strides(steps)]
