"""`model.summary()`: the modules of a model in a table, with shapes, parameters, operations and memory.

Contract. Numbers are found, not estimated: shapes, operations and memory are those of one forward pass, which leaves
the model as it was (forward_pass.py). Operations are counted as `tl.profile` counts them (costs.py). What stands in a
column adds up to its total: a module with submodules shows what is its own, one whose submodules are folded shows
theirs too, and a shared Parameter counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..creation import zeros
from ..errors import ArgumentError, DTypeError
from ..nn import Module
from ..tensor import Tensor
from .forward_pass import ForwardPass, Shapes, Visit
from .tables import size, table


class Row(NamedTuple):
    """A line of the table.

    name        as `named_modules` has it, "" for the model
    kind        the module's class
    level       how many modules it lies in
    calls       how often it was called
    inputs      shapes of the tensors that it took at its first call
    outputs     and of those that it gave
    parameters  numbers in its Parameters
    frozen      those of them that are not trained
    flops       floating-point operations of matrix products, convolutions and attention in its forward passes
    saved       bytes that it keeps for backward
    """

    name: str
    kind: str
    level: int
    calls: int
    inputs: Shapes
    outputs: Shapes
    parameters: int
    frozen: int
    flops: int
    saved: int


class Summary:
    """What `model.summary()` found; print it.

    rows             the lines of the table
    parameters       numbers in all Parameters, each counted once; trainable, frozen: parts of them
    parameter_bytes  memory of the Parameters;  buffer_bytes: of the buffers
    flops            floating-point operations of products, convolutions and attention in one forward pass
    input_bytes      memory of the inputs
    filled_bytes     memory that the kernels of the forward pass filled, each block once
    saved_bytes      memory that waits for backward: intermediate results, without parameters, buffers and inputs

    The last four are None where no forward pass was made.
    """

    def __init__(self, model: Module, forward: ForwardPass | None, depth: int) -> None:
        parameters, buffers = list(model.parameters()), list(model.buffers())
        self.parameters = sum(p.numel() for p in parameters)
        self.frozen = sum(p.numel() for p in parameters if not p.requires_grad)
        self.trainable = self.parameters - self.frozen
        self.parameter_bytes, self.buffer_bytes = _bytes(parameters), _bytes(buffers)
        self.flops = self.input_bytes = self.filled_bytes = self.saved_bytes = None
        if forward is not None:
            self.flops = sum(visit.flops for visit in forward.visits.values())
            self.input_bytes, self.filled_bytes = _bytes(forward.inputs), forward.filled
            self.saved_bytes = forward.saved
        self.rows = _folded(_rows(model, forward), depth)

    def __repr__(self) -> str:
        columns = [column for column in _COLUMNS if any(column.text(row) for row in self.rows)]
        cells = [[name, *[column.text(row) or "-" for column in columns]]
                 for name, row in zip(_tree(self.rows), self.rows, strict=True)]
        align = "".join(["<", *[column.align for column in columns]])
        lines = table(["Layer", *[column.title for column in columns]], cells, align)
        return "\n".join([*lines, lines[1], *self._totals()])

    def _totals(self) -> list[str]:
        lines = [f"parameters: {self.parameters:,} ({self.trainable:,} trainable), "
                 f"{size(self.parameter_bytes)}; buffers: {size(self.buffer_bytes)}"]
        if self.flops is not None:
            lines += [f"forward pass: {_scaled(self.flops)}flop; inputs {size(self.input_bytes or 0)}, "
                      f"results {size(self.filled_bytes or 0)}, of which "
                      f"{size(self.saved_bytes or 0)} wait for backward"]
        return lines


def summary(model: Module, *inputs: Any, input_size: Any = None, dtypes: Any = None, device: Any = None,
            depth: int = 3, mode: str | None = None, **kwargs: Any) -> Summary:
    """The modules of a model: shapes, parameters, floating-point operations and memory, from one forward pass.

    Takes what `model` takes, or `input_size`: a shape, or a list of one for each input, for which zeros are made, of
    `dtypes` (default: that of the parameters) and on `device` (default: theirs). Without both, parameters alone are
    shown. Modules nested deeper than `depth` are folded into the one they lie in. `mode` is "train" or "eval" for this
    pass; default is the one the model is in. Nothing is changed: buffers, modes, gradients and the random state are
    afterwards as before. Raises ArgumentError for inputs and `input_size` both, a shape in place of inputs, what is no
    size, a depth below 0 or another mode, and DTypeError for a model that is no Module.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model.summary(input_size=(5, 4))
    Layer          Input   Output  Parameters  Saved  Flop
    ------------------------------------------------------
    Sequential     (5, 4)  (5, 2)           -      -     -
    ├─ 0 (Linear)  (5, 4)  (5, 8)          40      -   320
    ├─ 1 (ReLU)    (5, 8)  (5, 8)           -  160 B     -
    └─ 2 (Linear)  (5, 8)  (5, 2)          18      -   160
    ------------------------------------------------------
    parameters: 58 (58 trainable), 232 B; buffers: 0 B
    forward pass: 480 flop; inputs 80 B, results 360 B, of which 160 B wait for backward
    """
    if not isinstance(model, Module):
        raise DTypeError(f"summary: expected an nn.Module, got {type(model).__name__}")
    if not isinstance(depth, int) or depth < 0:
        raise ArgumentError(f"summary: depth must be an integer of at least 0, got {depth!r}")
    if mode not in (None, "train", "eval"):
        raise ArgumentError(f'summary: mode must be "train", "eval", or None for the present one, got {mode!r}')
    if input_size is not None:
        if inputs:
            raise ArgumentError("summary: give inputs or input_size, not both")
        inputs = _made(model, input_size, dtypes, device)
    if inputs and all(_is_shape(given) for given in inputs):
        shape = tuple(inputs[0])
        raise ArgumentError(f"summary: {shape} is a shape; write input_size={shape}, with the batch as its first size")
    forward = ForwardPass(model, inputs, kwargs, mode) if inputs or kwargs else None
    return Summary(model, forward, depth)


def _is_shape(given: Any) -> bool:
    return isinstance(given, (tuple, list)) and bool(given) and all(isinstance(size, int) for size in given)


def _made(model: Module, input_size: Any, dtypes: Any, device: Any) -> tuple[Tensor, ...]:
    """Zeros of the wanted sizes: as labels and indices they are valid too."""
    if not isinstance(input_size, Sequence):
        raise ArgumentError(f"summary: input_size must be a shape or a list of shapes, got {input_size!r}; for vectors "
                            "write a tuple, such as (32, 4)")
    single = not len(input_size) or not isinstance(input_size[0], Sequence)
    sizes = [input_size] if single else list(input_size)
    wanted = list(dtypes) if isinstance(dtypes, (list, tuple)) else [dtypes] * len(sizes)
    if len(wanted) != len(sizes):
        raise ArgumentError(f"summary: {len(wanted)} dtypes for {len(sizes)} inputs; give one for each, or one for all")
    like = next(model.parameters(), None)
    if like is not None:
        wanted = [like.dtype if dtype is None else dtype for dtype in wanted]
        device = like.device if device is None else device
    return tuple(zeros(tuple(size), dtype=dtype, device=device) for size, dtype in zip(sizes, wanted, strict=True))


# --- rows ---------------------------------------------------------------------------------------------------------


def _rows(model: Module, forward: ForwardPass | None) -> list[Row]:
    """A row for each module, in the model's order, with what is its own."""
    counted: set[int] = set()
    rows = []
    outer: list[str] = []
    for name, module in model.named_modules():
        while outer and not name.startswith(f"{outer[-1]}."):
            outer.pop()
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, own))
        visit = forward.visits[name] if forward is not None else Visit()
        rows.append(Row(name, type(module).__name__, len(outer) + (name != ""), visit.calls, visit.inputs,
                        visit.outputs, sum(p.numel() for p in own),
                        sum(p.numel() for p in own if not p.requires_grad), visit.flops, visit.saved))
        if name:
            outer.append(name)
    return rows


def _folded(rows: list[Row], depth: int) -> list[Row]:
    """The rows down to a level, those at that level with all that lies in them."""
    kept: list[Row] = []
    for row in rows:
        if row.level <= depth:
            kept.append(row)
            continue
        outer = kept[-1]
        kept[-1] = outer._replace(parameters=outer.parameters + row.parameters, frozen=outer.frozen + row.frozen,
                                  flops=outer.flops + row.flops, saved=outer.saved + row.saved)
    return kept


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(int(x.array.nbytes) for x in tensors)


# --- text ---------------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    title: str
    text: Callable[[Row], str]
    align: str


def _shapes(shapes: Shapes) -> str:
    """The first shapes of several."""
    return ", ".join(map(str, shapes[:2])) + (f", +{len(shapes) - 2}" if len(shapes) > 2 else "")


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _scaled(number: int) -> str:
    """Three digits, a blank, and a decimal prefix if need be: '1.54 G'."""
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if number >= 0.9995 * scale), (1, ""))
    return f"{number / scale:.3g} {prefix}"


_PREFIXES = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_COLUMNS = (
    _Column("Input", lambda row: _shapes(row.inputs), "<"),
    _Column("Output", lambda row: _shapes(row.outputs), "<"),
    _Column("Parameters", lambda row: _count(row.parameters), ">"),
    _Column("Frozen", lambda row: _count(row.frozen), ">"),
    _Column("Saved", lambda row: size(row.saved) if row.saved else "", ">"),
    _Column("Flop", lambda row: _scaled(row.flops).rstrip() if row.flops else "", ">"),
)


def _tree(rows: list[Row]) -> list[str]:
    """'│  └─ 0 (Linear), 2 calls' for each row: its name within the module it lies in, its class, and its calls."""
    lines = []
    outer: list[str] = []
    for position, row in enumerate(rows):
        del outer[row.level:]
        local = row.name.removeprefix(f"{outer[-1]}." if outer and outer[-1] else "")
        outer.append(row.name)
        bars = ["│  " if _goes_on(rows, position, level) else "   " for level in range(1, row.level)]
        branch = ("├─ " if _goes_on(rows, position, row.level) else "└─ ") if row.level else ""
        name = f"{local} ({row.kind})" if local else row.kind
        lines.append("".join(bars) + branch + name + (f", {row.calls} calls" if row.calls > 1 else ""))
    return lines


def _goes_on(rows: list[Row], position: int, level: int) -> bool:
    """Whether another row of that level follows in the same module."""
    for row in rows[position + 1:]:
        if row.level <= level:
            return row.level == level
    return False
