"""A convolutional network with batch normalisation on FashionMNIST: ten kinds of clothes in 70,000 small pictures.

    python examples/fashion_cnn.py                        # 10 epochs; the files are downloaded where they are missing
    python examples/fashion_cnn.py --device cuda --data folder --plot clothes.png    # from folder/fashion-mnist

Pictures are shifted, mirrored and partly erased, anew in each replay of the captured step. The package has no sample of
these data: where they are neither found nor can be downloaded the program says what is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import time

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import DataLoader, FashionMNIST, TensorDataset, transforms
from tensorlite.nn import functional as F

BLANK = -0.2860 / 0.3530  # of a pixel of the background, after normalisation


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Two convolutions with normalisation, then half the height and width."""
    first, second = (nn.Conv2d(n, outputs, 3, padding=1, bias=False) for n in (inputs, outputs))
    norms = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
    return [first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.MaxPool2d(2)]


def network(width: int) -> nn.Sequential:
    """Clothes (N, 1, 28, 28) to scores (N, 10)."""
    last = nn.Dropout(0.3), nn.Flatten(), nn.Linear(2 * width * 7 * 7, 10)
    return nn.Sequential(*block(1, width), *block(width, 2 * width), *last)


def training_step(model: nn.Module, optimizer: optim.Optimizer) -> tl.Captured:
    """The step for a batch: its mean loss."""
    shift, mirror = transforms.RandomShift(2, fill=BLANK), transforms.RandomHorizontalFlip()
    change = transforms.Compose([shift, mirror, transforms.RandomErasing(0.3, scale=(0.02, 0.2), value=BLANK)])

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        loss = F.cross_entropy(model(change(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@tl.no_grad()
def predict(model: nn.Module, images: tl.Tensor) -> np.ndarray:
    model.eval()
    guesses = tl.cat([model(part).argmax(1) for part in images.split(500)])
    model.train()
    return guesses.cpu().numpy()


def plot(path: str, clothes: FashionMNIST, labels: np.ndarray, guesses: np.ndarray) -> None:
    """Write a picture: how often each kind was taken for each, and the first clothes that were taken for others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    table = left.subplots()
    table.imshow(np.log1p(np.bincount(labels * 10 + guesses, minlength=100).reshape(10, 10)), cmap="Blues")
    table.set(title="rows taken for columns", yticks=range(10), yticklabels=clothes.classes)
    table.set_xticks(range(10), clothes.classes, rotation=90)
    for axes, i in zip(right.subplots(4, 5).flat, (guesses != labels).nonzero()[0], strict=False):
        axes.imshow(clothes.data[int(i)].numpy(), cmap="gray_r")
        axes.set_title(f"{clothes.classes[labels[i]]}\nfor {clothes.classes[guesses[i]]}", fontsize=8)
        axes.axis("off")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=32, help="channels of the first block; the second has twice that")
    parser.add_argument("--data", help="folder that has fashion-mnist/, or into which it is downloaded")
    parser.add_argument("--plot", metavar="PNG", help="draw mistakes (needs matplotlib)")
    options = parser.parse_args()
    if min(options.epochs, options.width) < 1 or (options.plot and importlib.util.find_spec("matplotlib") is None):
        parser.error("--epochs and --width are at least 1; --plot needs matplotlib: pip install 'tensorlite[plot]'")
    try:
        train, test = (FashionMNIST(options.data, part) for part in (True, False))
    except (OSError, ImportError) as error:
        parser.exit(1, f"FashionMNIST is needed: {error}\n")

    print(train.source, flush=True)
    tl.manual_seed(0)
    x, y, test_x, test_y = (t.to(options.device) for part in (train, test) for t in part.as_tensors(flatten=False))
    loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True)
    model = network(options.width).to(options.device)
    optimizer = optim.AdamW(model.parameters(), weight_decay=0.01)
    total = options.epochs * len(loader)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total, pct_start=0.2, cycle_momentum=False)
    step, labels = training_step(model, optimizer), test_y.cpu().numpy()
    for epoch in range(1, options.epochs + 1):
        start, loss = time.perf_counter(), 0
        for batch in tqdm(loader, f"epoch {epoch}/{options.epochs}", leave=False, disable=None):
            loss = loss + step(*batch)
            scheduler.step()
        guesses = predict(model, test_x)
        print(f"epoch {epoch}: loss {float(loss) / len(loader):.4f}, on test clothes {np.mean(guesses == labels):.2%}, "
              f"{time.perf_counter() - start:.1f} s", flush=True)
    print(f"test accuracy {np.mean(guesses == labels):.2%}")
    if options.plot:
        plot(options.plot, test, labels, guesses)


if __name__ == "__main__":
    main()
