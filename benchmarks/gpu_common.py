"""What the GPU benchmarks share: clocks that the device itself keeps, and a record of what was measured on.

Device work is asynchronous. `Clock.device` times calls between two events on the device, and first gives the device
something else to do, long enough for the host to queue all the calls: what is measured is then kernels back to back,
not Python. `Clock.host` times what Python needs to queue them. On "cpu" and "cuda:sim", which do not queue, both are
the host's clock; that is for dry runs, and its figures mean nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

COMMIT_VARIABLE = "TENSORLITE_COMMIT"  # what to record as the commit where git is not at hand
OCCUPYING_BYTES = 256 << 20  # of the copy that keeps the device busy while the host queues calls
_PACKAGES = (
    "numpy", "ml_dtypes", "torch", "triton", "jax", "cupy-cuda12x", "cupy-cuda13x",
    "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cublas", "nvidia-cublas-cu12",
)


class Clock:
    """Times calls on a device that does not queue: by the host's clock."""

    queues = False

    def synchronize(self) -> None:
        """Wait for the device."""

    def device(self, calls: Callable[[], None]) -> float:
        """Seconds that the device spends in what `calls` gives it."""
        return self.host(calls)

    def host(self, calls: Callable[[], None]) -> float:
        """Seconds until `calls` returns, the device being idle before."""
        self.synchronize()
        start = time.perf_counter()
        calls()
        return time.perf_counter() - start


class EventClock(Clock):
    """Times calls by events of a GPU: the time from one to the next is what the device spends on the work between."""

    queues = True

    def __init__(self) -> None:
        self._occupying_seconds = self._between_events(self._occupy)  # warms up
        self._occupying_seconds = self._between_events(self._occupy)

    def _event(self) -> Any:
        raise NotImplementedError

    def _seconds(self, start: Any, stop: Any) -> float:
        raise NotImplementedError

    def _occupy(self) -> None:
        raise NotImplementedError

    def _between_events(self, calls: Callable[[], None]) -> float:
        start = self._event()
        calls()
        stop = self._event()
        self.synchronize()
        return self._seconds(start, stop)

    def device(self, calls: Callable[[], None]) -> float:
        queueing = self.host(calls)
        self.synchronize()
        for _ in range(2 + int(1.5 * queueing / self._occupying_seconds)):
            self._occupy()
        return self._between_events(calls)


class CupyClock(EventClock):
    """For CuPy, and for tensorlite, which works on CuPy's current stream."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._from, self._to = (cupy.cuda.alloc(OCCUPYING_BYTES) for _ in range(2))
        super().__init__()

    def synchronize(self) -> None:
        self._cupy.cuda.Device().synchronize()

    def _event(self) -> Any:
        event = self._cupy.cuda.Event()
        event.record()
        return event

    def _seconds(self, start: Any, stop: Any) -> float:
        return float(self._cupy.cuda.get_elapsed_time(start, stop)) * 1e-3

    def _occupy(self) -> None:
        self._to.copy_from_device_async(self._from, OCCUPYING_BYTES, self._cupy.cuda.get_current_stream())


class TorchClock(EventClock):
    """For torch on a GPU."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._from, self._to = (torch.empty(OCCUPYING_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
        super().__init__()

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def _event(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start: Any, stop: Any) -> float:
        return float(start.elapsed_time(stop)) * 1e-3

    def _occupy(self) -> None:
        self._to.copy_(self._from)


def clock(library: str, device: str) -> Clock:
    """The clock for a library's work on a device."""
    if device != "cuda":
        return Clock()
    return TorchClock() if library == common.RIVAL else CupyClock()


def threads(device: str) -> int | None:
    """Threads of a worker's BLAS and OpenMP pools: in a dry run one, so that the workers do not crowd."""
    return {"cuda": None, "cpu": common.cores()}.get(device, 1)


def rivals_device(device: str) -> str:
    """Where other libraries work when tensorlite works on `device`: they have no simulator."""
    return "cuda" if device == "cuda" else "cpu"


def why_missing(library: str, device: str) -> str | None:
    """Why a library cannot be measured beside tensorlite on `device`; None if it can."""
    if not common.installed(library):
        return "not installed"
    if device != "cuda":
        return "needs a GPU" if library == "cupy" else None
    if library == common.RIVAL:
        import torch

        return None if torch.cuda.is_available() else "finds no GPU"
    return None


def gpu_state() -> dict[str, str]:
    """The GPU, its driver and its memory as nvidia-smi tells them; empty where there is none."""
    fields = ("name", "driver_version", "memory.total", "compute_cap", "power.limit", "clocks.max.sm")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, (value.strip() for value in answer.strip().split(",")), strict=False))


def cuda_versions() -> dict[str, int]:
    """The CUDA versions of the driver and of CuPy's runtime, such as 13000; empty without CuPy and a GPU."""
    if not common.installed("cupy"):
        return {}
    import cupy

    runtime = cupy.cuda.runtime
    try:
        return {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
    except runtime.CUDARuntimeError:
        return {}


def package_versions() -> dict[str, str]:
    """The versions of what matters here and is installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def environment(device: str) -> dict[str, Any]:
    """Where and with what a record was made."""
    record = common.environment(os.cpu_count() or 1, packages=())
    record["commit"] = os.environ.get(COMMIT_VARIABLE) or record["commit"] or "unknown: not in a git checkout"
    on_gpu = device == "cuda"
    return {
        **record,
        "versions": package_versions(),
        "device": device,
        "gpu": gpu_state() if on_gpu else {},
        "cuda": cuda_versions() if on_gpu else {},
    }


def save(path: Path, record: dict[str, Any]) -> None:
    """Write what has been measured so far, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(path)
