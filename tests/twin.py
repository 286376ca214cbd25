"""Tests that are a function of the library: `@twin` runs it with tensorlite and with torch, and both must agree.

The function takes the library L and returns what is to be compared: tensors, numbers, bools, None, in lists or tuples.
Both may refuse instead; `@twin(refused="text")` says that both must, and what tensorlite's error says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl

REFUSALS = (RuntimeError, TypeError, ValueError, IndexError)


def leaf(L: Any, values: Any, dtype: str = "float64", requires_grad: bool = True) -> Any:
    """A leaf of the library L."""
    return L.tensor(values, dtype=getattr(L, dtype), requires_grad=requires_grad)


def plain(value: Any) -> Any:
    """Tensors as (dtype, requires_grad, nested lists)."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "detach"):
        return str(value.dtype).partition(".")[2], value.requires_grad, value.detach().tolist()
    return value


def outcome(function: Callable[[Any], Any], library: Any) -> tuple[Any, BaseException | None]:
    """What the function returns, or the error with which it is refused."""
    try:
        return plain(function(library)), None
    except REFUSALS as error:
        return None, error


def assert_alike(actual: Any, expected: Any) -> None:
    """Equal, floating numbers up to rounding."""
    if isinstance(expected, (list, tuple)):
        assert isinstance(actual, (list, tuple)), (actual, expected)
        assert len(actual) == len(expected), (actual, expected)
        for a, e in zip(actual, expected, strict=True):
            assert_alike(a, e)
    elif isinstance(expected, float) and not isinstance(actual, bool):
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9)
    else:
        assert actual == expected, (actual, expected)


def twin(function: Any = None, *, refused: str | None = None) -> Any:
    """Make a test of a function of the library: see the module's docstring."""
    if function is None:
        return lambda f: twin(f, refused=refused)

    def test() -> None:
        torch = pytest.importorskip("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, torch_error = outcome(function, torch)
        actual, error = outcome(function, tl)
        assert (torch_error is None) == (refused is None), torch_error
        assert (error is None) == (refused is None), error
        if refused is None:
            assert_alike(actual, expected)
        else:
            assert isinstance(error, tl.errors.TensorliteError), repr(error)
            assert re.search(refused, str(error)), str(error)

    test.__doc__, test.__name__, test.__module__ = function.__doc__, function.__name__, function.__module__
    return test
