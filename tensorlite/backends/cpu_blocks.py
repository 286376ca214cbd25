"""What the CPU's multi-pass kernels share: a thread's scratch and constants, and arrays cut into blocks.

A formula of many NumPy passes is fast if nothing is allocated per call (scratch and constants belong to the thread),
if a constant is a 0-d array (half the time of a Python number in a ufunc), and if large arrays go in blocks that stay
in the cache from the first pass to the last.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from . import Array

BLOCK: Final = 65536  # elements: the fastest of 2**11 to 2**20 for Adam on four float32 arrays
_CAPACITY: Final = BLOCK  # elements of a scratch buffer
_MAX_VIEWS: Final = 512
_FLOAT32: Final = np.dtype(np.float32)


class Workspace(threading.local):
    """Scratch arrays and constants of one thread, made once and used by every update."""

    def __init__(self) -> None:
        self._buffers: dict[str, list[Array]] = {}
        self._views: dict[tuple[int, tuple[int, ...], str], list[Array]] = {}
        self._constants: dict[tuple[Callable[..., Any], str], tuple[tuple[float, ...], list[Array]]] = {}

    def scratch(self, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Array]:
        """`count` arrays of unspecified contents, the same ones at the next call."""
        key = (count, shape, dtype.char)
        views = self._views.get(key)
        if views is None:
            size = math.prod(shape)
            if size > _CAPACITY:
                return [np.empty(shape, dtype) for _ in range(count)]
            buffers = self._buffers.setdefault(dtype.char, [])
            buffers.extend(np.empty(_CAPACITY, dtype) for _ in range(count - len(buffers)))
            if len(self._views) >= _MAX_VIEWS:
                self._views.clear()
            views = self._views[key] = [buffer[:size].reshape(shape) for buffer in buffers[:count]]
        return views

    def constants(self, param: Array, formula: Callable[..., tuple[float, ...]], *inputs: float) -> list[Array]:
        """The values of `formula(*inputs)` as 0-d arrays of the dtype in which `param` is computed.

        They are kept, since all parameters of a group ask for the same ones. The next call of this formula may
        overwrite them.
        """
        key = (formula, param.dtype.char)
        known = self._constants.get(key)
        if known is not None and known[0] == inputs:
            return known[1]
        self._constants.pop(key, None)  # an interrupt below must not leave half-written values under old inputs
        values = formula(*inputs)
        arrays = [np.zeros((), _compute_dtype(param)) for _ in values] if known is None else known[1]
        for array, value in zip(arrays, values, strict=True):
            array[()] = value
        self._constants[key] = inputs, arrays
        return arrays


workspace: Final = Workspace()


def _compute_dtype(param: Array) -> np.dtype[Any]:
    dtype: np.dtype[Any] = param.dtype
    return dtype if dtype.itemsize > 2 else _FLOAT32


def blocks(scratches: int, *arrays: Array) -> Iterable[list[Array]]:
    """Matching parts of the arrays (parameter, gradient, state or None ...), followed by scratch of their shape.

    Changing a part in place changes the arrays; parameter and gradient arrive widened to float32 at least.
    """
    param = arrays[0]
    if param.size <= BLOCK and param.dtype.itemsize > 2:
        return ([*arrays, *workspace.scratch(scratches, param.shape, param.dtype)],)
    return _many_blocks(scratches, arrays)


def _many_blocks(scratches: int, arrays: tuple[Array, ...]) -> Iterator[list[Array]]:
    param = arrays[0]
    if all(a is None or a.flags.c_contiguous for a in arrays):
        arrays = tuple([None if a is None else a.reshape(-1) for a in arrays])
        param = arrays[0]
    if not param.size:
        return
    narrow = param.dtype.itemsize <= 2
    rows = max(1, BLOCK * len(param) // param.size)
    for start in range(0, len(param), rows):
        part: list[Array] = [None if a is None else a[start : start + rows] for a in arrays]
        if not narrow:
            yield [*part, *workspace.scratch(scratches, part[0].shape, param.dtype)]
            continue
        wide, grad, *scratch = workspace.scratch(scratches + 2, part[0].shape, _FLOAT32)
        np.copyto(wide, part[0], casting="unsafe")
        np.copyto(grad, part[1], casting="unsafe")
        yield [wide, grad, *part[2:], *scratch]
        np.copyto(part[0], wide, casting="unsafe")
