"""Recurrent layers for one step: RNNCell, GRUCell, LSTMCell."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..creation import empty, zeros
from ..dtypes import DType
from ..errors import ShapeError
from ..ops.options import require_floating
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter
from .recurrent import States, check_nonlinearity, checked_pair, checked_state


class RNNCellBase(Module):
    """What the cells share. Parameters weight_ih (gates · hidden, in), weight_hh (gates · hidden, hidden), bias_ih and
    bias_hh (gates · hidden), all drawn from U(±1/√hidden)."""

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(±1/√hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _steps(self, input: Tensor, given: tuple[Tensor | None, ...]) -> tuple[Tensor, States]:
        """The input as a sequence of one step, (1, batch, in), and the states (batch, hidden)."""
        name = type(self).__name__
        require_floating(name, input)
        if input.ndim not in (1, 2):
            raise ShapeError(f"{name}: expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: input has inconsistent input_size: got {input.shape[-1]}, expected "
                             f"{self.input_size}")
        expected = (*input.shape[:-1], self.hidden_size)
        states = []
        for state in given:
            if state is None:
                state = zeros(*expected, device=input.device, dtype=input.dtype)
            if state.shape != expected:
                raise ShapeError(f"{name}: expected states of shape {expected} for an input of shape "
                                 f"{tuple(input.shape)}, got {tuple(state.shape)}")
            states.append(state.reshape(-1, self.hidden_size))
        return input.reshape(1, -1, self.input_size), tuple(states)

    def _joined_bias(self) -> Tensor | None:
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """h' = φ(W_ih x + b_ih + W_hh h + b_hh), φ being tanh or relu: one step of RNN.

    input (batch, input_size) or (input_size,), hx and the result with hidden_size; hx is zeros unless given.

    >>> nn.RNNCell(3, 4)(tl.zeros(2, 3)).shape
    (2, 4)
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: Any = None, dtype: DType | None = None) -> None:
        check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h,) = self._steps(input, (None,) if hx is None else checked_state(type(self).__name__, hx))
        _, following = ops.rnn(x, h, self.weight_ih, self.weight_hh, self._joined_bias(),
                               nonlinearity=self.nonlinearity)
        return following.reshape(*input.shape[:-1], self.hidden_size)

    def extra_repr(self) -> str:
        nonlinearity = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + nonlinearity


class GRUCell(RNNCellBase):
    """One step of GRU, with RNNCell's inputs and result.

    >>> nn.GRUCell(3, 4)(tl.zeros(3), tl.zeros(4)).shape
    (4,)
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h,) = self._steps(input, (None,) if hx is None else checked_state(type(self).__name__, hx))
        _, following = ops.gru(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return following.reshape(*input.shape[:-1], self.hidden_size)


class LSTMCell(RNNCellBase):
    """One step of LSTM: from (h, c) the next pair, each (batch, hidden_size) or (hidden_size,).

    >>> h, c = nn.LSTMCell(3, 4)(tl.zeros(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x, (h, c) = self._steps(input, (None, None) if hx is None else checked_pair("LSTMCell", hx))
        _, h, c = ops.lstm(x, h, c, self.weight_ih, self.weight_hh, self._joined_bias())
        shape = (*input.shape[:-1], self.hidden_size)
        return h.reshape(shape), c.reshape(shape)
