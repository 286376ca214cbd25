"""A call's results and derivatives in either library, as arrays that can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import tensorlite as tl
from fuzz.calls import NUMPY, Call
from fuzz.compare import array_of, dtype_of

WEIGHTS = np.round(np.random.default_rng(0).uniform(-1, 2, 1 << 14) * 64) / 64  # numbers that all floats can hold


@dataclass
class Derived:
    """Results, then their first and second derivatives in all leaves that have some."""

    results: list[Any]
    gradients: list[Any] = field(default_factory=list)
    seconds: list[Any] = field(default_factory=list)
    refused: str = ""  # which derivative PyTorch does not have


def flat(result: Any) -> list[Any]:
    return [x for part in result for x in flat(part)] if isinstance(result, (tuple, list)) else [result]


def is_tensor(x: Any) -> bool:
    return isinstance(x, (tl.Tensor, torch.Tensor))


def weights(tensors: list[Any], device: str) -> list[Any]:
    """What the sum of some tensors is weighed with: in each library the same numbers."""
    made, start = [], 0
    for t in tensors:
        n = math.prod(t.shape)
        part = WEIGHTS[start : start + n].reshape(tuple(t.shape))
        start += n
        if isinstance(t, torch.Tensor):
            made.append(torch.from_numpy(part).to(t.dtype))
        else:
            weight = tl.from_numpy(part.astype(NUMPY[dtype_of(t)]))
            made.append(weight if device == "cpu" else weight.to(device))
    return made


def ours(call: Call, device: str) -> tuple[Derived, list[Any]]:
    """tensorlite's results, and the leaves that they are of."""
    tensors = {id(leaf): leaf.ours(device) for leaf in call.leaves()}
    return Derived(flat(call.run_ours(tensors))), list(tensors.values())


def theirs(
    call: Call, dtype: str | None = None, stretch: float = 0.0, by_place: bool = False
) -> tuple[Derived, list[Any]]:
    """PyTorch's; with all floats in another dtype, and moved by a factor up or down."""
    tensors = {id(leaf): leaf.theirs(dtype, stretch, by_place) for leaf in call.leaves()}
    return Derived(flat(call.run_theirs(tensors))), list(tensors.values())


def differentiate(library: Any, derived: Derived, leaves: list[Any], twice: bool, device: str = "cpu") -> None:
    """Fill in the gradients of the weighted results and, if asked for, those of the weighted gradients."""
    outputs = [t for t in derived.results if is_tensor(t) and t.requires_grad]
    needing = [t for t in leaves if t.requires_grad]
    if not outputs or not needing:
        return
    derived.gradients = list(
        library.autograd.grad(
            outputs, needing, weights(outputs, device), create_graph=twice, allow_unused=True, materialize_grads=True
        )
    )
    curved = [g for g in derived.gradients if g.requires_grad] if twice else []
    if curved:
        derived.seconds = list(
            library.autograd.grad(curved, needing, weights(curved, device), allow_unused=True, materialize_grads=True)
        )


def arrays(tensors: list[Any]) -> list[np.ndarray]:
    return [array_of(t) for t in tensors]
