"""Recurrent layers over all steps of a sequence, each one operation: rnn, gru, lstm.

The products with the input of all steps are one, the products with the state one a step, and what lies between two of
them is one kernel (`lstm_cell`, `gru_cell`). Backward walks the steps in the other direction on raw arrays; the
gradients of the weights are one product over all steps each. Where gradients are to be differentiated in turn
(`create_graph=True`), they are those of the same layer composed of differentiable operations.

A result is one flat array, so that it is one node of the graph: the states before, between and behind all steps,
(steps + 1, batch, hidden), and after them, of an LSTM, the last cells. A layer that goes backwards through the steps
has its first state at the end. Sequences of different lengths lie side by side from the longest to the shortest;
`batch_sizes` says how many of them take part in each step, and the state of the others passes by.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd import engine
from ..autograd.autocast import autocasts
from ..autograd.op import NONE, Op, op, unpack
from ..autograd.tape import Node, Var, wrap
from ..backends import Array, Backend
from ..errors import ShapeError
from .activation import relu, sigmoid, tanh
from .elementwise import add, mul, sub
from .fused import linear
from .matmul import require_same_dtype
from .movement import cat, clone, narrow, reshape, split

if TYPE_CHECKING:
    from ..tensor import Tensor

Raw = dict[str, Any]  # by name: the raw arrays of a layer's inputs and result, and its parameters
Composed = Callable[..., Any]
_SAVED = ("x", "h0", "weight_ih", "weight_hh", "out", "reverse", "batch_sizes")


class _LayerOp(Op):
    """An op over all steps, which makes the gradients of its inputs together.

    backward   (backend, raw incoming gradient, raw values, whether an input's gradient is wanted) -> them, by name
    composed   the layer of differentiable operations, from the inputs that have gradients, in their order
    saved      what both need
    """

    def __init__(self, forward: Callable[..., Array], backward: Callable[[Backend, Array, Raw, set[str]], Raw],
                 composed: Composed, inputs: Sequence[str], saved: Sequence[str]) -> None:
        super().__init__(forward, promote=NONE, view=False)
        self.backward = backward
        self.composed = composed
        self.differentiated = tuple(inputs)
        self.options = [p.name for p in inspect.signature(forward).parameters.values() if p.kind is p.KEYWORD_ONLY]
        self.rule_of = {name: (self._composed_gradients, tuple(saved)) for name in inputs}
        self._has_rule = [name in self.rule_of for name in self.inputs]

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        be = g.backend
        wanted = {self.inputs[i] for i, parent in enumerate(node.parents)
                  if parent is not None and (useful is None or parent in useful)}
        values = unpack(node, be, create_graph)
        if create_graph:
            found = self._composed_gradients(g, values, wanted)
        else:
            raw = {name: x.array if isinstance(x, Var) else x for name, x in values.items()}
            arrays = self.backward(be, be.contiguous(g.array), raw, wanted)
            found = {name: wrap(array, be) for name, array in arrays.items()}
        for name, gradient in found.items():
            yield self.inputs.index(name), gradient

    def _composed_gradients(self, g: Any, values: Raw, wanted: set[str]) -> dict[str, Any]:
        """By name, as results of differentiable operations. Copies stand for the inputs, which may be made of each
        other: what is asked for is the derivative in one of them while the others stay."""
        inputs = {name: clone(values[name]) if name in wanted else values[name] for name in self.differentiated}
        result = self.composed(*inputs.values(), **{name: values[name] for name in self.options})
        names = [name for name in self.differentiated if name in wanted]
        gradients = engine.grad(result, [inputs[name] for name in names], g, create_graph=True)
        return dict(zip(names, gradients, strict=True))


# --- the order of steps ----------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    time: int
    source: int  # where the state before it lies, among all states
    target: int  # and the state behind it
    active: int  # sequences that take part, the first ones


def _walk(steps: int, batch: int, reverse: bool, batch_sizes: tuple[int, ...] | None) -> list[_Step]:
    """The steps in the order in which a layer takes them."""
    sizes = (batch,) * steps if batch_sizes is None else batch_sizes
    before, after = (1, 0) if reverse else (0, 1)
    times = range(steps - 1, -1, -1) if reverse else range(steps)
    return [_Step(t, t + before, t + after, sizes[t]) for t in times]


def _walk_of(raw: Raw) -> list[_Step]:
    steps, batch, _ = raw["x"].shape
    return _walk(steps, batch, raw["reverse"], raw["batch_sizes"])


def _states(flat: Any, x: Any, h0: Any) -> Any:
    """The states (steps + 1, batch, hidden) in a flat result, or their gradient in that of the result."""
    shape = (x.shape[0] + 1, *h0.shape)
    return flat[:math.prod(shape)].reshape(shape)


def _states_before(states: Array, reverse: bool) -> Array:
    """The state before each step, as rows."""
    return (states[1:] if reverse else states[:-1]).reshape(-1, states.shape[-1])


def _pass_by(be: Backend, states: Array, step: _Step) -> None:
    """Copy the states of the sequences that do not take part in a step."""
    if step.active < states.shape[1]:
        be.run("copy", states[step.target, step.active:], states[step.source, step.active:])


def _new_state(be: Backend, h0: Array) -> Array:
    """Memory for the gradient of a state, which is 0 so far."""
    return be.fill("fill", h0.shape, h0.dtype, 0)


def _clear(be: Backend, step: _Step, *of_all_steps: Array) -> None:
    """Zeros for the sequences that do not take part in a step."""
    for array in of_all_steps:
        if step.active < array.shape[1]:
            be.run("fill", array[step.time, step.active:], 0)


def _input_gradients(be: Backend, slopes: Array, raw: Raw, wanted: set[str], bias: str) -> Raw:
    """The gradients of a product with the input of all steps, from that of its result (steps, batch, gates)."""
    x, weight = raw["x"], raw["weight_ih"]
    rows = slopes.reshape(-1, slopes.shape[-1])
    found: Raw = {}
    if "x" in wanted:
        found["x"] = be.empty(x.shape, x.dtype)
        be.run("matmul", found["x"].reshape(-1, x.shape[-1]), rows, weight)
    if "weight_ih" in wanted:
        found["weight_ih"] = be.matmul(rows.T, be.reshape(x, (-1, x.shape[-1])))
    if bias in wanted:
        found[bias] = be.reduce("sum", rows, (0,), False)
    return found


def _state_weight_gradient(be: Backend, slopes: Array, raw: Raw) -> Array:
    """The gradient of weight_hh: one product over all steps."""
    before = _states_before(_states(raw["out"], raw["x"], raw["h0"]), raw["reverse"])
    return be.matmul(slopes.reshape(-1, slopes.shape[-1]).T, before)


def _composed(cell: Callable[..., tuple[Any, ...]], sums: Any, state: tuple[Any, ...], reverse: bool,
              batch_sizes: tuple[int, ...] | None) -> tuple[list[Any], tuple[Any, ...]]:
    """All states that a cell emits, by time and with the first one, and its state behind all steps."""
    batch = sums.shape[1]
    emitted = [state[0]]
    for time, _, _, active in _walk(sums.shape[0], batch, reverse, batch_sizes):
        following = cell(sums[time], *state)
        if active < batch:
            following = tuple(cat([narrow(new, 0, 0, active), narrow(old, 0, active, batch - active)])
                              for new, old in zip(following, state, strict=True))
        state = following
        emitted.append(state[0])
    return emitted[::-1] if reverse else emitted, state


def _flat(states: list[Any]) -> Any:
    return cat([reshape(state, (-1,)) for state in states])


def _require_fitting(name: str, x: Tensor, *others: Tensor) -> None:
    """Raise ShapeError for what is no sequence of batches, DTypeError for what is of another dtype than x."""
    if x.ndim != 3 or not x.shape[0]:
        raise ShapeError(f"{name}: expected an input (steps, batch, features) of at least one step, got "
                         f"{tuple(x.shape)}")
    for other in others:
        require_same_dtype(name, x, other)


# --- rnn -------------------------------------------------------------------------------------------------------------

_ACTIVATIONS = {"tanh": tanh, "relu": relu}


def _rnn_forward(be: Backend, x: Array, h0: Array, weight_ih: Array, weight_hh: Array, bias: Array | None, *,
                 activation: str, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size,), x.dtype)
    states, walk = _states(out, x, h0), _walk(steps, batch, reverse, batch_sizes)
    sums = be.fill("linear", (steps, *h0.shape), x.dtype, x, weight_ih, bias)
    be.run("copy", states[walk[0].source], h0)
    for step in walk:
        time, source, target, n = step
        _pass_by(be, states, step)
        state = states[target, :n]
        be.run("linear", state, states[source, :n], weight_hh, None)
        be.run("add", state, state, sums[time, :n])
        be.run(activation, state, state)
    return out


def _rnn_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, weight_hh, derivative = raw["x"], raw["h0"], raw["weight_hh"], f"{raw['activation']}_grad"
    states, incoming = _states(raw["out"], x, h0), _states(g, x, h0)
    slopes, slope = be.empty((x.shape[0], *h0.shape), x.dtype), _new_state(be, h0)
    for step in reversed(_walk_of(raw)):
        time, _, target, n = step
        be.run("add", slope, slope, incoming[target])
        _clear(be, step, slopes)
        be.run(derivative, slopes[time, :n], slope[:n], states[target, :n])
        be.run("matmul", slope[:n], slopes[time, :n], weight_hh)
    found = _input_gradients(be, slopes, raw, wanted, "bias")
    if "weight_hh" in wanted:
        found["weight_hh"] = _state_weight_gradient(be, slopes, raw)
    if "h0" in wanted:
        found["h0"] = slope
    return found


def _rnn_composed(x: Any, h0: Any, weight_ih: Any, weight_hh: Any, bias: Any, *, activation: str, reverse: bool,
                  batch_sizes: tuple[int, ...] | None) -> Any:
    activate = _ACTIVATIONS[activation]

    def cell(sums: Any, h: Any) -> tuple[Any, ...]:
        return (activate(add(sums, linear(h, weight_hh))),)

    return _flat(_composed(cell, linear(x, weight_ih, bias), (h0,), reverse, batch_sizes)[0])


_rnn = _LayerOp(_rnn_forward, _rnn_backward, _rnn_composed, ("x", "h0", "weight_ih", "weight_hh", "bias"),
                (*_SAVED, "bias", "activation"))
_rnn.name = "rnn"


@autocasts
def rnn(x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None = None, *,
        nonlinearity: str = "tanh", reverse: bool = False,
        batch_sizes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """hₜ = φ(W_ih xₜ + W_hh hₜ₋₁ + b), φ being tanh or relu: all hₜ, (steps, batch, hidden), and the last one.

    x (steps, batch, in), h0 (batch, hidden), W_ih (hidden, in), W_hh (hidden, hidden), b (hidden,).
    """
    _require_fitting("rnn", x, h0, weight_ih, weight_hh)
    flat = _rnn(x.contiguous(), h0.contiguous(), weight_ih, weight_hh, bias, activation=nonlinearity, reverse=reverse,
                batch_sizes=batch_sizes)
    return _outputs(flat, x, h0, reverse)


def _outputs(flat: Tensor, x: Tensor, h0: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """What a layer emits at each step, and its last state."""
    steps, (batch, hidden) = x.shape[0], h0.shape
    size = batch * hidden
    results = narrow(flat, 0, 0 if reverse else size, steps * size)
    last = narrow(flat, 0, 0 if reverse else steps * size, size)
    return reshape(results, (steps, batch, hidden)), reshape(last, (batch, hidden))


# --- gru -------------------------------------------------------------------------------------------------------------


def _gru_forward(be: Backend, x: Array, h0: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None,
                 bias_hh: Array | None, gates: Array, kept: Array, *, reverse: bool,
                 batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size,), x.dtype)
    states, walk = _states(out, x, h0), _walk(steps, batch, reverse, batch_sizes)
    be.run("linear", gates, x, weight_ih, bias_ih)
    be.run("copy", states[walk[0].source], h0)
    product = be.empty(gates.shape[1:], x.dtype)
    for step in walk:
        time, source, target, n = step
        _pass_by(be, states, step)
        be.run("linear", product[:n], states[source, :n], weight_hh, bias_hh)
        be.run("gru_cell", (states[target, :n], gates[time, :n], kept[time, :n]), gates[time, :n], product[:n],
               states[source, :n])
    return out


def _gru_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, weight_hh, gates, kept = raw["x"], raw["h0"], raw["weight_hh"], raw["gates"], raw["kept"]
    states, incoming = _states(raw["out"], x, h0), _states(g, x, h0)
    slopes, of_products = be.empty(gates.shape, x.dtype), be.empty(gates.shape, x.dtype)
    slope, through = _new_state(be, h0), be.empty(h0.shape, h0.dtype)
    for step in reversed(_walk_of(raw)):
        time, source, target, n = step
        be.run("add", slope, slope, incoming[target])
        _clear(be, step, slopes, of_products)
        be.run("gru_cell_grad", (slopes[time, :n], of_products[time, :n], slope[:n]), slope[:n], gates[time, :n],
               kept[time, :n], states[source, :n])
        be.run("matmul", through[:n], of_products[time, :n], weight_hh)
        be.run("add", slope[:n], slope[:n], through[:n])
    found = _input_gradients(be, slopes, raw, wanted, "bias_ih")
    if "weight_hh" in wanted:
        found["weight_hh"] = _state_weight_gradient(be, of_products, raw)
    if "bias_hh" in wanted:
        found["bias_hh"] = be.reduce("sum", of_products.reshape(-1, gates.shape[-1]), (0,), False)
    if "h0" in wanted:
        found["h0"] = slope
    return found


def _gru_composed(x: Any, h0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, *, reverse: bool,
                  batch_sizes: tuple[int, ...] | None) -> Any:
    hidden = h0.shape[1]

    def cell(sums: Any, h: Any) -> tuple[Any, ...]:
        x_r, x_z, x_n = split(sums, hidden, -1)
        h_r, h_z, h_n = split(linear(h, weight_hh, bias_hh), hidden, -1)
        r, z = sigmoid(add(x_r, h_r)), sigmoid(add(x_z, h_z))
        n = tanh(add(x_n, mul(r, h_n)))
        return (add(n, mul(z, sub(h, n))),)

    return _flat(_composed(cell, linear(x, weight_ih, bias_ih), (h0,), reverse, batch_sizes)[0])


_gru = _LayerOp(_gru_forward, _gru_backward, _gru_composed,
                ("x", "h0", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
                (*_SAVED, "bias_ih", "bias_hh", "gates", "kept"))
_gru.name = "gru"


@autocasts
def gru(x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None = None,
        bias_hh: Tensor | None = None, *, reverse: bool = False,
        batch_sizes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Gated recurrent units: all hₜ, (steps, batch, hidden), and the last one. Cho et al. 2014.

        r, z = σ(W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh),  n = tanh(W_in xₜ + b_in + r·(W_hn hₜ₋₁ + b_hn))
        hₜ = (1 - z)·n + z·hₜ₋₁

    x (steps, batch, in), h0 (batch, hidden), W_ih (3 hidden, in), W_hh (3 hidden, hidden), the rows in the order r, z,
    n.
    """
    _require_fitting("gru", x, h0, weight_ih, weight_hh)
    be, dtype = x.backend, x.array.dtype
    shape = (*x.shape[:2], h0.shape[1])
    gates, kept = (wrap(be.empty((*shape[:2], count * shape[2]), dtype), be) for count in (3, 1))
    flat = _gru(x.contiguous(), h0.contiguous(), weight_ih, weight_hh, bias_ih, bias_hh, gates, kept, reverse=reverse,
                batch_sizes=batch_sizes)
    return _outputs(flat, x, h0, reverse)


# --- lstm ------------------------------------------------------------------------------------------------------------


def _lstm_forward(be: Backend, x: Array, h0: Array, c0: Array, weight_ih: Array, weight_hh: Array, bias: Array | None,
                  weight_hr: Array | None, gates: Array, cells: Array, emitted: Array | None, *, reverse: bool,
                  batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size + c0.size,), x.dtype)
    states, walk = _states(out, x, h0), _walk(steps, batch, reverse, batch_sizes)
    be.run("linear", gates, x, weight_ih, bias)
    be.run("copy", states[walk[0].source], h0)
    be.run("copy", cells[walk[0].source], c0)
    product = be.empty(gates.shape[1:], x.dtype)
    for step in walk:
        time, source, target, n = step
        _pass_by(be, states, step)
        _pass_by(be, cells, step)
        be.run("linear", product[:n], states[source, :n], weight_hh, None)
        result = states[target, :n] if emitted is None else emitted[time, :n]
        be.run("lstm_cell", (result, cells[target, :n], gates[time, :n]), gates[time, :n], product[:n],
               cells[source, :n])
        if emitted is not None:
            _clear(be, step, emitted)
            be.run("linear", states[target, :n], result, weight_hr, None)
    be.run("copy", _last_cells(out, c0), cells[walk[-1].target])
    return out


def _last_cells(flat: Array, c0: Array) -> Array:
    return flat[flat.size - c0.size:].reshape(c0.shape)


def _lstm_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, c0, gates, cells = raw["x"], raw["h0"], raw["c0"], raw["gates"], raw["cells"]
    incoming, slopes = _states(g, x, h0), be.empty(gates.shape, x.dtype)
    slope, cell_slope = _new_state(be, h0), be.copy(_last_cells(g, c0))
    projection = None if raw["weight_hr"] is None else _Projection(be, raw)
    for step in reversed(_walk_of(raw)):
        time, source, target, n = step
        be.run("add", slope, slope, incoming[target])
        _clear(be, step, slopes)
        of_emitted = slope[:n] if projection is None else projection.slope_before(slope, step)
        be.run("lstm_cell_grad", (slopes[time, :n], cell_slope[:n]), of_emitted, cell_slope[:n], gates[time, :n],
               cells[source, :n], cells[target, :n])
        be.run("matmul", slope[:n], slopes[time, :n], raw["weight_hh"])
    found = _input_gradients(be, slopes, raw, wanted, "bias")
    if "weight_hh" in wanted:
        found["weight_hh"] = _state_weight_gradient(be, slopes, raw)
    if projection is not None and "weight_hr" in wanted:
        found["weight_hr"] = projection.weight_gradient()
    found |= {name: array for name, array in (("h0", slope), ("c0", cell_slope)) if name in wanted}
    return found


class _Projection:
    """Backward through h = W_hr m, which makes the state of what the cell emits."""

    def __init__(self, be: Backend, raw: Raw) -> None:
        self.be, self.weight, self.emitted = be, raw["weight_hr"], raw["emitted"]
        self.slopes = be.empty((len(self.emitted), *raw["h0"].shape), self.emitted.dtype)
        self.before = be.empty(self.emitted.shape[1:], self.emitted.dtype)

    def slope_before(self, slope: Array, step: _Step) -> Array:
        """The gradient of what is emitted at a step, from that of the state."""
        n = step.active
        self.be.run("copy", self.slopes[step.time, :n], slope[:n])
        _clear(self.be, step, self.slopes)
        self.be.run("matmul", self.before[:n], slope[:n], self.weight)
        return self.before[:n]

    def weight_gradient(self) -> Array:
        rows, emitted = (a.reshape(-1, a.shape[-1]) for a in (self.slopes, self.emitted))
        return self.be.matmul(rows.T, emitted)


def _lstm_composed(x: Any, h0: Any, c0: Any, weight_ih: Any, weight_hh: Any, bias: Any, weight_hr: Any, *,
                   reverse: bool, batch_sizes: tuple[int, ...] | None) -> Any:
    hidden = c0.shape[1]

    def cell(sums: Any, h: Any, c: Any) -> tuple[Any, ...]:
        i, f, g, o = split(add(sums, linear(h, weight_hh)), hidden, -1)
        following = add(mul(sigmoid(f), c), mul(sigmoid(i), tanh(g)))
        emitted = mul(sigmoid(o), tanh(following))
        return emitted if weight_hr is None else linear(emitted, weight_hr), following

    states, (_, last) = _composed(cell, linear(x, weight_ih, bias), (h0, c0), reverse, batch_sizes)
    return _flat([*states, last])


_lstm = _LayerOp(_lstm_forward, _lstm_backward, _lstm_composed,
                 ("x", "h0", "c0", "weight_ih", "weight_hh", "bias", "weight_hr"),
                 (*_SAVED, "c0", "bias", "weight_hr", "gates", "cells", "emitted"))
_lstm.name = "lstm"


@autocasts
def lstm(x: Tensor, h0: Tensor, c0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None = None,
         weight_hr: Tensor | None = None, *, reverse: bool = False,
         batch_sizes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory: all hₜ, (steps, batch, hidden), the last one, and the last cells.

        i, f, o = σ(s), g = tanh(s)  of their rows of  s = W_ih xₜ + W_hh hₜ₋₁ + b
        cₜ = f·cₜ₋₁ + i·g,  hₜ = o·tanh(cₜ), times W_hr where that is given

    Hochreiter and Schmidhuber 1997; Gers et al. 2000. x (steps, batch, in), c0 (batch, hidden), h0 (batch, hidden or
    rows of W_hr), W_ih (4 hidden, in), W_hh (4 hidden, width of h0), rows in the order i, f, g, o.
    """
    _require_fitting("lstm", x, h0, c0, weight_ih, weight_hh)
    be, dtype, (steps, batch) = x.backend, x.array.dtype, x.shape[:2]
    hidden = c0.shape[1]
    gates, cells = (wrap(be.empty(shape, dtype), be)
                    for shape in ((steps, batch, 4 * hidden), (steps + 1, batch, hidden)))
    emitted = None if weight_hr is None else wrap(be.empty((steps, batch, hidden), dtype), be)
    flat = _lstm(x.contiguous(), h0.contiguous(), c0.contiguous(), weight_ih, weight_hh, bias, weight_hr, gates, cells,
                 emitted, reverse=reverse, batch_sizes=batch_sizes)
    last = narrow(flat, 0, flat.shape[0] - batch * hidden, batch * hidden)
    return *_outputs(flat, x, h0, reverse), reshape(last, (batch, hidden))


# --- sequences of different lengths ----------------------------------------------------------------------------------


def _runs(batch_sizes: Sequence[int]) -> Iterator[tuple[slice, int, slice]]:
    """Stretches of steps with as many sequences each: the steps, that number, and their rows among all."""
    start = row = 0
    for size, group in itertools.groupby(batch_sizes):
        count = len(list(group))
        yield slice(start, start + count), size, slice(row, row + count * size)
        start, row = start + count, row + count * size


@op
def packed_steps(be: Backend, x: Array, *, batch_sizes: Any) -> Array:
    """The first batch_sizes[t] rows of each step t of x (steps, batch, ...), one below the other."""
    out = be.empty((sum(batch_sizes), *x.shape[2:]), x.dtype)
    for steps, size, rows in _runs(batch_sizes):
        region = x[steps, :size]
        be.run("copy", out[rows].reshape(region.shape), region)
    return out


@op
def padded_steps(be: Backend, data: Array, *, batch_sizes: Any, batch: Any, value: Any = 0) -> Array:
    """(steps, batch, ...) whose step t begins with the next batch_sizes[t] rows of the data; `value` elsewhere."""
    out = be.fill("fill", (len(batch_sizes), batch, *data.shape[1:]), data.dtype, value)
    for steps, size, rows in _runs(batch_sizes):
        region = out[steps, :size]
        be.run("copy", region, data[rows].reshape(region.shape))
    return out


packed_steps.rules(x=lambda g, batch_sizes, shapes: padded_steps(g, batch_sizes=batch_sizes, batch=shapes[0][1]))
padded_steps.rules(data=lambda g, batch_sizes: packed_steps(g, batch_sizes=batch_sizes))
