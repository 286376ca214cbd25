"""`capture`: the decorator, the signatures by which recordings are found, and passes over data on the device.

The first call with a signature runs the function, so that optimizers and generators make what they keep; the second one
records it; later ones replay. The signature is all that decides which kernels run on which memory: structure, shapes,
dtypes and device of the arguments, their plain values, and the modes (gradients, autocast, training).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from .. import ops
from ..autograd.autocast import in_force
from ..autograd.mode import anomaly_level, grad_enabled
from ..backends import Backend, Device, get, recording
from ..backends.precision import get_float32_matmul_precision
from ..creation import arange
from ..dtypes import get_default_dtype, int64
from ..errors import ArgumentError, CaptureError, ShapeError
from ..nn import Module
from ..random import Generator
from ..sampling import draw_seed, randperm
from ..tensor import Tensor
from .recorded import Recorded
from .surroundings import PLAIN, Surroundings
from .trees import flatten, flatten_call, unflatten

MAX_RECORDINGS = 64  # per step
_KEYS = (*PLAIN, Device)
_MAX_PASSES = 8  # data sets that a step keeps recordings for


class RecordingStats(NamedTuple):
    """One recording: for which tensors, how many kernels a replay starts, the memory it has for itself, its replays."""

    signature: str
    kernels: int
    bytes: int
    buffers: int
    replays: int


class Stats(NamedTuple):
    """What a captured step did: calls in all, those that were replays, and the recordings behind them."""

    calls: int
    replays: int
    recordings: tuple[RecordingStats, ...]

    @property
    def kernels(self) -> int:
        """Kernels of all recordings."""
        return sum(recording.kernels for recording in self.recordings)

    @property
    def bytes(self) -> int:
        """Memory of all recordings."""
        return sum(recording.bytes for recording in self.recordings)

    @property
    def buffers(self) -> int:
        """Blocks of memory of all recordings."""
        return sum(recording.buffers for recording in self.recordings)


class Captured:
    """A function that is recorded at its second call, and replayed from then on. Made by `tl.capture`."""

    def __init__(self, function: Callable[..., Any], unroll: int | None = None, device: Any = None) -> None:
        if not callable(function):
            raise ArgumentError(f"capture takes a function, got {type(function).__name__}")
        if unroll is not None and (not isinstance(unroll, int) or isinstance(unroll, bool) or unroll < 1):
            raise ArgumentError(f"capture: unroll must be a positive integer, got {unroll!r}")
        functools.update_wrapper(self, function, updated=())
        self.name: str = getattr(function, "__qualname__", type(function).__name__).rpartition("<locals>.")[2]
        self.unroll = unroll
        self._function = function
        self._device = device
        self._lock = threading.RLock()
        self._passes: dict[tuple[int, ...], tuple[Sequence[Tensor], Captured]] = {}
        self._body = function if unroll is None else self._unrolled
        self.reset()

    def reset(self) -> None:
        """Forget all recordings: the next call runs the function as the first one did."""
        with self._lock:
            self._recordings: dict[Any, Recorded | None] = {}  # None: called once
            self._signatures: dict[Any, str] = {}
            self._surroundings = Surroundings(self._function)
            self._calls = self._replays = 0
            self._passes.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run, record or replay the function. Raises CaptureError where a replay would do something else than it."""
        if recording.active is not None and recording.here() is not None:
            return self._body(*args, **kwargs)  # inside another captured step: a part of its recording
        leaves, structure = flatten_call(args, kwargs)
        with self._lock:
            key = self._key(leaves, structure)
            if key not in self._recordings:
                return self._run(key, leaves, args, kwargs)
            recorded = self._recordings[key]
            if recorded is not None:
                recorded.surroundings.check(self.name)
                if recorded.outdated() is not None:
                    del self._recordings[key]
                    return self._run(key, leaves, args, kwargs)  # which makes what new parameters need
                result = recorded.replay(leaves)
                self._calls += 1
                self._replays += 1
                return result
            return self._record(key, leaves, structure)

    def _key(self, leaves: list[Any], structure: Any) -> Any:
        described: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                array = leaf.array
                described.append((array.shape, array.strides, array.dtype.char, leaf.backend, leaf._requires_grad))
            elif isinstance(leaf, (float, complex, np.generic)):
                described.append((type(leaf), repr(leaf)))  # 0.0 is not -0.0, and nan is nan
            elif isinstance(leaf, _KEYS):
                described.append((type(leaf), leaf))
            else:
                self._refuse_container(leaf)
                training = tuple([m.training for m in leaf.modules()]) if isinstance(leaf, Module) else ()
                described.append((type(leaf), id(leaf), training))
        return structure, tuple(described), _modes(), self._surroundings.modes()

    def _refuse_container(self, leaf: Any) -> None:
        """Raise CaptureError for a container that is not taken apart: what it holds would count as known by name."""
        if isinstance(leaf, np.ndarray):
            raise CaptureError(f"captured step '{self.name}': an argument is a NumPy array; pass "
                               "tl.from_numpy(array), moved to the step's device")
        if any(isinstance(item, Tensor) for item in _items(leaf)):
            raise CaptureError(f"captured step '{self.name}': an argument is a {type(leaf).__name__} that holds "
                               "tensors; pass them one by one, or in a plain tuple, list or dict")

    def _run(self, key: Any, leaves: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The first call: nothing is recorded."""
        if len(self._recordings) >= MAX_RECORDINGS:
            raise CaptureError(
                f"captured step '{self.name}' was called with {MAX_RECORDINGS} different signatures, and would be "
                "recorded for each. Pass numbers that change as tensors, pad batches to a few shapes, or call .reset()")
        result = self._body(*args, **kwargs)
        self._surroundings = Surroundings(self._function)  # the call may have made what it uses from now on
        key = (*key[:-1], self._surroundings.modes())
        self._recordings.setdefault(key, None)
        self._signatures[key] = _signature(leaves)
        self._calls += 1
        return result

    def _record(self, key: Any, leaves: list[Any], structure: Any) -> Any:
        backend = self._backend(leaves)
        del self._recordings[key]  # after an error the next call is a first one
        surroundings = Surroundings(self._function, leaves)
        recorded = Recorded(self.name, self._body, leaves, structure, backend, surroundings)
        self._recordings[key] = recorded
        self._calls += 1
        result, recorded.first_result = recorded.first_result, None
        return result

    def _backend(self, leaves: list[Any]) -> Backend:
        """The device that records: that of the arguments, else of what the function uses, else the CPU."""
        if self._device is not None:
            return get(self._device)
        for value in (*leaves, *self._surroundings.values):
            if isinstance(value, Tensor):
                return value.backend
            if isinstance(value, Module):
                for parameter in value.parameters():
                    return parameter.backend
        return get("cpu")

    def stats(self) -> Stats:
        """Calls, replays, and per recording its kernels, bytes and buffers; those of `over` among them.

        >>> double = tl.capture(lambda x: x * 2.0)
        >>> for i in range(4): y = double(tl.ones(3))
        >>> stats = double.stats(); stats.calls, stats.replays, stats.kernels
        (4, 2, 1)
        """
        with self._lock:
            rows = [RecordingStats(self._signatures[key], recorded.program.kernels, recorded.program.bytes,
                                   recorded.program.buffers, recorded.replays)
                    for key, recorded in self._recordings.items() if recorded is not None]
            calls, replays = self._calls, self._replays
            for _, passes in self._passes.values():
                over = passes.stats()
                calls, replays = calls + over.calls, replays + over.replays
                rows += over.recordings
            return Stats(calls, replays, tuple(rows))

    # --- several steps in one recording ------------------------------------------------------------------------------

    def _unrolled(self, *args: Any, **kwargs: Any) -> Any:
        """The steps for the slices of the arguments along their first dimension, and their results stacked."""
        leaves, structure = flatten((args, kwargs))
        sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves if isinstance(leaf, Tensor)}
        if len(sizes) != 1 or not 1 <= (count := sizes.pop()) <= (self.unroll or 1):
            shapes = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]
            raise ShapeError(f"captured step '{self.name}' with unroll={self.unroll}: its tensor arguments need a "
                             f"first dimension of one size up to {self.unroll}, a slice per step; got shapes {shapes}")
        results = []
        for i in range(count):
            sliced = [leaf[i] if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            args, kwargs = unflatten(sliced, structure)
            results.append(flatten(self._function(*args, **kwargs)))
        return _stacked(results)

    def over(self, data: Sequence[Tensor] | Tensor, batch_size: int = 1, *, shuffle: bool = False,
             drop_last: bool = False, generator: Generator | None = None) -> Iterator[Any]:
        """One pass over tensors that lie on the device: a step per batch of rows, gathered there; yields the results.

        data      a tensor, or several with the same first dimension: the step's arguments, all rows of them
        shuffle   in an order drawn from `generator`, the same that a DataLoader would take

        With `unroll=k` a recording holds k steps and their results come stacked; else they come one by one. The last
        batch, or the last few, are recordings of their own. Raises ShapeError for tensors of different lengths,
        ArgumentError for a bad batch_size.

        >>> total = tl.capture(lambda x: x.sum(), unroll=2)
        >>> [sums.tolist() for sums in total.over(tl.arange(6.0), batch_size=2)]
        [[1.0, 5.0], [9.0]]
        """
        tensors = (data,) if isinstance(data, Tensor) else tuple(data)
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise ArgumentError(f"captured step '{self.name}': over() takes a tensor, or several in a tuple: "
                                "step.over((x, y), batch_size=128); for a dataset of tensors pass dataset.tensors")
        size = _common_length(self.name, tensors)
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise ArgumentError(f"captured step '{self.name}': batch_size must be a positive integer, "
                                f"got {batch_size!r}")
        return self._batches(tensors, size, batch_size, shuffle, drop_last, generator)

    def _batches(self, data: tuple[Tensor, ...], size: int, batch_size: int, shuffle: bool, drop_last: bool,
                 generator: Generator | None) -> Iterator[Any]:
        step = self._gathering(data)
        order = _order(size, shuffle, generator).to(data[0].device)
        full = size // batch_size
        together = self.unroll or 1
        for start in range(0, full, together):
            count = min(together, full - start)
            rows = order[start * batch_size:(start + count) * batch_size]
            yield step(rows if self.unroll is None else rows.reshape(count, batch_size))
        rest = order[full * batch_size:]
        if rest.numel() and not drop_last:
            yield step(rest if self.unroll is None else rest.reshape(1, -1))

    def _gathering(self, data: tuple[Tensor, ...]) -> Captured:
        """The step that takes row numbers of this data; kept, with its recordings, for the next pass."""
        key = tuple([id(tensor) for tensor in data])
        with self._lock:
            known = self._passes.pop(key, None)
            if known is None:
                function = self._function

                @functools.wraps(function)
                def gathered(rows: Tensor) -> Any:
                    return function(*[ops.index_select(tensor, 0, rows) for tensor in data])

                known = data, Captured(gathered, self.unroll, data[0].device)
                if len(self._passes) >= _MAX_PASSES:
                    del self._passes[next(iter(self._passes))]  # that of the longest ago
            self._passes[key] = known
            return known[1]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A captured function in a class body is a method; each object has recordings of its own."""
        if instance is None:
            return self
        if not hasattr(instance, "__dict__"):
            raise CaptureError(f"captured method '{self.name}': a {type(instance).__name__} has no room for its "
                               "recordings; add '__dict__' to its __slots__")
        name = f"_captured_{self.name}"  # with the class, whose method a subclass may have under the same name
        bound = vars(instance).get(name)
        if bound is None:
            bound = Captured(self._function.__get__(instance), self.unroll, self._device)
            vars(instance)[name] = bound
        return bound

    def __reduce__(self) -> tuple[Any, ...]:
        function: Any = self._function
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        for cls in type(owner).__mro__:
            method = vars(cls).get(name)
            if isinstance(method, Captured) and method._function is function.__func__:
                return _captured_method, (owner, cls, name)
        return Captured, (self._function, self.unroll, self._device)  # a copy makes recordings of its own

    def __repr__(self) -> str:
        return f"<captured step '{self.name}', {len(self.stats().recordings)} recordings>"


def _items(value: Any) -> Iterable[Any]:
    """What a container holds; nothing for other objects."""
    if is_dataclass(value):
        return [getattr(value, field.name, None) for field in fields(value)]
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, set, frozenset)) else ()


def _captured_method(owner: Any, cls: type, name: str) -> Any:
    return vars(cls)[name].__get__(owner)


def _modes() -> tuple[Any, ...]:
    """The modes of the thread and the process that decide which kernels a function calls."""
    return grad_enabled.get(), anomaly_level.get(), in_force(), get_default_dtype(), get_float32_matmul_precision()


def _signature(leaves: list[Any]) -> str:
    """The tensors of a signature, as people write them."""
    return ", ".join(f"{leaf.dtype.name} {tuple(leaf.shape)}" for leaf in leaves if isinstance(leaf, Tensor))


def _stacked(results: list[tuple[list[Any], Any]]) -> Any:
    """The results of several steps as one tree, each tensor with a first dimension more."""
    columns = list(zip(*[leaves for leaves, _ in results], strict=True))
    joined = [ops.stack([leaf.detach() for leaf in column]) if isinstance(column[0], Tensor) else list(column)
              for column in columns]
    return unflatten(joined, results[0][1])


def _common_length(name: str, tensors: tuple[Tensor, ...]) -> int:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or () in lengths:
        raise ShapeError(f"captured step '{name}': over() takes tensors with one common first dimension, got {shapes}")
    return shapes[0][0]


def _order(size: int, shuffle: bool, generator: Generator | None) -> Tensor:
    if not shuffle:
        return arange(size, dtype=int64)
    return randperm(size, generator=Generator().manual_seed(draw_seed(generator)))


@overload
def capture(function: Callable[..., Any], *, unroll: int | None = None, device: Any = None) -> Captured: ...
@overload
def capture(function: None = None, *, unroll: int | None = None,
            device: Any = None) -> Callable[[Callable[..., Any]], Captured]: ...


def capture(function: Callable[..., Any] | None = None, *, unroll: int | None = None, device: Any = None) -> Any:
    """Make a function of tensors that runs at its first call, is recorded at the second, and replayed from then on.

    A replay runs the same kernels on the same memory without the Python in between: on a GPU as one CUDA graph. Whole
    training steps are meant: forward, backward and the optimizer's step.

    - Arguments are copied into memory of the recording. Another shape, dtype, device or plain value is another
      signature, with a recording of its own.
    - Returned tensors lie in memory of the recording, and the next call overwrites them: keep a `.clone()`.
    - Learning rates, step counts, random numbers and loss scales lie on the device and go on in replays. Python code in
      the function does not run in replays: its numbers and branches stay as they were recorded.
    - `.item()`, printing a tensor, shapes that depend on data: what needs a number on the host raises CaptureError.

    With `unroll=k`, tensor arguments get a first dimension of up to k: one recording holds a step for each slice, and
    results come stacked; see also `Captured.over`. `device` says where to record, if no argument does.

    >>> w = tl.tensor(1.0, requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> @tl.capture
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = (w * x).square()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [round(step(tl.tensor(1.0)).item(), 4) for i in range(4)]
    [1.0, 0.64, 0.4096, 0.2621]
    """
    if function is None:
        return functools.partial(capture, unroll=unroll, device=device)
    return Captured(function, unroll, device)
