"""Meters beside the same numbers from NumPy, over batches, devices and captured steps; collections and histories."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.insight import meters
from tensorlite.nn import functional as F

Batch = tuple[np.ndarray, np.ndarray]
CLASSES = 4


def batches(seed: int = 0, shape: tuple[int, ...] = ()) -> list[Batch]:
    """Scores (N, C, ...) with many ties, and classes (N, ...), in batches of several sizes."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(-2, 3, (n, CLASSES, *shape)).astype(np.float32) / 2, rng.integers(0, CLASSES, (n, *shape)))
            for n in (5, 1, 8, 3)]


def fed(meter: Any, given: list[Batch], device: str = "cpu") -> Any:
    for x, y in given:
        second = () if isinstance(meter, meters.Mean) else (tl.tensor(y, device=device),)
        meter.update(tl.tensor(x, device=device), *second)
    return meter.compute()


def joined(given: list[Batch]) -> Batch:
    """All scores (M, C) and classes (M,)."""
    scores = np.concatenate([np.moveaxis(x, 1, -1).reshape(-1, CLASSES) for x, _ in given])
    return scores, np.concatenate([y.reshape(-1) for _, y in given])


# --- classifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("k", [1, 2, CLASSES])
@pytest.mark.parametrize("ignore", [None, 2, -1])
def test_accuracy(k: int, shape: tuple[int, ...], ignore: int | None, device: str) -> None:
    given = batches(1, shape)
    scores, target = joined(given)
    if ignore == -1:
        for _, y in given:
            y.reshape(-1)[::3] = -1
        target = joined(given)[1]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # of equal scores the first
    counted = target != ignore
    expected = (best == target[:, None]).any(1)[counted].mean()
    assert fed(meters.Accuracy(k, ignore), given, device) == expected
    if k == 1:
        labels = [(x.argmax(1), y) for x, y in given]
        assert fed(meters.Accuracy(1, ignore), labels, device) == expected


def test_accuracy_of_nan_and_infinity() -> None:
    nan, inf = math.nan, math.inf
    rows = [([nan, 1.0], 0, False), ([nan, 1.0], 1, False), ([nan, nan], 0, False), ([inf, 1.0], 0, True),
            ([-inf, -inf], 0, True), ([-inf, -inf], 1, False), ([inf, inf], 1, False), ([0.0, -0.0], 0, True)]
    for scores, target, right in rows:
        accuracy = meters.Accuracy()
        accuracy.update(tl.tensor([scores]), tl.tensor([target]))
        assert accuracy.compute() == right, (scores, target)


def confusion(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for predicted, right in zip(scores.argmax(1), target, strict=True):
        counts[right, predicted] += 1
    return counts


@pytest.mark.parametrize("shape", [(), (2, 2)])
@pytest.mark.parametrize("ignore", [None, 1, -100])
def test_confusion_matrix(shape: tuple[int, ...], ignore: int | None, device: str) -> None:
    given = batches(2, shape)
    if ignore == -100:
        for _, y in given:
            y.reshape(-1)[0] = -100
    scores, target = joined(given)
    counted = target != ignore
    found = fed(meters.ConfusionMatrix(CLASSES, ignore), given, device)
    assert found.dtype is tl.int64
    np.testing.assert_array_equal(found.numpy(), confusion(scores[counted], target[counted]))


def rates(counts: np.ndarray, kind: str) -> list[float]:
    """By the definitions, class by class."""
    found = []
    for c in range(len(counts)):
        hit = counts[c, c]
        below = {"Precision": counts[:, c].sum(), "Recall": counts[c].sum(),
                 "F1": (counts[:, c].sum() + counts[c].sum()) / 2}[kind]
        found.append(hit / below if below else 0.0)
    return found


@pytest.mark.parametrize("kind", ["Precision", "Recall", "F1"])
@pytest.mark.parametrize("absent", [None, "target", "everywhere"])
def test_precision_recall_f1(kind: str, absent: str | None, device: str) -> None:
    given = batches(3)
    for x, y in given:
        if absent is not None:
            y[y == 2] = 0
        if absent == "everywhere":
            x[:, 2] = -9.0
    scores, target = joined(given)
    counts = confusion(scores, target)
    each, present = rates(counts, kind), counts.sum(1)
    occurs = (counts.sum(0) + present) > 0
    make = getattr(meters, kind)
    found = fed(make(CLASSES, average=None), given, device)
    assert found.dtype is tl.float64
    np.testing.assert_allclose(found.numpy(), each, rtol=1e-15)
    assert fed(make(CLASSES), given, device) == pytest.approx(np.mean(np.array(each)[occurs]), rel=1e-14)
    assert fed(make(CLASSES, "weighted"), given, device) == pytest.approx(np.average(each, weights=present), rel=1e-14)
    assert fed(make(CLASSES, "micro"), given, device) == pytest.approx(np.trace(counts) / counts.sum(), rel=1e-14)


# --- means ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float32, tl.float64, tl.int32, tl.bool])
def test_mean_of_every_dtype(dtype: Any, device: str) -> None:
    values = [tl.tensor(v, device=device).to(dtype) for v in ([1.0, 2.5, 0.1], [[3.0]], 7.0)]
    mean = meters.Mean()
    for value in values:
        mean.update(value)
    wide = np.concatenate([v.double().cpu().numpy().reshape(-1) for v in values])
    assert mean.compute() == pytest.approx(wide.mean(), rel=1e-15)


def test_mean_is_exact_where_float32_is_not(device: str) -> None:
    mean = meters.Mean()
    mean.update(tl.tensor([2.0**24], device=device))
    for _ in range(10):
        mean.update(tl.ones(1, device=device))
    assert mean.compute() * 11 == 2.0**24 + 10
    mean.reset()
    mean.update(tl.full((4,), 60000.0, dtype=tl.float16, device=device))
    assert mean.compute() == 60000.0, "the sum is above what float16 holds"


def test_weights(device: str) -> None:
    x, w = np.arange(6.0).reshape(2, 3), np.array([[1.0], [3.0]])
    mean = meters.Mean()
    mean.update(tl.tensor(x, device=device), tl.tensor(w, device=device))
    mean.update(10.0, 2)
    mean.update(np.float32(4.0), tl.tensor(2))
    expected = ((x * w).sum() + 20 + 8) / ((w + 0 * x).sum() + 4)
    assert mean.compute() == pytest.approx(expected, rel=1e-15)


def test_a_mean_loss_weighted_with_its_batch_is_the_loss_of_all() -> None:
    given = batches(5)
    scores, target = joined(given)
    mean, perplexity = meters.Mean(), meters.Perplexity()
    for x, y in given:
        mean.update(F.cross_entropy(tl.tensor(x), tl.tensor(y)), len(y))
        perplexity.update(tl.tensor(x), tl.tensor(y))
    whole = F.cross_entropy(tl.tensor(scores).double(), tl.tensor(target)).item()
    assert mean.compute() == pytest.approx(whole, rel=1e-6)
    assert perplexity.compute() == pytest.approx(math.exp(whole), rel=1e-6)


def test_perplexity_of_many_tokens_and_ignored_ones(device: str) -> None:
    scores = np.random.default_rng(0).standard_normal((3, CLASSES, 5))
    target = np.random.default_rng(1).integers(0, CLASSES, (3, 5))
    target[0, :3] = -100
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    picked = [logs[n, target[n, t], t] for n in range(3) for t in range(5) if target[n, t] >= 0]
    assert fed(meters.Perplexity(), [(scores, target)], device) == pytest.approx(math.exp(-np.mean(picked)), rel=1e-12)
    assert math.isnan(meters.Perplexity().compute())
    hopeless = meters.Perplexity()
    hopeless.update(tl.tensor([[0.0, -1e4]]), tl.tensor([1]))
    assert hopeless.compute() == math.inf


@pytest.mark.parametrize(("make", "expected"), [
    (meters.MeanSquaredError, lambda d: (d**2).mean()), (meters.MeanAbsoluteError, lambda d: abs(d).mean()),
    (lambda: meters.MeanSquaredError(root=True), lambda d: math.sqrt((d**2).mean()))])
def test_errors_of_regression(make: Any, expected: Any, device: str) -> None:
    rng = np.random.default_rng(0)
    given = [(rng.standard_normal((n, 2)).astype(np.float32), rng.integers(-2, 3, (n, 2))) for n in (3, 4)]
    differences = np.concatenate([x.astype(np.float64) - y for x, y in given])
    assert fed(make(), given, device) == pytest.approx(expected(differences), rel=1e-14)


def test_throughput() -> None:
    rate = meters.Throughput(clock=iter([10.0, 12.0, 15.0, 20.0, 21.0]).__next__)
    assert math.isnan(rate.compute())
    for count in (100, 40, 60):
        rate.update(count)
    assert rate.compute() == 100 / 5
    rate.reset()
    for count in (7, 8):
        rate.update(count)
    assert rate.compute() == 8.0
    other = meters.Throughput(clock=iter([0.0, 4.0]).__next__)
    other.update()
    other.update(12)
    assert rate.merge(other).compute() == 20 / 4
    assert rate.text(12345.6) == "12,346/s" and rate.text(1.25) == "1.25/s"


# --- what all meters have -------------------------------------------------------------------------------------------


MAKERS: dict[str, Any] = {
    "mean": meters.Mean, "accuracy": meters.Accuracy, "top2": lambda: meters.Accuracy(2, ignore_index=1),
    "matrix": lambda: meters.ConfusionMatrix(CLASSES), "f1": lambda: meters.F1(CLASSES, average=None),
    "perplexity": meters.Perplexity}


def numbers(value: Any) -> Any:
    return value.tolist() if isinstance(value, tl.Tensor) else value


@pytest.mark.parametrize("name", MAKERS)
def test_merged_meters_are_one_that_saw_all(name: str, device: str) -> None:
    given = batches(6)
    whole, parts = MAKERS[name](), [MAKERS[name]() for _ in range(2)]
    expected = numbers(fed(whole, given, device))
    fed(parts[0], given[:2], device)
    fed(parts[1], given[2:], "cpu")
    empty = MAKERS[name]()
    assert numbers(parts[0].merge(parts[1]).merge(empty).compute()) == expected
    assert numbers(empty.merge(parts[0]).compute()) == expected


@pytest.mark.parametrize("name", MAKERS)
def test_reset_forgets_and_nothing_is_recorded(name: str, device: str) -> None:
    meter = MAKERS[name]()
    scores = tl.ones(2, CLASSES, device=device, requires_grad=True) * 2
    meter.update(scores, tl.tensor([0, 1], device=device) if name != "mean" else 1.0)
    assert all(not total.requires_grad and total.device == scores.device for total in meter._sums.values())
    assert all(total.dtype in (tl.float64, tl.int64) for total in meter._sums.values())
    meter.reset()
    empty = MAKERS[name]().compute()
    np.testing.assert_array_equal(numbers(meter.compute()), numbers(empty))


def test_sums_move_to_the_device_of_the_next_update() -> None:
    if "cuda:sim" not in tl.testing.devices():
        pytest.skip("one device")
    mean = meters.Mean()
    mean.update(1.0)
    mean.update(tl.tensor([2.0], device="cuda:sim"))
    mean.update(3.0)
    assert str(mean._sums["total"].device) == "cuda:sim"
    mean.update(tl.tensor([6.0]))
    assert mean.compute() == 3.0


def step_of(collection: tl.Meters, model: nn.Module, optimizer: optim.Optimizer) -> Any:
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        scores = model(x)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        collection.update(mean=(loss, len(y)), accuracy=(scores, y), top2=(scores, y), matrix=(scores, y),
                          f1=(scores, y), perplexity=(scores, y))
        return loss.detach()

    return step


def test_updates_in_a_captured_step(device: str) -> None:
    """Replays add up as the step itself does, over resets too; the meters hold the numbers when they are read."""
    tl.manual_seed(0)
    given = [(tl.randn(6, 3).to(device), tl.randint(CLASSES, (6,)).to(device)) for _ in range(5)]
    results = []
    for wrap in (lambda step: step, tl.capture):
        tl.manual_seed(1)
        model = nn.Linear(3, CLASSES).to(device)
        collection = tl.Meters(**{name: make() for name, make in MAKERS.items()})
        step = wrap(step_of(collection, model, optim.SGD(model.parameters(), lr=0.1)))
        epochs = []
        for _ in range(2):
            for x, y in given:
                step(x, y)
            epochs.append({name: numbers(value) for name, value in collection.end_epoch().items()})
        results.append(epochs)
    assert results[0] == results[1]
    assert results[0][0] != results[0][1]


def test_what_cannot_be_in_a_captured_step_is_refused() -> None:
    rate, mean = meters.Throughput(), meters.Mean()

    def step(x: tl.Tensor, what: str) -> tl.Tensor:
        mean.update(x)
        if what == "clock":
            rate.update(1)
        elif what == "compute":
            mean.compute()
        return x * 2

    for what, message in (("clock", r"Throughput.update\(\), which reads the clock, cannot be part"),
                          ("compute", "a number on the host")):
        captured = tl.capture(step)
        captured(tl.ones(2, device="cpu"), what)
        with pytest.raises(tl.CaptureError, match=message if what == "clock" else "cannot be part of a captured step"):
            captured(tl.ones(2, device="cpu"), what)


def test_autocast_and_no_grad_change_nothing() -> None:
    x, y = tl.tensor(batches(7)[0][0]), tl.tensor(batches(7)[0][1])
    for name, make in MAKERS.items():
        inside, outside = make(), make()
        given = (x, 1.0) if name == "mean" else (x, y)
        with tl.autocast("cpu", tl.bfloat16), tl.no_grad():
            inside.update(*given)
        outside.update(*given)
        assert numbers(inside.compute()) == numbers(outside.compute()), name


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: meters.Accuracy(0), tl.ArgumentError, "top_k must be a positive integer, got 0"),
    (lambda: meters.Accuracy(5).update(tl.ones(1, 4), tl.tensor([0])), tl.ArgumentError, "top_k=5, but there are 4"),
    (lambda: meters.Accuracy(2).update(tl.tensor([1]), tl.tensor([0])), tl.ArgumentError, "top_k=2 needs scores"),
    (lambda: meters.Accuracy().update(tl.ones(3), tl.tensor([0, 1, 1])), tl.DTypeError, "pass scores > 0, of prob"),
    (lambda: meters.Accuracy().update(tl.ones(1, 3), tl.ones(1)), tl.DTypeError, "targets are classes, integers, got"),
    (lambda: meters.Accuracy().update(tl.ones(4, 3), tl.tensor([1])), tl.ShapeError, r"got \(4, 3\) for \(1,\)"),
    (lambda: meters.Accuracy().update(tl.ones(1, 3), tl.tensor([3])), tl.OutOfRangeError, "index 3"),
    (lambda: meters.Accuracy().update("ab", tl.tensor([3])), tl.DTypeError, "expected a Tensor or an array, got str"),
    (lambda: meters.ConfusionMatrix(0), tl.ArgumentError, "num_classes must be a positive integer, got 0"),
    (lambda: meters.ConfusionMatrix(2).update(tl.ones(1, 3), tl.tensor([0])), tl.ShapeError, "scores of 2 classes"),
    (lambda: meters.ConfusionMatrix(2).update(tl.tensor([0]), tl.tensor([2])), tl.OutOfRangeError, "index 2"),
    (lambda: meters.ConfusionMatrix(2).update(tl.tensor([0]), tl.tensor([-1])), tl.OutOfRangeError, "index -1"),
    (lambda: meters.ConfusionMatrix(2).update(tl.tensor([2]), tl.tensor([0])), tl.OutOfRangeError, "index 2"),
    (lambda: meters.F1(2, average="mean"), tl.ArgumentError, 'F1: average must be "macro", "micro", "weighted"'),
    (lambda: meters.MeanSquaredError().update(tl.ones(3, 1), tl.ones(3)), tl.ShapeError, r"\(3, 1\), the target \(3,"),
    (lambda: meters.Throughput().update(tl.ones(1)), tl.ArgumentError, "expected a number of items, got Tensor"),
    (lambda: meters.Mean().merge(meters.Perplexity()), tl.ArgumentError, r"expected another Mean\(\), got Perplexity"),
    (lambda: meters.F1(2).merge(meters.F1(3)), tl.ArgumentError, r"F1\(num_classes=2, ignore_index=None, average='ma"),
    (lambda: tl.Meter().update(1), NotImplementedError, "Meter is missing its update method"),
    (lambda: tl.Meter().compute(), NotImplementedError, "Meter is missing its compute method"),
    (lambda: tl.Meters(loss=1.0), tl.ArgumentError, "loss must be a Meter, got float"),  # type: ignore[arg-type]
    (lambda: tl.Meters(update=meters.Mean()), tl.ArgumentError, "'update' is a name of Meters' own"),
    (lambda: tl.Meters(history=meters.Mean()), tl.ArgumentError, "'history' is a name of Meters' own"),
    (lambda: tl.Meters(a=meters.Mean()).update(b=1.0), tl.ArgumentError, "there is no 'b', only 'a'"),
    (lambda: tl.Meters(a=meters.Mean())["b"], tl.ArgumentError, "there is no 'b', only 'a'"),
    (lambda: tl.Meters().b, AttributeError, "Meters has no meter 'b', only none"),
    (lambda: tl.Meters(a=meters.Mean()).merge(tl.Meters(b=meters.Mean())), tl.ArgumentError, r"\['a'\], got \['b'\]"),
])
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- collections and histories ----------------------------------------------------------------------------------------


def test_a_collection_over_epochs() -> None:
    collection = tl.Meters(loss=meters.Mean(), accuracy=meters.Accuracy(), matrix=meters.ConfusionMatrix(2))
    for epoch in range(3):
        collection.loss.update(float(epoch))
        collection["accuracy"].update(tl.tensor([0, 1]), tl.tensor([0, epoch % 2]))
        values = collection.end_epoch(rate=0.1 * epoch)
        assert list(values) == ["loss", "accuracy", "matrix", "rate"]
    assert collection.history == {"loss": [0.0, 1.0, 2.0], "accuracy": [0.5, 1.0, 0.5], "rate": [0.0, 0.1, 0.2]}
    assert list(collection) == ["loss", "accuracy", "matrix"] and len(collection) == 3
    assert str(collection) == "loss nan, accuracy nan%, matrix of shape (2, 2)"
    assert repr(collection).startswith("Meters(loss=Mean(), accuracy=Accuracy(top_k=1, ignore_index=None), matrix=Con")


def test_an_unknown_name_leaves_all_meters_alone() -> None:
    collection = tl.Meters(a=meters.Mean())
    with pytest.raises(tl.ArgumentError):
        collection.update(a=1.0, b=2.0)
    assert math.isnan(collection.a.compute())


def test_collections_merge() -> None:
    one, other = (tl.Meters(a=meters.Mean(), b=meters.Accuracy()) for _ in range(2))
    one.update(a=1.0, b=(tl.tensor([1]), tl.tensor([1])))
    other.update(a=(4.0, 2), b=(tl.tensor([1]), tl.tensor([0])))
    assert one.merge(other).compute() == {"a": 3.0, "b": 0.5}


def test_a_history_with_gaps() -> None:
    history = tl.History()
    assert history.epochs == 0 and str(history) == "epoch\n-----"
    history.append(a=1)
    history.append(a=2, b=3)
    history.append(b=4)
    assert history.epochs == 3
    assert json.dumps(history) == '{"a": [1.0, 2.0, NaN], "b": [NaN, 3.0, 4.0]}'
    resumed = tl.History(json.loads(json.dumps(history)))
    resumed.append(a=5)
    assert resumed["a"][-1] == 5.0 and math.isnan(resumed["b"][-1])


def test_a_history_travels_in_a_checkpoint(tmp_path: Path) -> None:
    history = tl.History(loss=[1.0, 0.5])
    tl.save_checkpoint(tmp_path / "run.safetensors", history=history)
    assert tl.History(tl.load_checkpoint(tmp_path / "run.safetensors")["history"]) == history


# --- curves -----------------------------------------------------------------------------------------------------------


def test_curves_become_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    history = tl.History()
    for epoch in range(8):
        history.append(**{"training loss": 2.0**-epoch, "test loss": 1.5**-epoch, "accuracy": 1 - 0.5**epoch,
                          "learning_rate": 0.1})
    history.plot(tmp_path / "curves.png", title="a run", log=["loss"])
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 2.5 * pixels.shape[0], "three panels side by side"
    panels = np.array_split(pixels, 3, axis=1)
    for color, per_panel in (((31, 119, 180), [True, True, True]), ((255, 127, 14), [True, False, False])):
        assert [bool((panel == color).all(-1).any()) for panel in panels] == per_panel


def test_curves_need_numbers_and_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tl.ArgumentError, match="no numbers to draw"):
        tl.History().plot(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot_curves needs matplotlib: pip install 'tensorlite\[plot\]'"):
        tl.History(loss=[1.0]).plot(tmp_path / "x.png")


def test_all_meters_are_tested_here() -> None:
    made = {type(make()).__name__ for make in MAKERS.values()}
    named = {name for name, value in vars(meters).items() if isinstance(value, type) and issubclass(value, tl.Meter)}
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(name in made or f"meters.{name}" in source or f'"{name}"' in source for name in named - {"Meter"})
