"""In-place changes: the checks that keep them from going wrong silently, and the history of what was changed.

An in-place operation computes its result apart and copies it into the tensor's memory, so overlapping operands do
no harm. When recorded, the old contents that its rule needs are copied first; the result's history becomes the
tensor's, and, through a view, also that of the view's root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .autograd.mode import is_grad_enabled
from .autograd.op import follow, needs_grad, op, refuse_frozen, require_shared
from .autograd.tape import Var, wrap
from .backends import Array, Backend
from .errors import DTypeError, GradError, ShapeError
from .ops import masked_fill
from .ops.movement import full_like

if TYPE_CHECKING:
    from .tensor import Tensor


def change(x: Tensor, function: Callable[..., Tensor], *args: Any, **params: Any) -> Tensor:
    """x's contents become function(x, *args, **params); returns x.

    Raises GradError for a leaf that requires grad (or a view of one) while recording, ShapeError or DTypeError for a
    result that x cannot hold, and for memory that may not be written or is laid over itself.
    """
    check_writable(x, function)
    recording = is_recorded(x, *args, *params.values())
    source = x
    if recording:
        _check_history(x)
        source = _with_old_contents(x)
    result = function(source, *args, **params)
    if result.array.shape != x.array.shape:
        raise ShapeError(f"{_name(function)}_: the result has shape {tuple(result.shape)}, which the tensor of shape "
                         f"{tuple(x.shape)} cannot hold; use the operation without the underscore")
    if result.array.dtype != x.array.dtype:
        if result.dtype.category > x.dtype.category:
            raise DTypeError(f"{_name(function)}_: result type {result.dtype.name} can't be cast to the tensor's "
                             f"{x.dtype.name}; use the operation without the underscore")
        result = result.to(x.dtype)
    if recording:
        if not result._requires_grad:
            result = _unrelated(source, result)
        _take_history(x, result)
    store(x, result.array)
    return x


def is_recorded(x: Tensor, *operands: Any) -> bool:
    """Whether a change of x in place by these operands concerns autograd."""
    return is_grad_enabled() and (
        x._frozen_view or any(isinstance(a, Var) and needs_grad(a) for a in (x, *operands)))


def store(x: Tensor, array: Array) -> None:
    """Copy raw contents into x's memory, having said so to its version counter: an interrupt cannot come between."""
    x._bump()
    x.backend.run("copy", x.array, array)


def check_writable(x: Tensor, function: Any) -> None:
    """Refuse memory that is read-only or lies over itself, where writing would change several elements at once."""
    array = x.array
    if not x.backend.is_writable(array) or not (array.flags.c_contiguous or _is_spread(array)):
        raise GradError(f"{_name(function)}_: the tensor of shape {tuple(x.shape)} shares memory among its elements "
                        "(expanded) or is read-only; change a .clone() of it")


def _is_spread(array: Array) -> bool:
    """Whether each stride steps over all that the smaller strides reach, so that no two elements share memory."""
    reach = array.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n != 1):
        if stride < reach:
            return False
        reach += stride * (size - 1)
    return True


def _name(function: Any) -> str:
    return str(getattr(function, "name", getattr(function, "__name__", "in-place operation")))


def _check_history(x: Tensor) -> None:
    root = x if x._base is None else x._base
    for tensor, kind in ((x, ""), (root, "a view of ")):
        if tensor._requires_grad and tensor._node is None:
            raise GradError(f"{kind}a leaf Variable that requires grad is being used in an in-place operation; do it "
                            "under no_grad, or on a .clone()")
    if x._frozen_view:
        refuse_frozen("modified in place")
    require_shared(x, root)


def _with_old_contents(x: Tensor) -> Tensor:
    """x's place in the graph with a private copy of its contents, which the change will not touch."""
    old = wrap(x.backend.copy(x.array), x.backend)
    old._node, old._requires_grad = x._node, x.requires_grad
    return old


def _take_history(x: Tensor, result: Tensor) -> None:
    root = x._base
    if root is None:
        root = x
    else:
        old = wrap(root.array, root.backend)
        old._node, old._requires_grad = root._node, root._requires_grad
        result = _through_view(old, result, replay=x._replay)
    root._take_node(result._node)
    root._generation += 1


@op
def _unrelated(be: Backend, old: Array, new: Array) -> Array:
    """New contents that do not depend on the old ones, which get the gradient 0, as in PyTorch."""
    return new


_unrelated.name = "overwrite"
_unrelated.rules(old=lambda g: full_like(g, 0), new=lambda g: g)


@op
def _through_view(be: Backend, root: Array, part: Array, *, replay: Any) -> Array:
    """The root after the part of it that `replay` views was replaced; the memory holds that already."""
    return root


def _outside(g: Any, replay: Any) -> Any:
    """g with zeros in the viewed region."""
    mask = wrap(g.backend.fill("fill", g.array.shape, np.dtype(np.bool_), False), g.backend)
    region = follow(mask, replay)
    if not g.backend.shares_memory(mask.array, region.array) and region.array.size:
        raise GradError("the view that was modified in place cannot be followed back; modify a .clone() instead")
    g.backend.run("fill", region.array, True)
    return masked_fill(g, mask, 0.0)


_through_view.name = "in_place_through_view"
_through_view.rules(root=lambda g, replay: _outside(g, replay), part=lambda g, replay: follow(g, replay))


def as_values(x: Tensor, values: Any) -> Any:
    """A source for copy_: a Tensor as it is, else a Tensor made of it."""
    if isinstance(values, Var):
        return values
    if isinstance(values, (bool, int, float)):
        return x.new_full((), values)
    return wrap(x.backend.from_numpy(np.asarray(values)), x.backend)


def replaced(x: Tensor, values: Any) -> Any:
    """The (broadcast) values in x's shape, dtype and device: x's own history ends here."""
    source = as_values(x, values).to(x.device, x.dtype)
    shape = tuple(source.shape)
    if len(shape) > x.ndim or any(n not in (1, m) for n, m in zip(reversed(shape), reversed(x.shape), strict=False)):
        raise ShapeError(f"copy_: values of shape {shape} do not broadcast to the tensor's shape {tuple(x.shape)}")
    values = source.expand(x.shape)
    return _unrelated(x, values) if x._requires_grad else values


def overwrite(x: Tensor, fill: Callable[..., None], *args: Any) -> Tensor:
    """Fill x's memory by a function that writes it and depends on nothing in the graph."""
    check_writable(x, fill)
    if is_recorded(x):
        _check_history(x)
        fresh = wrap(x.backend.empty(x.array.shape, x.array.dtype), x.backend)
        fill(fresh, *args)
        return change(x, replaced, fresh)
    fill(x, *args)
    return x
