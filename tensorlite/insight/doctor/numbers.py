"""The values of tensors on the host, for rules that look at them. Nothing here is recorded or drawn."""

from __future__ import annotations

import math

import numpy as np

from ... import backends
from ...autograd.tape import Node, Var

# Operations that hand values on as they are, in another shape or place.
MOVES = frozenset({"reshape", "permute", "slice", "expand", "cast", "contiguous", "clone", "transfer", "index"})


def values(x: Var) -> np.ndarray:
    """The values of a tensor; 16-bit ones as float32.

    The device is the array's: what `transfer` has just made has its new backend only after the call that is looked at.
    """
    array = backends.of(x.array).to_numpy(x.array)
    return array.astype(np.float32) if array.dtype.kind == "V" or (array.dtype.itemsize < 4 and is_float(x)) else array


def is_float(x: Var) -> bool:
    return bool(x.array.dtype.kind not in "biu")


def norm(array: np.ndarray) -> float:
    """The Euclidean length, computed in float64."""
    return float(np.sqrt(np.square(array, dtype=np.float64).sum()))


def rms(array: np.ndarray) -> float:
    """The root of the mean square."""
    return norm(array) / math.sqrt(max(array.size, 1))


def has_nan(x: Var) -> bool:
    return is_float(x) and bool(np.isnan(values(x)).any())


def has_inf(x: Var) -> bool:
    return is_float(x) and bool(np.isinf(values(x)).any())


def maker(x: Var) -> Node | None:
    """The recorded operation that computed a tensor's values, whatever moved them since."""
    node = x._node
    while node is not None and node.op.name in MOVES:
        parent = node.parents[0]
        node = parent if isinstance(parent, Node) else None
    return node
