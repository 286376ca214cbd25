"""Two networks against each other: one draws digits from noise, the other tells them from real ones.

    python examples/gan.py                               # 30 epochs, some minutes; the picture is gan.png
    python examples/gan.py --epochs 100 --plot digits.png --device cuda

Goodfellow et al. 2014: the discriminator D learns to give real digits high scores and drawn ones low, the generator G
to draw what D takes for real. Both learn in one captured step, which draws new noise at each replay. The picture has a
row for each stage of training, always of the same noise, and real digits below.
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

NOISE, COLUMNS = 64, 16  # numbers from which a digit is drawn, and digits in a row of the picture


def generator() -> nn.Sequential:
    """Noise (N, 64) to digits (N, 784) of pixels -1 to 1."""
    return nn.Sequential(
        nn.Linear(NOISE, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, 28 * 28), nn.Tanh(),
    )  # fmt: skip


def discriminator() -> nn.Sequential:
    """Digits (N, 784) to scores (N, 1): the higher, the more they look real. Dropout keeps it from knowing too much."""
    return nn.Sequential(
        nn.Linear(28 * 28, 512), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Linear(256, 1),
    )  # fmt: skip


def training_step(draw: nn.Module, judge: nn.Module) -> tl.Captured:
    """The step for a batch of real digits: the losses of the two networks."""
    draw_optimizer, judge_optimizer = (optim.Adam(m.parameters(), lr=3e-4, betas=(0.5, 0.999)) for m in (draw, judge))

    @tl.capture
    def step(real: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
        # With D as the sigmoid of a score: first D on -log D(real) - log(1 - D(drawn)). 0.9 keeps it from certainty.
        drawn = draw(tl.randn(len(real), NOISE, device=real.device))
        score = judge(real)
        judge_loss = F.binary_cross_entropy_with_logits(score, tl.full_like(score, 0.9))
        judge_loss = judge_loss + F.softplus(judge(drawn.detach())).mean()
        judge_optimizer.zero_grad()
        judge_loss.backward()
        judge_optimizer.step()
        # Then G on -log D(drawn).
        draw_loss = F.softplus(-judge(drawn)).mean()
        draw_optimizer.zero_grad()
        draw_loss.backward()
        draw_optimizer.step()
        return judge_loss.detach(), draw_loss.detach()

    return step


def plot(path: str, stages: dict[str, np.ndarray]) -> None:
    """Write a picture with a row of digits for each stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMNS * 0.7, len(stages) * 0.9), layout="constrained")
    for axes, (title, digits) in zip(figure.subplots(len(stages)), stages.items(), strict=True):
        axes.imshow(np.hstack(digits.reshape(-1, 28, 28)), cmap="gray_r", vmin=-1, vmax=1)
        axes.set_title(title, fontsize=9, loc="left")
        axes.axis("off")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--data", help="folder of the MNIST files, or 'sample' for the one in the package")
    parser.add_argument("--digits", type=int, default=60_000, help="use the first so many digits alone")
    parser.add_argument("--plot", metavar="PNG", default="gan.png", help="where the picture goes (needs matplotlib)")
    options = parser.parse_args()
    if min(options.epochs, options.digits) < 1 or importlib.util.find_spec("matplotlib") is None:
        parser.error("needs matplotlib (pip install 'tensorlite[plot]'), and --epochs and --digits of at least 1")
    sample = options.data == "sample"
    try:
        digits = MNIST(None if sample else options.data, sample=sample or None)
    except (OSError, ImportError) as error:
        parser.exit(1, f"MNIST is needed: {error}\n")
    print(digits.source, flush=True)
    tl.manual_seed(0)
    real = (digits.as_tensors(normalize=False)[0][: options.digits] * 2 - 1).to(options.device)
    loader = DataLoader(TensorDataset(real), batch_size=128, shuffle=True)
    draw, judge = generator().to(options.device), discriminator().to(options.device)
    step = training_step(draw, judge)
    noise = tl.randn(COLUMNS, NOISE, device=options.device)
    stages: dict[str, np.ndarray] = {}
    for epoch in range(1, options.epochs + 1):
        start, judge_loss, draw_loss = time.perf_counter(), 0, 0
        for (batch,) in tqdm(loader, f"epoch {epoch}/{options.epochs}", leave=False, disable=None):
            losses = step(batch)
            judge_loss, draw_loss = judge_loss + losses[0], draw_loss + losses[1]
        print(f"epoch {epoch}: loss of the discriminator {float(judge_loss) / len(loader):.3f}, of the generator "
              f"{float(draw_loss) / len(loader):.3f}, {time.perf_counter() - start:.1f} s", flush=True)
        if epoch in (1, options.epochs) or epoch % max(options.epochs // 5, 1) == 0:
            stages[f"epoch {epoch}"] = draw(noise).detach().cpu().numpy()
    plot(options.plot, stages | {"real digits": real[:COLUMNS].cpu().numpy()})
    print(f"the picture is in {options.plot}")


if __name__ == "__main__":
    main()
