"""The rows of convolutions. Their references are sums over the positions in the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import FLOATS, Case

from tensorlite import ops

Pair = tuple[int, int]


def convolved(x: Any, w: Any, b: Any = None, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1),
              groups: int = 1) -> Any:
    """The convolution of (N, C, H, W), as F.conv2d describes it."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    height, width = ((n - d * (k - 1) - 1) // s + 1 for n, d, k, s in
                     zip(x.shape[2:], dilation, w.shape[2:], stride, strict=True))
    parts = []
    for channels, filters in zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True):
        out = np.zeros((len(x), len(filters), height, width), x.dtype)
        for r, s in np.ndindex(w.shape[2:]):
            seen = channels[:, :, r * dilation[0]:, s * dilation[1]:][:, :, ::stride[0], ::stride[1]]
            out += np.einsum("nchw,kc->nkhw", seen[:, :, :height, :width], filters[:, :, r, s])
        parts.append(out)
    out = np.concatenate(parts, 1)
    return out if b is None else out + b[:, None, None]


def spread(g: Any, w: Any, b: Any, size: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1),
           groups: int = 1) -> Any:
    """The transpose of `convolved`, for images of `size`: each weight adds its share to where it looked."""
    height, width = g.shape[2:]
    parts = []
    for slopes, filters in zip(np.split(g, groups, 1), np.split(w, groups, 0), strict=True):
        out = np.zeros((len(g), w.shape[1], size[0] + 2 * padding[0], size[1] + 2 * padding[1]), g.dtype)
        for r, s in np.ndindex(w.shape[2:]):
            seen = out[:, :, r * dilation[0]:, s * dilation[1]:][:, :, ::stride[0], ::stride[1]]
            seen[:, :, :height, :width] += np.einsum("nkhw,kc->nchw", slopes, filters[:, :, r, s])
        parts.append(out[:, :, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]])
    out = np.concatenate(parts, 1)
    return out if b is None else out + b[:, None, None]


def weight_slopes(g: Any, x: Any, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair,
                  groups: int) -> Any:
    """The derivative of `convolved` in w, of that shape."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    height, width = g.shape[2:]
    parts = []
    for slopes, channels in zip(np.split(g, groups, 1), np.split(x, groups, 1), strict=True):
        out = np.zeros((slopes.shape[1], *shape[1:]), g.dtype)
        for r, s in np.ndindex(shape[2:]):
            seen = channels[:, :, r * dilation[0]:, s * dilation[1]:][:, :, ::stride[0], ::stride[1]]
            out[:, :, r, s] = np.einsum("nkhw,nchw->kc", slopes, seen[:, :, :height, :width])
        parts.append(out)
    return np.concatenate(parts, 0)


def line(function: Any, **options: Any) -> Any:
    """A reference in one dimension."""
    return lambda x, w, b: function(x[:, :, None], w[:, :, None], b, **options)[:, :, 0]


SKEW: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
RULE: dict[str, Any] = {"dtypes": FLOATS, "nan": False, "strict": False}
CONVOLUTIONS = [
    Case("conv2d", ops.conv2d, convolved, (((2, 3, 5, 4), (2, 3, 2, 3), (2,)), ((0, 1, 3, 3), (1, 1, 3, 3), (1,))),
         dtypes=FLOATS, nan=False),
    Case("conv2d plain", ops.conv2d, convolved, (((1, 2, 3, 3), (3, 2, 1, 1)), ((2, 2, 3, 3), (0, 2, 2, 2))),
         dtypes=FLOATS, nan=False),
    Case("conv2d unbatched", ops.conv2d, lambda x, w: convolved(x[None], w)[0], (((2, 3, 3), (3, 2, 2, 2)),),
         dtypes=FLOATS, nan=False),
    Case("conv2d skew", lambda x, w, b: ops.conv2d(x, w, b, **SKEW), lambda x, w, b: convolved(x, w, b, **SKEW),
         (((2, 4, 5, 3), (4, 2, 3, 2), (4,)),), dtypes=FLOATS, nan=False),
    Case("conv2d depthwise", lambda x, w: ops.conv2d(x, w, padding=1, groups=2),
         lambda x, w: convolved(x, w, padding=(1, 1), groups=2), (((2, 2, 4, 3), (4, 1, 3, 3)),), dtypes=FLOATS,
         nan=False),
    Case("conv1d", lambda x, w, b: ops.conv1d(x, w, b, 2, 1, 2), line(convolved, stride=(1, 2), padding=(0, 1),
                                                                      dilation=(1, 2)),
         (((2, 3, 7), (2, 3, 3), (2,)),), dtypes=FLOATS, nan=False),
    Case("conv_transpose2d", ops.conv_transpose2d, lambda x, w, b: spread(x, w, b, (4, 5)),
         (((2, 3, 3, 3), (3, 2, 2, 3), (2,)), ((0, 1, 3, 3), (1, 1, 2, 3), (1,))), dtypes=FLOATS, nan=False),
    Case("conv_transpose2d skew", lambda x, w: ops.conv_transpose2d(x, w, None, (2, 1), (1, 2), (1, 0), 2, (1, 2)),
         lambda x, w: spread(x, w, None, (4, 3), **SKEW), (((2, 4, 2, 5), (4, 1, 3, 2)),), dtypes=FLOATS, nan=False),
    Case("conv_transpose1d", lambda x, w, b: ops.conv_transpose1d(x, w, b, 2, 1),
         line(spread, size=(1, 5), stride=(1, 2), padding=(0, 1)), (((2, 3, 3), (3, 2, 3), (2,)),), dtypes=FLOATS,
         nan=False),
    Case("conv2d_input_grad", lambda g, w: ops.conv2d_input_grad(g, w, None, size=(6, 3), **SKEW),
         lambda g, w: spread(g, w, None, (6, 3), **SKEW), (((2, 4, 3, 5), (4, 2, 3, 2)),), **RULE),
    Case("conv2d_weight_grad", lambda g, x: ops.conv2d_weight_grad(g, x, size=(3, 2), **SKEW),
         lambda g, x: weight_slopes(g, x, (4, 2, 3, 2), **SKEW), (((2, 4, 3, 5), (2, 4, 6, 3)),), **RULE),
]
