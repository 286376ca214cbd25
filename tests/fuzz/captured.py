"""Generator "capture": a random program with its backward, captured and not: equal to the last bit, call after call."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_programs import HIGHEST, LARGEST, Program, attempt

import tensorlite as tl
from fuzz.tally import Failure, Tally

CALLS = 4  # the first runs the function, the second records it, the others replay


class Constants:
    """tensorlite, but that the tensors made of lists are made once: a captured step cannot make them."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.kept: dict[str, tl.Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(tl, name)

    def tensor(self, values: Any) -> tl.Tensor:
        name = repr(values)
        if name not in self.kept:
            self.kept[name] = tl.tensor(values, device=self.device)
        return self.kept[name]


class Steps(Program):
    """A program whose shapes do not depend on values: no masks as indices."""

    def index(self, shape: tuple[int, ...]) -> Any:
        return [self.rng.randrange(-shape[0], shape[0]) for _ in range(self.rng.randint(1, 4))] if shape[0] else []

    def operand(self, L: Any, i: int, j: int, v: list[Any], part: bool = False) -> Any:
        return v[j]


class Capture:
    """The generator."""

    name = "capture"

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.device = device
        self.tally = Tally(self.name, seed)

    def run(self, number: int) -> None:
        program = Steps(self.tally.seed * 1_000_000_007 + number, number % 2 == 0)
        self.tally.cases += 1
        library = Constants(self.device)
        steps, text = self.grown(program, library)
        if not steps:
            self.tally.outcomes["too large"] += 1
            return
        weights = program.numbers.uniform(0.5, 1.5, len(steps) + len(program.leaves)).tolist()

        def function(*given: tl.Tensor) -> tuple[list[tl.Tensor], list[tl.Tensor | None]]:
            leaves = [
                (t * 1.0).requires_grad_() if need else t * 1.0 for t, need in zip(given, program.needs, strict=True)
            ]
            tensors = list(leaves)
            for step in steps:
                made = step(library, tensors)
                if made is not None:
                    tensors.append(made)
            total = sum((t.sum() * w for t, w in zip(tensors, weights, strict=False)), start=tensors[0].sum() * 0.0)
            total.backward()
            return [t.detach() * 1.0 for t in tensors], [t.grad for t in leaves]

        found = self.differs(function, program)
        if found is not None:
            self.tally.failures.append(Failure(self.name, self.tally.seed, number, found, "\n".join(text)))

    def grown(self, program: Steps, library: Constants) -> tuple[list[Any], list[str]]:
        """Its steps that run, and their text."""
        tensors = [tl.tensor(a, device=self.device) * 1.0 for a in program.leaves]
        steps, text = [], [f"v{i} = leaf{a.shape}" for i, a in enumerate(program.leaves)]
        for t, need in zip(tensors, program.needs, strict=True):
            t.requires_grad_(need)
        for _ in range(program.length):
            name, step = program.step(tensors, lambda i: True)
            made, error = attempt(step, library, tensors)
            if error is not None:
                continue
            steps.append(step)
            text.append(f"v{len(tensors)} = {name}" if made is not None else name)
            if made is not None:
                tensors.append(made)
        values = [t.detach().cpu().numpy() for t in tensors]
        small = all(a.size <= LARGEST and not (np.abs(a) > HIGHEST).any() for a in values)
        return (steps, text) if small else ([], [])

    def differs(self, function: Any, program: Steps) -> str | None:
        captured = tl.capture(function)
        for call in range(CALLS):
            given = [tl.tensor(a * (1 + call / 8), device=self.device) for a in program.leaves]
            expected, refusal = attempt(function, *given)
            actual, error = attempt(captured, *given)
            if refusal is not None or error is not None:
                self.tally.outcomes["both refuse" if refusal and error else "one refuses"] += 1
                return None if refusal and error else f"call {call}: captured {error!r}, else {refusal!r}"
            for part, (a, b) in enumerate(zip((*actual[0], *actual[1]), (*expected[0], *expected[1]), strict=True)):
                self.tally.compared()
                if (a is None) != (b is None) or (
                    a is not None
                    and b is not None
                    and not np.array_equal(a.detach().cpu().numpy(), b.detach().cpu().numpy(), equal_nan=True)
                ):
                    return f"call {call}, result {part}: captured {a}, else {b}"
            self.tally.gradients += len(program.leaves)
        self.tally.outcomes["equal"] += 1
        return None
