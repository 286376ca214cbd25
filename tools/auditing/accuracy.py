"""How far results and gradients lie from the exact ones, and whether second derivatives are derivatives of the first.

An error is counted in units in the last place: |computed - exact| over the distance of neighbouring numbers of the
result's dtype at the exact value. The exact value is the row's own reference in numbers of 60 digits; where that
cannot be (the reference calls what only knows floats), the reference in float64, and the figure says so.

A gradient's exact value is the central difference of the reference with a step of 2⁻⁶⁰, or 2⁻⁹ with Richardson's
extrapolation where the reference is in float64. It is counted in the distance of numbers at max(1, |exact|), for
incoming gradients of at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
from case import Case, listed, tensors

import tensorlite as tl
from auditing import points
from auditing.exact import Exact, exactly, lifted, ulps
from tensorlite.dtypes import DType

DIGITS_LOST = (TypeError, AttributeError, ValueError, np.exceptions.DTypePromotionError)  # of Exact in a reference
STEP = mpmath.mpf(2) ** -60
COARSE_STEP = 2.0**-9
LOOKED_AT = 10  # elements of an input at which its gradient is looked at
AGREE = 64  # eps within which second derivatives in two dtypes agree


@dataclass
class Figure:
    """The largest error seen: strictly, and in units of the terms that were added; and whether against all digits."""

    strict: float = 0.0
    of_terms: float = 0.0
    exact: bool = True
    denormal: bool = False  # whether digits are lost where denormal numbers come in; these are not counted
    at: str = ""
    at_terms: str = ""
    count: int = field(default=0, compare=False)

    def see(self, errors: tuple[float, float], at: str) -> None:
        self.count += 1
        if errors[0] > self.strict:
            self.strict, self.at = errors[0], at
        if errors[1] > self.of_terms:
            self.of_terms, self.at_terms = errors[1], at

    def join(self, other: Figure) -> None:
        """The worse of two."""
        if other.strict > self.strict:
            self.strict, self.at = other.strict, other.at
        self.of_terms = max(self.of_terms, other.of_terms)
        self.exact &= other.exact
        self.denormal |= other.denormal
        self.count += other.count


def wide(array: np.ndarray) -> np.ndarray:
    """What a reference sees of an array: float64, int64 or bool."""
    return array if array.dtype.kind == "b" else array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def numbers(x: tl.Tensor) -> np.ndarray:
    """A tensor's values as float64, int64 or bool."""
    return wide(x.detach().cpu().numpy())


def limits(dtype: DType) -> tuple[int, int, float]:
    """(bits of the mantissa, exponent of the smallest normal number, largest number)."""
    info = tl.finfo(dtype)
    return 1 - int(math.log2(info.eps)), int(math.log2(info.tiny)), info.max


# --- results -----------------------------------------------------------------------------------------------------


class References:
    """A row's references at its points, computed once for all devices."""

    def __init__(self, case: Case, dtype: DType) -> None:
        self.case, self.dtype = case, dtype
        self.sets = points.inputs(case, dtype)
        self._made: dict[int, tuple[list[Any], bool]] = {}

    def at(self, i: int, result: DType) -> tuple[list[Any], bool]:
        """The references of set i, for results of a dtype; and whether they hold all digits."""
        if i not in self._made:
            self._made[i] = reference_of(self.case, self.sets[i], result)
        return self._made[i]


def reference_of(case: Case, arrays: list[np.ndarray], result: DType) -> tuple[list[Any], bool]:
    assert case.reference is not None
    with np.errstate(all="ignore"):
        if result.is_floating_point:
            try:
                return [np.asarray(r) for r in listed(case.reference(*map(exactly, arrays)))], True
            except DIGITS_LOST:
                pass
        given = [wide(a) for a in arrays]
        if result.is_floating_point:
            given = [a.astype(np.float64) for a in given]
        return [np.asarray(r) for r in listed(case.reference(*given))], not result.is_floating_point


def forward(case: Case, dtype: DType, device: str, references: References) -> Figure:
    """The largest error of the results of a row."""
    figure = Figure()
    for i, arrays in enumerate(references.sets):
        results = listed(case.function(*tensors(arrays, device)))
        expected, figure_exact = references.at(i, results[0].dtype)
        figure.exact &= figure_exact
        for x, reference in zip(results, expected, strict=True):
            if x.shape != reference.shape:
                raise AssertionError(f"{case.name}: shape {x.shape}, not {reference.shape}")
            see_all(figure, x, reference, arrays)
    return figure


def see_all(figure: Figure, x: tl.Tensor, reference: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
    values = numbers(x).reshape(-1)
    if not x.dtype.is_floating_point:
        with np.errstate(invalid="ignore"):  # NaN as an integer
            wrong = int((values != wide(reference.reshape(-1).astype(x.dtype.numpy))).sum())
        figure.see((math.inf if wrong else 0.0,) * 2, f"{wrong} differ")
        return
    shape = limits(x.dtype)
    columns = [a.reshape(-1).astype(np.float64).tolist() for a in arrays if a.size == values.size]
    for j, (value, exact) in enumerate(zip(values.tolist(), reference.reshape(-1).tolist(), strict=True)):
        exact = lifted(exact)
        if value != exact.value:
            at = [column[j] for column in columns]
            errors = ulps(value, exact, *shape)
            if errors[0] > 1 and _is_denormal(exact, at, tl.finfo(x.dtype).tiny):
                figure.denormal = True
            else:
                figure.see(errors, ", ".join(f"{a:.9g}" for a in at) or f"element {j}")


def _is_denormal(exact: Exact, at: Sequence[float], tiny: float) -> bool:
    """Whether a result, a factor of it or an argument is below the smallest normal number."""
    return abs(exact.value) <= tiny * max(1.0, *map(abs, at), 1.0) or any(0 < abs(a) < tiny for a in at)


# --- gradients ---------------------------------------------------------------------------------------------------


def weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Incoming gradients: multiples of 1/8 up to 1, which every dtype holds."""
    return np.random.default_rng([7, seed]).choice([-1.0, -0.625, -0.25, 0.125, 0.5, 0.875, 1.0], shape)


def gradients(case: Case, arrays: Sequence[np.ndarray], device: str) -> list[np.ndarray | None]:
    """Those of all inputs, None where an input has none."""
    inputs = tensors(arrays, device, True)
    outputs = [x for x in listed(case.function(*inputs)) if x.requires_grad]
    incoming = [tl.tensor(weights(x.shape, i), device=device).to(x.dtype) for i, x in enumerate(outputs)]
    found = tl.autograd.grad(outputs, inputs, incoming, allow_unused=True)
    return [None if g is None else numbers(g) for g in found]


class Slopes:
    """The exact derivatives of a row at its points, computed once for all devices."""

    def __init__(self, case: Case, dtype: DType) -> None:
        self.case = case
        self.sets = points.gradient_inputs(case, dtype)
        self._made: dict[int, tuple[list[Slope], bool]] = {}

    def at(self, i: int) -> tuple[list[Slope], bool]:
        """Those of set i, where there are any; and whether they hold all digits."""
        if i not in self._made:
            try:
                self._made[i] = self._slopes([exactly(a) for a in self.sets[i]]), True
            except DIGITS_LOST:
                self._made[i] = self._slopes([a.astype(np.float64) for a in self.sets[i]]), False
        return self._made[i]

    def _slopes(self, arrays: list[np.ndarray]) -> list[Slope]:
        together = points.is_elementwise(self.case) and len({a.shape for a in arrays}) == 1
        random = np.random.default_rng(3)
        found: list[Slope] = []
        for i, a in enumerate(arrays):
            if together:
                slopes = self._differences(arrays, i, np.ones(a.shape), together)
                found += [(i, j, s) for j, s in enumerate(slopes.reshape(-1).tolist()) if s is not None]
                continue
            for j in sorted(random.permutation(a.size)[:LOOKED_AT].tolist()):
                unit = np.zeros(a.size)
                unit[j] = 1
                slope = self._differences(arrays, i, unit.reshape(a.shape), together)[()]
                found += [(i, j, slope)] if slope is not None else []
        return found

    def _differences(self, arrays: list[np.ndarray], i: int, direction: np.ndarray, together: bool) -> np.ndarray:
        """The derivatives of the weighted results along a direction of input i; None at kinks and poles."""
        fine = arrays[i].dtype == object

        def at(step: Any) -> np.ndarray:
            shift = direction * (Exact(step) if fine else step)
            moved = [*arrays[:i], np.asarray(arrays[i] + shift), *arrays[i + 1:]]
            return self._weighted(moved, together)

        with np.errstate(all="ignore"):
            if not fine:
                near, far = (at(n * COARSE_STEP) - at(-n * COARSE_STEP) for n in (1, 2))
                return np.asarray((8 * near - far) / (12 * COARSE_STEP), object)
            up, down, here = at(STEP), at(-STEP), at(mpmath.mpf(0))
        return np.asarray(np.frompyfunc(_smooth_slope, 3, 1)(up, down, here), object)

    def _weighted(self, arrays: list[np.ndarray], together: bool) -> np.ndarray:
        """Of each element the results times the incoming gradients, or of all their sum."""
        assert self.case.reference is not None
        results = [np.asarray(r) for r in listed(self.case.reference(*arrays))]
        parts = [np.asarray(r * weights(r.shape, i)) for i, r in enumerate(r for r in results if r.dtype.kind in "fO")]
        return np.asarray(parts[0] if together else sum((p.sum() for p in parts), start=0.0), object)


Slope = tuple[int, int, Any]  # (input, element, derivative)


def _smooth_slope(up: Any, down: Any, here: Any) -> Any:
    up, down, here = (lifted(x).value for x in (up, down, here))
    right, left = (up - here) / STEP, (here - down) / STEP
    if not (mpmath.isfinite(right) and mpmath.isfinite(left)) or abs(right - left) > 1e-9 * max(1, abs(right)):
        return None
    return (up - down) / (2 * STEP)


def gradient(case: Case, dtype: DType, device: str, slopes: Slopes) -> Figure:
    """The largest error of the gradients of a row."""
    figure = Figure()
    mantissa, least, largest = limits(dtype)
    for n, arrays in enumerate(slopes.sets):
        found = gradients(case, arrays, device)
        wanted, exact = slopes.at(n)
        figure.exact &= exact
        for i, j, slope in wanted:
            value = 0.0 if found[i] is None else float(found[i].reshape(-1)[j])  # type: ignore[union-attr]
            if 8 * abs(slope) <= largest:  # else a factor of it may overflow
                unit = max(abs(float(slope)), 1.0)
                errors = ulps(value, Exact(mpmath.mpf(slope), unit), mantissa, least, largest)
                figure.see((errors[1], errors[1]), f"set {n}, input {i}, element {j}")
    return figure


# --- second derivatives ------------------------------------------------------------------------------------------


def second(case: Case, dtype: DType, device: str) -> bool:
    """Whether second derivatives are derivatives of the first: in float64 by differences, else as those in float64."""
    arrays = case.arrays(case.shapes[0], dtype)
    if dtype is tl.float64:
        inputs = tensors(arrays, device, True)
        return tl.testing.gradgradcheck(case.function, inputs, atol=1e-5, rtol=1e-4, fast_mode=True,
                                        raise_exception=False)
    given, exact = (_second_gradients(case, a, device) for a in (arrays, [a.astype(np.float64) for a in arrays]))
    if (given is None) is not (exact is None):
        return False
    tolerance = AGREE * tl.finfo(dtype).eps
    return given is None or all(np.allclose(a, b, tolerance, tolerance * max(1.0, np.max(np.abs(b), initial=0)))
                                for a, b in zip(given, exact or [], strict=True))


def _second_gradients(case: Case, arrays: Sequence[np.ndarray], device: str) -> list[np.ndarray] | None:
    inputs = tensors(arrays, device, True)
    outputs = [x for x in listed(case.function(*inputs)) if x.requires_grad]
    incoming = [tl.tensor(weights(x.shape, i), device=device).to(x.dtype).requires_grad_()
                for i, x in enumerate(outputs)]
    first = tl.autograd.grad(outputs, inputs, incoming, create_graph=True, allow_unused=True)
    curved = [g for g in first if g is not None and g.requires_grad]
    if not curved:
        return None
    again = [tl.tensor(weights(g.shape, i), device=device).to(g.dtype) for i, g in enumerate(curved)]
    found = tl.autograd.grad(curved, [*inputs, *incoming], again, materialize_grads=True)
    return [numbers(g) for g in found]
