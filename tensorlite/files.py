"""Opening files that somebody else may have made.

Contract. `open_regular` returns only what has a size and an end. A pipe under the name of a weights file would be
waited for, and /dev/zero be read, for ever.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from typing import Final

from .errors import FileFormatError

_NO_WAITING: Final = getattr(os, "O_NONBLOCK", 0)  # a pipe opens at once; regular files are read as ever
_KINDS: Final = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a character device"), (stat.S_ISBLK, "a block device"))


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """The regular file `path`, or what a link of this name leads to, opened for reading its bytes.

    Raises FileFormatError, with the name and what it is, for a pipe or a device, OSError where nothing can be opened:
    IsADirectoryError for a folder, and TypeError for a number: open(1) would take over standard output, and close it.

    >>> from tensorlite.files import open_regular
    >>> open_regular("/dev/null")                                                   # doctest: +SKIP
    Traceback (most recent call last):
    FileFormatError: /dev/null: not a regular file, but a character device
    """
    file = open(os.fspath(path), "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAITING))
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something else")
        raise FileFormatError(f"{os.fspath(path)}: not a regular file, but {kind}")
    return file
