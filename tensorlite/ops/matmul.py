"""Differentiable products of vectors and matrices, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..autograd.autocast import autocasts, meets
from ..autograd.op import as_inputs, op
from ..autograd.tape import Var
from ..backends import Array, Backend, normalize_dims
from ..errors import ArgumentError, DTypeError, ShapeError
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


# --- einsum --------------------------------------------------------------------------------------------------------


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein summation: 'bik,bkj->bij'. Letters name dimensions, '...' stands for broadcast ones; letters that are
    not in the result are summed. Without '->' the result holds, in alphabetic order, the letters that occur once.

    Raises ArgumentError for an equation that does not fit the operands, ShapeError for sizes that differ.

    >>> tl.einsum("ij,j->i", tl.ones(2, 3), tl.ones(3))
    tensor([3., 3.])
    """
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    inputs, output = _parse(equation, tensors)
    result, labels = _diagonals(tensors[0], inputs[0])
    for i in range(1, len(tensors)):
        other, others = _diagonals(tensors[i], inputs[i])
        later = set(output).union(*inputs[i + 1:])
        result, labels = _contract(result, labels, other, others, later)
    result, labels = _sum_out(result, labels, set(output))
    return permute(result, [labels.index(label) for label in output]) if labels else result


def _parse(equation: str, tensors: list[Any]) -> tuple[list[list[str]], list[str]]:
    """Labels per operand and of the result; the dimensions of '...' are labelled '0', '1', … from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ArgumentError(f"einsum: {equation!r} names {len(terms)} operands, got {len(tensors)}")
    inputs, widest = [], 0
    for term, tensor in zip(terms, tensors, strict=True):
        named = len(term.replace("...", ""))
        rest = tensor.ndim - named
        if rest < 0 or (rest and "..." not in term) or (not term.replace("...", "", 1).isalpha() and named):
            raise ArgumentError(f"einsum: term {term!r} of {equation!r} does not fit shape {tuple(tensor.shape)}")
        before, _, after = term.partition("...")
        inputs.append([*before, *[str(i) for i in reversed(range(rest))], *after])
        widest = max(widest, rest)
    spread = [str(i) for i in reversed(range(widest))]
    if arrow:
        before, dots, after = right.partition("...")
        output = [*before, *(spread if dots else []), *after]
    else:
        letters = "".join(terms).replace(".", "")
        output = spread + sorted(c for c in set(letters) if letters.count(c) == 1)
    known = set().union(*inputs)
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ArgumentError(f"einsum: the result {right!r} of {equation!r} repeats a letter or names an unknown one")
    return inputs, output


def _diagonals(x: Any, labels: list[str]) -> tuple[Any, list[str]]:
    """x with each repeated label reduced to one dimension, by taking the diagonal."""
    labels = list(labels)
    for label in [c for c in dict.fromkeys(labels) if labels.count(c) > 1]:
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            if x.shape[a] != x.shape[b]:
                raise ShapeError(f"einsum: '{label}' has sizes {x.shape[a]} and {x.shape[b]} in one operand")
            x = diagonal(x, 0, a, b)
            labels = [c for i, c in enumerate(labels) if i not in (a, b)] + [label]
    return x, labels


def _sum_out(x: Any, labels: list[str], kept: set[str]) -> tuple[Any, list[str]]:
    gone = tuple(i for i, c in enumerate(labels) if c not in kept)
    return (sum(x, gone, dtype=x.dtype) if gone else x), [c for c in labels if c in kept]


def _contract(x: Any, xs: list[str], y: Any, ys: list[str], later: set[str]) -> tuple[Any, list[str]]:
    """One matrix product over two operands; labels shared and still needed become batch dimensions."""
    x, xs = _sum_out(x, xs, set(ys) | later)
    y, ys = _sum_out(y, ys, set(xs) | later)
    shared = [c for c in xs if c in ys]
    sizes = _sizes_of(x, xs, y, ys)
    batch = [c for c in shared if c in later]
    inner = [c for c in shared if c not in later]
    left_free = [c for c in xs if c not in shared]
    right_free = [c for c in ys if c not in shared]
    left = _arranged(x, xs, [batch, left_free, inner], sizes)
    right = _arranged(y, ys, [batch, inner, right_free], sizes)
    labels = batch + left_free + right_free
    return matmul(left, right).reshape(tuple(sizes[c] for c in labels)), labels


def _sizes_of(x: Any, xs: list[str], y: Any, ys: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for label, n in [*zip(xs, x.shape, strict=True), *zip(ys, y.shape, strict=True)]:
        known = sizes.setdefault(label, n)
        if known != n and 1 not in (known, n):
            raise ShapeError(f"einsum: '{label}' has sizes {known} and {n}")
        sizes[label] = max(known, n) if 0 not in (known, n) else 0
    return sizes


def _arranged(x: Any, labels: list[str], groups: list[list[str]], sizes: dict[str, int]) -> Any:
    """x permuted to the groups' order, size-1 dimensions expanded, each group joined into one dimension."""
    order = [c for group in groups for c in group]
    x = permute(x, [labels.index(c) for c in order]) if order else x
    x = x.expand(tuple(sizes[c] for c in order))
    return x.reshape(tuple(math.prod(sizes[c] for c in group) for group in groups))
