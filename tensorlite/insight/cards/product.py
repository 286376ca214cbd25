"""Cards of products: matrices, linear layers, convolutions and attention."""

from __future__ import annotations

from .card import Card

_ONE_DTYPE = "one floating dtype for all operands (integers in matmul stay integers); autocast lowers it to 16 bits"
_ATTENTION = {"K": "heads(k, q)", "V": "heads(v, q)", "s": "masked(scale*(q @ T(K)), mask, causal)",
              "p": "weights(s)", "d": "p*(g @ T(V) - rowsum(g*out))"}
_CONV = {"X": "patches(x, shape_of(weight))", "W": "filters(weight)", "G": "by_group(g)"}
_SHAPES = "x (N, C, H, W), weight (K, C/groups, R, S), bias (K,), result (N, K, P, Q)"

CARDS = (
    Card("matmul", "x @ y", {"x": "g @ T(y)", "y": "T(x) @ g"},
         "out_ij = Σ_k x_ik·y_kj, so x_ik stands in out_ij for every j, with the factor y_kj.\n"
         "Chain rule: ∂L/∂x_ik = Σ_j g_ij·y_kj, which is (g yᵀ)_ik. In the same way ∂L/∂y = xᵀ g.\n"
         "The shapes leave no other choice: (n, k) must come from (n, m) and (k, m).",
         shapes="(..., n, k) @ (..., k, m) -> (..., n, m); leading dimensions broadcast", dtypes=_ONE_DTYPE),
    Card("_matmul_tn", "T(x) @ y", {"x": "y @ T(g)", "y": "x @ g"},
         "The product xᵀ y without a copy of the transpose: matmul's rules with x and xᵀ exchanged.",
         shapes="(k, n) and (k, m) -> (n, m)", dtypes=_ONE_DTYPE),
    Card("linear", "x @ T(weight) + bias",
         {"x": "g @ weight", "weight": "T(rows(g)) @ rows(x)", "bias": "sum_to(g, shape_of(bias))"},
         "z = W x + b for every sample, the samples being rows. With δ = g: ∂L/∂b = δ, ∂L/∂W = δ xᵀ, ∂L/∂x = Wᵀ δ.\n"
         "Over a batch the samples' gradients add up: the outer products δ xᵀ are one matrix product gᵀ x,\n"
         "and the bias gets the sum over rows. rows(·) lays all leading dimensions into one.",
         shapes="x (..., in), weight (out, in), bias (out,) or None -> (..., out)", dtypes=_ONE_DTYPE),
    Card("linear_relu", "max(x @ T(weight) + bias, 0)",
         {"x": "d @ weight", "weight": "T(rows(d)) @ rows(x)", "bias": "sum_to(d, shape_of(bias))"},
         "Chain rule: first through the ReLU, δ = g where out > 0, else 0; then as in linear, with δ for g.",
         where={"d": "g*(out > 0)"}, subgradient="0 where out = 0, as relu", dtypes=_ONE_DTYPE,
         shapes="x (..., in), weight (out, in), bias (out,) or None -> (..., out)"),
    Card("conv2d", "einsum('ngcpqrs,gkcrs->ngkpq', X, W) + by_filter(bias)",
         {"x": "unpatch(einsum('ngkpq,gkcrs->ngcpqrs', G, W), shape_of(x))",
          "weight": "einsum('ngkpq,ngcpqrs->gkcrs', G, X)", "bias": "einsum('ngkpq->gk', G)"},
         "out[n,k,p,q] = Σ_crs weight[k,c,r,s]·x[n, c, p·stride + r·dilation - padding, ...] + bias[k].\n"
         "X are the patches of x under the filter, W the filters: for each patch it is a linear layer.\n"
         "So ∂L/∂weight = Σ δ·patch over all places, ∂L/∂bias = Σ δ, and each patch gets Σ_k δ_k·weight_k.\n"
         "Patches overlap, and their gradients add up in x: a transposed convolution.",
         where=_CONV, shapes=_SHAPES, dtypes=_ONE_DTYPE),
    Card("conv2d_input_grad", "unpatch(einsum('ngkpq,gkcrs->ngcpqrs', D, W), grown(grad, weight, size)) + "
         "by_channel(bias)",
         {"grad": "einsum('ngcpqrs,gkcrs->ngkpq', P, W)", "weight": "einsum('ngkpq,ngcpqrs->gkcrs', D, P)",
          "bias": "einsum('nchw->c', g)"},
         "The transposed convolution, which is also conv_transpose2d: each element adds the filter, times itself,\n"
         "to the window that conv2d reads there. Linear in grad and in weight.\n"
         "Its transpose in grad is conv2d again; in the weight, grad and g change places.",
         where={"D": "by_group(grad)", "W": "filters(weight)", "P": "patches(g, shape_of(weight))"},
         shapes="grad (N, K, P, Q), weight (K, C/groups, R, S), bias (C,), result (N, C, H, W)", dtypes=_ONE_DTYPE),
    Card("conv2d_weight_grad", "einsum('ngkpq,ngcpqrs->gkcrs', by_group(grad), patches(x, (0, 0, *size)))",
         {"grad": "einsum('ngcpqrs,gkcrs->ngkpq', patches(x, (0, 0, *size)), filters(g))",
          "x": "unpatch(einsum('ngkpq,gkcrs->ngcpqrs', by_group(grad), filters(g)), shape_of(x))"},
         "The correlation of x with grad. It is linear in both: with g in the place of a weight its derivatives are\n"
         "conv2d and conv2d_input_grad. So derivatives of any order are one of these three.",
         shapes="grad (N, K, P, Q), x (N, C, H, W), result (K, C/groups, R, S)", dtypes=_ONE_DTYPE),
    Card("scaled_dot_product_attention", "p @ V",
         {"q": "scale*d @ K", "k": "fold_heads(scale*T(d) @ q, k)", "v": "fold_heads(T(p) @ g, v)"},
         "s = scale·q kᵀ are scores, p = softmax(s) weights, out = p v. Product: ∂L/∂v = pᵀ g, ∂L/∂p = g vᵀ.\n"
         "Softmax: ∂L/∂s = p·(∂L/∂p - Σ p·∂L/∂p), and Σ_j p_j (g vᵀ)_j = Σ g·out: so d needs no second pass over p.\n"
         "Product again: ∂L/∂q = scale·d k, ∂L/∂k = scale·dᵀ q. No scores are kept: p = exp(s - lse) is made anew.",
         subgradient="0 in rows that may look at nothing", where=_ATTENTION,
         shapes="q (N, H, L, E), k (N, Hk, S, E), v (N, Hk, S, Ev) -> (N, H, L, Ev); Hk divides H", dtypes=_ONE_DTYPE),
)
