"""Parity with PyTorch in what moves elements: shapes, joining, products, einsum, index expressions, printing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import (
    DTYPES,
    assert_parity,
    few,
    filled,
    full_shapes,
    pair,
    shapes,
    some,
    torch,
)

import tensorlite as tl

# --- shapes -----------------------------------------------------------------------------------------------------------


def arguments(name: str, shape: tuple[int, ...], data: st.DataObject) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Random arguments, fitting or not, for a function that moves elements."""
    n = len(shape)
    dim = st.integers(-n - 1, n)
    small = st.integers(-1, 5)
    draw = data.draw
    if name in ("flatten",):
        return (draw(dim), draw(dim)), {}
    if name in ("transpose", "movedim"):
        return (draw(dim), draw(dim)), {}
    if name in ("unsqueeze", "unbind", "squeeze"):
        return (draw(dim),), {}
    if name == "permute":
        return (tuple(draw(st.permutations(range(n)))),), {}
    if name == "expand":
        return (tuple(draw(st.sampled_from([m, -1, 2] if m == 1 else [m, -1])) for m in (1,) * draw(st.integers(0, 1))
                      + shape),), {}
    if name == "reshape":
        return (draw(st.lists(st.sampled_from([-1, 1, 2, 3, 4, 6, math.prod(shape)]), max_size=3).map(tuple)),), {}
    if name == "narrow":
        return (draw(dim), draw(small), draw(small)), {}
    if name == "select":
        return (draw(dim), draw(small)), {}
    if name == "diagonal":
        return (draw(st.integers(-2, 2)), draw(dim), draw(dim)), {}
    if name in ("diag", "tril", "triu"):
        return (draw(st.integers(-3, 3)),), {}
    if name in ("split", "chunk", "tensor_split"):
        sizes = draw(small | st.lists(st.integers(0, 3), max_size=3).map(tuple)) if name != "chunk" else draw(small)
        return (sizes,), {"dim": draw(dim)}
    if name == "flip":
        return (draw(st.lists(dim, max_size=2).map(tuple)),), {}
    if name == "roll":
        return (draw(st.integers(-5, 5)),), draw(st.sampled_from([{}, {"dims": draw(st.integers(-n, max(n - 1, 0)))}]))
    if name in ("tile",):
        return (draw(st.lists(st.integers(0, 2), max_size=3).map(tuple)),), {}
    if name == "repeat_interleave":
        return (draw(st.integers(0, 3)),), draw(st.sampled_from([{}, {"dim": draw(dim)}]))
    raise AssertionError(name)


MOVING = """flatten transpose movedim unsqueeze unbind squeeze permute expand reshape narrow select diagonal diag tril
    triu split chunk tensor_split flip roll tile repeat_interleave""".split()


@pytest.mark.parametrize("name", MOVING)
@few
@given(data=st.data())
def test_movement(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(("bool", "int32", "float32", "float64")))
    shape = data.draw(shapes)
    x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape) % 7
    args, kwargs = arguments(name, shape, data)
    theirs = (lambda t: t.expand(*args, **kwargs)) if name == "expand" else (
        lambda t: getattr(torch, name)(t, *args, **kwargs))
    assert_parity(lambda t: getattr(tl.ops, name)(t, *args, **kwargs), theirs,
                  [pair(x, dtype, True, data.draw(st.integers(0, 1)))])


@few
@given(data=st.data())
def test_joining(data: st.DataObject) -> None:
    shape = data.draw(full_shapes)
    inputs = []
    for _ in range(data.draw(st.integers(1, 3))):
        changed = [data.draw(st.sampled_from([shape[0], 1, 2])), *shape[1:]]
        inputs.append(pair(np.arange(math.prod(changed)).reshape(changed), data.draw(st.sampled_from(DTYPES)), True))
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    assert_parity(lambda *t: tl.cat(t, dim), lambda *t: torch.cat(t, dim), inputs)
    assert_parity(lambda *t: tl.stack(t, dim), lambda *t: torch.stack(t, dim), inputs)


@few
@given(data=st.data())
def test_matmul(data: st.DataObject) -> None:
    a, b = data.draw(shapes), data.draw(shapes)
    if a and b and data.draw(st.booleans()):
        b = (*b[:-2], a[-1], *b[-1:]) if len(b) > 1 else (a[-1],)
    dtype = data.draw(st.sampled_from(("int64", "float16", "bfloat16", "float32", "float64")))
    assert_parity(tl.matmul, torch.matmul, [pair(data.draw(filled(s)), dtype, True, 1) for s in (a, b)])


@few
@given(data=st.data())
def test_einsum(data: st.DataObject) -> None:
    sizes = dict(zip("ijkl", data.draw(st.lists(st.integers(1, 3), min_size=4, max_size=4)), strict=True))
    terms = data.draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(used)))[:data.draw(st.integers(0, 4))]
    equation = ",".join(terms) + data.draw(st.sampled_from(["", "->" + output]))
    inputs = []
    for term in terms:
        shape = tuple(sizes[c] for c in term)
        inputs.append(pair(np.arange(math.prod(shape)).reshape(shape) % 5 - 1, "float64", True))
    assert_parity(lambda *t: tl.einsum(equation, *t), lambda *t: torch.einsum(equation, *t), inputs)


# --- indexing ---------------------------------------------------------------------------------------------------------


@st.composite
def index_items(draw: Any, n: int) -> Any:
    """One entry of a key for a dimension of size n, for NumPy; sometimes out of range."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.integers(-n - (n == 0), max(n - 1, 0)) | st.just(n))
    if kind <= 2:
        bound = st.none() | st.integers(-n - 1, n + 1)
        return slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -2])))
    if kind == 3:
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    shape = draw(st.sampled_from([(1,), (2,), (2, 1), (1, 2), (0,)])) if n else (0,)
    values = draw(st.lists(st.integers(-n, max(n - 1, 0)), min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.array(values, np.int64).reshape(shape)


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    items = [draw(index_items(n)) for n in shape[:draw(st.integers(0, len(shape)))]]
    for extra in draw(st.sampled_from([(), (None,), (...,), (None, ...), (..., None), (None, None)])):
        full = extra is None or len(items) == len(shape)  # dots elsewhere would shift the items to other dimensions
        items.insert(draw(st.integers(0, len(items))) if full else len(items), extra)
    return tuple(items)


def needs_numpy(key: tuple[Any, ...]) -> bool:
    """Whether PyTorch cannot answer (negative steps)."""
    return any(isinstance(k, slice) and (k.step or 1) < 0 for k in key)


def for_library(key: tuple[Any, ...], library: Any) -> tuple[Any, ...]:
    """A key whose arrays are the library's tensors."""
    return tuple(library.from_numpy(k) if isinstance(k, np.ndarray) else k for k in key)


@some
@given(data=st.data())
def test_getitem(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    key = data.draw(keys(shape))
    ours, theirs = pair(x, "float64", True)
    if not needs_numpy(key):
        wrapped = data.draw(st.booleans())
        assert_parity(lambda t: t[for_library(key, tl) if wrapped else key], lambda t: t[for_library(key, torch)],
                      [(ours, theirs)])
        return
    if any(isinstance(k, np.ndarray) for k in key):
        return  # NumPy orders the dimensions otherwise
    try:
        expected = x[key]
    except IndexError:
        with pytest.raises(IndexError):
            ours[key]
        return
    np.testing.assert_array_equal(ours[key].detach().numpy(), expected)
    ours[key].sum().backward()
    marked = np.zeros(shape)
    marked[key] = 1
    np.testing.assert_array_equal(ours.grad.numpy(), marked)


@some
@given(data=st.data())
def test_setitem(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    key = data.draw(keys(shape))
    scalar = data.draw(st.booleans())
    try:
        selected = x[key].shape if needs_numpy(key) else tuple(torch.from_numpy(x)[for_library(key, torch)].shape)
    except (IndexError, RuntimeError):
        with pytest.raises((IndexError, RuntimeError)):
            tl.tensor(x)[key] = 1.0
        return
    value = -1.0 if scalar else -1 - np.arange(math.prod(selected), dtype=np.float64).reshape(selected)
    arrays = [k for k in key if isinstance(k, np.ndarray)]
    if needs_numpy(key) and arrays:
        return
    if needs_numpy(key):
        expected = x.copy()
        expected[key] = value
        ours = tl.tensor(x)
        ours[key] = value if scalar else tl.tensor(value)
        np.testing.assert_array_equal(ours.numpy(), expected)
        return

    def written(library: Any) -> Any:
        def run(t: Any, v: Any = value) -> Any:
            result = t.clone()
            result[for_library(key, library)] = v
            return result
        return run

    inputs = [pair(x, "float64", True)] + ([] if scalar else [pair(value, "float64", True)])
    distinct = len(arrays) < 2 and all(len(np.unique(np.abs(k))) == k.size for k in arrays if k.dtype != bool)
    if distinct or scalar:  # of duplicates any one may win in PyTorch, the last one here
        assert_parity(written(tl), written(torch), inputs)


@some
@given(data=st.data())
def test_gather_and_scatter(data: st.DataObject) -> None:
    shape = data.draw(full_shapes)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    part = [data.draw(st.integers(0, n)) for n in shape]
    count = math.prod(part)
    index = np.array(data.draw(st.lists(st.integers(0, shape[dim] - 1), min_size=count, max_size=count)), np.int64)
    index = index.reshape(part)
    x = pair(data.draw(filled(shape)), "float64", True)
    source = pair(np.arange(math.prod(shape)).reshape(shape), "float64", True)
    i, j = tl.tensor(index), torch.tensor(index)
    assert_parity(lambda t: tl.gather(t, dim, i), lambda t: torch.gather(t, dim, j), [x])
    assert_parity(lambda t, s: tl.scatter_add(t, dim, i, s), lambda t, s: torch.scatter_add(t, dim, j, s), [x, source])
    chosen = index.reshape(-1)[:3] % shape[dim]
    c, d = tl.tensor(chosen), torch.tensor(chosen)
    assert_parity(lambda t: tl.index_select(t, dim, c), lambda t: torch.index_select(t, dim, d), [x])
    assert_parity(lambda t: tl.take(t, i % t.numel()), lambda t: torch.take(t, j % t.numel()), [x])
    mask = np.asarray(data.draw(filled(shape))) > 0
    m, n = tl.tensor(mask), torch.tensor(mask)
    assert_parity(lambda t: tl.masked_select(t, m), lambda t: torch.masked_select(t, n), [x])
    assert_parity(lambda t: tl.masked_fill(t, m, 2), lambda t: torch.masked_fill(t, n, 2), [x])


# --- printing ---------------------------------------------------------------------------------------------------------


@st.composite
def printed(draw: Any) -> np.ndarray:
    large = st.sampled_from([(30,), (2, 17), (1001,), (3, 7, 60), (40, 30)])
    shape = draw(st.lists(st.integers(0, 5), max_size=3).map(tuple) | large)
    scale = draw(st.sampled_from([1e-9, 1e-4, 1.0, 1e3, 1e7, 1e9]))
    seed = draw(st.integers(0, 1000))
    values = np.random.default_rng(seed).normal(size=shape) * scale
    if draw(st.booleans()):
        values = np.round(values)
    for special in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0]), max_size=2)):
        values = np.where(np.random.default_rng(seed + 1).random(shape) < 0.3, special, values)
    return np.asarray(values)


def unwrapped(text: str) -> str:
    """Notes on the last line, whether or not they fit: 'tensorlite.' is longer than 'torch.'."""
    for note in ("dtype=", "requires_grad", "grad_fn", "size="):
        text = text.replace(",\n       " + note, ", " + note)
    return text.replace("dtype=torch.", "dtype=tensorlite.")


@some
@given(values=printed(), dtype=st.sampled_from(DTYPES), requires_grad=st.booleans(), derived=st.booleans())
def test_repr(values: np.ndarray, dtype: str, requires_grad: bool, derived: bool) -> None:
    if not dtype.startswith(("float", "bf")):
        values = np.nan_to_num(values, posinf=1, neginf=2) % 120
    ours, theirs = pair(values, dtype, requires_grad)
    if derived:
        ours, theirs = ours * 1, theirs * 1
    if dtype == "float32":
        assert repr(ours) == repr(theirs)
    else:
        assert unwrapped(repr(ours)) == unwrapped(repr(theirs))
