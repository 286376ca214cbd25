"""Rules about models: which mode they are in, and which of their parameters learn."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from ....autograd.mode import grad_enabled
from ....autograd.tape import Var
from ....nn import Dropout, Module, MultiheadAttention
from ....nn.normalization import _BatchNorm
from ....nn.recurrent import RNNBase
from ....tensor import Tensor
from ..numbers import MOVES, values
from ..places import LossCall, Place
from ..report import ERROR
from ..watch import OpCall, Root, RootCall, Rule, Step

_DECISIONS: Final = frozenset({"argmax", "softmax", "log_softmax", "topk"})  # what a finished prediction is read with

# After so many steps neurons that started alike and differ in what they get would differ in what they are.
ALIKE_STEPS: Final = 3


def depends_on_mode(module: Module) -> list[str]:
    """The parts of a model that compute something else in training than in evaluation, by their paths."""
    return [f"{path or type(part).__name__} ({type(part).__name__})" for path, part in module.named_modules()
            if _differs(part)]


def _differs(part: Module) -> bool:
    if isinstance(part, Dropout):
        return part.p > 0
    if isinstance(part, (MultiheadAttention, RNNBase)):
        return part.dropout > 0
    return isinstance(part, _BatchNorm) and part.track_running_stats


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class EvalWhileTraining(Rule):
    """A model in eval mode is trained: no dropout, and stale statistics in its BatchNorm."""

    name = "eval-while-training"

    def after_step(self, step: Step) -> None:
        updated = {id(p) for p in step.parameters if p._grad is not None}
        for root in self.watch.models():
            module = root.ref()
            if module is None or root.training or module.training or not updated:
                continue
            parts = depends_on_mode(module)
            if parts and any(id(p) in updated for _, p in root.parameters()):
                self.say(f"{root.label} was in eval mode in a training step: {_listed(parts)} "
                         f"{'computes' if len(parts) == 1 else 'compute'} as in evaluation.",
                         "call model.train() before the training steps, also after each evaluation.", root.place,
                         about=root.label)


class TrainWhileEvaluating(Rule):
    """Predictions of a model in train mode are judged without gradients: dropout is on, BatchNorm uses the batch."""

    name = "train-while-evaluating"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._outputs: dict[int, tuple[weakref.ref[Tensor], Root, list[str]]] = {}

    def model(self, call: RootCall) -> None:
        if not grad_enabled.get() and call.module.training and isinstance(call.out, Tensor):
            parts = depends_on_mode(call.module)
            if parts:
                self._outputs = {key: value for key, value in self._outputs.items() if value[0]() is not None}
                self._outputs[id(call.out)] = weakref.ref(call.out), call.root, parts

    def op(self, call: OpCall) -> None:
        if not self._outputs or grad_enabled.get() or not call.is_outside or not call.tensors:
            return
        known = self._outputs.get(id(call.tensors[0]))
        if known is None or known[0]() is not call.tensors[0]:
            return
        if call.op in MOVES:
            self._outputs[id(call.out)] = weakref.ref(call.out), *known[1:]
        elif call.op in _DECISIONS:
            self._report(known[1], known[2], call.op, call.place)

    def loss(self, call: LossCall) -> None:
        known = self._outputs.get(id(call.input))
        if known is not None and known[0]() is call.input and not grad_enabled.get():
            self._report(known[1], known[2], call.name, call.place)

    def _report(self, root: Root, parts: list[str], use: str, place: Place) -> None:
        learns = ", and BatchNorm learns from the test data" if any("BatchNorm" in part for part in parts) else ""
        self.say(f"{root.label} was in train mode when its output went into {use} under no_grad: {_listed(parts)} "
                 f"{'changes' if len(parts) == 1 else 'change'} what it predicts{learns}.",
                 "call model.eval() before the evaluation, and model.train() after it.", place, about=root.label)


class ParametersAndOptimizers(Rule):
    """What a model learns with: parameters without gradient, without an optimizer, or in one that holds others."""

    name = "parameters"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._got: dict[int, weakref.ref[Var]] = {}

    def arrived(self, leaves: Iterable[Var]) -> None:
        for leaf in leaves:
            self._got[id(leaf)] = weakref.ref(leaf)

    def got(self, parameter: Tensor) -> bool:
        """Whether a gradient has reached a parameter."""
        known = self._got.get(id(parameter))
        return known is not None and known() is parameter

    def trained(self) -> list[tuple[Root, dict[str, Tensor]]]:
        """The models, and those of their parameters that want gradients."""
        return [(root, {name: p for name, p in root.parameters() if p._requires_grad})
                for root in self.watch.models()]


class NoGradient(ParametersAndOptimizers):
    """A parameter that no gradient has reached."""

    name = "no-gradient"

    def end(self) -> None:
        held = self.watch.held()
        if not self._got:
            return
        for root, parameters in self.trained():
            without = [name for name, p in parameters.items() if not self.got(p)]
            in_use = any(self.got(p) or id(p) in held for p in parameters.values())
            if without and in_use:
                self.say(f"{len(without)} of {len(parameters)} parameters of {root.label} got no gradient in "
                         f"{self.watch.backwards} backward passes: {_listed(without)}. Either forward() does not use "
                         "them, or .detach(), .data, .numpy() or no_grad cuts them off from the loss.",
                         "use them, keep their results in the graph, or requires_grad_(False) what is not to learn.",
                         root.place, about=root.label)


class NotInOptimizer(ParametersAndOptimizers):
    """A parameter that gets gradients and is in no optimizer."""

    name = "not-in-optimizer"

    def end(self) -> None:
        held = self.watch.held()
        if not held or not self.watch.steps:
            return
        for root, parameters in self.trained():
            missing = [name for name, p in parameters.items() if self.got(p) and id(p) not in held]
            if missing and not _without_model(self, held):  # else it is the optimizer that is of another model
                self.say(f"{len(missing)} of {len(parameters)} parameters of {root.label} get gradients but are in no "
                         f"optimizer that took a step: {_listed(missing)}. They stay as they are.",
                         "give the optimizer model.parameters(), or requires_grad_(False) what is not to learn, which "
                         "also saves its gradients.", root.place, about=root.label)


def _without_model(rule: ParametersAndOptimizers, held: dict[int, Tensor]) -> list[Tensor]:
    """Parameters of optimizers that belong to no model and got no gradient."""
    owned = {id(p) for root in rule.watch.roots.values() for _, p in root.parameters()}
    return [p for key, p in held.items() if key not in owned and not rule.got(p)]


class StaleOptimizer(ParametersAndOptimizers):
    """An optimizer that holds parameters of a model that is no longer used."""

    name = "stale-optimizer"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._place: Place | None = None

    def before_step(self, step: Step) -> None:
        self._place = step.place

    def end(self) -> None:
        held = self.watch.held()
        for optimizer in self.watch.optimizers:
            own = optimizer.held()
            stale = _without_model(self, own)
            waiting = [name for _, parameters in self.trained() for name, p in parameters.items()
                       if self.got(p) and id(p) not in held]
            if stale and waiting:
                self.say(f"{len(stale)} of {len(own)} parameters of {optimizer.name} belong to no model that "
                         f"was called and got no gradient, while {len(waiting)} parameters with gradients are in no "
                         f"optimizer: {_listed(waiting)}. The model, or a layer, was made anew after the optimizer.",
                         "make the optimizer after the model is complete: optimizer = optim.SGD(model.parameters(), "
                         "...).", self._place, about=id(optimizer))


class SameNeurons(ParametersAndOptimizers):
    """Neurons that started alike get the same gradients, and stay alike."""

    name = "same-neurons"

    def end(self) -> None:
        if self.watch.steps < ALIKE_STEPS:
            return
        for root, parameters in self.trained():
            alike = [name for name, p in parameters.items() if self.got(p) and _rows_alike(values(p))]
            if alike:
                self.say(f"all neurons of {_listed(alike)} are equal after {self.watch.steps} steps: they began with "
                         "the same weights, so they get the same gradients and compute the same.",
                         "draw the weights: nn.init.kaiming_uniform_(weight), or leave the layer's own start.",
                         root.place, about=root.label)


def _rows_alike(weight: np.ndarray) -> bool:
    return weight.ndim > 1 and len(weight) > 1 and bool(weight.any()) and bool((weight == weight[:1]).all())
