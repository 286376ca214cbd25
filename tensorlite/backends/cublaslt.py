"""Products of matrices by cuBLASLt, called directly: for steps that are being recorded into a CUDA graph.

CuPy's way to cuBLAS refuses a stream that captures. cuBLASLt takes stream and workspace with each call and keeps none,
so its products can be captured; and it adds the bias while it stores the result. A product is described once per
shapes, strides, dtype, precision and alignment, and so is the algorithm chosen.

What cuBLASLt has no algorithm for is done in two steps (the bias first, then a product that is added to it), and
what it cannot do in that way either is left to the caller. Its other epilogues are not used. Whether its ReLU lets NaN
through, as ours does, is not documented; its GELU is the approximation by tanh; and its bias gradients (BGRADA, BGRADB)
would save one small kernel and tie two gradients together in the tape.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from ..errors import DeviceError
from . import Array
from .cuda_requirements import advice
from .cupy_import import cupy
from .gemm import Gemm, Kind

_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8  # cublasLtMatmulDescAttributes_t
_BATCH_COUNT, _BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute_t
_MAX_WORKSPACE, _ALIGNMENT_A = 1, 5  # cublasLtMatmulPreferenceAttributes_t; B, C and D follow A
_PLAIN, _BIAS = 1, 4  # cublasLtEpilogue_t

_WELL_ALIGNED = 256  # bytes; cuBLASLt has no use for more
_BIAS_ALIGNMENT = 16  # bytes, without which the epilogue reads beside the bias


def workspace_bytes(capability: tuple[int, int]) -> int:
    """How much scratch memory the products of one stream share: what NVIDIA recommends for a GPU's generation."""
    return (32 if capability >= (9, 0) else 4) << 20


# --- the library ------------------------------------------------------------------------------------------------------


class _Algorithm(ctypes.Structure):
    _fields_ = (("data", c_uint64 * 8),)


class _Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (("algorithm", _Algorithm), ("workspace", c_size_t), ("status", c_int), ("waves", c_float),
                ("reserved", c_int * 4))


def find_library() -> str:
    """The name of the cuBLASLt that CuPy's cuBLAS has brought into this process. Raises ImportError without cuBLAS."""
    _ = cupy.cuda.cublas  # CuPy loads it when it is first asked for
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return f"cublasLt64_{major}.dll" if sys.platform == "win32" else f"libcublasLt.so.{major}"


@functools.cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(find_library())
    except (ImportError, OSError) as error:
        raise DeviceError(f"a product of matrices in a captured step needs cuBLASLt: {error}\n{advice()}") from error
    library.cublasLtMatrixLayoutCreate.argtypes = (c_void_p, c_int, c_uint64, c_uint64, c_int64)
    library.cublasLtMatmulAlgoGetHeuristic.argtypes = (*[c_void_p] * 7, c_int, c_void_p, c_void_p)
    library.cublasLtMatmul.argtypes = (*[c_void_p] * 14, c_size_t, c_void_p)
    for kind in ("MatmulDesc", "MatrixLayout", "MatmulPreference"):
        getattr(library, f"cublasLt{kind}SetAttribute").argtypes = (c_void_p, c_int, c_void_p, c_size_t)
        getattr(library, f"cublasLt{kind}Destroy").argtypes = (c_void_p,)
    return library


def _call(name: str, *args: Any) -> None:
    status = getattr(_load(), f"cublasLt{name}")(*args)
    if status:
        raise DeviceError(f"cuBLASLt's cublasLt{name} failed with status {status}; this is an error of tensorlite, "
                          "please report it with the shapes, strides and dtypes of the product")


@functools.cache
def handle(gpu: int) -> c_void_p:
    """The library's handle on a GPU, which is the current one. Raises DeviceError where the library is missing."""
    result = c_void_p()
    _call("Create", byref(result))
    return result


class _Object:
    """Something of the library's that is made, given attributes and destroyed: a descriptor, a layout, a preference."""

    def __init__(self, kind: str, *args: Any) -> None:
        self._kind = kind
        self.pointer = c_void_p()
        _call(f"{kind}Create", byref(self.pointer), *args)
        weakref.finalize(self, getattr(_load(), f"cublasLt{kind}Destroy"), self.pointer).atexit = False

    def set(self, attribute: int, value: Any) -> None:
        """Set an attribute to a number of ctypes."""
        _call(f"{self._kind}SetAttribute", self.pointer, attribute, byref(value), ctypes.sizeof(value))


# --- products ---------------------------------------------------------------------------------------------------------


class _Product:
    """One product of a layout and dtype, described, with the algorithm that the library chose for it."""

    def __init__(self, backend: Any, gemm: Gemm, kind: Kind, epilogue: int, alignments: tuple[int, int, int]) -> None:
        self.gemm, self.kind = gemm, kind
        self.workspace = workspace_bytes(backend.capability)
        self.handle = handle(backend.index)
        self.desc = _Object("MatmulDesc", kind.compute, kind.scale)
        for attribute, value in ((_TRANSPOSE_A, gemm.operations[0]), (_TRANSPOSE_B, gemm.operations[1]),
                                 (_EPILOGUE, epilogue)):
            self.desc.set(attribute, c_int32(value))
        m, n, k = gemm.shape
        sizes = ((k, m) if gemm.operations[0] else (m, k), (n, k) if gemm.operations[1] else (k, n), (m, n))
        self.layouts = [self._layout(*each) for each in zip(sizes, gemm.leading, gemm.strides, strict=True)]
        self.algorithm = self._choose(alignments)

    def _layout(self, size: tuple[int, int], leading: int, stride: int) -> _Object:
        layout = _Object("MatrixLayout", self.kind.data, *size, leading)
        if self.gemm.matrices > 1:
            layout.set(_BATCH_COUNT, c_int32(self.gemm.matrices))
            layout.set(_BATCH_STRIDE, c_int64(stride))
        return layout

    def _choose(self, alignments: tuple[int, int, int]) -> Any:
        """The library's first choice, as an argument of its; None where it has none."""
        preference = _Object("MatmulPreference")
        preference.set(_MAX_WORKSPACE, c_uint64(self.workspace))
        for i, alignment in enumerate((*alignments, alignments[2])):
            preference.set(_ALIGNMENT_A + i, c_uint32(alignment))
        a, b, d = [layout.pointer for layout in self.layouts]
        found, count = _Heuristic(), c_int()
        status = _load().cublasLtMatmulAlgoGetHeuristic(self.handle, self.desc.pointer, a, b, d, d, preference.pointer,
                                                        1, byref(found), byref(count))
        return byref(found.algorithm) if not status and count.value and not found.status else None

    def run(self, addresses: tuple[int, int, int], add: bool, workspace: int, stream: int) -> None:
        """Give the product of y and x, at these addresses like out, to a stream; or add it to out."""
        a, b, d = [layout.pointer for layout in self.layouts]
        beta = self.kind.one if add else self.kind.zero
        for starts in self.gemm.starts:
            y, x, out = [address + start for address, start in zip(addresses, starts, strict=True)]
            _call("Matmul", self.handle, self.desc.pointer, self.kind.one, y, a, x, b, beta, out, d, out, d,
                  self.algorithm, workspace, self.workspace, stream)


def multiply(backend: Any, recorder: Any, gemm: Gemm, kind: Kind, out: Array, x: Array, y: Array,
             bias: Array | None) -> bool:
    """Record out = x·y + bias as `gemm` and `kind` describe it. Returns whether cuBLASLt does that."""
    addresses = (y.data.ptr, x.data.ptr, out.data.ptr)
    with backend.current():
        fused = None if bias is None else _with_bias(backend, gemm, kind, addresses, bias)
        product = fused or _product(backend, gemm, kind, _PLAIN, addresses)
        if product is None:
            return False
        add = bias is not None and fused is None
        if add:
            backend.kernels["copy"](backend, "copy", out, (bias,), {})
        stream = recorder.note((out, x, y, bias))
        product.run(addresses, add, recorder.workspace(stream, product.workspace), stream)
    return True


def _with_bias(backend: Any, gemm: Gemm, kind: Kind, addresses: tuple[int, int, int], bias: Array) -> _Product | None:
    """The product that adds a bias to what it stores; None where the library does not, or the bias lies badly."""
    address = bias.data.ptr
    if bias.strides != (bias.itemsize,) or address % _BIAS_ALIGNMENT:
        return None
    product = _product(backend, gemm, kind, _BIAS, addresses)
    if product is not None:
        product.desc.set(_BIAS_POINTER, c_void_p(address))
    return product


def _product(backend: Any, gemm: Gemm, kind: Kind, epilogue: int, addresses: tuple[int, int, int]) -> _Product | None:
    """The product, kept for the next call of this thread that is like it; None where the library has no way to it."""
    alignments = _alignments(gemm, addresses, kind)
    key = ("cublaslt", gemm, kind, epilogue, alignments)
    found: _Product | None = backend.plans.get(key)
    if found is None:
        found = backend.remember(key, _Product(backend, gemm, kind, epilogue, alignments))
    return found if found.algorithm is not None else None


def _alignments(gemm: Gemm, addresses: tuple[int, int, int], kind: Kind) -> tuple[int, int, int]:
    """Powers of two of which the addresses of all matrices of y, x and out are multiples, in bytes."""
    result = []
    for operand, address in enumerate(addresses):
        bits = address | _WELL_ALIGNED | gemm.strides[operand] * kind.itemsize
        for starts in gemm.starts:
            bits |= starts[operand]
        result.append(bits & -bits)
    return result[0], result[1], result[2]
