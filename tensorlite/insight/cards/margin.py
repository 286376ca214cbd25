"""Cards of losses with margins, likelihoods, and activations that cut off."""

from __future__ import annotations

from .composed import composed

_S = {"s": "shared(g, input, reduction)"}
_PAIR = {"s": "shared(g, input1, reduction)", "m": "margin - target*(input1 - input2)"}
_GAUSS = {"s": "shared(g, input, reduction)", "v": "max(var, eps)", "d": "input - target"}
_HINGE = "A hinge max(0, m): slope 1 where the margin m is violated, else 0."

CARDS = (
    # activations
    composed("threshold", "where(input > threshold, input, value)", "where",
             "Above the threshold a copy, below it a constant.", {"input": "g*(input > threshold)"},
             "0 at the threshold"),
    composed("hardshrink", "where(abs(input) > lambd, input, 0)", "abs where",
             "A copy beyond ±lambd, else the constant 0.", {"input": "g*(abs(input) > lambd)"}, "0 at ±lambd"),
    composed("softshrink", "input - max(min(input, lambd), -lambd)", "clamp sub",
             "Beyond ±lambd a line of slope 1, between them 0.", {"input": "g*(abs(input) > lambd)"}, "0 at ±lambd"),
    composed("rrelu", "where(input > 0, input, (lower + upper)/2*input)", "leaky_relu",
             "leaky_relu with a slope that training draws anew for each element; its mean in evaluation, as here.",
             {"input": "g*where(input > 0, 1, (lower + upper)/2)"}, "the left slope at 0"),
    composed("glu", "a·σ(b) for the halves a and b", "slice sigmoid mul",
             "Product rule: ∂L/∂a = g·σ(b), ∂L/∂b = g·a·σ(b)·(1 - σ(b)). The gate b opens and closes the way of a."),
    composed("gumbel_softmax", "softmax((x + noise)/tau), with noise from Gumbel's distribution",
             "add div log neg softmax",
             "The noise is a constant to the gradient, so it is softmax's rule over tau.\n"
             "With hard, the result is a one-hot vector, whose gradient is taken to be that of the soft one."),
    # losses
    composed("hinge_embedding_loss", "reduced(where(target == 1, input, max(0, margin - input)), reduction)",
             "add sub clamp where mean sum", _HINGE, {"input": "where(target == 1, s, -s*(input < margin))"},
             "0 at the corner", where=_S),
    composed("margin_ranking_loss", "reduced(max(0, m), reduction)", "sub mul clamp mean sum", _HINGE,
             {"input1": "-target*s*(m > 0)", "input2": "target*s*(m > 0)"}, "0 at the corner", where=_PAIR),
    composed("soft_margin_loss", "reduced(softplus(-target*input), reduction)", "neg mul softplus mean sum",
             "softplus' = σ; chain rule with u = -t·x: -t·σ(-t·x).", {"input": "-target*sigmoid(-target*input)*s"},
             where=_S),
    composed("multilabel_soft_margin_loss", "binary_cross_entropy_with_logits, averaged over the classes first",
             "binary_cross_entropy_with_logits mul mean sum",
             "See binary_cross_entropy_with_logits: δ = (σ(x) - t)/(N·C)."),
    composed("multi_margin_loss", "Σ max(0, margin - x_y + x_j)ᵖ over classes j ≠ y, over C",
             "index add sub relu mul reshape sum mean where",
             _HINGE + "\nx_j gets +1/C for each violation, x_y the negative sum."),
    composed("cosine_embedding_loss", "1 - cos for target 1, max(0, cos - margin) for -1",
             "cosine_similarity add sub clamp where mean sum", "See cosine_similarity. " + _HINGE),
    composed("triplet_margin_loss", "max(0, d(a, p) - d(a, n) + margin)", "pairwise_distance sub add clamp mean sum",
             _HINGE + "\nThe anchor is pulled to the positive and pushed from the negative: see pairwise_distance."),
    composed("triplet_margin_with_distance_loss", "max(0, d(a, p) - d(a, n) + margin), with your own distance d",
             "pairwise_distance sub add clamp mean sum", "See triplet_margin_loss."),
    composed("poisson_nll_loss", "reduced(exp(input) - target*input, reduction)", "exp mul sub mean sum",
             "exp(x) is the rate: δ = rate - count. Without log_input the rate itself is given: 1 - t/x.",
             {"input": "(exp(input) - target)*s", "target": "-input*s"}, where=_S),
    composed("gaussian_nll_loss", "reduced((log(v) + d**2/v)/2, reduction)",
             "clamp log sub square div add mul mean sum",
             "In the mean: d/v. In the variance: (1/v - d²/v²)/2, which is 0 where v is d²: the honest uncertainty.",
             {"input": "s*d/v", "target": "-s*d/v", "var": "s*(1/v - d**2/v**2)/2"}, where=_GAUSS),
)
