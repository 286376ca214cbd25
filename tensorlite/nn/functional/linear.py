"""Affine maps as functions."""

from __future__ import annotations

from ... import ops
from ...autograd.autocast import autocasts
from ...errors import ShapeError
from ...tensor import Tensor


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: input (..., in), weight (out, in), bias (out,), result (..., out).

    Raises ShapeError that names the expected last dimension.

    >>> F.linear(tl.ones(1, 2), tl.tensor([[1., 2.]]), tl.tensor([0.5]))
    tensor([[3.5000]])
    """
    return ops.linear(input, weight, bias)


@autocasts
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_k = x₁ᵀ W_k x₂ + b_k: inputs (..., in1) and (..., in2), weight (out, in1, in2), result (..., out)."""
    ends = (*input1.shape[-1:], *input2.shape[-1:])
    if ends != weight.shape[1:] or input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(f"bilinear expects inputs (..., in1) and (..., in2) for a weight (out, in1, in2), "
                         f"got {input1.shape}, {input2.shape} and weight {weight.shape}")
    products = ops.matmul(input1.reshape(-1, 1, 1, input1.shape[-1]), weight)  # (N, out, 1, in2)
    out = ops.matmul(products, input2.reshape(-1, 1, input2.shape[-1], 1))  # (N, out, 1, 1)
    out = out.reshape(*input1.shape[:-1], weight.shape[0])
    return out if bias is None else out + bias
