"""Captured training steps of models for images and sequences do what eager ones do: weights, buffers, results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_capture import assert_same

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.nn import functional as F

STEPS, ROWS, CLASSES = 5, 4, 5
Batch = tuple[tl.Tensor, tl.Tensor]


class Sequence(nn.Module):
    """Scores from the last element of what a recurrent layer makes of (N, L, 6)."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.score = layer, nn.Linear(width, CLASSES)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.score(self.layer(x)[0][:, -1])


class Decoded(nn.Module):
    """Scores from a decoder layer whose memory are its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(6, 2, 8, 0.1, batch_first=True)
        self.score = nn.Linear(6, CLASSES)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        return self.score(self.layer(x, x, tgt_mask=mask).mean(1))


class Bags(nn.Module):
    """Scores from the mean of a bag of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.score = nn.EmbeddingBag(CLASSES, 6), nn.Linear(6, CLASSES)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.score(self.bag((x[:, :, 0] > 0).long()))


SEQUENCES = (7, 6)  # the shape of a sample
MODELS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "LeNet": ((1, 8, 8), lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(6, CLASSES))),
    "convolutions": ((2, 6, 6), lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 2, 3, padding="same", padding_mode="reflect", dilation=2), nn.AdaptiveAvgPool2d(4),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(128, CLASSES))),
    "BatchNorm": ((2, 6, 6), lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(2), nn.BatchNorm1d(4, momentum=None),
        nn.Flatten(), nn.Linear(64, CLASSES))),
    "norms": ((4, 3, 4), lambda: nn.Sequential(
        nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.Conv2d(4, 4, 1), nn.RMSNorm(4), nn.Flatten(), nn.Linear(48, CLASSES))),
    "RNN": (SEQUENCES, lambda: Sequence(nn.RNN(6, 5, 2, batch_first=True, dropout=0.3), 5)),
    "GRU": (SEQUENCES, lambda: Sequence(nn.GRU(6, 5, batch_first=True, bidirectional=True), 10)),
    "LSTM": (SEQUENCES, lambda: Sequence(nn.LSTM(6, 5, 2, batch_first=True, dropout=0.3), 5)),
    "encoder": (SEQUENCES, lambda: nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, 0.1, "gelu", batch_first=True), 2),
        nn.Flatten(), nn.Linear(42, CLASSES))),
    "decoder": (SEQUENCES, Decoded),
    "EmbeddingBag": (SEQUENCES, Bags),
}


def batches(shape: tuple[int, ...], device: str) -> list[Batch]:
    random = np.random.default_rng(7)
    return [(tl.from_numpy(random.standard_normal((ROWS, *shape), np.float32)).to(device),
             tl.from_numpy(random.integers(0, CLASSES, ROWS)).to(device)) for _ in range(STEPS)]


def trained(name: str, device: str, captured: bool) -> list[np.ndarray]:
    """The losses of some steps, and the weights, gradients and buffers after them."""
    shape, make = MODELS[name]
    tl.manual_seed(3)
    model = make().to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    call = tl.capture(step) if captured else step
    losses = [call(x, y).cpu().numpy().copy() for x, y in batches(shape, device)]
    if captured:
        assert call.stats().replays == STEPS - 2, "the step was not replayed"
    state = [value.cpu().numpy().copy() for value in model.state_dict().values()]
    gradients = [p.grad.cpu().numpy().copy() for p in model.parameters() if p.grad is not None]
    return [*losses, *state, *gradients]


@pytest.mark.parametrize("name", MODELS)
def test_a_captured_step_does_what_the_eager_one_does(name: str, device: str) -> None:
    eager = trained(name, device, captured=False)
    assert all(np.isfinite(values).all() for values in eager)
    assert not np.array_equal(eager[0], eager[STEPS - 1]), "nothing was learnt, so the test would show nothing"
    assert_same(trained(name, device, captured=True), eager, device)
