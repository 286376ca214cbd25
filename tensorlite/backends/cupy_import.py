"""CuPy for the files of the CUDA backend: `from .cupy_import import cupy`.

Raises DeviceError where it cannot be used, saying what to install.
"""

from __future__ import annotations

from .cuda_requirements import import_cupy

cupy = import_cupy()
