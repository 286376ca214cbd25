"""Rows of the test table: attention, whole and by its composition."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import FLOATS, Case, Shape, along, dropout_mask, number, softmax

import tensorlite as tl
from tensorlite import ops

CHOICE = np.array([[True, False, True, True], [False, False, False, False], [True, True, False, True]])
TERMS = np.where(CHOICE, np.arange(12.0).reshape(3, 4) / 8, -np.inf)


def attended(q: Any, k: Any, v: Any, choice: Any = True, terms: Any = 0.0, kept: Any = 1.0) -> Any:
    """Rows of `choice` that hold no True give zeros."""
    k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) if q.ndim > 2 else x for x in (k, v))
    scores = q @ np.swapaxes(k, -1, -2)
    scores = scores / np.sqrt(number(q.shape[-1], scores)) + terms
    seen = np.broadcast_to(choice, scores.shape).any(-1, keepdims=True)
    hidden = np.where(seen, number(-np.inf, scores), scores)  # rows that see nothing stay finite, and give zeros
    return np.where(seen, softmax(np.where(choice, scores, hidden), -1), 0.0) * kept @ v


def row(name: str, reference: Any, *shapes: tuple[Shape, ...], **options: Any) -> Case:
    function = options.pop("function", ops.scaled_dot_product_attention)
    return Case(f"scaled_dot_product_attention {name}".strip(), function, reference, shapes, dtypes=FLOATS, view=True,
                nan=False, **options)


def with_mask(mask: np.ndarray) -> Any:
    def function(q: tl.Tensor, k: tl.Tensor, v: tl.Tensor) -> tl.Tensor:
        given = along(q, mask)
        return ops.scaled_dot_product_attention(q, k, v, given if mask.dtype == bool else given.to(q.dtype))

    return function


def causal(q: tl.Tensor, k: tl.Tensor, v: tl.Tensor) -> tl.Tensor:
    return ops.scaled_dot_product_attention(q, k, v, is_causal=True)


def grouped(q: tl.Tensor, k: tl.Tensor, v: tl.Tensor) -> tl.Tensor:
    return ops.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def dropping(q: tl.Tensor, k: tl.Tensor, v: tl.Tensor) -> tl.Tensor:
    return ops.scaled_dot_product_attention(q, k, v, dropout_p=0.25, generator=tl.Generator(q.device).manual_seed(5))


TRIANGLE = np.tril(np.ones((3, 4), bool))
FEW = ((2, 3, 5), (2, 4, 5), (2, 4, 6))
MANY = ((2, 2, 3, 5), (2, 2, 4, 5), (2, 2, 4, 6))
ATTENTION = [
    row("", attended, ((3, 5), (4, 5), (4, 6)), FEW, MANY, ((2, 0, 5), (2, 4, 5), (2, 4, 6))),
    row("no keys", lambda q, k, v: np.zeros((2, 3, 6)), ((2, 3, 5), (2, 0, 5), (2, 0, 6))),
    row("causal", lambda q, k, v: attended(q, k, v, TRIANGLE), MANY, FEW, function=causal),
    row("choice", lambda q, k, v: attended(q, k, v, CHOICE), MANY, FEW, function=with_mask(CHOICE)),
    row("terms", lambda q, k, v: attended(q, k, v, CHOICE, np.where(CHOICE, TERMS, 0)), MANY, FEW,
        function=with_mask(TERMS)),
    row("learned terms", lambda q, k, v, terms: attended(q, k, v, True, terms), (*MANY, (3, 4)), (*FEW, (4,))),
    row("groups", attended, ((2, 4, 3, 5), (2, 2, 4, 5), (2, 2, 4, 6)), function=grouped),
    row("dropout", lambda q, k, v: attended(q, k, v, kept=dropout_mask((2, 2, 3, 4))), MANY, function=dropping),
]
