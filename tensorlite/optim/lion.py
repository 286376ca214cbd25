"""Lion: evolved sign momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import Params, check_betas, refuse_negative
from .optimizer import Optimizer, Plan


class Lion(Optimizer):
    """Lion, after Chen et al. (2023), arXiv:2302.06675, with the options of the authors' PyTorch version.

    p ← (1 - lr·weight_decay)p - lr·sign(β₁m + (1-β₁)g),  m ← β₂m + (1-β₂)g. Every element moves by lr, so lr
    is 3 to 10 times smaller, and weight_decay as much larger, than for AdamW. Raises ArgumentError for a bad
    option.

    >>> w = tl.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Lion([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.9000, -1.9000], requires_grad=True)
    """

    def __init__(self, params: Params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99),
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        refuse_negative(group, "lr", "weight_decay")
        check_betas(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        beta1, beta2 = group["betas"]
        options = {"beta1": beta1, "beta2": beta2, "weight_decay": group["weight_decay"]}
        return Plan("lion_step", ("exp_avg",), options)
