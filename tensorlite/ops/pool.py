"""Pooling of planes: the largest or the mean of windows, and the derivatives, of inputs (N, C, H, W) or (C, H, W).

A window holds kernel_size elements, `dilation` apart, and the next one begins `stride` further; what lies outside the
plane takes no part. The derivatives of max_pool2d find the largest elements anew from x, so nothing but x is saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd.op import op
from ..backends import Array, Backend
from ..errors import ArgumentError, ShapeError
from .movement import squeeze, unsqueeze
from .options import Size, is_given, pair, require_floating

if TYPE_CHECKING:
    from ..tensor import Tensor

Pair = tuple[int, int]
_INT64 = np.dtype(np.int64)


class Windows(NamedTuple):
    """How windows lie in a plane, (rows, columns) each; `counts` is the shape of the result."""

    counts: Pair
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def of_maxima(self) -> dict[str, Any]:
        """The parameters of kernels that look for the largest element."""
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding,
                "dilation": self.dilation}

    def of_means(self) -> dict[str, Any]:
        """Those of kernels that average, but for the divisor."""
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}


def _require_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise ShapeError where a gradient has another shape: kernels believe shapes, and read where these say."""
    if array.shape != shape:
        raise ShapeError(f"{name}: a gradient of shape {array.shape}, where it must be {shape}")


# --- the largest ------------------------------------------------------------------------------------------------------


@op
def _max_pool2d(be: Backend, x: Array, *, windows: Any) -> Array:
    return be.fill("max_pool2d", (*x.shape[:2], *windows.counts), x.dtype, x, **windows.of_maxima())


@op
def max_pool2d_grad(be: Backend, g: Array, x: Array, *, windows: Any) -> Array:
    """g of each window at its largest element of x, summed where windows overlap: the derivative of max_pool2d."""
    _require_shape("max_pool2d_grad", g, (*x.shape[:2], *windows.counts))
    return be.fill("max_pool2d_grad", x.shape, x.dtype, g, x, **windows.of_maxima())


@op
def max_pool2d_pick(be: Backend, v: Array, x: Array, *, windows: Any) -> Array:
    """For each window v where x is largest: the derivative of max_pool2d_grad in g."""
    _require_shape("max_pool2d_pick", v, x.shape)
    return be.fill("max_pool2d_pick", (*x.shape[:2], *windows.counts), v.dtype, v, x, **windows.of_maxima())


@op
def _max_pool2d_indices(be: Backend, x: Array, *, windows: Any) -> Array:
    return be.fill("max_pool2d_indices", (*x.shape[:2], *windows.counts), _INT64, x, **windows.of_maxima())


_max_pool2d.name, _max_pool2d_indices.name = "max_pool2d", "max_pool2d_indices"
_max_pool2d.rules(x=lambda g, x, windows: max_pool2d_grad(g, x, windows=windows))
max_pool2d_grad.rules(g=lambda g, x, windows: max_pool2d_pick(g, x, windows=windows))
max_pool2d_pick.rules(v=lambda g, x, windows: max_pool2d_grad(g, x, windows=windows))


def max_pool2d(x: Tensor, kernel_size: Size, stride: Size | None = None,
               padding: Size = 0, dilation: Size = 1, ceil_mode: bool = False) -> Tensor:
    """The largest element of each window; of equals the first one gets the gradient, and NaN counts as the largest.

    Raises ShapeError for an input that is neither (N, C, H, W) nor (C, H, W) or too small, DTypeError for integers,
    ArgumentError for sizes that make no windows.
    """
    windows = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return _of_batch(x, lambda batch: _max_pool2d(batch, windows=windows))


def max_pool2d_indices(x: Tensor, kernel_size: Size, stride: Size | None = None,
                       padding: Size = 0, dilation: Size = 1,
                       ceil_mode: bool = False) -> Tensor:
    """Where each window is largest, int64: the place in its plane, counted row by row. Arguments as for max_pool2d."""
    windows = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return _of_batch(x, lambda batch: _max_pool2d_indices(batch, windows=windows))


# --- the mean ---------------------------------------------------------------------------------------------------------


@op
def _avg_pool2d(be: Backend, x: Array, *, windows: Any, count_include_pad: Any, divisor_override: Any) -> Array:
    return be.fill("avg_pool2d", (*x.shape[:2], *windows.counts), x.dtype, x, **windows.of_means(),
                   count_include_pad=count_include_pad, divisor_override=divisor_override)


@op
def avg_pool2d_grad(be: Backend, g: Array, *, plane: Any, windows: Any, count_include_pad: Any,
                    divisor_override: Any) -> Array:
    """To each element of a (H, W) plane its share of g of the windows around it: the derivative of avg_pool2d."""
    return be.fill("avg_pool2d_grad", (*g.shape[:2], *plane), g.dtype, g, **windows.of_means(),
                   count_include_pad=count_include_pad, divisor_override=divisor_override)


_avg_pool2d.name = "avg_pool2d"
_avg_pool2d.rules(x=lambda g, shapes, windows, count_include_pad, divisor_override: avg_pool2d_grad(
    g, plane=shapes[0][2:], windows=windows, count_include_pad=count_include_pad, divisor_override=divisor_override))
avg_pool2d_grad.rules(g=lambda g, windows, count_include_pad, divisor_override: _avg_pool2d(
    g, windows=windows, count_include_pad=count_include_pad, divisor_override=divisor_override))


def avg_pool2d(x: Tensor, kernel_size: Size, stride: Size | None = None,
               padding: Size = 0, ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:
    """The sum of each window, padded with zeros, over its number of elements, or over divisor_override.

    The padding counts too where count_include_pad says so. Errors are those of max_pool2d.
    """
    windows = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ArgumentError("avg_pool2d: divisor_override must not be 0")
    return _of_batch(x, lambda batch: _avg_pool2d(
        batch, windows=windows, count_include_pad=count_include_pad, divisor_override=divisor_override))


# --- arguments --------------------------------------------------------------------------------------------------------


def _of_batch(x: Tensor, function: Any) -> Tensor:
    """function(x) for (N, C, H, W); for (C, H, W) that of a batch of one."""
    result: Tensor = function(x) if x.ndim == 4 else squeeze(function(unsqueeze(x, 0)), 0)
    return result


def _windows(name: str, x: Tensor, kernel_size: Size, stride: Size | None,
             padding: Size, dilation: Size, ceil_mode: bool) -> Windows:
    """The windows that checked arguments make in x."""
    require_floating(name, x)
    if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
        raise ShapeError(f"{name}: expected an input (N, C, H, W) or (C, H, W) of planes that are not empty, "
                         f"got {tuple(x.shape)}")
    kernel = pair(name, "kernel_size", kernel_size)
    step = pair(name, "stride", stride) if is_given(stride) else kernel
    margin, apart = pair(name, "padding", padding, 0), pair(name, "dilation", dilation)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True)]
    if any(2 * p > span for p, span in zip(margin, spans, strict=True)):
        raise ArgumentError(f"{name}: padding {margin} may be at most half of the windows' {tuple(spans)}")
    counts = [count_of_windows(n, span, s, p, ceil_mode)
              for n, span, s, p in zip(x.shape[-2:], spans, step, margin, strict=True)]
    if min(counts) < 1:
        raise ShapeError(f"{name}: windows of {tuple(spans)} do not fit the planes of {tuple(x.shape)} "
                         f"with padding {margin}")
    return Windows((counts[0], counts[1]), kernel, step, margin, apart)


def count_of_windows(size: int, span: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """How many windows lie in a padded dimension; with ceil_mode also one that reaches beyond it, if it begins before.

    >>> from tensorlite.ops.pool import count_of_windows
    >>> count_of_windows(5, 2, 2, 0), count_of_windows(5, 2, 2, 0, ceil_mode=True)
    (2, 3)
    """
    room = size + 2 * padding - span
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + padding else count
