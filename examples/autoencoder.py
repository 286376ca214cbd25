"""Squeeze digits through two numbers and draw them again: an autoencoder, and the plane that its two numbers span.

    python examples/autoencoder.py                        # 15 epochs, a minute or two; the picture is autoencoder.png
    python examples/autoencoder.py --epochs 40 --plot plane.png --device cuda

An encoder makes two numbers of the 784 pixels of a digit, a decoder makes pixels of them again, and both learn to lose
as little as they can. No label is seen in training. The picture shows test digits above what came back of them, where
the test digits lie in the plane, coloured by their labels, and what the decoder draws all over it.
"""

from __future__ import annotations

import argparse
import importlib.util
import time

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import MNIST, DataLoader, TensorDataset
from tensorlite.nn import functional as F

SHOWN, TILES = 16, 20  # digits in the picture, and drawings along each side of the plane


class Autoencoder(nn.Module):
    """Pixels 0 to 1 (N, 784) to places in the plane (N, 2) to scores of pixels (N, 784); their sigmoid is a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 512), nn.SiLU(), nn.Linear(512, 128), nn.SiLU(), nn.Linear(128, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, 784))

    def forward(self, pixels: tl.Tensor) -> tl.Tensor:
        return self.decoder(self.encoder(pixels))


def training_step(model: nn.Module, optimizer: optim.Optimizer) -> tl.Captured:
    """The step for a batch of digits: the mean loss of a pixel."""

    @tl.capture
    def step(pixels: tl.Tensor) -> tl.Tensor:
        loss = F.binary_cross_entropy_with_logits(model(pixels), pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def mosaic(tiles: tl.Tensor, columns: int) -> np.ndarray:
    """Digits (N, 784) as one picture with so many in a row."""
    return tiles.cpu().numpy().reshape(-1, columns, 28, 28).transpose(0, 2, 1, 3).reshape(-1, columns * 28)


@tl.no_grad()
def plot(path: str, model: Autoencoder, pixels: tl.Tensor, labels: np.ndarray) -> None:
    """Write the picture: digits and what came back of them, the plane with the digits, the plane of drawings."""
    from matplotlib.figure import Figure

    places = model.encoder(pixels)
    (left, bottom), (right, top) = np.percentile(places.cpu().numpy(), (2, 98), axis=0)
    x, y = np.meshgrid(np.linspace(left, right, TILES), np.linspace(top, bottom, TILES))
    grid = tl.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=tl.float32, device=pixels.device)
    figure = Figure(figsize=(14, 9), layout="constrained")
    axes = figure.subplot_mosaic([["digits", "digits"], ["plane", "drawn"]], height_ratios=(1, 4))
    axes["digits"].imshow(mosaic(tl.cat([pixels[:SHOWN], model(pixels[:SHOWN]).sigmoid()]), SHOWN), cmap="gray_r")
    axes["digits"].set(title="test digits, and below what came back of two numbers", xticks=[], yticks=[])
    points = axes["plane"].scatter(*places.cpu().numpy().T, c=labels, s=2, cmap="tab10", vmin=-0.5, vmax=9.5)
    axes["plane"].set(title="where the test digits lie", xlim=(left, right), ylim=(bottom, top))
    figure.colorbar(points, ax=axes["plane"], ticks=range(10))
    drawn = mosaic(model.decoder(grid).sigmoid(), TILES)
    axes["drawn"].imshow(drawn, cmap="gray_r", extent=(left, right, bottom, top), aspect="auto")
    axes["drawn"].set_title("what the decoder draws there")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--data", help="folder of the MNIST files, or 'sample' for the one in the package")
    parser.add_argument("--digits", type=int, default=60_000, help="use so many training and test digits alone")
    parser.add_argument("--plot", metavar="PNG", default="autoencoder.png", help="the picture (needs matplotlib)")
    options = parser.parse_args()
    if min(options.epochs, options.digits) < 1 or importlib.util.find_spec("matplotlib") is None:
        parser.error("needs matplotlib (pip install 'tensorlite[plot]'), and --epochs and --digits of at least 1")
    sample = options.data == "sample"
    try:
        train, test = (MNIST(None if sample else options.data, part, sample=sample or None) for part in (True, False))
    except (OSError, ImportError) as error:
        parser.exit(1, f"MNIST is needed: {error}\n")
    print(train.source, flush=True)
    tl.manual_seed(0)
    first = slice(options.digits)
    pixels, test_pixels = (part.as_tensors(normalize=False)[0][first].to(options.device) for part in (train, test))
    loader = DataLoader(TensorDataset(pixels), batch_size=128, shuffle=True)
    model = Autoencoder().to(options.device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    step = training_step(model, optimizer)
    for epoch in range(1, options.epochs + 1):
        start, loss = time.perf_counter(), 0
        for (batch,) in tqdm(loader, f"epoch {epoch}/{options.epochs}", leave=False, disable=None):
            loss = loss + step(batch) * len(batch)
        scheduler.step()
        with tl.no_grad():
            test_loss = F.binary_cross_entropy_with_logits(model(test_pixels), test_pixels).item()
        print(f"epoch {epoch}: loss {float(loss) / len(pixels):.4f}, on test digits {test_loss:.4f}, "
              f"{time.perf_counter() - start:.1f} s", flush=True)
    plot(options.plot, model, test_pixels, test.targets[first].numpy())
    print(f"the picture is in {options.plot}")


if __name__ == "__main__":
    main()
