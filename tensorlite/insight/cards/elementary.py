"""Cards of exponentials, logarithms, roots, and trigonometric and hyperbolic functions."""

from __future__ import annotations

from .card import Card

_ONE = "any shape; the result has the same"
_TWO = "x and y broadcast; where one was repeated, its gradient is summed over the repeats"

CARDS = (
    Card("exp", "exp(x)", {"x": "g*out"},
         "(exp(x + h) - exp(x))/h = exp(x)·(exp(h) - 1)/h, and (exp(h) - 1)/h tends to 1: exp is its own derivative.\n"
         "So the result is all that backward needs.", shapes=_ONE),
    Card("exp2", "2**x", {"x": "g*out*log(2)"},
         "2^x = exp(x·ln 2); chain rule: exp(x·ln 2)·ln 2.", shapes=_ONE),
    Card("expm1", "exp(x) - 1", {"x": "g*(out + 1)"},
         "The derivative of exp(x) - 1 is exp(x), which is the result plus 1.", shapes=_ONE),
    Card("log", "log(x)", {"x": "g/x"},
         "y = ln x means exp(y) = x. Differentiate both sides in x: exp(y)·y' = 1, so y' = 1/exp(y) = 1/x.",
         shapes=_ONE, dtypes="-inf at 0, with slope inf; NaN below"),
    Card("log2", "log2(x)", {"x": "g/(x*log(2))"}, "log₂ x = ln x / ln 2, so 1/x divided by ln 2.", shapes=_ONE),
    Card("log10", "log10(x)", {"x": "g/(x*log(10))"}, "log₁₀ x = ln x / ln 10, so 1/x divided by ln 10.", shapes=_ONE),
    Card("log1p", "log(1 + x)", {"x": "g/(1 + x)"},
         "Chain rule with u = 1 + x: 1/u times 1. The kernel is accurate near 0, where 1 + x rounds.", shapes=_ONE),
    Card("sqrt", "sqrt(x)", {"x": "g/(2*out)"},
         "y² = x. Differentiate both sides in x: 2y·y' = 1, so y' = 1/(2y), and y is the result.",
         subgradient="inf at 0, its true one-sided slope, as in PyTorch: 0·inf is NaN further up", shapes=_ONE),
    Card("rsqrt", "x**-0.5", {"x": "-g*out**3/2"},
         "Power rule: -½·x^(-3/2), and x^(-3/2) is the cube of the result.", shapes=_ONE),
    Card("logaddexp", "logaddexp(x, y)", {"x": "g*sigmoid(x - y)", "y": "g*sigmoid(y - x)"},
         "logaddexp(x, y) = ln(exp(x) + exp(y)), computed without overflow.\n"
         "Chain rule: exp(x)/(exp(x) + exp(y)); divide by exp(x): 1/(1 + exp(y - x)) = σ(x - y).\n"
         "The two shares add up to 1: it is the softmax of two numbers.",
         subgradient="½ each where both are the same infinity", shapes=_TWO),
    Card("sin", "sin(x)", {"x": "g*cos(x)"},
         "sin(x + h) = sin x·cos h + cos x·sin h; as h → 0, (cos h - 1)/h → 0 and sin(h)/h → 1. What is left is cos x.",
         shapes=_ONE),
    Card("cos", "cos(x)", {"x": "-g*sin(x)"},
         "cos x = sin(x + π/2); chain rule: cos(x + π/2) = -sin x.", shapes=_ONE),
    Card("tan", "tan(x)", {"x": "g*(1 + out**2)"},
         "tan = sin/cos; quotient rule: (cos² + sin²)/cos² = 1 + (sin/cos)² = 1 + out².", shapes=_ONE),
    Card("asin", "arcsin(x)", {"x": "g/sqrt(1 - x**2)"},
         "sin y = x gives cos y·y' = 1, and cos y = √(1 - sin² y) = √(1 - x²) for y in [-π/2, π/2].",
         subgradient="inf at ±1, its true slope", shapes=_ONE),
    Card("acos", "arccos(x)", {"x": "-g/sqrt(1 - x**2)"},
         "arccos x = π/2 - arcsin x, so the derivative is the negative one.", subgradient="-inf at ±1, its true slope",
         shapes=_ONE),
    Card("atan", "arctan(x)", {"x": "g/(1 + x**2)"},
         "tan y = x gives (1 + tan² y)·y' = 1, and tan² y = x².", shapes=_ONE),
    Card("atan2", "arctan2(x, y)", {"x": "g*y/r", "y": "-g*x/r"},
         "The angle of the point (y, x). Where y > 0 it is arctan(u) with u = x/y, and arctan'(u) = 1/(1 + u²).\n"
         "In x: 1/(1 + u²)·1/y = y/(y² + x²). In y: 1/(1 + u²)·(-x/y²) = -x/(y² + x²).",
         subgradient="0 at the origin", where={"r": "where((x == 0) & (y == 0), 1, x**2 + y**2)"}, shapes=_TWO),
    Card("sinh", "(exp(x) - exp(-x))/2", {"x": "g*(exp(x) + exp(-x))/2"},
         "The derivative of -exp(-x) is +exp(-x): sinh' = cosh.", shapes=_ONE),
    Card("cosh", "(exp(x) + exp(-x))/2", {"x": "g*(exp(x) - exp(-x))/2"},
         "The derivative of exp(-x) is -exp(-x): cosh' = sinh.", shapes=_ONE),
    Card("asinh", "log(x + sqrt(x**2 + 1))", {"x": "g/sqrt(x**2 + 1)"},
         "sinh y = x gives cosh y·y' = 1, and cosh y = √(sinh² y + 1) = √(x² + 1).", shapes=_ONE),
    Card("acosh", "log(x + sqrt(x**2 - 1))", {"x": "g/sqrt((x - 1)*(x + 1))"},
         "cosh y = x gives sinh y·y' = 1, and sinh y = √(cosh² y - 1) = √(x² - 1).\n"
         "As (x - 1)·(x + 1) the difference is exact near 1.", subgradient="inf at 1, its true slope", shapes=_ONE),
    Card("atanh", "log((1 + x)/(1 - x))/2", {"x": "g/(1 - x**2)"},
         "tanh y = x gives (1 - tanh² y)·y' = 1, and tanh² y = x².", shapes=_ONE),
    Card("erf", "erf(x)", {"x": "g*2/sqrt(pi)*exp(-x**2)"},
         "erf(x) = 2/√π·∫ exp(-t²) dt from 0 to x. The derivative of an integral in its upper end is the integrand.",
         shapes=_ONE),
)
