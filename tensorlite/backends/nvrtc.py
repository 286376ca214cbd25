"""NVRTC: kernel instances to machine code for one GPU architecture, kept on disk.

An instance is a C++ expression of a kernel file, such as "vectorised<formulas::relu, u32, float, float>" of
"elementwise.cu". Compiling needs neither a GPU nor a driver nor the toolkit's headers: kernel text includes only files
of kernels/, which are handed over as text. What was compiled is found again under the hash of all that went in: the
texts, the options and the version of NVRTC.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from . import kernel_sources
from .cuda_requirements import advice
from .cupy_import import cupy

nvrtc = cupy.cuda.nvrtc

# -default-device: constexpr helpers without __device__ are usable in kernels. No fast math: division, square root and
# denormals follow IEEE 754 as on the CPU. -lineinfo costs nothing at run time and lets compute-sanitizer name lines.
# Diagnostic 940 is a function that falls off its end without a return: an error, as it is on "cuda:sim".
OPTIONS = ("-std=c++17", "-default-device", "-lineinfo", "--diag-error=940")
# Random numbers are equal bit for bit on every device, so that here x·y + z must round twice, as it does on the CPU.
WITHOUT_FUSED_MULTIPLY_ADD = frozenset({"random.cu"})


@dataclass(frozen=True)
class Compiled:
    """Machine code for one architecture, or PTX for newer ones, and the symbol of each instance in it."""

    image: bytes
    symbols: dict[str, str]
    log: str = ""


def architecture(major: int, minor: int) -> str:
    """The target for a GPU of compute capability major.minor: "sm_90", or a virtual one where NVRTC is older.

    Machine code runs on later GPUs of the same major version; for a later major version the driver compiles PTX.
    """
    wanted = 10 * major + minor
    try:
        supported = nvrtc.getSupportedArchs()
    except RuntimeError as error:
        raise DeviceError(f"device 'cuda' needs NVRTC, the compiler of its kernels: {error}\n{advice()}") from error
    known = [target for target in supported if target <= wanted]
    if not known:
        raise DeviceError(f"NVRTC {version()} compiles for no GPU of compute capability {major}.{minor}; it knows "
                          f"{', '.join(map(str, supported))}: install another CUDA version")
    best: int = max(known)
    return f"sm_{best}" if best // 10 == major else f"compute_{best}"


def version() -> str:
    """NVRTC's version, such as "12.9"."""
    return ".".join(map(str, nvrtc.getVersion()))


def options(file: str, target: str) -> tuple[str, ...]:
    """The compiler options for a kernel file."""
    fused = ("-fmad=false",) if file in WITHOUT_FUSED_MULTIPLY_ADD else ()
    return (*OPTIONS, *fused, f"-arch={target}")


def headers() -> dict[str, str]:
    """The texts that kernels may include, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(kernel_sources.folder().glob("*.cuh"))}


def build(file: str, expressions: Sequence[str], target: str) -> Compiled:
    """The instances of a kernel file, from the cache where it has them. Raises as `compile_text`."""
    text, included, flags = kernel_sources.read(file), headers(), options(file, target)
    path = kernel_sources.cache_folder() / "cubin" / f"{_digest(text, included, flags, expressions)}.bin"
    found = _read(path)
    if found is None:
        found = compile_text(file, text, included, expressions, flags)
        _write(path, found)
    return found


def compile_text(name: str, text: str, included: dict[str, str], expressions: Iterable[str],
                 flags: Sequence[str]) -> Compiled:
    """Compile a text. Raises DeviceError with the compiler's message, which names files and lines."""
    program = nvrtc.createProgram(text, name, [body.encode() for body in included.values()],
                                  [header.encode() for header in included])
    try:
        for expression in expressions:
            nvrtc.addNameExpression(program, expression)
        try:
            nvrtc.compileProgram(program, tuple(flags))
        except nvrtc.NVRTCError as error:
            raise DeviceError(f"NVRTC {version()} does not compile {name} for {', '.join(expressions)} with "
                              f"{' '.join(flags)} ({error}):\n{nvrtc.getProgramLog(program)}") from None
        virtual = any(flag.startswith("-arch=compute_") for flag in flags)
        # CuPy takes the last byte of an ELF file for the end of a string; it is 0, and one too many does no harm.
        image = nvrtc.getPTX(program) if virtual else nvrtc.getCUBIN(program) + b"\0"
        symbols = {expression: nvrtc.getLoweredName(program, expression) for expression in expressions}
        return Compiled(image, symbols, nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


# --- the cache: one file per set of instances, a line of JSON and then the image ------------------------------------


def _digest(text: str, included: dict[str, str], flags: Sequence[str], expressions: Iterable[str]) -> str:
    everything = json.dumps([version(), list(flags), list(expressions), text, included])
    return hashlib.sha256(everything.encode()).hexdigest()[:40]


def _read(path: Path) -> Compiled | None:
    """What a file of the cache holds; None where there is none or it is damaged."""
    try:
        head, _, image = path.read_bytes().partition(b"\n")
        entry = json.loads(head)
        return Compiled(image, entry["symbols"]) if zlib.crc32(image) == entry["crc32"] else None
    except (OSError, ValueError, KeyError):
        return None


def _write(path: Path, compiled: Compiled) -> None:
    """Keep what was compiled. A cache that cannot be written costs time on the next start, nothing else."""
    head = json.dumps({"symbols": compiled.symbols, "crc32": zlib.crc32(compiled.image)}).encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + compiled.image)
        os.replace(name, path)  # complete or not at all, also when several processes compile the same
