"""Launching hand-written kernels: what "cuda" and "cuda:sim" share.

A kernel of `kernels/*.cu` takes one struct by value. One file of this package per family decides which instance
of a template serves a call, on what grid, and what the struct holds: in Python there are grids and no formulas.
The result of that is a `Plan`, made once per (kernel, dtypes, shapes, strides) and thread, and launched with
fresh addresses and numbers.

Contract. A device derives its backend from `KernelBackend`, which asks four things of it: `empty`, `address`,
`load` and `launch`. A family offers a table {name: function(backend, name, out, args, params)} and lists its
instances in `catalogue`, for the checks that need no GPU.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import TensorliteError
from .. import Array, Backend

Grid = tuple[int, int, int]
Launcher = Callable[["KernelBackend", str, Array, tuple[Any, ...], dict[str, Any]], None]  # a row of a family's table
Complaint = Callable[[int, int], TensorliteError]  # (value, position) -> the error that a kernel reported

THREADS = 256  # of a block, where a kernel has no reason for another number
WARP = 32
MAX_PLANS = 4096  # per thread; the cache starts afresh beyond that, so that ever new shapes do not fill memory


class Instance(NamedTuple):
    """One kernel: a file of kernels/ and the C++ expression of a template's instance in it."""

    file: str
    expression: str


class Arguments:
    """A kernel's struct in host memory, and the driver's way to it: a list of pointers to arguments, with one entry."""

    __slots__ = ("_pointers", "address", "buffer")

    def __init__(self, size: int) -> None:
        self.buffer = ctypes.create_string_buffer(size)
        self._pointers = (ctypes.c_void_p * 1)(ctypes.addressof(self.buffer))
        self.address = ctypes.addressof(self._pointers)


class Plan(NamedTuple):
    """A kernel chosen and its struct filled, but for what changes from call to call, which `pack` writes."""

    function: Any
    grid: Grid
    block: Grid
    shared: int
    arguments: Arguments
    pack: Callable[..., None]  # (buffer, offset, *values): the first fields of the struct


class _PerThread(threading.local):
    """Plans hold a buffer that a launch reads without the interpreter's lock, so each thread has its own."""

    def __init__(self) -> None:
        self.plans: dict[Hashable, Any] = {}


class KernelBackend(Backend):
    """A device that runs the kernels of kernels/."""

    redraws_masks = True
    tensor_cores = True  # whether kernels/mma.cuh works here: from compute capability 8.0 on

    def __init__(self, kernels: Mapping[str, Launcher]) -> None:
        self.kernels = kernels
        self._functions: dict[Instance, Any] = {}
        self._per_thread = _PerThread()
        self._complaints: dict[int, Complaint] = {}  # by code
        self._codes = itertools.count(1)

    kernels: Mapping[str, Launcher]

    # --- what a device supplies ---------------------------------------------------------------------------------

    @abstractmethod
    def address(self, array: Array) -> int:
        """The device address of an array's first element."""

    @abstractmethod
    def load(self, instance: Instance, siblings: Sequence[str]) -> Any:
        """The compiled function of an instance; `siblings` are expressions worth compiling in the same go."""

    @abstractmethod
    def launch(self, function: Any, grid: Grid, block: Grid, shared: int, arguments: Arguments,
               arrays: Sequence[Array]) -> None:
        """Run a function on the current stream; `arrays` are all that the kernel may touch."""

    @property
    @abstractmethod
    def error_word(self) -> int:
        """The device address of the ErrorWord to which kernels report."""

    @abstractmethod
    def take_report(self) -> tuple[int, int, int] | None:
        """(code, value, position) of the first error since the last call, and clear it; None if there was none.

        The work given to the device so far is done when this is called.
        """

    # --- the door -----------------------------------------------------------------------------------------------

    def run(self, kernel: str, out: Array, *args: Any, **params: Any) -> None:
        function = self.kernels.get(kernel)
        if function is None:
            function = self.own(kernel).on_device
        function(self, kernel, out, args, params)
        if self.observers:
            self.tell(kernel, out, args, params)

    def overwrite(self, array: Array, value: float) -> None:
        self.kernels["fill"](self, "fill", array, (value,), {})

    # --- for the families ---------------------------------------------------------------------------------------

    def function(self, instance: Instance, siblings: Sequence[str] = ()) -> Any:
        """The compiled function of an instance, loaded on first use."""
        found = self._functions.get(instance)
        if found is None:
            found = self._functions[instance] = self.load(instance, siblings)
        return found

    @property
    def plans(self) -> dict[Hashable, Any]:
        """This thread's plans by whatever key a family chose."""
        return self._per_thread.plans

    def remember(self, key: Hashable, plan: Any) -> Any:
        """Keep a plan for the next call of this thread with the same key; returns it."""
        plans = self._per_thread.plans
        if len(plans) >= MAX_PLANS:
            plans.clear()
        plans[key] = plan
        return plan

    def plan(self, instance: Instance, changing: str, fixed: str, values: Sequence[Any], grid: Grid,
             block: Grid = (THREADS, 1, 1), shared: int = 0, siblings: Sequence[str] = ()) -> Plan:
        """A plan for a struct of `changing` fields, written by each launch, then `fixed` ones with these values.

        Fields are struct's letters, laid out and aligned as in C.
        """
        head, whole = struct.Struct(changing), struct.Struct(f"{changing}{fixed}0q")  # C pads a struct at its end
        arguments = Arguments(whole.size)
        tail = struct.Struct(f"{fixed}0q")
        tail.pack_into(arguments.buffer, whole.size - tail.size, *values)
        return Plan(self.function(instance, siblings), grid, block, shared, arguments, head.pack_into)

    def start(self, plan: Plan, arrays: Sequence[Array], *values: Any) -> None:
        """Launch a plan with these values of its changing fields."""
        plan.pack(plan.arguments.buffer, 0, *values)
        self.launch(plan.function, plan.grid, plan.block, plan.shared, plan.arguments, arrays)

    def code_for(self, complaint: Complaint) -> int:
        """The code by which a plan's kernel reports an error in its data, to be raised as `complaint` words it."""
        code = next(self._codes)
        self._complaints[code] = complaint
        return code

    def raise_reported(self) -> None:
        """Raise what a kernel reported since the last call, if anything. The device has done its work."""
        report = self.take_report()
        if report is not None:
            code, value, position = report
            raise self._complaints[code](value, position)


def one_dimensional(threads: int) -> tuple[Grid, Grid]:
    """Grid and block of at least so many threads in one dimension; a small block where that is enough."""
    block = min(THREADS, -(-threads // WARP) * WARP)
    return (-(-threads // block), 1, 1), (block, 1, 1)
