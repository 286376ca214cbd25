"""Gather, scatter and scatter-add: every dtype, layout and number of indices, the same as on the CPU; and errors that
arrive late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_indexing import EVERY, X

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import simulator
from tensorlite.backends import Backend, get
from tensorlite.backends.kernels import index as family
from tensorlite.dtypes import ALL, DType
from tensorlite.ops.index import _gathered_shape
from tensorlite.testing import devices

CPU = get("cpu")
KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")
every_dtype = pytest.mark.parametrize("dtype", ALL, ids=lambda dtype: dtype.name)

Shape = tuple[int, ...]
GEOMETRIES: dict[str, tuple[Shape, Shape, tuple[Shape, ...]]] = {  # shape, indexed dimensions, shapes of the indices
    "vector": ((5,), (0,), ((3,),)), "number": ((5, 3), (0,), ((),)), "rows": ((5, 8), (0,), ((7,),)),
    "odd rows": ((5, 7), (0,), ((33,),)), "columns": ((5, 8), (1,), ((2, 3),)), "middle": ((3, 4, 5), (1,), ((6,),)),
    "neighbours": ((4, 5, 16), (0, 1), ((3,), (3,))), "last two": ((4, 5, 6), (1, 2), ((3,), (3,))),
    "far apart": ((4, 5, 16), (0, 2), ((3, 1), (1, 2))),
    "all": ((2, 3, 4), (0, 1, 2), ((2, 1, 1), (1, 3, 1), (2, 3, 4))), "one row": ((1, 32), (0,), ((4,),)),
    "four": ((2, 3, 2, 3, 4), (0, 1, 2, 3), ((6,), (6,), (1,), (6,))), "no index": ((5, 3), (0,), ((0,),)),
    "empty rows": ((3, 0), (0,), ((2,),)), "more than few": ((7, 4), (0,), ((family.FEW + 44,),)),
    "two targets": ((2,), (0,), ((700,),)), "mostly distinct": ((300,), (0,), ((family.FEW + 1,),)),
    "many of two": ((3, 4, 5), (0, 2), ((20, 1), (1, 20))),
}
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


def values(shape: Shape, dtype: DType, seed: int = 0) -> np.ndarray:
    """Small integers, of which every dtype holds the sums that occur here, or wraps around as the CPU does."""
    random = np.random.default_rng([seed, *shape])
    return random.integers(0, 2 if dtype in (tl.bool, tl.bfloat16, tl.float16) else 30, shape).astype(dtype.numpy)


def indices_for(shape: Shape, dims: Shape, shapes: tuple[Shape, ...], wrap: bool = True) -> list[np.ndarray]:
    random = np.random.default_rng([*shape, len(shapes)])
    return [random.integers(-shape[d] if wrap else 0, shape[d], s) for d, s in zip(dims, shapes, strict=True)]


def updated(on: Backend, kernel: str, x: Any, value: Any, indices: list[Any], dims: Shape, **params: Any) -> Any:
    on.run(kernel, x, value, *indices, dims=dims, **params)
    return x


def check_all(backend: Backend, dtype: DType, shape: Shape, dims: Shape, shapes: tuple[Shape, ...]) -> None:
    """The three kernels against the CPU's, bit for bit."""
    x, indices = values(shape, dtype), indices_for(shape, dims, shapes)
    gathered = _gathered_shape(shape, indices, dims)
    value = values(gathered, dtype, 1)
    there = [backend.from_numpy(i) for i in indices]
    found = backend.fill("index", gathered, x.dtype, backend.from_numpy(x), *there, dims=dims)
    np.testing.assert_array_equal(backend.to_numpy(found), CPU.fill("index", gathered, x.dtype, x, *indices, dims=dims))
    for kernel in ("index_put", "index_add"):
        actual = updated(backend, kernel, backend.from_numpy(x), backend.from_numpy(value), there, dims)
        expected = updated(CPU, kernel, x.copy(), value, indices, dims)
        np.testing.assert_array_equal(backend.to_numpy(actual), expected, err_msg=kernel)


@every_dtype
@pytest.mark.parametrize("name", ("rows", "odd rows", "far apart", "more than few"))
def test_every_dtype(name: str, dtype: DType, backend: Backend) -> None:
    check_all(backend, dtype, *GEOMETRIES[name])


@every_geometry
def test_every_geometry(geometry: tuple[Shape, Shape, tuple[Shape, ...]], backend: Backend) -> None:
    check_all(backend, tl.float32, *geometry)
    check_all(backend, tl.int8, *geometry)


@pytest.mark.parametrize("count", (1, 3, 31, 32, 33, 255, 256, 257, 511, 512, 513, 1025, 3000))
def test_sizes_around_warps_blocks_and_chunks(count: int, backend: Backend) -> None:
    for rows in (1, 5, 1000):
        check_all(backend, tl.int32, (rows, 3), (0,), ((count,),))


def test_64_bit_numbers(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrays of 2^31 elements and more need, on small ones."""
    backend._per_thread.plans.clear()
    monkeypatch.setattr(family, "index_type", lambda *counts: "u64")
    for name in ("rows", "far apart", "middle", "more than few", "mostly distinct"):
        check_all(backend, tl.float32, *GEOMETRIES[name])
    backend._per_thread.plans.clear()


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Any]:
    """The same matrix as views of device memory."""
    dense = backend.from_numpy
    padded = dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))
    return {
        "dense": dense(a),
        "transposed": dense(np.ascontiguousarray(a.T)).transpose((1, 0)),
        "every second": dense(np.repeat(np.repeat(a, 2, 0), 2, 1))[::2, ::2],
        "backwards": dense(np.ascontiguousarray(a[::-1, ::-1]))[::-1, ::-1],
        "misaligned": padded[1:].reshape(a.shape),
    }


@pytest.mark.parametrize("count", (6, family.FEW + 1))
def test_every_layout_of_values_and_result(count: int, backend: Backend) -> None:
    x, dims = values((9, 16), tl.float32), (0,)
    indices = indices_for(x.shape, dims, ((count,),))
    value = values((count, 16), tl.float32, 1)
    there = [backend.from_numpy(i) for i in indices]
    for on_device in layouts(backend, x).values():
        for out in layouts(backend, np.zeros_like(value)).values():
            backend.run("index", out, on_device, *there, dims=dims)
            np.testing.assert_array_equal(backend.to_numpy(out), x[indices[0]])
    for kernel in ("index_put", "index_add"):
        expected = updated(CPU, kernel, x.copy(), value, indices, dims)
        for name in layouts(backend, x):
            for source in layouts(backend, value).values():
                actual = updated(backend, kernel, layouts(backend, x)[name], source, there, dims)
                np.testing.assert_array_equal(backend.to_numpy(actual), expected, err_msg=f"{kernel} into {name}")


@pytest.mark.parametrize("kernel", ("index_put", "index_add"))
def test_values_broadcast(kernel: str, backend: Backend) -> None:
    x, dims = values((9, 4), tl.float32), (0,)
    for count in (6, family.FEW + 1):
        indices = indices_for(x.shape, dims, ((count,),))
        for value in (np.float32(3) * np.ones(()), values((4,), tl.float32), values((count, 1), tl.float32)):
            actual = updated(backend, kernel, backend.from_numpy(x), backend.from_numpy(value.astype(np.float32)),
                             [backend.from_numpy(i) for i in indices], dims)
            expected = updated(CPU, kernel, x.copy(), value.astype(np.float32), indices, dims)
            np.testing.assert_array_equal(backend.to_numpy(actual), expected)


def test_indices_of_any_layout_and_integer_type(backend: Backend) -> None:
    x, at = values((9, 4), tl.float32), np.array([[8, 0, 3], [1, -1, 2]])
    for index in (backend.from_numpy(at.T.copy()).transpose((1, 0)), backend.from_numpy(at.astype(np.int8))):
        found = backend.fill("index", (2, 3, 4), x.dtype, backend.from_numpy(x), index, dims=(0,))
        np.testing.assert_array_equal(backend.to_numpy(found), x[at])


def test_rows_move_in_the_widest_units_that_fit(backend: Any) -> None:
    def expression(x: Any, out: Any) -> str:
        backend._per_thread.plans.clear()
        backend._functions.clear()
        backend.run("index", out, x, backend.from_numpy(np.array([2, 0])), dims=(0,))
        return next(i.expression for i in backend._functions if i.expression.startswith("gather"))

    halves = backend.from_numpy(values((3, 24), tl.float16))
    assert expression(halves, backend.empty((2, 24), halves.dtype)) == "gather<Pack<u64, 2>, u32>"
    assert expression(halves[:, :20], backend.empty((2, 20), halves.dtype)) == "gather<u64, u32>"
    assert expression(halves[:, 2:22], backend.empty((2, 20), halves.dtype)) == "gather<u32, u32>"
    assert expression(halves[:, 1:], backend.empty((2, 23), halves.dtype)) == "gather<u16, u32>"


# --- sums and duplicates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (tl.float16, tl.bfloat16, tl.float32, tl.float64), ids=lambda dtype: dtype.name)
def test_sums_are_accurate_and_the_same_in_every_run(dtype: DType, backend: Backend) -> None:
    random = np.random.default_rng(0)
    for count, rows in ((200, 3), (5000, 1), (5000, 40), (2000, 5000)):
        at = random.integers(0, rows, count)
        x, value = (random.uniform(0, 1, shape).astype(dtype.numpy) for shape in ((rows, 5), (count, 5)))
        expected = x.astype(np.float64)
        np.add.at(expected, at, value.astype(np.float64))
        runs = [backend.to_numpy(updated(backend, "index_add", backend.from_numpy(x), backend.from_numpy(value),
                                         [backend.from_numpy(at)], (0,))) for _ in range(2)]
        assert runs[0].tobytes() == runs[1].tobytes()
        tolerance = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 4e-15}[dtype.name]
        np.testing.assert_allclose(runs[0].astype(np.float64), expected, tolerance)


def test_nan_reaches_only_its_target(backend: Backend) -> None:
    value = np.ones(2000, np.float32)
    value[1000] = np.nan
    at = np.arange(2000) % 3
    out = updated(backend, "index_add", backend.from_numpy(np.zeros(3, np.float32)), backend.from_numpy(value),
                  [backend.from_numpy(at)], (0,))
    np.testing.assert_array_equal(backend.to_numpy(out), np.array([667, np.nan, 666], np.float32))


def test_results_do_not_depend_on_the_order_of_threads() -> None:
    backend = get("cuda:sim")
    with simulator.check(schedules=3):
        check_all(backend, tl.float32, (9, 8), (0,), ((40,),))
        check_all(backend, tl.float32, (3, 4, 5), (0, 2), ((5, 1), (1, 4)))
        check_all(backend, tl.float32, (4, 2), (0,), ((family.FEW + 1,),))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ("index", "index_put", "index_add"))
@pytest.mark.parametrize("wrong, wrap, message", (
    (9, True, r"index 9 at position \(1, 2\) is out of bounds for dimension 0 with size 5"),
    (-6, True, r"index -6 at position \(1, 2\) is out of bounds for dimension 0 with size 5"),
    (-1, False, r"index -1 at position \(1, 2\) is out of bounds for dimension 0 with size 5"),
))
def test_an_index_out_of_range_is_named(kernel: str, wrong: int, wrap: bool, message: str, backend: Backend) -> None:
    x, at = values((5, 8), tl.float32), np.array([[0, 1, 2], [3, 4, wrong]])
    there = backend.from_numpy(at)
    value = np.full((2, 3, 8), 7, np.float32)
    if kernel == "index":
        out = backend.from_numpy(np.zeros_like(value))
        backend.run("index", out, backend.from_numpy(x), there, dims=(0,), wrap=wrap)
    else:
        out = updated(backend, kernel, backend.from_numpy(x), backend.from_numpy(value), [there], (0,), wrap=wrap)
    with pytest.raises(tl.OutOfRangeError, match=message):
        backend.to_numpy(out)
    done = backend.to_numpy(out)  # all others are moved, and the device works on
    if kernel == "index":
        np.testing.assert_array_equal(done[0], x[:3])
        np.testing.assert_array_equal(done[1, 2], np.zeros(8))
    else:
        np.testing.assert_array_equal(done, 7 if kernel == "index_put" else x + 7)


@pytest.mark.parametrize("kernel", ("index", "index_put", "index_add"))
@pytest.mark.parametrize("count", (3, family.FEW + 9))
def test_a_refused_index_touches_no_memory(kernel: str, count: int) -> None:
    backend, at = get("cuda:sim"), np.arange(count) % 5
    at[[1, count - 1]] = -6, 5
    x, value = backend.from_numpy(values((5, 8), tl.float32)), backend.from_numpy(values((count, 8), tl.float32, 1))
    with simulator.check(schedules=2):
        backend.run(kernel, *((value, x) if kernel == "index" else (x, value)), backend.from_numpy(at), dims=(0,))
    with pytest.raises(tl.OutOfRangeError, match=r"index (-6 at position \(1,\)|5 at position)"):
        backend.synchronize()


def test_which_of_several_indices_is_wrong(backend: Backend) -> None:
    x = backend.from_numpy(values((5, 8), tl.float32))
    rows, columns = (backend.from_numpy(np.array(i)) for i in ([[1], [4]], [0, 8, 1]))
    out = backend.fill("index", (2, 3), x.dtype, x, rows, columns, dims=(0, 1))
    with pytest.raises(tl.OutOfRangeError, match=r"index 8 at position \(1,\) is out of bounds for dimension 1"):
        backend.to_numpy(out)


def test_the_dimension_of_a_wrong_index_is_that_of_its_own_call(backend: Backend) -> None:
    """Of calls that differ in nothing but their dimensions."""
    x = backend.from_numpy(values((4, 4, 4), tl.float32))
    wrong, right = (backend.from_numpy(np.array([i])) for i in (7, 0))
    for dims in ((0, 1), (1, 2), (0, 2)):
        backend.fill("index", (1, 4), x.dtype, x, right, wrong, dims=dims)
        with pytest.raises(tl.OutOfRangeError, match=rf"index 7 at position \(0,\) .* dimension {dims[1]} "):
            backend.synchronize()


def test_the_first_of_several_errors_is_told(backend: Backend) -> None:
    x = backend.from_numpy(values((5, 3), tl.float32))
    several = np.arange(600) % 5
    several[[300, 500]] = 7, 9
    for wrong in (several, np.array([11]), np.array([1, 13])):
        backend.fill("index", (*wrong.shape, 3), x.dtype, x, backend.from_numpy(wrong), dims=(0,))
    with pytest.raises(tl.OutOfRangeError, match=r"index (7 at position \(300,\)|9 at position \(500,\))") as caught:
        backend.synchronize()
    if backend.device.type == "cuda:sim":  # threads run in order
        assert "index 7" in str(caught.value)
    backend.synchronize()  # the others are forgotten


@pytest.mark.parametrize("kernel", ("index", "index_put", "index_add"))
def test_indices_are_checked_where_nothing_moves(kernel: str, backend: Backend) -> None:
    x, at = backend.from_numpy(np.zeros((5, 0), np.float32)), backend.from_numpy(np.array([5]))
    moved = backend.empty((1, 0), x.dtype)
    backend.run(kernel, *((moved, x) if kernel == "index" else (x, moved)), at, dims=(0,))
    with pytest.raises(tl.OutOfRangeError, match="index 5"):
        backend.synchronize()


@pytest.mark.parametrize("kernel", ("index", "index_put", "index_add"))
def test_other_dtypes_are_refused(kernel: str, backend: Backend) -> None:
    x, at = backend.from_numpy(np.zeros((5, 2), np.float32)), backend.from_numpy(np.array([1]))
    with pytest.raises(tl.DTypeError, match=f"{kernel} does not take"):
        backend.run(kernel, backend.empty((1, 2) if kernel == "index" else (5, 2), np.dtype(np.float64)), x, at,
                    dims=(0,))


# --- as Tensors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_selection_assignment_and_their_gradients(name: str, backend: Backend) -> None:
    key, device = EVERY[name], str(backend.device)
    shape = X[key].shape
    x = tl.tensor(X, device=device, requires_grad=True)
    selected = x[key]
    np.testing.assert_array_equal(selected.detach().cpu().numpy(), X[key])
    weights = np.arange(1.0, 1 + X[key].size).reshape(shape)
    selected.backward(tl.tensor(weights, device=device))
    expected = np.zeros_like(X)
    np.add.at(expected, key, weights)
    np.testing.assert_array_equal(x.grad.cpu().numpy(), expected)

    written, value = tl.tensor(X, device=device) * 1, tl.tensor(-weights, device=device, requires_grad=True)
    written[key] = value
    expected = X.copy()
    expected[key] = -weights
    np.testing.assert_array_equal(written.detach().cpu().numpy(), expected)
    (written * written).sum().backward()
    on_cpu, same = tl.tensor(X) * 1, tl.tensor(-weights, requires_grad=True)
    on_cpu[key] = same
    (on_cpu * on_cpu).sum().backward()
    np.testing.assert_array_equal(value.grad.cpu().numpy(), same.grad.numpy())


def test_embedding(backend: Backend) -> None:
    device = str(backend.device)
    table, at = np.random.default_rng(0).uniform(-1, 1, (50, 12)), np.random.default_rng(1).integers(0, 50, (20, 30))
    weight = tl.tensor(table, device=device, requires_grad=True)
    out = F.embedding(tl.tensor(at, device=device), weight, padding_idx=3)
    np.testing.assert_array_equal(out.detach().cpu().numpy(), table[at])
    out.sum().backward()
    expected = np.bincount(at.reshape(-1), minlength=50)[:, None] * np.ones(12)
    expected[3] = 0
    np.testing.assert_allclose(weight.grad.cpu().numpy(), expected, 1e-14)
    with pytest.raises(tl.OutOfRangeError, match=r"index -1 at position \(0, 1\) is out of bounds"):
        F.embedding(tl.tensor([[0, -1]], device=device), weight).cpu()


def test_the_instances_of_every_call_are_listed() -> None:
    listed = {instance.expression for instance in family.instances()}
    for name in KERNEL_DEVICES:
        used = {i.expression for i in get(name)._functions if i.file == family.FILE}  # type: ignore[attr-defined]
        assert used <= listed
