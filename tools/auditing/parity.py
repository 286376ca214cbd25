"""PyTorch beside a row: the same function with PyTorch's operations in place of ours, on the same inputs.

A row's function is made anew with other globals, in which `ops`, `tl` and `F` are PyTorch, so a row needs no second
text. What the rows call under another signature stands in `_ADAPTED`; what PyTorch has under no public name (the
derivatives that rules call) has no counterpart, and its rows no parity.
"""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from case import Case, listed, tensors

import tensorlite as tl
from auditing.accuracy import numbers, weights
from tensorlite import ops
from tensorlite.backends import get
from tensorlite.dtypes import DType

torch.set_num_threads(1)  # the inputs are small
torch.backends.opt_einsum.enabled = False  # the order of products must not hang on a package that may be installed
ASPECTS = ("values", "nan", "inf", "empty", "0-d", "ties", "broadcasting")
SAME, DIFFERS, REFUSED, NEITHER = "same", "differs", "torch refuses", "both refuse"
TOLERANCE = 32  # eps of the dtype, relative to the largest value
_ERRORS = (RuntimeError, IndexError, ValueError, TypeError, ArithmeticError, AttributeError,
           AssertionError)


FEW = (tl.int8, tl.int16, tl.int32)  # looked at with the row's own shapes alone: they are as int64


class NoCounterpart(Exception):
    """PyTorch has no such function."""


# --- a row's function in PyTorch ------------------------------------------------------------------------------------


def _setitem(x: Any, key: Any, value: Any) -> Any:
    x = x.clone()
    x[key] = value
    return x


def _normalized(name: str) -> Callable[..., Any]:
    def function(x: Any, *parts: Any, normalized_ndim: int, **options: Any) -> Any:
        return getattr(torch.nn.functional, name)(x, x.shape[x.ndim - normalized_ndim:], *parts, **options)

    return function


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool = False) -> Any:
    return torch.nn.functional.batch_norm(x, None if training else mean, None if training else var, weight, bias,
                                          training)


_ADAPTED: dict[str, Callable[..., Any]] = {
    "getitem": lambda x, key: x[key], "setitem": _setitem, "layer_norm": _normalized("layer_norm"),
    "rms_norm": _normalized("rms_norm"), "batch_norm": _batch_norm,
}
_NONE = {"dropout", "moments"}  # other random numbers; no function of its own


class _Functions:
    """PyTorch's functions, or methods, by name."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in _ADAPTED:
            return _ADAPTED[name]
        if name in _NONE or name.startswith("_"):
            raise NoCounterpart(name)
        found = [f for f in (getattr(torch, name, None), getattr(torch.nn.functional, name, None)) if callable(f)]
        if not found and not hasattr(torch.Tensor, name):
            raise NoCounterpart(name)

        def call(*args: Any, **options: Any) -> Any:
            for function in (*found, lambda x, *rest, **kw: getattr(x, name)(*rest, **kw)):
                try:
                    return function(*args, **options)
                except (TypeError, AttributeError) as error:
                    refused = error
            raise refused

        return call


FUNCTIONS = _Functions()


class Translation:
    """Functions of the table's modules as PyTorch's; each is made once."""

    def __init__(self) -> None:
        self._globals: dict[int, dict[str, Any]] = {}
        self._ours = {id(value): name for name, value in vars(ops).items() if callable(value)}

    def of(self, value: Any) -> Any:
        """A function, argument or global of a row in PyTorch's terms."""
        if id(value) in self._ours:
            return getattr(FUNCTIONS, self._ours[id(value)])
        if value is ops:
            return FUNCTIONS
        if value is tl:
            return torch
        if value is tl.nn.functional:
            return torch.nn.functional
        if isinstance(value, DType):
            return getattr(torch, value.name)
        if isinstance(value, types.FunctionType) and value.__module__.startswith(tl.nn.functional.__name__):
            if value.__name__ in _NONE or not hasattr(torch.nn.functional, value.__name__):
                raise NoCounterpart(value.__name__)
            return getattr(torch.nn.functional, value.__name__)
        if isinstance(value, types.FunctionType) and value.__module__.startswith("case"):
            return self._made_anew(value)
        return value

    def _made_anew(self, function: types.FunctionType) -> Any:
        if function.__name__ == "along":
            return lambda x, values: torch.tensor(values)
        cells = tuple(types.CellType(self.of(cell.cell_contents)) for cell in function.__closure__ or ())
        made = types.FunctionType(function.__code__, self._globals_of(function), function.__name__,
                                  tuple(map(self.of, function.__defaults__ or ())), cells)
        made.__kwdefaults__ = {k: self.of(v) for k, v in (function.__kwdefaults__ or {}).items()}
        return made

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        own = function.__globals__
        if id(own) not in self._globals:
            self._globals[id(own)] = made = dict(own)
            for name, value in own.items():
                if not isinstance(value, (list, tuple, dict)):
                    try:
                        made[name] = self.of(value)
                    except NoCounterpart:
                        made.pop(name)
        return self._globals[id(own)]


TRANSLATION = Translation()


# --- inputs of interest ---------------------------------------------------------------------------------------------


def sets(case: Case, dtype: DType) -> Iterator[tuple[str, list[np.ndarray]]]:
    """(aspect, inputs) of a row."""
    for shapes in case.shapes:
        yield ("empty" if any(0 in s for s in shapes) else "values"), case.arrays(shapes, dtype)
    if dtype in FEW:
        return
    first = case.shapes[0]
    yield "empty", case.arrays(tuple((0, *s[1:]) if s else s for s in first), dtype)
    yield "0-d", case.arrays(((),) * len(first), dtype)
    yield "ties", [_tied(a, i) for i, a in enumerate(case.arrays(first, dtype))]
    if len(first) > 1:
        yield "broadcasting", case.arrays((*first[:-1], first[-1][1:]), dtype)
        yield "broadcasting", case.arrays((tuple(1 for _ in first[0]), *first[1:]), dtype)
    if dtype.is_floating_point:
        for aspect, value in (("nan", math.nan), ("inf", math.inf), ("inf", -math.inf)):
            for i in range(len(first)):
                arrays = case.arrays(first, dtype)
                arrays[i].reshape(-1)[:1] = value
                yield aspect, arrays


def _tied(array: np.ndarray, seed: int) -> np.ndarray:
    """The array with a few of its own values, and 0, all over."""
    few = np.append(array.reshape(-1)[:2], array.dtype.type(0))[:3] if array.size else array
    return np.random.default_rng(seed).choice(few, array.shape).astype(array.dtype) if array.size else array


# --- PyTorch's side ---------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What PyTorch gave: per result its dtype, values, and whether it has a gradient; and the inputs' gradients."""

    results: list[tuple[str, np.ndarray, bool]]
    gradients: list[np.ndarray] | None


class Beside:
    """PyTorch's answers to a row at all its sets of inputs, asked for once."""

    def __init__(self, case: Case, dtype: DType) -> None:
        self.case, self.dtype = case, dtype
        self.derived = dtype.is_floating_point and case.gradient
        self.sets: list[tuple[str, list[np.ndarray], Answer | None]] = []
        try:
            theirs = TRANSLATION.of(case.function)
            self.sets = [(aspect, arrays, self._answer(theirs, arrays)) for aspect, arrays in sets(case, dtype)]
        except NoCounterpart:
            pass

    def _answer(self, theirs: Any, arrays: list[np.ndarray]) -> Answer | None:
        """None where PyTorch refuses."""
        dtype = getattr(torch, self.dtype.name)
        inputs = [torch.tensor(a.astype(np.float64) if self.dtype is tl.bfloat16 else a).to(dtype)
                  .requires_grad_(self.derived) for a in arrays]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                results = listed(theirs(*inputs))
            except _ERRORS:
                return None
        outputs = [y for y in results if y.requires_grad]
        known = outputs and not any(bool(y.isnan().any()) for y in (*outputs, *inputs))
        return Answer([(str(y.dtype).partition(".")[2], _numbers(y), y.requires_grad) for y in results],
                      _gradients(outputs, inputs) if known else None)


def _numbers(y: Any) -> np.ndarray:
    y = y.detach()
    array: np.ndarray = (y.double() if y.is_floating_point() else y).numpy()
    return array


def _gradients(outputs: list[Any], inputs: list[Any]) -> list[np.ndarray] | None:
    """Where no value is NaN: what gradients are there nobody promises."""
    incoming = [torch.tensor(weights(tuple(y.shape), i)).to(y.dtype) for i, y in enumerate(outputs)]
    try:
        found = torch.autograd.grad(outputs, inputs, incoming, allow_unused=True, materialize_grads=True)
    except RuntimeError:
        return None
    return [_numbers(g) for g in found]


# --- the comparison -------------------------------------------------------------------------------------------------


DETAILS: list[tuple[str, str, str, str, str]] = []  # what differed: row, dtype, device, aspect, how
_SEVERITY = ["", NEITHER, REFUSED, SAME, DIFFERS]


def parity(beside: Beside, device: str) -> dict[str, str] | None:
    """Per aspect whether PyTorch gives the same; None where there is nothing to compare with."""
    found: dict[str, str] = {}
    for aspect, arrays, answer in beside.sets:
        outcome, what = _compared(beside, arrays, answer, device)
        if what:
            DETAILS.append((beside.case.name, beside.dtype.name, device, aspect, what))
        found[aspect] = max(found.get(aspect, ""), outcome, key=_SEVERITY.index)
    return found or None


def combined(found: list[dict[str, str] | None]) -> dict[str, str] | None:
    """What holds for an op, of whose rows this was found: per outcome the aspects of which it is the worst."""
    present = [outcomes for outcomes in found if outcomes is not None]
    grouped: dict[str, list[str]] = {}
    for aspect in ASPECTS:
        seen = [outcomes[aspect] for outcomes in present if aspect in outcomes]
        if seen:
            grouped.setdefault(max(seen, key=_SEVERITY.index), []).append(aspect)
    return {outcome: " ".join(aspects) for outcome, aspects in grouped.items()} or None


def _compared(beside: Beside, arrays: list[np.ndarray], answer: Answer | None, device: str) -> tuple[str, str]:
    """(outcome, what differs)."""
    inputs = tensors(arrays, device, beside.derived)
    try:
        results = listed(beside.case.function(*inputs))
        get(device).synchronize()  # where the simulator reports what was wrong with the numbers
    except _ERRORS as error:
        return (NEITHER, "") if answer is None else (DIFFERS, f"refused: {str(error)[:150]}")
    if answer is None:
        return REFUSED, ""
    for x, (dtype, values, _) in zip(results, answer.results, strict=True):
        if what := _difference(x, dtype, values):
            return DIFFERS, what
    what = _gradients_differ(results, inputs, answer)
    return (DIFFERS, what) if what else (SAME, "")


def _difference(x: tl.Tensor, dtype: str, values: np.ndarray) -> str:
    """How a result differs from PyTorch's; empty if it does not."""
    if dtype != x.dtype.name:
        return f"dtype {x.dtype.name}, not {dtype}"
    if values.shape != x.shape:
        return f"shape {x.shape}, not {values.shape}"
    return _values_differ(numbers(x), values, x.dtype)


def _values_differ(a: np.ndarray, b: np.ndarray, dtype: DType) -> str:
    if not dtype.is_floating_point:
        return "" if np.array_equal(a, b) else "values"
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return f"NaN at other places: {a.reshape(-1)[:4]} and {b.reshape(-1)[:4]}"
    tolerance = TOLERANCE * tl.finfo(dtype).eps
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=1.0)
    close = np.isclose(a, b, tolerance, tolerance * scale, equal_nan=True)
    return "" if close.all() else f"values: {a[~close][:3]} and {b[~close][:3]}"


def _gradients_differ(results: Sequence[tl.Tensor], inputs: list[tl.Tensor], answer: Answer) -> str:
    outputs = [x for x, (_, _, derived) in zip(results, answer.results, strict=True) if derived]
    if answer.gradients is None or not all(x.requires_grad for x in outputs):
        return "" if answer.gradients is None else "no gradient"
    incoming = [tl.tensor(weights(x.shape, i), device=x.device).to(x.dtype) for i, x in enumerate(outputs)]
    found = tl.autograd.grad(outputs, inputs, incoming, materialize_grads=True)
    for i, (g, wanted) in enumerate(zip(found, answer.gradients, strict=True)):
        unknown = np.isnan(wanted)  # as inf/inf in the gradient of prod; ours may know better
        if what := _values_differ(np.where(unknown, 0.0, numbers(g)), np.where(unknown, 0.0, wanted), g.dtype):
            return f"gradient {i}: {what}"
    return ""
