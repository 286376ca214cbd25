"""What several of the CPU's kernel files use; functions that NumPy lacks, or does not compute stably."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import NARROW, Array

# By size in bytes. Seen as unsigned, a negative index is a huge one: one comparison finds those out of range.
UNSIGNED: Final = {d.itemsize: d for d in map(np.dtype, (np.uint8, np.uint16, np.uint32, np.uint64))}

# Chebyshev fits made for this file in 40-digit arithmetic, highest power first.
# erf(x)/x in x² on [0, 1], error 1.3e-19.
_ERF_SMALL = (
    5.9571761477489114e-11, -1.13728488567916737e-9, 1.46597752740474358e-8, -1.6350312701054695e-7,
    1.6461000484121368e-6, -1.49255952668311816e-5, 1.20553311116427109e-4, -8.54832698083378991e-4,
    5.22397762481801447e-3, -2.68661706450767932e-2, 1.12837916709548787e-1, -3.76126389031837481e-1,
    1.12837916709551257,
)
# exp(x²)·erfc(x)/t in t = 2/(2+x) for x in [1, 28], error 1.3e-17.
_ERFC_LARGE = (
    -0.19289546932849836, 1.50588985744261607, -5.38139304936203991, 11.5794129962771349, -16.5901935647478679,
    16.5463673630182399, -11.7694144297271472, 6.19505119705435737, -2.62449316888408252, 0.914163082869631058,
    -0.175123341161074204, 0.0429451752522108528, -0.0611429209950981899, -0.0557538945010637481,
    -0.0045072151367827967, 0.0837543873058398729, 0.17630883467448543, 0.246832958125673491, 0.28209479142562366,
    0.282094791777498008,
)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    result = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        np.multiply(result, x, result)
        np.add(result, c, result)
    return result


def widened(x: Array) -> Array:
    """An array of 16-bit floats in float32, another one as it is."""
    return x.astype(np.float32) if x.dtype.char in NARROW else x


def element_count(x: Array, dims: tuple[int, ...]) -> int:
    """Elements of x along `dims`."""
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return count


def erf(x: Array) -> Array:
    """(2/√π) ∫₀ˣ exp(-t²) dt, computed in float64, relative error below 1e-15. NaN stays NaN."""
    wide = np.asarray(x, np.float64)
    magnitude = np.minimum(np.abs(wide), 28.0)  # erfc(28) is far below the smallest double
    t = 2 / (2 + np.maximum(magnitude, 1))
    outer = 1 - np.exp(-magnitude * magnitude) * t * _horner(_ERFC_LARGE, t)
    result: Any = np.copysign(outer, wide, out=np.empty_like(wide))
    put_where(result, magnitude < 1, wide * _horner(_ERF_SMALL, np.square(np.minimum(magnitude, 1))))
    return result.astype(x.dtype, copy=False)


def sigmoid(x: Array, out: Array | None = None) -> Array:
    """1/(1+exp(-x)) without overflow: computed from exp(-|x|), which lies in (0, 1]."""
    result = out if out is not None and not np.may_share_memory(out, x) else np.empty_like(x)
    np.abs(x, result)
    np.negative(result, result)
    np.exp(result, result)
    numerator = np.greater_equal(x, 0, out=np.empty_like(result))
    np.maximum(numerator, result, out=numerator)  # 1 where x >= 0: no branch for each element, as np.where has
    np.add(result, 1, result)
    return np.divide(numerator, result, out if out is not None else result)


def softplus(x: Array) -> Array:
    """log(1+exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    result = np.abs(x, np.empty_like(x))
    np.negative(result, result)
    np.exp(result, result)
    np.log1p(result, result)
    return np.add(result, np.maximum(x, 0), result)


def put_where(out: Array, condition: Array, x: Array) -> None:
    """out = x where the condition holds: three arrays of one shape, out and x of one dtype.

    np.copyto with `where` branches for each element; where signs are random, bits chosen by a mask take a fifth of it.
    """
    if out.size < 4096:
        np.putmask(out, condition, x)
        return
    bits = out.view(f"i{out.itemsize}")
    mask = condition.astype(bits.dtype)
    np.negative(mask, mask)  # 0, or all bits set
    np.bitwise_and(np.bitwise_xor(bits, x.view(bits.dtype)), mask, mask)
    np.bitwise_xor(bits, mask, bits)


def relu_grad(out: Array, g: Array, y: Array) -> None:
    """g, or 0 where y <= 0: chosen by bits, for a product with 0 would make NaN of an infinite g."""
    if out.size < 2048:
        np.copyto(out, g)
        np.putmask(out, np.less_equal(y, 0), 0)
        return
    bits = out.view(f"i{out.itemsize}")
    np.less_equal(y, out.dtype.type(0), bits)
    np.subtract(bits, 1, bits)  # 0, or all bits set
    np.bitwise_and(bits, g.view(bits.dtype), bits)
