"""Optimizers within recorded steps: learning rates that may change between replays, and options that may not.

A replay repeats kernels, not Python. So the learning rate lies in device memory, where `Watch` writes that of the day
before each replay. Options went into the kernels as numbers: for those that changed since, replaying raises.
"""

from __future__ import annotations

from itertools import chain
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..backends import Backend, recording
from ..errors import CaptureError
from ..tensor import Tensor
from .groups import Group

if TYPE_CHECKING:
    from .optimizer import Optimizer

_NO_OPTIONS = frozenset({"params", "param_names", "lr"})
_PARAMS = itemgetter("params")


class Rate:
    """The learning rate of a group in the memory of one device."""

    __slots__ = ("array", "backend", "value")

    def __init__(self, backend: Backend, value: float) -> None:
        self.backend = backend
        self.array = backend.fill("fill", (), dtypes.float64.numpy, value)
        self.value = value

    def set(self, value: float) -> None:
        """Write a changed value; not through the door, since a recording must not repeat the old one."""
        if value != self.value:
            self.backend.overwrite(self.array, value)
            self.value = value


def learning_rate(group: Group) -> float:
    """The learning rate of a group as a number; a tensor on the CPU is read while recording, too."""
    rate = group["lr"]
    if isinstance(rate, Tensor) and rate.backend.device.type == "cpu":
        return float(rate.array.item())
    return float(rate)


def prepare(optimizer: Optimizer) -> None:
    """Have replays of the step that this thread is recording, if it is, look after an optimizer.

    Raises CaptureError for an optimizer with hooks.
    """
    recorder = recording.here()
    if recorder is None:
        return
    _refuse_hooks(optimizer)
    for known in recorder.callbacks:
        if isinstance(known, Watch) and known.optimizer is optimizer:
            known.rates.check()
            return
    watch = Watch(optimizer, recorder)
    recorder.before_replay(watch)
    recorder.at_end(watch.rates.check)


def _refuse_hooks(optimizer: Optimizer) -> None:
    if optimizer._pre_hooks or optimizer._post_hooks:
        raise CaptureError(f"{type(optimizer).__name__} has step hooks, which replays of a captured step would not "
                           "run; remove them (handle.remove()), or call what they do beside the captured step")


def refuse_first_step(optimizer: Optimizer, what: str) -> None:
    """Raise CaptureError while recording: what an optimizer makes once would be made anew by each replay."""
    if recording.here() is not None:
        raise CaptureError(f"{type(optimizer).__name__} makes {what} in the first step with it, and each replay of a "
                           "captured step would make it anew; call optimizer.step() once, with all gradients there, "
                           "before the step is captured")


class Rates:
    """The learning rates of an optimizer, which a step must not change while it is recorded."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._then = self._now()

    def _now(self) -> list[float]:
        return [learning_rate(group) for group in self._optimizer.param_groups]

    def check(self) -> None:
        """Raise CaptureError if they are not what they were."""
        now = self._now()
        if now != self._then:
            raise CaptureError(f"{type(self._optimizer).__name__}: the captured step changes its learning rate, from "
                               f"{self._then} to {now}, which replays would not; change it outside the step, as "
                               "schedulers do")


class Watch:
    """What has to be done for an optimizer before each replay of a recorded step."""

    def __init__(self, optimizer: Optimizer, recorder: recording.Recorder) -> None:
        self.optimizer = optimizer
        self._recorder = recorder
        self._groups = list(optimizer.param_groups)
        self._options = [_Options(optimizer, group) for group in self._groups]
        self._objects = self._present()
        self.rates = Rates(optimizer)

    def __call__(self) -> None:
        """Write the learning rates of the day. Raises CaptureError for another option that changed, and for hooks."""
        optimizer = self.optimizer
        present = self._present()
        if len(present) != len(self._objects) or not all(map(is_, present, self._objects)):
            self._recorder.outdate(f"the parameters, groups or state of {type(optimizer).__name__} were replaced")
            return
        _refuse_hooks(optimizer)
        for options in self._options:
            options.check()
        for (index, _), rate in optimizer._rates.items():
            rate.set(learning_rate(self._groups[index]))

    def _present(self) -> list[Any]:
        """What a recording refers to: the groups and their parameters, the state and its tensors."""
        optimizer = self.optimizer
        groups, state = optimizer.param_groups, optimizer.state
        return [*groups, *chain.from_iterable(map(_PARAMS, groups)), state, *chain.from_iterable(
            map(dict.values, state.values()))]


class _Options:
    """The options of a group, as they went into a recording."""

    def __init__(self, optimizer: Optimizer, group: Group) -> None:
        self._optimizer = optimizer
        self._group = group
        self._keys = [key for key in group if key not in _NO_OPTIONS]
        self._known = self._values()
        self._plan = optimizer._plan(group)

    def _values(self) -> list[Any]:
        return [self._group[key] for key in self._keys]

    def check(self) -> None:
        """Raise CaptureError where an option is not what it was."""
        values = self._values()
        if values == self._known:
            return
        before, now = self._plan, self._optimizer._plan(self._group)
        name = type(self._optimizer).__name__
        cure = ("only the learning rate may change between replays of a captured step (OneCycleLR and CyclicLR: pass "
                "cycle_momentum=False); call step.reset() to have it captured anew")
        for option, value in before.options.items():
            changed = now.options.get(option)
            if changed != value:
                raise CaptureError(f"{name}: {option} was changed from {value!r} to {changed!r}; {cure}")
        if (now.kernel, now.slots) != (before.kernel, before.slots):
            raise CaptureError(f"{name}: the state it keeps was changed from {before.slots} to {now.slots}; {cure}")
        self._known = values  # a key that no kernel depends on
