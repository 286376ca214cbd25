"""Dropout as a function."""

from __future__ import annotations

from ... import ops
from ...errors import ArgumentError
from ...inplace import change
from ...random import Generator
from ...tensor import Tensor


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False,
            *, generator: Generator | None = None) -> Tensor:
    """In training, each value set to 0 with probability p, the others multiplied by 1/(1-p); else the input itself.

    Srivastava et al. 2014. Raises ArgumentError for p outside [0, 1].

    >>> F.dropout(tl.ones(2), p=1.0)
    tensor([0., 0.])
    """
    check_probability(p)
    if not training or p == 0:
        return input
    return change(input, ops.dropout, p, generator) if inplace else ops.dropout(input, p, generator)


def check_probability(p: float) -> None:
    """Raise ArgumentError for p outside [0, 1]."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
