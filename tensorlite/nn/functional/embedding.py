"""Look-ups by integer as functions: embedding, one_hot."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...creation import arange
from ...dtypes import INTEGER, int64
from ...errors import ArgumentError, DTypeError, OutOfRangeError
from ...ops.index import look_up
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
    if padding_idx is not None:
        padding_idx = checked_padding(padding_idx, weight.shape[0])
    try:
        out = look_up(weight, input)
    except OutOfRangeError as error:
        raise OutOfRangeError(f"embedding: {error}") from None
    if padding_idx is None or not weight.requires_grad:
        return out
    return ops.where(ops.eq(input, padding_idx).unsqueeze(-1), out.detach(), out)


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
        classes = tensor.detach().cpu().numpy()
        wrong = tuple(np.argwhere((classes < 0) | (classes >= num_classes))[0].tolist())
        raise OutOfRangeError(f"one_hot: class {classes[wrong]} at position {wrong} is out of range; it must be in "
                              f"[0, {num_classes})")
    return ops.eq(tensor.unsqueeze(-1), arange(num_classes, device=tensor.device)).to(int64)
