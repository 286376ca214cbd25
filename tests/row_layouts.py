"""Arrays of rows in every layout that a kernel may meet, and how closely a result must fit, by dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorlite.backends import Array, Backend
from tensorlite.dtypes import DType

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 2e-13}

# The lengths at which a row passes from thread to warp to block, and packs of 2, 4 and 8 elements end evenly or not.
COLUMNS = (1, 3, 4, 5, 16, 17, 24, 31, 32, 33, 40, 128, 129, 255, 256, 257, 512, 1023, 1024, 1025, 2048, 5000, 17000)
LAYOUTS = ("dense", "transposed", "misaligned", "sliced", "reversed", "repeated")


def drawn(shape: tuple[int, ...], dtype: DType, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """Normal random numbers, exactly those of the dtype."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * spread).astype(dtype.numpy)


def place(backend: Backend, values: np.ndarray, layout: str) -> tuple[Array, np.ndarray]:
    """A device array in a layout, and its values in float64."""
    if layout == "transposed":
        array = backend.from_numpy(np.ascontiguousarray(values.T)).transpose()
    elif layout == "misaligned":
        padded = np.concatenate([np.zeros(1, values.dtype), values.reshape(-1)])
        array = backend.from_numpy(padded)[1:].reshape(values.shape)
    elif layout == "sliced":
        padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 2)])
        array = backend.from_numpy(padded)[..., 1:-2]
    elif layout == "reversed":
        backwards = (slice(None, None, -1),) * values.ndim
        array = backend.from_numpy(np.ascontiguousarray(values[backwards]))[backwards]
    elif layout == "repeated":
        values = np.broadcast_to(values[:1], values.shape)
        array = backend.expand(backend.from_numpy(np.ascontiguousarray(values[:1])), values.shape)
    else:
        array = backend.from_numpy(values)
    return array, values.astype(np.float64)


def fitting(backend: Backend, result: Any, expected: np.ndarray, dtype: DType) -> None:
    """Assert that a device array has the expected values, NaN included."""
    actual = backend.to_numpy(result)
    assert actual.dtype == dtype.numpy
    tolerance = TOLERANCE[dtype.name]
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
