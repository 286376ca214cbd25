"""What every doctest of the package finds by name, and a fixed seed, so that printed numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim


@pytest.fixture(autouse=True)
def names_for_doctests(doctest_namespace: dict[str, Any]) -> None:
    """`tl`, `np`, `nn`, `F` and `optim` as a user imports them."""
    doctest_namespace.update(tl=tl, np=np, nn=nn, F=nn.functional, optim=optim)
    tl.manual_seed(0)
