"""Meters of classifiers: accuracy, the confusion matrix, and what follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import dtypes, ops
from ...creation import arange, from_numpy, ones_like, zeros
from ...errors import ArgumentError, DTypeError, ShapeError
from ...tensor import Tensor
from .meter import Meter, detached, ratio


class Accuracy(Meter):
    """The share of targets among the `top_k` highest scores.

    `update(prediction, target)` takes scores (N, C, ...), or classes of the target's shape, and classes (N, ...).
    Targets that are `ignore_index` do not count. Of equal scores the one of the lower class is the higher, as for
    argmax; a target whose score is NaN is missed. `compute()` is a float in [0, 1], nan without targets. Raises
    ShapeError for other shapes, DTypeError for scores where classes are expected, ArgumentError for a top_k that is no
    number of classes, OutOfRangeError for a target that is no class.

    >>> accuracy = tl.meters.Accuracy(top_k=2)
    >>> accuracy.update(tl.tensor([[0.1, 0.5, 0.4], [0.7, 0.2, 0.1]]), tl.tensor([2, 2]))
    >>> accuracy.compute()
    0.5
    """

    def __init__(self, top_k: int = 1, ignore_index: int | None = None) -> None:
        super().__init__()
        if not isinstance(top_k, int) or top_k < 1:
            raise ArgumentError(f"Accuracy: top_k must be a positive integer, got {top_k!r}")
        self.top_k = top_k
        self.ignore_index = ignore_index

    def update(self, prediction: Any, target: Any) -> None:
        x, y = detached("Accuracy", prediction), detached("Accuracy", target)
        scored = _check("Accuracy", x, y)
        counted, y = _counted(y, self.ignore_index)
        if scored:
            right = self._rank(x, y) < self.top_k
        elif self.top_k == 1:
            right = x == y
        else:
            raise ArgumentError(f"Accuracy: top_k={self.top_k} needs scores (N, C, ...), got classes")
        if counted is None:
            self._add(right=right.sum(), count=y.numel())
        else:
            self._add(right=(right & counted).sum(), count=counted.sum())

    def _rank(self, scores: Tensor, target: Tensor) -> Tensor:
        """How many classes come before the target's."""
        classes = scores.shape[1]
        if self.top_k > classes:
            raise ArgumentError(f"Accuracy: top_k={self.top_k}, but there are {classes} classes")
        scores, target = scores.movedim(1, -1), target.long().unsqueeze(-1)
        own = scores.gather(-1, target)
        before: Tensor = (scores == own) & (arange(classes, device=scores.device) < target)
        higher: Tensor = (scores <= own).logical_not()  # NaN, too
        return (before | higher).sum(-1)

    def compute(self) -> float:
        return ratio(self._sum("right"), self._sum("count"))

    def text(self, value: Any) -> str:
        return f"{value:.2%}"


class ConfusionMatrix(Meter):
    """How often class j was predicted where class i was right: int64 (C, C), entry [i, j].

    `update(prediction, target)` takes scores (N, C, ...), or classes of the target's shape, and classes (N, ...).
    Targets that are `ignore_index` do not count. Raises ShapeError and DTypeError as `Accuracy`, and OutOfRangeError
    for what is none of `num_classes` classes.

    >>> matrix = tl.meters.ConfusionMatrix(2)
    >>> matrix.update(tl.tensor([0, 1, 1]), tl.tensor([0, 0, 1]))
    >>> matrix.compute()
    tensor([[1, 1],
            [0, 1]])
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ArgumentError(f"{type(self).__name__}: num_classes must be a positive integer, got {num_classes!r}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def update(self, prediction: Any, target: Any) -> None:
        name = type(self).__name__
        x, y = detached(name, prediction), detached(name, target)
        if _check(name, x, y):
            if x.shape[1] != self.num_classes:
                raise ShapeError(f"{name}: expected scores of {self.num_classes} classes, got {tuple(x.shape)}")
            x = x.argmax(1)
        counted, y = _counted(y, self.ignore_index)
        classes = arange(self.num_classes, device=y.device)
        right = classes.gather(0, y.long().reshape(-1))  # the same numbers; others are out of range
        predicted = classes.gather(0, x.long().reshape(-1))
        ones = ones_like(right) if counted is None else counted.long().reshape(-1)
        counts = zeros(self.num_classes ** 2, dtype=dtypes.int64, device=y.device)
        counts.index_add_(0, right * self.num_classes + predicted, ones)
        self._add(counts=counts.reshape(self.num_classes, self.num_classes))

    def compute(self) -> Any:
        return from_numpy(self._counts())

    def _counts(self) -> np.ndarray:
        if "counts" not in self._sums:
            return np.zeros((self.num_classes, self.num_classes), np.int64)
        return self._sums["counts"].cpu().numpy().copy()


class _Rates(ConfusionMatrix):
    """A rate for each class, made of the confusion matrix, and their average."""

    def __init__(self, num_classes: int, average: str | None = "macro", ignore_index: int | None = None) -> None:
        super().__init__(num_classes, ignore_index)
        if average not in ("macro", "micro", "weighted", None):
            raise ArgumentError(f'{type(self).__name__}: average must be "macro", "micro", "weighted" or None, '
                                f"got {average!r}")
        self.average = average

    def compute(self) -> Any:
        counts = self._counts()
        right, predicted, present = np.diagonal(counts), counts.sum(0), counts.sum(1)
        if self.average == "micro":
            return float(self._rate(right.sum(), predicted.sum(), present.sum()))
        rates = self._rate(right, predicted, present)
        if self.average is None:
            return from_numpy(rates)
        weights = present if self.average == "weighted" else (predicted + present) > 0
        return float((rates * weights).sum() / weights.sum()) if weights.any() else float("nan")

    def _rate(self, right: Any, predicted: Any, present: Any) -> Any:
        """The rate of each class (or of all together) from how often it was right, predicted, and present."""
        raise NotImplementedError

    def text(self, value: Any) -> str:
        return f"{value:.2%}" if isinstance(value, float) else super().text(value)


class Precision(_Rates):
    """Of what was predicted to be a class, the share that was: tp / (tp + fp), 0 for a class never predicted.

    `average`: "macro" is the mean over classes that occur among targets or predictions, "weighted" the mean weighted
    with how often they are targets, "micro" the rate of all together, None a tensor (C,) of the rates. Takes what
    `ConfusionMatrix` takes.

    >>> precision = tl.meters.Precision(2, average=None)
    >>> precision.update(tl.tensor([0, 1, 1]), tl.tensor([0, 0, 1]))
    >>> precision.compute()
    tensor([1.0000, 0.5000], dtype=tensorlite.float64)
    """

    def _rate(self, right: Any, predicted: Any, present: Any) -> Any:
        return _quotient(right, predicted)


class Recall(_Rates):
    """Of what is of a class, the share that was found: tp / (tp + fn), 0 for a class never present.

    `average` as for `Precision`. Takes what `ConfusionMatrix` takes.

    >>> recall = tl.meters.Recall(2)
    >>> recall.update(tl.tensor([0, 1, 1]), tl.tensor([0, 0, 1]))
    >>> recall.compute()
    0.75
    """

    def _rate(self, right: Any, predicted: Any, present: Any) -> Any:
        return _quotient(right, present)


class F1(_Rates):
    """The harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn), 0 for a class that does not occur.

    `average` as for `Precision`. Takes what `ConfusionMatrix` takes.

    >>> f1 = tl.meters.F1(2, average="micro")
    >>> f1.update(tl.tensor([0, 1, 1, 1]), tl.tensor([0, 0, 1, 1]))
    >>> f1.compute()
    0.75
    """

    def _rate(self, right: Any, predicted: Any, present: Any) -> Any:
        return _quotient(2 * right, predicted + present)


def _quotient(above: Any, below: Any) -> Any:
    """above / below in float64, 0 where below is 0."""
    return np.where(below, above, 0) / np.maximum(below, 1)


def _check(name: str, prediction: Tensor, target: Tensor) -> bool:
    """Whether predictions are scores of classes; if they are classes themselves, False."""
    if target.dtype.is_floating_point:
        raise DTypeError(f"{name}: targets are classes, integers, got {target.dtype.name}")
    if prediction.shape == target.shape:
        if prediction.dtype.is_floating_point:
            raise DTypeError(f"{name}: predictions of the target's shape {tuple(target.shape)} are classes, integers, "
                             f"got {prediction.dtype.name}; of scores of two classes pass scores > 0, of probabilities "
                             "p > 0.5")
        return False
    if prediction.ndim != target.ndim + 1 or (*prediction.shape[:1], *prediction.shape[2:]) != tuple(target.shape):
        raise ShapeError(f"{name}: expected scores (N, C, ...) or classes (N, ...) for targets (N, ...), got "
                         f"{tuple(prediction.shape)} for {tuple(target.shape)}")
    return True


def _counted(target: Tensor, ignore_index: int | None) -> tuple[Tensor | None, Tensor]:
    """Which targets count (None: all), and the targets with class 0 in place of the others."""
    if ignore_index is None:
        return None, target
    counted = target != ignore_index
    return counted, ops.where(counted, target, 0)
