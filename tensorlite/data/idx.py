"""The IDX file format, in which MNIST is distributed: a strict reader and an encoder, on NumPy arrays only.

    offset 0   two zero bytes
           2   one byte, the element type (see `_TYPES`)
           3   one byte, the number of dimensions n >= 1
           4   n dimensions, each an unsigned 32-bit big-endian integer
        4+4n   the elements, big-endian, last dimension fastest, and nothing after them

Contract of `read_idx`: either the whole file is right, or a `FileFormatError` names the file and the fault.
Everything that the header claims is held against the size of the file before memory is asked for, and never
more than one byte is read beyond what the header promises, so that neither a false header nor a decompression
bomb costs memory.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import ArgumentError, FileFormatError, OutOfMemoryError
from ..files import open_regular

_TYPES: Final[dict[int, np.dtype[Any]]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
_CODES: Final = {dtype: code for code, dtype in _TYPES.items()}
_MAX_DIMENSIONS: Final = 32  # what every NumPy can hold
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DEFLATE_LIMIT: Final = 1032  # bytes of output per byte of input that deflate can reach at the very most
_CHUNK: Final = 1 << 18

_File = io.BufferedReader | io.BytesIO


def read_idx(
    path: str | os.PathLike[str], *, shape: tuple[int, ...] | None = None, sha256: str | None = None
) -> np.ndarray[Any, Any]:
    """Read one IDX file, plain or gzipped (told apart by their first bytes), into an array in native byte order.

    `shape`, where given, is what the header must say; `sha256` is the hex digest of the *uncompressed* file.
    Raises FileFormatError for anything that is not exactly one intact IDX file, and OSError where it cannot be read.
    """
    path = Path(path)
    with open_regular(path) as file:
        return _Reader(str(path), file, os.fstat(file.fileno()).st_size).read(shape, sha256)


def parse_idx(data: bytes, name: str) -> np.ndarray[Any, Any]:
    """`read_idx` of a file's bytes; `name` stands for the file in errors.

    >>> from tensorlite.data.idx import encode_idx, parse_idx
    >>> parse_idx(encode_idx(np.array([3, 4], dtype=np.uint8)), "two numbers").tolist()
    [3, 4]
    """
    return _Reader(name, io.BytesIO(data), len(data)).read(None, None)


def encode_idx(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an (uncompressed) IDX file that holds `array`; `read_idx` gives the array back.

    >>> from tensorlite.data.idx import encode_idx
    >>> encode_idx(np.array([[1, -2]], dtype=np.int16)).hex(" ", 2)
    '0000 0b02 0000 0001 0000 0002 0001 fffe'
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None or not 1 <= array.ndim <= _MAX_DIMENSIONS or max(array.shape) >= 1 << 32:
        raise ArgumentError(
            f"encode_idx: an IDX file cannot hold an array of shape {array.shape} and dtype {array.dtype}; "
            f"it takes 1 to {_MAX_DIMENSIONS} dimensions of {', '.join(map(str, _CODES))}"
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


class _Reader:
    """Reads one open file; holds what every error message needs."""

    def __init__(self, name: str, file: _File, size: int) -> None:
        self.name = name
        self.size = size
        self.gzipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        self.stream: _File | _GzipStream = _GzipStream(file) if self.gzipped else file
        self.digest = hashlib.sha256()

    def read(self, shape: tuple[int, ...] | None, sha256: str | None) -> np.ndarray[Any, Any]:
        dtype, found = self._header()
        if shape is not None and found != shape:
            raise self._error(f"the header says shape {found}, expected {shape}")
        array = self._elements(dtype, found)
        if sha256 is not None and self.digest.hexdigest() != sha256:
            raise self._error(
                f"the SHA-256 of the uncompressed file is {self.digest.hexdigest()}, expected {sha256}: "
                "the file is damaged, or it is another data set under the same name"
            )
        return array

    def _header(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Parse the header, and check that a file of this size can hold what it promises."""
        magic = self._take(4, "magic number")
        if magic[:2] != b"\0\0":
            raise self._error(f"wrong magic number {magic.hex()}, an IDX file starts with 0000")
        dtype, ndim = _TYPES.get(magic[2]), magic[3]
        if dtype is None:
            raise self._error(f"unknown element type 0x{magic[2]:02x} in magic number {magic.hex()}")
        if not 1 <= ndim <= _MAX_DIMENSIONS:
            raise self._error(f"{ndim} dimensions in magic number {magic.hex()}, expected 1 to {_MAX_DIMENSIONS}")
        shape: tuple[int, ...] = struct.unpack(f">{ndim}I", self._take(4 * ndim, "dimensions"))
        promised = 4 + 4 * ndim + math.prod(shape) * dtype.itemsize
        if self.gzipped and promised > self.size * _DEFLATE_LIMIT:
            raise self._error(
                f"shape {shape} of {dtype} needs {promised} bytes, more than {self.size} compressed bytes can hold"
            )
        if not self.gzipped and promised != self.size:
            fault = "truncated" if promised > self.size else "too long"
            raise self._error(
                f"{fault}: shape {shape} of {dtype} needs exactly {promised} bytes, the file has {self.size}"
            )
        if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:  # NumPy refuses it even if empty
            raise self._error(f"shape {shape} is too large")
        return dtype, shape

    def _elements(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        # The system backs np.empty with memory only as it is written: no more than the file really gives.
        try:
            array = np.empty(shape, dtype)
        except MemoryError as error:
            raise OutOfMemoryError(f"{self.name}: no memory for shape {shape} of {dtype}") from error
        buffer = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(buffer), _CHUNK):
            self._fill(buffer[start : start + _CHUNK], f"elements of shape {shape}")
        self._expect_end()
        if sys.byteorder == "little":
            array.byteswap(inplace=True)
        return array

    def _take(self, count: int, what: str) -> bytearray:
        data = bytearray(count)
        self._fill(memoryview(data), what)
        return data

    def _fill(self, buffer: memoryview, what: str) -> None:
        done = 0
        while done < len(buffer):
            count = self._readinto(buffer[done:])
            if count == 0:
                raise self._error(f"truncated: the file ends within the {what}")
            done += count
        self.digest.update(buffer)

    def _expect_end(self) -> None:
        """One more byte than promised may not exist; on gzip, asking for it also has the checksum verified."""
        if self._readinto(memoryview(bytearray(1))):
            raise self._error("too long: bytes follow the elements that the header promises")

    def _readinto(self, buffer: memoryview) -> int:
        try:
            return self.stream.readinto(buffer)
        except zlib.error as error:
            raise self._error(f"damaged gzip data: {error}") from error
        except EOFError as error:
            raise self._error(f"truncated or damaged gzip data: {error}") from error

    def _error(self, fault: str) -> FileFormatError:
        return FileFormatError(f"{self.name}: not a valid IDX file: {fault}. Replace it by an intact copy.")


class _GzipStream:
    """One gzip member, inflated into the caller's buffer and no further; nothing may follow it.

    zlib itself checks the CRC-32 and the length in the member's trailer. (The gzip module also reads members one
    after another and ignores zero bytes behind them; here both are faults.)
    """

    def __init__(self, file: _File) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def readinto(self, buffer: memoryview) -> int:
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            inflated = self._inflate.decompress(data, len(buffer))
            if inflated:
                buffer[: len(inflated)] = inflated
                return len(inflated)
            if not data:
                raise EOFError("the file ends before the gzip trailer")
        if self._inflate.unused_data or self._file.read(1):
            raise EOFError("bytes follow the end of the gzip stream")
        return 0
