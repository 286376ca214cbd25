"""The models of layers_step.py, written once for tensorlite and torch, which share names; their weights and batches."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import common

TOKENS, WIDTH, HEADS, BLOCKS, LENGTH = 65, 128, 4, 4, 128


def lenet(lib: ModuleType) -> Any:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, for images of 28x28."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def gpt(lib: ModuleType) -> Any:
    """A decoder after Radford et al. 2019: 4 blocks of width 128 with 4 heads, 65 different tokens."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            values = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(values.transpose(1, 2).reshape(batch, length, WIDTH))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Gpt(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(*[Block() for _ in range(BLOCKS)])
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions(lib.arange(tokens.shape[1]))
            return self.head(self.norm(self.blocks(x))).flatten(0, 1)

    return Gpt()


class Model(NamedTuple):
    """How a model is called in tables, how a library makes it, and one random batch for it."""

    label: str
    build: Callable[[ModuleType], Any]
    batch: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


MODELS = {
    "lenet": Model("LeNet, batch 64", lenet, lambda random: (
        random.standard_normal((64, 1, 28, 28), np.float32), random.integers(0, 10, 64))),
    "gpt": Model("GPT, 4 blocks of 128, batch 8 of 128 tokens", gpt, lambda random: (
        random.integers(0, TOKENS, (8, LENGTH)), random.integers(0, TOKENS, 8 * LENGTH))),
}


def built(lib: ModuleType, name: str, seed: int) -> Any:
    """A model with weights that NumPy draws, the same in each library: matrices U(±1/√inputs), else as they start."""
    model = MODELS[name].build(lib)
    random = np.random.default_rng(seed)
    values = []
    for parameter in model.parameters():
        bound = np.prod(parameter.shape[1:], dtype=np.float64) ** -0.5 if parameter.ndim > 1 else 0.0
        drawn = random.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
        values.append(lib.from_numpy(drawn) if parameter.ndim > 1 else parameter.detach().clone())
        if parameter.ndim == 1 and bool((parameter != 1).any()):  # a bias, which each library draws otherwise
            values[-1] = lib.zeros(*parameter.shape)
    common.set_parameters(lib, model, values)
    return model
