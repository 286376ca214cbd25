"""The kernels of loss scaling on the CPU.

    amp_unscale(grads, scale, found_inf)    each g of a tuple becomes g/scale; found_inf is 1 if one held inf or NaN
    amp_update(scale, tracker, found_inf)   the scale of the next step, by what was found in this one

scale and found_inf are 0-d float32, the tracker is 0-d int32: they change between steps, so that a recorded step finds
them in memory. The inverse of the scale is rounded to float32 once, and gradients of 16 bits are multiplied in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from . import NARROW, Array


def amp_unscale(grads: tuple[Array, ...], scale: Array, found_inf: Array) -> None:
    inverse = np.float32(1.0 / float(scale))
    for g in grads:
        if not np.isfinite(g).all():
            found_inf[()] = 1.0
        if g.dtype.char in NARROW:
            g[...] = np.multiply(g.astype(np.float32), inverse)
        else:
            np.multiply(g, inverse, g)


def amp_update(scale: Array, tracker: Array, found_inf: Array, *, growth_factor: float, backoff_factor: float,
               growth_interval: int) -> None:
    """Back off after a step with inf or NaN; grow after `growth_interval` steps without, if that leaves it finite."""
    if found_inf != 0:
        scale[()] = float(scale) * backoff_factor
        tracker[()] = 0
        return
    tracker += 1
    if tracker == growth_interval:
        grown = np.float32(float(scale) * growth_factor)
        if np.isfinite(grown):
            scale[()] = grown
        tracker[()] = 0


KERNELS: Final[dict[str, Callable[..., None]]] = {"amp_unscale": amp_unscale, "amp_update": amp_update}
