"""Generator: the state from which random numbers are drawn, the default ones, and filling a tensor in place.

Contract. Numbers depend on the seed and on how many were drawn before, not on the device, dtype or strides of
the tensor: a draw of n elements takes ceil(n / 4) blocks of Philox4x64-10 (`backends/philox.py`), one word
per element. The state [seed, counter] is an array on the generator's device, advanced by the kernels
themselves. The fill functions write raw arrays and bump the version; whether a tensor may be written is for
the tensor's methods to check.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike

from . import dtypes
from .backends import Array, Backend, Device, as_device, broadcast_shapes, get
from .errors import ArgumentError, DeviceError, DTypeError, ShapeError

# PyTorch's: a program that sets no seed draws the same numbers in each run.
DEFAULT_SEED: Final = 67280421310721

# One lock for all generators: a fork waits until no draw is under way, so that no child inherits it locked.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=lambda: _begin_child())


class Generator:
    """A stream of random numbers of its own: Philox4x64-10 with the seed as key and a counter of blocks.

    Starts from the fixed seed 67280421310721, where PyTorch starts from a random one (`seed()` does that).
    Draws from several threads never share a word.

    >>> g = tl.Generator().manual_seed(0)
    >>> a = tl.rand(3, generator=g)
    >>> bool((a == tl.rand(3, generator=g.manual_seed(0))).all())
    True
    """

    def __init__(self, device: Any = "cpu") -> None:
        self._backend = get(device)
        self._state = self._backend.from_numpy(np.array([DEFAULT_SEED, 0], np.uint64))

    @property
    def device(self) -> Device:
        return self._backend.device

    def manual_seed(self, seed: int) -> Generator:
        """Start from the beginning of the stream of `seed`, any integer, taken modulo 2^64; returns self."""
        self._write(as_integer("manual_seed", "seed", seed) % 2**64, 0)
        return self

    def seed(self) -> int:
        """Start from a seed of the operating system's entropy, and return it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self._write(seed, 0)
        return seed

    def initial_seed(self) -> int:
        """The seed of the stream, in [0, 2^64)."""
        return int(self.get_state()[0])

    def get_state(self) -> np.ndarray:
        """A copy of the state: uint64 [seed, counter of blocks drawn]."""
        with _lock:
            return self._backend.to_numpy(self._state).copy()

    def set_state(self, state: ArrayLike) -> Generator:
        """Go on from a state that `get_state` gave: two integers [seed, counter], as an array, list or
        tensor.

        Raises ArgumentError for anything else, or a counter outside [0, 2^63).
        """
        self._write(*_as_state(state))
        return self

    def draw(self, backend: Backend, kernel: str, out: Array, *args: Any, **params: Any) -> None:
        """Fill `out` by a random kernel, which reads and advances the state; one draw at a time."""
        if backend is not self._backend:
            raise DeviceError(
                f"{kernel}: the generator is on device '{self.device}', the tensor on '{backend.device}'; "
                f"make the generator with tl.Generator(device='{backend.device}')"
            )
        with _lock:
            backend.run(kernel, out, self._state, *args, **params)

    def _write(self, seed: int, counter: int) -> None:
        self._restore(self._backend.from_numpy(np.array([seed, counter], np.uint64)))

    def _copy(self) -> Array:
        """The state, copied on its device: nothing waits for that."""
        with _lock:
            return self._backend.copy(self._state)

    def _restore(self, state: Array) -> None:
        with _lock:
            self._backend.run("copy", self._state, state)

    def __reduce__(self) -> tuple[Callable[..., Generator], tuple[str, list[int]]]:
        return _rebuild, (str(self.device), self.get_state().tolist())

    def __repr__(self) -> str:
        seed, counter = self.get_state().tolist()
        return f"<tensorlite.Generator device='{self.device}' seed={seed} counter={counter}>"


def _rebuild(device: str, state: list[int]) -> Generator:
    """A copied or unpickled generator."""
    return Generator(device).set_state(state)


def as_integer(op: str, name: str, value: Any) -> int:
    """An int of Python's, NumPy's or a tensor's. Raises DTypeError for anything else, floats included."""
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{op}: {name} must be an integer, got {value!r}; convert it with int()") from None


def _as_state(state: Any) -> tuple[int, int]:
    values = state if isinstance(state, list | tuple) else np.asarray(state).tolist()
    try:
        seed, counter = (operator.index(value) for value in values)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"set_state takes two integers [seed, counter], got {state!r}; give it what get_state() returned"
        ) from None
    if not 0 <= counter < 2**63:
        raise ArgumentError(
            f"set_state: the counter {counter} is outside [0, 2^63); give it what get_state() returned"
        )
    return seed % 2**64, counter


default_generator: Final = Generator()
_defaults: Final[dict[Device, Generator]] = {default_generator.device: default_generator}


def _begin_child() -> None:
    """In a forked process: no GPU can be used there, so seeding all devices must not try."""
    _lock.release()
    for device in [device for device in _defaults if device.type == "cuda"]:
        del _defaults[device]


def default_for(device: Any) -> Generator:
    """The generator of a device where none is given; a new one has the seed of `default_generator`."""
    device = as_device(device)
    generator = _defaults.get(device)
    if generator is None:
        fresh = Generator(device).manual_seed(default_generator.initial_seed())
        generator = _defaults.setdefault(device, fresh)
    return generator


def manual_seed(seed: int) -> Generator:
    """Seed the default generators of all devices; returns the CPU's.

    Any integer is taken, modulo 2^64. Raises DTypeError for anything but an integer.

    >>> _ = tl.manual_seed(0); a = tl.rand(2)
    >>> _ = tl.manual_seed(0); bool((a == tl.rand(2)).all())
    True
    """
    for generator in tuple(_defaults.values()):
        generator.manual_seed(seed)
    return default_generator


def seed() -> int:
    """Seed the default generators from the operating system's entropy; returns the seed."""
    fresh = default_generator.seed()
    manual_seed(fresh)
    return fresh


def initial_seed() -> int:
    """The seed of the default generator; 67280421310721 until another is set."""
    return default_generator.initial_seed()


def get_rng_state() -> np.ndarray:
    """A copy of the CPU's default state: uint64 [seed, counter]."""
    return default_generator.get_state()


def set_rng_state(state: ArrayLike) -> None:
    """Set the CPU's default state to one that `get_rng_state` gave. Errors: see `Generator.set_state`."""
    default_generator.set_state(state)


States = dict[Generator, Array]


def default_states(devices: Iterable[Device]) -> States:
    """Copies of all default generators' states, those of `devices` among them. Nothing waits for a device."""
    for device in devices:
        default_for(device)
    return {generator: generator._copy() for generator in tuple(_defaults.values())}


def restore_default_states(states: States) -> None:
    """Go back to what `default_states` returned."""
    for generator, state in states.items():
        generator._restore(state)


class Target(Protocol):
    """What the fill functions need of a tensor."""

    @property
    def array(self) -> Array: ...
    @property
    def backend(self) -> Backend: ...
    def _bump(self) -> None: ...


def draw(
    backend: Backend, kernel: str, out: Array, *args: Any, generator: Generator | None = None, **params: Any
) -> None:
    """Fill a raw array by a random kernel, from `generator` or the device's default one."""
    if generator is None:
        generator = default_for(backend.device)
    elif not isinstance(generator, Generator):
        raise DTypeError(
            f"{kernel}: generator must be a tl.Generator, got {type(generator).__name__}; "
            "make one with tl.Generator().manual_seed(seed)"
        )
    generator.draw(backend, kernel, out, *args, **params)


def fill_uniform_(
    target: Target, low: float = 0.0, high: float = 1.0, generator: Generator | None = None
) -> None:
    """Fill with low + (high - low) u, u uniform on [0, 1). `high` is never drawn unless it equals `low`.

    Raises DTypeError unless the dtype is floating, ArgumentError for high < low or a range beyond the dtype.
    """
    limit = _limit("uniform_", target)
    low, high = float(low), float(high)
    if not low <= high:
        raise ArgumentError(f"uniform_: needs low <= high, got low={low}, high={high}; swap them")
    if not (-limit <= low and high <= limit and high - low <= limit):
        raise ArgumentError(
            f"uniform_: the range [{low}, {high}) is not finite in {_name(target)}, whose largest number is "
            f"{limit:g}; narrow the range or use a wider dtype"
        )
    draw(target.backend, "random_uniform", target.array, generator=generator, low=low, high=high)
    target._bump()


def fill_normal_(
    target: Target, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> None:
    """Fill with mean + std z, z standard normal.

    Raises DTypeError unless the dtype is floating, ArgumentError for a negative or infinite std or an
    infinite mean.
    """
    _limit("normal_", target)
    mean, std = float(mean), float(std)
    if not (math.isfinite(mean) and 0.0 <= std < math.inf):
        raise ArgumentError(f"normal_: needs a finite mean and a finite std >= 0, got mean={mean}, std={std}")
    draw(target.backend, "random_normal", target.array, generator=generator, mean=mean, std=std)
    target._bump()


def fill_exponential_(target: Target, rate: float = 1.0, generator: Generator | None = None) -> None:
    """Fill with -log(u) / rate, the exponential distribution of mean 1 / rate.

    Raises DTypeError unless the dtype is floating, ArgumentError unless 0 < rate < inf.
    """
    _limit("exponential_", target)
    rate = float(rate)
    if not 0.0 < rate < math.inf:
        raise ArgumentError(f"exponential_: needs a finite rate > 0, got {rate}")
    draw(target.backend, "random_exponential", target.array, generator=generator, rate=rate)
    target._bump()


def fill_bernoulli_(target: Target, p: float | Target = 0.5, generator: Generator | None = None) -> None:
    """Fill with 1 where u < p, else 0; p is a number, or a floating tensor that broadcasts to the target.

    Raises ArgumentError for a probability outside [0, 1] or NaN, DTypeError and DeviceError for a p of a
    wrong kind.
    """
    backend = target.backend
    if isinstance(p, int | float | np.number):
        chance: Any = float(p)
        _check_probabilities(chance, chance)
    else:
        chance = p.array
        if p.backend is not backend:
            raise DeviceError(
                f"bernoulli_: p is on device '{p.backend.device}', the tensor on '{backend.device}'; "
                "move one of them with .to()"
            )
        _limit("bernoulli_ with p", p)
        if broadcast_shapes("bernoulli_", chance.shape, target.array.shape) != target.array.shape:
            raise ShapeError(
                f"bernoulli_: p of shape {chance.shape} does not fit a tensor of shape {target.array.shape}; "
                "its sizes must be equal or 1"
            )
        if chance.size:
            dims = tuple(range(chance.ndim))
            least, most = (backend.reduce(fold, chance, dims, False) for fold in ("amin", "amax"))
            _check_probabilities(float(backend.to_numpy(least)), float(backend.to_numpy(most)))
        if backend.shares_memory(chance, target.array):
            chance = backend.copy(chance)
        chance = backend.expand(chance, target.array.shape)
    draw(backend, "random_bernoulli", target.array, chance, generator=generator)
    target._bump()


def fill_integers_(
    target: Target, low: int = 0, high: int | None = None, generator: Generator | None = None
) -> None:
    """Fill with integers low <= x < high; without `high`, up to the largest that the dtype counts to.

    That is 2^63 - 1 for int64, 2^24 for float32, 1 for bool. Raises ArgumentError for high <= low or bounds
    that the dtype does not hold exactly.
    """
    low = as_integer("random integers", "low", low)
    high = _integer_range(target)[1] + 1 if high is None else as_integer("random integers", "high", high)
    check_integers(target, low, high)
    draw(target.backend, "random_integers", target.array, generator=generator, low=low, high=high)
    target._bump()


def check_integers(target: Target, low: int, high: int) -> None:
    """Raise ArgumentError unless there are integers low <= x < high, and the dtype holds them exactly."""
    least, most = _integer_range(target)
    if high <= low:
        raise ArgumentError(
            f"random integers: needs low < high, got low={low}, high={high}; high itself is not drawn"
        )
    if low < least or high - 1 > most:
        raise ArgumentError(
            f"random integers: [{low}, {high}) does not fit {_name(target)}, which holds {least} to {most} "
            "exactly; use a wider dtype"
        )


def _name(target: Target) -> str:
    return dtypes.from_numpy(target.array.dtype).name


def _limit(op: str, target: Target) -> float:
    """The largest number of a floating dtype. Raises DTypeError for another dtype."""
    dtype = dtypes.from_numpy(target.array.dtype)
    if not dtype.is_floating_point:
        raise DTypeError(
            f"{op}: needs a floating dtype, got {dtype.name}; use .float(), or random_() for integers"
        )
    return float(dtypes.finfo(dtype).max)


def _integer_range(target: Target) -> tuple[int, int]:
    """The least and the largest of the consecutive integers that a dtype holds exactly."""
    dtype = dtypes.from_numpy(target.array.dtype)
    if dtype is dtypes.bool_:
        return 0, 1
    if dtype.is_floating_point:
        most = int(2 / dtypes.finfo(dtype).eps)
        return -most, most
    return dtypes.iinfo(dtype).min, dtypes.iinfo(dtype).max


def _check_probabilities(least: float, most: float) -> None:
    if not (0.0 <= least and most <= 1.0):
        found = least if not 0.0 <= least else most
        raise ArgumentError(
            f"bernoulli: probabilities must lie in [0, 1], got {found}; use sigmoid() on logits"
        )
