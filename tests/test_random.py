"""Random numbers: the Philox words, what is made of them, generators, and sampling."""

from __future__ import annotations

import ast
import copy
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite import backends, dtypes, errors, random, sampling
from tensorlite.backends import cpu, philox

CPU = backends.get("cpu")
FLOATS = [dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]
MASK = 2**64 - 1


class Raw:
    """The least that the fill functions take: a raw array, its backend, and a version."""

    def __init__(self, shape: Any, dtype: Any = dtypes.float32, backend: backends.Backend = CPU) -> None:
        self.array = np.full(shape, 99, dtypes.as_dtype(dtype).numpy)
        self.backend = backend
        self.version = 0

    def _bump(self) -> None:
        self.version += 1


@pytest.fixture
def generator() -> random.Generator:
    return random.Generator().manual_seed(0)


@pytest.fixture
def default_state() -> Iterator[None]:
    """The default stream goes on after the test as if it had drawn nothing."""
    state = random.get_rng_state()
    yield
    random.set_rng_state(state)


# --- the words ---------------------------------------------------------------------------------------------


def philox4x64(seed: int, block: int) -> list[int]:
    """Ten rounds in Python's integers, written from the paper."""
    key, word = [seed, 0], [block, 0, 0, 0]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * word[0], 0xCA5A826395121157 * word[2]
        word = [(second >> 64) ^ word[1] ^ key[0], second & MASK, (first >> 64) ^ word[3] ^ key[1], first & MASK]
        key = [(key[0] + 0x9E3779B97F4A7C15) & MASK, (key[1] + 0xBB67AE8584CAA73B) & MASK]
    return word


def expected_words(seed: int, counter: int, n: int) -> list[int]:
    return [word for block in range((n + 3) // 4) for word in philox4x64(seed, counter + block)][:n]


def drawn_words(seed: int, counter: int, n: int) -> list[int]:
    out = np.empty(n, np.int64)
    philox.random_bits(out, np.array([seed, counter], np.uint64))
    return [int(word) for word in out.view(np.uint64)]


def test_reference_gives_the_published_answer() -> None:
    # The known-answer test of the authors' library Random123: key 0, counter 0.
    assert philox4x64(0, 0) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


@pytest.mark.parametrize("seed", [0, 1, 67280421310721, 2**63, MASK])
@pytest.mark.parametrize("counter", [0, 1, 2**32 - 2, 2**63 - 4])
def test_words_are_philox(seed: int, counter: int) -> None:
    assert drawn_words(seed, counter, 13) == expected_words(seed, counter, 13)


def test_words_go_on_from_chunk_to_chunk() -> None:
    n = 2 * philox.CHUNK + 5
    words = drawn_words(7, 3, n)
    for i in (philox.CHUNK - 1, philox.CHUNK, 2 * philox.CHUNK, n - 1):
        assert words[i] == philox4x64(7, 3 + i // 4)[i % 4]


@pytest.mark.parametrize("kernel, params", [
    ("random_uniform", {"low": 0.0, "high": 1.0}), ("random_normal", {"mean": 0.0, "std": 1.0}),
    ("random_exponential", {"rate": 1.0}), ("random_integers", {"low": 0, "high": 9}), ("random_bits", {}),
])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, philox.CHUNK + 1])
def test_a_draw_takes_a_block_for_four_elements(kernel: str, params: dict[str, Any], n: int) -> None:
    state = np.array([5, 10], np.uint64)
    philox.KERNELS[kernel](np.empty(n, np.int64 if "i" in kernel[7:9] else np.float64), state, **params)
    assert state.tolist() == [5, 10 + math.ceil(n / 4)]


# --- what is made of a word ----------------------------------------------------------------------------------


def log_of(word: int) -> float:
    """The documented logarithm, one number at a time."""
    mantissa, exponent = math.frexp(((word >> 11) | 1) * 2.0**-53)
    if mantissa < math.sqrt(0.5):
        mantissa, exponent = mantissa * 2, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    return horner(s * s, philox.LOG_SERIES) * (s + s) + exponent * philox.LN2


def horner(x: float, coefficients: tuple[float, ...]) -> float:
    result = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def cos_sin_of(word: int) -> tuple[float, float]:
    """The documented cosine and sine, one number at a time."""
    quarter = ((word + 2**61) >> 62) % 4
    below = (word << 2) & MASK
    f = ((below - 2**64 if below >= 2**63 else below) >> 11) * 2.0**-53
    sin, cos = horner(f * f, philox.SIN_SERIES) * f, horner(f * f, philox.COS_SERIES)
    return [(cos, sin), (-sin, cos), (-cos, -sin), (sin, -cos)][quarter]


def normals_of(words: list[int], mean: float, std: float) -> list[float]:
    values: list[float] = []
    for first, second in zip(words[0::2], words[1::2], strict=True):
        r = math.sqrt(-2.0 * log_of(first))
        values += [mean + std * (r * part) for part in cos_sin_of(second)]
    return values


def drawn(kernel: str, n: int, dtype: Any = np.float64, seed: int = 0, **params: Any) -> np.ndarray:
    out = np.empty(n, dtype)
    philox.KERNELS[kernel](out, np.array([seed, 0], np.uint64), **params)
    return out


EDGES = [0, 1, 2**11, 2**12 - 1, 2**61 - 1, 2**61, 2**62, 3 * 2**61, 2**63 - 1, 2**63, 3 * 2**62, 7 * 2**61, MASK]


def some_words(n: int) -> np.ndarray:
    return np.array(EDGES + expected_words(11, 0, n - len(EDGES)), np.uint64)


def test_normals_are_bit_for_bit_those_of_a_scalar_program() -> None:
    words = expected_words(3, 0, 1000)
    values = drawn("random_normal", 1000, seed=3, mean=0.5, std=3.0)
    assert values.tolist() == normals_of(words, 0.5, 3.0)


def test_logarithm() -> None:
    words = some_words(4000)
    result = np.empty(words.size)
    philox._log(words, result, list(np.empty((4, words.size))))
    assert result.tolist() == [log_of(int(word)) for word in words]
    exact = np.array([math.log(((int(word) >> 11) | 1) * 2.0**-53) for word in words])
    assert np.abs(result / exact - 1).max() < 3e-15
    assert result.max() < 0 and result.min() >= math.log(2.0**-53) * (1 + 3e-15)


def test_cosine_and_sine() -> None:
    words = some_words(4000)
    cos, sin = np.empty((2, words.size))
    philox._cos_sin(words, cos, sin, list(np.empty((4, words.size))))
    assert list(zip(cos.tolist(), sin.tolist(), strict=True)) == [cos_sin_of(int(word)) for word in words]
    # The angle from the nearest quarter turn, so that the reference too is exact to its last digits.
    quarter = (words + np.uint64(2**61)) >> np.uint64(62)
    f = (words << np.uint64(2)).view(np.int64).astype(np.float64) * 2.0**-64
    c, s = np.cos(np.pi / 2 * f), np.sin(np.pi / 2 * f)
    assert np.abs(cos - np.choose(quarter.astype(int), [c, -s, -c, s])).max() < 3e-14
    assert np.abs(sin - np.choose(quarter.astype(int), [s, c, -s, -c])).max() < 3e-14


def test_series_are_taylors() -> None:
    with localcontext() as context:
        context.prec = 60
        half_pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494") / 2
        term = [(-1) ** (k // 2) * half_pi**k / math.factorial(k) for k in range(15)]
        assert philox.SIN_SERIES == tuple(float(t) for t in term[13::-2])
        assert philox.COS_SERIES == tuple(float(t) for t in term[14::-2])
        assert philox.LN2 == float(Decimal(2).ln())


def test_only_correctly_rounded_operations_are_used() -> None:
    """No NumPy function whose last bit depends on the library or the processor."""
    tree = ast.parse(Path(philox.__file__).read_text(encoding="utf-8"))
    used = {
        node.attr for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    arithmetic = {"add", "subtract", "multiply", "negative", "sqrt", "minimum"}
    bits = {"left_shift", "right_shift", "bitwise_and", "bitwise_xor"}
    storage = {"empty", "zeros", "array", "copyto", "ndarray", "dtype", "float32", "float64", "int64", "uint64"}
    assert used <= arithmetic | bits | storage | {"random", "nextafter", "inf"}
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "collections.abc", "typing"}


# The numbers of seed 0, on every device and in every version.
UNIFORM_64 = ["0x1.6554d9eca3630p-4", "0x1.b641fd3ace5a1p-1", "0x1.afcee59dc30c2p-1", "0x1.f9a2da2bb1ee8p-2"]
UNIFORM_32 = ["0x1.6554d00000000p-4", "0x1.b641fc0000000p-1", "0x1.afcee40000000p-1", "0x1.f9a2d80000000p-2"]
NORMAL_64 = [
    "0x1.5d4586acfd204p+0", "-0x1.bca49ada6c982p+0", "-0x1.2a9e3a7ab3d4cp-1", "0x1.755340993b152p-6",
    "0x1.44ad631487884p-3", "0x1.7dcefd0360cdfp+1",
]
EXPONENTIAL_64 = ["0x1.383481c47e1dfp+1", "0x1.3e7fe43c69c07p-3", "0x1.5cdcdcdf3bdbap-3", "0x1.694b8b5c865d6p-1"]


def test_golden_numbers() -> None:
    def hexes(values: np.ndarray) -> list[str]:
        return [float(value).hex() for value in values]

    assert hexes(drawn("random_uniform", 4, low=0.0, high=1.0)) == UNIFORM_64
    assert hexes(drawn("random_uniform", 4, np.float32, low=0.0, high=1.0)) == UNIFORM_32
    normal = [float.fromhex(value) for value in NORMAL_64]
    assert drawn("random_normal", 6, mean=0.0, std=1.0).tolist() == normal
    assert drawn("random_normal", 6, np.float32, mean=0.0, std=1.0).tolist() == np.float32(normal).tolist()
    assert hexes(drawn("random_exponential", 4, rate=1.0)) == EXPONENTIAL_64
    assert drawn("random_integers", 8, np.int64, low=-5, high=100).tolist() == [73, 20, 65, 90, 24, 18, 64, 91]


def test_every_dtype_takes_the_same_words() -> None:
    double = drawn("random_uniform", 5000, low=0.0, high=1.0)
    single = drawn("random_uniform", 5000, np.float32, low=0.0, high=1.0)
    assert single.astype(np.float64).tolist() == (np.floor(double * 2**24) / 2**24).tolist()
    normal = drawn("random_normal", 5000, np.float32, mean=0.0, std=1.0)
    for dtype in (dtypes.float16.numpy, dtypes.bfloat16.numpy):
        narrow = drawn("random_uniform", 5000, dtype, low=0.0, high=1.0)
        rounded = single.astype(dtype)
        below = rounded < 1
        assert (narrow[below] == rounded[below]).all() and (narrow[~below] == narrow.max()).all()
        assert (drawn("random_normal", 5000, dtype, mean=0.0, std=1.0) == normal.astype(dtype)).all()


@pytest.mark.parametrize("kernel, params", [
    ("random_uniform", {"low": -1.0, "high": 2.0}), ("random_normal", {"mean": 1.0, "std": 2.0}),
    ("random_exponential", {"rate": 2.0}), ("random_integers", {"low": 0, "high": 99}),
])
def test_strides_do_not_change_the_numbers(kernel: str, params: dict[str, Any]) -> None:
    shape = (5, 7, 401)  # more than one chunk
    dense = drawn(kernel, math.prod(shape), np.float32, **params).reshape(shape)
    for view in (
        np.empty((401, 7, 5), np.float32).transpose(2, 1, 0),
        np.empty((5, 14, 401), np.float32)[:, ::2],
        np.empty(shape, np.float32)[::-1, :, ::-1],
    ):
        philox.KERNELS[kernel](view, np.array([0, 0], np.uint64), **params)
        assert view.shape == shape and (view == dense).all()


class FixedWords:
    """Stands in for `philox._draw`: every element gets one and the same word."""

    def __init__(self, word: int) -> None:
        self.word = word

    def __call__(self, size: int, state: Any, even: bool = False) -> Iterator[tuple[np.ndarray, slice]]:
        yield np.full(size + size % 2 if even else size, self.word, np.uint64), slice(0, size)


@pytest.mark.parametrize("dtype", FLOATS)
@given(a=st.floats(-1e4, 1e4), width=st.floats(0, 1e4), word=st.sampled_from([*EDGES, MASK - 2**11, MASK - 2**40]))
@settings(max_examples=60, deadline=None)
def test_high_is_never_drawn(dtype: Any, a: float, width: float, word: int) -> None:
    low, high = a, a + width
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(philox, "_draw", FixedWords(word))
        value = float(drawn("random_uniform", 1, dtype.numpy, low=low, high=high)[0])
    least = float(dtype.numpy.type(low))
    assert least <= value
    assert value < high or value == least  # no number of the dtype lies in [low, high)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_uniform_is_below_one(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(philox, "_draw", FixedWords(MASK))
    largest = drawn("random_uniform", 1, dtype.numpy, low=0.0, high=1.0)[0]
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    assert float(largest) == 1 - 2.0**-digits


@pytest.mark.parametrize("word", EDGES)
@pytest.mark.parametrize("kernel, params", [
    ("random_normal", {"mean": 0.0, "std": 1.0}), ("random_exponential", {"rate": 1.0}),
])
def test_no_word_gives_infinity(kernel: str, params: dict[str, Any], word: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(philox, "_draw", FixedWords(word))
    value = drawn(kernel, 3, **params)
    assert np.isfinite(value).all() and np.abs(value).max() < 37
    assert kernel == "random_normal" or (value > 0).all()


# --- distributions: seeds are fixed, so that the bounds either hold or do not -----------------------------------


def distance(sample: np.ndarray, cdf: Any) -> float:
    """Kolmogorov's and Smirnov's distance, times the root of the sample's size; 1.95 is passed once in a thousand."""
    ordered = np.sort(sample.astype(np.float64))
    n = len(ordered)
    expected = np.array([cdf(x) for x in ordered.tolist()])
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - expected), np.max(expected - steps[:-1])) * math.sqrt(n))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distributions(seed: int, dtype: Any) -> None:
    n = 20_000
    normal = drawn("random_normal", n, dtype, seed, mean=2.0, std=3.0)
    assert distance(normal, lambda x: 0.5 * (1 + math.erf((x - 2) / 3 / math.sqrt(2)))) < 1.95
    assert distance(drawn("random_uniform", n, dtype, seed, low=-1.0, high=3.0), lambda x: (x + 1) / 4) < 1.95
    assert distance(drawn("random_exponential", n, dtype, seed, rate=0.5), lambda x: 1 - math.exp(-x / 2)) < 1.95


def test_moments_and_tails_of_the_normal() -> None:
    n = 1_000_000
    z = drawn("random_normal", n, seed=5, mean=0.0, std=1.0)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / n)
    for bound in (2.0, 3.0, 4.0):
        expected = n * math.erfc(bound / math.sqrt(2))
        assert abs(np.count_nonzero(np.abs(z) > bound) - expected) < 4 * math.sqrt(expected)
    # The two of a pair, and neighbours of two pairs, are independent, and so are their squares.
    for first, second in ((z[0::2], z[1::2]), (z[1:-1:2], z[2::2])):
        for power in (1, 2):
            assert abs(np.corrcoef(first**power, second**power)[0, 1]) < 4 / math.sqrt(n / 2)


@pytest.mark.parametrize("low, high", [(0, 1), (0, 10), (-7, 5), (-(2**63), 2**63), (2**63 - 3, 2**63), (-1, 2**62)])
def test_integers_are_the_documented_function_of_the_words(low: int, high: int) -> None:
    values = drawn("random_integers", 200, np.int64, low=low, high=high).tolist()
    assert values == [low + word % (high - low) for word in expected_words(0, 0, 200)]


def test_integers_are_even() -> None:
    counts = np.bincount(drawn("random_integers", 100_000, np.int64, low=0, high=10), minlength=10)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 27.9  # chi squared of 9 degrees: passed once in a thousand


# --- generators --------------------------------------------------------------------------------------------------


def uniforms(generator: random.Generator | None, n: int = 3, backend: backends.Backend = CPU) -> list[float]:
    target = Raw((n,), dtypes.float64, backend)
    random.fill_uniform_(target, generator=generator)
    return [float(x) for x in target.array]


@pytest.mark.parametrize("seed, kept", [(0, 0), (-1, MASK), (2**64 + 3, 3), (-(2**70), 0), (np.int64(5), 5)])
def test_any_integer_is_a_seed(seed: Any, kept: int) -> None:
    generator = random.Generator()
    uniforms(generator)
    assert generator.manual_seed(seed) is generator
    assert generator.initial_seed() == kept
    assert generator.get_state().tolist() == [kept, 0]
    assert uniforms(generator) == uniforms(random.Generator().manual_seed(kept))


@pytest.mark.parametrize("seed", [1.5, "1", None, [1]])
def test_other_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(errors.DTypeError, match=r"seed must be an integer, got .*int\(\)"):
        random.manual_seed(seed)


def test_seeds_give_different_streams(generator: random.Generator) -> None:
    assert uniforms(generator) != uniforms(random.Generator().manual_seed(1))
    assert uniforms(generator) != uniforms(generator)


def test_without_a_seed_the_stream_is_pytorchs_fixed_one() -> None:
    assert random.Generator().initial_seed() == 67280421310721
    command = "import tensorlite as tl; print(tl.initial_seed(), tl.get_rng_state().tolist())"
    finished = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["67280421310721", "[67280421310721,", "0]"]


def test_seed_takes_the_operating_systems_entropy(default_state: None) -> None:
    generator = random.Generator()
    seeds = {generator.seed() for _ in range(8)}
    assert len(seeds) == 8 and all(0 <= seed < 2**64 for seed in seeds)
    assert random.seed() == random.initial_seed() == random.default_generator.initial_seed()


def test_state_resumes_the_stream(generator: random.Generator) -> None:
    uniforms(generator, 10)
    state = generator.get_state()
    ahead = uniforms(generator)
    assert state.tolist() == [0, 3] and state.dtype == np.uint64
    state_as = [state, state.tolist(), tuple(state.tolist()), state.view(np.int64)]
    for given_state in state_as:
        assert generator.set_state(given_state) is generator
        assert uniforms(generator) == ahead
    state[1] = 99  # a copy: the generator does not see it
    assert generator.get_state().tolist() == [0, 4]


def test_large_seeds_survive_every_form_of_the_state() -> None:
    generator = random.Generator().manual_seed(-2)
    for state in (generator.get_state(), generator.get_state().tolist(), generator.get_state().view(np.int64)):
        assert random.Generator().set_state(state).initial_seed() == 2**64 - 2


@pytest.mark.parametrize("state", [[1], [1, 2, 3], 5, [0.5, 1.0], [[1, 2]], np.zeros(2), "ab", None])
def test_bad_states_are_refused(generator: random.Generator, state: Any) -> None:
    with pytest.raises(errors.ArgumentError, match=r"set_state takes two integers .*get_state\(\)"):
        generator.set_state(state)
    assert generator.get_state().tolist() == [0, 0]


@pytest.mark.parametrize("counter", [-1, 2**63, MASK])
def test_bad_counters_are_refused(generator: random.Generator, counter: int) -> None:
    with pytest.raises(errors.ArgumentError, match=r"outside \[0, 2\^63\)"):
        generator.set_state([0, counter])


def test_default_generator(default_state: None) -> None:
    assert random.manual_seed(3) is random.default_generator
    first = uniforms(None)
    state = random.get_rng_state()
    second = uniforms(None)
    random.set_rng_state(state)
    assert uniforms(None) == second
    random.manual_seed(3)
    assert uniforms(None) == first and first != second
    assert uniforms(random.Generator().manual_seed(3)) == first


def test_copies_and_pickles_go_on_alike(generator: random.Generator) -> None:
    uniforms(generator)
    twins = [copy.copy(generator), copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))]
    assert repr(generator) == "<tensorlite.Generator device='cpu' seed=0 counter=1>"
    ahead = uniforms(generator)
    assert [uniforms(twin) for twin in twins] == [ahead] * 3


class SlowState(np.ndarray):
    """A state that gives other threads their turn between its reading and its advance."""

    def tolist(self) -> Any:
        values = super().tolist()
        time.sleep(0.001)
        return values


def test_threads_never_share_a_word(generator: random.Generator) -> None:
    draws, size = 10, 4
    found: list[list[float]] = [[] for _ in range(4)]
    gate = threading.Barrier(len(found))
    generator._state = generator._state.view(SlowState)

    def work(mine: list[float]) -> None:
        gate.wait()
        for _ in range(draws):
            mine += uniforms(generator, size)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = sorted(x for mine in found for x in mine)
    assert together == sorted(uniforms(generator.manual_seed(0), len(found) * draws * size))


FORK = """
import os, signal, threading, warnings
import numpy as np
from tensorlite import backends, random
warnings.simplefilter("ignore")
out = np.empty(100_000)
def draw():
    random.draw(backends.get("cpu"), "random_uniform", out, low=0.0, high=1.0)
going = True
def work():
    while going: draw()
thread = threading.Thread(target=work, daemon=True)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        draw()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
going = False
thread.join()
draw()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_in_the_middle_of_a_draw_leaves_no_lock() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


class OtherDevice(cpu.CpuBackend):
    """The CPU under another device's name."""

    def __init__(self) -> None:
        super().__init__()
        self.device = backends.Device("cuda:sim")


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> backends.Backend:
    backend = OtherDevice()
    monkeypatch.setitem(backends._loaded, backend.device, backend)
    monkeypatch.setattr(random, "_defaults", {random.default_generator.device: random.default_generator})
    return backend


def test_a_generator_draws_on_its_own_device(generator: random.Generator, other: backends.Backend) -> None:
    with pytest.raises(errors.DeviceError, match=r"on device 'cpu', the tensor on 'cuda:sim'.*device='cuda:sim'"):
        uniforms(generator, backend=other)
    there = random.Generator("cuda:sim").manual_seed(0)
    assert there.device == other.device
    assert uniforms(there, backend=other) == uniforms(generator)


def test_every_device_has_a_default_generator(other: backends.Backend, default_state: None) -> None:
    random.manual_seed(4)
    assert uniforms(None, backend=other) == uniforms(None)
    random.manual_seed(5)
    assert uniforms(None, backend=other) == uniforms(None)


def test_what_is_no_generator_is_refused() -> None:
    with pytest.raises(errors.DTypeError, match=r"must be a tl\.Generator, got int; make one with"):
        uniforms(3)  # type: ignore[arg-type]


# --- filling in place ----------------------------------------------------------------------------------------------


def test_filling_bumps_the_version(generator: random.Generator) -> None:
    target = Raw((3,))
    random.fill_uniform_(target, 0, 1, generator)
    random.fill_normal_(target, 0, 1, generator)
    random.fill_exponential_(target, 1, generator)
    random.fill_bernoulli_(target, 0.5, generator)
    random.fill_integers_(target, 0, 9, generator)
    assert target.version == 5
    assert generator.get_state().tolist() == [0, 5]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: Any, generator: random.Generator) -> None:
    target = Raw(shape, dtype)
    for fill in (random.fill_uniform_, random.fill_normal_, random.fill_exponential_, random.fill_bernoulli_):
        target.array.fill(99)
        fill(target, generator=generator)  # type: ignore[operator]
        assert (np.abs(target.array.astype(np.float64)) < 20).all()


def test_narrow_uniforms_stay_below_one_through_the_door(generator: random.Generator) -> None:
    for dtype in (dtypes.float16, dtypes.bfloat16):
        target = Raw((50_000,), dtype)
        random.fill_uniform_(target, generator=generator)
        assert float(target.array.max()) < 1


def test_a_mean_beyond_the_dtype_overflows_without_a_warning(generator: random.Generator) -> None:
    target = Raw((3,), dtypes.float16)
    random.fill_normal_(target, 1e300, 1.0, generator)
    assert np.isposinf(target.array.astype(np.float64)).all()


@pytest.mark.parametrize("low, high", [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (-math.inf, 0.0), (0.0, 1e39)])
def test_bad_uniform_bounds_are_refused(low: float, high: float) -> None:
    target = Raw((3,))
    with pytest.raises(errors.ArgumentError, match=r"uniform_: (needs low <= high|.* is not finite in float32)"):
        random.fill_uniform_(target, low, high)
    assert target.version == 0 and (target.array == 99).all()


def test_a_uniform_of_no_width_is_its_bound(generator: random.Generator) -> None:
    target = Raw((3,))
    random.fill_uniform_(target, 0.1, 0.1, generator)
    assert (target.array == np.float32(0.1)).all()


@pytest.mark.parametrize("mean, std", [(0.0, -1.0), (0.0, math.nan), (0.0, math.inf), (math.nan, 1.0)])
def test_bad_normal_parameters_are_refused(mean: float, std: float) -> None:
    with pytest.raises(errors.ArgumentError, match="normal_: needs a finite mean and a finite std >= 0"):
        random.fill_normal_(Raw((3,)), mean, std)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(errors.ArgumentError, match="exponential_: needs a finite rate > 0"):
        random.fill_exponential_(Raw((3,)), rate)


@pytest.mark.parametrize("fill", [random.fill_uniform_, random.fill_normal_, random.fill_exponential_])
def test_floats_only(fill: Any) -> None:
    with pytest.raises(errors.DTypeError, match=r"needs a floating dtype, got int64; use .float\(\), or random_\(\)"):
        fill(Raw((3,), dtypes.int64))


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_bad_probabilities_are_refused(p: float) -> None:
    with pytest.raises(errors.ArgumentError, match=r"must lie in \[0, 1\], got"):
        random.fill_bernoulli_(Raw((3,)), p)
    chances = Raw((3,))
    chances.array[:] = [0.5, p, 0.5]
    with pytest.raises(errors.ArgumentError, match=r"must lie in \[0, 1\], got"):
        random.fill_bernoulli_(Raw((3,)), chances)


@pytest.mark.parametrize("dtype", [*FLOATS, dtypes.bool_, dtypes.int64, dtypes.uint8])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0, 2.0**-60])
def test_bernoulli_compares_the_uniform(dtype: Any, p: float, generator: random.Generator) -> None:
    n = 20_000
    expected = [x < p for x in uniforms(generator, n)]
    by_number, by_tensor, chances = Raw((n,), dtype), Raw((n,), dtype), Raw((1,), dtypes.float64)
    chances.array[:] = p
    random.fill_bernoulli_(by_number, p, generator.manual_seed(0))
    random.fill_bernoulli_(by_tensor, chances, generator.manual_seed(0))
    assert by_number.array.astype(np.float64).tolist() == expected
    assert by_tensor.array.astype(np.float64).tolist() == expected


def test_bernoulli_takes_a_probability_for_each_element(generator: random.Generator) -> None:
    target, chances = Raw((1000, 3), dtypes.bool_), Raw((3,), dtypes.bfloat16)
    chances.array[:] = [0, 0.5, 1]
    random.fill_bernoulli_(target, chances, generator)
    assert target.array.sum(0).tolist()[::2] == [0, 1000] and 440 < target.array[:, 1].sum() < 560


def test_bernoulli_of_probabilities_in_its_own_memory(generator: random.Generator) -> None:
    square = Raw((200, 200), dtypes.float64)
    square.array[:] = np.tri(200).T  # 1 on and above the diagonal, and never elsewhere
    turned = Raw(())
    turned.array = square.array.T
    random.fill_bernoulli_(square, turned, generator)
    assert (square.array == np.tri(200)).all()


def test_bernoulli_refuses_probabilities_of_a_wrong_kind(other: backends.Backend) -> None:
    with pytest.raises(errors.DTypeError, match="floating dtype, got int64"):
        random.fill_bernoulli_(Raw((3,)), Raw((3,), dtypes.int64))
    with pytest.raises(errors.ShapeError, match=r"p of shape \(2, 3\) does not fit a tensor of shape \(3,\)"):
        random.fill_bernoulli_(Raw((3,)), Raw((2, 3)))
    with pytest.raises(errors.DeviceError, match="p is on device 'cuda:sim', the tensor on 'cpu'"):
        random.fill_bernoulli_(Raw((3,)), Raw((3,), backend=other))


@pytest.mark.parametrize("dtype, least, most", [
    (dtypes.bool_, 0, 1), (dtypes.uint8, 0, 255), (dtypes.int8, -128, 127), (dtypes.int16, -(2**15), 2**15 - 1),
    (dtypes.int64, -(2**63), 2**63 - 1), (dtypes.float16, -(2**11), 2**11), (dtypes.bfloat16, -(2**8), 2**8),
    (dtypes.float32, -(2**24), 2**24), (dtypes.float64, -(2**53), 2**53),
])
def test_integers_fill_what_a_dtype_counts_to(dtype: Any, least: int, most: int, generator: random.Generator) -> None:
    target = Raw((64,), dtype)
    words = expected_words(0, 0, 64)
    random.fill_integers_(target, least, most + 1, generator)
    assert [int(x) for x in target.array] == [least + word % (most + 1 - least) for word in words]
    random.fill_integers_(target, generator=generator.manual_seed(0))
    assert [int(x) for x in target.array] == [word % (most + 1) for word in words]
    for low, high in ((least - 1, most), (least, most + 2)):
        with pytest.raises(errors.ArgumentError, match=f"does not fit {dtype.name}, which holds {least} to {most}"):
            random.fill_integers_(target, low, high)


@pytest.mark.parametrize("low, high", [(0, 0), (3, 1)])
def test_bad_integer_bounds_are_refused(low: int, high: int) -> None:
    with pytest.raises(errors.ArgumentError, match=f"needs low < high, got low={low}, high={high}"):
        random.fill_integers_(Raw((3,), dtypes.int64), low, high)
    with pytest.raises(errors.DTypeError, match=r"high must be an integer, got 2.5; convert it with int\(\)"):
        random.fill_integers_(Raw((3,), dtypes.int64), 0, 2.5)  # type: ignore[arg-type]


# --- sampling --------------------------------------------------------------------------------------------------------


def values(tensor: tl.Tensor) -> Any:
    return tensor.tolist()


@pytest.mark.parametrize("size", [(), (3,), (2, 3), ((2, 3),), ([2, 0],), ((),)])
@pytest.mark.parametrize("sample", [sampling.rand, sampling.randn])
def test_sizes_come_one_by_one_or_together(sample: Any, size: Any) -> None:
    tensor = sample(*size)
    assert tensor.shape == (tuple(size[0]) if size and not isinstance(size[0], int) else size)
    assert tensor.dtype is tl.float32 and tensor.is_leaf and not tensor.requires_grad


@pytest.mark.parametrize("sample", [sampling.rand, sampling.randn])
def test_floats_of_every_dtype(sample: Any) -> None:
    for dtype in FLOATS:
        tensor = sample(4, dtype=dtype, requires_grad=True, generator=random.Generator())
        assert tensor.dtype is dtype and tensor.requires_grad and tensor.is_leaf
    with pytest.raises(errors.DTypeError, match="needs a floating dtype, got int64"):
        sample(2, dtype=tl.int64)
    with pytest.raises(errors.ArgumentError, match="negative"):
        sample(2, -1)


def test_the_default_generator_draws_where_none_is_given(default_state: None) -> None:
    def draw() -> list[Any]:
        tl.manual_seed(9)
        weights = tl.tensor([1.0, 2.0, 3.0])
        drawn = [
            sampling.rand(3), sampling.randn(3), sampling.randint(99, (3,)), sampling.randperm(9),
            sampling.normal(weights), sampling.bernoulli(weights / 4), sampling.multinomial(weights, 2),
            sampling.rand_like(weights), sampling.randn_like(weights), sampling.randint_like(weights, 99),
        ]
        return [values(tensor) for tensor in drawn]

    assert draw() == draw()


def test_rand_is_the_uniform_kernel_and_randn_the_normal(generator: random.Generator) -> None:
    assert [x.hex() for x in values(sampling.rand(4, dtype=tl.float64, generator=generator))] == UNIFORM_64
    generator.manual_seed(0)
    assert [x.hex() for x in values(sampling.randn(6, dtype=tl.float64, generator=generator))] == NORMAL_64


def test_like_functions_follow_their_input(generator: random.Generator) -> None:
    like = tl.zeros(3, 2, dtype=tl.float64)[::2]
    for sample in (sampling.rand_like, sampling.randn_like):
        plain = sample(like, generator=generator)  # type: ignore[operator]
        other = sample(like, dtype=tl.float16, requires_grad=True)  # type: ignore[operator]
        assert (plain.shape, plain.dtype, plain.requires_grad) == ((2, 2), tl.float64, False)
        assert (other.shape, other.dtype, other.requires_grad) == ((2, 2), tl.float16, True)
    integers = sampling.randint_like(like, 5, 7)
    assert integers.shape == (2, 2) and integers.dtype is tl.float64
    assert set(values(integers.flatten())) <= {5.0, 6.0}
    assert set(values(sampling.randint_like(tl.zeros(50), 2, dtype=tl.int8))) == {0, 1}


def test_randint_takes_pytorchs_forms(generator: random.Generator) -> None:
    forms = [
        ((10, (4,)), {}), ((0, 10, (4,)), {}), ((), {"high": 10, "size": (4,)}), ((10,), {"size": (4,)}),
        ((0, 10), {"size": (4,)}), ((), {"low": 0, "high": 10, "size": [4]}),
    ]
    for args, kwargs in forms:
        result = sampling.randint(*args, **kwargs, generator=generator.manual_seed(0))
        assert result.dtype is tl.int64
        assert values(result) == [word % 10 for word in expected_words(0, 0, 4)]
    assert sampling.randint(3, 4, (2, 2), dtype=tl.float32).dtype is tl.float32
    with pytest.raises(errors.ArgumentError, match=r"randint: the size is missing; call randint\(high, size\)"):
        sampling.randint(3)
    with pytest.raises(errors.ArgumentError, match="needs low < high, got low=5, high=5"):
        sampling.randint(5, 5, (2,))
    with pytest.raises(errors.ArgumentError, match="does not fit uint8"):
        sampling.randint(0, 257, (2,), dtype=tl.uint8)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_randperm_sorts_one_word_for_each_element(n: int, generator: random.Generator) -> None:
    order = sampling.randperm(n, generator=generator)
    words = [word - 2**64 if word >= 2**63 else word for word in expected_words(0, 0, n)]
    assert values(order) == sorted(range(n), key=lambda i: words[i])
    assert order.dtype is tl.int64 and order.shape == (n,)


def test_randperm_is_even_over_all_orders(generator: random.Generator) -> None:
    orders = [tuple(values(sampling.randperm(3, generator=generator))) for _ in range(3000)]
    counts = np.array([orders.count(order) for order in sorted(set(orders))])
    assert len(counts) == 6 and ((counts - 500) ** 2 / 500).sum() < 20.5  # 5 degrees: passed once in a thousand


def test_randperm_dtypes_and_errors() -> None:
    assert sampling.randperm(5, dtype=tl.float32).dtype is tl.float32
    assert sorted(values(sampling.randperm(128, dtype=tl.int8))) == list(range(128))
    with pytest.raises(errors.ArgumentError, match="does not fit int8"):
        sampling.randperm(129, dtype=tl.int8)
    with pytest.raises(errors.ArgumentError, match="n must not be negative, got -1"):
        sampling.randperm(-1)
    with pytest.raises(errors.DTypeError, match=r"n must be an integer, got 2\.0"):
        sampling.randperm(2.0)  # type: ignore[arg-type]


def test_normal_of_tensors_and_numbers(generator: random.Generator) -> None:
    z = np.array([float.fromhex(x) for x in NORMAL_64]).astype(np.float32)
    mean, std = tl.tensor([[1.0], [2.0]]), tl.tensor([1.0, 2.0, 0.0])
    result = sampling.normal(mean, std, generator=generator)
    assert (result.numpy() == mean.numpy() + std.numpy() * z.reshape(2, 3)).all()
    assert (sampling.normal(2.0, std, generator=generator.manual_seed(0)).numpy() == 2 + std.numpy() * z[:3]).all()
    assert (sampling.normal(mean[:, 0], generator=generator.manual_seed(0)).numpy() == mean.numpy()[:, 0] + z[:2]).all()
    numbers = sampling.normal(0.0, 1.0, (2, 3), generator=generator.manual_seed(0))
    assert (numbers.numpy() == z.reshape(2, 3)).all()
    assert sampling.normal(mean.double(), 1).dtype is tl.float64


def test_normal_records_no_gradient() -> None:
    mean = tl.zeros(3, requires_grad=True)
    assert not sampling.normal(mean, 1.0).requires_grad
    assert sampling.normal(mean, 1.0, requires_grad=True).is_leaf


def test_normal_errors() -> None:
    for std in (tl.tensor([1.0, -1.0]), tl.tensor([math.nan])):
        with pytest.raises(errors.ArgumentError, match="all elements of std must be >= 0"):
            sampling.normal(0.0, std)
    with pytest.raises(errors.ArgumentError, match="all elements of std must be >= 0"):
        sampling.normal(tl.zeros(2), -1.0)
    with pytest.raises(errors.ArgumentError, match="needs a size where mean and std are numbers"):
        sampling.normal(0.0, 1.0)
    with pytest.raises(errors.ArgumentError, match="follow from the tensors; leave them out"):
        sampling.normal(tl.zeros(2), 1.0, (2,))
    with pytest.raises(errors.ShapeError):
        sampling.normal(tl.zeros(2), tl.ones(3))
    with pytest.raises(errors.DTypeError, match="floating"):
        sampling.normal(tl.zeros(2, dtype=tl.int64), 1)


def test_bernoulli(generator: random.Generator) -> None:
    p = tl.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]], requires_grad=True)
    result = sampling.bernoulli(p, generator=generator)
    u = sampling.rand(2, 3, dtype=tl.float64, generator=generator.manual_seed(0))
    assert (result.numpy() == (u.numpy() < p.detach().numpy())).all()
    assert result.dtype is tl.float32 and not result.requires_grad
    assert values(sampling.bernoulli(p, 1.0)) == [[1.0] * 3] * 2
    with pytest.raises(errors.ArgumentError, match=r"must lie in \[0, 1\], got 2.0; use sigmoid\(\)"):
        sampling.bernoulli(tl.tensor([2.0]))
    with pytest.raises(errors.DTypeError, match="floating"):
        sampling.bernoulli(tl.tensor([1]))


WEIGHTS = [0.0, 1.0, 2.0, 0.0, 5.0, 2.0]


def test_multinomial_with_replacement_follows_the_weights(generator: random.Generator) -> None:
    n = 50_000
    weights = tl.tensor([WEIGHTS, WEIGHTS[::-1]])
    drawn = sampling.multinomial(weights, n, replacement=True, generator=generator).numpy()
    assert drawn.shape == (2, n) and drawn.dtype == np.int64
    for row, chances in zip(drawn, weights.numpy(), strict=True):
        counts = np.bincount(row, minlength=6)
        expected = n * chances / chances.sum()
        assert (counts[chances == 0] == 0).all()
        positive = chances > 0
        assert ((counts - expected)[positive] ** 2 / expected[positive]).sum() < 16.3  # 3 degrees


def test_multinomial_with_replacement_is_the_documented_function_of_the_words(generator: random.Generator) -> None:
    drawn = values(sampling.multinomial(tl.tensor(WEIGHTS), 100, replacement=True, generator=generator))
    counts = [int(w / 5.0 * 2**50) for w in WEIGHTS]
    for category, word in zip(drawn, expected_words(0, 0, 100), strict=True):
        x = (word >> 11) * 2.0**-53 * sum(counts)
        assert sum(counts[:category]) <= x < sum(counts[: category + 1])


def test_multinomial_without_replacement(generator: random.Generator) -> None:
    rows = 4000
    weights = tl.tensor([WEIGHTS]).expand(rows, 6)
    drawn = sampling.multinomial(weights, 4, generator=generator).numpy()
    assert (np.sort(drawn, 1) == [1, 2, 4, 5]).all()  # all that are possible, none twice
    first = np.bincount(drawn[:, 0], minlength=6)[[1, 2, 4, 5]]
    expected = rows * np.array([0.1, 0.2, 0.5, 0.2])
    assert ((first - expected) ** 2 / expected).sum() < 16.3
    # The second, given that the first was 4, is in proportion to what is left.
    second = np.bincount(drawn[drawn[:, 0] == 4, 1], minlength=6)[[1, 2, 5]]
    expected = second.sum() * np.array([0.2, 0.4, 0.4])
    assert ((second - expected) ** 2 / expected).sum() < 13.8


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial_with_extreme_weights(replacement: bool, generator: random.Generator) -> None:
    for weights in ([0.0, 3e38, 3e38], [1e-45, 0.0, 1e-45]):
        tensor = tl.tensor(weights)
        drawn = [set(values(sampling.multinomial(tensor, 2, replacement, generator=generator))) for _ in range(40)]
        assert set().union(*drawn) == {i for i, w in enumerate(weights) if w > 0}
    assert values(sampling.multinomial(tl.ones(1, dtype=tl.float16), 1, replacement)) == [0]
    assert sampling.multinomial(tl.ones(0, 4), 2, replacement).shape == (0, 2)


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("weights", [
    [-1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0], [[1.0, 1.0], [0.0, 0.0]],
])
def test_multinomial_refuses_bad_weights(weights: Any, replacement: bool) -> None:
    with pytest.raises(errors.ArgumentError, match="weights must be finite, not negative and, in a row, not all 0"):
        sampling.multinomial(tl.tensor(weights), 1, replacement)


def test_multinomial_errors() -> None:
    with pytest.raises(errors.DTypeError, match=r"weights must be floating, got int64; use .float\(\)"):
        sampling.multinomial(tl.tensor([1, 2]), 1)
    for shape in ((), (2, 2, 2), (3, 0)):
        with pytest.raises(errors.ShapeError, match=r"weights must be \(C,\) or \(N, C\) with C > 0"):
            sampling.multinomial(tl.ones(shape), 1)
    with pytest.raises(errors.ArgumentError, match="num_samples must be at least 1, got 0"):
        sampling.multinomial(tl.ones(3), 0)
    with pytest.raises(errors.DTypeError, match=r"num_samples must be an integer, got 1\.5"):
        sampling.multinomial(tl.ones(3), 1.5)  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="a row has only 2 weights above 0; draw fewer or set replacement"):
        sampling.multinomial(tl.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]]), 3)


def test_sampling_agrees_with_torch_on_shapes_and_dtypes() -> None:
    torch = pytest.importorskip("torch")
    calls = [
        ("rand", lambda lib: (2, 3)), ("randn", lambda lib: ((4,),)), ("randint", lambda lib: (5, (2, 2))),
        ("randperm", lambda lib: (4,)), ("normal", lambda lib: (lib.zeros(2, 1), lib.ones(3))),
        ("normal", lambda lib: (0.0, 1.0, (2,))), ("bernoulli", lambda lib: (lib.ones(2),)),
        ("multinomial", lambda lib: (lib.ones(2, 3), 2)), ("multinomial", lambda lib: (lib.ones(3), 5, True)),
        ("rand_like", lambda lib: (lib.ones(2, 1),)), ("randint_like", lambda lib: (lib.ones(2), 4)),
        ("randint_like", lambda lib: (lib.ones(2), 1, 4)),
    ]
    for name, arguments in calls:
        ours, theirs = getattr(sampling, name)(*arguments(tl)), getattr(torch, name)(*arguments(torch))
        assert ours.shape == tuple(theirs.shape), name
        assert f"torch.{ours.dtype.name}" == str(theirs.dtype), name
