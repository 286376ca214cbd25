"""What the page of a tape is made of, without a browser: its data, boxes, numbers and formulas; and Graphviz."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tape_page import EVIL, lenet, pictures, transformer

import tensorlite as tl
from tensorlite import nn
from tensorlite.insight.page import boxes, figures
from tensorlite.insight.page.formulas import Formulas, is_plain
from tensorlite.insight.page.graph import page_data
from tensorlite.nn import functional as F

# --- the page as a file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pictures.NETWORKS)
def test_the_same_tape_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    tape = pictures.NETWORKS[name]()
    for path in ("once", "twice"):
        tape.to_html(tmp_path / path)
    del tape
    pictures.NETWORKS[name]().to_html(str(tmp_path / "again"))
    once = (tmp_path / "once").read_bytes()
    assert (tmp_path / "twice").read_bytes() == once == (tmp_path / "again").read_bytes()


def test_no_grad_is_touched_and_the_graph_is_kept(tmp_path: Path) -> None:
    tape, model = lenet()
    weight = model[0].weight
    weight.grad = tl.ones_like(weight)
    tape.to_html(tmp_path / "page.html")
    assert weight.grad.tolist() == tl.ones_like(weight).tolist()
    assert all(p.grad is None for p in model.parameters() if p is not weight)
    tape.tensor.backward()
    assert all(p.grad is not None for p in model.parameters())


def data_in(path: Path) -> Any:
    """The data of a page, as its scripts read them."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_no_markup_of_a_name_reaches_the_page(tmp_path: Path) -> None:
    model = type(EVIL, (nn.Linear,), {})(2, 2)
    with tl.tape():
        loss = model(tl.ones(1, 2)).sum()
    path = tmp_path / "page.html"
    loss.tape().to_html(path)
    text = path.read_text("utf-8")
    assert text.count("<script") == 2 and text.count("</script") == 2 and "<img" not in text
    assert any(EVIL in box.get("path", "") for box in data_in(path)["boxes"])


def node(data: Any, name: str) -> Any:
    return next(each for each in data["nodes"] if each.get("name") == name)


def test_gradients_of_the_page_are_those_of_backward() -> None:
    tape, model = lenet()
    data = page_data(tape)
    tape.tensor.backward()
    for name, parameter in model.named_parameters():
        stats = data["tensors"][node(data, name)["delta"]]["stats"]
        assert stats["norm"] == pytest.approx(parameter.grad.norm().item(), rel=1e-5)
        assert stats["max"] == pytest.approx(parameter.grad.max().item(), rel=1e-5)


def test_a_leaf_that_is_used_twice_gets_the_sum() -> None:
    w = tl.tensor([1.0, 2.0], requires_grad=True)
    with tl.tape():
        loss = (w * w + w * 3.0).sum()
    data = page_data(loss.tape())
    leaf = node(data, "w")
    assert data["tensors"][leaf["delta"]]["values"] == [5.0, 7.0]
    assert sum(each.get("name") == "w" for each in data["nodes"]) == 1


def test_backward_may_start_from_any_gradient() -> None:
    w = tl.tensor([1.0, 2.0], requires_grad=True)
    with tl.tape():
        y = w * 3.0
    data = page_data(y.tape(), tl.tensor([1.0, 10.0]))
    assert data["tensors"][node(data, "w")["delta"]]["values"] == [3.0, 30.0] and not data["notes"]


def test_every_device_gives_the_page_of_the_cpu(device: str) -> None:
    def data(device: str) -> Any:
        x = tl.tensor([[1.0, 2.0]], device=device)
        w = tl.tensor([[0.5, -1.0]], device=device, requires_grad=True)
        with tl.tape():
            loss = F.linear(x, w).sigmoid().sum()
        return page_data(loss.tape())

    there, here = data(device), data("cpu")
    assert there.pop("device") == str(tl.as_device(device)) and here.pop("device") == "cpu"
    for one, other in zip(there.pop("tensors"), here.pop("tensors"), strict=True):
        assert one["values"] == pytest.approx(other["values"], rel=1e-5)
    assert there == here


def test_what_a_column_is_a_view_of_keeps_its_name() -> None:
    data = page_data(pictures.n3())
    assert node(data, "x")["shape"] == [2]
    x, w = tl.ones(3, 2), tl.ones(2, requires_grad=True)
    with tl.tape():
        loss = (x[0] * w).sum()
    assert node(page_data(loss.tape()), "x[…]")["shape"] == [2]


def test_a_long_chain_has_a_page(tmp_path: Path) -> None:
    x = tl.tensor(1.0, requires_grad=True)
    y = x
    with tl.tape():
        for _ in range(3000):
            y = y * 1.0
    path = tmp_path / "page.html"
    y.tape().to_html(path)
    data = data_in(path)
    assert [box.get("count") for box in data["boxes"] if box["kind"] == "repeat"] == [3000]
    assert path.stat().st_size < 3_000_000


# --- boxes ------------------------------------------------------------------------------------------------------------


def calls(path: str) -> list[boxes.Call]:
    """The calls around an operation, where each module is called once."""
    parts = path.split(".") if path else []
    return [(".".join(parts[:count]), None) for count in range(1, len(parts) + 1)]


def names(*paths: str) -> list[tuple[str, str, int]]:
    """Kind, name and repetitions of the boxes for operations in modules of these paths, the root left out."""
    root = boxes.arrange([calls(path) for path in paths], ["op"] * len(paths))
    return [(box.kind, box.name, box.repetitions) for box in boxes.listed(root)][1:]


def test_modules_are_nested_and_a_second_call_is_a_second_box() -> None:
    assert names("Net.a", "Net.a.b", "Net.c", "", "Net.a") == [
        ("module", "Net", 0), ("module", "a", 0), ("module", "b", 0), ("module", "c", 0), ("module", "Net", 0),
        ("module", "a", 0)]
    assert names("Net.layers.0", "Net.layers.0") == [("module", "Net", 0), ("module", "layers.0", 0)]


def test_a_cell_that_is_called_many_times_is_as_many_boxes() -> None:
    cell, h, x = nn.GRUCell(3, 3), tl.zeros(1, 3), tl.ones(30, 1, 3)
    with tl.tape():
        for t in range(30):
            h = cell(x[t], h)
        loss = h.sum()
    found = boxes.listed(boxes.of_tape(loss.tape()))
    assert [box.repetitions for box in found if box.kind == "repeat"] == [29]  # the first has no gradient for h
    assert sum(box.name == "GRUCell" for box in found) >= 30


def test_layers_that_repeat_become_one_box() -> None:
    layers = [f"Net.layers.{i}.{part}" for i in range(12) for part in ("fc", "fc", "norm", "act")]
    found = names("Net", *layers, "Net.head")
    assert found[:2] == [("module", "Net", 0), ("repeat", "layers.0 … 11", 12)]
    assert [name for kind, name, _ in found if kind == "module"][1:4] == ["layers.0", "fc", "norm"]
    few = [f"Net.layers.{i}" for i in range(3)]
    assert all(kind == "module" for kind, _, _ in names(*few))  # so few operations are drawn one by one


def test_a_repetition_may_have_several_parts() -> None:
    paths = [path for i in range(20) for path in (f"Net.cells.{i}", "Net", "Net")]
    kinds = [kind for kind, _, _ in names(*paths)]
    assert kinds.count("repeat") == 1 and kinds.count("turn") == 20


def test_what_differs_is_not_a_repetition() -> None:
    paths = [calls(f"Net.layers.{i}") for i in range(60)]
    root = boxes.arrange(paths, [f"op {i % 2} {i}" for i in range(60)])
    assert all(box.kind == "module" for box in boxes.listed(root))


def test_every_operation_is_in_one_box_and_boxes_are_without_breaks() -> None:
    tape, _ = transformer(5)
    data = page_data(tape)
    boxes_of_nodes: dict[int, list[int]] = {}
    for place, each in enumerate(data["nodes"]):
        box = each["box"]
        while box >= 0:
            boxes_of_nodes.setdefault(box, []).append(place)
            box = data["boxes"][box]["parent"]
    operations = data["forward"]
    for places in boxes_of_nodes.values():
        inside = [place for place in places if place in operations]
        first, last = operations.index(min(inside)), operations.index(max(inside))
        assert operations[first:last + 1] == sorted(inside)


# --- numbers and formulas ---------------------------------------------------------------------------------------------


def test_small_tensors_are_whole_and_large_ones_in_short() -> None:
    assert figures.summary(np.float32([2.6099999, -0.0])) == {
        "shape": [2], "dtype": "float32", "values": [2.61, 0.0], "zeros": 1,
        "stats": {"min": 0.0, "max": 2.61, "mean": 1.305, "std": 1.305, "norm": 2.61}}
    large = figures.summary(np.arange(1000, dtype=np.float64).reshape(10, 10, 10))
    assert "values" not in large and large["corner"][1] == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    assert sum(large["bars"]) == 1000 and large["stats"]["mean"] == 499.5


def test_numbers_that_json_has_no_word_for() -> None:
    found = figures.summary(np.float32([math.nan, math.inf, -math.inf, 1.0]))
    assert found["values"] == ["nan", "inf", "-inf", 1.0] and (found["nan"], found["inf"]) == (1, 2)
    assert found["stats"]["max"] == 1.0
    assert "stats" not in figures.summary(np.full(3, math.nan))
    huge = figures.summary(np.full(100, 1e300) * np.linspace(-1, 1, 100))
    assert huge["stats"]["max"] == 1e300 and math.isfinite(huge["stats"]["norm"]) and sum(huge["bars"]) == 100
    assert figures.summary(np.zeros((0, 3)))["values"] == [] and figures.summary(np.array([True]))["values"] == [True]
    json.dumps([found, huge], allow_nan=False)


DELTA, X, W = {"name": "δ"}, {"name": "x"}, {"name": "W"}


@pytest.mark.parametrize(("formula", "tensors", "numbers", "expected"), [
    ("x*y", {"x": X}, {"y": 0.5}, [X, "·0.5"]),
    ("alpha*g", {"g": DELTA}, {"alpha": 1}, [DELTA]),
    ("-alpha*g", {"g": DELTA}, {"alpha": 1}, ["-", DELTA]),
    ("where(y == 0, 0, g*y*x**(y - 1))", {"g": DELTA, "x": X}, {"y": 2}, [DELTA, "·2·", X]),
    ("where(y == 0, 0, g*y*x**(y - 1))", {"g": DELTA, "x": X}, {"y": 0}, ["0"]),
    ("T(rows(g)) @ rows(x)", {"g": DELTA, "x": X}, {}, [DELTA, "ᵀ @ ", X]),
    ("sum_to(g, shape_of(W))", {"g": DELTA, "W": W}, {}, ["Σ ", DELTA]),
    ("expand(g, shapes[0])/n", {"g": DELTA}, {"n": 4}, [DELTA, " / 4"]),
    ("d @ W", {"g": DELTA, "W": W, "x": X}, {}, [DELTA, "·[", X, " > 0] @ ", W]),
])
def test_formulas_in_the_words_of_an_operation(formula: str, tensors: Any, numbers: Any, expected: Any) -> None:
    shapes = {"g": (3, 2), "x": (3, 2), "W": (2,)}
    assert Formulas(tensors, numbers, shapes, {"d": "g*(x > 0)"}).parts(formula) == expected


def test_abbreviations_that_need_functions_are_explained() -> None:
    formulas = Formulas({"g": DELTA, "x": X}, {}, {"x": (4, 2)}, {"p": "softmax(x)", "q": "p*g", "n": "count(x)"})
    parts = formulas.parts("q/n")
    assert parts == ["p·", DELTA, " / 8"] and not is_plain(parts) and is_plain(formulas.parts("max(x, 0)*g"))
    assert formulas.abbreviations("q/n") == {"p": ["softmax(", X, ")"]}


def test_every_gradient_of_a_transformer_has_a_formula() -> None:
    tape, _ = transformer(1)
    for each in page_data(tape)["nodes"]:
        assert all(gradient.get("formula") for gradient in each.get("gradients", ())), each["op"]


# --- Graphviz ---------------------------------------------------------------------------------------------------------


def test_graphviz_draws_every_operation_and_leaf(tmp_path: Path) -> None:
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is missing: its reading of to_dot() is NOT tested")
    for tape in (pictures.n3(), lenet()[0], transformer(2)[0]):
        drawn = subprocess.run(["dot", "-Tplain"], input=tape.to_dot(), capture_output=True, text=True, check=True)
        assert not drawn.stderr
        drawn_nodes = [line.split()[1] for line in drawn.stdout.splitlines() if line.startswith("node ")]
        assert sum(name.startswith("n") for name in drawn_nodes) == len(tape.records)
        assert sum(name.startswith("t") for name in drawn_nodes) >= len(tape.leaves)


def test_names_in_graphviz_are_only_names() -> None:
    model = type('Evil"]; hacked [label="', (nn.Sequential,), {})(nn.Linear(2, 2))
    with tl.tape():
        loss = model(tl.ones(1, 2)).sum()
    text = loss.tape().to_dot()
    assert 'label="Evil\\"]; hacked [label=\\""' in text
    if shutil.which("dot"):
        drawn = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True).stdout
        assert "node hacked" not in drawn


def test_modules_are_clusters() -> None:
    tape, _ = lenet()
    text = tape.to_dot()
    assert text.count("subgraph cluster_") == 11 and text.startswith("digraph tape {") and "conv2d" in text
