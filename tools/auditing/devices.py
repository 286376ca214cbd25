"""Whether a captured step gives the bits of an eager one, and which of a kernel's instances the simulator has run."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
from case import Case, Constants, listed, tensors

import tensorlite as tl
from tensorlite import dtypes
from tensorlite.backends import get
from tensorlite.backends.kernels import Instance, catalogue
from tensorlite.dtypes import DType
from tensorlite.errors import CaptureError

SAME, DIFFERS, REFUSED, RANDOM = "same", "differs", "refused", "draws new numbers"
SEVERITY = [SAME, RANDOM, REFUSED, DIFFERS]
C_TYPES = frozenset(dtype.c_type for dtype in dtypes.ALL)
CASTS = "formulas::copy"  # between any two dtypes, around whatever an op does
PASSES = 3  # eager, recorded, replayed


def captured(case: Case, dtype: DType, device: str) -> str:
    """Whether results and gradients of a captured step are those of an eager one, bit for bit."""
    if "dropout" in case.name:
        return RANDOM

    def step(*inputs: tl.Tensor) -> list[tl.Tensor]:
        leaves = [x.detach().clone().requires_grad_(case.gradient and dtype.is_floating_point) for x in inputs]
        results = listed(case.function(*leaves))
        roots = [x for x in results if x.requires_grad]
        gradients = (tl.autograd.grad(roots, leaves, [x.detach() for x in roots], materialize_grads=True)
                     if roots else ())
        return [*[x.detach() for x in results], *gradients]

    replayed = tl.capture(step)
    passes = [tensors(case.arrays(case.shapes[0], dtype, seed), device) for seed in range(PASSES)]
    with mock.patch.object(tl, "tensor", Constants()):
        for inputs in passes:
            wanted = [x.cpu().numpy() for x in step(*inputs)]
            try:
                found = [np.array(x.cpu().numpy()) for x in replayed(*inputs)]  # a view would hold the replay's memory
            except CaptureError:
                return REFUSED
            if any(a.tobytes() != b.tobytes() for a, b in zip(found, wanted, strict=True)):
                return DIFFERS
    return SAME


# --- instances of kernels -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched() -> Iterator[set[Instance]]:
    """The instances that the simulator runs meanwhile."""
    backend: Any = get("cuda:sim")
    ran: set[Any] = set()
    launch = backend.launch

    def noting(function: Any, *arguments: Any) -> None:
        ran.add(function)
        launch(function, *arguments)

    seen: set[Instance] = set()
    with mock.patch.object(backend, "launch", noting):
        yield seen
    seen.update(instance for instance, function in backend._functions.items()
                if function in ran and _computed(instance.expression) != CASTS)


def listed_like(ran: set[Instance]) -> set[Instance]:
    """All instances in the catalogue that compute what these do in the same dtypes, whatever their layout."""
    return set().union(*[_catalogue()[_kind(instance)] for instance in ran])


@cache
def _catalogue() -> dict[Any, set[Instance]]:
    found: dict[Any, set[Instance]] = defaultdict(set)
    for instance in catalogue.instances():
        found[_kind(instance)].add(instance)
    return found


@cache
def _kind(instance: Instance) -> tuple[str, str, frozenset[str]]:
    """A file, what tells one kernel of it from another (the formula, or the template), and the dtypes."""
    file, expression = instance
    return file, _computed(expression), C_TYPES & set(re.findall(r"\w+", expression))


def _computed(expression: str) -> str:
    formula = re.search(r"\w+::\w+", expression)
    return formula.group() if formula else expression.partition("<")[0]
