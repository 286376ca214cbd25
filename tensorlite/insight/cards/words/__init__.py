"""The words of the dialect beyond NumPy's functions: by what a card's formula is evaluated, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .arrays import ARRAYS
from .folds import FOLDS, folds
from .layers import LAYERS, convolution

_NO_GEOMETRY = {"stride": (), "padding": (), "dilation": (), "groups": 1}
_PLAIN = frozenset(
    "sum mean prod top bottom cumsum cumprod T einsum reshape shape_of permute concat argsort full".split())


def words(values: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The words, bound to the parameters of a call among the values."""
    return {**ARRAYS, **LAYERS, **folds(values), **convolution(values if "stride" in values else _NO_GEOMETRY)}


def meaning(word: str) -> str:
    """What a word means, in a sentence; empty for those that need no explanation.

    >>> meaning("place")
    'Zeros of a shape with a in the region that a key selects.'
    """
    function = {**words({}), **FOLDS}.get(word)
    return "" if word in _PLAIN or function is None else (function.__doc__ or "").partition("\n")[0]
