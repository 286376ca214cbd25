"""The optimizers: golden numbers, equality with PyTorch, state, groups, errors, and what an update may not do."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import cpu_blocks
from tensorlite.optim.optimizer import Optimizer

# p = 1 in float64, loss p²; p after 1, 2 and 3 steps.
GOLDEN = [
    (optim.SGD, {}, (0.998, 0.996004, 0.994011992)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}, (0.8, 0.46, 0.062)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, (0.62, 0.2224, -0.108352)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, (0.8, 0.54, 0.252)),
    (optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, (0.79, 0.6241, 0.493039)),
    (optim.Adam, {}, (0.999, 0.9980000262, 0.9970000961)),
    (optim.Adam, {"lr": 0.1}, (0.9000000005, 0.8004122287, 0.7015862729)),
    (optim.AdamW, {"lr": 0.1}, (0.8990000005, 0.7985190272, 0.6989111832)),
    (optim.RMSprop, {}, (0.900000005, 0.832917968, 0.7799822732)),
    (optim.Adagrad, {}, (0.99, 0.982964554, 0.9772379395)),
    (optim.Adadelta, {}, (0.9968377263, 0.9935981741, 0.9903090457)),
    (optim.Adamax, {}, (0.998, 0.9960001054, 0.9940003883)),
    (optim.NAdam, {}, (0.9978870964, 0.9963211968, 0.9948589145)),
    (optim.RAdam, {}, (0.998, 0.9960021053, 0.9940063842)),
    (optim.Rprop, {}, (0.99, 0.978, 0.9636)),
    (optim.ASGD, {}, (0.9799990004, 0.9603980555, 0.941189163)),
    (optim.Lion, {}, (0.9999, 0.9998, 0.9997)),
    (optim.Lion, {"lr": 0.1, "weight_decay": 0.1}, (0.89, 0.7811, 0.673289)),
]
ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Adamax, optim.NAdam,
       optim.RAdam, optim.Rprop, optim.ASGD, optim.Lion]


def leaf(values: Any, dtype: Any = tl.float64) -> tl.Tensor:
    return tl.tensor(values, dtype=dtype, requires_grad=True)


def random_leaves(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float64) -> list[tl.Tensor]:
    return [tl.from_numpy(np.asarray(rng.standard_normal(s), dtype)).requires_grad_() for s in shapes]


def values(*tensors: tl.Tensor) -> list[np.ndarray]:
    return [t.detach().numpy().copy() for t in tensors]


@pytest.mark.parametrize("cls,options,expected", GOLDEN)
def test_golden_numbers(cls: Any, options: dict[str, Any], expected: tuple[float, ...]) -> None:
    p = leaf(1.0)
    optimizer = cls([p], **options)
    for value in expected:
        optimizer.zero_grad()
        (p * p).backward()
        optimizer.step()
        assert p.item() == pytest.approx(value, abs=6e-11, rel=0)


def test_the_signatures_are_pytorchs() -> None:
    def defaults(cls: Any) -> dict[str, Any]:
        return cls([leaf(0.0)]).defaults

    assert defaults(optim.SGD) == {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False,
                                   "maximize": False}
    adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False,
            "decoupled_weight_decay": False}
    assert defaults(optim.Adam) == adam
    assert defaults(optim.AdamW) == {**adam, "weight_decay": 1e-2, "decoupled_weight_decay": True}
    assert defaults(optim.Lion) == {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0}


# --- equality with PyTorch -------------------------------------------------------------------------------------


def grid(**options: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(options, chosen, strict=True)) for chosen in itertools.product(*options.values())]


BOTH = (False, True)
PARITY = [
    *[("SGD", o) for o in grid(lr=(0.05,), momentum=(0, 0.9), dampening=(0, 0.3), weight_decay=(0, 0.1),
                               maximize=BOTH)],
    *[("SGD", o) for o in grid(lr=(0.05,), momentum=(0.8,), nesterov=(True,), weight_decay=(0, 0.1), maximize=BOTH)],
    *[("Adam", o) for o in grid(lr=(0.05,), betas=((0.9, 0.999), (0.0, 0.5)), weight_decay=(0, 0.1), amsgrad=BOTH,
                                maximize=BOTH, decoupled_weight_decay=BOTH)],
    *[("AdamW", o) for o in grid(lr=(0.05,), weight_decay=(0, 0.1), amsgrad=BOTH, maximize=BOTH)],
    *[("RMSprop", o) for o in grid(lr=(0.05,), alpha=(0.9,), momentum=(0, 0.8), centered=BOTH, weight_decay=(0, 0.1),
                                   maximize=BOTH)],
    *[("Adagrad", o) for o in grid(lr=(0.05,), lr_decay=(0, 0.1), initial_accumulator_value=(0, 0.5),
                                   weight_decay=(0, 0.1), maximize=BOTH)],
    *[("Adadelta", o) for o in grid(lr=(0.7,), rho=(0.9, 0.5), weight_decay=(0, 0.1), maximize=BOTH)],
    *[("Adamax", o) for o in grid(lr=(0.05,), weight_decay=(0, 0.1), maximize=BOTH)],
    *[("NAdam", o) for o in grid(lr=(0.05,), momentum_decay=(4e-3, 0.1), weight_decay=(0, 0.1),
                                 decoupled_weight_decay=BOTH, maximize=BOTH)],
    *[("RAdam", o) for o in grid(lr=(0.05,), betas=((0.9, 0.999), (0.8, 0.9)), weight_decay=(0, 0.1),
                                 decoupled_weight_decay=BOTH, maximize=BOTH)],
    *[("Rprop", o) for o in grid(lr=(0.05,), etas=((0.5, 1.2), (0.3, 1.5)), step_sizes=((1e-6, 50), (0.02, 0.1)),
                                 maximize=BOTH)],
    *[("ASGD", o) for o in grid(lr=(0.05,), lambd=(1e-4, 0.1), t0=(1e6, 4), weight_decay=(0, 0.1), maximize=BOTH)],
]


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


@pytest.mark.parametrize("name,options", PARITY, ids=lambda x: str(x))
def test_parity_with_pytorch(name: str, options: dict[str, Any]) -> None:
    ours, mine, theirs, other = run_both(name, options, [(4, 3), (5,), ()], 25)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-9)
        state = {k: v for k, v in other.state[q].items() if v is not None}
        assert list(mine.state[p]) == list(state)
        for key, expected in state.items():
            held = mine.state[p][key]
            assert held.dtype.name == str(expected.dtype).removeprefix("torch.")
            np.testing.assert_allclose(held.numpy(), expected.numpy(), rtol=1e-6 if held.ndim == 0 else 1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [cls.__name__ for cls in ALL if cls is not optim.Lion])
def test_parity_with_pytorch_in_float32(name: str) -> None:
    ours, _, theirs, _ = run_both(name, {}, [(40, 30), (7,)], 20, dtype=np.float32)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=2e-4, atol=2e-5)


def test_adam_with_foreach_and_fused_pytorch_too() -> None:
    for flag in ("foreach", "fused"):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(3)
        p, = random_leaves(rng, (6, 5))
        q = torch.tensor(p.detach().numpy(), requires_grad=True)
        mine, other = optim.Adam([p], lr=0.1), torch.optim.Adam([q], lr=0.1, **{flag: True})
        for _ in range(50):
            g = rng.standard_normal((6, 5))
            p.grad, q.grad = tl.tensor(g), torch.tensor(g)
            mine.step()
            other.step()
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_lion_follows_the_authors_reference() -> None:
    rng = np.random.default_rng(0)
    p, = random_leaves(rng, (3, 4))
    x, m = p.detach().numpy().copy(), np.zeros((3, 4))
    optimizer = optim.Lion([p], lr=0.01, betas=(0.8, 0.95), weight_decay=0.2)
    for _ in range(30):
        g = rng.standard_normal((3, 4))
        p.grad = tl.tensor(g)
        optimizer.step()
        x = x * (1 - 0.01 * 0.2) - 0.01 * np.sign(0.8 * m + 0.2 * g)
        m = 0.95 * m + 0.05 * g
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-12)


# --- Muon ---------------------------------------------------------------------------------------------------


MUON = grid(lr=(0.05,), nesterov=BOTH, weight_decay=(0, 0.1), adjust_lr_fn=(None, "original", "match_rms_adamw"),
            ns_steps=(5, 2))


@pytest.mark.parametrize("options", MUON, ids=str)
def test_muon_equals_pytorch_iterating_in_float64(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    ours, mine, theirs, other = run_both("Muon", options, [(4, 7), (6, 3), (5, 5)], 10)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-9)
        momentum = other.state[q]["momentum_buffer"].numpy()
        np.testing.assert_allclose(mine.state[p]["momentum_buffer"].numpy(), momentum, rtol=1e-9, atol=1e-12)


def test_muon_is_near_pytorch_in_bfloat16() -> None:
    ours, _, theirs, _ = run_both("Muon", {"lr": 0.02}, [(16, 8)], 10, dtype=np.float32)
    moved = 10 * 0.02
    assert np.abs(ours[0].detach().numpy() - theirs[0].detach().numpy()).max() < 0.05 * moved


def test_muon_orthogonalizes() -> None:
    rng = np.random.default_rng(0)
    p, = random_leaves(rng, (12, 5))
    before = p.detach().numpy().copy()
    optimizer = optim.Muon([p], lr=1.0, weight_decay=0, adjust_lr_fn="match_rms_adamw", ns_steps=10)
    p.grad = tl.tensor(rng.standard_normal((12, 5)))
    optimizer.step()
    singular = np.linalg.svd((before - p.detach().numpy()) / (0.2 * 12**0.5), compute_uv=False)
    assert ((singular > 0.65) & (singular < 1.25)).all()


def test_muon_names_a_parameter_that_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"Muon only supports 2D parameters .* parameter number 1 with size: \(2,\)"):
        optim.Muon(nn.Linear(3, 2).parameters())
    with pytest.raises(tl.ShapeError, match=r"parameter 'bias' .*MuonWithAuxAdam"):
        optim.Muon(nn.Linear(3, 2).named_parameters())


def test_muon_takes_empty_and_16_bit_matrices() -> None:
    empty, half = tl.zeros(0, 3, requires_grad=True), tl.ones(4, 3, dtype=tl.float16, requires_grad=True)
    optimizer = optim.Muon([empty, half], lr=0.1)
    for p in (empty, half):
        p.grad = tl.ones_like(p)
    optimizer.step()
    assert optimizer.state[half]["momentum_buffer"].dtype is tl.float32
    assert half.dtype is tl.float16
    assert (half.detach().numpy() < 1).all()


def test_muon_with_aux_adam_is_muon_and_adamw() -> None:
    rng = np.random.default_rng(1)
    shapes = [(4, 3), (4,), (2, 4), (2,)]
    ours = random_leaves(rng, *shapes)
    alone = [leaf(p.detach().numpy()) for p in ours]
    both = optim.MuonWithAuxAdam([("a", ours[0]), ("b", ours[1]), ("c", ours[2]), ("d", ours[3])])
    muon = optim.Muon(alone[::2], lr=0.02, weight_decay=0)
    adam = optim.AdamW(alone[1::2], lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0)
    assert [group["param_names"] for group in both.param_groups] == [["a", "c"], ["b", "d"]]
    for _ in range(5):
        for p, q in zip(ours, alone, strict=True):
            p.grad = tl.tensor(rng.standard_normal(tuple(p.shape)))
            q.grad = p.grad.clone()
        for optimizer in (both, muon, adam):
            optimizer.step()
    for p, q in zip(ours, alone, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_muon_with_aux_adam_takes_groups() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = optim.MuonWithAuxAdam([
        {"params": [model[0].weight], "use_muon": True, "lr": 0.5},
        {"params": [model[1].weight, model[0].bias], "use_muon": False, "weight_decay": 0.1},
    ])
    assert [(g["use_muon"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (True, 0.5, 0), (False, 3e-4, 0.1)]
    with pytest.raises(ValueError, match="use_muon"):
        optimizer.add_param_group({"params": [model[1].bias]})
    with pytest.raises(tl.ShapeError, match="2D"):
        optimizer.add_param_group({"params": [model[1].bias], "use_muon": True})
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optimizer.add_param_group({"params": [model[1].bias], "use_muon": False, "lr": -1})


# --- layouts, sizes and dtypes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_large_and_strided_arrays_give_what_small_ones_give(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(prepare: Any, block: int) -> np.ndarray:
        monkeypatch.setattr(cpu_blocks, "BLOCK", block)
        rng = np.random.default_rng(5)
        p = tl.from_numpy(prepare(rng.standard_normal((30, 20)))).requires_grad_()
        optimizer = cls([p], lr=0.05)
        for _ in range(4):
            p.grad = tl.from_numpy(prepare(rng.standard_normal((30, 20))))
            optimizer.step()
        return p.detach().numpy().copy()

    def strided(a: np.ndarray) -> np.ndarray:
        out = np.zeros((40, 60))[::-2, 1::2][:20, :30].T  # negative, transposed and with gaps
        out[...] = a
        return out

    expected = train(lambda a: a, 1 << 16)
    for prepare, block in [(lambda a: a, 64), (strided, 1 << 16), (strided, 64), (np.asfortranarray, 7)]:
        np.testing.assert_array_equal(train(prepare, block), expected)


def test_arrays_of_more_than_one_block_equal_pytorch() -> None:
    ours, _, theirs, _ = run_both("Adam", {"lr": 0.05, "weight_decay": 0.1}, [(300, 250)], 3)
    np.testing.assert_allclose(ours[0].detach().numpy(), theirs[0].detach().numpy(), rtol=1e-9, atol=1e-9)


def test_rows_longer_than_a_block() -> None:
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, cpu_blocks.BLOCK + 5)), rng.standard_normal((2, cpu_blocks.BLOCK + 5))
    found = []
    for order in ("C", "F"):
        p = tl.from_numpy(np.array(start, order=order)).requires_grad_()
        p.grad = tl.from_numpy(np.array(g, order=order))
        optimizer = optim.Adam([p], lr=0.1)
        optimizer.step()
        optimizer.step()
        found.append(p.detach().numpy())
    np.testing.assert_array_equal(found[0], found[1])


def test_an_interrupt_cannot_leave_wrong_constants() -> None:
    class Interrupting:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    def formula(x: float) -> tuple[Any, ...]:
        return x, (Interrupting() if x == 2.0 else x)

    workspace, param = cpu_blocks.Workspace(), np.zeros(3)
    assert workspace.constants(param, formula, 1.0) == [1.0, 1.0]
    with pytest.raises(KeyboardInterrupt):
        workspace.constants(param, formula, 2.0)
    assert workspace.constants(param, formula, 1.0) == [1.0, 1.0]


def test_scratch_stays_bounded() -> None:
    workspace = cpu_blocks.Workspace()
    for n in range(1, 2000):
        workspace.scratch(2, (n,), np.dtype(np.float32))
    assert sum(map(len, workspace._buffers.values())) == 2
    assert len(workspace._views) <= cpu_blocks._MAX_VIEWS


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16], ids=lambda d: d.name)
def test_16_bit_parameters_are_updated_in_float32_and_rounded_once(cls: Any, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    start = tl.tensor(rng.standard_normal((6, 5))).to(dtype)
    g = tl.tensor(rng.standard_normal((6, 5))).to(dtype)
    narrow, wide = start.clone().requires_grad_(), start.to(tl.float32).clone().requires_grad_()
    narrow.grad, wide.grad = g, g.to(tl.float32)
    optimizers = [cls([narrow], lr=0.05), cls([wide], lr=0.05)]
    for optimizer in optimizers:
        optimizer.step()
    assert narrow.dtype is dtype
    assert narrow.tolist() == wide.to(dtype).tolist()
    for name, held in optimizers[0].state[narrow].items():
        assert held.dtype is tl.float32
        np.testing.assert_array_equal(held.numpy(), optimizers[1].state[wide][name].numpy())


@pytest.mark.parametrize("cls", ALL)
def test_empty_and_zero_dimensional_parameters(cls: Any) -> None:
    empty, scalar = tl.zeros(0, 3, requires_grad=True), leaf(1.0)
    empty.grad, scalar.grad = tl.zeros(0, 3), tl.tensor(2.0, dtype=tl.float64)
    cls([empty, scalar]).step()
    assert empty.shape == (0, 3) and scalar.shape == () and scalar.item() < 1.0


@pytest.mark.parametrize("cls", ALL)
def test_nan_and_inf_gradients_do_not_warn(cls: Any) -> None:
    p = leaf([1.0, 1.0, 1.0])
    p.grad = tl.tensor([float("nan"), float("inf"), 0.0], dtype=tl.float64)
    cls([p]).step()
    assert not np.isfinite(p.detach().numpy()[0]) and np.isfinite(p.detach().numpy()[2])


def test_updates_in_threads_do_not_share_scratch() -> None:
    results: dict[int, list[np.ndarray]] = {}

    def train(seed: int) -> None:
        rng = np.random.default_rng(seed)
        leaves = random_leaves(rng, (300, 200), (50,))
        optimizer = optim.Adam(leaves, lr=0.1, weight_decay=0.1)
        for _ in range(20):
            for p in leaves:
                p.grad = tl.tensor(rng.standard_normal(tuple(p.shape)))
            optimizer.step()
        results[seed] = values(*leaves)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, found in list(results.items()):
        train(seed)
        for a, b in zip(found, results[seed], strict=True):
            np.testing.assert_array_equal(a, b)


# --- what a step may and may not do --------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_a_step_never_changes_a_gradient(cls: Any) -> None:
    p = leaf([1.0, -2.0, 3.0])
    optimizer = cls([p], lr=0.1, **({} if cls in (optim.Rprop,) else {"weight_decay": 0.5}))
    g = tl.tensor([0.5, 0.5, -0.5], dtype=tl.float64)
    p.grad = g
    for _ in range(3):
        optimizer.step()
        assert p.grad is g
        assert g.tolist() == [0.5, 0.5, -0.5]


def test_maximize_climbs_without_changing_the_gradient() -> None:
    for cls in ALL:
        if cls is optim.Lion:
            continue
        p = leaf([1.0, -2.0])
        p.grad = tl.tensor([1.0, 1.0], dtype=tl.float64)
        cls([p], lr=0.1, maximize=True).step()
        assert (p.detach().numpy() > [1.0, -2.0]).all()
        assert p.grad.tolist() == [1.0, 1.0]


def test_parameters_without_gradient_are_left_alone() -> None:
    moved, frozen = leaf([1.0]), leaf([1.0])
    optimizer = optim.Adam([moved, frozen], weight_decay=0.1)
    moved.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    assert frozen.item() == 1.0 and frozen not in optimizer.state
    assert moved.item() < 1.0 and optimizer.state[moved]["step"].item() == 1


def test_an_update_is_in_place_and_backward_notices_it() -> None:
    p = leaf([1.0, 2.0])
    memory = p.detach().numpy()
    loss = (p * p).sum()
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tl.ones(2, dtype=tl.float64)
    optimizer.step()
    assert memory.tolist() == pytest.approx([0.9, 1.9])
    with pytest.raises(tl.GradError, match="modified by an in-place operation"):
        loss.backward()


def test_backward_notices_changed_state() -> None:
    p = leaf([1.0])
    optimizer = optim.Adam([p])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    w = leaf([2.0])
    loss = (w * optimizer.state[p]["exp_avg"]).sum()
    optimizer.step()
    with pytest.raises(tl.GradError):
        loss.backward()


def test_no_mode_is_switched_and_closures_run_with_grad() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    seen = []

    def closure() -> tl.Tensor:
        seen.append(tl.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    with tl.no_grad():
        assert optimizer.step(closure).item() == pytest.approx(0.64)
        assert not tl.is_grad_enabled()
    assert seen == [True, True]
    assert p.item() == pytest.approx(0.64)


@pytest.mark.parametrize("cls", [*ALL, optim.Muon])
def test_a_recorded_step_can_be_replayed_with_another_learning_rate(cls: Any) -> None:
    """The step number and the rate live in device memory: the recorded arguments stay valid."""
    p, q = leaf(np.eye(3)), leaf(np.eye(3))
    g = np.random.default_rng(0).standard_normal((3, 3))
    optimizer, eager = cls([p], lr=0.1), cls([q], lr=0.1)
    p.grad, q.grad = tl.tensor(g), tl.tensor(g)
    optimizer.step()
    calls: list[Any] = []
    backend = p.backend
    backend.observers = (lambda be, kernel, out, args, params: calls.append((kernel, out, args, params)),)
    try:
        optimizer.step()
    finally:
        backend.observers = ()
    assert len(calls) == 1
    for _ in range(3):
        for kernel, out, args, params in calls:
            backend.run(kernel, out, *args, **params)
    rate = calls[0][2][1]
    assert rate.shape == () and rate.dtype == np.float64
    rate[...] = 0.02
    for kernel, out, args, params in calls:
        backend.run(kernel, out, *args, **params)
    for _ in range(5):
        eager.step()
    eager.param_groups[0]["lr"] = 0.02
    eager.step()
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_the_learning_rate_may_change_between_steps() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    assert p.item() == pytest.approx(0.89)
    optimizer.param_groups[0]["lr"] = tl.tensor(0.5)
    optimizer.step()
    assert p.item() == pytest.approx(0.39)


def test_options_may_change_between_steps() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.RMSprop([p], centered=True)
    optimizer.step()
    optimizer.param_groups[0].update(momentum=0.9)
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "square_avg", "momentum_buffer", "grad_avg"}
    adam = optim.Adam([p])
    adam.step()
    adam.param_groups[0]["amsgrad"] = True
    adam.step()
    assert adam.state[p]["max_exp_avg_sq"].item() == adam.state[p]["exp_avg_sq"].item()


# --- groups -----------------------------------------------------------------------------------------------------


def test_groups_have_options_of_their_own() -> None:
    a, b, c = leaf([1.0]), leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "name": "head"}], lr=0.1)
    optimizer.add_param_group({"params": (x for x in [c]), "momentum": 0.9})
    for p in (a, b, c):
        p.grad = tl.ones(1, dtype=tl.float64)
    optimizer.step()
    assert [a.item(), b.item(), c.item()] == pytest.approx([0.9, 0.5, 0.9])
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    assert optimizer.param_groups[1]["name"] == "head"
    assert list(optimizer.state[c]) == ["momentum_buffer"]


def test_named_parameters() -> None:
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is model.weight
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("weight", model.weight), model.bias])
    with pytest.raises(ValueError, match=r"with/without names\. cannot add param group without names"):
        optimizer.add_param_group({"params": [leaf(1.0)]})


def test_parameters_that_are_refused() -> None:
    w = leaf([1.0])
    cases: list[tuple[Any, type[Exception], str]] = [
        ([], ValueError, "optimizer got an empty parameter list"),
        (w, TypeError, "should be an iterable of Tensors or dicts, but got Tensor"),
        ({"params": [w]}, TypeError, r"but got one dict; pass \[group\]"),
        ({w}, TypeError, "ordered collections"),
        ([{"params": {w}}], TypeError, "ordered collections"),
        (nn.Linear(2, 2), TypeError, r"'Linear'; did you mean model.parameters\(\)\?"),
        ([nn.Linear(2, 2)], TypeError, r"did you mean model.parameters\(\)\?"),
        ([{"params": nn.Linear(2, 2)}], TypeError, r"did you mean model.parameters\(\)\?"),
        ([w, 3.0], TypeError, "optimizer can only optimize Tensors, but one of the params is float"),
        ([w * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([w.detach().expand(3).requires_grad_()], ValueError, r"whose elements share memory \(expanded\)"),
        ([tl.from_numpy(np.broadcast_to(np.ones(1), (1,)))], ValueError, "that is read-only"),
        ([{"lr": 0.1}], ValueError, "needs the key 'params'"),
        ([{"params": [w]}, w], TypeError, "param_group must be a dict, but got"),
        ([{"params": [w]}, {"params": [w]}], ValueError, "some parameters appear in more than one parameter group"),
    ]
    for params, error, message in cases:
        with pytest.raises(error, match=message):
            optim.SGD(params, lr=0.1)


def test_a_parameter_listed_twice_warns() -> None:
    w = leaf([1.0])
    with pytest.warns(UserWarning, match="duplicate parameters") as caught:
        optimizer = optim.SGD([w, w], lr=0.1)
    assert caught[0].filename != optim.optimizer.__file__
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 0]


BAD_OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    *[(cls, {"lr": -1}, "Invalid learning rate: -1") for cls in ALL],
    *[(cls, {"lr": float("nan")}, "Invalid learning rate: nan") for cls in ALL],
    (optim.SGD, {"momentum": -0.5}, "Invalid momentum value: -0.5"),
    (optim.SGD, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
    (optim.Adam, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    (optim.AdamW, {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    (optim.Adam, {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
    (optim.RMSprop, {"alpha": -1}, "Invalid alpha value: -1"),
    (optim.Adagrad, {"lr_decay": -1}, "Invalid lr_decay value: -1"),
    (optim.Adagrad, {"initial_accumulator_value": -1}, "Invalid initial_accumulator_value value: -1"),
    (optim.Adadelta, {"rho": 1.5}, "Invalid rho value: 1.5"),
    (optim.NAdam, {"momentum_decay": -1}, "Invalid momentum_decay value: -1"),
    (optim.Rprop, {"etas": (1.5, 1.2)}, "Invalid eta values: 1.5, 1.2"),
    (optim.Rprop, {"step_sizes": (2, 1)}, "Invalid step sizes: 2, 1"),
    *[(cls, {"weight_decay": -1}, "Invalid weight_decay value: -1") for cls in ALL if cls is not optim.Rprop],
    (optim.Muon, {"lr": -1}, "Learning rate should be >= 0 but is: -1"),
    (optim.Muon, {"momentum": -1}, "momentum should be >= 0 but is: -1"),
    (optim.Muon, {"weight_decay": -1}, "weight decay should be >= 0 but is: -1"),
    (optim.Muon, {"adjust_lr_fn": "other"}, "Adjust learning rate function other is not supported"),
    (optim.Muon, {"ns_coefficients": (1, 2)}, "Coefficients must be a tuple of exactly 3 values"),
    (optim.Muon, {"ns_steps": 100}, "Number of steps must be less than 100"),
]


@pytest.mark.parametrize("cls,options,message", BAD_OPTIONS)
def test_bad_options_are_refused_everywhere(cls: Any, options: dict[str, Any], message: str) -> None:
    w = leaf([[1.0]])
    with pytest.raises(tl.ArgumentError, match=message):
        cls([w], **options)
    with pytest.raises(tl.ArgumentError, match=message):
        cls([{"params": [w], **options}])
    optimizer = cls([leaf([[1.0]])])
    with pytest.raises(tl.ArgumentError, match=message):
        optimizer.add_param_group({"params": [w], **options})
    assert len(optimizer.param_groups) == 1


def test_repr_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    options = {"lr": 0.1, "momentum": 0.9}
    theirs = repr(torch.optim.SGD([torch.zeros(1, requires_grad=True)], **options))
    expected = [line for line in theirs.split("\n") if line.split(":")[0].strip() not in optim.optimizer.NOT_OURS]
    assert repr(optim.SGD([leaf(1.0)], **options)).split("\n") == expected


# --- zero_grad, hooks, copies, subclasses ---------------------------------------------------------------------------


def test_zero_grad() -> None:
    a, b = leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([a, b])
    a.grad = g = tl.ones(1, dtype=tl.float64)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is g and g.item() == 0.0 and b.grad is None
    optimizer.zero_grad()
    assert a.grad is None


def test_zero_grad_detaches_a_gradient_with_history() -> None:
    a = leaf([3.0])
    (a**3).sum().backward(create_graph=True)
    assert a.grad.requires_grad
    optim.SGD([a]).zero_grad(set_to_none=False)
    assert a.grad.item() == 0.0 and not a.grad.requires_grad


def test_step_hooks() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.SGD([p], lr=0.1)
    seen: list[Any] = []
    pre = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", o is optimizer, p.item())))
    post = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", o is optimizer, p.item())))
    optimizer.step()
    assert seen == [("pre", True, 1.0), ("post", True, 0.9)]
    pre.remove()
    post.remove()
    optimizer.step()
    assert len(seen) == 2
    with optimizer.register_step_pre_hook(lambda o, args, kwargs: ((lambda: "other",), {})):
        assert optimizer.step(lambda: "first") == "other"
    with optimizer.register_step_pre_hook(lambda o, args, kwargs: 3):
        with pytest.raises(ValueError, match=r"None or \(args, kwargs\), got 3"):
            optimizer.step()


def test_deepcopy_goes_on_by_itself() -> None:
    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    (q,) = twin.param_groups[0]["params"]
    assert q is not p
    q.grad = tl.ones(1, dtype=tl.float64)
    twin.step()
    optimizer.step()
    assert q.item() == p.item()
    twin.step()
    assert q.item() < p.item() and twin.state[q]["exp_avg"] is not optimizer.state[p]["exp_avg"]


def test_an_optimizer_of_ones_own() -> None:
    class Plain(Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["calls"] = self.state[p].get("calls", 0) + 1
                    p.data.sub_(p.grad * group["lr"])

    p = leaf([1.0])
    p.grad = tl.ones(1, dtype=tl.float64)
    optimizer = Plain([p], lr=0.1)
    optimizer.step()
    assert p.item() == pytest.approx(0.9)
    other = Plain([leaf([1.0])], lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == 0.1
    assert list(other.state.values()) == [{"calls": 1}]

    class Nothing(Optimizer):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing has neither a kernel nor a step\(\) of its own"):
        Nothing([p], {"lr": 1.0}).step()


# --- saving -----------------------------------------------------------------------------------------------------


def trained(cls: Any, steps: int, **options: Any) -> tuple[list[tl.Tensor], Optimizer, np.random.Generator]:
    rng = np.random.default_rng(7)
    leaves = random_leaves(rng, (3, 4), (5, 2))
    optimizer = cls(leaves, **options)
    more(leaves, optimizer, rng, steps)
    return leaves, optimizer, rng


def more(leaves: list[tl.Tensor], optimizer: Optimizer, rng: np.random.Generator, steps: int) -> None:
    for _ in range(steps):
        for p in leaves:
            p.grad = tl.tensor(rng.standard_normal(tuple(p.shape)), dtype=p.dtype)
        optimizer.step()


@pytest.mark.parametrize("cls", [*ALL, optim.Muon, optim.MuonWithAuxAdam])
def test_a_resumed_run_is_bit_equal(cls: Any) -> None:
    options = {} if cls is optim.MuonWithAuxAdam else {"lr": 0.1}
    leaves, optimizer, rng = trained(cls, 4, **options)
    saved = optimizer.state_dict()
    twins = [leaf(p.detach().numpy()) for p in leaves]
    resumed = cls(twins)
    resumed.load_state_dict(saved)
    position = rng.bit_generator.state
    more(leaves, optimizer, rng, 4)
    rng.bit_generator.state = position
    more(twins, resumed, rng, 4)
    for p, q in zip(leaves, twins, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_state_dict_has_pytorchs_layout() -> None:
    a, b, c = leaf([1.0]), leaf([1.0, 2.0]), leaf([1.0])
    optimizer = optim.Adam([{"params": [a, b]}, {"params": [c], "lr": 0.5}])
    b.grad, c.grad = tl.ones(2, dtype=tl.float64), tl.ones(1, dtype=tl.float64)
    optimizer.step()
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2]]
    assert [group["lr"] for group in saved["param_groups"]] == [1e-3, 0.5]
    assert sorted(saved["state"]) == [1, 2]
    assert list(saved["state"][1]) == ["step", "exp_avg", "exp_avg_sq"]
    assert saved["state"][1]["step"].dtype is tl.float32 and saved["state"][1]["step"].shape == ()
    assert saved["state"][1]["exp_avg"] is optimizer.state[b]["exp_avg"]


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "NAdam", "ASGD", "Rprop"])
def test_state_travels_to_and_from_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"lr": 0.05, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {})}
    ours, mine, theirs, other = run_both(name, options, [(3, 2), (4,)], 5)
    rng = np.random.default_rng(9)
    fresh = [leaf(q.detach().numpy()) for q in theirs]
    loaded = getattr(optim, name)(fresh)
    loaded.load_state_dict(other.state_dict())
    assert "foreach" not in loaded.param_groups[0]
    torch_fresh = [torch.tensor(p.detach().numpy(), requires_grad=True) for p in ours]
    torch_loaded = getattr(torch.optim, name)(torch_fresh)
    saved = mine.state_dict()
    saved["state"] = {i: {k: torch.tensor(v.numpy()) for k, v in held.items()} for i, held in saved["state"].items()}
    torch_loaded.load_state_dict(saved)
    for _ in range(3):
        for p, q in zip(fresh, torch_fresh, strict=True):
            g = rng.standard_normal(tuple(p.shape))
            p.grad, q.grad = tl.tensor(g), torch.tensor(g)
        loaded.step()
        torch_loaded.step()
    for p, q in zip(fresh, torch_fresh, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-7, atol=1e-9)


def test_loaded_state_is_a_copy_on_the_parameters_dtype() -> None:
    _, optimizer, _ = trained(optim.Adam, 2)
    saved = optimizer.state_dict()
    twins = [tl.zeros(3, 4, requires_grad=True), tl.zeros(5, 2, dtype=tl.float16, requires_grad=True)]
    loaded = optim.Adam(twins)
    loaded.load_state_dict(saved)
    assert [loaded.state[p]["exp_avg"].dtype for p in twins] == [tl.float32, tl.float32]
    assert [loaded.state[p]["step"].item() for p in twins] == [2.0, 2.0]
    before = saved["state"][0]["exp_avg"].clone()
    more(twins, loaded, np.random.default_rng(0), 1)
    assert saved["state"][0]["exp_avg"].tolist() == before.tolist()
    assert saved["state"][0]["step"].item() == 2.0


def test_load_state_dict_takes_numbers_arrays_and_text_keys() -> None:
    p = leaf([1.0, 2.0])
    optimizer = optim.Adam([p])
    saved = {
        "state": {"0": {"step": 3, "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2, np.float32)}},
        "param_groups": [{"params": [0], "lr": 0.25, "betas": [0.5, 0.5], "foreach": None}],
    }
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.25 and optimizer.param_groups[0]["eps"] == 1e-8
    state = optimizer.state[p]
    assert (state["step"].item(), state["step"].dtype, state["exp_avg_sq"].dtype) == (3.0, tl.float32, tl.float64)
    p.grad = tl.ones(2, dtype=tl.float64)
    optimizer.step()
    assert state["step"].item() == 4.0


def break_groups(saved: dict[str, Any]) -> None:
    saved["param_groups"].append(saved["param_groups"][0])


def break_sizes(saved: dict[str, Any]) -> None:
    saved["param_groups"][0]["params"] = [0]


def break_shape(saved: dict[str, Any]) -> None:
    saved["state"][1]["exp_avg"] = tl.zeros(2, 5)


def break_index(saved: dict[str, Any]) -> None:
    saved["state"][7] = saved["state"].pop(1)


def break_kind(saved: dict[str, Any]) -> None:
    del saved["state"][1]["exp_avg_sq"]


def break_option(saved: dict[str, Any]) -> None:
    saved["param_groups"][0]["lr"] = -1


@pytest.mark.parametrize("damage,message", [
    (break_groups, "different number of parameter groups: 2, the optimizer has 1"),
    (break_sizes, "doesn't match the size of optimizer's group: group 0 has 1 parameters, not 2"),
    (break_shape, r"state 'exp_avg' of parameter 1 has shape \(2, 5\), expected \(5, 2\)"),
    (break_index, "state for parameter 7, but no group has that"),
    (break_kind, r"parameter 1 has \['exp_avg', 'step'\], but Adam needs .*another optimizer"),
    (break_option, "Invalid learning rate: -1"),
])
def test_load_state_dict_is_all_or_nothing(damage: Any, message: str) -> None:
    _, optimizer, _ = trained(optim.Adam, 2)
    saved = optimizer.state_dict()
    damage(saved)
    leaves, other, rng = trained(optim.Adam, 1, lr=0.5)
    groups, state = other.param_groups, other.state
    before = copy.deepcopy([dict(groups[0], params=None), [values(*held.values()) for held in state.values()]])
    with pytest.raises((tl.ArgumentError, tl.ShapeError), match=message):
        other.load_state_dict(saved)
    assert other.param_groups is groups and other.state is state
    after = [dict(groups[0], params=None), [values(*held.values()) for held in state.values()]]
    assert str(after) == str(before)
    more(leaves, other, rng, 1)


def test_a_models_state_is_no_optimizers() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(tl.ArgumentError, match=r"keys 'state' and 'param_groups', got \['bias', 'weight'\]"):
        optim.SGD(model.parameters()).load_state_dict(model.state_dict())
    other = optim.MuonWithAuxAdam(model.parameters())
    with pytest.raises(tl.ArgumentError, match="needs the key 'use_muon'"):
        other.load_state_dict(optim.SGD([{"params": model.weight}, {"params": model.bias}]).state_dict())


def test_state_follows_the_parameter() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    x = tl.ones(4, 3)
    model(x).sum().backward()
    optimizer.step()
    before = optimizer.state[model.weight]["exp_avg"].tolist()
    model.double()
    optimizer.zero_grad()
    model(x.double()).sum().backward()
    optimizer.step()
    state = optimizer.state[model.weight]
    assert state["exp_avg"].dtype is tl.float64 and state["step"].dtype is tl.float32
    assert state["step"].item() == 2.0
    np.testing.assert_allclose(state["exp_avg"].numpy(), 0.9 * np.array(before) + 0.1 * 4.0, rtol=1e-6)


def test_a_model_learns() -> None:
    tl.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = tl.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tl.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2
