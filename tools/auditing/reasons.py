"""Why a row is not exact. Each reason is a paragraph of docs/audit.md; a row's note names those that hold for it.

A row is exact if every figure is at most half a unit in the last place, all of PyTorch's aspects are the same, and a
captured step gives the same bits. `tests/test_audit.py` wants a reason for every other row, and no reason without one.
"""

from __future__ import annotations

from typing import Any

EXACT = 0.5

TEXTS = {
    "library":
        "The function is the C library's, NumPy's or a polynomial of our own, none of which promises the last "
        "bit.",
    "steps": "Composed of several operations, each of which rounds its result.",
    "sum":
        "A sum of n terms: each addition rounds, and the error is at most n·eps/2 of the terms' sum. Where "
        "the terms cancel, the unit in the last place of the result is small, and the strict figure says "
        "nothing; the one in units of the terms does.",
    "cancels":
        "The formula subtracts nearly equal numbers where its result is small (1 + erf, 1 - tanh²): exact to "
        "the terms, not to the result.",
    "jump":
        "The function jumps, and its argument (a quotient, say) is rounded before: at a point next to a jump "
        "it takes the other side, as PyTorch does.",
    "overflow": "A factor overflows on the way to a finite result, as in PyTorch.",
    "chain": "The derivative is a product or sum of rounded factors.",
    "differences":
        "The row's reference only knows floats: results are compared with float64, gradients with differences in "
        "float64, which are good to 1e-12. In float64 the figure is that of the reference.",
    "denormal":
        "Derivatives and norms flush denormal numbers (docs/cpu.md): digits below the smallest normal number "
        "are lost, and not counted.",
    "host": "Reads values on the host (a shape or a decision depends on them), so a captured step refuses it.",
    "random": "Draws random numbers; a replay draws new ones.",
}
"""By its name, what a reason says."""


_OPS = {
    "library": """acos acosh asin asinh atan atan2 atanh cos cosh erf exp exp2 expm1 log log10 log1p log2 logaddexp pow
        rsqrt sigmoid sin sinh tan tanh""",
    "steps": """binary_cross_entropy_with_logits celu cumprod dropout dropout1d dropout2d elu elu_grad gaussian_nll_loss
        glu hardswish leaky_relu leaky_relu_grad local_response_norm logcumsumexp logsigmoid mish
        multi_margin_loss multilabel_soft_margin_loss prod rms_norm selu sigmoid_grad silu soft_margin_loss
        softmax_grad softplus softplus_grad softsign""",
    "sum": """adaptive_avg_pool1d adaptive_avg_pool2d add addcdiv addcmul addmm addmv apply_rotary avg_pool2d
        avg_pool2d_grad baddbmm batch_norm bilinear binary_cross_entropy bmm cdist conv1d conv2d
        conv2d_input_grad conv2d_weight_grad conv_transpose1d conv_transpose2d cosine_embedding_loss
        cosine_similarity cross cross_entropy cross_entropy_grad cumsum diff dot einsum fold group_norm gru
        hardsigmoid hinge_embedding_loss huber_loss index_add inner instance_norm interpolate kl_div l1_loss
        layer_norm layer_norm_grad layer_norm_weight_grad lerp linear linear_relu log_softmax log_softmax_grad
        logsumexp lstm margin_ranking_loss matmul max_pool2d_grad mean mm moments mse_loss mv nanmean nansum
        nll_loss norm normalize pairwise_distance poisson_nll_loss quantile rms_norm_grad rms_norm_weight_grad
        rnn scaled_dot_product_attention scatter_add scatter_reduce silu_grad smooth_l1_loss softmax softmin std
        std_mean sum tanh_grad tensordot trace track_moments triplet_margin_loss
        triplet_margin_with_distance_loss var var_mean""",
    "cancels": """gelu gelu_grad gelu_tanh_grad tanhshrink""",
    "jump": """div""",
    "overflow": """round""",
}

FORWARD: dict[str, tuple[str, ...]] = {
    op: tuple(reason for reason, ops in _OPS.items() if op in ops.split())
    for op in sorted({op for ops in _OPS.values() for op in ops.split()})}
"""Per op, why results are off by more than half a unit in the last place."""

GRADIENT: dict[str, str] = {
    "fmod": "jump", "gelu_tanh_grad": "cancels", "pow": "cancels",
}
"""Per op, why gradients are off by more than LARGE; up to there it is the chain's rounding."""

LARGE = 20
DIFFERENCES: dict[str, tuple[tuple[str, ...], str]] = {
    "adaptive_max_pool2d": (("empty",),
        "Planes of no channel are refused, as `max_pool2d` refuses them."),
    "all": (("values", "empty", "0-d", "ties",),
        "uint8 gives bool, as every other dtype; PyTorch gives uint8, its bool of old."),
    "any": (("values", "empty", "0-d", "ties",),
        "uint8 gives bool, as every other dtype; PyTorch gives uint8, its bool of old."),
    "batch_norm": (("inf",),
        "Each value is centred before it is scaled; PyTorch folds both into one product, which makes NaN of "
        "an infinite weight. Where the input is infinite, the gradient is NaN."),
    "binary_cross_entropy": (("ties",),
        "The derivative in the target is bounded as the loss is; PyTorch's is infinite for inputs of 0 and 1, "
        "and rounds 1/1e-12."),
    "binary_cross_entropy_with_logits": (("inf",),
        "The terms of an infinite input or target are added in another order: inf - inf is NaN in one, not in "
        "the other."),
    "cdist": (("nan", "ties",),
        "The largest distance is that of `amax`: NaN spreads, and equal elements share the gradient."),
    "conv1d": (("nan", "inf",),
        "Padding meets NaN or infinity in the kernel: whether 0·NaN is computed depends on the algorithm, in "
        "PyTorch too."),
    "conv2d": (("nan", "inf",),
        "Padding meets NaN or infinity in the kernel: whether 0·NaN is computed depends on the algorithm, in "
        "PyTorch too."),
    "conv_transpose1d": (("inf",),
        "Padding meets NaN or infinity in the kernel: whether 0·NaN is computed depends on the algorithm, in "
        "PyTorch too."),
    "cosine_embedding_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "einsum": (("values", "inf", "empty", "ties", "broadcasting",),
        "The integer dtype is kept, as in a product and in NumPy; where a single operand is summed, PyTorch "
        "gives int64. Of three operands it multiplies others first: inf·0 is NaN in one order, not in the other."),
    "embedding_bag": (("nan",),
        "The maximum of a bag with NaN is NaN, as of `max`; PyTorch passes it over."),
    "gaussian_nll_loss": (("inf",),
        "The terms of an infinite input are added in another order: inf - inf is NaN in one, not in the "
        "other."),
    "gelu": (("inf",),
        "Infinity gives infinity; PyTorch's bfloat16 gives NaN."),
    "group_norm": (("values", "inf", "ties",),
        "Each value is centred before it is scaled; PyTorch folds both into one product, which loses digits "
        "where a group's variance is small, and makes NaN of an infinite weight."),
    "hardsigmoid": (("values", "inf", "0-d", "ties",),
        "PyTorch's derivative in float64 is 1/6 in float32: off by 1e-8."),
    "hinge_embedding_loss": (("0-d",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "huber_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "kl_div": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "kthvalue": (("values", "ties",),
        "Which of equal elements is taken PyTorch leaves open; here the first in order."),
    "l1_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "linear": (("broadcasting",),
        "The weight is a matrix and the bias a vector; PyTorch lets some others broadcast."),
    "logit": (("ties",),
        "At 0 and 1 the derivative is NaN or infinite, by the order of the operations."),
    "margin_ranking_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "median": (("empty",),
        "Of nothing there is no median, and it is refused; PyTorch's integers give the smallest number."),
    "mse_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "multi_margin_loss": (("nan",),
        "NaN spreads; PyTorch's comparison passes it over."),
    "pixel_unshuffle": (("empty",),
        "An empty batch is rearranged like any other; PyTorch returns it as it is."),
    "poisson_nll_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "pow": (("inf",),
        "Minus infinity to a power of ½ is the NaN of the square root; PyTorch's float16 alone gives "
        "infinity."),
    "scaled_dot_product_attention": (("nan", "inf", "empty", "broadcasting",),
        "Rows that may look at nothing, and keys of which there are none, give zeros; PyTorch gives NaN where "
        "it meets NaN or infinity."),
    "setitem": (("values", "inf", "ties", "broadcasting",),
        "A value that a later one overwrites has derivative 0; PyTorch gives it that of the place, where an index "
        "stands twice."),
    "sign": (("nan",),
        "NaN gives NaN, as in NumPy; PyTorch gives 0."),
    "smooth_l1_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "std_mean": (("inf",),
        "The mean of an infinite row is infinite, as that of `mean`; PyTorch's single pass gives NaN."),
    "tensordot": (("broadcasting",),
        "Dimensions that are summed over must be equal; PyTorch repeats one of size 1."),
    "topk": (("values", "ties",),
        "Which of equal elements is taken PyTorch leaves open; here the first in order."),
    "triplet_margin_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "triplet_margin_with_distance_loss": (("broadcasting",),
        "Shapes that differ are refused: they would broadcast to a wrong loss."),
    "var_mean": (("inf",),
        "The mean of an infinite row is infinite, as that of `mean`; PyTorch's single pass gives NaN."),
}
"""Per op, the aspects in which PyTorch's results are others, and why."""


def note(row: dict[str, Any]) -> str:
    """The names of the reasons that hold for a row, with commas between."""
    names: list[str] = []
    if _is_off(row["forward_ulp"], EXACT):
        names += FORWARD.get(row["op"], ())
    if row["gradient_error"] != 0 and _is_off(row["gradient_error"], EXACT) and row["double_gradient"] is not None:
        names.append(GRADIENT.get(row["op"], "chain"))
    names += ["differences" if "reference" in row else "", "denormal" if row.get("denormal") else "",
              OUTCOMES.get(row["captured"], ""),
              "torch" if differing(row) else ""]
    return ", ".join(dict.fromkeys(filter(None, names)))


OUTCOMES = {"refused": "host", "draws new numbers": "random"}


def differing(row: dict[str, Any]) -> list[str]:
    """The aspects in which PyTorch gives something else."""
    aspects: str = (row["parity"] or {}).get("differs", "")
    return aspects.split()


def _is_off(figure: float | None, limit: float) -> bool:
    return figure is None or figure > limit


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    """Rows that are not exact and do not say why, and reasons that no row needs any more."""
    found = set()
    forward, gradient, differences = set(), set(), set()
    for row in rows:
        op = row["op"]
        if _is_off(row["forward_ulp"], EXACT) and "reference" not in row:
            forward.add(op)
        if row["double_gradient"] is not None and "reference" not in row and _is_off(row["gradient_error"], LARGE):
            gradient.add(op)
        differences |= {(op, aspect) for aspect in differing(row)}
        if row["double_gradient"] == "wrong":
            found.add(f"{op} {row['dtype']} {row['device']}: the second derivative is wrong")
        if row["captured"] == "differs":
            found.add(f"{op} {row['dtype']} {row['device']}: a captured step gives other numbers")
    known = {(op, aspect) for op, (aspects, _) in DIFFERENCES.items() for aspect in aspects}
    ops = {row["op"] for row in rows}
    for what, seen, table in (("results", forward, set(FORWARD)), ("gradients", gradient, set(GRADIENT)),
                              ("differences to PyTorch", differences, known)):
        found |= {f"{what} without a reason: {x}" for x in seen - table}
        found |= {f"a reason that no row needs: {what} of {x}" for x in table - seen
                  if (x if isinstance(x, str) else x[0]) in ops}
    return sorted(found)
