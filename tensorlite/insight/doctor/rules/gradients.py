"""Rules about sizes in a step: of gradients by layer, and of what the optimizer adds to the parameters."""

from __future__ import annotations

import math
import weakref
from typing import Any, Final

from ....optim import Optimizer
from ....tensor import Tensor
from ..places import Place
from ..report import ERROR
from ..watch import Change, Rule, SeenOptimizer, Step

# A layer's gradient (root mean square) against that of the layer where it is largest. Healthy networks of any depth
# keep within a few hundredths, embeddings of rare words within a thousandth; ten sigmoids reach 1e-8. What gets exactly
# none in its first step lies behind a layer that starts at zero, and comes to life with that.
VANISHING: Final = 1e-6
VANISHING_STEPS: Final = 3

# Length of the gradient against that of the parameters. Losses that are sums over a batch of images reach 1e3.
EXPLODING: Final = 1e5
EXPLODING_FOR_ANY: Final = 1e7  # whatever the optimizer makes of it: float32's squares overflow soon

# A step against the weights with which training began. 1e-3 is usual, Adam at 1e-2 reaches 0.5; above 1, kept up over
# steps, each one throws away what the weights were. Below float32's rounding, in all steps, nothing changes at all.
STEP_TOO_LARGE: Final = 1.0
STEP_TOO_SMALL: Final = 1e-7
GRADIENT_THAT_COUNTS: Final = 1e-3  # of the parameter's length: otherwise it is the loss that is at its end
RATE_STEPS: Final = 5
SMALL_STEPS: Final = 10  # a warm-up starts at 0


def _is_matrix(change: Change) -> bool:
    """Whether it is of a layer's weight with several inputs and outputs: biases and scales follow other rules."""
    shape = change.parameter.shape
    return len(shape) > 1 and shape[0] > 1 and math.prod(shape[1:]) > 1


def _size(change: Change) -> float:
    return change.grad / math.sqrt(max(change.parameter.numel(), 1))


class Vanishing(Rule):
    """Some layers get next to no gradient, while others get one."""

    name = "vanishing-gradients"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._largest: dict[str, float] = {}  # by parameter: its share of the largest, in its best step
        self._steps: dict[str, int] = {}
        self._sleeping: set[str] = set()  # those without any gradient in their first step
        self._best: tuple[str, float] = "", 0.0
        self._place: Place | None = None

    def after_step(self, step: Step) -> None:
        sizes = {change.name: _size(change) for change in step.changes if _is_matrix(change)}
        top = max(sizes.values(), default=0.0)
        if not 0 < top < math.inf or step.is_skipped:
            return
        self._place = step.place
        self._best = max(sizes.items(), key=lambda item: item[1])
        for name, size in sizes.items():
            if name not in self._steps and not size:
                self._sleeping.add(name)
            self._largest[name] = max(self._largest.get(name, 0.0), size / top)
            self._steps[name] = self._steps.get(name, 0) + 1

    def end(self) -> None:
        weak = {name: share for name, share in self._largest.items()
                if share < VANISHING and self._steps[name] >= VANISHING_STEPS and name not in self._sleeping}
        if weak:
            listed = ", ".join(f"{name} ({share:.1g})" for name, share in list(weak.items())[:3])
            more = f" and {len(weak) - 3} more" if len(weak) > 3 else ""
            self.say(f"the gradients of {listed}{more} never reached {VANISHING:g} of the gradient of {self._best[0]} "
                     f"(root mean square {self._best[1]:.2g}); in brackets, their share of it at best.",
                     "use ReLU or GELU instead of sigmoid and tanh between layers, normalisation layers, residual "
                     "connections (x + layer(x)), or fewer layers.", self._place)


class Exploding(Rule):
    """Gradients that are longer than the parameters by orders of magnitude."""

    name = "exploding-gradients"

    def after_step(self, step: Step) -> None:
        changes = [change for change in step.changes if _is_matrix(change)]
        grad, before, update = (math.hypot(*[getattr(change, field) for change in changes])
                                for field in ("grad", "before", "update"))
        if step.is_skipped or not before or not math.isfinite(grad):
            return
        if grad > EXPLODING_FOR_ANY * before or (grad > EXPLODING * before and update > 0.1 * before):
            top = sorted(changes, key=lambda change: -change.grad)[:3]
            layers = ", ".join(f"{change.name} {change.grad:.2g}" for change in top)
            self.say(f"the gradient is {grad:.2g} long, the parameters {before:.2g}; longest: {layers}.",
                     "clip it before the step: nn.utils.clip_grad_norm_(model.parameters(), 1.0); normalise inputs and "
                     "targets, and let the weights start smaller.", step.place)


class LearningRate(Rule):
    """Steps that are as long as the weights, or shorter than their last digit."""

    name = "learning-rate"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._began: dict[int, tuple[weakref.ref[Tensor], float]] = {}  # by parameter: its length when first seen
        self._ratios: dict[SeenOptimizer, list[tuple[float, float]]] = {}  # of updates, and of gradients
        self._last: dict[SeenOptimizer, tuple[str, float, Place]] = {}  # the settings in words, the rate, and where

    def after_step(self, step: Step) -> None:
        changes = [change for change in step.changes if _is_matrix(change)]
        began = math.hypot(*[self._length_at_first(change) for change in changes])
        before, update, grad = (math.hypot(*[getattr(change, field) for change in changes])
                                for field in ("before", "update", "grad"))
        count = sum(change.parameter.numel() for change in changes)
        if step.is_skipped or began <= 1e-4 * math.sqrt(count) or not math.isfinite(update) or not before:
            return
        optimizer = self.watch.seen(step.optimizer)
        self._ratios.setdefault(optimizer, []).append((update / began, grad / before))
        self._last[optimizer] = rate_of(step.optimizer), _rate(step.optimizer), step.place

    def _length_at_first(self, change: Change) -> float:
        known = self._began.get(id(change.parameter))
        if known is None or known[0]() is not change.parameter:
            known = self._began[id(change.parameter)] = weakref.ref(change.parameter), change.before
        return known[1]

    def end(self) -> None:
        for optimizer, ratios in self._ratios.items():
            settings, rate, place = self._last[optimizer]
            updates = sorted(update for update, _ in ratios)
            middle = updates[len(updates) // 2]
            if len(ratios) >= RATE_STEPS and middle >= STEP_TOO_LARGE:
                self.say(f"a step changes the weights by {middle:.2g} times their initial length (median of "
                         f"{len(ratios)} steps of {settings}); about 0.001 is usual.",
                         f"lower the learning rate, to about {_suggested(rate, ratios[0][0]):.1g}.", place)
            small = all(update < STEP_TOO_SMALL and grad > GRADIENT_THAT_COUNTS for update, grad in ratios)
            if len(ratios) >= SMALL_STEPS and small:
                self.say(f"in {len(ratios)} steps of {settings} none changed the weights by more than "
                         f"{updates[-1]:.2g} of their length, less than float32 can hold, though there are gradients.",
                         "raise the learning rate; about 0.001 of the weights' length in a step is usual.", place)


def rate_of(optimizer: Optimizer) -> str:
    """An optimizer's class and rate: "SGD with lr=0.1"."""
    return f"{type(optimizer).__name__} with lr={_rate(optimizer):g}"


def _rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _suggested(rate: float, first: float) -> float:
    """The rate at which the first step, before anything had grown, would have been a usual one."""
    return rate * 1e-3 / max(first, 1e-2)
