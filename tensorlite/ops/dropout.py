"""Dropout: a product with a random mask, of which backward needs no copy.

What is kept of the mask is its noise: on devices with kernels of their own the 16 bytes of the generator's state, from
which the derivative draws the mask again; on the CPU, where drawing takes 15 times as long as multiplying, the mask
itself in a byte per element. The numbers are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd.op import op
from ..autograd.tape import wrap
from ..backends import NARROW, Array, Backend
from ..random import Generator, draw

if TYPE_CHECKING:
    from ..tensor import Tensor

_BOOL, _INT64 = np.dtype(np.bool_), np.dtype(np.int64)


@op
def _dropout(be: Backend, x: Array, noise: Array, *, chance: Any, scale: Any) -> Array:
    return be.fill("dropout", x.shape, x.dtype, x, noise, chance=chance, scale=scale)


_dropout.name = "dropout"
_dropout.rules(x=lambda g, noise, chance, scale: _dropout(g, noise, chance=chance, scale=scale))


def dropout(x: Tensor, p: float = 0.5, generator: Generator | None = None) -> Tensor:
    """x·m, with m = 0 with probability p and else 1/(1-p), element by element. Integers become the default dtype.

    Srivastava et al. 2014. The caller has checked that p lies in [0, 1].
    """
    if not x.dtype.is_floating_point:
        x = x.to(dtypes.get_default_dtype())
    be, shape, chance = x.backend, x.array.shape, float(1 - p)
    noise = be.empty((2,), _INT64) if be.redraws_masks else be.empty(shape, _BOOL)
    draw(be, "dropout_noise", noise, generator=generator, count=x.array.size, chance=chance)
    return _dropout(x, wrap(noise, be), chance=chance, scale=_held(1 / chance if chance else 0.0, x.array.dtype))


def _held(number: float, dtype: np.dtype[Any]) -> float:
    """The number that an element of a floating dtype holds for `number`; one of 16 bits gets it from float32."""
    return float(dtype.type(np.float32(number))) if dtype.char in NARROW else float(dtype.type(number))
