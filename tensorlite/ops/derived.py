"""Elementwise functions and products that are composed of the primitives, under PyTorch's names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..autograd.autocast import autocasts
from ..autograd.tape import Var
from ..backends import dimension
from ..errors import ArgumentError, ShapeError
from .elementwise import add, clamp, div, log, mul, sub, trunc, where
from .index import nonzero, sort
from .logic import eq, ge, isnan, le, logical_or
from .matmul import bmm, matmul, mv
from .movement import cat, diag, flatten, movedim, narrow, reshape, unsqueeze
from .reduce import norm

if TYPE_CHECKING:
    from ..tensor import Tensor


# --- elementwise -----------------------------------------------------------------------------------------------------


def clamp_min(x: Tensor, min: Any) -> Tensor:
    """x, at least min: clamp(x, min=min).

    >>> tl.clamp_min(tl.tensor([1, 5]), 3)
    tensor([3, 5])
    """
    return clamp(x, min=min)


def clamp_max(x: Tensor, max: Any) -> Tensor:
    """x, at most max: clamp(x, max=max)."""
    return clamp(x, max=max)


def frac(x: Tensor) -> Tensor:
    """x - trunc(x), with x's sign; the derivative is 1."""
    return sub(x, trunc(x))


def deg2rad(x: Tensor) -> Tensor:
    """Degrees as radians: x·π/180."""
    return mul(_floating(x), math.pi / 180)


def rad2deg(x: Tensor) -> Tensor:
    """Radians as degrees: x·180/π."""
    return mul(_floating(x), 180 / math.pi)


def _floating(x: Any) -> Any:
    return x if x.dtype.is_floating_point else x.to(dtypes.get_default_dtype())


def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """ln(x/(1-x)), the inverse of sigmoid; with `eps` of x limited to [eps, 1-eps]. NaN outside [0, 1] without.

    >>> tl.logit(tl.tensor([0.5, 1.0]), eps=0.25)
    tensor([0.0000, 1.0986])
    """
    x = _floating(x)
    if eps is not None:
        x = clamp(x, eps, 1 - eps)
    return log(div(x, sub(1.0, x)))


def fmax(x: Tensor, y: Any) -> Tensor:
    """The larger of two, or the one that is not NaN. Of equals the first gets the gradient."""
    return where(logical_or(ge(x, y), isnan(_tensor(y, x))), x, y)


def fmin(x: Tensor, y: Any) -> Tensor:
    """The smaller of two, or the one that is not NaN. Of equals the first gets the gradient."""
    return where(logical_or(le(x, y), isnan(_tensor(y, x))), x, y)


def _tensor(y: Any, x: Any) -> Any:
    return y if isinstance(y, Var) else x.new_full((), y)


def isposinf(x: Tensor) -> Tensor:
    """Whether each element is +inf."""
    return eq(x, math.inf)


def isneginf(x: Tensor) -> Tensor:
    """Whether each element is -inf."""
    return eq(x, -math.inf)


# --- products --------------------------------------------------------------------------------------------------------


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(batch1 @ batch2) for batches (N, a, b) and (N, b, c)."""
    return add(input if beta == 1 else mul(input, beta), bmm(batch1, batch2), alpha=alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(mat @ vec)."""
    return add(input if beta == 1 else mul(input, beta), mv(mat, vec), alpha=alpha)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Σ over the last dimension of both; a 0-d tensor multiplies. Raises ShapeError where these dimensions differ.

    >>> tl.inner(tl.tensor([1, 2]), tl.tensor([[3, 4], [5, 6]]))
    tensor([11, 17])
    """
    if not x.ndim or not y.ndim:
        return mul(x, y)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"inner: the last dimensions of {tuple(x.shape)} and {tuple(y.shape)} must be equal")
    left, right = (reshape(t, (math.prod(t.shape[:-1]), t.shape[-1])) for t in (x, y))
    rows = matmul(left, right.mT)
    return reshape(rows, (*x.shape[:-1], *y.shape[:-1]))


def kron(x: Tensor, y: Tensor) -> Tensor:
    """Kronecker's product: each element of x times the whole of y, in blocks.

    >>> tl.kron(tl.tensor([1, 2]), tl.tensor([1, 10]))
    tensor([ 1, 10,  2, 20])
    """
    count = max(x.ndim, y.ndim)
    a, b = (reshape(t, (1,) * (count - t.ndim) + tuple(t.shape)) for t in (x, y))
    apart = [size for n in a.shape for size in (n, 1)], [size for n in b.shape for size in (1, n)]
    sizes = [n * m for n, m in zip(a.shape, b.shape, strict=True)]
    return reshape(mul(reshape(a, apart[0]), reshape(b, apart[1])), sizes)


def cross(x: Tensor, y: Tensor, dim: int | None = None) -> Tensor:
    """The cross product along a dimension of size 3: the first such one unless given. Raises ShapeError without one.

    >>> tl.cross(tl.tensor([1, 0, 0]), tl.tensor([0, 1, 0]))
    tensor([0, 0, 1])
    """
    if dim is None and 3 not in x.shape:
        raise ShapeError(f"cross: no dimension of shape {tuple(x.shape)} has size 3")
    place = x.shape.index(3) if dim is None else dimension("cross", dim, x.shape)
    if x.shape[place] != 3 or y.shape[place - x.ndim] != 3:
        raise ShapeError(f"cross: dimension {place} of {tuple(x.shape)} and {tuple(y.shape)} must have size 3")
    a, b = movedim(x, place, -1), movedim(y, place - x.ndim, -1)
    turned = sub(mul(_turned(a, 1), _turned(b, 2)), mul(_turned(a, 2), _turned(b, 1)))
    return movedim(turned, -1, place - x.ndim).contiguous()


def _turned(x: Any, by: int) -> Any:
    """x with its last dimension turned: element i becomes element i + by."""
    return cat([narrow(x, -1, by, 3 - by), narrow(x, -1, 0, by)], -1)


@autocasts
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """‖x₁ᵢ - x₂ⱼ‖ₚ for all pairs of rows: (..., N, D) and (..., M, D) give (..., N, M). All differences are in memory.

    p may be inf. The gradient at 0 is 0. Raises ShapeError for other shapes, ArgumentError for a negative p.

    >>> tl.cdist(tl.tensor([[0., 0.]]), tl.tensor([[3., 4.], [0., 1.]]))
    tensor([[5., 1.]])
    """
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist: expected (..., N, D) and (..., M, D), got {tuple(x1.shape)} and {tuple(x2.shape)}")
    if p < 0:
        raise ArgumentError(f"cdist: p must not be negative, got {p}")
    return norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)


# --- order and places ------------------------------------------------------------------------------------------------


def msort(x: Tensor) -> Tensor:
    """x sorted along its first dimension."""
    values: Tensor = sort(x, 0).values
    return values


def argwhere(x: Tensor) -> Tensor:
    """The places of what is not 0, a row each: nonzero(x)."""
    places: Tensor = nonzero(x)
    return places


def diagflat(x: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the elements of x, flattened, on a diagonal."""
    return diag(flatten(x), offset)
