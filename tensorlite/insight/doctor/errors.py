"""Errors that a loss raises, as findings: labels that are no class, and shapes or dtypes that do not fit."""

from __future__ import annotations

import numpy as np

from ...errors import DTypeError, OutOfRangeError, ShapeError, TensorliteError
from .numbers import is_float, values
from .places import LossCall, Place, of_error
from .report import ERROR, Finding

LABELS_OUT_OF_RANGE, LABELS, LOSS_SHAPES, FAILED = "labels-out-of-range", "labels", "loss-shapes", "failed"
NAMES = LABELS_OUT_OF_RANGE, LABELS, LOSS_SHAPES, FAILED


def explain(error: TensorliteError, caller: Place | None = None) -> Finding:
    """A finding about an error; `caller` is the line to name where the error has passed none of the user's."""
    place, loss = of_error(error.__traceback__, caller)
    message = str(error)
    if loss is not None and isinstance(error, OutOfRangeError):
        return Finding(LABELS_OUT_OF_RANGE, ERROR, f"{loss.name}: {message}.{_span(loss)}", _range_cure(loss), place)
    if loss is not None and isinstance(error, DTypeError):
        return Finding(LABELS, ERROR, _sentence(message), _dtype_cure(loss), place)
    if loss is not None and isinstance(error, ShapeError):
        return Finding(LOSS_SHAPES, ERROR, _sentence(message), _shape_cure(loss), place)
    return Finding(FAILED, ERROR, f"{type(error).__name__}: {_sentence(message)}",
                   "see the message; training ends here.", place)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _classes(loss: LossCall) -> int:
    return int(loss.input.shape[1 if loss.input.ndim > 1 else 0])


def _span(loss: LossCall) -> str:
    found = values(loss.target)
    return f" The labels go from {found.min()} to {found.max()}, the scores are of {_classes(loss)} classes."


def _range_cure(loss: LossCall) -> str:
    found, classes = values(loss.target), _classes(loss)
    if found.min() == 1 and found.max() == classes:
        return "the labels count from 1: subtract 1."
    return f"class ids are 0 to {classes - 1}: give the last layer as many outputs as there are classes " \
           f"({int(found.max()) + 1} at least), or mark samples to leave out by ignore_index."


def _dtype_cure(loss: LossCall) -> str:
    if loss.target.shape == loss.input.shape:
        found = values(loss.target)
        if loss.target.ndim > 1 and np.isin(found, (0, 1)).all() and (found.sum(1) == 1).all():
            return "the target is one-hot: write target.argmax(1) for class ids, or target.float() for probabilities."
        return "write target.float(), if these are probabilities."
    return "write target.long() for class ids."


def _shape_cure(loss: LossCall) -> str:
    if loss.name not in ("cross_entropy", "nll_loss"):
        return "give prediction and target one shape: target.unsqueeze(1) or prediction.squeeze(1)."
    if is_float(loss.target) and loss.target.shape == loss.input.shape[:1]:
        return "write target.long() for class ids."
    if loss.input.ndim == 1 and loss.target.ndim <= 1:
        return "the scores have lost their batch dimension: squeeze(1) instead of squeeze(), or none at all; they " \
               "are (N, C)."
    return "scores are (N, C, ...) and class ids (N, ...): target.squeeze(1) for a column, target.argmax(1) for " \
           "one-hot."
