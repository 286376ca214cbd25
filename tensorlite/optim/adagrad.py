"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class Adagrad(Optimizer):
    """Adagrad, after Duchi et al. (2011).

    s ← s + g²,  p ← p - lr/(1 + (t-1)·lr_decay)·g/(√s + eps); s starts at `initial_accumulator_value`.
    Raises ArgumentError for a negative option.

    >>> optim.Adagrad([tl.zeros(2, requires_grad=True)]).param_groups[0]["lr"]
    0.01
    """

    def __init__(self, params: Params, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        names = ("lr_decay", "eps", "weight_decay", "maximize")
        return Plan("adagrad_step", ("step", "sum"), {name: group[name] for name in names})

    @staticmethod
    def _initial(name: str, group: Mapping[str, Any]) -> float:
        return float(group["initial_accumulator_value"]) if name == "sum" else 0.0
