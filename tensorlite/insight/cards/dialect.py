"""The dialect in which cards are written, and its meaning in NumPy.

A formula is a Python expression of names, numbers, operators and the functions below. A comparison is 1 where it holds
and 0 elsewhere, so that g*(x > 0) is the rule of relu; `&`, `|` and `~` join comparisons. Reductions (sum, mean, prod,
top, bottom) go over the dimensions that the op was called for, its `dims` or `dim`, and keep them at size 1, as do `g`
and `out` of an op that folds dimensions.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .words import words


def evaluate(formula: str, values: Mapping[str, Any], where: Mapping[str, str] | None = None) -> Any:
    """The value of a formula for names given as arrays, numbers and parameters; `where` explains further names.

    >>> evaluate("out*(1 - out)", {"out": 0.5})
    0.25
    """
    given = _kept_dimensions(values)
    space: dict[str, Any] = {**_VOCABULARY, **words(given), **given}
    with np.errstate(all="ignore"):
        return _value(formula, space, where or {}, frozenset(given))


def names(formula: str) -> frozenset[str]:
    """All names in a formula."""
    return frozenset(node.id for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name))


def vocabulary() -> frozenset[str]:
    """The names that every formula may use."""
    return frozenset(_VOCABULARY) | frozenset(words({}))


@functools.cache
def _parsed(formula: str) -> ast.Expression:
    return ast.parse(formula, mode="eval")


@functools.cache
def _compiled(formula: str) -> Any:
    return compile(_parsed(formula), formula, "eval")


def _value(formula: str, space: dict[str, Any], where: Mapping[str, str], given: frozenset[str]) -> Any:
    for name in names(formula) & where.keys() - given:
        space[name] = _value(where[name], space, where, given)
    return eval(_compiled(formula), {"__builtins__": {}}, space)


def _kept_dimensions(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the dimensions that the op folded back in `g` and `out` at size 1."""
    result = dict(values)
    if "keepdim" in values and ("dims" in values or "dim" in values):
        shape = np.shape(values["x"])
        dims = values.get("dims", values.get("dim"))
        folded = range(len(shape)) if dims is None else (dims,) if isinstance(dims, int) else dims
        kept = tuple(1 if i in [d % len(shape) for d in folded] else n for i, n in enumerate(shape))
        for name in ("g", "out"):
            if name in result:
                result[name] = np.reshape(result[name], kept)
    return result


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x)))


def _normal(x: Any) -> Any:
    return (1 + _erf(np.asarray(x) / math.sqrt(2))) / 2


def _density(x: Any) -> Any:
    return np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, 0)


_VOCABULARY: dict[str, Any] = {
    **{name: getattr(np, name) for name in (
        "exp exp2 expm1 log log2 log10 log1p sqrt sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh "
        "arccosh arctanh floor ceil trunc sign abs where logaddexp copysign isnan isinf isfinite signbit").split()},
    "max": np.maximum, "min": np.minimum, "round": np.rint, "erf": _erf, "sigmoid": _sigmoid, "softplus": _softplus,
    "Phi": _normal, "phi": _density, "pi": math.pi, "inf": math.inf,
}
