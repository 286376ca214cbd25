"""cross_entropy and nll_loss: class scores against class ids or class probabilities.

What 'mean' divides by, where w are the class weights, s the sample weights and y the class ids:

    target          class weights   loss of one sample     'mean' is the sum divided by
    ids             none            -ln p_y                the number of samples not ignored
    ids             w               -w_y ln p_y            Σ w_y over the samples not ignored
    probabilities   none or w       -Σ_c w_c t_c ln p_c    the number of samples

    sample weights multiply the loss of a sample and change no divisor: Σ s·loss / (the same as above).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ... import ops
from ...autograd.autocast import autocasts
from ...backends import Array
from ...dtypes import INTEGER
from ...errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ...tensor import Tensor
from .regression import check_reduction, reduce, weigh_samples


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0, sample_weight: Tensor | None = None) -> Tensor:
    """-ln softmax(x)_y of raw logits x (N, C), (C,) or (N, C, d₁, ...): the class dimension is 1.

    target   class ids of any integer dtype, shape (N,), () or (N, d₁, ...); or probabilities of the input's shape
    weight   (C,) one factor per class; sample_weight (N,) one per sample; the table above says what is divided by
    label_smoothing   in [0, 1]: the target becomes (1-s)·target + s/C
    Samples whose id is ignore_index count neither in the sum nor in the mean. Raises OutOfRangeError "Target 3 is out
    of bounds", ShapeError, DTypeError, ArgumentError.

    >>> F.cross_entropy(tl.tensor([[1., 2., 3.], [1., 0., 0.], [0., 5., 1.]]), tl.tensor([0, 1, 2]))
    tensor(2.6613)
    """
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        raise DTypeError(f"cross_entropy: expected two Tensors, got {type(input).__name__} and "
                         f"{type(target).__name__}; wrap them in tl.tensor(...)")
    if (reduction == "mean" and weight is None and sample_weight is None and not label_smoothing
            and _is_plain(input.array, target.array)):
        return ops.cross_entropy(input, target, ignore_index=ignore_index)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    logp = ops.log_softmax(input, _class_dim("cross_entropy", input))
    options = _Options("cross_entropy", weight, sample_weight, ignore_index, reduction, label_smoothing)
    loss = _with_probabilities if target.dtype.is_floating_point else _with_ids
    return loss(logp, target, options)


def _is_plain(logits: Array, target: Array) -> bool:
    """Whether these are (N, C) and N class ids."""
    return bool(logits.ndim == 2 and target.ndim == 1 and target.dtype.kind in "iu" and len(logits) == len(target))


@autocasts
def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
             reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """-x_y, where the input x holds log-probabilities: cross_entropy without its log_softmax; ids only."""
    if target.dtype.is_floating_point:
        raise DTypeError(f"nll_loss: target must hold class ids of an integer dtype, got {target.dtype.name}; "
                         "use cross_entropy for probabilities, or target.long()")
    return _with_ids(input, target, _Options("nll_loss", weight, sample_weight, ignore_index, reduction, 0.0))


class _Options(NamedTuple):
    """The arguments of a loss besides input and target, and its name for messages."""

    name: str
    weight: Tensor | None
    sample_weight: Tensor | None
    ignore_index: int
    reduction: str
    label_smoothing: float

    def check(self, classes: int) -> None:
        """Raise for an unknown reduction, or class weights of another number."""
        check_reduction(self.reduction)
        if self.weight is not None and self.weight.shape != (classes,):
            raise ShapeError(f"{self.name}: weight tensor should be defined for all {classes} classes, "
                             f"but got weight tensor of shape {self.weight.shape}")


def _class_dim(name: str, input: Tensor) -> int:
    if input.ndim == 0:
        raise ShapeError(f"{name}: input must have a class dimension, shape (N, C), (C,) or (N, C, ...), got ()")
    return 0 if input.ndim == 1 else 1


def _with_ids(logp: Tensor, target: Tensor, options: _Options) -> Tensor:
    name, weight, smoothing = options.name, options.weight, options.label_smoothing
    dim = _class_dim(name, logp)
    classes = logp.shape[dim]
    _check_ids(name, logp, target, dim)
    options.check(classes)
    kept = ops.ne(target, options.ignore_index)
    safe = ops.where(kept, target, 0).long()
    loss = -_pick(logp, dim, safe)
    scale = None if weight is None else weight.detach()[safe]
    if scale is not None:
        loss = loss * scale
    if smoothing:
        weighted = logp if weight is None else logp * _along(weight.detach(), logp.ndim, dim)
        loss = loss * (1 - smoothing) - weighted.sum(dim) * (smoothing / classes)
    loss = ops.where(kept, loss, 0.0)
    if options.sample_weight is not None:
        loss = weigh_samples(loss, options.sample_weight)
    if options.reduction == "none":
        return loss
    if options.reduction == "sum":
        return loss.sum()
    counted = kept.to(loss.dtype) if scale is None else ops.where(kept, scale, 0.0)
    return loss.sum() / counted.sum()


def _check_ids(name: str, logp: Tensor, target: Tensor, dim: int) -> None:
    expected = logp.shape[:dim] + logp.shape[dim + 1:]
    if target.dtype.category != INTEGER:
        raise DTypeError(f"{name}: class ids must be integers, got {target.dtype.name}; convert with .long()")
    if target.shape == expected:
        return
    if target.shape == logp.shape:
        raise DTypeError(f"{name}: a target of the input's shape {logp.shape} holds probabilities, got "
                         f"{target.dtype.name}; convert with .float(), or give class ids of shape {expected}")
    cure = "; write target.squeeze(1)" if target.shape == (*expected, 1) else ""
    if logp.ndim > 1 and target.shape[:1] != logp.shape[:1]:
        rows = target.shape[0] if target.ndim else 1
        cure = f"; input batch_size ({logp.shape[0]}) must match target batch_size ({rows})"
    raise ShapeError(f"{name}: input {logp.shape} needs class ids of shape {expected}, got {target.shape}{cure}")


def _pick(logp: Tensor, dim: int, ids: Tensor) -> Tensor:
    """logp at the class ids. Raises OutOfRangeError naming the first id that is no class, and its position."""
    classes = logp.shape[dim]
    try:
        return logp.gather(dim, ids.unsqueeze(dim)).squeeze(dim)
    except OutOfRangeError:
        raise _no_class(ids, classes) from None


def _no_class(ids: Tensor, classes: int) -> OutOfRangeError:
    """The error that names the first id that is no class, and its position."""
    values = ids.detach().cpu().numpy()
    position = tuple(np.argwhere((values < 0) | (values >= classes))[0].tolist())
    return OutOfRangeError(f"Target {values[position]} is out of bounds: position {position}, {classes} classes")


def _along(weight: Tensor, ndim: int, dim: int) -> Tensor:
    """weight (C,) in a shape that broadcasts along the class dimension."""
    return weight.reshape(-1, *[1] * (ndim - dim - 1))


def _with_probabilities(logp: Tensor, target: Tensor, options: _Options) -> Tensor:
    dim = _class_dim(options.name, logp)
    classes = logp.shape[dim]
    if target.shape != logp.shape:
        raise ShapeError(f"cross_entropy: a floating target holds class probabilities and must have the input's shape "
                         f"{logp.shape}, got {target.shape}; for class ids use an integer dtype: target.long()")
    if options.ignore_index >= 0:
        raise ArgumentError("cross_entropy: ignore_index is not supported for floating point target; "
                            "set the sample_weight of those samples to 0")
    options.check(classes)
    if options.label_smoothing:
        target = target * (1 - options.label_smoothing) + options.label_smoothing / classes
    if options.weight is not None:
        target = target * _along(options.weight.detach(), logp.ndim, dim)
    return reduce(-(logp * target).sum(dim), options.reduction, options.sample_weight)
