"""Embedding and EmbeddingBag: rows of a table by index, one by one or reduced by bags."""

from __future__ import annotations

from typing import Any, Self

from ..creation import empty
from ..dtypes import DType
from ..errors import ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .functional.embedding import checked_padding, refuse_options
from .functional.embedding_bag import checked_mode
from .module import Module
from .parameter import Parameter


class _Table(Module):
    """What both layers are: the table weight (num_embeddings, embedding_dim), and what is done to its rows."""

    weight: Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, max_norm: float | None,
                 norm_type: float, device: Any, dtype: DType | None) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else checked_padding(padding_idx, num_embeddings)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew from N(0, 1), with zeros in the padding row."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.detach()[self.padding_idx] = 0.0

    def _repr(self, *options: str) -> str:
        """The table's size, and the options that are not PyTorch's defaults."""
        defaults = {"padding_idx": None, "max_norm": None, "norm_type": 2.0}
        named = [f", {name}={getattr(self, name)}" for name in options if getattr(self, name) != defaults[name]]
        return f"{self.num_embeddings}, {self.embedding_dim}{''.join(named)}"


class Embedding(_Table):
    """A table weight (num_embeddings, embedding_dim), drawn from N(0, 1), looked up by integers.

    The row padding_idx starts as zeros and gets no gradient. With `max_norm` rows whose norm of order norm_type is
    larger are scaled down to it when they are looked up. Raises OutOfRangeError, naming value and position, for an
    index outside [0, num_embeddings), and ArgumentError for scale_grad_by_freq or sparse, which are PyTorch's alone.

    >>> nn.Embedding(10, 3)(tl.tensor([[1, 2], [4, 9]])).shape
    (2, 2, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False, *, device: Any = None, dtype: DType | None = None) -> None:
        refuse_options("Embedding", scale_grad_by_freq, sparse)
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, device, dtype)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None,
                        max_norm: float | None = None, norm_type: float = 2.0) -> Self:
        """An Embedding that holds the given table (num, dim); frozen, it is not trained."""
        if embeddings.ndim != 2:
            raise ShapeError(f"Embedding.from_pretrained: expected a table (num, dim), got shape {embeddings.shape}")
        layer = cls(0, embeddings.shape[1], max_norm=max_norm, norm_type=norm_type, dtype=embeddings.dtype)
        layer.num_embeddings = embeddings.shape[0]
        layer.padding_idx = None if padding_idx is None else checked_padding(padding_idx, layer.num_embeddings)
        layer.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        return self._repr("padding_idx", "max_norm", "norm_type")


class EmbeddingBag(_Table):
    """Sums, means or maxima of rows of a table weight (num_embeddings, embedding_dim), drawn from N(0, 1), by bags.

    input (bags, length), or with `offsets` (bags,), where each bag begins, (N,); result (bags, embedding_dim). mode is
    "sum", "mean" or "max"; only a sum takes per_sample_weights of the input's shape. With include_last_offset the last
    offset is N. The row padding_idx starts as zeros, counts in no bag and gets no gradient; empty bags give zeros. For
    max_norm and errors see Embedding.

    >>> nn.EmbeddingBag(10, 3)(tl.tensor([1, 2, 4, 9]), tl.tensor([0, 3])).shape
    (2, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
                 scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                 include_last_offset: bool = False, padding_idx: int | None = None, *, device: Any = None,
                 dtype: DType | None = None) -> None:
        refuse_options("EmbeddingBag", scale_grad_by_freq, sparse)
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, device, dtype)
        self.mode = checked_mode(mode)
        self.include_last_offset = include_last_offset

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return F.embedding_bag(input, self.weight, offsets, self.max_norm, self.norm_type, mode=self.mode,
                               per_sample_weights=per_sample_weights, include_last_offset=self.include_last_offset,
                               padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        return self._repr("max_norm", "norm_type") + f", mode={self.mode!r}" + (
            "" if self.padding_idx is None else f", padding_idx={self.padding_idx}")
