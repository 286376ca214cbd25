"""Pooling as functions: windows of given sizes, and windows that make a given number of results."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import SupportsIndex

from ... import ops
from ...errors import ArgumentError, ShapeError
from ...ops.options import is_given, pair, require_floating
from ...tensor import Tensor

Sizes = int | Sequence[int]
Targets = int | None | Sequence[int | None]

# --- windows of given sizes -------------------------------------------------------------------------------------------


def max_pool2d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               dilation: Sizes = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest element of each window of the planes of an input (N, C, H, W) or (C, H, W).

    There are floor((H + 2·padding - dilation·(kernel_size - 1) - 1)/stride) + 1 rows of windows, with ceil_mode rounded
    up; the stride is the kernel_size by default. With return_indices also where in its plane, counted row by row, each
    result was. Of equal elements the first gets the gradient. Raises ShapeError for another number of dimensions or
    windows that do not fit, ArgumentError for a padding of more than half a window, DTypeError for integers.

    >>> F.max_pool2d(tl.tensor([[[1., 2., 5.], [3., 4., 6.]]]), 2, stride=1)
    tensor([[[4., 6.]]])
    """
    values = ops.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    if not return_indices:
        return values
    return values, ops.max_pool2d_indices(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool1d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               dilation: Sizes = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """max_pool2d of an input (N, C, L) or (C, L) along its last dimension.

    >>> F.max_pool1d(tl.tensor([[1., 3., 2., 0.]]), 2)
    tensor([[3., 2.]])
    """
    result = max_pool2d(_as_plane("max_pool1d", input), _row("max_pool1d", kernel_size, 1),
                        _row("max_pool1d", stride, 1) if is_given(stride) else None, _row("max_pool1d", padding, 0),
                        _row("max_pool1d", dilation, 1), ceil_mode, return_indices)
    return result.squeeze(-2) if isinstance(result, Tensor) else (result[0].squeeze(-2), result[1].squeeze(-2))


def avg_pool2d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:
    """The mean of each window of the planes of an input (N, C, H, W) or (C, H, W), padded with zeros.

    The padding counts as elements unless count_include_pad is False; divisor_override is divided by instead of the
    number of elements. Windows and errors are those of max_pool2d.

    >>> F.avg_pool2d(tl.tensor([[[1., 2., 5.], [3., 4., 6.]]]), 2, stride=1)
    tensor([[[2.5000, 4.2500]]])
    """
    return ops.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool1d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Tensor:
    """avg_pool2d of an input (N, C, L) or (C, L) along its last dimension.

    >>> F.avg_pool1d(tl.tensor([[1., 3., 2., 0.]]), 2)
    tensor([[2., 1.]])
    """
    return avg_pool2d(_as_plane("avg_pool1d", input), _row("avg_pool1d", kernel_size, 1),
                      _row("avg_pool1d", stride, 1) if is_given(stride) else None, _row("avg_pool1d", padding, 0),
                      ceil_mode, count_include_pad).squeeze(-2)


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
                 output_size: Sequence[int] | None = None) -> Tensor:
    """Planes of zeros with each element of the input where max_pool2d found it, as its `indices` say.

    The planes are (H - 1)·stride - 2·padding + kernel_size rows high, and as wide accordingly, or of output_size, of
    which the last two count. Raises OutOfRangeError for an index outside them, ShapeError where indices do not fit.

    >>> F.max_unpool2d(tl.tensor([[[4.]]]), tl.tensor([[[3]]]), 2)
    tensor([[[0., 0.],
             [0., 4.]]])
    """
    if input.ndim not in (3, 4) or input.shape != indices.shape:
        raise ShapeError(f"max_unpool2d: expected an input (N, C, H, W) or (C, H, W) with indices of its shape, got "
                         f"{tuple(input.shape)} and {tuple(indices.shape)}")
    kernel = pair("max_unpool2d", "kernel_size", kernel_size)
    step = pair("max_unpool2d", "stride", stride) if is_given(stride) else kernel
    margin = pair("max_unpool2d", "padding", padding, 0)
    rows, columns = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(input.shape[-2:], step, margin, kernel, strict=True)
                     ] if output_size is None else tuple(output_size)[-2:]
    planes = input.new_zeros((*input.shape[:-2], rows * columns))
    return ops.scatter(planes, -1, indices.flatten(-2), input.flatten(-2)).unflatten(-1, (rows, columns))


def _row(name: str, value: Sizes | None, neutral: int) -> tuple[int, int]:
    """The (rows, columns) of an argument for the last dimension alone."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(numbers) != 1 or not isinstance(numbers[0], SupportsIndex):
        raise ArgumentError(f"{name}: expected one number for its one dimension, got {value}")
    return neutral, operator.index(numbers[0])


def _as_plane(name: str, input: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L)."""
    if input.ndim not in (2, 3):
        raise ShapeError(f"{name}: expected an input (N, C, L) or (C, L), got {tuple(input.shape)}")
    return input.unsqueeze(-2)


# --- windows that make a given number of results ----------------------------------------------------------------------


def adaptive_avg_pool2d(input: Tensor, output_size: Targets) -> Tensor:
    """Means of windows that make output_size = (P, Q) of them of the planes of an input (N, C, H, W) or (C, H, W).

    Window (p, q) holds the rows from floor(p·H/P) to ceil((p+1)·H/P) and the columns likewise; None keeps a size.
    Raises ShapeError for another number of dimensions and empty planes, ArgumentError for a negative size.

    >>> F.adaptive_avg_pool2d(tl.tensor([[[1., 2., 3.]]]), (1, 2))
    tensor([[[1.5000, 2.5000]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", input, output_size, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: Targets) -> Tensor:
    """Means of windows that make output_size of them along the last dimension of an input (N, C, L) or (C, L).

    >>> F.adaptive_avg_pool1d(tl.tensor([[1., 2., 3.]]), 2)
    tensor([[1.5000, 2.5000]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", input, output_size, 1)


def adaptive_max_pool2d(input: Tensor, output_size: Targets,
                        return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest elements of the windows of adaptive_avg_pool2d; with return_indices also where in its plane each was.

    >>> F.adaptive_max_pool2d(tl.tensor([[[1., 2., 3.]]]), (1, 2))
    tensor([[[2., 3.]]])
    """
    targets = _targets("adaptive_max_pool2d", input, output_size, 2)
    kernel = _even_windows(input, targets)
    if kernel is not None:
        return max_pool2d(input, kernel, return_indices=return_indices)
    values = _of_windows(input, targets, lambda window, row, column: ops.max_pool2d(window, window.shape[-2:]))
    if not return_indices:
        return values
    return values, _of_windows(input, targets, _place_of_largest(input.shape[-1]))


def adaptive_max_pool1d(input: Tensor, output_size: Targets,
                        return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest elements of the windows of adaptive_avg_pool1d; with return_indices also where each was.

    >>> F.adaptive_max_pool1d(tl.tensor([[1., 2., 3.]]), 2)
    tensor([[2., 3.]])
    """
    (target,) = _targets("adaptive_max_pool1d", input, output_size, 1)
    result = adaptive_max_pool2d(_as_plane("adaptive_max_pool1d", input), (1, target), return_indices)
    return result.squeeze(-2) if isinstance(result, Tensor) else (result[0].squeeze(-2), result[1].squeeze(-2))


def _targets(name: str, input: Tensor, output_size: Targets, ndim: int) -> list[int]:
    """The checked numbers of results along the last `ndim` dimensions."""
    require_floating(name, input)
    if input.ndim not in (ndim + 1, ndim + 2) or 0 in input.shape[-ndim:]:
        raise ShapeError(f"{name}: expected {ndim + 1} or {ndim + 2} dimensions, the last {ndim} of them not empty, "
                         f"got {tuple(input.shape)}")
    listed = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * ndim
    targets = [n if t is None else t for t, n in zip(listed, input.shape[-ndim:], strict=False)]
    if len(listed) != ndim or min(targets) < 0:
        raise ArgumentError(f"{name}: output_size must be {ndim} sizes, at least 0, or one for all, got {output_size}")
    return targets


def _bounds(size: int, target: int) -> list[tuple[int, int]]:
    """Where the windows of a dimension begin and end."""
    return [(i * size // target, -((i + 1) * size // -target)) for i in range(target)]


def _even_windows(input: Tensor, targets: list[int]) -> list[int] | None:
    """The size of the windows where they are side by side and all alike."""
    sizes = input.shape[-len(targets):]
    if any(not target or size % target for size, target in zip(sizes, targets, strict=True)):
        return None
    return [size // target for size, target in zip(sizes, targets, strict=True)]


def _adaptive_avg_pool(name: str, input: Tensor, output_size: Targets, ndim: int) -> Tensor:
    targets = _targets(name, input, output_size, ndim)
    if all(target == 1 for target in targets):
        return input.mean(tuple(range(-ndim, 0)), keepdim=True)
    kernel = _even_windows(input, targets)
    if kernel is not None:
        return (avg_pool2d if ndim == 2 else avg_pool1d)(input, kernel)
    total = input.float() if input.dtype.is_narrow else input
    for dim, target in enumerate(targets, -ndim):
        means = [total.narrow(dim, begin, end - begin).mean(dim, keepdim=True)
                 for begin, end in _bounds(input.shape[dim], target)]
        total = ops.cat(means, dim) if means else total.narrow(dim, 0, 0)
    return total.to(input.dtype)


def _of_windows(input: Tensor, targets: list[int], function: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """function(window, its first row, its first column) of each window, put together."""
    lines = []
    for top, bottom in _bounds(input.shape[-2], targets[0]):
        rows = input.narrow(-2, top, bottom - top)
        line = [function(rows.narrow(-1, left, right - left), top, left)
                for left, right in _bounds(input.shape[-1], targets[1])]
        lines.append(ops.cat(line, -1) if line else rows.narrow(-2, 0, 1).narrow(-1, 0, 0))
    return ops.cat(lines, -2) if lines else input.narrow(-2, 0, 0).narrow(-1, 0, targets[1])


def _place_of_largest(width: int) -> Callable[[Tensor, int, int], Tensor]:
    """For _of_windows: where in a plane of that width a window is largest."""

    def place(window: Tensor, row: int, column: int) -> Tensor:
        inside = ops.max_pool2d_indices(window, window.shape[-2:])
        return (inside // window.shape[-1] + row) * width + inside % window.shape[-1] + column

    return place
