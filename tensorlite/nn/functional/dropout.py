"""Dropout as a function."""

from __future__ import annotations

from ... import ops
from ...errors import ArgumentError, ShapeError
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


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False,
              *, generator: Generator | None = None) -> Tensor:
    """dropout of whole channels of an input (N, C, L), or (C, L). Tompson et al. 2015.

    Raises ShapeError for another number of dimensions, ArgumentError for p outside [0, 1].

    >>> F.dropout1d(tl.ones(2, 2), p=1.0)
    tensor([[0., 0.],
            [0., 0.]])
    """
    if input.ndim not in (2, 3):
        raise ShapeError(f"dropout1d: expected an input (N, C, L) or (C, L), got {tuple(input.shape)}; see dropout2d")
    return _dropout_of_channels(input, input.ndim - 1, p, training, inplace, generator)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False,
              *, generator: Generator | None = None) -> Tensor:
    """dropout of whole channels of an input (N, C, H, W): what follows the second dimension stays or goes together.

    Tompson et al. 2015. Raises ShapeError for fewer than two dimensions, ArgumentError for p outside [0, 1].

    >>> F.dropout2d(tl.ones(1, 2, 1, 2), p=1.0)
    tensor([[[[0., 0.]],
             [[0., 0.]]]])
    """
    if input.ndim < 2:
        raise ShapeError(f"dropout2d: expected an input (N, C, H, W), got {tuple(input.shape)}; see dropout")
    return _dropout_of_channels(input, 2, p, training, inplace, generator)


def _dropout_of_channels(input: Tensor, leading: int, p: float, training: bool, inplace: bool,
                         generator: Generator | None) -> Tensor:
    """dropout that draws one number for each place in the first `leading` dimensions."""
    check_probability(p)
    if not training or p == 0:
        return input
    shape = (*input.shape[:leading], *[1] * (input.ndim - leading))
    noise = ops.dropout(input.new_ones(shape), p, generator)
    return change(input, ops.mul, noise) if inplace else input * noise


def check_probability(p: float) -> None:
    """Raise ArgumentError for p outside [0, 1]."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
