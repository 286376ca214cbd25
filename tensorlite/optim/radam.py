"""RAdam: Adam with a rectified adaptive rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, check_betas, refuse_negative
from .optimizer import Optimizer, Plan


class RAdam(Optimizer):
    """RAdam, after Liu et al. (2019), arXiv:1908.03265.

    While too few gradients are known for the variance (the first 5 steps at β₂ = 0.999): p ← p - lr·m̂; then
    Adam's step times a factor that grows to 1. `weight_decay` is added to the gradient unless
    `decoupled_weight_decay`. Raises ArgumentError for a bad option.

    >>> optim.RAdam([tl.zeros(2, requires_grad=True)]).param_groups[0]["lr"]
    0.001
    """

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "weight_decay")
        check_betas(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        beta1, beta2 = group["betas"]
        names = ("eps", "weight_decay", "decoupled_weight_decay", "maximize")
        options = {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in names}}
        return Plan("radam_step", ("step", "exp_avg", "exp_avg_sq"), options)
