"""Muon: momentum orthogonalized by Newton-Schulz; and Muon together with AdamW for what is no matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import ArgumentError, ShapeError
from .adam import Adam
from .groups import Group, Params, as_groups
from .optimizer import Optimizer, Plan

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # Jordan's: steepest at 0; singular values end in about [0.7, 1.2]


class Muon(Optimizer):
    """Muon, after Jordan et al. (2024), kellerjordan.github.io/posts/muon: for the matrices of hidden layers.

    b ← momentum·b + (1-momentum)·g;  u = momentum·b + (1-momentum)·g if nesterov else b;
    p ← (1 - lr·weight_decay)p - lr·ratio·UVᵀ, with UVᵀ from `ns_steps` Newton-Schulz iterations on u (n, m).

    ratio is √max(1, n/m) ('original', the default) or 0.2·√max(n, m) ('match_rms_adamw', arXiv:2502.16982).
    Unlike PyTorch, which iterates in bfloat16, this iterates in the parameter's dtype (float32 for 16 bits).
    Raises ShapeError naming a parameter that is not 2-D, ArgumentError for a bad option.

    >>> model = nn.Linear(3, 2)
    >>> optimizer = optim.Muon([model.weight], lr=0.02)
    >>> optim.Muon(model.named_parameters())
    Traceback (most recent call last):
        ...
    tensorlite.errors.ShapeError: Muon only supports 2D parameters whereas we found parameter 'bias' ...
    """

    def __init__(self, params: Params, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None) -> None:
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        })

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        wordings = {"lr": "Learning rate", "momentum": "momentum", "weight_decay": "weight decay"}
        for name, wording in wordings.items():
            if not float(group[name]) >= 0.0:
                raise ArgumentError(f"{wording} should be >= 0 but is: {group[name]}")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(f"Adjust learning rate function {group['adjust_lr_fn']} is not supported; "
                                "use 'original' or 'match_rms_adamw'")
        if len(group["ns_coefficients"]) != 3:
            raise ArgumentError("Coefficients must be a tuple of exactly 3 values")
        if not 0 <= group["ns_steps"] < 100:
            raise ArgumentError("Number of steps must be less than 100 for computational efficiency")
        for i, param in enumerate(group.get("params", ())):
            if param.ndim != 2:
                name = repr(group["param_names"][i]) if "param_names" in group else f"number {i}"
                raise ShapeError(
                    f"Muon only supports 2D parameters whereas we found parameter {name} with size: "
                    f"{tuple(param.shape)}; use MuonWithAuxAdam, or AdamW for the others"
                )

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        names = ("momentum", "nesterov", "weight_decay", "ns_coefficients", "eps", "ns_steps")
        options = {name: group[name] for name in names}
        options["match_rms"] = group["adjust_lr_fn"] == "match_rms_adamw"
        return Plan("muon_step", ("momentum_buffer",), options)


class MuonWithAuxAdam(Optimizer):
    """Muon for some groups and AdamW for the others, in one optimizer (the auxiliary Adam of Jordan's Muon).

    `params` is a list of groups with the key 'use_muon'; or parameters (or named ones), of which the 2-D ones go to
    Muon and the rest to Adam. An embedding or an output layer trains better with Adam: give it a group of its own.

    Defaults: Muon lr=0.02, weight_decay=0; Adam lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.
    Raises ArgumentError for a group without 'use_muon', and what Muon and Adam raise.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> optimizer = optim.MuonWithAuxAdam(model.parameters())
    >>> [(group["use_muon"], len(group["params"])) for group in optimizer.param_groups]
    [(True, 2), (False, 2)]
    """

    MUON: ClassVar[Group] = {
        "lr": 0.02, "weight_decay": 0, "momentum": 0.95, "nesterov": True, "ns_coefficients": COEFFICIENTS,
        "eps": 1e-7, "ns_steps": 5, "adjust_lr_fn": None,
    }
    ADAM: ClassVar[Group] = {
        "lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-10, "weight_decay": 0, "amsgrad": False,
        "maximize": False, "decoupled_weight_decay": True,
    }

    def __init__(self, params: Params) -> None:
        groups = as_groups(params)
        if len(groups) == 1 and groups[0].keys() == {"params"}:
            groups = self._split(groups[0])
        super().__init__(groups, {})

    @staticmethod
    def _split(group: Group) -> list[Group]:
        """The 2-D parameters for Muon, the others for Adam."""
        tensors = [param[1] if isinstance(param, tuple) else param for param in group["params"]]
        parts = []
        for use_muon in (True, False):
            chosen = [p for p, t in zip(group["params"], tensors, strict=True)
                      if (getattr(t, "ndim", 0) == 2) is use_muon]
            if chosen:
                parts.append({"params": chosen, "use_muon": use_muon})
        return parts

    def add_param_group(self, param_group: Group) -> None:
        """Optimize further parameters: {'params': ..., 'use_muon': ..., and options of Muon or Adam}."""
        if isinstance(param_group, dict) and "use_muon" in param_group:
            param_group = {**(self.MUON if param_group["use_muon"] else self.ADAM), **param_group}
        super().add_param_group(param_group)

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        if not group:
            return  # the defaults: each group has those of its kind
        if "use_muon" not in group:
            raise ArgumentError("a group of MuonWithAuxAdam needs the key 'use_muon': True for the weights of hidden "
                                "layers, False for embeddings, output layers and all that is not 2-D")
        (Muon if group["use_muon"] else Adam)._check(group)

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        return (Muon if group["use_muon"] else Adam)._plan(group)
