"""Device "cuda:sim": the kernels of kernels/ run by the host, so that every line of them works without a GPU.

The kernel texts are those of device "cuda", compiled by the host's C++ compiler (`host`, `simulator_library`), and so
are grids, strides and packing (`kernels`). Arrays are NumPy's underneath but refuse NumPy's operations: what an op
computes outside the door would work here and fail on a GPU. Fresh memory is filled with the byte 0xFF, NaN as a float,
so that an element which no kernel wrote shows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from ..errors import DeviceError
from . import Array, Device, kernel_sources, recording, simulator_check, simulator_library
from .kernels import Arguments, Grid, Instance, KernelBackend
from .kernels.catalogue import TABLE
from .kernels.elementwise import new_elementwise
from .simulator_check import Stretch
from .simulator_library import Function, Library

_ALIGNMENT = 256  # bytes, as CUDA's allocator aligns
_POISON = 0xFF


class _Memory(np.ndarray):
    """The bytes of one allocation; NumPy keeps them alive as the base of the array that lies in them."""


def _refused(name: str) -> Any:
    """A method that raises, in place of one of NumPy's that reads the numbers or copies."""

    def method(self: SimulatedArray, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse(name)

    return method


class SimulatedArray(np.ndarray):
    """Memory of device "cuda:sim": NumPy's shapes, strides and views, but no operation on the numbers."""

    def _refuse(self, name: str) -> NoReturn:
        raise DeviceError(f"NumPy's {name} cannot read device 'cuda:sim' (shape {self.shape}, dtype {self.dtype}); "
                          "run a kernel by Backend.run, or get the numbers by Backend.to_numpy")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> NoReturn:
        self._refuse(ufunc.__name__)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        self._refuse(func.__name__)

    @property
    def base(self) -> Any:
        """The array that this one is a view of; None for one as `empty` gave it."""
        held = super().base
        return None if type(held) is _Memory else held

    def __getitem__(self, key: Any) -> Any:
        """A view; of one element too, where NumPy would give a number."""
        keys = key if type(key) is tuple else (key,)
        if any(isinstance(k, (np.ndarray, list)) for k in keys):
            self._refuse("indexing by arrays")
        result = super().__getitem__(keys)
        return result if type(result) is SimulatedArray else super().__getitem__((*keys, ...))

    def reshape(self, *shape: Any, copy: bool = False) -> Any:  # type: ignore[override]
        """A view of another shape. ValueError where it would take a copy, which only a kernel may make."""
        return super().reshape(*shape, copy=copy)

    copy, astype, tobytes, tolist, item = map(_refused, ("copy", "astype", "tobytes", "tolist", "item"))
    ravel, flatten, fill, take, put, sort = map(_refused, ("ravel", "flatten", "fill", "take", "put", "sort"))
    __setitem__, __iter__, __contains__ = map(_refused, ("assignment", "iteration", "search"))
    __bool__, __int__, __float__, __index__ = map(_refused, ("bool", "int", "float", "index"))

    def __repr__(self) -> str:
        return f"<array of shape {self.shape}, dtype {self.dtype}, on device 'cuda:sim'>"

    __str__ = __repr__


class ErrorWord(ctypes.Structure):
    """Mirrors `ErrorWord` of kernels/common.cuh."""

    _fields_ = (("claimed", ctypes.c_uint32), ("code", ctypes.c_uint32), ("value", ctypes.c_int64),
                ("position", ctypes.c_int64))


class SimulatorBackend(KernelBackend):
    """Kernels as fibers of the host."""

    elementwise = new_elementwise

    def __init__(self) -> None:
        super().__init__(TABLE)
        self.device = Device("cuda:sim")
        self._error = ErrorWord()
        self._others = (Stretch(ctypes.addressof(self._error), ctypes.sizeof(self._error), "the error word"),)
        self._libraries: dict[tuple[str, tuple[str, ...]], Library] = {}

    # --- memory -------------------------------------------------------------------------------------------------

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        return _allocate(shape, np.dtype(dtype))

    def from_numpy(self, array: np.ndarray, non_blocking: bool = False) -> Array:
        recording.refuse("memory of the host")
        result = _allocate(array.shape, array.dtype)
        np.copyto(_as_numpy(result), array)
        return result

    def to_numpy(self, array: Array) -> np.ndarray:
        recording.refuse("a number on the host (.item(), .numpy(), print, if, x[mask], .to() another device)")
        self.raise_reported()
        return np.array(_as_numpy(array))

    def expand(self, array: Array, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(_as_numpy(array), shape).view(SimulatedArray)

    def owns(self, array: Array) -> bool:
        return isinstance(array, SimulatedArray)

    def shares_memory(self, a: Array, b: Array) -> bool:
        return np.may_share_memory(_as_numpy(a), _as_numpy(b))

    def address(self, array: Array) -> int:
        address: int = array.__array_interface__["data"][0]
        return address

    def recorder(self) -> recording.Recorder:
        return recording.HostRecorder(self, SimulatedArray)

    # --- kernels ------------------------------------------------------------------------------------------------

    def load(self, instance: Instance, siblings: Sequence[str]) -> Function:
        expressions = tuple(sorted({instance.expression, *siblings}))
        library = self._libraries.get((instance.file, expressions))
        if library is None:
            library = Library(instance.file, kernel_sources.read(instance.file), expressions)
            self._libraries[instance.file, expressions] = library
        return library.function(instance.expression)

    def launch(self, function: Function, grid: Grid, block: Grid, shared: int, arguments: Arguments,
               arrays: Sequence[Array]) -> None:
        wanted = simulator_check.chosen(function).arguments_size
        if len(arguments.buffer) != wanted:
            raise DeviceError(f"{function.name} takes a struct of {wanted} bytes, and Python packed "
                              f"{len(arguments.buffer)}: make the two layouts agree")
        simulator_check.launch(function, grid, block, shared, ctypes.addressof(arguments.buffer), arrays, self._others)

    @property
    def error_word(self) -> int:
        return ctypes.addressof(self._error)

    def take_report(self) -> tuple[int, int, int] | None:
        error = self._error
        if not error.claimed:
            return None
        report = error.code, error.value, error.position
        ctypes.memset(ctypes.addressof(error), 0, ctypes.sizeof(error))
        return report

    def synchronize(self) -> None:
        """Launches have ended when they return; raises what a kernel reported."""
        self.raise_reported()


def _allocate(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> SimulatedArray:
    """A dense array at an aligned address, filled with 0xFF."""
    sizes = (shape,) if isinstance(shape, int) else shape
    count = dtype.itemsize
    for size in sizes:
        count *= size
    memory = np.ndarray.__new__(_Memory, count + _ALIGNMENT, np.uint8)
    memory.fill(_POISON)
    start = -memory.__array_interface__["data"][0] % _ALIGNMENT
    return np.ndarray.__new__(SimulatedArray, sizes, dtype, memory, start)


def _as_numpy(array: Array) -> np.ndarray:
    """The same memory as an ordinary NumPy array."""
    plain: np.ndarray = array.view(np.ndarray)
    return plain


def create(index: int | None) -> SimulatorBackend:
    """The backend of device "cuda:sim". Raises DeviceError where no C++ compiler is found, saying what to install."""
    simulator_library.runtime()
    return SimulatorBackend()
