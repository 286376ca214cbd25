"""What a kernel has to move and to compute, what a device can, and so how long the kernel takes at least: the roofline.

Bytes are those of the operands and results, as if each were read or written once, from and to memory. Floating-point
operations are counted for products of matrices, convolutions and attention: everything else waits for memory.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..backends import Array, Backend, get
from .spans import Work, unseen

PRODUCTS = frozenset({"matmul", "linear", "linear_relu", "linear_gelu"})  # (out, x, y, ...), over x's last dimension
CONVOLUTIONS = frozenset({"conv2d", "conv2d_input_grad", "conv2d_weight_grad"})


def work(backend: Backend, kernel: str, out: Any, args: tuple[Any, ...], params: Mapping[str, Any]) -> Work:
    """The device, bytes and floating-point operations of a kernel call."""
    return Work(str(backend.device), bytes_moved(kernel, out, args), _flops(kernel, out, args, params))


def _flops(kernel: str, out: Any, args: tuple[Any, ...], params: Mapping[str, Any]) -> int:
    if kernel in PRODUCTS:
        return 2 * int(out.size) * int(args[0].shape[-1])
    if kernel in CONVOLUTIONS:  # each element of a filter for each element of the convolution's result
        result, weight = {"conv2d": (out, args[1]), "conv2d_input_grad": (args[0], args[1]),
                          "conv2d_weight_grad": (args[0], out)}[kernel]
        return 2 * int(result.size * math.prod(weight.shape[1:]))
    if kernel == "attention":  # scores, and what they weigh
        q, k, v, *_ = args
        return 2 * _scores(q, k, params["causal"]) * int(q.shape[3] + v.shape[3])
    if kernel == "attention_grad":  # scores and the derivatives in q and in k; those in the weights and in v
        _, q, k, v, *_ = args
        return 2 * _scores(q, k, params["causal"]) * int(3 * q.shape[3] + 2 * v.shape[3])
    return 0


def _scores(q: Array, k: Array, causal: bool) -> int:
    """How many pairs of queries and keys attention looks at."""
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    seen = min(queries, keys)
    pairs = seen * (seen + 1) // 2 + (queries - seen) * keys if causal else queries * keys
    return int(batch * heads * pairs)


def bytes_moved(kernel: str, out: Any, args: tuple[Any, ...]) -> int:
    """Bytes that a kernel reads and writes; what a view repeats counts once.

    An optimizer's update reads its parameters and state before it writes them. Indexing touches of the larger operand
    only as much as of the smaller one.
    """
    written = _size(arrays(out))
    if kernel.endswith("_step"):
        gradients, *state = args
        return 2 * written + _size(arrays(gradients)) + 2 * _size(arrays(state))
    read = _size(arrays(args))
    if kernel == "index":
        source = _size(arrays(args[0]))
        return written + read - source + min(source, written)
    if kernel in ("index_put", "index_add"):
        values = _size(arrays(args[0])) or written
        return read + min(values, written)
    return written + read


def arrays(value: Any) -> list[Array]:
    """The arrays in an argument: itself, or those in a tuple."""
    if isinstance(value, (tuple, list)):
        return [array for item in value for array in arrays(item)]
    return [value] if hasattr(value, "strides") else []


def _size(of: Iterable[Array]) -> int:
    return sum([int(a.nbytes) if 0 not in a.strides else _size_without_repeats(a) for a in of])


def _size_without_repeats(a: Array) -> int:
    count: int = math.prod(n for n, stride in zip(a.shape, a.strides, strict=True) if stride or not n)
    return count * int(a.dtype.itemsize)


# --- what a device can ------------------------------------------------------------------------------------------------


class Roof(NamedTuple):
    """What a device reaches at best: bytes per second, and floating-point operations per second in products."""

    bandwidth: float
    flops: float

    def least(self, work: Work) -> float:
        """The seconds that a kernel takes at least."""
        return max(work.bytes / self.bandwidth, work.flops / self.flops)


_roofs: dict[str, Roof] = {}
_measuring = threading.Lock()
_COPY_BYTES = {"cpu": 1 << 26, "cuda": 1 << 28}  # more than caches hold
_PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}


def roof(device: str) -> Roof | None:
    """What a device reaches in a copy and in a product of float32 matrices, measured once in a process.

    None for device "cuda:sim", whose speed says nothing about a GPU's.
    """
    if device == "cuda:sim":
        return None
    with _measuring:
        if device not in _roofs:
            with unseen():
                _roofs[device] = _measure(get(device))
        return _roofs[device]


def _measure(backend: Backend) -> Roof:
    kind, dtype = backend.device.type, np.dtype(np.float32)
    count, n = _COPY_BYTES[kind] // dtype.itemsize, _PRODUCT_SIZE[kind]
    source, target = (backend.fill("fill", (count,), dtype, 1.0) for _ in range(2))
    x, y, product = (backend.fill("fill", (n, n), dtype, 1.0) for _ in range(3))
    copied = _shortest(backend, lambda: backend.run("copy", target, source))
    multiplied = _shortest(backend, lambda: backend.run("matmul", product, x, y))
    return Roof(2 * _COPY_BYTES[kind] / copied, 2 * n**3 / multiplied)


def _shortest(backend: Backend, call: Callable[[], None]) -> float:
    """The seconds of the fastest of the calls of a tenth of a second; the first, which may compile, does not count."""
    call()
    backend.synchronize()
    best = math.inf
    start = end = perf_counter()
    while end - start < 0.1:
        began = perf_counter()
        call()
        backend.synchronize()
        end = perf_counter()
        best = min(best, end - began)
    return best
