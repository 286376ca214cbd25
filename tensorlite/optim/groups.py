"""What may be passed to an optimizer as its parameters, and which options are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ArgumentError
from ..tensor import Tensor

Group = dict[str, Any]
Params = Iterable[Tensor] | Iterable[Group] | Iterable[tuple[str, Tensor]]

_WORDING = {"lr": "learning rate", "eps": "epsilon value"}


def refuse_negative(group: Mapping[str, Any], *names: str) -> None:
    """Raise ArgumentError for an option below 0 or NaN, in PyTorch's words."""
    for name in names:
        if not float(group[name]) >= 0.0:
            wording = _WORDING.get(name, f"{name} value")
            raise ArgumentError(f"Invalid {wording}: {group[name]} (it must be at least 0)")


def check_betas(group: Mapping[str, Any]) -> None:
    """Raise ArgumentError for a decay rate outside [0, 1), in PyTorch's words."""
    for i, beta in enumerate(group["betas"]):
        if not 0.0 <= beta < 1.0:
            raise ArgumentError(f"Invalid beta parameter at index {i}: {beta} (it must be in [0, 1))")


def listed(params: Any) -> list[Any]:
    """The parameters of a group as a list. Raises TypeError for what has no order or is no collection."""
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, set | frozenset):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
            "in sets will change between runs. Please use a list instead."
        )
    _refuse_module(params)
    return list(params)


def as_groups(params: Any) -> list[Any]:
    """What an optimizer was given, as a list of groups. Raises TypeError or ArgumentError if it is no such thing."""
    if isinstance(params, Tensor):
        raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, "
                        f"but got {type(params).__name__}; pass [tensor]")
    if isinstance(params, dict):
        raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, "
                        "but got one dict; pass [group]")
    items = listed(params)
    if not items:
        raise ArgumentError("optimizer got an empty parameter list")
    return items if isinstance(items[0], dict) else [{"params": items}]


def _refuse_module(value: Any) -> None:
    if callable(getattr(value, "parameters", None)):
        kind = type(value).__name__
        raise TypeError(f"an optimizer takes parameters, but got the module {kind!r}; "
                        "did you mean model.parameters()?")


def named(params: list[Any]) -> Group:
    """{'params': tensors}, and 'param_names' where the tensors come as (name, tensor) pairs."""
    pairs = [param for param in params if isinstance(param, tuple)]
    if not pairs:
        return {"params": params}
    if len(pairs) != len(params):
        raise ArgumentError("all optimizer params should be with/without names. Some param names are missing")
    return {"params": [tensor for _, tensor in pairs], "param_names": [name for name, _ in pairs]}


def check_param(param: Any) -> None:
    """Raise TypeError for what is no Tensor, ArgumentError for one that is no leaf or cannot be written."""
    _refuse_module(param)
    if not isinstance(param, Tensor):
        kind = type(param).__name__
        raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {kind}")
    if not param.is_leaf:
        raise ArgumentError(f"can't optimize a non-leaf Tensor (shape {tuple(param.shape)}): pass the "
                            "tensors it was computed from, or a .detach().requires_grad_() of it")
    if param.array.size and not param.backend.is_writable(param.array):
        raise ArgumentError(f"can't optimize a Tensor (shape {tuple(param.shape)}) that is read-only or whose elements "
                            "share memory (expanded): pass a .clone() of it")
