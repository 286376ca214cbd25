"""Norms and products of vectors under torch.linalg's names. Decompositions are NumPy's: np.linalg.svd(x.numpy())."""

from __future__ import annotations

from . import ops
from .errors import ArgumentError
from .ops.reduce import Dims
from .tensor import Tensor


def vector_norm(x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """(Σ|x|ᵖ)^(1/p) over `dim`, of all elements unless given; ord may be inf, -inf and 0.

    >>> tl.linalg.vector_norm(tl.tensor([3.0, 4.0]))
    tensor(5.)
    """
    return ops.norm(x, ord, dim, keepdim)


def norm(A: Tensor, ord: float | str | None = None, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The norm of vectors, or Frobenius' norm of matrices; of all elements without `ord` and `dim`.

    Raises ArgumentError for norms of matrices that sum rows or columns or need their singular values.

    >>> tl.linalg.norm(tl.tensor([[3.0], [4.0]]))
    tensor(5.)
    """
    of_matrices = A.ndim == 2 if dim is None else not isinstance(dim, int) and len(dim) == 2
    if of_matrices and ord not in (None, "fro"):
        raise ArgumentError(f"linalg.norm: of matrices only Frobenius' norm is there, got ord={ord!r}; "
                            "for vectors say dim=, for all elements use tl.linalg.vector_norm")
    return ops.norm(A, 2 if ord is None else ord, dim, keepdim)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product along a dimension of size 3, the last unless given. Raises ShapeError for another size."""
    return ops.cross(input, other, dim)
