"""Curves of a training run as a picture: `plot_curves`, with matplotlib (extra `plot`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from ..errors import ArgumentError

COLUMNS = 3
PANEL = 4.2, 3.2  # inches


def plot_curves(history: Mapping[str, Sequence[float]], path: str | PathLike[str], *, title: str | None = None,
                log: Sequence[str] = (), dpi: int = 120) -> None:
    """Draw numbers by epoch, as `tl.History` has them, into a picture: PNG, or what the path's suffix says.

    Names that end in the same word, such as "training loss" and "test loss" or "test_loss", share a panel; a panel
    whose word is in `log` has a logarithmic axis. Raises ArgumentError where there is nothing to draw, ImportError
    where matplotlib is not installed.

    >>> tl.insight.plot_curves({"loss": []}, "curves.png")
    Traceback (most recent call last):
    tensorlite.errors.ArgumentError: plot_curves: there are no numbers to draw
    """
    panels = _panels(history)
    if not panels:
        raise ArgumentError("plot_curves: there are no numbers to draw")
    columns = 2 if len(panels) == 4 else min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = _figure(columns * PANEL[0], rows * PANEL[1])
    if title is not None:
        figure.suptitle(title)
    all_axes = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (word, names) in zip(all_axes, panels.items(), strict=False):
        _draw(axes, word, {name: history[name] for name in names})
        if word in log:
            axes.set_yscale("log")
    for axes in all_axes[len(panels):]:
        axes.set_axis_off()
    figure.savefig(path, dpi=dpi)


def _panels(history: Mapping[str, Sequence[float]]) -> dict[str, list[str]]:
    """Last word -> the names with that word, of which there are numbers."""
    panels: dict[str, list[str]] = {}
    for name, values in history.items():
        if len(values):
            panels.setdefault(name.replace("_", " ").replace("/", " ").split()[-1], []).append(name)
    return panels


def _draw(axes: Any, word: str, curves: Mapping[str, Sequence[float]]) -> None:
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(word)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if len(curves) > 1 or word not in curves:
        axes.legend()


def _figure(width: float, height: float) -> Any:
    """An empty figure that needs no display and no state of pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot_curves needs matplotlib: pip install 'tensorlite[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")
