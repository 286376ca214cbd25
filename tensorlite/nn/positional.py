"""Where a token stands in its sequence: sinusoidal and rotary encodings. Neither is in PyTorch's torch.nn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..creation import from_numpy
from ..dtypes import DType, as_dtype, get_default_dtype
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from . import functional as F
from .module import Module


def _angles(positions: int, width: int, base: float) -> np.ndarray:
    """position·base^(-2i/width) for i in [0, width/2), in float64."""
    frequencies = base ** (-np.arange(0, width, 2) / width)
    angles: np.ndarray = np.arange(positions)[:, None] * frequencies
    return angles


def _buffer(values: np.ndarray, device: Any, dtype: DType | None) -> Tensor:
    kind = get_default_dtype() if dtype is None else as_dtype(dtype)
    return from_numpy(values).to(dtype=kind).to("cpu" if device is None else device)


def _require_even(name: str, width: int) -> None:
    if width <= 0 or width % 2:
        raise ArgumentError(f"{name}: the width must be even and positive, for it holds pairs; got {width}")


def _require_room(name: str, length: int, offset: int, room: int) -> None:
    if offset < 0 or offset + length > room:
        raise ShapeError(f"{name}: positions {offset} to {offset + length - 1} exceed max_length={room}; make the "
                         "layer with a larger one")


class SinusoidalEncoding(Module):
    """x + table[:L] for x (..., L, E): sines and cosines of the position, with wavelengths from 2π to 2π·base.

    table[p, 2i] = sin(p·base^(-2i/E)), table[p, 2i+1] = cos(p·base^(-2i/E)). Vaswani et al. 2017. The table is a buffer
    that no state_dict holds. Raises ShapeError for sequences longer than max_length.

    >>> nn.SinusoidalEncoding(2)(tl.zeros(2, 2))
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """

    table: Tensor

    def __init__(self, embedding_dim: int, max_length: int = 5000, base: float = 10000.0, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__()
        _require_even("SinusoidalEncoding", embedding_dim)
        self.embedding_dim = embedding_dim
        self.max_length = max_length
        angles = _angles(max_length, embedding_dim, base)
        table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(max_length, embedding_dim)
        self.register_buffer("table", _buffer(table, device, dtype), persistent=False)

    def forward(self, input: Tensor, offset: int = 0) -> Tensor:
        """The input with the encodings of the positions from `offset` on added."""
        if input.ndim < 2 or input.shape[-1] != self.embedding_dim:
            raise ShapeError(f"SinusoidalEncoding expects (..., L, {self.embedding_dim}), got {tuple(input.shape)}")
        _require_room("SinusoidalEncoding", input.shape[-2], offset, self.max_length)
        return input + self.table[offset:offset + input.shape[-2]].to(input.dtype)

    def extra_repr(self) -> str:
        return f"{self.embedding_dim}, max_length={self.max_length}"


class RotaryEmbedding(Module):
    """Turns each pair of x (..., L, dim) by an angle that grows with the position, so that products tell distances.

    Pair i at position p is turned by p·base^(-2i/dim). Su et al. 2021. Apply it to queries and keys (N, heads, L, dim).
    Pairs are neighbours (2i, 2i+1), as there; with interleaved=False (i, i + dim/2), as in GPT-NeoX and LLaMA. The
    tables are buffers that no state_dict holds. Raises ShapeError for sequences longer than max_length.

    >>> nn.RotaryEmbedding(2)(tl.tensor([[1., 0.], [1., 0.]]))
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, max_length: int = 2048, base: float = 10000.0, interleaved: bool = True,
                 device: Any = None, dtype: DType | None = None) -> None:
        super().__init__()
        _require_even("RotaryEmbedding", dim)
        self.dim = dim
        self.max_length = max_length
        self.interleaved = interleaved
        angles = _angles(max_length, dim, base)
        self.register_buffer("cos", _buffer(np.cos(angles), device, dtype), persistent=False)
        self.register_buffer("sin", _buffer(np.sin(angles), device, dtype), persistent=False)

    def forward(self, input: Tensor, offset: int = 0) -> Tensor:
        """The input turned as the positions from `offset` on say: other than 0 where earlier keys are kept."""
        if input.ndim < 2 or input.shape[-1] != self.dim:
            raise ShapeError(f"RotaryEmbedding expects (..., L, {self.dim}), got {tuple(input.shape)}")
        length = input.shape[-2]
        _require_room("RotaryEmbedding", length, offset, self.max_length)
        cos, sin = [table[offset:offset + length].to(input.dtype) for table in (self.cos, self.sin)]
        return F.apply_rotary(input, cos, sin, self.interleaved)

    def extra_repr(self) -> str:
        return f"{self.dim}, max_length={self.max_length}, interleaved={self.interleaved}"
