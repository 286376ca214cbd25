"""Embedding: rows of a table by index."""

from __future__ import annotations

from typing import Any, Self

from ..creation import empty
from ..dtypes import DType
from ..errors import ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .functional.embedding import checked_padding
from .module import Module
from .parameter import Parameter


class Embedding(Module):
    """A table weight (num_embeddings, embedding_dim), drawn from N(0, 1), looked up by integers.

    The row padding_idx starts as zeros and gets no gradient. Raises OutOfRangeError, naming value and position, for
    an index outside [0, num_embeddings).

    >>> nn.Embedding(10, 3)(tl.tensor([[1, 2], [4, 9]])).shape
    (2, 2, 3)
    """

    weight: Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else checked_padding(padding_idx, num_embeddings)
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew from N(0, 1), with zeros in the padding row."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.detach()[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Self:
        """An Embedding that holds the given table (num, dim); frozen, it is not trained."""
        if embeddings.ndim != 2:
            raise ShapeError(f"Embedding.from_pretrained: expected a table (num, dim), got shape {embeddings.shape}")
        layer = cls(0, embeddings.shape[1], dtype=embeddings.dtype)
        layer.num_embeddings = embeddings.shape[0]
        layer.padding_idx = None if padding_idx is None else checked_padding(padding_idx, layer.num_embeddings)
        layer.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
