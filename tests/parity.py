"""What the parity tests share: the same tensor for PyTorch and for us, random inputs, and the comparison.

TENSORLITE_EXAMPLES=10000 asks for so many random examples a test, new ones each time.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import tensorlite as tl

torch = pytest.importorskip("torch")

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-5, "float64": 1e-10}
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.0, -7.0, math.nan, math.inf, -math.inf)
ORDINARY = (0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.0, -7.0, 1.0, 1.0)
MORE = os.environ.get("TENSORLITE_EXAMPLES")
few = settings(max_examples=int(MORE or 25), derandomize=not MORE)
some = settings(max_examples=int(MORE or 150), derandomize=not MORE)


def pair(values: Any, dtype: str, requires_grad: bool = False, layout: int = 0) -> tuple[tl.Tensor, Any]:
    """The same tensor for both, in one of three memory layouts."""
    array = np.asarray(values, np.float64)
    ours = tl.tensor(array, dtype=dtype)
    theirs = torch.tensor(array).to(getattr(torch, dtype))
    if layout and array.ndim > 1:
        ours, theirs = ours.transpose(0, -1).contiguous(), theirs.transpose(0, -1).contiguous()
        ours, theirs = ours.transpose(0, -1), theirs.transpose(0, -1)
    if requires_grad and dtype.startswith(("float", "bfloat")):
        return ours.detach().requires_grad_(), theirs.detach().requires_grad_()
    return ours, theirs


def flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def to_numpy(x: Any) -> np.ndarray:
    if isinstance(x, tl.Tensor):
        return x.detach().double().numpy() if x.is_floating_point() else x.detach().numpy()
    return x.detach().double().numpy() if x.is_floating_point() else x.detach().numpy()


def name_of(dtype: Any) -> str:
    return str(dtype).partition(".")[2]


def assert_same(ours: Any, theirs: Any, tolerance: str | None = None) -> None:
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        if not isinstance(a, tl.Tensor):
            assert a == b
            continue
        assert name_of(a.dtype) == name_of(b.dtype)
        assert a.shape == tuple(b.shape)
        limit = TOLERANCE.get(tolerance or name_of(b.dtype), 0)
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), limit, limit)


def assert_parity(ours: Callable[..., Any], theirs: Callable[..., Any], inputs: list[tuple[Any, Any]],
                  tolerance: str | None = None) -> None:
    """Both give the same, or PyTorch refuses; then the same gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = theirs(*[b for _, b in inputs])
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError):
            try:
                ours(*[a for a, _ in inputs])
            except (tl.TensorliteError, TypeError):
                pass
            return
        result = ours(*[a for a, _ in inputs])
    assert_same(result, expected, tolerance)
    assert_same_gradients(flat(result), flat(expected), inputs, tolerance)


def assert_same_gradients(results: list[Any], references: list[Any], inputs: list[tuple[Any, Any]],
                          tolerance: str | None) -> None:
    """Compared where PyTorch has a derivative, and where no value is NaN: what a gradient is there nobody promises."""
    outputs = [(a, b) for a, b in zip(results, references, strict=True)
               if isinstance(a, tl.Tensor) and b.requires_grad]
    leaves = [(a, b) for a, b in inputs if isinstance(a, tl.Tensor) and b.requires_grad]
    if not outputs or any(bool(b.isnan().any()) for _, b in (*outputs, *leaves)):
        return
    weights = [pair(np.linspace(-1, 2, a.numel()).reshape(a.shape), name_of(a.dtype)) for a, _ in outputs]
    try:
        wanted = torch.autograd.grad([b for _, b in outputs], [b for _, b in leaves], [w for _, w in weights],
                                     allow_unused=True, materialize_grads=True)
    except RuntimeError:
        return
    mine = tl.autograd.grad([a for a, _ in outputs], [a for a, _ in leaves], [w for w, _ in weights],
                            materialize_grads=True)
    for g, h in zip(mine, wanted, strict=True):
        unknown = h.isnan()  # as inf/inf in the gradient of prod; ours may know better
        assert_same(tl.where(tl.from_numpy(unknown.numpy()), 0.0, g), h.masked_fill(unknown, 0.0), tolerance)


# --- random inputs ---------------------------------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
full_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@st.composite
def filled(draw: Any, shape: tuple[int, ...], values: tuple[float, ...] = ORDINARY) -> np.ndarray:
    count = math.prod(shape)
    return np.array(draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)), np.float64).reshape(shape)


@st.composite
def broadcast_shapes(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast."""
    shape = draw(shapes)
    parts = []
    for _ in range(2):
        kept = shape[draw(st.integers(0, len(shape))):]
        parts.append(tuple(n if draw(st.booleans()) else 1 for n in kept))
    return parts[0], parts[1]
