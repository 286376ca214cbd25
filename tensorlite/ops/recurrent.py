"""Recurrent layers over all steps of a sequence, each one operation: rnn, gru, lstm.

The products with the input of all steps are one, the products with the state one a step, and what lies between two of
them is one kernel (`lstm_cell`, `gru_cell`). Backward walks the steps in the other direction on raw arrays; the
gradients of the weights are one product over all steps each. Where gradients are to be differentiated in turn
(`create_graph=True`), they are those of the same layer composed of differentiable operations. The layout of results,
and sequences of different lengths, are explained in recurrent_steps.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..autograd.autocast import autocasts
from ..autograd.tape import wrap
from ..backends import Array, Backend
from .activation import relu, sigmoid, tanh
from .elementwise import add, mul, sub
from .fused import linear
from .movement import narrow, reshape, split
from .recurrent_steps import (
    SAVED,
    LayerOp,
    Raw,
    Step,
    clear,
    composed_layer,
    flattened,
    in_order,
    input_gradients,
    new_state,
    order_of,
    outputs,
    pass_by,
    require_fitting,
    require_shapes,
    state_weight_gradient,
    states_of,
)

if TYPE_CHECKING:
    from ..tensor import Tensor

# --- rnn -------------------------------------------------------------------------------------------------------------

_ACTIVATIONS = {"tanh": tanh, "relu": relu}


def _rnn_forward(be: Backend, x: Array, h0: Array, weight_ih: Array, weight_hh: Array, bias: Array | None, *,
                 activation: str, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size,), x.dtype)
    states, walk = states_of(out, x, h0), in_order(steps, batch, reverse, batch_sizes)
    sums = be.fill("linear", (steps, *h0.shape), x.dtype, x, weight_ih, bias)
    be.run("copy", states[walk[0].source], h0)
    for step in walk:
        time, source, target, n = step
        pass_by(be, states, step)
        state = states[target, :n]
        be.run("linear", state, states[source, :n], weight_hh, None)
        be.run("add", state, state, sums[time, :n])
        be.run(activation, state, state)
    return out


def _rnn_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, weight_hh, derivative = raw["x"], raw["h0"], raw["weight_hh"], f"{raw['activation']}_grad"
    states, incoming = states_of(raw["out"], x, h0), states_of(g, x, h0)
    slopes, slope = be.empty((x.shape[0], *h0.shape), x.dtype), new_state(be, h0)
    for step in reversed(order_of(raw)):
        time, _, target, n = step
        be.run("add", slope, slope, incoming[target])
        clear(be, step, slopes)
        be.run(derivative, slopes[time, :n], slope[:n], states[target, :n])
        be.run("matmul", slope[:n], slopes[time, :n], weight_hh)
    found = input_gradients(be, slopes, raw, wanted, "bias")
    if "weight_hh" in wanted:
        found["weight_hh"] = state_weight_gradient(be, slopes, raw)
    if "h0" in wanted:
        found["h0"] = slope
    return found


def _rnn_composed(x: Any, h0: Any, weight_ih: Any, weight_hh: Any, bias: Any, *, activation: str, reverse: bool,
                  batch_sizes: tuple[int, ...] | None) -> Any:
    activate = _ACTIVATIONS[activation]

    def cell(sums: Any, h: Any) -> tuple[Any, ...]:
        return (activate(add(sums, linear(h, weight_hh))),)

    return flattened(composed_layer(cell, linear(x, weight_ih, bias), (h0,), reverse, batch_sizes)[0])


_rnn = LayerOp(_rnn_forward, _rnn_backward, _rnn_composed, ("x", "h0", "weight_ih", "weight_hh", "bias"),
               (*SAVED, "bias", "activation"))
_rnn.name = "rnn"


@autocasts
def rnn(x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None = None, *,
        nonlinearity: str = "tanh", reverse: bool = False,
        batch_sizes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """hₜ = φ(W_ih xₜ + W_hh hₜ₋₁ + b), φ being tanh or relu: all hₜ, (steps, batch, hidden), and the last one.

    x (steps, batch, in), h0 (batch, hidden), W_ih (hidden, in), W_hh (hidden, hidden), b (hidden,).
    """
    require_fitting("rnn", x, h0, weight_ih, weight_hh)
    require_shapes("rnn", x, 1, h0, weight_ih, weight_hh, bias)
    flat = _rnn(x.contiguous(), h0.contiguous(), weight_ih, weight_hh, bias, activation=nonlinearity, reverse=reverse,
                batch_sizes=batch_sizes)
    return outputs(flat, x, h0, reverse)


# --- gru -------------------------------------------------------------------------------------------------------------


def _gru_forward(be: Backend, x: Array, h0: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None,
                 bias_hh: Array | None, gates: Array, kept: Array, *, reverse: bool,
                 batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size,), x.dtype)
    states, walk = states_of(out, x, h0), in_order(steps, batch, reverse, batch_sizes)
    be.run("linear", gates, x, weight_ih, bias_ih)
    be.run("copy", states[walk[0].source], h0)
    product = be.empty(gates.shape[1:], x.dtype)
    for step in walk:
        time, source, target, n = step
        pass_by(be, states, step)
        be.run("linear", product[:n], states[source, :n], weight_hh, bias_hh)
        be.run("gru_cell", (states[target, :n], gates[time, :n], kept[time, :n]), gates[time, :n], product[:n],
               states[source, :n])
    return out


def _gru_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, weight_hh, gates, kept = raw["x"], raw["h0"], raw["weight_hh"], raw["gates"], raw["kept"]
    states, incoming = states_of(raw["out"], x, h0), states_of(g, x, h0)
    slopes, of_products = be.empty(gates.shape, x.dtype), be.empty(gates.shape, x.dtype)
    slope, through = new_state(be, h0), be.empty(h0.shape, h0.dtype)
    for step in reversed(order_of(raw)):
        time, source, target, n = step
        be.run("add", slope, slope, incoming[target])
        clear(be, step, slopes, of_products)
        be.run("gru_cell_grad", (slopes[time, :n], of_products[time, :n], slope[:n]), slope[:n], gates[time, :n],
               kept[time, :n], states[source, :n])
        be.run("matmul", through[:n], of_products[time, :n], weight_hh)
        be.run("add", slope[:n], slope[:n], through[:n])
    found = input_gradients(be, slopes, raw, wanted, "bias_ih")
    if "weight_hh" in wanted:
        found["weight_hh"] = state_weight_gradient(be, of_products, raw)
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

    return flattened(composed_layer(cell, linear(x, weight_ih, bias_ih), (h0,), reverse, batch_sizes)[0])


_gru = LayerOp(_gru_forward, _gru_backward, _gru_composed,
               ("x", "h0", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
               (*SAVED, "bias_ih", "bias_hh", "gates", "kept"))
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
    require_fitting("gru", x, h0, weight_ih, weight_hh)
    require_shapes("gru", x, 3, h0, weight_ih, weight_hh, bias_ih, bias_hh)
    be, dtype = x.backend, x.array.dtype
    shape = (*x.shape[:2], h0.shape[1])
    gates, kept = (wrap(be.empty((*shape[:2], count * shape[2]), dtype), be) for count in (3, 1))
    flat = _gru(x.contiguous(), h0.contiguous(), weight_ih, weight_hh, bias_ih, bias_hh, gates, kept, reverse=reverse,
                batch_sizes=batch_sizes)
    return outputs(flat, x, h0, reverse)


# --- lstm ------------------------------------------------------------------------------------------------------------


def _lstm_forward(be: Backend, x: Array, h0: Array, c0: Array, weight_ih: Array, weight_hh: Array, bias: Array | None,
                  weight_hr: Array | None, gates: Array, cells: Array, emitted: Array | None, *, reverse: bool,
                  batch_sizes: tuple[int, ...] | None) -> Array:
    steps, batch, _ = x.shape
    out = be.empty(((steps + 1) * h0.size + c0.size,), x.dtype)
    states, walk = states_of(out, x, h0), in_order(steps, batch, reverse, batch_sizes)
    be.run("linear", gates, x, weight_ih, bias)
    be.run("copy", states[walk[0].source], h0)
    be.run("copy", cells[walk[0].source], c0)
    product = be.empty(gates.shape[1:], x.dtype)
    for step in walk:
        time, source, target, n = step
        pass_by(be, states, step)
        pass_by(be, cells, step)
        be.run("linear", product[:n], states[source, :n], weight_hh, None)
        result = states[target, :n] if emitted is None else emitted[time, :n]
        be.run("lstm_cell", (result, cells[target, :n], gates[time, :n]), gates[time, :n], product[:n],
               cells[source, :n])
        if emitted is not None:
            clear(be, step, emitted)
            be.run("linear", states[target, :n], result, weight_hr, None)
    be.run("copy", _last_cells(out, c0), cells[walk[-1].target])
    return out


def _last_cells(flat: Array, c0: Array) -> Array:
    return flat[flat.size - c0.size:].reshape(c0.shape)


def _lstm_backward(be: Backend, g: Array, raw: Raw, wanted: set[str]) -> Raw:
    x, h0, c0, gates, cells = raw["x"], raw["h0"], raw["c0"], raw["gates"], raw["cells"]
    incoming, slopes = states_of(g, x, h0), be.empty(gates.shape, x.dtype)
    slope, cell_slope = new_state(be, h0), be.copy(_last_cells(g, c0))
    projection = None if raw["weight_hr"] is None else _Projection(be, raw)
    for step in reversed(order_of(raw)):
        time, source, target, n = step
        be.run("add", slope, slope, incoming[target])
        clear(be, step, slopes)
        of_emitted = slope[:n] if projection is None else projection.slope_before(slope, step)
        be.run("lstm_cell_grad", (slopes[time, :n], cell_slope[:n]), of_emitted, cell_slope[:n], gates[time, :n],
               cells[source, :n], cells[target, :n])
        be.run("matmul", slope[:n], slopes[time, :n], raw["weight_hh"])
    found = input_gradients(be, slopes, raw, wanted, "bias")
    if "weight_hh" in wanted:
        found["weight_hh"] = state_weight_gradient(be, slopes, raw)
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

    def slope_before(self, slope: Array, step: Step) -> Array:
        """The gradient of what is emitted at a step, from that of the state."""
        n = step.active
        self.be.run("copy", self.slopes[step.time, :n], slope[:n])
        clear(self.be, step, self.slopes)
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

    states, (_, last) = composed_layer(cell, linear(x, weight_ih, bias), (h0, c0), reverse, batch_sizes)
    return flattened([*states, last])


_lstm = LayerOp(_lstm_forward, _lstm_backward, _lstm_composed,
                ("x", "h0", "c0", "weight_ih", "weight_hh", "bias", "weight_hr"),
                (*SAVED, "c0", "bias", "weight_hr", "gates", "cells", "emitted"))
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
    require_fitting("lstm", x, h0, c0, weight_ih, weight_hh)
    require_shapes("lstm", x, 4, h0, weight_ih, weight_hh, bias, c0=c0, weight_hr=weight_hr)
    be, dtype, (steps, batch) = x.backend, x.array.dtype, x.shape[:2]
    hidden = c0.shape[1]
    gates, cells = (wrap(be.empty(shape, dtype), be)
                    for shape in ((steps, batch, 4 * hidden), (steps + 1, batch, hidden)))
    emitted = None if weight_hr is None else wrap(be.empty((steps, batch, hidden), dtype), be)
    flat = _lstm(x.contiguous(), h0.contiguous(), c0.contiguous(), weight_ih, weight_hh, bias, weight_hr, gates, cells,
                 emitted, reverse=reverse, batch_sizes=batch_sizes)
    last = narrow(flat, 0, flat.shape[0] - batch * hidden, batch * hidden)
    return *outputs(flat, x, h0, reverse), reshape(last, (batch, hidden))
