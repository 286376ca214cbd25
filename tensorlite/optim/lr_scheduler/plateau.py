"""A schedule that looks at a metric."""

from __future__ import annotations

import math
from typing import SupportsFloat

from ...errors import ArgumentError
from ..optimizer import Optimizer
from .base import LRScheduler, per_group, present, require_optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` when a metric has not improved for more than `patience` epochs.

    Better is below best·(1 - threshold) for mode 'min', above best·(1 + threshold) for 'max', or best ∓
    threshold with threshold_mode 'abs'. After a cut, `cooldown` epochs do not count. The rate stays at or
    above `min_lr` (one or one per group), and a change of at most `eps` is not made. Raises ArgumentError for
    a bad option.

    >>> optimizer = optim.SGD([tl.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
                 min_lr: float | list[float] = 0, eps: float = 1e-8) -> None:
        if factor >= 1.0:
            raise ArgumentError(f"Factor should be < 1.0, got {factor}.")
        if mode not in ("min", "max"):
            raise ArgumentError(f"mode {mode} is unknown! Use 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f"threshold mode {threshold_mode} is unknown! Use 'rel' or 'abs'")
        self.min_lrs = per_group("min_lr", require_optimizer(optimizer), min_lr)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return present(self.optimizer)

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]  # the metric is the point of this class
        """Take the metric of an epoch (a number or one-element tensor), and cut the rates if it is time."""
        self.last_epoch += 1
        value = float(metrics)
        if self.is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            rates = zip(present(self.optimizer), self._floors(), strict=True)
            self._set([self._reduced(lr, least) for lr, least in rates])
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = present(self.optimizer)

    def is_better(self, value: float) -> bool:
        """Whether a metric is better than the best so far by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            bound = self.best + sign * self.threshold
        else:
            bound = self.best * (1.0 + sign * self.threshold)
        return value > bound if self.mode == "max" else value < bound

    def _reduced(self, lr: float, least: float) -> float:
        new = max(lr * self.factor, least)
        return new if lr - new > self.eps else lr

    def _floors(self) -> list[float]:
        """The smallest rates; a group that was added later gets the last one."""
        missing = len(self.optimizer.param_groups) - len(self.min_lrs)
        return [*self.min_lrs, *[self.min_lrs[-1]] * missing]
