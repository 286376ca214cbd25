"""Generator "index": keys of all kinds, read and assigned, against PyTorch and, for negative steps, NumPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

import tensorlite as tl
from fuzz.calls import FLOATS, Leaf
from fuzz.compare import agree, array_of, dtype_of, worst
from fuzz.derive import WEIGHTS
from fuzz.draw import Draw, Shape
from fuzz.tally import Failure, Tally

REFUSALS = (RuntimeError, IndexError, ValueError, TypeError)


class Indexing:
    """The generator: `x[key]`, its gradient, and `x[key] = value` with both gradients."""

    name = "index"

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.draw, self.device = Draw(seed), device
        self.tally = Tally(self.name, seed)

    def run(self, number: int) -> None:
        draw = self.draw.begin(number)
        x = draw.leaf(draw.shape(1, 4), repeats=False)
        key = self.key(draw, x.shape)
        backwards = any(isinstance(part, slice) and (part.step or 1) < 0 for part in key)
        self.tally.cases += 1
        self.tally.calls["read"] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refused = self.tally.outcomes["both refuse"]
                found = self.read_as_numpy(x, key) if backwards else self.read(x, key)
                if (
                    found is None
                    and draw.chance(0.6)
                    and not backwards
                    and refused == self.tally.outcomes["both refuse"]
                ):
                    self.tally.calls["assigned"] += 1
                    found = self.assign(draw, x, key)
        except REFUSALS as error:
            found = f"tensorlite alone refuses: {error!r}"
        if found is not None:
            text = f"x = {x.text()}\nx[{', '.join(map(shown, key))}]"
            self.tally.failures.append(Failure(self.name, self.tally.seed, number, found, text))

    # --- keys

    def key(self, draw: Draw, shape: Shape) -> tuple[Any, ...]:
        """Integers, slices, None, ..., index tensors and lists that broadcast with each other, a mask; rarely wrong."""
        parts: list[Any] = []
        together = draw.shape(0, 2, empty=draw.chance(0.1))
        left = list(shape[: draw.int(0, len(shape))]) if draw.chance(0.6) else list(shape)
        backwards, advanced = draw.chance(0.1), draw.chance(0.5)
        while left:
            n = left.pop(0)
            kind = draw.pick(
                ("integer", "slice", "slice", "index", "mask") if advanced else ("integer", "slice", "slice")
            )
            if kind == "index" and not backwards:
                parts.append(self.index(draw, together, n))
            elif kind == "mask" and not backwards and not any(isinstance(p, Leaf) for p in parts):
                inner = [n, *(left.pop(0) for _ in range(draw.int(0, len(left))))]
                parts.append(Leaf(draw.values(tuple(inner), "bool"), "bool"))
                advanced = False  # a second index would have to broadcast with the number of True
            elif kind == "integer":
                parts.append(draw.int(-n, n - 1) if n and not draw.chance(0.01) else n)
            else:
                parts.append(self.section(draw, n, backwards))
        if draw.chance(0.2):
            parts.insert(draw.int(0, len(parts)), None)
        if draw.chance(0.15):
            parts.insert(draw.int(0, len(parts)), ...) if not any(isinstance(p, Leaf) for p in parts) else parts.append(
                ...
            )
        return tuple(parts)

    @staticmethod
    def index(draw: Draw, together: Shape, n: int) -> Any:
        shape = together if draw.chance(0.7) else tuple(1 if draw.chance(0.5) else s for s in together)
        found = draw.index(shape if n else (*together[:-1], 0) if together else (0,), n, 0.0)
        values = np.asarray(found.values - n * (np.sin(np.arange(found.values.size)).reshape(found.shape) > 0.5))
        if values.size and draw.chance(0.01):
            values.flat[0] = n
        return Leaf(
            values.astype(
                draw.pick(
                    ("int64", "int64", "int32", "uint8") if (values >= 0).all() and n < 200 else ("int64", "int32")
                )
            ),
            "int64",
        )

    @staticmethod
    def section(draw: Draw, n: int, backwards: bool) -> slice:
        start, stop = (draw.pick((None, draw.int(-n - 1, n + 1))) for _ in range(2))
        return slice(start, stop, draw.pick((-1, -2, 1)) if backwards else draw.pick((None, None, 1, 2, 3)))

    # --- comparisons

    def given(self, library: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """The key with tensors of the library; one-byte indices as wider ones, which PyTorch would take for masks."""

        def tensor(leaf: Leaf) -> Any:
            values = leaf.values if leaf.values.dtype != np.uint8 or library is tl else leaf.values.astype(np.int64)
            if library is torch:
                return torch.from_numpy(values.copy())
            made = tl.from_numpy(values.copy())
            return made if self.device == "cpu" else made.to(self.device)

        return tuple(tensor(part) if isinstance(part, Leaf) else part for part in key)

    def read(self, x: Leaf, key: tuple[Any, ...]) -> str | None:
        ours, theirs = x.ours(self.device), x.theirs()
        (a, error), (b, refusal) = (
            attempt(lambda t, L: t[self.given(L, key)], t, L) for t, L in ((ours, tl), (theirs, torch))
        )
        if error is not None or refusal is not None:
            self.tally.outcomes["both refuse"] += 1
            if b is not None and not b.numel() and isinstance(error, tl.OutOfRangeError):
                self.tally.excused["an index into nothing is looked at; PyTorch looks at those that it needs"] += 1
                return None
            return None if error and refusal else f"read: tensorlite {error!r}, PyTorch {refusal!r}"
        found = self.same("value", a, b, True)
        if found is None and x.requires_grad:
            self.tally.gradients += 1
            found = self.same("gradient", derived(tl, a, ours, self.device), derived(torch, b, theirs, ""), False)
        return found

    def read_as_numpy(self, x: Leaf, key: tuple[Any, ...]) -> str | None:
        a, error = attempt(lambda t, L: t[key], x.ours(self.device), tl)
        b, refusal = attempt(lambda t, L: t[key], x.values, np)
        if error is not None or refusal is not None:
            return None if error and refusal else f"read: tensorlite {error!r}, NumPy {refusal!r}"
        self.tally.compared()
        mine = array_of(a if self.device == "cpu" else a.cpu())
        return (
            None
            if np.array_equal(mine, b.astype(mine.dtype), equal_nan=x.dtype in FLOATS)
            else f"value: {mine}, NumPy {b}"
        )

    def assign(self, draw: Draw, x: Leaf, key: tuple[Any, ...]) -> str | None:
        shape = tuple(x.theirs()[self.given(torch, key)].shape)
        if any(isinstance(part, Leaf) and part.dtype != "bool" for part in key):
            key = tuple(unrepeated(part, n) for part, n in zip(key, self.sizes(x.shape, key), strict=True))
        small = shape[draw.int(0, len(shape)) :] if draw.chance(0.3) else shape
        value: Any = (
            draw.pick((0, 1.5, True))
            if draw.chance(0.2)
            else draw.leaf(tuple(1 if draw.chance(0.15) else n for n in small), x.dtype)
        )
        results = []
        for library in (tl, torch):
            mine = library is tl
            target = x.ours(self.device) if mine else x.theirs()
            source = value if not isinstance(value, Leaf) else value.ours(self.device) if mine else value.theirs()
            written = target * 1 if target.requires_grad else target
            _, error = attempt(lambda t, L: t.__setitem__(self.given(L, key), source), written, library)  # noqa: B023
            results.append((written, error, target, source))
        (a, error, ours, mine), (b, refusal, theirs, other) = results
        if error is not None or refusal is not None:
            self.tally.outcomes["both refuse"] += 1
            return None if error and refusal else f"assigned {value}: tensorlite {error!r}, PyTorch {refusal!r}"
        found = self.same("assigned value", a, b, True)
        for p, q in ((ours, theirs), (mine, other)):
            if found is None and isinstance(q, torch.Tensor) and q.requires_grad:
                self.tally.gradients += 1
                found = self.same(
                    "gradient of an assignment", derived(tl, a, p, self.device), derived(torch, b, q, ""), False
                )
        return found

    @staticmethod
    def sizes(shape: Shape, key: tuple[Any, ...]) -> list[int]:
        """For each part of a key the size of the dimension that it is of (0 where it is of none)."""
        taken = sum(part is not None and part is not Ellipsis for part in key)
        made, at = [], 0
        for part in key:
            if part is None:
                made.append(0)
            elif part is Ellipsis:
                made.append(0)
                at += len(shape) - taken
            else:
                made.append(shape[at])
                at += 1
        return made

    def same(self, what: str, a: Any, b: Any, exact: bool) -> str | None:
        self.tally.compared()
        x, y = array_of(a if self.device == "cpu" else a.cpu()), array_of(b)
        if dtype_of(a) != dtype_of(b) or x.shape != y.shape:
            return f"{what}: {a.dtype} {x.shape}, PyTorch {b.dtype} {y.shape}"
        return None if agree(x, y, dtype_of(b), exact, 1.0) else f"{what}: {worst(x, y)}"


def unrepeated(part: Any, n: int) -> Any:
    """Indices that point nowhere twice: which of several values wins there is nobody's promise."""
    if not isinstance(part, Leaf) or part.dtype == "bool" or part.values.size <= 1:
        return part
    count = part.values.size
    return (
        Leaf(np.resize(np.arange(min(count, n) or 1), count).reshape(part.shape), "int64")
        if count <= n
        else Leaf(part.values.reshape(-1)[:1].reshape([1] * part.values.ndim).astype(np.int64), "int64")
    )


def attempt(function: Any, *args: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except REFUSALS as error:
        return None, error


def derived(library: Any, y: Any, x: Any, device: str) -> Any:
    """The gradient in x of the weighted sum of y."""
    part = WEIGHTS[: y.numel()].reshape(tuple(y.shape))
    if library is torch:
        weight = torch.from_numpy(part).to(y.dtype)
    else:
        weight = tl.from_numpy(part).to(y.dtype)
        weight = weight if device == "cpu" else weight.to(device)
    if not y.requires_grad:
        return library.zeros_like(x).detach()
    (gradient,) = library.autograd.grad(y, x, weight, retain_graph=True, materialize_grads=True)
    return gradient


def shown(part: Any) -> str:
    return f"tl.tensor({part.values.tolist()})" if isinstance(part, Leaf) else "..." if part is Ellipsis else repr(part)
