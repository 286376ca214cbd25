"""The random kernels of devices with kernels of our own: the CPU's numbers, bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes, nn, random, simulator
from tensorlite.backends import Backend, get, philox
from tensorlite.backends.kernels import random as family
from tensorlite.nn import functional as F

FLOATS = [dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]
SIZES = [0, 1, 3, 4, 5, 31, 127, 1023, 1024, 1025, 5003]
MASK = 2**64 - 1

OF_FLOATS: list[tuple[str, dict[str, Any]]] = [
    ("random_uniform", {"low": 0.0, "high": 1.0}), ("random_uniform", {"low": -3.0, "high": 0.1}),
    ("random_normal", {"mean": 0.0, "std": 1.0}), ("random_normal", {"mean": -0.3, "std": 70.0}),
    ("random_exponential", {"rate": 1.0}), ("random_exponential", {"rate": 0.037}),
]
OF_ALL: list[tuple[str, dict[str, Any]]] = [("random_integers", {"low": 0, "high": 2}), ("random_bits", {})]


@pytest.fixture(params=[name for name in tl.testing.devices() if name != "cpu"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


@pytest.fixture
def default_state() -> Iterator[None]:
    """The default streams go on after the test as if they had not been seeded."""
    states = {device: generator.get_state() for device, generator in random._defaults.items()}
    yield
    for device, state in states.items():
        random.default_for(device).set_state(state)


def check(backend: Backend, kernel: str, base: np.ndarray, view: Callable[[Any], Any] = lambda x: x, *operands: Any,
          seed: int = 0, counter: int = 0, **params: Any) -> None:
    """The kernel fills a view of `base` and advances the state as the CPU's kernel does, and writes nothing else."""
    state = np.array([seed, counter], np.uint64)
    on_device, its_state = backend.from_numpy(base), backend.from_numpy(state)
    moved = [backend.from_numpy(o) if isinstance(o, np.ndarray) else o for o in operands]
    get("cpu").run(kernel, view(base), state, *operands, **params)
    backend.run(kernel, view(on_device), its_state, *moved, **params)
    assert backend.to_numpy(on_device).tobytes() == base.tobytes()
    assert backend.to_numpy(its_state).tolist() == state.tolist()


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel, params", OF_FLOATS)
def test_floats_of_every_size(kernel: str, params: dict[str, Any], dtype: Any, backend: Backend) -> None:
    for n in SIZES:
        check(backend, kernel, np.zeros(n, dtype.numpy), seed=n, counter=7, **params)
    check(backend, kernel, np.zeros((), dtype.numpy), **params)


@pytest.mark.parametrize("dtype", dtypes.ALL)
@pytest.mark.parametrize("kernel, params", OF_ALL)
def test_integers_of_every_dtype(kernel: str, params: dict[str, Any], dtype: Any, backend: Backend) -> None:
    if kernel == "random_bits" and dtype.is_floating_point:
        return  # no dtype but int64 holds all words
    for n in SIZES:
        check(backend, kernel, np.zeros(n, dtype.numpy), seed=n, **params)


@pytest.mark.parametrize("low, high", [(0, 10), (-7, 100), (0, 2**32), (-2**63, 2**63), (-2**63, 2**63 - 1), (5, 6),
                                       (2**62, 2**63)])
def test_integer_ranges(low: int, high: int, backend: Backend) -> None:
    check(backend, "random_integers", np.zeros(99, np.int64), low=low, high=high)


@pytest.mark.parametrize("seed", [0, 1, 2**63, MASK])
@pytest.mark.parametrize("counter", [0, 2**32 - 2, 2**63 - 4])
def test_seeds_and_counters(seed: int, counter: int, backend: Backend) -> None:
    check(backend, "random_bits", np.zeros(41, np.int64), seed=seed, counter=counter)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("low, high", [(1.0, 1.01), (-1e4, 1e4), (0.0, 6e-8), (2.0, 2.0), (-1.0, -1.0)])
def test_high_is_never_drawn(low: float, high: float, dtype: Any, backend: Backend) -> None:
    check(backend, "random_uniform", np.zeros(5000, dtype.numpy), low=low, high=high)


LAYOUTS: list[tuple[tuple[int, ...], Callable[[Any], Any]]] = [
    ((13, 9), lambda x: x.transpose(1, 0)), ((257,), lambda x: x[1:]), ((64, 12), lambda x: x[:, 1:-3]),
    ((61,), lambda x: x[::-1]), ((4, 5, 6), lambda x: x.transpose(2, 0, 1)), ((40, 3), lambda x: x[::2, ::-1]),
    ((3, 4, 5, 2), lambda x: x[:, 1:3].transpose(0, 1, 3, 2)), ((1, 7, 1), lambda x: x), ((6, 0), lambda x: x),
]


@pytest.mark.parametrize("dtype", [dtypes.bfloat16, dtypes.float32, dtypes.float64])
@pytest.mark.parametrize("shape, view", LAYOUTS)
@pytest.mark.parametrize("kernel, params", OF_FLOATS[::2])
def test_strides_do_not_change_the_numbers(kernel: str, params: dict[str, Any], shape: Any, view: Any, dtype: Any,
                                           backend: Backend) -> None:
    check(backend, kernel, np.full(shape, 99, dtype.numpy), view, **params)


def test_more_dimensions_than_kernels_take_are_refused(backend: Backend) -> None:
    out = backend.empty((2,) * 20, np.dtype(np.float32))[(slice(None, 1),) * 2].transpose(*range(19, -1, -1))
    with pytest.raises(tl.errors.ShapeError, match="more than 8 dimensions"):
        backend.run("random_uniform", out, backend.from_numpy(np.zeros(2, np.uint64)), low=0.0, high=1.0)


# --- words at the edges, which no seed is known to give ---------------------------------------------------------------

EDGES = [0, 1, 2**11, 2**12 - 1, 2**40 - 1, 2**61 - 1, 2**61, 2**62, 3 * 2**61, 2**63 - 1, 2**63, 3 * 2**62, 7 * 2**61,
         MASK - 2**11, MASK - 2**40, MASK]
OF_WORDS = """
#include "distributions.cuh"
template <class Distribution, class T>
__global__ void made(const u64* words, T* out, const Distribution distribution) {
  const u64* mine = words + 4 * threadIdx.x;
  const auto drawn = distribution.template draw<T>({{mine[0], mine[1], mine[2], mine[3]}}, distributions::Operand{});
  for (int v = 0; v < 4; ++v) out[4 * threadIdx.x + v] = drawn.at[v];
}
"""


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel, params", OF_FLOATS)
def test_words_at_the_edges(kernel: str, params: dict[str, Any], dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not simulator.is_available():
        pytest.skip("no C++ compiler")
    words = np.array([pair for a in EDGES for b in EDGES for pair in (a, b)], np.uint64)
    expected, made = np.zeros((2, words.size), dtype.numpy)
    monkeypatch.setattr(philox, "_draw", lambda size, state, even=False: iter([(words.copy(), slice(0, size))]))
    get("cpu").run(kernel, expected, np.zeros(2, np.uint64), **params)
    distribution = family.DISTRIBUTIONS[kernel]
    packed = struct.pack(distribution.fields, *distribution.values(dtype.numpy, *params.values()))
    simulator.launch(OF_WORDS, f"made<distributions::{distribution.name}, {dtype.c_type}>", 1, words.size // 4, words,
                     made, packed)
    assert made.tobytes() == expected.tobytes()


def test_certain_and_impossible_events() -> None:
    """Whatever the word, nothing happens with probability 0, and all with probability 1."""
    if not simulator.is_available():
        pytest.skip("no C++ compiler")
    words, made = np.array(EDGES, np.uint64), np.zeros(len(EDGES), np.float32)
    for p in (0.0, 1.0):
        simulator.launch(OF_WORDS, "made<distributions::Bernoulli, float>", 1, words.size // 4, words, made,
                         struct.pack("d", p))
        assert made.tolist() == [p] * len(EDGES)


# --- Bernoulli and categories -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", dtypes.ALL)
def test_bernoulli_by_one_probability(dtype: Any, backend: Backend) -> None:
    for p in (0.0, 0.3, 0.5, 1.0):
        check(backend, "random_bernoulli", np.zeros(1027, dtype.numpy), lambda x: x, p)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, view", LAYOUTS)
def test_bernoulli_by_a_probability_for_each_element(shape: Any, view: Any, dtype: Any, backend: Backend) -> None:
    base = np.zeros(shape, np.float32)
    p = np.linspace(0, 1, view(base).size).reshape(view(base).shape).astype(dtype.numpy)
    check(backend, "random_bernoulli", base, view, p)


def test_bernoulli_by_repeated_probabilities(backend: Backend) -> None:
    out, state = np.zeros((50, 3), np.float32), np.zeros(2, np.uint64)
    p = np.array([0.1, 0.5, 0.9])
    on_device, its_state = backend.from_numpy(out), backend.from_numpy(state)
    philox.random_bernoulli(out, state, np.broadcast_to(p, out.shape))
    backend.run("random_bernoulli", on_device, its_state, backend.expand(backend.from_numpy(p), out.shape))
    assert np.array_equal(backend.to_numpy(on_device), out)


@pytest.mark.parametrize("rows, categories, samples", [(1, 1, 5), (3, 7, 11), (5, 100, 64), (2, 1025, 300), (0, 3, 4)])
def test_choice(rows: int, categories: int, samples: int, backend: Backend) -> None:
    counts = np.random.default_rng(0).integers(0, 2**40, (rows, categories))
    counts[:, -1] += 1
    check(backend, "random_choice", np.zeros((rows, samples), np.int64), lambda x: x, counts.cumsum(1))


def test_choice_reads_and_writes_any_strides(backend: Backend) -> None:
    cumulative = np.array([[1, 1, 4], [0, 2, 9]]).T.copy()
    out, state = np.zeros((20, 2), np.int64), np.zeros(2, np.uint64)
    on_device, its_state = backend.from_numpy(out), backend.from_numpy(state)
    philox.random_choice(out.T, state, cumulative.T)
    backend.run("random_choice", on_device.transpose(1, 0), its_state, backend.from_numpy(cumulative).transpose(1, 0))
    assert np.array_equal(backend.to_numpy(on_device), out)


# --- generators and what draws from them ------------------------------------------------------------------------------


def test_a_stream_goes_on_from_draw_to_draw(backend: Backend) -> None:
    here, there = (tl.Generator(device).manual_seed(3) for device in ("cpu", backend.device))
    for n in (5, 1, 4000, 8):
        assert np.array_equal(tl.randn(n, generator=here).numpy(),
                              tl.randn(n, generator=there, device=backend.device).cpu().numpy())
    assert here.get_state().tolist() == there.get_state().tolist()


def test_states_of_generators_move_between_devices(backend: Backend) -> None:
    here = tl.Generator().manual_seed(MASK)
    tl.rand(9, generator=here)
    there = tl.Generator(backend.device).set_state(here.get_state())
    assert there.initial_seed() == MASK
    assert np.array_equal(tl.rand(4, generator=there, device=backend.device).cpu().numpy(),
                          tl.rand(4, generator=here).numpy())


def test_a_generator_draws_on_its_own_device(backend: Backend) -> None:
    with pytest.raises(tl.errors.DeviceError, match="make the generator with"):
        tl.rand(3, generator=tl.Generator(), device=backend.device)


def test_manual_seed_seeds_every_device(backend: Backend, default_state: None) -> None:
    first = []
    for _ in range(2):
        tl.manual_seed(5)
        first.append(tl.rand(3, device=backend.device).cpu().tolist())
    assert first[0] == first[1] == tl.rand(3).tolist()


SAMPLES: dict[str, Callable[[Any], tl.Tensor]] = {
    "rand": lambda d: tl.rand(3, 5, device=d),
    "randn": lambda d: tl.randn(7, dtype=tl.float64, device=d),
    "rand_like": lambda d: tl.rand_like(tl.ones(3, 4, device=d).t()),
    "randint": lambda d: tl.randint(-5, 9, (33,), device=d),
    "randperm": lambda d: tl.randperm(100, device=d),
    "normal": lambda d: tl.normal(tl.arange(5.0, device=d), tl.ones(5, device=d)),
    "bernoulli": lambda d: tl.bernoulli(tl.linspace(0, 1, 20, device=d)),
    "multinomial with replacement": lambda d: tl.multinomial(tl.tensor([[1.0, 2, 0, 5], [3.0, 0, 1, 1]], device=d), 50,
                                                             replacement=True),
    "multinomial": lambda d: tl.multinomial(tl.tensor([1.0, 2, 3, 5], device=d), 3),
    "dropout": lambda d: F.dropout(tl.ones(100, device=d), 0.3),
    "dropout in place": lambda d: F.dropout(tl.ones(100, device=d), 0.3, inplace=True),
    "uniform_": lambda d: tl.empty(9, device=d).uniform_(-1, 2),
    "exponential_": lambda d: tl.empty(9, device=d).exponential_(2.0),
    "random_": lambda d: tl.empty(9, dtype=tl.uint8, device=d).random_(),
    "xavier_uniform_": lambda d: nn.init.xavier_uniform_(tl.empty(4, 5, device=d)),
    "kaiming_normal_": lambda d: nn.init.kaiming_normal_(tl.empty(4, 5, device=d)),
    "trunc_normal_": lambda d: nn.init.trunc_normal_(tl.empty(40, device=d)),
    "orthogonal_": lambda d: nn.init.orthogonal_(tl.empty(4, 5, device=d)),
    "sparse_": lambda d: nn.init.sparse_(tl.empty(6, 5, device=d), 0.4),
    "eye_": lambda d: nn.init.eye_(tl.empty(4, 5, device=d)),
    "a layer": lambda d: nn.Linear(4, 3).to(d).weight.detach(),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_samples_are_the_cpus(sample: Callable[[Any], tl.Tensor], backend: Backend, default_state: None) -> None:
    results = []
    for device in ("cpu", backend.device):
        tl.manual_seed(11)
        result = sample(device)
        assert str(result.device) == str(device)
        results.append(result.cpu().numpy())
    assert results[0].dtype == results[1].dtype
    assert results[0].tobytes() == results[1].tobytes()


def test_dropouts_gradient_has_the_mask_of_its_output(backend: Backend) -> None:
    x = tl.ones(200, device=backend.device, requires_grad=True)
    y = F.dropout(x, 0.5)
    y.backward(tl.ones(200, device=backend.device))
    assert x.grad is not None
    assert x.grad.cpu().tolist() == y.detach().cpu().tolist()


def test_a_checkpoint_repeats_the_draws_of_its_device(backend: Backend, default_state: None) -> None:
    x = tl.ones(200, device=backend.device, requires_grad=True)
    y = tl.autograd.checkpoint(lambda t: F.dropout(t, 0.5), x)
    tl.rand(7, device=backend.device)  # the stream has gone on when backward draws again
    after = random.default_for(backend.device).get_state().tolist()
    y.backward(tl.ones(200, device=backend.device))
    assert x.grad is not None
    assert x.grad.cpu().tolist() == y.detach().cpu().tolist()
    assert random.default_for(backend.device).get_state().tolist() == after


def test_a_checkpoint_repeats_the_first_draws_of_a_device(backend: Backend, default_state: None,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(random._defaults, backend.device, raising=False)
    x = tl.ones(200, device=backend.device, requires_grad=True)
    y = tl.autograd.checkpoint(lambda t: F.dropout(t, 0.5), x)
    y.backward(tl.ones(200, device=backend.device))
    assert x.grad is not None
    assert x.grad.cpu().tolist() == y.detach().cpu().tolist()


def test_a_checkpoint_repeats_draws_of_other_devices(backend: Backend, default_state: None) -> None:
    x = tl.ones(200, device=backend.device, requires_grad=True)
    y = tl.autograd.checkpoint(lambda t: t * tl.rand(200).to(t.device), x)
    tl.rand(7)
    y.backward(tl.ones(200, device=backend.device))
    assert x.grad is not None
    assert x.grad.cpu().tolist() == y.detach().cpu().tolist()


def test_a_seed_of_entropy_is_that_of_every_device(backend: Backend, default_state: None) -> None:
    random.default_for(backend.device)
    seed = tl.seed()
    assert seed == tl.initial_seed() == random.default_for(backend.device).initial_seed()
