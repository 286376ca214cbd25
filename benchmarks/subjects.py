"""The subjects of the training-step benchmarks: one step of an MLP in each library, as its own docs say it is fastest.

A subject works in a process of its own. It sets up a network with given weights and 8 batches, and then makes steps:
forward, cross entropy, backward, Adam (the learning rate given, all else as PyTorch's defaults). The mathematics is the
same for all, and the losses of the first steps must show it.

Times are honest only in the normal range of numbers: a unit that died leaves Adam's first moment denormal some 800
steps later, and slows down whoever does not flush. So no run is longer than 500 steps from the initial weights;
`denormals` proves it, and denormals.py measures the other case.
"""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import common
import jax_mlp
from by_hand import Mlp

BATCHES = 8
STEPS_FROM_START = 500
WARM_UP_STEPS = 3


def random_batches(inputs: int, classes: int, batch: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches that every subject trains on, in this order, again and again."""
    generator = np.random.default_rng(seed)
    return [(generator.standard_normal((batch, inputs), dtype=np.float32), generator.integers(0, classes, batch))
            for _ in range(BATCHES)]


class Session:
    """A worker's state. A subject says how it prepares, begins anew, makes a step and waits for the device."""

    device = "cpu"
    sizes: list[int]
    weights: dict[str, np.ndarray]
    learning_rate: float

    def setup(self, sizes: list[int], batch: int, seed: int = 0, device: str = "cpu", learning_rate: float = 1e-3,
              identity: bool = False) -> bool:
        """Network, optimizer and data on the device, ready for the first step."""
        self.device = device
        self.sizes, self.batch, self.learning_rate = sizes, batch, learning_rate
        self.weights = common.initial_weights(sizes, seed, identity)
        self.estimate = 0.0
        self.prepare(random_batches(sizes[0], sizes[-1], batch, seed + 1))
        return True

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Make network and optimizer, compile, and bring the batches to the device."""
        raise NotImplementedError

    def start_over(self) -> None:
        """Back to the initial weights, and an optimizer that has made no step."""
        raise NotImplementedError

    def step(self, number: int) -> Any:
        """A step on the batch of that number; the loss, perhaps still to be computed."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until all steps are done."""

    def losses(self, steps: int) -> list[float]:
        """The losses of the first steps, for the check that all subjects do the same."""
        self.start_over()
        return [float(self.step(i % BATCHES).item()) for i in range(steps)]

    def turn(self, seconds: float, read_each: bool = False) -> float:
        """Microseconds a step over so long a time, in runs from the start; see `timed`."""
        done, passed = 0, 0.0
        if not self.estimate:
            self.estimate = self.timed(WARM_UP_STEPS, read_each)[0]
            if WARM_UP_STEPS * self.estimate > seconds * 1e6:
                return self.estimate
        while not done or passed < seconds * 1e6:
            steps = round((seconds * 1e6 - passed) / self.estimate)
            steps = min(max(steps, WARM_UP_STEPS), STEPS_FROM_START)
            self.estimate = self.timed(steps, read_each)[0]
            done, passed = done + steps, passed + steps * self.estimate
        return passed / done

    def timed(self, steps: int, read_each: bool = False) -> tuple[float, float]:
        """Microseconds a step: until all is done and the last loss read, and until the host has queued all of it.

        Steps before the clock starts wake the thread pools. With `read_each` every loss is read, as by a program that
        shows it; without, the last one alone.
        """
        self.start_over()
        for i in range(WARM_UP_STEPS):
            loss = self.step(i)
        self.synchronize()
        start = time.perf_counter()
        for i in range(steps):
            loss = self.step(i % BATCHES)
            if read_each:
                loss.item()
        queued = time.perf_counter()
        loss.item()
        self.synchronize()
        return (time.perf_counter() - start) / steps * 1e6, (queued - start) / steps * 1e6

    def host_turn(self, steps: int = 5) -> float:
        """Microseconds a step that the host needs to queue it: of few steps, which any queue holds."""
        return self.timed(steps)[1]

    def denormals(self) -> float:
        """The share of denormal numbers in what the last run left: gradients and optimizer state."""
        arrays = [np.asarray(array) for array in self.kept()]
        tiny = np.finfo(np.float32).tiny
        count = sum(int(((array != 0) & (np.abs(array) < tiny)).sum()) for array in arrays)
        return count / max(1, sum(array.size for array in arrays))

    def kept(self) -> Iterator[Any]:
        """Gradients and optimizer state, where they can be looked at."""
        return iter(())

    def config(self) -> str:
        """What tensorlite says about its kernels, BLAS and threads; nothing from others."""
        return ""


class Eager(Session):
    """The step that users of tensorlite and of torch write."""

    moments = 0.0  # with which Adam's state begins

    def __init__(self, library: str) -> None:
        self.lib = importlib.import_module(library)

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        lib = self.lib
        if self.device == "cpu":
            common.build_kernels(lib)
        self.model = self.network().to(self.device)
        self.begun = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.optimizer = lib.optim.Adam(self.model.parameters(), lr=self.learning_rate, **self.adam_options())
        self.batches = [(lib.from_numpy(x).to(self.device), lib.from_numpy(y).to(self.device)) for x, y in batches]

    def network(self) -> Any:
        """The model with its initial weights."""
        return common.build_mlp(self.lib, self.sizes, self.weights)

    def adam_options(self) -> dict[str, Any]:
        """torch's docs: "fused" is the fastest of its three implementations."""
        return {"fused": True} if self.lib.__name__ == common.RIVAL else {}

    def start_over(self) -> None:
        """In place, for recordings hold these addresses."""
        common.set_parameters(self.lib, self.model, self.begun.values())
        for state in self.optimizer.state.values():
            for name, value in state.items():
                value.fill_(0.0 if name == "step" else self.moments)

    def loss(self, x: Any, y: Any) -> Any:
        """The forward pass."""
        return self.lib.nn.functional.cross_entropy(self.model(x), y)

    def eager_step(self, x: Any, y: Any) -> Any:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def step(self, number: int) -> Any:
        return self.eager_step(*self.batches[number])

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.lib.cuda.synchronize()

    def config(self) -> str:
        text = str(self.lib.show_config()) if self.lib.__name__ == common.SUBJECT else ""
        return text.replace(str(Path.home()), "~")  # of the cache's path

    def kept(self) -> Iterator[Any]:
        for parameter in self.model.parameters():
            yield from (tensor.detach().cpu().numpy() for tensor in
                        (parameter.grad, *self.optimizer.state[parameter].values()) if tensor is not None)


class Captured(Eager):
    """tensorlite's step as `tl.capture` records and replays it; each call copies its batch into the recording."""

    def __init__(self) -> None:
        super().__init__(common.SUBJECT)

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        super().prepare(batches)
        model, optimizer, cross_entropy = self.model, self.optimizer, self.lib.nn.functional.cross_entropy

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        self.captured = self.lib.capture(step)

    def step(self, number: int) -> Any:
        return self.captured(*self.batches[number])


class TorchCompile(Eager):
    """torch with forward and backward compiled for this shape; its fused Adam is one kernel already."""

    def __init__(self) -> None:
        super().__init__(common.RIVAL)

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        super().prepare(batches)
        self.lib.compiler.reset()  # else a second shape would make it compile for shapes that vary
        model, cross_entropy = self.model, self.lib.nn.functional.cross_entropy
        self.loss = self.lib.compile(lambda x, y: cross_entropy(model(x), y), mode="max-autotune", dynamic=False)
        self.step(0)


class TorchGraph(Eager):
    """torch's eager step captured once as a CUDA graph; a step copies its batch into place and replays."""

    def __init__(self) -> None:
        super().__init__(common.RIVAL)

    def adam_options(self) -> dict[str, Any]:
        return {"fused": True, "capturable": True}

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        super().prepare(batches)
        cuda = self.lib.cuda
        self.x, self.y = (part.clone() for part in self.batches[0])
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                self.eager_step(self.x, self.y)
        cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad()  # the gradients of the capture then lie in the graph's own memory
        self.graph = cuda.CUDAGraph()
        with cuda.graph(self.graph):
            self.captured_loss = self.eager_step(self.x, self.y)

    def step(self, number: int) -> Any:
        x, y = self.batches[number]
        self.x.copy_(x)
        self.y.copy_(y)
        self.graph.replay()
        return self.captured_loss


class Jax(Session):
    """The step of jax_mlp.py, jitted, its buffers donated, and dispatched without waiting, as JAX's users run it."""

    def __init__(self) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave a GPU's memory to the others
        self.jax = importlib.import_module("jax")
        self.jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as in the others

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        jax = self.jax
        if self.device == "cuda" and jax.default_backend() != "gpu":
            raise RuntimeError("jax finds no GPU")
        self.compiled = jax.jit(jax_mlp.step_function(jax, self.learning_rate), donate_argnums=(0, 1))
        self.batches = [(jax.device_put(x), jax.device_put(y.astype(np.int32))) for x, y in batches]
        self.start_over()
        self.step(0)

    def start_over(self) -> None:
        self.params, self.state = jax_mlp.start(self.jax, self.weights)

    def step(self, number: int) -> Any:
        self.params, self.state, loss = self.compiled(self.params, self.state, *self.batches[number])
        return loss

    def synchronize(self) -> None:
        self.jax.block_until_ready((self.params, self.state))

    def kept(self) -> Iterator[Any]:
        return iter(self.jax.tree.leaves(self.state))


class Tinygrad(Session):
    """tinygrad's step under TinyJit, as in its examples."""

    def __init__(self) -> None:
        self.tiny = importlib.import_module("tinygrad")
        self.nn = importlib.import_module("tinygrad.nn")
        helpers = importlib.import_module("tinygrad.helpers")
        self.training = helpers.Context(TRAINING=1)

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        tensor, nn = self.tiny.Tensor, self.nn
        self.training.__enter__()
        self.layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(self.sizes)]
        optimizer = nn.optim.Adam(nn.state.get_parameters(self.layers), lr=self.learning_rate)
        self.optimizer = optimizer

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            for layer in self.layers[:-1]:
                x = layer(x).relu()
            loss = self.layers[-1](x).sparse_categorical_crossentropy(y).backward()
            return loss.realize(*optimizer.schedule_step())

        self.jitted = self.tiny.TinyJit(step)
        self.batches = [(tensor(x).realize(), tensor(y.astype(np.int32)).realize()) for x, y in batches]
        self.begun_state = {name: value.numpy() for name, value in nn.state.get_state_dict(optimizer).items()}
        for number in range(WARM_UP_STEPS):
            self.step(number)

    def start_over(self) -> None:
        tensor = self.tiny.Tensor
        targets = [part for layer in self.layers for part in (layer.weight, layer.bias)]
        pairs = [*zip(targets, self.weights.values(), strict=True)]
        held = self.nn.state.get_state_dict(self.optimizer)
        pairs += [(held[name], value) for name, value in self.begun_state.items() if not name.startswith("params")]
        for target, value in pairs:
            target.assign(tensor(value).reshape(target.shape).contiguous()).realize()

    def step(self, number: int) -> Any:
        return self.jitted(*self.batches[number])

    def synchronize(self) -> None:
        self.tiny.Device[self.tiny.Device.DEFAULT].synchronize()


class ByHand(Session):
    """NumPy's or CuPy's functions alone: what a framework has to beat."""

    def __init__(self, library: str) -> None:
        self.xp = importlib.import_module(library)

    def prepare(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.mlp = Mlp(self.xp, self.sizes, self.batch, self.learning_rate)
        self.batches = [(self.xp.asarray(x), self.xp.asarray(y)) for x, y in batches]

    def start_over(self) -> None:
        self.mlp.load(self.weights)

    def step(self, number: int) -> Any:
        return self.mlp.step(*self.batches[number])

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.xp.cuda.Device().synchronize()


class Subject(NamedTuple):
    """How a subject is called in tables, how its session is made, what it needs, and where it can work."""

    label: str
    library: str
    make: Any
    devices: tuple[str, ...] = ("cpu", "cuda")
    environment: tuple[tuple[str, str], ...] = ()


SUBJECTS = {
    "tensorlite-captured": Subject("tensorlite, captured", "tensorlite", Captured, ("cpu", "cuda", "cuda:sim")),
    "tensorlite-numpy": Subject("tensorlite, captured, without a compiler", "tensorlite", Captured, ("cpu",),
                                (("TENSORLITE_COMPILED", "0"),)),
    "tensorlite": Subject("tensorlite, eager", "tensorlite", lambda: Eager("tensorlite"),
                          ("cpu", "cuda", "cuda:sim")),
    "torch": Subject("torch, eager, fused Adam", "torch", lambda: Eager("torch")),
    "torch-compile": Subject("torch.compile", "torch", TorchCompile),
    "torch-graph": Subject("torch, CUDA graph", "torch", TorchGraph, ("cuda",)),
    "jax": Subject("JAX, jit", "jax", Jax),
    "tinygrad": Subject("tinygrad, TinyJit", "tinygrad", Tinygrad, ("cpu",), (("DEV", "CPU"),)),
    "numpy": Subject("NumPy by hand", "numpy", lambda: ByHand("numpy"), ("cpu",)),
    "cupy": Subject("CuPy by hand", "cupy", lambda: ByHand("cupy"), ("cuda",)),
}
RIVALS = ("torch", "torch-compile", "torch-graph", "jax", "tinygrad")


def why_missing(subject: str, device: str) -> str | None:
    """Why a subject cannot be measured on a device; None if, as far as one can tell without trying, it can."""
    known = SUBJECTS[subject]
    if not common.installed(known.library):
        return "not installed"
    if device not in known.devices:
        return f"not for device {device}"
    if subject == "tinygrad" and not shutil.which(os.environ.get("CC", "clang")):
        return "its CPU device needs clang"
    return None


def start(script: str, subject: str, threads: int | None) -> common.Worker:
    """A worker process of `script` for a subject, in the environment that it needs."""
    return common.Worker(script, subject, threads, **dict(SUBJECTS[subject].environment))


def disagreement(losses: list[float], reference: list[float]) -> float:
    """The largest relative difference; infinite for what is not a number."""
    a, b = np.array(losses), np.array(reference)
    difference = float(np.max(np.abs(a - b) / np.abs(b)))
    return difference if np.isfinite(difference) else float("inf")


def labels(names: Iterable[str]) -> dict[str, str]:
    """How subjects are called in tables."""
    return {name: SUBJECTS[name].label for name in names}
