"""NumPy's protocols for Tensor: `np.exp(t)` is `t.exp()`, a Tensor with its gradient; DLPack both ways.

A NumPy function without an entry here is refused, never run on a copy that would lose the gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops
from .autograd.tape import wrap
from .errors import ArgumentError, DTypeError, GradError

if TYPE_CHECKING:
    from .tensor import Tensor

# Elementwise: NumPy's name -> ours, where they differ; equal names need no row.
_RENAMED = {
    "absolute": "abs", "negative": "neg", "positive": "clone", "subtract": "sub", "multiply": "mul", "divide": "div",
    "power": "pow", "float_power": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "rint": "round", "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift", "equal": "eq", "not_equal": "ne",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
}


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, axis=None, *, keepdims=False: function(a, axis, keepdims)


def _fold_as(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, axis=None, dtype=None, *, keepdims=False: function(a, axis, keepdims, dtype=dtype)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, axis=None, *, ddof=0, keepdims=False: function(a, axis, keepdim=keepdims, correction=ddof)


def _scan(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, axis=None, dtype=None: function(a.flatten() if axis is None else a, axis or 0, dtype=dtype)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, "fro") and x.ndim > 1 and not isinstance(axis, int):
        raise ArgumentError(f"np.linalg.norm: the matrix norm ord={ord!r} is not supported; tl.norm is the vector norm")
    return ops.norm(x, 2 if ord is None else ord, axis, keepdims)


def _dot(a: Any, b: Any) -> Any:
    if a.ndim == 0 or b.ndim == 0:
        return ops.mul(a, b)
    return ops.tensordot(a, b, ([-1], [max(b.ndim - 2, 0)]))


# Functions, with NumPy's own signatures: what a lambda does not take is refused.
_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.max: _fold(ops.amax), np.amax: _fold(ops.amax), np.min: _fold(ops.amin), np.amin: _fold(ops.amin),
    np.argmax: _fold(ops.argmax), np.argmin: _fold(ops.argmin), np.all: _fold(ops.all), np.any: _fold(ops.any),
    np.sum: _fold_as(ops.sum), np.prod: _fold_as(ops.prod), np.mean: _fold_as(ops.mean),
    np.var: _spread(ops.var), np.std: _spread(ops.std), np.cumsum: _scan(ops.cumsum), np.cumprod: _scan(ops.cumprod),
    np.count_nonzero: lambda a, axis=None: ops.count_nonzero(a, axis),
    np.linalg.norm: _norm,
    np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim, np.size: lambda a: a.numel(),
    np.reshape: lambda a, shape: ops.reshape(a, shape),
    np.ravel: lambda a: ops.flatten(a),
    np.transpose: lambda a, axes=None: ops.permute(a, axes or tuple(reversed(range(a.ndim)))),
    np.swapaxes: lambda a, axis1, axis2: ops.transpose(a, axis1, axis2),
    np.moveaxis: lambda a, source, destination: ops.movedim(a, source, destination),
    np.squeeze: lambda a, axis=None: ops.squeeze(a, axis),
    np.expand_dims: lambda a, axis: ops.unsqueeze(a, axis),
    np.broadcast_to: lambda array, shape: ops.expand(array, shape),
    np.copy: lambda a: ops.clone(a),
    np.concatenate: lambda arrays, axis=0: ops.cat(arrays, axis),
    np.stack: lambda arrays, axis=0: ops.stack(arrays, axis),
    np.array_split: lambda ary, indices_or_sections, axis=0: ops.tensor_split(ary, indices_or_sections, axis),
    np.tile: lambda A, reps: ops.tile(A, reps),
    np.repeat: lambda a, repeats, axis=None: ops.repeat_interleave(a, repeats, axis),
    np.flip: lambda m, axis=None: ops.flip(m, tuple(range(m.ndim)) if axis is None else axis),
    np.roll: lambda a, shift, axis=None: ops.roll(a, shift, axis),
    np.diff: lambda a, n=1, axis=-1: ops.diff(a, n, axis),
    np.diag: lambda v, k=0: ops.diag(v, k),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: ops.diagonal(a, offset, axis1, axis2),
    np.tril: lambda m, k=0: ops.tril(m, k),
    np.triu: lambda m, k=0: ops.triu(m, k),
    np.trace: lambda a: ops.trace(a),
    np.outer: lambda a, b: ops.outer(a.flatten(), b.flatten()),
    np.dot: _dot,
    np.tensordot: lambda a, b, axes=2: ops.tensordot(a, b, axes),
    np.einsum: lambda subscripts, *operands: ops.einsum(subscripts, *operands),
    np.sort: lambda a, axis=-1: ops.sort(a, axis).values,
    np.argsort: lambda a, axis=-1: ops.argsort(a, axis),
    np.take: lambda a, indices, axis=None: (
        ops.take(a, indices) if axis is None else a[(slice(None),) * (axis % a.ndim) + (indices,)]),
    np.take_along_axis: lambda arr, indices, axis=-1: ops.take_along_dim(arr, indices, axis),
    np.nonzero: lambda a: ops.nonzero(a, as_tuple=True),
    np.where: lambda condition, *choices: ops.where(condition, *choices),
    np.clip: lambda a, a_min=None, a_max=None: ops.clamp(a, a_min, a_max),
    np.round: lambda a, decimals=0: ops.round(a, decimals=decimals),
    np.around: lambda a, decimals=0: ops.round(a, decimals=decimals),
    np.nan_to_num: lambda x, *, nan=0.0, posinf=None, neginf=None: ops.nan_to_num(x, nan, posinf, neginf),
    np.isclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: ops.isclose(a, b, rtol, atol, equal_nan),
    np.allclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: ops.allclose(a, b, rtol, atol, equal_nan),
    np.array_equal: lambda a1, a2: ops.equal(a1, a2),
    np.zeros_like: lambda a: a.new_zeros(a.shape),
    np.ones_like: lambda a: a.new_ones(a.shape),
}


class NumpyProtocol:
    """Mixed into Tensor."""

    __array_priority__ = 1000

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values: np.ndarray = self.numpy()
        if dtype is not None and values.dtype != dtype:
            if copy is False:
                raise ArgumentError(f"a copy is needed to convert {values.dtype} to {dtype}")
            return values.astype(dtype)
        return values.copy() if copy else values

    def __array_ufunc__(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = getattr(ops, _RENAMED.get(ufunc.__name__, ufunc.__name__), None)
        if function is None or method != "__call__" or kwargs:
            options = "".join(f", {name}=" for name in kwargs)
            name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise DTypeError(
                f"np.{name}(...{options}) does not take Tensors; use the tl function, or t.numpy(force=True)")
        return function(*[_beside(self, x) for x in inputs])

    def __array_function__(self: Any, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = _FUNCTIONS.get(func)
        if function is None:
            raise DTypeError(f"np.{func.__name__} does not take Tensors; use the tl function, or t.numpy(force=True)")
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError as error:
            raise DTypeError(f"np.{func.__name__} with a Tensor: {error}") from None
        return function(*[_beside(self, a) for a in args], **kwargs)

    def __dlpack__(self: Any, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise GradError("Can't export tensors that require gradient, use tensor.detach()")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self: Any) -> Any:
        return self.array.__dlpack_device__()


def _beside(x: Tensor, value: Any) -> Any:
    """A NumPy array, also in a list, as a Tensor on x's device; anything else as it is."""
    if isinstance(value, np.ndarray):
        return wrap(x.backend.from_numpy(value), x.backend)
    return [_beside(x, v) for v in value] if isinstance(value, list) else value
