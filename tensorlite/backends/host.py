"""The host's C++ compiler: found, and used to build shared libraries that are kept in the user's cache folder.

Contract. A compiler is never needed to import or use the package on device "cpu": `compiler()` raises a DeviceError
that says what to install where there is none. `build` gives the path of a library made from a text, and compiles only
where no library is found under the hash of all that went in: the text, the files of kernels/ that it includes, the
options and the compiler. Several processes may build at once; one compiles and the others wait for it. A library whose
files change while it is compiled is not kept, for it would lie under a hash that is not its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DeviceError, TensorliteError
from . import kernel_sources

try:
    import fcntl
except ImportError:  # not a POSIX system: processes may then compile the same text at the same time, to equal results
    fcntl = None  # type: ignore[assignment]

OPTIONS = ("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden")
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
_KEPT_SECONDS = 30 * 24 * 3600.0  # libraries that were not used for so long are removed
_SHOWN_LINES = 24  # of the compiler's message


class CompileError(TensorliteError, ValueError):
    """Kernel text that the compiler refuses; the message holds the compiler's errors."""


@functools.cache
def _identified(path: str, modified: float) -> str:
    """The compiler's name and version in its own words, asked once per file."""
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{path} {modified} {answer.stdout.partition(chr(10))[0]}"


def compiler() -> str:
    """The path of the C++ compiler: TENSORLITE_CXX, CXX, or the first of c++, g++ and clang++ on the PATH.

    Raises DeviceError where there is none, or where the variable names none.
    """
    for variable in ("TENSORLITE_CXX", "CXX"):
        if named := os.environ.get(variable):
            found = shutil.which(named)
            if found is None:
                raise DeviceError(f"{variable}={named} names no program; give the path of a C++ compiler, or unset it")
            return found
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    raise DeviceError(
        "no C++ compiler found (looked for c++, g++ and clang++ on the PATH). Install one: "
        "'apt install g++' on Debian and Ubuntu, 'dnf install gcc-c++' on Fedora; "
        "or name one in the environment variable TENSORLITE_CXX"
    )


def is_available() -> bool:
    """Whether a C++ compiler is there.

    >>> from tensorlite.backends import host
    >>> isinstance(host.is_available(), bool)
    True
    """
    try:
        compiler()
    except DeviceError:
        return False
    return True


def is_clang() -> bool:
    """Whether the compiler is clang, whose instrumentation is spelled differently."""
    return "clang" in _identity(compiler())


def cache_folder() -> Path:
    """Where built libraries lie: with other compiled kernels, or where that cannot be written, for this process."""
    folder = kernel_sources.cache_folder() / "host"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else Path(_folder_of_this_process().name)


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tensorlite-")


def build(name: str, text: str, flags: Sequence[str] = (), libraries: Sequence[str] = ()) -> Path:
    """The shared library made of one translation unit, which may include the files of kernels/.

    `name` is for people who look into the cache folder; `libraries` are the linker's options, such as "-lm". Raises
    CompileError with the compiler's message, and DeviceError where a file of kernels/ changes meanwhile.
    """
    path = target(name, text, flags, libraries)
    if not is_built(path):
        with _only_one(path.with_suffix(".lock")):
            if not is_built(path):
                _compile(_command(flags), text, path, libraries)
                _remove_unused(path.parent)
    return path


def target(name: str, text: str, flags: Sequence[str] = (), libraries: Sequence[str] = ()) -> Path:
    """Where `build` puts the library, built or not. Raises DeviceError where there is no compiler."""
    return cache_folder() / f"{name}-{_digest(text, _command(flags), libraries)}{_SUFFIX}"


def is_being_built(path: Path) -> bool:
    """Whether a process is compiling a library at this moment."""
    lock = path.with_suffix(".lock")
    if fcntl is None or not lock.exists():
        return False
    with open(lock, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _command(flags: Sequence[str]) -> list[str]:
    return [compiler(), *OPTIONS, *flags, f"-I{kernel_sources.folder()}"]


def _identity(program: str) -> str:
    return _identified(program, os.stat(program).st_mtime)


def _digest(text: str, command: Sequence[str], libraries: Sequence[str]) -> str:
    """The hash of all that decides what is built."""
    digest = hashlib.sha256()
    parts = [text, _identity(command[0]), *command[1:], *libraries]
    if "-march=native" in command:
        parts.append(_processor())
    for part in parts:
        digest.update(part.encode() + b"\0")
    for name, included in sorted(_included(text).items()):
        digest.update(f"{name}\0{included}\0".encode())
    return digest.hexdigest()[:32]


def _included(text: str) -> dict[str, str]:
    """The files of kernels/ that a text includes, and those that these include, by name."""
    folder, found, texts = kernel_sources.folder(), dict[str, str](), [text]
    while texts:
        for name in _INCLUDE.findall(texts.pop()):
            if name not in found and (folder / name).is_file():
                found[name] = (folder / name).read_text(encoding="utf-8")
                texts.append(found[name])
    return found


@functools.cache
def _processor() -> str:
    """What kind of processor this is, with its instruction sets where the system tells."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.machine()
    return f"{platform.machine()} {platform.processor()}"


def is_built(target: Path) -> bool:
    """Whether the library is there; being asked for counts as a use."""
    try:
        os.utime(target)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """While inside, others wait who came meanwhile; at worst one who comes as it ends compiles once more."""
    with open(lock, "w", encoding="utf-8") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _compile(command: Sequence[str], text: str, target: Path, libraries: Sequence[str]) -> None:
    """Compile beside the target and move the result there, so that no process ever sees half a library."""
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
        source, result = Path(folder, "source.cpp"), Path(folder, target.name)
        source.write_text(text, encoding="utf-8")
        done = subprocess.run([*command, str(source), *libraries, "-o", str(result)],
                              capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode != 0:
            raise CompileError(f"{Path(command[0]).name} refuses {target.stem.rpartition('-')[0]}:\n"
                               f"{_shortened(done.stderr, source)}")
        if not target.stem.endswith(_digest(text, command, libraries)):
            raise DeviceError(f"a file of {kernel_sources.folder()} changed while {target.stem.rpartition('-')[0]} was "
                              "compiled: the library may be made of both versions; start the program again")
        os.replace(result, target)


def _shortened(message: str, source: Path) -> str:
    """The compiler's errors, without the notes that trace templates, and at most a screen of them."""
    lines = message.replace(f"{source}", source.name).splitlines()
    errors = [i for i, line in enumerate(lines) if "error:" in line]
    shown = [line for i in errors for line in lines[i:i + 3]] if errors else lines
    rest = len(shown) - _SHOWN_LINES
    return "\n".join(shown[:_SHOWN_LINES] + ([f"... and {rest} more lines"] if rest > 0 else []))


def _remove_unused(folder: Path) -> None:
    """Remove what no process has used for a month, and folders of those that were killed."""
    oldest = time.time() - _KEPT_SECONDS
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
