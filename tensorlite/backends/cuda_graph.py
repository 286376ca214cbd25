"""Recording a step of device "cuda" as a CUDA graph, and replaying it: the Recorder and the Program of a GPU.

The recording thread works on a stream of its own that captures: kernels are noted and none runs. Its arrays come from a
memory pool of the recording's own. In the ordinary pool, memory that a step lets go of would go to later arrays, and
the replays would write over them. (Freed within the recording, memory serves the recording again: a replay repeats the
order.)

A graph is launched on the current stream of the thread that replays it, so it is in order with the work around it
without events. Two launches of one graph wait for each other, whatever their streams: CUDA sees to that.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaptureError, DeviceError, user_line
from . import Array, cublaslt, recording
from .cupy_import import cupy
from .recording_memory import root

if TYPE_CHECKING:
    from .cuda import CudaBackend

_runtime = cupy.cuda.runtime
_BYTE = np.dtype(np.uint8)


class _Blocks:
    """Blocks of CUDA's memory, in the order of their addresses.

    Held here, so that CuPy's pool, when memory is short, gives none back that recorded kernels have been told of.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self.held: list[Any] = []

    def allocate(self, size: int) -> Any:
        """A new block."""
        memory = cupy.cuda.Memory(size)
        self.hold(memory)
        return cupy.cuda.MemoryPointer(memory, 0)

    def hold(self, memory: Any) -> None:
        """Add a block."""
        at = bisect.bisect(self._starts, memory.ptr)
        self._starts.insert(at, memory.ptr)
        self.held.insert(at, memory)

    def __contains__(self, address: int) -> bool:
        at = bisect.bisect(self._starts, address) - 1
        return at >= 0 and address < self._starts[at] + self.held[at].size


class Pool:
    """Memory for the arrays of a recording, given back to the GPU when neither the pool nor any such array is left."""

    def __init__(self, gpu: int) -> None:
        self._gpu = gpu
        self._elsewhere = cupy.cuda.get_allocator()
        self.blocks = _Blocks()
        self._pool = cupy.cuda.MemoryPool(self.blocks.allocate)
        weakref.finalize(self, _free, gpu, self._pool).atexit = False

    @property
    def bytes(self) -> int:
        """Bytes taken from the GPU."""
        return sum(block.size for block in self.blocks.held)

    def malloc(self, size: int) -> Any:
        """CuPy's allocator of a recording thread. Other GPUs have no part in the recording."""
        if not size or _runtime.getDevice() != self._gpu:
            return self._elsewhere(size)
        pointer = self._pool.malloc(size)
        pointer.mem.recorded_in = self  # kept as long as any array in it
        return pointer

    def view(self, array: Array) -> Array:
        """Another array over memory of this pool, which does not keep its block from being used again."""
        memory = cupy.cuda.UnownedMemory(array.data.ptr, array.nbytes, self, self._gpu)
        return cupy.ndarray(array.shape, array.dtype, cupy.cuda.MemoryPointer(memory, 0), array.strides)


def _free(gpu: int, pool: Any) -> None:
    """Empty CuPy's pool: its free blocks and its lists hold each other, and would outlive it."""
    with cupy.cuda.Device(gpu):
        pool.free_all_blocks()


class CudaRecorder(recording.Recorder):
    """The recording of a GPU's work."""

    backend: CudaBackend

    def __init__(self, backend: CudaBackend) -> None:
        super().__init__(backend)
        self.pool = Pool(backend.index)
        self.kernels = 0
        self._workspaces: dict[int, Array] = {}  # by stream
        self._last_line = ""  # from which a kernel was recorded
        self._entered = contextlib.ExitStack()
        self._graph: Any = None
        with backend.current():
            with contextlib.suppress(DeviceError):  # if it is missing, products of matrices say so
                cublaslt.handle(backend.index)  # now, since it allocates
            self._outside = cupy.cuda.get_current_stream()
            self._stream = cupy.cuda.Stream(non_blocking=True)

    def _begin(self) -> None:
        with self.backend.current():
            for context in (self.backend.capturing, _without_collection(), self._stream,
                            cupy.cuda.using_allocator(self.pool.malloc)):
                self._entered.enter_context(context)
            self._stream.begin_capture(_runtime.streamCaptureModeRelaxed)  # allocations are allowed

    def _end(self, failed: bool) -> None:
        """End the capture and do what was recorded, as far as it came: errors leave behind what they do elsewhere."""
        try:
            with self.backend.current(), self._entered:
                self._graph = self._stream.end_capture()
        except _runtime.CUDARuntimeError as error:
            self._drop_gradients()
            if not failed:
                raise CaptureError(self._broken(f"the end ({error})")) from error
        else:
            size, count = self.pool.bytes, self.backend.count_recorded
            count(size)
            weakref.finalize(self.pool, count, -size).atexit = False
            self.backend.launch_graph(self._graph)

    def _drop_gradients(self) -> None:
        """Forget gradients that were recorded and are never computed."""
        for leaf in self.written_grads:
            if leaf._grad is not None and self.owns(leaf._grad.array):
                leaf._grad = None

    def finish(self) -> recording.Program:
        self._refuse_dropped_memory()
        return CudaProgram(self, self._graph)

    def owns(self, array: Array) -> bool:
        return array.data.ptr in self.pool.blocks

    def keep(self, array: Array) -> Array:
        return self.pool.view(array)

    # --- for the kernels of the device ------------------------------------------------------------------------------

    def note(self, arrays: Sequence[Any]) -> int:
        """A kernel that touches these arrays is about to be recorded. Returns the handle of the stream that it goes to.

        Raises CaptureError if that would not record it.
        """
        stream: int = cupy.cuda.get_current_stream().ptr
        try:
            captured = _runtime.streamIsCapturing(stream)
        except RuntimeError as error:  # not one of CUDA's: CuPy words it
            raise CaptureError(self._broken(user_line())) from error
        if not captured:
            raise CaptureError(
                "work on a stream that takes no part in the captured step; let it wait for the step's own stream "
                "first, side.wait_stream(tl.cuda.current_stream()), and that one for it afterwards: recording at "
                f"{user_line()}")
        self._note_external(arrays)
        self.kernels += 1
        self._last_line = user_line()
        return stream

    def _note_external(self, arrays: Sequence[Any]) -> None:
        for array in arrays:
            if type(array) is tuple:
                self._note_external(array)
            elif isinstance(array, cupy.ndarray) and not self.owns(array):
                whole = root(array)
                self.external[id(whole)] = whole

    def workspace(self, stream: int, size: int) -> int:
        """The address of scratch memory that the products of matrices of one stream share."""
        if stream not in self._workspaces:
            self._workspaces[stream] = self.backend.empty((size,), _BYTE)
        return self._workspaces[stream].data.ptr  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Let this thread's work be done at once, before the recorded work, and not be recorded."""
        thread, self.thread = self.thread, 0
        try:
            with self._outside:
                yield
        finally:
            self.thread = thread

    def _broken(self, until: str) -> str:
        begin = f"the kernel of {self._last_line}" if self._last_line else "the beginning"
        return (f"CUDA gave up recording the step somewhere between {begin} and {until}: something there waits for the "
                "GPU, asks whether it is done, or works on a stream that the step's own does not wait for at the end")


class CudaProgram(recording.Program):
    """A CUDA graph, with all memory that its kernels use."""

    def __init__(self, recorder: CudaRecorder, graph: Any) -> None:
        self._backend = recorder.backend
        self._graph = graph
        self._pool = recorder.pool
        self._one_at_a_time = threading.Lock()  # CUDA takes no launches of one graph by two threads at once
        self.external = tuple(recorder.external.values())
        self.kernels = recorder.kernels
        self.bytes = recorder.pool.bytes
        self.buffers = len(recorder.pool.blocks.held)

    def run(self) -> None:
        with self._one_at_a_time:
            self._backend.launch_graph(self._graph)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """No cyclic garbage collection, whose finalisers could call CUDA in the midst of a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
