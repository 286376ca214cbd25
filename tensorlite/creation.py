"""Functions that make Tensors from nothing or from other data. PyTorch's names, arguments and default dtypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import dtypes
from .backends import default_numpy, get
from .errors import ArgumentError, DTypeError
from .mistakes import type_name
from .ops.movement import sizes
from .tensor import Tensor, as_array


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A copy of data: numbers, nested lists, NumPy arrays, Tensors. Floats become float32, integers int64.

    Raises ShapeError for ragged lists, DTypeError for elements that are no numbers.

    >>> tl.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    return Tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


def as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Data as a Tensor, sharing memory where it can: a Tensor itself, a NumPy array in place."""
    if isinstance(data, Tensor):
        return data.to(device=data.device if device is None else device, dtype=dtype)
    backend = get("cpu" if device is None else device)
    return Tensor._wrap(as_array(data, dtype, backend, copy=False), backend)


def asarray(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """as_tensor under the array API's name."""
    return as_tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the array's memory, whatever its strides. Raises DTypeError for a dtype tensors lack."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}; use tl.tensor(...)")
    dtypes.from_numpy(array.dtype)
    backend = get("cpu")
    return Tensor._wrap(backend.from_numpy(array), backend)


def from_dlpack(source: Any) -> Tensor:
    """A Tensor that shares memory with another library's array, through DLPack.

    >>> tl.from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    if not hasattr(source, "__dlpack__"):
        raise DTypeError(f"from_dlpack: expected an array of a library with DLPack, got {type_name(source)}")
    return from_numpy(np.from_dlpack(source))


def _filled(shape: tuple[int, ...], value: Any, dtype: np.dtype[Any], device: Any, requires_grad: bool) -> Tensor:
    if any(n < 0 for n in shape):
        raise ArgumentError(f"a tensor cannot have the negative size in {shape}")
    backend = get("cpu" if device is None else device)
    array = backend.empty(shape, dtype) if value is None else backend.fill("fill", shape, dtype, value)
    result = Tensor._wrap(array, backend)
    return result.requires_grad_() if requires_grad else result


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return _filled(sizes(size), 0, default_numpy(dtype), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`."""
    return _filled(sizes(size), 1, default_numpy(dtype), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory: its contents are arbitrary until written."""
    return _filled(sizes(size), None, default_numpy(dtype), device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A constant; the dtype follows the value: bool, int64 or the default floating dtype."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    kind = dtypes.as_dtype(type(value)) if dtype is None and isinstance(value, (bool, int)) else dtype
    return _filled(sizes((size,)), value, default_numpy(kind), device, requires_grad)


def _like(x: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    value = value.item() if isinstance(value, Tensor) else value
    wanted = default_numpy(x.dtype if dtype is None else dtype)
    return _filled(x.shape, value, wanted, x.device if device is None else device, requires_grad)


def zeros_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape, dtype and device."""
    return _like(x, 0, dtype, device, requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape, dtype and device."""
    return _like(x, 1, dtype, device, requires_grad)


def empty_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory of x's shape, dtype and device."""
    return _like(x, None, dtype, device, requires_grad)


def full_like(x: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """A constant of x's shape, dtype and device."""
    return _like(x, fill_value, dtype, device, requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """start, start+step, … below end; `arange(n)` counts from 0. int64 if all are integers, else the default dtype.

    >>> tl.arange(0, 1, 0.25)
    tensor([0.0000, 0.2500, 0.5000, 0.7500])
    """
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (start, end, step))
    if step == 0 or not (end - start) / step >= 0:
        raise ArgumentError(f"arange: step {step} does not lead from {start} to {end}")
    integral = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    kind = default_numpy(dtypes.int64 if dtype is None and integral else dtype)
    backend = get("cpu" if device is None else device)
    count = -((start - end) // step) if integral else math.ceil((end - start) / step)
    result = Tensor._wrap(backend.fill("arange", (int(count),), kind, start, step), backend)
    return result.requires_grad_() if requires_grad else result


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced values from start to end, both included."""
    values = np.linspace(float(start), float(end), steps)
    return tensor(values.astype(default_numpy(dtype)), device=device, requires_grad=requires_grad)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """base^start … base^end, evenly spaced in the exponent."""
    values = np.logspace(float(start), float(end), steps, base=base)
    return tensor(values.astype(default_numpy(dtype)), device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The n x m matrix with ones on the diagonal. Raises ArgumentError for a negative size."""
    if n < 0 or (m is not None and m < 0):
        raise ArgumentError(f"eye: sizes must not be negative, got {n} and {n if m is None else m}")
    return tensor(np.eye(n, m, dtype=default_numpy(dtype)), device=device, requires_grad=requires_grad)


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The positions of the lower triangle of a row x col matrix, (2, count) int64."""
    return tensor(np.stack(np.tril_indices(row, offset, col)))


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The positions of the upper triangle of a row x col matrix, (2, count) int64."""
    return tensor(np.stack(np.triu_indices(row, offset, col)))
