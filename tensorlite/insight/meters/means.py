"""Meters that are means: of losses, of errors, of a rate in time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from ...backends import recording
from ...errors import ArgumentError, ShapeError
from ...nn import functional as F
from ...tensor import Tensor
from .meter import Meter, detached, ratio


class Mean(Meter):
    """The weighted mean Σ w x / Σ w, of losses for one; weight a mean loss with its batch's size.

    `update(value, weight=1)` takes a number, or a tensor or array of any shape and dtype, of which each element counts;
    a weight is a number, or a tensor that broadcasts to the value. `compute()` is a float, nan without values.

    >>> mean = tl.meters.Mean()
    >>> mean.update(tl.tensor([1.0, 2.0]))
    >>> mean.update(5.0, weight=2)
    >>> mean.compute()
    3.25
    """

    def update(self, value: Any, weight: Any = 1) -> None:
        if isinstance(value, (int, float)) and isinstance(weight, (int, float)):
            self._add(total=value * weight, weight=weight)
            return
        x = detached("Mean", value).double()
        if isinstance(weight, (int, float)):
            self._add(total=x.sum() * weight, weight=x.numel() * weight)
            return
        w = detached("Mean", weight).double().to(x.device)
        self._add(total=(x * w).sum(), weight=w.expand(x.shape).sum())

    def compute(self) -> float:
        return ratio(self._sum("total"), self._sum("weight"))


class _MeanError(Meter):
    """A mean over all elements of predictions and targets of one shape."""

    def _errors(self, prediction: Any, target: Any) -> Tensor:
        name = type(self).__name__
        x, y = detached(name, prediction), detached(name, target)
        if x.shape != y.shape:
            raise ShapeError(f"{name}: the prediction has shape {tuple(x.shape)}, the target {tuple(y.shape)}; "
                             "bring them to one shape, with .squeeze(1) or .unsqueeze(1)")
        return x.double() - y.double()

    def compute(self) -> float:
        return ratio(self._sum("total"), self._sum("count"))


class MeanSquaredError(_MeanError):
    """The mean of (prediction - target)² over all elements, with `root` its square root; computed in float64.

    `update(prediction, target)` takes tensors of one shape. Raises ShapeError for others.

    >>> error = tl.meters.MeanSquaredError(root=True)
    >>> error.update(tl.tensor([1.0, 5.0]), tl.tensor([1.0, 1.0]))
    >>> error.compute() ** 2
    8.000000000000002
    """

    def __init__(self, root: bool = False) -> None:
        super().__init__()
        self.root = root

    def update(self, prediction: Any, target: Any) -> None:
        errors = self._errors(prediction, target)
        self._add(total=(errors * errors).sum(), count=errors.numel())

    def compute(self) -> float:
        mean = super().compute()
        return math.sqrt(mean) if self.root else mean


class MeanAbsoluteError(_MeanError):
    """The mean of |prediction - target| over all elements, computed in float64.

    `update(prediction, target)` takes tensors of one shape. Raises ShapeError for others.

    >>> error = tl.meters.MeanAbsoluteError()
    >>> error.update(tl.tensor([1.0, 5.0]), tl.tensor([1.0, 1.0]))
    >>> error.compute()
    2.0
    """

    def update(self, prediction: Any, target: Any) -> None:
        errors = self._errors(prediction, target)
        self._add(total=errors.abs().sum(), count=errors.numel())


class Perplexity(Meter):
    """exp of the mean of -log p(target), over all targets but those that are `ignore_index`.

    `update(scores, target)` takes what `F.cross_entropy` takes: raw scores (N, C, ...) and classes (N, ...).

    >>> perplexity = tl.meters.Perplexity()
    >>> perplexity.update(tl.zeros(3, 4), tl.tensor([0, 1, -100]))
    >>> round(perplexity.compute(), 5)
    4.0
    """

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def update(self, scores: Any, target: Any) -> None:
        x, y = detached("Perplexity", scores), detached("Perplexity", target)
        losses = F.cross_entropy(x, y, reduction="none", ignore_index=self.ignore_index)
        self._add(total=losses.double().sum(), count=(y != self.ignore_index).sum())

    def compute(self) -> float:
        mean = ratio(self._sum("total"), self._sum("count"))
        return math.exp(mean) if mean < 709 else mean * math.inf  # inf above what float64 holds, and nan stays nan


class Throughput(Meter):
    """Items per second: `update(count)` after each batch; the first one starts the clock and does not count.

    It reads the host's clock, so it stands outside of captured steps: CaptureError inside. Work that a GPU has not
    finished counts as done. A merged meter has the items of both, in the longer of their times.

    >>> rate = tl.meters.Throughput(clock=iter([0.0, 2.0, 4.0]).__next__)
    >>> for batch in range(3): rate.update(100)
    >>> rate.compute()
    50.0
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self._began: float | None = None
        self._items, self._seconds = 0.0, 0.0

    def update(self, count: float = 1) -> None:
        recording.refuse("Throughput.update(), which reads the clock,")
        if not isinstance(count, (int, float)):
            raise ArgumentError(f"Throughput: expected a number of items, got {type(count).__name__}; pass len(x)")
        now = self._clock()
        if self._began is None:
            self._began = now
            return
        self._items += count
        self._seconds = now - self._began

    def compute(self) -> float:
        return self._items / self._seconds if self._seconds else float("nan")

    def merge(self, other: Meter) -> Throughput:
        super().merge(other)
        assert isinstance(other, Throughput)
        self._items += other._items
        self._seconds = max(self._seconds, other._seconds)
        return self

    def text(self, value: Any) -> str:
        return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"
