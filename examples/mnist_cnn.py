"""A convolutional network in the manner of LeNet-5 (LeCun et al. 1998) on the handwritten digits of MNIST.

    python examples/mnist_cnn.py                       # 6 epochs, a few minutes, more than 99.2 % of the test digits
    python examples/mnist_cnn.py --device cuda --plot digits.png    # filters, what they see, digits taken for others

Digits are moved by up to a pixel, anew in each replay of the captured step. The step size rises over the first fifth
of the steps and falls to nearly nothing over the rest. Where MNIST's files are neither found nor downloaded the small
sample inside the package serves, as the first line of the output says.
"""

from __future__ import annotations

import argparse
import importlib.util
import time

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import MNIST, DataLoader, TensorDataset, transforms
from tensorlite.nn import functional as F

BLANK = -0.1307 / 0.3081  # of a pixel of the background, after normalisation


def lenet() -> nn.Sequential:
    """Digits (N, 1, 28, 28) to scores (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 5 * 5, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def training_step(model: nn.Module, optimizer: optim.Optimizer) -> tl.Captured:
    """The step for a batch: its mean loss."""
    move = transforms.RandomShift(1, fill=BLANK)

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        loss = F.cross_entropy(model(move(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@tl.no_grad()
def predict(model: nn.Module, images: tl.Tensor) -> np.ndarray:
    return np.concatenate([model(part).argmax(1).cpu().numpy() for part in images.split(1000)])


@tl.no_grad()
def plot(path: str, model: nn.Sequential, images: tl.Tensor, labels: np.ndarray, guesses: np.ndarray) -> None:
    """Write a picture: the filters of the first layer, what they make of a digit, and digits taken for others."""
    from matplotlib.figure import Figure

    wrong = (guesses != labels).nonzero()[0][:16]
    rows = {
        "filters of the first layer": model[0].weight[:, 0],
        "what they see in the first test digit": model[:2](images[:1])[0],
        "taken for others": images[wrong.tolist(), 0],
    }
    figure = Figure(figsize=(14, 4), layout="constrained")
    for part, (title, pictures) in zip(figure.subfigures(len(rows)), rows.items(), strict=True):
        part.suptitle(title)
        for i, (axes, picture) in enumerate(zip(part.subplots(1, 16), pictures.cpu().numpy(), strict=False)):
            axes.imshow(picture, cmap="gray_r")
            if title.startswith("taken"):
                axes.set_title(f"{labels[wrong[i]]} for {guesses[wrong[i]]}", fontsize=8)
        for axes in part.axes:
            axes.axis("off")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data", help="folder of the MNIST files, or 'sample' for the one in the package")
    parser.add_argument("--digits", type=int, default=60_000, help="use so many training and test digits alone")
    parser.add_argument("--plot", metavar="PNG", help="draw filters and mistakes (needs matplotlib)")
    options = parser.parse_args()
    if min(options.epochs, options.digits) < 1 or (options.plot and importlib.util.find_spec("matplotlib") is None):
        parser.error("--epochs and --digits are at least 1; --plot needs matplotlib: pip install 'tensorlite[plot]'")
    sample = options.data == "sample"
    try:
        train, test = (MNIST(None if sample else options.data, part, sample=sample or None) for part in (True, False))
    except (OSError, ImportError) as error:
        parser.exit(1, f"MNIST is needed: {error}\n")
    print(train.source, flush=True)
    tl.manual_seed(0)
    first = slice(options.digits)
    x, y, test_x, test_y = (t[first].to(options.device) for d in (train, test) for t in d.as_tensors(flatten=False))
    loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True)
    model = lenet().to(options.device)
    optimizer = optim.Adam(model.parameters())
    steps = options.epochs * len(loader)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.2, cycle_momentum=False)
    step = training_step(model, optimizer)
    for epoch in range(1, options.epochs + 1):
        start, loss = time.perf_counter(), 0
        for batch in tqdm(loader, f"epoch {epoch}/{options.epochs}", leave=False, disable=None):
            loss = loss + step(*batch)
            scheduler.step()
        guesses, labels = predict(model, test_x), test_y.cpu().numpy()
        print(f"epoch {epoch}: loss {float(loss) / len(loader):.4f}, on test digits {np.mean(guesses == labels):.2%}, "
              f"{time.perf_counter() - start:.1f} s", flush=True)
    print(f"test accuracy {np.mean(guesses == labels):.2%}")
    if options.plot:
        plot(options.plot, model, test_x, labels, guesses)


if __name__ == "__main__":
    main()
