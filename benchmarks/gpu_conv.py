"""Convolutions on a GPU beside torch's, which are cuDNN's: forward and both gradients, in each precision.

    python benchmarks/gpu_conv.py
    python benchmarks/gpu_conv.py --layers "64 to 64, 3x3" --batches 256 --precisions bfloat16
    python benchmarks/gpu_conv.py --device cuda:sim --batches 1 --samples 1       # dry run: its figures mean nothing

How cases are measured, compared and recorded says gpu_cases.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import common
import gpu_cases

PASSES = ("forward", "input gradient", "weight gradient")


class Layer(NamedTuple):
    """A convolution of square images with square kernels."""

    channels: int
    edge: int
    rows: int
    taps: int
    padding: int

    def flops(self, batch: int) -> int:
        """Of any of the three passes."""
        return 2 * batch * self.rows * self.pixels**2 * self.channels * self.taps**2

    @property
    def pixels(self) -> int:
        return self.edge + 2 * self.padding - self.taps + 1


LAYERS = {
    "LeNet, first": Layer(1, 28, 6, 5, 2),
    "LeNet, second": Layer(6, 14, 16, 5, 0),
    "64 to 64, 3x3": Layer(64, 32, 64, 3, 1),
}


class Session(gpu_cases.Session):
    """One library's convolutions."""

    def flops(self, layer: str, batch: int, **case: Any) -> int:
        return LAYERS[layer].flops(batch)

    def call(self, layer: str, batch: int, precision: str, name: str) -> Callable[[], Any]:
        channels, edge, rows, taps, padding = LAYERS[layer]
        random = np.random.default_rng(0)

        def drawn(*shape: int) -> Any:
            return self.place(random.uniform(-1, 1, shape).astype(np.float32), precision)

        x, weight = drawn(batch, channels, edge, edge), drawn(rows, channels, taps, taps)
        bias, g = drawn(rows), drawn(batch, rows, LAYERS[layer].pixels, LAYERS[layer].pixels)
        if name == "forward":
            return lambda: self.lib.conv2d(x, weight, bias, padding=padding)
        if self.library == common.RIVAL:
            gradients = importlib.import_module("torch.nn.grad")
            if name == "input gradient":
                return lambda: gradients.conv2d_input(x.shape, weight, g, padding=padding)
            return lambda: gradients.conv2d_weight(x, weight.shape, g, padding=padding)
        ops = importlib.import_module(f"{self.library}.ops.conv")
        options = {"stride": (1, 1), "padding": (padding,) * 2, "dilation": (1, 1), "groups": 1}
        if name == "input gradient":
            return lambda: ops.conv2d_input_grad(g, weight, None, size=x.shape[2:], **options)
        return lambda: ops.conv2d_weight_grad(g, x, size=weight.shape[2:], **options)


def main() -> None:
    parser = common.argument_parser(__doc__, "gpu_conv.json")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    gpu_cases.run(__file__, parser, Session, lambda options: [
        {"layer": layer, "batch": batch, "precision": precision, "name": name}
        for layer in options.layers for batch in options.batches for precision in options.precisions
        for name in PASSES])


if __name__ == "__main__":
    main()
