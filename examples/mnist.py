"""Train a network on the handwritten digits of MNIST, from data to test accuracy.

    python examples/mnist.py                                      # 784-256-128-10, Adam, some seconds
    python examples/mnist.py --epochs 10 --save run.safetensors   # a checkpoint after every epoch ...
    python examples/mnist.py --epochs 20 --resume run.safetensors # ... from which a run goes on, bit for bit
    python examples/mnist.py --plot digits.png                    # curves, and digits that were taken for others
    python examples/mnist.py --device cuda                        # on a GPU; all digits are moved there at the start
    python examples/mnist.py --device cuda --precision bf16       # matrices multiplied in 16 bits; fp16 scales the loss
    python examples/mnist.py --device cuda:sim --digits 256 --hidden 16   # its kernels without a GPU: slow, so a few

The digits come from --data or TENSORLITE_DATA, the cache, or a download; without all of them the small sample inside
the package serves, and the first line of the output says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from itertools import pairwise

import numpy as np

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.amp import GradScaler, autocast
from tensorlite.data import DataLoader, TensorDataset, load_mnist
from tensorlite.data.mnist import MnistArrays
from tensorlite.nn import functional as F

PRECISIONS = {"float32": None, "bf16": tl.bfloat16, "fp16": tl.float16}


def mlp(sizes: list[int]) -> nn.Sequential:
    """Linear layers of the given sizes with ReLU between them; the output is raw scores."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def as_tensors(images: np.ndarray, labels: np.ndarray, device: str) -> tuple[tl.Tensor, tl.Tensor]:
    """uint8 images (N, 28, 28) as float32 (N, 784) of mean 0 and deviation 1, and the labels as int64 (N,)."""
    pixels = images.reshape(-1, 28 * 28).astype(np.float32)
    pixels -= 0.1307 * 255
    pixels /= 0.3081 * 255
    return tl.from_numpy(pixels).to(device), tl.from_numpy(labels).long().to(device)


def training_step(model: nn.Module, optimizer: optim.Optimizer, scaler: GradScaler, region: autocast,
                  meters: tl.Meters) -> tl.Captured:
    """The step for a batch; the meters take in its loss and how many digits it took for what they are."""

    @tl.capture  # recorded at the second call, then replayed without the Python in between
    def step(x: tl.Tensor, y: tl.Tensor) -> None:
        with region:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        meters.update(loss=(loss, len(y)), accuracy=(scores, y))  # on the device: nothing waits for a GPU

    return step


@tl.no_grad()
def predict(model: nn.Module, images: tl.Tensor) -> tl.Tensor:
    model.eval()
    return model(images).argmax(1)


def plot(path: str, history: dict[str, list[float]], digits: MnistArrays, guesses: np.ndarray) -> None:
    """Write a picture with the curves of training and the first test digits that were taken for others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    loss, accuracy = upper.subplots(1, 2)
    for name, values in history.items():
        axes = loss if "loss" in name else accuracy
        axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.legend()
    wrong = (guesses != digits.test_labels[:len(guesses)]).nonzero()[0]
    for axes, i in zip(lower.subplots(3, 8).flat, wrong, strict=False):
        axes.imshow(digits.test_images[i], cmap="gray_r")
        axes.set_title(f"{digits.test_labels[i]} taken for {guesses[i]}", fontsize=8)
    for axes in lower.axes:
        axes.axis("off")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's step size; a resumed run keeps its own")
    parser.add_argument("--decay", type=float, default=0.8, help="the step size shrinks to this part after every epoch")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="what matrices are multiplied in")
    parser.add_argument("--hidden", type=int, nargs="*", default=[256, 128], help="sizes of the hidden layers")
    parser.add_argument("--data", help="folder of the MNIST files, or 'sample' for the one in the package")
    parser.add_argument("--digits", type=int, help="use the first so many training and test digits alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", metavar="FILE", help="go on from this checkpoint, with the other options as then")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after every epoch")
    parser.add_argument("--plot", metavar="PNG", help="draw curves and misclassified digits (needs matplotlib)")
    options = parser.parse_args()
    if options.epochs < 1 or (options.digits is not None and options.digits < 1):
        parser.error("--epochs and --digits must be at least 1")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'tensorlite[plot]'")

    sample = options.data == "sample"
    try:
        digits = load_mnist(None if sample else options.data, sample=sample or None)
    except (OSError, ImportError) as error:
        parser.exit(1, f"MNIST is needed: {error}\n")
    print(digits.source, flush=True)
    tl.manual_seed(options.seed)
    first = slice(options.digits)
    x, y = as_tensors(digits.train_images[first], digits.train_labels[first], options.device)
    test_x, test_y = as_tensors(digits.test_images[first], digits.test_labels[first], options.device)
    loader = DataLoader(TensorDataset(x, y), options.batch_size, shuffle=True)
    model = mlp([28 * 28, *options.hidden, 10]).to(options.device)
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, options.decay)
    narrow = PRECISIONS[options.precision]
    region = autocast(options.device, narrow, enabled=narrow is not None)
    scaler = GradScaler(options.device, enabled=narrow is tl.float16)
    meters = tl.Meters(loss=tl.meters.Mean(), accuracy=tl.meters.Accuracy())
    step = training_step(model, optimizer, scaler, region, meters)
    history: dict[str, list[float]] = {"training loss": [], "training accuracy": [], "test accuracy": []}
    if options.resume:
        saved = tl.load_checkpoint(options.resume, model=model, optimizer=optimizer, scheduler=scheduler, loader=loader,
                                   scaler=scaler)
        history = saved["history"]

    for epoch in range(len(history["test accuracy"]) + 1, options.epochs + 1):
        start = time.perf_counter()
        model.train()
        for batch in tl.progress(loader, meters, desc=f"epoch {epoch}/{options.epochs}", leave=False):
            step(*batch)
        loss, accuracy = meters.end_epoch().values()
        scheduler.step()
        test = (predict(model, test_x) == test_y).float().mean().item()
        for values, value in zip(history.values(), (loss, accuracy, test), strict=True):
            values.append(value)
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.2%}, on test digits {test:.2%}, {seconds:.1f} s",
              flush=True)
        if options.save:
            tl.save_checkpoint(options.save, model=model, optimizer=optimizer, scheduler=scheduler, loader=loader,
                               scaler=scaler, epoch=epoch, history=history)

    print(f"test accuracy {history['test accuracy'][-1]:.2%}")
    if options.plot:
        plot(options.plot, history, digits, predict(model, test_x).cpu().numpy())


if __name__ == "__main__":
    main()
