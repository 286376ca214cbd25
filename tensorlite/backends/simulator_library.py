"""Kernel texts built for the host behind kernels/simulator.h, loaded, and launched as grids of fibers.

Contract. A `Library` is one compiled text with several kernel instances; `Library.function` gives one of them, and
`launch` runs it. Instances that are built together cost one run of the compiler. A launch holds the interpreter's
lock, so there is one at a time. What goes wrong in one, such as a barrier that not all threads reach, stops the launch
and is raised as a SimulatorError that names kernel, block, thread and line.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DeviceError
from . import elf, host, kernel_sources

Grid = tuple[int, int, int]

# As kernels mean it: no contraction to fused multiply-adds, and integers wrap around. Nothing is thrown, no variable
# needs a lock. A division by zero would kill the process; with this check it stops the launch. A function that falls
# off its end has an undefined result, and on the host may run on into the next one. Warnings are not shown.
FLAGS = ("-DTL_SIMULATOR=1", "-fwrapv", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti",
         "-fno-threadsafe-statics", "-Werror=return-type", "-fsanitize=integer-divide-by-zero")
RUNTIME = ("-O2", *FLAGS)
PLAIN = ("-Og",)  # a quarter slower kernels than by -O1, in half the time to build
# A call before each access to memory, which kernels/simulator_hooks.cpp answers, and lines for messages.
CHECKED = ("-Og", "-DTL_SIMULATOR_CHECKED=1", "-g1", "-gdwarf-4", "-fsanitize=thread",
           "-fsanitize=alignment,null,bounds,shift-exponent,bool,unreachable,return")
LIBRARIES = ("-nodefaultlibs", "-lm", "-lgcc")  # not those that the sanitizers' options bring

_MAX_PARAMETERS = 16
_MAX_GEOMETRIES = 1000  # kept per function
_DYNAMIC_SHARED = re.compile(r"\bextern\s+__shared__\s+(?:__align__\s*\(\s*\w+\s*\)\s*)?([\w:][\w:\s]*?)\s+(\w+)"
                             r"\s*\[\s*\]\s*;")


class SimulatorError(DeviceError):
    """A kernel that breaks CUDA's rules, as found by the simulator: where, and what is wrong."""


class Geometry(ctypes.Structure):
    """Mirrors `Geometry` of kernels/simulator.h."""

    _fields_ = (("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared_bytes", ctypes.c_uint),
                ("seed", ctypes.c_ulonglong))


class Parameter(ctypes.Structure):
    """Mirrors `Parameter` of kernels/simulator.h."""

    _fields_ = (("kind", ctypes.c_char), ("element_kind", ctypes.c_char), ("size", ctypes.c_uint),
                ("offset", ctypes.c_uint), ("element_size", ctypes.c_uint))


class Kernel(ctypes.Structure):
    """Mirrors `Kernel` of kernels/simulator.h."""

    _fields_ = (("run", ctypes.c_void_p), ("static_shared", ctypes.c_void_p), ("static_shared_end", ctypes.c_void_p),
                ("arguments_size", ctypes.c_uint), ("parameter_count", ctypes.c_uint),
                ("parameters", Parameter * _MAX_PARAMETERS))


@functools.cache
def runtime() -> Any:
    """The scheduler, a library that all kernels are linked to at loading. Raises DeviceError without a compiler."""
    text = "".join(f'#include "{name}.cpp"\n' for name in ("simulator", "simulator_checks", "simulator_hooks"))
    path = host.build("simulator", text, RUNTIME, ("-nodefaultlibs", "-lm", "-lgcc", "-lc"))
    library = ctypes.PyDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.simulator_launch.argtypes = (ctypes.c_void_p,) * 4
    library.simulator_launch.restype = ctypes.c_char_p
    return library


class SharedVariable(NamedTuple):
    """Where a `__shared__` variable lies."""

    address: int
    size: int
    name: str


class Library:
    """A kernel text for the host with the instances that its `expressions` name, compiled when one is first used.

    `name` is the text's file name in messages. Use raises CompileError with the compiler's message.
    """

    def __init__(self, name: str, text: str, expressions: Sequence[str], flags: Sequence[str] = PLAIN) -> None:
        self.name = name
        self._text = text
        self._expressions = tuple(expressions)
        self._flags = tuple(flags)
        self._functions = {expression: Function(self, expression) for expression in expressions}

    def function(self, expression: str) -> Function:
        """The instance of an expression among those the library was made with."""
        return self._functions[expression]

    @functools.cached_property
    def checked(self) -> Library:
        """The same instances with a check before every access to memory."""
        return self if self._flags == CHECKED else Library(self.name, self._text, self._expressions, CHECKED)

    @functools.cached_property
    def path(self) -> Path:
        """Where the compiled library lies."""
        text = _translation_unit(self.name, self._text, self._expressions)
        return host.build(Path(self.name).stem, text, _options(self._flags), LIBRARIES)

    def kernel(self, expression: str) -> Kernel:
        """The entry of an instance in the loaded library."""
        return Kernel.in_dll(self._loaded, f"tl_kernel_{self._expressions.index(expression)}")

    @functools.cached_property
    def _loaded(self) -> ctypes.PyDLL:
        runtime()
        return ctypes.PyDLL(str(self.path))

    @functools.cached_property
    def shared_variables(self) -> list[SharedVariable]:
        """The `__shared__` variables of all instances, in the order of their addresses."""
        start = self.kernel(self._expressions[0]).static_shared
        return [SharedVariable(start + v.offset, v.size, v.name) for v in elf.variables(self.path, "__bss_start")]


class Function:
    """One kernel instance: what it takes, and its entry in a loaded library."""

    def __init__(self, library: Library, expression: str) -> None:
        self.library = library
        self.expression = expression
        self.name = f"{expression} of {library.name}"
        self._geometries: dict[tuple[Any, ...], tuple[Geometry, int]] = {}

    @functools.cached_property
    def _kernel(self) -> Kernel:
        return self.library.kernel(self.expression)

    @functools.cached_property
    def _address(self) -> int:
        return ctypes.addressof(self._kernel)

    @functools.cached_property
    def arguments_size(self) -> int:
        """The bytes of all arguments, laid out as in a C struct."""
        size: int = self._kernel.arguments_size
        return size

    @functools.cached_property
    def parameters(self) -> list[Parameter]:
        """The kernel's parameters: kind, size and offset of each."""
        return list(self._kernel.parameters[:self._kernel.parameter_count])

    @property
    def checked(self) -> Function:
        """The same instance with a check before every access to memory."""
        return self.library.checked.function(self.expression)

    def run(self, grid: Grid, block: Grid, shared_bytes: int, arguments: int, seed: int = 0,
            watch: int | None = None) -> str | None:
        """Launch with the arguments at an address; what went wrong, if anything. Seed 0 runs threads in order."""
        message = runtime().simulator_launch(self._address, self._geometry(grid, block, shared_bytes, seed), arguments,
                                             watch)
        return None if message is None else f"{self.name}, grid {grid}, block {block}: {message.decode()}"

    def _geometry(self, *values: Any) -> int:
        """The address of a Geometry with these values, kept for the next launch of the same ones."""
        known = self._geometries.get(values)
        if known is None:
            if len(self._geometries) >= _MAX_GEOMETRIES:
                self._geometries.clear()
            made = Geometry(*values)
            known = self._geometries[values] = made, ctypes.addressof(made)
        return known[1]

    def __repr__(self) -> str:
        return f"<simulated kernel {self.name}>"


def _options(flags: Sequence[str]) -> list[str]:
    """All options of a kernel library. Unique symbols would make two libraries share one static variable."""
    unique = () if host.is_clang() else ("-fno-gnu-unique",)
    return [*flags, *FLAGS, *unique, f"-fmacro-prefix-map={kernel_sources.folder()}/="]


def _translation_unit(name: str, text: str, expressions: Sequence[str]) -> str:
    """The text in an unnamed namespace, so that the compiler drops what no instance uses, and its instances."""
    rewritten = _DYNAMIC_SHARED.sub(r"\1* const \2 = simulator::dynamic_shared<\1>();", text)
    entries = "".join(
        f'extern "C" __attribute__((visibility("default"))) constexpr simulator::Kernel tl_kernel_{i} = '
        f"simulator::Entry<{expression}>::describe();\n" for i, expression in enumerate(expressions))
    return (f'#include "simulator.h"\nnamespace {{\n#line 1 "{name}"\n{rewritten}\n}}\n'
            f'#line 1 "the list of kernel instances of {name}"\n{entries}')


def launch(function: Function, grid: Grid, block: Grid, shared_bytes: int, arguments: int) -> None:
    """Run a grid with the arguments in host memory at the address `arguments`. Raises SimulatorError."""
    problem = function.run(grid, block, shared_bytes, arguments)
    if problem is not None:
        raise SimulatorError(problem)
