"""`tl.kernel`: a user's own kernel as a differentiable operation, on every device.

Contract. An own kernel is an Op like any other: it promotes dtypes, broadcasts (a formula does), is recorded, and runs
through the one door of each backend. Device "cpu" runs the NumPy reference, the others run the CUDA text, and `check`
holds them against each other.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import dtypes
from .autograd.op import ANY, FLOAT, Op, Rule
from .autograd.tape import Var
from .backends import SCALARS, Array, Backend, cpu
from .backends.kernels import THREADS, own
from .backends.own_kernels import OwnKernel, register
from .custom_check import Report, check
from .dtypes import DType
from .errors import ArgumentError, DTypeError, ShapeError

MAX_OPERANDS = 4  # of a formula, as in kernels/elementwise.cu
CPP_KEYWORDS = frozenset("""
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const const_cast constexpr continue
    decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto if
    inline int long mutable namespace new noexcept not nullptr operator or private protected public register
    reinterpret_cast return short signed sizeof static static_assert static_cast struct switch template this throw true
    try typedef typeid typename union unsigned using virtual void volatile while xor
""".split())
_TYPES = frozenset("T f16 bf16 i8 i16 i32 i64 u8 u16 u32 u64".split())
_FLOATS = tuple(d for d in dtypes.ALL if d.is_floating_point)
_OF_RULES = ("g", "shapes", "position")  # what rules ask for besides out, inputs and parameters
# A name that stands for a value: neither called, nor a template, nor part of a qualified name or a number.
_VALUE = re.compile(r"(?<![\w.:])([A-Za-z_]\w*)(?!\w)(?!\s*(?:\(|\{|::|<[\w\s,]+>))")


class CustomKernel(Op):
    """A differentiable operation made by `tl.kernel`; call it with Tensors and keyword parameters."""

    def __init__(self, forward: Callable[..., Array], promote: str, reference: Callable[..., Any],
                 broadcasts: bool) -> None:
        super().__init__(forward, promote, view=False)
        self.reference = reference
        self.broadcasts = broadcasts

    def check(self, *inputs: Any, devices: Sequence[str] | None = None, second: bool = True, slack: float = 1.0,
              **params: Any) -> Report:
        """Hold the kernel against its reference and its derivative against differences; a report that prints itself.

        inputs   shapes, filled with normally distributed numbers, or Tensors and arrays with numbers of your choice,
                 such as positive ones for a logarithm; without any, small arrays that broadcast
        devices  the names of devices; all that are present unless given, and the report says why others are not
        second   whether the second derivative is checked too
        slack    factor on the allowed differences

        On each device: the results in all floating dtypes (integers too for promote='any') and several memory layouts
        against the reference in float64; then `gradcheck` and `gradgradcheck`. On "cuda:sim" a whole kernel runs under
        `tl.simulator.check` first. Raises AssertionError for results and GradError for derivatives that differ, saying
        where, and SimulatorError for races, accesses out of bounds and what else breaks CUDA's rules.

        >>> softsign = tl.kernel("my_softsign", "x / (1.0 + fabs(x))", reference=lambda x: x / (1 + np.abs(x)),
        ...                      derivative=lambda g, x: g / (1 + abs(x)) ** 2)
        >>> print(softsign.check((4, 6), devices=["cpu"]))
        my_softsign agrees with its reference
          cpu       float16 bfloat16 float32 float64, 3 layouts; gradient; second gradient
        """
        return check(self, inputs, devices, second, slack, params)

    def __repr__(self) -> str:
        return f"<kernel {self.name}({', '.join([*self.inputs, *self.defaults])})>"


def kernel(name: str, formula: str | None = None, *, reference: Callable[..., Any],
           derivative: Rule | Mapping[str, Rule | None] | None = None, source: str | None = None, promote: str = FLOAT,
           out_shape: Any = None, grid: Any = None, block: Any = THREADS, shared: Any = 0,
           numbers: Mapping[str, Any] | None = None) -> CustomKernel:
    """A differentiable operation of your own, from CUDA C++, a NumPy reference and a derivative.

    name        a C++ identifier that no kernel of the library has
    formula     one C++ expression over the reference's parameters, computed in T (float for the 16-bit floats), or
                statements that `return`; decimal numbers in it are of type T, and it broadcasts like any other op
    reference   the same in NumPy; its positional parameters are the inputs, its keyword-only ones are numbers that are
                not differentiated. Device "cpu" runs it, on views that cannot be written to
    derivative  {input: rule}, or one rule for an only input: the gradient in differentiable operations, other kernels
                of this kind among them. A rule asks by name for what it needs: g (the incoming gradient), out, inputs,
                parameters. Every input is named; one whose rule is None gets no gradient. None for all: derivative=None
    source      instead of a formula: a whole kernel, `template <class T> __global__ void name(const Args<T> args)`.
                Args has the fields `T* out`, `const T* input` for each input, and numbers and parameters as i64 or
                double. Inputs lie densely and have one dtype; `widen(x)` and `narrow<T>(x)` lead to `Compute<T>`, in
                which to compute, and back
    promote     'float': inputs are brought to one floating dtype; 'any': to one dtype, integers and bools too
    out_shape, grid, block, shared
                of a whole kernel: the result's shape (that of the first input unless given), blocks (one thread per
                element of out), threads of a block, bytes of dynamic shared memory. Each is a value or a function that
                names what it needs: inputs, out, parameters
    numbers     of a whole kernel: {field: integer or such a function}

    Raises ArgumentError for a definition that cannot work, saying what to change. What the compiler refuses is raised
    at the first call on a device, with your line.

    >>> cubed = tl.kernel("cubed", "x * x * x", reference=lambda x: x ** 3, derivative=lambda g, x: g * x * x * 3)
    >>> x = tl.tensor([1., 2.], requires_grad=True)
    >>> cubed(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """
    names = _names(name, reference, differentiable=derivative is not None)
    description = reference.__doc__ or formula
    reference = _without_writing(name, reference)
    taken = {FLOAT: _FLOATS, ANY: dtypes.ALL}.get(promote)
    if taken is None:
        raise ArgumentError(f"{name}: promote must be 'float' or 'any', got {promote!r}")
    if formula is not None and source is None:
        if out_shape is not None or grid is not None or numbers or shared or block != THREADS:
            raise ArgumentError(f"{name}: a formula has the shape of its operands and a grid of the library's; "
                                "out_shape, grid, block, shared and numbers are for a whole kernel, source=")
        forward = _formula(names, formula, reference, taken)
    elif source is not None and formula is None:
        fields = dict(numbers or {})
        _check_whole(names, source, fields, [grid, block, shared], out_shape)
        ask = functools.partial(own.question, name)
        whole = own.Whole(name, source, names.inputs, names.params,
                          {field: ask(field, number) for field, number in fields.items()},
                          None if grid is None else ask("grid", grid), ask("block", block), ask("shared", shared),
                          taken)
        forward = _whole(names, whole, reference, None if out_shape is None else ask("out_shape", out_shape))
    else:
        raise ArgumentError(f"{name}: give either a formula, or a whole kernel as source=")
    forward.__doc__ = description
    result = CustomKernel(forward, promote, reference, broadcasts=formula is not None)
    result.rules(**_rules(names, derivative))
    return result


# --- names ----------------------------------------------------------------------------------------------------------


class _Names(NamedTuple):
    """What a definition calls things: the kernel, its inputs, and its parameters with their types, int or float."""

    kernel: str
    inputs: tuple[str, ...]
    params: Mapping[str, type]
    defaults: dict[str, int | float]  # of the parameters that have one
    signature: inspect.Signature  # of the forward

    def settings(self, inputs: Sequence[Any], params: dict[str, Any]) -> dict[str, int | float]:
        """The parameters of a call in their order. Raises ArgumentError for a call that does not fit."""
        if len(inputs) != len(self.inputs):
            raise ArgumentError(f"{self.kernel}: the inputs are {', '.join(self.inputs)}, got {len(inputs)} of them; "
                                "parameters are given by keyword")
        given = self.defaults | params
        if given.keys() != self.params.keys():
            raise ArgumentError(f"{self.kernel}: the parameters are {', '.join(self.params) or 'none'}, "
                                f"got {', '.join(params) or 'none'}")
        return {name: self._number(name, kind, given[name]) for name, kind in self.params.items()}

    def _number(self, name: str, kind: type, value: Any) -> int | float:
        if not isinstance(value, (bool, int, float)):
            raise ArgumentError(f"{self.kernel}: parameter {name} must be a number, got {type(value).__name__}; "
                                "what may be a Tensor is an input: a positional parameter of the reference")
        if kind is int and isinstance(value, float):
            raise ArgumentError(f"{self.kernel}: parameter {name} must be an integer as its default is, got {value!r}; "
                                "a default such as 1.0 lets it be a float")
        number: int | float = kind(value)
        return number


def _names(name: str, reference: Callable[..., Any], differentiable: bool) -> _Names:
    """Read them from the reference's signature. Raises ArgumentError for those that cannot be."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name in CPP_KEYWORDS | _TYPES:
        raise ArgumentError(f"{name!r} cannot name a kernel: use letters, digits and _, and no word of C++")
    if name in cpu.KERNELS:  # its names are those of every device
        raise ArgumentError(f"{name}: the library has a kernel of that name; choose another one, such as my_{name}")
    try:
        if isinstance(reference, np.ufunc):  # its parameters out, where, ... are none of a kernel's
            raise TypeError
        given = list(inspect.signature(reference).parameters.values())
    except (TypeError, ValueError):
        called = getattr(reference, "__name__", "function")
        raise ArgumentError(f"{name}: the reference does not tell its parameters; wrap it in a lambda: "
                            f"reference=lambda x: {called}(x)") from None
    for p in given:
        _check_parameter(name, p, differentiable)
    keyword_only = [p for p in given if p.kind is p.KEYWORD_ONLY]
    inputs = tuple(p.name for p in given if p.kind is not p.KEYWORD_ONLY)
    if not inputs:
        raise ArgumentError(f"{name}: the reference has no positional parameter; a kernel needs at least one input")
    params = {p.name: int if isinstance(p.default, int) else float for p in keyword_only}
    defaults = {p.name: p.default for p in keyword_only if p.default is not p.empty}
    backend = inspect.Parameter("be", inspect.Parameter.POSITIONAL_ONLY)
    ordered = [backend, *[inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in inputs], *keyword_only]
    return _Names(name, inputs, params, defaults, inspect.Signature(ordered))


def _check_parameter(kernel: str, p: inspect.Parameter, differentiable: bool) -> None:
    if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        raise ArgumentError(f"{kernel}: the reference must name its parameters one by one, not as {p}")
    if p.kind is not p.KEYWORD_ONLY and p.default is not p.empty:
        raise ArgumentError(f"{kernel}: input {p.name} has a default; put a * before it to make it a parameter")
    words = CPP_KEYWORDS | _TYPES | {"be", "out"} | (set(_OF_RULES) if differentiable else set())
    if p.name in words or not p.name.isascii():
        raise ArgumentError(f"{kernel}: an input or parameter cannot be called {p.name!r}, which is a word of C++, of "
                            "kernels or of rules; rename it in the reference")


def _rules(names: _Names, derivative: Rule | Mapping[str, Rule | None] | None) -> dict[str, Rule]:
    """The rule of each input that has one. Raises ArgumentError for one that could not be called, or left out."""
    if derivative is None:
        return {}
    if callable(derivative):
        if len(names.inputs) != 1:
            raise ArgumentError(f"{names.kernel}: has the inputs {', '.join(names.inputs)}; give a derivative for each "
                                f"by name: derivative={{{names.inputs[0]!r}: ...}}")
        derivative = {names.inputs[0]: derivative}
    if not isinstance(derivative, Mapping):
        raise ArgumentError(f"{names.kernel}: derivative must be a function, or a dict of them by input, got "
                            f"{type(derivative).__name__}")
    for name, rule in derivative.items():
        if name not in names.inputs:
            raise ArgumentError(f"{names.kernel}: derivative of {name!r}, which is no input; the inputs are "
                                f"{', '.join(names.inputs)}")
        if rule is not None and not callable(rule):
            raise ArgumentError(f"{names.kernel}: the derivative of {name} must be a function of g and more, or None, "
                                f"got {type(rule).__name__}")
        _check_questions(names, f"the derivative of {name}", rule, ["g", "out", "shapes", *names.inputs, *names.params])
    for name in names.inputs:
        if name not in derivative:
            raise ArgumentError(f"{names.kernel}: derivative says nothing of input {name!r}; give it a rule, or None "
                                f"if it gets no gradient: {name!r}: None")
    return {name: _of_tensors(names, name, rule) for name, rule in derivative.items() if rule is not None}


def _of_tensors(names: _Names, name: str, rule: Rule) -> Rule:
    """The rule, which must return a Tensor, or None for no gradient."""

    @functools.wraps(rule)
    def run(*values: Any) -> Any:
        result = rule(*values)
        if result is not None and not isinstance(result, Var):
            raise ArgumentError(f"{names.kernel}: the derivative of {name} must return a Tensor, got "
                                f"{type(result).__name__}; compute it by operations on Tensors, not by NumPy")
        return result

    return run


def _check_questions(names: _Names, what: str, function: Any, known: Iterable[str]) -> None:
    """Refuse a function whose parameters ask for what there is not."""
    allowed = list(known)
    for name in own.parameters(function) if callable(function) else ():
        if name not in allowed:
            raise ArgumentError(f"{names.kernel}: {what} asks for {name!r}; there are {', '.join(allowed)}")


# --- formulas -------------------------------------------------------------------------------------------------------


def _formula(names: _Names, text: str, reference: Callable[..., Any],
             taken: tuple[DType, ...]) -> Callable[..., Array]:
    """Register a formula's kernel; the forward that calls it."""
    operands = [*names.inputs, *names.params]
    if len(operands) > MAX_OPERANDS:
        raise ArgumentError(f"{names.kernel}: a formula takes up to {MAX_OPERANDS} inputs and parameters, got "
                            f"{len(operands)}: {', '.join(operands)}; make it two kernels, or a whole one by source=")
    _check_formula(names, text, operands)

    def make(unique: str) -> OwnKernel:
        formula = own.register_formula(unique, operands, text, taken)
        return OwnKernel(functools.partial(_run_reference, names, reference),
                         functools.partial(own.launch_formula, formula, text))

    unique = register(names.kernel, make)

    def forward(be: Backend, *inputs: Any, **params: Any) -> Array:
        return be.elementwise(unique, *inputs, *names.settings(inputs, params).values())

    return _named(forward, names)


def _check_formula(names: _Names, text: str, operands: Sequence[str]) -> None:
    """Refuse an expression that uses a value which it does not have. Statements may declare values of their own."""
    code = own.without_comments(text)
    if not code.strip():
        raise ArgumentError(f"{names.kernel}: the formula is empty")
    if own.is_statements(text):
        return
    for found in _VALUE.finditer(code):
        if found[1] not in operands and found[1] not in CPP_KEYWORDS | _TYPES:
            raise ArgumentError(f"{names.kernel}: the formula uses {found[1]!r}, and the reference has no such "
                                f"parameter, only {', '.join(operands)}; add it there, or declare it in "
                                "statements that return. Else a formula may use T, numbers and functions, but no "
                                "macros: M_PI is 3.141592653589793, INFINITY is Limits<T>::highest()")


# --- whole kernels --------------------------------------------------------------------------------------------------


def _whole(names: _Names, whole: own.Whole, reference: Callable[..., Any],
           out_shape: own.Question | None) -> Callable[..., Array]:
    """Register a whole kernel; the forward that calls it."""

    def make(unique: str) -> OwnKernel:
        own.register_whole(unique, whole)
        return OwnKernel(functools.partial(_run_reference, names, reference),
                         functools.partial(own.launch_whole, whole))

    unique = register(names.kernel, make)

    def forward(be: Backend, *inputs: Any, **params: Any) -> Array:
        settings = names.settings(inputs, params)
        if any(type(x) in SCALARS for x in inputs):
            raise DTypeError(f"{names.kernel}: a whole kernel takes Tensors, got a number; wrap it in tl.tensor(...)")
        arrays = [be.contiguous(x) for x in inputs]
        known = dict(zip(names.inputs, arrays, strict=True)) | settings
        sizes = own.integers(names.kernel, "out_shape", arrays[0].shape if out_shape is None else out_shape(known))
        return be.fill(unique, sizes, arrays[0].dtype, *arrays, **settings)

    return _named(forward, names)


def _check_whole(names: _Names, source: str, numbers: Mapping[str, Any], launch: Sequence[Any], out_shape: Any) -> None:
    """Refuse a whole kernel that cannot be called, before any device sees it."""
    if not re.search(rf"__global__[^;{{]*\b{names.kernel}\s*\(\s*(?:const\s+)?Args\s*<", source):
        raise ArgumentError(f"{names.kernel}: the source must define the kernel by its name: "
                            f"template <class T> __global__ void {names.kernel}(const Args<T> args)")
    known = [*names.inputs, *names.params]
    for name in numbers:
        if not name.isidentifier() or name in {*known, "out"} | CPP_KEYWORDS | _TYPES:
            raise ArgumentError(f"{names.kernel}: {name!r} cannot be a field of Args<T>; choose a name that is free")
    _check_questions(names, "out_shape", out_shape, known)
    for function in (*launch, *numbers.values()):
        _check_questions(names, "a function of the launch", function, [*known, "out"])


# --- both -----------------------------------------------------------------------------------------------------------


def _named(forward: Callable[..., Array], names: _Names) -> Callable[..., Array]:
    forward.__name__ = forward.__qualname__ = names.kernel
    forward.__signature__ = names.signature  # type: ignore[attr-defined]
    return forward


def _without_writing(kernel: str, reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference on views that cannot be written to, for they are memory of Tensors that others may have saved."""

    @functools.wraps(reference)
    def run(*operands: Any, **params: Any) -> Any:
        try:
            return reference(*map(_read_only, operands), **params)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ArgumentError(f"{kernel}: the reference must not write into its inputs, which are the memory of "
                                f"Tensors; write into an array that it makes ({error})") from error

    return run


def _read_only(operand: Any) -> Any:
    if not isinstance(operand, np.ndarray):
        return operand
    view = operand.view()
    view.flags.writeable = False
    return view


def _run_reference(names: _Names, reference: Callable[..., Any], out: Array, *operands: Any, **params: Any) -> None:
    """The kernel on device "cpu". Raises ShapeError for a reference that makes another shape."""
    count = len(names.inputs)
    settings = dict(zip(names.params, operands[count:], strict=False)) | params
    result = np.asarray(reference(*operands[:count], **settings))
    if result.shape != out.shape:
        raise ShapeError(f"{names.kernel}: the reference makes shape {result.shape} and the kernel {out.shape}; "
                         "correct the reference, or out_shape")
    np.copyto(out, result, casting="unsafe")
