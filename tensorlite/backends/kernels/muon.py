"""Muon's kernel: momentum, Newton-Schulz iterations by the device's products of matrices, and the step.

Nothing here waits for the device: the norm and the learning rate stay in its memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .. import Array, computing
from . import Instance, KernelBackend, Launcher, optimizer


def muon_step(backend: KernelBackend, kernel: str, params: tuple[Array, ...], args: tuple[Any, ...],
              options: dict[str, Any]) -> None:
    """One step of Muon on matrices; see backends/cpu_optim.py for the arguments."""
    skip = options.get("skip")
    grads, rate, buffers = args
    for param, grad, momentum_buffer in zip(params, grads, buffers, strict=True):
        if not param.size:
            continue
        direction = backend.empty(param.shape, computing(param.dtype))
        backend.kernels["copy"](backend, "copy", direction, (grad,), {})
        optimizer.update(backend, "muon_momentum", (direction,), ((direction,), rate, (momentum_buffer,)), options)
        direction = _orthogonalize(backend, direction, options["ns_coefficients"], options["eps"], options["ns_steps"])
        applied = {"weight_decay": options["weight_decay"], "ratio": _ratio(param.shape, options["match_rms"])}
        optimizer.update(backend, "muon_apply", (param,), ((param,), rate, (direction,)), {**applied, "skip": skip})


def _ratio(shape: tuple[int, ...], match_rms: bool) -> float:
    """By how much the step of a matrix is longer than the learning rate."""
    rows, columns = shape
    return 0.2 * math.sqrt(max(rows, columns)) if match_rms else math.sqrt(max(1, rows / columns))


def _orthogonalize(backend: KernelBackend, x: Array, coefficients: tuple[float, float, float], eps: float,
                   steps: int) -> Array:
    """Newton-Schulz iterations X ← aX + (bXXᵀ + c(XXᵀ)²)X, which pull the singular values of X to about 1."""
    a, b, c = coefficients
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    rows = x.shape[0]

    def result(name: str, shape: tuple[int, ...], *args: Any, **params: Any) -> Array:
        out = backend.empty(shape, x.dtype)
        backend.kernels[name](backend, name, out, args, params)
        return out

    total = result("sum", (1, 1), result("square", x.shape, x), dims=(0, 1))
    norm = result("maximum", (1, 1), result("sqrt", (1, 1), total), eps)
    x = result("div", x.shape, x, norm)
    for _ in range(steps):
        gram = result("matmul", (rows, rows), x, x.T)
        square = result("matmul", (rows, rows), gram, gram)
        polynomial = result("add", gram.shape, result("mul", gram.shape, gram, b), result("mul", gram.shape, square, c))
        x = result("add", x.shape, result("mul", x.shape, x, a), result("matmul", x.shape, polynomial, x))
    return x.T if is_tall else x


TABLE: dict[str, Launcher] = {"muon_step": muon_step}


def instances() -> Iterator[Instance]:
    """None of its own: the rules are in `optimizer`, the rest in other families."""
    return iter(())
