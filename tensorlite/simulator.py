"""Kernels on the host: find the bugs of CUDA code, tensorlite's or your own, without a GPU.

Device "cuda:sim" runs every kernel as fibers, one per CUDA thread, on whatever machine there is. `check` watches it do
so: accesses out of bounds, data races, divergent barriers, misaligned vectors, shared memory that was never written.
`launch` runs a kernel text of your own on NumPy arrays. Both need a C++ compiler, and nothing of CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np

from .autograd.tape import Var
from .backends import host, simulator_check
from .backends.host import CompileError as CompileError
from .backends.simulator_library import Function, Library, Parameter
from .backends.simulator_library import SimulatorError as SimulatorError
from .errors import ArgumentError, DTypeError

T = TypeVar("T")

DEFAULT_SCHEDULES = 4
_FORMATS = {("f", 4): "f", ("f", 8): "d", **{("i", n): c for n, c in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))},
            **{("u", n): c for n, c in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}}


_KINDS = {"f": "float", "i": "integer", "u": "integer"}


def is_available() -> bool:
    """Whether a C++ compiler is there to build kernels with.

    >>> isinstance(tl.simulator.is_available(), bool)
    True
    """
    return host.is_available()


@overload
def check(*, schedules: int = ...) -> contextlib.AbstractContextManager[None]: ...
@overload
def check(function: Callable[..., T], /, *args: Any, schedules: int = ..., **kwargs: Any) -> T: ...
def check(function: Callable[..., T] | None = None, /, *args: Any, schedules: int = DEFAULT_SCHEDULES,
          **kwargs: Any) -> Any:
    """Watch what kernels do on device "cuda:sim", in a `with` block or in one call `check(function, *args)`.

    Every launch runs under so many schedules: in order, then in random ones, the same in every run. Each access to
    memory is checked for bounds, alignment and races, and results must not depend on the schedule. It takes some
    hundred times as long as without. The environment variable TENSORLITE_SIM_CHECK=8 does it for a whole program.
    Raises SimulatorError naming kernel, block, thread and line; ArgumentError for schedules that are no integer from 1.

    >>> x = tl.tensor([1.0, -2.0], device="cuda:sim")
    >>> with tl.simulator.check(schedules=2):
    ...     print(x.relu())
    tensor([1., 0.], device='cuda:sim')
    >>> tl.simulator.check(tl.relu, x).tolist()
    [1.0, 0.0]
    """
    if function is None:
        return simulator_check.checking(schedules)
    if not callable(function):
        raise ArgumentError(f"check: takes a function and its arguments, got {type(function).__name__}; the number of "
                            f"schedules is given by keyword: check(schedules={function!r})")
    with simulator_check.checking(schedules):
        return function(*args, **kwargs)


def launch(source: str, kernel: str, grid: int | Sequence[int], block: int | Sequence[int], *args: Any,
           shared_bytes: int = 0, name: str = "kernel.cu") -> None:
    """Run a kernel of a CUDA C++ text on the host: `kernel<<<grid, block, shared_bytes>>>(*args)`.

    `kernel` is its name, or an expression such as "scale<float>" for a template. Arguments are, for pointers, NumPy
    arrays or tensors of device "cuda:sim", which lie densely and which the kernel changes in place; numbers; and bytes
    for structs. `name` stands for the text in messages. The text may include the files of tensorlite's kernels/, such
    as "common.cuh".
    Raises CompileError with the compiler's message, ArgumentError and DTypeError for arguments that do not fit, and
    SimulatorError for what goes wrong in the kernel: barriers always, memory under `check`.

    >>> source = '''
    ... __global__ void reverse(const float* x, float* out, int n) {
    ...   extern __shared__ float tile[];
    ...   tile[threadIdx.x] = x[threadIdx.x];
    ...   __syncthreads();
    ...   out[threadIdx.x] = tile[n - 1 - threadIdx.x];
    ... }
    ... '''
    >>> x, out = np.arange(4, dtype=np.float32), np.empty(4, np.float32)
    >>> tl.simulator.check(tl.simulator.launch, source, "reverse", 1, 4, x, out, 4, shared_bytes=16)
    >>> out
    array([3., 2., 1., 0.], dtype=float32)
    """
    function = simulator_check.chosen(_function(name, source, kernel))
    if len(args) != len(function.parameters):
        raise ArgumentError(f"launch: {kernel} takes {len(function.parameters)} arguments, got {len(args)}")
    arrays = [_array(kernel, position, arg) for position, arg in enumerate(args)]
    buffer = ctypes.create_string_buffer(max(function.arguments_size, 1))
    for position, (parameter, arg) in enumerate(zip(function.parameters, arrays, strict=True)):
        value = _packed(kernel, position, parameter, arg)
        ctypes.memmove(ctypes.addressof(buffer) + parameter.offset, value, len(value))
    for arg in args:
        if isinstance(arg, Var):
            arg._bump()
    simulator_check.launch(function, _three(grid), _three(block), shared_bytes, ctypes.addressof(buffer), arrays)


@lru_cache(maxsize=64)
def _function(name: str, source: str, kernel: str) -> Function:
    return Library(name, source, (kernel,)).function(kernel)


def _array(kernel: str, position: int, arg: Any) -> Any:
    """A tensor's memory; whatever else is given, itself. Raises ArgumentError for memory that a pointer is not for."""
    if isinstance(arg, np.ndarray):
        _check_memory(f"launch: argument {position} of {kernel}, an array of shape {arg.shape},", arg)
        return arg
    if not isinstance(arg, Var):
        return arg
    if str(arg.backend.device) != "cuda:sim":
        raise ArgumentError(f"launch: a tensor of shape {tuple(arg.array.shape)} is on device '{arg.backend.device}'; "
                            "move it by .to('cuda:sim'), or give a NumPy array")
    if not arg.array.flags.c_contiguous:
        raise ArgumentError(f"launch: argument {position} of {kernel}, a tensor of shape {tuple(arg.array.shape)}, has "
                            "strides, which a pointer has not; give x.contiguous(), which is a copy")
    return arg.array


def _check_memory(what: str, array: np.ndarray) -> None:
    """Refuse an array of NumPy that does not lie densely, or that must not be written to."""
    if not array.flags.c_contiguous:
        raise ArgumentError(f"{what} has the strides {array.strides}, which a pointer has not; give "
                            "np.ascontiguousarray(x), which is a copy, and read results from that")
    if not array.flags.writeable:
        raise ArgumentError(f"{what} is read-only, and a kernel may write wherever its pointers lead; give x.copy(), "
                            "or x.setflags(write=True) if it is yours")


def _packed(kernel: str, position: int, parameter: Parameter, arg: Any) -> bytes:
    """An argument as the kernel takes it. Raises DTypeError for one of another kind, or a number out of range."""
    kind, size = parameter.kind.decode(), parameter.size
    try:
        if kind == "p" and isinstance(arg, np.ndarray) and _holds(parameter, arg):
            return struct.pack("P", arg.__array_interface__["data"][0])
        if kind == "s" and isinstance(arg, bytes) and len(arg) == size:
            return arg
        if kind in "fiu" and not isinstance(arg, (np.ndarray, bytes)):
            return struct.pack(_FORMATS[kind, size], float(arg) if kind == "f" else arg)
    except (struct.error, OverflowError, TypeError, ValueError):
        pass
    element = _KINDS.get(parameter.element_kind.decode(), "struct")
    wanted = {"p": f"an array of {element}s of {parameter.element_size} bytes", "s": f"bytes for a struct of {size}",
              "f": f"a number for a float of {size} bytes", "i": f"an integer of {size} bytes",
              "u": f"an unsigned integer of {size} bytes"}[kind]
    got = f"one of {arg.dtype}" if isinstance(arg, np.ndarray) else f"{type(arg).__name__} {arg!r:.60}"
    raise DTypeError(f"launch: argument {position} of {kernel} must be {wanted}, got {got}")


def _holds(parameter: Parameter, array: np.ndarray) -> bool:
    """Whether the elements are what a kernel's pointer points to; structs and void are the caller's affair."""
    kind = parameter.element_kind.decode()
    if kind not in _KINDS:
        return True
    fits: bool = array.itemsize == parameter.element_size and (array.dtype.kind == "f") == (kind == "f")
    return fits


def _three(sizes: int | Sequence[int]) -> tuple[int, int, int]:
    """A grid or block with all three sizes."""
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not 1 <= len(given) <= 3 or any(n < 0 for n in given):
        raise ArgumentError(f"launch: a grid or block is one to three sizes, got {sizes}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z
