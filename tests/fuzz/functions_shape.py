"""Functions that move elements: shapes, parts, joins, orders of dimensions, and indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fuzz.calls import Call, Leaf, Named
from fuzz.draw import Draw, Shape
from fuzz.table import row


def regrouped(d: Draw, shape: Shape) -> list[int]:
    """Another shape of as many elements, perhaps with a -1."""
    count = math.prod(shape)
    if count == 0:
        return d.pick(([*shape], [0], [0, 3], [2, 0]))
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    first = d.pick(divisors)
    sizes = d.pick(([count], [first, count // first], [first, 1, count // first]))
    if d.chance(0.3):
        sizes[d.int(0, len(sizes) - 1)] = -1
    return sizes if d.chance(0.97) else [*sizes, 2]


@row("reshape Tensor.reshape")
def reshape(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape())
    return Call(name, (x, regrouped(d, x.shape)), exact=True)


@row(
    "flatten squeeze unsqueeze transpose movedim moveaxis swapaxes swapdims select narrow unbind diagonal flip",
    "roll unflatten rot90 ravel",
)
def moved(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(2 if name in ("diagonal", "rot90") else 0))
    n = len(x.shape)
    dim = d.dim(n)
    size = x.shape[dim] if n and -n <= dim < n else 1
    args: dict[str, Any] = {
        "flatten": lambda: (min(0, dim), -1) if d.chance(0.5) else (0, max(n - 1, 0)),
        "squeeze": lambda: () if d.chance(0.4) else (d.pick((dim, (dim,))),),
        "unsqueeze": lambda: (d.dim(n + 1),),
        "transpose": lambda: (dim, d.dim(n)),
        "movedim": lambda: (dim, d.dim(n)),
        "swapaxes": lambda: (dim, d.dim(n)),
        "swapdims": lambda: (dim, d.dim(n)),
        "moveaxis": lambda: (dim, d.dim(n)),
        "select": lambda: (dim, d.int(-size, size - (not d.chance(0.05)))),
        "narrow": lambda: (dim, start := d.int(0, size), d.int(0, size - start + d.chance(0.03))),
        "unbind": lambda: (dim,),
        "ravel": lambda: (),
        "diagonal": lambda: (d.int(-3, 3), *d.rng.sample(range(n), 2)),
        "flip": lambda: (d.rng.sample(range(n), d.int(0, n)),),
        "roll": lambda: (d.int(-5, 5), dim) if d.chance(0.6) else (d.int(-5, 5),),
        "unflatten": lambda: (dim, (d.pick((1, size, -1)), d.pick((1, size)))),
        "rot90": lambda: (d.int(-3, 5), d.rng.sample(range(n), 2)),
    }[name]()
    return Call(name, (x, *args), exact=True)


@row("permute Tensor.permute")
def permute(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape())
    n = len(x.shape)
    dims = [i - n if d.chance(0.2) else i for i in d.rng.sample(range(n), n)]
    return Call(name, (x, dims if d.chance(0.98) else [*dims, 0]), exact=True)


@row("broadcast_to Tensor.expand")
def expand(d: Draw, name: str) -> Call:
    small, whole = d.broadcastable(2)
    full = np.broadcast_shapes(small, whole) if _fit(small, whole) else whole
    target = [*full] if d.chance(0.5) else [d.int(1, 3), *full]
    if name == "Tensor.expand" and d.chance(0.3) and small:
        target[-1] = -1
    return Call(name, (d.leaf(small), target), exact=True)


def _fit(a: Shape, b: Shape) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(reversed(a), reversed(b), strict=False))


@row("tile Tensor.repeat")
def repeat(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(0, 3))
    n = len(x.shape) + d.int(0, 1) - (d.chance(0.1) if x.shape and name == "tile" else 0)
    return Call(name, (x, [d.int(0, 3) for _ in range(n)]), exact=True)


@row("repeat_interleave")
def repeat_interleave(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape())
    if d.chance(0.3) or not x.shape:
        return Call(name, (x, d.int(0, 3)), exact=True)
    dim = d.dim(len(x.shape), 0.0)
    counts = Leaf(np.abs(d.values((x.shape[dim],), "int64", "integers")), "int64")
    return Call(name, (x, counts if d.chance(0.6) else d.int(0, 3), dim), exact=True)


@row("tril triu diag t fliplr flipud atleast_1d atleast_2d atleast_3d")
def arranged(d: Draw, name: str) -> Call:
    ndim = {"tril": (2, 4), "triu": (2, 4), "diag": (1, 2), "t": (0, 2)}.get(name, (0, 4))
    x = d.leaf(d.shape(*ndim) if d.chance(0.97) else d.shape())
    return Call(name, (x, d.int(-3, 3)) if name in ("tril", "triu", "diag") else (x,), exact=True)


@row("split chunk tensor_split")
def split(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(1))
    dim = d.dim(len(x.shape))
    size = x.shape[dim] if -len(x.shape) <= dim < len(x.shape) else 1
    if name == "split" and d.chance(0.4):
        first = d.int(0, size)
        return Call(name, (x, [first, size - first + d.chance(0.05)], dim), exact=True)
    if name == "tensor_split" and d.chance(0.4):
        return Call(name, (x, [d.int(0, size), d.int(0, size + 1)], dim), exact=True)
    return Call(name, (x, d.int(1, 4) if d.chance(0.97) else 0, dim), exact=True)


@row("cat stack hstack vstack dstack column_stack concat concatenate row_stack")
def join(d: Draw, name: str) -> Call:
    shape = d.shape(1 if name in ("cat", "concat", "concatenate") else 0)
    dim = d.dim(len(shape) + (name == "stack"))
    dtype = d.dtype()
    parts = []
    for _ in range(d.int(1, 4)):
        sizes = list(shape)
        if name in ("cat", "concat", "concatenate") and -len(shape) <= dim < len(shape):
            sizes[dim] = d.size()
        if d.chance(0.01):
            sizes.append(2)
        parts.append(d.leaf(tuple(sizes), dtype if d.chance(0.8) else None))
    return Call(name, (parts, dim) if name in ("cat", "stack", "concat", "concatenate") else (parts,), exact=True)


@row("meshgrid cartesian_prod combinations broadcast_tensors")
def grids(d: Draw, name: str) -> Call:
    dtype = d.dtype()
    if name == "broadcast_tensors":
        return Call(name, tuple(d.leaf(s, dtype) for s in d.broadcastable(3)), exact=True)
    if name == "combinations":
        return Call(name, (d.leaf((d.int(0, 5),), dtype), d.int(1, 3), d.chance(0.5)), exact=True)
    parts = tuple(d.leaf((d.size(),), dtype) for _ in range(d.int(1, 3)))
    return Call(name, parts, {"indexing": d.pick(("ij", "xy"))} if name == "meshgrid" else {}, exact=True)


@row("Tensor.unfold")
def windows(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(1))
    dim = d.dim(len(x.shape))
    size = x.shape[dim] if -len(x.shape) <= dim < len(x.shape) else 1
    return Call(name, (x, dim, d.int(0, size + d.chance(0.03)), d.int(1, 3)), exact=True)


@row("nn.functional.pad")
def pad(d: Draw, name: str) -> Call:
    mode = d.pick(("constant", "constant", "reflect", "replicate", "circular"))
    if mode == "constant":
        x = d.leaf(d.shape())
        sides = [d.int(-1, 3) for _ in range(2 * d.int(0, len(x.shape)))]
        return Call(name, (x, sides), {"value": d.pick((0.0, 1.5, -2))} if d.chance(0.5) else {}, exact=True)
    planes = d.int(1, 2)
    shape = tuple(d.int(1, 3) for _ in range(1 + (mode == "circular" or d.chance(0.5)))) + tuple(
        d.int(2, 5) for _ in range(planes)
    )
    sides = [d.int(0, 2) for _ in range(2 * planes)]
    return Call(name, (d.leaf(shape, d.floating()), sides, mode))


# --- indices ----------------------------------------------------------------------------------------------------------


@row("gather take_along_dim index_select take")
def taken(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(1))
    n = len(x.shape)
    dim = d.dim(n, 0.01)
    size = x.shape[dim] if -n <= dim < n else 1
    if name == "take":
        return Call(name, (x, d.index(d.shape(0, 2) if x.values.size else (0,), x.values.size)), exact=True)
    if name == "index_select":
        return Call(name, (x, dim, d.index((d.int(0, 5) if size else 0,), size)), exact=True)
    shape = list(x.shape)
    if -n <= dim < n:
        shape[dim] = d.int(0, 4) if size else 0
    if name == "gather":
        shape = [d.int(0, s) if d.chance(0.2) and i != dim % n else s for i, s in enumerate(shape)]
    index = d.index(tuple(shape), size)
    return Call(name, (x, dim, index) if name == "gather" else (x, index, dim), exact=True)


@row("scatter scatter_add scatter_reduce Tensor.scatter_ Tensor.scatter_add_ Tensor.scatter_reduce_")
def scattered(d: Draw, name: str) -> Call:
    in_place = name.endswith("_")
    x = d.leaf(d.shape(1), repeats=not name.endswith("_"))
    n = len(x.shape)
    dim = d.int(-n, n - 1)
    shape = [d.int(0, s) if d.chance(0.3) else s for s in x.shape]
    if not x.shape[dim]:
        shape[dim] = 0
    repeated = "add" in name or "reduce" in name
    index = d.index(tuple(shape), x.shape[dim])
    if not repeated:  # which of equal indices wins is nobody's promise
        order = np.argsort(d.cut("unit", tuple(x.shape)), dim)
        index = Leaf(order[tuple(slice(0, s) for s in shape)].astype(np.int64), "int64")
    source: Any = d.leaf(tuple(s + d.int(0, 1) for s in shape), x.dtype)
    if not repeated and d.chance(0.3):
        source = d.pick((0, 1.5, -2))
    if "reduce" in name:
        source = Leaf(source.values, source.dtype, source.requires_grad, source.layout)
        return Call(
            name,
            (x, dim, index, source, d.pick(("sum", "mean", "amax", "amin"))),
            {"include_self": d.chance(0.5)},
            in_place=in_place,
        )
    return Call(name, (x, dim, index, source), exact=not repeated, in_place=in_place)


@row("index_add index_copy index_fill Tensor.index_add_ Tensor.index_copy_ Tensor.index_fill_")
def rows_written(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(1), repeats=not name.endswith("_"))
    n = len(x.shape)
    dim = d.int(-n, n - 1)
    size = x.shape[dim]
    in_place = name.endswith("_")
    if "add" in name:
        index = d.index((d.int(0, 4) if size else 0,), size)
    else:
        index = Leaf(np.asarray(d.rng.sample(range(size), d.int(0, size)), np.int64), "int64")
    if "fill" in name:
        return Call(name, (x, dim, index, d.pick((0, 1.5, -2))), exact=True, in_place=in_place)
    shape = list(x.shape)
    shape[dim] = index.shape[0]
    source = d.leaf(tuple(shape), x.dtype)
    kwargs = {"alpha": d.pick((2, -1))} if "add" in name and d.chance(0.3) else {}
    return Call(name, (x, dim, index, source), kwargs, exact="add" not in name, in_place=in_place)


@row("masked_select masked_scatter Tensor.masked_scatter_ nonzero where.one")
def masked(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    x = d.leaf(a, repeats=not name.endswith("_"))
    if name == "nonzero":
        return Call(name, (x,), {"as_tuple": d.chance(0.5)})
    if name == "where.one":
        return Call("where", (x,))
    mask = d.leaf(b if name == "masked_select" else a, "bool")
    if name == "masked_select":
        return Call(name, (x, mask), exact=True)
    source = d.leaf((max(int(mask.values.sum()) + d.int(-1 if d.chance(0.05) else 0, 2), 0),), x.dtype)
    return Call(name, (x, mask, source), exact=True, in_place=name.endswith("_"))


@row("arange linspace logspace full eye tril_indices triu_indices")
def created(d: Draw, name: str) -> Call:
    number = d.pick((0, 1, 5, 2.5, -3, 0.1))
    args: dict[str, Any] = {
        "arange": lambda: (d.pick((0, 1, -2.5)), d.pick((4, 5.5, 7)), d.pick((1, 2, 0.5))),
        "linspace": lambda: (number, d.pick((3, -1.5, 10)), d.int(0, 7)),
        "logspace": lambda: (number, d.pick((3, -1.5)), d.int(0, 7)),
        "full": lambda: ([d.size() for _ in range(d.int(0, 3))], d.pick((1, 2.5, True))),
        "eye": lambda: (d.int(0, 4), d.int(0, 4)),
        "tril_indices": lambda: (d.int(0, 5), d.int(0, 5), d.int(-3, 3)),
        "triu_indices": lambda: (d.int(0, 5), d.int(0, 5), d.int(-3, 3)),
    }[name]()
    return Call(name, args, exact=name != "logspace")


@row("Tensor.view Tensor.contiguous Tensor.expand_as Tensor.view_as Tensor.reshape_as")
def viewed(d: Draw, name: str) -> Call:
    x = d.leaf(d.shape(), repeats=False)
    if name == "Tensor.contiguous":
        return Call(name, (x,), exact=True)
    if name == "Tensor.expand_as":
        return Call(name, (d.leaf(x.shape[d.int(0, len(x.shape)) :]), x), exact=True)
    x = Leaf(x.values, x.dtype, x.requires_grad)
    sizes = regrouped(d, x.shape)
    if name == "Tensor.view":
        return Call(name, (x, sizes), exact=True)
    return Call(name, (x, Leaf(x.values.reshape(-1), x.dtype)), exact=True)


@row("zeros ones zeros_like ones_like full_like")
def alike(d: Draw, name: str) -> Call:
    if name in ("zeros", "ones"):
        return Call(name, (list(d.shape()),), {"dtype": Named(d.dtype())}, exact=True)
    x = d.leaf(d.shape())
    return Call(name, (x, 2) if name == "full_like" else (x,), exact=True)
