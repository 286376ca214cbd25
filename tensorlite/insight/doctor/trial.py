"""`check`: some steps on one batch, with copies of model and optimizer, and whether that batch can be learned.

Contract. Model, buffers, gradients, optimizer, generators and modes are afterwards what they were, bit for bit: all
steps are taken by copies, on drawn numbers that are then put back.
"""

from __future__ import annotations

import contextlib
import copy
import random as python_random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from ... import backends, random
from ...autograd.mode import enable_grad
from ...errors import ArgumentError, DTypeError, TensorliteError
from ...nn import Module
from ...optim import Adam, Optimizer
from ...tensor import Tensor
from . import instruments
from .errors import explain
from .numbers import norm, values
from .places import Place, locate
from .report import ERROR, WARNING, Finding, Report
from .rules import RULES
from .rules.gradients import LearningRate, rate_of
from .watch import Watch

CANNOT_OVERFIT: Final = "cannot-overfit"

# A network that can learn at all halves the loss on one batch in a hundred steps of Adam; even four neurons get random
# labels of 200 samples to 0.9 of it. What can do no better than to guess stays above 0.96.
LEARNED: Final = 0.95
BROUGHT_NOTHING: Final = 0.999  # SGD at 0.01, a usual first try, gets to 0.99 in 50 steps where it is slowest
RATES: Final = (1e-3, 1e-2)  # tried with Adam, if the optimizer given does not get there

# Gradient times parameters, against the loss: where it is this small the model has come to its end on this batch.
SETTLED: Final = 1e-3

Loss = Callable[..., Any]


def check(model: Module, loss_fn: Loss, batch: Any, optimizer: Optimizer | None = None, *, steps: int = 50,
          ignore: Iterable[str] = ()) -> Report:
    """Look for what is wrong with a training set-up, by `steps` steps on one batch, with copies of model and optimizer.

    batch      (x, y), for which the loss is `loss_fn(model(x), y)`; of more, all but the last go into the model; of a
               single tensor x it is `loss_fn(model(x))`; of a loss for each sample the mean is taken
    optimizer  whose settings to try; without one Adam at 1e-3, and rules about optimizers are left out
    ignore     names of rules that are not wanted; docs/doctor.md lists them

    Nothing is changed, neither model nor optimizer nor the state of random numbers. An error of the library becomes a
    finding. Raises ArgumentError for an unknown rule, a bad number of steps, arguments that are no model, loss function
    or optimizer, or a model that cannot be copied.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    >>> report = tl.doctor.check(model, F.cross_entropy, (tl.randn(8, 4), tl.randint(0, 3, (8,))))
    >>> report.ok, [finding.rule for finding in report]
    (False, ['activation-before-loss'])
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ArgumentError(f"doctor.check: steps must be a positive integer, got {steps!r}")
    if not isinstance(model, Module) or not callable(loss_fn) or not isinstance(optimizer, Optimizer | None):
        raise ArgumentError("doctor.check(model, loss_fn, batch, optimizer): expected a module, a function, a batch, "
                            "and an optimizer that was made or None; got "
                            f"model {_kind(model)}, loss_fn {_kind(loss_fn)}, batch {_kind(batch)}, "
                            f"optimizer {_kind(optimizer)}")
    ignored = known_rules(ignore)
    place, _ = locate("")
    with _undisturbed(model):
        trial = _Trial(model, loss_fn, batch, optimizer)
        watch = Watch([rule for rule in RULES if rule.name not in ignored], every=1)
        report = _watched(trial, watch, steps, place)
        if CANNOT_OVERFIT not in ignored and report.ok:
            found = _overfit(trial, model, loss_fn, batch, steps, place)
            if found is not None and found.rule not in ignored:
                report = Report([*report.findings, found], report.looked_at)
    return report


def _kind(given: object) -> str:
    """What an argument is, in a word or two."""
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def known_rules(names: Iterable[str]) -> frozenset[str]:
    """The names as a set. Raises ArgumentError for one that is no rule's."""
    wanted = frozenset([names] if isinstance(names, str) else names)
    known = {rule.name for rule in RULES} | {CANNOT_OVERFIT}
    if unknown := sorted(wanted - known):
        raise ArgumentError(f"doctor: no rule is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return wanted


class _Trial:
    """Copies of a model, a loss and an optimizer, and steps on one batch."""

    def __init__(self, model: Module, loss_fn: Loss, batch: Any, optimizer: Optimizer | None,
                 lr: float = RATES[0]) -> None:
        try:
            self.model, self.loss_fn, given = copy.deepcopy((model, loss_fn, optimizer))
        except Exception as error:
            raise ArgumentError(f"doctor.check: the model or the optimizer cannot be copied ({error}); look at the "
                                "real loop instead: with tl.doctor(): ...") from error
        if not self.model.training:  # else parts of it may be in eval mode on purpose
            self.model.train()
        self.given: Optimizer | None = given
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = given if given is not None else Adam(parameters, lr=lr) if parameters else None
        self.batch = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        self.losses: list[float] = []
        self.reach = 0.0  # of the first gradient, against the loss

    def step(self) -> None:
        inputs, target = (self.batch[:-1], self.batch[-1:]) if len(self.batch) > 1 else (self.batch, ())
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        loss = self.loss_fn(self.model(*inputs), *target)
        if not isinstance(loss, Tensor):
            raise DTypeError(f"doctor.check: the loss must be a Tensor, got {type(loss).__name__}; return "
                             "what backward() can start from, not .item() or a tuple")
        loss = loss if loss.ndim == 0 else loss.mean()
        loss.backward()
        if not self.losses:
            self.reach = self._reach(float(loss.item()))
        self.losses.append(float(loss.item()))
        if self.optimizer is not None:
            self.optimizer.step()

    def _reach(self, loss: float) -> float:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        products = [norm(values(p.grad)) * norm(values(p)) for p in parameters if p.grad is not None]
        return sum(products) / max(abs(loss), 1e-30)

    def run(self, steps: int) -> float:
        """Take some steps, or fewer if the loss ends in NaN or inf; returns `share`."""
        for _ in range(steps):
            self.step()
            if not np.isfinite(self.losses[-1]):
                break
        return self.share()

    def share(self) -> float:
        """The best loss so far as a part of the first; 0 where that says nothing, since it is negative or NaN."""
        first = self.losses[0]
        return min(loss for loss in self.losses if np.isfinite(loss)) / first if 0 < first < np.inf else 0.0


def _watched(trial: _Trial, watch: Watch, steps: int, place: Place) -> Report:
    instruments.start(watch)
    failed = None
    try:
        trial.run(steps)
    except TensorliteError as error:
        failed = explain(error, place)
    finally:
        instruments.stop(watch)
    if failed is not None:
        watch.findings.append(failed)
    else:
        watch.tell("end")
    return watch.report("of Adam: no optimizer was given" if trial.given is None else "")


def _overfit(trial: _Trial, model: Module, loss_fn: Loss, batch: Any, steps: int, place: Place) -> Finding | None:
    """A finding, if neither the optimizer given nor Adam gets the loss of the batch down."""
    first, best = trial.losses[0], trial.share()
    if best <= LEARNED or trial.reach < SETTLED:
        return None
    tried = []
    for lr in RATES:
        share = _Trial(model, loss_fn, batch, None, lr).run(2 * steps)
        tried.append(f"Adam at {lr:g} to {share * first:.3g}")
        if share <= LEARNED:
            brought_nothing = trial.given is not None and best > BROUGHT_NOTHING
            return _other_rate(trial, steps, tried[-1], place) if brought_nothing else None
    return Finding(CANNOT_OVERFIT, ERROR,
                   f"the loss of this one batch, {first:.3g} at first, hardly falls: {', '.join(tried)}, in {2 * steps}"
                   " steps. A model that can learn learns one batch by heart.",
                   "look whether inputs differ where labels do and belong to each other, whether the loss measures "
                   "what the model computes, and whether the model has enough parameters.", place)


def _other_rate(trial: _Trial, steps: int, better: str, place: Place) -> Finding:
    assert trial.given is not None
    first = trial.losses[0]
    return Finding(LearningRate.name, WARNING,
                   f"{steps} steps of {rate_of(trial.given)} bring the loss of one batch from {first:.3g} to "
                   f"{trial.share() * first:.3g} at best, {better}.",
                   "try another learning rate: ten times as much, or a tenth.", place)


@contextlib.contextmanager
def _undisturbed(model: Module) -> Iterator[None]:
    """Put back what steps of copies can reach: generators, and gradients that a loss sends to the model itself."""
    states = random.default_states([backend.device for backend in backends.loaded()])
    python_state = python_random.getstate()
    numpy_state = np.random.get_state() if "numpy.random" in sys.modules else None
    parameters = [*model.parameters()]
    grads = [p._grad for p in parameters]
    try:
        for p in parameters:
            p._grad = None
        with enable_grad():
            yield
    finally:
        for p, grad in zip(parameters, grads, strict=True):
            p._grad = grad
        random.restore_default_states(states)
        python_random.setstate(python_state)
        if numpy_state is not None:
            np.random.set_state(numpy_state)
