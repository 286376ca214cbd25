"""Products of floating matrices on a GPU: the kernels "matmul" and "linear" of device "cuda".

cuBLAS computes them, through CuPy, and while a step is being recorded cuBLASLt (cublaslt.py), because CuPy's way
refuses that. Products of float16 and bfloat16 are summed in float32. Other dtypes, and what neither library takes, are
left to the kernels of kernels/.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..errors import DeviceError
from . import Array, cublaslt, gemm
from .cuda_requirements import advice
from .cupy_import import cupy
from .gemm import Gemm, Kind
from .kernels import KernelBackend, Launcher

_DEFAULT_ALGORITHM = -1


class _Handles(threading.local):
    """cuBLAS handles of this thread by GPU: asking CuPy each time costs more than the call."""

    def __init__(self) -> None:
        self.by_gpu: dict[int, int] = {}


_handles = _Handles()


def table(others: Mapping[str, Launcher]) -> dict[str, Launcher]:
    """The kernels of this file; what the libraries do not multiply goes to those of `others` with the same names."""

    def matmul(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """out = x·y for x (..., n, k) and y (..., k, m), batch dimensions broadcast."""
        x, y = args
        if not multiply(backend, out, x, y):
            others[kernel](backend, kernel, out, args, params)

    def linear(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """out = x·Wᵀ + bias for x (..., k), W (m, k), bias (m,) or None; rounded once, after the bias."""
        x, weight, bias = args
        if not multiply(backend, out, x, weight, bias, transpose_y=True):
            others[kernel](backend, kernel, out, args, params)

    return {"matmul": matmul, "linear": linear}


def multiply(backend: Any, out: Array, x: Array, y: Array, bias: Array | None = None,
             transpose_y: bool = False) -> bool:
    """out = x·y + bias, or x·yᵀ + bias. `out` is dense. Returns whether a library does that for these dtypes."""
    if not out.size:
        return True
    kind = gemm.kind(out.dtype)
    if kind is None:
        return False
    key = ("matmul", transpose_y, out.dtype.char, x.shape, x.strides, y.shape, y.strides)
    planned = backend.plans.get(key)
    if planned is None:
        planned = backend.remember(key, gemm.plan(out, x, y, transpose_y))
    if not planned.shape[2]:  # sums of nothing
        _begin_with(backend, out, 0 if bias is None else bias)
        return True
    if planned.copies[0]:
        x = backend.copy(x)
    if planned.copies[1]:
        y = backend.copy(y)
    recorder = backend.capture
    if recorder is not None:
        return cublaslt.multiply(backend, recorder, planned, kind, out, x, y, bias)
    if bias is not None:
        _begin_with(backend, out, bias)
    with backend.current():
        handle = _handle(backend)
        try:
            _call(planned, kind, handle, y.data.ptr, x.data.ptr, out.data.ptr, bias is not None)
        except (cupy.cuda.cublas.CUBLASError, OverflowError) as error:  # the latter: a size beyond 2^31
            raise DeviceError(f"matmul of {out.dtype.name} {x.shape} and {y.shape} on '{backend.device}': cuBLAS "
                              f"refused it: {error}") from error
    return True


def _begin_with(backend: Any, out: Array, value: Any) -> None:
    """Fill out with a number, or with a bias in every row."""
    backend.kernels["copy"](backend, "copy", out, (value,), {})


def _handle(backend: Any) -> int:
    handle = _handles.by_gpu.get(backend.index)
    if handle is None:
        try:
            handle = _handles.by_gpu[backend.index] = cupy.cuda.get_cublas_handle()
        except ImportError as error:
            raise DeviceError(f"matmul on '{backend.device}' needs cuBLAS: {error}\n{advice()}") from error
    return handle


def _call(planned: Gemm, kind: Kind, handle: int, y: int, x: int, out: int, accumulate: bool) -> None:
    (m, n, k), (op_y, op_x), (ld_y, ld_x, ld_out) = planned.shape, planned.operations, planned.leading
    data, compute, one = kind.data, kind.compute, kind.one
    beta = one if accumulate else kind.zero
    for start_y, start_x, start_out in planned.starts:
        if planned.matrices == 1:
            cupy.cuda.cublas.gemmEx(
                handle, op_y, op_x, m, n, k, one, y + start_y, data, ld_y, x + start_x, data, ld_x, beta,
                out + start_out, data, ld_out, compute, _DEFAULT_ALGORITHM)
        else:
            cupy.cuda.cublas.gemmStridedBatchedEx(
                handle, op_y, op_x, m, n, k, one, y + start_y, data, ld_y, planned.strides[0], x + start_x, data, ld_x,
                planned.strides[1], beta, out + start_out, data, ld_out, planned.strides[2], planned.matrices, compute,
                _DEFAULT_ALGORITHM)
