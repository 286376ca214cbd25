"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class ASGD(Optimizer):
    """Averaged SGD, after Polyak & Juditsky (1992).

    p ← (1 - lambd·η)p - η·g with η = lr/(1 + lambd·lr·t)^alpha; the state `ax` holds the average of p, which
    from step t0 on is the running mean. Raises ArgumentError for a negative lr or weight_decay.

    >>> optim.ASGD([tl.zeros(2, requires_grad=True)]).param_groups[0]["lambd"]
    0.0001
    """

    def __init__(self, params: Params, lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75,
                 t0: float = 1e6, weight_decay: float = 0, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
            "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "weight_decay")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        names = ("lambd", "alpha", "t0", "weight_decay", "maximize")
        return Plan("asgd_step", ("step", "eta", "mu", "ax"), {name: group[name] for name in names})

    @staticmethod
    def _initial(name: str, group: Mapping[str, Any]) -> float:
        return {"eta": float(group["lr"]), "mu": 1.0}.get(name, 0.0)
