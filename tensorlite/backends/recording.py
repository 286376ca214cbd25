"""Recording the kernel calls of a step, for replay on the same memory.

Contract. `backend.recorder()` gives the Recorder of a device. Between its `__enter__` and `__exit__` the calling thread
records: what it allocates on that device comes from a pool of the recording's own, and each kernel call is noted.
`finish` then gives a Program, whose `run` does the noted work again, in order, on the same memory. Only one recording
is made at a time in a process; other threads compute as ever meanwhile.

Memory is reused within a recording as in the run that was recorded: a block that Python lets go of serves later
allocations, and since a replay repeats the order of all work, it does there too. A call is therefore noted with arrays
that do not keep the block taken. Blocks of results that are still held after the recording stay theirs for good.

Whatever needs a number on the host cannot be replayed and calls `refuse`. What the host must do before each replay,
such as writing the learning rate of the day to the device, is left here with `before_replay`.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ..errors import CaptureError, user_line
from .recording_memory import Lease, Pool, address_of, root, unowned

if TYPE_CHECKING:
    from ..autograd.tape import Var, Version
    from ..tensor import Tensor
    from . import Array, Backend

active: Recorder | None = None  # the one recording of this process, by whichever thread
_one_at_a_time = threading.Lock()
_HELD_BY_RECORDER = 3  # references to an array that only a recorder holds, seen in its loop over what it holds


def here() -> Recorder | None:
    """The recording of this thread, if it is making one."""
    found = active
    return found if found is not None and found.thread == threading.get_ident() else None


def refuse(what: str) -> None:
    """Raise CaptureError if this thread is recording: `what` cannot be replayed."""
    if here() is not None:
        raise CaptureError(f"{what} cannot be part of a captured step: recording at {user_line()}. Do it before or "
                           "after the step, with what it takes or returns")


class Call(NamedTuple):
    """A kernel call that was noted; arrays (or tuples of them) without a hold on their memory."""

    kernel: str
    out: Any
    args: tuple[Any, ...]
    params: dict[str, Any]


class Program(ABC):
    """Recorded work of one device.

    kernels   how many kernels a run starts
    bytes     of memory that the recording has for itself
    buffers   in how many blocks
    external  further memory that the work uses, kept alive
    """

    kernels: int
    bytes: int
    buffers: int
    external: tuple[Array, ...]

    @abstractmethod
    def run(self) -> None:
        """Do the recorded work again."""


class Recorder(ABC):
    """A recording: made in a `with` block, by one thread; kept as long as its Program is used.

    outdated   why the recording no longer fits the objects that it was made of; None as long as it does
    external   the memory that the recorded work uses and does not own, by id
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.thread = 0
        self.outdated: str | None = None
        self.external: dict[int, Array] = {}
        self.callbacks: list[Callable[[], None]] = []
        self.versions: dict[int, Version] = {}  # of the tensors that are changed in place, by id
        # Leaves whose .grad was read before the recording set it, and what it was: None, or a tensor that is not held.
        self.read_grads: dict[Var, weakref.ref[Tensor] | None] = {}
        self.written_grads: dict[Var, None] = {}
        self.end_callbacks: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        global active
        if here() is not None:
            raise CaptureError("a recording cannot be made inside another one")
        _one_at_a_time.acquire()
        try:
            self.thread = threading.get_ident()
            self._begin()
            active = self
        except BaseException:
            self._leave(failed=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._leave(failed=error is not None)

    def _leave(self, failed: bool) -> None:
        global active
        active = None
        try:
            self._end(failed)
        finally:
            _one_at_a_time.release()

    @abstractmethod
    def _begin(self) -> None:
        """Start to note this thread's work on the device."""

    @abstractmethod
    def _end(self, failed: bool) -> None:
        """Stop that, also after an error in the step or in `_begin`."""

    @abstractmethod
    def finish(self) -> Program:
        """What was recorded, ready to run. The work of the recording itself has been done."""

    @abstractmethod
    def owns(self, array: Array) -> bool:
        """Whether an array lies in memory of this recording."""

    @abstractmethod
    def keep(self, array: Array) -> Array:
        """Another array over the same memory of this recording, which the recording can overwrite all the same."""

    def _refuse_dropped_memory(self) -> None:
        """Raise CaptureError if only the recording still holds memory from outside: replays would use what it was."""
        for whole in self.external.values():
            if sys.getrefcount(whole) <= _HELD_BY_RECORDER:
                raise CaptureError(
                    f"the captured step used a {whole.dtype} tensor of shape {tuple(whole.shape)} that is no argument "
                    "and that nothing holds after it: a replay would use its old value. What one step hands on to the "
                    "next must stay the same tensor, changed in place: h.copy_(new)")

    # --- what the host has to do with a replay ---------------------------------------------------------------------

    def before_replay(self, callback: Callable[[], None]) -> None:
        """Call this before each replay: to bring numbers of the day to the device, or to check that all still fits."""
        self.callbacks.append(callback)

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call this once, when the step is through: it may raise CaptureError for what replays could not repeat."""
        self.end_callbacks.append(callback)

    def outdate(self, reason: str) -> None:
        """Say that this recording must not be replayed again."""
        self.outdated = reason

    def note_change(self, tensor: Var) -> None:
        """A tensor is changed in place: so will it be by each replay."""
        self._refuse_elsewhere(tensor, "a change in place")
        version = tensor._shared_version()
        self.versions[id(version)] = version

    def count_changes(self) -> None:
        """Say that a replay has changed in place what the recording did."""
        for version in self.versions.values():
            version[0] += 1

    def note_grad_read(self, leaf: Var) -> None:
        """The `.grad` of a leaf matters to the step."""
        if leaf not in self.written_grads:
            self.read_grads.setdefault(leaf, None if leaf._grad is None else weakref.ref(leaf._grad))

    def note_grad_written(self, leaf: Var) -> None:
        """The step sets the `.grad` of a leaf."""
        self._refuse_elsewhere(leaf, "the gradient")
        self.written_grads[leaf] = None

    def _refuse_elsewhere(self, tensor: Var, what: str) -> None:
        if tensor.backend is not self.backend:
            refuse(f"{what} of a tensor of shape {tuple(tensor.array.shape)} on device '{tensor.backend.device}' (the "
                   f"step is recorded on '{self.backend.device}': move it there)")

    def forget_own_leaves(self) -> None:
        """Let go of tensors with a `.grad` that the step made itself: those that nothing but this recording holds."""
        read = [(weakref.ref(leaf), then) for leaf, then in self.read_grads.items()]
        written = [weakref.ref(leaf) for leaf in self.written_grads]
        has_rings = any(leaf._grad is not None and leaf._grad._requires_grad for leaf in self.written_grads)
        self.read_grads.clear()
        self.written_grads.clear()
        if has_rings:  # a gradient with a graph holds its leaf
            gc.collect()
        self.read_grads.update((leaf, then) for reference, then in read if (leaf := reference()) is not None)
        self.written_grads.update((leaf, None) for reference in written if (leaf := reference()) is not None)

    def refuse_kept_memory(self) -> None:
        """Raise CaptureError if something but gradients still holds memory of this recording, when the step is through.

        It was put aside where no replay will put it again, and each replay would change what lies there.
        """
        if self._kept_forms():
            gc.collect()  # it may be held by nothing but itself
        for shape, dtype in self._kept_forms():
            raise CaptureError(
                f"the captured step made a {dtype} tensor of shape {shape} that is neither part of its result nor a "
                ".grad and is still held after it, as by list.append, an attribute or an object of a class of your "
                "own: replays do not put it there again, but overwrite it. Return it, in a tuple, list or dict, or "
                "copy it into a tensor made before the step: kept.copy_(new)")

    def _kept_forms(self) -> list[tuple[tuple[int, ...], Any]]:
        """Shape and dtype of each array of this recording that is held and is no gradient."""
        return []


class HostRecorder(Recorder):
    """The recording of a device whose arrays are NumPy's: calls noted in a list."""

    def __init__(self, backend: Backend, array_type: type[np.ndarray]) -> None:
        super().__init__(backend)
        self.calls: list[Call] = []
        self.pool = Pool(array_type)
        self._empty = backend.empty

    def _begin(self) -> None:
        backend = self.backend
        backend.empty = self._allocate
        backend.observers = (*backend.observers, self._note)

    def _end(self, failed: bool) -> None:
        backend = self.backend
        backend.observers = tuple(observer for observer in backend.observers if observer != self._note)
        vars(backend).pop("empty", None)

    def _allocate(self, shape: Any, dtype: Any) -> Array:
        if here() is not self:
            return self._empty(shape, dtype)
        return self.pool.empty((shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype))

    def _note(self, backend: Backend, kernel: str, out: Any, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        if here() is self:
            named = {name: self._without_hold(value) for name, value in params.items()}
            self.calls.append(Call(kernel, self._without_hold(out), self._without_hold(args), named))

    def _without_hold(self, value: Any) -> Any:
        """The same arguments, arrays of the pool without a hold on their block."""
        if type(value) is tuple:
            return tuple([self._without_hold(item) for item in value])
        if not isinstance(value, np.ndarray):
            return value
        if self.owns(value):
            return self.keep(value)
        whole = root(value)
        self.external[id(whole)] = whole
        return unowned(value)

    def owns(self, array: Array) -> bool:
        lease = root(array)
        return type(lease) is Lease and lease.pool is self.pool

    def keep(self, array: Array) -> Array:
        block = root(array).block
        offset = address_of(array) - block.address
        return np.ndarray.__new__(type(array), array.shape, array.dtype, block.memory, offset, array.strides)

    def _kept_forms(self) -> list[tuple[tuple[int, ...], Any]]:
        grads = [leaf._grad.array for leaf in self.written_grads if leaf._grad is not None]
        known = {root(array).block.address for array in grads if self.owns(array)}
        return [form for address, form in self.pool.taken.items() if address not in known]

    def finish(self) -> Program:
        self._refuse_dropped_memory()
        program = self.backend.program(self.calls)
        program.bytes, program.buffers = self.pool.bytes, self.pool.buffers
        program.external = tuple(self.external.values())
        self.calls = []
        return program


class Calls(Program):
    """Noted calls, each made again through the door."""

    def __init__(self, backend: Backend, calls: list[Call]) -> None:
        self._backend = backend
        self._calls = calls
        self.kernels = len(calls)

    def run(self) -> None:
        run = self._backend.run
        for kernel, out, args, params in self._calls:
            run(kernel, out, *args, **params)


# --- memory that is replaced ------------------------------------------------------------------------------------------

_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()  # those whose programs may run


def watch(recorder: Recorder) -> None:
    """From now on, tell a recorder when memory that it uses is no longer that of a tensor."""
    _recorders.add(recorder)


def outdate_all(reason: str) -> None:
    """No recording made so far is to be replayed again."""
    for recorder in tuple(_recorders):
        recorder.outdate(reason)


def replaced(array: Array) -> None:
    """A tensor with this array gets another one, requires_grad or a hook: recordings that use it are outdated."""
    if len(_recorders):
        whole = id(root(array))
        for recorder in tuple(_recorders):
            if whole in recorder.external:
                recorder.outdate("a tensor that the step uses was given other memory, requires_grad or hooks")
