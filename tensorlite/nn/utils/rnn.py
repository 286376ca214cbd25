"""Sequences of different lengths in one batch: padded to the longest, or packed without padding, under PyTorch's names.

Packed data holds, step by step, the sequences that are that long, from the longest to the shortest. Lengths are numbers
on the host: they say how much is computed. A captured step therefore takes padded sequences, not packed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ... import ops
from ...creation import tensor
from ...errors import ArgumentError, ShapeError
from ...tensor import Tensor

Lengths = Tensor | Sequence[int]


class PackedSequence(NamedTuple):
    """Sequences of different lengths without padding; what pack_padded_sequence gives and recurrent layers take.

    data              (Σ lengths, ...)
    batch_sizes       int64 on the CPU: how many sequences reach each step
    sorted_indices    the order from the longest to the shortest; None where the sequences were in it
    unsorted_indices  its inverse
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same sequences, their data on another device or of another dtype."""
        data = self.data.to(*args, **kwargs)
        return type(self)(data, self.batch_sizes, *[
            None if order is None else order.to(data.device) for order in (self.sorted_indices, self.unsorted_indices)])


def step_sizes(sequence: PackedSequence) -> tuple[int, ...]:
    """How many sequences reach each step, as numbers."""
    return tuple(int(size) for size in sequence.batch_sizes.numpy())


def pad_sequence(sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences (length, ...) of one dtype as one tensor (longest, batch, ...), filled up with padding_value.

    Raises ArgumentError for no sequences or another side than "right" and "left".

    >>> nn.utils.rnn.pad_sequence([tl.tensor([1, 2, 3]), tl.tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    if padding_side not in ("right", "left"):
        raise ArgumentError(f"pad_sequence: padding_side must be 'right' or 'left', got {padding_side!r}")
    if not len(sequences):
        raise ArgumentError("pad_sequence: expected at least one sequence, got none")
    longest = max(len(s) for s in sequences)
    padded = [_lengthened(s, longest - len(s), padding_value, padding_side) for s in sequences]
    return ops.stack(padded, 0 if batch_first else 1)


def _lengthened(sequence: Tensor, by: int, value: float, side: str) -> Tensor:
    ends = (0, by) if side == "right" else (by, 0)
    return ops.pad(sequence, (0, 0) * (sequence.ndim - 1) + ends, value=value)


def unpad_sequence(padded_sequences: Tensor, lengths: Lengths, batch_first: bool = False) -> list[Tensor]:
    """The sequences that pad_sequence has padded on the right.

    >>> nn.utils.rnn.unpad_sequence(tl.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)
    [tensor([1, 2, 3]), tensor([4])]
    """
    rows, counts = padded_sequences if batch_first else padded_sequences.transpose(0, 1), _on_host(lengths)
    if len(counts) != len(rows):
        raise ArgumentError(f"unpad_sequence: {len(counts)} lengths for {len(rows)} sequences; see batch_first")
    return [row[:length] for row, length in zip(rows.unbind(0), counts, strict=True)]


def pack_padded_sequence(input: Tensor, lengths: Lengths, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """The first lengths[b] steps of each sequence b of a tensor (steps, batch, ...), packed.

    With enforce_sorted=False the sequences may come in any order. Raises ArgumentError for lengths that are not
    positive, not decreasing where they must be, or longer than the tensor, ShapeError where their number is wrong.

    >>> nn.utils.rnn.pack_padded_sequence(tl.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True).data
    tensor([1, 4, 2, 3])
    """
    steps = input.transpose(0, 1) if batch_first else input
    counts = np.asarray(_on_host(lengths))
    if counts.shape != steps.shape[1:2]:
        raise ShapeError(f"pack_padded_sequence: expected {steps.shape[1]} lengths for the batch, got {counts.shape}")
    order = np.argsort(-counts, kind="stable")
    is_sorted = bool((np.diff(counts) <= 0).all())
    if enforce_sorted and not is_sorted:
        raise ArgumentError("pack_padded_sequence: lengths must be sorted in decreasing order; pass "
                            "enforce_sorted=False to have the sequences sorted")
    if not counts.size or counts.min() < 1 or counts.max() > steps.shape[0]:
        raise ArgumentError(f"pack_padded_sequence: lengths must lie between 1 and {steps.shape[0]}, "
                            f"got {counts.tolist()}")
    indices: list[Tensor | None] = [None, None]
    if not enforce_sorted:
        indices = [tensor(i, device=input.device) for i in (order, np.argsort(order))]
        steps = ops.index_select(steps, 1, indices[0])
    sizes = tuple(int((counts > time).sum()) for time in range(counts.max()))
    data = ops.packed_steps(ops.narrow(steps, 0, 0, len(sizes)), batch_sizes=sizes)
    return PackedSequence(data, tensor(sizes), *indices)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The inverse of pack_padded_sequence: a tensor (steps, batch, ...) and the lengths, int64 on the CPU.

    Raises ArgumentError where total_length, the number of steps asked for, is below the longest sequence's.

    >>> packed = nn.utils.rnn.pack_sequence([tl.tensor([1, 2, 3]), tl.tensor([4])])
    >>> nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    (tensor([[1, 2, 3],
            [4, 0, 0]]), tensor([3, 1]))
    """
    sizes = step_sizes(sequence)
    if total_length is not None and total_length < len(sizes):
        raise ArgumentError(f"pad_packed_sequence: total_length {total_length} is below the longest sequence's "
                            f"{len(sizes)}")
    padded = ops.padded_steps(sequence.data, batch_sizes=(*sizes, *[0] * ((total_length or len(sizes)) - len(sizes))),
                              batch=sizes[0], value=padding_value)
    lengths = tensor([sum(size > row for size in sizes) for row in range(sizes[0])])
    if sequence.unsorted_indices is not None:
        padded = ops.index_select(padded, 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices.cpu()]
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (length, ...) packed; see pack_padded_sequence.

    >>> nn.utils.rnn.pack_sequence([tl.tensor([1, 2, 3]), tl.tensor([4])]).data
    tensor([1, 4, 2, 3])
    """
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a PackedSequence, in their first order.

    >>> packed = nn.utils.rnn.pack_sequence([tl.tensor([1, 2, 3]), tl.tensor([4])])
    >>> nn.utils.rnn.unpack_sequence(packed)
    [tensor([1, 2, 3]), tensor([4])]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def _on_host(lengths: Lengths) -> list[int]:
    values = lengths.cpu().numpy() if isinstance(lengths, Tensor) else lengths
    if np.ndim(values) != 1:
        raise ShapeError(f"lengths must be a list or a tensor of one dimension, got shape {np.shape(values)}")
    return [int(length) for length in values]
