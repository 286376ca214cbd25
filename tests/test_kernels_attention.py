"""Kernels of attention and its derivatives: sizes around tiles, masks, layouts, dtypes, shared heads, emptiness.

Expected is what the whole matrix of scores gives in float64. An engine is one way of multiplying: on tensor cores, or
in the dtype that is computed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from row_layouts import drawn, place

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Array, Backend, get
from tensorlite.dtypes import DType
from tensorlite.testing import devices

NAMES = ("values", "log_sums", "q_grad", "k_grad", "v_grad")


class Engine(NamedTuple):
    """A dtype, whether tensor cores may be used, and how near to the truth results are then."""

    dtype: DType
    tensor_cores: bool
    tolerance: float


ENGINES = {
    "float16": Engine(tl.float16, True, 4e-3), "bfloat16": Engine(tl.bfloat16, True, 3e-2),
    "tf32": Engine(tl.float32, True, 3e-3), "float32": Engine(tl.float32, False, 4e-6),
    "float64": Engine(tl.float64, False, 4e-14), "float16 in float32": Engine(tl.float16, False, 3e-3),
    "bfloat16 in float32": Engine(tl.bfloat16, False, 2e-2),
}
BOTH = ("float16", "float32")  # one engine of each kind


@pytest.fixture(params=[name for name in devices() if name != "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    chosen: Any = get(request.param)
    present = chosen.tensor_cores
    chosen.plans.clear()
    yield chosen
    chosen.plans.clear()
    chosen.tensor_cores = present
    tl.set_float32_matmul_precision("highest")


class Sizes(NamedTuple):
    """Of a call: q (batch, heads, queries, size), k (batch, key_heads, keys, size), v (..., keys, value_size)."""

    queries: int = 5
    keys: int = 7
    size: int = 8
    value_size: int = 8
    batch: int = 1
    heads: int = 1
    key_heads: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By operand; g is the gradient of the values."""
        of_keys, of_queries = (self.batch, self.key_heads, self.keys), (self.batch, self.heads, self.queries)
        return {"q": (*of_queries, self.size), "k": (*of_keys, self.size), "v": (*of_keys, self.value_size),
                "g": (*of_queries, self.value_size)}

    def operands(self, dtype: DType) -> dict[str, np.ndarray]:
        """Random numbers, exactly those of the dtype."""
        return {name: drawn(shape, dtype, seed) for seed, (name, shape) in enumerate(self.shapes().items())}


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, mask: np.ndarray | None, scale: float,
              causal: bool) -> dict[str, np.ndarray]:
    """Attention and its derivatives by the whole matrix of scores."""
    key_heads = k.shape[1]
    group = q.shape[1] // (key_heads or 1)
    k, v = (np.repeat(x, group, 1) for x in (k, v))
    scores = scale * q @ k.swapaxes(2, 3)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf)
    with np.errstate(all="ignore"):
        top = scores.max(3, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = weights.sum(3, keepdims=True)
        log_sums = np.where(total == 0, np.inf, top + np.log(total))[..., 0]
        weights = np.where(total == 0, 0, weights / total)
    values = weights @ v
    slopes = weights * (g @ v.swapaxes(2, 3) - (g * values).sum(3, keepdims=True))
    parts = (scale * slopes.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ g)
    of_keys = [x.reshape(x.shape[0], key_heads, group, *x.shape[2:]).sum(2) for x in parts]
    return dict(zip(NAMES, (values, log_sums, scale * slopes @ k, *of_keys), strict=True))


def computed(backend: Backend, q: Array, k: Array, v: Array, g: Array, mask: Array | None = None, scale: float = 0.5,
             causal: bool = False, empty: Callable[..., Array] | None = None) -> dict[str, np.ndarray]:
    """The same by the kernels."""
    empty = empty or backend.empty
    summed = tl.float32.numpy if q.itemsize == 2 else q.dtype
    values, log_sums = empty(g.shape, q.dtype), backend.empty(q.shape[:3], summed)
    backend.run("attention", (values, log_sums), q, k, v, mask, scale=scale, causal=causal)
    grads = tuple([empty(x.shape, x.dtype) for x in (q, k, v)])
    backend.run("attention_grad", grads, g, q, k, v, mask, values, log_sums, scale=scale, causal=causal)
    dense = [backend.contiguous(x) for x in (values, log_sums, *grads)]
    return dict(zip(NAMES, map(backend.to_numpy, dense), strict=True))


def use(backend: Any, name: str) -> Engine:
    """Multiply as an engine does from now on."""
    engine = ENGINES[name]
    if engine.tensor_cores and not backend.tensor_cores:
        pytest.skip("no tensor cores")
    backend.tensor_cores = engine.tensor_cores
    tl.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    backend.plans.clear()
    return engine


def part(backend: Backend, values: np.ndarray, layout: str) -> tuple[Array, np.ndarray]:
    """A device array of rows that go on, with NaN, to a multiple of 16 elements; and its values in float64."""
    rest = -values.shape[-1] % 16
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, rest)], constant_values=np.nan)
    return backend.from_numpy(padded)[..., :values.shape[-1]], values.astype(np.float64)


def check(backend: Backend, engine: str, sizes: Sizes, mask: np.ndarray | None = None, scale: float | None = None,
          causal: bool = False, layouts: tuple[str, ...] = ("dense",) * 4,
          empty: Callable[..., Array] | None = None) -> None:
    """Every result of the kernels is the reference's, for q, k, v and g in these layouts."""
    dtype, _, tolerance = use(backend, engine)
    scale = 1 / math.sqrt(max(sizes.size, 1)) if scale is None else scale
    operands, wide = {}, {}
    for (name, values), layout in zip(sizes.operands(dtype).items(), layouts, strict=True):
        operands[name], wide[name] = (part if layout == "part" else place)(backend, values, layout)
    on_device = wide_mask = None
    if mask is not None:
        mask = mask if mask.dtype == bool else mask.astype(dtype.numpy)
        shape = (sizes.batch, sizes.heads, sizes.queries, sizes.keys)
        on_device = backend.expand(backend.from_numpy(mask), shape)
        wide_mask = np.broadcast_to(mask if mask.dtype == bool else mask.astype(np.float64), shape)
    expected = reference(**wide, mask=wide_mask, scale=scale, causal=causal)
    actual = computed(backend, **operands, mask=on_device, scale=scale, causal=causal, empty=empty)
    for name in NAMES:
        largest = np.abs(expected[name]).max(initial=1, where=np.isfinite(expected[name]))
        np.testing.assert_allclose(actual[name].astype(np.float64), expected[name], rtol=tolerance,
                                   atol=tolerance * float(largest), err_msg=f"{name} of {sizes} by {engine}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("causal", [False, True])
def test_every_engine(backend: Backend, engine: str, causal: bool) -> None:
    check(backend, engine, Sizes(70, 90, 20, 12, batch=2, heads=2, key_heads=2), causal=causal)
    check(backend, engine, Sizes(90, 70, 12, 20), causal=causal)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("causal", [False, True])
def test_lengths_around_tiles(backend: Backend, engine: str, causal: bool) -> None:
    for queries in (1, 63, 64, 65, 130):
        for keys in (1, 64, 65, 130):
            check(backend, engine, Sizes(queries, keys), causal=causal)


@pytest.mark.parametrize("engine", ENGINES)
def test_heads_of_every_size(backend: Backend, engine: str) -> None:
    for size, value_size in ((1, 1), (3, 5), (8, 16), (16, 33), (32, 64), (64, 32), (65, 8), (8, 65), (100, 100),
                             (128, 128), (129, 3), (3, 129), (256, 256)):
        check(backend, engine, Sizes(9, 11, size, value_size))


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize(("heads", "key_heads"), [(6, 6), (6, 3), (6, 1)])
def test_heads_may_share_keys(backend: Backend, engine: str, heads: int, key_heads: int) -> None:
    check(backend, engine, Sizes(5, 70, 8, 4, batch=2, heads=heads, key_heads=key_heads), causal=key_heads == 3)


def chosen(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of bools that lets through two of three, and of the first row nothing."""
    mask = drawn(shape, tl.float64, 7) > -0.4
    mask[..., :1, :] = False
    return mask


MASKS = ((2, 3, 70, 66), (1, 1, 70, 66), (2, 1, 1, 66), (1, 3, 70, 1), (1, 1, 1, 1))


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_masks_that_repeat(backend: Backend, engine: str, shape: tuple[int, ...]) -> None:
    sizes = Sizes(70, 66, 8, 8, batch=2, heads=3, key_heads=3)
    mask = chosen(shape)
    check(backend, engine, sizes, mask)
    check(backend, engine, sizes, np.where(mask, drawn(shape, tl.float64, 8), -np.inf))


@pytest.mark.parametrize("engine", BOTH)
def test_a_mask_and_the_causal_one(backend: Backend, engine: str) -> None:
    mask = drawn((130, 130), tl.float64, 7) > -0.4
    check(backend, engine, Sizes(130, 130), mask, causal=True)
    check(backend, engine, Sizes(130, 130), mask.T, causal=True)


def test_rows_that_attend_to_nothing_are_zero(backend: Backend) -> None:
    for engine in BOTH:
        for mask in (np.zeros((1, 70), bool), np.full((1, 70), -np.inf)):
            check(backend, engine, Sizes(3, 70), mask)


LAYOUTS = (("transposed", "dense", "dense", "dense"), ("dense", "transposed", "transposed", "dense"),
           ("misaligned",) * 4, ("sliced",) * 4, ("reversed",) * 4, ("repeated",) * 4)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("layouts", LAYOUTS, ids=str)
def test_every_layout(backend: Backend, engine: str, layouts: tuple[str, ...]) -> None:
    check(backend, engine, Sizes(9, 70, 16, 8, batch=2, heads=2, key_heads=2), layouts=layouts)


@pytest.mark.parametrize("engine", BOTH)
def test_rows_that_go_on_behind_their_end(backend: Backend, engine: str) -> None:
    check(backend, engine, Sizes(70, 9, 20, 13), layouts=("part",) * 4)


@pytest.mark.parametrize("engine", BOTH)
def test_heads_beside_each_other(backend: Backend, engine: str) -> None:
    def empty(shape: tuple[int, ...], dtype: Any) -> Array:
        n, heads, length, size = shape
        return backend.empty((n, length, heads, size), dtype).transpose((0, 2, 1, 3))

    check(backend, engine, Sizes(9, 70, 16, 8, batch=2, heads=3, key_heads=3), empty=empty)


@pytest.mark.parametrize("engine", BOTH)
def test_what_is_empty(backend: Backend, engine: str) -> None:
    for field in ("queries", "keys", "size", "value_size", "batch"):
        for causal in (False, True):
            check(backend, engine, Sizes()._replace(**{field: 0}), causal=causal)
    check(backend, engine, Sizes(heads=0, key_heads=0))
    check(backend, engine, Sizes(heads=0, key_heads=2))
    check(backend, engine, Sizes(size=0, value_size=0), np.arange(35).reshape(5, 7) % 3 > 0)


@pytest.mark.parametrize("engine", BOTH)
def test_scores_of_any_magnitude(backend: Backend, engine: str) -> None:
    for scale in (0.0, -1.0, 30.0):
        check(backend, engine, Sizes(5, 130, 4, 4), scale=scale)


@pytest.mark.parametrize("engine", BOTH)
def test_nan_and_infinity_stay_where_they_are_seen(backend: Backend, engine: str) -> None:
    use(backend, engine)
    operands = Sizes(70, 70).operands(ENGINES[engine].dtype)
    operands["q"][0, 0, 3, 1], operands["k"][0, 0, 5, 2] = np.nan, np.inf
    mask = np.ones((70, 70), bool)
    mask[:, 5] = False  # the key of infinity
    arrays = {name: backend.from_numpy(x) for name, x in operands.items()}
    values = computed(backend, **arrays, mask=backend.expand(backend.from_numpy(mask), (1, 1, 70, 70)))["values"]
    assert np.isnan(values[0, 0, 3]).all()
    assert np.isfinite(np.delete(values[0, 0], 3, 0).astype(np.float64)).all()
    terms = np.zeros((70, 70), ENGINES[engine].dtype.numpy)
    terms[4, 1] = np.inf
    operands["q"][0, 0, 3, 1], operands["k"][0, 0, 5, 2] = 1, 1
    arrays = {name: backend.from_numpy(x) for name, x in operands.items()}
    values = computed(backend, **arrays, mask=backend.expand(backend.from_numpy(terms), (1, 1, 70, 70)))["values"]
    assert np.isnan(values[0, 0, 4]).all() and np.isfinite(np.delete(values[0, 0], 4, 0).astype(np.float64)).all()


def test_calls_that_differ_in_one_thing(backend: Any) -> None:
    use(backend, "float32")
    operands = Sizes(5, 66).operands(tl.float32)
    arrays = {name: backend.from_numpy(x) for name, x in operands.items()}
    wide = {name: x.astype(np.float64) for name, x in operands.items()}
    row, column = chosen((1, 1, 1, 66)), drawn((1, 1, 5, 1), tl.float64, 2) > 0
    row[:] = drawn((1, 1, 1, 66), tl.float64, 3) > 0
    masks = (None, row, column, row.astype(np.float32), column.astype(np.float32), None)
    for mask, scale, causal in [(mask, 0.5, False) for mask in masks] + [(None, 1.0, False), (None, 1.0, True)]:
        placed = None if mask is None else backend.expand(backend.from_numpy(mask), (1, 1, 5, 66))
        actual = computed(backend, **arrays, mask=placed, scale=scale, causal=causal)
        expected = reference(**wide, mask=mask, scale=scale, causal=causal)
        for name in NAMES:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-5)


def test_float32_is_rounded_only_where_that_is_asked_for(backend: Any) -> None:
    use(backend, "tf32")
    arrays = {name: backend.from_numpy(x) for name, x in Sizes(5, 66).operands(tl.float32).items()}
    rounded = computed(backend, **arrays)
    tl.set_float32_matmul_precision("highest")
    exact = computed(backend, **arrays)
    for name in NAMES:
        assert not np.array_equal(rounded[name], exact[name]), name


@pytest.mark.parametrize("engine", BOTH)
def test_the_same_bits_in_every_run(backend: Backend, engine: str) -> None:
    use(backend, engine)
    operands = Sizes(70, 130, heads=4, key_heads=2).operands(ENGINES[engine].dtype)
    arrays = {name: backend.from_numpy(x) for name, x in operands.items()}
    first, second = computed(backend, **arrays), computed(backend, **arrays)
    for name in NAMES:
        assert first[name].tobytes() == second[name].tobytes()


def test_scores_never_lie_in_memory(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(backend, "float32")
    arrays = {name: backend.from_numpy(x) for name, x in Sizes(130, 130).operands(tl.float32).items()}
    taken, empty = [], backend.empty
    monkeypatch.setattr(backend, "empty", lambda shape, dtype: taken.append(shape) or empty(shape, dtype))
    computed(backend, **arrays)
    results = [(1, 1, 130, 8), (1, 1, 130), *[(1, 1, 130, 8)] * 3]
    assert taken == [*results, (1, 1, 130)], "the results, and one number for each query"


@pytest.mark.skipif("cuda:sim" not in devices(), reason="no C++ compiler")
@pytest.mark.parametrize("engine", ["float16", "tf32", "float32", "float64"])
def test_accesses_are_checked(engine: str) -> None:
    backend: Any = get("cuda:sim")
    try:
        simulator.check(check, backend, engine, Sizes(66, 3, 12, 12), chosen((1, 1, 66, 3)), schedules=2)
        simulator.check(check, backend, engine, Sizes(3, 66, 8, 8), causal=True, layouts=("misaligned",) * 4,
                        schedules=1)
    finally:
        backend.tensor_cores = True
        tl.set_float32_matmul_precision("highest")


def test_other_dtypes_are_refused(backend: Any) -> None:
    use(backend, "float32")
    arrays = {name: backend.from_numpy(x) for name, x in Sizes().operands(tl.float32).items()}
    for name in ("q", "k", "v", "g"):
        wrong = {**arrays, name: backend.cast(arrays[name], tl.float64.numpy)}
        with pytest.raises(tl.DTypeError, match=r"attention(_grad)? does not take"):
            computed(backend, **wrong)
    mask = backend.from_numpy(np.ones((1, 1, 5, 7)))
    with pytest.raises(tl.DTypeError, match="attention does not take"):
        computed(backend, **arrays, mask=mask)
    integers = {name: backend.cast(x, tl.int64.numpy) for name, x in arrays.items()}
    with pytest.raises(tl.DTypeError, match="attention does not take"):
        computed(backend, **integers)


def test_more_blocks_than_a_launch_may_have_are_refused() -> None:
    backend = get("cuda:sim")
    one = backend.from_numpy(np.zeros((1, 1, 1, 1), np.float32))
    many = backend.expand(one, (2**31, 1, 1, 1))
    with pytest.raises(tl.ShapeError, match=r"attention: .* take 2147483648 blocks of a GPU.*split the batch"):
        backend.run("attention", (many, many[..., 0]), many, many, many, None, scale=1.0, causal=False)
    long = backend.expand(one, (1, 1, 2**30, 1))
    with pytest.raises(tl.ShapeError, match=r"attention: .* with lengths below 1073741824"):
        backend.run("attention", (one, one[..., 0]), one, long, long, None, scale=1.0, causal=False)


def test_gradients_equal_those_of_torch(backend: Any) -> None:
    torch = pytest.importorskip("torch")
    use(backend, "float32")
    sizes = Sizes(70, 66, 24, 12, batch=2, heads=4, key_heads=2)
    drawn_ones = sizes.operands(tl.float32)
    masks: list[Any] = [None, chosen((70, 66)), np.where(chosen((70, 66)), 0.5, -np.inf).astype(np.float32)]
    for mask, causal in [*[(mask, False) for mask in masks], (None, True)]:
        q, k, v, g = [torch.tensor(drawn_ones[name], requires_grad=name != "g") for name in "qkvg"]
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, None if mask is None else torch.tensor(mask), is_causal=causal, enable_gqa=True)
        out.backward(g)
        placed = None if mask is None else backend.expand(backend.from_numpy(mask), (2, 4, 70, 66))
        arrays = {name: backend.from_numpy(x) for name, x in drawn_ones.items()}
        actual = computed(backend, **arrays, mask=placed, scale=24**-0.5, causal=causal)
        theirs = (out, q.grad, k.grad, v.grad)
        for name, expected in zip((NAMES[0], *NAMES[2:]), theirs, strict=True):
            np.testing.assert_allclose(actual[name], expected.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
