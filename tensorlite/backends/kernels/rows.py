"""Kernels that work on rows, the lines of an array along one dimension: which threads share a row.

A team has a row (kernels/rows.cuh): a thread where rows are short or lie side by side, a warp where its registers hold
the row, a block for longer ones. The templates `held` keep a row in registers; `long_rows` read it piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ... import dtypes
from .. import Array
from . import WARP, Grid, one_dimensional
from .elementwise import refusal
from .layout import coalesce, dims_fields, element_strides, packed_dims

SHORT = 16  # elements of a row that one thread takes by itself
MANY_ROWS = 4096  # enough for a thread each, where neighbouring rows are closer together than a row's elements
MAX_BLOCK = 512  # as in rows.cuh

# By the bytes of an element: the packs of 16 bytes that a lane of a warp, and a thread of a block, may hold.
_WARP_PACKS = {2: (1, 2, 4), 4: (1, 2, 4, 8), 8: (1, 2, 4, 8)}
_BLOCK_PACKS = {2: 2, 4: 4, 8: 2}
_SINGLE_PACKS = (1, 4)  # of one element each, where packs of 16 bytes are not aligned
_SINGLE = 4


class Team(NamedTuple):
    """Who shares a row, and how much of it a thread has: `packs` of `width` elements."""

    is_held: bool
    name: str  # Thread, Warp or Block
    packs: int
    width: int

    @property
    def piecewise(self) -> Team:
        """The same threads, for a kernel that reads a row once and need not hold it."""
        return self._replace(is_held=False, packs=_SINGLE if self.width == 1 else _BLOCK_PACKS[16 // self.width])

    def launch(self, rows: int, columns: int, most: int | None = None) -> tuple[Grid, Grid]:
        """Grid and block with a team for each row, or of `most` blocks, whose teams then take several rows."""
        if self.name == "Block":
            threads = min(-(-columns // (self.packs * self.width * WARP)) * WARP, MAX_BLOCK)
            grid, block = (rows, 1, 1), (threads, 1, 1)
        else:
            grid, block = one_dimensional(rows * (WARP if self.name == "Warp" else 1))
        return (grid if most is None else (min(grid[0], most), 1, 1)), block

    def expression(self, held: str, long_rows: str, c_type: str, *formula: str) -> str:
        """The instance of one of two templates, by their names."""
        arguments = (*formula, self.name, str(self.packs), str(self.width), c_type)
        return f"{held if self.is_held else long_rows}<{', '.join(arguments)}>"


class Layout(NamedTuple):
    """Where the rows of several arrays lie: strides in elements, and sizes with the innermost dimension first."""

    columns: int
    along: tuple[int, ...]  # the stride of each array within a row
    sizes: list[int]  # of the dimensions that number the rows
    steps: list[tuple[int, ...]]

    @property
    def rows(self) -> int:
        return math.prod(self.sizes)

    def packed(self, kernel: str) -> list[int]:
        """The fields of a `Rows`."""
        sizes = [max(size, 1) for size in self.sizes]  # nothing is divided by 0
        return [self.rows, self.columns, *self.along, *packed_dims(kernel, sizes, self.steps)]

    def team(self, itemsize: int, aligned: bool) -> Team:
        """The team for a row; `aligned` says whether all arrays start at a multiple of 16 bytes."""
        columns, width = self.columns, 16 // itemsize
        side_by_side = abs(self.steps[0][0]) < abs(self.along[0])
        if columns <= SHORT or (side_by_side and self.rows >= MANY_ROWS):
            return Team(False, "Thread", _SINGLE, 1)
        if aligned and columns % width == 0 and self._is_packable(width):
            for packs in _WARP_PACKS[itemsize]:
                if columns <= WARP * packs * width:
                    return Team(True, "Warp", packs, width)
            packs = _BLOCK_PACKS[itemsize]
            return Team(columns <= MAX_BLOCK * packs * width, "Block", packs, width)
        for packs in _SINGLE_PACKS:
            if columns <= WARP * packs:
                return Team(True, "Warp", packs, 1)
        return Team(False, "Block", _SINGLE, 1)

    def _is_packable(self, width: int) -> bool:
        return all(step == 1 for step in self.along) and all(s % width == 0 for step in self.steps for s in step)


def layout(kernel: str, dim: int, arrays: Sequence[Array]) -> Layout:
    """The rows along `dim` of arrays of one shape, the first of which decides in what order rows are numbered.

    Raises DTypeError unless they are of one floating dtype.
    """
    first = arrays[0]
    if any(a.dtype != first.dtype for a in arrays) or not dtypes.from_numpy(first.dtype).is_floating_point:
        raise refusal(kernel, arrays[1:])
    shape = first.shape
    strides = [element_strides(a, shape) for a in arrays]
    sizes, steps = coalesce(shape[:dim] + shape[dim + 1:], *[s[:dim] + s[dim + 1:] for s in strides])
    return Layout(shape[dim], tuple([s[dim] for s in strides]), sizes, steps)


def fields(arrays: int) -> str:
    """struct's letters for a `Rows` of so many arrays."""
    return "qq" + "q" * arrays + dims_fields(arrays)


def teams(itemsize: int) -> Iterator[Team]:
    """Every team that a call can get."""
    width, packs = 16 // itemsize, _BLOCK_PACKS[itemsize]
    yield Team(False, "Thread", _SINGLE, 1)
    for count in _WARP_PACKS[itemsize]:
        yield Team(True, "Warp", count, width)
    for is_held in (True, False):
        yield Team(is_held, "Block", packs, width)
    for count in _SINGLE_PACKS:
        yield Team(True, "Warp", count, 1)
    yield Team(False, "Block", _SINGLE, 1)


def is_aligned(*addresses: Any) -> bool:
    """Whether all addresses are multiples of 16 bytes."""
    together = 0
    for address in addresses:
        together |= address
    return together % 16 == 0
