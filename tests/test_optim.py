"""The optimizers' numbers: golden ones, equality with PyTorch, and every layout, size and dtype."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest
from optim_helpers import ALL, leaf, random_leaves, run_both, values

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import cpu_blocks

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
