"""A training step of an MLP (784-256-128-10, batch 128, Adam, cross entropy) on a GPU, beside what one uses instead.

    python benchmarks/gpu_step.py
    python benchmarks/gpu_step.py --subjects tensorlite torch --rounds 31
    python benchmarks/gpu_step.py --device cuda:sim --hidden 16 16 --batch 4 --steps 1    # dry run: of no meaning

Every subject sits in a process of its own with the same data, resident on the device, the same initial weights and
batch order, and float32 products without TF32; they take turns. Before any timing the losses of the first steps must
agree. Reported are medians over rounds of two times a step: whole, until the device has done all of the steps, and the
host's, until Python has queued them, begun with an idle device. tensorlite's eager step is to be compared with `torch`,
torch's eager step with its default Adam; `torch-fused` has Adam(fused=True), `torch-graph` replays a CUDA graph,
`torch-compile` compiles forward, backward and update, `jax` is one jitted function.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import common
import gpu_common

BATCHES = 8
CHECKED_STEPS = 20
LEARNING_RATE = 1e-3


def random_batches(inputs: int, batch: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches that every subject trains on, in this order, again and again."""
    generator = np.random.default_rng(seed)
    return [(generator.standard_normal((batch, inputs), dtype=np.float32), generator.integers(0, 10, batch))
            for _ in range(BATCHES)]


class Session:
    """A worker's state. A subject says how it sets up, makes a step, reads a loss and waits for the device."""

    def setup(self, device: str, sizes: list[int], batch: int, seed: int) -> bool:
        """Model, optimizer and data on the device."""
        raise NotImplementedError

    def step(self, number: int) -> Any:
        """A step on the batch of that number; the loss, still on the device."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait for the device."""
        raise NotImplementedError

    def losses(self, steps: int) -> list[float]:
        """The losses of the next steps, for the check that all do the same."""
        return [float(self.step(i % BATCHES)) for i in range(steps)]

    def run(self, steps: int) -> tuple[float, float]:
        """Microseconds a step: until the device is done, and until the host has queued the steps."""
        self.synchronize()
        start = time.perf_counter()
        for i in range(steps):
            self.step(i % BATCHES)
        queued = time.perf_counter()
        self.synchronize()
        return (time.perf_counter() - start) / steps * 1e6, (queued - start) / steps * 1e6


class Eager(Session):
    """The step that users of tensorlite and of torch write."""

    def __init__(self, library: str, **adam: Any) -> None:
        self.lib = importlib.import_module(library)
        self.adam = adam

    def setup(self, device: str, sizes: list[int], batch: int, seed: int) -> bool:
        lib = self.lib
        self.device = device if lib.__name__ == common.SUBJECT else gpu_common.rivals_device(device)
        self.model = common.build_mlp(lib, sizes, seed).to(self.device)
        self.optimizer = lib.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, **self.adam)
        self.batches = [(lib.from_numpy(x).to(self.device), lib.from_numpy(y).to(self.device))
                        for x, y in random_batches(sizes[0], batch, seed + 1)]
        return True

    def loss(self, x: Any, y: Any) -> Any:
        """The forward pass."""
        return self.lib.nn.functional.cross_entropy(self.model(x), y)

    def step(self, number: int) -> Any:
        x, y = self.batches[number]
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.lib.cuda.synchronize()


class TorchGraph(Eager):
    """torch's eager step captured once as a CUDA graph; a step copies its batch into place and replays."""

    def __init__(self) -> None:
        super().__init__("torch", capturable=True, fused=True)

    def setup(self, device: str, sizes: list[int], batch: int, seed: int) -> bool:
        super().setup(device, sizes, batch, seed)
        cuda = self.lib.cuda
        self.data = self.batches
        self.x, self.y = (part.clone() for part in self.data[0])
        self.batches = [(self.x, self.y)]
        begun = {name: value.clone() for name, value in self.model.state_dict().items()}
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(3):
                super().step(0)
        cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad()  # the gradients of the capture then lie in the graph's own memory
        self.graph = cuda.CUDAGraph()
        with cuda.graph(self.graph):
            self.captured_loss = super().step(0)
        self._start_over(begun)
        return True

    def _start_over(self, begun: dict[str, Any]) -> None:
        """Undo the steps that came before the capture, in place, for the graph holds these addresses."""
        self.model.load_state_dict(begun)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def step(self, number: int) -> Any:
        x, y = self.data[number]
        self.x.copy_(x)
        self.y.copy_(y)
        self.graph.replay()
        return self.captured_loss


class TorchCompile(Eager):
    """torch's step with forward, backward and update compiled."""

    def __init__(self) -> None:
        super().__init__("torch", capturable=True)

    def setup(self, device: str, sizes: list[int], batch: int, seed: int) -> bool:
        super().setup(device, sizes, batch, seed)
        model, cross_entropy = self.model, self.lib.nn.functional.cross_entropy
        self.compiled_loss = self.lib.compile(lambda x, y: cross_entropy(model(x), y))
        self.optimizer.step = self.lib.compile(self.optimizer.step)
        return True

    def loss(self, x: Any, y: Any) -> Any:
        return self.compiled_loss(x, y)


class Jax(Session):
    """The same network and Adam as one jitted function of jax.numpy, buffers donated."""

    def __init__(self) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory to the others
        self.jax = importlib.import_module("jax")
        self.jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as in the others

    def setup(self, device: str, sizes: list[int], batch: int, seed: int) -> bool:
        jax = self.jax
        if device == "cuda" and jax.default_backend() != "gpu":
            raise RuntimeError("jax finds no GPU")
        arrays = common.initial_weights(sizes, seed)
        self.params = {name: jax.device_put(array) for name, array in arrays.items()}
        self.moments = jax.tree.map(lambda p: (jax.numpy.zeros_like(p), jax.numpy.zeros_like(p)), self.params)
        self.count = jax.numpy.zeros((), jax.numpy.float32)
        self.batches = [(jax.device_put(x), jax.device_put(y.astype(np.int32)))
                        for x, y in random_batches(sizes[0], batch, seed + 1)]
        layers = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
        self.compiled = jax.jit(self._step_function(layers), donate_argnums=(0, 1, 2))
        self.last = None
        return True

    def _step_function(self, layers: list[str]) -> Any:
        jax, jnp = self.jax, self.jax.numpy

        def loss(params: Any, x: Any, y: Any) -> Any:
            for layer in layers:
                x = x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
                x = x if layer == layers[-1] else jnp.maximum(x, 0)
            return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

        def step(params: Any, moments: Any, count: Any, x: Any, y: Any) -> Any:
            value, grads = jax.value_and_grad(loss)(params, x, y)
            count = count + 1
            updated, kept = {}, {}
            for name, p in params.items():
                m, v = moments[name]
                m, v = 0.9 * m + 0.1 * grads[name], 0.999 * v + 0.001 * grads[name] ** 2
                corrected = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
                updated[name] = p - LEARNING_RATE / (1 - 0.9**count) * m / corrected
                kept[name] = (m, v)
            return updated, kept, count, value

        return step

    def step(self, number: int) -> Any:
        self.params, self.moments, self.count, self.last = self.compiled(
            self.params, self.moments, self.count, *self.batches[number]
        )
        return self.last

    def synchronize(self) -> None:
        self.jax.block_until_ready((self.params, self.last))


# A subject's name -> the library that it needs, whether it needs a GPU, and how it is made.
SUBJECTS: dict[str, tuple[str, bool, Any]] = {
    "tensorlite": ("tensorlite", False, lambda: Eager("tensorlite")),
    "torch": ("torch", False, lambda: Eager("torch")),
    "torch-fused": ("torch", False, lambda: Eager("torch", fused=True)),
    "torch-graph": ("torch", True, TorchGraph),
    "torch-compile": ("torch", True, TorchCompile),
    "jax": ("jax", False, Jax),
}


def why_missing(subject: str, device: str) -> str | None:
    """Why a subject cannot be measured; None if it can."""
    library, needs_gpu, _ = SUBJECTS[subject]
    if needs_gpu and device != "cuda":
        return "needs a GPU"
    return gpu_common.why_missing(library, device)


def start(subject: str, options: argparse.Namespace) -> tuple[common.Worker, list[float]] | str:
    """A worker that is set up, with its first losses; or why there is none."""
    reason = why_missing(subject, options.device)
    if reason is not None:
        return reason
    worker = common.Worker(__file__, subject, gpu_common.threads(options.device))
    sizes = [784, *options.hidden, 10]
    try:
        worker.ask(do="setup", device=options.device, sizes=sizes, batch=options.batch, seed=options.seed)
        return worker, worker.ask(do="losses", steps=CHECKED_STEPS)
    except (RuntimeError, BrokenPipeError) as error:
        return f"failed: {error}"


def disagreement(losses: list[float], reference: list[float]) -> float:
    """The largest relative difference; infinite for what is not a number."""
    a, b = np.array(losses), np.array(reference)
    difference = float(np.max(np.abs(a - b) / np.abs(b)))
    return difference if np.isfinite(difference) else float("inf")


def measure(workers: dict[str, common.Worker], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Rounds in turns, each beginning with another subject. The host's time is of few steps, which any queue holds."""
    whole: dict[str, list[float]] = {subject: [] for subject in workers}
    host: dict[str, list[float]] = {subject: [] for subject in workers}
    names = list(workers)
    for turn in range(options.rounds + 1):
        for place in range(len(names)):
            subject = names[(turn + place) % len(names)]
            times = workers[subject].ask(do="run", steps=options.steps)[0], workers[subject].ask(do="run", steps=5)[1]
            if turn:  # the first round warms up
                whole[subject].append(times[0])
                host[subject].append(times[1])
    return {
        subject: {"step_us": statistics.median(whole[subject]), "host_us": statistics.median(host[subject]),
                  "step_us_minimum": min(whole[subject]), "rounds_us": whole[subject]}
        for subject in names
    }


def main() -> None:
    parser = common.argument_parser(__doc__, "gpu_step.json")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cuda:sim", "cpu"))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--hidden", type=int, nargs=2, default=[256, 128])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200, help="of a turn")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=list(SUBJECTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        session = SUBJECTS[options.worker][2]()
        common.serve({"setup": session.setup, "losses": session.losses, "run": session.run})
        return
    subjects = list(dict.fromkeys(("tensorlite", *options.subjects)))
    with ThreadPoolExecutor(len(subjects)) as together:  # some compile for half a minute
        started = dict(zip(subjects, together.map(lambda subject: start(subject, options), subjects), strict=True))
    missing = {subject: reason for subject, reason in started.items() if isinstance(reason, str)}
    for subject, reason in missing.items():
        print(f"left out: {subject}: {reason}", flush=True)
    ready = {subject: pair for subject, pair in started.items() if not isinstance(pair, str)}
    workers = {subject: worker for subject, (worker, _) in ready.items()}
    first = {subject: losses for subject, (_, losses) in ready.items()}
    if "tensorlite" not in workers:
        raise SystemExit(1)
    differences = {subject: disagreement(losses, first["tensorlite"]) for subject, losses in first.items()}
    wrong = {subject: difference for subject, difference in differences.items() if not difference < 1e-3}
    if wrong:
        raise SystemExit(f"losses differ from tensorlite's by {wrong}: {first}")
    results = measure(workers, options)
    for worker in workers.values():
        worker.close()
    for subject, result in results.items():
        print(f"{subject:14} {result['step_us']:9.1f} us a step, {result['host_us']:9.1f} us of it on the host alone")
    record = {**gpu_common.environment(options.device), "hidden": options.hidden, "batch": options.batch,
              "steps_per_round": options.steps, "loss_differences": differences, "missing": missing, "results": results}
    if "torch" in results and options.device == "cuda":
        record["ratio_to_torch"] = results["tensorlite"]["step_us"] / results["torch"]["step_us"]
        print(f"tensorlite / torch: {record['ratio_to_torch']:.2f}")
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
