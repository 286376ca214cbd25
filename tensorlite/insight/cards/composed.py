"""Cards of functions that are made of other operations: which ones, and why. The chain rule goes through those.

Where the whole has a simple derivative it is given too, and tested as an op's is.
"""

from __future__ import annotations

from .card import Card

_GRADIENT = "Nothing is computed: each element of the result is one of x, and g goes back to where it came from."
_INDEXED = "A gather at the places that were found; they are constants, so g goes to the elements chosen, others get 0."
_JOINED = "Each part gets the piece of g that lies where the part was put."


def composed(name: str, formula: str, made_of: str, derivation: str, derivatives: dict[str, str] | None = None,
             subgradient: str = "", shapes: str = "", where: dict[str, str] | None = None,
             missing: dict[str, float] | None = None) -> Card:
    """The card of a composed function; the formula is in the dialect where derivatives are given, else plain text."""
    return Card(name, formula, derivatives or {}, derivation, subgradient=subgradient, shapes=shapes,
                where=where or {}, missing=missing or {}, made_of=tuple(made_of.split()),
                executable=derivatives is not None)


_MATMUL = "matmul for these dimensions: see its card."
CARDS = (
    # arithmetic
    composed("addcmul", "x + value*a*b", "add mul", "A sum of x and a product; see add and mul.",
             {"x": "g", "a": "value*g*b", "b": "value*g*a"}),
    composed("addcdiv", "x + value*a/b", "add div", "A sum of x and a quotient; see add and div.",
             {"x": "g", "a": "value*g/b", "b": "-value*g*a/b**2"}),
    composed("nan_to_num", "x, with NaN and ±inf replaced by constants", "where",
             "What was replaced is a constant and gets 0; everything else is a copy."),
    composed("logsigmoid", "log(sigmoid(x))", "softplus mul",
             "-softplus(-x), finite for every finite x. Chain rule: σ(-x), for 1/σ(x)·σ(x)·(1 - σ(x)) = 1 - σ(x).",
             {"x": "g*sigmoid(-x)"}),
    composed("real", "x", "", "Tensors are real: x itself.", {"x": "g"}, shapes="any; the result has the same"),
    # products
    composed("mm", "x @ y", "matmul", _MATMUL, {"x": "g @ T(y)", "y": "T(x) @ g"}, shapes="(n, k) @ (k, m) -> (n, m)"),
    composed("bmm", "x @ y", "matmul", _MATMUL, {"x": "g @ T(y)", "y": "T(x) @ g"},
             shapes="(b, n, k) @ (b, k, m) -> (b, n, m)"),
    composed("mv", "einsum('ij,j->i', x, y)", "matmul reshape", _MATMUL,
             {"x": "einsum('i,j->ij', g, y)", "y": "einsum('ij,i->j', x, g)"}, shapes="(n, k) @ (k,) -> (n,)"),
    composed("dot", "einsum('i,i->', x, y)", "matmul reshape", "Σ xᵢ·yᵢ: linear in each xᵢ, with the slope yᵢ.",
             {"x": "g*y", "y": "g*x"}, shapes="(n,) · (n,) -> ()"),
    composed("outer", "einsum('i,j->ij', x, y)", "mul reshape",
             "xᵢ stands in row i, each time with a factor yⱼ: it gets Σⱼ gᵢⱼ·yⱼ.",
             {"x": "einsum('ij,j->i', g, y)", "y": "einsum('ij,i->j', g, x)"}, shapes="(n,) and (m,) -> (n, m)"),
    composed("addmm", "beta*input + alpha*(x @ y)", "matmul add mul", "A sum, and matmul's rules times alpha.",
             {"input": "beta*g", "x": "alpha*(g @ T(y))", "y": "alpha*(T(x) @ g)"}),
    composed("trace", "Σ xᵢᵢ", "diagonal sum", "A sum over the diagonal: its elements get g, all others 0."),
    composed("tensordot", "Σ over pairs of dimensions", "matmul permute reshape",
             "A matrix product once the paired dimensions are brought together and laid into one."),
    composed("einsum", "Σ over the letters that the result lacks, of the product of the operands",
             "matmul permute reshape expand diagonal sum",
             "Linear in each operand. Its gradient is an einsum again, with g in the operand's place:\n"
             "for 'ij,jk->ik', ∂L/∂x = einsum('ik,jk->ij', g, y)."),
    composed("conv1d", "conv2d of an image of height 1", "conv2d reshape", "See conv2d."),
    composed("conv_transpose2d", "each element adds the weight, times itself, to the window that conv2d reads there",
             "conv2d_input_grad", "It is conv2d's derivative in x: see conv2d_input_grad. Its own is conv2d."),
    composed("conv_transpose1d", "conv_transpose2d of an image of height 1", "conv2d_input_grad reshape",
             "See conv_transpose2d."),
    composed("group_norm", "(x - mean)/√(var + eps)·weight + bias, by groups of channels of a sample", "batch_norm",
             "batch_norm with the statistics of each sample's groups: the same rule, averages over other elements."),
    # reductions
    composed("std", "sqrt(sum((x - mean(x))**2)/(n - correction))", "var where sqrt mul",
             "√var. Chain rule: 1/(2·std) times var's derivative 2·(x - mean)/(n - correction).",
             {"x": "g*(x - mean(x))/((n - correction)*out)"}, "0 where the deviation is 0", where={"n": "count(x)"},
             missing={"correction": 1}),
    composed("norm", "sum(abs(x)**p)**(1/p)", "abs amax amin cast mul pow sqrt square sum where",
             "Chain rule with s = Σ|x|ᵖ: (1/p)·s^(1/p - 1)·p·|x|^(p-1)·sign(x), and s^(1/p - 1) = out^(1 - p).\n"
             "For p = 2 that is x/‖x‖: the unit vector along x. p = inf takes amax, p = -inf amin of |x|.",
             {"x": "g*sign(x)*(abs(x)/out)**(p - 1)"}, "0 at x = 0"),
    composed("max", "the largest element; of a dimension with its index; of two tensors elementwise",
             "amax index reshape maximum", "See amax for all elements, maximum for two tensors.\n" + _INDEXED,
             subgradient="ties: equal shares without dim; with dim all to the returned index"),
    composed("min", "the smallest element; of a dimension with its index; of two tensors elementwise",
             "amin index reshape minimum", "See amin for all elements, minimum for two tensors.\n" + _INDEXED,
             subgradient="ties: equal shares without dim; with dim all to the returned index"),
    composed("median", "the lower median", "amax index reshape slice where", _INDEXED,
             subgradient="ties: equal shares without dim; with dim all to the returned index"),
    composed("kthvalue", "the k-th smallest", "contiguous index reshape slice", _INDEXED),
    composed("sort", "x in order", "index", _INDEXED + "\nA permutation: every element gets the g of its new place."),
    composed("topk", "the k largest or smallest", "contiguous index slice", _INDEXED),
    composed("cummax", "the largest element so far", "cat expand index maximum reshape slice where", _INDEXED),
    composed("cummin", "the smallest element so far", "cat expand index maximum minimum reshape slice where", _INDEXED),
    composed("logcumsumexp", "ln of the running sums of exp(x)", "cat clone logaddexp slice",
             "Running logaddexp: x_i gets Σ over j ≥ i of g_j·exp(x_i - out_j)."),
    composed("diff", "x[i+1] - x[i], n times", "slice sub", "Each element stands in two differences, as 1 and as -1."),
    # reading and writing at places
    *(composed(name, formula, made_of, "An index: see its card. An element picked several times gets the sum.")
      for name, formula, made_of in (
          ("gather", "out[i][j] = x[index[i][j]][j] for dim 0", "index"),
          ("take", "x.flatten()[index]", "index reshape slice"),
          ("take_along_dim", "gather, with x and indices broadcast", "expand index"),
          ("index_select", "the listed slices of a dimension", "index"),
          ("masked_select", "the elements where the mask holds", "expand index slice"),
          ("repeat_interleave", "each slice repeated in place", "clone expand index reshape"),
          ("combinations", "all choices of r elements", "index reshape"), ("getitem", "x[key]", "index slice"))),
    composed("setitem", "x with value at key", "index_put slice slice_put", "See slice_put and index_put."),
    composed("scatter", "out[index[i][j]][j] = src[i][j] for dim 0", "index_put slice", "See index_put."),
    composed("scatter_add", "out[index[i][j]][j] += src[i][j] for dim 0", "add index_spread slice",
             "x gets g; each element of src gets the g of the place to which it was added."),
    composed("scatter_reduce", "src reduced into out[index[i][j]][j] for dim 0, by sum, mean, amax or amin",
             "add attained cast cat clamp cumsum div index index_spread reshape slice sub where",
             "A sum or mean passes g (over the count) to all that went into it, an extremum to those that attain it.",
             subgradient="equal extrema share"),
    composed("index_add", "out[index[i]] += alpha·source[i]", "add index_spread",
             "x gets g; each slice of the source gets alpha times the g of its place."),
    composed("index_copy", "out[index[i]] = source[i]", "index_put", "See index_put."),
    composed("index_fill", "out[index[i]] = value", "index_put", "See index_put."),
    composed("masked_fill", "where(mask, value, x)", "where", "What was filled is a constant: 0. The rest is a copy.",
             {"x": "where(mask, 0, g)"}),
    composed("masked_scatter", "the source's elements, in order, where the mask holds",
             "cat cumsum expand index reshape slice where", "See where and index."),
    composed("tril", "x below a diagonal, else 0", "where", "See where: g below the diagonal, else 0."),
    composed("triu", "x above a diagonal, else 0", "where", "See where: g above the diagonal, else 0."),
    # shapes
    *(composed(name, formula, made_of, _GRADIENT) for name, formula, made_of in (
        ("atleast_1d", "x with at least 1 dimension", "reshape"),
        ("atleast_2d", "x with at least 2 dimensions", "reshape"),
        ("atleast_3d", "x with at least 3 dimensions", "reshape"),
        ("flatten", "some dimensions laid into one", "reshape"),
        ("unflatten", "one dimension split into several", "reshape"), ("squeeze", "x without sizes of 1", "reshape"),
        ("unsqueeze", "x with a new size of 1", "reshape"), ("view", "x under another shape", "reshape"),
        ("t", "xᵀ", "permute"), ("transpose", "two dimensions exchanged", "permute"),
        ("movedim", "dimensions moved", "permute"), ("narrow", "x[..., start:start+length, ...]", "slice"),
        ("select", "x[..., index, ...]", "slice"), ("unbind", "all x[..., i, ...]", "slice"),
        ("split", "pieces of a size", "slice"), ("chunk", "at most so many pieces", "slice"),
        ("tensor_split", "exactly so many pieces", "slice"), ("fliplr", "columns reversed", "flip"),
        ("flipud", "rows reversed", "flip"), ("rot90", "turned by right angles", "clone flip permute"),
        ("roll", "elements moved round the end", "cat reshape slice"),
        ("diag", "a vector on a diagonal, or the diagonal of a matrix", "clone diagonal diagonal_place"))),
    *(composed(name, formula, made_of, "Repeated elements get the sum of what their repeats get: see expand.")
      for name, formula, made_of in (
          ("broadcast_to", "x repeated to a shape", "expand"),
          ("broadcast_tensors", "all repeated to one shape", "expand"),
          ("meshgrid", "vectors repeated to a grid", "expand permute reshape"),
          ("repeat", "x side by side so many times", "clone expand reshape"),
          ("tile", "x side by side so many times", "clone expand reshape"),
          ("cartesian_prod", "all tuples of one element each", "cat expand reshape"))),
    *(composed(name, formula, made_of, _JOINED) for name, formula, made_of in (
        ("stack", "parts along a new dimension", "cat reshape"), ("hstack", "parts side by side", "cat"),
        ("vstack", "parts one below the other", "cat reshape"), ("dstack", "parts one behind the other", "cat reshape"),
        ("column_stack", "vectors as columns, side by side", "cat reshape"))),
)
