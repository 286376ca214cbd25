"""Optimizer kernels: many parameters and their state, updated in place by a rule of kernels/updates.cuh.

Contract: that of backends/cpu_optim.py, `kernel(params, grads, lr, *state, skip=None, **options)`. The states come with
the 0-d ones first; None stands for one that the options do without. `RULES` says how a rule's struct is packed.

Parameters whose arrays are dense share a launch, any other has one for itself. Parameters that overlap in memory are
updated one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from ... import dtypes
from .. import NARROW, Array
from . import THREADS, WARP, Instance, KernelBackend, Launcher, Plan, segments
from .layout import c_type, dims_fields, packed_dims

FILE = "optimizer.cu"

ALONE = 4096  # elements up to which one block does it all, since a launch more would take longer

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

    @property
    def arrays(self) -> int:
        """The operands with the parameter's shape: parameter, gradient and states."""
        return 2 + self.states

    @property
    def rooms(self) -> tuple[int, int]:
        """How many parameters a launch holds."""
        return segments.capacities(self.arrays + self.counts)

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


Arrays = tuple[Array, ...]
Operands = Sequence[Arrays | None]  # each a tuple with an array per parameter; None: done without


class _Part(NamedTuple):
    """A launch, the parameters that it updates, and the function that advances their 0-d states afterwards, if any."""

    plan: Plan
    numbers: Sequence[int]
    advance: Any


class _Update(NamedTuple):
    """The launches for parameters of these layouts, if the parameters lie apart."""

    apart: segments.Apart
    parts: list[_Part]


def update(backend: KernelBackend, kernel: str, params: Arrays, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """One step of a rule: `params` and the states change, unless `skip` is not 0."""
    if not params:
        return
    rule, (grads, rate, *rest) = RULES[kernel], args
    operands = [params, grads, *rest[rule.counts:], *rest[:rule.counts]]
    chosen = rule.chosen(options)
    layouts = [None if arrays is None else tuple([a.strides for a in arrays]) for arrays in operands[:rule.arrays]]
    key = (kernel, chosen, params[0].dtype.char, tuple([a.shape for a in params]), *layouts)
    found = backend.plans.get(key)
    if found is None:
        parts = list(_parts(backend, kernel, operands, chosen))
        found = backend.remember(key, _Update(segments.Apart(params), parts))
    pointers = [None if arrays is None else list(map(backend.address, arrays)) for arrays in operands]
    if not found.apart.at(pointers[0]):
        for i in range(len(params)):
            each = [arrays and (arrays[i],) for arrays in (params, grads, *rest)]
            update(backend, kernel, each[0], (each[1], rate, *each[2:]), options)
        return
    skip = options.get("skip")
    fixed = (backend.address(rate), 0 if skip is None else backend.address(skip))
    touched = (params, *args, skip)
    for plan, numbers, advance in found.parts:
        backend.start(plan, touched, *fixed, *[held[i] for held in pointers if held is not None for i in numbers])
        if advance is not None:
            backend.launch(advance, (1, 1, 1), (WARP, 1, 1), 0, plan.arguments, touched)


def _parts(backend: KernelBackend, kernel: str, operands: Operands, chosen: tuple[Any, ...]) -> Iterator[_Part]:
    """The launches for these parameters: dense ones together, each of the others by itself."""
    rule = RULES[kernel]
    dense: list[int] = []
    for i in range(len(operands[0] or ())):
        if segments.is_flat(_arrays_of(rule, operands, i)):
            dense.append(i)
        else:
            yield _strided(backend, kernel, operands, chosen, i)
    for room, numbers in segments.batches(dense, rule.rooms):
        yield _dense(backend, kernel, operands, chosen, numbers, room)


def _arrays_of(rule: Rule, operands: Operands, number: int) -> list[Array]:
    """The arrays of one parameter, None for a state that it does without."""
    return [None if held is None else held[number] for held in operands[:rule.arrays]]


def _dense(backend: KernelBackend, kernel: str, operands: Operands, chosen: tuple[Any, ...], numbers: Sequence[int],
           room: int) -> _Part:
    rule, params = RULES[kernel], operands[0] or ()
    counts = [params[i].size for i in numbers]
    width = 16 // (4 if params[0].dtype.char in NARROW else params[0].dtype.itemsize)
    grids = [segments.blocks(count, width, ALONE) for count in counts]
    launch = _Launch("packed", room, sum(grids), segments.threads(max(counts), width), max(grids) > 1)
    return _part(backend, rule, operands, chosen, numbers, launch, segments.flat_fields(room),
                 segments.flat_values(counts, grids, room))


def _strided(backend: KernelBackend, kernel: str, operands: Operands, chosen: tuple[Any, ...], number: int) -> _Part:
    rule = RULES[kernel]
    arrays = _arrays_of(rule, operands, number)
    count = arrays[0].size
    grid = segments.blocks(count, 1, ALONE)
    values = [1, count, grid, *packed_dims(kernel, *segments.dims(arrays))]
    return _part(backend, rule, operands, chosen, (number,), _Launch("strided", 1, grid, THREADS, grid > 1),
                 f"qqq{dims_fields(rule.arrays)}", values)


class _Launch(NamedTuple):
    """A template, the parameters that its struct has room for, the grid, and whether blocks share a parameter."""

    template: str
    room: int
    grid: int
    block: int
    is_shared: bool


def _part(backend: KernelBackend, rule: Rule, operands: Operands, chosen: tuple[Any, ...], numbers: Sequence[int],
          launch: _Launch, fields: str, values: Sequence[int]) -> _Part:
    """A launch for some parameters, with these fields and values of its layout."""
    params = operands[0] or ()
    expression = _expression(launch.template, rule, c_type(params[0].dtype), launch.room)
    flags = [operands[2 + place] is not None for place in rule.optional]
    changing = f"PP{segments.pointer_fields(operands, len(numbers), launch.room)}"
    plan = backend.plan(Instance(FILE, expression), changing, f"{fields}{rule.fields}", [*values, *chosen, *flags],
                        (launch.grid, 1, 1), (launch.block, 1, 1), siblings=_all_expressions())
    if not (launch.is_shared and rule.counts):
        return _Part(plan, numbers, None)
    advance = Instance(FILE, _advance(launch.template, rule, launch.room))
    return _Part(plan, numbers, backend.function(advance, _all_expressions()))


def _expression(template: str, rule: Rule, dtype: str, room: int) -> str:
    arguments = f"updates::{rule.name}, {dtype}"
    return f"packed<{arguments}, {room}>" if template == "packed" else f"strided<{arguments}>"


def _advance(template: str, rule: Rule, room: int) -> str:
    """The instance that advances the 0-d states after a launch of a template."""
    layout = f"Flat<{room}>" if template == "packed" else f"Strided<{rule.arrays}>"
    return f"advance<updates::{rule.name}, {layout}>"


@cache
def _all_expressions() -> tuple[str, ...]:
    """All instances: where compiling one costs as much as many, they are compiled in one go."""
    return tuple(instance.expression for instance in instances())


TABLE: dict[str, Launcher] = {kernel: update for kernel in RULES if kernel.endswith("_step")}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for rule in RULES.values():
        for template, rooms in (("packed", rule.rooms), ("strided", (1,))):
            for room in rooms:
                for dtype in _FLOATS:
                    yield Instance(FILE, _expression(template, rule, dtype.c_type, room))
                if rule.counts:
                    yield Instance(FILE, _advance(template, rule, room))
