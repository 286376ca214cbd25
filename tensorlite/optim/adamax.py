"""Adamax: Adam in the infinity norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, check_betas, refuse_negative
from .optimizer import Optimizer, Plan


class Adamax(Optimizer):
    """Adamax, after Kingma & Ba (2014), arXiv:1412.6980, section 7.1.

    m ← β₁m + (1-β₁)g,  u ← max(β₂u, |g| + eps),  p ← p - lr/(1-β₁ᵗ)·m/u. Raises ArgumentError for a bad
    option.

    >>> optim.Adamax([tl.zeros(2, requires_grad=True)]).param_groups[0]["lr"]
    0.002
    """

    def __init__(self, params: Params, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "weight_decay")
        check_betas(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        beta1, beta2 = group["betas"]
        return Plan("adamax_step", ("step", "exp_avg", "exp_inf"), {
            "beta1": beta1, "beta2": beta2, "eps": group["eps"], "weight_decay": group["weight_decay"],
            "maximize": group["maximize"],
        })
