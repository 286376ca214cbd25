"""Users' own kernels (`tl.kernel`) by name: where a backend looks for a kernel that is not in its table.

Contract. A name keeps its meaning: a second kernel of the same name is called "name#2", so that an op which was made
with the first one goes on to run that. Nothing is ever taken away.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import NamedTuple


class OwnKernel(NamedTuple):
    """How a kernel runs on each kind of device."""

    on_host: Callable[..., None]  # (out, *args, **params): a kernel of device "cpu"
    on_device: Callable[..., None]  # (backend, name, out, args, params): a launcher of backends/kernels


_kernels: dict[str, OwnKernel] = {}
_lock = threading.Lock()


def register(name: str, make: Callable[[str], OwnKernel]) -> str:
    """Keep `make(unique)` under a name that is `name` or begins with it, and return that name."""
    with _lock:
        names = itertools.chain([name], (f"{name}#{i}" for i in itertools.count(2)))
        unique = next(candidate for candidate in names if candidate not in _kernels)
        _kernels[unique] = make(unique)
    return unique


def find(name: str) -> OwnKernel | None:
    """The kernel of a name that `register` returned."""
    return _kernels.get(name)
