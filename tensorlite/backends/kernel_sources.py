"""Where the kernel sources lie: `tensorlite/_kernels` in an installed wheel, `kernels/` in a checkout; and where
what is compiled from them is kept.

A compiler includes headers by path, so the contract is a folder of the file system, not only texts. The texts of
users' own kernels are registered, and read as the others are.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import TensorliteError

_PACKAGE = Path(__file__).resolve().parent.parent
_registered: dict[str, str] = {}  # texts that are no files, by the names that `read` takes


def folder() -> Path:
    """The folder of the kernel sources; a TensorliteError says what to do where it is missing.

    >>> from tensorlite.backends import kernel_sources
    >>> kernel_sources.folder().is_dir()
    True
    """
    candidates = (_PACKAGE / "_kernels", _PACKAGE.parent / "kernels")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise TensorliteError(
        f"kernel sources not found: neither {candidates[0]} nor {candidates[1]} is a folder; "
        "reinstall tensorlite, or restore kernels/ in the checkout"
    )


def register(name: str, text: str) -> None:
    """Make a text, such as that of a user's own kernel, known to `read`."""
    _registered[name] = text


def read(name: str) -> str:
    """The text of one kernel file, such as "formulas.cuh"; a TensorliteError lists the files there are.

    >>> from tensorlite.backends import kernel_sources
    >>> "kernels" in kernel_sources.read("README.md")
    True
    """
    if name in _registered:
        return _registered[name]
    path = folder() / name
    if not path.is_file():
        present = ", ".join(sorted(entry.name for entry in folder().iterdir()))
        raise TensorliteError(f"no kernel file {name!r} in {folder()}; there are: {present}")
    return path.read_text(encoding="utf-8")


def cache_folder() -> Path:
    """Where compiled kernels are kept: $TENSORLITE_CACHE, else "tensorlite/kernels" in the user's cache folder.

    Everything in it can be deleted at any time; it is compiled again when it is needed.
    """
    named = os.environ.get("TENSORLITE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorlite" / "kernels"
