"""Differentiable indexing. `x[key]` is a basic view (ints, slices, None, Ellipsis), then a gather by integer arrays.

An int in the key selects first, as in PyTorch, so `x[0, :, [1, 2]]` keeps the order of the remaining dimensions.
A bool mask stands for the integer arrays of its nonzero positions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd.op import op
from ..autograd.tape import Var
from ..backends import Array, Backend, broadcast_shapes, dimension, normalize_dim
from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from .elementwise import add, maximum, minimum, where
from .logic import eq, isnan, logical_or
from .movement import _slice, clone, expand, full_like, narrow, reshape, unsqueeze
from .names import numpy_names
from .reduce import ValuesIndices, amax, amin, argmax, argmin, require_elements
from .reduce import any as any_of

if TYPE_CHECKING:
    from ..tensor import Tensor

_INT64 = np.dtype(np.int64)

# --- gather and scatter by integer arrays ---------------------------------------------------------------------------


def _gathered_shape(shape: tuple[int, ...], indices: Sequence[Any], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The indexed dimensions give way to the indices' shape: in place if they are neighbours, else in front."""
    common = broadcast_shapes("index", *[i.shape for i in indices])
    rest = [n for d, n in enumerate(shape) if d not in dims]
    at = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    return (*rest[:at], *common, *rest[at:])


@op
def _index(be: Backend, x: Array, *, indices: Any, dims: Any, wrap: Any = True) -> Array:
    """x at integer arrays, one per dimension of `dims`; negative indices count from the end if they `wrap`."""
    return be.fill("index", _gathered_shape(x.shape, indices, dims), x.dtype, x, *indices, dims=dims, wrap=wrap)


@op
def index_spread(be: Backend, g: Array, *, indices: Any, dims: Any, shape: Any, wrap: Any = True) -> Array:
    """Zeros of `shape` to which g is added at the indices: the gradient of index. Duplicates add up."""
    out = be.fill("fill", shape, g.dtype, 0)
    be.run("index_add", out, g, *indices, dims=dims, wrap=wrap)
    return out


_index.name = "index"
_index.rules(x=lambda g, indices, dims, shapes: index_spread(g, indices=indices, dims=dims, shape=shapes[0]))
index_spread.rules(g=lambda g, indices, dims: _index(g, indices=indices, dims=dims))


@op
def _index_put(be: Backend, x: Array, value: Array, *, indices: Any, dims: Any, wrap: Any = True) -> Array:
    out = be.copy(x)
    be.run("index_put", out, value, *indices, dims=dims, wrap=wrap)
    return out


def _zero(g: Any) -> Any:
    return type(g)._wrap(g.backend.fill("fill", (), g.array.dtype, 0), g.backend)


def _written(g: Any, indices: Any, dims: Any) -> Any:
    """The part of g that reaches the written values: of duplicates only the last one counts."""
    backend = g.backend
    shape = _gathered_shape(g.shape, indices, dims)
    numbers = backend.fill("arange", (int(np.prod(shape)),), _INT64, 0, 1).reshape(shape)
    owner = backend.fill("fill", g.shape, _INT64, -1)
    backend.run("index_put", owner, numbers, *indices, dims=dims)
    wins = backend.elementwise("eq", backend.fill("index", shape, _INT64, owner, *indices, dims=dims), numbers,
                               dtype=np.dtype(np.bool_))
    return where(type(g)._wrap(wins, backend), _index(g, indices=indices, dims=dims), 0.0)


_index_put.name = "index_put"
_index_put.rules(
    x=lambda g, indices, dims: _index_put(g, _zero(g), indices=indices, dims=dims),
    value=lambda g, indices, dims: _written(g, indices, dims),
)


def _raw_index(name: str, value: Any, backend: Backend) -> Any:
    """An index as a private int64 array: the caller may change his own afterwards."""
    array = value.array if isinstance(value, Var) else backend.from_numpy(np.asarray(value))
    if array.size == 0 and not isinstance(value, Var):
        return backend.cast(array, _INT64)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{name}: an index must hold integers, got {array.dtype.name}")
    if isinstance(value, Var) and value.backend is not backend:
        array = backend.from_numpy(value.backend.to_numpy(array))
    return backend.fill("copy", array.shape, _INT64, array)


# --- x[key] ---------------------------------------------------------------------------------------------------------


def _parse(x: Any, key: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[int, ...]]:
    """A key as its basic part (a tuple for `_slice`), and integer arrays with the dimensions they index after it."""
    items = [_mask(k) for k in (key if isinstance(key, tuple) else (key,))]
    used = sum([0 if k is None or k is Ellipsis else k.ndim if _is_mask(k) else 1 for k in items])
    if used > x.ndim:
        raise OutOfRangeError(f"too many indices for tensor of dimension {x.ndim}: got {used}")
    dots = [i for i, k in enumerate(items) if k is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(items)
    items[at:at + len(dots)] = [slice(None)] * (x.ndim - used)
    basic: list[Any] = []
    arrays: list[Any] = []
    dims: list[int] = []
    dim = position = 0  # of x, and of the result of the basic part
    for k in items:
        if _is_integer(k):
            basic.append(_checked(int(k), x, dim))
            dim += 1
            continue
        if k is None or isinstance(k, slice):
            basic.append(_checked_slice(k) if k is not None else None)
            dim += k is not None
            position += 1
            continue
        found = _nonzero(k, x, dim) if _is_mask(k) else (_raw_index("index", k, x.backend),)
        basic.extend([None] if _is_mask(k) and k.ndim == 0 else [slice(None)] * len(found))
        arrays.extend(found)
        dims.extend(range(position, position + len(found)))
        dim += k.ndim if _is_mask(k) else 1
        position += len(found)
    return tuple(basic), tuple(arrays), tuple(dims)


def _mask(k: Any) -> Any:
    """A bool mask as a NumPy array; anything else as it is."""
    if isinstance(k, Var) and k.array.dtype.kind == "b":
        return k.backend.to_numpy(k.array)
    if isinstance(k, (bool, np.bool_, list)):
        values = np.asarray(k)
        return values if values.dtype.kind == "b" else k
    return k


def _is_mask(k: Any) -> bool:
    return isinstance(k, np.ndarray) and k.dtype.kind == "b"


def _nonzero(mask: np.ndarray, x: Any, dim: int) -> tuple[Array, ...]:
    """The integer arrays of a mask's nonzero positions. A 0-d one indexes a new dimension, by one zero or by none."""
    if mask.ndim == 0:
        return (x.backend.from_numpy(np.zeros(int(mask), _INT64)),)
    if x.shape[dim:dim + mask.ndim] != mask.shape:
        raise OutOfRangeError(f"the mask of shape {mask.shape} does not fit {tuple(x.shape)} from dimension {dim} on")
    return tuple([x.backend.from_numpy(i) for i in np.nonzero(mask)])


def _is_integer(k: Any) -> bool:
    if isinstance(k, Var):
        return k.array.ndim == 0 and k.array.dtype.kind in "iu"
    return isinstance(k, (int, np.integer))


def _checked(i: int, x: Any, dim: int) -> int:
    n = x.shape[dim]
    if not -n <= i < n:
        raise OutOfRangeError(f"index {i} is out of bounds for dimension {dim} with size {n}")
    return i


def _checked_slice(k: slice) -> slice:
    try:
        bounds = [None if b is None else operator.index(b) for b in (k.start, k.stop, k.step)]
    except TypeError:
        raise DTypeError(f"a slice takes integers, got {k}") from None
    if bounds[2] == 0:
        raise ArgumentError("the step of a slice cannot be 0")
    return slice(*bounds)


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]: ints, slices (also of negative step), None, Ellipsis, integer arrays, bool masks, Tensors.

    A view for ints, slices and None; a copy otherwise. Raises OutOfRangeError (an IndexError) outside the shape.
    """
    basic, arrays, dims = _parse(x, key)
    if basic:
        x = _slice(x, key=basic)
    return _index(x, indices=arrays, dims=dims) if arrays else x


def setitem(x: Tensor, key: Any, value: Any) -> Tensor:
    """A copy of x with `value` written at `key`, as the differentiable form of x[key] = value."""
    basic, arrays, dims = _parse(x, key)
    value = _value_like(x, value)
    _refuse_too_large(value, x, basic, arrays, dims)
    if arrays:
        value = _index_put(_slice(x, key=basic), value, indices=arrays, dims=dims)
    return _slice_put(x, value, key=basic)


def setitem_raw(x: Tensor, key: Any, value: Any) -> None:
    """Write `value` at `key` into x's memory, unrecorded."""
    basic, arrays, dims = _parse(x, key)
    value = _value_like(x, value)
    _refuse_too_large(value, x, basic, arrays, dims)
    region, source = x.array[(*basic, ...)], value.array
    if x.backend.shares_memory(region, source):
        source = x.backend.copy(source)  # x[...] = x.T: a kernel would read what it has written
    if arrays:
        x.backend.run("index_put", region, source, *arrays, dims=dims)
    else:
        x.backend.run("copy", region, source)


def _value_like(x: Any, value: Any) -> Any:
    """A value to be stored in x: as a Tensor of x's dtype, without surplus leading dimensions of 1."""
    if isinstance(value, (bool, int, float)):
        return x.new_full((), value)
    if not isinstance(value, Var):
        value = type(x)._wrap(x.backend.from_numpy(np.asarray(value)), x.backend)
    while value.ndim and value.shape[0] == 1:
        value = value.squeeze(0)
    return value.to(x.dtype)


def _refuse_too_large(value: Any, x: Any, basic: Any, arrays: Any, dims: Any) -> None:
    """Raise ShapeError for a value that does not broadcast to what the key selects."""
    selected = x.array[(*basic, ...)].shape
    shape = _gathered_shape(selected, arrays, dims) if arrays else selected
    fits = all(n in (1, m) for n, m in zip(reversed(value.shape), reversed(shape), strict=False))
    if value.ndim > len(shape) or not fits:
        raise ShapeError(f"setitem: a value of shape {tuple(value.shape)} does not broadcast to the indexed {shape}")


@op
def _slice_put(be: Backend, x: Array, value: Array, *, key: Any) -> Array:
    out = be.copy(x)
    region = out[(*key, ...)]
    be.run("copy", region, be.expand(value, region.shape))
    return out


_slice_put.name = "slice_put"
_slice_put.rules(
    x=lambda g, key: _slice_put(g, _zero(g), key=key),
    value=lambda g, key: _slice(g, key=key),
)

# --- named forms ----------------------------------------------------------------------------------------------------


def _grid(x: Any, dim: int, array: Any) -> tuple[Any, ...]:
    """Index arrays for all dimensions that follow `array` along `dim` and their own position elsewhere."""
    grids = []
    for d, n in enumerate(array.shape):
        if d == dim:
            grids.append(array)
        else:
            positions = x.backend.fill("arange", (n,), _INT64, 0, 1)
            grids.append(positions.reshape((1,) * d + (n,) + (1,) * (array.ndim - 1 - d)))
    return tuple(grids)


def _along(name: str, x: Any, dim: int, index: Any) -> tuple[int, Any]:
    dim = normalize_dim(name, dim, x.ndim)
    array = _raw_index(name, index, x.backend)
    if array.ndim != x.ndim or any(n > x.shape[d] for d, n in enumerate(array.shape) if d != dim):
        raise ShapeError(f"{name}: index of shape {array.shape} does not fit {tuple(x.shape)} outside dimension {dim}")
    return dim, array


@numpy_names
def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j] = x[index[i][j]][j] for dim 0, and so on: one element per entry of `index`.

    Raises OutOfRangeError for an index outside dimension `dim`.
    """
    dim, array = _along("gather", x, dim, index)
    if not x.ndim:
        return look_up(x.reshape(1), index)
    return _index(x, indices=_grid(x, dim, array), dims=tuple(range(x.ndim)), wrap=False)


@numpy_names
def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """gather that broadcasts x and the indices outside `dim`; over the flattened x for dim=None."""
    if dim is None:
        return take_along_dim(x.flatten(), indices.flatten(), 0)
    dim = normalize_dim("take_along_dim", dim, x.ndim)
    outside = [(*t.shape[:dim], 1, *t.shape[dim + 1:]) for t in (x, indices)]
    common = broadcast_shapes("take_along_dim", *outside)
    x, indices = (t.expand((*common[:dim], t.shape[dim], *common[dim + 1:])) for t in (x, indices))
    return gather(x, dim, indices)


def take(x: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened x at `index`, in the index's shape."""
    return x.flatten()[index]


@numpy_names
def index_select(x: Tensor, dim: int, index: Any) -> Tensor:
    """The listed slices of dimension `dim`; `index` is a vector."""
    dim = dimension("index_select", dim, x.shape)
    array = _raw_index("index_select", index, x.backend)
    if array.ndim > 1:
        raise ShapeError(f"index_select: expected a vector of indices, got shape {tuple(array.shape)}")
    return _index(x, indices=(array.reshape(-1),), dims=(dim,))


def look_up(x: Tensor, index: Tensor) -> Tensor:
    """x[index] for an index of any shape, but negative ones are refused instead of counted from the end."""
    return _index(x, indices=(_raw_index("look_up", index, x.backend),), dims=(0,), wrap=False)


def _source(x: Any, src: Any, array: Any) -> Any:
    """The part of a scatter source that the index covers; a number as a constant."""
    if isinstance(src, (bool, int, float)):
        return type(x)._wrap(x.backend.fill("fill", array.shape, x.array.dtype, src), x.backend)
    for d, n in enumerate(array.shape):
        src = narrow(src, d, 0, n)
    _same_dtype("scatter", x, src)
    return src


def _same_dtype(name: str, x: Any, source: Any) -> None:
    if source.array.dtype != x.array.dtype:
        raise DTypeError(f"{name}: x is {x.dtype.name} but the source {source.dtype.name}; convert one with .to(dtype)")


def scatter(x: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
    """A copy of x with out[index[i][j]][j] = src[i][j] for dim 0, and so on; of duplicates the last one wins."""
    dim, array = _along("scatter", x, dim, index)
    return _index_put(x, _source(x, src, array), indices=_grid(x, dim, array), dims=tuple(range(x.ndim)), wrap=False)


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of x with src added at out[index[i][j]][j] for dim 0, and so on; duplicates add up."""
    dim, array = _along("scatter_add", x, dim, index)
    src, grid = _source(x, src, array), _grid(x, dim, array)
    return x + index_spread(src, indices=grid, dims=tuple(range(x.ndim)), shape=x.shape, wrap=False)


def _listed_slices(name: str, x: Tensor, dim: int, index: Tensor, source: Tensor) -> tuple[int, Array]:
    """The dimension counted from the left, and the raw index of slices of x. Raises where the source does not fit."""
    dim = dimension(name, dim, x.shape)
    array = _raw_index(name, index, x.backend).reshape(-1)
    expected = (*x.shape[:dim], array.size, *x.shape[dim + 1:])
    if source.shape != expected:
        raise ShapeError(f"{name}: source has shape {tuple(source.shape)}, expected {expected}")
    _same_dtype(name, x, source)
    return dim, array


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with alpha·source added to the listed slices of dimension `dim`; duplicates add up."""
    dim, array = _listed_slices("index_add", x, dim, index, source)
    return add(x, index_spread(source, indices=(array,), dims=(dim,), shape=x.shape), alpha=alpha)


def masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """x with `value`, in x's dtype, where the (broadcast) bool mask holds."""
    return where(mask, _value_like(x, value), x)


def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The elements where the (broadcast) bool mask holds, as a vector."""
    shape = broadcast_shapes("masked_select", x.shape, mask.shape)
    return x.expand(shape)[mask.expand(shape)]


def nonzero(x: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of nonzero elements, int64: a (count, ndim) matrix, or one vector per dimension."""
    values = x.backend.to_numpy(x.array)
    found = np.nonzero(np.atleast_1d(values)) if as_tuple else (np.argwhere(values),)
    positions = tuple(type(x)._wrap(x.backend.from_numpy(i.astype(_INT64, order="C")), x.backend) for i in found)
    return positions if as_tuple else positions[0]


# --- order ----------------------------------------------------------------------------------------------------------


@op
def _argsort(be: Backend, x: Array, *, dim: Any, descending: Any) -> Array:
    return be.fill("argsort", x.shape, _INT64, x, dim=dim, descending=descending)


_argsort.name = "argsort"


@numpy_names
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort along `dim`, int64; always stable. NaN counts as the largest."""
    dim = normalize_dim("argsort", dim, x.ndim)
    return _argsort(x, dim=dim, descending=descending) if x.ndim else full_like(x, 0).to(dtypes.int64)


@numpy_names
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """(values, indices) in order along `dim`; always stable. NaN counts as the largest."""
    order = argsort(x, dim, descending)
    return ValuesIndices(gather(x, dim, order), order)


@numpy_names
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (or smallest) along `dim`, in order, as (values, indices)."""
    dim = normalize_dim("topk", dim, x.ndim)
    if not 0 <= k <= (x.shape[dim] if x.ndim else 1):
        raise OutOfRangeError(f"topk: k={k} is outside dimension {dim} of shape {tuple(x.shape)}")
    return _pick(x, dim, narrow(argsort(x, dim, largest), dim, 0, k)) if x.ndim else sort(x)


def _pick(x: Tensor, dim: int, order: Tensor) -> ValuesIndices:
    """The elements at `order` along `dim`, in memory of their own."""
    return ValuesIndices(gather(x, dim, order), order.contiguous())


def _extremum(name: str, find: Any, reduce: Any, x: Any, dim: int | None, keepdim: bool) -> Any:
    if dim is None:
        return reduce(x)
    indices = find(x, dim, keepdim=True)
    values = gather(x, dim, indices)
    if not keepdim and x.ndim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return ValuesIndices(values, indices)


@numpy_names
def max(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with `dim`, (values, indices) along it; with a Tensor, the elementwise maximum.

    The gradient of max() is shared among ties, that of max(dim) goes to the one index returned.
    """
    return maximum(x, dim) if isinstance(dim, Var) else _extremum("max", argmax, amax, x, dim, keepdim)


@numpy_names
def min(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with `dim`, (values, indices) along it; with a Tensor, the elementwise minimum."""
    return minimum(x, dim) if isinstance(dim, Var) else _extremum("min", argmin, amin, x, dim, keepdim)


@numpy_names
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median, NaN if there is one; with `dim`, (values, indices) along it. Raises ShapeError of nothing."""
    if dim is None:
        middle = median(x.detach().flatten(), 0).values
        if not x.requires_grad:
            return middle
        return amax(where(logical_or(eq(x, middle), isnan(x)), x, -math.inf))  # equal elements share the gradient
    if not x.ndim:
        return sort(x, dim)
    dim = normalize_dim("median", dim, x.ndim)
    require_elements("median", x, (dim,))
    order = narrow(argsort(x, dim), dim, (x.shape[dim] - 1) // 2, 1)
    spoilt = isnan(x)
    middle = _pick(x, dim, where(any_of(spoilt, dim, keepdim=True), argmax(spoilt, dim, keepdim=True), order))
    return middle if keepdim else ValuesIndices(*[part.squeeze(dim) for part in middle])


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """The matrices' lower triangles, zeros above diagonal number `diagonal`."""
    return where(_triangle(x, diagonal, lower=True), x, x.new_zeros(()))


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """The matrices' upper triangles, zeros below diagonal number `diagonal`."""
    return where(_triangle(x, diagonal, lower=False), x, x.new_zeros(()))


def _triangle(x: Any, diagonal: int, lower: bool) -> Any:
    if x.ndim < 2:
        raise ShapeError(f"{'tril' if lower else 'triu'}: expected at least 2 dimensions, got shape {tuple(x.shape)}")
    rows, columns = (x.backend.fill("arange", (n,), _INT64, start, 1)
                     for n, start in zip(x.shape[-2:], (diagonal, 0), strict=True))
    kernel = "le" if lower else "ge"
    mask = x.backend.elementwise(kernel, columns[None, :], rows[:, None], dtype=np.dtype(np.bool_))
    return type(x)._wrap(mask, x.backend)


@numpy_names
def repeat_interleave(x: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Each slice of dimension `dim` repeated in place, all equally often or as listed; flattened for dim=None."""
    if dim is None:
        return repeat_interleave(x.flatten(), repeats, 0)
    dim = dimension("repeat_interleave", dim, x.shape)
    if isinstance(repeats, Var):
        if repeats.array.shape not in ((), (1,), (x.shape[dim],)):
            raise ShapeError(f"repeat_interleave: repeats has shape {tuple(repeats.array.shape)}, expected one number "
                             f"or one for each of the {x.shape[dim]} slices")
        return index_select(x, dim, np.repeat(np.arange(x.shape[dim]), repeats.backend.to_numpy(repeats.array)))
    if repeats < 0:
        raise ArgumentError(f"repeat_interleave: repeats must not be negative, got {repeats}")
    before, after = x.shape[:dim + 1], x.shape[dim + 1:]
    spread = expand(unsqueeze(x, dim + 1), (*before, repeats, *after))
    return reshape(clone(spread), (*before[:-1], before[-1] * repeats, *after))


@numpy_names
def diff(x: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    """x[i+1] - x[i] along `dim`, n times."""
    dim = dimension("diff", dim, x.shape)
    for _ in range(n):
        rest = x.shape[dim] - 1
        if rest < 0:
            break
        later, earlier = narrow(x, dim, 1, rest), narrow(x, dim, 0, rest)
        x = later != earlier if x.array.dtype.kind == "b" else later - earlier
    return x
