"""The safetensors byte format with checksums: a one-pass writer and a strict reader, for NumPy arrays.

A file is eight bytes (length n of the header, little-endian), n bytes of header, then the elements of the
tensors, little-endian and row-major. The header is a JSON object, padded with spaces to a multiple of 8:

    {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}

Reading and writing are done here and not by the `safetensors` package (the tests check each against the
other): it hands out neither the bytes of the header, which have to be summed, nor a writer that sums what it
writes, and it would take about as many lines to call it around that as to do without.

Checksums. The metadata of our files begins with "tensorlite.header_crc32", the CRC-32 of the eight length
bytes and of the header, in which the eight digits of that very field count as zeros. "tensorlite.crc32" holds
the CRC-32 of each tensor, "tensorlite" the version of these rules. Every byte of the file is under one of the
sums, and CRC-32 finds *every* single flipped bit and every burst of up to 32 bits, which a cryptographic hash
only makes very likely (neither would stop an attacker, who can write the sum as well).

Files of other programs have no such keys and get the structural checks alone. A damaged file of ours cannot
pass for one of those: it counts as ours if it begins as ours do *or* if any key of the metadata begins with
"tensorlite", and these places are too far apart for one burst; if "__metadata__" itself is hit, it becomes a
tensor without a dtype, and is refused.

Reading. Before memory is allocated for any tensor, the whole header is checked against the size of the file:
at most 100 MB, UTF-8 JSON without duplicate keys, known dtypes, integer dimensions >= 0 whose product fits 63
bits, byte ranges inside the file, of the right size, without overlap or hole, the last one ending the file.
Any violation is a FileFormatError that names the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .dtypes import DType
from .errors import ArgumentError, DTypeError, FileFormatError

METADATA: Final = "__metadata__"
MAX_HEADER: Final = 100_000_000
MAX_DIMS: Final = 64
MAX_BYTES: Final = 2**63 - 1

_OURS: Final = "tensorlite"
_VERSION: Final = "1"
_HEADER_CRC: Final = "tensorlite.header_crc32"
_TENSOR_CRCS: Final = "tensorlite.crc32"
_STRUCTURE: Final = "tensorlite.structure"
_START: Final = f'{{"{METADATA}":{{"{_HEADER_CRC}":"'.encode()
_NO_CRC: Final = b"00000000"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # half characters: Python's strings hold them
_AFTER_CRC: Final = len(_START) + len(_NO_CRC)

_DTYPES: Final = {
    "BOOL": dtypes.bool_,
    "U8": dtypes.uint8,
    "I8": dtypes.int8,
    "I16": dtypes.int16,
    "I32": dtypes.int32,
    "I64": dtypes.int64,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "F32": dtypes.float32,
    "F64": dtypes.float64,
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}

# What else is found under a name like model.pt, told by its first bytes.
_PICKLE: Final = (
    "a pickle can run any code while it is loaded, so tensorlite does not read one; convert it in PyTorch "
    "with safetensors.torch.save_file(torch.load(old, weights_only=True), new)"
)
_OTHER_FORMATS: Final = {
    b"PK\x03\x04": f"this is a zip archive: torch.save puts one around a pickle (as does numpy); {_PICKLE}",
    **{bytes([0x80, protocol]): f"this is a pickle; {_PICKLE}" for protocol in (2, 3, 4, 5)},
    b"\x1f\x8b": "this is a gzip file: unpack it first",
    b"\x93NUMPY": "this is a NumPy .npy file: use tl.from_numpy(numpy.load(path))",
    b"\x89HDF": "this is an HDF5 file: read it with h5py, then tl.from_numpy",
    b"GGUF": "this is a GGUF file, which tensorlite does not read",
}


class Entry(NamedTuple):
    """What a tensor is and where it lies: `begin` and `end` count bytes from the end of the header."""

    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int


class Contents(NamedTuple):
    """What a file holds: arrays in the order of the header, and the structure text if the writer gave one."""

    arrays: dict[str, NDArray[Any]]
    structure: str | None


def write(
    file: BufferedIOBase,
    specs: Mapping[str, tuple[DType, tuple[int, ...]]],
    fetch: Callable[[str], NDArray[Any]],
    structure: str | None = None,
) -> None:
    """Write the tensors named in `specs` (dtype, shape) to a seekable file; `fetch(name)` gives the elements.

    `fetch` is called once for each tensor, and what it returns is copied, summed and written before the next
    call: the sum belongs to the bytes in the file even if a thread goes on training meanwhile, and only one
    tensor at a time is held twice. The sums are written last, into the header's place at the start.

    Raises ArgumentError for names that the format cannot hold, and for too many of them.
    """
    for name in specs:
        if name == METADATA or _SURROGATE.search(name):
            raise ArgumentError(f"tl.save: {name!r} cannot be the name of a tensor in a file; rename it")
    entries = _lay_out(specs)
    crcs = dict.fromkeys(specs, 0)
    file.write(_header(entries, crcs, structure))
    for name in sorted(entries, key=lambda name: entries[name].begin):
        data = _to_bytes(name, fetch(name), entries[name])
        crcs[name] = zlib.crc32(data)
        file.write(data)
    file.seek(0)
    file.write(_header(entries, crcs, structure))


def read(file: BufferedIOBase, path: str) -> Contents:
    """All tensors of a seekable file; `path` is its name in messages.

    Raises FileFormatError for damage and for any violation of the format, DTypeError for bfloat16 elements
    where ml_dtypes is not installed.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start, text = _read_header(file, path, size)
    header = parse_object(text, path, "the header")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refuse(path, f"{METADATA} is not an object of strings")
    ours = text.startswith(_START) or any(key.startswith(_OURS) for key in metadata)
    if ours:
        _check_header_crc(start, text, metadata, path)
    entries = {name: _entry(name, value, path) for name, value in header.items()}
    _check_layout(entries, size - 8 - len(text), path)
    crcs = parse_object(metadata[_TENSOR_CRCS], path, _TENSOR_CRCS) if ours else None
    if crcs is not None and crcs.keys() != entries.keys():
        refuse(path, "the tensors and their checksums have different names")
    arrays = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        arrays[name] = _read_array(file, path, name, entry, crcs)
    return Contents({name: arrays[name] for name in entries}, metadata.get(_STRUCTURE) if ours else None)


def refuse(path: str, problem: str) -> NoReturn:
    """Raise the FileFormatError that says what is wrong with the file."""
    raise FileFormatError(f"{path}: {problem}")


def parse_object(text: str | bytes, path: str, what: str) -> dict[str, Any]:
    """A JSON object by the letter: UTF-8, no key twice, no NaN; else FileFormatError with file and `what`."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        value = json.loads(decoded, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise FileFormatError(f"{path}: damaged, {what} is not valid JSON: {problem}") from None
    if not isinstance(value, dict):
        refuse(path, f"damaged, {what} is not a JSON object")
    return value


def to_json(value: Any) -> str:
    """JSON without spaces, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _lay_out(specs: Mapping[str, tuple[DType, tuple[int, ...]]]) -> dict[str, Entry]:
    """Byte ranges, widest dtypes first, so that each tensor starts at a multiple of its element size."""
    entries, begin = {}, 0
    for name in sorted(specs, key=lambda name: -specs[name][0].itemsize):
        dtype, shape = specs[name]
        end = begin + math.prod(shape) * dtype.itemsize
        entries[name] = Entry(dtype, tuple(shape), begin, end)
        begin = end
    return {name: entries[name] for name in specs}


def _header(entries: Mapping[str, Entry], crcs: Mapping[str, int], structure: str | None) -> bytes:
    """The length bytes and the header. Its size depends on names and shapes, not on the sums."""
    sums = {name: f"{crc:08x}" for name, crc in crcs.items()}
    # "format": "pt" is what writers in PyTorch put there; the transformers library refuses files without it.
    metadata = {_HEADER_CRC: _NO_CRC.decode(), _OURS: _VERSION, "format": "pt", _TENSOR_CRCS: to_json(sums)}
    if structure is not None:
        metadata[_STRUCTURE] = structure
    header: dict[str, Any] = {METADATA: metadata}
    for name, entry in entries.items():
        offsets = (entry.begin, entry.end)
        header[name] = {"dtype": _CODES[entry.dtype], "shape": entry.shape, "data_offsets": offsets}
    text = to_json(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ArgumentError(
            f"tl.save: the header would take {len(text)} bytes, the format allows {MAX_HEADER}; "
            "save fewer tensors in one file, and long lists of numbers as tensors"
        )
    start = len(text).to_bytes(8, "little")
    return start + _START + b"%08x" % zlib.crc32(start + text) + text[_AFTER_CRC:]


def _to_bytes(name: str, array: NDArray[Any], entry: Entry) -> memoryview:
    """A private little-endian row-major copy as bytes."""
    copy = np.array(array, order="C")
    if copy.shape != entry.shape or copy.dtype != entry.dtype.numpy:
        was, now = (entry.dtype.name, entry.shape), (copy.dtype.name, copy.shape)
        raise ArgumentError(f"tl.save: tensor {name!r} changed from {was} to {now} while it was saved")
    words = copy.reshape(-1).view(f"=u{copy.itemsize}")
    return words.astype(f"<u{copy.itemsize}", copy=False).view(np.uint8).data


def _read_header(file: BufferedIOBase, path: str, size: int) -> tuple[bytes, bytes]:
    """The eight length bytes and the header text."""
    start = file.read(8)
    if not start:
        refuse(path, "the file is empty; a safetensors file was expected")
    if len(start) < 8:
        refuse(path, f"not a safetensors file, or cut short: {size} bytes, the length of the header takes 8")
    length = int.from_bytes(start, "little")
    other = next((f"; {text}" for magic, text in _OTHER_FORMATS.items() if start.startswith(magic)), "")
    if length > size - 8:
        has = f"its first bytes announce a header of {length} bytes, the whole file has {size}"
        refuse(path, f"not a safetensors file, or cut short: {has}{other}")
    if length > MAX_HEADER:
        refuse(path, f"the header takes {length} bytes, the format allows {MAX_HEADER}{other}")
    text = file.read(length)
    if len(text) != length:
        refuse(path, "the file became shorter while it was read")
    if not text.startswith(b"{"):
        refuse(path, f"not a safetensors file: the header does not begin with '{{'{other}")
    return start, text


def _check_header_crc(start: bytes, text: bytes, metadata: dict[str, str], path: str) -> None:
    crc = zlib.crc32(start + _START + _NO_CRC + text[_AFTER_CRC:])
    if not text.startswith(_START + b"%08x" % crc):
        who = "the file is damaged, or another program rewrote it and kept tensorlite's metadata"
        refuse(path, f"the checksum of the header does not match: {who}")
    version = metadata.get(_OURS)
    if version != _VERSION:
        refuse(path, f"written by version {version!r} of tensorlite's rules; this one reads {_VERSION!r}")
    if _TENSOR_CRCS not in metadata:
        refuse(path, f"the metadata has no {_TENSOR_CRCS!r}")


def _entry(name: str, value: Any, path: str) -> Entry:
    """One tensor of the header, each field checked by itself."""
    where = f"tensor {name[:200]!r}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(path, f"{where} has not exactly the fields dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        refuse(path, f"{where} has dtype {str(code)[:100]!r}; tensorlite has {', '.join(_DTYPES)}")
    if not _are_counts(shape) or len(shape) > MAX_DIMS:
        refuse(path, f"{where} has shape {str(shape)[:100]}; at most {MAX_DIMS} integers >= 0 are allowed")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse(path, f"{where} has data_offsets {str(offsets)[:100]}; [begin, end] is expected")
    dtype = _DTYPES[code]
    # A zero among the dimensions does not make the others harmless: NumPy multiplies those that are not zero.
    if math.prod(dim for dim in shape if dim) * dtype.itemsize > MAX_BYTES:
        refuse(path, f"{where} has shape {shape}, larger than any memory")
    size = math.prod(shape) * dtype.itemsize
    if size != offsets[1] - offsets[0]:
        refuse(path, f"{where} ({code}, {shape}) takes {size} bytes, its data_offsets are {offsets}")
    try:
        _ = dtype.numpy
    except DTypeError as error:
        raise DTypeError(f"{path}: {where} cannot be loaded: {error}") from error
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_BYTES for item in value)


def _check_layout(entries: Mapping[str, Entry], size: int, path: str) -> None:
    """The byte ranges follow one another without overlap or hole and fill the data, `size` bytes, exactly."""
    position, last = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        where = f"tensor {name[:200]!r}"
        if entry.begin != position:
            fault = "overlaps" if entry.begin < position else "leaves a hole after"
            refuse(path, f"{where} at byte {entry.begin} {fault} {last}, which ends at {position}")
        position, last = entry.end, where
    if position != size:
        refuse(path, f"cut short or too long: its tensors take {position} bytes, after the header are {size}")


def _read_array(
    file: BufferedIOBase, path: str, name: str, entry: Entry, crcs: dict[str, Any] | None
) -> NDArray[Any]:
    """The next tensor of the file, in memory of its own."""
    data = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(data.data) != data.size:
        refuse(path, f"the file became shorter while tensor {name!r} was read")
    if crcs is not None and crcs[name] != f"{zlib.crc32(data.data):08x}":
        refuse(path, f"the checksum of tensor {name!r} does not match: the file is damaged")
    if entry.dtype is dtypes.bool_ and data.size and data.max() > 1:
        refuse(path, f"tensor {name!r} is of dtype bool and has bytes other than 0 and 1")
    itemsize = entry.dtype.itemsize
    words = data.view(f"<u{itemsize}").astype(f"=u{itemsize}", copy=False)
    return words.view(entry.dtype.numpy).reshape(entry.shape)
