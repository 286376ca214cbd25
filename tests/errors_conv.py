"""The errors of convolutions and their layers, and of what derives them and pooling: rows of test_errors.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorlite as tl
from tensorlite import nn, ops
from tensorlite.ops.pool import Windows

X, W = tl.zeros(2, 3, 5, 5), tl.zeros(4, 3, 3, 3)
OPTIONS: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
HALVES = Windows((2, 2), (2, 2), (2, 2), (0, 0), (1, 1))


def input_grad(grad: tl.Tensor, size: tuple[int, int] = (5, 5), **options: Any) -> tl.Tensor:
    return ops.conv2d_input_grad(grad, W, None, size=size, **{**OPTIONS, **options})


def weight_grad(grad: tl.Tensor, x: tl.Tensor = X, size: tuple[int, int] = (3, 3), **options: Any) -> tl.Tensor:
    return ops.conv2d_weight_grad(grad, x, size=size, **{**OPTIONS, **options})


ROWS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "conv2d channels": (lambda: tl.conv2d(tl.zeros(2, 1, 5, 5), W),
                        tl.ShapeError, r"\(4, 3, 3, 3\).*expects 3 input channels, got 1"),
    "conv2d groups": (lambda: tl.conv2d(X, W, groups=3), tl.ShapeError, "divide the 4 output channels"),
    "conv2d groups 0": (lambda: tl.conv2d(X, W, groups=0), tl.ShapeError, "groups=0"),
    "conv2d bias shape": (lambda: tl.conv2d(X, W, tl.zeros(3)),
                          tl.ShapeError, r"bias has shape \(3,\), expected \(4,\)"),
    "conv2d small input": (lambda: tl.conv2d(tl.zeros(2, 3, 2, 5), W),
                           tl.ShapeError, r"kernel \(3, 3\).*does not fit.*\(2, 3, 2, 5\)"),
    "conv2d dimensions": (lambda: tl.conv2d(tl.zeros(5, 5), W), tl.ShapeError, r"\(N, C, H, W\) or \(C, H, W\)"),
    "conv1d dimensions": (lambda: tl.conv1d(X, W), tl.ShapeError, r"\(N, C, L\) or \(C, L\)"),
    "conv2d dtypes": (lambda: tl.conv2d(X, W.double()), tl.DTypeError, "one dtype"),
    "conv2d integers": (lambda: tl.conv2d(X.long(), W.long()), tl.DTypeError, "floating dtype, got int64"),
    "conv2d array": (lambda: tl.conv2d(np.zeros((1, 3, 5, 5)), W), tl.DTypeError, "expected a Tensor, got ndarray"),
    "conv2d bias number": (lambda: tl.conv2d(X, W, 2), tl.DTypeError, "expected a Tensor, got int"),
    "conv2d stride": (lambda: tl.conv2d(X, W, stride=0), tl.ArgumentError, "stride must be an integer >= 1"),
    "conv2d padding": (lambda: tl.conv2d(X, W, padding=(1, 2, 3)),
                       tl.ArgumentError, "padding must be an integer >= 0 or a tuple of 2"),
    "conv2d stride of a half": (lambda: tl.conv2d(X, W, stride=1.5), tl.ArgumentError, "got 1.5"),
    "conv2d padding name": (lambda: tl.conv2d(X, W, padding="full"), tl.ArgumentError, "'same', 'valid'"),
    "conv2d same stride": (lambda: tl.conv2d(X, W, None, 2, "same"), tl.ArgumentError, "needs stride 1"),
    "conv_transpose2d channels": (lambda: tl.conv_transpose2d(X, W), tl.ShapeError, "expects 4 input channels, got 3"),
    "conv_transpose2d groups": (lambda: tl.conv_transpose2d(tl.zeros(2, 4, 5, 5), W, groups=3),
                                tl.ShapeError, "divide the 4 input channels"),
    "conv_transpose2d empty": (lambda: tl.conv_transpose2d(tl.zeros(2, 4, 1, 1), W, padding=2),
                               tl.ShapeError, "would be empty"),
    "conv_transpose2d output_padding": (lambda: tl.conv_transpose2d(tl.zeros(2, 4, 1, 1), W, output_padding=1),
                                        tl.ArgumentError, "must be less than"),
    "Conv2d groups": (lambda: nn.Conv2d(3, 4, 3, groups=2),
                      tl.ArgumentError, "groups=2, in_channels=3, out_channels=4"),
    "Conv2d kernel_size": (lambda: nn.Conv2d(3, 4, (3, 3, 3)), tl.ArgumentError, "Conv2d: kernel_size .* tuple of 2"),
    "Conv2d padding": (lambda: nn.Conv2d(3, 4, 3, padding="full"), tl.ArgumentError, "'same', 'valid'"),
    "Conv2d same stride": (lambda: nn.Conv2d(3, 4, 3, 2, "same"), tl.ArgumentError, "needs stride 1"),
    "Conv2d padding_mode": (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
                            tl.ArgumentError, "padding_mode must be one of"),
    "ConvTranspose2d padding_mode": (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"),
                                     tl.ArgumentError, "must be 'zeros'"),
    "ConvTranspose2d padding": (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"),
                                tl.ArgumentError, "an integer or a tuple, got 'same'"),
    "ConvTranspose1d output_size": (lambda: nn.ConvTranspose1d(3, 4, 3)(tl.zeros(1, 3, 4), (9,)),
                                    tl.ShapeError, r"is not one of \(6,\) to \(6,\)"),
    # Derivatives by themselves: kernels that believed these shapes would read and write beyond their arrays.
    "input_grad channels": (lambda: input_grad(tl.zeros(2, 1, 3, 3)), tl.ShapeError, r"\(2, 1, 3, 3\) is none of a"),
    "input_grad dimensions": (lambda: input_grad(tl.zeros(4, 3, 3)), tl.ShapeError, r"gradient of shape \(4, 3, 3\)"),
    "input_grad size": (lambda: input_grad(tl.zeros(2, 4, 3, 4)), tl.ShapeError, r"\(2, 3, 5, 5\) with a weight"),
    "input_grad groups": (lambda: input_grad(tl.zeros(2, 4, 3, 3), groups=3), tl.ShapeError, "groups=3, stride"),
    "weight_grad images": (lambda: weight_grad(tl.zeros(3, 4, 3, 3)), tl.ShapeError, r"\(3, 4, 3, 3\) is none of a"),
    "weight_grad dimensions": (lambda: weight_grad(tl.zeros(2, 4)), tl.ShapeError, r"a gradient of shape \(2, 4\)"),
    "weight_grad size": (lambda: weight_grad(tl.zeros(2, 4, 4, 3)), tl.ShapeError, "conv2d_weight_grad: a gradient"),
    "weight_grad groups": (lambda: weight_grad(tl.zeros(2, 4, 3, 3), groups=2), tl.ShapeError, r"groups=2"),
    "max_pool2d_grad": (lambda: ops.max_pool2d_grad(tl.ones(1, 1, 1, 1), tl.ones(3, 2, 4, 4), windows=HALVES),
                        tl.ShapeError, r"gradient of shape \(1, 1, 1, 1\), where it must be \(3, 2, 2, 2\)"),
    "max_pool2d_pick": (lambda: ops.max_pool2d_pick(tl.ones(1, 1, 4, 4), tl.ones(3, 2, 4, 4), windows=HALVES),
                        tl.ShapeError, r"max_pool2d_pick: .* where it must be \(3, 2, 4, 4\)"),
}
