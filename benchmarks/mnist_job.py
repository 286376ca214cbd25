"""The whole MNIST job, process start to final accuracy: tensorlite against torch, in seconds of wall time.

    TENSORLITE_DATA=folder python benchmarks/mnist_job.py            # 5 epochs, median of 5 runs each

784-256-128-10, Adam 1e-3, batch 128. Every run is a fresh process: imports, reading the four gzipped files,
training and testing all count. Runs take turns; initial weights and shuffles are the same, drawn by NumPy.
The training loop is one function for both libraries, written for speed in eager form: the data are whole
tensors and a batch is one `index_select`; no loader stands between. Every run must reach --accuracy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import common

SIZES = (784, 256, 128, 10)


def load(lib: Any, part: str) -> tuple[Any, Any]:
    """Images (N, 784) as float32 in [0, 1] and labels (N,) as int64."""
    folder = common.mnist_folder()
    images = common.read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = common.read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return lib.tensor(images).reshape(-1, 784).float().div_(255), lib.tensor(labels).long()


def train(subject: str, epochs: int, batch: int, seed: int) -> float:
    """Train, and return the accuracy on the test digits."""
    library, adam_options = common.SUBJECTS[subject]
    lib = importlib.import_module(library)
    cross_entropy = lib.nn.functional.cross_entropy
    images, labels = load(lib, "train")
    model = common.build_mlp(lib, SIZES, seed)
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3, **adam_options)
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        for chosen in lib.from_numpy(generator.permutation(len(images))).split(batch):
            optimizer.zero_grad()
            loss = cross_entropy(model(images.index_select(0, chosen)), labels.index_select(0, chosen))
            loss.backward()
            optimizer.step()
    images, labels = load(lib, "t10k")
    with lib.no_grad():
        return float((model(images).argmax(1) == labels).float().mean().item())


def run(subject: str, options: argparse.Namespace) -> tuple[float, float]:
    """(wall seconds, accuracy) of one fresh process."""
    command = [sys.executable, __file__, "--worker", subject]
    command += [f"--epochs={options.epochs}", f"--batch={options.batch}", f"--seed={options.seed}"]
    start = time.perf_counter()
    finished = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=common.process_environment(options.threads)
    )
    seconds = time.perf_counter() - start
    accuracy = float(json.loads(finished.stdout))
    if accuracy < options.accuracy:
        raise SystemExit(f"{subject} reached only {accuracy:.4f}, below {options.accuracy}")
    return seconds, accuracy


def main() -> None:
    parser = common.argument_parser(__doc__, "mnist_job.json")
    subjects = list(common.SUBJECTS)
    parser.add_argument("--subjects", nargs="+", default=["tensorlite", "torch"], choices=subjects)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--accuracy", type=float, default=0.975, help="the least that every run must reach")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=subjects, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(train(options.worker, options.epochs, options.batch, options.seed))
        return
    common.mnist_folder()
    seconds: dict[str, list[float]] = {subject: [] for subject in options.subjects}
    accuracies: dict[str, float] = {}
    for turn in range(options.runs):
        for subject in options.subjects:
            elapsed, accuracies[subject] = run(subject, options)
            seconds[subject].append(elapsed)
            right = f"{accuracies[subject]:.4f} right"
            print(f"run {turn + 1}: {subject:12} {elapsed:6.2f} s, {right}", flush=True)
    medians = {subject: statistics.median(values) for subject, values in seconds.items()}
    first, *others = options.subjects
    ratios = {other: medians[first] / medians[other] for other in others}
    print("median: " + "  ".join(f"{subject} {value:.2f} s" for subject, value in medians.items()))
    for other, ratio in ratios.items():
        print(f"ratio {first}/{other} {ratio:.2f}")
    setting = {"epochs": options.epochs, "batch": options.batch, "sizes": SIZES, "seed": options.seed}
    record = {
        **common.environment(options.threads),
        **setting,
        "median_s": medians,
        "accuracy": accuracies,
        "runs_s": seconds,
        "measured": first,
        "ratio_to": ratios,
    }
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
