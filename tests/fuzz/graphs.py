"""Generator "graphs": programs of 2 to 30 steps with reuse, views, changes in place; see random_programs."""

from __future__ import annotations

from random_programs import Outcome, compare

from fuzz.tally import Failure, Tally


class Graphs:
    """The generator. Every third program has no changes in place, every fourth is derived twice."""

    name = "graphs"

    def __init__(self, seed: int, device: str = "cpu") -> None:
        if device != "cpu":
            raise SystemExit("graphs run on the CPU: their steps look at memory")
        self.tally = Tally(self.name, seed)

    def run(self, number: int) -> None:
        outcome = self.outcome(number)
        self.tally.cases += 1
        self.tally.arrays += outcome.arrays
        self.tally.outcomes[outcome.verdict if outcome.good else "differ"] += 1
        self.tally.calls["steps"] += len(outcome.text)
        if not outcome.good:
            short = str(self.shortest(number))
            self.tally.failures.append(Failure(self.name, self.tally.seed, number, "the program that follows", short))

    def outcome(self, number: int, length: int | None = None) -> Outcome:
        return compare(self.tally.seed * 1_000_000_007 + number, number % 3 != 0, 2 if number % 4 == 0 else 1, length)

    def shortest(self, number: int) -> Outcome:
        """The failing program with as few steps as fail."""
        return next(
            outcome for outcome in (self.outcome(number, length) for length in range(1, 31)) if not outcome.good
        )
