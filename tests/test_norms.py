"""The norms as layers and functions: against torch, in training and eval, captured, differentiated twice, refused."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.errors import ArgumentError, GradError, ShapeError
from tensorlite.nn import functional as F
from tensorlite.testing import gradcheck, gradgradcheck

# name, positional arguments, keyword arguments, input shape
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (40,), {"momentum": None}, (9, 40)),
    ("BatchNorm1d", (4,), {"momentum": 0.3, "eps": 1e-2}, (5, 4, 3)),
    ("BatchNorm1d", (1,), {}, (2, 1, 70)),
    ("BatchNorm2d", (6,), {}, (3, 6, 4, 4)),
    ("BatchNorm2d", (6,), {"momentum": None}, (2, 6, 3, 5)),
    ("BatchNorm2d", (6,), {"affine": False}, (2, 6, 1, 2)),
    ("BatchNorm2d", (6,), {"bias": False}, (1, 6, 5, 5)),
    ("BatchNorm2d", (6,), {"track_running_stats": False}, (2, 6, 3, 5)),
    ("BatchNorm2d", (3,), {"momentum": 1.0}, (1, 3, 2, 1)),
    ("BatchNorm2d", (3,), {"momentum": 0.0}, (4, 3, 2, 3)),
    ("BatchNorm3d", (2,), {}, (3, 2, 2, 3, 4)),
    ("GroupNorm", (1, 6), {}, (3, 6)),
    ("GroupNorm", (2, 6), {}, (3, 6, 5)),
    ("GroupNorm", (2, 6), {"eps": 0.1}, (2, 6, 4, 4)),
    ("GroupNorm", (6, 6), {"bias": False}, (2, 6, 3, 3)),
    ("GroupNorm", (3, 6), {"affine": False}, (2, 6, 5, 4)),
    ("GroupNorm", (1, 2), {}, (3, 2)),
    ("InstanceNorm1d", (4,), {}, (3, 4, 5)),
    ("InstanceNorm1d", (4,), {"affine": True}, (4, 17)),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, (3, 4, 4, 4)),
    ("InstanceNorm2d", (4,), {"track_running_stats": True, "momentum": None}, (3, 4, 2, 3)),
    ("InstanceNorm2d", (4,), {"affine": True, "bias": False, "momentum": 0.5}, (4, 3, 5)),
    ("InstanceNorm3d", (2,), {"track_running_stats": True, "eps": 0.1}, (2, 2, 2, 3, 2)),
    ("RMSNorm", (5,), {}, (4, 5)),
    ("RMSNorm", ((4, 5),), {"eps": 1e-3}, (3, 4, 5)),
    ("RMSNorm", ([70],), {"elementwise_affine": False}, (2, 3, 70)),
    *[("LocalResponseNorm", (size, 0.3), {}, (2, 5, 3)) for size in (1, 2, 3, 7)],
    ("LocalResponseNorm", (2,), {"alpha": 0.5, "beta": 0.5, "k": 2.0}, (2, 3, 2, 2)),
]
every_layer = pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=lambda v: str(v)[:40])
TOLERANCE = {"float64": 1e-10, "float32": 3e-5}


def pair(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: str, device: str) -> tuple[Any, Any]:
    """The layer and torch's, with the same numbers in all parameters."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(getattr(torch, dtype))
    random = np.random.default_rng(7)
    for parameter in theirs.parameters():
        parameter.data.copy_(torch.from_numpy(np.asarray(random.normal(size=parameter.shape))))
    ours = getattr(nn, name)(*args, **kwargs).to(getattr(tl, dtype))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours.to(device), theirs


def compare(ours: Any, theirs: Any, values: np.ndarray, device: str) -> None:
    """Results, gradients and buffers after one forward and backward."""
    torch = pytest.importorskip("torch")
    limit = TOLERANCE[values.dtype.name]
    x, other = tl.tensor(values, device=device, requires_grad=True), torch.tensor(values, requires_grad=True)
    out, expected = ours(x), theirs(other)
    assert out.shape == tuple(expected.shape) and out.dtype.name == str(expected.dtype).removeprefix("torch.")
    g = np.random.default_rng(3).normal(size=values.shape).astype(values.dtype)
    out.backward(tl.tensor(g, device=device))
    expected.backward(torch.tensor(g))
    pairs = [(out, expected), (x.grad, other.grad), *zip(ours.buffers(), theirs.buffers(), strict=True),
             *[(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]]
    for mine, wanted in pairs:
        assert mine.shape == tuple(wanted.shape) and mine.dtype.name == str(wanted.dtype).removeprefix("torch.")
        scale = max(1.0, float(wanted.detach().abs().max()))
        np.testing.assert_allclose(mine.detach().cpu().numpy(), wanted.detach().numpy(), limit, limit * scale)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_layer
def test_layer_equals_torch_in_training_and_eval(name: str, args: Any, kwargs: Any, shape: Any, dtype: str,
                                                 device: str) -> None:
    ours, theirs = pair(name, args, kwargs, dtype, device)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    random = np.random.default_rng(5)
    for step in range(4):
        ours.train(step != 2), theirs.train(step != 2)
        ours.zero_grad(), theirs.zero_grad()
        compare(ours, theirs, (random.normal(size=shape) * 2 + step).astype(dtype), device)


@every_layer
def test_layer_is_differentiable_twice(name: str, args: Any, kwargs: Any, shape: Any) -> None:
    layer = getattr(nn, name)(*args, **kwargs).double()
    random = np.random.default_rng(1)
    for parameter in layer.parameters():
        parameter.data = tl.tensor(random.normal(size=parameter.shape))
    x = tl.tensor(random.normal(size=shape), requires_grad=True)
    for mode in (True, False):
        layer.train(mode)
        assert gradcheck(layer, x, atol=1e-6, rtol=1e-5, fast_mode=True)
        assert gradgradcheck(layer, x, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("wanted", [w for w in itertools.product((False, True), repeat=3) if any(w)])
@pytest.mark.parametrize("training", [False, True])
def test_each_gradient_comes_without_the_others(wanted: tuple[bool, ...], training: bool, device: str) -> None:
    random = np.random.default_rng(2)
    values = [random.normal(size=shape) for shape in ((3, 4, 5), (4,), (4,))]
    weights = tl.tensor(random.normal(size=(3, 4, 5)), device=device)

    def gradients(flags: tuple[bool, ...], **options: bool) -> list[Any]:
        inputs = [tl.tensor(v, device=device, requires_grad=flag) for v, flag in zip(values, flags, strict=True)]
        running = tl.zeros(4, dtype=tl.float64, device=device), tl.ones(4, dtype=tl.float64, device=device)
        loss = (F.batch_norm(inputs[0], *running, *inputs[1:], training) * weights).sum()
        needed = [x for x in inputs if x.requires_grad]
        found = iter(tl.autograd.grad(loss, needed, **options))
        return [next(found).detach().cpu().numpy() if flag else None for flag in flags]

    together = gradients((True, True, True))
    for options in ({}, {"create_graph": True}):  # by the kernel, and by the rules
        for mine, expected, flag in zip(gradients(wanted, **options), together, wanted, strict=True):
            if flag:
                np.testing.assert_allclose(mine, expected, 1e-12, 1e-12)


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(64, 3, 5, 5), (512, 3), (16, 2, 3)])
def test_a_large_mean_does_not_spoil_the_variance(shape: tuple[int, ...], compiled: bool, device: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled and device == "cpu":
        monkeypatch.setattr(tl.backends.get("cpu"), "_compiled", {})
    values = (1e4 + 0.1 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)
    axes = (0, *range(2, len(shape)))
    x = tl.tensor(values, device=device)
    mean, var = tl.ops.moments(x)
    np.testing.assert_allclose(mean.cpu().numpy(), values.mean(axes, dtype=np.float64), 3e-7)
    np.testing.assert_allclose(var.cpu().numpy(), values.var(axes, dtype=np.float64), 1e-4)
    mean, var = tl.ops.moments(x.transpose(0, 1), 1)
    np.testing.assert_allclose(var.cpu().numpy()[:, 0], values.var(axes, dtype=np.float64), 1e-4)


def test_an_outlier_that_comes_first_does_not_spoil_the_variance(device: str) -> None:
    values = np.random.default_rng(0).normal(size=(40, 2, 9)).astype(np.float32) + 1000
    values[0, :, 0] = 0
    _, var = tl.ops.moments(tl.tensor(values, device=device))
    np.testing.assert_allclose(var.cpu().numpy(), values.var((0, 2), dtype=np.float64), 1e-5)


def test_statistics_are_kept_and_nothing_else(device: str) -> None:
    """What a node saves beside x and weight: two numbers per channel, or per group of a sample."""
    x = tl.randn(8, 6, 5, 5, device=device, requires_grad=True)
    for layer, numbers in ((nn.BatchNorm2d(6), 12), (nn.GroupNorm(3, 6), 48), (nn.InstanceNorm2d(6), 96)):
        saved = layer.to(device)(x)._node.saved
        arrays = {name: value[0] for name, value in saved.items() if type(value) is tuple}
        assert arrays.pop("x") is x.array
        arrays.pop("weight", None)
        assert sum(a.size for a in arrays.values()) == numbers


def test_running_statistics_that_changed_since_are_noticed_in_backward(device: str) -> None:
    layer, x = nn.BatchNorm2d(2).to(device), tl.randn(3, 2, 2, 2, device=device)
    out = layer.eval()(x.requires_grad_())
    layer.train()(x.detach())
    with pytest.raises(GradError, match="batch_norm"):
        out.sum().backward()


def test_running_statistics_after_an_empty_batch_stay() -> None:
    torch = pytest.importorskip("torch")
    layer, other = nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    assert layer(tl.zeros(0, 3, 2, 2)).shape == tuple(other(torch.zeros(0, 3, 2, 2)).shape)
    assert layer.running_mean.tolist() == [0, 0, 0] and layer.running_var.tolist() == [1, 1, 1]
    x = tl.zeros(0, 3, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape and layer.weight.grad.tolist() == [0, 0, 0]


def test_running_statistics_may_be_of_16_bits_or_views(device: str) -> None:
    values = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    buffers = tl.zeros(4, 2, device=device)[:, 0], tl.ones(4, 2, device=device)[:, 1]
    exact = tl.zeros(4, device=device), tl.ones(4, device=device)
    narrow = tl.zeros(4, device=device).bfloat16(), tl.ones(4, device=device).bfloat16()
    x = tl.tensor(values, device=device)
    for running in (buffers, exact, narrow):
        F.batch_norm(x, *running, training=True)
    for mine, other, wanted in zip(buffers, narrow, exact, strict=True):
        assert mine.tolist() == wanted.tolist()
        np.testing.assert_allclose(other.float().cpu().numpy(), wanted.cpu().numpy(), 1e-2)


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16])
def test_16_bits_are_normalised_in_32(dtype: tl.DType, device: str) -> None:
    values = np.random.default_rng(0).normal(size=(16, 4, 5)).astype(np.float32) * 10 + 100
    x = tl.tensor(values, device=device).to(dtype).requires_grad_()
    exact = x.detach().float().requires_grad_()
    for norm in (nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4), nn.RMSNorm(5, elementwise_affine=False)):
        layer = norm.to(device)  # weights stay in float32
        out, expected = layer(x), layer(exact)
        assert out.dtype is dtype
        np.testing.assert_allclose(out.detach().float().cpu().numpy(), expected.detach().cpu().numpy(), atol=2e-2)
        for result, source in ((out, x), (expected, exact)):
            source.grad = None
            (result.float() * exact.detach()).sum().backward()
        scale = float(exact.grad.abs().max())
        np.testing.assert_allclose(x.grad.float().cpu().numpy(), exact.grad.cpu().numpy(), atol=2e-2 * max(scale, 1))


# --- captured steps ---------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        self.norms = [nn.BatchNorm2d(4, momentum=momentum), nn.GroupNorm(2, 4),
                      nn.InstanceNorm2d(4, affine=True, track_running_stats=True)]
        self.rms = nn.RMSNorm(3)
        self.last = nn.BatchNorm1d(12, momentum=momentum)

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        for norm in self.norms:
            x = norm(x).tanh() * 1.5
        return self.last(self.rms(x).flatten(1))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_captured_steps_equal_eager_ones(momentum: float | None, device: str) -> None:
    seen = []
    for captured in (False, True):
        tl.manual_seed(0)
        model = Net(momentum).to(device)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: tl.Tensor, model: nn.Module = model, optimizer: Any = optimizer) -> tl.Tensor:
            optimizer.zero_grad()
            loss = (model(x) - x.flatten(1)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = tl.capture(step) if captured else step
        random = np.random.default_rng(0)
        losses = [run(tl.tensor(random.normal(size=(5, 4, 1, 3)).astype(np.float32) + i, device=device)).item()
                  for i in range(6)]
        seen.append((losses, {key: value.tolist() for key, value in model.state_dict().items()}))
    assert seen[0] == seen[1]
    assert seen[0][1]["last.num_batches_tracked"] == 6


# --- functions --------------------------------------------------------------------------------------------------------


def test_functions_equal_torchs(device: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(4).normal(size=(3, 4, 5))
    vector = np.arange(1.0, 5.0)
    calls: list[Callable[[Any, Any, Any], Any]] = [
        lambda f, x, v: f.batch_norm(x, v, v, training=False, eps=0.1),
        lambda f, x, v: f.batch_norm(x, None, None, v, v, True),
        lambda f, x, v: f.instance_norm(x, v, v, v, v, False),
        lambda f, x, v: f.instance_norm(x, weight=v),
        lambda f, x, v: f.group_norm(x, 4, v),
        lambda f, x, v: f.rms_norm(x[:, :, :4], [4], v),
        lambda f, x, v: f.rms_norm(x * 1e-8, [5]),
        lambda f, x, v: f.local_response_norm(x, 3),
    ]
    for call in calls:
        mine = call(F, tl.tensor(values, device=device), tl.tensor(vector, device=device))
        wanted = call(torch.nn.functional, torch.tensor(values), torch.tensor(vector))
        np.testing.assert_allclose(mine.cpu().numpy(), wanted.numpy(), 1e-11, 1e-11)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_rms_norm_adds_the_precision_of_what_is_computed_in(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    mine = F.rms_norm(tl.full((1, 4), 1e-4, dtype=getattr(tl, dtype)), [4])
    wanted = torch.nn.functional.rms_norm(torch.full((1, 4), 1e-4, dtype=getattr(torch, dtype)), [4])
    np.testing.assert_allclose(mine.double().numpy(), wanted.double().numpy(), 1e-3)


def test_layers_are_reset() -> None:
    for layer in (nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True, track_running_stats=True), nn.GroupNorm(1, 3),
                  nn.RMSNorm(3), nn.LayerNorm(3)):
        fresh = {key: value.tolist() for key, value in layer.state_dict().items()}
        with tl.no_grad():
            for tensor in layer.state_dict().values():
                tensor.add_(1)
        layer.reset_parameters()
        assert {key: value.tolist() for key, value in layer.state_dict().items()} == fresh


# --- refusals ---------------------------------------------------------------------------------------------------------

IMAGES = tl.zeros(2, 4, 3, 3)
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rank": (lambda: nn.BatchNorm2d(4)(IMAGES[0]), ShapeError, r"BatchNorm2d: expected 4D input \(got 3D input\)"),
    "rank of volumes": (lambda: nn.BatchNorm3d(4)(IMAGES), ShapeError, "BatchNorm3d: expected 5D input"),
    "rank of samples": (lambda: nn.InstanceNorm2d(4)(IMAGES[0, 0]), ShapeError,
                        "InstanceNorm2d: expected 3D or 4D input"),
    "channels": (lambda: nn.BatchNorm2d(3)(IMAGES), ShapeError, "running_mean should contain 4 elements not 3"),
    "one value": (lambda: nn.BatchNorm2d(4)(tl.zeros(1, 4, 1, 1)), ShapeError, "Expected more than 1 value per chan"),
    "one value of a sample": (lambda: nn.InstanceNorm2d(4)(tl.zeros(2, 4, 1, 1)), ShapeError,
                              "Expected more than 1 spatial element"),
    "one value of a group": (lambda: F.group_norm(tl.zeros(1, 2), 2), ShapeError, "Expected more than 1 value"),
    "a vector": (lambda: F.batch_norm(tl.zeros(4), None, None, training=True), ShapeError, "at least 2 dimensions"),
    "no running mean": (lambda: F.batch_norm(IMAGES, None, None), ArgumentError, "running_mean must be defined"),
    "no running var": (lambda: F.batch_norm(IMAGES, tl.zeros(4), None), ArgumentError, "running_var must be defined"),
    "one of both": (lambda: F.batch_norm(IMAGES, tl.zeros(4), None, training=True), ArgumentError,
                    "must either both be None or neither"),
    "no statistics": (lambda: F.instance_norm(IMAGES, use_input_stats=False), ArgumentError, "to be defined when"),
    "groups": (lambda: nn.GroupNorm(3, 4), ArgumentError, r"num_channels \(4\) must be divisible by num_groups \(3\)"),
    "groups of the input": (lambda: F.group_norm(IMAGES, 3), ShapeError, "to be divisible by num_groups"),
    "no groups": (lambda: F.group_norm(IMAGES, 0), ShapeError, "num_groups=0"),
    "weight": (lambda: F.group_norm(IMAGES, 2, tl.ones(3)), ShapeError, "weight should contain 4 elements not 3"),
    "row": (lambda: nn.RMSNorm(3)(tl.zeros(2, 4)), ShapeError, r"rms_norm: given normalized_shape=\[3\]"),
    "weight of a row": (lambda: F.rms_norm(tl.zeros(2, 3), [3], tl.ones(4)), ShapeError, "rms_norm: weight has shape"),
    "no neighbours": (lambda: F.local_response_norm(tl.zeros(2, 4), 2), ShapeError, "expected 3D or higher"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_other_channels_than_announced_are_warned_of_where_nothing_depends_on_them() -> None:
    with pytest.warns(UserWarning, match=r"InstanceNorm2d\(3\) got 4 channels"):
        nn.InstanceNorm2d(3)(IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.InstanceNorm2d(4)(IMAGES)
        with pytest.raises(ShapeError, match="weight should contain 4 elements not 3"):
            nn.InstanceNorm2d(3, affine=True)(IMAGES)
