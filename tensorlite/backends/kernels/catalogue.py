"""All families together: the table of kernels, and the list of instances that checks compile without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from . import (
    Instance,
    Launcher,
    amp,
    attention,
    batch_norm,
    conv,
    cross_entropy,
    dropout,
    elementwise,
    index,
    layer_norm,
    linear,
    many,
    matmul,
    movement,
    muon,
    optimizer,
    pool,
    random,
    recurrent,
    reduce,
    scan,
    softmax,
    sort,
)

_FAMILIES = (
    amp,
    attention,
    batch_norm,
    conv,
    cross_entropy,
    dropout,
    elementwise,
    index,
    layer_norm,
    linear,
    many,
    matmul,
    movement,
    muon,
    optimizer,
    pool,
    random,
    recurrent,
    reduce,
    scan,
    softmax,
    sort,
)

TABLE: dict[str, Launcher] = {name: launcher for family in _FAMILIES for name, launcher in family.TABLE.items()}


def instances() -> Iterator[Instance]:
    """Every instance of a template that a call can reach."""
    for family in _FAMILIES:
        yield from family.instances()
