"""Look-ups by integer as functions: embedding, one_hot."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...creation import zeros
from ...dtypes import INTEGER, int64
from ...errors import ArgumentError, DTypeError, OutOfRangeError
from ...ops.index import look_up
from ...tensor import Tensor


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows of weight (num, dim) by index: input of any shape and integer dtype, result (*input.shape, dim).

    The row `padding_idx` gets no gradient. With `max_norm` the rows that are looked up and whose norm of order
    norm_type is larger are first scaled down to it, in the weight itself. Raises OutOfRangeError with the value and
    position of a wrong index, ArgumentError for scale_grad_by_freq or sparse, which are PyTorch's alone.

    >>> F.embedding(tl.tensor([1, 0]), tl.tensor([[1., 2.], [3., 4.]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    refuse_options("embedding", scale_grad_by_freq, sparse)
    if not isinstance(input, Tensor):
        raise DTypeError(f"embedding: expected a Tensor of indices, got {type(input).__name__}; wrap it in "
                         "tl.tensor(...)")
    if input.dtype.category != INTEGER:
        raise DTypeError(f"embedding: indices must be integers, got {input.dtype.name}; convert with .long()")
    if padding_idx is not None:
        padding_idx = checked_padding(padding_idx, weight.shape[0])
    try:
        if max_norm is not None:
            _renormalize(weight, input, max_norm, norm_type)
        out = look_up(weight, input)
    except OutOfRangeError as error:
        raise OutOfRangeError(f"embedding: {error}") from None
    if padding_idx is None or not weight.requires_grad:
        return out
    return ops.where(ops.eq(input, padding_idx).unsqueeze(-1), out.detach(), out)


def refuse_options(name: str, scale_grad_by_freq: bool, sparse: bool) -> None:
    """Raise ArgumentError for options of PyTorch that change gradients in ways that are not offered here."""
    if scale_grad_by_freq or sparse:
        wanted = "scale_grad_by_freq" if scale_grad_by_freq else "sparse"
        raise ArgumentError(f"{name}: {wanted}=True is not supported: gradients of tables are dense and add up; leave "
                            "it out")


def _renormalize(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows of an index down to max_norm, in place; a row that is listed twice is written twice alike."""
    table, index = weight.detach(), input.reshape(-1)
    rows = look_up(table, index)
    norms = ops.norm(rows, norm_type, -1, keepdim=True)
    table[index] = ops.where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)


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
    empty = zeros(*tensor.shape, num_classes, dtype=int64, device=tensor.device)
    try:
        return ops.scatter(empty, -1, tensor.unsqueeze(-1), 1)
    except OutOfRangeError:
        classes = tensor.detach().cpu().numpy()
        wrong = tuple(np.argwhere((classes < 0) | (classes >= num_classes))[0].tolist())
        raise OutOfRangeError(f"one_hot: class {classes[wrong]} at position {wrong} is out of range; it must be in "
                              f"[0, {num_classes})") from None
