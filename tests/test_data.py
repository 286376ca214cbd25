"""Datasets, samplers, collation and the DataLoader: order, workers, errors, resuming."""

from __future__ import annotations

import collections
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)
from tensorlite.errors import ArgumentError, OutOfRangeError, ShapeError

WORKERS = [0, 1, 2, 3]


def seeded(seed: int = 0) -> tl.Generator:
    return tl.Generator().manual_seed(seed)


def plain(value: Any) -> Any:
    """Nested lists of what a batch holds, dtypes included, for comparison."""
    if isinstance(value, tl.Tensor):
        return (value.dtype.name, value.shape, value.tolist())
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value


class Squares(Dataset[Any]):
    def __init__(self, size: int = 10) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index, index**2


class Stream(IterableDataset[int]):
    def __init__(self, size: int = 10) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))


def flat(loader: Any) -> list[Any]:
    """All first components that a loader gives, in order."""
    return [x for batch in loader for x in (batch[0] if isinstance(batch, tuple) else batch).tolist()]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    if threading.active_count() != before:
        gc.collect()  # what an error's traceback held
    assert threading.active_count() == before


# ---- datasets ----


def test_tensor_dataset() -> None:
    dataset = TensorDataset(tl.arange(6).reshape(3, 2), tl.tensor([1.0, 2.0, 3.0]))
    assert len(dataset) == 3 and plain(dataset[-1]) == plain((tl.tensor([4, 5]), tl.tensor(3.0)))
    assert [y.item() for _, y in dataset] == [1.0, 2.0, 3.0]  # ends, as indexing past the end raises


@pytest.mark.parametrize("tensors", [((3,), (4,)), ((3,), ()), ((),), ()])
def test_tensor_dataset_refuses_sizes(tensors: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ShapeError, match="size mismatch between tensors"):
        TensorDataset(*(tl.zeros(shape) for shape in tensors))


def test_tensor_dataset_refuses_arrays() -> None:
    with pytest.raises(TypeError, match="from_numpy"):
        TensorDataset(np.zeros(3))  # type: ignore[arg-type]


def test_missing_methods_are_named() -> None:
    class Empty(Dataset[int]):
        pass

    class EmptyStream(IterableDataset[int]):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty .*__getitem__"):
        Empty()[0]
    with pytest.raises(NotImplementedError, match=r"EmptyStream .*__iter__"):
        iter(EmptyStream())
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(Sampler())
    with pytest.raises(TypeError, match="Empty has no length"):
        random_split(Empty(), [1])


def test_subset_and_concat() -> None:
    subset = Subset(Squares(), [7, 1, 3])
    assert len(subset) == 3 and subset[0] == (7, 49) and subset[-1] == (3, 9)
    both = subset + Squares(2)
    assert isinstance(both, ConcatDataset) and len(both) == 5
    assert [both[i][0] for i in range(-5, 5)] == [7, 1, 3, 0, 1, 7, 1, 3, 0, 1]
    for index in (5, -6):
        with pytest.raises(OutOfRangeError, match=f"index {index} is out of range"):
            both[index]
    with pytest.raises(ArgumentError, match="not be empty"):
        ConcatDataset([])
    with pytest.raises(ArgumentError, match="IterableDataset"):
        ConcatDataset([Stream()])


def test_concat_skips_empty_datasets() -> None:
    assert [pair[0] for pair in ConcatDataset([Squares(0), Squares(1), Squares(0), Squares(2)])] == [0, 0, 1]


def test_stack() -> None:
    assert StackDataset(Squares(3), [5, 6, 7])[1] == ((1, 1), 6)
    named = StackDataset(x=Squares(3), y=[5, 6, 7])
    assert named[2] == {"x": (2, 4), "y": 7} and len(named) == 3
    with pytest.raises(ShapeError, match=r"\[3, 2\] items"):
        StackDataset(Squares(3), Squares(2))
    for positional, keywords in (((), {}), ((Squares(),), {"x": Squares()})):
        with pytest.raises(ArgumentError, match="either all positional or all named"):
            StackDataset(*positional, **keywords)


def test_random_split_is_a_partition() -> None:
    parts = random_split(Squares(10), [7, 3], generator=seeded())
    assert [len(part) for part in parts] == [7, 3]
    chosen = [index for part in parts for index in part.indices]
    assert sorted(chosen) == list(range(10)) and chosen != sorted(chosen)
    again = random_split(Squares(10), [7, 3], generator=seeded())
    assert [part.indices for part in again] == [part.indices for part in parts]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_random_split_of_fractions_is_torchs(total: int, weights: list[int]) -> None:
    torch = pytest.importorskip("torch")
    fractions = [weight / sum(weights) for weight in weights]
    if sum(fractions) > 1:
        return  # torch refuses what rounding puts above 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = random_split(Squares(total), fractions)
        theirs = torch.utils.data.random_split(range(total), fractions)
    assert [len(part) for part in ours] == [len(part) for part in theirs]
    assert sorted(index for part in ours for index in part.indices) == list(range(total))


@pytest.mark.parametrize("lengths", [[5, 4], [11], [12, -2], [0.5, 0.4], [1.5, -0.5], []])
def test_random_split_refuses(lengths: list[float]) -> None:
    with pytest.raises(ArgumentError, match="random_split"):
        random_split(Squares(10), lengths)


def test_random_split_warns_of_an_empty_part() -> None:
    with pytest.warns(UserWarning, match="subset 1 .* is empty"):
        random_split(Squares(3), [0.9, 0.1])


# ---- samplers ----


def test_sequential_and_batch_sampler() -> None:
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    for drop_last, expected in ((False, [[0, 1], [2, 3], [4]]), (True, [[0, 1], [2, 3]])):
        sampler = BatchSampler(SequentialSampler(range(5)), 2, drop_last)
        assert list(sampler) == list(sampler) == expected and len(sampler) == len(expected)
    assert list(BatchSampler([], 3, False)) == [] and len(BatchSampler([], 3, False)) == 0


def test_random_sampler_without_replacement() -> None:
    generator = seeded()
    sampler = RandomSampler(range(100), generator=generator)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(100)) and first != second
    assert list(RandomSampler(range(100), generator=seeded())) == first
    more = list(RandomSampler(range(4), num_samples=10))
    assert len(more) == 10 and sorted(more[:4]) == sorted(more[4:8]) == [0, 1, 2, 3] and len(set(more[8:])) == 2
    assert len(list(RandomSampler(range(4), num_samples=3))) == len(RandomSampler(range(4), num_samples=3)) == 3


def test_random_sampler_follows_manual_seed() -> None:
    tl.manual_seed(3)
    first = list(RandomSampler(range(50)))
    tl.manual_seed(3)
    assert list(RandomSampler(range(50))) == first


def test_random_sampler_with_replacement() -> None:
    drawn = list(RandomSampler(range(10), replacement=True, num_samples=5000, generator=seeded()))
    counts = np.bincount(drawn, minlength=10)
    assert len(drawn) == 5000 and counts.min() > 400 and counts.max() < 600 and len(counts) == 10


def test_random_sampler_of_nothing() -> None:
    assert list(RandomSampler([])) == []
    with pytest.raises(ArgumentError, match="empty dataset"):
        list(RandomSampler([], num_samples=3))


@pytest.mark.parametrize("replacement", [True, False])
def test_weighted_sampler_probabilities(replacement: bool) -> None:
    """The first index drawn has probability weight / sum, in both ways of drawing."""
    weights = [0.0, 1.0, 3.0, 0.0, 6.0]
    generator = seeded()
    sampler = WeightedRandomSampler(tl.tensor(weights), 1 if not replacement else 4000, replacement, generator)
    drawn = list(sampler) if replacement else [next(iter(sampler)) for _ in range(1500)]
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    assert shares[0] == shares[3] == 0
    np.testing.assert_allclose(shares, np.array(weights) / 10, atol=0.04)


def test_weighted_sampler_without_replacement_is_distinct() -> None:
    sampler = WeightedRandomSampler([1e-9, 1.0, 0.0, 1e9, 5.0], 4, replacement=False, generator=seeded())
    assert sorted(sampler) == [0, 1, 3, 4] and len(sampler) == 4


@pytest.mark.parametrize(
    ("weights", "number", "replacement", "match"),
    [
        ([1.0, -1.0], 1, True, "not negative"),
        ([0.0, 0.0], 1, True, "not all 0"),
        ([], 1, True, "not all 0"),
        ([1.0, float("nan")], 1, True, "finite"),
        ([1.0, float("inf")], 1, True, "finite"),
        ([[1.0]], 1, True, "1-D"),
        ([1.0, 0.0, 2.0], 3, False, "only 2 positive weights"),
        ([1.0], 0, True, "num_samples should be a positive integer"),
    ],
)
def test_weighted_sampler_refuses(weights: Any, number: int, replacement: bool, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        WeightedRandomSampler(weights, number, replacement)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
def test_counts_must_be_positive_integers(count: Any) -> None:
    with pytest.raises(ArgumentError, match="batch_size should be a positive integer"):
        BatchSampler(range(3), count)
    if count is not None:
        with pytest.raises(ArgumentError, match="num_samples should be a positive integer"):
            RandomSampler(range(3), num_samples=count)
        with pytest.raises(ArgumentError, match="batch_size should be a positive integer"):
            DataLoader(Squares(), batch_size=count)


# ---- collation ----


class Point(NamedTuple):
    x: Any
    y: Any


SAMPLES: list[list[Any]] = [
    [1, 2, 3],
    [1.5, 2.0],
    [True, False],
    [1, 2.5],
    [np.float32(1), np.float32(2)],
    [np.float64(1), np.float64(2)],
    [np.int32(1), np.int32(2)],
    [np.bool_(True), np.bool_(False)],
    [np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)],
    [np.zeros(2), np.ones(2)],
    [np.array(0.5), np.array(1.5)],
    [(1, 2.0), (3, 4.0)],
    [[1, 2.0], [3, 4.0]],
    [{"a": 1, "b": [np.zeros(2), 3]}, {"a": 2, "b": [np.ones(2), 4]}],
    [Point(1, 2.0), Point(3, 4.0)],
    [(1, (2, {"k": 3.0})), (4, (5, {"k": 6.0}))],
    [(), ()],
]


@pytest.mark.parametrize("batch", SAMPLES)
def test_default_collate_agrees_with_torch(batch: list[Any]) -> None:
    torch = pytest.importorskip("torch")

    def same(ours: Any, theirs: Any) -> None:
        if isinstance(theirs, torch.Tensor):
            assert f"torch.{ours.dtype.name}" == str(theirs.dtype)
            assert ours.shape == tuple(theirs.shape) and ours.tolist() == theirs.tolist()
        elif isinstance(theirs, dict):
            assert ours.keys() == theirs.keys()
            for key in theirs:
                same(ours[key], theirs[key])
        else:
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                same(a, b)

    same(default_collate(batch), torch.utils.data.default_collate(batch))


def test_containers_keep_their_type() -> None:
    assert type(default_collate([(1, 2), (3, 4)])) is tuple  # torch makes a list of it
    assert type(default_collate([[1, 2], [3, 4]])) is list
    assert type(default_collate([Point(1, 2), Point(3, 4)])) is Point
    ordered = default_collate([collections.OrderedDict(a=1), collections.OrderedDict(a=2)])
    assert type(ordered) is collections.OrderedDict and ordered["a"].tolist() == [1, 2]
    default = default_collate([collections.defaultdict(int, a=1), collections.defaultdict(int, a=2)])
    assert default["absent"] == 0
    assert default_collate([range(2), range(2)])[1].tolist() == [1, 1]
    assert default_collate([("a", b"x"), ("b", b"y")]) == (["a", "b"], [b"x", b"y"])


def test_collate_keeps_the_graph() -> None:
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    default_collate([x, x]).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("kind", [tl.zeros, np.zeros])
def test_ragged_items_are_refused(kind: Any) -> None:
    with pytest.raises(ShapeError, match=r"expects each tensor to be equal size, but got \[2\].*\[3\] at entry 1"):
        default_collate([kind(2), kind(3)])


@pytest.mark.parametrize(
    ("batch", "error", "match"),
    [
        ([], ArgumentError, "empty"),
        ([(1, 2), (1,)], ShapeError, "each element in list of batch should be of equal size"),
        ([{"a": 1}, {"b": 1}], ArgumentError, "keys differ"),
        ([{"a": 1}, {"a": 1, "b": 1}], ArgumentError, "keys differ"),
        ([None, None], TypeError, "found NoneType"),
        ([np.array(["a"]), np.array(["b"])], TypeError, "default_collate: batch must contain"),
    ],
)
def test_collate_refuses(batch: list[Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        default_collate(batch)


def test_default_convert() -> None:
    assert plain(default_convert(np.float64(2))) == ("float64", (), 2.0)
    assert plain(default_convert(Point(np.arange(2), [1, "a"]))) == [("int64", (2,), [0, 1]), [1, "a"]]
    assert default_convert(np.array(["a"])).dtype.kind == "U" and default_convert(1.5) == 1.5
    assert type(default_convert(Point(1, 2))) is Point


# ---- the loader: batches and order ----


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11])
@pytest.mark.parametrize("dataset", [Squares(), Stream()])
def test_batches_in_order(dataset: Any, batch_size: int, drop_last: bool, workers: int) -> None:
    loader = DataLoader(dataset, batch_size, num_workers=workers, drop_last=drop_last)
    expected = [list(range(i, min(i + batch_size, 10))) for i in range(0, 10, batch_size)]
    if drop_last:
        expected = [batch for batch in expected if len(batch) == batch_size]
    for _ in range(2):
        got = [(batch[0] if isinstance(batch, tuple) else batch).tolist() for batch in loader]
        assert got == expected
    if isinstance(dataset, Squares):
        assert len(loader) == len(expected)


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_equal_torchs(workers: int) -> None:
    torch = pytest.importorskip("torch")
    x, y = np.random.default_rng(0).standard_normal((23, 4)), np.arange(23)
    theirs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    ours = TensorDataset(tl.from_numpy(x), tl.from_numpy(y))
    given = [[3, 1], [2], [22, 0, 3]]
    for options in ({"batch_size": 5}, {"batch_size": 5, "drop_last": True}, {"batch_sampler": given}):
        loaders = DataLoader(ours, num_workers=workers, **options), torch.utils.data.DataLoader(theirs, **options)
        assert len(loaders[0]) == len(loaders[1])
        for a, b in zip(*loaders, strict=True):
            assert [part.tolist() for part in a] == [part.tolist() for part in b]


@pytest.mark.parametrize("workers", WORKERS)
def test_shuffle(workers: int) -> None:
    loader = DataLoader(Squares(50), 8, shuffle=True, num_workers=workers, generator=seeded())
    first, second = flat(loader), flat(loader)
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    assert flat(DataLoader(Squares(50), 7, shuffle=True, generator=seeded())) == first  # whatever batches, workers


def test_shuffle_follows_manual_seed_and_draws_alike_with_and_without_workers() -> None:
    seen = []
    for workers in WORKERS:
        tl.manual_seed(1)
        loader = DataLoader(Squares(30), 4, shuffle=True, num_workers=workers)
        seen.append((flat(loader), flat(loader), tl.rand(1).item()))
    assert seen == [seen[0]] * len(WORKERS)


@pytest.mark.parametrize("workers", WORKERS)
def test_two_passes_at_once(workers: int) -> None:
    loader = DataLoader(Squares(), 2, num_workers=workers)
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 5 and all(a[0].tolist() == b[0].tolist() for a, b in pairs)


@pytest.mark.parametrize("workers", WORKERS)
def test_no_batching(workers: int) -> None:
    assert list(DataLoader(Squares(3), batch_size=None, num_workers=workers)) == [(0, 0), (1, 1), (2, 4)]
    assert list(DataLoader(Stream(3), batch_size=None, num_workers=workers)) == [0, 1, 2]
    assert len(DataLoader(Squares(3), batch_size=None)) == 3
    (item,) = DataLoader([np.arange(2)], batch_size=None, num_workers=workers)
    assert isinstance(item, tl.Tensor)


def test_collate_fn_and_samplers() -> None:
    assert list(DataLoader(Squares(5), 2, collate_fn=len)) == [2, 2, 1]
    assert flat(DataLoader(Squares(5), 2, sampler=[4, 0, 4])) == [4, 0, 4]
    assert flat(DataLoader(Squares(5), batch_sampler=[[4], [0, 1]])) == [4, 0, 1]
    weighted = WeightedRandomSampler([0, 0, 1.0, 0, 0], 6)
    assert flat(DataLoader(Squares(5), 4, sampler=weighted)) == [2] * 6
    assert len(DataLoader(Squares(5), 4, sampler=weighted)) == 2


def test_empty_dataset() -> None:
    for shuffle in (False, True):
        assert list(DataLoader(Squares(0), 3, shuffle=shuffle)) == []
    assert len(DataLoader(Squares(0), 3)) == 0


def test_length_of_a_stream() -> None:
    class Sized(Stream):
        def __len__(self) -> int:
            return self.size

    assert len(DataLoader(Sized(10), 4)) == 3 and len(DataLoader(Sized(10), 4, drop_last=True)) == 2
    with pytest.raises(TypeError):
        len(DataLoader(Stream(10), 4))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "needs num_workers > 0"),
        ({"prefetch_factor": 0, "num_workers": 1}, "should be positive"),
        ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"multiprocessing_context": "spawn", "num_workers": 1}, "workers are threads"),
        ({"shuffle": True, "sampler": [0]}, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "mutually exclusive"),
        ({"batch_sampler": [[0]], "shuffle": True}, "mutually exclusive"),
        ({"batch_sampler": [[0]], "sampler": [0]}, "mutually exclusive"),
        ({"batch_sampler": [[0]], "drop_last": True}, "mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "disables auto-batching"),
        ({"batch_size": 0}, "positive integer"),
        ({"stream": True, "shuffle": True}, "its own order"),
        ({"stream": True, "sampler": [0]}, "its own order"),
        ({"stream": True, "batch_sampler": [[0]]}, "its own order"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    dataset: Any = Stream() if options.pop("stream", False) else Squares()
    with pytest.raises(ArgumentError, match=match) as caught:
        DataLoader(dataset, **options)
    assert isinstance(caught.value, ValueError)


def test_what_a_pass_depends_on_cannot_be_set_later() -> None:
    loader = DataLoader(Squares(), 2)
    with pytest.raises(ArgumentError, match="batch_size attribute should not be set"):
        loader.batch_size = 4
    loader.num_workers = 2
    assert flat(loader) == list(range(10))


# ---- whole batches at once ----


class Counting(TensorDataset):
    """Counts how its items are taken."""

    items = batches = 0

    def __getitem__(self, index: Any) -> Any:
        self.items += 1
        return super().__getitem__(index)

    def __getbatch__(self, indices: Any) -> Any:
        self.batches += 1
        return super().__getbatch__(indices)


def tensors() -> tuple[tl.Tensor, ...]:
    rng = np.random.default_rng(4)
    return tl.from_numpy(rng.standard_normal((11, 2, 3))).float(), tl.arange(11), tl.arange(11) > 4


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    "wrap", [lambda d: d, lambda d: Subset(d, [9, 2, 2, 5, 0]), lambda d: Subset(Subset(d, range(8)), [3, 1])]
)
def test_batches_at_once_equal_item_by_item(wrap: Any, workers: int) -> None:
    dataset = Counting(*tensors())
    options: dict[str, Any] = {"batch_size": 3, "shuffle": True, "num_workers": workers}
    fast = [plain(b) for b in DataLoader(wrap(dataset), generator=seeded(), **options)]
    assert dataset.items == 0 and dataset.batches > 0
    options["collate_fn"] = lambda items: default_collate(items)
    assert [plain(b) for b in DataLoader(wrap(dataset), generator=seeded(), **options)] == fast
    assert dataset.items > 0
    assert type(next(iter(DataLoader(dataset, 3)))) is tuple


def test_changed_items_are_not_bypassed() -> None:
    class Augmented(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(tensor + 100 for tensor in super().__getitem__(index))

    dataset = Augmented(tl.arange(4))
    assert flat(DataLoader(dataset, 2)) == flat(DataLoader(Subset(dataset, range(4)), 2)) == [100, 101, 102, 103]


def test_getitems_protocol() -> None:
    class Many(Squares):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            return [(-index, 0) for index in indices]

    class Changed(Many):
        def __getitem__(self, index: int) -> tuple[int, int]:
            return index + 50, 0

    assert flat(DataLoader(Many(3), 2)) == [0, -1, -2]
    assert flat(DataLoader(Changed(3), 2)) == [50, 51, 52]


@pytest.mark.parametrize("index", [11, -12, 1.0, "a"])
def test_bad_index_at_once(index: Any) -> None:
    with pytest.raises((IndexError, TypeError)):
        list(DataLoader(TensorDataset(*tensors()), batch_sampler=[[0, index]]))


def test_negative_numpy_and_tensor_indices_at_once() -> None:
    loader = DataLoader(TensorDataset(tl.arange(11)), batch_sampler=[[-1, np.int64(3), tl.tensor(2)]])
    assert flat(loader) == [10, 3, 2]


# ---- workers ----


class Failing(Squares):
    def __getitem__(self, index: int) -> tuple[int, int]:
        if index == 5:
            raise KeyError("item five")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", WORKERS)
def test_errors_come_through_in_their_place(workers: int) -> None:
    seen = []
    with pytest.raises(KeyError, match="item five") as caught:
        for batch in DataLoader(Failing(), 2, num_workers=workers):
            seen.append(batch[0].tolist())
    assert seen == [[0, 1], [2, 3]]
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "__getitem__" in frames
    if workers:
        assert caught.value.__notes__ == [f"raised in DataLoader worker {2 % workers}, in batch 2"]


@pytest.mark.parametrize("workers", WORKERS)
def test_errors_of_a_stream_and_a_sampler(workers: int) -> None:
    class Broken(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            yield from range(4)
            raise OSError("connection lost")

    seen = []
    with pytest.raises(OSError, match="connection lost"):
        for batch in DataLoader(Broken(), 2, num_workers=workers):
            seen.append(batch.tolist())
    assert seen == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="connection lost"):
        list(DataLoader(Squares(), 2, sampler=Broken(), num_workers=workers))


@pytest.mark.parametrize("workers", WORKERS)
def test_stop_iteration_does_not_end_a_pass_silently(workers: int) -> None:
    class Stops(Squares):
        def __getitem__(self, index: int) -> tuple[int, int]:
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(DataLoader(Stops(), 2, num_workers=workers))


@pytest.mark.parametrize("dataset", [Squares(100), Stream(100)])
def test_worker_info_and_init(dataset: Any) -> None:
    started: list[int] = []
    infos = []

    class Asking(type(dataset)):  # type: ignore[misc]
        def __getitem__(self, index: int) -> int:
            infos.append(get_worker_info())
            return index

        def __iter__(self) -> Iterator[int]:
            for value in range(self.size):
                yield self[value]

    asking = Asking(100)
    assert flat(DataLoader(asking, 5, num_workers=3, worker_init_fn=started.append)) == list(range(100))
    count = 3 if isinstance(dataset, Squares) else 1
    assert sorted(started) == list(range(count))
    assert {(info.id, info.num_workers) for info in infos if info} == {(i, count) for i in range(count)}
    assert all(info is not None and info.dataset is asking for info in infos)
    infos.clear()
    list(DataLoader(asking, 5))
    assert set(infos) == {None} and get_worker_info() is None


def test_failing_init() -> None:
    def init(worker: int) -> None:
        raise RuntimeError(f"no camera {worker}")

    with pytest.raises(RuntimeError, match="no camera 0"):
        list(DataLoader(Squares(), 2, num_workers=2, worker_init_fn=init))


class Noisy(Squares):
    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        assert info is not None
        return index, tl.rand(2, generator=info.generator)


def test_worker_generators_do_not_depend_on_the_number_of_workers() -> None:
    def run(workers: int) -> Any:
        return [plain(b) for b in DataLoader(Noisy(20), 3, True, num_workers=workers, generator=seeded())]

    assert run(1) == run(2) == run(5)
    values = [tuple(value) for batch in run(2) for value in batch[1][2]]
    assert len(set(values)) == 20


def test_workers_have_the_grad_mode_of_the_loop() -> None:
    weight = tl.ones(1, requires_grad=True)

    class Computing(Squares):
        def __getitem__(self, index: int) -> Any:
            return (weight * index).requires_grad

    with tl.no_grad():
        assert not any(flat(DataLoader(Computing(), 5, num_workers=2)))
    assert all(flat(DataLoader(Computing(), 5, num_workers=2)))


def test_prefetch_is_bounded_and_ahead() -> None:
    asked: list[int] = []

    class Asked(Squares):
        def __getitem__(self, index: int) -> tuple[int, int]:
            asked.append(index)
            return super().__getitem__(index)

    loader = iter(DataLoader(Asked(100), 1, num_workers=2, prefetch_factor=3))
    for served in range(1, 5):
        next(loader)
        for _ in range(1000):  # the workers go on while the loop does something else
            if len(asked) == served + 5:
                break
            time.sleep(0.005)
        time.sleep(0.01)
        assert len(asked) == served + 5
    del loader


def test_workers_really_overlap() -> None:
    """Three items meet at a barrier, which they can only if three threads fetch at once."""
    barrier = threading.Barrier(3, timeout=30)

    class Meeting(Squares):
        def __getitem__(self, index: int) -> tuple[int, int]:
            barrier.wait()
            return super().__getitem__(index)

    assert flat(DataLoader(Meeting(6), 1, num_workers=3)) == list(range(6))


@pytest.mark.parametrize("dataset", [Squares(1000), Stream(1000)])
def test_breaking_off_leaves_nothing(dataset: Any) -> None:
    before = threading.active_count()
    loader = DataLoader(dataset, 2, num_workers=3)
    for _ in range(5):
        for _batch in loader:
            break
        assert threading.active_count() == before
    iterator = iter(loader)
    next(iterator)
    assert threading.active_count() > before
    del iterator
    assert threading.active_count() == before
    gone = weakref.ref(loader)
    del loader
    assert gone() is None  # by reference count alone


def test_timeout() -> None:
    release = threading.Event()

    class Stuck(Squares):
        def __getitem__(self, index: int) -> tuple[int, int]:
            release.wait(30)
            return super().__getitem__(index)

    loader = iter(DataLoader(Stuck(), 2, num_workers=1, timeout=0.05))
    timer = threading.Timer(0.3, release.set)
    timer.start()
    with pytest.raises(RuntimeError, match=r"timed out after 0.05 seconds, waiting for batch 0"):
        next(loader)
    timer.join()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's answer to Ctrl-C, which a process that a shell starts in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals between threads")
def test_keyboard_interrupt_stops_the_workers(interruptible: None) -> None:
    waiting, consumed, release = threading.Event(), threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    class Waiting(Squares):
        def __getitem__(self, index: int) -> tuple[int, int]:
            if index == 4:
                waiting.set()
                release.wait(30)
            return super().__getitem__(index)

    def interrupt() -> None:
        waiting.wait(30)
        consumed.wait(30)
        time.sleep(0.05)  # the main thread goes from its last batch to waiting for the next
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.05)
        release.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for batch in DataLoader(Waiting(), 1, num_workers=2):
            seen.append(batch[0].item())
            if len(seen) == 4:
                consumed.set()
    thread.join()
    assert seen == [0, 1, 2, 3]


def test_a_program_may_end_in_the_middle_of_a_pass() -> None:
    """The interpreter neither waits for the workers nor prints an error."""
    code = """
import time, tensorlite as tl
class Slow(tl.data.Dataset):
    def __len__(self): return 1000
    def __getitem__(self, index):
        if index > 2: time.sleep(60)
        return index
iterator = iter(tl.data.DataLoader(Slow(), num_workers=2))
print(next(iterator).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_mid_pass_is_an_error_not_a_hang() -> None:
    code = """
import os, sys, tensorlite as tl
iterator = iter(tl.data.DataLoader(range(100), num_workers=2))
next(iterator)
child = os.fork()
if child:
    rest = len(list(iterator))
    print(os.waitpid(child, 0)[1], rest)
else:
    try:
        list(iterator)
    except RuntimeError as error:
        fresh = list(tl.data.DataLoader(range(9), num_workers=1))
        os._exit(0 if "begin a new one" in str(error) and len(fresh) == 9 else 2)
    os._exit(1)
"""
    options = ["-W", "ignore::DeprecationWarning"]  # of a fork with threads, since Python 3.12
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 99\n", "")


# ---- resuming ----


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(state)))


RESUMABLE: dict[str, Any] = {
    "sequential": lambda g: DataLoader(Squares(23), 4),
    "shuffled": lambda g: DataLoader(Squares(23), 4, shuffle=True, generator=g),
    "tensors": lambda g: DataLoader(TensorDataset(tl.arange(23)), 4, shuffle=True, generator=g),
    "workers": lambda g: DataLoader(Squares(23), 4, shuffle=True, generator=g, num_workers=2),
    "noisy workers": lambda g: DataLoader(Noisy(23), 4, shuffle=True, generator=g, num_workers=2),
    "replacement": lambda g: DataLoader(Squares(23), 4, sampler=RandomSampler(range(23), True, 37, g)),
    "weighted": lambda g: DataLoader(Squares(3), 4, sampler=WeightedRandomSampler([1, 2, 3], 25, generator=g)),
    "batch sampler": lambda g: DataLoader(
        Squares(23), batch_sampler=BatchSampler(RandomSampler(range(23), generator=g), 4)
    ),
    "no batching": lambda g: DataLoader(Squares(23), None, shuffle=True, generator=g),
    "stream": lambda g: DataLoader(Stream(23), 4),
    "stream worker": lambda g: DataLoader(Stream(23), 4, num_workers=2),
    "stream items": lambda g: DataLoader(Stream(23), None),
}


@pytest.mark.parametrize("make", RESUMABLE.values(), ids=RESUMABLE)
@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("stop", [0, 1, 3, 5, 6, 7, 9])
def test_resumed_equals_uninterrupted(make: Any, own_generator: bool, stop: int) -> None:
    """Two epochs, stopped after `stop` batches; the rest, from a new loader, is what would have come.

    Random numbers drawn in the loop, as by dropout, come from tensorlite's own generator, and are the same too.
    """

    def loop(loader: Any, epochs: int, out: list[Any], stop: int = -1) -> int:
        for epoch in range(epochs):
            for batch in loader:
                out.append((plain(batch), tl.rand(1).item()))
                if len(out) == stop:
                    return epochs - epoch
        return 0

    tl.manual_seed(5)
    whole: list[Any] = []
    loop(make(seeded(9) if own_generator else None), 2, whole)

    tl.manual_seed(5)
    first: list[Any] = []
    loader = make(seeded(9) if own_generator else None)
    left = loop(loader, 2, first, stop) if stop else 2
    state, random = through_json(loader.state_dict()), tl.get_rng_state()

    tl.manual_seed(77)
    resumed = make(seeded(8) if own_generator else None)
    resumed.load_state_dict(state)
    assert through_json(resumed.state_dict()) == state
    tl.set_rng_state(random)
    rest: list[Any] = []
    loop(resumed, left, rest)
    assert first + rest == whole


def test_state_at_the_end_of_an_epoch() -> None:
    loader = DataLoader(Squares(6), 2, shuffle=True, generator=seeded())
    for _ in loader:
        last = loader.state_dict()
    resumed = DataLoader(Squares(6), 2, shuffle=True, generator=seeded(1))
    resumed.load_state_dict(last)
    assert list(resumed) == []  # this epoch has no more batches
    expected = flat(loader)
    assert flat(resumed) == expected
    after = loader.state_dict()
    assert after["batches"] == 0 and after["seed"] is None


def test_a_new_pass_forgets_the_old_position() -> None:
    loader = DataLoader(Squares(6), 2)
    for _ in loader:
        break
    assert loader.state_dict()["batches"] == 1
    assert len(list(loader)) == 3 and loader.state_dict()["batches"] == 0


def test_samplers_of_ones_own_are_resumed_by_replay() -> None:
    class Backwards(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(9, -1, -1))

    class Changed(RandomSampler):
        """Has an inherited order(), which is not the order of its __iter__."""

        def __iter__(self) -> Iterator[int]:
            return iter(range(9, -1, -1))

    for sampler in (Backwards(), Changed(range(10)), list(range(9, -1, -1))):
        loader = DataLoader(Squares(), 2, sampler=sampler)
        iterator = iter(loader)
        next(iterator), next(iterator)
        resumed = DataLoader(Squares(), 2, sampler=sampler)
        resumed.load_state_dict(loader.state_dict())
        assert flat(resumed) == [5, 4, 3, 2, 1, 0]
        assert flat(resumed) == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"batch_size": 3}, "the state has batch_size 3, this loader 2"),
        ({"size": 7}, "the state has size 7, this loader 6"),
        ({"generator": None}, "generator of its own"),
        ({"more": 1}, "keys"),
        ({"generator": [1]}, "set_state"),
    ],
)
def test_states_that_do_not_fit_change_nothing(change: dict[str, Any], match: str) -> None:
    generator = seeded()
    loader = DataLoader(Squares(6), 2, shuffle=True, generator=generator)
    next(iter(loader))
    before = loader.state_dict()
    with pytest.raises(ArgumentError, match=match):
        loader.load_state_dict(before | change)
    assert loader.state_dict() == before


def test_checkpoint_round_trip(tmp_path: Any) -> None:
    """With the model's checkpoint: save in mid-epoch, go on; a fresh process would do the same."""
    model = tl.nn.Linear(1, 1)
    loader = DataLoader(TensorDataset(tl.arange(10)), 3, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    tl.save_checkpoint(tmp_path / "c.safetensors", model=model, loader=loader)
    expected = [batch[0].tolist() for batch in iterator] + flat(loader)
    tl.manual_seed(123)
    fresh = DataLoader(TensorDataset(tl.arange(10)), 3, shuffle=True)
    tl.load_checkpoint(tmp_path / "c.safetensors", model=tl.nn.Linear(1, 1), loader=fresh)
    got = [batch[0].tolist() for batch in fresh] + flat(fresh)
    assert got == expected
