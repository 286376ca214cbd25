"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class RMSprop(Optimizer):
    """RMSprop, after Hinton's lecture 6e (2012).

    v ← alpha·v + (1-alpha)·g²,  u = g/(√v + eps),  p ← p - lr·u; with momentum b ← momentum·b + u,  p ← p - lr·b.

    `centered` subtracts the square of the average gradient from v (Graves, arXiv:1308.0850).
    Raises ArgumentError for a negative option.

    >>> optim.RMSprop([tl.zeros(2, requires_grad=True)], lr=0.01).param_groups[0]["alpha"]
    0.99
    """

    def __init__(self, params: Params, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "momentum", "weight_decay", "alpha")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        buffer = "momentum_buffer" if group["momentum"] > 0 else None
        average = "grad_avg" if group["centered"] else None
        names = ("alpha", "eps", "weight_decay", "momentum", "maximize")
        slots = ("step", "square_avg", buffer, average)
        return Plan("rmsprop_step", slots, {name: group[name] for name in names})
