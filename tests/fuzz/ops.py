"""Generator "ops": one function with random arguments: value, dtype, shape, error or none, and derivatives."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

import tensorlite as tl
from fuzz.calls import FLOATS, PLAIN, Call, Leaf
from fuzz.compare import EPSILON, agree, apart, array_of, dtype_of, excusable, worst
from fuzz.derive import Derived, differentiate, is_tensor, ours, theirs
from fuzz.differences import Disagreement, difference_of
from fuzz.draw import Draw
from fuzz.functions import NAMES, ROWS
from fuzz.tally import Failure, Tally

REFUSALS = (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError, ZeroDivisionError)
OURS = (tl.TensorliteError, TypeError, ZeroDivisionError)


class Examination:
    """One call, run by both libraries and compared. Raises Disagreement."""

    def __init__(self, call: Call, device: str, twice: bool, tally: Tally) -> None:
        self.call, self.device, self.twice, self.tally = call, device, twice, tally
        self.floats = [leaf.dtype for leaf in call.leaves() if leaf.dtype in FLOATS]
        self.given = [leaf.values for leaf in call.leaves() if leaf.dtype in FLOATS]

    def run(self) -> None:
        refusal = mine = None
        expected: Any = None
        try:
            expected, references = theirs(self.call)
        except REFUSALS as error:
            refusal = error
        try:
            derived, leaves = ours(self.call, self.device)
            if self.device != "cpu":
                for result in filter(is_tensor, derived.results[:1]):
                    array_of(result.cpu())  # where the simulator reports what was wrong
        except OURS as error:
            mine = error
        except Exception as error:
            raise Disagreement("crash", f"raises {error!r}") from error
        if refusal is not None or mine is not None:
            self._refused(refusal, mine)
            return
        self.tally.outcomes["answered"] += 1
        self.floats += [dtype_of(t) for t in expected.results if is_tensor(t) and t.is_floating_point()]
        self._compare_results(derived, expected)
        if any(leaf.requires_grad for leaf in leaves):
            if not self._derivable(expected):
                self.tally.outcomes["not derived: NaN or infinity"] += 1
                return
            self._compare_derivatives(derived, leaves, expected, references)

    def _derivable(self, expected: Derived) -> bool:
        """Where a NaN or infinity is, nobody promises a derivative; functions of single elements pass infinities on."""
        made = [array_of(t) for t in expected.results if is_tensor(t) and t.is_floating_point()]
        if all(np.isfinite(a).all() for a in (*self.given, *made)):
            self.twice = self.twice and self._largest < 1000.0
            return True
        self.twice = False
        return self.call.exact and not any(np.isnan(a).any() for a in (*self.given, *made))

    def _refused(self, refusal: Exception | None, mine: Exception | None) -> None:
        if mine is None:
            raise Disagreement("accepted", f"PyTorch refuses: {refusal!r}")
        if refusal is None:
            raise Disagreement("refused", f"tensorlite refuses: {mine!r}")
        self.tally.outcomes["both refuse"] += 1

    def _compare_results(self, derived: Derived, expected: Derived) -> None:
        if len(derived.results) != len(expected.results):
            raise Disagreement("count", f"{len(derived.results)} results, PyTorch {len(expected.results)}")
        for i, (a, b) in enumerate(zip(derived.results, expected.results, strict=True)):
            if not is_tensor(a) or not is_tensor(b):
                if a != b:
                    raise Disagreement("value", f"result {i}: {a!r}, PyTorch {b!r}")
                self.tally.compared()
                continue
            self._same_kind(f"result {i}", a, b)
            if a.requires_grad != b.requires_grad:
                raise Disagreement("requires_grad", f"result {i}: requires_grad {a.requires_grad}")
            self._same(
                "value", f"result {i}", a, b, "results", i, self.call.exact, 0.0 if self.call.exact else self._magnitude
            )

    def _compare_derivatives(
        self, derived: Derived, leaves: list[Any], expected: Derived, references: list[Any]
    ) -> None:
        twice = self.twice
        try:
            differentiate(torch, expected, references, twice)
        except REFUSALS:
            if not expected.gradients:
                self.tally.outcomes["no gradient in PyTorch"] += 1
                return
            self.tally.outcomes["no second derivative in PyTorch"] += 1
            twice = False
        try:
            differentiate(tl, derived, leaves, twice, self.device)
        except Exception as error:
            raise Disagreement("gradient", f"tensorlite's gradient raises {error!r}") from error
        finite = all(bool(g.isfinite().all()) for g in expected.gradients)
        kinds = ("gradients", "seconds") if twice and finite else ("gradients",)
        for kind in kinds:
            mine, wanted = getattr(derived, kind), getattr(expected, kind)
            if kind == "seconds" and not wanted:
                continue
            if len(mine) != len(wanted):
                mine = mine or [t.detach() * 0 for t in leaves if t.requires_grad]
            for i, (g, h) in enumerate(zip(mine, wanted, strict=True)):
                self._same_kind(f"{kind} {i}", g, h)
                self._same(kind[:-1], f"{kind} {i}", g, h, kind, i, False, max(1.0, self._magnitude))
            self.tally.gradients += len(wanted) if kind == "gradients" else 0
            self.tally.second += len(wanted) if kind == "seconds" else 0

    def _same_kind(self, what: str, a: Any, b: Any) -> None:
        if dtype_of(a) != dtype_of(b):
            raise Disagreement("dtype", f"{what}: {a.dtype}, PyTorch {b.dtype}")
        if a.shape != tuple(b.shape):
            raise Disagreement("shape", f"{what}: {a.shape}, PyTorch {tuple(b.shape)}")

    def _same(self, kind: str, what: str, a: Any, b: Any, part: str, i: int, exact: bool, least: float) -> None:
        x, y = array_of(a if self.device == "cpu" else a.cpu()), array_of(b)
        self.tally.compared()
        if agree(x, y, self._coarsest(dtype_of(b)), exact, least):
            return
        dtype = self._coarsest(dtype_of(b))
        if dtype not in EPSILON:
            raise Disagreement(kind, f"{what}: {worst(x, y)}", apart(x, y))
        if part != "results":
            unknown = np.isnan(y)
            if unknown.any():  # ours may know better
                self.tally.outcomes["gradient unknown to PyTorch"] += 1
                x, y = np.where(unknown, 0, x), np.where(unknown, 0, y)
                if agree(x, y, dtype, exact, least):
                    return
        opinions = [getattr(derived, part) for derived in self.opinions]
        if all(i < len(listed) for listed in opinions):
            truth, *moved = (array_of(listed[i]) for listed in opinions)
            if part != "results" and np.isnan(array_of(b)).any():
                truth, *moved = (np.where(unknown, 0, a) for a in (truth, *moved))
            if excusable(x, y, truth, moved, dtype, least):
                self.tally.outcomes["second opinion"] += 1
                return
        raise Disagreement(kind, f"{what}: {worst(x, y)}", apart(x, y))

    def _coarsest(self, dtype: str) -> str:
        """The dtype in which rounding happened: that of the result, or of a leaf that is narrower."""
        return max((dtype, *self.floats), key=EPSILON.__getitem__) if dtype in EPSILON else dtype

    @cached_property
    def _magnitude(self) -> float:
        """The largest input, up to 100: results that are differences of such numbers are rounded like them."""
        return min(self._largest, 100.0)

    @cached_property
    def _largest(self) -> float:
        return max((float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in self.given), default=0.0)

    @cached_property
    def opinions(self) -> list[Derived]:
        """PyTorch's results in float64, and twice those of inputs moved by about one unit in the last place."""
        step = max(max((EPSILON[d] for d in self.floats), default=0.0), 2.0**-50)
        return [self._again(0.0, False), self._again(step, False), self._again(step, True)]

    def _again(self, stretch: float, by_place: bool) -> Derived:
        try:
            derived, leaves = theirs(self.call, "float64", stretch, by_place)
            differentiate(torch, derived, leaves, self.twice)
        except REFUSALS:
            return Derived([])
        return derived


class Ops:
    """The generator. `names`: the functions to call, all if None."""

    name = "ops"

    def __init__(self, seed: int, device: str = "cpu", names: tuple[str, ...] | None = None) -> None:
        self.draw, self.device, self.names = Draw(seed), device, names or NAMES
        self.tally = Tally(self.name, seed)

    def call(self, number: int) -> Call:
        draw = self.draw.begin(number)
        name = draw.pick(self.names)
        return ROWS[name](draw, name)

    def run(self, number: int) -> None:
        """One case; what differs goes into the tally."""
        call = self.call(number)
        self.tally.cases += 1
        self.tally.calls[call.name] += 1
        found = self.examine(call, number)
        if found is None:
            return
        difference = difference_of(call, found)
        if difference is not None:
            self.tally.excused[difference] += 1
            return
        small = self.shrunk(call, number, found)
        again = self.examine(small, number) or found
        self.tally.failures.append(Failure(self.name, self.tally.seed, number, f"{call.name}, {again}", small.text()))

    def examine(self, call: Call, number: int) -> Disagreement | None:
        """How the libraries differ, if they do."""
        try:
            Examination(
                call,
                self.device,
                number % 4 == 0 and "bfloat16" not in (leaf.dtype for leaf in call.leaves()),
                self.tally,
            ).run()
        except Disagreement as found:
            return found
        return None

    def shrunk(self, call: Call, number: int, found: Disagreement) -> Call:
        """The call with plain layouts, fewer gradients and small numbers, as long as it differs in the same way."""
        for leaf in call.leaves():
            for simpler in simplifications(leaf):
                shorter = call.replaced(leaf, simpler)
                again = self.examine(shorter, number)
                if again is not None and again.kind == found.kind:
                    call, leaf = shorter, simpler
        return call


def simplifications(leaf: Leaf) -> list[Leaf]:
    made = []
    if leaf.layout is not PLAIN:
        made.append(replace(leaf, layout=PLAIN))
    if leaf.dtype in FLOATS:
        rounded = np.round(leaf.values.astype(np.float64) * 4) / 4
        made.append(replace(leaf, values=rounded.astype(leaf.values.dtype), layout=PLAIN))
    if leaf.requires_grad:
        made.append(replace(leaf, requires_grad=False, layout=PLAIN))
    return made
