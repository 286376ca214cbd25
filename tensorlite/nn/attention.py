"""Multi-head attention as a layer."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..creation import empty, zeros
from ..dtypes import DType
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """Attention in num_heads subspaces of width E/num_heads; the results beside each other go through out_proj.

    Vaswani et al. 2017. Parameters: in_proj_weight (3E, E), or q_proj_weight (E, E), k_proj_weight (E, kdim) and
    v_proj_weight (E, vdim) where kdim or vdim is not E, drawn by Xavier's uniform; in_proj_bias (3E,) and
    out_proj.bias, 0; with add_bias_kv one more key and value, bias_k and bias_v (1, 1, E). add_zero_attn adds a key and
    a value of zeros. `dropout` sets weights to 0 in training.

    >>> layer = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = tl.ones(3, 5, 8)
    >>> out, weights = layer(x, x, x)
    >>> out.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False, device: Any = None,
                 dtype: DType | None = None) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ArgumentError("MultiheadAttention: embed_dim must be a positive multiple of num_heads, got "
                                f"embed_dim={embed_dim} and num_heads={num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.add_zero_attn = add_zero_attn

        def add(name: str, *shape: int, wanted: bool) -> None:
            self.register_parameter(name, Parameter(empty(*shape, device=device, dtype=dtype)) if wanted else None)

        together = self.kdim == embed_dim == self.vdim
        add("in_proj_weight", 3 * embed_dim, embed_dim, wanted=together)
        for name, width in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            add(f"{name}_proj_weight", embed_dim, width, wanted=not together)
        add("in_proj_bias", 3 * embed_dim, wanted=bias)
        for name in ("bias_k", "bias_v"):
            add(name, 1, 1, embed_dim, wanted=add_bias_kv)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections anew by Xavier's uniform, bias_k and bias_v by his normal; the other biases are 0."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for zeroed in (self.in_proj_bias, self.out_proj.bias):
            if zeroed is not None:
                init.zeros_(zeroed)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
                need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """The result (L, N, E), and the weights (N, L, S) if need_weights, those of each head if not averaged.

        query (L, N, E), key (S, N, kdim), value (S, N, vdim); with batch_first (N, L, E) and so on; or all without N.
        key_padding_mask (N, S) and attn_mask (L, S) or (N·num_heads, L, S) are bools (True: not looked at, other than
        in F.scaled_dot_product_attention) or numbers added to the scores. is_causal says that attn_mask is the
        triangle. Without need_weights the scores are never held all at once.
        """
        batched = self._require_fitting(query, key, value)
        if is_causal and attn_mask is None:
            raise ArgumentError("MultiheadAttention: is_causal says what attn_mask is; give the mask too, such as "
                                "nn.Transformer.generate_square_subsequent_mask(L)")
        q, k, v = self._projected(query, key, value, batched)
        if is_causal and key_padding_mask is None and not need_weights and self.bias_k is None \
                and not self.add_zero_attn:
            mask, causal = None, True
        else:
            mask, causal = self._mask(key_padding_mask, attn_mask, q, k.shape[2]), False
        k, v, mask = self._with_further_keys(k, v, mask)
        chance = self.dropout if self.training else 0.0
        if need_weights:
            weights = F.dropout(_weights(q, k, mask), chance)
            out = ops.matmul(weights, v)
        else:
            weights = None
            out = F.scaled_dot_product_attention(q, k, v, mask, chance, causal)
        out = self._joined(out, batched)
        if weights is None:
            return out, None
        weights = weights.mean(1) if average_attn_weights else weights
        return out, weights if batched else weights.squeeze(0)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"

    # --- projections -----------------------------------------------------------------------------------------------

    def _require_fitting(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Whether there is a batch dimension. Raises ShapeError for shapes that do not fit."""
        shapes = tuple(query.shape), tuple(key.shape), tuple(value.shape)
        widths = tuple(shape[-1] if shape else 0 for shape in shapes)
        batch, length = (0, 1) if self.batch_first else (1, 0)
        if {len(shape) for shape in shapes} == {2}:
            fits = shapes[1][0] == shapes[2][0]
        else:
            fits = ({len(shape) for shape in shapes} == {3} and shapes[1][length] == shapes[2][length]
                    and len({shape[batch] for shape in shapes}) == 1)
        if not fits or widths != (self.embed_dim, self.kdim, self.vdim):
            order = "(N, L, E), (N, S, kdim), (N, S, vdim)"
            if not self.batch_first:
                order = "(L, N, E), (S, N, kdim), (S, N, vdim)"
            raise ShapeError(f"MultiheadAttention: expected query, key and value {order} with E={self.embed_dim}, "
                             f"kdim={self.kdim}, vdim={self.vdim}, or all three without N, got "
                             f"{', '.join(map(str, shapes))}")
        return query.ndim == 3

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, batched: bool) -> list[Tensor]:
        """q, k and v as (N, heads, length, width), by as few products as there are different inputs."""
        size, bias = self.embed_dim, self.in_proj_bias
        weights: list[Any]
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif query is key is value:
            return self._heads(ops.linear(query, self.in_proj_weight, bias), batched, 3)
        elif key is value:
            q = ops.linear(query, self.in_proj_weight[:size], None if bias is None else bias[:size])
            both = ops.linear(key, self.in_proj_weight[size:], None if bias is None else bias[size:])
            return [*self._heads(q, batched, 1), *self._heads(both, batched, 2)]
        else:
            weights = list(ops.chunk(self.in_proj_weight, 3))
        biases = [None] * 3 if bias is None else ops.chunk(bias, 3)
        return [self._heads(ops.linear(x, weight, b), batched, 1)[0]
                for x, weight, b in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, x: Tensor, batched: bool, parts: int) -> list[Tensor]:
        """Projections beside each other, (N, L, parts·E) in this layer's order, as `parts` of (N, heads, L, width)."""
        x = x if batched else x.unsqueeze(0 if self.batch_first else 1)
        x = x.unflatten(-1, (parts, self.num_heads, self.head_dim))
        return list((x.permute(2, 0, 3, 1, 4) if self.batch_first else x.permute(2, 1, 3, 0, 4)).unbind(0))

    def _joined(self, out: Tensor, batched: bool) -> Tensor:
        """The heads' results beside each other in this layer's order, through out_proj."""
        out = out.permute(0, 2, 1, 3) if self.batch_first else out.permute(2, 0, 1, 3)
        out = self.out_proj(out.flatten(2))
        return out if batched else out.squeeze(0 if self.batch_first else 1)

    # --- masks -------------------------------------------------------------------------------------------------------

    def _mask(self, padding: Tensor | None, mask: Tensor | None, q: Tensor, keys: int) -> Tensor | None:
        """Both masks in one that broadcasts to (N, heads, L, S): bools (True: looked at), or numbers of q's dtype."""
        batch, heads, length, _ = q.shape
        given = []
        if padding is not None:
            padding = padding if padding.ndim == 2 else padding.unsqueeze(0)
            given.append(_shaped("key_padding_mask", padding, (batch, keys), (batch, 1, 1, keys)))
        if mask is not None:
            one = (length, keys) if mask.ndim == 2 else (batch * heads, length, keys)
            given.append(_shaped("attn_mask", mask, one, (1, 1, *one) if mask.ndim == 2 else (batch, heads, *one[1:])))
        if not given:
            return None
        if all([not part.dtype.is_floating_point for part in given]):
            return ops.logical_not(given[0] if len(given) == 1 else ops.logical_or(*given))
        terms = [part.to(q.dtype) if part.dtype.is_floating_point else _terms(part, q) for part in given]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _with_further_keys(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with bias_k, bias_v and the zeros behind them, which every query may look at."""
        batch, heads, _, width = k.shape
        if self.bias_k is not None and self.bias_v is not None:
            k, v = [ops.cat([x, row.reshape(1, heads, 1, width).expand(batch, -1, -1, -1)], 2)
                    for x, row in ((k, self.bias_k), (v, self.bias_v))]
        if self.add_zero_attn:
            k, v = [ops.cat([x, zeros(batch, heads, 1, width, device=x.device, dtype=x.dtype)], 2) for x in (k, v)]
        more = int(self.bias_k is not None) + int(self.add_zero_attn)
        if mask is not None and more:
            mask = ops.pad(mask, (0, more), value=0.0 if mask.dtype.is_floating_point else True)
        return k, v, mask


def _shaped(name: str, mask: Tensor, expected: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """A mask of the expected shape in another one. Raises ShapeError, and DTypeError for integers."""
    if not mask.dtype.is_floating_point and mask.dtype.name != "bool":
        raise DTypeError(f"MultiheadAttention: {name} must be bool or floating, got {mask.dtype.name}")
    if tuple(mask.shape) != expected:
        raise ShapeError(f"MultiheadAttention: {name} has shape {tuple(mask.shape)}, expected {expected}")
    return mask.reshape(shape)


def _terms(ignored: Tensor, q: Tensor) -> Tensor:
    """Bools (True: not looked at) as numbers that are added to scores."""
    return ops.where(ignored, -math.inf, zeros((), device=q.device, dtype=q.dtype))


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ/√width + mask); NaN in rows that may look at nothing."""
    scores = ops.matmul(q * (1 / math.sqrt(q.shape[-1])), k.mT)
    if mask is not None:
        scores = scores + mask if mask.dtype.is_floating_point else ops.where(mask, scores, -math.inf)
    return ops.softmax(scores, -1)
