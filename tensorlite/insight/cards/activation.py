"""Cards of the activations, and of the kernels that are their derivatives."""

from __future__ import annotations

from .card import Card

_SHAPES = "any shape; the result has the same"

CARDS = (
    Card("relu", "max(x, 0)", {"x": "g*(out > 0)"},
         "For x > 0 the result is x, with slope 1: g passes as it is.\n"
         "For x < 0 the result is 0 whatever x is, with slope 0: nothing passes, the unit is dead for this sample.\n"
         "out > 0 exactly where x > 0, so only the result is kept for backward.",
         subgradient="0 at x = 0, as in PyTorch; every number in [0, 1] would be a subgradient", shapes=_SHAPES,
         dtypes="integers and bools stay what they are"),
    Card("sigmoid", "1/(1 + exp(-x))", {"x": "g*out*(1 - out)"},
         "Write out = 1/u with u = 1 + exp(-x).\n"
         "Chain rule: ∂out/∂x = -1/u² · (-exp(-x)) = exp(-x)/u².\n"
         "exp(-x) = u - 1, so this is (1/u)·(1 - 1/u) = out·(1 - out).\n"
         "It is at most 1/4, at x = 0: through many sigmoids gradients shrink.", shapes=_SHAPES),
    Card("tanh", "(exp(x) - exp(-x))/(exp(x) + exp(-x))", {"x": "g*(1 - out**2)"},
         "tanh = sinh/cosh; sinh' = cosh and cosh' = sinh.\n"
         "Quotient rule: (cosh² - sinh²)/cosh² = 1 - (sinh/cosh)² = 1 - out².", shapes=_SHAPES),
    Card("leaky_relu", "where(x > 0, x, negative_slope*x)", {"x": "g*where(x > 0, 1, negative_slope)"},
         "Two straight lines that meet at 0: their slopes are 1 and negative_slope.",
         subgradient="negative_slope at x = 0", shapes=_SHAPES),
    Card("elu", "where(x > 0, x, alpha*(exp(x) - 1))", {"x": "g*where(x > 0, 1, alpha*exp(x))"},
         "Right of 0 a line of slope 1. Left of it the derivative of alpha·(exp(x) - 1) is alpha·exp(x).",
         subgradient="alpha at x = 0, the left branch's slope; for alpha = 1 both agree", shapes=_SHAPES),
    Card("silu", "x*s", {"x": "g*s*(1 + x*(1 - s))"},
         "Product rule: ∂(x·s)/∂x = s + x·s', with s' = s·(1 - s).\n"
         "Factor s out: s·(1 + x·(1 - s)). It is negative below x ≈ -1.28: silu is not monotone.",
         where={"s": "sigmoid(x)"}, shapes=_SHAPES),
    Card("gelu", "x*Phi(x)", {"x": "g*(Phi(x) + x*phi(x))"},
         "Φ is the distribution function of the standard normal, φ = Φ' its density, exp(-x²/2)/√(2π).\n"
         "Product rule: 1·Φ(x) + x·φ(x).", shapes=_SHAPES),
    Card("gelu_tanh", "x*s", {"x": "g*(s + x*s*(1 - s)*d)"},
         "An approximation of x·Φ(x): ½(1 + tanh(a)) = σ(2a), with a = √(2/π)·(x + 0.044715x³); here u = 2a.\n"
         "Product rule: s + x·∂s/∂x; chain rule: ∂s/∂x = s·(1 - s)·d, with d = ∂u/∂x.",
         where={"s": "sigmoid(u)", "u": "sqrt(8/pi)*(x + 0.044715*x**3)", "d": "sqrt(8/pi)*(1 + 0.134145*x**2)"},
         shapes=_SHAPES),
    Card("softplus", "where(beta*x > threshold, x, softplus(beta*x)/beta)",
         {"x": "g*where(beta*x > threshold, 1, sigmoid(beta*x))"},
         "softplus(u) = ln(1 + exp(u)), whose derivative is exp(u)/(1 + exp(u)) = σ(u).\n"
         "Chain rule with u = beta·x: σ(u)·beta/beta = σ(beta·x).\n"
         "Beyond the threshold the line x itself is taken, with slope 1: σ is 1 there up to rounding.", shapes=_SHAPES),
    Card("softsign", "x/(1 + abs(x))", {"x": "g/(1 + abs(x))**2"},
         "Quotient rule: ((1 + |x|) - x·sign(x))/(1 + |x|)², and x·sign(x) = |x|, which leaves 1 above.",
         subgradient="none needed: the derivative at 0 is 1 from both sides", shapes=_SHAPES),
    Card("relu_grad", "grad*(y > 0)", {"grad": "g*(y > 0)"},
         "The rule of relu as a kernel: y is relu's result. It is linear in grad.\n"
         "In y it is a step, so relu's second derivative is 0 wherever it exists.", shapes="grad and y of one shape"),
    Card("sigmoid_grad", "grad*y*(1 - y)", {"grad": "g*y*(1 - y)", "y": "g*grad*(1 - 2*y)"},
         "The rule of sigmoid as a kernel: y is the sigmoid's result.\n"
         "Linear in grad; in y the derivative of y - y² is 1 - 2y. Through y = σ(x) this gives the second derivative.",
         shapes="grad and y of one shape"),
    Card("tanh_grad", "grad*(1 - y**2)", {"grad": "g*(1 - y**2)", "y": "-2*g*grad*y"},
         "The rule of tanh as a kernel: y is tanh's result. Linear in grad; in y the derivative of 1 - y² is -2y.",
         shapes="grad and y of one shape"),
    Card("leaky_relu_grad", "grad*where(x > 0, 1, negative_slope)", {"grad": "g*where(x > 0, 1, negative_slope)"},
         "The rule of leaky_relu as a kernel. Linear in grad; its slope in x is 0 on both sides of the kink.",
         shapes="grad and x of one shape"),
    Card("elu_grad", "grad*where(x > 0, 1, alpha*exp(x))",
         {"grad": "g*where(x > 0, 1, alpha*exp(x))", "x": "g*grad*(x <= 0)*alpha*exp(x)"},
         "The rule of elu as a kernel. Linear in grad; in x only the exponential branch bends.",
         subgradient="the left branch's at x = 0", shapes="grad and x of one shape"),
    Card("silu_grad", "grad*s*(1 + x*(1 - s))",
         {"grad": "g*s*(1 + x*(1 - s))", "x": "g*grad*s*(1 - s)*(2 + x*(1 - 2*s))"},
         "The rule of silu as a kernel: s + x·w, with w = s·(1 - s), the slope of s.\n"
         "Its derivative in x: w + w + x·w', and w' = w·(1 - 2s).",
         where={"s": "sigmoid(x)"}, shapes="grad and x of one shape"),
    Card("gelu_grad", "grad*(Phi(x) + x*phi(x))",
         {"grad": "g*(Phi(x) + x*phi(x))", "x": "g*grad*(2 - x**2)*phi(x)"},
         "The rule of gelu as a kernel. φ'(x) = -x·φ(x), so the derivative of Φ + x·φ is φ + φ - x²·φ.",
         shapes="grad and x of one shape"),
    Card("gelu_tanh_grad", "grad*(s + x*w*d)",
         {"grad": "g*(s + x*w*d)", "x": "g*grad*w*(2*d + x*(1 - 2*s)*d**2 + x*e)"},
         "The rule of gelu_tanh as a kernel, with w = s·(1 - s), so that ∂s/∂x = w·d and ∂w/∂x = w·(1 - 2s)·d.\n"
         "Its derivative in x: w·d from s, and from x·w·d w·d + x·w·(1 - 2s)·d² + x·w·e by the product rule.\n"
         "Here e = ∂d/∂x.",
         where={"s": "sigmoid(u)", "w": "s*(1 - s)", "u": "sqrt(8/pi)*(x + 0.044715*x**3)",
                "d": "sqrt(8/pi)*(1 + 0.134145*x**2)", "e": "sqrt(8/pi)*0.26829*x"}, shapes="grad and x of one shape"),
    Card("softplus_grad", "grad*where(beta*x > threshold, 1, s)",
         {"grad": "g*where(beta*x > threshold, 1, s)", "x": "g*grad*(beta*x <= threshold)*beta*s*(1 - s)"},
         "The rule of softplus as a kernel. Linear in grad.\n"
         "Below the threshold the slope of σ(beta·x) is beta·s·(1-s).",
         where={"s": "sigmoid(beta*x)"}, shapes="grad and x of one shape"),
)
