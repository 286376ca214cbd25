"""Random kernels of the CPU: Philox4x64-10, a counter-based generator, for the same numbers on every device.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Block b of a
seed is four 64-bit words computed from (key = [seed, 0], counter = [b, 0, 0, 0]) alone. NumPy's generator of
that name is this function in C, and draws the words here.

Contract. `state` is a uint64 array [seed, counter], read and advanced by each kernel. A draw of n elements
takes the blocks counter ... counter + ceil(n / 4) - 1 and adds ceil(n / 4) to the counter. Element i, in
logical row-major order whatever the strides of `out`, takes word i, in lane i % 4 of the (i // 4)-th block.
That is one word per element whatever the dtype.

What is made of a word uses integer and bit operations, conversions and + - * / sqrt alone, in the order
written here and without fused multiply-adds: IEEE 754 rounds each of these correctly, so that another device
which follows the same steps gets the same bits, which no library's log, sin or cos would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

Array = Any

CHUNK: Final = 8192  # words drawn at a time: they and the scratch of a chunk stay in the second-level cache
LN2: Final = 0.6931471805599453
SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD  # the float64 sqrt(1/2)

# log((1 + s) / (1 - s)) = 2 s (1 + s^2/3 + s^4/5 + ...), highest power first
LOG_SERIES: Final = (1 / 17, 1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0)
# Taylor's series of sin(pi/2 f) / f and cos(pi/2 f) in f^2, highest power first
SIN_SERIES: Final = (
    5.692172921967927e-08, -3.598843235212085e-06, 0.00016044118478735983, -0.004681754135318688,
    0.07969262624616705, -0.6459640975062463, 1.5707963267948966,
)
COS_SERIES: Final = (
    -6.386603083791852e-09, 4.710874778818172e-07, -2.5202042373060607e-05, 0.0009192602748394266,
    -0.02086348076335296, 0.25366950790104803, -1.2337005501361697, 1.0,
)

_idle: list[np.random.Philox] = []  # generators between draws: to build one takes longer than a small draw
_NO_WORDS: Final = np.zeros(4, np.uint64)  # the words of a block that NumPy has yet to hand out


def random_uniform(out: Array, state: Array, *, low: float, high: float) -> None:
    """Uniform on [low, high): low + (high - low) u, each operation in the dtype of `out`.

    u = (w >> 11) 2^-53 for float64 and (w >> 40) 2^-24 for float32, the truncation of the former. float16 and
    bfloat16 are computed in float32 and rounded to nearest. A result that rounds up to `high` (on [0, 1): one
    in 4,096 of float16, one in 512 of bfloat16) becomes the largest number of the dtype below `high`.
    """
    size = out.dtype.itemsize
    wide, shift, unit = (np.float64, 11, 2.0**-53) if size == 8 else (np.float32, 40, 2.0**-24)
    plain = low == 0.0 and high == 1.0  # the affine map would change no bit
    top = None if plain and size > 2 else largest_below(high, low, out.dtype)
    scratch = np.empty(min(out.size, CHUNK), wide)
    flat = _flat(out)
    for words, part in _draw(out.size, state):
        words >>= np.uint64(shift)
        u = scratch[: words.size]
        np.copyto(u, words.view(np.int64), casting="unsafe")
        u *= wide(unit)
        if not plain:
            u *= wide(high - low)
            u += wide(low)
        flat[part] = u if top is None else np.minimum(u.astype(out.dtype, copy=False), top)


def largest_below(high: float, low: float, dtype: np.dtype[Any]) -> Any:
    """The largest number of a floating dtype below `high`, but not below `low` rounded to the dtype."""
    top = dtype.type(high)
    if float(top) >= high:
        top = np.nextafter(top, dtype.type(-np.inf))
    return max(top, dtype.type(low))


def random_normal(out: Array, state: Array, *, mean: float, std: float) -> None:
    """Normal by Box and Muller: mean + std z in float64, then rounded to float32, and from there to 16 bits.

    Words 2j and 2j + 1 give z[2j] = r cos(t) and z[2j + 1] = r sin(t) with r = sqrt(-2 log u), u from word 2j
    and t = 2 pi w 2^-64 from word 2j + 1. u >= 2^-53, so |z| < 8.58. The error of z is below 4e-14 r.
    """
    scratch = np.empty((7, (min(out.size, CHUNK) + 1) // 2))
    pairs = np.empty((scratch.shape[1], 2))
    flat = _flat(out)
    for words, part in _draw(out.size, state, even=True):
        r, cos, sin, *rest = scratch[:, : words.size // 2]
        _log(words[0::2], r, rest)
        r *= -2.0
        np.sqrt(r, out=r)
        _cos_sin(words[1::2], cos, sin, rest)
        z = pairs[: r.size]
        np.multiply(r, cos, out=z[:, 0])
        np.multiply(r, sin, out=z[:, 1])
        z *= std
        z += mean
        flat[part] = _by_float32(z.reshape(-1)[: part.stop - part.start], out.dtype)


def random_exponential(out: Array, state: Array, *, rate: float) -> None:
    """Exponential: -log(u) / rate in float64, positive; u and the rounding are those of `random_normal`."""
    scratch = np.empty((5, min(out.size, CHUNK)))
    flat = _flat(out)
    for words, part in _draw(out.size, state):
        x, *rest = scratch[:, : words.size]
        _log(words, x, rest)
        x /= -rate
        flat[part] = _by_float32(x, out.dtype)


def random_integers(out: Array, state: Array, *, low: int, high: int) -> None:
    """Integers low <= x < high: low + w mod (high - low), exact for all of int64.

    The first 2^64 mod (high - low) values come up more often than the others, by a relative
    (high - low) / 2^64 at most: below 2^-32 for fewer than 2^32 values.
    """
    span = high - low
    offset = np.uint64(low % 2**64)
    flat = _flat(out)
    for words, part in _draw(out.size, state):
        if span < 2**64:  # w - span (w // span): NumPy divides by a constant faster than it takes a remainder
            quotient = words // np.uint64(span)
            quotient *= np.uint64(span)
            words -= quotient
        words += offset
        flat[part] = words.view(np.int64)


def random_bits(out: Array, state: Array) -> None:
    """The words themselves, as int64 of the same 64 bits."""
    flat = _flat(out)
    for words, part in _draw(out.size, state):
        flat[part] = words.view(np.int64)


def random_bernoulli(out: Array, state: Array, p: Array | float) -> None:
    """1 where u < p, else 0, with u = (w >> 11) 2^-53; p is a number or an array of the shape of `out`.

    The probability is p rounded up to a multiple of 2^-53: exact at 0 and 1.
    """
    chances = None if isinstance(p, float) else _flat(p)
    flat = _flat(out)
    for words, part in _draw(out.size, state):
        words >>= np.uint64(11)
        limit = p if chances is None else chances[part].astype(np.float64)
        flat[part] = words.view(np.int64) < limit * 2.0**53


def dropout_noise(out: Array, state: Array, *, count: int, chance: float) -> None:
    """The mask of a dropout of `count` elements, true with probability `chance`; other devices keep the state."""
    random_bernoulli(out, state, chance)


def random_choice(out: Array, state: Array, cumulative: Array) -> None:
    """Row by row, category c with probability counts[c] / sum(counts): out (N, S), cumulative =
    cumsum(counts) (N, C).

    The first c with cumulative[c] > u sum(counts), with u as float64 `random_uniform`. Counts are int64 that
    sum to 2^53 at most, so that all numbers here are exact but for the product, which stays below the sum.
    """
    u = np.empty(out.shape)
    random_uniform(u, state, low=0.0, high=1.0)
    for row, counts in enumerate(cumulative):
        u[row] *= float(counts[-1])
        out[row] = counts.searchsorted(u[row].astype(np.int64), side="right")


def _draw(size: int, state: Array, even: bool = False) -> Iterator[tuple[np.ndarray, slice]]:
    """Advance the state for a draw of `size` elements, then yield its words and their place, chunk by chunk.

    With `even`, a chunk with an odd number of elements has one word more.
    """
    seed, counter = state.tolist()
    state[1] = counter + (size + 3) // 4
    try:
        bits = _idle.pop()
    except IndexError:
        bits = np.random.Philox(key=0)
    # NumPy counts up before it computes a block.
    before = [counter - 1, 0, 0, 0] if counter else [2**64 - 1] * 4
    bits.state = {
        "bit_generator": "Philox",
        "state": {"key": np.array([seed, 0], np.uint64), "counter": np.array(before, np.uint64)},
        "buffer": _NO_WORDS, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
    }
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        yield bits.random_raw(stop - start + (even and (stop - start) % 2)), slice(start, stop)
    _idle.append(bits)


def _flat(array: Array) -> Any:
    """The elements in logical row-major order, without a copy."""
    return array.reshape(-1) if array.flags.c_contiguous else array.flat


def _by_float32(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """float64 values on their way to a dtype: one of 16 bits is reached by way of float32 on every device."""
    return values.astype(np.float32) if dtype.itemsize == 2 else values


def _log(words: np.ndarray, out: np.ndarray, scratch: list[np.ndarray]) -> None:
    """Natural logarithm of u = ((w >> 11) | 1) 2^-53, an odd multiple of 2^-53 and so neither 0 nor 1.

    u = 2^e m with sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1), and
    log u = e log 2 + 2 s (1 + s^2/3 + ... + s^16/17). |s| < 0.1716, so that the terms left out are below
    1e-15 relative; with rounding, the error is below 3e-15 relative.
    """
    u, exponent, s, square = scratch
    e = exponent.view(np.int64)
    np.right_shift(words.view(np.int64), 11, out=e)
    e &= 2**53 - 1
    e |= 1
    np.multiply(e, 2.0**-53, out=u)
    bits = u.view(np.int64)
    np.subtract(bits, SQRT_HALF_BITS, out=e)
    e >>= 52
    np.left_shift(e, 52, out=s.view(np.int64))
    bits -= s.view(np.int64)  # u is m from here on
    np.subtract(u, 1.0, out=s)
    u += 1.0
    s /= u
    np.multiply(s, s, out=square)
    _horner(square, LOG_SERIES, out)
    s += s
    out *= s
    np.multiply(e, LN2, out=u)
    out += u


def _cos_sin(words: np.ndarray, cos: np.ndarray, sin: np.ndarray, scratch: list[np.ndarray]) -> None:
    """Cosine and sine of the angle 2 pi w 2^-64, which is q + f quarter turns with -1/2 <= f < 1/2.

    q = (w + 2^61) >> 62, and the bits of w below q's are f 2^64 as a signed number, cut to 53 bits. The
    series give sin and cos of pi/2 f to 3e-14 and 2e-15 relative; then q swaps them and sets their signs.
    """
    f, square, bits, turn = scratch
    q, mask = bits.view(np.int64), turn.view(np.int64)
    np.left_shift(words.view(np.int64), 2, out=q)
    q >>= 11
    np.multiply(q, 2.0**-53, out=f)
    np.multiply(f, f, out=square)
    _horner(square, SIN_SERIES, sin)
    sin *= f
    _horner(square, COS_SERIES, cos)
    np.add(words, np.uint64(2**61), out=q.view(np.uint64))
    q >>= 62  # -2, -1, 0, 1: the last two bits are those of q
    cos_bits, sin_bits, swap = cos.view(np.int64), sin.view(np.int64), square.view(np.int64)
    np.bitwise_and(q, 1, out=mask)
    np.negative(mask, out=mask)
    np.bitwise_xor(cos_bits, sin_bits, out=swap)
    swap &= mask
    cos_bits ^= swap
    sin_bits ^= swap
    np.bitwise_and(q, 2, out=mask)
    mask <<= 62
    sin_bits ^= mask  # the sine changes its sign for q = 2, 3
    q += 1
    q &= 2
    q <<= 62
    cos_bits ^= q  # the cosine for q = 1, 2


def _horner(x: np.ndarray, coefficients: tuple[float, ...], out: np.ndarray) -> None:
    """The polynomial with these coefficients, highest power first."""
    np.multiply(x, coefficients[0], out=out)
    for coefficient in coefficients[1:-1]:
        out += coefficient
        out *= x
    out += coefficients[-1]


KERNELS: Final[dict[str, Callable[..., None]]] = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_exponential": random_exponential,
    "random_integers": random_integers,
    "random_bits": random_bits,
    "random_bernoulli": random_bernoulli,
    "random_choice": random_choice,
    "dropout_noise": dropout_noise,
}
HANDLES_NARROW: Final = frozenset(KERNELS)  # names: they round to 16 bits themselves, to stay below `high`
