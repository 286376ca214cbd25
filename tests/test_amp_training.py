"""Training in 16 bits reaches the accuracy of float32 on handwritten digits, eagerly and captured."""

from __future__ import annotations

import re
import runpy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.amp import GradScaler, autocast
from tensorlite.data import load_mnist
from tensorlite.nn import functional as F

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "mnist.py"
PRECISIONS = {"float32": None, "bf16": tl.bfloat16, "fp16": tl.float16}


@cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The sample inside the package: pixels of mean 0, and labels, for training and for testing."""
    arrays = load_mnist(sample=True)

    def pixels(images: np.ndarray) -> np.ndarray:
        return ((images.reshape(len(images), -1) / 255 - 0.13) / 0.31).astype(np.float32)

    return (pixels(arrays.train_images), arrays.train_labels.astype(np.int64), pixels(arrays.test_images),
            arrays.test_labels.astype(np.int64))


class Run:
    """A network under training, in some precision."""

    def __init__(self, device: str, precision: str, hidden: int) -> None:
        tl.manual_seed(0)
        self.device, self.dtype = device, PRECISIONS[precision]
        self.model = nn.Sequential(nn.Linear(784, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 10))
        self.model.to(device)
        self.optimizer = optim.Adam(self.model.parameters(), lr=3e-3)
        self.scaler = GradScaler(device, enabled=self.dtype is tl.float16)

    def step(self, x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        with autocast(self.device, self.dtype, enabled=self.dtype is not None):
            loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def accuracy(self) -> float:
        _, _, x, y = digits()
        with tl.no_grad():
            return float((self.model(tl.tensor(x, device=self.device)).argmax(1).cpu().numpy() == y).mean())


def trained(device: str, precision: str, captured: bool, hidden: int, batches: int) -> Run:
    x, y = (tl.tensor(a, device=device) for a in digits()[:2])
    run = Run(device, precision, hidden)
    step: Any = tl.capture(run.step) if captured else run.step
    for i in range(batches):
        rows = slice(i * 50 % len(x), i * 50 % len(x) + 50)
        step(x[rows], y[rows])
    return run


@cache
def float32_accuracy() -> float:
    return trained("cpu", "float32", False, 32, 160).accuracy()


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_are_as_accurate_as_float32(precision: str, captured: bool) -> None:
    run = trained("cpu", precision, captured, 32, 160)
    assert float32_accuracy() > 0.9
    assert run.accuracy() > float32_accuracy() - 0.01
    assert precision != "fp16" or run.scaler.get_scale() >= 2.0**10


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_device_learns(precision: str, device: str) -> None:
    run = trained(device, precision, False, 8, 6)
    reference = trained("cpu", "float32", False, 8, 6)
    for p, expected in zip(run.model.parameters(), reference.model.parameters(), strict=True):
        assert p.dtype is tl.float32
        np.testing.assert_allclose(p.detach().cpu().numpy(), expected.detach().numpy(), atol=0.02)


def test_the_example_resumes_with_its_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    def losses(*arguments: str) -> list[str]:
        sizes = ["--data", "sample", "--digits", "600", "--hidden", "16", "--precision", "fp16"]
        monkeypatch.setattr(sys, "argv", ["mnist", *sizes, *arguments])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return re.findall(r"loss ([\d.]+)", capsys.readouterr().out)

    file = str(tmp_path / "run.safetensors")
    whole = losses("--epochs", "3")
    assert losses("--epochs", "2", "--save", file) == whole[:2]
    assert losses("--epochs", "3", "--resume", file) == whole[2:]
