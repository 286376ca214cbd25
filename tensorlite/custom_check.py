"""`check` of a user's own kernel: results against its reference, derivatives against differences, on every device.

On device "cuda:sim" a whole kernel runs under the simulator's checks first: a race is a better word for what it does
than the results that come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import creation, dtypes, testing
from .autograd.op import ANY
from .backends import get, simulator_check
from .dtypes import DType
from .errors import ArgumentError, DeviceError, GradError
from .tensor import Tensor

if TYPE_CHECKING:
    from .custom import CustomKernel

# The difference allowed, relative to the largest expected value; 1 at least.
TOLERANCES = {dtypes.float16: 2e-3, dtypes.bfloat16: 1.6e-2, dtypes.float32: 1e-5, dtypes.float64: 1e-10}
_SHAPES = ((3, 5), (5,), (3, 1), ())  # of inputs that broadcast
_DEVICES = ("cpu", "cuda:sim", "cuda")
_SCHEDULES = 2  # in order, and in a random one: races show in both, results that depend on the order in the second


@dataclass(frozen=True)
class Report:
    """What a check compared, a line per device; printing it shows them."""

    name: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.name} agrees with its reference", *[f"  {line}" for line in self.lines]])

    __repr__ = __str__


def check(op: CustomKernel, inputs: Sequence[Any], devices: Sequence[str] | None, second: bool, slack: float,
          params: dict[str, Any]) -> Report:
    """See CustomKernel.check."""
    values = _values(op, inputs)
    lines = []
    for device in devices or _DEVICES:
        try:
            get(device)
        except DeviceError as error:
            if devices is not None:
                raise
            lines.append(f"{device:<9} not checked: {str(error).partition(';')[0]}")
            continue
        watched = _check_accesses(op, values, params) if device == "cuda:sim" and not op.broadcasts else ""
        results = _check_results(op, values, device, slack, params)
        lines.append(f"{device:<9} {results}; {_check_derivatives(op, values, device, second, params)}{watched}")
    return Report(op.name, tuple(lines))


def _values(op: CustomKernel, inputs: Sequence[Any]) -> list[Any]:
    """The inputs as float64 arrays, and numbers as they are."""
    random = np.random.default_rng(0)
    if not inputs:
        inputs = _SHAPES[:len(op.inputs)] if op.broadcasts else [_SHAPES[0]] * len(op.inputs)
    if len(inputs) != len(op.inputs):
        raise ArgumentError(f"{op.name}.check: takes a shape, Tensor or array for each of {', '.join(op.inputs)}, "
                            f"got {len(inputs)}")
    return [x if isinstance(x, (bool, int, float)) else random.standard_normal(x) if isinstance(x, tuple)
            else np.asarray(x.numpy(force=True) if isinstance(x, Tensor) else x, np.float64) for x in inputs]


# --- accesses to memory ---------------------------------------------------------------------------------------------


def _check_accesses(op: CustomKernel, values: list[Any], params: dict[str, Any]) -> str:
    """Run the kernel once under the simulator's checks; what they watched. Raises SimulatorError.

    One dtype is enough: the accesses are those of a template. A formula makes none of its own.
    """
    inputs = [x if _is_number(x) else _dense(_in_dtype(x, dtypes.float32), "cuda:sim") for x in values]
    with simulator_check.checking(_SCHEDULES):
        op(*inputs, **params)
    return f"; no race or access out of bounds under {_SCHEDULES} schedules"


# --- results --------------------------------------------------------------------------------------------------------


def _check_results(op: CustomKernel, values: list[Any], device: str, slack: float, params: dict[str, Any]) -> str:
    """Compare in every dtype and layout; what was compared. Raises AssertionError."""
    kinds = [*TOLERANCES, *((dtypes.int32, dtypes.int64) if op.promote == ANY else ())]
    for dtype in kinds:
        rounded = [x if _is_number(x) else _in_dtype(x, dtype) for x in values]
        wide = [x if _is_number(x) else x.astype(np.float64 if dtype.is_floating_point else np.int64) for x in rounded]
        with np.errstate(all="ignore"):
            expected = np.asarray(op.reference(*wide, **params))
        for layout, place in LAYOUTS.items():
            out = op(*[x if _is_number(x) else place(x, device) for x in rounded], **params)
            where = f"{op.name} on '{device}', {dtype.name}, {layout}"
            _compare(out, expected, dtype, slack, where)
    return f"{' '.join(d.name for d in kinds)}, {len(LAYOUTS)} layouts"


def _is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float))


def _in_dtype(x: np.ndarray, dtype: DType) -> np.ndarray:
    return np.asarray(x if dtype.is_floating_point else np.rint(4 * x), dtype.numpy)


def _compare(out: Tensor, expected: np.ndarray, dtype: DType, slack: float, where: str) -> None:
    if out.dtype is not dtype or out.shape != expected.shape:
        raise AssertionError(f"{where}: got {out.dtype.name} {tuple(out.shape)}, the reference gives "
                             f"{dtype.name} {expected.shape}")
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = slack * TOLERANCES.get(dtype, 0.0) * max(1.0, finite.max(initial=0.0))
    try:
        testing.assert_close(out, expected, rtol=0.0, atol=tolerance, equal_nan=True, check_dtype=False)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}; of two values the first is the kernel's, the second the "
                             "reference's") from None


def _dense(x: np.ndarray, device: str) -> Tensor:
    return creation.tensor(x, device=device)


def _transposed(x: np.ndarray, device: str) -> Tensor:
    return creation.tensor(x.T.copy(), device=device).permute(tuple(reversed(range(x.ndim))))


def _every_second(x: np.ndarray, device: str) -> Tensor:
    """Strided, and off the boundaries of 16 bytes."""
    if not x.ndim:
        return _dense(x, device)
    spread = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    spread[..., 1::2] = x
    return creation.tensor(spread, device=device)[..., 1::2]


LAYOUTS: dict[str, Callable[[np.ndarray, str], Tensor]] = {
    "dense": _dense, "transposed in memory": _transposed, "every second element": _every_second,
}


# --- derivatives ----------------------------------------------------------------------------------------------------


def _check_derivatives(op: CustomKernel, values: list[Any], device: str, second: bool, params: dict[str, Any]) -> str:
    """Compare with differences in float64; what was compared. Raises GradError."""
    def function(*inputs: Any) -> Tensor:
        return op(*inputs, **params)

    inputs = list(_leaves(op, values, device))
    if not op.rule_of or not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        return "no derivative"
    many = sum(x.numel() for x in inputs if isinstance(x, Tensor)) > 100  # then one direction instead of all
    try:
        testing.gradcheck(function, inputs, fast_mode=many)
        if second:
            testing.gradgradcheck(function, inputs, fast_mode=True)
    except GradError as error:
        raise GradError(f"{op.name} on '{device}': {error}") from None
    return "gradient; second gradient" if second else "gradient"


def _leaves(op: CustomKernel, values: list[Any], device: str) -> Iterator[Any]:
    for name, x in zip(op.inputs, values, strict=True):
        yield x if _is_number(x) else creation.tensor(x, device=device, requires_grad=name in op.rule_of)
