"""Rules about what a loss is given: activations where it wants scores, targets that are none, shapes that broadcast."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from typing import Any, Final

import numpy as np

from ....autograd.mode import grad_enabled
from ....autograd.tape import Node, Var
from ....tensor import Tensor
from ...nodes import ancestors
from ..numbers import MOVES, is_float, maker, values
from ..places import LossCall, Place
from ..report import ERROR, NOTE, WARNING
from ..watch import OpCall, Rule

_SCORES: Final = "cross_entropy", "binary_cross_entropy_with_logits"
_SQUASHING: Final = {"softmax": ERROR, "sigmoid": ERROR, "tanh": WARNING, "relu": WARNING, "linear_relu": WARNING}

# Rounding of 16-bit probabilities; what is wrong by mistake is wrong by far more.
ROUNDING: Final = 1e-2

# A network that knows nothing gives each of C classes the same chance, a loss of ln C. Weights of the usual scale add
# less than 1 to that; three times as much, and 2 more for few classes, is confidence in wrong answers from the start.
INITIAL_FACTOR: Final = 3.0
INITIAL_ROOM: Final = 2.0

# A loss above a guess, and half as high again as it began, is of a network that unlearns: batches differ by far less.
RISING_LOSSES: Final = 5
RISING_FACTOR: Final = 1.5

# A last layer that starts at zero gives one output for all samples, once; after two steps it no longer does.
CONSTANT_CALLS: Final = 4
CONSTANT_SPREAD: Final = 1e-6  # of the largest output: float32's own rounding


class ActivationBeforeLoss(Rule):
    """A loss that applies softmax or sigmoid itself is given what such a function has already squashed."""

    name = "activation-before-loss"

    def loss(self, call: LossCall) -> None:
        node = maker(call.input)
        if call.name not in _SCORES or node is None:
            return
        found = node.op.name
        where = _made_at(self.watch.places.get(node), call.place)
        own = "log_softmax" if call.name == "cross_entropy" else "sigmoid"
        if found == "log_softmax" and call.name == "cross_entropy":
            self.say(f"cross_entropy takes the log_softmax of its input, which is a log_softmax already{where}: the "
                     "same numbers, computed twice.",
                     "leave the log_softmax out, or take F.nll_loss of it.", call.place, severity=NOTE)
        elif found in _SQUASHING:
            function = "relu" if found == "linear_relu" else found
            self.say(f"{call.name} applies {own} itself and expects raw scores, but its input is the result of "
                     f"{function}{where}. {_consequence(function)}",
                     f"remove the {function} in front of the loss, and give it the scores themselves; apply "
                     f"{function} only where probabilities are looked at." if function in ("softmax", "sigmoid") else
                     f"remove the {function} behind the last layer.", call.place, severity=_SQUASHING[found])


def _consequence(function: str) -> str:
    if function in ("softmax", "sigmoid"):
        return "Between 0 and 1 they can never be far apart, so the loss stays high and gradients small."
    return "That limits what the scores can be, and with them how low the loss can get."


def _made_at(place: Place | None, loss: Place) -> str:
    if place is None:
        return ""
    line = f" at line {place.line}" if place[:2] != loss[:2] else ""
    return f" made{line} in {place.module}" if place.module else f" made{line}" if line else ""


class NoLogProbabilities(Rule):
    """nll_loss and kl_div without a logarithm in front."""

    name = "no-log-probabilities"
    severity = ERROR

    def loss(self, call: LossCall) -> None:
        if call.name in ("nll_loss", "kl_div") and self.watch.is_looking and call.input.numel():
            highest = float(np.nanmax(values(call.input), initial=-math.inf))
            if highest > ROUNDING:
                instead = ", or use F.cross_entropy on the scores" if call.name == "nll_loss" else ""
                self.say(f"{call.name} expects log-probabilities, which are never above 0; its input reaches "
                         f"{highest:.3g}.", f"apply F.log_softmax(scores, dim=1) in front of it{instead}.", call.place)


class ProbabilityRange(Rule):
    """Probabilities and targets outside [0, 1]."""

    name = "not-a-probability"
    severity = ERROR

    def loss(self, call: LossCall) -> None:
        if not self.watch.is_looking or not call.input.numel() or not call.target.numel():
            return
        if call.name == "binary_cross_entropy" and (span := _outside(call.input)):
            self.say(f"binary_cross_entropy expects probabilities, its input goes from {span}.",
                     "use F.binary_cross_entropy_with_logits for scores, or apply a sigmoid first.", call.place)
        if call.name.startswith("binary_cross_entropy") and (span := _outside(call.target)):
            self.say(f"{call.name} expects targets between 0 and 1, they go from {span}.",
                     "bring the labels to 0 and 1; for ids of several classes use F.cross_entropy.", call.place,
                     about=(call.place, "target"))
        if call.name == "cross_entropy" and is_float(call.target) and call.target.shape == call.input.shape:
            self._distribution(call)

    def _distribution(self, call: LossCall) -> None:
        target = values(call.target)
        sums = target.sum(1 if target.ndim > 1 else 0)
        off = (np.abs(sums - 1.0) > ROUNDING) & (np.abs(sums) > ROUNDING)  # a row of zeros leaves a sample out
        if target.ndim > 1 and (off.any() or target.min() < -ROUNDING):
            self.say(f"cross_entropy was given a floating target, which holds probabilities of the classes and adds up "
                     f"to 1 for each sample; {int(off.sum())} of {off.size} samples do not, the sums go from "
                     f"{sums.min():.3g} to {sums.max():.3g}.",
                     "for several labels per sample use F.binary_cross_entropy_with_logits; for class ids an integer "
                     "target of shape (N,).", call.place)


def _outside(x: Tensor) -> str:
    found = values(x)
    low, high = float(found.min()), float(found.max())
    return f"{low:.3g} to {high:.3g}" if low < -ROUNDING or high > 1 + ROUNDING else ""


class OneClass(Rule):
    """cross_entropy over a single class is 0 whatever the score."""

    name = "one-class"
    severity = ERROR

    def loss(self, call: LossCall) -> None:
        shape = call.input.shape
        if call.name == "cross_entropy" and len(shape) > 1 and shape[1] == 1:
            self.say(f"cross_entropy was given scores of shape {shape}: one class, whose probability is always 1, so "
                     "the loss is 0 and no gradient flows.",
                     "for a yes or no give F.binary_cross_entropy_with_logits the one score, or cross_entropy two "
                     "of them.", call.place)


class BatchAsClasses(Rule):
    """Scores squeezed to (N,) make one sample of N classes of a batch."""

    name = "squeezed-scores"
    severity = ERROR

    def loss(self, call: LossCall) -> None:
        if call.name != "cross_entropy" or call.input.ndim != 1 or call.target.shape != call.input.shape:
            return
        node = call.input._node
        while node is not None and node.op.name in MOVES:
            shape = node.metas[0][0]
            if len(shape) == 2 and shape[0] == len(call.input) and shape[1] == 1:
                self.say(f"cross_entropy was given scores of shape {call.input.shape}, squeezed from {shape}: it takes "
                         "the samples of the batch for the classes of one sample.",
                         "leave the scores (N, C), with one column per class; for a single score per sample use "
                         "F.binary_cross_entropy_with_logits.", call.place)
            parent = node.parents[0]
            node = parent if isinstance(parent, Node) else None


class LossBroadcasts(Rule):
    """A difference of (N, 1) and (N,) is (N, N): each prediction against each target."""

    name = "loss-broadcasts"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._suspects: weakref.WeakKeyDictionary[Node, tuple[str, Place]] = weakref.WeakKeyDictionary()

    def op(self, call: OpCall) -> None:
        if call.op != "sub" or len(call.tensors) != 2 or call.out._node is None:
            return
        column, row = sorted(call.tensors, key=lambda x: -x.ndim)
        size = row.shape[0] if row.ndim == 1 else 0
        if size > 1 and column.shape == (size, 1) and column._requires_grad is not row._requires_grad:
            if self.watch.is_outside_models and not _is_meant(column):
                first, second = [x.shape for x in call.tensors]
                self._suspects[call.out._node] = f"{first} and {second} is of shape {call.out.shape}", call.place

    def backward(self, roots: list[Tensor], is_kept: bool) -> None:
        if self._suspects:
            used = set(ancestors(root._node for root in roots))
            for node, (shapes, place) in self._suspects.items():
                if node in used:
                    self.say(f"the difference of a prediction and a target of shapes {shapes}: each prediction is "
                             "compared with each target.",
                             "give both one shape: prediction.squeeze(1) or target.unsqueeze(1); F.mse_loss refuses "
                             "such a pair.", place)
            self._suspects.clear()


def _is_meant(column: Var) -> bool:
    """Whether a column was made of a row on purpose."""
    node = column._node
    return node is not None and node.op.name == "reshape" and len(node.metas[0][0]) == 1


class InitialLoss(Rule):
    """The first loss of a classifier is far above that of a guess."""

    name = "initial-loss"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._known: set[tuple[str, int]] = set()

    def loss(self, call: LossCall) -> None:
        site = call.place[:2]
        if call.name != "cross_entropy" or site in self._known or not grad_enabled.get() or call.input.ndim != 2:
            return
        self._known.add(site)
        classes = call.input.shape[1]
        if not _has_ids(call) or classes < 2 or self.watch.steps:
            return
        loss, guess = _cross_entropy(values(call.input), values(call.target)), math.log(classes)
        if loss > INITIAL_FACTOR * guess + INITIAL_ROOM:
            self.say(f"the first loss is {loss:.3g}; a guess among {classes} classes would have ln {classes} = "
                     f"{guess:.3g}. The scores are as large as {np.abs(values(call.input)).max():.3g} before anything "
                     "was learned.",
                     "normalise the inputs, and let the weights of the last layer start smaller.", call.place)


class LossRises(Rule):
    """The loss of a classifier rises above that of a guess, and stays there."""

    name = "loss-rises"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._first: dict[Place, float] = {}  # by line
        self._above: Counter[Place] = Counter()  # how many losses in a row were so high

    def loss(self, call: LossCall) -> None:
        if call.name != "cross_entropy" or not _has_ids(call) or call.input.ndim != 2 or not call.input._requires_grad:
            return
        loss, classes = _cross_entropy(values(call.input), values(call.target)), call.input.shape[1]
        first, guess = self._first.setdefault(call.place, loss), math.log(max(classes, 2))
        is_high = loss > max(RISING_FACTOR * first, guess)
        self._above[call.place] = self._above[call.place] + 1 if is_high else 0
        if self._above[call.place] == RISING_LOSSES:
            self.say(f"the loss has risen from {first:.3g} to {loss:.3g}, and was as high {RISING_LOSSES} times in a "
                     f"row; a guess among {classes} classes has {guess:.3g}.",
                     "lower the learning rate, tenfold to begin with, or clip the gradients "
                     "(nn.utils.clip_grad_norm_).", call.place)


def _has_ids(call: LossCall) -> bool:
    """Whether the target is a class for each sample, not its probabilities."""
    return call.target.array.dtype.kind in "iu" and call.target.shape == call.input.shape[:1]


def _cross_entropy(scores: np.ndarray, target: np.ndarray) -> float:
    """The mean over samples whose target is a class; 0 without any."""
    kept = (target >= 0) & (target < scores.shape[1])
    scores, target = scores[kept].astype(np.float64), target[kept]
    if not len(target) or not np.isfinite(scores).all():
        return 0.0
    top = scores.max(1)
    chosen = scores[np.arange(len(target)), target]
    return float(np.mean(np.log(np.exp(scores - top[:, None]).sum(1)) + top - chosen))


class ConstantOutput(Rule):
    """The model says the same about every sample."""

    name = "constant-output"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._count: Counter[Place] = Counter()

    def loss(self, call: LossCall) -> None:
        if not (self.watch.is_looking and grad_enabled.get() and call.input._requires_grad):
            return
        is_constant = _is_constant(call.input) and self._inputs_differ(len(call.input))
        self._count[call.place] = self._count[call.place] + 1 if is_constant else 0
        if self._count[call.place] == CONSTANT_CALLS:
            self.say(f"the output is the same for all {len(call.input)} samples of a batch, {CONSTANT_CALLS} steps in "
                     "a row: it does not depend on the input.",
                     "look for dead ReLUs, saturated activations, a layer that is never used or a learning rate that "
                     "has driven the weights away.", call.place)

    def _inputs_differ(self, samples: int) -> bool:
        argument = self.watch.argument
        if argument is None or not argument.ndim or len(argument) != samples:
            return False
        found = values(argument).reshape(samples, -1)
        return bool((found != found[:1]).any())


def _is_constant(output: Tensor) -> bool:
    if output.ndim == 0 or len(output) < 2:
        return False
    found = values(output).reshape(len(output), -1)
    spread = np.ptp(found, axis=0).max(initial=0.0)
    return bool(spread <= CONSTANT_SPREAD * np.abs(found).max(initial=0.0))
