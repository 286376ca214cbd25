"""model.summary(): numbers beside those computed by hand, and a model that is afterwards bit for bit as before."""

from __future__ import annotations

import copy
import math
import threading
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import backends, nn
from tensorlite.insight import summary
from tensorlite.insight.forward_pass import saved_arrays
from tensorlite.insight.nodes import ancestors
from tensorlite.nn import functional as F


def by_name(found: Any) -> dict[str, Any]:
    return {row.name: row for row in found.rows}


class Moody(nn.Module):
    """Whatever a forward pass can change: buffers, counters, lists, tensors, random states, gradients' graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.calls = 0
        self.log: list[int] = []
        self.last = {"state": tl.zeros(3)}
        self.state = tl.zeros(3)
        self.generator = tl.Generator().manual_seed(3)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        self.calls += 1
        self.log.append(self.calls)
        self.last["state"].add_(1.0)
        self.state = self.state + 1.0
        self.fresh = True
        x = self.drop(self.norm(self.layer(x))) + tl.rand(3, generator=self.generator)
        if self.calls == 1 and x.shape[0] == 1:
            raise RuntimeError("an unlucky model")
        return x


def everything(model: Moody) -> dict[str, Any]:
    """All that must be as it was, down to the objects."""
    return {
        "dicts": [(id(vars(m)), list(vars(m)), [id(v) for v in vars(m).values()]) for m in model.modules()],
        "state": {name: (x.detach().numpy().tobytes(), x._version and list(x._version))
                  for name, x in (*model.named_parameters(), *model.named_buffers())},
        "grads": [p.grad is None for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "rng": tl.get_rng_state().tolist(), "own rng": model.generator.get_state().tolist(),
        "rest": (model.calls, list(model.log), model.last["state"].tolist(), model.state.tolist()),
        "hooks": [None if m._hooks is None else list(m._hooks.forward) for m in model.modules()],
        "observers": [vars(b).get("observers", ()) for b in backends.loaded()],
    }


@pytest.mark.parametrize("mode", [None, "train", "eval"])
@pytest.mark.parametrize("rows", [4, 1], ids=["works", "fails"])
def test_the_model_is_as_before(mode: str | None, rows: int) -> None:
    model = Moody()
    seen: list[Any] = []
    model.layer.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    before = everything(model)
    if rows == 1:
        with pytest.raises((RuntimeError, tl.TensorliteError)):
            model.summary(tl.ones(1, 3), mode=mode)
    else:
        found = model.summary(tl.ones(4, 3), mode=mode)
        assert found.parameters == 18
        assert by_name(found)["norm"].inputs == ((4, 3),)
    assert everything(model) == before
    assert len(seen) == 1, "the user's hooks run in the pass"
    assert tl.is_grad_enabled()


def test_the_mode_is_of_the_pass_alone() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    saved = {mode: model.summary(tl.ones(8, requires_grad=True), mode=mode).saved_bytes
             for mode in ("train", "eval", None)}
    assert saved == {"train": 16, "eval": 0, None: 8}  # a noise of one byte for each element
    assert [m.training for m in model] == [True, False]


def test_a_version_is_not_counted_up() -> None:
    """A graph that was made before still goes backward: no buffer that it saved was touched."""
    model = nn.BatchNorm1d(3).eval()
    out = model(tl.ones(4, 3, requires_grad=True)).sum()
    model.summary(tl.ones(4, 3), mode="train")
    out.backward()


# --- numbers by hand --------------------------------------------------------------------------------------------------


def test_linear_layers(device: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(device)
    found = model.summary(input_size=(5, 4))
    rows = by_name(found)
    assert [row.name for row in found.rows] == ["", "0", "1", "2"]
    assert rows["0"].flops == 2 * 5 * 4 * 8 and rows["2"].flops == 2 * 5 * 8 * 2 and rows["1"].flops == 0
    assert found.flops == 480
    assert (rows["0"].parameters, rows["2"].parameters, found.parameters) == (40, 18, 58)
    assert rows["1"].saved == 5 * 8 * 4, "the result of relu, which the next layer saves too"
    assert rows["0"].saved == rows["2"].saved == 0, "parameters and inputs are not memory of the pass"
    assert found.saved_bytes == 160 and found.input_bytes == 80
    assert found.filled_bytes == (5 * 8 + 5 * 8 + 5 * 2) * 4
    assert found.parameter_bytes == 58 * 4


def test_convolutions_of_groups() -> None:
    model = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2)
    found = model.summary(input_size=(2, 4, 9, 8))
    assert found.rows[0].outputs == ((2, 6, 5, 5),)
    assert found.flops == 2 * (2 * 6 * 5 * 5) * (2 * 3 * 2)
    assert found.parameters == 6 * 2 * 3 * 2 + 6


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers(layer: Any, gates: int) -> None:
    steps, batch, size, hidden = 7, 2, 3, 5
    found = layer(size, hidden).summary(input_size=(steps, batch, size))
    assert found.flops == 2 * steps * batch * gates * hidden * (size + hidden)
    assert found.rows[0].outputs[0] == (steps, batch, hidden)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    class Heads(nn.Module):
        def forward(self, q: tl.Tensor) -> tl.Tensor:
            return F.scaled_dot_product_attention(q, q, q, is_causal=causal)

    found = Heads().summary(tl.ones(2, 3, 6, 4, requires_grad=True))
    pairs = 6 * 7 // 2 if causal else 36
    assert found.flops == 2 * (2 * 3 * pairs) * (4 + 4)


def test_multihead_attention_is_its_four_products_and_attention() -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x = tl.ones(3, 5, 8)
    found = model.summary(x, x, x, need_weights=False)
    projections, attention = 2 * 15 * 8 * 8 * 4, 2 * (3 * 2 * 25) * (4 + 4)
    assert found.flops == projections + attention
    assert found.rows[0].inputs == ((3, 5, 8),) * 3


def test_what_the_profiler_counts_is_what_stands_here() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x = tl.ones(2, 3, 8)
    with tl.profile(bandwidth=1e9, flops=1e9) as p:
        model(x)
    assert model.summary(x).flops == sum(row.flops for row in p.rows())


def test_saved_bytes_are_what_the_nodes_hold() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.LayerNorm(108),
                          nn.Softmax(1))
    x = tl.ones(2, 1, 8, 8)
    found = model.summary(x)
    out = model(x)
    apart = {id(t.array) for t in (*model.parameters(), *model.buffers(), x)}
    held = {id(a): a for node in ancestors([out._node]) for a in saved_arrays(node)}
    blocks: list[np.ndarray] = []
    for array in held.values():
        while array.base is not None and isinstance(array.base, np.ndarray):
            array = array.base
        if id(array) not in apart and not any(array is block for block in blocks):
            blocks.append(array)
    assert found.saved_bytes == sum(block.nbytes for block in blocks) > 0
    assert sum(row.saved for row in found.rows) == found.saved_bytes


def test_a_checkpoint_saves_its_arguments_alone() -> None:
    class Net(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4))
            self.again = again

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            x = self.first(x)
            return tl.autograd.checkpoint(self.inner, x) if self.again else self.inner(x)

    plain, again = (Net(again).summary(input_size=(8, 4)) for again in (False, True))
    assert (plain.saved_bytes, again.saved_bytes) == (8 * 4 * 4 + 8 * 64 * 4, 8 * 4 * 4)
    assert plain.flops == again.flops


def test_indices_are_saved_too() -> None:
    assert nn.Embedding(10, 4).summary(tl.arange(6)).saved_bytes == 6 * 8, "a copy, in which -1 would be 9"


# --- shared, called again, nested ------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.block = nn.Linear(4, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.unused = nn.Linear(2, 2)
        self.unused.requires_grad_(False)

    def forward(self, i: tl.Tensor) -> tl.Tensor:
        return self.head(self.block(self.block(self.embedding(i))))


def test_shared_parameters_count_once_and_calls_add_up() -> None:
    found = Tied().summary(tl.tensor([1, 2, 3]))
    rows = by_name(found)
    assert (found.parameters, found.trainable, found.frozen) == (40 + 20 + 6, 60, 6)
    assert (rows["embedding"].parameters, rows["head"].parameters) == (40, 0)
    assert rows["block"].calls == 2 and rows["block"].flops == 2 * (2 * 3 * 4 * 4)
    assert rows["unused"].calls == 0 and rows["unused"].inputs == ()
    assert "block (Linear), 2 calls" in repr(found)
    assert "Frozen" in repr(found)


def test_folded_rows_hold_what_lies_in_them() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    full = model.summary(input_size=(2, 3, 8), depth=99)
    for depth in range(6):
        found = model.summary(input_size=(2, 3, 8), depth=depth)
        assert max(row.level for row in found.rows) == min(depth, 4)
        for total in ("parameters", "frozen", "flops", "saved"):
            assert sum(getattr(row, total) for row in found.rows) == sum(getattr(row, total) for row in full.rows)
    assert sum(row.parameters for row in full.rows) == full.parameters == sum(p.numel() for p in model.parameters())


def test_lists_and_names() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Tanh())]
            self.scale = nn.Parameter(tl.ones(2))

        def forward(self, x: tl.Tensor) -> dict[str, tl.Tensor]:
            for layer in self.layers:
                x = layer(x)
            return {"x": x * self.scale, "y": x}

    lines = repr(Net().summary(tl.ones(1, 2))).splitlines()
    assert [line.split("  ")[0] for line in lines[2:7]] == [
        "Net", "├─ layers.0 (Linear)", "└─ layers.1 (Sequential)", "", ""]
    assert lines[5].startswith("   ├─ 0 (Linear)") and lines[6].startswith("   └─ 1 (Tanh)")
    assert "(1, 2), (1, 2)" in lines[2] and lines[2].split()[-3:] == ["2", "-", "-"]


def test_without_inputs_parameters_alone() -> None:
    found = nn.Linear(1000, 1200).summary()
    assert found.flops is found.saved_bytes is None
    assert repr(found).splitlines() == ["Layer   Parameters", "------------------", "Linear   1,201,200",
                                        "------------------", "parameters: 1,201,200 (1,201,200 trainable), 4.8 MB; "
                                        "buffers: 0 B"]


def test_inputs_by_size() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2).double()

        def forward(self, x: tl.Tensor, i: tl.Tensor) -> tl.Tensor:
            assert (x.dtype, i.dtype) == (tl.float64, tl.int64)
            return self.layer(x)[i]

    found = Two().summary(input_size=[(4, 3), (2,)], dtypes=[None, tl.int64])
    assert found.rows[0].inputs == ((4, 3), (2,)) and found.rows[0].outputs == ((2, 2),)
    assert nn.Linear(3, 2).summary(input_size=[4, 3]).flops == nn.Linear(3, 2).summary(tl.ones(4, 3)).flops


def test_a_captured_forward_is_looked_into() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        @tl.capture
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.layer(x).exp()

    model = Net()
    x = tl.ones(4, 3)
    fresh = model.summary(x)
    with tl.no_grad():
        for _ in range(4):
            model(x)
    captured = vars(model)["_captured_" + Net.forward.name]
    before = captured.stats()
    for _ in range(3):  # of its own, the second call would be a recording, and the third a replay
        found = model.summary(x)
    assert before.replays == 2 and captured.stats() == before
    assert found.flops == fresh.flops == 2 * 4 * 3 * 2
    assert found.saved_bytes == fresh.saved_bytes == 4 * 2 * 4


def test_what_other_threads_compute_is_not_counted() -> None:
    class Net(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            other = threading.Thread(target=lambda: x @ x)
            other.start()
            other.join()
            return x

    found = Net().summary(tl.ones(4, 4))
    assert found.flops == found.filled_bytes == 0


def test_an_attribute_may_be_called_summary() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.summary = nn.Linear(2, 1)

    model = Net()
    assert isinstance(model.summary, nn.Linear)
    assert summary(model).parameters == 3


def test_autocast_holds_in_the_pass() -> None:
    with tl.autocast("cpu", tl.bfloat16):
        narrow = nn.Sequential(nn.Linear(8, 8), nn.Tanh()).summary(input_size=(4, 8))
    wide = nn.Sequential(nn.Linear(8, 8), nn.Tanh()).summary(input_size=(4, 8))
    assert narrow.saved_bytes is not None and wide.saved_bytes == 4 * 8 * 4
    assert narrow.filled_bytes != wide.filled_bytes


def test_a_copy_of_a_model_sums_up_the_same() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert repr(copy.deepcopy(model).summary(input_size=(3, 4))) == repr(model.summary(input_size=(3, 4)))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda m: summary(print), tl.DTypeError, "expected an nn.Module, got builtin"),  # type: ignore[arg-type]
    (lambda m: m.summary(depth=-1), tl.ArgumentError, "depth must be an integer of at least 0, got -1"),
    (lambda m: m.summary(mode="test"), tl.ArgumentError, 'mode must be "train", "eval", or None'),
    (lambda m: m.summary((1, 2)), tl.ArgumentError, r"\(1, 2\) is a shape; write input_size=\(1, 2\)"),
    (lambda m: m.summary(input_size=4), tl.ArgumentError, "input_size must be a shape or a list of shapes, got 4"),
    (lambda m: m.summary(tl.ones(1, 2), input_size=(1, 2)), tl.ArgumentError, "give inputs or input_size, not both"),
    (lambda m: m.summary(input_size=[(1, 2)], dtypes=[None, None]), tl.ArgumentError, "2 dtypes for 1 inputs"),
    (lambda m: m.summary(tl.ones(1, 3)), tl.ShapeError, "linear expects last dim 2, got 3"),
])
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(nn.Linear(2, 2))


def test_not_in_a_captured_step() -> None:
    model = nn.Linear(2, 2)

    @tl.capture
    def step(x: tl.Tensor) -> tl.Tensor:
        model.summary(x)
        return model(x).detach()

    step(tl.ones(1, 2))
    with pytest.raises(tl.CaptureError, match="looking at a forward pass cannot be part of a captured step"):
        step(tl.ones(1, 2))


def test_thousands_of_modules_take_no_time_squared() -> None:
    model = nn.Sequential(*[nn.Sequential(nn.Identity(), nn.Identity()) for _ in range(700)])
    found = model.summary(input_size=(1, 2))
    assert len(found.rows) == 2101
    assert math.isfinite(len(repr(found)))


def test_a_view_that_is_saved_counts_with_all_the_memory_that_it_holds() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(tl.ones(4, 1))

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return (x + 1.0)[:, :1] * self.factor

    assert First().summary(tl.ones(4, 1000)).saved_bytes == 16000


def test_shapes_are_those_of_the_first_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.layer(self.layer(x)[:1])

    row = by_name(Twice().summary(tl.ones(5, 3)))["layer"]
    assert (row.calls, row.inputs, row.outputs) == (2, ((5, 3),), ((5, 3),))


def test_under_no_grad_it_is_that_of_training_all_the_same() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with tl.no_grad():
        assert model.summary(tl.ones(5, 3)).saved_bytes == 5 * 4 * 4


def test_folded_rows_have_the_frozen_parameters_of_what_lies_in_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)))
    model[1].requires_grad_(False)
    assert [(row.parameters, row.frozen) for row in model.summary(depth=1).rows] == [(0, 0), (16, 0), (10, 10)]


def test_after_a_module_that_failed_work_is_that_of_the_one_around_it() -> None:
    class Failing(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            raise ValueError

    class Forgiving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tried = nn.Sequential(Failing())
            self.weight = nn.Parameter(tl.ones(2, 3))

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            try:
                return self.tried(x)
            except ValueError:
                return F.linear(x, self.weight)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Forgiving()

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return F.linear(self.inner(x), tl.ones(7, 2))

    rows = by_name(Outer().summary(tl.ones(5, 3)))
    assert rows["inner"].outputs == ((5, 2),) and rows[""].flops == 2 * 5 * 2 * 7
