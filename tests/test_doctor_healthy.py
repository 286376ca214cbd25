"""tl.doctor on programs in which nothing is wrong: it says nothing, whatever the model, loss, optimizer or device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from doctor_programs import PROGRAMS

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import DataLoader, TensorDataset
from tensorlite.nn import functional as F

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-4),
    "adam": lambda p: optim.Adam(p, lr=3e-3),
    "adamw": lambda p: optim.AdamW(p, lr=1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3),
    "lion": lambda p: optim.Lion(p, lr=1e-4),
    "adagrad": lambda p: optim.Adagrad(p, lr=1e-2),
    **{f"default {cls.__name__}": lambda p, cls=cls: cls(p)
       for cls in (optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adadelta,
                   optim.Adagrad, optim.ASGD, optim.RMSprop, optim.Rprop)},
}


def mlp(activation: type[nn.Module] = nn.ReLU, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, outputs))


class Residual(nn.Module):
    """Ten residual blocks with normalisation, the last layer of each starting at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(10), nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 10))
                                     for _ in range(10)])
        for block in self.blocks:
            nn.init.zeros_(block[3].weight)
        self.head = nn.Linear(10, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Attending(nn.Module):
    """Two layers of a transformer over the features as a sequence, with a mask of -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        mask = tl.zeros(10, 10, device=x.device).masked_fill(tl.ones(10, 10, device=x.device).triu(1).bool(), -np.inf)
        return self.head(self.encoder(self.embed(x.unsqueeze(2)), mask)[:, -1])


class Recurrent(nn.Module):
    def __init__(self, kind: Any = nn.LSTM) -> None:
        super().__init__()
        self.rnn, self.head = kind(1, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.head(self.rnn(x.unsqueeze(2))[0][:, -1])


class Convolving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(),
                                    nn.Dropout(0.2), nn.Linear(32, 3))

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.layers(x.unsqueeze(1))


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "relu": mlp, "tanh": lambda: mlp(nn.Tanh), "sigmoid": lambda: mlp(nn.Sigmoid), "gelu": lambda: mlp(nn.GELU),
    "leaky": lambda: mlp(nn.LeakyReLU), "linear": lambda: nn.Linear(10, 3), "residual": Residual,
    "transformer": Attending, "lstm": Recurrent, "gru": lambda: Recurrent(nn.GRU), "conv": Convolving,
}


def data(n: int = 128, device: str = "cpu") -> tuple[tl.Tensor, tl.Tensor]:
    """Points around three centres."""
    y = tl.arange(n) % 3
    centres = tl.randn(3, 10)
    return (centres[y] + tl.randn(n, 10) * 0.7).to(device), y.to(device)


def train(model: nn.Module, optimizer: optim.Optimizer, loss_fn: Callable[..., tl.Tensor], x: tl.Tensor, y: tl.Tensor,
          epochs: int = 3) -> tl.insight.doctor.Report:
    """The usual loop, with an evaluation after each epoch."""
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    with tl.doctor(quiet=True) as d:
        for _ in range(epochs):
            total = 0.0
            model.train()
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = loss_fn(model(inputs), targets)
                loss.backward()
                optimizer.step()
                total += loss.item()
            model.eval()
            with tl.no_grad():
                loss_fn(model(x), y)
                model(x).argmax(-1)
    return d.report


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str) -> None:
    model = CLASSIFIERS[name]()
    report = train(model, optim.Adam(model.parameters(), lr=2e-3), F.cross_entropy, *data())
    assert not len(report), report
    assert not len(tl.doctor.check(model, F.cross_entropy, data(32)))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", ["relu", "conv"])
def test_optimizers(name: str, model: str) -> None:
    net = CLASSIFIERS[model]()
    report = train(net, OPTIMIZERS[name](net.parameters()), nn.CrossEntropyLoss(label_smoothing=0.1), *data())
    assert not len(report), report
    optimizer = OPTIMIZERS[name](net.parameters())
    report = tl.doctor.check(net, nn.CrossEntropyLoss(), data(32), optimizer)
    assert not len(report), report


LOSSES: dict[str, tuple[int, Callable[..., tl.Tensor]]] = {
    "cross_entropy": (3, F.cross_entropy),
    "weights": (3, lambda p, y: F.cross_entropy(p, y, tl.tensor([1.0, 2.0, 0.5]))),
    "sum": (3, lambda p, y: F.cross_entropy(p, y, reduction="sum")),
    "probabilities": (3, lambda p, y: F.cross_entropy(p, F.one_hot(y, 3).float() * 0.9 + 0.1 / 3)),
    "nll": (3, lambda p, y: F.nll_loss(F.log_softmax(p, 1), y)),
    "kl": (3, lambda p, y: F.kl_div(F.log_softmax(p, 1), F.one_hot(y, 3).float(), reduction="batchmean")),
    "bce": (1, lambda p, y: F.binary_cross_entropy(p.sigmoid().squeeze(1), (y == 0).float())),
    "bce logits": (1, lambda p, y: F.binary_cross_entropy_with_logits(p.squeeze(1), (y == 0).float())),
    "multi-label": (3, lambda p, y: F.binary_cross_entropy_with_logits(p, F.one_hot(y, 3).float())),
    "mse": (1, lambda p, y: F.mse_loss(p.squeeze(1), y.float())),
    "by hand": (1, lambda p, y: ((p - y.float().unsqueeze(1)) ** 2).mean()),
    "huber": (1, lambda p, y: F.huber_loss(p, y.float().unsqueeze(1))),
    "l1": (1, lambda p, y: F.l1_loss(p[:, 0], y.float())),
    "pairs": (1, lambda p, y: F.softplus(-(p - p.T) * (y.unsqueeze(1) - y).sign().float()).mean()),
    "softmax of targets": (3, lambda p, y: F.mse_loss(p.softmax(1), F.one_hot(y, 3).float())),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    outputs, loss_fn = LOSSES[name]
    model = mlp(outputs=outputs)
    report = train(model, optim.Adam(model.parameters(), lr=1e-3), loss_fn, *data())
    assert not len(report), report
    report = tl.doctor.check(model, loss_fn, data(32), optim.Adam(model.parameters(), lr=1e-2))
    assert not len(report), report


@pytest.mark.parametrize("narrow", [None, tl.bfloat16, tl.float16])
def test_captured_and_mixed_precision(narrow: Any, device: str) -> None:
    model = mlp().to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    region = tl.autocast(device, narrow, enabled=narrow is not None)
    scaler = tl.amp.GradScaler(device, enabled=narrow is tl.float16)
    x, y = data(32, device)

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
        with region:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach(), (scores.argmax(1) == y).sum()

    step(x, y)
    step(x, y)
    before = copy.deepcopy(model.state_dict())
    with tl.doctor(quiet=True) as d:
        losses = [step(x, y)[0].item() for _ in range(4)]
    assert not len(d.report), d.report
    assert "captured: test_captured" in str(d.report) or "step" in str(d.report)
    assert losses[-1] < losses[0] and any((before[k] != v).any() for k, v in model.state_dict().items())
    assert step(x, y)[0].item() < losses[-1]  # replayed again


def test_float16_overflow_that_a_scaler_catches() -> None:
    model = mlp()
    optimizer, scaler = optim.SGD(model.parameters(), lr=0.05), tl.amp.GradScaler("cpu", init_scale=2.0**22)
    x, y = data(32)
    with tl.doctor(quiet=True) as d:
        for _ in range(12):
            optimizer.zero_grad()
            with tl.autocast("cpu", tl.float16):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert scaler.get_scale() < 2.0**22
    assert not len(d.report), d.report


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program: Callable[[], None]) -> None:
    with tl.doctor(quiet=True) as d:
        program()
    assert not len(d.report), d.report


def test_gan() -> None:
    draw = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10), nn.Tanh())
    judge = nn.Sequential(nn.Linear(10, 32), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(32, 1))
    draw_optimizer, judge_optimizer = (optim.Adam(m.parameters(), lr=3e-4, betas=(0.5, 0.999)) for m in (draw, judge))
    with tl.doctor(quiet=True) as d:
        for _ in range(6):
            drawn, real = draw(tl.randn(32, 8)), tl.randn(32, 10).clamp(-1, 1)
            score = judge(real)
            loss = F.binary_cross_entropy_with_logits(score, tl.full_like(score, 0.9))
            loss = loss + F.softplus(judge(drawn.detach())).mean()
            judge_optimizer.zero_grad()
            loss.backward()
            judge_optimizer.step()
            loss = F.softplus(-judge(drawn)).mean()
            draw_optimizer.zero_grad()
            loss.backward()
            draw_optimizer.step()
        with tl.no_grad():
            draw(tl.randn(4, 8))
    assert not len(d.report), d.report


def test_autoencoder() -> None:
    images = (tl.rand(64, 49) > 0.8).float()
    model = nn.Sequential(nn.Linear(49, 16), nn.ReLU(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 49), nn.Sigmoid())
    report = train(model, optim.Adam(model.parameters(), lr=3e-3), F.binary_cross_entropy, images, images)
    assert not len(report), report


def test_deep_q_learning() -> None:
    q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    slow = copy.deepcopy(q)
    optimizer = optim.Adam(q.parameters(), lr=1e-3)
    with tl.doctor(quiet=True) as d:
        for _ in range(8):
            with tl.no_grad():
                q(tl.randn(1, 4)).argmax(1)
            state, action, after = tl.randn(32, 4), tl.randint(0, 2, (32, 1)), tl.randn(32, 4)
            with tl.no_grad():
                expected = 1 + 0.99 * slow(after).gather(1, q(after).argmax(1, keepdim=True)).squeeze(1)
            loss = F.smooth_l1_loss(q(state).gather(1, action).squeeze(1), expected)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with tl.no_grad():
                for mine, other in zip(slow.parameters(), q.parameters(), strict=True):
                    mine.lerp_(other, 0.01)
    assert not len(d.report), d.report


class CharacterModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(30, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, 30)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.head(self.rnn(self.embed(x))[0])


def test_language_model_with_schedule_and_clipping() -> None:
    text = (tl.arange(2000) * 7 % 30)
    model = CharacterModel()
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 5, 1.0))
    with tl.doctor(quiet=True) as d:
        for _ in range(2):
            for start in range(0, 320, 32):  # in order: a text is read so
                rows = text[start:start + 160].reshape(5, 32)
                loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    assert not len(d.report), d.report


def test_accumulated_gradients_and_sums_of_losses() -> None:
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    x, y = data(96)
    with tl.doctor(quiet=True) as d:
        mean: Any = 0
        for _ in range(5):
            optimizer.zero_grad(set_to_none=False)
            for part in range(3):
                rows = slice(32 * part, 32 * part + 32)
                (F.cross_entropy(model(x[rows]), y[rows]) / 3).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses = [F.cross_entropy(model(a), b) for a, b in zip(x.split(32), y.split(32), strict=True)]
            total = losses[0] + losses[1] + losses[2]
            total.backward()
            optimizer.step()
            mean = mean + total.detach() / 5
    assert not len(d.report), d.report


def test_frozen_layers_two_optimizers_and_a_teacher() -> None:
    teacher, student = mlp().eval(), mlp()
    student[0].requires_grad_(False)
    first, second = (optim.SGD(student[i].parameters(), lr=0.05) for i in (2, 4))
    x, _ = data(64)
    with tl.doctor(quiet=True) as d:
        for _ in range(6):
            with tl.no_grad():
                wanted = teacher(x).softmax(1)
            loss = F.cross_entropy(student(x), wanted)
            for optimizer in (first, second):
                optimizer.zero_grad()
            loss.backward()
            for optimizer in (first, second):
                optimizer.step()
    assert not len(d.report), d.report


def test_checkpoints_functions_and_closures() -> None:
    class Double(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
            return g * 2

    model = mlp()
    optimizer = optim.Adam(model.parameters())
    x, y = data(64)

    def closure() -> tl.Tensor:
        optimizer.zero_grad()
        hidden = tl.autograd.checkpoint(model[:2], x)
        loss = F.cross_entropy(model[2:](Double.apply(hidden)), y)
        loss.backward()
        return loss

    with tl.doctor(quiet=True) as d:
        for _ in range(4):
            optimizer.step(closure)
    assert not len(d.report), d.report


def test_tensors_without_modules() -> None:
    w, b = tl.zeros(10, 1, requires_grad=True), tl.zeros(1, requires_grad=True)
    x, y = data(64)
    with tl.doctor(quiet=True) as d:
        for _ in range(10):
            loss = ((x @ w + b).squeeze(1) - y).square().mean()
            loss.backward()
            with tl.no_grad():
                for p in (w, b):
                    p -= 0.01 * p.grad
                    p.grad = None
    assert not len(d.report), d.report


def test_steps_by_hand() -> None:
    model, (x, y) = mlp(), data(64)
    with tl.doctor(quiet=True) as d:
        for _ in range(5):
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            with tl.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
    assert not len(d.report), d.report


def test_full_batch_toy_problems() -> None:
    x = tl.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tl.tensor([[0.0], [1.0], [1.0], [0.0]])
    for activation in (nn.Tanh, nn.Sigmoid, nn.ReLU):
        model = nn.Sequential(nn.Linear(2, 8), activation(), nn.Linear(8, 1), nn.Sigmoid())
        report = train(model, optim.SGD(model.parameters(), lr=0.5), F.binary_cross_entropy, x, y, epochs=100)
        assert not len(report), report
    line = nn.Linear(1, 1)
    optimizer = optim.SGD(line.parameters(), lr=0.1)
    points = tl.linspace(-1, 1, 32).unsqueeze(1)
    report = train(line, optimizer, F.mse_loss, points, 3 * points + 1, epochs=20)
    assert not len(report), report
    assert not len(tl.doctor.check(line, F.mse_loss, (points, 3 * points + 1), optimizer))  # it knows it all
