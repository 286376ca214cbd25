"""Functions along dimensions: reductions, scans, orders, norms, softmax; and products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.calls import Call, Leaf, Named
from fuzz.draw import Draw
from fuzz.functions_elementwise import tame
from fuzz.table import row


def untied(d: Draw, leaf: Leaf) -> Leaf:
    """Values that all differ, so that an order of them is one: 0, 1, 2, ... shuffled."""
    values = np.argsort(d.cut("unit", leaf.shape), None).reshape(leaf.shape) - leaf.values.size // 3
    if leaf.dtype in ("bool", "uint8") or leaf.layout.repeated or values.size > 120:
        return Leaf(values.astype(np.int64), "int64", False)
    return Leaf(values.astype(leaf.values.dtype), leaf.dtype, leaf.requires_grad, leaf.layout)


@row("sum mean prod amax amin all any count_nonzero nn.functional.normalize")
def reduction(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(), kind="positive" if name.startswith("nn") else None)
    dim = d.dims(len(x.shape))
    kwargs: dict[str, Any] = {} if dim is None else {"dim": dim}
    if name == "nn.functional.normalize":
        return Call(name, (x,), {"dim": dim if isinstance(dim, int) else 0, "p": d.pick((1.0, 2.0, 3.0))})
    if name != "count_nonzero" and kwargs and d.chance(0.5):
        kwargs["keepdim"] = True
    if name in ("sum", "mean", "prod") and d.chance(0.15):
        kwargs["dtype"] = Named(d.pick(("float64", "float32")))
    if name == "prod" and isinstance(dim, tuple):
        kwargs["dim"] = dim[0]
    return Call(name, (x,), kwargs)


@row("var std logsumexp")
def moment(d: Draw, name: str) -> Call:
    if name != "logsumexp":
        tame(d)
    x = d.leaf(d.shape(), None if name == "logsumexp" else d.floating())
    dim = d.dims(len(x.shape))
    if name == "logsumexp":
        return Call(name, (x, 0 if dim is None else dim), {"keepdim": d.chance(0.5)})
    kwargs: dict[str, Any] = {} if dim is None else {"dim": dim, "keepdim": d.chance(0.5)}
    if d.chance(0.6):
        kwargs["correction"] = d.int(0, 2)
    return Call(name, (x,), kwargs)


@row("argmax argmin")
def arg(d: Draw, name: str) -> Call:
    x = untied(d, d.leaf(d.shape())) if d.chance(0.6) else d.leaf(d.shape(), d.floating(), "special")
    return Call(name, (x,), {"dim": d.dim(len(x.shape)), "keepdim": d.chance(0.5)} if d.chance(0.7) else {})


@row("max min median")
def chosen(d: Draw, name: str) -> Call:
    if d.chance(0.3):
        return Call(name, (d.leaf(d.shape()),))
    if name != "median" and d.chance(0.2):
        a, b = d.broadcastable(2)
        return Call(name, (d.leaf(a), d.leaf(b)), exact=True)
    x = untied(d, d.leaf(d.shape()))
    return Call(name, (x, d.dim(len(x.shape)), d.chance(0.5)))


@row("cumsum cumprod logcumsumexp cummax cummin")
def scan(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(), d.floating() if name == "logcumsumexp" else None)
    kwargs = {"dtype": Named("float64")} if name in ("cumsum", "cumprod") and d.chance(0.1) else {}
    return Call(name, (x, d.dim(len(x.shape))), kwargs)


@row("softmax log_softmax nn.functional.softmin nn.functional.softmax nn.functional.log_softmax")
def normalized(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(), d.floating())
    kwargs: dict[str, Any] = {"dim": d.dim(len(x.shape))}
    if d.chance(0.1):
        kwargs["dtype"] = Named("float64")
    return Call(name, (x,), kwargs)


@row("sort argsort")
def order(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape())
    kwargs: dict[str, Any] = {"stable": True}
    if d.chance(0.8):
        kwargs["dim"] = d.dim(len(x.shape))
    if d.chance(0.5):
        kwargs["descending"] = True
    return Call(name, (x,), kwargs)


@row("topk kthvalue")
def several(d: Draw, name: str) -> Call:
    x = untied(d, d.leaf(d.shape(1)))
    dim = d.dim(len(x.shape))
    n = x.shape[dim] if -len(x.shape) <= dim < len(x.shape) else 1
    k = d.int(1, max(n, 1)) if d.chance(0.95) else n + 1
    if name == "kthvalue":
        return Call(name, (x, k, dim, d.chance(0.5)))
    return Call(name, (x, k, dim, d.chance(0.5)))


@row("norm")
def norm(d: Draw, name: str) -> Call:
    tame(d)
    x = d.leaf(d.shape(), d.floating())
    p = d.pick((2, 1, 3, 0.5, float("inf"), float("-inf"), 0, "fro"))
    dim = d.dims(len(x.shape))
    return Call(name, (x,), {"p": p} if dim is None else {"p": p, "dim": dim, "keepdim": d.chance(0.5)})


@row("diff")
def diff(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(1))
    return Call(name, (x,), {"n": d.int(0, 3), "dim": d.dim(len(x.shape))})


@row("unique")
def unique(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(), kind="integers", grad=0.0)
    kwargs: dict[str, Any] = {key: True for key in ("return_inverse", "return_counts") if d.chance(0.4)}
    if d.chance(0.3) and x.shape:
        kwargs["dim"] = d.dim(len(x.shape))
    return Call(name, (x,), kwargs)


@row("searchsorted bucketize")
def search(d: Draw, name: str) -> Call:
    dtype = d.pick(("float32", "float64", "int64"))
    bounds = Leaf(np.sort(d.values((d.int(0, 6),), dtype, "ties")), dtype)
    values = d.leaf(d.shape(), dtype, "ties", grad=0.0)
    kwargs = {"right": d.chance(0.5), "out_int32": d.chance(0.3)}
    return Call(name, (bounds, values) if name == "searchsorted" else (values, bounds), kwargs)


# --- products ---------------------------------------------------------------------------------------------------------


def operands(d: Draw, *shapes: tuple[int, ...]) -> tuple[Leaf, ...]:
    tame(d)
    dtype = d.dtype()
    dtype = "float32" if dtype == "bool" else dtype
    return tuple(
        d.leaf(s, dtype if d.chance(0.97) else None, kind="smooth" if d.kind == "wide" else None) for s in shapes
    )


@row("matmul")
def matmul(d: Draw, name: str) -> Call:
    n, m, k = d.size(), d.size(), d.size()
    a, b = d.pick(
        (
            ((k,), (k,)),
            ((n, k), (k,)),
            ((k,), (k, m)),
            ((n, k), (k, m)),
            ((2, n, k), (k, m)),
            ((n, k), (3, k, m)),
            ((2, 1, n, k), (3, k, m)),
            ((2, n, k), (2, k, m)),
            ((2, n, k), (k,)),
        )
    )
    return Call(name, operands(d, a, b if d.chance(0.98) else (*b, 2)))


@row("mm bmm mv dot outer addmm trace nn.functional.linear nn.functional.bilinear")
def product(d: Draw, name: str) -> Call:
    n, m, k = d.size(), d.size(), d.size()
    wrong = d.chance(0.02)
    if name == "trace":
        return Call(name, (d.leaf((n, m)),))
    if name == "addmm":
        bias = d.pick(((n, m), (m,), (n, 1), ()))
        return Call(
            name,
            operands(d, bias, (n, k), (k + wrong, m)),
            {key: d.pick((0.5, 2.0)) for key in ("alpha", "beta") if d.chance(0.3)},
        )
    if name == "nn.functional.linear":
        return Call(name, operands(d, (*d.shape(0, 3), k), (m, k + wrong), *([(m,)] if d.chance(0.6) else [])))
    if name == "nn.functional.bilinear":
        dtype = d.floating()
        return Call(
            name, tuple(d.leaf(s, dtype) for s in ((n, k), (n, m), (2, k, m), *([(2,)] if d.chance(0.6) else [])))
        )
    shapes = {
        "mm": ((n, k), (k + wrong, m)),
        "bmm": ((2, n, k), (2 + wrong, k, m)),
        "mv": ((n, k), (k + wrong,)),
        "dot": ((k,), (k + wrong,)),
        "outer": ((n,), (m,)),
    }
    return Call(name, operands(d, *shapes[name]))


@row("tensordot")
def tensordot(d: Draw, name: str) -> Call:
    a, b, c, e = d.size(), d.size(), d.size(), d.size()
    if d.chance(0.5):
        return Call(name, (*operands(d, (a, b, c), (b, c, e)), 2))
    return Call(name, (*operands(d, (a, b, c), (c, a, e)), [[0, 2], [1, 0]]))


@row("einsum")
def einsum(d: Draw, name: str) -> Call:
    letters = "ijkl"
    sizes = {letter: d.size() for letter in letters}
    terms = ["".join(d.rng.sample(letters, d.int(0, 3))) for _ in range(d.int(1, 3))]
    used = sorted(set("".join(terms)))
    out = "".join(d.rng.sample(used, d.int(0, len(used))))
    return Call(
        name,
        (
            ",".join(terms) + (f"->{out}" if d.chance(0.8) else ""),
            *operands(d, *(tuple(sizes[c] for c in term) for term in terms)),
        ),
    )
