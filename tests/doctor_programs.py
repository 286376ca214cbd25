"""Sound training programs of many kinds, in short, for test_doctor_healthy.py: each takes some steps when called."""

from __future__ import annotations

import copy
import math
from typing import Any

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.nn import functional as F

STEPS = 8


def update(optimizer: optim.Optimizer, loss: tl.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def convolutions() -> None:
    """Images, BatchNorm, residual blocks, pooling, momentum."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
            self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
            nn.init.zeros_(self.norms[1].weight)  # each block begins as the identity

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            y = self.norms[0](self.first(x)).relu()
            return (x + self.norms[1](self.second(y))).relu()

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(8), nn.MaxPool2d(2), Block(8), nn.AvgPool2d(4),
                          nn.Flatten(), nn.Linear(8, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for _ in range(STEPS):
        update(optimizer, F.cross_entropy(model(tl.randn(16, 3, 8, 8)), tl.randint(0, 4, (16,))))


def variational_autoencoder() -> None:
    """A loss that is a sum over pixels, far larger than the parameters."""
    encoder = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())
    optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    for _ in range(STEPS):
        x = (tl.rand(128, 784) > 0.8).float()
        mean, log_variance = encoder(x).chunk(2, 1)
        code = mean + (0.5 * log_variance).exp() * tl.randn_like(mean)
        loss = F.binary_cross_entropy(decoder(code), x, reduction="sum")
        update(optimizer, loss - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum())


def contrastive() -> None:
    """Scores of all pairs, with a temperature, against the diagonal."""
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        x = tl.randn(32, 20)
        first, second = (F.normalize(model(x + 0.1 * tl.randn(32, 20)), dim=1) for _ in range(2))
        update(optimizer, F.cross_entropy(first @ second.T / 0.07, tl.arange(32)))


def diffusion() -> None:
    """The noise in the data is predicted, with the time as a second argument."""

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time, self.layers = nn.Linear(16, 32), nn.Sequential(nn.SiLU(), nn.Linear(32, 32), nn.SiLU())
            self.enter, self.leave = nn.Linear(2, 32), nn.Linear(32, 2)
            nn.init.zeros_(self.leave.weight)

        def forward(self, x: tl.Tensor, t: tl.Tensor) -> tl.Tensor:
            angles = t.unsqueeze(1) * (tl.arange(8.0) * -0.5).exp()
            time = self.time(tl.cat([angles.sin(), angles.cos()], 1))
            return self.leave(self.layers(self.enter(x) + time))

    model = Denoiser()
    optimizer, average = optim.Adam(model.parameters(), lr=1e-3), copy.deepcopy(model).requires_grad_(False)
    for _ in range(STEPS):
        t, noise = tl.randint(0, 1000, (64,)).float(), tl.randn(64, 2)
        keep = (t / 1000 * math.pi / 2).cos().unsqueeze(1)
        x = keep * tl.randn(64, 2) + (1 - keep.square()).sqrt() * noise
        update(optimizer, F.mse_loss(model(x, t), noise))
        with tl.no_grad():
            for mine, other in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(other, 0.1)
            average(x, t)


def physics() -> None:
    """Derivatives of the network are in the loss."""
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        t = tl.rand(32, 1).requires_grad_()
        u = model(t)
        slope, = tl.autograd.grad(u.sum(), t, create_graph=True)
        start = model(tl.zeros(1, 1)) - 1.0
        update(optimizer, (slope + u).square().mean() + start.square().mean())


def policy_gradient() -> None:
    """Actions are drawn without gradients; episodes of different lengths; one step for each."""
    policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = optim.Adam(policy.parameters(), lr=1e-2)
    for episode in range(STEPS):
        states = tl.randn(5 + episode, 4)
        with tl.no_grad():
            actions = tl.multinomial(policy(states).softmax(1), 1)
        returns = tl.arange(5.0 + episode).flip(0)
        chosen = policy(states).log_softmax(1).gather(1, actions).squeeze(1)
        update(optimizer, -(chosen * (returns - returns.mean())).sum())


def adapters() -> None:
    """Low-rank updates of frozen weights, one factor of which starts at zero."""

    class Adapted(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.down = nn.Parameter(tl.randn(4, layer.in_features) / 4)
            self.up = nn.Parameter(tl.zeros(layer.out_features, 4))

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.layer(x) + x @ self.down.T @ self.up.T

    model = nn.Sequential(Adapted(nn.Linear(10, 32)), nn.ReLU(), Adapted(nn.Linear(32, 3)))
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(STEPS):
        update(optimizer, F.cross_entropy(model(tl.randn(32, 10)), tl.randint(0, 3, (32,))))


def distillation() -> None:
    """Towards a teacher's probabilities, softened, and the labels."""
    teacher, student = (nn.Sequential(nn.Linear(10, 32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 5)) for _ in "ts")
    teacher.eval()
    optimizer = optim.SGD(student.parameters(), lr=0.1)
    for _ in range(STEPS):
        x, y = tl.randn(32, 10), tl.randint(0, 5, (32,))
        with tl.no_grad():
            wanted = (teacher(x) / 2).softmax(1)
        scores = student(x)
        soft = F.kl_div((scores / 2).log_softmax(1), wanted, reduction="batchmean") * 4
        update(optimizer, soft + F.cross_entropy(scores, y))


def mixture_of_experts() -> None:
    """A gate of softmax weighs the experts' outputs."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(10, 4), nn.ModuleList([nn.Linear(10, 3) for _ in range(4)])

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            weights = self.gate(x).softmax(1)
            return (tl.stack([expert(x) for expert in self.experts], 1) * weights.unsqueeze(2)).sum(1)

    model = Experts()
    optimizer = optim.RMSprop(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        update(optimizer, F.cross_entropy(model(tl.randn(32, 10)), tl.randint(0, 3, (32,))))


def mixture_density() -> None:
    """-ln of a mixture of normal distributions, with deviations by softplus."""
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 9))
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        x = tl.rand(64, 1) * 2 - 1
        y = x.square() * (tl.randint(0, 2, (64, 1)) * 2 - 1).float() + 0.05 * tl.randn(64, 1)
        weight, mean, deviation = model(x).chunk(3, 1)
        deviation = F.softplus(deviation) + 1e-3
        density = -0.5 * ((y - mean) / deviation).square() - deviation.log() - 0.5 * math.log(2 * math.pi)
        update(optimizer, -(weight.log_softmax(1) + density).logsumexp(1).mean())


def siamese() -> None:
    """Distances of embeddings, with a margin: many of the losses are 0."""
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        anchor = tl.randn(32, 10)
        near, far = model(anchor + 0.1 * tl.randn(32, 10)), model(tl.randn(32, 10))
        here = model(anchor)
        update(optimizer, (F.pairwise_distance(here, near) - F.pairwise_distance(here, far) + 1.0).relu().mean())


def tasks() -> None:
    """Two heads on one body, one of which is trained every second step."""
    body, heads = nn.Sequential(nn.Linear(10, 32), nn.GELU()), nn.ModuleList([nn.Linear(32, 3), nn.Linear(32, 1)])
    optimizer = optim.Adam([{"params": body.parameters()}, {"params": heads.parameters(), "lr": 1e-2}], lr=1e-3)
    for step in range(STEPS):
        x = tl.randn(32, 10)
        loss = F.cross_entropy(heads[0](body(x)), tl.randint(0, 3, (32,)))
        if step % 2:
            loss = loss + F.huber_loss(heads[1](body(x)).squeeze(1), tl.randn(32))
        update(optimizer, loss)


def recurrent_cells() -> None:
    """A loop over time by hand, with truncated backpropagation and clipping by value."""
    cell, head = nn.LSTMCell(5, 16), nn.Linear(16, 1)
    optimizer = optim.Adam([*cell.parameters(), *head.parameters()], lr=3e-3)
    h, c = tl.zeros(16, 16), tl.zeros(16, 16)
    for _ in range(STEPS):
        loss: Any = 0.0
        for _ in range(6):
            x = tl.randn(16, 5)
            h, c = cell(x, (h, c))
            loss = loss + F.mse_loss(head(h).squeeze(1), x.sum(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_([*cell.parameters(), *head.parameters()], 0.5)
        optimizer.step()
        h, c = h.detach(), c.detach()


def embeddings() -> None:
    """Words to a mean of vectors to a class; most rows of the table get no gradient."""
    bag, head = nn.EmbeddingBag(5000, 32, mode="mean"), nn.Linear(32, 4)
    optimizer = optim.Adagrad([*bag.parameters(), *head.parameters()], lr=0.05)
    for _ in range(STEPS):
        update(optimizer, F.cross_entropy(head(bag(tl.randint(0, 5000, (32, 12)))), tl.randint(0, 4, (32,))))


def steps_backwards() -> None:
    """Backward one operation at a time."""
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for _ in F.cross_entropy(model(tl.randn(32, 10)), tl.randint(0, 3, (32,))).backward_steps():
            pass
        optimizer.step()


def meta_learning() -> None:
    """A step inside of the step, through which the outer gradient goes."""
    w, b = tl.randn(1, 8, requires_grad=True), tl.zeros(8, requires_grad=True)
    v = (tl.randn(8, 1) / 3).requires_grad_()
    optimizer = optim.Adam([w, b, v], lr=1e-2)
    for _ in range(STEPS):
        phase, x = tl.rand(1) * 3, tl.rand(16, 1) * 4 - 2
        y = (x + phase).sin()
        inner = ((x @ w + b).tanh() @ v - y).square().mean()
        grads = tl.autograd.grad(inner, [w, b, v], create_graph=True)
        fast = [p - 0.1 * g for p, g in zip((w, b, v), grads, strict=True)]
        update(optimizer, ((x @ fast[0] + fast[1]).tanh() @ fast[2] - y).square().mean())


def two_optimizers() -> None:
    """One for the matrices, one for the rest."""
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizers = (optim.Muon([p for p in model.parameters() if p.ndim == 2], lr=0.02),
                  optim.AdamW([p for p in model.parameters() if p.ndim == 1], lr=1e-3))
    for _ in range(STEPS):
        model.zero_grad()
        F.cross_entropy(model(tl.randn(32, 10)), tl.randint(0, 3, (32,))).backward()
        for optimizer in optimizers:
            optimizer.step()


def evaluation_only() -> None:
    """No training at all, and without no_grad."""
    model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.5), nn.Linear(16, 3)).eval()
    for _ in range(STEPS):
        x, y = tl.randn(32, 10), tl.randint(0, 3, (32,))
        F.cross_entropy(model(x), y).item()
        (model(x).argmax(1) == y).float().mean()


PROGRAMS = (convolutions, variational_autoencoder, contrastive, diffusion, physics, policy_gradient, adapters,
            distillation, mixture_of_experts, mixture_density, siamese, tasks, recurrent_cells, embeddings,
            steps_backwards, meta_learning, two_optimizers, evaluation_only)
