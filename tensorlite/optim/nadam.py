"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, check_betas, refuse_negative
from .optimizer import Optimizer, Plan


class NAdam(Optimizer):
    """NAdam, after Dozat (2016), "Incorporating Nesterov Momentum into Adam".

    p ← p - lr·((1-μₜ)/(1-Π)·g + μₜ₊₁/(1-Π·μₜ₊₁)·m)/(√v̂ + eps), with m and v as in Adam,
    μₜ = β₁(1 - 0.96^(t·momentum_decay)/2) and Π = μ₁⋯μₜ.

    `weight_decay` is added to the gradient unless `decoupled_weight_decay`. Raises ArgumentError for a bad option.

    >>> optim.NAdam([tl.zeros(2, requires_grad=True)]).param_groups[0]["momentum_decay"]
    0.004
    """

    def __init__(self, params: Params, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3,
                 decoupled_weight_decay: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "weight_decay", "momentum_decay")
        check_betas(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        beta1, beta2 = group["betas"]
        names = ("eps", "weight_decay", "momentum_decay", "decoupled_weight_decay", "maximize")
        options = {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in names}}
        return Plan("nadam_step", ("step", "mu_product", "exp_avg", "exp_avg_sq"), options)

    @staticmethod
    def _initial(name: str, group: Mapping[str, Any]) -> float:
        return 1.0 if name == "mu_product" else 0.0
