"""The rule about NaN and inf: where the first one came from, forwards or backwards.

An infinity alone is no fault: masks are made of it. So what is found is kept by node, and it is the loss, or a
gradient, that decides whether it did harm. Whether a GradScaler meant to catch it shows at the step.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ....autograd.tape import Node, Var
from ....tensor import Tensor
from ...nodes import ancestors
from ..numbers import has_inf, has_nan
from ..places import Place
from ..report import ERROR, Finding
from ..watch import OpCall, Rule, Step

# A GradScaler starts at 2**16 and halves its scale for each step that it skips: after 10 the scale is not the reason.
SKIPPED_STEPS: Final = 10

_MASKS: Final = frozenset({"masked_fill", "where", "pad", "index_put", "slice_put"})  # which put infinities on purpose

_CURES: Final = {
    "log": "keep its argument away from 0: (x + 1e-8).log(), or use log_softmax, logsumexp or log1p",
    "div": "keep the divisor away from 0: a / (b + 1e-8)",
    "sqrt": "keep its argument above 0, for its slope at 0 is infinite: (x + 1e-8).sqrt()",
    "norm": "keep its argument away from 0, for its slope there is not defined",
    "pow": "keep the base above 0",
    "exp": "limit its argument, subtract the maximum first, or use softmax or logsumexp",
    "softmax": "leave at least one element of each row unmasked",
}
_CURES["log2"] = _CURES["log10"] = _CURES["log"]
_CURES["reciprocal"] = _CURES["rsqrt"] = _CURES["div"]
_GENERAL = "lower the learning rate or clip the gradients, if the numbers grew until they overflowed"


class _Bad(NamedTuple):
    """A result with NaN or inf, and what its operation was given."""

    call: str
    place: Place
    is_nan: bool
    from_nan: bool
    from_inf: bool
    source: str  # of NaN or inf among the inputs, where it is none of the recorded operations
    made_by: str = ""  # the operation that is the source


class NotFinite(Rule):
    """NaN or inf in the loss or in the gradients."""

    name = "not-finite"
    severity = ERROR

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._bad: weakref.WeakKeyDictionary[Node, _Bad] = weakref.WeakKeyDictionary()
        self._loose: dict[int, tuple[weakref.ref[Tensor], _Bad]] = {}  # results that are not recorded, by id
        self._backwards: tuple[Node, Any] | None = None
        self._pending: Finding | None = None
        self._skipped = 0

    # --- what is seen on the way -----------------------------------------------------------------------------------

    def numbers(self, call: OpCall) -> None:
        if not isinstance(call.out, Tensor):
            return
        is_nan = has_nan(call.out)
        if not is_nan and not has_inf(call.out):
            return
        from_nan, from_inf = any(map(has_nan, call.tensors)), any(map(has_inf, call.tensors))
        source, made_by = self._source(call.tensors) if from_nan or from_inf else ("", "")
        bad = _Bad(call.op, call.place, is_nan, from_nan, from_inf, source, made_by)
        if call.out._node is not None:
            self._bad[call.out._node] = bad
        else:
            self._loose = {key: value for key, value in self._loose.items() if value[0]() is not None}
            self._loose[id(call.out)] = weakref.ref(call.out), bad

    def _source(self, inputs: list[Tensor]) -> tuple[str, str]:
        for x in inputs:
            if x._node is None and (has_nan(x) or has_inf(x)):
                known = self._loose.get(id(x))
                if known is not None and known[0]() is x:
                    before = known[1]
                    if before.source:
                        return before.source, before.made_by
                    return f"the result of {before.call} at {before.place}", before.call
                what = "NaN" if has_nan(x) else "inf"
                if x._requires_grad:
                    return f"{self.watch.name_of(x)} holds {what} already, since the step before", ""
                return f"the data holds {what}: a tensor of shape {tuple(x.shape)} that was given to it", ""
        return "", ""

    def rule(self, node: Node, g: Any, results: list[tuple[int, Any]]) -> None:
        if self._backwards is not None or not isinstance(g, Tensor) or has_nan(g) or has_inf(g):
            return
        for position, result in results:
            if isinstance(result, Tensor) and (has_nan(result) or has_inf(result)):
                self._backwards = node, (position, has_nan(result))
                return

    # --- whether it did harm ---------------------------------------------------------------------------------------

    def arrived(self, leaves: Iterable[Var]) -> None:
        if not self.watch.is_looking or self._backwards is None or self._pending is not None:
            return
        hit = [leaf for leaf in leaves if leaf._grad is not None and (has_nan(leaf._grad) or has_inf(leaf._grad))]
        if hit:
            node, (position, is_nan) = self._backwards
            name, what = node.op.name, "NaN" if is_nan else "inf"
            self._pending = Finding(
                self.name, self.severity,
                f"the backward of {name} made {what} of a finite gradient, for its input "
                f"'{node.op.input_name(position) if node.op.inputs else position}'; {len(hit)} gradients hold it, that "
                f"of {self.watch.name_of(hit[0])} among them. The loss itself is finite.",
                _CURES.get(name, _GENERAL) + ".", self.watch.places.get(node))

    def backward(self, roots: list[Tensor], is_kept: bool) -> None:
        self._backwards = None
        if not self.watch.is_looking:
            return
        for root in roots:
            if root._node is not None and (has_nan(root) or has_inf(root)):
                self._pending = self._forwards(root)

    def _forwards(self, root: Tensor) -> Finding | None:
        assert root._node is not None
        path = [self._bad[node] for node in ancestors([root._node]) if node in self._bad]
        kind = "NaN" if has_nan(root) else "inf"
        wanted = [bad for bad in path if bad.is_nan == (kind == "NaN")]
        if not wanted:
            return None
        first = next((bad for bad in wanted if not bad.from_nan and (bad.is_nan or not bad.from_inf)), wanted[0])
        seen = f"the loss is {kind}. The first {kind} was made by {first.call}"
        cause = first
        if first.source:
            seen += f", of {first.source}." if first.made_by else f", because {first.source}."
        elif first.from_inf:
            cause = next((bad for bad in path if not bad.is_nan and not bad.from_inf and bad.call not in _MASKS), first)
            seen += f", of the inf that {cause.call} made at {cause.place}." if cause is not first else ", of inf."
        else:
            seen += " of finite numbers."
        return Finding(self.name, self.severity, seen, _cure(cause), first.place)

    def before_step(self, step: Step) -> None:
        if step.optimizer._found_inf is not None:  # a GradScaler sees to it
            self._skipped = self._skipped + 1 if step.is_skipped else 0
            if self._skipped < SKIPPED_STEPS:
                self._pending = None
        self._flush()

    def end(self) -> None:
        self._flush()

    def _flush(self) -> None:
        found, self._pending = self._pending, None
        if found is not None:
            often = f" The GradScaler has skipped {self._skipped} steps in a row." if self._skipped else ""
            self.say(found.seen + often, found.fix, found.place, about="the first")


def _cure(bad: _Bad) -> str:
    if bad.made_by:
        return _CURES.get(bad.made_by, f"look at what {bad.made_by} is given there") + "."
    if "data holds" in bad.source:
        return "clean the data: leave such samples out, or fill what is missing."
    if "holds" in bad.source:
        return _GENERAL + ": the step made of finite weights what is not."
    return _CURES.get(bad.call, _GENERAL) + "."
