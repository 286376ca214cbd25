"""DataLoader: batches of a dataset, fetched ahead by threads where asked, and resumable in the middle of an epoch.

Workers are threads, not processes: nothing is pickled or forked, tensors are handed over without a copy, and NumPy lets
go of the interpreter lock while it works. They pay where items are read from a disk or network, or made by NumPy; a
dataset of pure Python code gains nothing. Batches come in the sampler's order, whatever `num_workers`.

A pass over a loader draws one number, from which its order follows. Position = that number + batches handed out.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import operator
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Generator as Gen
from typing import Any, Final, NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..random import Generator
from ..sampling import draw_seed
from .dataset import IterableDataset, batch_getter, default_collate, default_convert, defined_with
from .sampler import BatchSampler, RandomSampler, SequentialSampler, batch_count, epoch_seed, order

_JOIN_SECONDS: Final = 2.0  # how long a pass that ends waits for items in the making; the threads are daemons anyway
_FIXED: Final = frozenset({"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"})
_END: Final = object()


class WorkerInfo(NamedTuple):
    """What a worker knows of itself. `generator` is seeded anew for each batch, from the epoch and the batch's number:
    what a dataset draws from it depends neither on the number of workers nor on a stop and resume."""

    id: int
    num_workers: int
    seed: int
    dataset: Any
    generator: Generator


class _Position:
    """Of one pass: the number from which its order follows, and how many batches were handed out."""

    def __init__(self, seed: int, served: int = 0) -> None:
        self.seed = seed
        self.served = served


class _Raised:
    """Stands in a worker's results for an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_info: contextvars.ContextVar[WorkerInfo | None] = contextvars.ContextVar("worker_info", default=None)


def get_worker_info() -> WorkerInfo | None:
    """The WorkerInfo of the worker that calls this; None outside of workers."""
    return _info.get()


class DataLoader:
    """Iterates over batches of `dataset`; every argument has PyTorch's name, place and default.

    Where it differs: workers are threads, so that `worker_init_fn` runs in each thread and the dataset is shared, not
    copied; an IterableDataset is read by one worker, so that nothing comes twice; `persistent_workers` changes nothing,
    for threads start in microseconds; `pin_memory` changes nothing (use `batch.pin_memory()`). With `num_workers` up to
    num_workers * `prefetch_factor` (default 2) batches are fetched ahead.

    `state_dict()` and `load_state_dict()` resume a run in mid-epoch bit for bit. ArgumentError for options that
    exclude each other; what a dataset raises in a worker is raised here, with its traceback.

    >>> dataset = tl.data.TensorDataset(tl.arange(5), tl.arange(5) * 10)
    >>> for x, y in tl.data.DataLoader(dataset, batch_size=2):
    ...     print(x.tolist(), y.tolist())
    [0, 1] [0, 10]
    [2, 3] [20, 30]
    [4] [40]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: None = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        is_stream = isinstance(dataset, IterableDataset)
        ordered = bool(shuffle) or sampler is not None or batch_sampler is not None
        positive = isinstance(batch_size, int) and batch_size > 0
        _require(batch_size is None or positive, f"batch_size should be a positive integer or None, got {batch_size!r}")
        _require(num_workers >= 0, "num_workers option should be non-negative; use num_workers=0 for none")
        _require(timeout >= 0, "timeout option should be non-negative")
        _require(
            prefetch_factor is None or (num_workers > 0 and prefetch_factor > 0),
            "prefetch_factor option should be positive, and needs num_workers > 0",
        )
        _require(not persistent_workers or num_workers > 0, "persistent_workers option needs num_workers > 0")
        _require(multiprocessing_context is None, "workers are threads: leave out multiprocessing_context")
        _require(not (is_stream and ordered), "an IterableDataset has its own order: no shuffle or sampler")
        _require(not (sampler is not None and shuffle), "sampler option is mutually exclusive with shuffle")
        _require(
            batch_sampler is None or (batch_size == 1 and not shuffle and sampler is None and not drop_last),
            "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last",
        )
        _require(
            batch_size is not None or not drop_last,
            "batch_size=None option disables auto-batching and is mutually exclusive with drop_last",
        )
        if batch_sampler is not None:
            batch_size = None
        elif not is_stream:
            if sampler is None:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
            if batch_size is not None:
                batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.persistent_workers = persistent_workers
        batches = batch_sampler is not None or batch_size is not None
        self.collate_fn = collate_fn or (default_collate if batches else default_convert)
        self._get_batch = batch_getter(dataset) if self.collate_fn is default_collate else None
        self._position: _Position | None = None  # of the pass begun last, while it is under way
        self._resumed: _Position | None = None  # where the next pass takes up
        self._fixed = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_fixed" in vars(self):
            raise ArgumentError(f"{name} attribute should not be set after DataLoader is initialized; make a new one")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """The number of batches of a whole pass; TypeError where dataset or sampler has no length."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        items = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return items if self.batch_size is None else batch_count(items, self.batch_size, self.drop_last)

    def __repr__(self) -> str:
        shuffle = ", shuffle=True" if isinstance(self.sampler, RandomSampler) else ""
        workers = f", num_workers={self.num_workers}" if self.num_workers else ""
        return (f"DataLoader({self.dataset!r}, batch_size={self.batch_size}{shuffle}, drop_last={self.drop_last}"
                f"{workers})")

    def __iter__(self) -> Iterator[Any]:
        position, self._resumed = self._resumed or _Position(self._draw_seed()), None
        self._position = position
        return self._batches(position)

    def state_dict(self) -> dict[str, Any]:
        """Where the pass begun last stands, counting the batches handed out; in plain numbers, lists and None.

        Without a generator of one's own, the shuffle draws from tensorlite's, whose state a checkpoint holds anyway.
        """
        position = self._resumed or self._position
        generator = self._own_generator()
        return {
            "seed": None if position is None else position.seed,
            "batches": 0 if position is None else position.served,
            "generator": None if generator is None else generator.get_state().tolist(),
            "batch_size": self._nominal_batch_size(),
            "size": self._size(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict()` was called: the next pass gives the batches that were still to come.

        ArgumentError if the state is of a loader of other batches or with another kind of generator.
        """
        expected = self.state_dict()
        generator = self._own_generator()
        _require(state.keys() == expected.keys(), f"load_state_dict: keys {sorted(state)}, expected {sorted(expected)}")
        for name in ("batch_size", "size"):
            fits = state[name] == expected[name]
            _require(fits, f"load_state_dict: the state has {name} {state[name]}, this loader {expected[name]}")
        _require(
            (state["generator"] is None) == (generator is None),
            "load_state_dict: either the state or this loader has a generator of its own, the other has none",
        )
        resumed = None if state["seed"] is None else _Position(int(state["seed"]), int(state["batches"]))
        if generator is not None:
            generator.set_state(state["generator"])
        self._position, self._resumed = None, resumed

    def _batches(self, position: _Position) -> Iterator[Any]:
        source = self._stream(position) if self._is_stream() else self._mapped(position)
        with contextlib.closing(source):
            for batch in source:
                position.served += 1
                yield batch
        if self._position is position:
            self._position = None

    def _mapped(self, position: _Position) -> Gen[Any, None, None]:
        """Batches of a map-style dataset from the position on."""
        by = self.sampler if self.batch_sampler is None else self.batch_sampler
        indices = itertools.islice(order(by, position.seed), position.served, None)
        tasks = zip(itertools.count(position.served), indices, strict=False)
        if self.num_workers == 0:
            return (self._fetch(batch) for _, batch in tasks)
        return self._prefetch(self._fetch, tasks, self.num_workers, position.seed)

    def _stream(self, position: _Position) -> Gen[Any, None, None]:
        """Batches of a stream from the position on; what comes before is read and dropped."""
        batches = self._stream_batches(position.served)
        if self.num_workers == 0:
            return batches
        tasks = ((number, None) for number in itertools.count(position.served))
        return self._prefetch(lambda _: next(batches, _END), tasks, 1, position.seed)

    def _stream_batches(self, skip: int) -> Gen[Any, None, None]:
        size = self.batch_size
        items = itertools.islice(iter(self.dataset), skip * (size or 1), None)
        if size is None:
            yield from map(self.collate_fn, items)
            return
        while batch := list(itertools.islice(items, size)):
            if len(batch) == size or not self.drop_last:
                yield self.collate_fn(batch)

    def _fetch(self, indices: Any) -> Any:
        if self.batch_sampler is None:
            return self.collate_fn(self.dataset[indices])
        if self._get_batch is not None and len(indices) > 0:
            batch = self._get_batch(np.fromiter(map(operator.index, indices), np.int64, len(indices)))
            if batch is not None:
                return batch
        if defined_with(self.dataset, "__getitems__", "__getitem__"):
            return self.collate_fn(self.dataset.__getitems__(indices))
        return self.collate_fn([self.dataset[index] for index in indices])

    def _prefetch(
        self, work: Callable[[Any], Any], tasks: Iterable[tuple[int, Any]], count: int, seed: int
    ) -> Gen[Any, None, None]:
        """`work` on each task, in order: worker i does every count-th, and as many as may be are under way."""
        workers: list[_Worker] = []
        depth = count * (self.prefetch_factor or 1)
        under_way: deque[tuple[int, _Worker]] = deque()
        try:
            for i in range(count):
                info = WorkerInfo(i, count, seed + i, self.dataset, Generator())
                workers.append(_Worker(info, seed, self.worker_init_fn, work))
            for task, worker in zip(tasks, itertools.cycle(workers), strict=False):
                worker.tasks.put(task)
                under_way.append((task[0], worker))
                if len(under_way) == depth:
                    if (batch := _result(*under_way.popleft(), self.timeout)) is _END:
                        return
                    yield batch
            while under_way:
                yield _result(*under_way.popleft(), self.timeout)
        finally:
            _stop(workers)

    def _draw_seed(self) -> int:
        by = self.sampler if self.batch_sampler is None else self.batch_sampler
        seed = None if by is None else epoch_seed(by)
        return draw_seed(self.generator) if seed is None else seed

    def _own_generator(self) -> Generator | None:
        """The generator from which passes draw, if it is not tensorlite's own."""
        sampler = self.sampler if self.sampler is not None else getattr(self.batch_sampler, "sampler", None)
        found = getattr(sampler, "generator", None)
        return found if isinstance(found, Generator) else self.generator

    def _is_stream(self) -> bool:
        return isinstance(self.dataset, IterableDataset)

    def _nominal_batch_size(self) -> int | None:
        size = self.batch_size or getattr(self.batch_sampler, "batch_size", None)
        return size if isinstance(size, int) else None

    def _size(self) -> int | None:
        return len(self.dataset) if hasattr(type(self.dataset), "__len__") else None


class _Worker:
    """A thread that does the tasks put to it, one by one, in the context (such as no_grad) of whoever iterates.

    It ends when it is told to, or when this object is gone: Ctrl-C may come before anybody could tell it.
    """

    def __init__(
        self, info: WorkerInfo, seed: int, init: Callable[[int], None] | None, work: Callable[[Any], Any]
    ) -> None:
        self.info = info
        self.tasks: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.stopped = threading.Event()
        weakref.finalize(self, self.tasks.put, None).atexit = False
        self.thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(_serve, info, self.tasks, self.results, self.stopped, seed, init, work),
            name=f"DataLoader worker {info.id}",
            daemon=True,  # a program that ends does not wait for it
        )
        self.thread.start()


def _serve(
    info: WorkerInfo, tasks: queue.SimpleQueue[tuple[int, Any] | None], results: queue.SimpleQueue[Any],
    stopped: threading.Event, seed: int, init: Callable[[int], None] | None, work: Callable[[Any], Any]
) -> None:
    """What the thread does. It holds no reference to its worker."""
    _info.set(info)
    try:
        if init is not None:
            init(info.id)
    except BaseException as error:
        results.put(_Raised(error))
        return
    while (task := tasks.get()) is not None and not stopped.is_set():
        number, argument = task
        try:
            info.generator.manual_seed(seed + 1 + number)  # `seed` itself is the sampler's
            results.put(work(argument))
        except BaseException as error:
            results.put(_Raised(error))


def _result(number: int, worker: _Worker, timeout: float) -> Any:
    """The worker's next result; what it raised is raised here, with the worker's traceback."""
    if worker.results.empty() and not worker.thread.is_alive():
        raise RuntimeError("DataLoader: its worker threads are gone: a process forked in mid-pass must begin a new one")
    try:
        result = worker.results.get(timeout=timeout or None)
    except queue.Empty:
        raise RuntimeError(f"DataLoader timed out after {timeout} seconds, waiting for batch {number}") from None
    if isinstance(result, _Raised):
        result.error.add_note(f"raised in DataLoader worker {worker.info.id}, in batch {number}")
        try:
            raise result.error
        finally:
            del result  # or the error's traceback would hold the error
    return result


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stopped.set()
        worker.tasks.put(None)
    deadline = time.monotonic() + _JOIN_SECONDS
    for worker in workers:
        # No thread goes on while the interpreter shuts down, and a collector may run this within a worker.
        if not sys.is_finalizing() and worker.thread is not threading.current_thread():
            worker.thread.join(max(0.0, deadline - time.monotonic()))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ArgumentError(f"DataLoader: {message}")
