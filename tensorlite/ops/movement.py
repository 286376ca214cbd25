"""Differentiable movement: shapes, views, joining, splitting, copying. Nothing here computes a number.

Views (`view`, `expand`, `permute`, `diagonal`, slices) share their source's memory, and so in-place changes.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd.op import op, result_dtype
from ..backends import (
    Array,
    Backend,
    broadcast_shapes,
    dimension,
    get,
    normalize_dim,
    normalize_dims,
    resolve_shape,
)
from ..errors import ArgumentError, DTypeError, ShapeError
from .names import numpy_names
from .options import require_tensors

if TYPE_CHECKING:
    from ..tensor import Tensor

# --- copies ------------------------------------------------------------------------------------------------------


@op
def _cast(be: Backend, x: Array, *, dtype: Any) -> Array:
    return be.cast(x, dtype)


@op
def _discretize(be: Backend, x: Array, *, dtype: Any) -> Array:
    return be.cast(x, dtype)


_cast.name, _discretize.name = "cast", "cast_to_integers"
_cast.rules(x=lambda g: g)  # the engine brings g back to x's dtype


def cast(x: Tensor, *, dtype: np.dtype[Any]) -> Tensor:
    """A copy in another dtype. Floats become integers by truncation, and carry no gradient then."""
    return (_discretize if dtype.kind in "biu" else _cast)(x, dtype=dtype)


@op
def clone(be: Backend, x: Array) -> Array:
    """A dense copy."""
    return be.copy(x)


clone.rules(x=lambda g: g)


@op
def transfer(be: Backend, x: Array, *, device: Any, source: Any, non_blocking: Any = False) -> Array:
    """A copy on another device."""
    return get(device).from_numpy(be.to_numpy(x), non_blocking)


transfer.rules(x=lambda g, source: transfer_to(g, source))


def transfer_to(x: Any, device: Any, non_blocking: bool = False) -> Any:
    """x on another device (x itself where it is there already)."""
    target = get(device)
    if target is x.backend:
        return x
    moved = transfer(x, device=device, source=x.backend.device, non_blocking=non_blocking)
    moved.backend = target
    return moved


@op
def contiguous(be: Backend, x: Array) -> Array:
    """A dense copy of a strided array."""
    return be.copy(x)


contiguous.rules(x=lambda g: g)


def full_like(x: Any, value: Any) -> Any:
    """A constant of x's shape, dtype and device."""
    return type(x)._wrap(x.backend.fill("fill", x.array.shape, x.array.dtype, value), x.backend)


# --- views ---------------------------------------------------------------------------------------------------------


@op(view=True)
def _reshape(be: Backend, x: Array, *, shape: Any) -> Array:
    return be.reshape(x, shape)


_reshape.name = "reshape"
_reshape.rules(x=lambda g, shapes: _reshape(g, shape=shapes[0]))


def sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    listed = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return tuple(operator.index(n) for n in listed)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The elements in row-major order under another shape; one size may be -1. A view where strides allow.

    >>> tl.reshape(tl.arange(6), 2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return _reshape(x, shape=resolve_shape("reshape", sizes(shape), x.array.size))


def view(x: Tensor, *shape: Any) -> Tensor:
    """reshape that never copies. Raises ShapeError where the strides do not allow it."""
    target = resolve_shape("view", sizes(shape), x.array.size)
    if x.backend.view(x.array, target) is None:
        raise ShapeError(f"view: shape {target} does not fit the strides of {tuple(x.shape)}; use .reshape(...)")
    return _reshape(x, shape=target)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions start_dim … end_dim joined into one."""
    start, end = (normalize_dim("flatten", d, x.ndim) for d in (start_dim, end_dim))
    if start > end:
        raise ShapeError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    joined = int(np.prod(x.shape[start:end + 1], dtype=np.int64))
    return _reshape(x, shape=(*x.shape[:start], joined, *x.shape[end + 1:]))


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` split into `sizes`, one of which may be -1."""
    dim = dimension("unflatten", dim, x.shape)
    return _reshape(x, shape=(*x.shape[:dim], *resolve_shape("unflatten", sizes, x.shape[dim]), *x.shape[dim + 1:]))


@numpy_names
def squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the size-1 dimensions among `dim` (None: all)."""
    dims = normalize_dims("squeeze", dim, x.ndim)
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in dims))


@numpy_names
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    at = normalize_dim("unsqueeze", dim, x.ndim + 1)
    return _reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))


@op(view=True)
def _expand(be: Backend, x: Array, *, shape: Any) -> Array:
    return be.expand(x, shape)


_expand.name = "expand"
_expand.rules(x=lambda g: g)  # the engine sums g over the repeated dimensions


def expand(x: Tensor, *shape: Any) -> Tensor:
    """Size-1 (and new leading) dimensions repeated without a copy; -1 keeps a size. Raises ShapeError otherwise."""
    wanted = sizes(shape)
    lead = len(wanted) - x.ndim
    target = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
    if lead < 0 or any(n not in (1, target[lead + i]) for i, n in enumerate(x.shape)) or min(target, default=0) < 0:
        raise ShapeError(f"expand: shape {tuple(x.shape)} cannot expand to {wanted}; only sizes of 1 repeat")
    return _expand(x, shape=target)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """expand under NumPy's name."""
    return expand(x, shape)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, expanded to their common shape."""
    shape = broadcast_shapes("broadcast_tensors", *[t.shape for t in tensors])
    return tuple(expand(t, shape) for t in tensors)


@op(view=True)
def _permute(be: Backend, x: Array, *, dims: Any) -> Array:
    return x.transpose(dims)


_permute.name = "permute"
_permute.rules(x=lambda g, dims: _permute(g, dims=tuple(int(i) for i in np.argsort(dims))))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order; a view."""
    order = normalize_dims("permute", sizes(dims), x.ndim)
    if len(sizes(dims)) != x.ndim:
        raise ShapeError(f"permute: {x.ndim} dimensions need an order of as many, got {sizes(dims)}")
    return _permute(x, dims=order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged; a view."""
    a, b = (normalize_dim("transpose", d, x.ndim) for d in (dim0, dim1))
    order = list(range(x.ndim))
    if order:
        order[a], order[b] = b, a
    return _permute(x, dims=tuple(order))


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a vector as it is. Raises ShapeError above two dimensions."""
    if x.ndim > 2:
        raise ShapeError(f"t: expected at most 2 dimensions, got shape {tuple(x.shape)}; use .mT or .permute(...)")
    return _permute(x, dims=tuple(reversed(range(x.ndim))))


def movedim(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to new places, the others kept in order."""
    sources = normalize_dims("movedim", source, x.ndim)
    targets = normalize_dims("movedim", destination, x.ndim)
    if len(sources) != len(targets):
        raise ShapeError(f"movedim: {source} and {destination} name different numbers of dimensions")
    order: list[int] = [i for i in range(x.ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return _permute(x, dims=tuple(order))


@op(view=True)
def _slice(be: Backend, x: Array, *, key: Any) -> Array:
    return x[(*key, ...)]


@op
def place(be: Backend, g: Array, *, key: Any, shape: Any) -> Array:
    """Zeros of `shape` with g in the region that `key` selects: the gradient of a slice."""
    out = be.fill("fill", shape, g.dtype, 0)
    be.run("copy", out[(*key, ...)], g)
    return out


def _add_to_slice(be: Backend, total: Array, g: Array, *, key: Any) -> None:
    part = total[(*key, ...)]
    be.run("add", part, part, g)


_slice.name = "slice"
_slice.add_by(_add_to_slice)
_slice.rules(x=lambda g, key, shapes: place(g, key=key, shape=shapes[0]))
place.rules(g=lambda g, key: _slice(g, key=key))


def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices of dimension `dim` from `start`; a view. Raises ShapeError outside the size."""
    dim = dimension("narrow", dim, x.shape)
    start = start + x.shape[dim] if start < 0 else start
    if not 0 <= start <= start + length <= x.shape[dim]:
        raise ShapeError(f"narrow: start {start} and length {length} exceed dimension {dim} of size {x.shape[dim]}")
    return _slice(x, key=(slice(None),) * dim + (slice(start, start + length),))


def select(x: Tensor, dim: int, index: int) -> Tensor:
    """One slice of dimension `dim`, which goes away; a view."""
    return x[(slice(None),) * dimension("select", dim, x.shape) + (index,)]


@op(view=True)
def _diagonal(be: Backend, x: Array, *, offset: Any, dim1: Any, dim2: Any) -> Array:
    return be.diagonal(x, offset, dim1, dim2)


@op
def diagonal_place(be: Backend, g: Array, *, shape: Any, offset: Any, dim1: Any, dim2: Any) -> Array:
    """Zeros of `shape` with g on a diagonal: the gradient of diagonal."""
    out = be.fill("fill", shape, g.dtype, 0)
    be.run("copy", be.diagonal(out, offset, dim1, dim2), g)
    return out


_diagonal.name = "diagonal"
_diagonal.rules(x=lambda g, shapes, offset, dim1, dim2: diagonal_place(
    g, shape=shapes[0], offset=offset, dim1=dim1, dim2=dim2))
diagonal_place.rules(g=lambda g, offset, dim1, dim2: _diagonal(g, offset=offset, dim1=dim1, dim2=dim2))


def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of the planes (dim1, dim2), as the last dimension; a view."""
    a, b = (normalize_dim("diagonal", d, x.ndim) for d in (dim1, dim2))
    if x.ndim < 2 or a == b:
        raise ShapeError(f"diagonal: two different dimensions are needed, got {dim1} and {dim2} of {tuple(x.shape)}")
    return _diagonal(x, offset=offset, dim1=a, dim2=b)


def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with x on a diagonal for a vector x; the diagonal of a matrix x."""
    if x.ndim == 1:
        n = x.shape[0] + (diagonal if diagonal > 0 else -diagonal)
        return diagonal_place(x, shape=(n, n), offset=diagonal, dim1=0, dim2=1)
    if x.ndim != 2:
        raise ShapeError(f"diag: expected a vector or a matrix, got shape {tuple(x.shape)}; see diagonal")
    return clone(_diagonal(x, offset=diagonal, dim1=0, dim2=1))


# --- joining and splitting -------------------------------------------------------------------------------------------


@op
def _concat(be: Backend, *parts: Array, dim: Array) -> Array:
    shape = list(parts[0].shape)
    shape[dim] = 0
    for part in parts:
        shape[dim] += part.shape[dim]
    return be.fill("concat", tuple(shape), parts[0].dtype, *parts, dim=dim)


def _concat_rule(g: Any, shapes: Any, dim: int, position: int) -> Any:
    start = 0
    for shape in shapes[:position]:
        start += shape[dim]
    return narrow(g, dim, start, shapes[position][dim])


_concat.name = "cat"
_concat.rules(parts=_concat_rule)


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension, promoted to one dtype. Raises ShapeError where other sizes differ.

    >>> tl.cat([tl.zeros(2), tl.ones(1)])
    tensor([0., 0., 1.])
    """
    tensors = list(tensors)
    if not tensors:
        raise ArgumentError("cat: expected a non-empty list of Tensors")
    require_tensors("cat", *tensors)
    dtype = result_dtype([t.array for t in tensors])
    first = next((t.shape for t in tensors if t.shape != (0,)), (0,))
    kept = [t for t in tensors if t.shape != (0,) or len(first) == 1]  # PyTorch lets empty vectors join anything
    dim = normalize_dim("cat", dim, len(first))
    for t in kept:
        outside, expected = ((*shape[:dim], *shape[dim + 1:]) for shape in (t.shape, first))
        if not first or t.ndim != len(first) or outside != expected:
            raise ShapeError(f"cat: shapes {[tuple(t.shape) for t in kept]} must agree in all dimensions but {dim}"
                             + ("" if first else "; 0-d tensors cannot be joined, use stack"))
    return _concat(*[t.to(dtype) for t in kept], dim=dim)


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ArgumentError("stack: expected a non-empty list of Tensors")
    require_tensors("stack", *tensors)
    if any(t.shape != tensors[0].shape for t in tensors):
        raise ShapeError(f"stack expects each tensor to be equal size, got {[tuple(t.shape) for t in tensors]}")
    return cat([unsqueeze(t, dim) for t in tensors], normalize_dim("stack", dim, tensors[0].ndim + 1))


@numpy_names
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All slices of dimension `dim`, which goes away."""
    dim = dimension("unbind", dim, x.shape)
    return tuple(_slice(x, key=(slice(None),) * dim + (i,)) for i in range(x.shape[dim]))


@numpy_names
def split(x: Tensor, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of `split_size` (the last may be smaller), or of the listed sizes, along `dim`."""
    dim = dimension("split", dim, x.shape)
    n = x.shape[dim]
    if isinstance(split_size, int):
        if split_size < 0 or (split_size == 0 and n):
            raise ArgumentError(f"split: split_size must be positive, got {split_size}")
        pieces = [min(split_size, n - start) for start in range(0, n, split_size or 1)] or [0]
    else:
        pieces = list(split_size)
        if sum(pieces) != n:
            raise ShapeError(f"split: sizes {pieces} do not add up to {n}, the size of dimension {dim}")
    starts = np.cumsum([0, *pieces]).tolist()
    return tuple(narrow(x, dim, start, size) for start, size in zip(starts, pieces, strict=False))


@numpy_names
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size, the last smaller: 4 chunks of 5 are 3 pieces."""
    if chunks < 1:
        raise ArgumentError(f"chunk: chunks must be positive, got {chunks}")
    n = x.shape[dimension("chunk", dim, x.shape)]
    return split(x, -(-n // chunks) if n else [0] * chunks, dim)


@numpy_names
def tensor_split(x: Tensor, sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Exactly `sections` pieces, the first ones larger by one; or cut at the listed indices."""
    dim = dimension("tensor_split", dim, x.shape)
    n = x.shape[dim]
    if isinstance(sections, int):
        if sections < 1:
            raise ArgumentError(f"tensor_split: sections must be positive, got {sections}")
        small, larger = divmod(n, sections)
        return split(x, [small + (i < larger) for i in range(sections)], dim)
    cuts = [min(max(c + n if c < 0 else c, 0), n) for c in sections]
    return tuple(narrow(x, dim, a, max(b - a, 0)) for a, b in zip([0, *cuts], [*cuts, n], strict=True))


def flip(x: Tensor, *dims: Any) -> Tensor:
    """The order along `dims` reversed; a copy."""
    which = normalize_dims("flip", sizes(dims), x.ndim)
    return _flip(x, key=tuple(slice(None, None, -1 if i in which else None) for i in range(x.ndim)))


@op
def _flip(be: Backend, x: Array, *, key: Any) -> Array:
    return be.copy(x[key])


_flip.name = "flip"
_flip.rules(x=lambda g, key: _flip(g, key=key))


def roll(x: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved by `shifts` along `dims`, round the end; over the flattened tensor for dims=None."""
    if dims is None:
        return roll(x.flatten(), shifts, 0).reshape(x.shape)
    by = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    along = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(by) != len(along):
        raise ArgumentError(f"roll: shifts {shifts} and dims {dims} must be equally many")
    for shift, dim in zip(by, along, strict=True):
        n = x.shape[dimension("roll", dim, x.shape)]
        cut = -shift % n if n else 0
        x = cat([narrow(x, dim, cut, n - cut), narrow(x, dim, 0, cut)], dim)
    return x


def tile(x: Tensor, *repeats: Any) -> Tensor:
    """The tensor repeated along each dimension; missing counts on the left are 1."""
    counts = sizes(repeats)
    return repeat(x, (1,) * max(x.ndim - len(counts), 0) + counts)


def repeat(x: Tensor, *repeats: Any) -> Tensor:
    """The tensor repeated along each dimension; counts beyond its dimensions repeat the whole on the left."""
    counts = sizes(repeats)
    if len(counts) < x.ndim:
        raise ShapeError(f"repeat: {len(counts)} counts for {x.ndim} dimensions; give one per dimension, or use tile")
    shape = (1,) * (len(counts) - x.ndim) + tuple(x.shape)
    spread = _reshape(x, shape=tuple(m for n in shape for m in (1, n)))
    wide = _expand(spread, shape=tuple(m for c, n in zip(counts, shape, strict=True) for m in (c, n)))
    return _reshape(clone(wide), shape=tuple(c * n for c, n in zip(counts, shape, strict=True)))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Vectors expanded to a common grid; indexing 'xy' exchanges the first two dimensions."""
    listed = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    if any(t.ndim > 1 for t in listed):
        raise ShapeError(f"meshgrid: expected vectors, got shapes {[tuple(t.shape) for t in listed]}")
    shape = tuple(t.array.size for t in listed)
    grids = [expand(t.reshape((1,) * i + (-1,) + (1,) * (len(listed) - 1 - i)), shape) for i, t in enumerate(listed)]
    return tuple(transpose(g, 0, 1) for g in grids) if indexing == "xy" and len(grids) > 1 else tuple(grids)


def real(x: Tensor) -> Tensor:
    """x itself: tensors here are real."""
    return x


def imag(x: Tensor) -> Tensor:
    """Raises DTypeError: tensors here are real and have no imaginary part."""
    raise DTypeError(f"imag: {dtypes.from_numpy(x.array.dtype).name} tensors are real and have no imaginary part")
