"""Users' own kernels (`tl.kernel`) on devices: the text around what a user wrote, and its launches.

A formula becomes a functor beside the templates of elementwise.cu, and so takes every dtype and layout that they take.
A whole kernel gets a struct `Args<T>` of its own: the pointers of `out` and of its inputs, which lie densely, and then
numbers. Messages of compilers and of the simulator name lines of the user's text, and are shown with these lines.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...dtypes import DType
from ...errors import ArgumentError, TensorliteError
from .. import Array, kernel_sources
from . import Grid, Instance, KernelBackend, Plan
from .elementwise import FILE, Formula, elementwise
from .layout import c_type

# A decimal number, which C++ takes for a double: `0.5`, `.5`, `1e-3`, but not `0.5f`.
_DECIMAL = re.compile(r"(?<![\w.])(?:(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)(?![\w.])")


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


# --- formulas -------------------------------------------------------------------------------------------------------


def register_formula(kernel: str, operands: Sequence[str], text: str, dtypes: tuple[DType, ...]) -> Formula:
    """Make a functor of an expression, or of statements that return; it is one more formula of elementwise.cu."""
    functor = kernel.partition("#")[0]
    parameters = ", ".join(f"T {name}" for name in operands)
    code = _marked(kernel, _DECIMAL.sub(r"T(\g<0>)", text))
    body = code if is_statements(text) else f"return\n{code}\n;"
    # A return that is missing is found at the closing brace, which stands for the last line of the text.
    kernel_sources.register(_file(kernel), f"""{kernel_sources.read(FILE)}
namespace own {{
struct {functor} {{
  template <class T>
  FN T operator()({parameters}) const {{
{body}
#line {len(text.rstrip().splitlines())} "{_label(kernel)}"
  }}
}};
}}  // namespace own
""")
    return Formula("T" * len(operands) + ">T", dtypes, _file(kernel), f"own::{functor}")


def is_statements(text: str) -> bool:
    """Whether a formula is written as statements, and not as one expression."""
    return re.search(r"\breturn\b", without_comments(text)) is not None


def without_comments(text: str) -> str:
    """C++ without what its compiler passes over."""
    return _COMMENT.sub(" ", text)


def launch_formula(formula: Formula, text: str, backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                   params: dict[str, Any]) -> None:
    """Launch a user's formula; what goes wrong in it is raised with the user's line."""
    try:
        elementwise(backend, kernel, out, args, params, formula)
    except TensorliteError as error:
        raise _with_lines(error, kernel, text) from None


# --- whole kernels --------------------------------------------------------------------------------------------------


Question = Callable[[Mapping[str, Any]], Any]  # (out, inputs and parameters by name) -> what a launch needs to know


class Whole(NamedTuple):
    """A kernel with indices of its own."""

    name: str  # of the template in the text
    text: str
    inputs: tuple[str, ...]
    params: Mapping[str, type]  # int or float
    numbers: Mapping[str, Question]
    grid: Question | None  # None: a thread for each element of out
    block: Question
    shared: Question
    dtypes: tuple[DType, ...]


def question(kernel: str, what: str, wanted: Any) -> Question:
    """The question whose answer is a value, or what a function makes of the values that its parameters name.

    It raises ArgumentError where the function raises, naming the kernel and the values.
    """
    if not callable(wanted):
        return lambda known: wanted
    names = parameters(wanted)

    def ask(known: Mapping[str, Any]) -> Any:
        try:
            return wanted(*[known[name] for name in names])
        except TensorliteError:
            raise
        except Exception as error:
            given = ", ".join(f"{name} of shape {known[name].shape}" if hasattr(known[name], "shape")
                              else f"{name} = {known[name]!r}" for name in names)
            raise ArgumentError(f"{kernel}: the function for {what} raises {type(error).__name__} ({error}) for "
                                f"{given}; it must give an answer for every call") from error

    return ask


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)


def register_whole(kernel: str, whole: Whole) -> None:
    """Make the text of a kernel known, behind that of its struct."""
    pointers = [f"  const T* {name};" for name in whole.inputs]
    integers = [f"  i64 {name};" for name in whole.numbers]
    params = [f"  {'i64' if kind is int else 'double'} {name};" for name, kind in whole.params.items()]
    fields = "\n".join(["  T* out;", *pointers, *integers, *params])
    kernel_sources.register(_file(kernel), f"""#include "common.cuh"
template <class T>
struct Args {{
{fields}
}};
{_marked(kernel, whole.text)}
""")


def launch_whole(whole: Whole, backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                 params: dict[str, Any]) -> None:
    """Launch a user's kernel over dense arrays of one dtype; what goes wrong in it is raised with the user's line."""
    if not out.size:
        return
    arrays = (out, *args)
    key = (kernel, out.dtype.char, *[a.shape for a in arrays], *map(repr, params.values()))  # 0.0 == -0.0
    try:
        plan = backend.plans.get(key)
        if plan is None:
            plan = backend.remember(key, _plan(whole, backend, kernel, arrays, params))
        backend.start(plan, arrays, *[backend.address(a) for a in arrays])
    except TensorliteError as error:
        raise _with_lines(error, kernel, whole.text) from None


def _plan(whole: Whole, backend: KernelBackend, kernel: str, arrays: tuple[Array, ...], params: dict[str, Any]) -> Plan:
    known = dict(zip(("out", *whole.inputs), arrays, strict=True)) | params
    numbers = [integer(whole.name, name, ask(known)) for name, ask in whole.numbers.items()]
    block = _grid(whole.name, "block", whole.block(known))
    grid = _grid(whole.name, "grid", whole.grid(known) if whole.grid else -(-arrays[0].size // math.prod(block)))
    shared = integer(whole.name, "shared", whole.shared(known))
    letters = "q" * len(numbers) + "".join("q" if kind is int else "d" for kind in whole.params.values())
    values = [*numbers, *[params[name] for name in whole.params]]
    names = [dtype.c_type for dtype in whole.dtypes]
    return backend.plan(
        Instance(_file(kernel), f"{whole.name}<{c_type(arrays[0].dtype)}>"), "P" * len(arrays), letters, values, grid,
        block, shared, siblings=[f"{whole.name}<{name}>" for name in names])


def integer(kernel: str, name: str, value: Any) -> int:
    """A value as an int. Raises ArgumentError for what is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{kernel}: {name} must be an integer, got {value!r}; use // to divide") from None


def integers(kernel: str, name: str, value: Any) -> tuple[int, ...]:
    """One integer or several as a tuple. Raises ArgumentError for what is none."""
    return tuple(integer(kernel, name, n) for n in (value if isinstance(value, (tuple, list)) else (value,)))


def _grid(kernel: str, name: str, value: Any) -> Grid:
    sizes = integers(kernel, name, value)
    if not 1 <= len(sizes) <= 3 or min(sizes) < 1:
        raise ArgumentError(f"{kernel}: {name} must be one to three positive integers, got {value!r}")
    x, y, z = *sizes, *(1,) * (3 - len(sizes))
    return x, y, z


# --- the user's text ------------------------------------------------------------------------------------------------


def _file(kernel: str) -> str:
    return f"own/{kernel}.cu"


def _label(kernel: str) -> str:
    """What compilers call the user's text."""
    return f"<{kernel}>"


def _marked(kernel: str, text: str) -> str:
    return f'#line 1 "{_label(kernel)}"\n{text}'


def _with_lines(error: TensorliteError, kernel: str, text: str) -> TensorliteError:
    """The error with the lines of the user's text that its message names, if it names any."""
    lines = text.splitlines()
    found = {int(number) for number in re.findall(rf"{re.escape(_label(kernel))}[:(](\d+)", str(error))}
    shown = [f"{number:5} | {lines[number - 1]}" for number in sorted(found) if number <= len(lines)]
    return type(error)("\n".join([f"{kernel}: in your text", *shown, str(error)])) if shown else error
