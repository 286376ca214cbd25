"""Adam and its relatives with a decoupled decay: Adam, AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, check_betas, refuse_negative
from .optimizer import Optimizer, Plan


class Adam(Optimizer):
    """Adam, after Kingma & Ba (2014), arXiv:1412.6980.

    m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  p ← p - lr·m̂/(√v̂ + eps), with m̂ = m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ).

    `weight_decay` is added to the gradient (g + weight_decay·p) unless `decoupled_weight_decay`, which
    shrinks p by 1 - lr·weight_decay instead; `amsgrad` uses the largest v so far (arXiv:1904.09237);
    `maximize` climbs. Raises ArgumentError for a bad option.

    >>> w = tl.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
                 decoupled_weight_decay: bool = False) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "eps", "weight_decay")
        check_betas(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        beta1, beta2 = group["betas"]
        largest = "max_exp_avg_sq" if group["amsgrad"] else None
        return Plan("adam_step", ("step", "exp_avg", "exp_avg_sq", largest), {
            "beta1": beta1, "beta2": beta2, "eps": group["eps"], "weight_decay": group["weight_decay"],
            "decoupled_weight_decay": group["decoupled_weight_decay"], "maximize": group["maximize"],
        })


class AdamW(Adam):
    """Adam with decoupled weight decay, after Loshchilov & Hutter (2017), arXiv:1711.05101.

    p ← (1 - lr·weight_decay)·p, then Adam's step on the plain gradient.

    >>> w = tl.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.AdamW([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8990], requires_grad=True)
    """

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize,
                         decoupled_weight_decay=True)
