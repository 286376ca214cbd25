"""Dropout that draws its mask again for the derivative: all that is kept of a mask is the state it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import FLOATING, Array
from . import Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import FLOATS, refusal
from .layout import c_type, dims_fields, element_strides, packed_dims, row_major

FILE = "dropout.cu"
FORK = Instance(FILE, "fork")
WORDS = 4  # of a block, which a thread draws


def dropout_noise(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                  params: dict[str, Any]) -> None:
    """out = the state [seed, counter], which then goes on behind a draw of `count` elements."""
    (state,) = args
    blocks = -(-params["count"] // WORDS)
    plan = backend.plans.get((kernel, blocks))
    if plan is None:
        plan = backend.remember((kernel, blocks), backend.plan(
            FORK, "PP", "Q", [blocks], (1, 1, 1), (1, 1, 1), siblings=_siblings()))
    backend.start(plan, (out, state), backend.address(out), backend.address(state))


def dropout(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = x·scale where the stream from the state `noise` on keeps an element, else x·0."""
    x, noise = args
    if not out.size:
        return
    chance, scale = params["chance"], params["scale"]
    to, source = backend.address(out), backend.address(x)
    aligned = (to | source) % 16 == 0
    key = (kernel, chance, scale, aligned, out.shape, out.dtype.char, out.strides, x.dtype.char, x.strides)
    plan = backend.plans.get(key)
    if plan is None:
        plan = backend.remember(key, _plan(backend, kernel, out, x, chance, scale, aligned))
    backend.start(plan, (out, x, noise), to, source, backend.address(noise))


def _plan(backend: KernelBackend, kernel: str, out: Array, x: Array, chance: float, scale: float,
          aligned: bool) -> Plan:
    if x.dtype != out.dtype or x.dtype.char not in FLOATING:
        raise refusal(kernel, (x,))
    sizes, steps = row_major(out.shape, element_strides(out, out.shape), element_strides(x, out.shape))
    is_dense = aligned and len(sizes) == 1 and steps[0] == (1, 1)
    instance = Instance(FILE, f"{'dense' if is_dense else 'strided'}<{c_type(x.dtype)}>")
    values = [out.size, chance, scale, *packed_dims(kernel, sizes, steps)]
    return backend.plan(instance, "PPP", "qdd" + dims_fields(2), values, *one_dimensional(-(-out.size // WORDS)),
                        siblings=_siblings())


def _siblings() -> list[str]:
    return [instance.expression for instance in instances()]


TABLE: dict[str, Launcher] = {"dropout_noise": dropout_noise, "dropout": dropout}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    yield FORK
    for dtype in FLOATS:
        for template in ("dense", "strided"):
            yield Instance(FILE, f"{template}<{dtype.c_type}>")
