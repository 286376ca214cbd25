"""The optimizers' update kernels on the CPU: one call updates many parameters and their state, in place.

Contract: `kernel(params, grads, lr, *state, skip=None, **options)`. `params`, `grads` and each entry of `state` are
tuples of one length, or None for a state that the options do without. `params` are the output, all of one dtype; the
arrays in `state` are updated too; gradients are only read. `lr` (float64) and `step` (float32, incremented here) are
0-d arrays, not numbers: they change between steps, and a recorded step is replayed with the same arguments. Bias
corrections are computed here for the same reason. Options are Python numbers that stay as they were recorded. `skip` is
None or a 0-d float32 array: unless it is 0, nothing changes. Parameters that share memory are updated one by one.

Parameters and gradients may be float16 or bfloat16; the state is then float32, as is the arithmetic, and a parameter
is rounded once. Arrays may have any strides. Below, `<kernel>(param, grad, rate, *state, **options)` are the rules for
one parameter. Scalars are folded so that a formula takes few passes; `_*_constants` says how, in the order in which the
rule unpacks them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy import absolute, add, copyto, divide, maximum, multiply, negative, sign, sqrt, subtract

from . import Array
from .cpu_blocks import blocks, workspace

Arrays = tuple[Array, ...]


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


def _split_decay(weight_decay: float, decoupled: bool) -> tuple[float, bool]:
    """The decay that is added to the gradient, and whether the parameter shrinks instead."""
    return (0.0, weight_decay != 0) if decoupled else (weight_decay, False)


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


def _sgd_constants(rate: float, momentum: float, dampening: float, weight_decay: float) -> tuple[float, ...]:
    return rate, momentum, 1 - dampening, weight_decay


def sgd_step(param: Array, grad: Array, rate: float, momentum_buffer: Array | None, *, momentum: float,
             dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
    """d = ±g + λp;  b ← μb + (1-τ)d;  p ← p - lr·(d + μb if nesterov else b)."""
    size, mu, undamped, decay = workspace.constants(
        param, _sgd_constants, rate, momentum, dampening, weight_decay
    )
    for p, g, b, s, d in blocks(2, param, grad, momentum_buffer):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        if b is not None:
            multiply(b, mu, b)
            add(b, multiply(d, undamped, s) if dampening else d, b)
            d = add(multiply(b, mu, s), d, s) if nesterov else b
        multiply(d, size, s)
        subtract(p, s, p)


def _adam_constants(t: float, rate: float, beta1: float, beta2: float, eps: float,
                    weight_decay: float) -> tuple[float, ...]:
    root = math.sqrt(1 - beta2**t)
    size = rate * root / (1 - beta1**t)
    return beta1, 1 - beta1, beta2, 1 - beta2, eps * root, size, weight_decay, 1 - rate * weight_decay


def adam_step(param: Array, grad: Array, rate: float, step: Array, exp_avg: Array, exp_avg_sq: Array,
              max_exp_avg_sq: Array | None, *, beta1: float, beta2: float, eps: float, weight_decay: float,
              decoupled_weight_decay: bool, maximize: bool) -> None:
    """m, v ← averages of g and g²;  p ← p - lr/(1-β₁ᵗ) · m / (√v/√(1-β₂ᵗ) + ε).

    Numerator and denominator are multiplied by √(1-β₂ᵗ), which saves a pass.
    """
    keep1, take1, keep2, take2, floor, size, decay, factor = workspace.constants(
        param, _adam_constants, _advance(step), rate, beta1, beta2, eps, weight_decay
    )
    coupled, shrink = _split_decay(weight_decay, decoupled_weight_decay)
    for p, g, m, v, top, s, d in blocks(2, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq):
        d = _direction(g, p, d, decay, coupled, maximize)
        if shrink:
            multiply(p, factor, p)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        sqrt(v if top is None else maximum(top, v, out=top), s)
        add(s, floor, s)
        divide(m, s, s)
        multiply(s, size, s)
        subtract(p, s, p)


def _rmsprop_constants(rate: float, alpha: float, eps: float, momentum: float,
                       weight_decay: float) -> tuple[float, ...]:
    return alpha, 1 - alpha, eps, momentum, rate, weight_decay


def rmsprop_step(param: Array, grad: Array, rate: float, step: Array, square_avg: Array,
                 momentum_buffer: Array | None, grad_avg: Array | None, *, alpha: float, eps: float,
                 weight_decay: float, momentum: float, maximize: bool) -> None:
    """v ← average of d²;  p ← p - lr·d/(√(v - c²) + ε), where c is the average of d if centered, else 0."""
    _advance(step)
    keep, take, floor, mu, size, decay = workspace.constants(
        param, _rmsprop_constants, rate, alpha, eps, momentum, weight_decay
    )
    for p, g, v, b, centre, s, d in blocks(2, param, grad, square_avg, momentum_buffer, grad_avg):
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
            s = multiply(add(b, s, b), size, s)
        else:
            multiply(s, size, s)
        subtract(p, s, p)


def _adagrad_constants(t: float, rate: float, lr_decay: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return eps, rate / (1 + (t - 1) * lr_decay), weight_decay


def adagrad_step(param: Array, grad: Array, rate: float, step: Array, total: Array, *, lr_decay: float,
                 eps: float, weight_decay: float, maximize: bool) -> None:
    """Σ ← Σ + d²;  p ← p - lr/(1 + (t-1)·lr_decay) · d / (√Σ + ε)."""
    floor, size, decay = workspace.constants(
        param, _adagrad_constants, _advance(step), rate, lr_decay, eps, weight_decay
    )
    for p, g, v, s, d in blocks(2, param, grad, total):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        multiply(d, d, s)
        add(v, s, v)
        sqrt(v, s)
        add(s, floor, s)
        divide(d, s, s)
        multiply(s, size, s)
        subtract(p, s, p)


def _adadelta_constants(rate: float, rho: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return rho, 1 - rho, eps, rate, weight_decay


def adadelta_step(param: Array, grad: Array, rate: float, step: Array, square_avg: Array, acc_delta: Array, *,
                  rho: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """v ← average of d²;  Δ = √(a + ε) / √(v + ε) · d;  a ← average of Δ²;  p ← p - lr·Δ."""
    _advance(step)
    keep, take, floor, size, decay = workspace.constants(
        param, _adadelta_constants, rate, rho, eps, weight_decay
    )
    for p, g, v, a, s, delta, d in blocks(3, param, grad, square_avg, acc_delta):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        _lerp_square(v, d, keep, take, s)
        sqrt(add(v, floor, s), s)
        sqrt(add(a, floor, delta), delta)
        divide(delta, s, delta)
        multiply(delta, d, delta)
        _lerp_square(a, delta, keep, take, s)
        multiply(delta, size, s)
        subtract(p, s, p)


def _adamax_constants(t: float, rate: float, beta1: float, beta2: float, eps: float,
                      weight_decay: float) -> tuple[float, ...]:
    return beta1, 1 - beta1, beta2, eps, rate / (1 - beta1**t), weight_decay


def adamax_step(param: Array, grad: Array, rate: float, step: Array, exp_avg: Array, exp_inf: Array, *,
                beta1: float, beta2: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """m ← average of d;  u ← max(β₂u, |d| + ε);  p ← p - lr/(1-β₁ᵗ) · m/u."""
    keep1, take1, keep2, floor, size, decay = workspace.constants(
        param, _adamax_constants, _advance(step), rate, beta1, beta2, eps, weight_decay
    )
    for p, g, m, u, s, d in blocks(2, param, grad, exp_avg, exp_inf):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        _lerp(m, d, keep1, take1, s)
        multiply(u, keep2, u)
        absolute(d, s)
        maximum(u, add(s, floor, s), out=u)
        divide(m, u, s)
        multiply(s, size, s)
        subtract(p, s, p)


def _nadam_momentum(t: float, beta1: float, momentum_decay: float) -> float:
    return float(beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)))


def _nadam_constants(t: float, rate: float, product: float, beta1: float, beta2: float, eps: float,
                     weight_decay: float, momentum_decay: float) -> tuple[float, ...]:
    mu, next_mu = (_nadam_momentum(time, beta1, momentum_decay) for time in (t, t + 1))
    of_d, of_m = rate * (1 - mu) / (1 - product), rate * next_mu / (1 - product * next_mu)
    return (beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta2**t), eps, of_d, of_m, weight_decay,
            1 - rate * weight_decay)


def nadam_step(param: Array, grad: Array, rate: float, step: Array, mu_product: Array, exp_avg: Array,
               exp_avg_sq: Array, *, beta1: float, beta2: float, eps: float, weight_decay: float,
               momentum_decay: float, decoupled_weight_decay: bool, maximize: bool) -> None:
    """Adam with Nesterov momentum: p ← p - lr·(a·d + b·m) / (√(v/(1-β₂ᵗ)) + ε).

    μₜ = β₁(1 - 0.96^(ψt)/2), a = (1-μₜ)/(1-Πμ), b = μₜ₊₁/(1-Πμ·μₜ₊₁). The product Πμ is kept in float32, as
    PyTorch keeps it.
    """
    t = _advance(step)
    multiply(mu_product, np.float32(_nadam_momentum(t, beta1, momentum_decay)), mu_product)
    keep1, take1, keep2, take2, unbias, floor, of_d, of_m, decay, factor = workspace.constants(
        param, _nadam_constants, t, rate, float(mu_product), beta1, beta2, eps, weight_decay, momentum_decay
    )
    coupled, shrink = _split_decay(weight_decay, decoupled_weight_decay)
    for p, g, m, v, s, n, d in blocks(3, param, grad, exp_avg, exp_avg_sq):
        if shrink:
            multiply(p, factor, p)
        d = _direction(g, p, d, decay, coupled, maximize)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        multiply(d, of_d, n)
        add(n, multiply(m, of_m, s), n)
        sqrt(multiply(v, unbias, s), s)
        add(s, floor, s)
        subtract(p, divide(n, s, s), p)


def _radam_window(t: float, beta2: float) -> float:
    return float(2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t))


def _radam_constants(t: float, rate: float, beta1: float, beta2: float, eps: float,
                     weight_decay: float) -> tuple[float, ...]:
    size = rate / (1 - beta1**t)
    length, longest = _radam_window(t, beta2), 2 / (1 - beta2) - 1
    if length > 5:
        rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        size *= math.sqrt(rectification * (1 - beta2**t))
    return beta1, 1 - beta1, beta2, 1 - beta2, eps, size, weight_decay, 1 - rate * weight_decay


def radam_step(param: Array, grad: Array, rate: float, step: Array, exp_avg: Array, exp_avg_sq: Array, *,
               beta1: float, beta2: float, eps: float, weight_decay: float, decoupled_weight_decay: bool,
               maximize: bool) -> None:
    """Adam whose adaptive rate waits until its variance is known, rectified from then on.

    With length = 2/(1-β₂) - 1 - 2tβ₂ᵗ/(1-β₂ᵗ) of the averaging window:
    p ← p - lr/(1-β₁ᵗ) · m · (r·√(1-β₂ᵗ)/(√v + ε) if length > 5 else 1).
    """
    t = _advance(step)
    rectified = _radam_window(t, beta2) > 5
    keep1, take1, keep2, take2, floor, size, decay, factor = workspace.constants(
        param, _radam_constants, t, rate, beta1, beta2, eps, weight_decay
    )
    coupled, shrink = _split_decay(weight_decay, decoupled_weight_decay)
    for p, g, m, v, s, n, d in blocks(3, param, grad, exp_avg, exp_avg_sq):
        if shrink:
            multiply(p, factor, p)
        d = _direction(g, p, d, decay, coupled, maximize)
        _lerp(m, d, keep1, take1, s)
        _lerp_square(v, d, keep2, take2, s)
        multiply(m, size, n)
        if rectified:
            sqrt(v, s)
            divide(n, add(s, floor, s), n)
        subtract(p, n, p)


def rprop_step(param: Array, grad: Array, rate: float, step: Array, prev: Array, step_size: Array, *,
               eta_minus: float, eta_plus: float, step_min: float, step_max: float, maximize: bool) -> None:
    """Δ grows by η₊ where the sign of the gradient stays and shrinks by η₋ where it turns; p ← p - sign(g)·Δ.

    Where it turns, this step does not move and the next one takes the gradient as new.
    """
    _advance(step)
    for p, g, before, size, s, d in blocks(2, param, grad, prev, step_size):
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


def _asgd_constants(lambd: float, eta: float, mu: float, weight_decay: float) -> tuple[float, ...]:
    return 1 - lambd * eta, eta, mu, weight_decay


def asgd_step(param: Array, grad: Array, rate: float, step: Array, eta: Array, mu: Array, ax: Array, *,
              lambd: float, alpha: float, t0: float, weight_decay: float, maximize: bool) -> None:
    """p ← (1 - λη)p - ηd;  ax ← ax + μ(p - ax);  then η = lr/(1 + λ·lr·t)^alpha, μ = 1/max(1, t - t0)."""
    t = _advance(step)
    shrink, size, weight, decay = workspace.constants(
        param, _asgd_constants, lambd, float(eta), float(mu), weight_decay
    )
    for p, g, average, s, d in blocks(2, param, grad, ax):
        d = _direction(g, p, d, decay, weight_decay, maximize)
        multiply(d, size, s)
        multiply(p, shrink, p)
        subtract(p, s, p)
        multiply(subtract(p, average, s), weight, s)
        add(average, s, average)
    eta[()] = rate / (1 + lambd * rate * t) ** alpha
    mu[()] = 1 / max(1.0, t - t0)


def _lion_constants(rate: float, beta1: float, beta2: float, weight_decay: float) -> tuple[float, ...]:
    return beta1, 1 - beta1, beta2, 1 - beta2, rate, 1 - rate * weight_decay


def lion_step(param: Array, grad: Array, rate: float, exp_avg: Array, *, beta1: float, beta2: float,
              weight_decay: float) -> None:
    """p ← (1 - lr·λ)p - lr·sign(β₁m + (1-β₁)g);  m ← β₂m + (1-β₂)g."""
    keep1, take1, keep2, take2, size, factor = workspace.constants(
        param, _lion_constants, rate, beta1, beta2, weight_decay
    )
    for p, g, m, s, u in blocks(2, param, grad, exp_avg):
        if weight_decay:
            multiply(p, factor, p)
        multiply(m, keep1, u)
        sign(add(u, multiply(g, take1, s), u), u)
        subtract(p, multiply(u, size, u), p)
        _lerp(m, g, keep2, take2, s)


def muon_step(param: Array, grad: Array, rate: float, momentum_buffer: Array, *, momentum: float,
              nesterov: bool, weight_decay: float, ns_coefficients: tuple[float, float, float], eps: float,
              ns_steps: int, match_rms: bool) -> None:
    """b ← average of g;  p ← (1 - lr·λ)p - lr·ratio·O((1-μ)g + μb if nesterov else b); O orthogonalizes."""
    if not param.size:
        return
    rows, columns = param.shape
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


def _over_many(rule: Callable[..., None]) -> Callable[..., None]:
    """The kernel that applies a rule to one parameter after the other."""

    def kernel(params: Arrays, grads: Arrays, lr: Array, *states: Arrays | None, skip: Array | None = None,
               **options: Any) -> None:
        if skip is not None and skip:
            return
        rate = float(lr)
        held = [repeat(None) if arrays is None else arrays for arrays in states]
        for param, grad, *state in zip(params, grads, *held, strict=False):
            rule(param, grad, rate, *state, **options)

    return kernel


KERNELS: Final[dict[str, Callable[..., None]]] = {
    rule.__name__: _over_many(rule)
    for rule in (sgd_step, adam_step, rmsprop_step, adagrad_step, adadelta_step, adamax_step, nadam_step, radam_step,
                 rprop_step, asgd_step, lion_step, muon_step)
}
