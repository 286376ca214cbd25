"""tl.doctor at the edges of its rules: what is not a fault yet, what is one still, and whose line or state counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from doctors import data, mlp, only, train

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.nn import functional as F


def test_a_first_cross_entropy_after_other_steps_is_no_initial_loss() -> None:
    model, (x, y) = mlp(), data()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with tl.doctor(quiet=True) as d:
        F.mse_loss(model(x), tl.zeros(64, 3)).backward()
        optimizer.step()
        optimizer.zero_grad()
        F.cross_entropy(model(x) * 500, y).backward()
    assert not d.report.of("initial-loss"), d.report
    assert train(mlp(), lambda p, t: F.cross_entropy(p * 500, t), steps=1).of("initial-loss")


def test_few_steps_do_not_make_a_layer_saturated_or_its_gradients_vanish() -> None:
    flat = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))
    with tl.no_grad():
        flat[0].weight.mul_(100)
    assert not train(flat, steps=2).of("saturated") and train(flat, steps=3).of("saturated")
    deep = nn.Sequential(*[part for _ in range(14) for part in (nn.Linear(10, 10), nn.Sigmoid())], nn.Linear(10, 3))
    assert not train(deep, steps=2).of("vanishing-gradients") and train(deep, steps=3).of("vanishing-gradients")


def test_dead_channels_of_images() -> None:
    model = nn.Sequential(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20 * 36, 3))
    with tl.no_grad():
        model[0].bias[1:].sub_(100)
    found = train(model, x=tl.randn(64, 1, 8, 8)).of("dead-relu")
    assert len(found) == 1 and found[0].seen.startswith("19 of 20 units"), found


def test_units_that_are_silent_in_an_evaluation_are_not_dead() -> None:
    model, (x, y) = mlp(), data()
    with tl.no_grad():
        model[0].bias.fill_(0.1)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with tl.doctor(quiet=True) as d:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        with tl.no_grad():
            hidden = (model[0](x) - 1000).relu()
        F.cross_entropy(model[2](hidden), y).backward()
    assert not d.report.of("dead-relu"), d.report


def test_pixels_that_the_model_flattens_first() -> None:
    pixels = tl.randint(0, 256, (64, 2, 5)).float()
    assert train(nn.Sequential(nn.Flatten(), *mlp()), x=pixels, steps=1).of("unnormalised-input")


def test_a_teacher_in_train_mode_whose_output_is_a_loss_s_input() -> None:
    teacher, student, (x, _) = mlp(nn.Dropout(0.1)), mlp(), data()
    optimizer = optim.SGD(student.parameters(), lr=0.05)
    with tl.doctor(quiet=True) as d:
        for _ in range(3):
            optimizer.zero_grad()
            with tl.no_grad():
                taught = teacher(x)
            F.mse_loss(taught, student(x)).backward()
            optimizer.step()
    assert not d.report.of("train-while-evaluating"), d.report


def test_a_model_that_goes_into_eval_mode_before_the_step() -> None:
    model, (x, y) = mlp(nn.Dropout(0.1)), data()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with tl.doctor(quiet=True) as d:
        for _ in range(3):
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            model.eval()
            optimizer.step()
    assert not len(d.report), d.report


def test_a_recurrent_network_without_dropout_is_the_same_in_eval_mode() -> None:
    class Last(nn.Module):
        def __init__(self, dropout: float) -> None:
            super().__init__()
            self.cells = nn.GRU(10, 8, 2, batch_first=True, dropout=dropout)
            self.head = nn.Linear(8, 3)

        def forward(self, x: tl.Tensor) -> tl.Tensor:
            return self.head(self.cells(x)[0][:, -1])

    x = tl.randn(64, 4, 10)
    assert not train(Last(0.0).eval(), x=x).of("eval-while-training")
    assert train(Last(0.1).eval(), x=x).of("eval-while-training")


def test_two_optimizers_of_the_same_parameters_have_one_fault() -> None:
    model, (x, y) = mlp(), data()
    first, second = (optim.SGD(model.parameters(), lr=0.01) for _ in range(2))
    with tl.doctor(quiet=True) as d:
        for _ in range(3):
            F.cross_entropy(model(x), y).backward()
            first.step()
            second.step()
    only(d.report, "no-zero-grad")


def test_a_difference_that_broadcasts_after_a_model_has_failed() -> None:
    model, (x, y) = mlp(outputs=1), data()
    with tl.doctor(quiet=True) as d:
        out = model(x)
        with contextlib.suppress(tl.ShapeError):
            model(tl.ones(4, 3))
        (out - y.float()).square().mean().backward()
    only(d.report, "loss-broadcasts")


def test_a_sum_of_two_losses_that_are_done_is_no_running_sum() -> None:
    model, (x, y) = mlp(), data()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with tl.doctor(quiet=True) as d:
        for _ in range(3):
            optimizer.zero_grad()
            losses = F.cross_entropy(model(x[:32]), y[:32]), F.cross_entropy(model(x[32:]), y[32:])
            losses[0].backward()
            losses[1].backward()
            optimizer.step()
            shown = losses[0] + losses[1]
    assert shown.item() > 0 and not len(d.report), d.report


def test_a_check_of_a_loss_that_is_no_tensor() -> None:
    found = only(tl.doctor.check(mlp(), lambda p, t: F.cross_entropy(p, t).item(), data()), "failed")
    assert "the loss must be a Tensor, got float" in found.seen


class Own(optim.SGD):
    def step(self, closure: Callable[[], tl.Tensor] | None = None) -> tl.Tensor | None:
        return super().step(closure)


def test_a_step_that_calls_its_ancestor_s_is_one() -> None:
    model = mlp()
    assert train(model, optimizer=Own(model.parameters(), lr=0.05)).looked_at == "6 steps"
