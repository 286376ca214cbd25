"""`LRScheduler`: counts epochs and writes `lr` into the optimizer's groups.

Schedules are chainable as PyTorch's are: most compute the next rate from the present one, so that several
schedulers, or a hand that sets `param_groups[i]['lr']`, act on the same rate one after another.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ...backends import recording
from ...errors import ArgumentError
from ..optimizer import Optimizer


class LRScheduler:
    """Base of all schedulers. A subclass overrides `get_lr`, the rates of all groups at `last_epoch`.

    `last_epoch=-1` starts afresh and notes each group's `initial_lr`; a later epoch continues a run and needs
    the `initial_lr` of a loaded optimizer. Raises TypeError for what is no Optimizer, KeyError without
    `initial_lr`.
    """

    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = require_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0; load the optimizer's state first, or start with last_epoch=-1"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._initial = False
        self._initial_step()

    def get_lr(self) -> list[float]:
        """The next rate of each group, from its present one. To read the present, use `get_last_lr()`."""
        raise NotImplementedError(f"{type(self).__name__} must override get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rate of each group as this scheduler last set it."""
        return self._last_lr

    def step(self) -> None:
        """Go to the next epoch (or batch) and set its rates. Warns if the optimizer has not stepped yet."""
        self._count_step()
        self._advance()

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule needs to go on: numbers, strings and lists. Functions are not saved."""
        saved = {key: value for key, value in self.__dict__.items() if key not in self._not_saved}
        return copy.deepcopy(saved)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`. Raises ArgumentError, and changes nothing, if its keys are not this
        class's.

        The rates themselves are in the optimizer's state: load that too.
        """
        self._check_state(state_dict)
        self.__dict__.update(copy.deepcopy(dict(state_dict)))

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        own = self.state_dict().keys()
        if own != state_dict.keys():
            raise ArgumentError(
                f"{type(self).__name__}: state dict does not fit: missing {sorted(own - state_dict.keys())}, "
                f"unexpected {sorted(state_dict.keys() - own)}; was it saved by another scheduler?"
            )

    def _set(self, values: Sequence[float]) -> None:
        recording.refuse("a learning rate scheduler, which computes in Python,")
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = lr
        self._last_lr = present(self.optimizer)

    def _initial_step(self) -> None:
        """Go to the epoch at which the schedule starts."""
        self._step_count = 1
        self._initial = True
        try:
            self._advance()
        finally:
            self._initial = False

    def _count_step(self) -> None:
        if self._step_count == 1 and not has_stepped(self.optimizer):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the opposite "
                "order: `optimizer.step()` before `lr_scheduler.step()`, or the first value of the schedule "
                "is skipped.",
                stacklevel=3,
            )
        self._step_count += 1

    def _advance(self) -> None:
        self.last_epoch += 1
        self._set(self.get_lr())

    def _undo_initial_step(self) -> None:
        self.last_epoch -= 1

    def _closed_form(self) -> list[float] | None:
        """The rates at `last_epoch` from the initial ones alone, where there is such a formula."""
        return None

    def _restart(self) -> None:
        """Start at epoch 0 in the middle of a run; SequentialLR comes to this schedule now."""
        self.last_epoch = 0
        closed = self._closed_form()
        self._set(self.get_lr() if closed is None else closed)


def require_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer. Raises TypeError for anything else."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def has_stepped(optimizer: Optimizer) -> bool:
    """Whether `step` was called; taken as true for an optimizer whose class has a `step` of its own."""
    return optimizer._stepped or type(optimizer).step is not Optimizer.step


def present(optimizer: Optimizer) -> list[float]:
    """The rates of all groups."""
    return [group["lr"] for group in optimizer.param_groups]


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value per group from a list or one value. Raises ArgumentError for a list of another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ArgumentError(f"{name} must have the same length as optimizer.param_groups. {name} has "
                            f"{len(value)} values, param_groups has {groups}.")
    return list(value)
