"""Attention on a GPU beside torch's scaled_dot_product_attention: forward, and with its backward, in each precision.

    python benchmarks/gpu_attention.py
    python benchmarks/gpu_attention.py --shapes "GPT-2" --precisions bfloat16
    python benchmarks/gpu_attention.py --device cuda:sim --shapes tiny --samples 1    # dry run: figures mean nothing

How cases are measured, compared and recorded says gpu_cases.py. The rival chooses among its own kernels, those of
FlashAttention and cuDNN included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import common
import gpu_cases

PASSES = ("forward", "forward and backward")


class Shape(NamedTuple):
    """Of q, k and v, all (batch, heads, length, size)."""

    batch: int
    heads: int
    length: int
    size: int
    causal: bool

    def flops(self, with_backward: bool) -> int:
        """Two products of matrices forward, five backward; half of each, if it is causal."""
        products = 7 if with_backward else 2
        return products * 2 * self.batch * self.heads * self.length**2 * self.size // (2 if self.causal else 1)


SHAPES = {
    "tiny": Shape(1, 2, 70, 16, True),
    "small GPT": Shape(8, 4, 128, 32, True),
    "GPT-2": Shape(8, 12, 1024, 64, True),
    "long": Shape(1, 16, 4096, 64, True),
    "all of them": Shape(8, 12, 1024, 64, False),
    "wide heads": Shape(4, 16, 1024, 128, True),
}


class Session(gpu_cases.Session):
    """One library's attention."""

    def flops(self, shape: str, name: str, **case: Any) -> int:
        return SHAPES[shape].flops(name != PASSES[0])

    def call(self, shape: str, name: str, precision: str) -> Callable[[], Any]:
        batch, heads, length, size, causal = SHAPES[shape]
        draw = np.random.default_rng(0)

        def drawn() -> Any:
            values = draw.standard_normal((batch, heads, length, size)).astype(np.float32)
            return self.place(values, precision)

        q, k, v, g = (drawn() for _ in range(4))
        attend = self.lib.nn.functional.scaled_dot_product_attention
        if name == PASSES[0]:
            return lambda: attend(q, k, v, is_causal=causal)

        inputs = [x.requires_grad_() for x in (q, k, v)]

        def both() -> Any:
            for x in inputs:
                x.grad = None
            attend(*inputs, is_causal=causal).backward(g)
            return inputs[1].grad  # the last to be computed, from all that goes before

        return both


def main() -> None:
    parser = common.argument_parser(__doc__, "gpu_attention.json")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=[name for name in SHAPES if name != "tiny"])
    gpu_cases.run(__file__, parser, Session, lambda options: [
        {"shape": shape, "name": name, "precision": precision}
        for shape in options.shapes for precision in options.precisions for name in PASSES])


if __name__ == "__main__":
    main()
