"""Optimizer kernels: one parameter and its state, updated in place by a rule of kernels/updates.cuh.

Contract: that of backends/cpu_optim.py, `kernel(param, grad, lr, *state, **options)`. The states come with the 0-d ones
first; None stands for one that the options do without. `RULES` says how a rule's struct is packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from ... import dtypes
from .. import NARROW, Array
from . import THREADS, Grid, Instance, KernelBackend, Launcher, Plan
from .layout import c_type, coalesce, dims_fields, element_strides, packed_dims

FILE = "optimizer.cu"
MAX_COUNTS = 3  # as in kernels/updates.cuh
MAX_STATES = 3

ALONE = 4096  # elements up to which one block does it all, since a launch more would take longer
MAX_BLOCKS = 4096  # beyond that, a block updates more elements, so that computing its constants stays cheap

_FLOATS = tuple(d for d in dtypes.ALL if d.is_floating_point)


@dataclass(frozen=True)
class Rule:
    """A struct of kernels/updates.cuh: its 0-d states, the others, and its fields: numbers, flags, flags of states.

    The last are set where the state at that place is not None.
    """

    name: str
    counts: int
    states: int
    numbers: tuple[str, ...]
    flags: tuple[str, ...] = ("maximize",)
    optional: tuple[int, ...] = ()

    @cached_property
    def chosen(self) -> itemgetter[str]:
        """A function: the values of numbers and flags among the options of a call."""
        return itemgetter(*self.numbers, *self.flags)

    @property
    def fields(self) -> str:
        return "d" * len(self.numbers) + "q" * (len(self.flags) + len(self.optional))


_BETAS = ("beta1", "beta2", "eps", "weight_decay")
_DECAYS = ("decoupled_weight_decay", "maximize")

RULES: dict[str, Rule] = {
    "sgd_step": Rule("SGD", 0, 1, ("momentum", "dampening", "weight_decay"), ("nesterov", "maximize"), (0,)),
    "adam_step": Rule("Adam", 1, 3, _BETAS, _DECAYS, (2,)),
    "rmsprop_step": Rule("RMSprop", 1, 3, ("alpha", "eps", "weight_decay", "momentum"), optional=(1, 2)),
    "adagrad_step": Rule("Adagrad", 1, 1, ("lr_decay", "eps", "weight_decay")),
    "adadelta_step": Rule("Adadelta", 1, 2, ("rho", "eps", "weight_decay")),
    "adamax_step": Rule("Adamax", 1, 2, _BETAS),
    "nadam_step": Rule("NAdam", 2, 2, (*_BETAS, "momentum_decay"), _DECAYS),
    "radam_step": Rule("RAdam", 1, 2, _BETAS, _DECAYS),
    "rprop_step": Rule("Rprop", 1, 2, ("eta_minus", "eta_plus", "step_min", "step_max")),
    "asgd_step": Rule("ASGD", 3, 1, ("lambd", "alpha", "t0", "weight_decay")),
    "lion_step": Rule("Lion", 0, 1, ("beta1", "beta2", "weight_decay"), ()),
    "muon_momentum": Rule("MuonMomentum", 0, 1, ("momentum",), ("nesterov",)),
    "muon_apply": Rule("MuonApply", 0, 1, ("weight_decay", "ratio"), ()),
}


class _Update(NamedTuple):
    """The launch that updates the elements, and the function that advances the 0-d states after it, if needed."""

    plan: Plan
    advance: Any


def update(backend: KernelBackend, kernel: str, param: Array, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """One step of a rule: `param` and the states change."""
    rule = RULES[kernel]
    scalars = args[1:2 + rule.counts]  # the learning rate and the 0-d states
    arrays = (param, args[0], *args[2 + rule.counts:])
    chosen = rule.chosen(options)
    address = backend.address
    key: list[Any] = [kernel, chosen, param.dtype.char, param.shape]
    pointers: list[int] = []
    together = 0
    for array in arrays:
        if array is None:
            key.append(None)
            pointers.append(0)
        else:
            key.append(array.strides)
            pointer = address(array)
            together |= pointer
            pointers.append(pointer)
    aligned = together % 16 == 0
    key.append(aligned)
    known = tuple(key)
    found = backend.plans.get(known)
    if found is None:
        found = backend.remember(known, _plan(backend, kernel, arrays, chosen, aligned))
    pointers += (0,) * (MAX_STATES - rule.states)
    pointers += [address(scalar) for scalar in scalars]
    pointers += (0,) * (MAX_COUNTS - rule.counts)
    plan, advance = found
    backend.start(plan, (param, *args), *pointers)
    if advance is not None:
        backend.launch(advance, (1, 1, 1), (1, 1, 1), 0, plan.arguments, (param, *args))


def _plan(backend: KernelBackend, kernel: str, arrays: tuple[Array, ...], chosen: tuple[Any, ...],
          aligned: bool) -> _Update:
    """The plan for arrays (param, grad and states) of these layouts."""
    rule, param = RULES[kernel], arrays[0]
    shape = param.shape if param.size else ()  # of an empty parameter only the 0-d states change
    operands = arrays + (None,) * (2 + MAX_STATES - len(arrays))
    sizes, steps = coalesce(shape, *[element_strides(a, shape) if a is not None and shape else (0,) * len(shape)
                                     for a in operands])
    held = {step for step, a in zip(steps[0], operands, strict=True) if a is not None}
    is_vectorised = aligned and len(sizes) == 1 and (param.size < 2 or held == {1})
    wide = 4 if param.dtype.char in NARROW else param.dtype.itemsize
    grid = _grid(param.size, 16 // wide if is_vectorised else 1)
    expression = _expression("vectorised" if is_vectorised else "strided", rule, c_type(param.dtype))
    changing = "P" * (2 + MAX_STATES + 1 + MAX_COUNTS)
    values = [param.size, *packed_dims(kernel, sizes, steps), *chosen,
              *[operands[2 + place] is not None for place in rule.optional]]
    plan = backend.plan(Instance(FILE, expression), changing, f"q{dims_fields(2 + MAX_STATES)}{rule.fields}", values,
                        grid, (THREADS, 1, 1), siblings=_all_expressions())
    if grid[0] == 1 or not rule.counts:
        return _Update(plan, None)
    return _Update(plan, backend.function(Instance(FILE, _advance(rule)), _all_expressions()))


def _grid(size: int, per_thread: int) -> Grid:
    """As many blocks as there is work for, within limits."""
    if size <= ALONE:
        return 1, 1, 1
    return min(-(-size // (per_thread * THREADS)), MAX_BLOCKS), 1, 1


def _expression(template: str, rule: Rule, dtype: str) -> str:
    return f"{template}<updates::{rule.name}, {dtype}>"


def _advance(rule: Rule) -> str:
    return f"advance<updates::{rule.name}>"


@cache
def _all_expressions() -> tuple[str, ...]:
    """All instances: where compiling one costs as much as many, they are compiled in one go."""
    return tuple(instance.expression for instance in instances())


TABLE: dict[str, Launcher] = {kernel: update for kernel in RULES if kernel.endswith("_step")}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for rule in RULES.values():
        for dtype in _FLOATS:
            for template in ("vectorised", "strided"):
                yield Instance(FILE, _expression(template, rule, dtype.c_type))
        if rule.counts:
            yield Instance(FILE, _advance(rule))
