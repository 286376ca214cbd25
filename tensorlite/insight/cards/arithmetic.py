"""Cards of arithmetic, comparisons as choices, rounding and limits: elementwise operations of one or two operands."""

from __future__ import annotations

import math

from .card import Card

_TWO = "x and y broadcast; where one was repeated, its gradient is summed over the repeats"
_ONE = "any shape; the result has the same"
_STEP = ("Between its jumps the function is constant, so its slope is 0 wherever it has one: no gradient comes\n"
         "through. To train through it anyway, add a gradient by hand: x + (round(x) - x).detach().")

CARDS = (
    Card("add", "x + alpha*y", {"x": "g", "y": "alpha*g"},
         "Moving x by dx moves the result by dx, moving y moves it by alpha·dy: a sum passes g to each operand.\n"
         "A tensor used in two places gets the sum of both gradients for the same reason.", shapes=_TWO,
         dtypes="for bools the result is x or y"),
    Card("sub", "x - alpha*y", {"x": "g", "y": "-alpha*g"},
         "A sum with -alpha·y: x gets g, y gets g times the factor that stands before it.", shapes=_TWO),
    Card("neg", "-x", {"x": "-g"}, "The factor -1 is the derivative.", shapes=_ONE),
    Card("mul", "x*y", {"x": "g*y", "y": "g*x"},
         "With y held fixed, x·y is a line in x of slope y; with x held fixed, a line in y of slope x.\n"
         "Each operand's gradient is g times the other operand, so both are kept for backward.", shapes=_TWO,
         dtypes="for bools the result is x and y"),
    Card("div", "x/y", {"x": "g/y", "y": "-g*x/y**2"},
         "In x a line of slope 1/y. In y: x·y⁻¹ has the derivative -x·y⁻².\n"
         "It is computed as -(g·(x/y))/y, which overflows later than y² does.", shapes=_TWO),
    Card("floor_divide", "floor(x/y)", {"x": "0*g", "y": "0*g"}, _STEP, subgradient="0 at the jumps", shapes=_TWO,
         dtypes="integers stay integers; an integer divided by 0 raises ArgumentError"),
    Card("div_trunc", "trunc(x/y)", {"x": "0*g", "y": "0*g"}, _STEP, subgradient="0 at the jumps", shapes=_TWO),
    Card("lerp", "x + weight*(end - x)", {"x": "g*(1 - weight)", "end": "g*weight", "weight": "g*(end - x)"},
         "The point at `weight` of the way from x to end: linear in both, and in the weight.\n"
         "With the weight held fixed x has the factor 1 - weight and end the factor weight.",
         shapes="x, end and weight broadcast", dtypes="floating only"),
    Card("remainder", "x - y*floor(x/y)", {"x": "g", "y": "-g*floor(x/y)"},
         "⌊x/y⌋ is constant between its jumps, so what is left is x - k·y with a fixed k = ⌊x/y⌋:\n"
         "slope 1 in x, slope -k in y.", subgradient="at the jumps that of the side where x/y is larger", shapes=_TWO),
    Card("fmod", "x - y*trunc(x/y)", {"x": "g", "y": "-g*trunc(x/y)"},
         "As remainder, with the quotient rounded towards 0: x - k·y with a fixed k = trunc(x/y).",
         subgradient="at the jumps that of the side where |x/y| is larger", shapes=_TWO),
    Card("pow", "x**y", {"x": "where(y == 0, 0, g*y*x**(y - 1))", "y": "where((x == 0) & (y >= 0), 0, g*out*log(x))"},
         "In x: the power rule, y·x^(y-1).\n"
         "In y: x^y = exp(y·ln x), whose derivative in y is exp(y·ln x)·ln x = out·ln x.\n"
         "For x < 0 the logarithm, and so the gradient in y, is NaN.",
         subgradient="∂/∂x is 0 for y = 0, also at x = 0; ∂/∂y at x = 0 is 0 for y ≥ 0", shapes=_TWO),
    Card("square", "x**2", {"x": "2*g*x"}, "((x + h)² - x²)/h = 2x + h, which tends to 2x.", shapes=_ONE),
    Card("reciprocal", "1/x", {"x": "-g*out**2"},
         "x⁻¹ has the derivative -x⁻² = -(1/x)², which the result gives without x.", shapes=_ONE),
    Card("abs", "abs(x)", {"x": "g*sign(x)"}, "Slope 1 right of 0, slope -1 left of it.",
         subgradient="0 at x = 0, the middle of [-1, 1]", shapes=_ONE),
    Card("sign", "sign(x)", {"x": "0*g"}, _STEP, subgradient="0 at x = 0", shapes=_ONE,
         dtypes="NaN stays NaN, unlike in PyTorch"),
    Card("copysign", "copysign(x, y)", {"x": "g*sign(x)*sign(out)", "y": "0*g"},
         "The result is |x| or -|x|. |x| has the slope sign(x), and the sign in front is that of the result.\n"
         "In y it jumps at 0 and is constant elsewhere.", subgradient="0 at x = 0", shapes=_TWO),
    *(Card(name, f"{name}(x)", {"x": "0*g"}, _STEP, subgradient="0 at the jumps", shapes=_ONE,
           dtypes="integers and bools are copied")
      for name in ("floor", "ceil", "trunc")),
    Card("round", "round(x)", {"x": "0*g"}, _STEP, subgradient="0 at the jumps", shapes=_ONE,
         dtypes="halves go to the even neighbour; integers and bools are copied"),
    Card("maximum", "max(x, y)", {"x": "g*((x > y) + (x == y)/2)", "y": "g*((y > x) + (x == y)/2)"},
         "Near a point with x > y the result is x: slope 1 in x, 0 in y. And the other way round.",
         subgradient="a tie shares: ½ each, as in PyTorch", shapes=_TWO, dtypes="NaN wins"),
    Card("minimum", "min(x, y)", {"x": "g*((x < y) + (x == y)/2)", "y": "g*((y < x) + (x == y)/2)"},
         "Near a point with x < y the result is x: slope 1 in x, 0 in y. And the other way round.",
         subgradient="a tie shares: ½ each, as in PyTorch", shapes=_TWO, dtypes="NaN wins"),
    Card("clamp", "where(x < min, min, where(x > max, max, x))", {"x": "g*(x >= min)*(x <= max)"},
         "Inside the limits the result is x, with slope 1; outside it is a limit, whatever x is, with slope 0.",
         subgradient="1 at both limits, as in PyTorch", shapes=_ONE,
         missing={"min": -math.inf, "max": math.inf}),
    Card("where", "where(condition, x, y)", {"x": "where(condition, g, 0)", "y": "where(condition, 0, g)"},
         "Each element of the result is a copy of one operand, so g goes to the chosen one and 0 to the other.\n"
         "If the other's own derivative is inf or NaN there, 0·inf is NaN: make its argument safe first,\n"
         "as in where(x > 0, sqrt(where(x > 0, x, 1)), 0).", shapes="condition (bool), x and y broadcast"),
)
