"""The learning rate schedules: golden numbers, equality with PyTorch, resuming, composition, warnings, errors."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import tensorlite as tl
from tensorlite import optim
from tensorlite.optim import lr_scheduler as lrs


def leaf() -> tl.Tensor:
    return tl.zeros(1, requires_grad=True)


def sgd(lr: float = 1.0, **options: Any) -> optim.SGD:
    return optim.SGD([leaf()], lr=lr, **options)


def rates(make: Callable[[optim.Optimizer], Any], steps: int, optimizer: optim.Optimizer | None = None) -> list[float]:
    """The rate before each of the steps."""
    optimizer = optimizer or sgd()
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [found[-1]]
        optimizer.step()
        scheduler.step()
    return found


THIRD = 1 / 3
GOLDEN: list[tuple[str, Callable[[Any], Any], list[float]]] = [
    ("StepLR", lambda o: lrs.StepLR(o, step_size=3, gamma=0.1), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ("MultiStepLR", lambda o: lrs.MultiStepLR(o, [2, 4]), [1, 1, 0.1, 0.1, 0.01]),
    ("ExponentialLR", lambda o: lrs.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125]),
    ("CosineAnnealingLR", lambda o: lrs.CosineAnnealingLR(o, T_max=4),
     [1, 0.85355, 0.5, 0.14645, 0, 0.14645, 0.5, 0.85355, 1]),
    ("CosineAnnealingWarmRestarts", lambda o: lrs.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
     [1, 0.75, 0.25, 1, 0.93301, 0.75, 0.5, 0.25, 0.06699, 1]),
    ("LinearLR", lambda o: lrs.LinearLR(o), [0.33333, 0.46667, 0.6, 0.73333, 0.86667, 1, 1]),
    ("ConstantLR", lambda o: lrs.ConstantLR(o, 1 / 3, 5), [THIRD, THIRD, THIRD, THIRD, THIRD, 1, 1]),
    ("PolynomialLR", lambda o: lrs.PolynomialLR(o, total_iters=5, power=1), [1, 0.8, 0.6, 0.4, 0.2, 0, 0]),
    ("OneCycleLR", lambda o: lrs.OneCycleLR(o, max_lr=1, total_steps=8),
     [0.04, 0.81928, 0.97194, 0.81175, 0.55598, 0.28306, 0.07664, 0]),
    ("CyclicLR", lambda o: lrs.CyclicLR(o, base_lr=0, max_lr=1, step_size_up=4), [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5]),
    ("LambdaLR", lambda o: lrs.LambdaLR(o, lambda epoch: 0.5**epoch), [1, 0.5, 0.25]),
    ("MultiplicativeLR", lambda o: lrs.MultiplicativeLR(o, lambda epoch: 1 / epoch), [1, 1, 0.5, 1 / 6]),
]


@pytest.mark.parametrize("name,make,expected", GOLDEN, ids=[name for name, _, _ in GOLDEN])
def test_golden_numbers(name: str, make: Callable[[Any], Any], expected: list[float]) -> None:
    assert rates(make, len(expected), sgd(momentum=0.9)) == pytest.approx(expected, abs=6e-6)


# --- equality with PyTorch -------------------------------------------------------------------------------------

# Each makes a scheduler with the classes of a library's lr_scheduler module.
RECIPES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda m, o: m.StepLR(o, 7, 0.7),
    "multistep": lambda m, o: m.MultiStepLR(o, [3, 9, 9, 30], 0.5),
    "constant": lambda m, o: m.ConstantLR(o, 0.3, 9),
    "linear": lambda m, o: m.LinearLR(o, 0.2, 0.9, 17),
    "linear down": lambda m, o: m.LinearLR(o, 1.0, 0.1, 20),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "polynomial": lambda m, o: m.PolynomialLR(o, 23, 1.7),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 9, 0.01),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4, 1, 0.02),
    "longer restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 3),
    "lambda": lambda m, o: m.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda e: 0.95 + 0.01 * (e % 3)),
    "one cycle": lambda m, o: m.OneCycleLR(o, [0.5, 1.0], total_steps=51),
    "one cycle linear": lambda m, o: m.OneCycleLR(o, 0.5, epochs=10, steps_per_epoch=6, anneal_strategy="linear",
                                                  pct_start=0.2, base_momentum=[0.7, 0.8], div_factor=10),
    "one cycle in three": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=60, three_phase=True, final_div_factor=100),
    "one cycle alone": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=60, cycle_momentum=False),
    "cyclic": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 5, 8),
    "cyclic 2": lambda m, o: m.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 6, mode="triangular2", base_momentum=[0.5, 0.6]),
    "cyclic exp": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 6, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "cyclic own": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 6, scale_fn=lambda x: 1 / (5**(x * 0.0001)),
                                          scale_mode="iterations"),
    "chained": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 5), m.ExponentialLR(o, 0.9), m.StepLR(o, 11)]),
    "sequential": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, 1.0, 5), m.CosineAnnealingLR(o, 20), m.ExponentialLR(o, 0.9)], [5, 30]),
    "sequential of all": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.5, 3), m.StepLR(o, 2, 0.5), m.MultiStepLR(o, [2, 3]), m.PolynomialLR(o, 8, 2.0),
            m.CosineAnnealingWarmRestarts(o, 4), m.LambdaLR(o, lambda e: 0.9**e), m.LinearLR(o)],
        [4, 10, 15, 25, 32, 41]),
    "sequential from the second": lambda m, o: m.SequentialLR(o, [m.StepLR(o, 3), m.ExponentialLR(o, 0.9)], [0]),
    "one on another": lambda m, o: (m.StepLR(o, 4, 0.5), m.CosineAnnealingLR(o, 13))[1],
}


def two_groups(library: Any, cls: str, parameter: Callable[[], Any], **options: Any) -> Any:
    groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.3}]
    return getattr(library.optim, cls)(groups, lr=0.8, **options)


def state_of(optimizer: Any) -> list[list[float]]:
    """Per group the rate, and what schedulers may cycle with it."""
    return [[g["lr"], *g["betas"]] if "betas" in g else [g["lr"], g["momentum"]] for g in optimizer.param_groups]


@pytest.mark.parametrize("cls,options", [("SGD", {"momentum": 0.9}), ("Adam", {})], ids=["momentum", "betas"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_parity_with_pytorch(recipe: str, cls: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    mine = two_groups(tl, cls, leaf, **options)
    other = two_groups(torch, cls, lambda: torch.zeros(1, requires_grad=True), **options)
    ours, theirs = RECIPES[recipe](lrs, mine), RECIPES[recipe](torch.optim.lr_scheduler, other)
    for step in range(50):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12, abs=1e-15)
        assert state_of(mine) == [pytest.approx(group, rel=1e-12, abs=1e-15) for group in state_of(other)], step
        for thing in (mine, other, ours, theirs):
            thing.step()


@pytest.mark.parametrize("start", [0, 6, 13])
@pytest.mark.parametrize("recipe", ["step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine",
                                    "restarts", "lambda", "multiplicative", "cyclic", "one cycle"])
def test_last_epoch_means_what_it_means_in_pytorch(recipe: str, start: int) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for module, parameter in ((lrs, leaf), (torch.optim.lr_scheduler, lambda: torch.zeros(1, requires_grad=True))):
        library = tl if module is lrs else torch
        optimizer = two_groups(library, "SGD", parameter, momentum=0.9)
        first = RECIPES[recipe](module, optimizer)
        for _ in range(start):
            optimizer.step()
            first.step()
        cls, real = type(first), type(first).__init__

        class Later(cls):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, real: Any = real, **kwargs: Any) -> None:
                real(self, *args, **kwargs, last_epoch=start)

        namespace = {name: getattr(module, name) for name in dir(module)} | {cls.__name__: Later}
        scheduler = RECIPES[recipe](type("Module", (), namespace), optimizer)
        values = []
        for _ in range(12):
            optimizer.step()
            values += scheduler.get_last_lr()
            scheduler.step()
        found.append(values)
    assert found[0] == pytest.approx(found[1], rel=1e-12, abs=1e-15)


PLATEAU = [
    {}, {"mode": "max"}, {"patience": 2, "cooldown": 3}, {"threshold_mode": "abs", "threshold": 0.05, "patience": 1},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 0}, {"factor": 0.5, "patience": 0},
    {"min_lr": [0.1, 0.05], "factor": 0.5, "patience": 1}, {"min_lr": 0.2, "patience": 1}, {"eps": 0.1, "patience": 1},
]


@pytest.mark.parametrize("options", PLATEAU, ids=str)
def test_plateau_parity_with_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    mine = two_groups(tl, "SGD", leaf)
    other = two_groups(torch, "SGD", lambda: torch.zeros(1, requires_grad=True))
    ours = lrs.ReduceLROnPlateau(mine, **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    for step in range(60):
        metric = math.exp(-0.1 * step) + 0.2 * math.sin(step)
        ours.step(tl.tensor(metric, dtype=tl.float64))
        theirs.step(metric)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        assert (ours.best, ours.num_bad_epochs) == (theirs.best, theirs.num_bad_epochs)
    assert mine.param_groups[0]["lr"] < 0.8


def test_plateau_counts_nan_as_no_improvement() -> None:
    optimizer = sgd()
    scheduler = lrs.ReduceLROnPlateau(optimizer, patience=1)
    for value in (1.0, float("nan"), float("nan")):
        scheduler.step(value)
    assert scheduler.get_last_lr() == [0.1]


def test_plateau_serves_a_group_that_was_added_later() -> None:
    optimizer = sgd()
    scheduler = lrs.ReduceLROnPlateau(optimizer, patience=0, min_lr=0.4)
    optimizer.add_param_group({"params": [leaf()], "lr": 0.5})
    scheduler.step(1.0)
    scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.4, 0.4]


@pytest.mark.parametrize("cycle", [1, 2])
def test_warm_restarts_take_fractions_of_an_epoch(cycle: int) -> None:
    torch = pytest.importorskip("torch")
    mine, other = sgd(), torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    ours = lrs.CosineAnnealingWarmRestarts(mine, 3, cycle)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(other, 3, cycle)
    mine.step()
    for epoch in [0, 0.3, 2.9, 3, 3.1, 8.5, 9, 21.7, 1.5, *[None] * 12]:
        ours.step(epoch)
        theirs.step(epoch)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
    with pytest.raises(ValueError, match="Expected non-negative epoch, but got -1"):
        ours.step(-1)


# --- saving -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_schedule_is_bit_equal(recipe: str) -> None:
    def run(optimizer: Any, scheduler: Any, steps: int) -> list[Any]:
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found.append((scheduler.get_last_lr(), state_of(optimizer)))
        return found

    optimizer = two_groups(tl, "SGD", leaf, momentum=0.9)
    scheduler = RECIPES[recipe](lrs, optimizer)
    run(optimizer, scheduler, 17)
    saved = json.loads(json.dumps([scheduler.state_dict(), optimizer.state_dict()["param_groups"]]))
    fresh = two_groups(tl, "SGD", leaf, momentum=0.9)
    resumed = RECIPES[recipe](lrs, fresh)
    resumed.load_state_dict(saved[0])
    fresh.load_state_dict({"state": {}, "param_groups": saved[1]})
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert run(fresh, resumed, 30) == run(optimizer, scheduler, 30)


def test_plateau_resumes() -> None:
    first, second = sgd(), sgd()
    one = lrs.ReduceLROnPlateau(first, patience=3, cooldown=2)
    for metric in (3.0, 2.0, 2.0):
        one.step(metric)
    two = lrs.ReduceLROnPlateau(second)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for _ in range(8):
        one.step(2.0)
        two.step(2.0)
        assert one.state_dict() == two.state_dict()
    assert first.param_groups[0]["lr"] == second.param_groups[0]["lr"] == pytest.approx(0.1)


def test_functions_are_not_saved() -> None:
    assert "lr_lambdas" not in lrs.LambdaLR(sgd(), lambda epoch: 1.0).state_dict()
    cyclic = lrs.CyclicLR(sgd(momentum=0.9), 0.1, 1.0, scale_fn=lambda x: x)
    json.dumps(cyclic.state_dict())
    assert "_custom_scale" not in cyclic.state_dict()


def test_the_state_is_a_copy() -> None:
    scheduler = lrs.MultiStepLR(sgd(), [1, 2])
    saved = scheduler.state_dict()
    saved["milestones"].append(3)
    assert scheduler.milestones == [1, 2]
    scheduler.load_state_dict(saved)
    saved["milestones"].append(4)
    assert scheduler.milestones == [1, 2, 3]


@pytest.mark.parametrize("recipe", ["cosine", "chained", "sequential"])
def test_a_state_that_does_not_fit_changes_nothing(recipe: str) -> None:
    scheduler = RECIPES[recipe](lrs, two_groups(tl, "SGD", leaf))
    before = scheduler.state_dict()
    damaged = scheduler.state_dict()
    parts = damaged.get("_schedulers", [damaged])
    parts[-1]["unknown"] = parts[-1].pop("_last_lr")
    with pytest.raises(tl.ArgumentError, match=r"missing \['_last_lr'\], unexpected \['unknown'\]"):
        scheduler.load_state_dict(damaged)
    assert scheduler.state_dict() == before
    if "_schedulers" in damaged:
        with pytest.raises(tl.ArgumentError, match="state dict is of 1 schedulers, this one has 3"):
            scheduler.load_state_dict({**before, "_schedulers": before["_schedulers"][:1]})


# --- composition -------------------------------------------------------------------------------------------------


def test_schedulers_act_on_a_rate_set_by_hand() -> None:
    optimizer = sgd()
    scheduler = lrs.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    optimizer.param_groups[0]["lr"] = 8.0
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [4.0]


def test_a_chain_may_be_a_part_of_a_sequence() -> None:
    def make(optimizer: Any) -> Any:
        chain = lrs.ChainedScheduler([lrs.ConstantLR(optimizer, 0.5, 2), lrs.ExponentialLR(optimizer, 0.5)])
        return lrs.SequentialLR(optimizer, [lrs.ConstantLR(optimizer, 0.1, 9), chain], [2])

    assert rates(make, 6) == pytest.approx([0.1, 0.1, 0.5, 0.25, 0.25, 0.125])


@pytest.mark.parametrize("nested_first", [True, False])
def test_a_sequence_may_be_a_part_of_a_sequence(nested_first: bool) -> None:
    def make(optimizer: Any) -> Any:
        inner = lrs.SequentialLR(
            optimizer, [lrs.ConstantLR(optimizer, 0.5, 9), lrs.ConstantLR(optimizer, 0.25, 9)], [2])
        outer = [inner, lrs.ConstantLR(optimizer, 0.1, 9)]
        return lrs.SequentialLR(optimizer, outer if nested_first else outer[::-1], [3])

    expected = [0.5, 0.5, 0.25, 0.1, 0.1, 0.1] if nested_first else [0.1, 0.1, 0.1, 0.5, 0.5, 0.25]
    assert rates(make, 6) == pytest.approx(expected)


def test_compositions_that_are_refused() -> None:
    optimizer = sgd()
    step = lrs.StepLR(optimizer, 1)
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: lrs.SequentialLR(optimizer, [], []), ValueError, "expects at least one scheduler"),
        (lambda: lrs.ChainedScheduler([]), ValueError, "expects at least one scheduler to be chained"),
        (lambda: lrs.SequentialLR(optimizer, [step], [1]), ValueError, "number of schedulers 1 and .* equal to 1"),
        (lambda: lrs.SequentialLR(optimizer, [step, 3], [1]), TypeError, "takes schedulers, but got int at index 1"),
        (lambda: lrs.ChainedScheduler([step, lrs.ReduceLROnPlateau(optimizer)]), ValueError,
         "does not support `ReduceLROnPlateau` .* index 1"),
        (lambda: lrs.ChainedScheduler([step, lrs.StepLR(sgd(), 1)]), ValueError, "same optimizer.* StepLR at index 1"),
    ]
    for make, error, message in cases:
        with pytest.raises(error, match=message):
            make()


# --- warnings and errors -----------------------------------------------------------------------------------------


def test_a_step_before_the_optimizers_warns_once() -> None:
    optimizer = sgd()
    scheduler = lrs.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`") as caught:
        scheduler.step()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
        optimizer.step()
        late = lrs.StepLR(optimizer, 1)
        late.step()


def test_an_optimizer_with_a_step_of_its_own_does_not_warn() -> None:
    class Own(optim.SGD):
        def step(self, closure: Any = None) -> None:
            """Nothing."""

    optimizer = Own([leaf()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lrs.StepLR(optimizer, 1).step()


def test_one_cycle_ends() -> None:
    optimizer = sgd(momentum=0.9)
    scheduler = lrs.OneCycleLR(optimizer, 1.0, total_steps=3)
    optimizer.step()
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match=r"Tried to step 4 times\. The specified number of total steps is 3"):
        scheduler.step()


def test_one_cycle_may_begin_at_its_peak() -> None:
    assert rates(lambda o: lrs.OneCycleLR(o, 1.0, total_steps=10, pct_start=0.1), 3, sgd(momentum=0.9))[0] == 1.0


BAD: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda o: lrs.StepLR(o.param_groups, 1), TypeError, "list is not an Optimizer"),
    (lambda o: lrs.ReduceLROnPlateau(3), TypeError, "int is not an Optimizer"),
    (lambda o: lrs.StepLR(o, 1, last_epoch=3), KeyError, r"'initial_lr' is not specified in param_groups\[0\]"),
    (lambda o: lrs.ConstantLR(o, 1.5), ValueError, "Constant multiplicative factor expected to be between 0 and 1"),
    (lambda o: lrs.LinearLR(o, 0.0), ValueError, "Starting multiplicative factor expected to be greater than 0"),
    (lambda o: lrs.LinearLR(o, 0.5, -1), ValueError, "Ending multiplicative factor expected to be between 0 and 1"),
    (lambda o: lrs.CosineAnnealingWarmRestarts(o, 0), ValueError, "Expected positive integer T_0, but got 0"),
    (lambda o: lrs.CosineAnnealingWarmRestarts(o, 2, 0), ValueError, "Expected integer T_mult >= 1, but got 0"),
    (lambda o: lrs.LambdaLR(o, [abs, abs]), ValueError, "Expected 1 lr_lambdas, but got 2"),
    (lambda o: lrs.MultiplicativeLR(o, 0.9), TypeError, "lr_lambda should be a function, but got float"),
    (lambda o: lrs.OneCycleLR(o, 1.0), ValueError, r"either total_steps OR \(epochs AND steps_per_epoch\)"),
    (lambda o: lrs.OneCycleLR(o, 1.0, 0), ValueError, "Expected positive integer total_steps, but got 0"),
    (lambda o: lrs.OneCycleLR(o, 1.0, epochs=2.5, steps_per_epoch=2), ValueError, "integer epochs, but got 2.5"),
    (lambda o: lrs.OneCycleLR(o, 1.0, 8, pct_start=2.0), ValueError, "Expected float between 0 and 1 pct_start"),
    (lambda o: lrs.OneCycleLR(o, 1.0, 8, anneal_strategy="x"), ValueError, "one of 'cos' or 'linear', instead got x"),
    (lambda o: lrs.OneCycleLR(o, [1.0, 2.0], 8), ValueError, "max_lr must have the same length"),
    (lambda o: lrs.CyclicLR(o, 0.1, 1.0, mode="square"), ValueError, "mode is invalid and scale_fn is None: 'square'"),
    (lambda o: lrs.CyclicLR(optim.Adagrad([leaf()]), 0.1, 1.0), ValueError, "must support momentum or beta1"),
    (lambda o: lrs.ReduceLROnPlateau(o, "middle"), ValueError, "mode middle is unknown"),
    (lambda o: lrs.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold mode x is unknown"),
    (lambda o: lrs.ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0"),
    (lambda o: lrs.ReduceLROnPlateau(o, min_lr=[0.1, 0.2]), ValueError, "min_lr must have the same length"),
    (lambda o: lrs.LRScheduler(o), NotImplementedError, r"LRScheduler must override get_lr\(\)"),
]


@pytest.mark.parametrize("make,error,message", BAD, ids=[message[:40] for _, _, message in BAD])
def test_bad_arguments_are_refused(make: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(sgd())
