"""Parity with PyTorch in joining, turning, running extrema, sorted sequences, writing at indices; einsum's order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import DTYPES, assert_parity, assert_same, few, filled, full_shapes, pair, shapes, torch

import tensorlite as tl
from tensorlite.ops.einsum import contraction_order

PLAIN = ("bool", "int64", "float32", "float64")
NUMBERS = ("int32", "int64", "float32", "float64")
SPECIAL = (0.0, 1.0, -1.0, 2.5, 1.0, 3.0, np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("name", ["hstack", "vstack", "dstack", "column_stack", "row_stack"])
@few
@given(data=st.data())
def test_joining(name: str, data: st.DataObject) -> None:
    inputs = [pair(data.draw(filled(data.draw(shapes))), data.draw(st.sampled_from(PLAIN)), True)
              for _ in range(data.draw(st.integers(1, 3)))]
    assert_parity(lambda *t: getattr(tl, name)(t), lambda *t: getattr(torch, name)(t), inputs)


@pytest.mark.parametrize("name", ["atleast_1d", "atleast_2d", "atleast_3d", "fliplr", "flipud", "ravel"])
@few
@given(data=st.data())
def test_one_tensor(name: str, data: st.DataObject) -> None:
    assert_parity(getattr(tl, name), getattr(torch, name),
                  [pair(data.draw(filled(data.draw(shapes))), data.draw(st.sampled_from(PLAIN)), True, 1)])


@few
@given(data=st.data())
def test_rot90(data: st.DataObject) -> None:
    x = pair(data.draw(filled(data.draw(shapes))), "float64", True)
    k, dims = data.draw(st.integers(-5, 5)), data.draw(st.lists(st.integers(-3, 2), min_size=2, max_size=2))
    assert_parity(lambda t: tl.rot90(t, k, dims), lambda t: torch.rot90(t, k, dims), [x])


@few
@given(data=st.data())
def test_products_and_combinations(data: st.DataObject) -> None:
    vectors = [pair(data.draw(filled((data.draw(st.integers(0, 4)),))), "float64", True)
               for _ in range(data.draw(st.integers(1, 3)))]
    assert_parity(tl.cartesian_prod, torch.cartesian_prod, vectors)
    r, again = data.draw(st.integers(0, 3)), data.draw(st.booleans())
    assert_parity(lambda t: tl.combinations(t, r, again), lambda t: torch.combinations(t, r, again), vectors[:1])


@pytest.mark.parametrize("name", ["cummax", "cummin", "logcumsumexp"])
@few
@given(data=st.data())
def test_running(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS if name != "logcumsumexp" else ("float32", "float64")))
    values = data.draw(filled(data.draw(shapes), SPECIAL if dtype.startswith("float") else (0.0, 1.0, 2.0, -3.0)))
    dim = data.draw(st.integers(-values.ndim - 1, values.ndim) if values.size else st.just(-1))
    assert_parity(lambda t: getattr(tl, name)(t, dim), lambda t: getattr(torch, name)(t, dim),
                  [pair(values, dtype, True)])


@few
@given(data=st.data())
def test_kthvalue(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    values = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape)
    args = data.draw(st.integers(0, 5)), data.draw(st.integers(-3, 2)), data.draw(st.booleans())
    assert_parity(lambda t: tl.kthvalue(t, *args), lambda t: torch.kthvalue(t, *args),
                  [pair(values, data.draw(st.sampled_from(NUMBERS)), True)])


@few
@given(data=st.data())
def test_searchsorted(data: st.DataObject) -> None:
    dtype, right = data.draw(st.sampled_from(NUMBERS)), data.draw(st.booleans())
    options: dict[str, Any] = {"right": right, "out_int32": data.draw(st.booleans())}
    ends = (0.0, 1.0, 1.0, 2.0, -3.0) + ((np.inf,) if dtype.startswith("float") else ())
    rows = data.draw(st.sampled_from([(), (2,), (0,)]))
    sequence = np.sort(data.draw(filled((*rows, data.draw(st.integers(0, 6))), ends)), -1)
    values = data.draw(filled((*rows, 4), (*ends, 0.5, 7.0)) if rows else data.draw(st.just(filled((2, 3), ends))))
    inputs = [pair(sequence, dtype), pair(values, dtype)]
    assert_parity(lambda s, v: tl.searchsorted(s, v, **options), lambda s, v: torch.searchsorted(s, v, **options),
                  inputs)
    if not rows:
        assert_parity(lambda s, v: tl.bucketize(v, s, **options), lambda s, v: torch.bucketize(v, s, **options), inputs)
        assert_same(tl.searchsorted(inputs[0][0], 1), torch.searchsorted(inputs[0][1], 1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_unique_with_nan(dtype: str) -> None:
    assert_parity(tl.unique, torch.unique, [pair([1.0, math.nan, -2.0, 3.0, 1.0], dtype)])


@few
@given(data=st.data())
def test_unique(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    dtype = data.draw(st.sampled_from(PLAIN))
    x = pair(data.draw(filled(shape, (0.0, 1.0, -2.0, 1.0))), dtype)
    inverse, counts = data.draw(st.booleans()), data.draw(st.booleans())
    dim = data.draw(st.sampled_from([None, *range(len(shape))])) if x[0].numel() else None
    assert_parity(lambda t: tl.unique(t, True, inverse, counts, dim),
                  lambda t: torch.unique(t, True, inverse, counts, dim), [x])


@few
@given(data=st.data())
def test_writing_at_indices(data: st.DataObject) -> None:
    shape = data.draw(full_shapes)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    index = np.array(data.draw(st.lists(st.integers(0, shape[dim] - 1), max_size=4, unique=True)), np.int64)
    source = list(shape)
    source[dim] = len(index)
    dtype = data.draw(st.sampled_from(NUMBERS))
    x, values = pair(data.draw(filled(shape)), dtype, True), pair(data.draw(filled(tuple(source))), dtype, True)
    places = pair(index, "int64")
    assert_parity(lambda x, i, v: tl.index_copy(x, dim, i, v), lambda x, i, v: torch.index_copy(x, dim, i, v),
                  [x, places, values])
    assert_parity(lambda x, i: tl.index_fill(x, dim, i, 2), lambda x, i: torch.index_fill(x, dim, i, 2), [x, places])
    assert_parity(lambda x, i, v: tl.index_fill(x, dim, i, v), lambda x, i, v: torch.index_fill(x, dim, i, v),
                  [x, places, pair(3.0, dtype, True)])


@few
@given(data=st.data())
def test_masked_scatter(data: st.DataObject) -> None:
    shape = data.draw(full_shapes)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))))
    dtype = data.draw(st.sampled_from(DTYPES))
    inputs = [pair(data.draw(filled(shape)), dtype, True), pair(mask.reshape(shape), "bool"),
              pair(data.draw(filled((mask.size,))), dtype, True)]
    assert_parity(tl.masked_scatter, torch.masked_scatter, inputs)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@few
@given(data=st.data())
def test_scatter_reduce(reduce: str, include_self: bool, data: st.DataObject) -> None:
    shape = data.draw(full_shapes)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    at = list(shape)
    at[dim] = data.draw(st.integers(0, 5))
    dtype = data.draw(st.sampled_from(("int64", "float32", "float64")))
    is_extremum = reduce.startswith("a")
    values = (0.0, 1.0, -1.0, 2.0, 1.0) + ((np.inf,) if dtype.startswith("float") and is_extremum else ())
    index = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, shape[dim], at)
    own = data.draw(filled(shape, values))
    if is_extremum and not include_self:
        own = np.where(np.isinf(own), 8, own + 8)  # torch shares gradients with equal elements that take no part
    inputs = [pair(own, dtype, True), pair(index, "int64"),
              pair(data.draw(filled(tuple(at), values)), dtype, True)]
    options: dict[str, Any] = {"reduce": reduce, "include_self": include_self}
    assert_parity(lambda x, i, v: tl.scatter_reduce(x, dim, i, v, **options),
                  lambda x, i, v: torch.scatter_reduce(x, dim, i, v, **options), inputs)


def test_nan_wins_extrema_that_are_scattered() -> None:
    x, index, src = np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1, 2]), np.array([np.nan, 5.0, 1.0, 2.0])
    for reduce in ("amax", "amin"):
        for own in (True, False):
            a = tl.scatter_reduce(tl.tensor(x), 0, tl.tensor(index), tl.tensor(src), reduce, include_self=own)
            b = torch.scatter_reduce(torch.tensor(x), 0, torch.tensor(index), torch.tensor(src), reduce,
                                     include_self=own)
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_methods_in_place() -> None:
    x = np.arange(6.0).reshape(2, 3)
    index, values = np.array([2, 0]), np.array([[7.0, 8.0], [9.0, 10.0]])
    for name, arguments in {
        "index_fill_": (1, index, 5.0), "index_copy_": (1, index, values), "masked_scatter_": (x > 2, values),
        "scatter_reduce_": (1, np.array([[2, 0], [1, 1]]), values, "amax"),
    }.items():
        a, b = tl.tensor(x), torch.tensor(x)
        getattr(a, name)(*[tl.tensor(v) if isinstance(v, np.ndarray) else v for v in arguments])
        getattr(b, name)(*[torch.tensor(v) if isinstance(v, np.ndarray) else v for v in arguments])
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# --- einsum ----------------------------------------------------------------------------------------------------------


def multiplications(order: Any, inputs: list[str], output: str, sizes: dict[str, int]) -> tuple[int, set[int], int]:
    """What an order costs, its operands, and the elements of the largest intermediate result."""
    if isinstance(order, int):
        return 0, {order}, 0
    (left, a, large), (right, b, larger) = (multiplications(part, inputs, output, sizes) for part in order)

    def visible(group: set[int]) -> set[str]:
        outside = set(output).union(*[inputs[i] for i in range(len(inputs)) if i not in group])
        return set().union(*[inputs[i] for i in group]) & outside

    cost = np.prod([sizes[c] for c in visible(a) | visible(b)], dtype=object)
    return left + right + cost, a | b, max(large, larger, np.prod([sizes[c] for c in visible(a | b)], dtype=object))


@few
@given(data=st.data())
def test_einsum_takes_the_cheapest_order(data: st.DataObject) -> None:
    inputs = data.draw(st.lists(st.text("ijklm", min_size=1, max_size=3).map(lambda t: "".join(dict.fromkeys(t))),
                                min_size=2, max_size=5))
    used = sorted(set("".join(inputs)))
    sizes = {c: data.draw(st.sampled_from([1, 2, 3, 10])) for c in used}
    output = "".join(data.draw(st.lists(st.sampled_from(used), unique=True, max_size=3)))
    arguments = tuple(map(tuple, inputs)), tuple(output), tuple(sizes.items())
    found = multiplications(contraction_order(*arguments), inputs, output, sizes)
    every = [multiplications(order, inputs, output, sizes)[0] for order in orders(tuple(range(len(inputs))))]
    assert found[0] == min(every)
    assert found[1] == set(range(len(inputs)))


def orders(members: tuple[int, ...]) -> Any:
    """All trees of products over some operands."""
    if len(members) == 1:
        yield members[0]
    first, *rest = members
    for size in range(len(rest)):
        for beside in itertools.combinations(rest, size):
            others = tuple(m for m in rest if m not in beside)
            yield from itertools.product(orders((first, *beside)), orders(others))


@pytest.mark.parametrize(("equation", "shapes_"), [
    ("ij,jk,kl->il", ((3, 9), (9, 8), (8, 2))), ("a,b,ab->", ((50,), (60,), (50, 60))),
    ("bi,oij,bj->bo", ((4, 3), (5, 3, 6), (4, 6))), ("...i,ij,...j->...", ((2, 1, 3), (3, 4), (5, 4))),
    ("ij,jk,kl,lm,mn,no,op,pq->iq", tuple((n, n + 1) for n in range(2, 10))), ("i,i,i,i->i", ((3,),) * 4),
    ("ab,bc,cd,da->", ((2, 3), (3, 4), (4, 5), (5, 2))), ("ii,ij,j->", ((3, 3), (3, 2), (2,))),
    ("ij,jk,k->i", ((1, 4), (4, 3), (3,))), ("ab,cd,ef->acebdf", ((2, 1), (1, 3), (2, 2))),
])
def test_einsum_of_many_operands_equals_torch(equation: str, shapes_: tuple[tuple[int, ...], ...]) -> None:
    random = np.random.default_rng(0)
    inputs = [pair(random.uniform(-1, 1, shape), "float64", True) for shape in shapes_]
    assert_parity(lambda *t: tl.einsum(equation, *t), lambda *t: torch.einsum(equation, *t), inputs)


def test_einsum_makes_no_giant() -> None:
    """From the left, the first product of this would hold 10^8 numbers."""
    order = contraction_order((("a",), ("b",), ("a", "b")), (), (("a", 10**4), ("b", 10**4)))
    assert multiplications(order, ["a", "b", "ab"], "", {"a": 10**4, "b": 10**4})[2] <= 10**4


def test_einsum_joins_many_operands_greedily() -> None:
    inputs = [f"{a}{b}" for a, b in itertools.pairwise("abcdefghijkl")]
    sizes = {c: 2 + k % 3 for k, c in enumerate("abcdefghijkl")}
    order = contraction_order(tuple(map(tuple, inputs)), ("a", "l"), tuple(sizes.items()))
    assert multiplications(order, inputs, "al", sizes)[1] == set(range(11))
