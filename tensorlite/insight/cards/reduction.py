"""Cards of reductions, scans and what normalises along a dimension: softmax and its kin."""

from __future__ import annotations

from .card import Card

_FOLD = "x of any shape; dim (an int, a tuple or None for all) goes away, or stays with size 1 for keepdim=True"
_ALONG = "x of any shape, along one dimension; the result has the same"

CARDS = (
    Card("sum", "sum(x)", {"x": "expand(g, shape_of(x))"},
         "Every element stands in the sum with factor 1, so every element gets the g of its sum: g is repeated.\n"
         "sum and expand are each other's derivative.", shapes=_FOLD, dtypes="integers and bools give int64"),
    Card("mean", "sum(x)/n", {"x": "expand(g, shape_of(x))/n"},
         "A sum in which every element has the factor 1/n.", where={"n": "count(x)"}, shapes=_FOLD,
         dtypes="floating only: of integers it raises DTypeError"),
    Card("var", "sum((x - mean(x))**2)/(n - correction)", {"x": "g*2*(x - mean(x))/(n - correction)"},
         "Let d = x - mean(x). Chain rule: Σ 2·d_j·∂d_j/∂x_i, where ∂d_j/∂x_i = [i = j] - 1/n.\n"
         "The part from the mean is -2/n·Σ d_j = 0, for deviations add up to 0. What is left is 2·d_i.",
         where={"n": "count(x)"}, shapes=_FOLD, dtypes="floating only"),
    Card("prod", "prod(x)", {"x": "g*others(x)"},
         "In one factor the product is a line, whose slope is the product of all other factors.\n"
         "They are multiplied from both ends, not as out/x: so zeros do no harm.\n"
         "others(x) is that product for each element.", shapes=_FOLD, dtypes="integers and bools give int64"),
    Card("amax", "top(x)", {"x": "g*(x == out)/sum(x == out)"},
         "Near a point with one largest element the result is a copy of it: slope 1 there, 0 elsewhere.",
         subgradient="equal shares for all that attain the maximum (max(dim) gives all to the returned index)",
         shapes=_FOLD, dtypes="NaN wins, and gets the gradient"),
    Card("amin", "bottom(x)", {"x": "g*(x == out)/sum(x == out)"},
         "Near a point with one smallest element the result is a copy of it: slope 1 there, 0 elsewhere.",
         subgradient="equal shares for all that attain the minimum (min(dim) gives all to the returned index)",
         shapes=_FOLD, dtypes="NaN wins, and gets the gradient"),
    Card("logsumexp", "log(sum(exp(x)))", {"x": "where(out == -inf, 0, g*exp(x - out))"},
         "Chain rule: 1/Σexp(x) · exp(x_i), which is exp(x_i - out): the softmax.\n"
         "Computed with the largest element taken out, so nothing overflows.",
         subgradient="0 where all elements are -inf", shapes=_FOLD),
    Card("cumsum", "cumsum(x)", {"x": "reverse(cumsum(reverse(g)))"},
         "x_i stands in the sums number i, i+1, ..., each time with factor 1: it gets Σ g_j over j ≥ i.\n"
         "That is a running sum from the other end.", shapes=_ALONG, dtypes="integers and bools give int64"),
    Card("cumprod", "cumprod(x)", {"x": "cumprod_grad(g, x)"},
         "x_i stands in the products j ≥ i. Σ_j g_j·Π_{k≤j, k≠i} x_k = (Π_{k<i} x_k)·r_i,\n"
         "with r_i = g_i + x_{i+1}·r_{i+1} from the end: no division, so zeros do no harm.", shapes=_ALONG,
         dtypes="integers and bools give int64"),
    Card("softmax", "exp(x)/sum(exp(x))", {"x": "out*(g - sum(g*out))"},
         "Let p = softmax(x). Quotient rule: ∂p_j/∂x_i = p_j·([i = j] - p_i).\n"
         "Chain rule: Σ_j g_j·p_j·([i = j] - p_i) = p_i·(g_i - Σ_j g_j·p_j).\n"
         "The probabilities add up to 1, so their gradient adds up to 0.\n"
         "Computed with the largest element taken out, which changes nothing but overflow.", shapes=_ALONG,
         dtypes="floating only"),
    Card("log_softmax", "x - log(sum(exp(x)))", {"x": "g - exp(out)*sum(g)"},
         "∂out_j/∂x_i = [i = j] - p_i, for the derivative of logsumexp is the softmax p = exp(out).\n"
         "Chain rule: Σ_j g_j·([i = j] - p_i) = g_i - p_i·Σ_j g_j.\n"
         "With g = -onehot it is p - onehot: the famous δ of softmax with cross entropy.", shapes=_ALONG,
         dtypes="floating only"),
    Card("softmax_grad", "y*(grad - sum(grad*y))",
         {"grad": "y*(g - sum(g*y))", "y": "g*(grad - sum(grad*y)) - grad*sum(g*y)"},
         "The rule of softmax as a kernel, y its result. The matrix diag(y) - y yᵀ is symmetric, so in grad the\n"
         "rule is its own transpose. In y, product rule: g·(grad - Σ grad·y), and from inside the sum -grad·Σ g·y.",
         shapes="grad and y of one shape"),
    Card("log_softmax_grad", "grad - exp(y)*sum(grad)",
         {"grad": "g - sum(g*exp(y))", "y": "-g*exp(y)*sum(grad)"},
         "The rule of log_softmax as a kernel, y its result. The matrix I - p 1ᵀ becomes I - 1 pᵀ when transposed.\n"
         "In y only exp(y) moves, and it is its own derivative.", shapes="grad and y of one shape"),
    Card("attained", "best", {"values": "g[targets]*share"},
         "The largest (or smallest) value scattered to each target: a copy of it, so it gets the g of its target.",
         subgradient="equal shares for all that attain the extremum", shapes="values (n,), result (targets,)"),
)
