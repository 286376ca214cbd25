"""Differentiable elementwise operations: arithmetic, powers, trigonometry, comparisons, activations.

Operands broadcast, and are promoted to one dtype before the kernel runs (`tensorlite.dtypes`). Forward and
derivative stand side by side; subgradients at kinks follow PyTorch and are named in the docstring.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..autograd.op import ANY, FLOAT, NONE, Op, as_inputs, op, result_dtype
from ..autograd.tape import Var
from ..backends import SCALARS, Array, Backend
from ..dtypes import finfo
from ..errors import ArgumentError, DTypeError
from .activation import sigmoid
from .logic import eq, ge, gt, isfinite, isinf, isnan, le, logical_and, logical_or, lt
from .movement import full_like
from .one_kernel import binary, unary
from .options import require_tensors
from .wide import computed_wide, widened

if TYPE_CHECKING:
    from ..tensor import Tensor

# --- arithmetic ------------------------------------------------------------------------------------------------


def _scaled(be: Backend, y: Any, alpha: float) -> Any:
    return y * alpha if type(y) in SCALARS else be.elementwise("mul", y, alpha)


@op(promote=ANY)
def add(be: Backend, x: Array, y: Array, *, alpha: float = 1) -> Array:
    """x + alpha·y; logical or for bool."""
    return be.elementwise("add", x, y if alpha == 1 else _scaled(be, y, alpha))


@op(promote=ANY)
def sub(be: Backend, x: Array, y: Array, *, alpha: float = 1) -> Array:
    """x - alpha·y."""
    return be.elementwise("sub", x, y if alpha == 1 else _scaled(be, y, alpha))


neg: Op = unary("neg", "-x.", promote=ANY, x=lambda g: neg(g))
mul: Op = binary("mul", "x · y; logical and for bool.", x=lambda g, y: mul(g, y), y=lambda g, x: mul(g, x))
add.rules(x=lambda g: g, y=lambda g, alpha: g if alpha == 1 else mul(g, alpha))
sub.rules(x=lambda g: g, y=lambda g, alpha: neg(g) if alpha == 1 else mul(g, -alpha))


@op(promote=FLOAT)
def _div(be: Backend, x: Array, y: Array) -> Array:
    return be.elementwise("div", x, y)


_div.name = "div"
_div.rules(x=lambda g, y: _div(g, y), y=lambda g, x, y: neg(_div(mul(g, _div(x, y)), y)))  # out may be changed in place


def div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Tensor:
    """x / y: integers give the default floating dtype. rounding_mode 'floor' or 'trunc' rounds, and keeps integers."""
    if rounding_mode is None:
        return _div(x, y)
    if rounding_mode == "floor":
        return floor_divide(x, y)
    if rounding_mode != "trunc":
        raise ArgumentError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")
    if result_dtype([v.array if isinstance(v, Var) else v for v in (x, y)]).is_floating_point:
        return _div_trunc(x, y)
    return floor_divide(sub(x, fmod(x, y)), y)


@op(promote=ANY)
def _div_trunc(be: Backend, x: Array, y: Array) -> Array:
    """trunc(x / y); the derivatives are 0, by a y of 0 too."""
    return be.elementwise("trunc", be.elementwise("div", x, y))


_div_trunc.name = "div_trunc"
_div_trunc.rules(x=lambda g: full_like(g, 0), y=lambda g: full_like(g, 0))

floor_divide = binary("floor_divide", "⌊x / y⌋, rounded to -inf; the derivatives are 0. ArgumentError for ints / 0.",
                      x=lambda g: mul(g, 0.0), y=lambda g: mul(g, 0.0))
remainder = binary("remainder", "x - y·⌊x/y⌋: the result has the divisor's sign, as Python's %.",
                   x=lambda g: g, y=lambda g, x, y: neg(mul(g, floor_divide(x, y))))
fmod = binary("fmod", "x - y·trunc(x/y): the result has the dividend's sign, as C's fmod.",
              x=lambda g: g, y=lambda g, x, y: neg(mul(g, div(x, y, rounding_mode="trunc"))))
pow = binary("pow", "xʸ, with 0⁰ = 1. The gradient in x at y = 0 is 0; the gradient in y at x = 0 is 0 for y >= 0.")


def _pow_x(g: Any, x: Any, y: Any) -> Any:
    if isinstance(y, Var):
        return where(eq(y, 0), 0.0, mul(g, mul(y, pow(x, sub(y, 1)))))
    return full_like(g, 0) if y == 0 else mul(mul(g, pow(x, y - 1)), y)


def _pow_y(g: Any, x: Any, y: Any, out: Any) -> Any:
    base = x if isinstance(x, Var) else full_like(y, x)
    settled = logical_and(eq(base, 0), ge(y, 0))
    return mul(g, where(settled, 0.0, mul(out, log(where(settled, 1.0, base)))))


pow.rules(x=_pow_x, y=_pow_y)

sign = unary("sign", "-1, 0 or 1; NaN for NaN. The derivative is 0.", promote=NONE, x=lambda g: full_like(g, 0))
abs = unary("abs", "|x|. The derivative at 0 is 0.", promote=NONE, x=lambda g, x: mul(g, sign(x)))
square = unary("square", "x².", promote=ANY, x=lambda g, x: mul(mul(g, x), 2.0))
reciprocal = unary("reciprocal", "1/x.", x=lambda g, out: neg(mul(g, square(out))))

# --- exponentials and roots --------------------------------------------------------------------------------------

exp = unary("exp", "eˣ.", x=lambda g, out: mul(g, out))
exp2 = unary("exp2", "2ˣ.", x=lambda g, out: mul(mul(g, out), math.log(2)))
expm1 = unary("expm1", "eˣ - 1, accurate near 0.", x=lambda g, out: mul(g, add(out, 1.0)))
log = unary("log", "ln x; -inf at 0, NaN below.", x=lambda g, x: _div(g, x))
log2 = unary("log2", "log₂ x.", x=lambda g, x: _div(g, mul(x, math.log(2))))
log10 = unary("log10", "log₁₀ x.", x=lambda g, x: _div(g, mul(x, math.log(10))))
log1p = unary("log1p", "ln(1 + x), accurate near 0.", x=lambda g, x: _div(g, add(x, 1.0)))
sqrt = unary("sqrt", "√x. The derivative at 0 is inf.", x=lambda g, out: _div(g, mul(out, 2.0)))
rsqrt = unary("rsqrt", "1/√x.", x=lambda g, out: mul(mul(g, pow(out, 3)), -0.5))
logaddexp = binary("logaddexp", "ln(eˣ + eʸ) without overflow.", promote=FLOAT,
                   x=lambda g, x, y: mul(g, _share(x, y)), y=lambda g, x, y: mul(g, _share(y, x)))


def _share(x: Any, y: Any) -> Any:
    """eˣ/(eˣ+eʸ); one half each where both are the same infinity."""
    return sigmoid(where(logical_and(eq(x, y), isinf(x)), 0.0, sub(x, y)))


# --- trigonometry ----------------------------------------------------------------------------------------------

sin = unary("sin", "sin x, in radians.", x=lambda g, x: mul(g, cos(x)))
cos: Op = unary("cos", "cos x, in radians.", x=lambda g, x: neg(mul(g, sin(x))))
tan = unary("tan", "tan x, in radians.", x=lambda g, out: mul(g, add(square(out), 1.0)))
asin = unary("asin", "arcsin x in [-π/2, π/2]; NaN outside [-1, 1].", x=lambda g, x: mul(g, rsqrt(sub(1.0, square(x)))))
acos = unary("acos", "arccos x in [0, π]; NaN outside [-1, 1].", x=lambda g, x: neg(mul(g, rsqrt(sub(1.0, square(x))))))
atan = unary("atan", "arctan x in [-π/2, π/2].", x=lambda g, x: _div(g, add(square(x), 1.0)))
atan2 = binary("atan2", "The angle of the point (y, x) in (-π, π]: atan2(opposite, adjacent). 0 at 0, as its gradient.",
               promote=FLOAT)


def _square_radius(x: Any, y: Any) -> Any:
    """x² + y², and 1 at the origin."""
    squares = add(square(x), square(y))
    return where(eq(squares, 0), 1.0, squares)


atan2.rules(
    x=lambda g, x, y: mul(g, _div(y, _square_radius(x, y))),
    y=lambda g, x, y: neg(mul(g, _div(x, _square_radius(x, y)))),
)


sinh = unary("sinh", "sinh x.", x=lambda g, x: mul(g, cosh(x)))
cosh: Op = unary("cosh", "cosh x.", x=lambda g, x: mul(g, sinh(x)))
asinh = unary("asinh", "arsinh x.", x=lambda g, x: mul(g, rsqrt(add(square(x), 1.0))))
acosh = unary("acosh", "arcosh x; NaN below 1.", x=lambda g, x: mul(g, rsqrt(mul(sub(x, 1.0), add(x, 1.0)))))
atanh = unary("atanh", "artanh x; NaN outside [-1, 1].", x=lambda g, x: _div(g, sub(1.0, square(x))))

# --- rounding, selection -------------------------------------------------------------------------------------------


def _rounding(be: Any, kernel: str, x: Any) -> Any:
    return be.elementwise(kernel, x) if x.dtype.kind not in "biu" else be.copy(x)


@op
def floor(be: Backend, x: Array) -> Array:
    """⌊x⌋. The derivative is 0."""
    return _rounding(be, "floor", x)


@op
def ceil(be: Backend, x: Array) -> Array:
    """⌈x⌉. The derivative is 0."""
    return _rounding(be, "ceil", x)


@op
def trunc(be: Backend, x: Array) -> Array:
    """x without its fraction. The derivative is 0."""
    return _rounding(be, "trunc", x)


@op
def round_(be: Backend, x: Array) -> Array:
    """The nearest integer, halves to the even one. The derivative is 0."""
    return _rounding(be, "round", x)


for _step in (floor, ceil, trunc, round_):
    _step.rules(x=lambda g: full_like(g, 0))


def round(x: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10^-decimals, halves to the even one. The derivative is 0."""
    return _div(round_(mul(x, 10.0**decimals)), 10.0**decimals) if decimals else round_(x)


maximum = binary("maximum", "The larger; NaN if either is. A tie shares its gradient, ½ each.",
                 x=lambda g, x, y: _shared(g, lt(x, y), eq(x, y)), y=lambda g, x, y: _shared(g, gt(x, y), eq(x, y)))
minimum = binary("minimum", "The smaller; NaN if either is. A tie shares its gradient, ½ each.",
                 x=lambda g, x, y: _shared(g, gt(x, y), eq(x, y)), y=lambda g, x, y: _shared(g, lt(x, y), eq(x, y)))


def _shared(g: Any, loses: Any, ties: Any) -> Any:
    """g for the chosen operand, ½ g at a tie, else 0, whatever g is; a NaN loses against nothing, as in PyTorch."""
    return where(ties, mul(g, 0.5), where(loses, 0.0, g))


@op(promote=ANY)
def _clamp(be: Backend, x: Array, *, min: Any, max: Any) -> Array:
    return be.fill("clamp", x.shape, x.dtype, x, min, max)


_clamp.name = "clamp"
_clamp.rules(x=lambda g, x, min, max: where(_inside(x, min, max), g, 0.0))


def _inside(x: Any, low: Any, high: Any) -> Any:
    return le(x, high) if low is None else ge(x, low) if high is None else logical_and(ge(x, low), le(x, high))


def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max]; numbers or Tensors. At a bound the derivative in x is 1; NaN stays NaN.

    >>> tl.clamp(tl.tensor([-2., 0.5, 2.]), -1, 1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    if min is None and max is None:
        raise ArgumentError("clamp: at least one of min and max must be given")
    if isinstance(min, Var) or isinstance(max, Var):
        x, *bounds = _together("clamp", x, *[bound for bound in (min, max) if bound is not None])
        x = x if min is None else where(ge(x, bounds[0]), x, maximum(x, bounds[0]))
        return x if max is None else where(le(x, bounds[-1]), x, minimum(x, bounds[-1]))
    if not x.is_floating_point():
        x = x.to(result_dtype([x.array, *(limit for limit in (min, max) if limit is not None)]))
    return _clamp(x, min=min, max=max)


@op
def _where(be: Backend, condition: Array, x: Array, y: Array) -> Array:
    return be.elementwise("where", condition, x, y, dtype=(y if type(x) in SCALARS else x).dtype)


_where.name = "where"
_where.rules(x=lambda g, condition: _where(condition, g, 0.0), y=lambda g, condition: _where(condition, 0.0, g))


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, x: Any, y: Any) -> Tensor: ...
def where(condition: Tensor, x: Any = None, y: Any = None) -> Any:
    """x where the condition holds, else y; with the condition alone, the indices where it holds.

    The gradient of the operand not chosen is 0; if its own derivative is inf or NaN there, 0·inf is NaN: choose a
    safe argument first (`sqrt(where(x > 0, x, 1))`), then the result.
    """
    require_tensors("where", condition)
    if x is None and y is None:
        return condition.nonzero(as_tuple=True)
    if condition.array.dtype.kind != "b":
        raise DTypeError(f"where: the condition must be bool, got {condition.dtype.name}; compare it: condition != 0")
    chosen, other = as_inputs("where", (condition, x, y))[1:]
    dtype = result_dtype([v if type(v) in SCALARS else v.array for v in (chosen, other)])
    if type(chosen) in SCALARS and type(other) in SCALARS:
        chosen = condition.new_full((), chosen, dtype=dtype)
    return _where(condition, *[v if type(v) in SCALARS else v.to(dtype) for v in (chosen, other)])


copysign = binary("copysign", "|x| with the sign of y (also of -0.0). The derivative at x = 0 is 0.", promote=FLOAT,
                  x=lambda g, x, out: mul(g, mul(sign(x), sign(out))), y=lambda g: mul(g, 0.0))
erf = unary("erf", "(2/√π) ∫₀ˣ exp(-t²) dt.", x=lambda g, x: mul(mul(g, exp(neg(square(x)))), 2 / math.sqrt(math.pi)))


def _together(name: str, *operands: Any) -> list[Any]:
    """The operands in the dtype in which all of them combine, so that no step computes in a smaller one."""
    values = as_inputs(name, operands)
    dtype = result_dtype([v if type(v) in SCALARS else v.array for v in values])
    return [v if type(v) in SCALARS else v.to(dtype) for v in values]


@computed_wide
def lerp(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    """x + weight·(end - x), for floating dtypes; from the nearer end, so that a weight of 1 gives `end` itself."""
    if not x.dtype.is_floating_point:
        raise DTypeError(f"lerp: expected a floating dtype, got {x.dtype.name}; use .float()")
    return _lerp(*_together("lerp", x, end, weight))


@op(promote=FLOAT)
def _lerp(be: Backend, x: Array, end: Array, weight: Any) -> Array:
    way = be.elementwise("sub", end, x)
    rest = 1.0 - weight if type(weight) in SCALARS else be.elementwise("sub", 1.0, weight)
    near, far = (be.elementwise("mul", way, part) for part in (weight, rest))
    near, far = be.elementwise("add", x, near), be.elementwise("sub", end, far)
    if type(weight) in SCALARS:
        return near if -0.5 < weight < 0.5 else far
    is_near = be.elementwise("lt", be.elementwise("abs", weight), 0.5, dtype=np.dtype(np.bool_))
    return be.elementwise("where", is_near, near, far, dtype=near.dtype)


_lerp.name = "lerp"
_lerp.rules(x=lambda g, weight: mul(g, sub(1.0, weight) if isinstance(weight, Var) else 1.0 - weight),
            end=lambda g, weight: mul(g, weight), weight=lambda g, x, end: mul(g, sub(end, x)))


@computed_wide
def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value·a·b."""
    x, a, b = _together("addcmul", x, a, b)
    return add(x, mul(a, b), alpha=value)


@computed_wide
def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value·a/b."""
    x, a, b = _together("addcdiv", x, a, b)
    return add(x, _div(a, b), alpha=value)


def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with NaN and the infinities replaced: by 0 and the largest finite values unless given."""
    if not x.dtype.is_floating_point:
        return x.clone()
    limits = finfo(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(eq(x, math.inf), limits.max if posinf is None else posinf, x)
    return where(eq(x, -math.inf), limits.min if neginf is None else neginf, x)


def isclose(x: Tensor, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x - y| <= atol + rtol·|y|, elementwise; equal infinities are close."""
    x, y = widened(x if x.dtype.is_floating_point else x.double()), widened(y)  # differences of uint8 would wrap
    close = logical_or(eq(x, y), logical_and(le(abs(sub(x, y)), add(mul(abs(y), rtol), atol)), isfinite(sub(x, y))))
    return logical_or(close, logical_and(isnan(x), isnan(y))) if equal_nan else close


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as a Python bool; see isclose."""
    return bool(isclose(x, y, rtol, atol, equal_nan).all())


def equal(x: Tensor, y: Tensor) -> bool:
    """Whether shapes and all elements are equal, as a Python bool."""
    return x.shape == y.shape and bool(eq(x, y).all())
