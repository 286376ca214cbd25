"""Attention as functions."""

from __future__ import annotations

from ... import ops
from ...errors import ShapeError
from ...random import Generator
from ...tensor import Tensor


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False, *, generator: Generator | None = None) -> Tensor:
    """softmax(q kᵀ·scale + mask) v: query (..., L, E), key (..., S, E), value (..., S, Ev), result (..., L, Ev).

    Vaswani et al. 2017; computed by blocks, without all scores in memory, after Dao et al. 2022. Leading dimensions
    broadcast. `attn_mask` broadcasts to (..., L, S): bools (True: may be looked at), or numbers of query's dtype that
    are added to the scores. `is_causal` lets query i look at the keys 0 to i. `scale` is 1/√E unless given. With
    `enable_gqa` the heads of key and value, in dimension -3, divide those of query: each serves a group (Ainslie et
    al. 2023). A row that may look at nothing gives zeros. With `dropout_p` weights are set to 0 with that probability,
    the others divided by 1 - dropout_p; then, and for a mask that requires a gradient, all scores are kept.

    Raises ShapeError or DTypeError for operands that do not fit, ArgumentError for a mask beside is_causal.

    >>> q, k, v = tl.zeros(1, 2), tl.zeros(3, 2), tl.tensor([[1.], [2.], [6.]])
    >>> F.scaled_dot_product_attention(q, k, v)
    tensor([[3.]])
    >>> F.scaled_dot_product_attention(q, k, v, attn_mask=tl.tensor([True, True, False]))
    tensor([[1.5000]])
    """
    return ops.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
                                            generator=generator)


def apply_rotary(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = True) -> Tensor:
    """Each pair (a, b) of input (..., L, E) turned to (a·cos - b·sin, a·sin + b·cos); cos and sin are (L, E/2).

    Su et al. 2021. Pairs are neighbours (2i, 2i+1), or with interleaved=False (i, i + E/2). Raises ShapeError for an
    odd E, or tables that do not fit. See nn.RotaryEmbedding.

    >>> F.apply_rotary(tl.tensor([[1., 2.]]), cos=tl.zeros(1, 1), sin=tl.ones(1, 1))
    tensor([[-2., 1.]])
    """
    if input.ndim < 2 or input.shape[-1] % 2 or {tuple(cos.shape), tuple(sin.shape)} != {
            (input.shape[-2], input.shape[-1] // 2)}:
        raise ShapeError(f"apply_rotary: expected input (..., L, E) with an even E, and cos and sin (L, E/2), got "
                         f"{tuple(input.shape)}, {tuple(cos.shape)} and {tuple(sin.shape)}")
    if interleaved:
        a, b = input[..., ::2], input[..., 1::2]
        return ops.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    a, b = ops.chunk(input, 2, -1)
    return ops.cat([a * cos - b * sin, a * sin + b * cos], -1)
