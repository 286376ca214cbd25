"""cross_entropy and nll_loss: class scores against class ids or class probabilities.

What 'mean' divides by, where w are the class weights, s the sample weights and y the class ids:

    target          class weights   loss of one sample     'mean' is the sum divided by
    ids             none            -ln p_y                the number of samples not ignored
    ids             w               -w_y ln p_y            Σ w_y over the samples not ignored
    probabilities   none or w       -Σ_c w_c t_c ln p_c    the number of samples

    sample weights multiply the loss of a sample and change no divisor: Σ s·loss / (the same as above).
"""

from __future__ import annotations

import numpy as np

from ... import ops
from ...dtypes import INTEGER
from ...errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ...tensor import Tensor
from .embedding import refuse_negative
from .regression import check_reduction, weigh_samples


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0, sample_weight: Tensor | None = None) -> Tensor:
    """-ln softmax(x)_y of raw logits x (N, C), (C,) or (N, C, d₁, ...): the class dimension is 1.

    target   class ids of any integer dtype, shape (N,), () or (N, d₁, ...); or probabilities of the input's shape
    weight   (C,) one factor per class; sample_weight (N,) one per sample; the table above says what is divided by
    label_smoothing   in [0, 1]: the target becomes (1-s)·target + s/C
    Samples whose id is ignore_index count neither in the sum nor in the mean. Raises OutOfRangeError "Target 3 is out
    of bounds.", ShapeError, DTypeError, ArgumentError.

    >>> F.cross_entropy(tl.tensor([[1., 2., 3.], [1., 0., 0.], [0., 5., 1.]]), tl.tensor([0, 1, 2]))
    tensor(2.6613)
    """
    if (reduction == "mean" and weight is None and sample_weight is None and not label_smoothing
            and input.ndim == 2 and target.ndim == 1 and ignore_index < 0 and input.shape[0] == target.shape[0]
            and target.dtype.category == INTEGER):
        try:
            return ops.cross_entropy_rows(input, target).mean()
        except OutOfRangeError:
            if not bool(ops.eq(target, ignore_index).any()):
                raise
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = _class_dim("cross_entropy", input)
    log_probabilities = ops.log_softmax(input, dim)
    if target.dtype.is_floating_point:
        return _with_probabilities(log_probabilities, target, weight, ignore_index, reduction, label_smoothing, sample_weight)
    return _with_ids("cross_entropy", log_probabilities, target, weight, ignore_index, reduction, label_smoothing, sample_weight)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
             reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """-x_y, where the input x holds log-probabilities: cross_entropy without its log_softmax; ids only."""
    if target.dtype.is_floating_point:
        raise DTypeError(f"nll_loss: target must hold class ids of an integer dtype, got {target.dtype.name}; "
                         "use cross_entropy for probabilities, or target.long()")
    return _with_ids("nll_loss", input, target, weight, ignore_index, reduction, 0.0, sample_weight)


def _class_dim(name: str, input: Tensor) -> int:
    if input.ndim == 0:
        raise ShapeError(f"{name}: input must have a class dimension, shape (N, C), (C,) or (N, C, ...), got ()")
    return 0 if input.ndim == 1 else 1


def _check_weight(name: str, weight: Tensor | None, classes: int) -> None:
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(f"{name}: weight tensor should be defined for all {classes} classes, "
                         f"but got weight tensor of shape {weight.shape}")


def _with_ids(name: str, logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
              label_smoothing: float, sample_weight: Tensor | None) -> Tensor:
    dim = _class_dim(name, logp)
    classes = logp.shape[dim]
    _check_ids(name, logp, target, dim)
    _check_weight(name, weight, classes)
    check_reduction(reduction)
    kept = ops.ne(target, ignore_index)
    safe = ops.where(kept, target, 0).long()
    loss = -_pick(logp, dim, safe)
    scale = None if weight is None else weight.detach()[safe]
    if scale is not None:
        loss = loss * scale
    if label_smoothing:
        weighted = logp if weight is None else logp * _along(weight.detach(), logp.ndim, dim)
        loss = loss * (1 - label_smoothing) - weighted.sum(dim) * (label_smoothing / classes)
    loss = ops.where(kept, loss, 0.0)
    if sample_weight is not None:
        loss = weigh_samples(loss, sample_weight)
    if reduction == "none":
        return loss
    if reduction == "sum":
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
        raise DTypeError(f"{name}: target of the input's shape {logp.shape} holds probabilities and must be floating, "
                         f"got {target.dtype.name}; convert with .float(), or give class ids of shape {expected}")
    cure = "; write target.squeeze(1)" if target.shape == (*expected, 1) else ""
    if logp.ndim > 1 and target.shape[:1] != logp.shape[:1]:
        cure = f"; input batch_size ({logp.shape[0]}) must match target batch_size ({target.shape[0] if target.ndim else 1})"
    raise ShapeError(f"{name}: input {logp.shape} needs class ids of shape {expected}, got {target.shape}{cure}")


def _pick(logp: Tensor, dim: int, ids: Tensor) -> Tensor:
    """logp at the class ids. Raises OutOfRangeError naming the first id that is no class, and its position."""
    classes = logp.shape[dim]
    try:
        return logp.gather(dim, refuse_negative(ids, classes).unsqueeze(dim)).squeeze(dim)
    except OutOfRangeError:
        raise _no_class(ids, classes) from None


def _no_class(ids: Tensor, classes: int) -> OutOfRangeError:
    """The error that names the first id that is no class, and its position."""
    values = ids.detach().cpu().numpy()
    position = tuple(np.argwhere((values < 0) | (values >= classes))[0].tolist())
    return OutOfRangeError(f"Target {values[position]} is out of bounds. It stands at position {position}; "
                           f"the input has {classes} classes")


def _along(weight: Tensor, ndim: int, dim: int) -> Tensor:
    """weight (C,) in a shape that broadcasts along the class dimension."""
    return weight.reshape(-1, *[1] * (ndim - dim - 1))


def _with_probabilities(logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
                        label_smoothing: float, sample_weight: Tensor | None) -> Tensor:
    dim = _class_dim("cross_entropy", logp)
    classes = logp.shape[dim]
    if target.shape != logp.shape:
        raise ShapeError(f"cross_entropy: a floating target holds class probabilities and must have the input's shape "
                         f"{logp.shape}, got {target.shape}; for class ids use an integer dtype: target.long()")
    if ignore_index >= 0:
        raise ArgumentError("cross_entropy: ignore_index is not supported for floating point target; "
                            "set the sample_weight of those samples to 0")
    _check_weight("cross_entropy", weight, classes)
    check_reduction(reduction)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        target = target * _along(weight.detach(), logp.ndim, dim)
    loss = -(logp * target).sum(dim)
    if sample_weight is not None:
        loss = weigh_samples(loss, sample_weight)
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
