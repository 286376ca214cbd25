"""What the tests of the optimizers share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import optim
from tensorlite.optim.optimizer import Optimizer

ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Adamax, optim.NAdam,
       optim.RAdam, optim.Rprop, optim.ASGD, optim.Lion]


def leaf(values: Any, dtype: Any = tl.float64) -> tl.Tensor:
    return tl.tensor(values, dtype=dtype, requires_grad=True)


def random_leaves(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float64) -> list[tl.Tensor]:
    return [tl.from_numpy(np.asarray(rng.standard_normal(s), dtype)).requires_grad_() for s in shapes]


def values(*tensors: tl.Tensor) -> list[np.ndarray]:
    return [t.detach().numpy().copy() for t in tensors]


def run_both(name: str, options: dict[str, Any], shapes: list[tuple[int, ...]], steps: int, seed: int = 0,
             dtype: Any = np.float64) -> tuple[list[tl.Tensor], Optimizer, list[Any], Any]:
    """The same random gradients through both libraries; every parameter once goes without a gradient."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    ours = random_leaves(rng, *shapes, dtype=dtype)
    theirs = [torch.tensor(p.detach().numpy(), requires_grad=True) for p in ours]
    mine, other = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(steps):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = rng.standard_normal(tuple(p.shape)).astype(dtype)
            p.grad = None if step == i else tl.tensor(g)
            q.grad = None if step == i else torch.tensor(g)
        mine.step()
        other.step()
    return ours, mine, theirs, other
