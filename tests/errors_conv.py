"""The errors of convolutions and their layers: rows of test_errors.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorlite as tl
from tensorlite import nn

X, W = tl.zeros(2, 3, 5, 5), tl.zeros(4, 3, 3, 3)
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
}
