"""Dropout as a layer."""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .functional.dropout import check_probability
from .module import Module


class Dropout(Module):
    """In training, sets each value to 0 with probability p and multiplies the others by 1/(1-p); else the identity.

    Srivastava et al. 2014. Raises ArgumentError for p outside [0, 1].

    >>> nn.Dropout(0.5).eval()(tl.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(p)
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """In training, sets whole channels of an input (N, C, L) or (C, L) to 0 with probability p. Tompson et al. 2015.

    >>> nn.Dropout1d(1.0)(tl.ones(2, 2))
    tensor([[0., 0.],
            [0., 0.]])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Dropout):
    """In training, sets whole channels of an input (N, C, H, W) to 0 with probability p. Tompson et al. 2015.

    >>> nn.Dropout2d(1.0)(tl.ones(1, 1, 1, 2))
    tensor([[[[0., 0.]]]])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)
