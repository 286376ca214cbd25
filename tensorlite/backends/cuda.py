"""Device "cuda": the kernels of kernels/ on NVIDIA GPUs. CuPy owns memory and streams, NVRTC compiles.

Contract: that of KernelBackend. Raw arrays are cupy.ndarray, used as memory with a shape: no function of CuPy computes.
Work goes to CuPy's current stream of the calling thread, so `tl.cuda.stream` and CuPy's own streams mean the same.
Whichever GPU is current in a thread, work goes to the one that holds the array, and the current one stays as it was.
"""

from __future__ import annotations

import ctypes
import gc
import operator
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..errors import CaptureError, DeviceError, OutOfMemoryError, user_line
from . import Array, Device, cublas, forked, nvrtc, recording
from .cuda_graph import CudaRecorder
from .cuda_requirements import OLDEST_CAPABILITY, TENSOR_CORES_CAPABILITY, count_gpus
from .cupy_import import cupy
from .kernels import Arguments, Grid, Instance, KernelBackend, catalogue
from .kernels.elementwise import new_elementwise

ndarray = cupy.ndarray  # these names, and not ways to them, because they are used in every operation
runtime = cupy.cuda.runtime
is_memory_pinned = cupy.cuda.pinned_memory.is_memory_pinned
get_device = runtime.getDevice
get_current_stream = cupy.cuda.get_current_stream
launch_kernel = cupy.cuda.driver.launchKernel
pool = cupy.get_default_memory_pool()  # of the current GPU
used_bytes = pool.used_bytes

CudaError = (runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)

_ERROR_WORD = struct.Struct("@IIqq")  # ErrorWord of kernels/common.cuh: claimed, code, value, position
_MAX_DYNAMIC_SHARED_SIZE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_SHARED_WITHOUT_ASKING = 48 * 1024  # bytes; more must be asked for, kernel by kernel
_STAGED = 1 << 20  # bytes; larger arrays are copied by the driver from where they lie


class _Context(threading.local):
    """Whether the GPU's context is current in a thread. The driver's launches need it, and do not see to it."""

    ready = False


class CudaBackend(KernelBackend):
    """One GPU."""

    elementwise = new_elementwise

    def __init__(self, index: int, count: int) -> None:
        super().__init__({**catalogue.TABLE, **cublas.table(catalogue.TABLE)})
        self.device = Device("cuda", index)
        self.index = index
        self.gpu = cupy.cuda.Device(index)
        self.count = count  # of GPUs in this machine
        self.peak = 0  # bytes of arrays at most, since this was last reset
        major, minor = self.capability = divmod(int(self.gpu.compute_capability), 10)
        if self.capability < OLDEST_CAPABILITY:
            raise DeviceError(f"device '{self.device}' has compute capability {major}.{minor}; the kernels need "
                              f"{'.'.join(map(str, OLDEST_CAPABILITY))} or later (Volta, 2017)")
        self.tensor_cores = self.capability >= TENSOR_CORES_CAPABILITY
        self._target = nvrtc.architecture(major, minor)
        self._context = _Context()
        self._modules: list[Any] = []  # kept loaded
        self._shared: dict[int, int] = {}  # function -> bytes of dynamic shared memory asked for
        self._in_flight: deque[tuple[Any, Any]] = deque()  # (event, host memory that is being copied until then)
        self._in_flight_lock = threading.Lock()
        self.capturing = threading.RLock()  # held by the thread that records, and while the whole GPU is waited for
        self._recorded = 0  # bytes of recordings
        with self.gpu:
            self._word = cupy.cuda.alloc_pinned_memory(_ERROR_WORD.size)
        self._word_bytes = memoryview(self._word)
        _ERROR_WORD.pack_into(self._word_bytes, 0, 0, 0, 0, 0)

    # --- memory ---------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        if get_device() != self.index:
            with self.gpu:
                return self.empty(shape, dtype)
        try:
            array = ndarray(shape, dtype)
        except cupy.cuda.memory.OutOfMemoryError:
            array = self._empty_after_making_room(shape, dtype)
        except CudaError as error:
            raise self.failure(error) from error
        used = used_bytes() + self._recorded
        if used > self.peak:
            self.peak = used
        return array

    def _empty_after_making_room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        gc.collect()  # arrays that only rings of references hold
        pool.free_all_blocks()
        try:
            return ndarray(shape, dtype)
        except cupy.cuda.memory.OutOfMemoryError:
            raise OutOfMemoryError(self._memory_report(shape, dtype)) from None

    def _memory_report(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        """What was asked for, what there is, and which arrays hold most of it."""
        free, total = runtime.memGetInfo()
        wanted = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        held: Counter[tuple[tuple[int, ...], str]] = Counter()
        for a in gc.get_objects():
            if isinstance(a, ndarray) and a.base is None and a.nbytes and a.device.id == self.index:
                held[a.shape, a.dtype.name] += a.nbytes
        lines = [f"  {size / 2**20:,.1f} MiB: {name} {each}" for (each, name), size in held.most_common(5)]
        sizes = [f"{size / 2**20:,.1f} MiB" for size in (wanted, total, free, pool.used_bytes())]
        return (f"device '{self.device}' is out of memory: {dtype.name} {shape} needs {sizes[0]}; of {sizes[1]}, "
                f"{sizes[2]} are free and {sizes[3]} are held by arrays of this process. Use a smaller batch, "
                "tl.no_grad() where no gradient is needed, or tl.autograd.checkpoint. Most is held by:\n"
                + "\n".join(lines))

    address = operator.attrgetter("data.ptr")  # type: ignore[assignment]  # no function: half the time

    def from_numpy(self, array: np.ndarray, non_blocking: bool = False) -> Array:
        """A copy on the GPU. The array may be changed at once, unless it is pinned and `non_blocking` is asked for.

        Small arrays go through pinned memory of our own, so that Python need not wait for the GPU.
        """
        recording.refuse("memory of the host")
        dense = np.ascontiguousarray(array)
        out = self.empty(array.shape, array.dtype)
        if not dense.size:
            return out
        with self.current():
            source = dense.ctypes.data
            ours = dense.nbytes <= _STAGED and not is_memory_pinned(source)
            memory: Any = dense
            if ours:
                memory = cupy.cuda.alloc_pinned_memory(dense.nbytes)
                ctypes.memmove(memory.ptr, source, dense.nbytes)
                source = memory.ptr
            stream = get_current_stream()
            runtime.memcpyAsync(out.data.ptr, source, dense.nbytes, runtime.memcpyHostToDevice, stream.ptr)
            if ours or (non_blocking and is_memory_pinned(source)):
                self._hold(memory, stream)
            else:
                stream.synchronize()
        return out

    def pinned(self, array: np.ndarray) -> np.ndarray:
        """A copy in page-locked host memory, from which and to which copies go on beside Python."""
        if not array.size:
            return array.copy()
        memory = cupy.cuda.alloc_pinned_memory(array.nbytes)
        copy: np.ndarray = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
        copy[...] = array
        return copy

    @staticmethod
    def is_pinned(array: np.ndarray) -> bool:
        """Whether an array of the host lies in page-locked memory."""
        return array.size > 0 and is_memory_pinned(array.ctypes.data)

    def _hold(self, memory: Any, stream: Any) -> None:
        """Keep host memory alive until the copy that reads it is done."""
        event, waiting = stream.record(), self._in_flight
        with self._in_flight_lock:
            while waiting and waiting[0][0].done:
                waiting.popleft()
            waiting.append((event, memory))

    def to_numpy(self, array: Array) -> np.ndarray:
        recording.refuse("a number on the host (.item(), .numpy(), print, if, x[mask], .to() another device)")
        dense = self.contiguous(array)
        values = np.empty(dense.shape, dense.dtype)
        with self.current():
            stream = get_current_stream()
            try:
                if values.size:
                    runtime.memcpyAsync(values.ctypes.data, dense.data.ptr, values.nbytes, runtime.memcpyDeviceToHost,
                                        stream.ptr)
                stream.synchronize()
            except CudaError as error:
                raise self.failure(error) from error
        self.raise_reported()
        return values

    def expand(self, array: Array, shape: tuple[int, ...]) -> Array:
        return cupy.broadcast_to(array, shape)

    def strided(self, array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        view = array.view()  # not cupy.lib.stride_tricks, whose views do not know their base
        view._set_shape_and_strides(shape, strides, True, True)
        return view

    def owns(self, array: Array) -> bool:
        return isinstance(array, ndarray) and int(array.device.id) == self.index

    def shares_memory(self, a: Array, b: Array) -> bool:
        return cupy.may_share_memory(a, b)  # type: ignore[no-any-return]

    def synchronize(self) -> None:
        recording.refuse("waiting for the GPU")
        with self.capturing:  # to wait for the whole GPU breaks off a capture of any thread
            self._wait(runtime.deviceSynchronize)

    def synchronize_stream(self, stream: Any) -> None:
        """Wait until the work of one stream is done, and raise what went wrong in it."""
        recording.refuse("waiting for a stream")
        self._wait(stream.synchronize)

    def _wait(self, wait: Callable[[], None]) -> None:
        with self.current():
            try:
                wait()
            except CudaError as error:
                raise self.failure(error) from error
        self.raise_reported()

    # --- what tl.cuda shows ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The GPU's name, as nvidia-smi has it."""
        name: bytes = runtime.getDeviceProperties(self.index)["name"]
        return name.decode()

    @property
    def allocated(self) -> int:
        """Bytes held by arrays on this GPU, and by recorded steps."""
        with self.gpu:
            return pool.used_bytes() + self._recorded  # type: ignore[no-any-return]

    @property
    def reserved(self) -> int:
        """Bytes taken from the driver, those kept for later arrays included."""
        with self.gpu:
            return pool.total_bytes() + self._recorded  # type: ignore[no-any-return]

    def count_recorded(self, size: int) -> None:
        """Count bytes that a recording has for itself, or, negative, has given back."""
        self._recorded += size
        self.peak = max(self.peak, self.allocated)

    def memory_info(self) -> tuple[int, int]:
        """Bytes of this GPU: (free, in all), other programs counted."""
        with self.gpu:
            return runtime.memGetInfo()  # type: ignore[no-any-return]

    def empty_cache(self) -> None:
        """Give memory that no array holds back to the driver."""
        with self.gpu:
            pool.free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()

    def new_stream(self, priority: int) -> Any:
        """CuPy's stream, which does not wait for the default stream, as PyTorch's do not."""
        with self.current():
            return cupy.cuda.Stream(non_blocking=True, priority=priority)

    def current_stream(self) -> Any:
        """CuPy's current stream on this GPU in this thread."""
        with self.current():
            return get_current_stream()

    def new_event(self, blocking: bool, timing: bool) -> Any:
        """CuPy's event."""
        with self.current():
            return cupy.cuda.Event(block=blocking, disable_timing=not timing)

    elapsed_time = staticmethod(cupy.cuda.get_elapsed_time)

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, instance: Instance, siblings: Sequence[str]) -> int:
        """The driver's handle of a function. NVRTC compiles one instance in a tenth of a second: siblings wait."""
        compiled = nvrtc.build(instance.file, (instance.expression,), self._target)
        with self.current():
            module = cupy.cuda.function.Module()
            module.load(compiled.image)
            self._modules.append(module)
            handle: int = cupy.cuda.driver.moduleGetFunction(module.ptr, compiled.symbols[instance.expression])
        return handle

    def launch(self, function: int, grid: Grid, block: Grid, shared: int, arguments: Arguments,
               arrays: Sequence[Array]) -> None:
        if recording.active is not None and (recorder := self.capture) is not None:
            with self.current():
                recorder.note(arrays)
        try:
            if not self._context.ready or get_device() != self.index:
                with self.current():
                    self._launch_here(function, grid, block, shared, arguments)
            elif shared > _SHARED_WITHOUT_ASKING:
                self._launch_here(function, grid, block, shared, arguments)
            else:
                launch_kernel(function, *grid, *block, shared, get_current_stream().ptr, arguments.address, 0)
        except CudaError as error:
            raise self.failure(error) from error

    def _launch_here(self, function: int, grid: Grid, block: Grid, shared: int, arguments: Arguments) -> None:
        """A launch on the current GPU, with as much shared memory as it wants."""
        if shared > _SHARED_WITHOUT_ASKING and shared > self._shared.get(function, 0):
            cupy.cuda.driver.funcSetAttribute(function, _MAX_DYNAMIC_SHARED_SIZE, shared)
            self._shared[function] = shared
        launch_kernel(function, *grid, *block, shared, get_current_stream().ptr, arguments.address, 0)

    def current(self) -> AbstractContextManager[Any]:
        """This GPU as the thread's current one; the first time in a thread, its context is made current too."""
        if not self._context.ready:
            before = get_device()
            self.gpu.use()
            runtime.setDevice(before)
            self._context.ready = True
        guard: AbstractContextManager[Any] = self.gpu
        return guard

    def failure(self, error: Exception) -> DeviceError:
        """The error for one of CUDA itself, most often of an earlier kernel: launches do not wait for their end."""
        return DeviceError(
            f"device '{self.device}' failed: {error}. If a kernel accessed memory that is not its own, this process "
            "cannot use the GPU any more; CUDA_LAUNCH_BLOCKING=1 shows the call, compute-sanitizer or device "
            "'cuda:sim' the line")

    # --- recording --------------------------------------------------------------------------------------------------

    def recorder(self) -> CudaRecorder:
        return CudaRecorder(self)

    @property
    def capture(self) -> CudaRecorder | None:
        """The recording of this thread, if it makes one. Raises CaptureError if it records another device's work."""
        recorder = recording.here()
        if recorder is None or (isinstance(recorder, CudaRecorder) and recorder.backend is self):
            return recorder
        raise CaptureError(f"work of device '{self.device}' cannot be part of a step that is captured on "
                           f"'{recorder.backend.device}': recording at {user_line()}")

    def overwrite(self, array: Array, value: float) -> None:
        recorder = self.capture
        with recorder.suspended() if recorder is not None else nullcontext():
            super().overwrite(array, value)

    def launch_graph(self, graph: Any) -> None:
        """Give a graph of this GPU to the current stream."""
        try:
            if get_device() == self.index:
                graph.launch()
            else:
                with self.current():
                    graph.launch()
        except CudaError as error:
            raise self.failure(error) from error

    # --- errors from kernels ----------------------------------------------------------------------------------------

    @property
    def error_word(self) -> int:
        """The word lies in pinned host memory, which GPUs reach under the same address."""
        return self._word.ptr  # type: ignore[no-any-return]

    def take_report(self) -> tuple[int, int, int] | None:
        _, code, value, position = _ERROR_WORD.unpack_from(self._word_bytes)
        if not code:  # no report, or one that a kernel of another stream has claimed the word for and not yet written
            return None
        _ERROR_WORD.pack_into(self._word_bytes, 0, 0, 0, 0, 0)
        return code, value, position


def create(index: int | None) -> CudaBackend:
    """The backend of a GPU. Raises DeviceError where it is missing, saying what to do."""
    index = index or 0
    forked.refuse_here(f"cuda:{index}")
    count = count_gpus(cupy)
    if index >= count:
        present = ", ".join(f"'cuda:{i}'" for i in range(count))
        raise DeviceError(f"device 'cuda:{index}' does not exist; there {'is' if count == 1 else 'are'} {present}")
    backend = CudaBackend(index, count)
    forked.guard(backend)
    return backend
