"""A tape as the data of its page: nodes in boxes, what each holds, and the gradients of a backward pass.

Contract. The same tape gives the same data, and nothing of its graph changes. Where the graph is freed, or no values
were kept, the data say so and hold what there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..nodes import is_plain
from ..records import Input, Record, Tape, Value
from . import boxes, explained, figures
from .explained import Reference
from .gradients import Gradients
from .leaves import Leaf, Leaves

if TYPE_CHECKING:
    from ...tensor import Tensor

Data = dict[str, Any]

COPIES = frozenset({"cast", "clone", "transfer", "reshape"})  # these and views hand on the numbers that they get


def page_data(tape: Tape, gradient: Tensor | None = None) -> Data:
    """All that the page of a tape shows, ready for JSON; `gradient` is what backward starts from."""
    return _Graph(tape, Gradients(tape, gradient)).data()


class _Tensors:
    """The tensors of a page, each described once."""

    def __init__(self) -> None:
        self.listed: list[Data] = []
        self._by_text: dict[str, int] = {}
        self._by_array: dict[int, tuple[Any, int]] = {}  # with the array, so that its id stays its own

    def number(self, tensor: Tensor | None) -> int | None:
        """The place of a tensor in the list."""
        if tensor is None:
            return None
        known = self._by_array.get(id(tensor.array))
        if known is None:
            described = figures.summary(tensor.backend.to_numpy(tensor.array))
            number = self._by_text.setdefault(json.dumps(described), len(self.listed))
            if number == len(self.listed):
                self.listed.append(described)
            known = self._by_array[id(tensor.array)] = tensor.array, number
        return known[1]


class _Graph:
    """What `page_data` puts together."""

    def __init__(self, tape: Tape, gradients: Gradients) -> None:
        self.tape = tape
        self.gradients = gradients
        self.tensors = _Tensors()
        self.nodes: list[Data] = []
        self.places: dict[Any, int] = {}  # of records and leaves, among the nodes
        self.leaves = Leaves(tape)
        records = tape.records
        self.boxes = boxes.listed(boxes.of_tape(tape))
        self.box_of = {item: place for place, box in enumerate(self.boxes) for item in box.operations}
        self.kinds = dict(module for record in records if record.node.seen for module in record.node.seen.modules)
        self.lines: dict[str, int] = {}

    def data(self) -> Data:
        for record in self.tape.records:
            self._add(record)
        operations = [self.places[record] for record in self.tape.records]
        root = self.tape.records[-1]
        return {
            "title": root.result.name if root.result and root.result.name else root.op,
            "notes": list(self._notes()), "device": str(self.tape.tensor.device),
            "savedBytes": self.tape.saved_bytes, "root": operations[-1],
            "forward": operations, "backward": [self.places[step.record] for step in self.gradients.steps],
            "nodes": self.nodes, "boxes": [self._box(box) for box in self.boxes],
            "tensors": self.tensors.listed, "lines": [_place_and_code(line) for line in self.lines],
            "cards": {name: explained.described(op)
                      for name, op in {record.op: record.node.op for record in self.tape.records}.items()},
        }

    def _notes(self) -> Iterator[str]:
        records = self.tape.records
        if self.gradients.note:
            yield self.gradients.note
        if all(record.node.seen is None for record in records):
            yield ("This was computed outside of `with tl.tape():`, so source lines, modules and most values are not "
                   "known.")
        if any(value.changed for record in records for value in record.results):
            yield "Some values were changed in place after they were computed; what is shown is what is there now."

    # --- leaves -------------------------------------------------------------------------------------------------------

    def _add_leaf(self, leaf: Leaf) -> int:
        box = self._box_around(leaf)
        self.nodes.append(_filled({
            "kind": "input" if leaf.source is None else "parameter", "name": _below_model(leaf.name),
            "short": _inside(leaf.name, self.boxes[box].path), "box": box, **self._described(leaf.value),
            "delta": None if leaf.source is None else self.tensors.number(self.gradients.of_leaf(leaf.source)),
        }))
        return len(self.nodes) - 1

    def _box_around(self, leaf: Leaf) -> int:
        """The innermost box with all uses of a leaf; what a variable of the user's holds came from outside of all."""
        if leaf.value.name.isidentifier():
            return 0
        ways = [list(self._way(self.box_of[user.index])) for user in leaf.users]
        return next(box for box in ways[0] if all(box in way for way in ways))

    def _way(self, box: int) -> Iterator[int]:
        """A box and those around it, innermost first."""
        while box >= 0:
            yield box
            box = self.boxes[box].outer

    # --- operations ---------------------------------------------------------------------------------------------------

    def _add(self, record: Record) -> None:
        """A node for an operation, after nodes for those of its leaves that have none yet."""
        inputs = [self._input(given) for given in record.inputs]
        step = self.gradients.at(record)
        references = self._references(record, inputs)
        result = record.result
        node = {
            "kind": "op", "op": record.op, "title": record.title, "family": _family(record),
            "minor": _is_minor(record), "name": result.name if result else "", "box": self.box_of[record.index],
            "path": record.module, "line": self._line(record.line), **self._described(result),
            "changed": result is not None and result.changed, "inputs": inputs,
            "params": {name: str(value) for name, value in record.params.items()
                       if value is not None and is_plain(value)},
            "saved": self._saved(record), "freed": record.saved is None,
            "formula": explained.result(record, references), "outputs": self._outputs(record, step),
        }
        if not node["name"] and not node["minor"]:
            node["alias"] = explained.alias(node["formula"])
        if step is not None:
            incoming = _first(step.incoming)
            node["delta"] = self.tensors.number(incoming)
            references["g"] = {"name": "δ", "tensor": node["delta"]}
            node["gradients"] = [
                _filled({"input": position, "tensor": self.tensors.number(step.outgoing[given.label]),
                         "formula": explained.gradient(record, given.label, references)})
                for position, given in enumerate(record.inputs) if given.label in step.outgoing]
        self.places[record] = len(self.nodes)
        self.nodes.append(_filled(node))

    def _input(self, given: Input) -> Data:
        found: Data = {"label": given.label}
        if isinstance(given.value, Value):
            found |= self._described(given.value)
            leaf = self.leaves.of(given)
            if leaf is not None and leaf not in self.places:
                self.places[leaf] = self._add_leaf(leaf)
            found["from"] = self.places.get(leaf or given.source)
        elif given.value is not None:
            found["number"] = figures.plain(given.value)
        return _filled(found)

    def _references(self, record: Record, inputs: list[Data]) -> dict[str, Reference]:
        """What the formulas of an operation may name: its inputs and its result."""
        name = (record.result and record.result.name) or record.title
        found = {"out": {"name": name, "tensor": self.tensors.number(record.value)}}
        for given in inputs:
            if "shape" in given:
                found[given["label"]] = {"name": self._called(given), "tensor": given.get("value")}
        return found

    def _called(self, given: Data) -> str:
        """The name of an input: its own, or through reshapes that of what they reshaped, or that of its operation."""
        place = given.get("from")
        while place is not None:
            node = self.nodes[place]
            if "name" in node or "alias" in node:
                return str(node.get("name") or node["alias"])
            inner = node["inputs"][0].get("from") if node.get("minor") else None
            if inner is None:
                return str(node["title"])
            place = inner
        return str(given["label"])

    def _saved(self, record: Record) -> list[Data]:
        return [{"label": name, **self._described(value), "changed": value.changed}
                for name, value in (record.saved or {}).items()]

    def _outputs(self, record: Record, step: Any) -> list[Data]:
        """The results of a Function that has several, each with its gradient."""
        if len(record.results) < 2:
            return []
        incoming = step.incoming if step is not None and isinstance(step.incoming, tuple) else ()
        padded = (*incoming, *[None] * len(record.results))
        return [_filled({"name": value.name, **self._described(value), "delta": self.tensors.number(g)})
                for value, g in zip(record.results, padded, strict=False)]

    def _described(self, value: Value | None) -> Data:
        if value is None:
            return {"shape": [], "dtype": "", "bytes": 0}
        return {"shape": list(value.shape), "dtype": value.dtype, "bytes": value.nbytes,
                "value": self.tensors.number(value.tensor)}

    def _line(self, line: str) -> int | None:
        return self.lines.setdefault(line, len(self.lines)) if line else None

    def _box(self, box: boxes.Listed) -> Data:
        return _filled({"parent": box.outer, "kind": box.kind, "name": box.name, "path": box.path,
                        "type": self.kinds.get(box.path) if box.kind == boxes.MODULE else None,
                        "count": box.repetitions})


def _filled(data: Data) -> Data:
    """Without what is not there; the page reads it as absent."""
    return {name: value for name, value in data.items()
            if name == "shape" or (value is not None and value is not False and value != "" and value != [])}


def _first(incoming: Any) -> Any:
    return next((g for g in incoming if g is not None), None) if isinstance(incoming, tuple) else incoming


def _is_minor(record: Record) -> bool:
    """Whether an operation only hands numbers on, in another shape, order or dtype."""
    named = record.result is not None and record.result.name
    return not named and (record.node.op.view or record.op in COPIES)


def _family(record: Record) -> str:
    """The module of tl.ops that the operation is in; "" for a user's own."""
    module: str = record.node.op.forward.__module__ or ""
    return module.rpartition(".")[2] if module.startswith("tensorlite.ops.") else ""


def _below_model(name: str) -> str:
    """A parameter's path without the model's own name."""
    return name.partition(".")[2] or name


def _inside(name: str, path: str) -> str:
    """A parameter's path below a box's; "" if that is the whole name."""
    return name.removeprefix(f"{path}.") if path and name.startswith(f"{path}.") else ""


def _place_and_code(line: str) -> Data:
    place, _, code = line.partition(": ")
    return {"place": PurePath(place).name, "code": code}
