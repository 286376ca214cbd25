"""The compiled kernels of device "cpu": built from kernels/cpu_kernels.cpp by the host's compiler, loaded, called.

Contract. They are never needed: without a compiler, with TENSORLITE_COMPILED=0 or where Python or NumPy are laid out
otherwise than they expect, NumPy serves. A process uses them from its first kernel on if their library lies in the
cache of `host` by then; otherwise it has them built for later processes and stays on NumPy, so that its numbers do not
change midway. `compile_kernels` builds them at once, and uses them from there on.

A compiled kernel takes the arguments of NumPy's kernel of its name and returns whether it took the call. It leaves a
call to NumPy by dtypes, shapes, strides and alignment alone, and for errors in the data, which NumPy's kernel raises.
Derivatives, softmax, losses, norms and updates flush denormal numbers; all else computes them as NumPy does.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ..errors import DeviceError
from . import host, kernel_sources, recording
from .recording import Call

# As kernels/ means it: no contraction to fused multiply-adds. That sqrt sets no errno and that no operation traps is
# what lets loops vectorise; neither changes a result. Python's functions are found when the library is loaded.
_FOUND_LATER: Final = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
_FLAGS: Final = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
                 "-fno-exceptions", "-fno-rtti", *_FOUND_LATER)
_LIBRARIES: Final = ("-lpthread",)
_TEXT: Final = '#include "cpu_kernels.cpp"\n'
_BLAS_NAMES: Final = (("scipy_cblas_{}gemm64_", True), ("cblas_{}gemm64_", True), ("cblas_{}gemm", False))
_DTYPES: Final = ("float32", "float64", "int64", "uint64", "bool")
_BUILD: Final = "from tensorlite.backends import cpu_compiled; cpu_compiled.build()"

Function = Callable[..., Any]


class Library(NamedTuple):
    """A loaded library; its parts are described in kernels/cpu_kernels.cpp."""

    run: dict[str, Function]
    pack: dict[str, Function]
    replay: Function
    flush: Function

    def packed(self, call: Call) -> bytes | None:
        """The task of a recorded call, for `replay`; None where NumPy's kernel takes it."""
        pack = self.pack.get(call.kernel)
        task: bytes | None = None if pack is None else pack(call.out, *call.args, **call.params)
        return task


class _Setup(ctypes.Structure):
    """Mirrors `Setup` of kernels/cpu_kernels.cpp."""

    _fields_ = (*((name, ctypes.py_object) for name in ("array", *_DTYPES)), ("sgemm", ctypes.c_void_p),
                ("dgemm", ctypes.c_void_p), ("blas_is_wide", ctypes.c_longlong), ("threads", ctypes.c_longlong))


class _State:
    """What this process uses: decided once, at its first kernel or by `compile_kernels`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decided = False
        self.library: Library | None = None
        self.run: dict[str, Function] = {}  # the library's kernels; empty as long as NumPy serves
        self.reason = "no kernel has run yet"


_state: Final = _State()


def library() -> Library | None:
    """The compiled kernels, if this process uses them. The first call decides, and may start a build for later ones."""
    if not _state.decided:
        with _state.lock:
            if not _state.decided:
                _use(*_decide())
    return _state.library


def kernels() -> dict[str, Function]:
    """The compiled kernels by name, in a dict that stays empty while NumPy serves."""
    library()
    return _state.run


def _use(found: Library | None, reason: str) -> None:
    _state.library, _state.reason, _state.decided = found, reason, True
    if found is not None:
        _state.run.update(found.run)


def describe() -> str:
    """Whether compiled kernels are in use, or why not."""
    return _state.reason


def _decide() -> tuple[Library | None, str]:
    """The library if it lies ready, and what to say of it."""
    if is_off():
        return None, "off (TENSORLITE_COMPILED=0)"
    try:
        path = _target()
    except DeviceError as error:
        return None, f"no compiler: {error}"
    if host.is_built(path):
        return _loaded(path)
    if _failure(path).exists():
        return None, f"not built: {_failure(path).read_text(encoding='utf-8').strip()}"
    if path.parent != kernel_sources.cache_folder() / "host":
        return None, f"not built: {kernel_sources.cache_folder()} cannot be written (see TENSORLITE_CACHE)"
    if host.is_being_built(path) or _build_in_background():
        return None, "being built for later processes"
    return None, "not built: no process was started"


def is_off() -> bool:
    """Whether the environment turns compiled kernels off."""
    return os.environ.get("TENSORLITE_COMPILED", "") == "0"


def _target() -> Path:
    return host.target("cpu", _TEXT, _FLAGS, _LIBRARIES)


def _failure(path: Path) -> Path:
    """Where a build leaves the compiler's refusal, lest each process tries again."""
    return path.with_suffix(".failed")


# --- building ---------------------------------------------------------------------------------------------------------


def build() -> Path:
    """The built library. Raises DeviceError without a compiler, CompileError with the compiler's message."""
    note = _failure(_target())
    try:
        path = host.build("cpu", _TEXT, _FLAGS, _LIBRARIES)
    except host.CompileError as error:
        note.write_text(f"{error}\n", encoding="utf-8")
        raise
    note.unlink(missing_ok=True)
    return path


def _build_in_background() -> bool:
    """Start a process that builds the library and outlives this one, at the lowest priority; whether that worked."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = ["/bin/sh", "-c", 'nice -n 19 "$0" "$@" </dev/null >/dev/null 2>&1 &', sys.executable, "-c", _BUILD]
    try:
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False, close_fds=True)
    except OSError:
        return False
    return done.returncode == 0


def compile_kernels() -> bool:
    """Build the CPU's compiled kernels now, if need be, and use them from here on; whether they are in use.

    It takes about half a minute where they are not in the cache. Numbers computed before and after may differ in the
    last places. False where TENSORLITE_COMPILED=0 turns them off. Raises DeviceError where there is no compiler, and
    CompileError with the message of one that fails.
    """
    if is_off():
        library()
        return False
    path = build()
    with _state.lock:
        if _state.library is None:
            _use(*_loaded(path))
            recording.outdate_all("the CPU uses compiled kernels from here on")
    return _state.library is not None


# --- loading ----------------------------------------------------------------------------------------------------------


def _loaded(path: Path) -> tuple[Library | None, str]:
    """The library at a path, unless Python's objects are laid out otherwise than it expects."""
    try:
        shared = ctypes.PyDLL(str(path))
    except OSError as error:
        return None, f"not usable: {error}"
    if sys.implementation.name != "cpython" or object.__basicsize__ != 2 * ctypes.sizeof(ctypes.c_void_p):
        return None, "not usable: this Python lays out its objects in another way"
    sgemm, dgemm, wide = _blas()
    setup = _Setup(np.ndarray, *map(np.dtype, _DTYPES), sgemm, dgemm, wide, threads())
    shared.tensorlite_cpu_kernels.restype = ctypes.py_object
    parts = shared.tensorlite_cpu_kernels(ctypes.byref(setup))
    if not _reads_arrays(shared):
        return None, "not usable: this NumPy lays out its arrays in another way"
    return Library(**parts), f"in use ({len(parts['run'])} kernels, {threads()} threads, {path})"


def _reads_arrays(shared: ctypes.PyDLL) -> bool:
    """Whether the library finds the fields of an array where they are."""
    known = np.zeros((2, 3), np.float32)
    shared.tensorlite_cpu_check.argtypes = (ctypes.py_object, ctypes.py_object)
    shared.tensorlite_cpu_check.restype = ctypes.c_longlong
    return bool(shared.tensorlite_cpu_check(known, known.__array_interface__["data"][0]))


def threads() -> int:
    """How many threads long loops use: TENSORLITE_THREADS, OMP_NUM_THREADS, or one per processor of this process."""
    for variable in ("TENSORLITE_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(variable, "")).isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blas() -> tuple[int | None, int | None, bool]:
    """The addresses of the matrix products of NumPy's BLAS, and whether its integers have 64 bits; None: not found."""
    try:
        numpy_core = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None, None, False
    for name, wide in _BLAS_NAMES:  # those of a library that NumPy's own is linked to are found through it
        sgemm, dgemm = (getattr(numpy_core, name.format(letter), None) for letter in "sd")
        if sgemm is not None and dgemm is not None and _multiplies(sgemm, ctypes.c_float, wide):
            return _address(sgemm), _address(dgemm), wide
    return None, None, False


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _multiplies(gemm: Any, number: Any, wide: bool) -> bool:
    """Whether a function is the product it is taken for: tried on two small matrices, the second one transposed."""
    integer = ctypes.c_int64 if wide else ctypes.c_int32
    x, y, out = (np.arange(size, dtype=np.float32).reshape(-1, 3) for size in (6, 12, 24))
    arrays = [ctypes.c_void_p(a.__array_interface__["data"][0]) for a in (x, y, out)]
    gemm(101, 111, 112, integer(2), integer(4), integer(3), number(1), arrays[0], integer(3), arrays[1], integer(3),
         number(0), arrays[2], integer(4))
    return np.array_equal(out.reshape(-1)[:8].reshape(2, 4), x @ y.T)


# --- denormal numbers -------------------------------------------------------------------------------------------------


def set_flush_denormal(mode: bool) -> bool:
    """Make the calling thread read and write denormal numbers as 0, or no longer; whether the processor can.

    Denormal numbers, below 1.2e-38 in float32, are computed many times slower than others. Compiled derivatives, losses
    and updates flush them in any case; this is for all other kernels, NumPy's too, and for threads that this one starts
    from then on. False where there are no compiled kernels.

    >>> import tensorlite as tl
    >>> isinstance(tl.set_flush_denormal(False), bool)
    True
    """
    loaded = library()
    return loaded is not None and bool(loaded.flush(mode is True))
