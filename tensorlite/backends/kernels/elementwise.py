"""Elementwise kernels: which formulas there are, for which dtypes, and the plan of a call.

The table `FORMULAS` is the catalogue: a formula of kernels/formulas.cuh, its signature and the dtypes that it
takes. A signature spells the dtypes of inputs and result: T for the common one, b for bool, so `bTT>T` is where's.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...dtypes import DType
from ...errors import ArgumentError, DTypeError, TensorliteError
from .. import SCALARS, Array, Backend
from . import Instance, KernelBackend, Launcher, Plan, one_dimensional
from .layout import c_type, coalesce, dims_fields, element_strides, index_type, packed_dims
from .transpose import transposition

FILE = "elementwise.cu"
FLOATS = tuple(d for d in dtypes.ALL if d.category == dtypes.FLOAT)
INTEGERS = tuple(d for d in dtypes.ALL if d.category == dtypes.INTEGER)
NUMBERS = INTEGERS + FLOATS
ANY = (dtypes.bool_, *NUMBERS)


Limits = tuple[int, int] | None  # of the numbers that a call may hold, where they are integers


class Formula(NamedTuple):
    """A row: the signature of the functor that has the kernel's name in formulas.cuh, and the dtypes that T may be."""

    signature: str
    dtypes: tuple[DType, ...]
    file: str = FILE
    functor: str = ""  # its C++ name where that is another one, as for a user's own in `file`

    @property
    def inputs(self) -> str:
        return self.signature.partition(">")[0]

    @property
    def gives_bool(self) -> bool:
        return self.signature.endswith(">b")


def _rows(signature: str, taken: tuple[DType, ...], names: str) -> dict[str, Formula]:
    return {name: Formula(signature, taken) for name in names.split()}


FORMULAS: dict[str, Formula] = {
    **_rows("T>T", FLOATS, "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan "
                           "sinh cosh tanh asinh acosh atanh erf floor ceil trunc round sigmoid silu gelu "
                           "softsign"),
    **_rows("T>T", FLOATS, "gelu_tanh"),
    **_rows("T>T", NUMBERS, "neg square cube"),
    **_rows("T>T", ANY, "abs sign relu"),
    **_rows("T>T", (dtypes.bool_, *INTEGERS), "bitwise_not"),
    **_rows("T>b", FLOATS, "isnan isinf isfinite signbit"),
    **_rows("T>b", ANY, "logical_not"),
    **_rows("TT>T", FLOATS, "div atan2 copysign logaddexp leaky_relu elu sigmoid_grad tanh_grad silu_grad gelu_grad "
                            "bias_relu gelu_tanh_grad"),
    **_rows("TT>T", NUMBERS, "sub floor_divide remainder fmod pow relu_grad"),
    **_rows("TT>T", ANY, "add mul maximum minimum"),
    **_rows("TT>T", (dtypes.bool_, *INTEGERS), "bitwise_and bitwise_or bitwise_xor"),
    **_rows("TT>T", INTEGERS, "bitwise_left_shift bitwise_right_shift"),
    **_rows("TT>b", ANY, "eq ne lt le gt ge logical_and logical_or logical_xor"),
    **_rows("TTT>T", FLOATS, "leaky_relu_grad elu_grad softplus"),
    **_rows("TTT>T", NUMBERS, "clamp"),
    **_rows("TTTT>T", FLOATS, "softplus_grad"),
    **_rows("bTT>T", ANY, "where"),
}


# --- from a call to a launch ------------------------------------------------------------------------------------------


def elementwise(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any],
                formula: Formula | None = None) -> None:
    """out = formula(args): arrays that broadcast to the shape of out, or Python numbers."""
    to = backend.address(out)
    key, pointers, together = _operands(backend, (kernel, out.dtype.char, out.shape, out.strides), to, args)
    known = backend.plans.get(key)
    if known is None:
        if not out.size:
            return
        formula = formula or FORMULAS.get(kernel)
        known = backend.remember(key, _plan(backend, kernel, formula, out, args, aligned=together % 16 == 0))
    _start(backend, known, kernel, out, args, pointers)


def new_elementwise(backend: KernelBackend, kernel: str, *args: Any, dtype: np.dtype[Any] | None = None) -> Array:
    """Backend.elementwise, for less: operands like those of an earlier call give shape and plan in one look-up.

    It is the door's short way to the same launch, and tells the observers as `run` does.
    """
    if len(args) == 1:
        (x,) = args
        pointers = [0, backend.address(x)]
        key: tuple[Any, ...] = ("new", kernel, dtype, x.dtype.char, x.shape, x.strides, pointers[1] % 16)
    else:
        key, pointers, _ = _operands(backend, ("new", kernel, dtype), 0, args)
    known = backend.plans.get(key)
    if known is None:
        out = Backend.elementwise(backend, kernel, *args, dtype=dtype)
        _remember_new(backend, key, kernel, out, args, dtype)
        return out
    shape, result, planned = known
    out = backend.empty(shape, result)
    pointers[0] = backend.address(out)
    _start(backend, planned, kernel, out, args, pointers)
    if backend.observers:
        backend.tell(kernel, out, args, {})
    return out


def _remember_new(backend: KernelBackend, key: Hashable, kernel: str, out: Array, args: tuple[Any, ...],
                  dtype: np.dtype[Any] | None) -> None:
    """Keep what `run` planned for a new result, unless it looks at the operands' numbers first."""
    known = backend.kernels.get(kernel) in (elementwise, compare)
    if not known or (dtype is not None and any(type(a) in SCALARS for a in args)):
        return
    of_run = _operands(backend, (kernel, out.dtype.char, out.shape, out.strides), backend.address(out), args)[0]
    planned = backend.plans.get(of_run)
    if planned is not None:
        backend.remember(key, (out.shape, out.dtype, planned))


def _operands(backend: KernelBackend, key: tuple[Any, ...], together: int,
              args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any], int]:
    """A plan's key, continued by what the plan depends on; addresses (0 for numbers), and all of them "or"ed."""
    address = backend.address
    pointers = [together]
    for a in args:
        if type(a) in SCALARS:
            key += (None,)
            pointers.append(0)
        else:
            key += (a.dtype.char, a.shape, a.strides)
            pointer = address(a)
            together |= pointer
            pointers.append(pointer)
    return (*key, together % 16), pointers, together


def _start(backend: KernelBackend, planned: tuple[Plan, Limits, bool], kernel: str, out: Array, args: tuple[Any, ...],
           values: list[Any]) -> None:
    """Launch, with addresses in `values`, to which the numbers among the operands are added."""
    plan, limits, numbers = planned
    if numbers:
        values += [a if type(a) in SCALARS else 0 for a in args]
        if limits is not None:
            _check_numbers(kernel, args, limits)
    try:
        plan.pack(plan.arguments.buffer, 0, *values)
    except (OverflowError, struct.error):
        raise refusal(kernel, args, "a number is too large for a float") from None
    backend.launch(plan.function, plan.grid, plan.block, 0, plan.arguments, (out, *args))


def _plan(backend: KernelBackend, kernel: str, formula: Formula | None, out: Array, args: tuple[Any, ...],
          aligned: bool) -> tuple[Plan, Limits, bool]:
    """The launch, what integers among the operands must lie between, and whether there are numbers at all."""
    types = _types(kernel, formula, out, args)
    sizes, steps = coalesce(out.shape, element_strides(out, out.shape), *[
        (0,) * out.ndim if type(a) in SCALARS else element_strides(a, out.shape) for a in args])
    if kernel == "copy" and type(args[0]) not in SCALARS:
        tiled = transposition(backend, types[0], types[1], sizes, steps)
        if tiled is not None:
            return tiled, None, False
    count, width = math.prod(sizes), 16 // max(d.itemsize for d in types)
    wide = aligned and _is_vectorisable(sizes, steps, width)
    threads = count // width + count % width if wide else count
    template = "vectorised" if wide else "strided"
    index = index_type(count)
    complaint = _COMPLAINTS.get(kernel)
    code = backend.code_for(complaint) if complaint else 0
    changing, fixed = "P" * (1 + len(args)), "PQq" + dims_fields(len(types))
    values = [backend.error_word, code, count, *packed_dims(kernel, sizes, steps)]
    numbers = any(type(a) in SCALARS for a in args)
    if numbers:
        changing += _number_fields(args, types[1:])
    else:
        fixed, values = "Q" * len(args) + fixed, [0] * len(args) + values
    instance = Instance(formula.file if formula else FILE,
                        _expression(template, _functor(kernel, formula), index, [c_type(d) for d in types]))
    plan = backend.plan(
        instance, changing, fixed, values,
        *one_dimensional(threads), siblings=_siblings(kernel, formula, types) if index == "u32" else (),
    )
    return plan, _range(types[-1]) if types[-1].kind in "biu" else None, numbers


def _types(kernel: str, formula: Formula | None, out: Array, args: tuple[Any, ...]) -> list[np.dtype[Any]]:
    """The dtypes of out and the inputs. Raises DTypeError for those that the formula does not take."""
    if formula is None:  # copy: any to any
        return [out.dtype, out.dtype if type(args[0]) in SCALARS else args[0].dtype]
    arrays = [a.dtype for a, letter in zip(args, formula.inputs, strict=True)
              if letter == "T" and type(a) not in SCALARS]
    common = arrays[0] if arrays else out.dtype
    result = _BOOL if formula.gives_bool else common
    if dtypes.from_numpy(common) not in formula.dtypes or any(d != common for d in arrays) or out.dtype != result:
        raise refusal(kernel, args)
    return [result, *[_BOOL if c == "b" else common for c in formula.inputs]]


def refusal(kernel: str, args: Sequence[Any], reason: str = "") -> DTypeError:
    """The error for operands that a kernel does not take."""
    taken = ", ".join(dtypes.from_numpy(a.dtype).name if hasattr(a, "dtype") else repr(a) for a in args)
    return DTypeError(f"{kernel} does not take ({taken})" + (f": {reason}" if reason else
                      "; convert the operands with .to(dtype)"))


def _is_vectorisable(sizes: list[int], steps: list[tuple[int, ...]], width: int) -> bool:
    """Whether packs of `width` elements along the innermost dimension are neighbours, or repeats, in all operands."""
    inner = steps[0]
    if inner[0] != 1 or any(step not in (0, 1) for step in inner):
        return False
    if len(sizes) == 1:
        return True
    dense = [k for k, step in enumerate(inner) if step == 1]
    return sizes[0] % width == 0 and all(step[k] % width == 0 for step in steps[1:] for k in dense)


def _functor(kernel: str, formula: Formula | None = None) -> str:
    return formula.functor if formula and formula.functor else f"formulas::{kernel}"


def _expression(template: str, functor: str, index: str, names: Sequence[str]) -> str:
    return f"{template}<{functor}, {index}, {', '.join(names)}>"


# --- Python numbers as operands -------------------------------------------------------------------------------------


def _number_fields(args: Sequence[Any], types: Sequence[np.dtype[Any]]) -> str:
    """One field of 8 bytes per input: a number in its computing type."""
    letters = {"f": "f4x", "d": "d"}
    return "".join("Q" if type(a) not in SCALARS else "q" if d.kind in "biu" else letters["d" if d.char == "d" else "f"]
                   for a, d in zip(args, types, strict=True))


def _check_numbers(kernel: str, args: Sequence[Any], limits: tuple[int, int]) -> None:
    """Raise DTypeError for a number among the operands that their integer dtype does not hold."""
    for a in args:
        if type(a) in SCALARS and (type(a) is float or not limits[0] <= a <= limits[1]):
            raise refusal(kernel, args, f"{a!r} is not a number of that dtype")


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    bits = 8 * dtype.itemsize
    signed = dtype.kind == "i"
    return (0, 1) if dtype.kind == "b" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


# --- kernels that are an elementwise one after a look at their numbers ------------------------------------------------


def copy(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out = x, converted to the dtype of out."""
    elementwise(backend, "copy", out, args, params)


def dense(backend: KernelBackend, array: Array) -> Array:
    """The array itself if it is dense and row-major, else a dense copy."""
    if array.flags.c_contiguous:
        return array
    result = backend.empty(array.shape, array.dtype)
    copy(backend, "copy", result, (array,), {})
    return result


def fill(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Every element of out = value."""
    (value,) = args
    number: Any = bool(value) if out.dtype.kind == "b" else int(value) if out.dtype.kind in "iu" else float(value)
    elementwise(backend, "copy", out, (number,), params)


def clamp(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """x limited to [low, high]; None is no limit."""
    x, low, high = args
    least, most = (-math.inf, math.inf) if out.dtype.kind not in "iu" else _range(out.dtype)
    elementwise(backend, "clamp", out, (x, least if low is None else low, most if high is None else high), params)


def divide(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """A division whose result is an integer, or the rest; of integers by 0 it is an error."""
    if type(args[1]) in SCALARS and not args[1] and out.dtype.kind in "iu":
        raise ArgumentError(_DIVISION_BY_ZERO)
    elementwise(backend, kernel, out, args, params)


def compare(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """x < y and its kin. All integers of a dtype compare alike with a number beyond it."""
    dtype = next(a.dtype for a in args if type(a) not in SCALARS)
    if dtype.kind in "iu" and any(type(a) is int for a in args):
        low, high = _range(dtype)
        if any(type(a) is int and not low <= a <= high for a in args):
            fill(backend, "fill", out, (_COMPARISONS[kernel](*[a if type(a) is int else 0 for a in args]),), params)
            return
    elementwise(backend, kernel, out, args, params)


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}


def pow(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """x^y; the usual constant powers of floats have formulas of their own."""
    x, y = args
    if type(y) in SCALARS:
        if out.dtype.kind not in "biu" and y in _POWERS:
            return elementwise(backend, _POWERS[y], out, (x,), params)
        if out.dtype.kind in "iu" and y < 0:
            raise ArgumentError(_NEGATIVE_POWER)
    elementwise(backend, "pow", out, args, params)


_POWERS = {1: "copy", 2: "square", 3: "cube", -1: "reciprocal", 0.5: "sqrt"}


_DIVISION_BY_ZERO = "integer division or modulo by zero"
_NEGATIVE_POWER = "integers to negative integer powers are not allowed; use a floating dtype"


def _division_by_zero(value: int, position: int) -> TensorliteError:
    return ArgumentError(f"{_DIVISION_BY_ZERO} (element {position} of the result)")


def _negative_power(value: int, position: int) -> TensorliteError:
    return ArgumentError(f"{_NEGATIVE_POWER} (exponent {value} of element {position} of the result)")


_COMPLAINTS = {"floor_divide": _division_by_zero, "remainder": _division_by_zero, "fmod": _division_by_zero,
               "pow": _negative_power}
_BOOL = np.dtype(np.bool_)

TABLE: dict[str, Launcher] = {name: elementwise for name in FORMULAS} | {
    "copy": copy, "fill": fill, "clamp": clamp, "pow": pow,
    "floor_divide": divide, "remainder": divide, "fmod": divide,
    **dict.fromkeys(_COMPARISONS, compare),
}
del TABLE["cube"], TABLE["bias_relu"]  # only behind pow and linear_relu


# --- all instances there are ----------------------------------------------------------------------------------------


def _siblings(kernel: str, formula: Formula | None, types: Sequence[np.dtype[Any]]) -> list[str]:
    """Instances with the same operands: compiled in the same go where compiling one costs as much as many."""
    if formula and formula.functor:
        return [_expression(template, formula.functor, "u32", [dtype.c_type] * len(types))
                for dtype in formula.dtypes for template in ("vectorised", "strided")]
    names = [c_type(d) for d in types]
    taken = dtypes.from_numpy(types[-1]) if formula else None
    kernels = [name for name, row in FORMULAS.items() if formula and row.signature == formula.signature
               and taken in row.dtypes] or [kernel]
    return [_expression(template, _functor(name), "u32", names)
            for name in kernels for template in ("vectorised", "strided")]


def instances() -> Iterator[Instance]:
    """Every instance that a call below 2^31 elements can reach, and the 64-bit ones of one formula per signature."""
    seen = set()
    for kernel, formula in FORMULAS.items():
        for dtype in formula.dtypes:
            names = [{"T": dtype.c_type, "b": "bool"}[c] for c in formula.signature[-1] + formula.inputs]
            first = (formula.signature, dtype) not in seen
            seen.add((formula.signature, dtype))
            for index in ("u32", "u64") if first else ("u32",):
                for template in ("vectorised", "strided"):
                    yield Instance(FILE, _expression(template, _functor(kernel), index, names))
    for to in dtypes.ALL:
        for source in dtypes.ALL:
            for template in ("vectorised", "strided"):
                yield Instance(FILE, _expression(template, _functor("copy"), "u32", [to.c_type, source.c_type]))
