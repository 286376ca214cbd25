"""What `.to("cuda")` says where something is missing: which thing, and the line that installs it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import tensorlite as tl
from tensorlite.backends import cuda_requirements as requirements

ABSENT = "cuda" not in tl.testing.devices()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend what is installed: machine(driver version, wheels)."""

    def pretend(driver: tuple[int, int] | None, wheels: dict[str, str]) -> None:
        monkeypatch.setattr(requirements, "driver_version", lambda: driver)
        monkeypatch.setattr(requirements, "installed_wheels", lambda: wheels)
        monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails, as if it were not there

    return pretend


@pytest.mark.parametrize(("driver", "line"), [
    (None, r"no NVIDIA driver was found either; on a machine with .*'tensorlite\[cuda13\]'; devices 'cpu' and"),
    ((11, 4), r"supports CUDA 11\.4: update it to one of CUDA 12, then pip install 'tensorlite\[cuda12\]'"),
    ((12, 4), r"needs the package CuPy: pip install 'tensorlite\[cuda12\]'$"),
    ((13, 1), r"needs the package CuPy: pip install 'tensorlite\[cuda13\]'$"),
])
def test_no_cupy(machine: Any, driver: tuple[int, int] | None, line: str) -> None:
    machine(driver, {})
    with pytest.raises(tl.DeviceError, match=line):
        requirements.import_cupy()


@pytest.mark.parametrize(("wheels", "message"), [
    ({"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"},
     r"installed more than once \(cupy-cuda12x cupy-cuda13x\).*pip uninstall -y cupy-cuda12x cupy-cuda13x, then "
     r"pip install 'tensorlite\[cuda12\]'"),
    ({"cupy-rocm-7-0": "14.2.0"}, r"cupy-rocm-7-0 is CuPy for AMD's GPUs.*pip uninstall -y cupy-rocm-7-0, then pip"),
    ({"amd-cupy": "13.5"}, "amd-cupy is CuPy for AMD's GPUs"),
    ({"cupy-cuda12x": "13.6.0"}, r"needs CuPy 14 or later, cupy-cuda12x 13\.6\.0 is installed: pip uninstall"),
    ({"cupy-cuda12x": "14.2.0"}, r"CuPy is installed but does not load: (?s:.)*pip install 'tensorlite\[cuda12\]'"),
])
def test_the_wrong_cupy(machine: Any, wheels: dict[str, str], message: str) -> None:
    machine((12, 9), wheels)
    with pytest.raises(tl.DeviceError, match=message):
        requirements.import_cupy()


class CUDARuntimeError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError{status}")
        self.status = status


def cupy_with(count: int = 0, error: int = 0) -> Any:
    """A CuPy for CUDA 13 that finds so many GPUs, or fails."""

    def get_device_count() -> int:
        if error:
            raise CUDARuntimeError(error)
        return count

    return SimpleNamespace(cuda=SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=get_device_count, CUDARuntimeError=CUDARuntimeError),
        driver=SimpleNamespace(get_build_version=lambda: 13000)))


@pytest.mark.parametrize(("driver", "cupy", "message"), [
    (None, cupy_with(error=35), "CuPy is installed, but no NVIDIA driver was found; install the driver"),
    ((13, 0), cupy_with(error=100), r"finds no GPU \(CUDA_VISIBLE_DEVICES='-1'\); devices 'cpu' and"),
    ((13, 0), cupy_with(count=0), r"finds no GPU \(CUDA_VISIBLE_DEVICES='-1'\)"),
    ((12, 4), cupy_with(error=35), r"made for CUDA 13, the NVIDIA driver supports CUDA 12\.4: update the driver, or "
                                   r"pip uninstall -y cupy-cuda13x and pip install 'tensorlite\[cuda12\]'"),
    ((13, 0), cupy_with(error=46), r"the CUDA runtime does not start \(cudaError46\); does nvidia-smi list the GPU"),
])
def test_no_gpu(machine: Any, monkeypatch: pytest.MonkeyPatch, driver: Any, cupy: Any, message: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    machine(driver, {"cupy-cuda13x": "14.2.0"})
    with pytest.raises(tl.DeviceError, match=message):
        requirements.count_gpus(cupy)


def test_gpus_that_are_there(machine: Any) -> None:
    machine((13, 0), {})
    assert requirements.count_gpus(cupy_with(count=2)) == 2


def test_the_wheels_and_the_driver_of_this_machine() -> None:
    assert all(name == "amd-cupy" or name.startswith("cupy") for name in requirements.installed_wheels())
    version = requirements.driver_version()
    assert version is None or version >= (7, 0)


@pytest.mark.skipif(not ABSENT, reason="there is a GPU")
def test_without_a_gpu() -> None:
    assert tl.cuda.is_available() is False
    assert tl.cuda.device_count() == 0
    tl.cuda.empty_cache()
    for ask in (lambda: tl.zeros(1).to("cuda"), lambda: tl.zeros(1, device="cuda:1"), lambda: tl.zeros(1).cuda(),
                lambda: tl.cuda.set_device(0), tl.cuda.current_device, tl.cuda.get_device_name, tl.cuda.synchronize,
                tl.cuda.memory_allocated, tl.cuda.mem_get_info, tl.cuda.current_stream, tl.cuda.Stream):
        with pytest.raises(tl.DeviceError, match="device 'cuda'"):
            ask()


def test_asking_for_gpus_loads_nothing_where_there_is_no_cupy() -> None:
    command = ("import sys; sys.modules['cupy'] = None\n"
               "import tensorlite as tl\n"
               "assert not {'cupy_backends', 'cupyx'} & sys.modules.keys()\n"
               "print(tl.cuda.is_available())")
    finished = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"


def test_the_precision_of_products_is_one_of_three() -> None:
    assert tl.get_float32_matmul_precision() == "highest"
    with pytest.raises(tl.ArgumentError, match="takes one of 'highest', 'high', 'medium', got 'low'"):
        tl.set_float32_matmul_precision("low")
