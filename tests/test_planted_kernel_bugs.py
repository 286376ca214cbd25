"""Bugs planted in the kernels of kernels/: the checks of the simulator find each of them, and are silent without.

Each barrier of each kernel is removed in turn, and so is each bounds check listed. A kernel file with a barrier that no
call below reaches fails a test, so that new kernels get a row.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tensorlite as tl
from tensorlite import backends, ops, simulator
from tensorlite.backends import Device, kernel_sources
from tensorlite.backends.simulator import SimulatorBackend
from tensorlite.nn import functional as F

if not simulator.is_available():
    pytest.skip("no C++ compiler", allow_module_level=True)

SIM = "cuda:sim"
BARRIER = re.compile(r"__sync(threads|warp)\(\);")


def numbers(*shape: int) -> tl.Tensor:
    return tl.arange(tl.tensor(shape).prod().item(), device=SIM).reshape(shape).to(tl.float32) % 7


def train() -> None:
    weight = numbers(40, 3).requires_grad_()
    weight.grad = numbers(40, 3)
    tl.optim.Adam([weight]).step()


def clip() -> None:
    weight = numbers(40, 3).requires_grad_()
    weight.grad = numbers(40, 3)
    tl.nn.utils.clip_grad_norm_([weight], 1.0)


def layer_norm() -> None:
    x, weight = numbers(40, 70), numbers(70).requires_grad_()
    F.layer_norm(x, (70,), weight).backward(x)


def linear_relu() -> None:
    out = ops.linear_relu(numbers(1, 4), numbers(5, 4), numbers(5).requires_grad_())
    out.backward(numbers(1, 5))


def attend(dtype: tl.dtypes.DType = tl.float32) -> None:
    q, k = numbers(1, 1, 3, 20).to(dtype).requires_grad_(), numbers(1, 1, 66, 20).to(dtype).requires_grad_()
    F.scaled_dot_product_attention(q, k, k).backward(q.detach())


def attend_under_mask() -> None:
    F.scaled_dot_product_attention(numbers(1, 1, 3, 4), numbers(1, 1, 3, 4), numbers(1, 1, 3, 4), is_causal=True)


# Per file, calls that run its kernels with barriers.
CALLS: dict[str, Callable[[], Any]] = {
    "attention.cuh": attend_under_mask,
    "attention_mma.cuh": lambda: attend(tl.float16),
    "attention_strips.cuh": attend,
    "columns.cuh": lambda: numbers(3000, 3).sum(0),
    "conv_tiles.cu": lambda: tl.conv2d(numbers(1, 24, 3, 4), numbers(8, 24, 2, 2)),
    "layer_norm.cu": layer_norm,
    "many.cu": clip,
    "matmul.cu": lambda: numbers(70, 65) @ numbers(65, 40),
    "movement.cu": lambda: numbers(70, 65).T.contiguous(),
    "optimizer.cu": train,
    "reduce.cu": lambda: numbers(3, 5000).sum(1),
    "rows.cuh": lambda: F.layer_norm(numbers(2, 9000), (9000,)),
    "scan.cu": lambda: numbers(3, 5000).cumsum(1),
    "sort.cu": lambda: numbers(2, 3000).sort(1),
}
BARRIERS = [(path.name, i) for path in sorted(kernel_sources.folder().glob("*.cu*"))
            for i in range(len(BARRIER.findall(path.read_text())))]
# Bounds checks: what is replaced in a file, by what, and a call that notices.
BOUNDS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "conv.cu": (">= u32(window.down.size)) continue", "> u32(window.down.size)) continue",
                lambda: tl.conv2d(numbers(1, 1, 3, 4), numbers(1, 1, 2, 2), padding=1)),
    "conv_tiles.cu": ("if (row >= rows) continue", "if (row > rows) continue",
                      lambda: tl.conv2d(numbers(1, 4, 3, 4), numbers(9, 4, 2, 2))),
    "elementwise.cu": ("element) >= args.count) return", "element) > args.count) return",
                       lambda: numbers(7, 3).T[::2] * 2),
    "columns.cuh": ("for (; at < end; at += step)", "for (; at <= end; at += step)", lambda: numbers(30, 3).sum(0)),
    "dropout.cu": ("if (first + v >= args.count) return", "if (first + v > args.count) return",
                   lambda: F.dropout(numbers(7, 3).T[::2], 0.5, generator=tl.Generator(SIM))),
    "linear.cu": ("column < Index(args.columns)", "column <= Index(args.columns)", linear_relu),
    "batch_norm.cu": ("for (; at < end; at += step)", "for (; at <= end; at += step)",
                      lambda: ops.moments(numbers(5, 3))),
}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of kernels/ that a fresh device compiles, one instance at a time, into a cache of its own."""

    class Fresh(SimulatorBackend):
        def load(self, instance: Any, siblings: Any) -> Any:
            return super().load(instance, ())

    folder = tmp_path / "kernels"
    shutil.copytree(kernel_sources.folder(), folder)
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_sources, "folder", lambda: folder)
    monkeypatch.setitem(backends._loaded, Device(SIM), Fresh())
    yield folder


def test_every_kernel_with_barriers_has_a_call() -> None:
    assert {name for name, _ in BARRIERS} == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_healthy_kernels_are_silent(name: str) -> None:
    simulator.check(CALLS[name], schedules=3)


@pytest.mark.parametrize(("name", "number"), BARRIERS)
def test_removed_barriers_are_found(name: str, number: int, sources: Path) -> None:
    text = (sources / name).read_text()
    place = list(BARRIER.finditer(text))[number]
    (sources / name).write_text(text[:place.start()] + ";" + text[place.end():])
    with pytest.raises(simulator.SimulatorError, match=r"data race|no thread of the block has written"):
        simulator.check(CALLS[name], schedules=3)


@pytest.mark.parametrize("name", BOUNDS)
def test_wrong_bounds_are_found(name: str, sources: Path) -> None:
    piece, replacement, call = BOUNDS[name]
    text = (sources / name).read_text()
    assert text.count(piece) == 1
    (sources / name).write_text(text.replace(piece, replacement))
    with pytest.raises(simulator.SimulatorError, match="out of bounds"):
        simulator.check(call, schedules=1)
