"""In-place changes: the checks that keep them from going wrong silently, and the history of what was changed.

An in-place operation computes its result apart and copies it into the tensor's memory, so overlapping operands do
no harm. When recorded, the old contents that its rule needs are copied first; the result's history becomes the
tensor's, and, through a view, also that of the view's root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .autograd.mode import is_grad_enabled
from .autograd.op import op
from .autograd.tape import Var, wrap
from .backends import Array, Backend
from .errors import DTypeError, GradError, ShapeError

if TYPE_CHECKING:
    from .tensor import Tensor


def change(x: Tensor, function: Callable[..., Tensor], *args: Any, **params: Any) -> Tensor:
    """x's contents become function(x, *args, **params); returns x.

    Raises GradError for a leaf that requires grad (or a view of one) while recording, ShapeError or DTypeError for a
    result that x cannot hold, and for memory that may not be written or is laid over itself.
    """
    check_writable(x, function)
    recording = is_grad_enabled() and (x.requires_grad or any(isinstance(a, Var) and a._requires_grad for a in args))
    if recording:
        _check_history(x)
    result = function(_with_old_contents(x) if recording else x, *args, **params)
    if result.array.shape != x.array.shape:
        raise ShapeError(f"{_name(function)}_: the result has shape {tuple(result.shape)}, which the tensor of shape "
                         f"{tuple(x.shape)} cannot hold; use the operation without the underscore")
    if result.array.dtype != x.array.dtype:
        if result.dtype.category > x.dtype.category:
            raise DTypeError(f"{_name(function)}_: result type {result.dtype.name} can't be cast to the tensor's "
                             f"{x.dtype.name}; use the operation without the underscore")
        result = result.to(x.dtype)
    store(x, result.array)
    if recording and result._requires_grad:
        _take_history(x, result)
    return x


def store(x: Tensor, array: Array) -> None:
    """Copy raw contents into x's memory, and say so to its version counter."""
    x.backend.run("copy", x.array, array)
    x._bump()


def check_writable(x: Tensor, function: Any) -> None:
    """Refuse memory that is read-only or repeats itself (stride 0), where writing would change many elements at once."""
    array = x.array
    if array.flags.writeable and not any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)):
        return
    raise GradError(f"{_name(function)}_: the tensor of shape {tuple(x.shape)} shares memory among its elements (expanded) or "
                    "is read-only; change a .clone() of it")


def _name(function: Any) -> str:
    return str(getattr(function, "name", getattr(function, "__name__", "in-place operation")))


def _check_history(x: Tensor) -> None:
    root = x if x._base is None else x._base
    if root._requires_grad and root._node is None:
        kind = "a leaf Variable that requires grad" if root is x else "a view of a leaf Variable that requires grad"
        raise GradError(f"{kind} is being used in an in-place operation; do it under no_grad, or on a .clone()")
    if x._frozen_view:
        raise GradError("a view that was made under no_grad is being modified in place while recording; make the view "
                        "with grad enabled, or modify it under no_grad")


def _with_old_contents(x: Tensor) -> Tensor:
    """x's place in the graph with a private copy of its contents, which the change will not touch."""
    old = wrap(x.backend.copy(x.array), x.backend)
    old._node, old._requires_grad = x._node, x.requires_grad
    return old


def _take_history(x: Tensor, result: Tensor) -> None:
    root = x._base
    if root is None:
        x._node, x._requires_grad = result._node, True
        x._generation += 1
        return
    old = wrap(root.array, root.backend)
    old._node, old._requires_grad = root._node, root._requires_grad
    changed = _through_view(old, result, replay=x._replay)
    root._node, root._requires_grad = changed._node, True
    root._generation += 1


@op
def _through_view(be: Backend, root: Array, part: Array, *, replay: Any) -> Array:
    """The root after the part of it that `replay` views was replaced; the memory holds that already."""
    return root


def _outside(g: Any, replay: Any) -> Any:
    """g with zeros in the viewed region."""
    mask = wrap(g.backend.fill("fill", g.array.shape, g.array.dtype, 1), g.backend)
    region = _apply(mask, replay)
    if not g.backend.shares_memory(mask.array, region.array) and region.array.size:
        raise GradError("the view that was modified in place cannot be followed back; modify a .clone() instead")
    g.backend.run("fill", region.array, 0)
    return g * mask


def _apply(x: Any, replay: Any) -> Any:
    for view, params in replay:
        x = view(x, **params)
    return x


_through_view.name = "in_place_through_view"
_through_view.rules(root=lambda g, replay: _outside(g, replay), part=lambda g, replay: _apply(g, replay))


def as_values(x: Tensor, values: Any) -> Any:
    """A source for copy_: a Tensor as it is, else a Tensor of x's dtype made of it."""
    if isinstance(values, Var):
        return values
    array = np.asarray(values, dtypes.from_numpy(x.array.dtype).numpy)
    return wrap(x.backend.from_numpy(array), x.backend)


def replaced(x: Tensor, values: Any) -> Any:
    """The (broadcast) values in x's shape, dtype and device: x's own history ends here."""
    source = as_values(x, values).to(x.device, x.dtype)
    shape = tuple(source.shape)
    if len(shape) > x.ndim or any(n not in (1, m) for n, m in zip(reversed(shape), reversed(x.shape), strict=False)):
        raise ShapeError(f"copy_: values of shape {shape} do not broadcast to the tensor's shape {tuple(x.shape)}")
    return source.expand(x.shape)


def overwrite(x: Tensor, fill: Callable[..., None], *args: Any) -> Tensor:
    """Fill x's memory by a function that writes it and depends on nothing in the graph."""
    check_writable(x, fill)
    if is_grad_enabled() and x.requires_grad:
        _check_history(x)
        fresh = wrap(x.backend.empty(x.array.shape, x.array.dtype), x.backend)
        fill(fresh, *args)
        return change(x, replaced, fresh)
    fill(x, *args)
    return x
