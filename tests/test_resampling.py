"""Interpolation, padding, sliding windows, shuffles and dropout of channels beside PyTorch's; views and capture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_pool import TOLERANCE, assert_parity, drawn

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F
from tensorlite.testing import gradcheck, gradgradcheck

SIZES = (1, 2, 3, 7, 12)
FACTORS = (0.3, 0.7, 1.0, 1.5, 2.0, 2.3, 3.4)


# --- interpolate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
def test_one_dimension_of_every_size_and_factor(mode: str, device: str) -> None:
    options = [{"align_corners": True}, {"align_corners": False}] if mode == "linear" else [{}]
    for length, dtype, more in itertools.product((1, 2, 6), TOLERANCE, options):
        values = drawn(1, 2, length, dtype=dtype)
        for size in SIZES:
            assert_parity(device, "interpolate", values, size, mode=mode, **more)
        for factor, again in itertools.product(FACTORS, (None, True)):
            rounded = int(length * factor)  # where PyTorch's own kernels disagree about the factor
            if rounded and (again or factor in (1, 2) or rounded not in (length, 2 * length)):
                assert_parity(device, "interpolate", values, None, factor, mode, recompute_scale_factor=again, **more)


@pytest.mark.parametrize(("size", "factor"), [((6, 8), None), ((7, 5), None), (None, 2), (None, (3, 2.5)),
                                              (None, (0.5, 1.5)), (4, None), ((3, 8), None)], ids=str)
def test_planes(size: Any, factor: Any, device: str) -> None:
    for mode, dtype in itertools.product(("nearest", "nearest-exact", "area", "bilinear"), TOLERANCE):
        for align in (False, True) if mode == "bilinear" else (None,):
            assert_parity(device, "interpolate", drawn(2, 3, 3, 4, dtype=dtype), size, factor, mode, align)


def test_volumes(device: str) -> None:
    for mode, size in itertools.product(("nearest", "trilinear"), ((4, 6, 3), (2, 3, 5))):
        assert_parity(device, "interpolate", drawn(1, 2, 2, 3, 4), size, None, mode)


@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16], ids=lambda d: d.name)
def test_narrow_floats_are_computed_wide(dtype: Any, device: str) -> None:
    x = tl.tensor(drawn(1, 2, 5, 6), device=device).to(dtype)
    for function in (lambda x: F.interpolate(x, (7, 11), mode="bilinear"), lambda x: F.adaptive_avg_pool2d(x, (3, 4))):
        assert function(x).dtype is dtype
        assert tl.equal(function(x), function(x.float()).to(dtype))


def test_interpolation_differentiates_twice(device: str) -> None:
    x = tl.tensor(drawn(1, 2, 3, 4), device=device, requires_grad=True)
    for function in (lambda x: F.interpolate(x, (5, 7), mode="bilinear").square(),
                     lambda x: F.interpolate(x, (5, 7)).square(), lambda x: F.interpolate(x, scale_factor=2).square()):
        assert gradcheck(function, x) and gradgradcheck(function, x, fast_mode=True)


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode: str, device: str) -> None:
    cases = [((2, 3, 5), (1, 2)), ((3, 5), (4, 0)), ((2, 3, 4, 5), (2, 1, 0, 3)), ((2, 4, 5), (1, 1, 2, 2)),
             ((2, 3, 5), (0, 0)), ((1, 2, 3, 4, 5), (1, 2, 2, 1, 1, 0)), ((2, 3, 5), (5, 1)), ((2, 3, 5), (6, 0)),
             ((0, 3, 5), (2, 1))]
    if mode != "circular":  # which PyTorch fills from what it has not written
        cases += [((2, 3, 5), (-1, 2)), ((2, 3, 5), (3, -2)), ((2, 3, 4, 5), (-1, -1, 2, -2)), ((2, 3, 1), (-1, 2))]
    for (shape, widths), dtype in itertools.product(cases, TOLERANCE):
        assert_parity(device, "pad", drawn(*shape, dtype=dtype), widths, mode)


def test_a_constant_pads_and_cuts_every_dtype(device: str) -> None:
    torch = pytest.importorskip("torch")
    for dtype, value in (("int64", 7), ("bool", True), ("float16", 0.5), ("uint8", 0)):
        x = np.arange(6).reshape(2, 3)
        mine = F.pad(tl.tensor(x, device=device).to(getattr(tl, dtype)), (1, -1, 0, 2), value=value)
        theirs = torch.nn.functional.pad(torch.tensor(x).to(getattr(torch, dtype)), (1, -1, 0, 2), value=value)
        assert mine.dtype.name == dtype and mine.tolist() == theirs.tolist()


# --- windows ----------------------------------------------------------------------------------------------------------


WINDOWS = ((2, 1, 0, 1), (3, 1, 1, 2), ((2, 3), (1, 2), (0, 1), (2, 1)), ((1, 2), 2, 0, (3, 3)), (4, 2, 1, 1))


@pytest.mark.parametrize(("kernel", "dilation", "padding", "stride"), WINDOWS, ids=str)
def test_unfold_and_fold(kernel: Any, dilation: Any, padding: Any, stride: Any, device: str) -> None:
    for shape, dtype in itertools.product(((2, 3, 6, 7), (3, 6, 6)), TOLERANCE):
        values = drawn(*shape, dtype=dtype)
        assert_parity(device, "unfold", values, kernel, dilation, padding, stride)
        try:
            columns = F.unfold(tl.tensor(values), kernel, dilation, padding, stride).numpy()
        except tl.ShapeError:
            continue
        assert_parity(device, "fold", columns, shape[-2:], kernel, dilation, padding, stride)
    x = tl.tensor(drawn(1, 2, 7, 7), device=device, requires_grad=True)
    assert gradgradcheck(lambda x: F.unfold(x, kernel, dilation, padding, stride).square(), x, fast_mode=True)


def test_fold_adds_narrow_floats_in_float32(device: str) -> None:
    x = tl.tensor(drawn(9, 4), dtype=tl.float16, device=device)
    assert tl.equal(F.fold(x, (4, 4), 3), F.fold(x.float(), (4, 4), 3).to(tl.float16))


def test_windows_share_memory_with_their_tensor(device: str) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = tl.zeros(3, 8, device=device), torch.zeros(3, 8)
    for x in (mine, theirs):
        x.unfold(1, 2, 3).add_(1)
        x.t().unfold(0, 4, 4)[1].mul_(5)
    assert mine.tolist() == theirs.tolist()
    assert mine.unfold(1, 3, 1).stride() == theirs.unfold(1, 3, 1).stride()
    with pytest.raises(tl.GradError, match="shares memory among its elements"):
        mine.unfold(1, 3, 1).add_(1)


def test_a_change_through_windows_is_differentiated(device: str) -> None:
    w = tl.ones(6, device=device, requires_grad=True)
    y = w * 1
    y.unfold(0, 2, 3).mul_(3)
    (y * tl.arange(6.0, device=device)).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [0, 3, 2, 9, 12, 5]


# --- shuffles ---------------------------------------------------------------------------------------------------------


def test_shuffles(device: str) -> None:
    for factor in (1, 2, 3):
        assert_parity(device, "pixel_shuffle", drawn(2, 2 * factor**2, 3, 4), factor)
        assert_parity(device, "pixel_shuffle", drawn(2, 3, factor**2, 1, 2), factor)
        assert_parity(device, "pixel_unshuffle", drawn(2, 3, 2 * factor, factor), factor)
        assert_parity(device, "channel_shuffle", drawn(2, 2 * factor, 3, 4), factor)
    x = tl.tensor(drawn(2, 8, 3, 4), device=device, requires_grad=True)
    assert tl.equal(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x)
    assert gradgradcheck(lambda x: F.pixel_shuffle(x, 2).square(), x, fast_mode=True)


# --- dropout of channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "shape", "leading"), [
    (F.dropout1d, (40, 30, 5), 2), (F.dropout1d, (300, 4), 1), (F.dropout2d, (40, 30, 3, 4), 2),
    (F.dropout2d, (40, 30, 5), 2), (F.dropout2d, (30, 40), 2)])
def test_channels_go_or_stay_as_a_whole(function: Any, shape: Any, leading: int, device: str) -> None:
    x = tl.ones(shape, device=device, requires_grad=True)
    out = function(x, 0.25, generator=tl.Generator(device).manual_seed(1))
    found = out.detach().cpu().numpy().reshape(*shape[:leading], -1)
    assert (found == found[..., :1]).all() and set(np.unique(found)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(found[..., 0].astype(bool).mean() - 0.75) < 0.1
    out.sum().backward()
    assert x.grad is not None and tl.equal(x.grad, out.detach())
    assert function(x, 0.25, training=False) is x and function(x, 0.0) is x


def test_channels_are_dropped_in_place(device: str) -> None:
    x = tl.ones(2, 300, 2, device=device)
    assert F.dropout1d(x, 0.5, inplace=True) is x
    assert set(np.unique(x.cpu().numpy())) == {0.0, 2.0}


# --- all together -----------------------------------------------------------------------------------------------------


STEPS: dict[str, Callable[[Any], Any]] = {
    "nearest": lambda x: F.interpolate(x, (7, 5)), "repeated": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, (7, 5), mode="bilinear"), "unfold": lambda x: F.unfold(x, 2, stride=2),
    "reflect": lambda x: F.pad(x, (1, 2, 0, 1), "reflect"), "shuffle": lambda x: F.pixel_shuffle(x, 2),
    "fold": lambda x: F.fold(F.unfold(x, 3), (4, 6), 3), "adaptive": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "max": lambda x: F.adaptive_max_pool2d(x, (3, 4)), "dropout": lambda x: F.dropout2d(x, 0.5),
}


@pytest.mark.parametrize("name", STEPS)
def test_captured_steps_give_what_eager_ones_do(name: str, device: str) -> None:
    def step(x: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
        leaf = x.detach().requires_grad_()
        out = STEPS[name](leaf)
        out.square().sum().backward()
        assert leaf.grad is not None
        return out.detach(), leaf.grad

    found: list[list[Any]] = []
    for function in (step, tl.capture(step)):
        tl.manual_seed(3)
        inputs = [tl.tensor(drawn(2, 4, 4, 6, seed=i, dtype=np.float32), device=device) for i in range(4)]
        found.append([[y.tolist() for y in function(x)] for x in inputs])
    assert found[0] == found[1]


@pytest.mark.parametrize("make", [
    lambda n: n.Upsample(scale_factor=2), lambda n: n.Upsample((3, 9), mode="bilinear", align_corners=True),
    lambda n: n.Upsample(scale_factor=(2, 1.5), mode="nearest-exact"), lambda n: n.UpsamplingNearest2d(scale_factor=2),
    lambda n: n.UpsamplingBilinear2d((5, 6)), lambda n: n.ZeroPad1d(1), lambda n: n.ZeroPad2d((1, 0, 2, 1)),
    lambda n: n.ConstantPad1d(2, 3.5), lambda n: n.ConstantPad2d((1, 2, 0, 1), -1.0), lambda n: n.ReflectionPad1d(2),
    lambda n: n.ReflectionPad2d((1, 2, 2, 1)), lambda n: n.ReplicationPad1d((1, 3)), lambda n: n.ReplicationPad2d(1),
    lambda n: n.CircularPad1d(2), lambda n: n.CircularPad2d((1, 1, 2, 0)), lambda n: n.Unfold(2, padding=1),
    lambda n: n.PixelShuffle(2), lambda n: n.PixelUnshuffle(2), lambda n: n.ChannelShuffle(2)])
def test_layers(make: Any) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = make(nn), make(torch.nn)
    assert repr(mine) == repr(theirs)
    x = drawn(2, 4, 6) if "1d" in repr(mine) else drawn(2, 4, 4, 6)
    np.testing.assert_allclose(mine(tl.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), 1e-12, 1e-12)


def test_layers_of_windows_and_dropout() -> None:
    torch = pytest.importorskip("torch")
    x = drawn(2, 8, 12)
    mine, theirs = nn.Fold((4, 5), 2), torch.nn.Fold((4, 5), 2)
    assert repr(mine) == repr(theirs)
    np.testing.assert_allclose(mine(tl.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), 1e-12)
    for layer in (nn.Dropout1d(0.5), nn.Dropout2d(0.5)):
        out = layer(tl.ones(20, 30, 4))
        assert set(np.unique(out.numpy())) == {0, 2} and (out.numpy() == out.numpy()[..., :1]).all()
        assert tl.equal(layer.eval()(out), out)
        assert repr(layer) == f"{type(layer).__name__}(p=0.5, inplace=False)"


ones = tl.ones
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "mode": (lambda: F.interpolate(ones(1, 1, 2, 2), 3, mode="bicubic"), tl.ArgumentError, "unknown mode 'bicubic'"),
    "corners": (lambda: F.interpolate(ones(1, 1, 2), 3, align_corners=True), tl.ArgumentError, "takes no align_corn"),
    "antialias": (lambda: F.interpolate(ones(1, 1, 2), 3, antialias=True), tl.ArgumentError, "takes no antialias"),
    "integers": (lambda: F.interpolate(ones(1, 1, 2).long(), 3), tl.DTypeError, "got int64; convert"),
    "dimensions": (lambda: F.interpolate(ones(1, 1, 2), 3, mode="bilinear"), tl.ShapeError, "expects .* of 4 dimen"),
    "neither": (lambda: F.interpolate(ones(1, 1, 2)), tl.ArgumentError, "either size or scale_factor"),
    "too many": (lambda: F.interpolate(ones(1, 1, 2), (2, 3)), tl.ArgumentError, "needs 1 sizes or factors"),
    "float size": (lambda: F.interpolate(ones(1, 1, 2), 2.5), tl.ArgumentError, "sizes are integers, got 2.5"),
    "float sizes": (lambda: F.interpolate(ones(1, 1, 2), (4.0,)), tl.ArgumentError, "scale_factor="),
    "factors of sizes": (lambda: F.interpolate(ones(1, 1, 2), 4, recompute_scale_factor=True), tl.ArgumentError,
                         "needs scale_factor, not size=4"),
    "array": (lambda: F.interpolate(np.ones((1, 1, 2)), 3), tl.DTypeError, "got ndarray; wrap it in tl.tensor"),
    "no size": (lambda: F.interpolate(ones(1, 1, 2), 0), tl.ArgumentError, "sizes must be positive"),
    "unfold": (lambda: F.unfold(ones(2, 2), 1), tl.ShapeError, r"expected an input \(N, C, H, W\)"),
    "too large": (lambda: F.unfold(ones(1, 2, 2), 3), tl.ShapeError, r"windows of \(3, 3\) .* do not fit"),
    "fold": (lambda: F.fold(ones(1, 4, 5), 3, 2), tl.ShapeError, r"expected \(N, C·4, 4\)"),
    "pixels": (lambda: F.pixel_shuffle(ones(3, 1, 1), 2), tl.ShapeError, "does not divide the 3 channels"),
    "planes": (lambda: F.pixel_unshuffle(ones(1, 3, 2), 2), tl.ShapeError, "2 does not divide the planes"),
    "no channels": (lambda: F.pixel_shuffle(ones(2, 2), 1), tl.ShapeError, "expected an input"),
    "factor": (lambda: F.pixel_shuffle(ones(1, 2, 2), 0), tl.ArgumentError, "must be positive"),
    "groups": (lambda: F.channel_shuffle(ones(1, 3, 2), 2), tl.ShapeError, "2 groups do not divide"),
    "dropout1d": (lambda: F.dropout1d(ones(1, 2, 3, 4)), tl.ShapeError, "see dropout2d"),
    "dropout2d": (lambda: F.dropout2d(ones(3)), tl.ShapeError, "see dropout"),
    "probability": (lambda: F.dropout2d(ones(1, 2, 3, 4), 1.5), tl.ArgumentError, "between 0 and 1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
