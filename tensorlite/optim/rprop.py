"""Resilient backpropagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from .groups import Params, refuse_negative
from .optimizer import Optimizer, Plan


class Rprop(Optimizer):
    """Rprop, after Riedmiller & Braun (1993): only the sign of the full-batch gradient counts.

    Each element has a step size of its own, `lr` at first, times etas[1] while the sign stays and times
    etas[0] where it turns, kept within `step_sizes`. Raises ArgumentError for a bad option.

    >>> optim.Rprop([tl.zeros(2, requires_grad=True)]).param_groups[0]["etas"]
    (0.5, 1.2)
    """

    def __init__(self, params: Params, lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr")
        minus, plus = group["etas"]
        if not 0.0 < minus < 1.0 < plus:
            raise ArgumentError(f"Invalid eta values: {minus}, {plus} (must be 0 < etas[0] < 1 < etas[1])")
        least, most = group["step_sizes"]
        if not 0.0 <= least <= most:
            raise ArgumentError(f"Invalid step sizes: {least}, {most} (must be 0 <= step_sizes[0] <= [1])")

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        minus, plus = group["etas"]
        least, most = group["step_sizes"]
        return Plan("rprop_step", ("step", "prev", "step_size"), {
            "eta_minus": minus, "eta_plus": plus, "step_min": least, "step_max": most,
            "maximize": group["maximize"],
        })

    @staticmethod
    def _initial(name: str, group: Mapping[str, Any]) -> float:
        return float(group["lr"]) if name == "step_size" else 0.0
