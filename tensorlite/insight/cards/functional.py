"""Cards of the functions of nn.functional that are made of operations: activations, losses, layers."""

from __future__ import annotations

from .composed import composed

_SHARE = "shared(g, input, reduction)"
_D = {"d": "input - target", "s": _SHARE}
_REDUCED = "input and target of one shape; a number for 'mean' and 'sum', their shape for 'none'"
_REDUCTION = "\ns is what each element gets of g: g/n for 'mean', g for 'sum' and 'none'."

CARDS = (
    # activations
    composed("celu", "where(input > 0, input, alpha*(exp(input/alpha) - 1))", "elu mul",
             "elu whose left branch has slope 1 at 0 for every alpha: the chain rule's 1/alpha cancels alpha.",
             {"input": "g*where(input > 0, 1, exp(input/alpha))"}),
    composed("selu", "1.0507009873554805*where(input > 0, input, 1.6732632423543772*(exp(input) - 1))", "elu mul",
             "A scaled elu, whose constants keep mean 0 and variance 1 from layer to layer.",
             {"input": "1.0507009873554805*g*where(input > 0, 1, 1.6732632423543772*exp(input))"},
             "the left branch's slope at 0"),
    composed("hardtanh", "max(min(input, max_val), min_val)", "clamp where",
             "Inside the limits slope 1, outside 0.", {"input": "g*(input > min_val)*(input < max_val)"},
             "0 at both corners, as in PyTorch (clamp has 1 there)"),
    composed("relu6", "max(min(input, 6), 0)", "clamp where", "hardtanh with the limits 0 and 6.",
             {"input": "g*(input > 0)*(input < 6)"}, "0 at 0 and at 6"),
    composed("hardsigmoid", "max(min(input/6 + 1/2, 1), 0)", "clamp where mul add",
             "Slope 1/6 between -3 and 3, else 0.", {"input": "g*(abs(input) < 3)/6"}, "0 at ±3"),
    composed("hardswish", "input*max(min(input + 3, 6), 0)/6", "add clamp mul where",
             "Between -3 and 3 it is (x² + 3x)/6, with the slope (2x + 3)/6; 0 left of that, x right of it.",
             {"input": "g*where(input <= -3, 0, where(input >= 3, 1, (2*input + 3)/6))"}),
    composed("mish", "input*t", "softplus tanh mul",
             "Product rule: t + x·t'. Chain rule: t' = (1 - t²)·softplus'(x) = (1 - t²)·σ(x).",
             {"input": "g*(t + input*(1 - t**2)*sigmoid(input))"}, where={"t": "tanh(softplus(input))"}),
    composed("prelu", "where(input > 0, input, channel(weight, input)*input)", "where mul reshape",
             "A leaky_relu whose slope is learned: it gets Σ g·x over the elements left of 0.",
             {"input": "g*where(input > 0, 1, channel(weight, input))",
              "weight": "channel_sum(where(input > 0, 0, g*input))"}, "the left branch's slope at 0"),
    composed("softmin", "exp(-input)/sum(exp(-input))", "neg softmax", "softmax(-x): its rule, with the sign of -x.",
             {"input": "-out*(g - sum(g*out))"}),
    composed("tanhshrink", "input - tanh(input)", "tanh sub", "1 - (1 - tanh²) = tanh².",
             {"input": "g*tanh(input)**2"}),
    # losses
    composed("mse_loss", "reduced((input - target)**2, reduction)", "sub square mean sum",
             "L = (ŷ - y)²; chain rule: 2·(ŷ - y) times 1. With ½ in front it would be δ = ŷ - y." + _REDUCTION,
             {"input": "2*d*s", "target": "-2*d*s"}, where=_D, shapes=_REDUCED),
    composed("l1_loss", "reduced(abs(input - target), reduction)", "sub abs mean sum",
             "The slope of |d| is sign(d): every error pulls equally hard." + _REDUCTION,
             {"input": "sign(d)*s", "target": "-sign(d)*s"}, "0 where d = 0", shapes=_REDUCED, where=_D),
    composed("huber_loss", "reduced(where(abs(d) <= delta, d**2/2, delta*(abs(d) - delta/2)), reduction)",
             "sub clamp mul mean sum",
             "A parabola of slope d, that goes on as lines of slope ±delta: d limited to ±delta." + _REDUCTION,
             {"input": "max(min(d, delta), -delta)*s", "target": "-max(min(d, delta), -delta)*s"}, where=_D,
             shapes=_REDUCED),
    composed("smooth_l1_loss", "reduced(where(abs(d) < beta, d**2/2/beta, abs(d) - beta/2), reduction)",
             "sub clamp mul mean sum", "huber_loss divided by beta: slope d/beta, limited to ±1." + _REDUCTION,
             {"input": "max(min(d/beta, 1), -1)*s", "target": "-max(min(d/beta, 1), -1)*s"}, where=_D,
             shapes=_REDUCED),
    composed("binary_cross_entropy_with_logits", "reduced(softplus(input) - target*input, reduction)",
             "neg softplus mul sub add mean sum",
             "-(t·ln σ(x) + (1-t)·ln σ(-x)), where ln σ(x) = -softplus(-x) = x - softplus(x).\n"
             "softplus' = σ, so δ = σ(x) - t: prediction minus target, with nothing that saturates.\n"
             "`weight` multiplies elements, `pos_weight` the part with t." + _REDUCTION,
             {"input": "(sigmoid(input) - target)*s", "target": "-input*s"}, where={"s": _SHARE}, shapes=_REDUCED),
    composed("kl_div", "reduced(target*(log(target) - input), reduction)", "where log sub mul mean sum",
             "Linear in the input, which is a log-probability. In the target, product rule: ln t + 1 - x.\n"
             "With log_target it is exp(t)·(t - x)." + _REDUCTION,
             {"input": "-target*s", "target": "(log(target) + 1 - input)*s"}, "0·ln 0 is 0", where={"s": _SHARE},
             shapes=_REDUCED),
    composed("nll_loss", "-x[i, target[i]], averaged over rows", "index neg where sum div mul cast reshape slice",
             "A gather of log-probabilities: the true class gets -g/N, all others 0. With log_softmax before it,\n"
             "it is cross_entropy, whose δ is softmax(z) - onehot.", shapes="input (N, C, ...), target (N, ...)"),
    # vectors
    composed("normalize", "input/max(sum(abs(input)**p)**(1/p), eps)", "norm div clamp",
             "For p = 2: n = ‖x‖, out = x/n; quotient rule: g/n - x·Σ(g·x)/n³ = (g - out·Σ g·out)/n.\n"
             "What only makes x longer changes nothing, so the part of g along x goes away.",
             {"input": "(g - out*sum(g*out))/max(sum(input**2)**0.5, eps)"}),
    composed("cosine_similarity", "x₁·x₂ / (max(‖x₁‖, eps)·max(‖x₂‖, eps))", "expand norm clamp div mul sum",
             "The product of two normalised vectors: see normalize and mul."),
    composed("pairwise_distance", "‖x₁ - x₂ + eps‖ₚ", "sub add norm",
             "See norm: for p = 2 the unit vector along x₁ - x₂."),
    composed("bilinear", "einsum('...i,kij,...j->...k', input1, weight, input2) + bias", "matmul reshape add",
             "Linear in each of the three: the gradient is the same sum with g in the place of the one.",
             {"input1": "einsum('...k,kij,...j->...i', g, weight, input2)",
              "input2": "einsum('...k,kij,...i->...j', g, weight, input1)",
              "weight": "einsum('nk,ni,nj->kij', rows(g), rows(input1), rows(input2))",
              "bias": "sum_to(g, shape_of(bias))"}),
    composed("embedding", "weight[input]", "index", "A gather of rows: a row gets the sum of g over all its uses.\n"
             "The row padding_idx gets nothing.", {"weight": "spread(g, input, shape_of(weight))"},
             shapes="input of any shape, weight (num, dim) -> (*input, dim)"),
    composed("embedding_bag", "the sum, mean or maximum of the rows of each bag",
             "index mean reshape slice sum where",
             "See embedding: each row gets the g of its bag, over the bag's size for a mean; of a maximum only where "
             "it is attained."),
    # layers
    composed("instance_norm", "(x - mean)/√(var + eps)·weight + bias, for each channel of each sample", "batch_norm",
             "batch_norm with the statistics of each sample's channels: see its card."),
    composed("local_response_norm", "x / (k + alpha·mean of x² over neighbouring channels)^beta",
             "square pad slice add mul pow div",
             "Quotient rule: through the channel itself, and through its neighbours' sum."),
    *(composed(name, "dropout of whole channels", "dropout mul", "See dropout: one number of the mask per channel.")
      for name in ("dropout1d", "dropout2d")),
    composed("apply_rotary", "(a·cos - b·sin, a·sin + b·cos) for each pair (a, b)", "mul sub add slice cat reshape",
             "A rotation; its transpose turns g back by the same angle."),
    # pooling and images
    *(composed(name, formula, made_of, why) for name, formula, made_of, why in (
        ("avg_pool1d", "avg_pool2d of planes of height 1", "avg_pool2d reshape", "See avg_pool2d."),
        ("max_pool1d", "max_pool2d of planes of height 1", "max_pool2d reshape", "See max_pool2d."),
        ("adaptive_avg_pool1d", "means of windows, so many of them", "avg_pool2d reshape", "See avg_pool2d."),
        ("adaptive_avg_pool2d", "means of windows, so many of them", "avg_pool2d cat mean slice", "See avg_pool2d."),
        ("adaptive_max_pool1d", "largest of windows, so many of them", "max_pool2d reshape", "See max_pool2d."),
        ("adaptive_max_pool2d", "largest of windows, so many of them", "max_pool2d cat slice", "See max_pool2d."),
        ("max_unpool2d", "zeros, with each element where max_pool2d found it", "index_put reshape slice",
         "See index_put."),
        ("interpolate", "the nearest element, or weighted means of the neighbours", "index mul add",
         "Linear: each element gets the weights with which it entered, times g."),
        ("F.unfold", "windows of planes as columns", "unfold pad permute reshape",
         "Copies of elements, which add up where windows overlap; fold is its transpose."),
        ("fold", "columns added at their windows' places", "unfold_add reshape permute",
         "Each column gets what arrives in its window; unfold is its transpose."),
        ("channel_shuffle", "channels in another order", "reshape permute", "A permutation: g goes back."),
        ("pixel_shuffle", "r² channels as r x r pixels", "reshape permute", "A permutation: g goes back."),
        ("pixel_unshuffle", "r x r pixels as r² channels", "reshape permute", "A permutation: g goes back."))),
)
