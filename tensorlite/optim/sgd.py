"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum after Sutskever et al. (2013).

    d = ±g + weight_decay·p;  b ← momentum·b + (1 - dampening)·d (the first b is d);
    p ← p - lr·(d + momentum·b if nesterov else b).

    Raises ArgumentError for a negative option, or nesterov without momentum or with dampening.

    >>> w = tl.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        names = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
        slot = "momentum_buffer" if group["momentum"] else None
        return Plan("sgd_step", (slot,), {name: group[name] for name in names})

    @staticmethod
    def _first_options(options: dict[str, Any]) -> dict[str, Any]:
        if not options["dampening"]:
            return options
        return {**options, "dampening": 0}  # from a buffer of 0, this makes the buffer the gradient itself
