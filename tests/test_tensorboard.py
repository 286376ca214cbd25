"""tl.SummaryWriter: what it writes is read back from the event files, by TensorBoard's reader where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.insight.graph_nodes import GraphNode, graph_nodes
from tensorlite.nn import functional as F

pytest.importorskip("tensorboardX")


def events(folder: Path) -> Iterator[Any]:
    """The events of a folder's files: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            yield Event.FromString(data[12:12 + length])
            data = data[16 + length:]


def values(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """(step, value) by tag."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
    return found


def graph_of(folder: Path) -> Any:
    from tensorboardX.proto.graph_pb2 import GraphDef

    (data,) = [event.graph_def for event in events(folder) if event.graph_def]
    return GraphDef.FromString(data)


def test_scalars(tmp_path: Path, device: str) -> None:
    with tl.SummaryWriter(tmp_path) as writer:
        assert Path(writer.log_dir) == tmp_path
        for step, value in enumerate([1, 0.5, np.float32(0.25), tl.tensor(0.125, device=device),
                                      tl.tensor([[0.75]], dtype=tl.bfloat16, device=device),
                                      tl.tensor(2.0, requires_grad=True), tl.tensor(True, device=device)]):
            writer.add_scalar("loss", value, step, walltime=100.0 + step)
    assert [(step, v.simple_value) for step, v in values(tmp_path)["loss"]] == [
        (0, 1.0), (1, 0.5), (2, 0.25), (3, 0.125), (4, 0.75), (5, 2.0), (6, 1.0)]
    assert [e.wall_time for e in events(tmp_path) if e.summary.value] == [100.0 + step for step in range(7)]


def test_scalars_in_one_panel(tmp_path: Path) -> None:
    with tl.SummaryWriter(log_dir=str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalars("loss", {"training": step, "test": tl.tensor(2.0 * step)}, step)
    for tag, factor in (("training", 1), ("test", 2)):
        found = values(tmp_path / "loss" / tag)
        assert [(step, v.simple_value) for step, v in found["loss"]] == [(step, factor * step) for step in range(3)]


def test_histograms(tmp_path: Path, device: str) -> None:
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    with tl.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("w", tl.tensor(x, device=device), 3)
        writer.add_histogram("half", tl.tensor([1.0, float("nan"), 3.0, float("inf")], dtype=tl.float16, device=device))
        writer.add_histogram("ten", tl.arange(100), bins="auto", max_bins=10)
    found = values(tmp_path)
    (step, value), = found["w"]
    histogram = value.histo
    assert step == 3 and histogram.num == 200
    assert histogram.sum == pytest.approx(x.astype(np.float64).sum(), rel=1e-12)
    assert histogram.sum_squares == pytest.approx((x.astype(np.float64) ** 2).sum(), rel=1e-12)
    assert (histogram.min, histogram.max) == (x.min(), x.max())
    assert sum(histogram.bucket) == 200
    limits = [-np.inf, *histogram.bucket_limit]
    for low, high, count in zip(limits, limits[1:], histogram.bucket, strict=False):
        assert ((x > low) & (x <= high)).sum() == pytest.approx(count, abs=1)
    narrow = found["half"][0][1].histo
    assert (narrow.num, narrow.min, narrow.max, narrow.sum) == (2, 1.0, 3.0, 4.0)


def test_what_is_written_is_of_the_moment(tmp_path: Path) -> None:
    """The writer works in a thread of its own, and a captured step overwrites its results."""
    x = tl.zeros(4)
    with tl.SummaryWriter(tmp_path) as writer:
        for step in range(4):
            writer.add_histogram("x", x, step)
            x += 1.0
    assert [v.histo.sum for _, v in values(tmp_path)["x"]] == [0.0, 4.0, 8.0, 12.0]


def test_images(tmp_path: Path, device: str) -> None:
    image = pytest.importorskip("PIL.Image")
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), np.uint8)
    with tl.SummaryWriter(tmp_path) as writer:
        writer.add_image("bytes", tl.tensor(pixels, device=device))
        writer.add_image("floats", tl.tensor(pixels / 255, device=device), 1)
        writer.add_image("last", tl.tensor(pixels, device=device).permute(1, 2, 0), dataformats="HWC")
        writer.add_images("batch", tl.tensor(pixels, device=device).unsqueeze(1))
    found = values(tmp_path)
    for tag in ("bytes", "floats", "last"):
        (_, value), = found[tag]
        assert (value.image.height, value.image.width) == (5, 7)
        picture = np.asarray(image.open(io.BytesIO(value.image.encoded_image_string)))
        difference = picture.astype(int) - pixels.transpose(1, 2, 0)
        assert abs(difference).max() <= (1 if tag == "floats" else 0)
    assert found["batch"][0][1].image.width >= 7


def test_a_closed_writer_opens_another_file(tmp_path: Path) -> None:
    writer = tl.SummaryWriter(tmp_path, purge_step=0, filename_suffix=".a")
    writer.add_scalar("loss", 1.0, 0)
    writer.close()
    writer.close()
    writer.add_scalar("loss", 2.0, 1)
    writer.close()
    with tl.SummaryWriter(tmp_path) as other:  # all within a second, by which tensorboardX names its files
        other.add_scalar("loss", 3.0, 2)
    assert sorted(step for step, _ in values(tmp_path)["loss"]) == [0, 1, 2]
    assert len([event for event in events(tmp_path) if event.session_log.status]) == 1, "it purges once"


def test_texts_and_other_methods_of_tensorboardx(tmp_path: Path, device: str) -> None:
    with tl.SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "**lr** 0.1", 2)
        writer.add_pr_curve("pr", tl.tensor([1, 0, 1, 1], device=device), tl.tensor([0.9, 0.2, 0.4, 0.8]), 5)
        with pytest.raises(AttributeError, match="no attribute 'add_nothing'"):
            writer.add_nothing()
        with pytest.raises(AttributeError, match="no attribute 'file_writer'"):
            writer.file_writer.close()
        writer.flush()
    assert {"note/text_summary", "pr"} <= set(values(tmp_path))
    (step, value), = values(tmp_path)["note/text_summary"]
    assert step == 2 and value.tensor.string_val == [b"**lr** 0.1"]


def test_tensorboard_itself_reads_it(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tl.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", tl.tensor(0.5), 7)
        writer.add_histogram("w", tl.arange(10.0), 7)
        writer.add_image("digit", tl.zeros(1, 4, 4))
        writer.add_graph(nn.Linear(2, 3), tl.ones(1, 2))
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    tags = read.Tags()
    assert (tags["scalars"], tags["histograms"], tags["images"], tags["graph"]) == (["loss"], ["w"], ["digit"], True)
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(7, 0.5)]
    assert [node.name for node in read.Graph().node] == [
        "input/0", "Linear/weight", "Linear/bias", "Linear/linear", "output/0"]


# --- the graph --------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Indices, a list, a module called twice, a shared Parameter, a constant, a frozen layer, two results."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.layers = [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())]
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.bias = tl.zeros(10, requires_grad=True)

    def forward(self, i: tl.Tensor, scale: tl.Tensor) -> dict[str, tl.Tensor]:
        x = self.embedding(i) * scale
        x = self.layers[0](self.layers[0](x))
        x = self.frozen(self.layers[1](x))
        return {"scores": F.dropout(self.head(x) + self.bias, 0.5), "index": i + 1}


def inputs() -> tuple[tl.Tensor, tl.Tensor]:
    return tl.tensor([[1, 2, 3]]), tl.ones(4)


def by_name(nodes: list[GraphNode]) -> dict[str, GraphNode]:
    return {node.name: node for node in nodes}


def test_a_graph_of_all_sorts() -> None:
    tl.manual_seed(0)
    model = Net()
    before = tl.get_rng_state().tolist()
    nodes = graph_nodes(model, *inputs())
    assert tl.get_rng_state().tolist() == before
    found = by_name(nodes)
    assert len(found) == len(nodes), "names are unique"
    known: set[str] = set()
    for node in nodes:
        assert set(node.inputs) <= known, f"{node.name} comes before what it takes"
        known.add(node.name)
    table = "Net/Embedding[embedding]/weight"
    assert found["Net/Embedding[embedding]/index"].inputs == (table, "input/0")
    assert found["Net/mul"].inputs == ("Net/Embedding[embedding]/index", "input/1")
    first, again = (found[f"Net/Linear[layers.0]/linear{n}"] for n in ("", "_1"))
    assert again.inputs == (first.name, "Net/Linear[layers.0]/weight", "Net/Linear[layers.0]/bias")
    assert found["Net/Sequential[layers.1]/ReLU[1]/relu"].inputs == ("Net/Sequential[layers.1]/Linear[0]/linear",)
    assert found["Net/Linear[frozen]/linear"].inputs == ("Net/Sequential[layers.1]/ReLU[1]/relu",)
    assert table in found["Net/Linear[head]/linear"].inputs
    assert found["Net/add"].inputs == ("Net/Linear[head]/linear", "constant/tensor")
    assert found["output/0"].inputs == (found["Net/dropout"].name,)
    assert found["output/1"].inputs == ("input/0",)
    assert found["Net/Linear[head]/linear"].shape == (1, 3, 10) and found["input/0"].shape == (1, 3)
    assert found[table].op == "Parameter" and found[table].shape == (10, 4)
    assert "chance=0.5" in found["Net/dropout"].attributes
    assert "array" not in found["Net/Embedding[embedding]/index"].attributes


def test_the_graph_in_the_file_is_that_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Net()
    with tl.SummaryWriter(tmp_path) as writer:
        writer.add_graph(model, list(inputs()), verbose=True)
    written = graph_of(tmp_path)
    nodes = graph_nodes(model, *inputs())
    assert [(n.name, n.op, tuple(n.input)) for n in written.node] == [(n.name, n.op, n.inputs) for n in nodes]
    shapes = [tuple(d.size for d in n.attr["_output_shapes"].list.shape[0].dim) for n in written.node]
    assert shapes == [n.shape for n in nodes]
    assert "output/0 = IO Node(Net/dropout" in capsys.readouterr().out


def test_a_model_that_changes_its_input_in_place() -> None:
    nodes = graph_nodes(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 2)), tl.ones(1, 2))
    found = by_name(nodes)
    assert found["Sequential/Linear[1]/linear"].inputs[0] == "Sequential/ReLU[0]/relu"
    assert found["Sequential/ReLU[0]/relu"].inputs == ("input/0",)


def test_functions_and_checkpoints(device: str) -> None:
    class Twice(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
            return g * 2

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return tl.autograd.checkpoint(self.inner, Twice.apply(x)).sum()

    nodes = graph_nodes(Odd().to(device), tl.ones(1, 2, device=device))
    assert "Odd/Twice" in by_name(nodes) and "Odd/checkpoint" in by_name(nodes)
    assert all("ctx" not in node.attributes and "segment" not in node.attributes for node in nodes)
    assert by_name(nodes)["output/0"].inputs == ("Odd/sum",)


def test_a_large_model_takes_little_time() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    nodes = graph_nodes(nn.TransformerEncoder(layer, 12), tl.ones(1, 3, 8))
    assert sum(node.op == "layer_norm" for node in nodes) == 24


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda w: w.add_scalar("a", tl.ones(2)), tl.ArgumentError, r"'a' must be one number, got float32 of shape \(2,\)"),
    (lambda w: w.add_scalar("a", "x"), tl.ArgumentError, "'a' must be one number"),
    (lambda w: w.add_scalars("a", {"b": tl.ones(0)}), tl.ArgumentError, "'b' must be one number"),
    (lambda w: w.add_histogram("h", tl.ones(0)), tl.ArgumentError, r"'h' has no finite element \(of 0\)"),
    (lambda w: w.add_histogram("h", tl.full((3,), float("nan"))), tl.ArgumentError, r"no finite element \(of 3\)"),
    (lambda w: w.add_graph(nn.Linear(1, 1)), tl.ArgumentError, "give what the model takes"),
    (lambda w: w.add_graph(print, tl.ones(1)), tl.DTypeError, "expected an nn.Module, got builtin"),
])
def test_errors(call: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with tl.SummaryWriter(tmp_path) as writer, pytest.raises(error, match=message):
        call(writer)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tl.SummaryWriter(tmp_path) as writer:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"add_image needs Pillow: pip install 'tensorlite\[tensorboard\]'"):
            writer.add_image("x", tl.zeros(1, 2, 2))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"needs tensorboardX: pip install 'tensorlite\[tensorboard\]'"):
        tl.SummaryWriter(tmp_path)
