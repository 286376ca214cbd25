"""Loads that take minutes, for figures in docs/reliability.md: depth, growth and threads.

    PYTHONPATH=tests python tests/loads.py chain --count 1000000
    PYTHONPATH=tests python tests/loads.py steps --count 100000
    PYTHONPATH=tests python tests/loads.py threads --count 600          (seconds)
    PYTHONPATH=tests python tests/loads.py broadcasting --count 1000000 (needs torch)
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from in_threads import THREADS, in_threads

import tensorlite as tl
from tensorlite import nn, optim


def resident() -> int:
    """Bytes of memory that this process holds now."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024


def chain(count: int) -> str:
    """Forward, backward and release of a chain of additions."""
    x = tl.ones(1, requires_grad=True)
    began = time.perf_counter()
    y = x
    for _ in range(count):
        y = y + x
    forward = time.perf_counter()
    y.backward()
    backward = time.perf_counter()
    del y
    released = time.perf_counter()
    assert x.grad is not None and x.grad.item() == count + 1.0
    parts = [forward - began, backward - forward, released - backward]
    return "forward {:.2f} s, backward {:.2f} s, release {:.2f} s".format(*parts)


def steps(count: int) -> str:
    """Training steps of a 64 x 64 layer without the garbage collector: how much memory grows after the hundredth."""
    gc.disable()
    model = nn.Linear(64, 64)
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x = tl.randn(64, 64)
    began, before = time.perf_counter(), 0
    for number in range(count):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        before = resident() if number == 100 else before
    return f"{time.perf_counter() - began:.1f} s, growth {(resident() - before) / 1e6:.2f} MB"


def threads(seconds: int) -> str:
    """Sixteen threads add gradients of whole numbers to one shared leaf; the sum must be exact."""
    shared = tl.zeros(100, dtype=tl.float64, requires_grad=True)
    end = time.monotonic() + seconds

    def work(number: int) -> tuple[int, int]:
        choose, total, passes = random.Random(number), 0, 0
        while time.monotonic() < end:
            factor = choose.randrange(100)
            h = shared * float(factor)
            (h + h.detach() * 0.0).sum().backward()
            total, passes = total + factor, passes + 1
        return total, passes

    results = in_threads(work, timeout=seconds + 120.0)
    assert shared.grad is not None
    assert shared.grad.tolist() == [float(sum(total for total, _ in results))] * 100
    return f"{THREADS} threads, {sum(passes for _, passes in results)} backward passes, the sum exact"


def broadcasting(count: int) -> str:
    """Random pairs of shapes: values and both gradients against torch, to the bit."""
    import torch

    rng, wrong = random.Random(0), 0
    for _ in range(count):
        full = [rng.randrange(4) for _ in range(rng.randrange(5))]
        arrays = []
        for _ in range(2):
            shape = [rng.choice([1, n]) for n in full[rng.randint(0, len(full)):]]
            arrays.append(np.array([rng.randint(-4, 4) for _ in range(int(np.prod(shape)))], np.float64).reshape(shape))
        name = rng.choice(["add", "sub", "mul"])
        results = []
        for library in (tl, torch):
            a, b = (library.tensor(array, requires_grad=True) for array in arrays)
            out = getattr(library, name)(a, b)
            out.sum().backward()
            results.append([np.asarray(t.detach().numpy()) for t in (out, a.grad, b.grad)])
        wrong += any(x.shape != y.shape or not np.array_equal(x, y) for x, y in zip(*results, strict=True))
    return f"{count} cases, {wrong} differences"


LOADS: dict[str, Callable[[int], str]] = {"chain": chain, "steps": steps, "threads": threads,
                                          "broadcasting": broadcasting}


def main() -> None:
    parser = argparse.ArgumentParser(description="Loads of which docs/reliability.md has figures.")
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    print(f"{options.load} {options.count}: {LOADS[options.load](options.count)}")


if __name__ == "__main__":
    main()
