"""`loss.backward_steps()`: backward, one operation at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..autograd import engine
from ..autograd.function import output_number
from ..autograd.tape import Var
from .records import Input, Record, Tape, Value, input_label

if TYPE_CHECKING:
    from ..tensor import Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One operation's turn in a backward pass.

    record    the operation, as a line of the tape
    incoming  the derivative of the loss in its result; of a Function with several outputs a tuple, None if unused
    outgoing  that in each of its inputs, by the input's name

    The gradients are those that the pass goes on with: look at them, do not change them.
    """

    record: Record
    incoming: Any
    outgoing: dict[str, Tensor]

    @property
    def op(self) -> str:
        """The operation's name."""
        return self.record.op

    @property
    def line(self) -> str:
        """The user's source line; "" where tl.tape() did not look on."""
        return self.record.line

    @property
    def module(self) -> str:
        """The path of the module that recorded the operation; "" where tl.tape() did not look on."""
        return self.record.module

    def __repr__(self) -> str:
        name = self.record.result.name if self.record.result is not None else ""
        result = name or f"#{self.record.index}"
        lines = [f"#{self.record.index} {self.op}" + "".join(f"   {text}" for text in (self.module, self.line) if text),
                 f"  in:  ∂L/∂{result} = {self.incoming!s}"]
        given = {i.label: i for i in self.record.inputs}
        lines += [f"  out: ∂L/∂{_called(given[label])} = {g!s}" for label, g in self.outgoing.items()]
        return "\n".join(lines)


def backward_steps(tensor: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
                   create_graph: bool = False) -> Iterator[Step]:
    """The steps of `tensor.backward(...)`, newest operation first; see Tensor.backward_steps.

    A walk that is left before its end changes no `.grad`. Raises what `backward` raises, at the same operation.
    """
    yield from steps_along(Tape(tensor), gradient, retain_graph, create_graph)


def steps_along(tape: Tape, gradient: Tensor | None = None, retain_graph: bool | None = None,
                create_graph: bool = False, into_grad: bool = True) -> Iterator[Step]:
    """The same with the records of a tape that is there; without `into_grad` no `.grad` changes at all."""
    for node, incoming, outgoing in engine.visits(tape.tensor, gradient, retain_graph, create_graph, into_grad):
        if output_number(node) is not None:  # it hands on to the node of its Function, whose turn comes
            continue
        if not isinstance(incoming, Var):
            incoming = tuple(incoming.get(i) for i in range(max(incoming) + 1))
            incoming = incoming[0] if len(incoming) == 1 else incoming
        yield Step(tape.record_of(node), incoming, {input_label(node, position): g for position, g in outgoing})


def _called(given: Input) -> str:
    """The user's name of an input, else the number of the operation that made it, else the operation's own name."""
    name = given.value.name if isinstance(given.value, Value) else ""
    return name or (f"#{given.source.index}" if isinstance(given.source, Record) else given.label)
