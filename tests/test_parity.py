"""Parity with PyTorch: values, dtypes, shapes, gradients and errors over random shapes, broadcasts, dtypes and options.

PyTorch's functions are called under the same names and arguments as ours. Where PyTorch raises, ours may raise or
may support more; where PyTorch answers, ours must give the same answer.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import (
    DTYPES,
    ORDINARY,
    SPECIAL,
    TOLERANCE,
    assert_parity,
    assert_same,
    broadcast_shapes,
    few,
    filled,
    name_of,
    pair,
    shapes,
    torch,
)

import tensorlite as tl

UNARY = """abs neg sign square reciprocal exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh
    cosh tanh asinh acosh atanh floor ceil trunc round erf relu sigmoid isnan isinf isfinite signbit logical_not
    bitwise_not nan_to_num clone""".split()
BINARY = """add sub mul div floor_divide remainder fmod pow maximum minimum atan2 copysign eq ne lt le gt ge
    logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor logaddexp""".split()
DIVIDING = ("div", "floor_divide", "remainder", "fmod", "pow")


@pytest.mark.parametrize("name", UNARY)
@few
@given(data=st.data())
def test_unary(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    values = data.draw(filled(data.draw(shapes), SPECIAL if dtype.startswith(("float", "bf")) else ORDINARY))
    if name in ("sign", "signbit"):
        values = np.nan_to_num(values)  # sign(nan) is nan here, as in NumPy, and 0 in PyTorch; a NaN's bit is no value
    if (name, dtype) == ("square", "bool"):
        return  # int64 in PyTorch; refused here
    layout = data.draw(st.integers(0, 1))
    assert_parity(getattr(tl.ops, name), getattr(torch, name), [pair(values, dtype, True, layout)])


@pytest.mark.parametrize("name", BINARY)
@few
@given(data=st.data())
def test_binary(name: str, data: st.DataObject) -> None:
    a, b = data.draw(broadcast_shapes())
    first, second = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(DTYPES))
    integral = not (first.startswith(("float", "bf")) and second.startswith(("float", "bf")))
    values = ORDINARY if integral else SPECIAL
    x, y = data.draw(filled(a, values)), data.draw(filled(b, values))
    if name in DIVIDING and integral:
        y = np.abs(y) + 1
    derived = name != "atan2" or not integral  # PyTorch's gradients compute in uint8 there
    assert_parity(getattr(tl.ops, name), getattr(torch, name), [pair(x, first, derived), pair(y, second, derived)],
                  max((first, second, "float32"), key=lambda d: TOLERANCE.get(d, 0)))


@pytest.mark.parametrize("name", BINARY)
@few
@given(data=st.data())
def test_binary_with_a_number(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(filled(data.draw(shapes)))
    number = data.draw(st.sampled_from([True, 1, 2, 3, 0.5, 2.0]))
    if name == "pow" and dtype == "bool" and number is True:
        return  # refused here
    assert_parity(lambda t: getattr(tl.ops, name)(t, number), lambda t: getattr(torch, name)(t, number),
                  [pair(x, dtype, True)])


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b, "==": lambda a, b: a == b,
    "<": lambda a, b: a < b, "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b,
}


@pytest.mark.parametrize("symbol", OPERATORS)
def test_promotion_over_the_whole_lattice(symbol: str) -> None:
    """Every pair of dtypes, dimensioned, 0-d or Python number, on either side: values and result dtype."""
    function = OPERATORS[symbol]
    operands: list[tuple[Any, Any]] = [(n, n) for n in (True, 2, 1.5)]
    for dtype, shape in itertools.product(DTYPES, ((2,), ())):
        operands.append(pair(np.ones(shape) * 2, dtype))
    for (a, x), (b, y) in itertools.product(operands, operands):
        if not (isinstance(a, tl.Tensor) or isinstance(b, tl.Tensor)):
            continue
        if symbol == "**" and all(v is True or getattr(v, "dtype", None) is tl.bool for v in (a, b)):
            continue  # refused here
        try:
            expected = function(x, y)
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        result = function(a, b)
        assert name_of(result.dtype) == name_of(expected.dtype), (symbol, a, b)
        assert_same(result, expected)
        assert name_of(result.dtype) == name_of(torch.result_type(x, y)) or symbol in ("==", "<", "/")


@pytest.mark.parametrize("first", DTYPES)
def test_promote_types(first: str) -> None:
    for second in DTYPES:
        expected = torch.promote_types(getattr(torch, first), getattr(torch, second))
        assert name_of(tl.promote_types(getattr(tl, first), getattr(tl, second))) == name_of(expected)


# --- reductions and scans ---------------------------------------------------------------------------------------------

# PyTorch's any and all of uint8 are uint8 (an old bool), of 0-d and empty tensors softmax takes any dtype.
REDUCING = "sum mean prod amax amin all any logsumexp var std norm count_nonzero argmax argmin".split()


@pytest.mark.parametrize("name", REDUCING)
@few
@given(data=st.data())
def test_reductions(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([d for d in DTYPES if name not in ("all", "any") or d != "uint8"]))
    shape = data.draw(shapes)
    special = dtype == "float64" and name not in ("var", "std", "norm", "prod")
    x = data.draw(filled(shape, SPECIAL if special else ORDINARY))
    dims = st.integers(-len(shape) - 1, len(shape)) if shape else st.integers(-1, 0)
    dim = data.draw(st.none() | dims)
    kwargs: dict[str, Any] = {} if dim is None and name != "logsumexp" else {"dim": dim or 0}
    if name in ("sum", "mean", "amax", "amin", "logsumexp", "var", "std") and shape and data.draw(st.booleans()):
        kwargs["dim"] = data.draw(st.lists(dims, max_size=2).map(tuple))
        if kwargs["dim"] == ():
            return  # PyTorch reduces all dimensions for (), NumPy and we none
    if kwargs and name != "count_nonzero":
        kwargs["keepdim"] = data.draw(st.booleans())
    if name in ("var", "std"):
        kwargs["correction"] = data.draw(st.integers(0, 2))
    if name in ("sum", "mean", "prod") and data.draw(st.booleans()):
        kwargs["dtype"] = "float64"
    theirs = {**kwargs, "dtype": torch.float64} if "dtype" in kwargs else kwargs
    assert_parity(lambda t: getattr(tl.ops, name)(t, **kwargs), lambda t: getattr(torch, name)(t, **theirs),
                  [pair(x, dtype, kwargs.get("correction", 0) < 2, data.draw(st.integers(0, 1)))])


@pytest.mark.parametrize("name", "cumsum cumprod softmax log_softmax sort argsort max min median topk diff".split())
@few
@given(data=st.data())
def test_along_one_dimension(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES[6:] if "softmax" in name else DTYPES))
    shape = data.draw(shapes)
    x = data.draw(filled(shape, SPECIAL if dtype == "float64" and name in ("sort", "max", "min") else ORDINARY))
    if name in ("sort", "argsort", "topk", "median", "max", "min") and dtype != "bool" and not np.isnan(x).any():
        x = np.argsort(np.argsort(x.ravel() + np.arange(x.size) / 64)).reshape(shape).astype(np.float64)  # no ties
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    kwargs: dict[str, Any] = {"dim": dim}
    if name in ("sort", "argsort"):
        kwargs |= {"descending": data.draw(st.booleans()), "stable": True}
    if name in ("max", "min", "median"):
        kwargs["keepdim"] = data.draw(st.booleans())
    if name == "topk":
        kwargs |= {"k": data.draw(st.integers(0, 4)), "largest": data.draw(st.booleans())}
    if name == "diff":
        kwargs["n"] = data.draw(st.integers(1, 3))
    assert_parity(lambda t: getattr(tl.ops, name)(t, **kwargs), lambda t: getattr(torch, name)(t, **kwargs),
                  [pair(x, dtype, True, data.draw(st.integers(0, 1)))])


# --- values of special interest ---------------------------------------------------------------------------------------

SUBGRADIENTS = {
    "relu at 0": (lambda m, x: m.relu(x), [0.0]), "abs at 0": (lambda m, x: m.abs(x), [0.0, -0.0]),
    "sign": (lambda m, x: m.sign(x), [0.0, 2.0]), "floor": (lambda m, x: m.floor(x), [0.5, 1.0]),
    "round": (lambda m, x: m.round(x), [0.5, 1.5, 2.5]),
    "clamp at both bounds": (lambda m, x: m.clamp(x, 0, 1), [0.0, 1.0, 2.0]),
    "maximum tie": (lambda m, x: m.maximum(x, m.ones_like(x)), [1.0, 2.0]),
    "minimum tie": (lambda m, x: m.minimum(x, x.detach()), [1.0, 2.0]),
    "max tie": (lambda m, x: m.max(x), [3.0, 3.0, 1.0]), "amax tie": (lambda m, x: m.amax(x, 0), [3.0, 3.0, 1.0]),
    "amin tie": (lambda m, x: m.amin(x, 0), [3.0, 1.0, 1.0]),
    "max(dim) tie": (lambda m, x: m.max(x, 0)[0], [3.0, 3.0, 1.0]),
    "sqrt at 0": (lambda m, x: m.sqrt(x), [0.0, 4.0]), "norm at 0": (lambda m, x: m.norm(x), [0.0, 0.0]),
    "std at 0": (lambda m, x: m.std(x), [1.0, 1.0]), "prod with one zero": (lambda m, x: m.prod(x), [0.0, 2.0, 3.0]),
    "prod with two zeros": (lambda m, x: m.prod(x), [0.0, 0.0, 3.0]),
    "cumprod with zeros": (lambda m, x: m.cumprod(x, 0), [2.0, 0.0, 3.0, 0.0, 5.0]),
    "x ** 0 at 0": (lambda m, x: x**0, [0.0, 2.0]), "0 ** x": (lambda m, x: m.pow(0.0, x), [0.0, 2.0]),
    "x ** 2 at 0": (lambda m, x: x**2, [0.0, -2.0]), "x ** 0.5 at 0": (lambda m, x: x**0.5, [0.0, 4.0]),
    "where trap": (lambda m, x: m.where(x > 0, m.log(x), m.zeros_like(x)), [0.0, 2.0]),
    "logsumexp of -inf": (lambda m, x: m.logsumexp(x, 0), [-math.inf, 1.0]),
    "logsumexp far out": (lambda m, x: m.logsumexp(x, 0), [1e4, -1e4, 1e4]),
    "softmax far out": (lambda m, x: m.softmax(x, 0), [1e4, -1e4, 0.0]),
    "sigmoid far out": (lambda m, x: m.sigmoid(x), [-1e4, 1e4]),
    "log_softmax far out": (lambda m, x: m.log_softmax(x, 0), [1e4, -1e4, 0.0]),
    "median": (lambda m, x: m.median(x), [4.0, 1.0, 3.0, 2.0]),
    "median of equal elements": (lambda m, x: m.median(x), [1.0, 1.0, 2.0, 1.0]),
    "median of NaN": (lambda m, x: m.nan_to_num(m.median(x)), [1.0, math.nan, 2.0]),
    "division by 0, truncated": (lambda m, x: m.nan_to_num(m.div(x, x.detach() * 0, rounding_mode="trunc")), [3.0]),
    "the divisor 0, truncated": (lambda m, x: m.nan_to_num(m.div(1.0 + 0 * x.detach(), x, rounding_mode="trunc")),
                                 [0.0, 3.0]),
    "2 ** x far out": (lambda m, x: m.pow(2.0, x), [-math.inf, -2000.0, 3.0]),
    "lerp all the way": (lambda m, x: m.lerp(x, 7.3 + 0 * x.detach(), 1.0), [1.1, 0.3]),
    "lerp to a weight": (lambda m, x: m.lerp(1.1 + 0 * x.detach(), 7.3 + 0 * x.detach(), x), [1.0, 0.3, 0.5]),
    "remainder": (lambda m, x: m.remainder(x, -3.0), [-5.0, 5.0, 0.5]),
    "fmod": (lambda m, x: m.fmod(x, -3.0), [-5.0, 5.0, 0.5]),
    "atan2 at 0": (lambda m, x: m.atan2(x, x.detach()), [0.0, 1.0]),
    "copysign at 0": (lambda m, x: m.copysign(x, -m.ones_like(x)), [0.0, 2.0]),
    "nan_to_num": (lambda m, x: m.nan_to_num(x), [1.0, math.inf]),
    "logaddexp of -inf": (lambda m, x: m.logaddexp(x, m.ones_like(x)), [-math.inf, 0.0]),
}


@pytest.mark.parametrize("name", SUBGRADIENTS)
def test_subgradients_and_extreme_values(name: str) -> None:
    function, values = SUBGRADIENTS[name]
    ours, theirs = pair(values, "float64", True)
    result, expected = function(tl, ours), function(torch, theirs)
    assert_same(result, expected)
    result.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), 1e-12)


OF_NOTHING = "sum prod mean amax amin argmax argmin max min all any cumsum var logsumexp norm median".split()


@pytest.mark.parametrize("name", OF_NOTHING)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_reductions_of_nothing(name: str, shape: tuple[int, ...]) -> None:
    """NumPy's results where there is a neutral element, an error where there is none."""
    for kwargs in ({}, *({"dim": d} for d in range(len(shape)))):
        if (name in ("cumsum", "logsumexp") and not kwargs) or (name == "median" and not kwargs):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = getattr(torch, name)(torch.zeros(shape), **kwargs)
            except (RuntimeError, IndexError):
                with pytest.raises(tl.ShapeError, match="empty"):
                    getattr(tl, name)(tl.zeros(shape), **kwargs)
                continue
            assert_same(getattr(tl, name)(tl.zeros(shape), **kwargs), expected)


F = torch.nn.functional
THREE_OPERANDS = {
    "where": (lambda a, b, c: tl.where(a > 0, b, c), lambda a, b, c: torch.where(a > 0, b, c)),
    "clamp": (lambda a, b, c: tl.clamp(a * 9, b, c + 19.5), lambda a, b, c: torch.clamp(a * 9, b, c + 19.5)),
    "lerp": (tl.lerp, torch.lerp),
    "addcmul": (lambda a, b, c: tl.addcmul(a, b, c, value=2), lambda a, b, c: torch.addcmul(a, b, c, value=2)),
    "addcdiv": (lambda a, b, c: tl.addcdiv(a, b, c + 9.5, value=2),
                lambda a, b, c: torch.addcdiv(a, b, c + 9.5, value=2)),
    "add alpha": (lambda a, b, c: tl.add(a, b, alpha=3), lambda a, b, c: torch.add(a, b, alpha=3)),
    "sub alpha": (lambda a, b, c: tl.sub(a, b, alpha=0.5), lambda a, b, c: torch.sub(a, b, alpha=0.5)),
    "div floor": (lambda a, b, c: tl.div(a, b * 2 + 1, rounding_mode="floor"),
                  lambda a, b, c: torch.div(a, b * 2 + 1, rounding_mode="floor")),
    "div trunc": (lambda a, b, c: tl.div(a, b * 2 + 1, rounding_mode="trunc"),
                  lambda a, b, c: torch.div(a, b * 2 + 1, rounding_mode="trunc")),
    "isclose": (lambda a, b, c: tl.isclose(a, b, 0.5, 0.5, True), lambda a, b, c: torch.isclose(a, b, 0.5, 0.5, True)),
    "masked_fill": (lambda a, b, c: tl.masked_fill(a, b > 0, 2.7), lambda a, b, c: torch.masked_fill(a, b > 0, 2.7)),
    "fill and copy": (lambda a, b, c: a.clone().copy_(b), lambda a, b, c: a.clone().copy_(b)),
    "iadd": (lambda a, b, c: a.clone().add_(b), lambda a, b, c: a.clone().add_(b)),
    "imul": (lambda a, b, c: (a * 1).mul_(b).sub_(c), lambda a, b, c: (a * 1).mul_(b).sub_(c)),
}


@pytest.mark.parametrize("name", THREE_OPERANDS)
@few
@given(data=st.data())
def test_three_operands(name: str, data: st.DataObject) -> None:
    a, b = data.draw(broadcast_shapes())
    c = data.draw(st.sampled_from([a, b, ()]))
    allowed = ("float32", "float64") if name == "isclose" else DTYPES[1:] if "alpha" in name else DTYPES
    names = [data.draw(st.sampled_from(allowed)) for _ in range(3)]
    derived = all(n in DTYPES[6:] for n in names)  # PyTorch's gradients compute in integers that wrap
    inputs = [pair(data.draw(filled(s)), dtype, derived) for s, dtype in zip((a, b, c), names, strict=True)]
    assert_parity(*THREE_OPERANDS[name], inputs, max((*names, "float32"), key=lambda d: TOLERANCE.get(d, 0)))


ACTIVATIONS = {
    "leaky_relu": (lambda x: tl.ops.leaky_relu(x, negative_slope=0.2), lambda x: F.leaky_relu(x, 0.2)),
    "elu": (lambda x: tl.ops.elu(x, alpha=0.7), lambda x: F.elu(x, 0.7)), "silu": (tl.ops.silu, F.silu),
    "gelu": (tl.ops.gelu, F.gelu),
    "gelu tanh": (lambda x: tl.ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "softplus": (lambda x: tl.ops.softplus(x, beta=2.0, threshold=5.0), lambda x: F.softplus(x, 2.0, 5.0)),
    "logsigmoid": (tl.ops.logsigmoid, F.logsigmoid),
    "layer_norm": (lambda x: tl.ops.layer_norm(x, None, None, normalized_ndim=1),
                   lambda x: F.layer_norm(x, x.shape[-1:])),
    "pad": (lambda x: tl.ops.pad(x, (1, -1), value=3.0), lambda x: F.pad(x, (1, -1), value=3.0)),
}


@pytest.mark.parametrize("dtype", DTYPES[6:])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, dtype: str) -> None:
    """Near and far from 0, where naive formulas overflow; in double precision also the second derivative."""
    values = np.array([[-1e4, -30.0, -3.0, -0.7], [-1e-3, 0.3, 2.4, 6.0], [25.0, 100.0, 1e4, 0.0]])
    inputs = [pair(values, dtype, True)]
    assert_parity(*ACTIVATIONS[name], inputs)
    (ours, theirs), (mine, reference) = inputs[0], ACTIVATIONS[name]
    if dtype == "float64":
        g, h = tl.autograd.grad(mine(ours).sum(), ours, create_graph=True), torch.autograd.grad(
            reference(theirs).sum(), theirs, create_graph=True)
        second, wanted = tl.autograd.grad((g[0] * ours).sum(), ours), torch.autograd.grad((h[0] * theirs).sum(), theirs)
        assert_same(second, wanted)


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, math.inf, -math.inf, "fro"])
@pytest.mark.parametrize("dim", [None, 0, (0, 1)])
def test_norms(p: Any, dim: Any) -> None:
    for values in ([[3.0, -4.0, 0.0], [1.0, 1.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]):
        assert_parity(lambda x: tl.norm(x, p, dim, True), lambda x: torch.norm(x, p, dim, True),
                      [pair(values, "float64", p != 0)])
