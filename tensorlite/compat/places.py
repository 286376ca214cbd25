"""Where torch's names lie in tensorlite: `find("torch.nn.Linear")` is the class `tensorlite.nn.Linear`.

Most lie at the same place; `ELSEWHERE` has the others. A name that is not found is missing: nothing is guessed.
"""

from __future__ import annotations

import importlib
import types
from typing import Any, Final

# Where the longest beginning of a torch path that is listed here leads; None where a name of tensorlite's own is meant.
ELSEWHERE: Final[dict[str, str | None]] = {
    "torch": "tensorlite",
    "torch.autograd.Variable": None,
    "torch.autograd.gradcheck": "tensorlite.testing.gradcheck",
    "torch.autograd.gradgradcheck": "tensorlite.testing.gradgradcheck",
    "torch.backends": None,
    "torch.cuda.OutOfMemoryError": "tensorlite.OutOfMemoryError",
    "torch.cuda.amp": "tensorlite.amp",
    "torch.cuda.random": None,
    "torch.data": None,
    "torch.nn.modules": "tensorlite.nn",
    "torch.nn.init._calculate_fan_in_and_fan_out": "tensorlite.nn.init._fans",
    "torch.ops": None,
    "torch.utils.tensorboard": "tensorlite.insight.tensorboard",
    "torchvision.datasets": "tensorlite.data",
    "torchvision.transforms": "tensorlite.data.transforms",
}


# Attributes that objects have, and their classes have not.
OF_OBJECTS: Final = frozenset({
    "torch.nn.Module.training", "torch.optim.Optimizer.defaults", "torch.optim.Optimizer.param_groups",
    "torch.optim.Optimizer.state",
})


class Missing(LookupError):
    """tensorlite has nothing of that name."""


def find(path: str) -> Any:
    """What stands in tensorlite for a torch path. Raises Missing."""
    beginning = path
    while beginning not in ELSEWHERE:
        beginning, dot, _ = beginning.rpartition(".")
        if not dot:
            raise Missing(path)
    place = ELSEWHERE[beginning]
    if place is None:
        raise Missing(path)
    found: Any = importlib.import_module("tensorlite")
    for name in f"{place}{path.removeprefix(beginning)}".split(".")[1:]:
        found = _member(found, name, path)
    return found


def _member(owner: Any, name: str, path: str) -> Any:
    """An attribute, which of a module has to be its own and not something that it imported from elsewhere."""
    try:
        found = getattr(owner, name)
    except (AttributeError, TypeError):
        raise Missing(path) from None
    foreign = isinstance(found, types.ModuleType) and found.__name__.partition(".")[0] != "tensorlite"
    if isinstance(owner, types.ModuleType) and foreign:
        raise Missing(path)
    return found


def exists(path: str) -> bool:
    """Whether tensorlite has something for a torch path."""
    if path in OF_OBJECTS:
        return True
    try:
        find(path)
    except Missing:
        return False
    return True
