"""The gradients that a page shows: those of a real backward pass, which keeps the graph and touches no `.grad`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...autograd.mode import run_with_grad
from ...autograd.tape import Var
from ...errors import TensorliteError
from ..records import Record, Tape
from ..steps import Step, steps_along

if TYPE_CHECKING:
    from ...tensor import Tensor


class Gradients:
    """What a backward pass over a tape found.

    steps  of the pass, the newest operation first; those before an operation that refused, if one did
    note   for the reader, where the pass is not the usual one; ""
    """

    def __init__(self, tape: Tape, gradient: Tensor | None) -> None:
        self.steps: list[Step] = []
        self.note = ""
        root = tape.tensor
        if gradient is None and root.array.size != 1:
            gradient = run_with_grad(False, lambda: root.detach() * 0 + 1)
            self.note = f"The result has shape {tuple(root.shape)}; the gradients are those of the sum of its elements."
        try:
            for step in steps_along(tape, gradient, retain_graph=True, into_grad=False):
                self.steps.append(step)
        except TensorliteError as error:
            self.note = f"Gradients are missing: {error}"
        self._by_record = {step.record: step for step in self.steps}
        self._leaves: dict[int, Tensor] = {}
        for step in self.steps:
            self._hand_out(step)

    def at(self, record: Record) -> Step | None:
        """The step of an operation; None if the pass did not come to it."""
        return self._by_record.get(record)

    def of_leaf(self, leaf: Var) -> Tensor | None:
        """The sum of what arrives at a leaf from all its uses."""
        return self._leaves.get(id(leaf))

    def _hand_out(self, step: Step) -> None:
        for given in step.record.inputs:
            g = step.outgoing.get(given.label)
            if isinstance(given.source, Var) and g is not None:
                before = self._leaves.get(id(given.source))
                self._leaves[id(given.source)] = g if before is None else run_with_grad(False, before.__add__, g)
