"""`tl.progress`: a loop over batches that shows how far it is, and what its meters say.

Contract. On a terminal it is tqdm's bar; elsewhere, in a log or a notebook, whole lines, few of them, the last one when
the loop ends. Meters are read only when something is shown, at most once in `interval` seconds, because reading waits
for the device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TextIO, TypeVar

from ..errors import ArgumentError
from .meters import Meter, Meters

T = TypeVar("T")

BAR_SECONDS, LINE_SECONDS = 0.5, 10.0  # between two looks at the meters


class Progress(Generic[T]):
    """A loop that shows its progress; made by `tl.progress`."""

    def __init__(self, iterable: Iterable[T], meters: Meters | None, desc: str, total: int | None,
                 interval: float | None, leave: bool, file: TextIO | None, clock: Callable[[], float]) -> None:
        self._iterable = iterable
        self._meters = meters
        self._desc = desc
        self._total = total if total is not None else _length(iterable)
        self._interval = interval
        self._leave = leave
        self._file = file
        self._clock = clock

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError(f"progress: {type(self._iterable).__name__} has no length; pass total=")
        return self._total

    def __iter__(self) -> Iterator[T]:
        file = self._file or sys.stderr  # of now: it may have been redirected since
        return self._with_bar(file) if file.isatty() else self._with_lines(file)

    def _with_bar(self, file: TextIO) -> Generator[T, None, None]:
        from tqdm import tqdm

        interval = BAR_SECONDS if self._interval is None else self._interval
        shown = self._clock()
        with tqdm(self._iterable, self._desc or None, self._total, self._leave, file, dynamic_ncols=True) as bar:
            for item in bar:
                yield item
                if self._clock() - shown >= interval:
                    bar.set_postfix_str(self._values(), refresh=False)
                    shown = self._clock()
            if self._leave:
                bar.set_postfix_str(self._values())

    def _with_lines(self, file: TextIO) -> Generator[T, None, None]:
        interval = LINE_SECONDS if self._interval is None else self._interval
        began = shown = self._clock()
        done = told = 0
        try:
            for item in self._iterable:
                yield item
                done += 1
                if self._clock() - shown >= interval:
                    self._tell(file, done, self._clock() - began)
                    told, shown = done, self._clock()
        finally:
            if self._leave and (told != done or not done):
                self._tell(file, done, self._clock() - began)

    def _tell(self, file: TextIO, done: int, seconds: float) -> None:
        of = f"/{self._total}" if self._total is not None else ""
        speed = f", {done / seconds:.3g}/s" if done and seconds > 0 else ""
        values = self._values()
        print(f"{self._desc + ': ' if self._desc else ''}{done}{of} in {seconds:.1f} s{speed}"
              f"{', ' + values if values else ''}", file=file, flush=True)

    def _values(self) -> str:
        return "" if self._meters is None else str(self._meters)


def progress(iterable: Iterable[T], meters: Meters | Meter | None = None, *, desc: str = "", total: int | None = None,
             interval: float | None = None, leave: bool = True, file: TextIO | None = None,
             clock: Callable[[], float] = time.monotonic) -> Progress[T]:
    """Go through `iterable`, such as a DataLoader, and show how far it is, with the values of meters.

    A bar on a terminal, lines elsewhere: one each `interval` seconds (default 10; of the meters in a bar, 0.5) and one
    at the end, also where the loop is left early; without `leave` the bar vanishes at the end, and there is no last
    line. `total` is how many items there are where `len` does not say. `file` is standard error if not given. Raises
    ArgumentError for meters that are none, or an interval below 0.

    >>> meters = tl.Meters(loss=tl.meters.Mean())
    >>> for x in tl.progress([1.0, 2.0, 6.0], meters, desc="epoch 1", file=sys.stdout, clock=lambda: 0.0):
    ...     meters.loss.update(x)
    epoch 1: 3/3 in 0.0 s, loss 3
    """
    if isinstance(meters, Meter):
        meters = Meters(**{type(meters).__name__.lower(): meters})
    if meters is not None and not isinstance(meters, Meters):
        raise ArgumentError(f"progress: expected Meters or a Meter, got {type(meters).__name__}")
    if interval is not None and not interval >= 0:
        raise ArgumentError(f"progress: interval must be at least 0 seconds, got {interval!r}")
    return Progress(iterable, meters, desc, total, interval, leave, file, clock)


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except TypeError:  # an iterator, or a loader of a dataset without a length
        return None
