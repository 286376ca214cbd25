"""`tl.show_config()`: what this installation computes with, in words.

Contract. Nothing is started by asking: no GPU, no compiler and no build. Which kernels the CPU uses is decided by the
first one that runs, so before it the answer is that it is open.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from . import Device, _loaded, cpu_compiled, host


def show_config() -> str:
    """What tensorlite computes with here: versions, BLAS, threads, compiled kernels, and the devices present.

    >>> print(show_config())
    tensorlite ...
    """
    return "\n".join(f"{name:<17} {value}" for name, value in _entries())


def _entries() -> Iterator[tuple[str, str]]:
    package = sys.modules[__name__.partition(".")[0]]
    yield "tensorlite", f"{package.__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield "NumPy", f"{np.__version__}, {_blas_of_numpy()}"
    yield "CPU threads", f"{cpu_compiled.threads()} in compiled kernels (TENSORLITE_THREADS, OMP_NUM_THREADS)"
    yield "compiled kernels", cpu_compiled.describe()
    yield "device cpu", "present"
    yield "device cuda:sim", "present" if host.is_available() else "missing: no C++ compiler (TENSORLITE_CXX)"
    yield "device cuda", _cuda()


def _blas_of_numpy() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of a package that its text form wants
        found = np.show_config(mode="dicts")
    blas = ((found or {}).get("Build Dependencies") or {}).get("blas") or {}
    return f"{blas.get('name', 'unknown BLAS')} {blas.get('version', '')}".strip()


def _cuda() -> str:
    used = [str(device) for device in _loaded if device.type == Device("cuda", 0).type]
    if used:
        return f"in use: {', '.join(used)}"
    if importlib.util.find_spec("cupy") is None:
        return "missing: CuPy is not installed"
    return "not used yet" if _has_driver() else "missing: no NVIDIA driver found"


def _has_driver() -> bool:
    """Whether the driver's library can be loaded, which starts nothing."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
