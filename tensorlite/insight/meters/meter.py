"""Meter: numbers of a training run added up on the device, exactly, and read when they are asked for.

Contract. A meter's state is a few sums, float64 or int64, in tensors on the device of what it was last updated with. An
update adds to them in place and waits for nothing, and nothing of it is recorded for backward; `compute` reads them,
which waits for the device. So updates may stand in a captured step, and `compute` behind it.
"""

from __future__ import annotations

from typing import Any, Self

from ... import dtypes
from ...creation import as_tensor, zeros
from ...errors import ArgumentError, DTypeError
from ...tensor import Tensor


class Meter:
    """Base class of meters: `update` with a batch, `compute` the value over all batches since the last `reset`.

    A subclass writes `update`, which calls `_add` with what it adds to its sums by name, and `compute`, which takes
    them from `_sum`.

    >>> class Largest(tl.Meter):
    ...     def update(self, x):
    ...         self._add(above=(x > 1).sum())
    ...     def compute(self):
    ...         return int(self._sum("above"))
    >>> meter = Largest()
    >>> meter.update(tl.tensor([0.5, 2.0, 3.0]))
    >>> meter.compute()
    2
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} is missing its update method")

    def compute(self) -> Any:
        """The value over all that was taken in; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} is missing its compute method")

    def reset(self) -> None:
        """Begin anew, in the same memory: a captured step goes on adding to it."""
        for total in self._sums.values():
            total.zero_()

    def merge(self, other: Meter) -> Self:
        """Take in all that another meter of this kind did, such as one of another thread; returns self.

        Raises ArgumentError for a meter of another kind or with other options.
        """
        if type(other) is not type(self) or other._options() != self._options():
            raise ArgumentError(f"merge: expected another {self!r}, got {other!r}")
        self._add(**other._sums)
        return self

    def text(self, value: Any) -> str:
        """How a value of this meter is shown: four digits, for a start."""
        return f"{value:.4g}" if isinstance(value, (int, float)) else f"of shape {tuple(value.shape)}"

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items())
        return f"{type(self).__name__}({options})"

    def _options(self) -> dict[str, Any]:
        """What the meter was made with: its public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def _add(self, **values: Tensor | float) -> None:
        """Add tensors (or numbers, to 0-d sums) to the sums of these names; integers stay integers."""
        tensors = [value for value in values.values() if isinstance(value, Tensor)]
        for name, value in values.items():
            total = self._sums.get(name)
            device = tensors[0].device if tensors else "cpu" if total is None else total.device
            if total is None:
                shape, kind = (value.shape, value.dtype) if isinstance(value, Tensor) else ((), dtypes.float64)
                wide = dtypes.float64 if kind.is_floating_point else dtypes.int64
                self._sums[name] = total = zeros(tuple(shape), dtype=wide, device=device)
            elif total.device != device:
                self._sums[name] = total = total.to(device)
            total.add_(value.detach() if isinstance(value, Tensor) else value)

    def _sum(self, name: str) -> Tensor:
        """What was added under a name; 0 where nothing was."""
        return self._sums[name] if name in self._sums else zeros((), dtype=dtypes.float64)


def detached(op: str, value: Any) -> Tensor:
    """What an update takes, as a tensor outside of any graph: a tensor, an array, or nested lists of numbers."""
    try:
        return (value if isinstance(value, Tensor) else as_tensor(value)).detach()
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{op}: expected a Tensor or an array, got {type(value).__name__}") from error


def ratio(above: Tensor, below: Tensor) -> float:
    """The quotient of two sums, nan where nothing was summed."""
    count = float(below)
    return float(above) / count if count else float("nan")
