"""Scaled dot-product attention against torch, and the CPU's two kernels against each other at the edges of blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import cpu, cpu_compiled
from tensorlite.nn import functional as F

torch = pytest.importorskip("torch")
attend, theirs = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-10}


def values(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


CHOICE = np.random.default_rng(1).random((2, 1, 5, 7)) > 0.4
CHOICE[0, 0, 2] = False  # a row that may look at nothing
TERMS = np.where(CHOICE, values(2, 1, 5, 7), -np.inf)
FOUR = (2, 4, 5, 6), (2, 4, 7, 6), (2, 4, 7, 3)
GRID: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "matrices": (((5, 6), (7, 6), (7, 3)), {}),
    "three": (((4, 5, 6), (4, 7, 6), (4, 7, 3)), {"scale": 0.3}),
    "four": (FOUR, {}),
    "five": (((2, 3, 4, 5, 6), (2, 3, 4, 7, 6), (2, 3, 4, 7, 3)), {}),
    "broadcast": (((2, 1, 5, 6), (1, 4, 7, 6), (7, 3)), {}),
    "causal": (FOUR, {"is_causal": True}),
    "causal, more queries": (((2, 7, 6), (2, 5, 6), (2, 5, 3)), {"is_causal": True}),
    "choice": (FOUR, {"attn_mask": CHOICE}),
    "choice of keys": (FOUR, {"attn_mask": CHOICE[0, 0, :1]}),
    "choice, five": (((3, 2, 4, 5, 6), (3, 2, 4, 7, 6), (3, 2, 4, 7, 3)), {"attn_mask": CHOICE}),
    "terms": (FOUR, {"attn_mask": TERMS}),
    "terms of matrices": (((5, 6), (7, 6), (7, 3)), {"attn_mask": TERMS[0, 0]}),
    "groups": (((2, 4, 5, 6), (2, 2, 7, 6), (2, 2, 7, 3)), {"enable_gqa": True, "is_causal": True}),
    "groups with a mask": (((2, 4, 5, 6), (2, 1, 7, 6), (2, 1, 7, 3)), {"enable_gqa": True, "attn_mask": CHOICE}),
    "groups of two sizes": (((2, 4, 5, 6), (2, 2, 7, 6), (2, 4, 7, 3)), {"enable_gqa": True}),
    "no keys": (((2, 2, 5, 6), (2, 2, 0, 6), (2, 2, 0, 3)), {}),
    "no queries": (((2, 2, 0, 6), (2, 2, 7, 6), (2, 2, 7, 3)), {}),
    "no width": (((2, 2, 5, 0), (2, 2, 7, 0), (2, 2, 7, 3)), {}),
    "no values": (((2, 2, 5, 6), (2, 2, 7, 6), (2, 2, 7, 0)), {}),
    "no batch": (((0, 2, 5, 6), (0, 2, 7, 6), (0, 2, 7, 3)), {"is_causal": True}),
}


def converted(options: dict[str, Any], dtype: Any, convert: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {name: convert(x.astype(dtype) if x.dtype.kind == "f" else x) if isinstance(x, np.ndarray) else x
            for name, x in options.items()}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", GRID)
def test_values_and_gradients_are_those_of_torch(case: str, dtype: Any, device: str) -> None:
    """By the kernels, and by the composition that create_graph differentiates."""
    shapes, options = GRID[case]
    arrays = [values(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    inputs = [tl.tensor(a, device=device, requires_grad=True) for a in arrays]
    references = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = attend(*inputs, **converted(options, dtype, lambda a: tl.tensor(a, device=device)))
    wanted = theirs(*references, **converted(options, dtype, torch.tensor))
    g = values(*wanted.shape, seed=9, dtype=dtype)
    wanted.backward(torch.tensor(g))
    g = tl.tensor(g, device=device)
    fused = tl.autograd.grad(out, inputs, g, retain_graph=True)
    composed = tl.autograd.grad(out, inputs, g, create_graph=True)
    close(out, wanted, dtype)
    for x, y, reference in zip(fused, composed, references, strict=True):
        close(x, reference.grad, dtype)
        close(y, reference.grad, dtype)


def close(x: Any, y: Any, dtype: Any) -> None:
    assert tuple(x.shape) == tuple(y.shape)
    np.testing.assert_allclose(x.detach().cpu().numpy(), y.detach().numpy(), TOLERANCE[dtype], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_mask_that_learns(dtype: Any, device: str) -> None:
    """Its gradient too, zeros in a row that may look at nothing."""
    arrays = [values(*shape, seed=i, dtype=dtype) for i, shape in enumerate(FOUR)] + [TERMS.astype(dtype)]
    inputs = [tl.tensor(a, device=device, requires_grad=True) for a in arrays]
    references = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, wanted = attend(*inputs), theirs(*references)
    close(out, wanted, dtype)
    (out * out).sum().backward()
    (wanted * wanted).sum().backward()
    for x, reference in zip(inputs, references, strict=True):
        close(x.grad, reference.grad, dtype)
    assert not inputs[3].grad[0, 0, 2].any()


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16])
def test_16_bits_are_computed_in_float32(dtype: Any, device: str) -> None:
    inputs = [tl.tensor(values(*shape, seed=i), device=device).to(dtype).requires_grad_()
              for i, shape in enumerate(FOUR)]
    wide = [x.detach().float().requires_grad_() for x in inputs]
    out, wanted = attend(*inputs, is_causal=True), attend(*wide, is_causal=True)
    assert out.dtype is dtype
    assert tl.equal(out, wanted.detach().to(dtype)) or device != "cpu"
    out.sum().backward()
    wanted.sum().backward()
    for x, reference in zip(inputs, wide, strict=True):
        tolerance = 8e-3 if dtype is tl.float16 else 6e-2
        np.testing.assert_allclose(x.grad.float().cpu().numpy(), reference.grad.cpu().numpy(), tolerance, tolerance)


def test_autocast_narrows_the_inputs_and_a_mask_of_numbers(device: str) -> None:
    inputs = [tl.tensor(values(*shape, seed=i, dtype=np.float32), device=device) for i, shape in enumerate(FOUR)]
    mask = tl.tensor(values(5, 7, dtype=np.float32), device=device)
    with tl.autocast(device.partition(":")[0] if device != "cuda:sim" else device, dtype=tl.bfloat16):
        assert attend(*inputs, attn_mask=mask).dtype is tl.bfloat16


def test_dropout_keeps_the_mean_and_follows_its_generator() -> None:
    q, k, v = (tl.ones(1, 1, 200, 4), tl.ones(1, 1, 50, 4), tl.ones(1, 1, 50, 2))
    first, second = (attend(q, k, v, dropout_p=0.25, generator=tl.Generator().manual_seed(3)) for _ in range(2))
    assert tl.equal(first, second)
    assert abs(first.mean().item() - 1) < 0.02
    kept = (first[..., 0] * 50 * 0.75).round()
    assert tl.allclose(kept, first[..., 0] * 50 * 0.75, atol=1e-4) and kept.std().item() > 1
    assert not attend(q, k, v, dropout_p=1.0).any()


def test_results_lie_as_projections_read_them() -> None:
    """The heads of a position side by side, so that joining them copies nothing."""
    out = attend(*[tl.tensor(values(*shape)) for shape in FOUR])
    assert out.transpose(1, 2).is_contiguous()


# --- the kernels of the CPU ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> cpu_compiled.Library:
    library = cpu_compiled.library()
    if library is None:
        pytest.skip(f"no compiled kernels: {cpu_compiled.describe()}")
    return library


def heads(n: int, count: int, length: int, width: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """(N, H, L, E), laid out in memory as (N, L, H, E)."""
    return values(n, length, count, width, seed=seed, dtype=dtype).transpose(0, 2, 1, 3)


BLOCKS = [(1, 1, 1), (31, 127, 16), (32, 128, 32), (33, 129, 17), (130, 300, 5), (257, 260, 40)]
MASKS: dict[str, Callable[[int, int, Any], np.ndarray | None]] = {
    "none": lambda rows, keys, dtype: None,
    "choice": lambda rows, keys, dtype: np.broadcast_to(values(rows, keys) > -0.5, (2, 4, rows, keys)),
    "of keys": lambda rows, keys, dtype: np.broadcast_to(values(2, 1, 1, keys) > 0, (2, 4, rows, keys)),
    "terms": lambda rows, keys, dtype: values(2, 4, keys, rows, dtype=dtype).swapaxes(2, 3),
    "nothing": lambda rows, keys, dtype: np.broadcast_to(False, (2, 4, rows, keys)),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("sizes", BLOCKS)
@np.errstate(all="ignore")
def test_compiled_kernels_compute_what_numpy_does(compiled: cpu_compiled.Library, sizes: tuple[int, int, int],
                                                  mask: str, dtype: Any) -> None:
    """At the edges of blocks of queries, keys and vectors, with heads shared, and with the layouts of projections."""
    rows, keys, width = sizes
    q, k = heads(2, 4, rows, width, dtype), heads(2, 2, keys, width, dtype, 1)
    v = heads(2, 2, keys, width + 1, dtype, 2)
    given, g = MASKS[mask](rows, keys, dtype), values(2, 4, rows, width + 1, seed=3, dtype=dtype)
    for causal in (False, True):
        options = {"scale": 0.4, "causal": causal}
        forward, backward = [], []
        for run in (compiled.run.__getitem__, cpu.KERNELS.__getitem__):
            out = np.full_like(g.swapaxes(1, 2), np.nan).swapaxes(1, 2), np.full((2, 4, rows), np.nan, dtype)
            assert run("attention")(out, q, k, v, given, **options) in (True, None)
            forward.append(out)
            slopes = tuple([np.full_like(x, np.nan) for x in (q, k, v)])
            assert run("attention_grad")(slopes, g, q, k, v, given, *forward[0], **options) in (True, None)
            backward.append(slopes)
        for x, y in zip((*forward[0], *backward[0]), (*forward[1], *backward[1]), strict=True):
            scale = float(np.max(np.abs(y[np.isfinite(y)]), initial=1.0))
            np.testing.assert_allclose(x, y, TOLERANCE[dtype], TOLERANCE[dtype] * scale)


def test_threads_change_no_bit(compiled: cpu_compiled.Library) -> None:
    """Heads alone and among others: what a head gives depends on nothing but itself."""
    arrays = [heads(4, 4, 200, 32, np.float32, seed) for seed in range(3)]
    g = heads(4, 4, 200, 32, np.float32, 3)

    def run(part: slice) -> list[np.ndarray]:
        q, k, v = (x[part] for x in arrays)
        out, slopes = (np.empty_like(q), np.empty(q.shape[:3], np.float32)), tuple(map(np.empty_like, (q, k, v)))
        assert compiled.run["attention"](out, q, k, v, None, scale=0.2, causal=True)
        assert compiled.run["attention_grad"](slopes, g[part], q, k, v, None, *out, scale=0.2, causal=True)
        return [*out, *slopes]

    whole = run(slice(None))
    for n in range(4):
        for x, y in zip(run(slice(n, n + 1)), whole, strict=True):
            np.testing.assert_array_equal(x[0], y[n])


def test_scores_far_apart_and_of_no_number(compiled: cpu_compiled.Library) -> None:
    """A larger score in a later block takes over; NaN and inf stay in their row."""
    for dtype in TOLERANCE:
        q, k, v = np.ones((1, 1, 3, 1), dtype), np.zeros((1, 1, 300, 1), dtype), values(1, 1, 300, 2, dtype=dtype)
        k[0, 0, 290] = 1e4
        q[0, 0, 1], q[0, 0, 2] = np.nan, -1
        for run in (compiled.run.__getitem__, cpu.KERNELS.__getitem__):
            out, lse = np.empty((1, 1, 3, 2), dtype), np.empty((1, 1, 3), dtype)
            with np.errstate(all="ignore"):
                run("attention")((out, lse), q, k, v, None, scale=1.0, causal=False)
            np.testing.assert_array_equal(out[0, 0, 0], v[0, 0, 290])
            assert lse[0, 0, 0] == 1e4 and np.isnan(out[0, 0, 1]).all() and np.isnan(lse[0, 0, 1])
            np.testing.assert_allclose(out[0, 0, 2], np.delete(v[0, 0], 290, 0).mean(0), 1e-4, 1e-6)
            np.testing.assert_allclose(lse[0, 0, 2], math.log(299), 1e-6)


def test_compiled_kernels_leave_the_rest_to_numpy(compiled: cpu_compiled.Library) -> None:
    q, lse = values(1, 1, 4, 4, dtype=np.float32), np.empty((1, 1, 4), np.float32)
    out, options = np.empty_like(q), {"scale": 1.0, "causal": False}
    run = compiled.run["attention"]
    assert run((out, lse), q, q, q, None, **options)
    assert not run((out.astype(np.float16), lse), *[q.astype(np.float16)] * 3, None, **options)
    assert not run((out, lse), q, q.astype(np.float64), q, None, **options)
    assert not run((out, lse), q, q, q, np.zeros((1, 1, 4, 4)), **options)  # a mask in float64
    assert not run((np.empty((1, 1, 4, 8), np.float32)[..., ::2], lse), q, q, q, None, **options)
