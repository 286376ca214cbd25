"""What a card says besides its formulas: the dtypes that an op takes, what it costs, and the row of its audit."""

from __future__ import annotations

import functools
import json
import math
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...autograd.mode import no_grad
from ...autograd.op import ANY, FLOAT, Op
from ...backends import get
from ...backends.kernels.elementwise import FORMULAS
from ...creation import ones
from ...errors import TensorliteError
from ..cards.pretty import pretty
from ..costs import bytes_moved, work
from ..spans import Work

_PROMOTION = {
    FLOAT: "floating dtypes stay as they are; integers and bools become the default floating dtype",
    ANY: "operands of different dtypes are brought to their common one, which the result has",
}


def dtypes_of(op: Op, kernels: list[str]) -> str:
    """Which dtypes an op takes and what comes out: by its promotion, and of an elementwise one by asking it."""
    parts = [_PROMOTION[op.promote]] if op.promote in _PROMOTION else []
    if kernels and kernels[0] in FORMULAS and len(op.inputs) == len(FORMULAS[kernels[0]].inputs):
        parts.append(_outcomes(op))
    return "; ".join(part for part in parts if part)


def _outcomes(op: Op) -> str:
    """The results' dtypes by the inputs', for inputs of one dtype: "int64 -> float32"."""
    by_result: dict[str, list[str]] = {}
    for dtype in dtypes.ALL:
        by_result.setdefault(_outcome(op, dtype), []).append(dtype.name)
    return "; ".join(f"{', '.join(names)} {result}" for result, names in by_result.items() if result)


def _outcome(op: Op, dtype: dtypes.DType) -> str:
    try:
        with no_grad():
            result = op(*[ones(1, dtype=dtype) for _ in op.inputs])
    except TensorliteError:
        return "refused"
    except TypeError:  # it needs parameters
        return ""
    return "kept" if result.dtype is dtype else f"-> {result.dtype.name}"


# --- costs ------------------------------------------------------------------------------------------------------------


class Product(NamedTuple):
    """The floating-point operations of a kernel: their number in sizes, why, and a call to count them of."""

    flops: str  # in the cards' dialect
    why: str
    sizes: dict[str, int]
    out: tuple[int, ...]
    args: tuple[tuple[int, ...], ...]
    params: dict[str, Any]


def _linear() -> Product:
    return Product("2*rows*width*out", "a product and a sum per weight and row", {"rows": 64, "width": 128, "out": 32},
                   (64, 32), ((64, 128), (32, 128), (32,)), {})


def _conv(out: tuple[int, ...], *args: tuple[int, ...]) -> Product:
    return Product("2*N*K*P*Q*(C/groups)*R*S", "each element of a filter meets each place of the result",
                   {"N": 8, "K": 16, "P": 14, "Q": 12, "C": 4, "groups": 1, "R": 3, "S": 3}, out, args,
                   {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1})


def _attention(flops: str, why: str, operands: int) -> Product:
    sizes = {"N": 2, "H": 4, "L": 16, "S": 24, "E": 8, "Ev": 10}
    q, k, v = ((2, 4, 16, 8), (2, 4, 24, 8), (2, 4, 24, 10))
    out = (2, 4, 16, 10)
    return Product(flops, why, sizes, out, ((q, k, v) if operands == 3 else (out, q, k, v)), {"causal": False})


_X, _W, _Y = (8, 4, 14, 12), (16, 4, 3, 3), (8, 16, 14, 12)
PRODUCTS = {
    "matmul": Product("2*n*k*m", "a product and a sum for each of k terms", {"n": 64, "k": 128, "m": 32}, (64, 32),
                      ((64, 128), (128, 32)), {}),
    "linear": _linear(),
    "linear_relu": _linear(),
    "conv2d": _conv(_Y, _X, _W),
    "conv2d_input_grad": _conv(_X, _Y, _W),
    "conv2d_weight_grad": _conv(_W, _Y, _X),
    "attention": _attention("2*N*H*L*S*(E + Ev)", "scores, and what they weigh", 3),
    "attention_grad": _attention("2*N*H*L*S*(3*E + 2*Ev)", "scores, slopes of q and k; slopes of weights and of v", 4),
}


def costs_of(kernel: str) -> str:
    """The bytes and floating-point operations of a kernel, in a line; empty where nothing general can be said."""
    if kernel in FORMULAS:
        return _elementwise_cost(kernel)
    product = PRODUCTS.get(kernel)
    if product is None:
        return ""
    cost = cost_of_example(kernel)
    shapes = ", ".join(str(shape) for shape in product.args)
    return (f"{pretty(product.flops)} flops ({product.why}); of float32 {shapes}: {cost.flops:,} flops, "
            f"{cost.bytes:,} bytes, {cost.flops / cost.bytes:.1f} flops per byte")


def cost_of_example(kernel: str) -> Work:
    """The work of a product of the shapes in `PRODUCTS`, as the profiler counts it."""
    product = PRODUCTS[kernel]
    out, *args = [np.zeros(shape, np.float32) for shape in (product.out, *product.args)]
    return work(get("cpu"), kernel, out, tuple(args), product.params)


def _elementwise_cost(kernel: str) -> str:
    formula = FORMULAS[kernel]
    count = 1024
    kinds = {"T": np.float32 if dtypes.float32 in formula.dtypes else np.int64, "b": np.bool_}
    out, *args = [np.empty(count, kinds[c]) for c in formula.signature[-1] + formula.inputs]
    total = bytes_moved(kernel, out, tuple(args)) // count
    read = math.fsum(a.itemsize for a in args)
    read_and_written = f"{int(read)} read and {out.itemsize} written"
    return f"{total} bytes per element of {args[-1].dtype.name}, {read_and_written}: memory bounds it"


# --- the audit --------------------------------------------------------------------------------------------------------


@functools.cache
def _audit() -> list[dict[str, Any]]:
    """The rows of audit.json; none where the package holds no such file."""
    file = resources.files("tensorlite.insight").joinpath("audit.json")
    if not file.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return rows


def audit_of(name: str) -> list[dict[str, Any]]:
    """The audit's rows of an op: one per dtype and device; see docs/audit.md."""
    return [row for row in _audit() if row.get("op") == name]
