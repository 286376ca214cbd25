"""Tensors of random numbers: PyTorch's functions, on `random.py`'s generators.

Contract. Results are new leaf tensors that carry no gradient to any argument, and equal on every device for
the same seed: what is computed beyond the random kernels uses integers, comparisons and correctly rounded + -
* / alone. `generator` draws on the tensor's device; without it the device's default generator does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes, ops, random
from .creation import empty, empty_like, from_numpy
from .errors import ArgumentError, DTypeError, ShapeError
from .random import Generator
from .tensor import Tensor

_INT64 = np.dtype(np.int64)
_MANTISSA = 53  # bits of float64's integers


def get_rng_state() -> Tensor:
    """The state of the CPU's default generator, (2,) int64: seed and counter; give it back to `set_rng_state`."""
    return from_numpy(random.get_rng_state().view(np.int64))


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1), of a floating dtype. Raises DTypeError for another, ArgumentError for a negative size.

    >>> bool((tl.rand(2, 3) < 1).all())
    True
    """
    result = empty(*size, dtype=dtype, device=device)
    random.fill_uniform_(result, generator=generator)
    return _leaf(result, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal, of a floating dtype. Raises DTypeError for another, ArgumentError for a negative size.

    >>> tl.randn(2, 3).shape
    (2, 3)
    """
    result = empty(*size, dtype=dtype, device=device)
    random.fill_normal_(result, generator=generator)
    return _leaf(result, requires_grad)


def randint(
    low: int = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None,
    dtype: Any = dtypes.int64, device: Any = None, requires_grad: bool = False,
) -> Tensor:
    """Integers low <= x < high; called as randint(high, size) or randint(low, high, size).

    Raises ArgumentError for high <= low or bounds outside the dtype; see `random.fill_integers_` for the
    bias.

    >>> tl.randint(10, (2, 3)).dtype
    tensorlite.int64
    """
    if size is None:
        high, size = None, high
    if high is None:
        low, high = 0, low
    if size is None:
        raise ArgumentError("randint: the size is missing; call randint(high, size) or randint(low, high, size)")
    result = empty(size, dtype=dtype, device=device)
    random.fill_integers_(result, low, high, generator)
    return _leaf(result, requires_grad)


def rand_like(
    input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`rand` of the shape, and unless told otherwise the dtype and device, of `input`."""
    result = empty_like(input, dtype=dtype, device=device)
    random.fill_uniform_(result, generator=generator)
    return _leaf(result, requires_grad)


def randn_like(
    input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`randn` of the shape, and unless told otherwise the dtype and device, of `input`."""
    result = empty_like(input, dtype=dtype, device=device)
    random.fill_normal_(result, generator=generator)
    return _leaf(result, requires_grad)


def randint_like(
    input: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:
    """`randint` of the shape, and unless told otherwise the dtype and device, of `input`.

    Called as randint_like(input, high) or randint_like(input, low, high).
    """
    low, high = (0, low) if high is None else (low, high)
    result = empty_like(input, dtype=dtype, device=device)
    random.fill_integers_(result, low, high, generator)
    return _leaf(result, requires_grad)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = dtypes.int64, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A random order of 0 ... n - 1: the places of n random 64-bit integers, sorted stably.

    Raises ArgumentError for n < 0, or a dtype that does not hold n - 1.

    >>> tl.randperm(5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    n = random.as_integer("randperm", "n", n)
    if n < 0:
        raise ArgumentError(f"randperm: n must not be negative, got {n}")
    result = empty(n, dtype=dtype, device=device)
    if n > 0:
        random.check_integers(result, 0, n)
    backend = result.backend
    keys = backend.empty((n,), _INT64)
    random.draw(backend, "random_bits", keys, generator=generator)
    order = backend.fill("argsort", (n,), _INT64, keys, dim=0, descending=False)
    return _leaf(Tensor._wrap(backend.cast(order, result.array.dtype), backend), requires_grad)


def normal(
    mean: Tensor | float = 0.0, std: Tensor | float = 1.0, size: Any = None, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:
    """mean + std z with z standard normal: numbers with a `size`, or tensors, which broadcast, without one.

    No gradient flows to mean and std; write mean + std * randn_like(mean) for that. Raises ArgumentError for
    a negative std, or for a size, dtype or device together with tensors.

    >>> tl.normal(tl.tensor([0.0, 10.0]), 0.0)
    tensor([ 0., 10.])
    """
    if not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        if size is None:
            raise ArgumentError("normal: needs a size where mean and std are numbers: normal(mean, std, size)")
        result = empty(size, dtype=dtype, device=device)
        random.fill_normal_(result, mean, std, generator)
        return _leaf(result, requires_grad)
    if size is not None or dtype is not None or device is not None:
        raise ArgumentError("normal: size, dtype and device follow from the tensors; leave them out")
    center = mean.detach() if isinstance(mean, Tensor) else mean
    spread = std.detach() if isinstance(std, Tensor) else std
    if not (bool(ops.all(ops.ge(spread, 0))) if isinstance(spread, Tensor) else spread >= 0):
        raise ArgumentError("normal: all elements of std must be >= 0; take .abs() or .exp() of it")
    base: Tensor = ops.add(center, spread)  # of the result's shape, dtype and device
    z = randn_like(base, generator=generator)
    return _leaf(ops.add(ops.mul(z, spread), center), requires_grad)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that `input` holds (or `p`, where given), else 0; of its shape and dtype.

    Raises ArgumentError for a probability outside [0, 1], DTypeError for an input that is not floating.

    >>> tl.bernoulli(tl.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    result = empty_like(input)
    random.fill_bernoulli_(result, input if p is None else p, generator)
    return result


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with probabilities in proportion to the weights in each row of `input`.

    input: (C,) or (N, C), floating, weights >= 0; result: int64 (num_samples,) or (N, num_samples). Without
    replacement, the smallest of -log(u) / weight in order (Efraimidis and Spirakis 2006). A category less
    likely than the likeliest by a factor of 2^52 / C with replacement, 1e300 without, is never drawn. Raises
    ArgumentError for weights that are negative, not finite or, in a row, too few, DTypeError or ShapeError
    for another input.

    >>> tl.multinomial(tl.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    num_samples = random.as_integer("multinomial", "num_samples", num_samples)
    if num_samples < 1:
        raise ArgumentError(f"multinomial: num_samples must be at least 1, got {num_samples}")
    weights = _weights(input)
    backend = weights.backend
    if replacement:
        categories = weights.shape[1]
        scaled = ops.trunc(ops.mul(weights, 2.0 ** (_MANTISSA - categories.bit_length())))
        counts = ops.cumsum(scaled.to(dtypes.int64), 1)
        result = Tensor._wrap(backend.empty((weights.shape[0], num_samples), _INT64), backend)
        random.draw(backend, "random_choice", result.array, counts.array, generator=generator)
    else:
        possible = ops.gt(weights, 1e-300)
        fewest = int(ops.amin(ops.sum(possible, 1)).item()) if weights.shape[0] else num_samples
        if fewest < num_samples:
            raise ArgumentError(
                f"multinomial: {num_samples} samples without replacement, but a row has only {fewest} weights above 0; "
                "draw fewer or set replacement=True"
            )
        race = Tensor._wrap(backend.empty(weights.shape, weights.array.dtype), backend)
        random.fill_exponential_(race, 1.0, generator)
        result = ops.narrow(ops.argsort(ops.div(race, ops.mul(weights, possible)), 1), 1, 0, num_samples)
    return result if input.ndim == 2 else ops.reshape(result, num_samples)


def _weights(input: Tensor) -> Tensor:
    """Checked weights as float64 (N, C), of which the largest in a row is 1."""
    if not input.dtype.is_floating_point:
        raise DTypeError(f"multinomial: weights must be floating, got {input.dtype.name}; use .float()")
    if input.ndim not in (1, 2) or input.shape[-1] == 0:
        raise ShapeError(f"multinomial: weights must be (C,) or (N, C) with C > 0, got shape {input.shape}")
    rows = input.shape[0] if input.ndim == 2 else 1
    weights = ops.reshape(input.detach(), rows, input.shape[-1]).to(dtypes.float64)
    if rows == 0:
        return weights
    largest = ops.amax(weights, 1, True)
    least, most, weakest = (float(x.item()) for x in (ops.amin(weights), ops.amax(weights), ops.amin(largest)))
    if not (least >= 0 and most < float("inf") and weakest > 0):
        raise ArgumentError(
            f"multinomial: weights must be finite, not negative and, in a row, not all 0; got {least} to {most}; "
            "use softmax() on logits"
        )
    result: Tensor = ops.div(weights, largest)
    return result


def _leaf(result: Tensor, requires_grad: bool) -> Tensor:
    return result.requires_grad_() if requires_grad else result


_SEED_LIMIT = 1 << 62  # leaves room in int64 to add a batch number


def draw_seed(generator: Generator | None) -> int:
    """One number from the generator, default tensorlite's own, from which a whole order of data follows."""
    return int(randint(_SEED_LIMIT, (), generator=generator).item())
