"""What the recurrent layers of recurrent.py share: the op over all steps, the order of the steps, products over all.

A result is one flat array, so that it is one node of the graph: the states before, between and behind all steps,
(steps + 1, batch, hidden), and after them, of an LSTM, the last cells. A layer that goes backwards through the steps
has its first state at the end. Sequences of different lengths lie side by side from the longest to the shortest;
`batch_sizes` says how many of them take part in each step, and the state of the others passes by.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd import engine
from ..autograd.op import NONE, Op, unpack
from ..autograd.tape import Node, Var, wrap
from ..backends import Array, Backend
from ..errors import ShapeError
from .matmul import require_same_dtype
from .movement import cat, clone, narrow, reshape
from .options import require_floating

if TYPE_CHECKING:
    from ..tensor import Tensor

Raw = dict[str, Any]  # by name: the raw arrays of a layer's inputs and result, and its parameters
Composed = Callable[..., Any]
SAVED = ("x", "h0", "weight_ih", "weight_hh", "out", "reverse", "batch_sizes")


class LayerOp(Op):
    """An op over all steps, which makes the gradients of its inputs together.

    backward   (backend, raw incoming gradient, raw values, names of the inputs wanted) -> their gradients, by name
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


class Step(NamedTuple):
    """One step of a layer."""

    time: int
    source: int  # where the state before it lies, among all states
    target: int  # and the state behind it
    active: int  # sequences that take part, the first ones


def in_order(steps: int, batch: int, reverse: bool, batch_sizes: tuple[int, ...] | None) -> list[Step]:
    """The steps in the order in which a layer takes them."""
    sizes = (batch,) * steps if batch_sizes is None else batch_sizes
    before, after = (1, 0) if reverse else (0, 1)
    times = range(steps - 1, -1, -1) if reverse else range(steps)
    return [Step(t, t + before, t + after, sizes[t]) for t in times]


def order_of(raw: Raw) -> list[Step]:
    steps, batch, _ = raw["x"].shape
    return in_order(steps, batch, raw["reverse"], raw["batch_sizes"])


def states_of(flat: Any, x: Any, h0: Any) -> Any:
    """The states (steps + 1, batch, hidden) in a flat result, or their gradient in that of the result."""
    shape = (x.shape[0] + 1, *h0.shape)
    return flat[:math.prod(shape)].reshape(shape)


def _states_before(states: Array, reverse: bool) -> Array:
    """The state before each step, as rows."""
    return (states[1:] if reverse else states[:-1]).reshape(-1, states.shape[-1])


def pass_by(be: Backend, states: Array, step: Step) -> None:
    """Copy the states of the sequences that do not take part in a step."""
    if step.active < states.shape[1]:
        be.run("copy", states[step.target, step.active:], states[step.source, step.active:])


def new_state(be: Backend, h0: Array) -> Array:
    """Memory for the gradient of a state, which is 0 so far."""
    return be.fill("fill", h0.shape, h0.dtype, 0)


def clear(be: Backend, step: Step, *of_all_steps: Array) -> None:
    """Zeros for the sequences that do not take part in a step."""
    for array in of_all_steps:
        if step.active < array.shape[1]:
            be.run("fill", array[step.time, step.active:], 0)


def input_gradients(be: Backend, slopes: Array, raw: Raw, wanted: set[str], bias: str) -> Raw:
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


def state_weight_gradient(be: Backend, slopes: Array, raw: Raw) -> Array:
    """The gradient of weight_hh: one product over all steps."""
    before = _states_before(states_of(raw["out"], raw["x"], raw["h0"]), raw["reverse"])
    return be.matmul(slopes.reshape(-1, slopes.shape[-1]).T, before)


def composed_layer(cell: Callable[..., tuple[Any, ...]], sums: Any, state: tuple[Any, ...], reverse: bool,
                   batch_sizes: tuple[int, ...] | None) -> tuple[list[Any], tuple[Any, ...]]:
    """All states that a cell emits, by time and with the first one, and its state behind all steps."""
    batch = sums.shape[1]
    emitted = [state[0]]
    for time, _, _, active in in_order(sums.shape[0], batch, reverse, batch_sizes):
        following = cell(sums[time], *state)
        if active < batch:
            following = tuple(cat([narrow(new, 0, 0, active), narrow(old, 0, active, batch - active)])
                              for new, old in zip(following, state, strict=True))
        state = following
        emitted.append(state[0])
    return emitted[::-1] if reverse else emitted, state


def flattened(states: list[Any]) -> Any:
    """States as one flat result."""
    return cat([reshape(state, (-1,)) for state in states])


def require_fitting(name: str, x: Tensor, *others: Tensor) -> None:
    """Raise ShapeError for what is no sequence of batches, DTypeError for integers and for another dtype than x's."""
    require_floating(name, x)
    if x.ndim != 3 or not x.shape[0]:
        raise ShapeError(f"{name}: expected an input (steps, batch, features) of at least one step, got "
                         f"{tuple(x.shape)}")
    for other in others:
        require_same_dtype(name, x, other)


def require_shapes(name: str, x: Tensor, gates: int, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor,
                   *biases: Tensor | None, c0: Tensor | None = None, weight_hr: Tensor | None = None) -> None:
    """Raise ShapeError where a state or weight does not fit: kernels believe shapes, and write where these say."""
    rows = weight_hh.shape[0] if weight_hh.ndim else 0
    hidden = rows // gates
    width = hidden if weight_hr is None or not weight_hr.ndim else weight_hr.shape[0]
    wanted = [("h0", h0, (x.shape[1], width)), ("c0", c0, (x.shape[1], hidden)),
              ("weight_ih", weight_ih, (gates * hidden, x.shape[2])), ("weight_hh", weight_hh, (gates * hidden, width)),
              ("weight_hr", weight_hr, (width, hidden)), *[("a bias", bias, (gates * hidden,)) for bias in biases]]
    for part, tensor, shape in wanted:
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"{name}: {part} has shape {tuple(tensor.shape)}, expected {shape} (input "
                             f"{tuple(x.shape)}, weight_hh {tuple(weight_hh.shape)})")


def outputs(flat: Tensor, x: Tensor, h0: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """What a layer emits at each step, and its last state."""
    steps, (batch, hidden) = x.shape[0], h0.shape
    size = batch * hidden
    results = narrow(flat, 0, 0 if reverse else size, steps * size)
    last = narrow(flat, 0, 0 if reverse else steps * size, size)
    return reshape(results, (steps, batch, hidden)), reshape(last, (batch, hidden))
