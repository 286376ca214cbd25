"""Device "cpu": NumPy arrays, one NumPy kernel per name, and compiled ones that go before them where they are there.

Each kernel fills `out`, which never overlaps its arguments in part. Arguments are arrays or Python numbers,
promoted to one dtype by the caller. The floats narrower than float32 are widened in `run`, once for all
kernels, so a kernel sees float32 or wider; NumPy's floating-point warnings are off inside kernels only.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, DTypeError
from . import (
    NARROW,
    Array,
    Backend,
    Device,
    Kernel,
    cpu_activation,
    cpu_amp,
    cpu_attention,
    cpu_conv,
    cpu_index,
    cpu_layers,
    cpu_many,
    cpu_norm,
    cpu_optim,
    cpu_pool,
    cpu_recurrent,
    philox,
    recording,
)
from .cpu_math import element_count, erf, sigmoid

_F32 = np.dtype(np.float32)

# The C library keeps freed memory up to twice the size of the largest block freed so far, of at most 32 MB, and gives
# the rest back to the system, to have it mapped anew page by page in the next step.
_LARGEST_BLOCK = (1 << 25) - (1 << 16)


def _quiet_context() -> contextvars.Context:
    """A context in which NumPy does not warn: PyTorch's 1/0 is a silent inf, and the user's np.seterr stays his."""
    context = contextvars.Context()  # an empty one: a copy would keep alive what the user's variables hold
    context.run(np.seterr, all="ignore")
    return context


class CpuBackend(Backend):
    """NumPy on the host, and the compiled kernels of `cpu_compiled`, looked for when the first kernel runs."""

    def __init__(self) -> None:
        self.device = Device("cpu")
        self.kernels = KERNELS
        self._compiled: dict[str, Callable[..., bool]] | None = None
        self._contexts: list[contextvars.Context] = []  # those not in use
        np.empty(_LARGEST_BLOCK, np.uint8)  # freed at once and never touched: 64 MB are kept from here on

    def run(self, kernel: str, out: Array, *args: Any, **params: Any) -> None:
        if self._compiled is None:
            self._compiled = importlib.import_module(f"{__package__}.cpu_compiled").kernels()
        compiled = self._compiled.get(kernel)
        if compiled is None or not compiled(out, *args, **params):
            self.run_numpy(kernel, out, args, params)
        if self.observers:
            self.tell(kernel, out, args, params)

    def run_numpy(self, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Run NumPy's kernel of a name."""
        function = KERNELS.get(kernel)
        if function is None:
            function = self.own(kernel).on_host
        if type(out) is tuple:  # a kernel over many arrays, which takes each as it is
            self.quietly(function, out, *args, **params)
        elif out.dtype is _F32:
            try:
                self.quietly(function, out, *args, **params)
            except OverflowError as error:  # of a Python number
                raise _refusal(kernel, args, error) from None
        else:
            self.quietly(_run_wide, kernel, function, out, args, params)

    def quietly(self, function: Callable[..., None], *args: Any, **params: Any) -> None:
        """Call a function while NumPy does not warn."""
        # A context is used by one call at a time, also when a signal handler or another thread comes in between;
        # pop and append are atomic. One whose function raised is dropped.
        contexts = self._contexts
        context = contexts.pop() if contexts else _quiet_context()
        context.run(function, *args, **params)
        contexts.append(context)

    def numpy_call(self, call: recording.Call) -> Callable[[], None]:
        """A recorded call of NumPy's kernel, ready to be made again while NumPy does not warn."""
        function = KERNELS.get(call.kernel)
        if function is None:
            function = self.own(call.kernel).on_host
        if type(call.out) is tuple or call.out.dtype is _F32:
            return functools.partial(function, call.out, *call.args, **call.params)
        return functools.partial(_run_wide, call.kernel, function, call.out, call.args, call.params)

    empty = staticmethod(np.empty)

    def from_numpy(self, array: np.ndarray, non_blocking: bool = False) -> Array:
        recording.refuse("memory of the host")
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        recording.refuse("a number on the host (.item(), .numpy(), print, if, x[mask], .to() another device)")
        values: np.ndarray = array
        return values

    def expand(self, array: Array, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(array, shape)

    def shares_memory(self, a: Array, b: Array) -> bool:
        return np.may_share_memory(a, b)

    def is_writable(self, array: Array) -> bool:
        return bool(array.flags.writeable)

    def diagonal(self, array: Array, offset: int, dim1: int, dim2: int) -> Array:
        diagonal = array.diagonal(offset, dim1, dim2)
        diagonal.flags.writeable = array.flags.writeable  # NumPy makes it read-only
        return diagonal

    def synchronize(self) -> None:
        """NumPy has finished when it returns."""

    def recorder(self) -> recording.Recorder:
        return recording.HostRecorder(self, np.ndarray)

    def program(self, calls: list[recording.Call]) -> recording.Program:
        compiled = importlib.import_module(f"{__package__}.cpu_program")
        program: recording.Program = compiled.CpuProgram(self, calls)
        return program


def _run_wide(kernel: str, function: Kernel, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Run any kernel but float32's, and name what it does not take: here NumPy's own refusals become ours."""
    try:
        if out.dtype.kind == "b" and kernel in _NOT_OF_BOOLS:
            raise TypeError("bool tensors are not numbers; use .to(tl.int64), or a logical operation")
        _compute_wide(function, out, args, params)
    except (TypeError, OverflowError) as error:
        if isinstance(error, DTypeError):
            raise
        raise _refusal(kernel, args, error) from None


def _refusal(kernel: str, args: tuple[Any, ...], error: Exception) -> DTypeError:
    taken = [dtypes.from_numpy(a.dtype).name if isinstance(a, np.ndarray) else repr(a) for a in args]
    return DTypeError(f"{kernel} does not take ({', '.join(taken)}): {error}")


def _compute_wide(function: Kernel, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Where elements are stored in 16 bits, compute in float32 and round once."""
    narrow = out.dtype.char in NARROW
    if function in HANDLES_NARROW or not (narrow or any(_is_narrow(a) for a in args)):
        return function(out, *args, **params)
    wide = [a.astype(_F32) if _is_narrow(a) else a for a in args]
    if not narrow:
        return function(out, *wide, **params)
    result = out.astype(_F32) if function in UPDATES_OUT else np.empty(out.shape, _F32)
    function(result, *wide, **params)
    out[...] = result


def _is_narrow(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.char in NARROW


def create(index: int | None) -> CpuBackend:
    """The backend of device "cpu"."""
    return CpuBackend()


# --- elementwise ---------------------------------------------------------------------------------------------


def copy(out: Array, x: Array) -> None:
    np.copyto(out, x, casting="unsafe")


def fill(out: Array, value: Any) -> None:
    out.fill(value)


def arange(out: Array, start: Any, step: Any) -> None:
    np.add(np.multiply(np.arange(out.size), step), start, out, casting="unsafe")


def _dividing(ufunc: Callable[..., Any]) -> Kernel:
    def divide(out: Array, x: Any, y: Any) -> None:
        if out.dtype.kind in "iu" and not np.all(y):
            raise ArgumentError("integer division or modulo by zero")
        ufunc(x, y, out)

    return divide


def pow(out: Array, x: Any, y: Any) -> None:
    if type(y) is not np.ndarray and y in _POWERS and out.dtype.kind == "f":
        _POWERS[y](x, out)
        return
    if out.dtype.kind in "iu" and np.any(np.less(y, 0)):
        raise ArgumentError("integers to negative integer powers are not allowed; use a floating dtype")
    np.power(x, y, out)


_POWERS: dict[Any, Callable[..., Any]] = {
    1: np.positive, 2: np.square, -1: np.reciprocal, 0.5: np.sqrt,
    3: lambda x, out: np.multiply(np.square(x), x, out),
}


def rsqrt(out: Array, x: Array) -> None:
    np.sqrt(x, out)
    np.reciprocal(out, out)


def where(out: Array, condition: Array, x: Any, y: Any) -> None:
    np.copyto(out, y)
    np.copyto(out, x, where=condition)


def clamp(out: Array, x: Array, low: Any, high: Any) -> None:
    np.copyto(out, x)
    if low is not None:
        np.maximum(out, low, out=out)
    if high is not None:
        np.minimum(out, high, out=out)


def sign(out: Array, x: Array) -> None:
    if out.dtype.kind == "b":
        np.copyto(out, x)
    else:
        np.sign(x, out)


def erf_kernel(out: Array, x: Array) -> None:
    np.copyto(out, erf(x))


# --- reductions: `dims` are kept as size 1 in out ---------------------------------------------------------------


def _reducing(ufunc: np.ufunc) -> Kernel:
    def fold(out: Array, x: Array, *, dims: tuple[int, ...]) -> None:
        ufunc.reduce(x, axis=dims, out=out, keepdims=True)

    return fold


def mean(out: Array, x: Array, *, dims: tuple[int, ...]) -> None:
    np.add.reduce(x, axis=dims, out=out, keepdims=True)
    np.divide(out, element_count(x, dims), out)


def var(out: Array, x: Array, *, dims: tuple[int, ...], correction: float) -> None:
    count = element_count(x, dims)
    centered = x - np.divide(np.add.reduce(x, axis=dims, keepdims=True), count)
    np.add.reduce(np.square(centered), axis=dims, out=out, keepdims=True)
    np.divide(out, max(count - correction, 0), out)


def logsumexp(out: Array, x: Array, *, dims: tuple[int, ...]) -> None:
    top = np.maximum.reduce(x, axis=dims, keepdims=True, initial=-np.inf)
    shift = np.where(np.isinf(top), 0, top)  # an infinite maximum would give inf - inf
    np.add.reduce(np.exp(x - shift), axis=dims, out=out, keepdims=True)
    np.log(out, out)
    np.add(out, shift, out)


def _arg(find: Callable[..., Any]) -> Kernel:
    def fold(out: Array, x: Array, *, dims: tuple[int, ...]) -> None:
        if len(dims) == 1:
            find(x, axis=dims[0], out=out, keepdims=True)
        else:
            out[...] = find(x)

    return fold


# --- along one dimension --------------------------------------------------------------------------------------


def argsort(out: Array, x: Array, *, dim: int, descending: bool) -> None:
    """Stable; NaN counts as the largest."""
    if not descending:
        np.copyto(out, np.argsort(x, axis=dim, kind="stable"))
        return
    order = np.argsort(np.flip(x, dim), axis=dim, kind="stable")  # flipping twice keeps the order of equals
    np.subtract(x.shape[dim] - 1, np.flip(order, dim), out)


def concat(out: Array, *parts: Array, dim: int) -> None:
    np.concatenate(parts, axis=dim, out=out)


# --- matrices -----------------------------------------------------------------------------------------------------


def matmul(out: Array, x: Array, y: Array) -> None:
    np.matmul(x, y, out)


def _unary(ufunc: Callable[..., Any]) -> Kernel:
    return lambda out, x: ufunc(x, out)


def _binary(ufunc: Callable[..., Any]) -> Kernel:
    return lambda out, x, y: ufunc(x, y, out=out)


def _accumulating(ufunc: np.ufunc) -> Kernel:
    def scan(out: Array, x: Array, *, dim: int) -> None:
        ufunc.accumulate(x, axis=dim, dtype=out.dtype, out=out)

    return scan


_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": np.absolute, "square": np.square, "reciprocal": np.reciprocal,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "signbit": np.signbit,
    "logical_not": np.logical_not, "bitwise_not": np.invert, "sigmoid": sigmoid,
}
_BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
    "maximum": np.maximum, "minimum": np.minimum, "atan2": np.arctan2, "copysign": np.copysign,
    "logaddexp": np.logaddexp,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift,
}
_REDUCING: dict[str, np.ufunc] = {
    "sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum,
    "any": np.logical_or, "all": np.logical_and,
}
KERNELS: dict[str, Kernel] = {
    **{name: _unary(ufunc) for name, ufunc in _UNARY.items()},
    **{name: _binary(ufunc) for name, ufunc in _BINARY.items()},
    **{name: _reducing(ufunc) for name, ufunc in _REDUCING.items()},
    # filling and copying
    "copy": copy, "fill": fill, "arange": arange, "concat": concat, "where": where, "clamp": clamp,
    # elementwise
    "sign": sign, "rsqrt": rsqrt, "erf": erf_kernel, "pow": pow,
    "floor_divide": _dividing(np.floor_divide), "remainder": _dividing(np.remainder), "fmod": _dividing(np.fmod),
    # reductions, and along one dimension
    "mean": mean, "var": var, "logsumexp": logsumexp, "argmax": _arg(np.argmax), "argmin": _arg(np.argmin),
    "cumsum": _accumulating(np.add), "cumprod": _accumulating(np.multiply), "argsort": argsort,
    "matmul": matmul,
}
_FAMILIES = (
    cpu_activation,
    cpu_amp,
    cpu_attention,
    cpu_conv,
    cpu_index,
    cpu_layers,
    cpu_many,
    cpu_norm,
    cpu_optim,
    cpu_pool,
    cpu_recurrent,
    philox,
)
for _family in _FAMILIES:
    KERNELS |= _family.KERNELS

HANDLES_NARROW = frozenset({copy, fill, concat}).union(
    KERNELS[name] for name in cpu_index.HANDLES_NARROW | philox.HANDLES_NARROW)
_NOT_OF_BOOLS = frozenset({"sub", "neg", "matmul", "linear", "linear_relu"})  # NumPy's products of bools are "or"
UPDATES_OUT = frozenset(KERNELS[name] for name in cpu_index.UPDATES_OUT)
