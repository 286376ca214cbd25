"""The MNIST job in three libraries: the same network, numbers and order, each library's fastest way to run it.

`train(library, job, device, seed)` trains, and tests after each epoch.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

import common
import jax_mlp


class Job(NamedTuple):
    """A recipe. `reach` is by how many pixels digits are moved, `peak` the largest learning rate; `digits` limits how
    many of the training and test digits are used."""

    hidden: tuple[int, ...]
    epochs: int
    peak: float
    reach: int = 0
    smoothing: float = 0.0
    batch: int = 128
    digits: int | None = None


JOBS = {
    "five-epochs": Job((256, 128), 5, 3e-3),
    "99-percent": Job((512, 512), 12, 2e-3, reach=1, smoothing=0.1),
}


def train(library: str, job: Job, device: str, seed: int) -> Iterator[tuple[float, float]]:
    """Train, and yield after each epoch the seconds spent in training and tests so far, and the accuracy.

    Those seconds begin when the library is imported, the digits are read, and network and optimizer made.
    """
    generator = np.random.default_rng(seed)
    weights = common.initial_weights((784, *job.hidden, 10), seed)
    images, labels = digits("train", job.digits)
    steps = len(images) // job.batch
    trainer = TRAINERS[library](job, device, weights, digits("t10k", job.digits))
    rates = learning_rates(job, steps)
    begun = time.perf_counter()
    for epoch in range(job.epochs):
        order = generator.permutation(len(images))[:steps * job.batch]
        if job.reach or not epoch:
            trainer.take(moved(images, job.reach, generator), labels)
        trainer.epoch(order, rates[epoch * steps:(epoch + 1) * steps])
        accuracy = trainer.test()
        yield time.perf_counter() - begun, accuracy


def digits(part: str, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first so many images (N, 28, 28) as bytes and labels (N,) as int64."""
    folder = common.mnist_folder()
    images = common.read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return images[:count], common.read_idx(folder / f"{part}-labels-idx1-ubyte.gz")[:count].astype(np.int64)


def learning_rates(job: Job, steps: int) -> np.ndarray:
    """The learning rate of each step: up to the peak over a tenth of all steps, then down to nearly zero."""
    progress = np.arange(job.epochs * steps) / (job.epochs * steps)
    return (job.peak * np.maximum(np.minimum(progress / 0.1, (1 - progress) / 0.9), 1e-4)).astype(np.float32)


def moved(images: np.ndarray, reach: int, generator: np.random.Generator) -> np.ndarray:
    """Each image moved by up to `reach` pixels along both axes, as rows of 784 bytes."""
    side = 2 * reach + 1
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach)))
    place = generator.integers(0, side * side, len(images))
    result = np.empty_like(images)
    for number in range(side * side):
        chosen = np.flatnonzero(place == number)
        down, right = divmod(number, side)
        result[chosen] = padded[chosen, down:down + 28, right:right + 28]
    return result.reshape(-1, 784)


class Trainer:
    """Network, optimizer and digits of one library on its device."""

    library: str

    def __init__(self, job: Job, device: str, weights: dict[str, np.ndarray],
                 test: tuple[np.ndarray, np.ndarray]) -> None:
        raise NotImplementedError

    def take(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Bring the training digits to the device, in place of those there."""
        raise NotImplementedError

    def epoch(self, order: np.ndarray, rates: np.ndarray) -> None:
        """A step for each learning rate, with the rows that are next in the order."""
        raise NotImplementedError

    def test(self) -> float:
        """The share of test digits that are right."""
        raise NotImplementedError


class TorchLike(Trainer):
    """tensorlite or torch: the step that users of both write. Where digits move, border pixels are rare, and Adam's
    state would hold denormal numbers: both are told to flush them."""

    adam: ClassVar[dict[str, Any]] = {}

    def __init__(self, job: Job, device: str, weights: dict[str, np.ndarray],
                 test: tuple[np.ndarray, np.ndarray]) -> None:
        self.lib = importlib.import_module(self.library)
        self.lib.set_flush_denormal(True)
        self.job, self.device = job, device
        self.model = common.build_mlp(self.lib, (784, *job.hidden, 10), weights).to(device)
        self.optimizer = self.lib.optim.Adam(self.model.parameters(), lr=job.peak, **self.adam)
        self.pixels = None
        self.test_x = self.on_device(test[0].reshape(-1, 784)).float().div_(255)
        self.test_y = self.on_device(test[1])

    def on_device(self, array: np.ndarray) -> Any:
        return self.lib.from_numpy(np.array(array)).to(self.device)

    def take(self, images: np.ndarray, labels: np.ndarray) -> None:
        if self.pixels is None:
            self.pixels = self.on_device(images)
            self.step = self.make_step(self.pixels, self.on_device(labels))
        else:
            self.pixels.copy_(self.lib.from_numpy(images))

    def make_step(self, pixels: Any, labels: Any) -> Any:
        """step(rows): gather these digits; forward, backward, update."""
        model, optimizer, smoothing = self.model, self.optimizer, self.job.smoothing
        cross_entropy = self.lib.nn.functional.cross_entropy

        def step(rows: Any) -> Any:
            x, y = pixels.index_select(0, rows).float().div_(255), labels.index_select(0, rows)
            loss = cross_entropy(model(x), y, label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    def epoch(self, order: np.ndarray, rates: np.ndarray) -> None:
        for rows, rate in zip(self.on_device(order).split(self.job.batch), rates, strict=True):
            self.optimizer.param_groups[0]["lr"] = float(rate)
            self.step(rows)

    def test(self) -> float:
        with self.lib.no_grad():
            return float((self.model(self.test_x).argmax(1) == self.test_y).float().mean().item())


class Torch(TorchLike):
    """torch's eager step; its docs call the fused Adam the fastest."""

    library, adam = "torch", {"fused": True}


class Tensorlite(TorchLike):
    """tensorlite's captured step."""

    library = "tensorlite"

    def make_step(self, pixels: Any, labels: Any) -> Any:
        return self.lib.capture(super().make_step(pixels, labels))


class Jax(Trainer):
    """JAX: one jitted function scans over an epoch."""

    library = "jax"

    def __init__(self, job: Job, device: str, weights: dict[str, np.ndarray],
                 test: tuple[np.ndarray, np.ndarray]) -> None:
        self.jax = jax = importlib.import_module("jax")
        self.job = job
        jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as in the others
        step = jax_mlp.step_function(jax, smoothing=job.smoothing)

        def floats(pixels: Any) -> Any:
            return pixels.astype(np.float32) / 255

        def epoch(params: Any, state: Any, x: Any, y: Any, order: Any, rates: Any) -> Any:
            def one(carried: Any, now: Any) -> Any:
                rows, rate = now
                *carried, loss = step(*carried, floats(x[rows]), y[rows], rate)
                return tuple(carried), loss

            return jax.lax.scan(one, (params, state), (order, rates))

        def right(params: Any, x: Any, y: Any) -> Any:
            return (jax_mlp.scores(jax, params, floats(x)).argmax(1) == y).mean()

        self.params, self.state = jax_mlp.start(jax, weights)
        self.run_epoch, self.right = jax.jit(epoch, donate_argnums=(0, 1)), jax.jit(right)
        self.test_x, self.test_y = jax.device_put(test[0].reshape(-1, 784)), jax.device_put(test[1].astype(np.int32))

    def take(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.x, self.y = self.jax.device_put(images), self.jax.device_put(labels.astype(np.int32))

    def epoch(self, order: np.ndarray, rates: np.ndarray) -> None:
        order = order.astype(np.int32).reshape(-1, self.job.batch)
        (self.params, self.state), _ = self.run_epoch(self.params, self.state, self.x, self.y, order, rates)

    def test(self) -> float:
        return float(self.right(self.params, self.test_x, self.test_y))


TRAINERS: dict[str, type[Trainer]] = {trainer.library: trainer for trainer in (Tensorlite, Torch, Jax)}
