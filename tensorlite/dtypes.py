"""The dtype table, and the one rule by which dtypes combine.

Kernels, NumPy and CuPy are never asked what a result dtype is: `int64 + float32`, `bfloat16 * 2.5` and
`int / int` come out differently there. `promote` decides, from this table alone, before a kernel runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .errors import DTypeError

BOOL, INTEGER, FLOAT = range(3)


class DType:
    """One row of the table. There is one object per dtype, so `is` and `==` agree.

    name       'float32', as PyTorch spells it
    numpy      the NumPy (and CuPy) dtype of the stored elements
    c_type     the name in kernels/common.cuh
    wide       the dtype in which sums, norms and products are accumulated
    category   BOOL < INTEGER < FLOAT
    """

    __slots__ = ("_numpy", "c_type", "category", "itemsize", "name", "wide")

    def __init__(self, name: str, c_type: str, category: int, itemsize: int, wide: DType | None = None) -> None:
        self.name = name
        self.c_type = c_type
        self.category = category
        self.itemsize = itemsize
        self.wide = wide or self
        self._numpy: np.dtype[Any] | None = None if name == "bfloat16" else np.dtype(name)

    @property
    def numpy(self) -> np.dtype[Any]:
        if self._numpy is None:
            self._numpy = _load_bfloat16()
            _FROM_CHAR[self._numpy.char] = self
        return self._numpy

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_narrow(self) -> bool:
        """float16 and bfloat16: stored narrow, computed in float32."""
        return self.wide is not self

    def __repr__(self) -> str:
        return f"tensorlite.{self.name}"

    def __reduce__(self) -> tuple[Callable[[str], DType], tuple[str]]:
        return as_dtype, (self.name,)  # copied and pickled by name: one object per dtype


def _load_bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError as error:
        raise DTypeError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


bool_: Final = DType("bool", "bool", BOOL, 1)
uint8: Final = DType("uint8", "u8", INTEGER, 1)
int8: Final = DType("int8", "i8", INTEGER, 1)
int16: Final = DType("int16", "i16", INTEGER, 2)
int32: Final = DType("int32", "i32", INTEGER, 4)
int64: Final = DType("int64", "i64", INTEGER, 8)
float32: Final = DType("float32", "float", FLOAT, 4)
float64: Final = DType("float64", "double", FLOAT, 8)
float16: Final = DType("float16", "f16", FLOAT, 2, wide=float32)
bfloat16: Final = DType("bfloat16", "bf16", FLOAT, 2, wide=float32)

ALL: Final = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)

# NumPy's one-letter code -> row. bfloat16 joins when it is first used: its NumPy type lives in ml_dtypes.
_FROM_CHAR: Final[dict[str, DType]] = {d.numpy.char: d for d in ALL if d is not bfloat16}
_FROM_CHAR["l" if np.dtype(np.int64).char == "q" else "q"] = int64  # C's second 64-bit integer
NAMES: Final = {d.name: d for d in ALL} | {"float": float32, "double": float64, "half": float16, "int": int32,
                                             "long": int64, "short": int16}
_KNOWN: Final = ", ".join(d.name for d in ALL)
_PYTHON: Final[dict[type, DType]] = {bool: bool_, int: int64, float: float64}  # as NumPy and PyTorch have them

_default = float32


def get_default_dtype() -> DType:
    """The dtype of float literals and of float results of integer operands; float32 until changed."""
    return _default


def set_default_dtype(dtype: DType) -> None:
    """Make `dtype` (float32 or float64, or a narrow float) the default of creation functions."""
    global _default
    if not as_dtype(dtype).is_floating_point:
        raise DTypeError(f"set_default_dtype takes a floating dtype, got {dtype!r}")
    _default = as_dtype(dtype)


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The row of a NumPy dtype. Raises DTypeError for one that tensorlite does not have, naming the closest."""
    row = _FROM_CHAR.get(dtype.char)
    if row is not None and dtype.isnative:
        return row
    if dtype.name == "bfloat16":
        return from_numpy(bfloat16.numpy)
    if not dtype.isnative:
        raise DTypeError(f"{sys.byteorder}-endian data expected, got {dtype.str!r}; "
                         "use a.astype(a.dtype.newbyteorder('='))")
    raise DTypeError(f"no tensor dtype for NumPy's {dtype.name!r}; convert it to one of {_KNOWN}")


def as_dtype(dtype: Any) -> DType:
    """A DType from itself, a name ('float32'), a Python type (float, int, bool) or a NumPy dtype."""
    if isinstance(dtype, DType):
        return dtype
    if isinstance(dtype, str) and dtype in NAMES:
        return NAMES[dtype]
    if isinstance(dtype, type) and dtype in _PYTHON:
        return _PYTHON[dtype]
    try:
        return from_numpy(np.dtype(dtype))
    except (TypeError, ValueError) as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(f"not a dtype: {dtype!r}; use one of {_KNOWN}") from None


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that holds both, by PyTorch's lattice: int + float is the float, uint8 + int8 is int16.

    >>> promote_types(int64, float16)
    tensorlite.float16
    """
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == FLOAT:
        return float32 if {a, b} == {float16, bfloat16} else max(a, b, key=lambda d: d.itemsize)
    if uint8 in (a, b):
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    return max(a, b, key=lambda d: d.itemsize)


def promote(dimensioned: list[DType], zero_dim: list[DType], scalars: list[type]) -> DType:
    """The dtype in which operands combine.

    Only a higher category (bool < integer < float) lets a 0-d tensor change the result of dimensioned ones, or a
    Python number the result of tensors: float32 (3,) + float64 () is float32, int64 (3,) + 1.5 is float32.
    """
    result: DType | None = None
    numbers = [_default if kind is float else _PYTHON[kind] for kind in scalars]
    for group in (dimensioned, zero_dim, numbers):
        if not group:
            continue
        combined = group[0]
        for dtype in group[1:]:
            combined = promote_types(combined, dtype)
        if result is None:
            result = combined
        elif combined.category > result.category:
            result = promote_types(result, combined)
    if result is None:
        raise DTypeError("nothing to promote: at least one operand is needed")
    return result


class finfo:
    """Limits of a floating dtype: bits, eps, min, max, tiny (smallest normal), resolution.

    >>> finfo(float16).max
    65504.0
    """

    def __init__(self, dtype: Any = None) -> None:
        self.dtype = _default if dtype is None else as_dtype(dtype)
        if not self.dtype.is_floating_point:
            raise DTypeError(f"finfo takes a floating dtype, got {self.dtype.name}; use iinfo for integers")
        self.bits = self.dtype.itemsize * 8
        mantissa, exponent = {float16: (10, 5), bfloat16: (7, 8), float32: (23, 8), float64: (52, 11)}[self.dtype]
        bias = 2 ** (exponent - 1) - 1
        self.eps = 2.0**-mantissa
        self.max = (2.0 - self.eps) * 2.0**bias
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - bias)
        self.resolution = 10.0 ** -int(mantissa * 0.30103)


class iinfo:
    """Limits of an integer dtype: bits, min, max.

    >>> iinfo(int8).min
    -128
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = as_dtype(dtype)
        if self.dtype.category != INTEGER:
            raise DTypeError(f"iinfo takes an integer dtype, got {self.dtype.name}; use finfo for floats")
        self.bits = self.dtype.itemsize * 8
        signed = self.dtype is not uint8
        self.max = 2 ** (self.bits - signed) - 1
        self.min = -(2 ** (self.bits - 1)) if signed else 0
