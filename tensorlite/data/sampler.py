"""Samplers: in which order a DataLoader takes the items of a dataset.

A sampler is an iterable of indices; a batch sampler is an iterable of lists of them. So that a run can be resumed in
mid-epoch, a random sampler draws a single number per epoch, `epoch_seed()`, from which all of the epoch's order
follows: `order(seed)`. `iter(sampler)` is `sampler.order(sampler.epoch_seed())`. A sampler of one's own needs
`__iter__` alone; if it is random, the two methods make it resumable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from ..creation import from_numpy
from ..errors import ArgumentError
from ..random import Generator
from ..sampling import draw_seed, multinomial, randint, randperm
from ..tensor import Tensor
from .dataset import defined_with

T_co = TypeVar("T_co", covariant=True)



class Sampler(Generic[T_co]):
    """Base of samplers: subclasses define `__iter__()`, and `__len__()` where the length is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} is a Sampler and must define __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order; `num_samples` of them, default all, drawn with or without replacement.

    Without replacement, no index comes again before all have come. Random numbers come from `generator`, default
    tensorlite's own, which `tl.manual_seed` seeds.

    >>> sorted(tl.data.RandomSampler(range(4)))
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if num_samples is not None:
            _check_count(num_samples, "RandomSampler")
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def epoch_seed(self) -> int:
        return draw_seed(self.generator)

    def order(self, seed: int) -> Iterator[int]:
        generator = Generator().manual_seed(seed)
        size, wanted = len(self.data_source), self.num_samples
        if size == 0 and wanted > 0:
            raise ArgumentError(f"RandomSampler: cannot draw {wanted} samples from an empty dataset")
        if self.replacement:
            yield from randint(size, (wanted,), generator=generator).tolist()
            return
        while wanted > 0:
            yield from randperm(size, generator=generator).tolist()[:wanted]
            wanted -= size

    def __iter__(self) -> Iterator[int]:
        return self.order(self.epoch_seed())

    def __len__(self) -> int:
        return self.num_samples


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices 0 ... len(weights) - 1, index i with probability weights[i] / sum(weights).

    Without replacement each draw is among those left; the draws are `tl.multinomial`'s. ArgumentError for weights that
    are negative, not finite or all 0, or too few for `num_samples` distinct indices.

    >>> list(tl.data.WeightedRandomSampler([0.0, 3.0, 0.0], num_samples=4))
    [1, 1, 1, 1]
    """

    def __init__(
        self,
        weights: Sequence[float] | Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        _check_count(num_samples, "WeightedRandomSampler")
        values = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else weights
        self.weights: np.ndarray[Any, Any] = np.array(values, dtype=np.float64)
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator
        if self.weights.ndim != 1:
            raise ArgumentError(f"WeightedRandomSampler: weights must be 1-D, got shape {self.weights.shape}")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.any()):
            raise ArgumentError("WeightedRandomSampler: weights must be finite, not negative and not all 0")
        positive = np.count_nonzero(self.weights)
        if not replacement and num_samples > positive:
            raise ArgumentError(
                f"WeightedRandomSampler: {num_samples} samples without replacement, but only {positive} positive "
                "weights; lower num_samples or set replacement=True"
            )

    def epoch_seed(self) -> int:
        return draw_seed(self.generator)

    def order(self, seed: int) -> Iterator[int]:
        weights, generator = from_numpy(self.weights), Generator().manual_seed(seed)
        return iter(multinomial(weights, self.num_samples, self.replacement, generator=generator).tolist())

    def __iter__(self) -> Iterator[int]:
        return self.order(self.epoch_seed())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of `sampler`; with `drop_last` a shorter last one is left out.

    >>> list(tl.data.BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        _check_count(batch_size, "BatchSampler", "batch_size")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def epoch_seed(self) -> int | None:
        return epoch_seed(self.sampler)

    def order(self, seed: int | None) -> Iterator[list[int]]:
        indices = order(self.sampler, seed)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __iter__(self) -> Iterator[list[int]]:
        return self.order(self.epoch_seed())

    def __len__(self) -> int:
        return batch_count(len(self.sampler), self.batch_size, self.drop_last)  # type: ignore[arg-type]


def epoch_seed(sampler: Any) -> int | None:
    """Draw the number from which the sampler's next epoch follows; None if it does not work by such a number."""
    seed: int | None = sampler.epoch_seed() if defined_with(sampler, "order", "__iter__") else None
    return seed


def order(sampler: Any, seed: int | None) -> Iterator[Any]:
    """The sampler's epoch that follows from `seed`, or simply its next one if it does not work by such a number."""
    if defined_with(sampler, "order", "__iter__"):
        by_seed: Iterator[Any] = sampler.order(seed)
        return by_seed
    return iter(sampler)


def batch_count(items: int, batch_size: int, drop_last: bool) -> int:
    """How many batches `items` make."""
    return items // batch_size if drop_last else -(-items // batch_size)


def _check_count(value: Any, what: str, name: str = "num_samples") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ArgumentError(f"{what}: {name} should be a positive integer value, but got {name}={value!r}")
