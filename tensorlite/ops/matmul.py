"""Differentiable products of vectors and matrices, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..autograd.autocast import autocasts, meets
from ..autograd.op import as_inputs, op
from ..autograd.tape import Var
from ..backends import Array, Backend, normalize_dims
from ..errors import DTypeError, ShapeError
from .elementwise import add, mul
from .movement import diagonal, permute, transpose, unsqueeze
from .reduce import sum

if TYPE_CHECKING:
    from ..tensor import Tensor


@op
def _matmul(be: Backend, x: Array, y: Array) -> Array:
    return be.matmul(x, y)


_matmul.name = "matmul"
_matmul.rules(x=lambda g, y: _matmul(g, transpose(y, -2, -1)), y=lambda g, x: _matmul(transpose(x, -2, -1), g))


def require_same_dtype(name: str, x: Any, y: Any) -> None:
    """Raise DTypeError where two factors differ: a silent float64 would halve the speed."""
    if x.array.dtype != y.array.dtype and not meets(x, y):
        raise DTypeError(
            f"{name}: expected operands of one dtype, got {x.dtype.name} {tuple(x.shape)} and {y.dtype.name} "
            f"{tuple(y.shape)}; NumPy arrays of floats are float64 unless made float32: use .float() or .to(dtype)")


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """The product of matrices (..., n, k) and (..., k, m); a 1-D factor is a row (left) or column that goes away.

    Batch dimensions broadcast. Raises ShapeError where k differs, DTypeError for different dtypes.

    >>> tl.matmul(tl.tensor([[1., 2.]]), tl.tensor([3., 4.]))
    tensor([11.])
    """
    if not (isinstance(x, Var) and isinstance(y, Var)):
        x, y = as_inputs("matmul", (x, y))
        if not (isinstance(x, Var) and isinstance(y, Var)):
            raise DTypeError(f"matmul: expected two Tensors, got {type(x).__name__} and {type(y).__name__}")
    require_same_dtype("matmul", x, y)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError("matmul: both factors need at least one dimension; multiply by a 0-d tensor with *")
    left = unsqueeze(x, 0) if x.ndim == 1 else x
    right = unsqueeze(y, 1) if y.ndim == 1 else y
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(f"matmul: shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be multiplied: "
                         f"{left.shape[-1]} columns meet {right.shape[-2]} rows")
    product = _matmul(left, right)
    if x.ndim == 1:
        product = product.squeeze(-2)
    return product.squeeze(-1) if y.ndim == 1 else product


def _exact(name: str, x: Tensor, y: Tensor, ndims: tuple[int, int]) -> Tensor:
    if (x.ndim, y.ndim) != ndims:
        raise ShapeError(f"{name}: expected {ndims[0]}-D and {ndims[1]}-D tensors, got {tuple(x.shape)} and "
                         f"{tuple(y.shape)}; see matmul")
    return matmul(x, y)


def mm(x: Tensor, y: Tensor) -> Tensor:
    """The product of two matrices; no broadcasting."""
    return _exact("mm", x, y, (2, 2))


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """The products of two batches of matrices (b, n, k) and (b, k, m)."""
    if x.ndim == 3 and y.ndim == 3 and x.shape[0] != y.shape[0]:
        raise ShapeError(f"bmm: batch sizes differ in {tuple(x.shape)} and {tuple(y.shape)}")
    return _exact("bmm", x, y, (3, 3))


def mv(x: Tensor, y: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    return _exact("mv", x, y, (2, 1))


@autocasts
def dot(x: Tensor, y: Tensor) -> Tensor:
    """Σ xᵢyᵢ of two vectors of equal length."""
    return _exact("dot", x, y, (1, 1))


@autocasts
def addmm(input: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(x @ y)."""
    product = mm(x, y)
    return add(input if beta == 1 else mul(input, beta), product, alpha=alpha)


def outer(x: Tensor, y: Tensor) -> Tensor:
    """The matrix xᵢyⱼ of two vectors."""
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer: expected two vectors, got {tuple(x.shape)} and {tuple(y.shape)}")
    return mul(unsqueeze(x, 1), unsqueeze(y, 0))


def trace(x: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    if x.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, got shape {tuple(x.shape)}")
    return sum(diagonal(x))


@autocasts
def tensordot(x: Tensor, y: Tensor, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Σ over pairs of dimensions: the last `dims` of x with the first of y, or the pairs listed in two sequences."""
    if isinstance(dims, int):
        if not 0 <= dims <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: dims={dims} for shapes {tuple(x.shape)} and {tuple(y.shape)}")
        dims = (tuple(range(x.ndim - dims, x.ndim)), tuple(range(dims)))
    from_x, from_y = (normalize_dims("tensordot", d, a.ndim) for d, a in zip(dims, (x, y), strict=True))
    if [x.shape[d] for d in from_x] != [y.shape[d] for d in from_y]:
        raise ShapeError(f"tensordot: dims {from_x} of {tuple(x.shape)} do not match {from_y} of {tuple(y.shape)}")
    free_x = tuple(i for i in range(x.ndim) if i not in from_x)
    free_y = tuple(i for i in range(y.ndim) if i not in from_y)
    inner = math.prod(x.shape[d] for d in from_x)
    left = permute(x, free_x + from_x).reshape(math.prod(x.shape[i] for i in free_x), inner)
    right = permute(y, from_y + free_y).reshape(inner, math.prod(y.shape[i] for i in free_y))
    return matmul(left, right).reshape(tuple(x.shape[i] for i in free_x) + tuple(y.shape[i] for i in free_y))
