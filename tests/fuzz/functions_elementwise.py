"""Functions of single elements: arithmetic, comparisons, activations, and their forms in place."""

from __future__ import annotations

from typing import Any

from fuzz.calls import INTEGERS, Call, Leaf, Named
from fuzz.draw import Draw, Shape
from fuzz.table import row

NUMBERS = (0, 1, 2, 3, -1, 0.5, 2.0, -1.5, True)


def extreme(d: Draw, leaf: Leaf) -> Leaf:
    """Sometimes the least and largest integers are among the values."""
    if leaf.dtype in INTEGERS and leaf.values.size and not leaf.layout.repeated and d.chance(0.1):
        high = 2 ** (leaf.values.itemsize * 8 - (leaf.dtype != "uint8")) - 1
        leaf.values.flat[0] = high
        leaf.values.flat[-1] = -high - 1 if leaf.dtype != "uint8" else 0
    return leaf


@row(
    "abs neg sign square reciprocal exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan",
    "sinh cosh tanh asinh acosh atanh floor ceil trunc round erf relu sigmoid isnan isinf isfinite signbit",
    "logical_not bitwise_not clone fix negative arcsin arccos arctan arcsinh arccosh arctanh real conj",
    "positive nn.functional.relu nn.functional.sigmoid nn.functional.tanh nn.functional.silu",
    "nn.functional.softsign nn.functional.logsigmoid nn.functional.mish nn.functional.hardsigmoid",
    "nn.functional.hardswish nn.functional.relu6 nn.functional.selu",
)
def unary(d: Draw, name: str) -> Call:
    return Call(name, (extreme(d, d.leaf(d.shape())),), exact=True)


@row(
    "add sub mul div maximum minimum atan2 copysign eq ne lt le gt ge logical_and logical_or logical_xor logaddexp",
    "bitwise_and bitwise_or bitwise_xor multiply subtract true_divide divide arctan2",
)
def binary(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    first = extreme(d, d.leaf(a))
    second: Any = extreme(d, d.leaf(b, first.dtype if d.chance(0.5) else None))
    kwargs: dict[str, Any] = {}
    if d.chance(0.2) and name not in (
        "atan2",
        "arctan2",
        "logaddexp",
        "maximum",
        "minimum",
        "bitwise_and",
        "logical_and",
        "logical_or",
        "logical_xor",
    ):
        second = d.pick(NUMBERS[1:] if "div" in name else NUMBERS)
    if name in ("add", "sub") and d.chance(0.2):
        kwargs["alpha"] = d.pick((2, 3, 0.5, -1))
    return Call(name, (first, second), kwargs, exact=True)


@row("floor_divide remainder fmod pow")
def dividing(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    first = d.leaf(a)
    second: Any = d.leaf(b, first.dtype if d.chance(0.5) else None)
    if second.dtype in INTEGERS and d.chance(0.97 if name != "pow" else 1.0):
        second.values[second.values == 0] = 1
        if name == "pow":
            second.values[second.values < 0] = 3
    if d.chance(0.3):
        second = d.pick((1, 2, 3, -1, 0.5, 2.0, -1.5, 0, 1.5, -2))
        if name != "pow" and not second:
            second = 2
    if name == "pow" and d.chance(0.1):
        return Call(name, (d.pick((2, 0.5, 3, 1.5)), first), exact=True)
    return Call(name, (first, second), exact=True)


@row("div.rounded")
def rounded_division(d: Draw, name: str) -> Call:
    call = dividing(d, "floor_divide")
    return Call("div", call.args, {"rounding_mode": d.pick(("floor", "trunc", None))}, exact=True)


@row(
    "Tensor.__add__ Tensor.__radd__ Tensor.__sub__ Tensor.__rsub__ Tensor.__mul__ Tensor.__rmul__ Tensor.__truediv__",
    "Tensor.__rtruediv__ Tensor.__eq__ Tensor.__ne__ Tensor.__lt__ Tensor.__ge__ Tensor.__neg__ Tensor.__abs__",
)
def operator(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    if name in ("Tensor.__neg__", "Tensor.__abs__"):
        return Call(name, (d.leaf(a),), exact=True)
    return Call(name, (d.leaf(a), d.pick(NUMBERS[1:]) if d.chance(0.5) or "__r" in name else d.leaf(b)), exact=True)


@row("Tensor.to Tensor.type_as")
def cast(d: Draw, name: str) -> Call:
    """Among dtypes that hold the values: what becomes of others is nobody's promise."""
    x = d.leaf(d.shape(), kind="counts")
    target = d.dtype()
    return Call(name, (x, Named(target) if name == "Tensor.to" else d.leaf((1,), target)), exact=True)


@row("bitwise_left_shift bitwise_right_shift")
def shift(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    dtype = d.pick(INTEGERS)
    return Call(name, (d.leaf(a, dtype), d.leaf(b, dtype, "counts")), exact=True)


def tame(d: Draw) -> None:
    """Of special values only NaN: what comes of an infinity in a formula of several steps depends on their order."""
    if d.kind == "special":
        d.kind = "nans"


@row("nn.functional.tanhshrink")
def difference(d: Draw, name: str) -> Call:
    return Call(name, (d.leaf(d.shape()),))


@row("lerp addcmul addcdiv")
def three(d: Draw, name: str) -> Call:
    tame(d)
    a, b, c = d.broadcastable(3)
    dtype = d.dtype()
    leaves = [d.leaf(s, dtype if d.chance(0.9) else None) for s in (a, b, c)]
    if name == "lerp":
        return Call(name, (*leaves[:2], leaves[2] if d.chance(0.6) else d.pick((0.0, 0.3, 1.0, 2))))
    return Call(name, tuple(leaves), {"value": d.pick((2, 0.5, -1))} if d.chance(0.4) else {})


@row("where")
def where(d: Draw, name: str) -> Call:
    a, b, c = d.broadcastable(3)
    dtype = d.dtype()
    x, y = d.leaf(b, dtype if d.chance(0.7) else None), d.leaf(c, dtype)
    if d.chance(0.2):
        return Call(name, (d.leaf(a, "bool"), x, d.pick((0.0, 1, 2.5))), exact=True)
    return Call(name, (d.leaf(a, "bool"), x, y), exact=True)


@row("clamp clip")
def clamp(d: Draw, name: str) -> Call:
    a, b, c = d.broadcastable(3)
    x = d.leaf(a)
    if d.chance(0.5):
        kwargs = {
            key: value
            for key, value in (("min", d.pick((-1, -0.5, 0.0, 1))), ("max", d.pick((0, 0.5, 2))))
            if d.chance(0.7)
        }
        return Call(name, (x,), kwargs, exact=True)
    bounds = {"min": d.leaf(b, x.dtype), "max": d.leaf(c, x.dtype)}
    return Call(name, (x,), {key: value for key, value in bounds.items() if d.chance(0.8)}, exact=True)


@row("nan_to_num")
def nan_to_num(d: Draw, name: str) -> Call:
    return Call(
        name,
        (d.leaf(d.shape(), kind="special"),),
        {key: 2.5 for key in ("nan", "posinf", "neginf") if d.chance(0.3)},
        exact=True,
    )


@row("round.decimals")
def round_decimals(d: Draw, name: str) -> Call:
    return Call("round", (d.leaf(d.shape(), d.pick(("float32", "float64"))),), {"decimals": d.int(-1, 3)}, exact=True)


@row("isclose allclose equal")
def close(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    if name == "equal":
        x = d.leaf(a)
        return Call(name, (x, x if d.chance(0.3) else d.leaf(a if d.chance(0.8) else b, x.dtype)))
    dtype = d.floating()
    return Call(
        name,
        (d.leaf(a, dtype), d.leaf(b, dtype)),
        {"rtol": d.pick((1e-5, 0.3)), "atol": d.pick((1e-8, 0.5)), "equal_nan": d.chance(0.5)},
    )


@row("masked_fill")
def masked_fill(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    value = d.leaf((), kind="smooth") if d.chance(0.2) else d.pick((0, 1.5, -2, True))
    return Call(name, (d.leaf(a), d.leaf(b, "bool"), value), exact=True)


ACTIVATIONS: dict[str, Any] = {
    "leaky_relu": lambda d: {"negative_slope": d.pick((0.01, 0.2, 0.0))},
    "elu": lambda d: {"alpha": d.pick((1.0, 0.7))},
    "celu": lambda d: {"alpha": d.pick((1.0, 0.7, 2.0))},
    "gelu": lambda d: {"approximate": d.pick(("none", "tanh"))},
    "softplus": lambda d: {"beta": d.pick((1.0, 2.0, 0.5)), "threshold": d.pick((20.0, 1.0))},
    "hardtanh": lambda d: {"min_val": d.pick((-1.0, -0.5)), "max_val": d.pick((1.0, 0.5))},
}


@row(*(f"nn.functional.{name}" for name in ACTIVATIONS))
def activation(d: Draw, name: str) -> Call:
    kwargs = ACTIVATIONS[name.rpartition(".")[2]](d) if d.chance(0.7) else {}
    return Call(name, (d.leaf(d.shape(), d.floating()),), kwargs, exact="gelu" not in name)  # 1 + tanh cancels


# --- in place ---------------------------------------------------------------------------------------------------------


def target(d: Draw, shape: Shape) -> Leaf:
    """What may be changed: no element stands for several."""
    return d.leaf(shape, repeats=False)


@row(
    "Tensor.abs_ Tensor.ceil_ Tensor.cos_ Tensor.exp_ Tensor.floor_ Tensor.log_ Tensor.neg_ Tensor.reciprocal_ "
    "Tensor.relu_ Tensor.round_ Tensor.sigmoid_ Tensor.sin_ Tensor.sqrt_ Tensor.square_ Tensor.tanh_ Tensor.zero_ "
    "Tensor.logical_not_"
)
def unary_in_place(d: Draw, name: str) -> Call:
    return Call(name, (target(d, d.shape()),), exact=True, in_place=True)


@row("Tensor.add_ Tensor.sub_ Tensor.mul_ Tensor.div_ Tensor.copy_ Tensor.fill_")
def binary_in_place(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2)
    x = target(d, a)
    y: Any = d.leaf((), kind="smooth") if name == "Tensor.fill_" else d.leaf(b, x.dtype if d.chance(0.7) else None)
    if name == "Tensor.copy_":
        y = d.leaf(b, x.dtype if d.chance(0.5) else d.pick(("int64", "float64", "float32")), "counts")
    elif d.chance(0.3):
        y = d.pick((1, 2.0, 0.5))
    return Call(name, (x, y), exact=True, in_place=True)


@row("Tensor.pow_ Tensor.remainder_ Tensor.floor_divide_")
def number_in_place(d: Draw, name: str) -> Call:
    return Call(name, (target(d, d.shape()), d.pick((1, 2, 3, 2.0, 0.5))), exact=True, in_place=True)


@row(
    "Tensor.clamp_ Tensor.clip_ Tensor.masked_fill_ Tensor.lerp_ Tensor.addcmul_ Tensor.addcdiv_",
    "Tensor.tril_ Tensor.triu_",
)
def more_in_place(d: Draw, name: str) -> Call:
    tame(d)
    a, b, c = d.broadcastable(3)
    plain = name.partition(".")[2][:-1]
    x = target(d, a)
    if plain in ("clamp", "clip"):
        return Call(name, (x, -0.5, d.pick((None, 1.0, 2))), exact=True, in_place=True)
    if plain == "masked_fill":
        return Call(name, (x, d.leaf(b, "bool"), d.pick((0, 1.5, -2))), exact=True, in_place=True)
    if plain in ("tril", "triu"):
        return Call(name, (target(d, d.shape(2)), d.int(-2, 2)), exact=True, in_place=True)
    return Call(name, (x, d.leaf(b, x.dtype), d.leaf(c, x.dtype)), in_place=True)
