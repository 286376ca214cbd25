"""Cards of further functions of numbers, products and statistics that are made of other operations."""

from __future__ import annotations

from .composed import composed

_COUNTED = {"n": "sum(where(isnan(x), 0, 1))"}

CARDS = (
    # numbers
    composed("logit", "log(x/(1 - x))", "clamp log sub div",
             "ln x - ln(1 - x), whose derivative is 1/x + 1/(1 - x) = 1/(x·(1 - x)): one over sigmoid's slope.\n"
             "With eps, x is limited to [eps, 1 - eps] first: see clamp.", {"x": "g/(x*(1 - x))"}),
    composed("deg2rad", "x*pi/180", "mul", "A constant factor.", {"x": "g*pi/180"}),
    composed("rad2deg", "x*180/pi", "mul", "A constant factor.", {"x": "g*180/pi"}),
    composed("frac", "x - trunc(x)", "trunc sub", "Between the jumps of trunc it is x minus a constant: slope 1.",
             {"x": "g"}, "1 at the jumps"),
    composed("fmax", "where((x >= y) | isnan(y), x, y)", "where", "A copy of the larger one, which gets g.",
             {"x": "where((x >= y) | isnan(y), g, 0)", "y": "where((x >= y) | isnan(y), 0, g)"}, "all to x at a tie"),
    composed("fmin", "where((x <= y) | isnan(y), x, y)", "where", "A copy of the smaller one, which gets g.",
             {"x": "where((x <= y) | isnan(y), g, 0)", "y": "where((x <= y) | isnan(y), 0, g)"}, "all to x at a tie"),
    composed("clamp_max", "where(x > max, max, x)", "clamp", "clamp with one limit.", {"x": "g*(x <= max)"},
             "1 at the limit"),
    composed("clamp_min", "where(x < min, min, x)", "clamp", "clamp with one limit.", {"x": "g*(x >= min)"},
             "1 at the limit"),
    # products
    composed("addmv", "beta*input + alpha*einsum('ij,j->i', mat, vec)", "matmul reshape add",
             "A sum, and mv's rules times alpha.",
             {"input": "beta*g", "mat": "alpha*einsum('i,j->ij', g, vec)", "vec": "alpha*einsum('ij,i->j', mat, g)"}),
    composed("baddbmm", "beta*input + alpha*(batch1 @ batch2)", "matmul add mul", "A sum, and bmm's rules times alpha.",
             {"input": "beta*g", "batch1": "alpha*(g @ T(batch2))", "batch2": "alpha*(T(batch1) @ g)"}),
    composed("inner", "Σ over the last dimension of both", "matmul mul permute reshape", "See matmul: x yᵀ."),
    composed("cross", "the cross product along a dimension of size 3", "cat contiguous mul permute slice sub",
             "Linear in both: ∂L/∂x = cross(y, g) and ∂L/∂y = cross(g, x), for the volume g·cross(x, y) is the same\n"
             "when its three edges move on by one place."),
    composed("kron", "each element of x times the whole of y, in blocks", "mul reshape",
             "An element of x gets Σ g·y over its block; y gets the sum of all blocks of g, each times its x."),
    composed("cdist", "‖x₁ᵢ - x₂ⱼ‖ₚ for all pairs", "sub norm reshape", "See norm, and sub for the pairs of rows."),
    composed("diagflat", "a matrix with x on a diagonal", "diagonal_place reshape", "x gets the diagonal of g."),
    # statistics
    composed("nansum", "sum(where(isnan(x), 0, x))", "sum where", "What is NaN is replaced by a constant and gets 0.",
             {"x": "where(isnan(x), 0, g)"}),
    composed("nanmean", "sum(where(isnan(x), 0, x))/n", "cast div sum where",
             "A mean over the n elements that are not NaN: they get g/n, the others 0.",
             {"x": "where(isnan(x), 0, g/n)"}, where=_COUNTED),
    composed("aminmax", "the smallest and the largest", "amin amax", "See amin and amax; both gradients add up."),
    composed("var_mean", "variance and mean", "var mean", "See var and mean; both gradients add up."),
    composed("std_mean", "standard deviation and mean", "std mean", "See std and mean; both gradients add up."),
    composed("msort", "x in order along the first dimension", "index", "A permutation: g goes back; see sort."),
    composed("quantile", "the values below which a share q of the elements lies",
             "add cast ceil contiguous expand floor index lerp mul permute reshape round sub where",
             "Between two neighbours in order it is a weighted mean of both: they get g times their weights."),
    composed("cov", "(x - mean)(x - mean)ᵀ/(n - correction)", "mean sub matmul div permute reshape",
             "With d = x - mean: ∂L/∂d = (g + gᵀ) d/(n - correction); the mean of d is 0, so nothing goes through it."),
    composed("corrcoef", "cov divided by both deviations", "cov diagonal sqrt div clamp reshape",
             "Quotient rule through cov and the roots of its diagonal."),
)
