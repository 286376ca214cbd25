"""What every doctest of the package finds by name, and a fixed seed, so that printed numbers stay."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import host

# The files of device "cuda" import CuPy: their doctests are looked for where it is installed.
NEED_CUPY = [f"tensorlite/backends/{name}.py"
             for name in ("cublas", "cublaslt", "cuda", "cuda_graph", "cupy_import", "nvrtc")]
collect_ignore = [] if importlib.util.find_spec("cupy") else NEED_CUPY


def pytest_sessionstart(session: pytest.Session) -> None:
    """All tests meet the same kernels of the CPU: the compiled ones, wherever there is a compiler and no switch."""
    if host.is_available():
        tl.compile_kernels()


@pytest.fixture(autouse=True)
def names_for_doctests(doctest_namespace: dict[str, Any]) -> None:
    """`tl`, `np`, `nn`, `F` and `optim` as a user imports them."""
    doctest_namespace.update(tl=tl, np=np, nn=nn, F=nn.functional, optim=optim)
    tl.manual_seed(0)
