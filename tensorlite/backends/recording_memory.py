"""The memory of recordings on the host, and whose memory an array lies in.

Contract. A `Pool` makes arrays in blocks that go from hand to hand: a block is free again with the last view of its
array. `root` and `is_whole` tell views from arrays that have their memory to themselves, in such a block or not.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .strides import Holder

if TYPE_CHECKING:
    from . import Array

_ALIGNMENT = 256  # bytes: a GPU's allocator gives no less
_WASTE = 4096  # bytes by which a block may always be larger than what is asked for; else it may be twice as large


class Block:
    """A stretch of memory. Not an array, since NumPy looks for the owner of a view through all arrays."""

    __slots__ = ("address", "memory", "size")

    def __init__(self, size: int) -> None:
        room = np.empty(size + _ALIGNMENT, np.uint8)
        start = -address_of(room) % _ALIGNMENT
        self.size = size
        self.memory: Any = (ctypes.c_char * size).from_buffer(room[start:start + size].data)
        self.address = ctypes.addressof(self.memory)


class Lease(np.ndarray):
    """A block in use: the base of the array that was made in it. The block returns to the pool with its last view."""

    block: Block
    pool: Pool | None = None

    def __del__(self) -> None:
        if self.pool is not None:
            self.pool.give_back(self.block)


class Pool:
    """Blocks of memory that go from hand to hand."""

    def __init__(self, array_type: type[np.ndarray]) -> None:
        self._array_type = array_type
        self.free: list[Block] = []
        self.taken: dict[int, tuple[tuple[int, ...], np.dtype[Any]]] = {}  # what for, by the block's address
        self.bytes = 0
        self.buffers = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array of unspecified contents in the smallest free block that is not far too large, or a new one."""
        needed = max(math.prod(shape) * dtype.itemsize, 1)
        block = self._smallest(needed)
        if block is None:
            block = Block(needed)
            self.bytes += needed
            self.buffers += 1
        lease = np.ndarray.__new__(Lease, block.size, np.uint8, block.memory)
        lease.block, lease.pool = block, self
        self.taken[block.address] = shape, dtype
        return np.ndarray.__new__(self._array_type, shape, dtype, lease)

    def give_back(self, block: Block) -> None:
        """Let a block be used again."""
        del self.taken[block.address]
        self.free.append(block)

    def _smallest(self, needed: int) -> Block | None:
        limit = max(2 * needed, needed + _WASTE)
        fitting = [i for i, block in enumerate(self.free) if needed <= block.size <= limit]
        return self.free.pop(min(fitting, key=lambda i: self.free[i].size)) if fitting else None


def unowned(array: np.ndarray) -> np.ndarray:
    """Another array over the same memory that does not keep it alive."""
    if not array.size:
        return array
    low, high = byte_bounds(array)
    memory: Any = (ctypes.c_char * (high - low)).from_address(low)
    return np.ndarray.__new__(type(array), array.shape, array.dtype, memory, address_of(array) - low, array.strides)


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_base = np.ndarray.base.__get__  # arrays of cuda:sim have a base of their own


def root(array: Array) -> Array:
    """The array in whose memory a view lies."""
    while isinstance(array, np.ndarray):
        held = _base(array)
        held = held.source if type(held) is Holder else held
        if not isinstance(held, np.ndarray):
            break
        array = held
    if not isinstance(array, np.ndarray) and array.base is not None:  # CuPy's base is the last one
        return array.base
    return array


def is_whole(array: Array) -> bool:
    """Whether an array is all of its memory, no view: as `Backend.empty` gave it, recording or not."""
    base = array.base
    return base is None or type(base) is Lease
