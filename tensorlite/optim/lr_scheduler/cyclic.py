"""Schedules that go up and down, with the momentum in the opposite direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError
from ..groups import Group
from ..optimizer import Optimizer
from .base import LRScheduler, per_group, require_optimizer


def _momentum_key(optimizer: Optimizer) -> str:
    """The option that is cycled: 'betas' (the first of them) or 'momentum'."""
    for key in ("betas", "momentum"):
        if key in optimizer.defaults:
            return key
    raise ArgumentError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled; pass "
                        "cycle_momentum=False")


def _set_momentum(group: Group, key: str, value: float) -> None:
    group[key] = (value, *group["betas"][1:]) if key == "betas" else value


class CyclicLR(LRScheduler):
    """Let the rate go up from `base_lr` to `max_lr` and down again, after Smith (2015), arXiv:1506.01186.

    Call `step()` after every batch. `mode` scales the height of a cycle: 'triangular' not, 'triangular2' by
    half each cycle, 'exp_range' by gamma^iteration; or `scale_fn` of the cycle or iteration (`scale_mode`),
    which is not saved. With `cycle_momentum` the momentum (or β₁) goes from `max_momentum` down to
    `base_momentum` meanwhile. Raises ArgumentError for an unknown mode or an optimizer without momentum.
    """

    _not_saved = ("optimizer", "_custom_scale")

    def __init__(self, optimizer: Optimizer, base_lr: float | list[float], max_lr: float | list[float],
                 step_size_up: int = 2000, step_size_down: int | None = None, mode: str = "triangular",
                 gamma: float = 1.0, scale_fn: Callable[[float], float] | None = None,
                 scale_mode: str = "cycle", cycle_momentum: bool = True,
                 base_momentum: float | list[float] = 0.8, max_momentum: float | list[float] = 0.9,
                 last_epoch: int = -1) -> None:
        require_optimizer(optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ArgumentError(f"mode is invalid and scale_fn is None: {mode!r}; use 'triangular', "
                                "'triangular2' or 'exp_range'")
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        base_lrs = per_group("base_lr", optimizer, base_lr)
        up = float(step_size_up)
        down = up if step_size_down is None else float(step_size_down)
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self._custom_scale = scale_fn
        self.momentum_key = _momentum_key(optimizer) if cycle_momentum else None
        self.base_momentums = per_group("base_momentum", optimizer, base_momentum)
        self.max_momentums = per_group("max_momentum", optimizer, max_momentum)
        for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
            group["initial_lr"] = lr
            if last_epoch == -1:
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)

    def scale_fn(self, x: float) -> float:
        """The height of the cycle as a factor; x is the cycle, from 1, or the iteration."""
        if self._custom_scale is not None:
            return self._custom_scale(x)
        if self.mode == "exp_range":
            return float(self.gamma**x)
        return 1 / 2.0 ** (x - 1) if self.mode == "triangular2" else 1.0

    def get_lr(self) -> list[float]:
        """The next rates; sets the momentum that belongs to them."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        rise = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.momentum_key:
            momenta = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
            for group, low, high in momenta:
                _set_momentum(group, self.momentum_key, high - (high - low) * rise * scale)
        bounds = zip(self.base_lrs, self.max_lrs, strict=True)
        return [low + (high - low) * rise * scale for low, high in bounds]


class OneCycleLR(LRScheduler):
    """One cycle, after Smith & Topin (2017), arXiv:1708.07120: up to `max_lr`, then down to nearly nothing.

    Call `step()` after every batch, `total_steps` (or epochs·steps_per_epoch) times. The rate starts at
    max_lr/div_factor, is max_lr after the fraction `pct_start`, and ends at 1/final_div_factor of its start;
    with `three_phase` it first comes back to its start as fast as it rose. With `cycle_momentum` the momentum
    (or β₁) goes from `max_momentum` to `base_momentum` and back. Raises ArgumentError for a bad option or one
    step too many.

    >>> optimizer = optim.SGD([tl.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=8)
    >>> round(scheduler.get_last_lr()[0], 6), optimizer.param_groups[0]["momentum"]
    (0.04, 0.95)
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | list[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float | list[float] = 0.85, max_momentum: float | list[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
                 last_epoch: int = -1) -> None:
        require_optimizer(optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ArgumentError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self.anneal_strategy = anneal_strategy
        self.phases = _phases(self.total_steps, pct_start, three_phase)
        self.momentum_key = _momentum_key(optimizer) if cycle_momentum else None
        if last_epoch == -1:
            options = zip(optimizer.param_groups, per_group("max_lr", optimizer, max_lr),
                          per_group("max_momentum", optimizer, max_momentum),
                          per_group("base_momentum", optimizer, base_momentum), strict=True)
            for group, highest, max_m, base_m in options:
                initial = highest / div_factor
                group.update(initial_lr=initial, max_lr=highest, min_lr=initial / final_div_factor)
                if self.momentum_key:
                    group.update(max_momentum=max_m, base_momentum=base_m)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The next rates; sets the momentum that belongs to them."""
        if self.last_epoch > self.total_steps:
            raise ArgumentError(f"Tried to step {self.last_epoch} times. The specified number of total steps "
                                f"is {self.total_steps}")
        start = 0.0
        for phase in self.phases:
            if self.last_epoch <= phase["end"] or phase is self.phases[-1]:
                break
            start = phase["end"]
        length = phase["end"] - start
        done = (self.last_epoch - start) / length if length else 1.0
        groups = self.optimizer.param_groups
        if self.momentum_key:
            first, last = phase["momentum"]
            for group in groups:
                _set_momentum(group, self.momentum_key, self._between(group[first], group[last], done))
        first, last = phase["lr"]
        return [self._between(group[first], group[last], done) for group in groups]

    def _between(self, first: float, last: float, done: float) -> float:
        """The value after the part `done` of the way from first to last."""
        if self.anneal_strategy == "cos":
            return last + (first - last) / 2.0 * (math.cos(math.pi * done) + 1)
        return (last - first) * done + first


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    given = {"total_steps": total_steps}
    if total_steps is None:
        given = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    total = 1
    for name, value in given.items():
        if value is None:
            raise ArgumentError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        if not isinstance(value, int) or value <= 0:
            raise ArgumentError(f"Expected positive integer {name}, but got {value}")
        total *= value
    return total


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """Each phase's last step, and between which options of a group its rate and momentum go."""
    last = total_steps - 1
    up = {"end": pct_start * total_steps - 1, "lr": ["initial_lr", "max_lr"],
          "momentum": ["max_momentum", "base_momentum"]}
    if not three_phase:
        return [up, {"end": last, "lr": ["max_lr", "min_lr"], "momentum": ["base_momentum", "max_momentum"]}]
    back = {"end": 2 * pct_start * total_steps - 2, "lr": ["max_lr", "initial_lr"],
            "momentum": ["base_momentum", "max_momentum"]}
    fade = {"end": last, "lr": ["initial_lr", "min_lr"], "momentum": ["max_momentum", "max_momentum"]}
    return [up, back, fade]
