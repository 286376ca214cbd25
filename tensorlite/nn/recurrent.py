"""Recurrent layers over whole sequences: RNN, GRU, LSTM. Single steps of them are in recurrent_cells.py."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .. import ops
from ..creation import empty, zeros
from ..dtypes import DType
from ..errors import ArgumentError, ShapeError
from ..ops.options import require_floating
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence, step_sizes

States = tuple[Tensor, ...]  # (layers · directions, batch, width) each: hidden states and, of an LSTM, cells


class RNNBase(Module):
    """What RNN, GRU and LSTM share: parameters, shapes, the stack of layers and the two directions.

    Parameters weight_ih_l{k} (gates · hidden, in), weight_hh_l{k} (gates · hidden, width), with `bias` bias_ih_l{k} and
    bias_hh_l{k} (gates · hidden), with `proj_size` weight_hr_l{k} (proj, hidden), and all of these with the suffix
    `_reverse` for the other direction; all drawn from U(±1/√hidden). Raises ArgumentError for sizes that make no layer.
    """

    mode = ""
    gates = 1
    state_names: tuple[str, ...] = ("h0",)

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: DType | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) <= 0:
            raise ArgumentError(f"{name}: input_size, hidden_size and num_layers must be greater than zero, got "
                                f"{input_size}, {hidden_size} and {num_layers}")
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: dropout should be a number in range [0, 1], got {dropout}")
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(f"{name}: proj_size has to be smaller than hidden_size, got {proj_size}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{name}: dropout acts between layers, so that dropout={dropout} does nothing with "
                          "num_layers=1", stacklevel=3)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        for suffix, width in self._directions():
            for weight, shape in self._shapes(width).items():
                self.register_parameter(weight + suffix, Parameter(empty(*shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def _width(self) -> int:
        """Of the hidden states."""
        return self.proj_size or self.hidden_size

    def _directions(self) -> list[tuple[str, int]]:
        """The suffix of the parameters' names and the width of the input, by layer and direction."""
        ways = ("", "_reverse") if self.bidirectional else ("",)
        widths = [self.input_size, *[self._width * len(ways)] * (self.num_layers - 1)]
        return [(f"_l{layer}{way}", width) for layer, width in enumerate(widths) for way in ways]

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, self._width)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(±1/√hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: kernels here take parameters where they lie. PyTorch's programs call it."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters by layer and direction."""
        return [[getattr(self, name + suffix) for name in self._shapes(width)] for suffix, width in self._directions()]

    # --- forward ---------------------------------------------------------------------------------------------------

    def _run(self, input: Tensor | PackedSequence, given: States | None) -> tuple[Any, States]:
        """What the last layer emits, laid out as the input is, and the last states of all layers."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, given)
        self._check_input(input, batched_ndim=3)
        is_batched = input.ndim == 3
        x = input if is_batched else input.unsqueeze(1)
        if is_batched and self.batch_first:
            x = x.transpose(0, 1)
        if given is not None and any(state.ndim != input.ndim for state in given):
            raise ShapeError(f"{type(self).__name__}: for an input of shape {tuple(input.shape)} expected states of "
                             f"{input.ndim} dimensions, got {', '.join(str(tuple(state.shape)) for state in given)}")
        if given is not None and not is_batched:
            given = tuple(state.unsqueeze(1) for state in given)
        y, last = self._layers(x, self._first_states(x, given), None)
        if not is_batched:
            return y.squeeze(1), tuple(state.squeeze(1) for state in last)
        return (y.transpose(0, 1) if self.batch_first else y), last

    def _run_packed(self, input: PackedSequence, given: States | None) -> tuple[PackedSequence, States]:
        self._check_input(input.data, batched_ndim=2)
        sizes = step_sizes(input)
        x = ops.padded_steps(input.data, batch_sizes=sizes, batch=sizes[0])
        states = self._first_states(x, _reordered(given, input.sorted_indices))
        y, last = self._layers(x, states, sizes)
        packed = input._replace(data=ops.packed_steps(y, batch_sizes=sizes))
        return packed, _reordered(last, input.unsorted_indices) or ()

    def _check_input(self, input: Tensor, batched_ndim: int) -> None:
        name = type(self).__name__
        require_floating(name, input)
        if input.ndim not in (2, batched_ndim):
            raise ShapeError(f"{name}: expected input to be 2D or 3D, got {input.ndim}D of shape {tuple(input.shape)}")
        if input.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: input.size(-1) must be equal to input_size: expected {self.input_size}, got "
                             f"{input.shape[-1]} (input {tuple(input.shape)})")

    def _first_states(self, x: Tensor, given: States | None) -> States:
        """The states to start from, zeros unless they are given. Raises ShapeError where their shapes are wrong."""
        rows = self.num_layers * (2 if self.bidirectional else 1)
        expected = [(rows, x.shape[1], width) for width in (self._width, self.hidden_size)[:len(self.state_names)]]
        if given is None:
            return tuple(zeros(*shape, device=x.device, dtype=x.dtype) for shape in expected)
        for name, state, shape in zip(self.state_names, given, expected, strict=True):
            if state.shape != shape:
                raise ShapeError(f"{type(self).__name__}: expected {name} of shape {shape}, got {tuple(state.shape)}")
        return given

    def _layers(self, x: Tensor, states: States, batch_sizes: tuple[int, ...] | None) -> tuple[Tensor, States]:
        ways = 2 if self.bidirectional else 1
        finals: list[States] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            emitted = []
            for way in range(ways):
                number = layer * ways + way
                y, *last = self._direction(x, tuple(state[number] for state in states), self.all_weights[number],
                                           {"reverse": way == 1, "batch_sizes": batch_sizes})
                emitted.append(y)
                finals.append(tuple(last))
            x = emitted[0] if ways == 1 else ops.cat(emitted, -1)
        return x, tuple(ops.stack(parts) for parts in zip(*finals, strict=True))

    def _direction(self, x: Tensor, states: States, weights: list[Parameter], options: dict[str, Any]) -> States:
        """One layer in one direction: all that it emits, and its last states."""
        raise NotImplementedError

    def _parts(self, weights: list[Parameter]) -> dict[str, Parameter]:
        return dict(zip(self._shapes(0), weights, strict=True))

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
                              ("dropout", 0), ("bidirectional", False)):
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value}")
        return ", ".join(parts)


def _reordered(states: States | None, order: Tensor | None) -> States | None:
    """The sequences of all states in another order."""
    if states is None or order is None:
        return states
    return tuple(ops.index_select(state, 1, order) for state in states)


def _joined_bias(parts: dict[str, Parameter]) -> Tensor | None:
    return parts["bias_ih"] + parts["bias_hh"] if "bias_ih" in parts else None


class RNN(RNNBase):
    """hₜ = φ(W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh), φ being tanh or relu, over sequences. Elman 1990.

    input (steps, batch, input_size), with `batch_first` (batch, steps, input_size), (steps, input_size) for a single
    sequence, or a PackedSequence; hx (num_layers · directions, batch, hidden_size), zeros unless given. Results: the
    states of the last layer at all steps, those of both directions side by side, and the last states of all layers.
    `dropout` acts between layers in training. Raises ShapeError, ArgumentError.

    >>> y, h = nn.RNN(3, 4, num_layers=2, batch_first=True)(tl.zeros(5, 7, 3))
    >>> y.shape, h.shape
    ((5, 7, 4), (2, 5, 4))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: Any = None, dtype: DType | None = None) -> None:
        check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device,
                         dtype)
        self.nonlinearity = nonlinearity
        self.mode = f"RNN_{nonlinearity.upper()}"

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        y, (h,) = self._run(input, None if hx is None else checked_state(type(self).__name__, hx))
        return y, h

    def _direction(self, x: Tensor, states: States, weights: list[Parameter], options: dict[str, Any]) -> States:
        parts = self._parts(weights)
        return ops.rnn(x, states[0], parts["weight_ih"], parts["weight_hh"], _joined_bias(parts),
                       nonlinearity=self.nonlinearity, **options)


def check_nonlinearity(nonlinearity: str) -> None:
    """Raise ArgumentError for another name than 'tanh' and 'relu'."""
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'.")


class GRU(RNNBase):
    """Gated recurrent units over sequences, with RNN's inputs and results. Cho et al. 2014.

        r, z = σ(W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh),  n = tanh(W_in xₜ + b_in + r·(W_hn hₜ₋₁ + b_hn))
        hₜ = (1 - z)·n + z·hₜ₋₁

    Weights hold the rows of r, z and n below each other.

    >>> y, h = nn.GRU(3, 4, bidirectional=True)(tl.zeros(7, 5, 3))
    >>> y.shape, h.shape
    ((7, 5, 8), (2, 5, 4))
    """

    mode = "GRU"
    gates = 3

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device,
                         dtype)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        y, (h,) = self._run(input, None if hx is None else checked_state(type(self).__name__, hx))
        return y, h

    def _direction(self, x: Tensor, states: States, weights: list[Parameter], options: dict[str, Any]) -> States:
        return ops.gru(x, states[0], *weights, **options)


class LSTM(RNNBase):
    """Long short-term memory over sequences, with RNN's inputs. Hochreiter and Schmidhuber 1997; Gers et al. 2000.

        i, f, o = σ(W_i· xₜ + b_i· + W_h· hₜ₋₁ + b_h·),  g = tanh(W_ig xₜ + b_ig + W_hg hₜ₋₁ + b_hg)
        cₜ = f·cₜ₋₁ + i·g,  hₜ = o·tanh(cₜ), times W_hr with proj_size

    hx is a pair (h0, c0). Results: what RNN gives, but for a pair (h, c) of last states. Weights hold the rows of i, f,
    g and o below each other.

    >>> y, (h, c) = nn.LSTM(3, 4, proj_size=2)(tl.zeros(7, 5, 3))
    >>> y.shape, h.shape, c.shape
    ((7, 5, 2), (1, 5, 2), (1, 5, 4))
    """

    mode = "LSTM"
    gates = 4
    state_names = ("h0", "c0")

    def forward(self, input: Tensor | PackedSequence,
                hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(input, None if hx is None else checked_pair("LSTM", hx))
        return y, (h, c)

    def _direction(self, x: Tensor, states: States, weights: list[Parameter], options: dict[str, Any]) -> States:
        parts = self._parts(weights)
        h, c = states
        return ops.lstm(x, h, c, parts["weight_ih"], parts["weight_hh"], _joined_bias(parts), parts.get("weight_hr"),
                        **options)


def checked_state(name: str, hx: Any) -> tuple[Tensor]:
    """The states of an RNN or GRU. Raises ArgumentError for what is no tensor, such as the pair of an LSTM."""
    if not isinstance(hx, Tensor):
        raise ArgumentError(f"{name}: expected one tensor h0 as the first states, got {type(hx).__name__}")
    return (hx,)


def checked_pair(name: str, hx: Any) -> tuple[Tensor, Tensor]:
    """The states of an LSTM. Raises ArgumentError for what is no pair of tensors."""
    if not (isinstance(hx, (tuple, list)) and len(hx) == 2 and all(isinstance(x, Tensor) for x in hx)):
        raise ArgumentError(f"{name}: expected a pair (h0, c0) of tensors, got {type(hx).__name__}")
    return hx[0], hx[1]
