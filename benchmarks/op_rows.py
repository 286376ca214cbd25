"""The rows of op_bandwidth.py: one operation each, in tensorlite, torch and CuPy, and the least bytes it must move.

A row's `torch_like` takes the library, tensorlite or torch, and returns what is called with the inputs: the two share
names. `cupy` does the same for CuPy, where it has the operation as one of its own. `bytes` counts per element of the
workload: every input read once and every output written once, so an operation that passes over its data twice, or
writes a mask, shows fewer GB/s.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

COLUMNS = 1024  # of a matrix, where a row does not say otherwise
VOCABULARY = 50_000  # rows of the embedding table
Inputs = Callable[["Maker", int], tuple[Any, ...]]
Binding = Callable[[Any], Callable[..., Any]]

# What share of the device's copy bandwidth at the large size is asked of a family.
TARGETS = {"elementwise": 0.85, "columns": 0.80, "normalising": 0.75}


class Row(NamedTuple):
    """One operation to measure."""

    name: str
    family: str
    inputs: Inputs
    torch_like: Binding
    cupy: Binding | None
    bytes: float


class Maker:
    """Makes inputs in one library: windows of the same random numbers in (0.05, 0.95) for all of them."""

    def __init__(self, library: str, device: str, elements: int) -> None:
        self.lib: ModuleType = importlib.import_module(library)
        self.device = device
        self._numbers = np.random.default_rng(0).random(2 * elements + (1 << 16), np.float32) * 0.9 + 0.05
        self._drawn = 0

    def floats(self, shape: tuple[int, ...], dtype: str = "float32", grad: bool = False) -> Any:
        """An array of the library, on the device."""
        size = int(np.prod(shape))
        start = self._drawn % (len(self._numbers) - size)
        self._drawn += size // 3 + 4099
        values = self._numbers[start:start + size].reshape(shape)
        if dtype.startswith("int"):
            values = (values * 100).astype(dtype)
        made = self._on_device(values, dtype)
        return made.requires_grad_() if grad else made

    def integers(self, shape: tuple[int, ...], high: int) -> Any:
        """int64 numbers from 0 up to but not including `high`."""
        return self._on_device(np.random.default_rng(1).integers(0, high, shape), "int64")

    def adam(self, elements: int) -> tuple[Any]:
        """An optimizer of one parameter with a gradient: torch's fused one, where it stands beside ours."""
        parameter = self.lib.nn.Parameter(self.floats((elements,)).clone())
        parameter.grad = self.floats((elements,))
        options = {"fused": True} if self.lib.__name__ == "torch" else {}
        return (self.lib.optim.Adam([parameter], lr=1e-3, **options),)

    def _on_device(self, values: np.ndarray, dtype: str) -> Any:
        if self.lib.__name__ == "cupy":
            numpy_dtype = importlib.import_module("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
            return self.lib.asarray(values).astype(numpy_dtype)
        return self.lib.from_numpy(values).to(self.device).to(getattr(self.lib, dtype))


# --- inputs: cached, so that rows in a row share them ---------------------------------------------------------------


@functools.cache
def vectors(count: int, dtype: str = "float32", grads: int = 0) -> Inputs:
    """So many flat arrays; the first `grads` of them require a gradient."""
    return lambda make, n: tuple(make.floats((n,), dtype, grad=i < grads) for i in range(count))


@functools.cache
def matrices(*dtypes: str, columns: int = COLUMNS) -> Inputs:
    """Matrices of the given dtypes, float32 for none."""
    return lambda make, n: tuple(make.floats(_shape(n, columns), dtype) for dtype in dtypes or ("float32",))


def _shape(elements: int, columns: int) -> tuple[int, int]:
    columns = min(columns, elements)
    return elements // columns, columns


def _with_row(make: Maker, n: int) -> tuple[Any, ...]:
    return make.floats(_shape(n, COLUMNS)), make.floats((min(COLUMNS, n),))


def _with_column(make: Maker, n: int) -> tuple[Any, ...]:
    return make.floats(_shape(n, COLUMNS)), make.floats((_shape(n, COLUMNS)[0], 1))


def _heads(make: Maker, n: int) -> tuple[Any, ...]:
    """(batch, length, heads, 64), as attention permutes it."""
    length = min(512, n // (8 * 64))
    return (make.floats((n // (length * 8 * 64), length, 8, 64)),)


@functools.cache
def _classified(columns: int, grad: bool) -> Inputs:
    def inputs(make: Maker, n: int) -> tuple[Any, ...]:
        rows, classes = _shape(n, columns)
        return make.floats((rows, classes), grad=grad), make.integers((rows,), classes)

    return inputs


@functools.cache
def _normalised(grad: bool, dtype: str = "float32") -> Inputs:
    def inputs(make: Maker, n: int) -> tuple[Any, ...]:
        shape = _shape(n, COLUMNS)
        scale_and_shift = (make.floats(shape[1:], dtype, grad) for _ in range(2))
        return make.floats(shape, dtype, grad), *scale_and_shift, make.floats(shape, dtype)

    return inputs


@functools.cache
def _embedded(grad: bool) -> Inputs:
    """A table of 256 columns, indices, and the gradient of what they look up."""

    def inputs(make: Maker, n: int) -> tuple[Any, ...]:
        rows, columns = _shape(n, 256)
        table = make.floats((min(VOCABULARY, rows), columns), grad=grad)
        return table, make.integers((rows,), table.shape[0]), make.floats((rows, columns))

    return inputs


def _size_and_device(make: Maker, n: int) -> tuple[Any, ...]:
    return n, make.device


# --- operations -------------------------------------------------------------------------------------------------------


def _copy_by_driver(cupy: Any) -> Callable[..., Any]:
    """CUDA's own device-to-device copy, without a kernel of any library."""

    def copy(x: Any) -> Any:
        out = cupy.empty_like(x)
        out.data.copy_from_device_async(x.data, x.nbytes)
        return out

    return copy


def _gradients(forward: Callable[[Any], Callable[..., Any]], wrt: int) -> Binding:
    """Forward and backward of f(*inputs[:-1]), the incoming gradient being the last input."""

    def bind(lib: Any) -> Callable[..., Any]:
        function, grad = forward(lib), lib.autograd.grad
        return lambda *inputs: grad(function(*inputs[:-1]), inputs[:wrt], inputs[-1])

    return bind


def _cross_entropy_both(lib: Any) -> Callable[..., Any]:
    return lambda x, y: lib.autograd.grad(lib.nn.functional.cross_entropy(x, y), (x,))


def _layer_norm(lib: Any) -> Callable[..., Any]:
    return lambda x, weight, bias, *_: lib.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _cast(dtype: str) -> Binding:
    return lambda lib: lambda x: x.to(getattr(lib, dtype))


_CUPY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "atanh": "arctanh",
               "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power", "atan2": "arctan2", "lt": "less",
               "neg": "negative", "round": "rint"}
_UNARY = ("abs", "neg", "square", "reciprocal", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt",
          "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "atanh",
          "floor", "ceil", "trunc", "round", "sign")
_ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "sigmoid")
_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "atan2")
_NARROW_AND_WIDE = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8}


def _by_name(name: str) -> tuple[Binding, Binding]:
    """An operation that all three libraries have as a function."""
    return lambda lib: getattr(lib, name), lambda cp: getattr(cp, _CUPY_NAMES.get(name, name))


def _functional(name: str) -> Binding:
    return lambda lib: getattr(lib.nn.functional, name)


def _elementwise() -> Iterator[Row]:
    x, pair = vectors(1), vectors(2)
    yield Row("copy", "elementwise", x, lambda lib: lambda x: x.clone(), lambda cp: lambda x: x.copy(), 8)
    for name in _UNARY:
        yield Row(name, "elementwise", x, *_by_name(name), 8)
    for name in ("rsqrt", "erf"):
        yield Row(name, "elementwise", x, _by_name(name)[0], None, 8)
    for name in _ACTIVATIONS:
        relu = (lambda cp: lambda x: cp.maximum(x, 0)) if name == "relu" else None
        yield Row(name, "elementwise", x, _functional(name), relu, 8)
    yield Row("mul by a number", "elementwise", x, lambda lib: lambda x: x * 2.5, lambda cp: lambda x: x * 2.5, 8)
    yield Row("clamp", "elementwise", x, lambda lib: lambda x: x.clamp(0.2, 0.8),
              lambda cp: lambda x: cp.clip(x, 0.2, 0.8), 8)
    yield Row("isnan", "elementwise", x, *_by_name("isnan"), 5)
    for name in _BINARY:
        yield Row(name, "elementwise", pair, *_by_name(name), 12)
    yield Row("lt", "elementwise", pair, *_by_name("lt"), 9)
    yield Row("add, off 16 bytes", "elementwise", pair, lambda lib: lambda x, y: x[1:] + y[1:],
              lambda cp: lambda x, y: x[1:] + y[1:], 12)
    for name in ("relu", "sigmoid", "tanh", "gelu"):
        forward = _functional(name) if name != "tanh" else _by_name(name)[0]
        yield Row(f"{name}, forward and backward", "elementwise", vectors(2, grads=1), _gradients(forward, 1), None, 20)
    for dtype, size in _NARROW_AND_WIDE.items():
        yield Row(f"add {dtype}", "elementwise", vectors(2, dtype), *_by_name("add"), 3 * size)
    for dtype in ("float16", "bfloat16"):
        yield Row(f"gelu {dtype}", "elementwise", vectors(1, dtype), _functional("gelu"), None, 4)


def _layouts() -> Iterator[Row]:
    add = _by_name("add")
    yield Row("add a row", "elementwise", _with_row, *add, 8)
    yield Row("add a column", "elementwise", _with_column, *add, 8)
    for source, target, size in (("float32", "float16", 6), ("float32", "bfloat16", 6), ("float16", "float32", 6),
                                 ("int64", "float32", 12)):
        cupy = (lambda cp, t=target: lambda x: x.astype(t)) if target != "bfloat16" else None
        yield Row(f"cast {source} to {target}", "elementwise", matrices(source), _cast(target), cupy, size)
    matrix = matrices()
    yield Row("every second column", "layout", matrix, lambda lib: lambda x: x[:, ::2].contiguous(),
              lambda cp: lambda x: cp.ascontiguousarray(x[:, ::2]), 6)
    yield Row("transpose", "layout", matrix, lambda lib: lambda x: x.T.contiguous(),
              lambda cp: lambda x: cp.ascontiguousarray(x.T), 8)
    yield Row("transpose float16", "layout", matrices("float16"), lambda lib: lambda x: x.T.contiguous(),
              lambda cp: lambda x: cp.ascontiguousarray(x.T), 4)
    yield Row("permute heads", "layout", _heads, lambda lib: lambda x: x.transpose(1, 2).contiguous(),
              lambda cp: lambda x: cp.ascontiguousarray(x.swapaxes(1, 2)), 8)
    yield Row("concat", "layout", vectors(2), lambda lib: lambda x, y: lib.cat((x, y)),
              lambda cp: lambda x, y: cp.concatenate((x, y)), 16)


def _reductions() -> Iterator[Row]:
    matrix = matrices()
    for name in ("sum", "mean", "amax", "argmax", "var"):
        for family, dim in (("rows", 1), ("columns", 0)):
            yield Row(f"{name} of {family}", family, matrix,
                      lambda lib, name=name, dim=dim: lambda x: getattr(x, name)(dim),
                      lambda cp, name=name, dim=dim: lambda x: getattr(cp, name)(x, dim), 4)
        yield Row(f"{name} of all", "full", matrix, lambda lib, name=name: lambda x: getattr(x, name)(),
                  lambda cp, name=name: lambda x: getattr(cp, name)(x), 4)
    for family, dim in (("rows", 1), ("columns", 0)):
        yield Row(f"sum of {family}, float16", family, matrices("float16"),
                  lambda lib, dim=dim: lambda x: x.sum(dim), lambda cp, dim=dim: lambda x: x.sum(dim), 2)
    yield Row("cumsum of rows", "scan", matrix, lambda lib: lambda x: x.cumsum(1), lambda cp: lambda x: x.cumsum(1), 8)


def _normalising() -> Iterator[Row]:
    for columns in (COLUMNS, 32 * COLUMNS):
        for name in ("softmax", "log_softmax"):
            yield Row(f"{name}, {columns} columns", "normalising", matrices(columns=columns),
                      lambda lib, name=name: lambda x: getattr(lib.nn.functional, name)(x, 1), None, 8)
        yield Row(f"cross entropy, {columns} classes", "normalising", _classified(columns, False),
                  lambda lib: lib.nn.functional.cross_entropy, None, 4 + 8 / columns)
        yield Row(f"cross entropy, {columns} classes, forward and backward", "normalising", _classified(columns, True),
                  _cross_entropy_both, None, 12 + 16 / columns)
    yield Row("layer norm", "normalising", _normalised(False), _layer_norm, None, 8)
    yield Row("layer norm bfloat16", "normalising", _normalised(False, "bfloat16"), _layer_norm, None, 4)
    yield Row("layer norm, forward and backward", "normalising", _normalised(True), _gradients(_layer_norm, 3), None,
              20)


def _embedding(lib: Any) -> Callable[..., Any]:
    return lambda table, rows: lib.nn.functional.embedding(rows, table)


def _indexing() -> Iterator[Row]:
    yield Row("rows by index", "index", _embedded(False), lambda lib: lambda table, rows, _: table[rows],
              lambda cp: lambda table, rows, _: table[rows], 8 + 8 / 256)
    yield Row("embedding, forward and backward", "index", _embedded(True), _gradients(_embedding, 1), None,
              12 + 16 / 256)


def _training() -> Iterator[Row]:
    yield Row("Adam", "optimizer", Maker.adam, lambda lib: lambda optimizer: optimizer.step(), None, 28)
    yield Row("dropout", "random", vectors(1), lambda lib: lambda x: lib.nn.functional.dropout(x, 0.5), None, 8)
    for name, distribution, cupy in (("rand", "uniform", "random"), ("randn", "normal", "standard_normal")):
        yield Row(distribution, "random", _size_and_device,
                  lambda lib, name=name: lambda n, device: getattr(lib, name)(n, device=device),
                  lambda cp, name=cupy: lambda n, device: getattr(cp.random, name)(n, dtype=np.float32), 4)


COPY = "copy"  # the row against which the others are held; the driver's own copy is measured beside the libraries'
DRIVER_COPY = Row("copy by the driver", "copy", vectors(1), lambda lib: lambda x: x.clone(), _copy_by_driver, 8)
ROWS = {row.name: row for rows in (_normalising, _reductions, _layouts, _training, _indexing, _elementwise)
        for row in rows()}
