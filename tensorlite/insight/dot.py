"""A tape in the language of Graphviz: `dot -Tsvg` makes a picture of it, left to right, with modules as clusters."""

from __future__ import annotations

from collections.abc import Iterator

from .page import boxes
from .page.leaves import Leaf, Leaves
from .records import Record, Tape, short_line
from .tables import shape

_HEAD = """digraph tape {
  rankdir=LR; nodesep=0.25; ranksep=0.45;
  graph [fontname="Helvetica", fontsize=11, style="rounded", color="#98a2b3", fontcolor="#667085"];
  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", fillcolor="#ffffff", color="#98a2b3"];
  edge [color="#98a2b3", arrowsize=0.6];"""
_PARAMETER = 'fillcolor="#e4f5ee", color="#0d8a64"'
_INPUT = 'fillcolor="#eef0f3", style="rounded,filled,dashed"'


def dot(tape: Tape) -> str:
    """The graph of a tape as Graphviz text: operations, parameters and inputs, and what flows between them."""
    return "\n".join(_lines(tape)) + "\n"


def _lines(tape: Tape) -> Iterator[str]:
    yield _HEAD
    leaves = Leaves(tape)
    names: dict[Leaf, str] = {}
    for given in (given for record in tape.records for given in record.inputs):
        leaf = leaves.of(given)
        if leaf is not None and leaf not in names:
            names[leaf] = f"t{len(names)}"
            text = _quoted(f"{leaf.name}\n{shape(leaf.value.shape)}")
            yield f"  {names[leaf]} [label={text}, {_INPUT if leaf.source is None else _PARAMETER}];"
    yield from _cluster(boxes.of_tape(tape), tape, "", "  ")
    for record in tape.records:
        for given in record.inputs:
            leaf = leaves.of(given)
            if leaf is not None:
                yield f"  {names[leaf]} -> n{record.index};"
            elif isinstance(given.source, Record):
                yield f"  n{given.source.index} -> n{record.index};"
    yield "}"


def _cluster(box: boxes.Box, tape: Tape, outer: str, indent: str) -> Iterator[str]:
    """A box's operations, and the boxes in it as clusters; repetitions are drawn one by one."""
    for item in box.items:
        if isinstance(item, int):
            record = tape.records[item]
            tooltip = _quoted(short_line(record.line) or record.op)
            yield f"{indent}n{item} [label={_quoted(_label(record))}, tooltip={tooltip}];"
        elif item.kind == boxes.MODULE:
            yield f"{indent}subgraph cluster_{next(_operations(item))}_{item.path.count('.')} {{"
            yield f"{indent}  label={_quoted(item.name(outer))};"
            yield from _cluster(item, tape, item.path, indent + "  ")
            yield f"{indent}}}"
        else:
            yield from _cluster(item, tape, outer, indent)


def _operations(box: boxes.Box) -> Iterator[int]:
    for item in box.items:
        if isinstance(item, int):
            yield item
        else:
            yield from _operations(item)


def _label(record: Record) -> str:
    if record.result is None:
        return record.title
    return "\n".join(filter(None, [record.result.name, record.title, shape(record.result.shape)]))


def _quoted(text: str) -> str:
    """A string of Graphviz's in which no character has a meaning but the end of a line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
