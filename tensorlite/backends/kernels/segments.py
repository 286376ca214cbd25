"""Many tensors in one launch: the Python side of kernels/segments.cuh.

A segment is the part of a launch that works on one tensor and whatever goes with it: several operands, each a tuple of
arrays with one array per segment. Dense segments share launches, as many as a kernel's struct holds; what is not dense
is left to the family.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from .. import Array
from . import THREADS, WARP
from .layout import coalesce, element_strides

ARGUMENT_BYTES = 4096  # as in kernels/segments.cuh
OTHER_BYTES = 128  # of these, for what is not per segment
FEW = 8  # segments, of which the pointers are not many bytes to pass on
MAX_BLOCKS = 4096  # of a segment; beyond that, a block takes more elements


def capacities(pointers: int) -> tuple[int, int]:
    """How many segments a launch holds, with so many pointers each: a small one, and one as large as can be."""
    return FEW, (ARGUMENT_BYTES - OTHER_BYTES) // (8 * pointers + 12)


def dims(arrays: Sequence[Array]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes and strides of one segment's operands, coalesced; an operand but the first may be None, for none."""
    shape = arrays[0].shape if arrays[0].size else ()
    return coalesce(shape, *[(0,) * len(shape) if a is None or not shape else element_strides(a, shape)
                             for a in arrays])


def is_flat(arrays: Sequence[Array]) -> bool:
    """Whether the operands of one segment are dense, with their elements in one order."""
    sizes, steps = dims(arrays)
    held = {step for step, a in zip(steps[0], arrays, strict=True) if a is not None}
    return len(sizes) == 1 and (sizes[0] < 2 or held == {1})


def batches(numbers: Sequence[int], rooms: tuple[int, int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Numbers in portions, each with the room of the launch that holds it."""
    few, many = rooms
    for start in range(0, len(numbers), many):
        portion = numbers[start:start + many]
        yield (few if len(portion) <= few else many), portion


def blocks(count: int, per_thread: int, alone: int = 0) -> int:
    """The blocks for a segment of `count` elements; one where these are no more than `alone`."""
    return 1 if count <= alone else min(max(1, -(-count // (per_thread * THREADS))), MAX_BLOCKS)


def threads(count: int, per_thread: int) -> int:
    """The threads of a block where no segment has more than `count` elements."""
    return min(THREADS, max(1, -(-count // (per_thread * WARP))) * WARP)


def pointer_fields(operands: Sequence[object | None], used: int, room: int) -> str:
    """struct's letters for `data[operands][room]`, of which `used` are packed, and none for an operand of None."""
    return "".join(f"{8 * room}x" if operand is None else f"{used}P{8 * (room - used)}x" for operand in operands)


def flat_fields(room: int) -> str:
    """struct's letters for a `Flat<room>`."""
    return f"q{room}q{room + 1}i0q"


def flat_values(counts: Sequence[int], grids: Sequence[int], room: int) -> list[int]:
    """The fields of a `Flat<room>` for segments of so many elements and blocks."""
    unused = room - len(counts)
    first = [0, *accumulate(grids)]
    return [len(counts), *counts, *[0] * unused, *first, *[first[-1]] * unused]


class Apart:
    """Whether tensors lie apart in memory, so that the order in which they are worked on does not matter."""

    __slots__ = ("_bounds", "_known")

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._bounds = [_bounds(array) for array in arrays]
        self._known: list[int] = []  # addresses that were found to be apart

    def at(self, addresses: list[int]) -> bool:
        """Whether they do at these addresses; asked each time, and mostly of the same ones."""
        if addresses == self._known:
            return True
        stretches = sorted((address + low, address + high)
                           for address, (low, high) in zip(addresses, self._bounds, strict=True))
        if any(end > start for (_, end), (start, _) in pairwise(stretches)):
            return False
        self._known = addresses
        return True


def _bounds(array: Array) -> tuple[int, int]:
    """The bytes between which an array lies, from its first element; one at least."""
    if math.prod(array.shape) == 0:
        return 0, 1
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + array.dtype.itemsize
