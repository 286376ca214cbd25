"""Look-ups by integer as functions: embedding, one_hot."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...creation import arange
from ...dtypes import INTEGER, int64
from ...errors import ArgumentError, DTypeError, OutOfRangeError
from ...tensor import Tensor


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of weight (num, dim) by index: input of any shape and integer dtype, result (*input.shape, dim).

    The row `padding_idx` gets no gradient. Raises OutOfRangeError with the value and position of a wrong index.

    >>> F.embedding(tl.tensor([1, 0]), tl.tensor([[1., 2.], [3., 4.]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    if input.dtype.category != INTEGER:
        raise DTypeError(f"embedding: indices must be integers, got {input.dtype.name}; convert with .long()")
    rows = weight.shape[0]
    if padding_idx is not None:
        padding_idx = checked_padding(padding_idx, rows)
    try:
        found = ops.index_select(weight, 0, _refuse_negative(input.long(), rows).reshape(-1))
    except OutOfRangeError:
        raise _out_of_range("embedding: index", input, rows) from None
    out = found.reshape(*input.shape, weight.shape[1])
    if padding_idx is None or not weight.requires_grad:
        return out
    return ops.where(ops.eq(input, padding_idx).unsqueeze(-1), out.detach(), out)


def _refuse_negative(index: Tensor, size: int) -> Tensor:
    """The index with `size`, which every look-up refuses, for negative values, which would count from the end."""
    return ops.where(ops.lt(index, 0), size, index)


def _out_of_range(what: str, index: Tensor, size: int) -> OutOfRangeError:
    """The error that names the first value outside [0, size), and its position."""
    values = index.detach().cpu().numpy()
    wrong = tuple(np.argwhere((values < 0) | (values >= size))[0].tolist())
    return OutOfRangeError(f"{what} {values[wrong]} at position {wrong} is out of range; it must be in [0, {size})")


def checked_padding(padding_idx: int, rows: int) -> int:
    """padding_idx counted from the front. Raises ArgumentError if there is no such row."""
    if not -rows <= padding_idx < rows:
        raise ArgumentError(f"padding_idx must be within num_embeddings: {padding_idx} is not in [{-rows}, {rows})")
    return padding_idx % rows


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 zeros of shape (*tensor.shape, num_classes) with a 1 at each class; -1 means the largest class + 1.

    Raises OutOfRangeError for a class that is negative or not below num_classes.

    >>> F.one_hot(tl.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.dtype.category != INTEGER:
        raise DTypeError(f"one_hot: classes must be integers, got {tensor.dtype.name}; convert with .long()")
    if num_classes == -1:
        if not tensor.numel():
            raise ArgumentError("one_hot: num_classes cannot be inferred from an empty tensor; pass it")
        num_classes = int(tensor.max().item()) + 1
    if bool(ops.logical_or(ops.lt(tensor, 0), ops.ge(tensor, num_classes)).any()):
        raise _out_of_range("one_hot: class", tensor, num_classes)
    return ops.eq(tensor.unsqueeze(-1), arange(num_classes, device=tensor.device)).to(int64)
