"""Backend: what every device shares, and how a device is found by its name.

Contract. A backend owns raw arrays (NumPy's, CuPy's) and a table of kernels. A kernel fills `out` and returns
nothing; it never allocates results. Shapes, dtypes and allocation are decided here, once for all devices. Every
kernel call of every device passes through `Backend.run`, the one door: recording, profiling and checks hang there.

A device is one file, `backends/<module>.py` with a function `create(index)`, imported when it is first asked for.
"""

from __future__ import annotations

import importlib
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DeviceError, OutOfRangeError, ShapeError
from . import own_kernels, recording
from . import strides as strides_of

Array = Any  # np.ndarray or a device's array with NumPy's attributes (shape, strides, dtype, reshape, transpose, [])
Kernel = Callable[..., None]
Observer = Callable[["Backend", str, Array, tuple[Any, ...], dict[str, Any]], None]

_MODULES = {"cpu": "cpu", "cuda": "cuda", "cuda:sim": "simulator"}  # device -> its file; a further device is a row here


class _Current(threading.local):
    """Which GPU "cuda" without an index means, in each thread; tl.cuda.set_device changes it."""

    gpu = 0


current = _Current()


@dataclass(frozen=True)
class Device:
    """Where a tensor lives: type 'cpu', 'cuda' or 'cuda:sim', and the index of the GPU."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (")" if self.index is None else f", index={self.index})")


def as_device(device: Any) -> Device:
    """A Device from itself or a name: 'cpu', 'cuda' (the current GPU), 'cuda:1', 'cuda:sim', or a GPU's index.

    Raises DeviceError for any other name, with the closest known one.
    """
    if isinstance(device, Device):
        return device
    if isinstance(device, int) and not isinstance(device, bool):
        device = f"cuda:{device}"
    if not isinstance(device, str):
        raise DeviceError(f"a device is a name such as 'cpu' or 'cuda:0', got {device!r}")
    kind, _, index = device.partition(":")
    if device in _MODULES and device != "cuda":
        return Device(device)
    if kind == "cuda" and (index.isdecimal() or device == "cuda"):
        return Device("cuda", int(index) if index else current.gpu)
    meant = "cuda:sim" if "sim" in device.lower() else "cuda" if kind.lower() in ("gpu", "cuda", "nvidia") else ""
    hint = f"; did you mean '{meant}'?" if meant else ""
    known = ", ".join(map(repr, _MODULES))
    raise DeviceError(f"unknown device {device!r}{hint} (known: {known} and 'cuda:<index>')")


_loaded: dict[Device, Backend] = {}


def get(device: Any) -> Backend:
    """The backend of a device, loaded on first use. Raises DeviceError where it is missing, saying what to do."""
    device = as_device(device)
    backend = _loaded.get(device)
    if backend is None:
        module = importlib.import_module(f"{__name__}.{_MODULES[device.type]}")
        backend = _loaded.setdefault(device, module.create(device.index))
    return backend


def is_loaded(device: Any) -> bool:
    """Whether a device has been used: asking does not start it."""
    return as_device(device) in _loaded


def loaded() -> tuple[Backend, ...]:
    """The backends of the devices that have been used."""
    return tuple(_loaded.values())


def of(array: Array) -> Backend:
    """The backend of the device that an array lies on: the CPU's, unless another one says that it is its own."""
    return next((backend for backend in loaded() if backend.owns(array)), get("cpu"))


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcast of shapes, aligned at the right. Raises ShapeError naming the op and all shapes."""
    result: list[int] = []
    for position in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-position] for shape in shapes if position <= len(shape)} - {1}
        if len(sizes) > 1:
            listed = " and ".join(map(str, shapes))
            raise ShapeError(f"{op}: shapes {listed} do not broadcast: sizes {sorted(sizes)} meet in dimension "
                             f"-{position}; sizes must be equal or 1 (see unsqueeze, reshape, expand)")
        result.append(sizes.pop() if sizes else 1)
    return tuple(reversed(result))


def normalize_dim(op: str, dim: int, ndim: int) -> int:
    """A dimension counted from the left. Raises OutOfRangeError naming the op; 0-d counts as one dimension."""
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise OutOfRangeError(f"{op}: dimension out of range (expected {-limit} to {limit - 1}, got {dim})")
    return dim % limit


def dimension(op: str, dim: int, shape: tuple[int, ...]) -> int:
    """normalize_dim for what cannot do without a dimension. Raises ShapeError for a 0-d shape."""
    if not shape:
        raise ShapeError(f"{op}: a 0-d tensor has no dimension {dim}; give it one with .reshape(1)")
    return normalize_dim(op, dim, len(shape))


def normalize_dims(op: str, dims: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the left, all of them for None. Raises ShapeError for one named twice."""
    if dims is None:
        return tuple(range(ndim))
    listed = (dims,) if isinstance(dims, int) else tuple(dims)
    result = tuple(normalize_dim(op, d, ndim) for d in listed)
    if len(set(result)) != len(result):
        raise ShapeError(f"{op}: dimension {dims} names one dimension twice")
    return result if ndim else ()


class Backend(ABC):
    """One device: allocation, the door, and the derivations of shape and dtype that all devices share."""

    device: Device
    kernels: Mapping[str, Kernel]
    observers: tuple[Observer, ...] = ()
    redraws_masks = False  # whether dropout keeps a state from which its mask is drawn again, not the mask
    empty: Callable[..., Array]  # (shape, dtype): a dense, row-major array of unspecified contents

    @abstractmethod
    def run(self, kernel: str, out: Array, *args: Any, **params: Any) -> None:
        """The one door: fill `out` by the named kernel, then `tell` the observers, if any.

        A kernel over many tensors takes tuples of arrays, `out` among them.

        Raises DeviceError for a kernel that the device lacks.
        """

    def tell(self, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Show a kernel call that was just made to whoever records, profiles or checks."""
        for observer in self.observers:
            observer(self, kernel, out, args, params)

    def own(self, kernel: str) -> own_kernels.OwnKernel:
        """The user's kernel of a name that is not in the table. Raises DeviceError where there is none."""
        found = own_kernels.find(kernel)
        if found is None:
            raise self.missing(kernel)
        return found

    def missing(self, kernel: str) -> DeviceError:
        """The error for a kernel that is not in the table."""
        cure = "use .to('cpu') for this operation" if self.device.type != "cpu" else "backends/cpu.py lacks an entry"
        return DeviceError(f"device '{self.device}' has no kernel '{kernel}'; {cure}")

    @abstractmethod
    def from_numpy(self, array: np.ndarray, non_blocking: bool = False) -> Array:
        """A NumPy array on this device: shared memory where the device is the host, else a copy.

        With `non_blocking` Python may go on while pinned memory is being copied; it must not change until then.
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """A device array as NumPy's: shared memory where the device is the host, else a copy."""

    @abstractmethod
    def expand(self, array: Array, shape: tuple[int, ...]) -> Array:
        """A view of `shape` that repeats size-1 dimensions with stride 0. The caller has checked the shapes."""

    def address(self, array: Array) -> int:
        """Where an array's first element lies, in the device's memory."""
        return array.__array_interface__["data"][0]  # type: ignore[no-any-return]

    def owns(self, array: Array) -> bool:
        """Whether an array is of a kind, and in a memory, that this device alone has."""
        return False

    @abstractmethod
    def shares_memory(self, a: Array, b: Array) -> bool:
        """Whether two arrays lie in overlapping stretches of memory."""

    def overwrite(self, array: Array, value: float) -> None:
        """Set all elements to a number, not through the door: no recording repeats it."""
        array[...] = value

    def is_writable(self, array: Array) -> bool:
        """Whether each element has memory of its own that may be written: not where a view repeats elements."""
        spread = all(stride or size < 2 for stride, size in zip(array.strides, array.shape, strict=True))
        return spread or 0 in array.shape  # CuPy's empty arrays have strides of 0

    def diagonal(self, array: Array, offset: int, dim1: int, dim2: int) -> Array:
        """A view of the diagonals of the planes (dim1, dim2), as the last dimension."""
        return array.diagonal(offset, dim1, dim2)

    def strided(self, array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        """A view with strides of its own, in bytes, from an array's first element on. The caller has checked them."""
        return strides_of.strided(array, shape, strides)

    def recorder(self) -> recording.Recorder:
        """A recording of this device's work, to be replayed. Raises DeviceError where the device has none."""
        raise DeviceError(f"device '{self.device}' cannot record work for replay; run the step without tl.capture")

    def program(self, calls: list[recording.Call]) -> recording.Program:
        """Noted kernel calls as a program."""
        return recording.Calls(self, calls)

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work given to the device is done, and raise what went wrong in it."""

    def fill(self, kernel: str, shape: tuple[int, ...], dtype: np.dtype[Any], *args: Any, **params: Any) -> Array:
        """A new array filled by a kernel."""
        out = self.empty(shape, dtype)
        self.run(kernel, out, *args, **params)
        return out

    def elementwise(self, kernel: str, *args: Any, dtype: np.dtype[Any] | None = None) -> Array:
        """A kernel over broadcast operands: arrays of equal dtype, or Python numbers."""
        shape: tuple[int, ...] | None = None
        for a in args:
            if type(a) not in SCALARS:
                if shape is None:
                    shape, common = a.shape, a.dtype
                elif a.shape != shape:
                    shape = broadcast_shapes(kernel, *[a.shape for a in args if type(a) not in SCALARS])
                    break
        if dtype is not None and common.char in NARROW:  # 0.1 compares as the number that 16 bits hold for it
            args = tuple([float(common.type(a)) if type(a) is float else a for a in args])
        out = self.empty(shape or (), dtype or common)
        self.run(kernel, out, *args)
        return out

    def reduce(self, kernel: str, x: Array, dims: tuple[int, ...], keepdim: bool,
               dtype: np.dtype[Any] | None = None, **params: Any) -> Array:
        """A kernel that folds the (normalised) dimensions `dims` of x; the kernel sees them kept as size 1."""
        kept = tuple([1 if i in dims else n for i, n in enumerate(x.shape)])
        shape = kept if keepdim else tuple([n for i, n in enumerate(x.shape) if i not in dims])
        out = self.empty(shape, dtype or x.dtype)
        self.run(kernel, out if keepdim else out.reshape(kept), x, dims=dims, **params)
        return out

    def matmul(self, x: Array, y: Array) -> Array:
        """Products of matrices (..., n, k) and (..., k, m), batch dimensions broadcast. The caller has checked k."""
        batch = broadcast_shapes("matmul", x.shape[:-2], y.shape[:-2]) if x.ndim + y.ndim > 4 else ()
        return self.fill("matmul", (*batch, x.shape[-2], y.shape[-1]), x.dtype, x, y)

    def cast(self, array: Array, dtype: np.dtype[Any]) -> Array:
        """A copy of another dtype; the array itself where it already has that dtype."""
        return array if array.dtype == dtype else self.fill("copy", array.shape, dtype, array)

    def copy(self, array: Array) -> Array:
        """A dense copy."""
        return self.fill("copy", array.shape, array.dtype, array)

    def contiguous(self, array: Array) -> Array:
        """The array itself if it is dense and row-major, else a dense copy."""
        return array if array.flags.c_contiguous else self.copy(array)

    def view(self, array: Array, shape: tuple[int, ...]) -> Array | None:
        """The array under another shape without a copy; None where its strides do not allow that."""
        if array.flags.c_contiguous:
            return array.reshape(shape)
        try:
            return array.reshape(shape, copy=False)
        except ValueError:
            return None

    def reshape(self, array: Array, shape: tuple[int, ...]) -> Array:
        """A view where strides allow, else a dense copy made through the door, so that recordings see it."""
        viewed = self.view(array, shape)
        return self.copy(array).reshape(shape) if viewed is None else viewed


SCALARS = frozenset({bool, int, float})
NARROW = frozenset("eE")  # NumPy's codes of float16 and bfloat16
FLOATING = NARROW | frozenset("fd")  # of all floats; bfloat16's own dtype is there only with ml_dtypes
_FLOAT32 = np.dtype(np.float32)


def computing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels compute with numbers of a dtype: float32 for 16-bit floats, else the same."""
    return _FLOAT32 if dtype.char in NARROW else dtype


def resolve_shape(op: str, shape: Sequence[int], numel: int) -> tuple[int, ...]:
    """A target shape with its one -1 filled in. Raises ShapeError where `numel` elements do not fit it."""
    known = math.prod(n for n in shape if n != -1)
    holes = sum(n == -1 for n in shape)
    if holes > 1 or any(n < -1 for n in shape):
        raise ShapeError(f"{op}: shape {tuple(shape)} may hold one -1 and no other negative size")
    if holes and known and numel % known == 0:
        return tuple(numel // known if n == -1 else n for n in shape)
    if holes and not known:
        raise ShapeError(f"{op}: the size for -1 is ambiguous in {tuple(shape)} with a size of 0; write it out")
    if holes or known != numel:
        raise ShapeError(f"{op}: shape {tuple(shape)} is invalid for {numel} elements")
    return tuple(shape)


def default_numpy(dtype: Any = None) -> np.dtype[Any]:
    """The NumPy dtype of a requested dtype, or of the default one."""
    return (dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)).numpy
