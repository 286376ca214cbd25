"""One doctor's view of one thread: what happened, told to the rules.

Contract. instruments.py calls the methods of the Watch of its thread; a Watch keeps what several rules need and passes
each event on to the rules that have a method for it. A rule (class Rule) is a few such methods and what they find.
Rules read values on the host and never compute with tensors, so what they do is neither recorded nor seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

from ...autograd.mode import grad_enabled
from ...autograd.tape import Node, Var
from ...errors import TensorliteError
from ...nn import Module
from ...nn.tree import join
from ...optim import Optimizer
from ...tensor import Tensor
from ..module_names import ModuleNames
from .numbers import norm, values
from .places import LossCall, Place, locate
from .report import NOTE, WARNING, Finding, Report


class OpCall(NamedTuple):
    """A call of an operation in the forward pass; `training`: in a call that is recorded, of a model in train mode."""

    op: str
    inputs: tuple[Any, ...]
    out: Any
    place: Place
    training: bool

    @property
    def tensors(self) -> list[Tensor]:
        return [x for x in self.inputs if isinstance(x, Tensor)]

    @property
    def is_outside(self) -> bool:
        """Whether no module called it."""
        return not self.place.module


class Root:
    """A model: a module that was called from outside of modules, with what was seen of its calls."""

    def __init__(self, module: Module, label: str) -> None:
        self.ref = weakref.ref(module)
        self.label = label
        self.has_parameters = any(True for _ in module.parameters())
        self.recorded = 0  # calls with gradients
        self.training = module.training  # at the last of these
        self.place: Place | None = None  # and where that was

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters that a model has now, by their paths; none if the model is gone."""
        module = self.ref()
        for name, parameter in module.named_parameters() if module is not None else ():
            yield join(self.label, name), parameter


class SeenOptimizer:
    """An optimizer that took steps: its class, what it holds, and whether it keeps averages. It is not kept alive."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.ref = weakref.ref(optimizer)
        self.name = type(optimizer).__name__
        self.steps = 0
        self.keeps_averages = False
        self._parameters: list[weakref.ref[Tensor]] = []

    def look(self, optimizer: Optimizer) -> None:
        """Note what it holds now, after a step."""
        self._parameters = [weakref.ref(p) for p in parameters_of(optimizer)]
        self.keeps_averages = any(x.ndim for state in optimizer.state.values() for x in state.values()
                                  if isinstance(x, Tensor))

    def held(self) -> dict[int, Tensor]:
        """The parameters that it held and that are still there, by id."""
        return {id(p): p for ref in self._parameters if (p := ref()) is not None}


class RootCall(NamedTuple):
    """A call of a model from outside."""

    root: Root
    module: Module
    args: tuple[Any, ...]
    out: Any
    place: Place


class Change(NamedTuple):
    """What a step did to one parameter: lengths of its gradient, of itself before, and of the change."""

    name: str
    parameter: Tensor
    grad: float
    before: float
    update: float


class Step(NamedTuple):
    """A step of an optimizer; `changes` are known after it only."""

    optimizer: Optimizer
    place: Place
    parameters: list[Tensor]
    changes: list[Change]

    @property
    def is_skipped(self) -> bool:
        """Whether a GradScaler found inf or NaN, so that the step changes nothing."""
        found = self.optimizer._found_inf
        return found is not None and bool(values(found).any())


class Rule:
    """Something to look for. A subclass has a name, and methods for the events that it wants to hear of."""

    name: ClassVar[str]
    severity: ClassVar[str] = WARNING

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._said: set[Any] = set()

    def say(self, seen: str, fix: str, place: Place | None = None, *, about: Any = None,
            severity: str | None = None) -> None:
        """Report a finding; of those about the same thing (by default: the same line) only the first."""
        key = place if about is None else about
        if key not in self._said:
            self._said.add(key)
            self.watch.findings.append(Finding(self.name, severity or self.severity, seen, fix, place))

    def op(self, call: OpCall) -> None:
        """An operation was called in the forward pass."""

    def numbers(self, call: OpCall) -> None:
        """The same, in the steps in which values are looked at."""

    def loss(self, call: LossCall) -> None:
        """A loss function of nn.functional was called."""

    def model(self, call: RootCall) -> None:
        """A model was called, and has returned."""

    def rule(self, node: Node, g: Any, results: list[tuple[int, Any]]) -> None:
        """Backward went through an operation."""

    def arriving(self, leaves: Iterable[Var]) -> None:
        """Gradients are about to be added to `.grad` of these."""

    def arrived(self, leaves: Iterable[Var]) -> None:
        """They were added."""

    def backward(self, roots: list[Tensor], is_kept: bool) -> None:
        """A backward is complete; `is_kept`: its graph may be walked again."""

    def zero_grad(self, owner: Any, parameters: list[Tensor], place: Place) -> None:
        """An optimizer or a model, the owner, has dropped its gradients."""

    def before_step(self, step: Step) -> None:
        """An optimizer is about to change its parameters."""

    def after_step(self, step: Step) -> None:
        """It has."""

    def end(self) -> None:
        """The doctor leaves."""


_EVENTS = [name for name in vars(Rule) if not name.startswith("_") and name not in ("name", "severity", "say")]


class Watch:
    """What one doctor sees in one thread."""

    def __init__(self, rules: Iterable[type[Rule]], every: int) -> None:
        self.findings: list[Finding] = []
        self.every = every
        self.steps = 0
        self.backwards = 0
        self.hidden = 0  # above 0 nobody listens: in backward, and inside of operations
        self.roots: dict[int, Root] = {}
        self.optimizers: list[SeenOptimizer] = []
        self._optimizers: dict[int, SeenOptimizer] = {}  # the same, by id
        self.places: weakref.WeakKeyDictionary[Node, Place] = weakref.WeakKeyDictionary()
        self.captured: set[str] = set()  # the names of captured steps that were run as functions
        self.argument: Tensor | None = None  # the first of the model that was called last
        self._names = ModuleNames()
        self._modules: list[str] = []
        self._root: Root | None = None  # of the model that is being called
        listed = [rule(self) for rule in rules]
        self._listeners = {event: [rule for rule in listed if getattr(type(rule), event) is not getattr(Rule, event)]
                           for event in _EVENTS}

    def tell(self, event: str, *args: Any) -> None:
        """Tell the rules. One that fails is dismissed, and says so in the report: it must not end the training."""
        for rule in tuple(self._listeners[event]):
            try:
                getattr(rule, event)(*args)
            except TensorliteError:  # what the device had to tell about the program itself
                raise
            except Exception as error:
                self._dismiss(rule, error)

    def close(self) -> None:
        """Let go of what the rules hold of the program; what was found stays."""
        for listeners in self._listeners.values():
            listeners.clear()
        self.argument = None

    def _dismiss(self, rule: Rule, error: Exception) -> None:
        for listeners in self._listeners.values():
            if rule in listeners:
                listeners.remove(rule)
        rule.say(f"this rule failed and was left out from then on: {type(error).__name__}: {error}.",
                 "please report that; the program itself is not concerned.", severity=NOTE)

    # --- what the rules may ask ------------------------------------------------------------------------------------

    @property
    def is_looking(self) -> bool:
        """Whether values are looked at in this step."""
        return self.steps % self.every == 0

    @property
    def module(self) -> str:
        return self._modules[-1] if self._modules else ""

    @property
    def is_outside_models(self) -> bool:
        """Whether no module with parameters is being called: it may be one that computes a loss."""
        return self._root is None or not self._root.has_parameters

    def models(self) -> list[Root]:
        """The models with parameters that were called with gradients."""
        return [root for root in self.roots.values() if root.recorded and root.has_parameters]

    def held(self) -> dict[int, Tensor]:
        """The parameters of all optimizers that took a step, by id."""
        return {key: p for optimizer in self.optimizers for key, p in optimizer.held().items()}

    def seen(self, optimizer: Optimizer) -> SeenOptimizer:
        """What is known of an optimizer that takes a step."""
        known = self._optimizers.get(id(optimizer))
        if known is None or known.ref() is not optimizer:
            known = self._optimizers[id(optimizer)] = SeenOptimizer(optimizer)
            self.optimizers.append(known)
        return known

    def name_of(self, parameter: Var) -> str:
        """The path of a parameter in its model."""
        for root in self.roots.values():
            for name, other in root.parameters():
                if other is parameter:
                    return name
        return f"a parameter of shape {tuple(parameter.array.shape)}"

    def is_argument(self, x: Tensor) -> bool:
        """Whether a tensor is what the model was called with, or a view of that."""
        return self.argument is not None and (x is self.argument or x._base is self.argument)

    def report(self, remark: str = "") -> Report:
        """What was found so far; a remark says more about how it was looked for."""
        remarks = [remark] if remark else []
        if self.captured:
            names = ", ".join(sorted(self.captured))
            remarks.append(f"captured: {names}; run as ordinary functions, not replayed, to be seen")
        looked_at = f"{self.steps} step{'s' if self.steps != 1 else ''}"
        return Report(list(self.findings), " ".join([looked_at, *(f"({said})" for said in remarks)]))

    # --- what instruments.py calls -----------------------------------------------------------------------------------

    def before_operation(self) -> Place:
        place, loss = locate(self.module)
        if loss is not None:
            self.tell("loss", loss)
        return place

    def after_operation(self, name: str, inputs: tuple[Any, ...], out: Any, place: Place) -> None:
        if isinstance(out, Tensor) and out._node is not None:
            self.places[out._node] = place
        call = OpCall(name, inputs, out, place, self._is_training())
        self.tell("op", call)
        if self.is_looking:
            self.tell("numbers", call)

    def _is_training(self) -> bool:
        return grad_enabled.get() and (self._root is None or self._root.training)

    def enter(self, module: Module, args: tuple[Any, ...]) -> Place | None:
        """A module is called; the place, if that is done from outside of modules."""
        is_root = not self._modules
        place = locate("")[0] if is_root else None
        self._modules.append(self._names.path(module, self.module))
        if is_root:
            self._root = self.roots.get(id(module))
            if self._root is None or self._root.ref() is not module:
                self._root = self.roots[id(module)] = Root(module, self.module)
            if not self.is_outside_models:
                self.argument = next((x for x in args if isinstance(x, Tensor)), None)
            if grad_enabled.get():
                self._root.recorded += 1
                self._root.training, self._root.place = module.training, place
        return place

    def leave(self, module: Module, args: tuple[Any, ...], out: Any, place: Place | None) -> None:
        self._modules.pop()
        root, self._root = self._root, self._root if self._modules else None
        if place is not None and root is not None:
            self.tell("model", RootCall(root, module, args, out, place))

    def fail(self) -> None:
        """An error leaves the module that is being called."""
        self._modules.pop()
        if not self._modules:
            self._root = None

    def start_step(self, optimizer: Optimizer, place: Place) -> tuple[Step, list[Any]]:
        seen = self.seen(optimizer)
        seen.steps += 1
        seen.look(optimizer)
        step = Step(optimizer, place, parameters_of(optimizer), [])
        self.tell("before_step", step)
        before = [values(p).copy() if p._grad is not None else None for p in step.parameters] if self.is_looking else []
        return step, before

    def end_step(self, step: Step, before: list[Any]) -> None:
        names = {id(p): name for root in self.roots.values() for name, p in root.parameters()}
        for p, old in zip(step.parameters, before, strict=False):
            if old is not None and p._grad is not None:
                name = names.get(id(p), f"a parameter of shape {tuple(p.shape)}")
                grad, update = norm(values(p._grad)), norm(values(p) - old)
                step.changes.append(Change(name, p, grad, norm(old), update))
        self.seen(step.optimizer).look(step.optimizer)
        self.tell("after_step", step)
        self.steps += 1


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
