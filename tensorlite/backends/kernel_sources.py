"""Where the kernel sources lie: `tensorlite/_kernels` in an installed wheel, `kernels/` in a checkout.

A compiler includes headers by path, so the contract is a folder of the file system, not only texts.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import TensorliteError

_PACKAGE = Path(__file__).resolve().parent.parent


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


def read(name: str) -> str:
    """The text of one kernel file, such as "formulas.cuh"; a TensorliteError lists the files there are.

    >>> from tensorlite.backends import kernel_sources
    >>> "kernels" in kernel_sources.read("README.md")
    True
    """
    path = folder() / name
    if not path.is_file():
        present = ", ".join(sorted(entry.name for entry in folder().iterdir()))
        raise TensorliteError(f"no kernel file {name!r} in {folder()}; there are: {present}")
    return path.read_text(encoding="utf-8")
