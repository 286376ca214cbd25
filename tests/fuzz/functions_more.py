"""Functions composed of others: statistics, counts, sums without NaN, distances, products, losses with margins."""

from __future__ import annotations

from typing import Any

from fuzz.calls import Call, Leaf
from fuzz.draw import Draw
from fuzz.functions_elementwise import tame, target
from fuzz.functions_nn import plain
from fuzz.functions_reduce import operands, untied
from fuzz.table import row


@row("absolute frac deg2rad rad2deg sgn isneginf isposinf")
def unary(d: Draw, name: str) -> Call:
    return Call(name, (d.leaf(d.shape()),), exact=True)


@row("fmax fmin greater greater_equal less less_equal not_equal")
def binary(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    return Call(name, (d.leaf(a), d.leaf(b)), exact=True)


@row("clamp_min clamp_max Tensor.clamp_min_ Tensor.clamp_max_")
def one_bound(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    x = target(d, a)
    return Call(
        name,
        (x, d.leaf(b, x.dtype) if d.chance(0.4) else d.pick((-0.5, 0, 1))),
        exact=True,
        in_place=name.endswith("_"),
    )


@row("logit")
def logit(d: Draw, name: str) -> Call:
    return Call(name, (d.leaf(d.shape(), d.floating(), "unit"),), {"eps": 0.1} if d.chance(0.5) else {})


@row("Tensor.cumsum_ Tensor.cumprod_")
def scan_in_place(d: Draw, name: str) -> Call:
    tame(d)
    x = target(d, d.shape())
    return Call(name, (x, d.dim(len(x.shape))), in_place=True)


@row(
    "Tensor.erf_ Tensor.expm1_ Tensor.frac_ Tensor.log10_ Tensor.log1p_ Tensor.log2_ Tensor.rsqrt_ Tensor.sign_",
    "Tensor.trunc_ Tensor.nan_to_num_",
)
def unary_in_place(d: Draw, name: str) -> Call:
    return Call(name, (target(d, d.shape()),), exact=True, in_place=True)


@row("Tensor.divide_ Tensor.multiply_ Tensor.subtract_ Tensor.fmod_")
def binary_in_place(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    x = target(d, a)
    return Call(
        name, (x, d.leaf(b, x.dtype, "counts") if d.chance(0.7) else d.pick((1, 2, 0.5))), exact=True, in_place=True
    )


@row("nansum nanmean")
def without_nan(d: Draw, name: str) -> Call:
    if d.chance(0.5):
        d.kind = "nans"
    tame(d)
    x = d.leaf(d.shape(), d.floating() if name == "nanmean" else None)
    dim = d.dims(len(x.shape))
    return Call(name, (x,), {} if dim is None else {"dim": dim, "keepdim": d.chance(0.5)})


@row("std_mean var_mean")
def moments(d: Draw, name: str) -> Call:
    tame(d)
    x = d.leaf(d.shape(), d.floating())
    dim = d.dims(len(x.shape))
    return Call(name, (x,), {} if dim is None else {"dim": dim, "keepdim": d.chance(0.5), "correction": d.int(0, 2)})


@row("aminmax")
def aminmax(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape())
    return Call(name, (x,), {"dim": d.dim(len(x.shape)), "keepdim": d.chance(0.5)} if d.chance(0.7) else {})


@row("quantile")
def quantile(d: Draw, name: str) -> Call:
    tame(d)
    dtype = d.pick(("float32", "float64"))
    x = untied(d, d.leaf(d.shape(), dtype))
    dtype = x.dtype if x.dtype == dtype else "float64"
    q = d.pick((0.0, 0.25, 0.5, 0.9, 1.0)) if d.chance(0.5) else Leaf(d.values((d.int(1, 3),), dtype, "unit"), dtype)
    kwargs = {"dim": d.dim(len(x.shape)), "keepdim": d.chance(0.5)} if d.chance(0.7) else {}
    return Call(name, (x, q), kwargs | {"interpolation": d.pick(("linear", "lower", "higher", "nearest", "midpoint"))})


@row("cov corrcoef")
def covariance(d: Draw, name: str) -> Call:
    tame(d)
    x = d.leaf(d.shape(1, 2), d.pick(("float32", "float64")))
    return Call(name, (x,), {"correction": d.int(0, 1)} if name == "cov" else {})


@row("msort argwhere diagflat")
def listed(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(int(name == "msort"), 3))
    x = untied(d, x) if name == "msort" else x
    return Call(name, (x, d.int(-2, 2)) if name == "diagflat" else (x,), exact=True)


@row("bincount histc isin")
def counted(d: Draw, name: str) -> Call:
    if name == "histc":
        x = d.leaf(d.shape(1, 2), d.pick(("float32", "float64")), "smooth", grad=0.0)
        return Call(name, (x,), {"bins": d.int(1, 6), "min": -1, "max": 2} if d.chance(0.8) else {"bins": d.int(1, 6)})
    if name == "isin":
        dtype = d.pick(("int64", "float32"))
        return Call(
            name, (d.leaf(d.shape(), dtype, "ties"), d.leaf(d.shape(0, 2), dtype, "ties")), {"invert": d.chance(0.3)}
        )
    ids = d.index((d.size(),), 6, 0.01)
    weights = d.leaf(ids.shape, d.pick(("float32", "float64")), "smooth", grad=0.0) if d.chance(0.5) else None
    return Call(name, (ids, weights), {"minlength": d.int(0, 8)})


@row("addmv baddbmm ger inner kron cross cdist")
def product(d: Draw, name: str) -> Call:
    n, m, k = d.size(), d.size(), d.size()
    shapes: dict[str, Any] = {
        "addmv": ((d.pick((n, 1)),), (n, k), (k,)),
        "baddbmm": (d.pick(((2, n, m), (n, m), (1, 1))), (2, n, k), (2, k, m)),
        "ger": ((n,), (m,)),
        "inner": ((n, k), (m, k)),
        "kron": ((n, m), (k,)),
        "cross": ((n, 3), d.pick(((n, 3), (1, 3)))),
        "cdist": ((n, k), (m, k)),
    }
    args = operands(d, *shapes[name])
    if name == "cdist":
        dtype = d.pick(("float32", "float64"))
        return Call(name, tuple(d.leaf(s, dtype, "smooth") for s in shapes[name]), {"p": d.pick((2.0, 1.0, 3.0))})
    kwargs = {key: d.pick((2, 3)) for key in ("alpha", "beta") if name in ("addmv", "baddbmm") and d.chance(0.3)}
    return Call(name, args, kwargs | ({"dim": -1} if name == "cross" else {}))


@row("nn.functional.glu nn.functional.hardshrink nn.functional.softshrink nn.functional.threshold nn.functional.rrelu")
def activation(d: Draw, name: str) -> Call:
    short = name.rpartition(".")[2]
    dtype = d.floating()
    if short == "glu":
        shape = d.shape(1)
        dim = d.int(-len(shape), len(shape) - 1)
        return Call(
            name, (d.leaf(tuple(2 * n if i == dim % len(shape) else n for i, n in enumerate(shape)), dtype), dim)
        )
    extra = {"threshold": (0.5, 2.0), "rrelu": (0.1, 0.4)}.get(short, (d.pick((0.5, 1.0)),))
    return Call(name, (d.leaf(d.shape(), dtype), *extra), exact=True)


def signs(d: Draw, shape: tuple[int, ...], dtype: str) -> Leaf:
    return Leaf((d.cut("bits", shape) * 2 - 1).astype(d.values((), dtype, "bits").dtype), dtype)


@row(
    "nn.functional.hinge_embedding_loss nn.functional.soft_margin_loss nn.functional.margin_ranking_loss",
    "nn.functional.cosine_embedding_loss nn.functional.triplet_margin_loss nn.functional.multi_margin_loss",
    "nn.functional.multilabel_soft_margin_loss nn.functional.poisson_nll_loss nn.functional.gaussian_nll_loss",
)
def loss(d: Draw, name: str) -> Call:
    short = name.rpartition(".")[2]
    dtype = d.pick(("float64", "float32"))
    plain(d)
    n, c = d.int(1, 4), d.int(1, 5)
    kwargs: dict[str, Any] = {"reduction": d.pick(("mean", "sum", "none"))}
    x, y = d.leaf((n, c), dtype), d.leaf((n, c), dtype)
    margin = {"margin": d.pick((0.0, 0.5, 1.0))}
    args: tuple[Any, ...]
    if short in ("hinge_embedding_loss", "soft_margin_loss"):
        args, kwargs = (x, signs(d, (n, c), dtype)), kwargs | (margin if "hinge" in short else {})
    elif short == "margin_ranking_loss":
        args, kwargs = (x, y, signs(d, (n, c), dtype)), kwargs | margin
    elif short == "cosine_embedding_loss":
        args, kwargs = (x, y, signs(d, (n,), dtype)), kwargs | margin
    elif short == "triplet_margin_loss":
        args, kwargs = (x, y, d.leaf((n, c), dtype)), kwargs | margin | {"swap": d.chance(0.4), "p": d.pick((2.0, 1.0))}
        kwargs["margin"] = max(kwargs["margin"], 0.3)
    elif short == "multi_margin_loss":
        args, kwargs = (x, d.index((n,), c, 0.0)), kwargs | margin | {"p": d.pick((1, 2))}
    elif short == "multilabel_soft_margin_loss":
        args = (x, d.leaf((n, c), dtype, "bits", grad=0.0))
    elif short == "poisson_nll_loss":
        args = (d.leaf((n, c), dtype, "positive"), d.leaf((n, c), dtype, "counts", grad=0.0))
        kwargs |= {"log_input": d.chance(0.5), "full": d.chance(0.5)}
    else:
        args = (x, y, d.leaf((n, d.pick((1, c))), dtype, "positive"))
        kwargs |= {"full": d.chance(0.5)}
    return Call(name, args, kwargs)


@row(
    "Tensor.__and__ Tensor.__or__ Tensor.__xor__ Tensor.__invert__ Tensor.__matmul__ Tensor.__pow__ Tensor.__mod__",
    "Tensor.__floordiv__ Tensor.__rpow__ Tensor.__rmod__ Tensor.__rfloordiv__",
)
def operator(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    if name == "Tensor.__matmul__":
        return Call(name, operands(d, (2, 3), (3, d.size())))
    if name in ("Tensor.__and__", "Tensor.__or__", "Tensor.__xor__", "Tensor.__invert__"):
        dtype = d.pick(("bool", "int64", "uint8"))
        return Call(name, (d.leaf(a, dtype), d.leaf(b, dtype))[: 1 if "invert" in name else 2], exact=True)
    x = d.leaf(a, kind="positive")
    return Call(
        name, (x, d.pick((1, 2, 3, 0.5)) if "__r" in name or d.chance(0.5) else d.leaf(b, kind="positive")), exact=True
    )
