"""Numbers of 60 digits that NumPy computes with in object arrays, so that a row's own reference becomes exact.

`np.exp` of an object array calls the method `exp` of its elements, `np.sum` adds them, `@` multiplies: a reference
written for float64 arrays runs on `Exact` ones as it is. There is no way to a float from inside (no `__float__`), so
a reference that would lose digits raises TypeError instead of doing so in silence.

A number also knows its *terms*: the sum of the absolute values of what was added to make it. 1 - 0.999 is 0.001 made
of terms of 2: a sum whose terms cancel cannot be more accurate than its terms are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

mpmath.mp.prec = 200
NAN, INFINITY = mpmath.mpf("nan"), mpmath.mpf("inf")
WHOLE = 2200  # bits that hold the quotient of any two float64 numbers, and all that follows the point


def _of_numbers(method: Callable[[Exact, Exact], Any]) -> Callable[[Exact, Any], Any]:
    """An operator that takes any number, and leaves arrays to NumPy."""

    def operator(self: Exact, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else method(self, lifted(other))

    return operator


class Exact:
    """A real number of 60 digits, and the sum of the absolute values of its terms."""

    __slots__ = ("terms", "value")

    def __init__(self, value: Any, terms: float | None = None) -> None:
        self.value = value
        self.terms = abs(float(value)) if terms is None else terms

    @_of_numbers
    def __add__(self, other: Exact) -> Exact:
        return Exact(self.value + other.value, self.terms + other.terms)

    @_of_numbers
    def __sub__(self, other: Exact) -> Exact:
        return Exact(self.value - other.value, self.terms + other.terms)

    @_of_numbers
    def __rsub__(self, other: Exact) -> Exact:
        return other - self

    @_of_numbers
    def __mul__(self, other: Exact) -> Exact:
        return Exact(self.value * other.value, self.terms * other.terms)

    @_of_numbers
    def __truediv__(self, other: Exact) -> Exact:
        if not other.value:
            return Exact(self.value * INFINITY if self.value else NAN)
        size = abs(float(other.value)) or 1.0
        return Exact(self.value / other.value, self.terms / size * (other.terms / size))

    @_of_numbers
    def __rtruediv__(self, other: Exact) -> Exact:
        return other / self

    @_of_numbers
    def __floordiv__(self, other: Exact) -> Exact:
        with mpmath.workprec(WHOLE):
            return (self / other).floor()

    @_of_numbers
    def __mod__(self, other: Exact) -> Exact:
        with mpmath.workprec(WHOLE):
            return Exact((self - (self / other).floor() * other).value)

    def fmod(self, other: Any) -> Exact:
        with mpmath.workprec(WHOLE):
            return Exact((self - (self / lifted(other)).trunc() * lifted(other)).value)

    @_of_numbers
    def __pow__(self, other: Exact) -> Exact:
        if not self.value:
            return Exact(mpmath.mpf(1) if not other.value else INFINITY if other.value < 0 else mpmath.mpf(0))
        return _real(mpmath.power, self.value, other.value)

    @_of_numbers
    def __rpow__(self, other: Exact) -> Exact:
        return other**self

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Exact:
        return Exact(-self.value, self.terms)

    def __pos__(self) -> Exact:
        return self

    def __abs__(self) -> Exact:
        return Exact(abs(self.value), self.terms)

    def conjugate(self) -> Exact:
        return self

    def __bool__(self) -> bool:
        return bool(self.value)

    @_of_numbers
    def __eq__(self, other: Exact) -> bool:
        return bool(self.value == other.value)

    @_of_numbers
    def __lt__(self, other: Exact) -> bool:
        return bool(self.value < other.value)

    @_of_numbers
    def __le__(self, other: Exact) -> bool:
        return bool(self.value <= other.value)

    @_of_numbers
    def __gt__(self, other: Exact) -> bool:
        return bool(self.value > other.value)

    @_of_numbers
    def __ge__(self, other: Exact) -> bool:
        return bool(self.value >= other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Exact({mpmath.nstr(self.value, 20)})"

    def _amplified(self, result: Exact, slope: Any) -> Exact:
        """A function's value, with terms that grow by the slope times what the argument's exceed the argument by."""
        excess = self.terms - abs(float(self.value))
        if excess > 0 and math.isfinite(excess):
            result.terms += abs(float(slope)) * excess
        return result

    def arctan2(self, other: Any) -> Exact:
        return _real(mpmath.atan2, self.value, lifted(other).value)

    def logaddexp(self, other: Any) -> Exact:
        return (self.exp() + lifted(other).exp()).log()

    def exp(self) -> Exact:
        found = _real(mpmath.exp, self.value)
        return self._amplified(found, found.value)

    def exp2(self) -> Exact:
        return _real(mpmath.power, mpmath.mpf(2), self.value)

    def expm1(self) -> Exact:
        return _real(mpmath.expm1, self.value)

    def log(self) -> Exact:
        return self._amplified(_real(mpmath.log, self.value), 1 / (self.value or INFINITY))

    def log2(self) -> Exact:
        return _real(lambda x: mpmath.log(x) / mpmath.ln2, self.value)

    def log10(self) -> Exact:
        return _real(mpmath.log10, self.value)

    def log1p(self) -> Exact:
        return _real(mpmath.log1p, self.value)

    def sqrt(self) -> Exact:
        found = _real(mpmath.sqrt, self.value)
        return self._amplified(found, 0.5 / (found.value or INFINITY))

    def sin(self) -> Exact:
        return _real(mpmath.sin, self.value)

    def cos(self) -> Exact:
        return _real(mpmath.cos, self.value)

    def tan(self) -> Exact:
        return _real(mpmath.tan, self.value)

    def arcsin(self) -> Exact:
        return _real(mpmath.asin, self.value)

    def arccos(self) -> Exact:
        return _real(mpmath.acos, self.value)

    def arctan(self) -> Exact:
        return _real(mpmath.atan, self.value)

    def sinh(self) -> Exact:
        return _real(mpmath.sinh, self.value)

    def cosh(self) -> Exact:
        return _real(mpmath.cosh, self.value)

    def tanh(self) -> Exact:
        found = _real(mpmath.tanh, self.value)
        return self._amplified(found, 1 - found.value * found.value)

    def arcsinh(self) -> Exact:
        return _real(mpmath.asinh, self.value)

    def arccosh(self) -> Exact:
        return _real(mpmath.acosh, self.value)

    def arctanh(self) -> Exact:
        return _real(mpmath.atanh, self.value)

    def erf(self) -> Exact:
        return _real(mpmath.erf, self.value)

    def floor(self) -> Exact:
        return _real(mpmath.floor, self.value)

    def ceil(self) -> Exact:
        return _real(mpmath.ceil, self.value)

    def trunc(self) -> Exact:
        return self.floor() if self.value > 0 else self.ceil()

    __floor__, __ceil__, __trunc__ = floor, ceil, trunc

    def rint(self) -> Exact:
        return _real(mpmath.nint, self.value)


def _real(function: Callable[..., Any], *arguments: Any) -> Exact:
    """A function's value; NaN where it is not real."""
    try:
        value = function(*arguments)
    except (ValueError, ZeroDivisionError):
        return Exact(NAN)
    return Exact(NAN) if isinstance(value, mpmath.mpc) else Exact(value)


def lifted(number: Any) -> Exact:
    """A Python or NumPy number as an Exact one, no digit of it lost."""
    if type(number) is Exact:
        return number
    if isinstance(number, (bool, np.bool_, int, np.integer)):
        return Exact(mpmath.mpf(int(number)))
    if isinstance(number, (float, np.floating)):
        return Exact(mpmath.mpf(float(number)))
    if type(number) is mpmath.mpf:
        return Exact(number)
    raise TypeError(f"no number: {type(number).__name__}")


_lift_all = np.frompyfunc(lifted, 1, 1)


def exactly(array: Any) -> np.ndarray:
    """An array of numbers, or nested results of a reference, as an object array of Exact ones."""
    with np.errstate(invalid="ignore"):  # of NaN
        return np.asarray(_lift_all(np.asarray(array)), object).reshape(np.shape(array))


def spacing(size: Any, mantissa: int, least: int) -> Any:
    """The distance of neighbouring numbers at `size`: of so many bits, with 2**least the smallest normal number."""
    if not size:
        return mpmath.mpf(2) ** (least - mantissa + 1)
    return mpmath.mpf(2) ** (max(mpmath.frexp(size)[1] - 1, least) - mantissa + 1)


def ulps(result: float, exact: Exact, mantissa: int, least: int, largest: float) -> tuple[float, float]:
    """|result - exact| in spacings at the exact value, and at its terms; infinite where only one is finite or NaN."""
    value = exact.value
    if mpmath.isnan(value):
        return (0.0, 0.0) if math.isnan(result) else (math.inf, math.inf)
    if not math.isfinite(result):
        same = not math.isnan(result) and (result > 0) == (value > 0)
        overflows = abs(value) >= mpmath.mpf(largest) + spacing(mpmath.mpf(largest), mantissa, least) / 2
        return (0.0, 0.0) if same and overflows else (math.inf, math.inf)
    if mpmath.isinf(value):
        return math.inf, math.inf
    size = abs(value)
    error = abs(mpmath.mpf(result) - value)
    terms = mpmath.mpf(exact.terms) if math.isfinite(exact.terms) else size
    return (float(error / spacing(size, mantissa, least)), float(error / spacing(max(size, terms), mantissa, least)))
