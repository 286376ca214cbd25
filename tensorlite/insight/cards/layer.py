"""Cards of normalisation, pooling, dropout, recurrent layers and losses: what a kernel of its own does for a layer."""

from __future__ import annotations

from .card import Card

_ROWS = "x (..., rows); weight and bias of the shape of the normalised dimensions, or None"
_FLOAT = "floating only; autocast computes in float32"
_LAYER = {"n": "(x - mean(x))/s", "s": "sqrt(mean((x - mean(x))**2) + eps)"}
_RMS = {"n": "x/s", "s": "sqrt(mean(x**2) + eps)"}
_POOLED = "x (N, C, H, W) or (C, H, W) -> (N, C, P, Q)"
_MAX_PATCHES = {"p": "taken(x, windows, -inf)"}
_SOFTMAX = {"p": "weights(logits)", "y": "onehot(target, ignore_index, logits)", "N": "total(y)", "k": "rowsum(y)"}
_STANDARD = ("The statistics depend on x too. Write n = (x - m)/s and let a = ∂L/∂n. Through x - m alone: a/s;\n"
             "through m, 1/C of everything: -mean(a)/s; through s, as ∂s/∂x = n/C: -n·mean(a·n)/s.\n"
             "So a loses its mean and its part along n: what only shifts or scales a row changes nothing.")
_PEEPS = "x (steps, batch, in), states (batch, hidden); weights lie as in PyTorch"

CARDS = (
    Card("layer_norm", "n*weight + bias",
         {"x": "(a - mean(a) - n*mean(a*n))/s", "weight": "sum_to(g*n, shape_of(weight))",
          "bias": "sum_to(g, shape_of(bias))"},
         _STANDARD, where={**_LAYER, "a": "g*weight"}, missing={"weight": 1}, shapes=_ROWS, dtypes=_FLOAT),
    Card("layer_norm_grad", "(a - mean(a) - n*mean(a*n))/s",
         {"grad": "weight*u", "weight": "sum_to(grad*u, shape_of(weight))",
          "x": "-(n*(mean(g*a) - mean(g)*mean(a) - mean(g*n)*mean(a*n))/s + (h - mean(h) - n*mean(h*n))/s)/s"},
         "The rule of layer_norm as a kernel. In a the map is symmetric, so its transpose is itself: u.\n"
         "In x: s moves by n/C, which scales the result by -1/s; n moves as layer_norm's own rule says, by h.",
         where={**_LAYER, "a": "grad*weight", "u": "(g - mean(g) - n*mean(g*n))/s",
                "h": "g*mean(a*n) + a*mean(g*n)"}, missing={"weight": 1}, shapes=_ROWS, dtypes=_FLOAT),
    Card("layer_norm_weight_grad", "sum_to(grad*n, shape_of(out))",
         {"grad": "g*n", "x": "(a - mean(a) - n*mean(a*n))/s"},
         "Σ grad·n over the rows. Linear in grad. n gets a = g·grad, and x gets what layer_norm's rule makes of it.",
         where={**_LAYER, "a": "g*grad"}, shapes="grad and x of one shape; result that of a row", dtypes=_FLOAT),
    Card("rms_norm", "n*weight", {"x": "(a - n*mean(a*n))/s", "weight": "sum_to(g*n, shape_of(weight))"},
         "n = x/s. Let a = ∂L/∂n. Through x alone: a/s; through s, as ∂s/∂x = n/C: -n·mean(a·n)/s.\n"
         "What only scales a row changes nothing, so a loses its part along n.",
         where={**_RMS, "a": "g*weight"}, missing={"weight": 1}, shapes=_ROWS, dtypes=_FLOAT),
    Card("rms_norm_grad", "(a - n*mean(a*n))/s",
         {"grad": "weight*u", "weight": "sum_to(grad*u, shape_of(weight))",
          "x": "-(n*(mean(g*a) - mean(g*n)*mean(a*n))/s + (h - n*mean(h*n))/s)/s"},
         "The rule of rms_norm as a kernel. In a the map is symmetric, so its transpose is itself: u.\n"
         "In x: s moves by n/C, which scales the result by -1/s; n moves as rms_norm's own rule says, by h.",
         where={**_RMS, "a": "grad*weight", "u": "(g - n*mean(g*n))/s", "h": "g*mean(a*n) + a*mean(g*n)"},
         missing={"weight": 1}, shapes=_ROWS, dtypes=_FLOAT),
    Card("rms_norm_weight_grad", "sum_to(grad*n, shape_of(out))", {"grad": "g*n", "x": "(a - n*mean(a*n))/s"},
         "Σ grad·n over the rows. Linear in grad. n gets a = g·grad, and x gets what rms_norm's rule makes of it.",
         where={**_RMS, "a": "g*grad"}, shapes="grad and x of one shape; result that of a row", dtypes=_FLOAT),
    Card("batch_norm", "n*channel(weight, x) + channel(bias, x)",
         {"x": "where(training, a - average(a, var) - n*average(a*n, var), a)/s",
          "weight": "channel_sum(g*n)", "bias": "channel_sum(g)"},
         _STANDARD + "\nThe averages go over all elements that share a statistic: a channel, or a group of a sample.\n"
         "In evaluation m and s are constants, and only a/s is left.",
         where={"n": "(x - of_channels(mean, x))/s", "s": "sqrt(of_channels(var, x) + eps)",
                "a": "g*channel(weight, x)"}, missing={"weight": 1},
         shapes="x (N, C, ...), weight and bias (C,) or None; mean and var (C,), or (N, G) for groups", dtypes=_FLOAT),
    Card("max_pool2d", "largest(p)", {"x": "untaken(hit(p)*each(g), shape_of(x), windows)"},
         "The result is a copy of one element of each window, with slope 1: it gets the window's g, all others 0.\n"
         "p are the windows' elements, hit(p) is 1 at the largest. Where windows overlap, gradients add up.",
         subgradient="of equal elements the first one, row by row, gets all, as in PyTorch", where=_MAX_PATCHES,
         shapes=_POOLED, dtypes="floating only; NaN counts as the largest"),
    Card("max_pool2d_grad", "untaken(hit(p)*each(g), shape_of(x), windows)",
         {"g": "largest(where(hit(p), taken(g, windows, 0), -inf))"},
         "The rule of max_pool2d as a kernel, linear in its input g: its transpose picks the element at the place of\n"
         "each window's largest x. In x it is constant until another element becomes the largest.",
         where=_MAX_PATCHES, shapes="g (N, C, P, Q), x (N, C, H, W) -> (N, C, H, W)", dtypes="floating only"),
    Card("max_pool2d_pick", "largest(where(hit(p), taken(v, windows, 0), -inf))",
         {"v": "untaken(hit(p)*each(g), shape_of(x), windows)"},
         "For each window the element of v at the place of the largest x: linear in v, with max_pool2d's rule.",
         where=_MAX_PATCHES, shapes="v and x (N, C, H, W) -> (N, C, P, Q)", dtypes="floating only"),
    Card("avg_pool2d", "amount(taken(x, windows, 0))/n", {"x": "untaken(each(g/n), shape_of(x), windows)"},
         "A mean: every element of a window stands in it with the factor 1/n, and gets g/n.\n"
         "Where windows overlap, gradients add up. n counts a window's elements, with the padding or without it.",
         where={"n": "members(shape_of(x), windows, count_include_pad, divisor_override)"}, shapes=_POOLED,
         dtypes="floating only"),
    Card("avg_pool2d_grad", "untaken(each(g/n), (*shape_of(g)[:2], *plane), windows)",
         {"g": "amount(taken(g, windows, 0))/n"},
         "The rule of avg_pool2d as a kernel, linear in its input g: its transpose is the average again.",
         where={"n": "members(plane, windows, count_include_pad, divisor_override)"},
         shapes="g (N, C, P, Q) -> (N, C, H, W)", dtypes="floating only"),
    Card("dropout", "where(noise, scale*x, 0)", {"x": "where(noise, scale*g, 0)"},
         "A product with a constant random mask of 0 and 1/(1 - p): the gradient gets the same mask.\n"
         "Only the mask is kept (on a GPU 16 bytes, from which it is drawn again).",
         shapes="any; the result has the same", dtypes="integers become the default floating dtype"),
    Card("cross_entropy", "-total(where(y > 0, log(p), 0))/N", {"logits": "g*(k*p - y)/N"},
         "L = -ln p_t of the true class t; p = softmax(logits), y = onehot(t).\n"
         "-ln p_t = logsumexp(z) - z_t, and the derivative of logsumexp is the softmax: ∂L/∂z = p - y.\n"
         "The mean over N rows divides by N; k is 0 for rows that are ignored.\n"
         "δ = ŷ - y, as for the sigmoid with binary cross entropy.",
         where=_SOFTMAX, shapes="logits (N, C), target (N,) integers -> ()", dtypes=_FLOAT),
    Card("cross_entropy_grad", "grad*(k*p - y)/N",
         {"grad": "total(g*(k*p - y))/N", "logits": "grad*k*p*(g - rowsum(g*p))/N"},
         "The rule of cross_entropy as a kernel. Linear in grad; in the logits only the softmax p moves.",
         where=_SOFTMAX, shapes="grad (), logits (N, C), target (N,)", dtypes=_FLOAT),
    Card("binary_cross_entropy", "-(t*max(log(x), -100) + (1 - t)*max(log(1 - x), -100))",
         {"x": "g*(x - t)/max(x*(1 - x), 1e-12)", "t": "g*(max(log(1 - x), -100) - max(log(x), -100))"},
         "∂/∂x of -(t·ln x + (1-t)·ln(1-x)) is -t/x + (1-t)/(1-x) = (x - t)/(x·(1 - x)).\n"
         "Behind a sigmoid the factor x·(1 - x) cancels, and δ = ŷ - t is left: prefer the loss with logits.",
         subgradient="the divisor is at least 1e-12, so that saturated probabilities get a finite gradient",
         shapes="x and t of one shape; reduced by mean, sum or not at all", dtypes=_FLOAT),
    Card("rnn", "hₜ = φ(W_ih xₜ + W_hh hₜ₋₁ + b), φ = tanh or relu",
         {"x": "W_ihᵀ δₜ", "h0": "W_hhᵀ δ₁", "weight_ih": "Σₜ δₜ xₜᵀ", "weight_hh": "Σₜ δₜ hₜ₋₁ᵀ", "bias": "Σₜ δₜ"},
         "Unrolled over time it is a deep network whose layers share their weights.\n"
         "δₜ = (gₜ + W_hhᵀ δₜ₊₁)·φ'(zₜ) with zₜ the sum inside φ: backward walks the steps from the last one.\n"
         "Each step is a linear layer; the weights are used at every step, so their gradients add up.",
         shapes=_PEEPS, dtypes=_FLOAT, executable=False),
    Card("lstm", "cₜ = f·cₜ₋₁ + i·g̃, hₜ = o·tanh(cₜ), (i, f, g̃, o) = (σ, σ, tanh, σ)(W_ih xₜ + W_hh hₜ₋₁ + b)",
         {"x": "W_ihᵀ δₜ", "h0": "W_hhᵀ δ₁", "c0": "κ₁·f₁", "weight_ih": "Σₜ δₜ xₜᵀ", "weight_hh": "Σₜ δₜ hₜ₋₁ᵀ",
          "bias": "Σₜ δₜ", "weight_hr": "Σₜ ηₜ mₜᵀ, with mₜ = o·tanh(cₜ) and ηₜ what arrives at hₜ = W_hr mₜ"},
         "ηₜ = gₜ + W_hhᵀ δₜ₊₁ arrives at hₜ (with W_hr, W_hrᵀ ηₜ goes on),\n"
         "κₜ = ηₜ·o·(1 - tanh² cₜ) + κₜ₊₁·fₜ₊₁ at the cell.\n"
         "Through the sums: δ = (κ·g̃·i(1-i), κ·cₜ₋₁·f(1-f), κ·i·(1-g̃²), η·tanh(cₜ)·o(1-o)).\n"
         "Along the cells κ is only multiplied by f: where f is near 1, gradients live on over many steps.",
         shapes=_PEEPS, dtypes=_FLOAT, executable=False),
    Card("gru", "hₜ = (1 - z)·n + z·hₜ₋₁, (r, z) = σ(W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh), "
         "n = tanh(W_in xₜ + b_in + r·(W_hn hₜ₋₁ + b_hn))",
         {"x": "W_ihᵀ δₜ", "h0": "W_hhᵀ ε₁ + η₁·z₁", "weight_ih": "Σₜ δₜ xₜᵀ", "weight_hh": "Σₜ εₜ hₜ₋₁ᵀ",
          "bias_ih": "Σₜ δₜ", "bias_hh": "Σₜ εₜ"},
         "ηₜ arrives at hₜ. δ_n = η·(1-z)·(1-n²), δ_z = η·(hₜ₋₁ - n)·z(1-z), δ_r = δ_n·(W_hn hₜ₋₁ + b_hn)·r(1-r).\n"
         "ε is δ with r·δ_n in the place of δ_n: what the product with the state gets.\n"
         "ηₜ₋₁ = gₜ₋₁ + W_hhᵀ εₜ + ηₜ·z: where z is near 1, gradients live on over many steps.",
         shapes=_PEEPS, dtypes=_FLOAT, executable=False),
)
