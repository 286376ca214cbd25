"""Several meters by name, and the history of their values: `tl.Meters`, `tl.History`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Self

from ...errors import ArgumentError
from .. import curves
from ..tables import table
from .meter import Meter


class History(dict[str, list[float]]):
    """Numbers by name, one for each epoch: a dict of lists, which `tl.save_checkpoint` and JSON take as it is.

    >>> history = tl.History()
    >>> history.append(loss=0.5, accuracy=0.8)
    >>> history.append(loss=0.25, accuracy=0.9)
    >>> history["loss"]
    [0.5, 0.25]
    >>> print(history)
    epoch  loss  accuracy
    ---------------------
        1   0.5       0.8
        2  0.25       0.9
    """

    @property
    def epochs(self) -> int:
        """How many epochs there are numbers of."""
        return max(map(len, self.values()), default=0)

    def append(self, **values: float) -> None:
        """Add an epoch. A name that was not there before, or is missing now, is nan where there is no number."""
        before = self.epochs
        for name in (*self, *[name for name in values if name not in self]):
            numbers = self.setdefault(name, [])
            numbers += [math.nan] * (before - len(numbers))
            numbers.append(float(values.get(name, math.nan)))

    def plot(self, path: str | PathLike[str], **options: Any) -> None:
        """Draw the curves into a picture; see `tl.insight.plot_curves`."""
        curves.plot_curves(self, path, **options)

    def __str__(self) -> str:
        rows = []
        for epoch in range(self.epochs):
            numbers = [f"{values[epoch]:.4g}" if epoch < len(values) else "-" for values in self.values()]
            rows.append([str(epoch + 1), *numbers])
        return "\n".join(table(["epoch", *self], rows, ">" * (len(self) + 1)))


class Meters:
    """Meters by name, which are attributes, and the history of their values.

    `update(name=arguments)` updates several at once, a tuple standing for several arguments. `end_epoch()` returns the
    values by name, appends those that are numbers to `history`, and resets all. Printed, it shows the values of now.
    Raises ArgumentError for what is no meter, a name that Meters has a method of, or one that it has no meter of.

    >>> meters = tl.Meters(loss=tl.meters.Mean(), accuracy=tl.meters.Accuracy())
    >>> meters.loss.update(0.5)
    >>> meters.update(loss=(2.0, 2), accuracy=(tl.tensor([1, 1]), tl.tensor([1, 0])))
    >>> print(meters)
    loss 1.5, accuracy 50.00%
    >>> meters.end_epoch()
    {'loss': 1.5, 'accuracy': 0.5}
    >>> meters.history
    {'loss': [1.5], 'accuracy': [0.5]}
    """

    def __init__(self, **meters: Meter) -> None:
        for name, meter in meters.items():
            if not isinstance(meter, Meter):
                raise ArgumentError(f"Meters: {name} must be a Meter, got {type(meter).__name__}")
            if hasattr(Meters, name) or name == "history":
                raise ArgumentError(f"Meters: {name!r} is a name of Meters' own; call the meter something else")
        self._meters = meters
        self.history = History()

    def __getattr__(self, name: str) -> Any:
        meters = vars(self).get("_meters", {})
        if name not in meters:
            raise AttributeError(f"Meters has no meter {name!r}, only {', '.join(map(repr, meters)) or 'none'}")
        return meters[name]

    def __getitem__(self, name: str) -> Meter:
        return self._meters[self._known(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._meters)

    def __len__(self) -> int:
        return len(self._meters)

    def _known(self, name: str) -> str:
        if name not in self._meters:
            raise ArgumentError(f"Meters: there is no {name!r}, only {', '.join(map(repr, self._meters)) or 'none'}")
        return name

    def update(self, **arguments: Any) -> None:
        """Update the named meters; nothing is taken in if one of the names is unknown."""
        for name in arguments:
            self._known(name)
        for name, given in arguments.items():
            self._meters[name].update(*given if isinstance(given, tuple) else (given,))

    def compute(self) -> dict[str, Any]:
        """The values by name; reading them waits for the device."""
        return {name: meter.compute() for name, meter in self._meters.items()}

    def reset(self) -> None:
        """Reset all meters; the history stays."""
        for meter in self._meters.values():
            meter.reset()

    def merge(self, other: Meters | Mapping[str, Meter]) -> Self:
        """Merge each meter with that of the same name; returns self. Raises ArgumentError where the names differ."""
        if set(other) != set(self):
            raise ArgumentError(f"Meters.merge: expected meters {sorted(self)}, got {sorted(other)}")
        for name, meter in self._meters.items():
            meter.merge(other[name])
        return self

    def end_epoch(self, **more: float) -> dict[str, Any]:
        """The values by name, with `more`; they go into the history, and the meters begin anew."""
        values = {**self.compute(), **more}
        self.history.append(**{name: value for name, value in values.items() if isinstance(value, (int, float))})
        self.reset()
        return values

    def __str__(self) -> str:
        return ", ".join(f"{name} {meter.text(meter.compute())}" for name, meter in self._meters.items())

    def __repr__(self) -> str:
        return f"Meters({', '.join(f'{name}={meter!r}' for name, meter in self._meters.items())})"
