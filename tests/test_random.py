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
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorlite import backends, dtypes, errors, random
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
GOLDEN_WORDS = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


def test_golden_uniform() -> None:
    assert [x.hex() for x in drawn("random_uniform", 4, low=0.0, high=1.0).tolist()] == GOLDEN_UNIFORM_64
    assert [x.hex() for x in drawn("random_uniform", 4, np.float32, low=0.0, high=1.0).tolist()] == GOLDEN_UNIFORM_32


def test_golden_normal() -> None:
    assert [x.hex() for x in drawn("random_normal", 6, mean=0.0, std=1.0).tolist()] == GOLDEN_NORMAL_64
    single = drawn("random_normal", 6, np.float32, mean=0.0, std=1.0)
    assert single.tolist() == np.array([float.fromhex(x) for x in GOLDEN_NORMAL_64]).astype(np.float32).tolist()
