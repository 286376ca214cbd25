"""Generator "modules": stacks of layers, and layers of several inputs, with PyTorch's weights: two passes in training,
with gradients of inputs and parameters, the buffers that they leave, and a pass in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tensorlite as tl
from fuzz.compare import agree, array_of, dtype_of, worst
from fuzz.derive import WEIGHTS, flat
from fuzz.draw import Draw, Shape
from fuzz.layers import LAYERS, SPECIAL
from fuzz.tally import Failure, Tally

REFUSALS = (RuntimeError, IndexError, ValueError, TypeError, AssertionError)
LIMITS = {"float64": 1e-9, "float32": 2e-3}
ROUGH = {"Hardsigmoid": 1e-6}  # PyTorch's derivative has 1/6 in float32


class Modules:
    """The generator."""

    name = "modules"

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.draw, self.device = Draw(seed), device
        self.tally = Tally(self.name, seed)

    def run(self, number: int) -> None:
        draw = self.draw.begin(number)
        torch.manual_seed(number)
        self.tally.cases += 1
        dtype = draw.pick(("float64", "float64", "float64", "float32"))
        specs, shapes = self.special(draw) if draw.chance(0.3) else self.stack(draw)
        for name, _, _ in specs:
            self.tally.calls[name] += 1
        inputs = [draw.values(s, dtype, "smooth") for s in shapes]
        try:
            found = self.differs(specs, inputs, dtype)
        except Exception as error:
            found = f"raises {error!r}"
        if found is not None:
            text = "\n".join(
                [
                    f"model = nn.Sequential({', '.join(shown(*s) for s in specs)}).to(tl.{dtype})",
                    *(f"x{i} = tl.randn{x.shape}" for i, x in enumerate(inputs)),
                ]
            )
            self.tally.failures.append(Failure(self.name, self.tally.seed, number, found, text))

    # --- what is built

    @staticmethod
    def stack(draw: Draw) -> tuple[list[Any], list[Shape]]:
        """1 to 6 layers that fit each other, found by running PyTorch's."""
        shape = (draw.int(2, 3), draw.int(1, 4), *(draw.int(2, 6) for _ in range(draw.int(0, 2))))
        x, specs = torch.randn(shape), []
        for _ in range(draw.int(1, 6)):
            name = draw.pick(tuple(LAYERS))
            arguments = LAYERS[name](draw, tuple(x.shape)) if x.ndim > 1 and x.numel() else None
            if arguments is None:
                continue
            try:
                y = getattr(torch.nn, name)(*arguments[0], **arguments[1])(x)
            except REFUSALS:
                continue
            if (
                0 < y.numel() < 2000 and float(y.detach().abs().max()) > 1e-6
            ):  # rounding errors are on no side of a corner
                x = y.detach()
                specs.append((name, *arguments))
        return specs or [("Tanh", (), {})], [shape]

    @staticmethod
    def special(draw: Draw) -> tuple[list[Any], list[Shape]]:
        name = draw.pick(tuple(SPECIAL))
        args, kwargs, shapes = SPECIAL[name](draw)
        return [(name, args, kwargs)], shapes

    # --- how it is compared

    def differs(self, specs: list[Any], inputs: list[np.ndarray], dtype: str) -> str | None:
        theirs = built(torch, specs, dtype)
        for p in theirs.parameters():
            torch.nn.init.uniform_(p, -1, 1)
        ours = built(tl, specs, dtype)
        if self.device != "cpu":
            ours.to(self.device)
        state = {name: tl.from_numpy(t.numpy().copy()) for name, t in theirs.state_dict().items()}
        ours.load_state_dict(state)
        limit = max(LIMITS[dtype], *(ROUGH.get(name, 0.0) for name, _, _ in specs))
        for step in range(3):
            if step == 2:
                ours.eval()
                theirs.eval()
            given = [a * (1 + step / 4) for a in inputs]
            found = self.passed(f"pass {step}", ours, theirs, given, dtype, limit)
            if found is not None:
                return found
        return None

    def passed(
        self, what: str, ours: Any, theirs: Any, inputs: list[np.ndarray], dtype: str, limit: float
    ) -> str | None:
        mine = [tl.from_numpy(np.asarray(a, dtype)) for a in inputs]
        mine = [(x if self.device == "cpu" else x.to(self.device)).requires_grad_() for x in mine]
        other = [torch.from_numpy(np.asarray(a, dtype)).requires_grad_() for a in inputs]
        a, b = results(ours, mine), results(theirs, other)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            if (found := self.same(f"{what}, result {i}", x, y, limit)) is not None:
                return found
        ours.zero_grad()
        theirs.zero_grad()
        total(tl, a, self.device).backward()
        total(torch, b, "").backward()
        named = dict(ours.named_parameters())
        pairs = [
            *((f"input {i}", x.grad, y.grad) for i, (x, y) in enumerate(zip(mine, other, strict=True))),
            *((name, named[name].grad, p.grad) for name, p in theirs.named_parameters()),
        ]
        self.tally.gradients += len(pairs)
        buffers = dict(ours.named_buffers())
        for name, x, y in (*pairs, *((name, buffers[name], t) for name, t in theirs.named_buffers())):
            if (x is None) != (y is None):
                return f"{what}, {name}: {x}, PyTorch {y}"
            if x is not None and (found := self.same(f"{what}, {name}", x, y, limit)) is not None:
                return found
        return None

    def same(self, what: str, x: Any, y: Any, limit: float) -> str | None:
        self.tally.compared()
        a, b = array_of(x if self.device == "cpu" else x.cpu()), array_of(y)
        if a.shape != b.shape or dtype_of(x) != dtype_of(y):
            return f"{what}: {x.dtype} {a.shape}, PyTorch {y.dtype} {b.shape}"
        if agree(a, b, dtype_of(y), False, 1.0) or near(a, b, limit):
            return None
        return f"{what}: {worst(a, b)}"


def near(a: np.ndarray, b: np.ndarray, limit: float) -> bool:
    """Norms of few elements divide by small numbers, which magnifies rounding errors; never to a wrong formula's."""
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    return bool(np.allclose(a, b, rtol=0, atol=limit * scale, equal_nan=True))


def built(library: Any, specs: list[Any], dtype: str) -> Any:
    parts = [getattr(library.nn, name)(*args, **kwargs) for name, args, kwargs in specs]
    return (library.nn.Sequential(*parts) if len(parts) > 1 else parts[0]).to(getattr(library, dtype))


def results(model: Any, inputs: list[Any]) -> list[Any]:
    return [t for t in flat(model(*inputs)) if t is not None]


def total(library: Any, tensors: list[Any], device: str) -> Any:
    """The weighted sum of all results."""
    made = None
    for t in tensors:
        if not t.requires_grad:
            continue
        weight = library.from_numpy(WEIGHTS[: t.numel()].reshape(tuple(t.shape))).to(t.dtype)
        if library is tl and device != "cpu":
            weight = weight.to(device)
        part = (t * weight).sum()
        made = part if made is None else made + part
    return made


def shown(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"nn.{name}({', '.join([*map(repr, args), *(f'{k}={v!r}' for k, v in kwargs.items())])})"
