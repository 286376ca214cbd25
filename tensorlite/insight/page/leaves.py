"""The leaves of a tape: parameters, and what else operations were given that no recorded operation made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...autograd.tape import wrap
from ..records import Input, Record, Tape, Value

if TYPE_CHECKING:
    from ...tensor import Tensor

# Inputs that are no tensors of the user's: random numbers, and the room in which a recurrence keeps its steps.
INTERNAL = frozenset({"noise", "gates", "kept", "cells", "emitted"})


@dataclass(eq=False)
class Leaf:
    """A tensor that no recorded operation made.

    name    the path of a parameter, the user's variable, or else what the first operation calls it if that says more
            than "x"
    source  the tensor that gets a gradient; None for one that gets none
    users   the operations that it is an input of
    """

    name: str
    value: Value
    source: Any
    users: list[Record] = field(default_factory=list)


class Leaves:
    """The leaves of a tape, each one once, however many operations use it."""

    def __init__(self, tape: Tape) -> None:
        self._names = tape.names
        self._found: dict[Any, Leaf] = {}
        self._by_input: dict[int, Leaf] = {}
        for record in tape.records:
            for given in record.inputs:
                self._meet(record, given)

    def of(self, given: Input) -> Leaf | None:
        """The leaf that an operation was given; None for a result of another one, a number, or nothing."""
        return self._by_input.get(id(given))

    def _meet(self, record: Record, given: Input) -> None:
        value = given.value
        if isinstance(given.source, Record) or not isinstance(value, Value) or value.tensor is None:
            return
        key: Any = id(given.source)
        if given.source is None:
            if given.label in INTERNAL:
                return
            value, array = self._as_users_own(value, value.tensor)
            key = "array", id(array)
        leaf = self._found.get(key)
        if leaf is None:
            leaf = self._found[key] = Leaf(value.name or _described(given), value, given.source)
        leaf.users.append(record)
        self._by_input[id(given)] = leaf

    def _as_users_own(self, value: Value, tensor: Tensor) -> tuple[Value, Any]:
        """The user's tensor of which this is a view, as `W @ x` makes a column of x; of a part of it, "x[…]"."""
        array: Any = tensor.array
        base: Any = getattr(array, "base", None)
        name = "" if value.name or base is None else self._names.of(base)
        if not name or base.dtype != array.dtype:
            return value, array
        if base.size != array.size:
            return replace(value, name=f"{name}[…]"), array
        return Value(name, tuple(base.shape), value.dtype, wrap(base, tensor.backend), value.changed), base


def _described(given: Input) -> str:
    """What to call a leaf without a name: "target", "weight"; "input" where the operation says no more than "x"."""
    return given.label if len(given.label) > 1 and given.label.isidentifier() else "input"
