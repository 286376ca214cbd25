"""Datasets, what a DataLoader reads from, and `default_collate`, which joins their items into batches.

A map-style `Dataset` has `__getitem__(index)` and `__len__()`; an `IterableDataset` has `__iter__()`.

A dataset may also offer `__getbatch__(indices)`, which gives for an integer array exactly what `default_collate`
gives for the items at these indices, but at once: `TensorDataset` does it by one indexing per tensor. It may return
None for "take the items". `batch_getter` finds it, and passes over one whose `__getitem__` a subclass has changed.
"""

from __future__ import annotations

import bisect
import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..creation import as_tensor, from_numpy, tensor
from ..dtypes import float64
from ..errors import ArgumentError, OutOfRangeError, ShapeError
from ..ops import stack
from ..random import Generator
from ..sampling import randperm
from ..tensor import Tensor

T_co = TypeVar("T_co", covariant=True)
Indices = np.ndarray[Any, Any]


class Dataset(Generic[T_co]):
    """Base of map-style datasets: subclasses define `__getitem__(index)` and `__len__()`.

    >>> class Squares(tl.data.Dataset):
    ...     def __len__(self): return 5
    ...     def __getitem__(self, index): return index, index**2
    >>> [y.tolist() for x, y in tl.data.DataLoader(Squares(), batch_size=2)]
    [[0, 1], [4, 9], [16]]
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} is a Dataset and must define __getitem__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Base of streams: subclasses define `__iter__()`. They are read in their own order and need no length."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} is an IterableDataset and must define __iter__")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Item i is the tuple of each tensor's row i. ShapeError unless all first dimensions are equal.

    >>> tl.data.TensorDataset(tl.tensor([[1., 2.], [3., 4.]]), tl.tensor([0, 1]))[1]
    (tensor([3., 4.]), tensor(1))
    """

    def __init__(self, *tensors: Tensor) -> None:
        for each in tensors:
            if not isinstance(each, Tensor):
                raise TypeError(f"TensorDataset takes tensors, got {type(each).__name__}; see tl.from_numpy")
        lengths = {each.shape[:1] for each in tensors}
        if len(lengths) != 1 or () in lengths:
            raise ShapeError(
                "TensorDataset: size mismatch between tensors: they need one and the same first dimension, "
                f"got shapes {[each.shape for each in tensors]}"
            )
        self.tensors = tensors

    def __repr__(self) -> str:
        return f"TensorDataset({', '.join(f'{each.dtype.name} {each.shape}' for each in self.tensors)})"

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(each[index] for each in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getbatch__(self, indices: Indices) -> tuple[Tensor, ...]:
        """Rows `indices` of each tensor, each of them by one indexing."""
        return tuple(each[indices] for each in self.tensors)


class Subset(Dataset[T_co]):
    """The items of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> T_co:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    def __getbatch__(self, indices: Indices) -> Any:
        """The batch of the underlying dataset, or None where that offers none."""
        getter = batch_getter(self.dataset)
        return None if getter is None else getter(np.asarray(self.indices)[indices])


class ConcatDataset(Dataset[Any]):
    """The items of several map-style datasets one after another. `a + b` makes one too."""

    def __init__(self, datasets: Sequence[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset: datasets should not be empty")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise ArgumentError("ConcatDataset does not support IterableDataset: it has no items to index")
        self.cumulative_sizes = list(itertools.accumulate(map(_length, self.datasets)))

    def __getitem__(self, index: int) -> Any:
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise OutOfRangeError(f"ConcatDataset: index {index} is out of range for {len(self)} items")
        which = bisect.bisect_right(self.cumulative_sizes, place)
        return self.datasets[which][place - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[Any]):
    """Item i joins item i of each dataset: a tuple for positional datasets, a dict for named ones.

    >>> images, labels = tl.data.TensorDataset(tl.zeros(2, 3)), tl.tensor([7, 9])
    >>> tl.data.StackDataset(image=images, label=labels)[1]
    {'image': (tensor([0., 0., 0.]),), 'label': tensor(9)}
    """

    def __init__(self, *datasets: Any, **named: Any) -> None:
        if bool(datasets) == bool(named):
            raise ArgumentError("StackDataset takes one or more datasets, either all positional or all named")
        self.datasets: tuple[Any, ...] | dict[str, Any] = datasets or named
        sizes = [_length(dataset) for dataset in (datasets or named.values())]
        if len(set(sizes)) != 1:
            raise ShapeError(f"StackDataset: size mismatch between datasets: they have {sizes} items")
        self._size = sizes[0]

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._size


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T_co]]:
    """Split at random into disjoint subsets of the given lengths, or of the given fractions that sum to 1.

    Of fractions, floor(fraction * len(dataset)) items each, and what is left one by one from the first subset on.

    >>> [len(part) for part in tl.data.random_split(range(10), [0.25, 0.75])]
    [3, 7]
    """
    total = _length(dataset)
    sizes = [int(length) for length in lengths]
    if any(isinstance(length, float) for length in lengths):
        sizes = _fractions(lengths, total)
    if any(size < 0 for size in sizes) or sum(sizes) != total:
        raise ArgumentError(
            "random_split: Sum of input lengths does not equal the length of the input dataset: "
            f"lengths {list(lengths)}, dataset {total}"
        )
    order = randperm(total, generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _fractions(fractions: Sequence[float], total: int) -> list[int]:
    if any(not 0 <= fraction <= 1 for fraction in fractions) or not math.isclose(sum(fractions), 1):
        raise ArgumentError(f"random_split: fractions must be in 0..1 and sum to 1, got {list(fractions)}")
    sizes = [math.floor(total * fraction) for fraction in fractions]
    for place in range(total - sum(sizes)):
        sizes[place % len(sizes)] += 1
    for place, size in enumerate(sizes):
        if size == 0:
            warnings.warn(f"random_split: subset {place} of {list(fractions)} is empty", stacklevel=3)
    return sizes


def batch_getter(dataset: Any) -> Callable[[Indices], Any] | None:
    """The dataset's `__getbatch__`, or None where it has none that goes with its `__getitem__`."""
    return dataset.__getbatch__ if defined_with(dataset, "__getbatch__", "__getitem__") else None


def default_collate(batch: Sequence[Any]) -> Any:
    """Join items into one batch: tensors, arrays and numbers are stacked, containers are joined part by part.

    Python floats become float64 and ints int64; tuples, named tuples, lists and mappings keep their type, and strings
    become a list. ShapeError for items of different sizes, TypeError for what cannot be joined.

    >>> tl.data.default_collate([(tl.tensor([1, 2]), 0.5, "a"), (tl.tensor([3, 4]), 1.5, "b")])
    (tensor([[1, 2],
            [3, 4]]), tensor([0.5000, 1.5000], dtype=tensorlite.float64), ['a', 'b'])
    """
    if not batch:
        raise ArgumentError("default_collate: the batch is empty")
    first = batch[0]
    if isinstance(first, np.ndarray) and first.dtype.kind not in "SUO":
        batch = [as_tensor(item) for item in batch]
        first = batch[0]
    if isinstance(first, Tensor):
        _same_shape(batch)
        return stack(list(batch))
    if isinstance(first, np.number | np.bool_):
        return from_numpy(np.array(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype=float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        if any(item.keys() != first.keys() for item in batch):
            raise ArgumentError(f"default_collate: the items' keys differ; the first has {list(first)}")
        return _like_mapping(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise ShapeError("default_collate: each element in list of batch should be of equal size; pass collate_fn")
        return _like_sequence(first, [default_collate(part) for part in zip(*batch, strict=True)])
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first).__name__}; pass collate_fn"
    )


def default_convert(item: Any) -> Any:
    """One item as it is, but its arrays and NumPy numbers as tensors: what a loader with batch_size=None gives.

    >>> tl.data.default_convert({"x": np.array([1, 2]), "name": "a"})
    {'x': tensor([1, 2]), 'name': 'a'}
    """
    if isinstance(item, np.ndarray | np.number | np.bool_) and item.dtype.kind not in "SUO":
        return as_tensor(item)
    if isinstance(item, Mapping):
        return _like_mapping(item, {key: default_convert(value) for key, value in item.items()})
    if isinstance(item, Sequence) and not isinstance(item, str | bytes):
        return _like_sequence(item, [default_convert(part) for part in item])
    return item


def _like_mapping(example: Mapping[Any, Any], content: dict[Any, Any]) -> Any:
    if type(example) is dict:
        return content
    try:
        if isinstance(example, MutableMapping):  # keeps what else it has, such as a default factory
            like = copy.copy(example)
            like.update(content)
            return like
        return type(example)(content)  # type: ignore[call-arg]
    except TypeError:
        return content


def _like_sequence(example: Sequence[Any], content: list[Any]) -> Any:
    kind: Any = type(example)
    if kind is list or isinstance(example, range):
        return content
    try:
        return kind(*content) if hasattr(example, "_fields") else kind(content)
    except TypeError:
        return content


def _same_shape(batch: Sequence[Any]) -> None:
    for place, item in enumerate(batch):
        if item.shape != batch[0].shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {list(batch[0].shape)} at entry 0 and "
                f"{list(item.shape)} at entry {place}; pass a collate_fn that pads or crops"
            )


def defined_with(thing: Any, method: str, basic: str) -> bool:
    """Whether `thing` has `method`, and no subclass below the one that defines it has redefined `basic` alone.

    A method that is a faster or more able form of a basic one must not outlive the latter: someone who subclasses
    TensorDataset to change `__getitem__` means every item.
    """
    for base in type(thing).__mro__:
        if method in vars(base):
            return True
        if basic in vars(base):
            return False
    return False


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise TypeError(f"{type(dataset).__name__} has no length: a map-style dataset defines __len__") from error
