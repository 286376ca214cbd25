"""What autograd has recorded, as a table: `loss.tape()`.

Contract. A Tape reads the graph that any computation leaves, and changes nothing of it. Source lines, modules and
values are there for what was recorded inside `with tl.tape():` (watch.py); without, the graph alone knows shapes,
dtypes and what is saved.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from .. import backends, dtypes
from ..autograd.function import output_number
from ..autograd.tape import Node, Saved, Var, save, wrap
from ..errors import GradError
from .names import Names
from .nodes import ancestors
from .tables import shape, size, table

if TYPE_CHECKING:
    from ..tensor import Tensor


@dataclass(frozen=True)
class Value:
    """A tensor that an operation was given, gave or saved.

    name     of the user's variable or parameter, "" where none is known
    tensor   the values, without history; None where they are not kept
    changed  in place since the operation: the values are later ones
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: Tensor | None = None
    changed: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * dtypes.as_dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name} {shape(self.shape)}" if self.name else shape(self.shape)


@dataclass(frozen=True)
class Input:
    """What an operation was given.

    label   as the operation calls it: "x", "weight"
    value   the tensor, a Python number, or None for an argument left out or a tensor that the graph does not know
    source  the Record that made it, the leaf Tensor itself, or None where no gradient flows
    output  which result of the source it is
    """

    label: str
    value: Value | int | float | bool | None
    source: Record | Tensor | None
    output: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """A recorded operation: a line of the table.

    index    its place in the order of recording, from 0
    op       its name
    line     "file.py:12: y = a * b", or "" where tl.tape() did not look on
    module   the path of the module that recorded it, or ""
    inputs   in the order of the call
    results  one, but for a Function with several outputs
    saved    what the node keeps for backward, by name; None once that is freed
    params   the keyword parameters
    node     of the graph
    """

    index: int
    op: str
    line: str
    module: str
    inputs: tuple[Input, ...]
    results: tuple[Value, ...]
    saved: dict[str, Value] | None
    params: dict[str, Any]
    node: Node

    def __repr__(self) -> str:  # not of its inputs, which lead to all records before
        return f"<#{self.index} {self.op}>"

    @property
    def title(self) -> str:
        """The operation with the numbers that it was given: "mul 0.5"."""
        numbers = [given.value for given in self.inputs if isinstance(given.value, (int, float))]
        return " ".join([self.op, *(f"{number:g}" for number in numbers)])

    @property
    def result(self) -> Value | None:
        """The first result; None for a checkpoint whose results the graph does not know."""
        return self.results[0] if self.results else None

    @property
    def value(self) -> Tensor | None:
        """The values of the result, if they are kept."""
        return None if self.result is None else self.result.tensor


def _sibling(name: str) -> Any:
    """A module of this package that is made of tapes, loaded when a tape is asked for it."""
    return importlib.import_module(f"{__package__}.{name}")


class Tape:
    """The operations that lead to a tensor, oldest first; its text is a table.

    >>> w = tl.tensor([1.0, 2.0], requires_grad=True)
    >>> tape = (w * 3.0).sum().tape()
    >>> [record.op for record in tape.records]
    ['mul', 'sum']

    Raises GradError for a tensor without history.
    """

    def __init__(self, tensor: Tensor) -> None:
        if not tensor.requires_grad or tensor._node is None:
            raise GradError("tape: this tensor was not computed from one that requires grad, so nothing is recorded; "
                            "set requires_grad=True on an input, and compute outside no_grad and without .detach()")
        self.tensor = tensor
        self.names = Names()
        self._records: dict[Node, Record] = {}
        self._outputs: dict[Node, dict[int, Value]] = {}
        nodes = ancestors([tensor._node])
        self._describe_results(nodes)
        for node in nodes:
            if output_number(node) is None:
                self._records[node] = self._record(len(self._records), node)
        self.records = list(self._records.values())

    def record_of(self, node: Node) -> Record:
        """The line of a node; that of a Function for one of its outputs."""
        return self._records[_maker(node)]

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that get a gradient, in the order of their first use."""
        sources = (given.source for record in self.records for given in record.inputs)
        return list({id(source): source for source in sources if isinstance(source, Var)}.values())

    @property
    def saved_bytes(self) -> int:
        """The bytes that are kept for backward, memory that several operations keep counted once."""
        arrays = {id(value.tensor.array): value.nbytes for record in self.records
                  for value in (record.saved or {}).values() if value.tensor is not None}
        return sum(arrays.values())

    def to_html(self, path: str | PathLike[str], gradient: Tensor | None = None) -> None:
        """Write one self-contained page that shows the graph, every value and every gradient, and walks the chain rule.

        The gradients are those of a backward pass that starts from `gradient` (1 unless given), keeps the graph and
        touches no `.grad`. The same tape gives the same bytes.

        >>> w = tl.tensor(2.0, requires_grad=True)
        >>> with tl.tape():
        ...     loss = (w * 3.0).square()
        >>> loss.tape().to_html("/dev/null")
        """
        _sibling("page").write(self, path, gradient)

    def to_dot(self) -> str:
        """The graph in the language of Graphviz: `dot -Tsvg` draws it.

        >>> w = tl.tensor(2.0, requires_grad=True)
        >>> print((w * 3.0).tape().to_dot())
        digraph tape {...
          t0 -> n0;
        }
        """
        return _sibling("dot").dot(self)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        lines = table(["#", "operation", "result", "dtype", "bytes", "inputs", "saved for backward", "module", "line"],
                      [_cells(record) for record in self.records], ">" "<" "<" "<" ">" "<" "<" "<" "<")
        total = f"{len(self.records)} operations, {size(self.saved_bytes)} saved for backward"
        if not any(record.line for record in self.records):
            total += "; compute inside `with tl.tape():` to see modules, source lines and values"
        return "\n".join([*lines, total])

    __repr__ = __str__

    # --- reading the graph -------------------------------------------------------------------------------------------

    def _describe_results(self, nodes: list[Node]) -> None:
        """Find out what each node gave: as seen, else as the operation that used it says."""
        metas: dict[Any, Any] = {self.tensor._node: (self.tensor.shape, self.tensor.array.dtype)}
        for node in nodes:
            metas.update({parent: meta for parent, meta in zip(node.parents, node.metas, strict=True) if meta})
        of_several = {_maker(node) for node in nodes if output_number(node) is not None}
        for node in nodes:
            if node in of_several:  # a Function's or checkpoint's, whose outputs have nodes of their own
                continue
            if node is self.tensor._node:
                value = self._value(save(self.tensor), self.names.of(self.tensor))
            elif node.seen is not None:
                value = self._value(node.seen.result, self.names.of(node))
            elif node in metas:
                value = Value(self.names.of(node), tuple(metas[node][0]), dtypes.from_numpy(metas[node][1]).name)
            else:  # used by a checkpoint alone, which does not know it
                continue
            self._outputs.setdefault(_maker(node), {})[output_number(node) or 0] = value

    def _value(self, saved: Saved, name: str = "") -> Value:
        array, version, seen = saved
        tensor = wrap(array, backends.of(array))
        return Value(name or self.names.of(array), tuple(array.shape), tensor.dtype.name, tensor, version[0] != seen)

    def _record(self, index: int, node: Node) -> Record:
        results = self._outputs.get(node, {})
        saved = None if node.saved is None else {
            name: self._value(kept) for name, kept in node.saved.items() if isinstance(kept, tuple)}
        inputs = tuple(self._input(node, position) for position in range(len(node.parents)))
        return Record(index, node.op.name, node.trace or "", node.module, inputs,
                      tuple(results[number] for number in sorted(results)), saved, node.params, node)

    def _input(self, node: Node, position: int) -> Input:
        parent, meta = node.parents[position], node.metas[position]
        label = input_label(node, position)
        if isinstance(parent, Node):
            source, output = self._records[_maker(parent)], output_number(parent) or 0
            return Input(label, self._outputs[source.node].get(output), source, output)
        if isinstance(parent, Var):
            return Input(label, self._value(save(parent), self.names.of(parent)), parent)  # type: ignore[arg-type]
        given = node.seen.inputs[position] if node.seen is not None else None
        if isinstance(given, tuple):
            return Input(label, self._value(given), None)
        if given is None and meta is not None:
            return Input(label, Value("", tuple(meta[0]), dtypes.from_numpy(meta[1]).name), None)
        return Input(label, given, None)


def input_label(node: Node, position: int) -> str:
    """What an operation calls an input: "x"; of several under one name "tensors[1]"; of a Function "input 1"."""
    names = node.op.inputs
    if not names or (node.op.variadic and len(names) == 1 and names[0] == "inputs"):
        return f"input {position}"
    if node.op.variadic and position >= len(names) - 1:
        return f"{names[-1]}[{position - len(names) + 1}]"
    return names[position]


def _maker(node: Node) -> Node:
    """The node that computes: a Function's, for one of its outputs."""
    return node if output_number(node) is None else node.parents[0]  # type: ignore[return-value]


# --- the table --------------------------------------------------------------------------------------------------------


def _cells(record: Record) -> list[str]:
    result = record.result
    saved = "freed" if record.saved is None else ", ".join(record.saved)
    described = ("", "", "") if result is None else (str(result), result.dtype, size(result.nbytes))
    return [str(record.index), record.op, *described, ", ".join(map(_given, record.inputs)), saved, record.module,
            short_line(record.line)]


def _given(given: Input) -> str:
    """An input in a word: its name, the number of the operation that made it, or the number itself."""
    value = given.value
    if isinstance(given.source, Record):
        return f"#{given.source.index}" + (f".{given.output}" if given.output else "")
    if isinstance(value, Value):
        return str(value)
    return "-" if value is None else str(value)


def short_line(line: str) -> str:
    """A source line without the folders of its file."""
    place, colon, code = line.partition(": ")
    return PurePath(place).name + colon + code
