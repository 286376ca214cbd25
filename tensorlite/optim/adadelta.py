"""Adadelta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class Adadelta(Optimizer):
    """Adadelta, after Zeiler (2012), arXiv:1212.5701.

    v ← rho·v + (1-rho)·g²,  d = √(a + eps)/√(v + eps)·g,  a ← rho·a + (1-rho)·d²,  p ← p - lr·d.
    Raises ArgumentError for a negative option or a rho above 1.

    >>> optim.Adadelta([tl.zeros(2, requires_grad=True)]).param_groups[0]["lr"]
    1.0
    """

    def __init__(self, params: Params, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "weight_decay")
        if not 0.0 <= group["rho"] <= 1.0:
            raise ArgumentError(f"Invalid rho value: {group['rho']} (it must be in [0, 1])")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        names = ("rho", "eps", "weight_decay", "maximize")
        slots = ("step", "square_avg", "acc_delta")
        return Plan("adadelta_step", slots, {name: group[name] for name in names})
