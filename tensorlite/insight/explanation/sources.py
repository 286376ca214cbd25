"""Where an operation stands in the source: its forward function, the rules of its gradients, and its kernels.

Contract. Everything is found by looking at the objects themselves (inspect, ast) and at the kernel sources, so it
cannot go stale; what cannot be found, as in an installation without sources, is left out.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from ...autograd.op import Op
from ...backends import cpu, cpu_compiled, kernel_sources
from ...backends.kernels import catalogue
from ...errors import TensorliteError

_PACKAGE = Path(__file__).resolve().parents[2]
_LONGEST = 60  # lines of a source that a card shows


class Source(NamedTuple):
    """A piece of source text, and where it stands: "tensorlite/ops/reduce.py:33"."""

    place: str
    text: str


def forward_of(op: Op) -> Source | None:
    """The function that computes an op's result from raw arrays."""
    return _python(op.forward)


def reference_of(op: Op) -> Source | None:
    """The NumPy reference of an operation made by `tl.kernel`."""
    return _python(getattr(op, "reference", None))


def rules_of(op: Op) -> dict[str, Source]:
    """Per input, the rule of its gradient as it stands in the source; of a recurrent layer that of all together."""
    together = _python(getattr(op, "backward", None))
    if together is not None:
        return {", ".join(op.rule_of): together}
    found = {name: _python(rule) for name, (rule, _) in op.rule_of.items()}
    return {name: source for name, source in found.items() if source is not None}


def kernels_of(op: Op) -> list[str]:
    """The kernels that an op's forward function names, then those of its derivatives, such as `relu_grad`."""
    forward = _kernels(op.forward)
    rules = [rule for rule, _ in op.rule_of.values()]
    derivatives = [other for rule in rules for other in _ops_named_by(rule) if other.name.endswith("_grad")]
    backward = [name for other in derivatives for name in _kernels(other.forward)]
    own = [f for f in (getattr(op, "backward", None), type(op).gradients) if f not in (None, Op.gradients)]
    backward += [name for f in own for name in _kernels(f) if name.endswith("_grad")]
    return list(dict.fromkeys([*forward, *backward]))


def cpu_kernel(name: str) -> Source | None:
    """NumPy's kernel of a name: the function, or the ufunc that it hands its arguments to."""
    kernel = cpu.KERNELS.get(name)
    if kernel is None:
        return None
    source = _python(kernel)
    for cell in getattr(kernel, "__closure__", None) or ():
        wrapped = cell.cell_contents
        if source is not None and type(wrapped) is np.ufunc:
            return Source(source.place, f"# ufunc = np.{wrapped.__name__}\n{source.text}")
        if isinstance(wrapped, FunctionType):
            return _python(wrapped)
    return source


def is_compiled(name: str) -> bool:
    """Whether a compiled kernel goes before NumPy's here."""
    return name in cpu_compiled.kernels()


def cuda_kernel(name: str) -> Source | None:
    """The CUDA source of a kernel: the functor or kernel of its name, else the opening words of its file."""
    launcher = catalogue.TABLE.get(name)
    if launcher is None or not _has_kernels():
        return None
    module = inspect.getmodule(inspect.unwrap(_innermost(launcher)))
    own = str(getattr(module, "FILE", ""))
    for file in ("formulas.cuh", own, *_headers(own)):
        source = _defined(file, name)
        if source is not None:
            return source
    return _opening(own, inspect.getdoc(launcher) or "") if own else None


# --- Python -----------------------------------------------------------------------------------------------------------


def _python(function: Any) -> Source | None:
    """The source of a function; of a lambda the expression alone, without what stands around it."""
    function = inspect.unwrap(_innermost(function))
    if not isinstance(function, FunctionType):
        return None
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    place = f"{_short(function.__code__.co_filename)}:{start}"
    if function.__name__ != "<lambda>":
        return Source(place, _limited(textwrap.dedent("".join(lines)).rstrip()))
    text = _lambda_text(function.__code__)
    return None if text is None else Source(place, text)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _lambda_text(code: CodeType) -> str | None:
    """The text of a lambda: the one at its line with its parameters around the place where its body begins."""
    tree, text = _module(code.co_filename)
    line, _, column, _ = next(p for p in code.co_positions() if p[2] != p[3])  # the first that has a place of its own
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            names = tuple(a.arg for a in (*node.args.posonlyargs, *node.args.args))
            if names == code.co_varnames[:code.co_argcount] and _contains(node, line, column):
                first, _, rest = (ast.get_source_segment(text, node) or "").partition("\n")
                return first + ("\n" + textwrap.indent(textwrap.dedent(rest), "    ") if rest else "")
    return None


def _contains(node: ast.Lambda, line: Any, column: Any) -> bool:
    end = node.body.end_lineno or 0, node.body.end_col_offset or 0
    return (node.body.lineno, node.body.col_offset) <= (line, column) < end


@functools.cache
def _module(file: str) -> tuple[ast.Module, str]:
    text = "".join(linecache.getlines(file))  # also that of a notebook's cell
    return ast.parse(text), text


def _short(file: str) -> str:
    """A file's path from the package on; of a file elsewhere its name."""
    path = Path(file)
    return path.relative_to(_PACKAGE.parent).as_posix() if path.is_relative_to(_PACKAGE) else path.name


def _limited(text: str) -> str:
    lines = text.splitlines()
    return text if len(lines) <= _LONGEST else "\n".join([*lines[:_LONGEST], f"... {len(lines) - _LONGEST} more lines"])


def _functions(function: Any) -> Iterator[FunctionType]:
    """A function and those that it calls of its module's private ones, or to work on raw arrays as it does."""
    seen: set[int] = set()
    stack = [inspect.unwrap(_innermost(function))]
    while stack:
        one = stack.pop()
        if not isinstance(one, FunctionType) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        for name in _names(one.__code__):
            other = one.__globals__.get(name)
            if isinstance(other, FunctionType) and (name.startswith("_") or other.__code__.co_varnames[:1] == ("be",)):
                stack.append(other)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _constants(constant)


def _kernels(function: Any) -> list[str]:
    """The kernels that a function names: as strings, by what its maker calls it, or by a method of the backend."""
    found: list[str] = []
    for one in _functions(function):
        constants = list(_constants(one.__code__))
        for cell in one.__closure__ or ():
            if isinstance(name := cell.cell_contents, str):
                suffixed = [name + suffix for suffix in constants if suffix.startswith("_") and suffix != "_"]
                found += suffixed or [name]
        found += constants
        found += [_METHODS[name] for name in _names(one.__code__) if name in _METHODS]
    return [name for name in found if name in cpu.KERNELS]


_METHODS = {"matmul": "matmul", "copy": "copy", "cast": "copy"}  # of a backend -> the kernel they run


def _ops_named_by(function: Any) -> Iterator[Op]:
    for one in _functions(function):
        for name in _names(one.__code__):
            if isinstance(value := one.__globals__.get(name), Op):
                yield value
        for cell in one.__closure__ or ():
            if isinstance(cell.cell_contents, Op):
                yield cell.cell_contents


# --- CUDA -------------------------------------------------------------------------------------------------------------


def _has_kernels() -> bool:
    try:
        return kernel_sources.folder().is_dir()
    except TensorliteError:
        return False


def _headers(file: str) -> list[str]:
    """The headers that a kernel file includes, also through others."""
    found: list[str] = []
    stack = [file] if file else []
    while stack:
        for name in re.findall(r'#include "([\w.]+)"', kernel_sources.read(stack.pop())):
            if name not in found:
                found.append(name)
                stack.append(name)
    return found


def _defined(file: str, name: str) -> Source | None:
    """The struct or kernel of a name in a file, with the template line before it."""
    if not file:
        return None
    text = kernel_sources.read(file)
    pattern = rf"^(?:template <[^\n]*>\n)?(?:struct {name}\b[^;\n]*\{{|__global__ [^\n;]*\b{name}\([^\n]*\{{)"
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        return None
    end = text.index("\n}", match.end() - 1)
    body = text[match.start():text.index("\n", end + 1)] if "\n" in text[end + 1:] else text[match.start():]
    return Source(f"kernels/{file}:{text.count(chr(10), 0, match.start()) + 1}", _limited(body))


def _opening(file: str, launcher: str) -> Source:
    """What the function that launches a kernel says of it, and the comment with which the kernel's file opens."""
    lines = kernel_sources.read(file).splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
    said = [f"// {line}" for line in launcher.splitlines() if line]
    return Source(f"kernels/{file}:1", "\n".join([*said, *lines[:count]]))
