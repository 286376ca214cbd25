"""What a row of the test table is, and the references that NumPy lacks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorlite as tl
from tensorlite import ops
from tensorlite.dtypes import DType

Shape = tuple[int, ...]
FLOATS = (tl.float16, tl.bfloat16, tl.float32, tl.float64)
INTS = (tl.uint8, tl.int8, tl.int16, tl.int32, tl.int64)
BOOLS = (tl.bool,)
NUMBERS = INTS + FLOATS
ANY = BOOLS + INTS + FLOATS


def same(dtype: DType) -> DType:
    return dtype


def floating(dtype: DType) -> DType:
    return dtype if dtype.is_floating_point else tl.float32


def accumulated(dtype: DType) -> DType:
    return dtype if dtype.is_floating_point else tl.int64


def numbered(dtype: DType) -> DType:
    return tl.int64 if dtype is tl.bool else dtype


def boolean(dtype: DType) -> DType:
    return tl.bool


def integer(dtype: DType) -> DType:
    return tl.int64


@dataclass(frozen=True)
class Case:
    """One row.

    function      called with one Tensor per shape
    reference     the same in NumPy, on float64 (or integer, bool) arrays; None where other tests are the reference
    shapes        sets of input shapes
    domain        (low, high) of the values, or one pair per input
    kinks         values that a gradient check stays away from
    dtypes        what the op takes; it must refuse all others with an error of tensorlite's
    result        the input's dtype -> the result's; one per result where there are several
    gradient      whether there is one
    distinct      whether the values of an input must differ from each other
    view          whether the result may share the input's memory, and so its strides
    nan           whether the reference says how NaN spreads
    strict        whether all other dtypes must be refused; not for what only rules call
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any] | None
    shapes: tuple[tuple[Shape, ...], ...]
    domain: tuple[Any, Any] = (-2.0, 2.0)
    kinks: tuple[float, ...] = ()
    dtypes: tuple[DType, ...] = NUMBERS
    result: Any = same
    gradient: bool = True
    distinct: bool = False
    view: bool = False
    nan: bool = True
    strict: bool = True

    @property
    def op(self) -> str:
        return self.name.split()[0]

    def arrays(self, shapes: tuple[Shape, ...], dtype: DType, seed: int = 0) -> list[np.ndarray]:
        """Input values: exactly representable in `dtype`, in NumPy's form of it."""
        random = np.random.default_rng([seed, *itertools.chain(*shapes)])
        domains = self.domain if isinstance(self.domain[0], tuple) else (self.domain,) * len(shapes)
        return [self._values(random, shape, low, high, dtype)
                for shape, (low, high) in zip(shapes, domains, strict=True)]

    def _values(self, random: np.random.Generator, shape: Shape, low: float, high: float, dtype: DType) -> np.ndarray:
        if not dtype.is_floating_point:
            least = math.ceil(low) if dtype.numpy.kind == "i" else max(math.ceil(low), 0)
            most = max(math.floor(high) if dtype is not tl.bool else 1, least)
            return np.asarray(random.integers(least, most + 1, shape), dtype.numpy)
        if self.distinct:
            values = random.permutation(np.linspace(low, high, math.prod(shape))).reshape(shape)
        else:
            values = random.uniform(low, high, shape)
        for kink in self.kinks:
            values = np.where(np.abs(values - kink) < 0.05, kink + np.copysign(0.1, values - kink), values)
        return np.asarray(values, dtype.numpy)


# --- calling rows ----------------------------------------------------------------------------------------------------


def tensors(arrays: Sequence[np.ndarray], device: str, requires_grad: bool = False) -> list[tl.Tensor]:
    return [tl.tensor(a, device=device, requires_grad=requires_grad) for a in arrays]


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


class Constants:
    """tl.tensor for rows that make an index or mask: of the same numbers the same Tensor, made before the recording."""

    def __init__(self) -> None:
        self.made: dict[Any, tl.Tensor] = {}
        self.make = tl.tensor

    def __call__(self, values: Any, **options: Any) -> tl.Tensor:
        array = np.asarray(values)
        key = array.tobytes(), array.shape, array.dtype.str, *options.items()
        if key not in self.made:
            self.made[key] = self.make(values, **options)
        return self.made[key]


# --- shapes ----------------------------------------------------------------------------------------------------------

ONE = (((3, 4),), ((),), ((0, 3),))
TWO = (((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2, 3)), ((), ()), ((0, 3), (3,)))
THREE = (((3, 4), (3, 4), (3, 4)), ((4,), (3, 1), ()), ((0, 2), (2,), ()))
MATRIX = (((3, 4),), ((0, 3),), ((2, 3, 4),))
FULL = (((2, 3, 4),), ((),), ((5,),))
ROWS = (((3, 4),), ((2, 3, 4),))

# --- references that NumPy lacks -------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])
_own_erf = np.frompyfunc(lambda x: x.erf(), 1, 1)


def erf(x: Any) -> Any:
    """Of floats, or of numbers with more digits that have it as a method, as NumPy's functions want it."""
    return _own_erf(x) if np.asarray(x).dtype == object else _erf(x)


def number(n: float, x: Any) -> Any:
    """n, as a number of the kind that x holds."""
    return x * 0 + n


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def logaddexp(x: Any, y: Any) -> Any:
    return np.maximum(x, y) + np.log1p(np.exp(-np.abs(x - y)))


def logsumexp(x: Any, axis: Any, keepdims: bool = False) -> Any:
    return np.log(np.sum(np.exp(x), axis, keepdims=keepdims))


def gelu(x: Any) -> Any:
    return x * (1 + erf(x / np.sqrt(number(2, x)))) / 2


def gelu_grad(g: Any, x: Any) -> Any:
    return g * ((1 + erf(x / np.sqrt(number(2, x)))) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def gelu_tanh_grad(g: Any, x: Any) -> Any:
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return g * (1 + t + x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)) / 2


def standardized(x: Any, axes: tuple[int, ...]) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def standardized_grad(a: Any, x: Any) -> Any:
    """The derivative of standardized(x, (-1,)) in x, given that of its result."""
    n = standardized(x, (-1,))
    bent = a - a.mean(-1, keepdims=True) - n * (a * n).mean(-1, keepdims=True)
    return bent / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def along(x: tl.Tensor, values: Any) -> tl.Tensor:
    """An index or mask on x's device."""
    return tl.tensor(values, device=x.device)


def written(x: tl.Tensor, value: tl.Tensor) -> tl.Tensor:
    result = x.detach().clone()
    ops.setitem_raw(result, 0, value)
    return result


def in_order(x: Any) -> Any:
    return np.sort(x, -1), np.argsort(x, -1, kind="stable")


def reversed_order(x: Any) -> Any:
    order = x.shape[-1] - 1 - np.flip(np.argsort(np.flip(x, -1), -1, kind="stable"), -1)
    return np.take_along_axis(x, order, -1), order


def put(x: Any, index: Any, axis: int, values: Any) -> Any:
    out = np.array(x)
    np.put_along_axis(out, index, values, axis)
    return out


def put_added(x: Any, index: Any, values: Any) -> Any:
    out = np.array(x)
    for i, j in np.ndindex(index.shape):
        out[i, index[i, j]] += values[i, j]
    return out


def rows_added(x: Any, source: Any) -> Any:
    out = np.array(x)
    np.add.at(out, [2, 0, 2], source)
    return out


def cross_entropy(x: Any) -> Any:
    return np.mean(logsumexp(x, 1) - x[np.arange(3), LABELS])


def cross_entropy_grad(g: Any, x: Any) -> Any:
    return g / 3 * (softmax(x, 1) - np.eye(4)[LABELS])


def dropped(x: tl.Tensor) -> tl.Tensor:
    return ops.dropout(x, 0.25, tl.Generator(x.device).manual_seed(5))


def dropout_mask(shape: Shape) -> np.ndarray:
    """That of `dropped`, by NumPy's generator, which counts up before it computes a block."""
    words = np.random.Philox(key=5, counter=2**256 - 1).random_raw(math.prod(shape))
    return ((words >> 11) * 2.0**-53 < 0.75).reshape(shape) / 0.75


LABELS = np.array([2, 0, 3])
INDEX = np.array([[2, 0, 1], [0, 0, 3]])  # into dimension 1 of (2, 4)
MASK = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
