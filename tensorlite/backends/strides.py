"""Views that no slicing makes: other strides over the same memory, for arrays that are NumPy's underneath."""

from __future__ import annotations

from typing import Any

import numpy as np


class Holder:
    """What NumPy makes such a view of, and holds as its base: the source, described with other strides."""

    def __init__(self, source: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        interface = {key: value for key, value in source.__array_interface__.items() if key != "descr"}
        self.__array_interface__: dict[str, Any] = {**interface, "shape": shape, "strides": strides}
        self.source = source


def strided(array: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A view from an array's first element on; the strides, in bytes, must stay within its memory."""
    return np.asarray(Holder(array, shape, strides)).view(array.dtype).view(type(array))
