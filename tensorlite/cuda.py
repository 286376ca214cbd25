"""GPUs as a program asks about them and steers them: what there is, memory, streams and events. PyTorch's names.

Nothing here loads CuPy before device "cuda" is asked for. Without a GPU `is_available` is False, `device_count` 0, and
everything else raises the DeviceError that says what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .backends import Array, Device, as_device, current, get, is_loaded, recording
from .errors import ArgumentError
from .random import default_for


def _backend(device: Any = None) -> Any:
    """The backend of a GPU given by Device, name or index; of the current one for None."""
    wanted = as_device("cuda" if device is None else device)
    if wanted.type != "cuda":
        raise ArgumentError(f"tl.cuda: expected a GPU such as 'cuda:0' or its index, got device '{wanted}'")
    return get(wanted)


# --- which GPUs there are -------------------------------------------------------------------------------------------


def is_available() -> bool:
    """Whether tensors can move to device "cuda". Never raises.

    >>> device = tl.device("cuda" if tl.cuda.is_available() else "cpu")
    """
    try:
        _backend(0)
    except Exception:  # a broken installation of the driver or CuPy may raise anything
        return False
    return True


def device_count() -> int:
    """How many GPUs there are.

    >>> tl.cuda.device_count() > 0 or not tl.cuda.is_available()
    True
    """
    return _backend(0).count if is_available() else 0


def current_device() -> int:
    """The index of the GPU that "cuda" means in this thread."""
    return _backend().index  # type: ignore[no-any-return]


def set_device(device: Any) -> None:
    """Let "cuda" mean this GPU in this thread from now on. Raises DeviceError where it does not exist."""
    current.gpu = _backend(device).index


@contextlib.contextmanager
def device(device: Any) -> Iterator[None]:
    """Let "cuda" mean this GPU within a with block."""
    before = current.gpu
    set_device(device)
    try:
        yield
    finally:
        current.gpu = before


def get_device_name(device: Any = None) -> str:
    """The GPU's name, such as 'NVIDIA H200'."""
    return _backend(device).name  # type: ignore[no-any-return]


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The GPU's compute capability: (9, 0) for Hopper."""
    return _backend(device).capability  # type: ignore[no-any-return]


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all its work, and raise what went wrong in it, such as an index out of range.

    Any device will do, "cuda:sim" too; None is the current GPU.
    """
    get("cuda" if device is None else device).synchronize()


def manual_seed(seed: int) -> None:
    """Seed the default generator of the current GPU, if there is one; `tl.manual_seed` seeds those of all devices."""
    if is_available():
        default_for(_backend().device).manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seed the default generators of all GPUs."""
    for index in range(device_count()):
        default_for(index).manual_seed(seed)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_allocated(device: Any = None) -> int:
    """Bytes held by arrays on the GPU."""
    return _backend(device).allocated  # type: ignore[no-any-return]


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the driver: those of arrays, and those kept for later ones."""
    return _backend(device).reserved  # type: ignore[no-any-return]


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that arrays held at once, since the start or `reset_peak_memory_stats`."""
    return _backend(device).peak  # type: ignore[no-any-return]


def reset_peak_memory_stats(device: Any = None) -> None:
    """Begin `max_memory_allocated` anew from what is held now."""
    backend = _backend(device)
    backend.peak = backend.allocated


def empty_cache() -> None:
    """Give memory that is kept for later arrays back to the driver, on every GPU, for other programs to use."""
    for index in range(device_count()):
        _backend(index).empty_cache()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of the GPU: (free, in all), other programs counted."""
    return _backend(device).memory_info()  # type: ignore[no-any-return]


# --- streams and events -----------------------------------------------------------------------------------------------


class Stream:
    """A queue of work on a GPU. Work of different streams may run at the same time, and in any order.

    Memory that is freed goes to later arrays of the stream on which it was made: `wait_stream` before another stream's
    tensors are dropped, if work on them is still under way.

        side = tl.cuda.Stream()
        with tl.cuda.stream(side):
            y = x @ w
        tl.cuda.current_stream().wait_stream(side)
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        backend = _backend(device)
        self._hold(backend.device, backend.new_stream(priority))

    def _hold(self, device: Device, raw: Any) -> None:
        self.device = device
        self.raw = raw  # CuPy's stream

    @property
    def cuda_stream(self) -> int:
        """The driver's handle, as other libraries take it."""
        return self.raw.ptr  # type: ignore[no-any-return]

    def synchronize(self) -> None:
        """Wait until the work of this stream is done, and raise what a kernel reported."""
        _backend(self.device).synchronize_stream(self.raw)

    def query(self) -> bool:
        """Whether all work given to this stream is done."""
        recording.refuse("asking a stream")
        return self.raw.done  # type: ignore[no-any-return]

    def wait_event(self, event: Event) -> None:
        """Let later work of this stream wait for an event."""
        self.raw.wait_event(event.raw)

    def wait_stream(self, stream: Stream) -> None:
        """Let later work of this stream wait for the work that another one has now."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """The event, or a new one, that happens when the work given to this stream so far is done."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.device, self.cuda_stream) == (other.device, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self.device, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<tl.cuda.Stream on '{self.device}' at {self.cuda_stream:#x}>"


def current_stream(device: Any = None) -> Stream:
    """The stream to which a GPU's work goes in this thread; the default one outside `stream`."""
    backend = _backend(device)
    result = object.__new__(Stream)
    result._hold(backend.device, backend.current_stream())
    return result


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[Stream | None]:
    """Give this thread's work on the stream's GPU to it, within a with block; None changes nothing."""
    if stream is None:
        yield None
        return
    with _backend(stream.device).current(), stream.raw:
        yield stream


class Event:
    """A mark in the work of a stream: to wait for, or to take the time at with `enable_timing`."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.enable_timing, self.blocking = enable_timing, blocking
        self._raw: Any = None

    @property
    def raw(self) -> Any:
        """CuPy's event. Raises ArgumentError before the first `record`."""
        if self._raw is None:
            raise ArgumentError("tl.cuda.Event: the event was not recorded; call event.record() first")
        return self._raw

    def record(self, stream: Stream | None = None) -> None:
        """Let the event happen when the work given to the stream (the current one) so far is done."""
        stream = current_stream() if stream is None else stream
        if self._raw is None:  # it belongs to the GPU of the stream that it is first recorded in
            self._raw = _backend(stream.device).new_event(self.blocking, self.enable_timing)
        self._raw.record(stream.raw)

    def wait(self, stream: Stream | None = None) -> None:
        """Let later work of the stream (the current one) wait for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the event has happened."""
        recording.refuse("asking an event")
        return self.raw.done  # type: ignore[no-any-return]

    def synchronize(self) -> None:
        """Wait until the event has happened."""
        recording.refuse("waiting for an event")
        self.raw.synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to `end`; both were made with enable_timing. Raises ArgumentError otherwise."""
        if not (self.enable_timing and end.enable_timing):
            raise ArgumentError("elapsed_time: make both events with tl.cuda.Event(enable_timing=True)")
        return _backend().elapsed_time(self.raw, end.raw)  # type: ignore[no-any-return]


# --- host memory: what Tensor.pin_memory and is_pinned do to raw arrays ----------------------------------------------


def pinned(array: Array) -> Array:
    """A copy of an array of the host in page-locked memory. Raises DeviceError without a GPU."""
    return _backend().pinned(array)


def is_pinned(array: Array) -> bool:
    """Whether an array of the host lies in page-locked memory."""
    return is_loaded("cuda") and bool(_backend().is_pinned(array))
