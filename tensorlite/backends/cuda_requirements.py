"""What device "cuda" needs: a GPU, its driver, and one CuPy of the right kind; and the line that installs what lacks.

Nothing here loads CuPy until `import_cupy` is called.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
from typing import Any

from ..errors import DeviceError

OLDEST_CUPY = 14
OLDEST_CAPABILITY = (7, 0)  # Volta: the first whose warps may diverge freely between __syncwarp
TENSOR_CORES_CAPABILITY = (8, 0)  # Ampere: the first with kernels/mma.cuh's instructions for all three dtypes
_NO_DEVICE, _INSUFFICIENT_DRIVER = 100, 35  # of cudaError_t
_INSTEAD = "devices 'cpu' and, with a C++ compiler, 'cuda:sim' work without one"


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver supports; None without a driver."""
    names = {"win32": ("nvcuda.dll",), "linux": ("libcuda.so.1", "libcuda.so")}.get(sys.platform, ())
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
            return number.value // 1000, number.value % 1000 // 10
    return None


def advice() -> str:
    """What to do so that device "cuda" works here, from what is known of the driver."""
    driver = driver_version()
    if driver is None:
        return (f"no NVIDIA driver was found either; on a machine with an NVIDIA GPU install its driver, then "
                f"{_line(13)}; {_INSTEAD}")
    if driver < (12, 0):
        return f"the NVIDIA driver supports CUDA {_dotted(driver)}: update it to one of CUDA 12, then {_line(12)}"
    return _line(13 if driver >= (13, 0) else 12)


def _line(major: int) -> str:
    return f"pip install 'tensorlite[cuda{major}]'"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def installed_wheels() -> dict[str, str]:
    """The distributions of CuPy that are installed, with their versions. There should be one."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")) or name == "amd-cupy":
            found[name] = distribution.version
    return found


def import_cupy() -> Any:
    """The module cupy. Raises DeviceError where it is missing, too old, installed twice, or made for AMD's GPUs."""
    wheels = installed_wheels()
    if len(wheels) > 1:
        names = " ".join(sorted(wheels))
        raise DeviceError(f"device 'cuda': CuPy is installed more than once ({names}), and the copies overwrite each "
                          f"other: pip uninstall -y {names}, then {advice()}")
    for name, version in wheels.items():
        if "rocm" in name or name.startswith("amd-"):
            raise DeviceError(f"device 'cuda': {name} is CuPy for AMD's GPUs, and the kernels are for NVIDIA's: "
                              f"pip uninstall -y {name}, then {advice()}")
        if int(version.partition(".")[0]) < OLDEST_CUPY:
            raise DeviceError(f"device 'cuda' needs CuPy {OLDEST_CUPY} or later, {name} {version} is installed: "
                              f"pip uninstall -y {name}, then {advice()}")
    try:
        import cupy
    except ImportError as error:
        if not wheels and isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise DeviceError(f"device 'cuda' needs the package CuPy: {advice()}") from None
        raise DeviceError(f"device 'cuda': CuPy is installed but does not load: {error}\n{advice()}") from error
    return cupy


def count_gpus(cupy: Any) -> int:
    """How many GPUs there are, at least one. Raises DeviceError where there is none, saying what is missing."""
    runtime = cupy.cuda.runtime
    try:
        count: int = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(_why_no_gpu(cupy, error)) from None
    if count == 0:
        raise DeviceError(f"device 'cuda': the NVIDIA driver finds no GPU{_visible()}; {_INSTEAD}")
    return count


def _why_no_gpu(cupy: Any, error: Any) -> str:
    driver = driver_version()
    if driver is None:
        return ("device 'cuda': CuPy is installed, but no NVIDIA driver was found; install the driver of the GPU, or "
                f"use another device: {_INSTEAD}")
    if error.status == _NO_DEVICE:
        return f"device 'cuda': the NVIDIA driver finds no GPU{_visible()}; {_INSTEAD}"
    built = cupy.cuda.driver.get_build_version() // 1000
    if error.status == _INSUFFICIENT_DRIVER and driver[0] < built:
        return (f"device 'cuda': CuPy is made for CUDA {built}, the NVIDIA driver supports CUDA {_dotted(driver)}: "
                f"update the driver, or pip uninstall -y cupy-cuda{built}x and {advice()}")
    return f"device 'cuda': the CUDA runtime does not start ({error}); does nvidia-smi list the GPU?"


def _visible() -> str:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if value is None else f" (CUDA_VISIBLE_DEVICES={value!r})"
