"""Rules about the order of a training loop: zero_grad, backward, step."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final

from ....autograd.mode import grad_enabled
from ....autograd.tape import Node, Var
from ....optim import Optimizer
from ....tensor import Tensor
from ..numbers import values
from ..places import LossCall, Place
from ..report import ERROR, NOTE, WARNING
from ..watch import OpCall, Rule, Step

# Once may be the habit of calling optimizer.step() before the loop, to quiet a scheduler; twice is the loop itself.
EMPTY_STEPS: Final = 2

# A sum of a few losses is a loss of several parts; one that grows by a finished step each time keeps their graphs.
KEPT_STEPS: Final = 3


class NoZeroGrad(Rule):
    """Gradients of a step are still there in the next one, and add up."""

    name = "no-zero-grad"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._used: dict[int, tuple[weakref.ref[Var], Any, int]] = {}  # by leaf: the gradient that a step used
        self._stale: dict[int, Any] = {}  # by leaf: a gradient to which more was added after a step had used it

    def arriving(self, leaves: Iterable[Var]) -> None:
        for leaf in leaves:
            grad, used = leaf._grad, self._used.get(id(leaf))
            if grad is None or self._stale.get(id(leaf)) is not grad:
                self._stale.pop(id(leaf), None)
            if grad is None:
                continue
            if not values(grad).any():
                self._stale.pop(id(leaf), None)
            elif used is not None and used[0]() is leaf and used[1]() is grad and used[2] == grad._shared_version()[0]:
                self._stale[id(leaf)] = grad

    def before_step(self, step: Step) -> None:
        grads = [p._grad for p in step.parameters if p._grad is not None]
        stale = [p for p in step.parameters if p._grad is not None and self._stale.get(id(p)) is p._grad]
        if stale:
            self.say(f"the gradients of {len(stale)} of {len(grads)} parameters still hold those of the step before: "
                     "backward() has added to them.",
                     "call optimizer.zero_grad() in each step, before loss.backward().", step.place)

    def after_step(self, step: Step) -> None:
        for p in step.parameters:
            self._stale.pop(id(p), None)
            if p._grad is not None:
                self._used[id(p)] = weakref.ref(p), weakref.ref(p._grad), p._grad._shared_version()[0]


class StepWithoutGradient(Rule):
    """optimizer.step() finds no gradient: backward came later, or zero_grad() in between."""

    name = "step-without-gradient"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._arrived: set[int] = set()  # leaves by id, since the last step
        self._erased: dict[int, Place] = {}
        self._empty: Counter[int] = Counter()

    def arrived(self, leaves: Iterable[Var]) -> None:
        self._arrived.update(map(id, leaves))
        for leaf in leaves:
            self._erased.pop(id(leaf), None)

    def zero_grad(self, owner: Any, parameters: list[Tensor], place: Place) -> None:
        for p in parameters:
            if id(p) in self._arrived:
                self._arrived.discard(id(p))
                self._erased[id(p)] = place

    def before_step(self, step: Step) -> None:
        has_gradient = any(p._grad is not None and values(p._grad).any() for p in step.parameters)
        erased = next((self._erased[id(p)] for p in step.parameters if id(p) in self._erased), None)
        strangers = bool(self._arrived) and erased is None  # gradients of parameters that it does not hold
        if not has_gradient and not strangers:
            self._empty[id(step.optimizer)] += 1
            if self._empty[id(step.optimizer)] == EMPTY_STEPS:
                self._report(step, erased)
        for p in step.parameters:
            self._arrived.discard(id(p))
            self._erased.pop(id(p), None)

    def _report(self, step: Step, erased: Place | None) -> None:
        why = (f"zero_grad() at line {erased.line} erased them after backward()" if erased else
               "there was no backward() since the step before")
        self.say(f"{type(step.optimizer).__name__}.step() found no gradient in any of its {len(step.parameters)} "
                 f"parameters, {EMPTY_STEPS} times: {why}.",
                 "keep the order optimizer.zero_grad(), loss.backward(), optimizer.step().", step.place)


class NeverStepped(Rule):
    """A loop in which one of the three calls is missing altogether."""

    name = "never-stepped"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._zeroed: list[Place] = []
        self._losses = 0

    def zero_grad(self, owner: Any, parameters: list[Tensor], place: Place) -> None:
        if isinstance(owner, Optimizer):  # with model.zero_grad() a program may take its steps by hand
            self._zeroed.append(place)

    def loss(self, call: LossCall) -> None:
        self._losses += grad_enabled.get() and call.input._requires_grad

    def end(self) -> None:
        if len(self._zeroed) < EMPTY_STEPS or self.watch.optimizers:
            return
        if self.watch.backwards >= EMPTY_STEPS:
            self.say(f"there were {self.watch.backwards} backward passes and {len(self._zeroed)} calls of zero_grad(), "
                     "but optimizer.step() was never called: nothing learns.",
                     "call optimizer.step() after loss.backward().", self._zeroed[-1])
        elif self._losses >= EMPTY_STEPS and not self.watch.backwards:
            self.say(f"{self._losses} losses were computed and gradients were reset, but backward() was never called.",
                     "call loss.backward(), then optimizer.step().", self._zeroed[-1])


class NewOptimizers(Rule):
    """An optimizer that is made anew for each step forgets its averages."""

    name = "new-optimizers"
    OPTIMIZERS: Final = 3  # one for each of a few stages of training is usual, but such a one takes many steps

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._place: Place | None = None

    def after_step(self, step: Step) -> None:
        self._place = step.place

    def end(self) -> None:
        single = [seen for seen in self.watch.optimizers if seen.steps == 1 and seen.keeps_averages]
        shared = Counter(key for seen in single for key in seen.held())
        most = max(shared.values(), default=0)
        if most >= self.OPTIMIZERS:
            self.say(f"{most} optimizers ({single[-1].name}) were made for the same parameters and took one step each: "
                     "momentum and averages begin at 0 in every step.",
                     "make the optimizer once, before the loop.", self._place, about="the loop")


class KeptGraph(Rule):
    """A running sum of losses that still have their graphs."""

    name = "kept-graph"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._finished: weakref.WeakSet[Node] = weakref.WeakSet()  # losses of which backward is done
        self._terms: weakref.WeakKeyDictionary[Node, int] = weakref.WeakKeyDictionary()

    def backward(self, roots: list[Tensor], is_kept: bool) -> None:
        if not is_kept:
            self._finished.update(root._node for root in roots if root._node is not None)

    def op(self, call: OpCall) -> None:
        node = getattr(call.out, "_node", None)
        if node is None or not call.is_outside:
            return
        parents = [parent for parent in node.parents if isinstance(parent, Node)]
        finished = [parent for parent in parents if parent in self._finished]
        terms = sum(self._terms.get(parent, 0) for parent in parents)
        if call.op == "add" and (finished or terms):
            self._terms[node] = terms + len(finished)
            if self._terms[node] == KEPT_STEPS:
                self.say(f"a sum has grown to {KEPT_STEPS} losses of which backward() is done, each with its graph: "
                         "memory grows in every step.",
                         "add up loss.item(), or loss.detach() where the number is needed later only.", call.place)
        elif finished:
            self._finished.add(node)


class NotShuffled(Rule):
    """Classes come one after the other, or batches in the same order in each epoch."""

    name = "not-shuffled"
    severity = NOTE

    # A batch of 8 of one class by chance: 1 in 128 even of two classes, so five in a row are sorted data.
    SMALLEST_BATCH: Final = 8
    BATCHES: Final = 5
    SHORTEST_EPOCH: Final = 4  # a few batches kept in a list, over and over, are an experiment, not an epoch

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._classes: dict[Place, deque[int | None]] = {}  # of the last batches; None for one of several
        self._known: dict[Place, set[int]] = {}
        self._order: dict[Place, _Order] = {}

    def loss(self, call: LossCall) -> None:
        if call.name not in ("cross_entropy", "nll_loss") or not grad_enabled.get() or not self.watch.is_looking:
            return
        target = values(call.target)
        argument = self.watch.argument
        if target.ndim != 1 or target.dtype.kind not in "iu" or argument is None or len(argument) != len(target):
            return
        if len(target) >= self.SMALLEST_BATCH:
            self._sorted(call, target)
            self._repeated(call, hash((target.tobytes(), values(argument).tobytes())))

    def _sorted(self, call: LossCall, target: Any) -> None:
        classes = self._classes.setdefault(call.place, deque(maxlen=self.BATCHES))
        known = self._known.setdefault(call.place, set())
        classes.append(int(target[0]) if (target == target[0]).all() else None)
        known.update(c for c in classes if c is not None)
        if len(classes) == self.BATCHES and None not in classes and len(known) > 1:
            self.say(f"each of {self.BATCHES} batches in a row holds samples of one class only: the data is sorted, "
                     "and each step unlearns what the others have learned.",
                     "shuffle: DataLoader(dataset, batch_size, shuffle=True).", call.place, severity=WARNING,
                     about="sorted")

    def _repeated(self, call: LossCall, total: int) -> None:
        epoch = self._order.setdefault(call.place, _Order()).add(total)
        if epoch >= self.SHORTEST_EPOCH:
            self.say(f"the same {epoch} batches came in the same order in two epochs.",
                     "shuffle: DataLoader(dataset, batch_size, shuffle=True).", call.place, about="repeated")


class _Order:
    """A sequence of numbers, in which a stretch that comes twice in a row is looked for as it grows."""

    def __init__(self) -> None:
        self.count = 0
        self._last: dict[int, int] = {}  # by number: where it came last
        self._distance = self._same = 0  # to the one before of the same number, for how many in a row

    def add(self, number: int) -> int:
        """The length of the stretch that has come twice now, or 0."""
        distance = self.count - self._last.get(number, self.count)
        self._same = self._same + 1 if distance and distance == self._distance else int(distance > 0)
        self._distance = distance
        self._last[number] = self.count
        self.count += 1
        return distance if distance and self._same >= distance else 0
