"""NumPy's protocols for Tensor: `np.exp(t)` is `t.exp()`, a Tensor with its gradient; DLPack both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops
from .autograd.tape import wrap
from .errors import DTypeError, GradError

if TYPE_CHECKING:
    from .tensor import Tensor

# NumPy's name -> ours, where they differ; equal names need no row.
_RENAMED = {
    "absolute": "abs", "negative": "neg", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "power": "pow", "float_power": "pow", "mod": "remainder", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "rint": "round", "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift", "equal": "eq", "not_equal": "ne",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "concatenate": "cat", "moveaxis": "movedim",
    "expand_dims": "unsqueeze", "array_equal": "equal", "around": "round", "amax": "amax", "max": "amax", "min": "amin",
    "ravel": "flatten", "take_along_axis": "take_along_dim", "linalg.norm": "norm",
}
_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin", "logical_and": "all", "logical_or": "any"}
_UNSUITED = frozenset({"repeat", "split", "sort", "transpose", "nonzero", "median", "var", "std", "diag", "pad", "where"})


def _transpose(x: Any, axes: Any = None) -> Any:
    return ops.permute(x, tuple(reversed(range(x.ndim))) if axes is None else axes)


def _spread(measure: Callable[..., Any]) -> Callable[..., Any]:
    """var or std with NumPy's default of ddof=0."""

    def call(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
        return measure(x, axis, keepdim=keepdims, correction=ddof)

    return call


_OWN_SIGNATURE: dict[str, Callable[..., Any]] = {
    "transpose": _transpose,
    "var": _spread(ops.var),
    "std": _spread(ops.std),
    "sort": lambda x, axis=-1: ops.sort(x, axis).values,
    "nonzero": lambda x: ops.nonzero(x, as_tuple=True),
    "repeat": lambda x, repeats, axis=None: ops.repeat_interleave(x, repeats, axis),
    "diag": lambda x, k=0: ops.diag(x, k),
    "where": ops.where,
}


def _ours(name: str) -> Callable[..., Any] | None:
    if name in _OWN_SIGNATURE:
        return _OWN_SIGNATURE[name]
    if name in _UNSUITED:
        return None
    return getattr(ops, _RENAMED.get(name, name), None)


class NumpyProtocol:
    """Mixed into Tensor."""

    __array_priority__ = 1000

    def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # type: ignore[misc]
        values = self.numpy()
        if dtype is not None and values.dtype != dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to convert {values.dtype} to {dtype}")
            return values.astype(dtype)
        return values.copy() if copy else values

    def __array_ufunc__(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        if method == "reduce" and ufunc.__name__ in _REDUCTIONS:
            function = _ours(_REDUCTIONS[ufunc.__name__])
            kwargs = {"axis": 0, **{k: v for k, v in kwargs.items() if v is not None or k == "axis"}}
        else:
            function = _ours(ufunc.__name__) if method == "__call__" else None
        if function is None or kwargs.get("out") is not None:
            raise DTypeError(f"np.{ufunc.__name__} ({method}) does not take Tensors this way; use the tl function, or t.numpy()")
        return function(*[self._beside(x) for x in inputs], **kwargs)

    def __array_function__(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:  # type: ignore[misc]
        function = _ours(func.__name__)
        if function is None:
            raise DTypeError(f"np.{func.__name__} does not take Tensors; use the tl function, or t.detach().numpy()")
        convert = self._beside
        args = [[convert(a) for a in arg] if isinstance(arg, (list, tuple)) and any(isinstance(a, NumpyProtocol) for a in arg)
                else convert(arg) for arg in args]
        return function(*args, **kwargs)

    def _beside(self: Tensor, value: Any) -> Any:  # type: ignore[misc]
        """A NumPy array as a Tensor on this device; anything else as it is."""
        if isinstance(value, np.ndarray):
            return wrap(self.backend.from_numpy(value), self.backend)
        return value

    def __dlpack__(self: Tensor, **kwargs: Any) -> Any:  # type: ignore[misc]
        if self.requires_grad:
            raise GradError("Can't export tensors that require gradient, use tensor.detach()")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self: Tensor) -> Any:  # type: ignore[misc]
        return self.array.__dlpack_device__()
