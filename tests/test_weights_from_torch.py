"""Weights from elsewhere: a layer or model that torch trained for a step gives the same here from its file, and back.

A row names the layer, its constructor's arguments and its inputs; what constructors take and what parameters are called
is the same in both libraries.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


class Row(NamedTuple):
    """shapes: of the inputs, floats in [-1, 1); an int instead of a shape is how many classes integers come from."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    shapes: tuple[Any, ...]

    def __str__(self) -> str:
        given = [*map(repr, self.arguments), *(f"{k}={v!r}" for k, v in self.options.items())]
        return f"{self.name}({', '.join(given)})"


def row(name: str, arguments: tuple[Any, ...], *shapes: Any, **options: Any) -> Row:
    return Row(name, arguments, options, shapes)


class Integers(NamedTuple):
    shape: tuple[int, ...]
    below: int


LAYERS = [
    row("Linear", (3, 4), (5, 3)),
    row("Linear", (3, 4), (5, 3), bias=False),
    row("Bilinear", (3, 2, 4), (5, 3), (5, 2)),
    row("PReLU", (3,), (5, 3)),
    row("Embedding", (7, 3), Integers((5, 2), 7)),
    row("Embedding", (7, 3), Integers((5, 2), 7), padding_idx=2),
    row("EmbeddingBag", (7, 3), Integers((5, 2), 7)),
    row("EmbeddingBag", (7, 3), Integers((5, 2), 7), mode="sum", padding_idx=1),
    row("LayerNorm", (4,), (3, 4)),
    row("LayerNorm", ((3, 4),), (2, 3, 4), bias=False),
    row("BatchNorm1d", (4,), (6, 4)),
    row("BatchNorm1d", (4,), (6, 4, 3)),
    row("RNN", (3, 4), (5, 2, 3), nonlinearity="relu"),
    row("RNN", (3, 4), (5, 2, 3), num_layers=2, bidirectional=True),
    row("GRU", (3, 4), (5, 2, 3), num_layers=2),
    row("GRU", (3, 4), (5, 2, 3), bidirectional=True, bias=False, batch_first=True),
    row("LSTM", (3, 4), (5, 2, 3), num_layers=2, bidirectional=True),
    row("LSTM", (3, 4), (5, 2, 3), proj_size=2),
    row("RNNCell", (3, 4), (2, 3)),
    row("GRUCell", (3, 4), (2, 3)),
    row("LSTMCell", (3, 4), (2, 3)),
    row("Conv1d", (4, 6, 3), (2, 4, 9), stride=2, padding=1),
    row("Conv2d", (4, 6, 3), (2, 4, 7, 8), padding="same"),
    row("Conv2d", (4, 6, (3, 2)), (2, 4, 7, 8), stride=2, padding=1, dilation=2, groups=2),
    row("Conv2d", (4, 4, 3), (2, 4, 7, 8), groups=4, bias=False),
    row("ConvTranspose1d", (4, 6, 3), (2, 4, 5), stride=2),
    row("ConvTranspose2d", (4, 6, 3), (2, 4, 5, 4), stride=2, padding=1, output_padding=1, groups=2),
    row("BatchNorm2d", (4,), (3, 4, 5, 2)),
    row("BatchNorm2d", (4,), (3, 4, 5, 2), affine=False),
    row("BatchNorm3d", (4,), (3, 4, 2, 3, 2)),
    row("GroupNorm", (2, 4), (3, 4, 5)),
    row("InstanceNorm1d", (4,), (3, 4, 5), affine=True, track_running_stats=True),
    row("InstanceNorm2d", (4,), (3, 4, 5, 2), affine=True, track_running_stats=True),
    row("InstanceNorm3d", (4,), (3, 4, 5, 2, 2), affine=True),
    row("RMSNorm", (4,), (3, 4)),
    row("MultiheadAttention", (8, 2), (5, 3, 8), (4, 3, 8), (4, 3, 8)),
    row("MultiheadAttention", (8, 2), (3, 5, 8), (3, 4, 6), (3, 4, 2), kdim=6, vdim=2, batch_first=True, bias=False),
    row("MultiheadAttention", (8, 2), (5, 3, 8), (4, 3, 8), (4, 3, 8), add_bias_kv=True),
    row("TransformerEncoderLayer", (8, 2, 16), (5, 3, 8), dropout=0.0),
    row("TransformerEncoderLayer", (8, 2, 16), (3, 5, 8), dropout=0.0, norm_first=True, activation="gelu",
        batch_first=True),
    row("TransformerDecoderLayer", (8, 2, 16), (5, 3, 8), (4, 3, 8), dropout=0.0),
]


# --- models, made of the nn of either library -------------------------------------------------------------------------


def lenet(nn: Any) -> Any:
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 25, 120), nn.ReLU(), nn.Linear(120, 84),
                         nn.ReLU(), nn.Linear(84, 10))


def lstm_classifier(nn: Any) -> Any:
    class Classifier(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.embedding(x))[0][:, -1])

    return Classifier()


def gpt(nn: Any) -> Any:
    class Gpt(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(11, 8)
            self.positions = nn.Embedding(6, 8)
            self.blocks = nn.ModuleList([
                nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
                for _ in range(2)])
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 11, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.tokens(x) + self.positions.weight
            ones = self.positions.weight.new_full((6, 6), 1.0)
            for block in self.blocks:
                h = block(h, src_mask=ones.triu(1) > 0)
            return self.head(self.norm(h))

    return Gpt()


MODELS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "LeNet": (lenet, ((2, 1, 28, 28),)),
    "LSTM classifier": (lstm_classifier, (Integers((4, 6), 11),)),
    "GPT": (gpt, (Integers((3, 6), 11),)),
}


# --- the test -------------------------------------------------------------------------------------------------------


def inputs(shapes: tuple[Any, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, s.below, s.shape) if isinstance(s, Integers)
            else random.uniform(-1, 1, s).astype(np.float32) for s in shapes]


def first(result: Any) -> Any:
    while isinstance(result, tuple):
        result = result[0]
    return result


def train(model: Any, arrays: list[Any], optimizer: Any) -> None:
    """One step, so that buffers and parameters are no longer those of the start."""
    loss = first(model(*arrays)).square().mean()
    if optimizer is not None:
        loss.backward()
        optimizer.step()
    model.eval()


def check(ours: Any, theirs: Any, shapes: tuple[Any, ...], folder: Path) -> None:
    arrays = inputs(shapes)
    mine, wanted = [tl.tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    train(theirs, wanted, torch.optim.SGD(theirs.parameters(), 0.5) if list(theirs.parameters()) else None)
    safetensors.save_file(theirs.state_dict(), folder / "theirs.safetensors")
    assert ours.load_state_dict(tl.load(folder / "theirs.safetensors")) == ([], [])
    ours.eval()
    compare(first(ours(*mine)), first(theirs(*wanted)))

    ours.train()
    train(ours, mine, tl.optim.SGD(ours.parameters(), 0.5) if list(ours.parameters()) else None)
    tl.save(ours.state_dict(), folder / "ours.safetensors")
    missing, unexpected = theirs.load_state_dict(safetensors.load_file(folder / "ours.safetensors"))
    assert (missing, unexpected) == ([], [])
    compare(first(ours(*mine)), first(theirs(*wanted)))


def compare(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), 1e-4, 1e-5)


pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:enable_nested_tensor",
                                        "ignore:Using padding='same'")


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_layers(row: Row, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(getattr(nn, row.name)(*row.arguments, **row.options),
          getattr(torch.nn, row.name)(*row.arguments, **row.options), row.shapes, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shapes = MODELS[name]
    check(make(nn), make(torch.nn), shapes, tmp_path)


NO_LAYERS = {"RNNBase", "RNNCellBase", "TransformerEncoder", "TransformerDecoder", "Transformer"}  # bases, and stacks


def has_weights(layer: type) -> bool:
    own = [base for base in layer.__mro__ if issubclass(base, nn.Module) and base is not nn.Module]
    texts = map(inspect.getsource, own)
    return not layer.__module__.endswith(("losses", ".containers")) and any(
        "Parameter(" in text or "register_buffer(" in text for text in texts)


def test_every_layer_with_weights_has_a_row() -> None:
    layers = {name for name, value in vars(nn).items()
              if inspect.isclass(value) and issubclass(value, nn.Module) and hasattr(torch.nn, name)
              and has_weights(value)}
    assert {"Linear", "LSTM", "BatchNorm1d"} <= layers
    assert layers - {row.name for row in LAYERS} - NO_LAYERS == set()
