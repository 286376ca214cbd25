"""What the tests of tl.profile share: a model, its training step, and all that a profile exchanges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorlite as tl
from tensorlite import backends, nn, optim
from tensorlite.autograd import engine
from tensorlite.autograd.function import Function, _CheckpointOp, _FunctionOp
from tensorlite.autograd.op import Op
from tensorlite.autograd.tape import Node
from tensorlite.capture.recorded import Recorded
from tensorlite.capture.step import Captured
from tensorlite.insight import Profile, Row
from tensorlite.nn import functional as F

FAST: dict[str, float] = {"bandwidth": 20e9, "flops": 100e9}  # given, so that nothing is measured


class Net(nn.Module):
    """Two layers in a list, an activation, and an operation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 8), nn.Linear(8, 3)]
        self.act = nn.Tanh()

    def forward(self, x: tl.Tensor) -> tl.Tensor:
        return self.layers[1](self.act(self.layers[0](x))) * 2.0


def by_name(profile: Profile, by: str = "op") -> dict[str, Row]:
    return {row.name: row for row in profile.rows(by)}


def train(device: str) -> Callable[[], tl.Tensor]:
    """A training step of a Net, after a first one."""
    model = Net().to(device)
    optimizer = optim.Adam(model.parameters())
    x, y = tl.ones(5, 6, device=device), tl.tensor([0, 1, 2, 0, 1], device=device)

    def step() -> tl.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step()
    return step


def everything() -> dict[str, Any]:
    """All that a profile exchanges."""
    found: dict[str, Any] = {"backward": engine._backward, "grad": engine._grad}
    optimizers = optim.Optimizer, *optim.Optimizer.__subclasses__()
    for cls in (Op, _FunctionOp, _CheckpointOp, Function, Node, nn.Module, Captured, Recorded, *optimizers):
        for name in ("__call__", "__init__", "gradients", "apply", "step", "zero_grad", "replay"):
            found[f"{cls.__name__}.{name}"] = vars(cls).get(name)
    for backend in backends.loaded():
        found[f"{backend.device}"] = {name: id(value) for name, value in vars(backend).items()}
        found[f"{backend.device} observers"] = backend.observers
    return found
