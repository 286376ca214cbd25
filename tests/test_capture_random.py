"""Random training programs, captured and not: parameters, losses and optimizer state must be equal to the last bit.

Each seed draws a model, an optimizer with its options, what the step does around them, and what happens between calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.autograd import checkpoint
from tensorlite.nn import functional as F

WIDTH, CLASSES = 6, 4
OPTIMIZERS: tuple[tuple[Any, dict[str, tuple[Any, ...]]], ...] = (
    (optim.SGD, {"momentum": (0.0, 0.9), "weight_decay": (0.0, 0.1)}),
    (optim.Adam, {"amsgrad": (False, True), "weight_decay": (0.0, 0.1)}),
    (optim.AdamW, {"weight_decay": (0.0, 0.1), "maximize": (False, True)}),
    (optim.RMSprop, {"centered": (False, True), "momentum": (0.0, 0.5)}),
    (optim.Adagrad, {"lr_decay": (0.0, 0.01)}), (optim.Adadelta, {}), (optim.Adamax, {}), (optim.NAdam, {}),
    (optim.RAdam, {}), (optim.ASGD, {}), (optim.Lion, {}), (optim.Rprop, {}),
)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return x + self.second(F.gelu(self.first(x)))


class Counting(nn.Module):
    """A running mean, changed in place, as batch statistics are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", tl.zeros(WIDTH))

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        if self.training:
            with tl.no_grad():
                self.mean.mul_(0.9).add_(x.mean(0) * 0.1)
        return x - self.mean


class Twice(tl.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
        (x,) = ctx.saved_tensors
        return g * x * 2.5


class Views(nn.Module):
    """In-place changes through views, and a Function."""

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        y = x * 1.5
        y[:, ::2].mul_(0.5)
        y[0] = y[-1]
        return y + Twice.apply(y).clamp(max=3.0)


LAYERS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(WIDTH, WIDTH), lambda: nn.LayerNorm(WIDTH), lambda: nn.Dropout(0.3), nn.ReLU, nn.Tanh, nn.GELU,
    lambda: nn.Softmax(-1), Tied, Counting, Views,
)


class Program:
    """One random program. `step` is what is captured; `between` is what happens after a call."""

    def __init__(self, seed: int, device: str) -> None:
        draw = self.draw = random.Random(seed)
        tl.manual_seed(seed)
        layers = [draw.choice(LAYERS)() for _ in range(draw.randint(1, 5))]
        self.model = nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES)).to(device)
        self.embedding = nn.Embedding(9, WIDTH).to(device) if draw.random() < 0.4 else None
        self.dtype = tl.float64 if draw.random() < 0.15 else tl.float32
        self.model.to(self.dtype)
        params = list(self.model.parameters())
        if self.embedding is not None:
            params += self.embedding.to(self.dtype).parameters()
        make, options = draw.choice(OPTIMIZERS)
        chosen = {name: draw.choice(values) for name, values in options.items()}
        half = len(params) // 2 if draw.random() < 0.5 else len(params)
        groups: Any = params
        if half < len(params):
            groups = [{"params": params[:half]}, {"params": params[half:], "lr": 0.003}]
        self.optimizers = [make(groups, **chosen)]
        if half < len(params) and draw.random() < 0.4:
            self.optimizers = [make(params[:half], **chosen), optim.SGD(params[half:], lr=0.01)]
        self.scheduler = optim.lr_scheduler.StepLR(self.optimizers[0], 2, 0.7) if draw.random() < 0.5 else None
        self.params = params
        self.set_to_none = draw.random() < 0.7
        self.clip = draw.choice((None, None, "norm", "value"))
        self.parts = draw.choice((1, 1, 2))
        self.checkpointed = draw.random() < 0.2
        self.penalty = draw.random() < 0.2
        self.hooked = draw.random() < 0.2
        self.autocast = draw.choice((None, None, None, tl.bfloat16))
        self.scaler = tl.amp.GradScaler(init_scale=8.0, growth_interval=2) if draw.random() < 0.25 else None
        self.device = device
        if self.hooked:
            params[0].register_hook(lambda g: g * 0.5)
        self.rows = draw.sample((3, 5, 8), draw.choice((1, 1, 2)))
        self.events = [draw.choice(EVENTS) if draw.random() < 0.3 else None for _ in range(9)]

    def step(self, x: tl.Tensor, y: tl.Tensor) -> tuple[tl.Tensor, dict[str, tl.Tensor]]:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=self.set_to_none)
        total = tl.zeros((), device=x.device)
        for _ in range(self.parts):
            loss = self.loss(x, y)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            total = total + loss.detach()
        for optimizer in self.optimizers:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.params, 0.5) if self.clip == "norm" else tl.ones((), device=x.device)
        if self.clip == "value":
            nn.utils.clip_grad_value_(self.params, 0.1)
        for optimizer in self.optimizers:
            optimizer.step() if self.scaler is None else self.scaler.step(optimizer)
        if self.scaler is not None:
            self.scaler.update()
        return total, {"norm": norm}

    def loss(self, x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        if self.embedding is not None:
            x = x + self.embedding(y)
        with tl.autocast(x.device.type, self.autocast or tl.bfloat16, enabled=self.autocast is not None):
            out = checkpoint(self.model, x) if self.checkpointed else self.model(x)
            loss = F.cross_entropy(out, y)
        if self.penalty:
            loss = loss + sum((p * p).sum() for p in self.params) * 0.01
        return loss

    def run(self, captured: bool) -> list[np.ndarray]:
        step = tl.capture(self.step) if captured else self.step
        numbers = np.random.default_rng(1)
        seen = []
        for i, event in enumerate(self.events):
            rows = self.rows[i % len(self.rows)]
            x = tl.from_numpy(numbers.standard_normal((rows, WIDTH))).to(self.dtype).to(self.device)
            y = tl.from_numpy(numbers.integers(0, CLASSES, rows)).to(self.device)
            loss, more = step(x, y)
            seen += [loss.cpu().numpy().copy(), more["norm"].detach().cpu().numpy().copy()]
            if self.scheduler is not None:
                self.scheduler.step()
            if event is not None:
                event(self)
            seen += [p.detach().cpu().numpy().copy() for p in self.params]
        for optimizer in self.optimizers:
            seen += [value.cpu().numpy().copy() for held in optimizer.state.values() for value in held.values()]
        if captured:
            assert step.stats().calls == len(self.events)
        return seen


def freeze(program: Program) -> None:
    program.params[0].requires_grad_(not program.params[0].requires_grad)
    program.params[0].grad = None


def reload(program: Program) -> None:
    program.model.load_state_dict(program.model.state_dict())
    for optimizer in program.optimizers:
        optimizer.load_state_dict(optimizer.state_dict())


def shrink(program: Program) -> None:
    with tl.no_grad():
        for p in program.params:
            p.mul_(0.9)


def replace(program: Program) -> None:
    program.params[-1].data = program.params[-1].detach() * 0.5


def seed_anew(program: Program) -> None:
    tl.manual_seed(7)


def evaluate(program: Program) -> None:
    program.model.eval()
    with tl.no_grad():
        program.model(tl.ones(2, WIDTH, dtype=program.dtype, device=program.device))
    program.model.train()


def stay_in_evaluation(program: Program) -> None:
    program.model.eval()


EVENTS: tuple[Callable[[Program], None], ...] = (
    freeze, reload, shrink, replace, seed_anew, evaluate, stay_in_evaluation)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_gives_the_same_captured(seed: int, device: str) -> None:
    if device != "cpu" and seed % 10:
        pytest.skip("a few seeds do for slow devices")
    wanted = Program(seed, device).run(captured=False)
    found = Program(seed, device).run(captured=True)
    for a, b in zip(found, wanted, strict=True):
        if device == "cuda":
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        else:
            np.testing.assert_array_equal(a, b)
