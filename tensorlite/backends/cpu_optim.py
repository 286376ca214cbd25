"""The optimizers' update kernels on the CPU: one call updates one parameter and its state, in place.

Contract: `kernel(param, grad, lr, *state, **options)`. `param` is the output; the arrays in `state` are
updated too; `grad` is only read. `lr` (float64) and `step` (float32, incremented here) are 0-d arrays, not
numbers: they change between steps, and a recorded step is replayed with the same arguments. Bias corrections
are computed here for the same reason. Options are Python numbers that stay as they were recorded.

Parameter and gradient may be float16 or bfloat16; the state is then float32, as is the arithmetic, and the
parameter is rounded once. Arrays may have any strides.

How it is fast with NumPy: nothing is allocated per call (scratch and constants belong to the thread), a
constant is a 0-d array (half the time of a Python number in a ufunc), scalars are folded so that a formula
takes few passes, and large arrays go in blocks that stay in the cache from the first pass to the last.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy import absolute, add, copyto, divide, maximum, multiply, negative, sign, sqrt, subtract

from . import Array

BLOCK: Final = 65536  # elements: the fastest of 2**11 to 2**20 for Adam on four float32 arrays
_MAX_SHAPES: Final = 512
_MAX_CONSTANTS: Final = 10
_FLOAT32: Final = np.dtype(np.float32)


class _Workspace(threading.local):
    """Scratch arrays and constants of one thread, made once and used by every update."""

    def __init__(self) -> None:
        self._scratch: dict[tuple[int, tuple[int, ...], str], list[Array]] = {}
        self._constants: dict[str, list[Array]] = {}

    def scratch(self, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Array]:
        """`count` arrays of unspecified contents, the same ones at the next call."""
        key = (count, shape, dtype.char)
        arrays = self._scratch.get(key)
        if arrays is None:
            arrays = [np.empty(shape, dtype) for _ in range(count)]
            if arrays[0].size <= BLOCK:
                if len(self._scratch) >= _MAX_SHAPES:
                    self._scratch.clear()
                self._scratch[key] = arrays
        return arrays

    def constants(self, param: Array, *values: float) -> list[Array]:
        """The values as 0-d arrays of the dtype `param` is computed in, overwritten by the next call."""
        dtype = _compute_dtype(param)
        arrays = self._constants.get(dtype.char)
        if arrays is None:
            arrays = self._constants[dtype.char] = [np.zeros((), dtype) for _ in range(_MAX_CONSTANTS)]
        for array, value in zip(arrays, values, strict=False):
            array[()] = value
        return arrays[: len(values)]


_workspace: Final = _Workspace()


def _compute_dtype(param: Array) -> np.dtype[Any]:
    dtype: np.dtype[Any] = param.dtype
    return dtype if dtype.itemsize > 2 else _FLOAT32


def _blocks(scratches: int, *arrays: Array | None) -> Iterable[list[Array]]:
    """Matching parts of the arrays (parameter, gradient, state ...), each followed by scratch of its shape.

    Changing a part in place changes the arrays; parameter and gradient arrive widened to float32 at least.
    """
    param = arrays[0]
    if param.size <= BLOCK and param.dtype.itemsize > 2:
        return ([*arrays, *_workspace.scratch(scratches, param.shape, param.dtype)],)
    return _many_blocks(scratches, arrays)


def _many_blocks(scratches: int, arrays: tuple[Array | None, ...]) -> Iterator[list[Array]]:
    param = arrays[0]
    if all(a is None or a.flags.c_contiguous for a in arrays):
        arrays = tuple([None if a is None else a.reshape(-1) for a in arrays])
        param = arrays[0]
    if not param.size:
        return
    narrow = param.dtype.itemsize <= 2
    rows = max(1, BLOCK * len(param) // param.size)
    for start in range(0, len(param), rows):
        part = [None if a is None else a[start : start + rows] for a in arrays]
        if not narrow:
            yield [*part, *_workspace.scratch(scratches, part[0].shape, param.dtype)]
            continue
        wide, grad, *scratch = _workspace.scratch(scratches + 2, part[0].shape, _FLOAT32)
        copyto(wide, part[0], casting="unsafe")
        copyto(grad, part[1], casting="unsafe")
        yield [wide, grad, *part[2:], *scratch]
        copyto(part[0], wide, casting="unsafe")


def _advance(step: Array) -> float:
    """Count one step; return its number, from 1."""
    count = float(step) + 1.0
    step[()] = count
    return count


def _direction(g: Array, p: Array, out: Array, decay: Array, weight_decay: float, maximize: bool) -> Array:
    """±g + weight_decay·p, in `out` unless it is g itself. `decay` is weight_decay as a constant."""
    if weight_decay:
        multiply(p, decay, out)
        (subtract if maximize else add)(out, g, out)
        return out
    return negative(g, out) if maximize else g


def _lerp(average: Array, x: Array, keep: Array, take: Array, s: Array) -> None:
    """average ← keep·average + take·x."""
    multiply(average, keep, average)
    multiply(x, take, s)
    add(average, s, average)


def _lerp_square(average: Array, x: Array, keep: Array, take: Array, s: Array) -> None:
    """average ← keep·average + take·x²."""
    multiply(average, keep, average)
    multiply(x, x, s)
    multiply(s, take, s)
    add(average, s, average)


def sgd_step(param: Array, grad: Array, lr: Array, momentum_buffer: Array | None, *, momentum: float,
             dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
    """d = ±g + λp;  b ← μb + (1-τ)d;  p ← p - lr·(d + μb if nesterov else b)."""
    rate, mu, undamped, decay = _workspace.constants(param, float(lr), momentum, 1 - dampening, weight_decay)
    for p, g, b, s, d in _blocks(2, param, grad, momentum_buffer):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        if b is not None:
            multiply(b, mu, b)
            add(b, multiply(d, undamped, s) if dampening else d, b)
            d = add(multiply(b, mu, s), d, s) if nesterov else b
        multiply(d, rate, s)
        subtract(p, s, p)


def adam_step(param: Array, grad: Array, lr: Array, step: Array, exp_avg: Array, exp_avg_sq: Array,
              max_exp_avg_sq: Array | None, *, beta1: float, beta2: float, eps: float, weight_decay: float,
              decoupled_weight_decay: bool, maximize: bool) -> None:
    """m, v ← averages of g and g²;  p ← p - lr/(1-β₁ᵗ) · m / (√v/√(1-β₂ᵗ) + ε).

    Numerator and denominator are multiplied by √(1-β₂ᵗ), which saves a pass.
    """
    t, rate = _advance(step), float(lr)
    root = math.sqrt(1 - beta2**t)
    size = rate * root / (1 - beta1**t)
    coupled = 0.0 if decoupled_weight_decay else weight_decay
    shrink = decoupled_weight_decay and weight_decay != 0
    keep1, take1, keep2, take2, floor, size_, decay, factor = _workspace.constants(
        param, beta1, 1 - beta1, beta2, 1 - beta2, eps * root, size, coupled, 1 - rate * weight_decay
    )
    for p, g, m, v, top, s, d in _blocks(2, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq):
        d = _direction(g, p, d, decay, coupled, maximize)
        if shrink:
            multiply(p, factor, p)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        sqrt(v if top is None else maximum(top, v, out=top), s)
        add(s, floor, s)
        divide(m, s, s)
        multiply(s, size_, s)
        subtract(p, s, p)


def rmsprop_step(param: Array, grad: Array, lr: Array, step: Array, square_avg: Array,
                 momentum_buffer: Array | None, grad_avg: Array | None, *, alpha: float, eps: float,
                 weight_decay: float, momentum: float, maximize: bool) -> None:
    """v ← average of d²;  p ← p - lr·d/(√(v - c²) + ε), where c is the average of d if centered, else 0."""
    _advance(step)
    keep, take, floor, mu, rate, decay = _workspace.constants(
        param, alpha, 1 - alpha, eps, momentum, float(lr), weight_decay
    )
    for p, g, v, b, centre, s, d in _blocks(2, param, grad, square_avg, momentum_buffer, grad_avg):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        _lerp_square(v, d, keep, take, s)
        if centre is None:
            sqrt(v, s)
        else:
            _lerp(centre, d, keep, take, s)
            multiply(centre, centre, s)
            sqrt(subtract(v, s, s), s)
        add(s, floor, s)
        divide(d, s, s)
        if b is not None:
            multiply(b, mu, b)
            s = multiply(add(b, s, b), rate, s)
        else:
            multiply(s, rate, s)
        subtract(p, s, p)


def adagrad_step(param: Array, grad: Array, lr: Array, step: Array, total: Array, *, lr_decay: float,
                 eps: float, weight_decay: float, maximize: bool) -> None:
    """Σ ← Σ + d²;  p ← p - lr/(1 + (t-1)·lr_decay) · d / (√Σ + ε)."""
    t = _advance(step)
    floor, rate, decay = _workspace.constants(param, eps, float(lr) / (1 + (t - 1) * lr_decay), weight_decay)
    for p, g, v, s, d in _blocks(2, param, grad, total):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        multiply(d, d, s)
        add(v, s, v)
        sqrt(v, s)
        add(s, floor, s)
        divide(d, s, s)
        multiply(s, rate, s)
        subtract(p, s, p)


def adadelta_step(param: Array, grad: Array, lr: Array, step: Array, square_avg: Array, acc_delta: Array, *,
                  rho: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """v ← average of d²;  Δ = √(a + ε) / √(v + ε) · d;  a ← average of Δ²;  p ← p - lr·Δ."""
    _advance(step)
    keep, take, floor, rate, decay = _workspace.constants(param, rho, 1 - rho, eps, float(lr), weight_decay)
    for p, g, v, a, s, delta, d in _blocks(3, param, grad, square_avg, acc_delta):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        _lerp_square(v, d, keep, take, s)
        sqrt(add(v, floor, s), s)
        sqrt(add(a, floor, delta), delta)
        divide(delta, s, delta)
        multiply(delta, d, delta)
        _lerp_square(a, delta, keep, take, s)
        multiply(delta, rate, s)
        subtract(p, s, p)


def adamax_step(param: Array, grad: Array, lr: Array, step: Array, exp_avg: Array, exp_inf: Array, *,
                beta1: float, beta2: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """m ← average of d;  u ← max(β₂u, |d| + ε);  p ← p - lr/(1-β₁ᵗ) · m/u."""
    t = _advance(step)
    keep1, take1, keep2, floor, size, decay = _workspace.constants(
        param, beta1, 1 - beta1, beta2, eps, float(lr) / (1 - beta1**t), weight_decay
    )
    for p, g, m, u, s, d in _blocks(2, param, grad, exp_avg, exp_inf):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        _lerp(m, d, keep1, take1, s)
        multiply(u, keep2, u)
        absolute(d, s)
        maximum(u, add(s, floor, s), out=u)
        divide(m, u, s)
        multiply(s, size, s)
        subtract(p, s, p)


def nadam_step(param: Array, grad: Array, lr: Array, step: Array, mu_product: Array, exp_avg: Array,
               exp_avg_sq: Array, *, beta1: float, beta2: float, eps: float, weight_decay: float,
               momentum_decay: float, decoupled_weight_decay: bool, maximize: bool) -> None:
    """Adam with Nesterov momentum: p ← p - lr·(a·d + b·m) / (√(v/(1-β₂ᵗ)) + ε).

    μₜ = β₁(1 - 0.96^(ψt)/2), a = (1-μₜ)/(1-Πμ), b = μₜ₊₁/(1-Πμ·μₜ₊₁). The product Πμ is kept in float32, as
    PyTorch keeps it.
    """
    t, rate = _advance(step), float(lr)
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    next_mu = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    multiply(mu_product, np.float32(mu), mu_product)
    product = float(mu_product)
    of_grad = rate * (1 - mu) / (1 - product)
    of_average = rate * next_mu / (1 - product * next_mu)
    coupled = 0.0 if decoupled_weight_decay else weight_decay
    shrink = decoupled_weight_decay and weight_decay != 0
    keep1, take1, keep2, take2, unbias, floor, part_d, part_m, decay, factor = _workspace.constants(
        param, beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta2**t), eps, of_grad, of_average, coupled,
        1 - rate * weight_decay,
    )
    for p, g, m, v, s, n, d in _blocks(3, param, grad, exp_avg, exp_avg_sq):
        if shrink:
            multiply(p, factor, p)
        d = _direction(g, p, d, decay, coupled, maximize)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        multiply(d, part_d, n)
        add(n, multiply(m, part_m, s), n)
        sqrt(multiply(v, unbias, s), s)
        add(s, floor, s)
        subtract(p, divide(n, s, s), p)


def radam_step(param: Array, grad: Array, lr: Array, step: Array, exp_avg: Array, exp_avg_sq: Array, *,
               beta1: float, beta2: float, eps: float, weight_decay: float, decoupled_weight_decay: bool,
               maximize: bool) -> None:
    """Adam whose adaptive rate waits until its variance is known, rectified from then on.

    With length = 2/(1-β₂) - 1 - 2tβ₂ᵗ/(1-β₂ᵗ) of the averaging window:
    p ← p - lr/(1-β₁ᵗ) · m · (r·√(1-β₂ᵗ)/(√v + ε) if length > 5 else 1).
    """
    t, rate = _advance(step), float(lr)
    bias2 = 1 - beta2**t
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / bias2
    rectified = length > 5
    size = rate / (1 - beta1**t)
    if rectified:
        size *= math.sqrt(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) * bias2
        )
    coupled = 0.0 if decoupled_weight_decay else weight_decay
    shrink = decoupled_weight_decay and weight_decay != 0
    keep1, take1, keep2, take2, floor, size_, decay, factor = _workspace.constants(
        param, beta1, 1 - beta1, beta2, 1 - beta2, eps, size, coupled, 1 - rate * weight_decay
    )
    for p, g, m, v, s, d in _blocks(2, param, grad, exp_avg, exp_avg_sq):
        if shrink:
            multiply(p, factor, p)
        d = _direction(g, p, d, decay, coupled, maximize)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        multiply(m, size_, d)
        if rectified:
            sqrt(v, s)
            divide(d, add(s, floor, s), d)
        subtract(p, d, p)


def rprop_step(param: Array, grad: Array, lr: Array, step: Array, prev: Array, step_size: Array, *,
               eta_minus: float, eta_plus: float, step_min: float, step_max: float, maximize: bool) -> None:
    """Δ grows by η₊ where the sign of the gradient stays and shrinks by η₋ where it turns; p ← p - sign(g)·Δ.

    Where it turns, this step does not move and the next one takes the gradient as new.
    """
    _advance(step)
    for p, g, before, size, s, d in _blocks(2, param, grad, prev, step_size):
        copyto(d, g)
        if maximize:
            negative(d, d)
        multiply(d, before, s)
        turned = s < 0
        multiply(size, eta_plus, out=size, where=s > 0)
        multiply(size, eta_minus, out=size, where=turned)
        np.clip(size, step_min, step_max, out=size)
        copyto(d, 0, where=turned)
        copyto(before, d)
        subtract(p, multiply(sign(d, d), size, d), p)


def asgd_step(param: Array, grad: Array, lr: Array, step: Array, eta: Array, mu: Array, ax: Array, *,
              lambd: float, alpha: float, t0: float, weight_decay: float, maximize: bool) -> None:
    """p ← (1 - λη)p - ηd;  ax ← ax + μ(p - ax);  then η = lr/(1 + λ·lr·t)^alpha, μ = 1/max(1, t - t0)."""
    t, rate = _advance(step), float(lr)
    shrink, size, weight, decay = _workspace.constants(
        param, 1 - lambd * float(eta), float(eta), float(mu), weight_decay
    )
    for p, g, average, s, d in _blocks(2, param, grad, ax):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        multiply(d, size, s)
        multiply(p, shrink, p)
        subtract(p, s, p)
        multiply(subtract(p, average, s), weight, s)
        add(average, s, average)
    eta[()] = rate / (1 + lambd * rate * t) ** alpha
    mu[()] = 1 / max(1.0, t - t0)


def lion_step(param: Array, grad: Array, lr: Array, exp_avg: Array, *, beta1: float, beta2: float,
              weight_decay: float) -> None:
    """p ← (1 - lr·λ)p - lr·sign(β₁m + (1-β₁)g);  m ← β₂m + (1-β₂)g."""
    rate = float(lr)
    keep1, take1, keep2, take2, size, factor = _workspace.constants(
        param, beta1, 1 - beta1, beta2, 1 - beta2, rate, 1 - rate * weight_decay
    )
    for p, g, m, s, u in _blocks(2, param, grad, exp_avg):
        if weight_decay:
            multiply(p, factor, p)
        multiply(m, keep1, u)
        sign(add(u, multiply(g, take1, s), u), u)
        subtract(p, multiply(u, size, u), p)
        _lerp(m, g, keep2, take2, s)


def muon_step(param: Array, grad: Array, lr: Array, momentum_buffer: Array, *, momentum: float,
              nesterov: bool, weight_decay: float, ns_coefficients: tuple[float, float, float], eps: float,
              ns_steps: int, match_rms: bool) -> None:
    """b ← average of g;  p ← (1 - lr·λ)p - lr·ratio·O(average of g and b if nesterov else b); O
    orthogonalizes."""
    if not param.size:
        return
    rate, (rows, columns) = float(lr), param.shape
    ratio = 0.2 * math.sqrt(max(rows, columns)) if match_rms else math.sqrt(max(1, rows / columns))
    g = grad.astype(momentum_buffer.dtype, copy=False)
    momentum_buffer += (1 - momentum) * (g - momentum_buffer)
    update = g + momentum * (momentum_buffer - g) if nesterov else momentum_buffer
    update = _orthogonalize(update, ns_coefficients, eps, ns_steps)
    shrunk = param.astype(momentum_buffer.dtype, copy=False) * (1 - rate * weight_decay)
    copyto(param, shrunk - rate * ratio * update, casting="unsafe")


def _orthogonalize(x: Array, coefficients: tuple[float, float, float], eps: float, steps: int) -> Array:
    """Newton-Schulz iterations X ← aX + (bXXᵀ + c(XXᵀ)²)X, which pull the singular values of X to about 1."""
    a, b, c = coefficients
    wide = x.T if x.shape[0] > x.shape[1] else x
    wide = wide / max(float(np.linalg.norm(wide)), eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * (gram @ gram)) @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


KERNELS: Final[dict[str, Callable[..., None]]] = {
    kernel.__name__: kernel
    for kernel in (sgd_step, adam_step, rmsprop_step, adagrad_step, adadelta_step, adamax_step, nadam_step,
                   radam_step, rprop_step, asgd_step, lion_step, muon_step)
}
HANDLES_NARROW: Final = frozenset(KERNELS)
