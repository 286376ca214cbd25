"""Scaled dot-product attention: one kernel that never holds all scores, and its composition for what that lacks.

The kernel pair that a device brings (q, k, v of shapes (N, H, L, E), (N, Hk, S, E), (N, Hk, S, Ev), any strides):

    attention((values, lse), q, k, v, mask, scale=, causal=)
    attention_grad((dq, dk, dv), g, q, k, v, mask, values, lse, scale=, causal=)

Hk divides H: head h looks at head h // (H // Hk) of k and v. `mask` is None, bools (True: may be looked at) or numbers
of q's dtype that are added to the scores, with shape (N, H, L, S) and any strides, 0 among them. `lse` (N, H, L), of
the dtype in which the device computes, is the logarithm of each row's sum of exponentials; +inf for a row that may look
at nothing, so that exp(score - lse) is 0 there. values, dq, dk and dv lie in memory as (N, L, H, E) do: a layer's heads
beside each other, as its projections write and read them.

`lse` is an input of the op, which its forward fills. For a second derivative the composition is differentiated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.autocast import autocasts
from ..autograd.op import NONE, Op, needs_grad, unpack
from ..autograd.tape import Node, Var, wrap
from ..backends import Array, Backend, broadcast_shapes, computing
from ..errors import ArgumentError, DTypeError, ShapeError
from ..random import Generator
from .dropout import dropout
from .elementwise import add, mul, sub, where
from .index import _triangle
from .logic import eq
from .matmul import matmul
from .movement import expand, reshape, transpose, unsqueeze
from .reduce import amax, softmax, sum
from .wide import widened

if TYPE_CHECKING:
    from ..tensor import Tensor

_BOOL = np.dtype(np.bool_)


class _AttentionOp(Op):
    """The op of attention, whose three gradients come from one kernel."""

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        saved, be = unpack(node, g.backend, create_graph), g.backend
        if create_graph or "out" not in saved:  # by the rules, which can be differentiated, or need less
            yield from super().gradients(node, g, create_graph, useful)
            return
        q, k, v, values, lse = [saved[name].array for name in ("q", "k", "v", "out", "lse")]
        mask = None if saved["mask"] is None else saved["mask"].array
        slopes = tuple([_beside_heads(be, x.shape, x.dtype) for x in (q, k, v)])
        be.run("attention_grad", slopes, g.array, q, k, v, mask, values, lse, scale=saved["scale"],
               causal=saved["causal"])
        for position, slope in enumerate(slopes):
            if node.parents[position] is not None:
                yield position, wrap(slope, be)


@functools.partial(_AttentionOp, promote=NONE, view=False)
def _attention(be: Backend, q: Array, k: Array, v: Array, mask: Array | None, lse: Array, *, scale: Any,
               causal: Any) -> Array:
    values = _beside_heads(be, (*q.shape[:3], v.shape[3]), q.dtype)
    be.run("attention", (values, lse), q, k, v, mask, scale=scale, causal=causal)
    return values


def _beside_heads(be: Backend, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array (N, H, L, E) whose memory is laid out as (N, L, H, E)."""
    n, heads, length, width = shape
    return be.empty((n, length, heads, width), dtype).transpose(0, 2, 1, 3)


# --- the derivatives, as operations ----------------------------------------------------------------------------------


def _weights(q: Any, k: Any, mask: Any, lse: Any, scale: float, causal: bool) -> Any:
    """softmax(q kᵀ·scale + mask), with zeros in the rows whose lse is +inf."""
    scores = _masked(mul(matmul(q, transpose(k, -2, -1)), scale), mask, causal)
    dead = eq(unsqueeze(lse, -1), math.inf)
    return where(dead, 0.0, softmax(where(dead, 0.0, scores), -1))


def _scores_slope(g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, scale: float, causal: bool) -> Any:
    """The derivative in q kᵀ: p·(g vᵀ - Σ g·out)·scale, with p the weights."""
    along = sum(mul(g, widened(out)), -1, keepdim=True)
    return mul(_weights(q, k, mask, lse, scale, causal), mul(sub(matmul(g, transpose(v, -2, -1)), along), scale))


def _spread(heads: int, x: Any) -> Any:
    """k or v in float32 or wider, each of its heads repeated for those of q that look at it."""
    return _repeated(widened(x), heads)


def _repeated(x: Any, heads: int) -> Any:
    n, own, length, width = x.shape
    if own == heads:
        return x
    return reshape(expand(unsqueeze(x, 2), n, own, heads // own, length, width), n, heads, length, width)


def _folded(slope: Any, heads: int) -> Any:
    """The sum over the heads of q that look at one of k or v."""
    n, spread, length, width = slope.shape
    return slope if spread == heads else sum(reshape(slope, n, heads, spread // heads, length, width), 2)


def _q_rule(g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, scale: float, causal: bool) -> Any:
    g, q, k, v = widened(g), widened(q), _spread(q.shape[1], k), _spread(q.shape[1], v)
    return matmul(_scores_slope(g, q, k, v, mask, out, lse, scale, causal), k)


def _k_rule(g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, scale: float, causal: bool) -> Any:
    heads = k.shape[1]
    g, q, k, v = widened(g), widened(q), _spread(q.shape[1], k), _spread(q.shape[1], v)
    return _folded(matmul(transpose(_scores_slope(g, q, k, v, mask, out, lse, scale, causal), -2, -1), q), heads)


def _v_rule(g: Any, q: Any, k: Any, v: Any, mask: Any, lse: Any, scale: float, causal: bool) -> Any:
    weights = _weights(widened(q), _spread(q.shape[1], k), mask, lse, scale, causal)
    return _folded(matmul(transpose(weights, -2, -1), widened(g)), v.shape[1])


_attention.name = "scaled_dot_product_attention"
_attention.rules(q=_q_rule, k=_k_rule, v=_v_rule)


# --- the function ----------------------------------------------------------------------------------------------------


@autocasts
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False, *, generator: Generator | None = None) -> Tensor:
    """softmax(q kᵀ·scale + mask) v; see `F.scaled_dot_product_attention`."""
    _require_fitting(query, key, value, attn_mask, dropout_p, is_causal)
    batch, heads = _batch_of(query, key, value, enable_gqa)
    scale = float(1 / math.sqrt(query.shape[-1] or 1) if scale is None else scale)
    q, k, v = _four(query, batch, heads[0]), _four(key, batch, heads[1]), _four(value, batch, heads[2])
    if heads[1] != heads[2]:
        k, v = _repeated(k, heads[0]), _repeated(v, heads[0])
    lead = batch if query.ndim == key.ndim == value.ndim == 2 else (*batch, heads[0])
    mask = None if attn_mask is None else _mask_of_scores(attn_mask, lead, q, k)
    is_causal = bool(is_causal)
    if dropout_p > 0 or (mask is not None and needs_grad(mask)):
        out = _composed(q, k, v, mask, dropout_p, is_causal, scale, generator)
    else:
        be = q.backend
        lse = be.empty(q.array.shape[:3], computing(q.array.dtype))
        out = _attention(q, k, v, mask, wrap(lse, be), scale=scale, causal=is_causal)
    return out if len(lead) == 2 else reshape(out, *lead, *out.shape[2:])


def _composed(q: Any, k: Any, v: Any, mask: Any, dropout_p: float, causal: bool, scale: float,
              generator: Generator | None) -> Any:
    """Attention by one operation after the other, with all scores in memory."""
    narrow = q.dtype
    q, k, v = widened(q), _spread(q.shape[1], k), _spread(q.shape[1], v)
    scores = _masked(mul(matmul(q, transpose(k, -2, -1)), scale), mask, causal)
    if mask is None or not scores.shape[-1]:
        weights = softmax(scores, -1)
    else:
        dead = eq(amax(scores.detach(), -1, keepdim=True), -math.inf)
        weights = where(dead, 0.0, softmax(where(dead, 0.0, scores), -1))
    if dropout_p > 0:
        weights = dropout(weights, dropout_p, generator)
    return matmul(weights, v).to(narrow)


def _masked(scores: Any, mask: Any, causal: bool) -> Any:
    """The scores with -inf where they do not count, or with numbers added."""
    if causal:
        scores = where(_triangle(scores, 0, lower=True), scores, -math.inf)
    if mask is None:
        return scores
    return where(mask, scores, -math.inf) if mask.array.dtype is _BOOL else add(scores, mask)


# --- shapes ----------------------------------------------------------------------------------------------------------


def _require_fitting(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float,
                     is_causal: bool) -> None:
    name, given = "scaled_dot_product_attention", (query, key, value)
    if not all([isinstance(x, Var) for x in given]) or not (mask is None or isinstance(mask, Var)):
        kinds = ", ".join(type(x).__name__ for x in (*given, mask))
        raise DTypeError(f"{name}: query, key, value and mask must be Tensors, got {kinds}")
    shapes, listed = [x.shape for x in given], ", ".join(str(tuple(x.shape)) for x in given)
    if len({x.dtype for x in given}) > 1 or not query.dtype.is_floating_point:
        raise DTypeError(f"{name}: query, key and value must have one floating dtype, got "
                         f"{', '.join(x.dtype.name for x in given)}; use .to(dtype)")
    if min([len(shape) for shape in shapes]) < 2:
        raise ShapeError(f"{name}: query, key and value need at least 2 dimensions, got {listed}")
    if shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ShapeError(f"{name}: expected query (..., L, E), key (..., S, E) and value (..., S, Ev), got {listed}")
    if mask is not None and is_causal:
        raise ArgumentError(f"{name}: attn_mask and is_causal exclude each other; put the triangle into the mask")
    if mask is not None and mask.dtype is not query.dtype and mask.array.dtype is not _BOOL:
        raise DTypeError(f"{name}: attn_mask must be bool or of query's dtype {query.dtype.name}, "
                         f"got {mask.dtype.name}")
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(f"{name}: dropout probability has to be between 0 and 1, but got {dropout_p}")


def _batch_of(query: Tensor, key: Tensor, value: Tensor, grouped: bool) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """The common batch dimensions before the heads, and how many heads each of the three has."""
    shapes = [tuple(x.shape) for x in (query, key, value)]
    q, k, v = heads = tuple([shape[-3] if len(shape) > 2 else 1 for shape in shapes])
    if not grouped:
        q, = broadcast_shapes("scaled_dot_product_attention", *[(n,) for n in heads])
    elif not all(n and q % n == 0 for n in (k, v)):
        raise ShapeError(f"scaled_dot_product_attention: the heads of key and value must divide those of query, "
                         f"got {', '.join(map(str, shapes))}")
    batch = broadcast_shapes("scaled_dot_product_attention", *[shape[:-3] for shape in shapes])
    return batch, (q, k, v)


def _four(x: Any, batch: tuple[int, ...], heads: int) -> Any:
    """x as (N, heads, length, width), a view where strides allow."""
    if len(batch) == 1 and x.ndim == 4 and x.shape[0] == batch[0] and x.shape[1] == heads:
        return x
    length, width = x.shape[-2:]
    return reshape(expand(x, *batch, heads, length, width), math.prod(batch), heads, length, width)


def _mask_of_scores(mask: Any, lead: tuple[int, ...], q: Any, k: Any) -> Any:
    """The mask as (N, H, L, S), repeated without memory where strides allow."""
    length, keys = q.shape[2], k.shape[2]
    full = (*lead, length, keys)
    if broadcast_shapes("scaled_dot_product_attention", tuple(mask.shape), full) != full:
        raise ShapeError(f"scaled_dot_product_attention: attn_mask {tuple(mask.shape)} does not broadcast to the "
                         f"scores' shape {full}")
    if len(lead) > 2 and mask.ndim > 2:
        mask = reshape(expand(mask, *full), *q.shape[:2], length, keys)
    return expand(mask, *q.shape[:2], length, keys)
