"""Padding: a border of a constant, or of the tensor's own elements mirrored, repeated or taken from the other end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..autograd.op import op
from ..backends import Array, Backend
from ..errors import ArgumentError, ShapeError
from .movement import _slice, cat, clone, expand, flip, narrow
from .options import require_tensors

if TYPE_CHECKING:
    from ..tensor import Tensor


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """x with a border: pad = (left, right) of the last dimension, then of the one before, and so on.

    mode    'constant': of `value`, 0 by default; 'reflect': mirrored at the edge, without the edge; 'replicate': the
            edge itself; 'circular': from the other end
    Negative widths cut. Raises ShapeError for widths that do not fit the shape, ArgumentError for another mode or a
    value that the mode does not use.
    """
    require_tensors("pad", x)
    widths = [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if len(pad) % 2 or len(widths) > x.ndim:
        raise ShapeError(f"pad: {len(pad)} widths for {x.ndim} dimensions; give two per padded dimension, last first")
    if mode == "constant":
        return _constant(x, [(0, 0)] * (x.ndim - len(widths)) + widths, value or 0)
    border = _BORDERS.get(mode)
    if border is None:
        raise ArgumentError(f"pad: mode {mode!r} is not supported; use 'constant', {', '.join(map(repr, _BORDERS))}")
    if value is not None:
        raise ArgumentError(f"pad: mode {mode!r} does not use a value, got {value}")
    for dim, (left, right) in enumerate(widths, x.ndim - len(widths)):
        if left or right:
            x = border(x, dim, left, right)
    return x


def _cut(x: Tensor, dim: int, left: int, right: int) -> Tensor:
    """x without what negative widths take away."""
    begin, end = max(-left, 0), x.shape[dim] - max(-right, 0)
    if begin > end:
        raise ShapeError(f"pad: ({left}, {right}) cuts more than dimension {dim} of shape {tuple(x.shape)} has")
    return narrow(x, dim, begin, end - begin) if left < 0 or right < 0 else x


def _constant(x: Tensor, widths: list[tuple[int, int]], value: float) -> Tensor:
    for dim, (left, right) in enumerate(widths):
        x = _cut(x, dim, left, right)
    shape = tuple(n + max(a, 0) + max(b, 0) for n, (a, b) in zip(x.shape, widths, strict=True))
    key = tuple(slice(max(a, 0), max(a, 0) + n) for n, (a, _) in zip(x.shape, widths, strict=True))
    return _pad(x, key=key, shape=shape, value=value)


@op
def _pad(be: Backend, x: Array, *, key: Any, shape: Any, value: Any) -> Array:
    out = be.fill("fill", shape, x.dtype, value)
    be.run("copy", out[(*key, ...)], x)
    return out


_pad.name = "pad"
_pad.rules(x=lambda g, key: _slice(g, key=key))


# --- borders of x's own elements, along one dimension -----------------------------------------------------------------


def _reflected(x: Tensor, dim: int, left: int, right: int) -> Tensor:
    n = x.shape[dim]
    if max(left, right) >= n:
        raise ShapeError(f"pad: 'reflect' needs widths below the size, got ({left}, {right}) for dimension {dim} of "
                         f"shape {tuple(x.shape)}")
    parts = [x]
    if left > 0:
        parts.insert(0, flip(narrow(x, dim, 1, left), dim))
    if right > 0:
        parts.append(flip(narrow(x, dim, n - 1 - right, right), dim))
    return _joined(parts, dim, left, right)


def _joined(parts: list[Tensor], dim: int, left: int, right: int) -> Tensor:
    """The parts side by side, without what negative widths take away."""
    whole = cat(parts, dim)
    return clone(_cut(whole, dim, left, right)) if left < 0 or right < 0 else whole


def _replicated(x: Tensor, dim: int, left: int, right: int) -> Tensor:
    n = x.shape[dim]
    if not n:
        raise ShapeError(f"pad: 'replicate' needs an element in dimension {dim} of shape {tuple(x.shape)}")
    parts = [x]
    if left > 0:
        parts.insert(0, _repeated(narrow(x, dim, 0, 1), dim, left))
    if right > 0:
        parts.append(_repeated(narrow(x, dim, n - 1, 1), dim, right))
    return _joined(parts, dim, left, right)


def _repeated(edge: Tensor, dim: int, count: int) -> Tensor:
    return expand(edge, (*edge.shape[:dim], count, *edge.shape[dim + 1:]))


def _wrapped(x: Tensor, dim: int, left: int, right: int) -> Tensor:
    x = _cut(x, dim, left, right)
    n = x.shape[dim]
    if max(left, right) > n:
        raise ShapeError(f"pad: 'circular' goes round at most once, got ({left}, {right}) for dimension {dim} of which "
                         f"{n} elements are kept")
    parts = [x]
    if left > 0:
        parts.insert(0, narrow(x, dim, n - left, left))
    if right > 0:
        parts.append(narrow(x, dim, 0, right))
    return cat(parts, dim)


_BORDERS: dict[str, Callable[[Tensor, int, int, int], Tensor]] = {
    "reflect": _reflected, "replicate": _replicated, "circular": _wrapped,
}
