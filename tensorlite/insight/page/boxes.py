"""The boxes in which a page draws operations: calls of modules, and repetitions of them.

Contract. `arrange` gets the operations in the order in which they were recorded, each with the calls of modules around
it and a signature, and returns the root of a tree of boxes. What a box holds was recorded without a break, so between
the items of a box edges lead forward only, whichever of them are open and which closed. A module that is called again
is a second box.

Items that repeat at least three times, such as the layers of a transformer, become one box "x12", which holds the
repetitions. They are the same if they hold the same operations on the same shapes, in boxes of the same structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..records import Record, Tape, Value

MODULE, REPEAT, TURN = "module", "repeat", "turn"
LEAST_REPEATS = 3
LONGEST_PERIOD = 12  # items of one repetition
FEW = 40  # operations; so few are drawn one by one
FEWEST_PLAIN = 24  # operations outside of any box that become a repetition


@dataclass(eq=False)
class Box:
    """A box: the path of its module (of the one around it, for repetitions), its kind, and what it holds."""

    path: str
    kind: str = MODULE
    items: list[Box | int] = field(default_factory=list)  # boxes, and operations by number

    def name(self, outer: str) -> str:
        """What stands on the box, inside a box with the path `outer`; "" for a repetition of operations."""
        if self.kind == MODULE:
            return self.path.removeprefix(f"{outer}.") if outer else self.path
        inner = [item.name(self.path) for item in self.items if isinstance(item, Box)]
        if not inner:
            return ""
        first, last = inner[0], inner[-1]
        if self.kind == TURN or first == last:
            return first
        folder = first.rpartition(".")[0]
        return f"{first} … {last.removeprefix(f'{folder}.')}"


class Listed(NamedTuple):
    """A box in a list of all, outer ones first."""

    outer: int  # the place of the box around it, -1 for the root
    kind: str
    name: str
    path: str
    repetitions: int
    operations: list[int]


Call = tuple[str, object]  # the path of a module ("Net.layers.0"), and what tells this call from others


def of_tape(tape: Tape) -> Box:
    """The boxes of a tape's operations."""
    return arrange([calls(record) for record in tape.records], [signature(record) for record in tape.records])


def calls(record: Record) -> list[Call]:
    """The calls around an operation, outermost first, with containers between them that are not called themselves."""
    modules = record.node.seen.modules if record.node.seen else ((record.module, ""),) if record.module else ()
    found: list[Call] = []
    for module in modules:
        path, (outer, call) = module[0], found[-1] if found else ("", None)
        if outer and path.startswith(f"{outer}."):
            names = path[len(outer) + 1:].split(".")
            found += [(".".join([outer, *names[:count]]), call) for count in range(1, len(names))]
        found.append((path, id(module)))
    return found


def signature(record: Record) -> str:
    """What operations have in common that repeat each other: name and shapes."""
    shapes = [given.value.shape if isinstance(given.value, Value) else given.value for given in record.inputs]
    return f"{record.op} {shapes} {record.result and record.result.shape}"


def arrange(calls: Sequence[Sequence[Call]], signatures: Sequence[str]) -> Box:
    """The root box of operations inside these calls, with these signatures."""
    root = Box("")
    way: list[tuple[Call, Box]] = []
    for number, around in enumerate(calls):
        shared = 0
        while shared < min(len(around), len(way)) and way[shared][0] == around[shared]:
            shared += 1
        del way[shared:]
        for call in around[shared:]:
            box = Box(call[0])
            (way[-1][1] if way else root).items.append(box)
            way.append((call, box))
        (way[-1][1] if way else root).items.append(number)
    _merge_chains(root)
    if len(calls) > FEW:
        _Folding(signatures).fold(root)
    return root


def _merge_chains(root: Box) -> None:
    """A part of a model that holds one box and nothing else is that box: "layers" of one "0" is "layers.0"."""
    waiting = [root]
    while waiting:
        box = waiting.pop()
        for position, item in enumerate(box.items):
            while isinstance(item, Box) and "." in item.path and [type(inner) for inner in item.items] == [Box]:
                item = box.items[position] = item.items[0]
        waiting.extend(item for item in box.items if isinstance(item, Box))


class _Folding:
    """Puts repeated items into boxes of their own, from the innermost boxes outwards."""

    def __init__(self, signatures: Sequence[str]) -> None:
        self._signatures = signatures
        self._numbers: dict[tuple[object, ...], int] = {}  # equal structures have equal numbers

    def fold(self, box: Box) -> int:
        """Fold what is in a box; the number of its structure."""
        marks = [self.fold(item) if isinstance(item, Box) else self._number(self._signatures[item])
                 for item in box.items]
        mark = self._number(*marks)
        items: list[Box | int] = []
        position = 0
        while position < len(marks):
            period, count = self._repetition(marks, box.items, position)
            end = position + period * count
            run = box.items[position:end]
            items += run if count == 1 else [_repeated(run, period, box.path)]
            position = end
        box.items = [_without_shell(item, box.path) for item in items]
        return mark

    def _number(self, *structure: object) -> int:
        return self._numbers.setdefault(structure, len(self._numbers))

    def _repetition(self, marks: list[int], items: Sequence[Box | int], start: int) -> tuple[int, int]:
        """(items of one repetition, repetitions) of the longest run from `start` on; (1, 1) if there is none."""
        best = 1, 1
        for period in range(1, min(LONGEST_PERIOD, (len(marks) - start) // LEAST_REPEATS) + 1):
            first = marks[start:start + period]
            count = 1
            while marks[start + count * period:start + (count + 1) * period] == first:
                count += 1
            holds_box = any(isinstance(item, Box) for item in items[start:start + period])
            if (count >= LEAST_REPEATS and count * period > best[0] * best[1]
                    and (holds_box or count * period >= FEWEST_PLAIN)):
                best = period, count
        return best


def _repeated(run: list[Box | int], period: int, path: str) -> Box:
    if period == 1:
        return Box(path, REPEAT, run)
    turns = [Box(path, TURN, run[i:i + period]) for i in range(0, len(run), period)]
    return Box(path, REPEAT, list(turns))


def _without_shell(item: Box | int, outer: str) -> Box | int:
    """A part of a model that holds one repetition and nothing else is that repetition: "layers.0 … 11"."""
    if isinstance(item, Box) and item.kind == MODULE and len(item.items) == 1 and "." in item.path:
        inner = item.items[0]
        if isinstance(inner, Box) and inner.kind == REPEAT:
            inner.path = outer
            return inner
    return item


def listed(root: Box) -> list[Listed]:
    """All boxes from the root on, each after the one around it, in the order of recording."""
    found: list[Listed] = []
    waiting = [(root, -1)]
    while waiting:
        box, outer = waiting.pop()
        name = box.name(found[outer].path) if outer >= 0 else ""
        operations = [item for item in box.items if isinstance(item, int)]
        waiting.extend((item, len(found)) for item in reversed(box.items) if isinstance(item, Box))
        found.append(Listed(outer, box.kind, name, box.path, len(box.items) if box.kind == REPEAT else 0, operations))
    return found
