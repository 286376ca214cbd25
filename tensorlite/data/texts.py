"""Texts for models of characters, which the package carries: in the public domain, small, plain ASCII."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Final

from ..errors import ArgumentError, FileFormatError

FOLDER: Final = Path(__file__).parent / "texts"
SHA256: Final = {  # of the uncompressed files
    "alice": "6253d049ab536e4ae0b27edc91cd83fc36c6674e74f6d26974af3e9772f6ac6e",
    "as_you_like_it": "22210b5a95b3ece5f9fce8abef2f579e7b4ae8127f48918ab5c4253305cbd947",
}


def load_text(name: str = "alice") -> str:
    """A text that the package carries: "alice" (Lewis Carroll, 1865) or "as_you_like_it" (William Shakespeare, 1599).

    Raises ArgumentError for another name, and FileFormatError where the package's file is damaged.

    >>> text = tl.data.load_text("alice")
    >>> len(text), len(set(text)), text[176:222]
    (148379, 70, 'Alice was beginning to get very tired of sitti')
    """
    if name not in SHA256:
        raise ArgumentError(f"load_text: no text {name!r}; there are {', '.join(SHA256)}")
    path = FOLDER / f"{name}.txt.gz"
    try:
        data = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise FileFormatError(f"{path}: damaged: {error}; reinstall tensorlite") from error
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise FileFormatError(f"{path}: the SHA-256 of the text is not {SHA256[name]}; reinstall tensorlite")
    return data.decode("ascii")
