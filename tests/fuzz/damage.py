"""The ways in which `fuzz.files` damages a file: functions of a random generator and the intact bytes.

Those of `BYTES` fit any file. `HEADERS` rewrite the JSON of a safetensors file, `GZIPS` the wrapping of a gzip file,
`NUMBERS` the head of an IDX file: they know the format, so that what they make is refused late or not at all.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

Damage = Callable[[random.Random, bytes], bytes]

# ---- any bytes -------------------------------------------------------------------------------------------------------


def place(rng: random.Random, content: bytes) -> int:
    return rng.randrange(len(content))


def flip_bit(rng: random.Random, content: bytes) -> bytes:
    return flipped(content, rng.randrange(8 * len(content)))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[place(rng, content)] = rng.randrange(256)
    return bytes(changed)


def overwrite_run(rng: random.Random, content: bytes) -> bytes:
    at, width = place(rng, content), rng.choice([1, 2, 3, 4, 8, 64, 512])
    filler = rng.choice([bytes(width), b"\xff" * width, rng.randbytes(width)])
    return content[:at] + filler[: len(content) - at] + content[at + width :]


def cut_short(rng: random.Random, content: bytes) -> bytes:
    return content[: place(rng, content)]


def insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randint(0, len(content))
    return content[:at] + rng.randbytes(rng.choice([1, 1, 2, 4, 8, 64, 1000])) + content[at:]


def delete(rng: random.Random, content: bytes) -> bytes:
    at = place(rng, content)
    return content[:at] + content[at + rng.choice([1, 1, 2, 4, 8, 64, 512]) :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted((place(rng, content), place(rng, content)))
    return content[:last] + content[first:last] + content[last:]


def exchange(rng: random.Random, content: bytes) -> bytes:
    """Two blocks in each other's places."""
    width = rng.choice([1, 4, 8, 64])
    first, second = sorted((place(rng, content), place(rng, content)))
    second = max(second, first + width)
    one, middle, other = content[first : first + width], content[first + width : second], content[second :][:width]
    return content[:first] + other + middle + one + content[second + width :]


def append(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice([b"\0", b"\n", bytes(512), rng.randbytes(9), content])


def wind_up(rng: random.Random, content: bytes) -> bytes:
    return rng.choice([b"", content[::-1], bytes(len(content)), rng.randbytes(rng.randrange(200)),
                       b"\x80\x04" + content, b"PK\x03\x04" + content[4:], b"\x1f\x8b" + content[2:]])


BYTES: tuple[Damage, ...] = (flip_bit, change_bytes, overwrite_run, cut_short, insert, delete, repeat, exchange, append,
                             wind_up)

# ---- the header of a safetensors file --------------------------------------------------------------------------------

ODD = ("-1", "0", "1", "3", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e999",
       "2.0", "-0", "NaN", "Infinity", "null", "true", '"4"', "[]", "{}", "[[[[]]]]", "9" * 5000, "[" * 3000)
NAMES = ("../../up", "/etc/passwd", "a\\u0000b", "\\ud800", "", "__metadata__", "tensorlite", "\u202e", "n" * 70_000)
DTYPES = ("F16", "BF16", "F32", "F64", "I8", "U8", "I16", "I64", "BOOL", "U16", "F8_E4M3", "C64", "f32", "O", "")


def assembled(text: bytes, data: bytes, length: int | None = None) -> bytes:
    return ((len(text) if length is None else length) % 2**64).to_bytes(8, "little") + text + data


def taken_apart(content: bytes) -> tuple[str, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end].decode(), content[end:]


def number_in_header(rng: random.Random, content: bytes) -> bytes:
    """One number of a shape or of data_offsets becomes something odd."""
    text, data = taken_apart(content)
    start = text.index("}", text.find("__metadata__")) if "__metadata__" in text else 0
    starts = [i for i in range(max(start, 1), len(text)) if text[i].isdigit() and text[i - 1] in "[,"]
    at = rng.choice(starts)
    end = next(i for i in range(at, len(text)) if not text[i].isdigit())
    value = rng.choice([*ODD, str(int(text[at:end]) + rng.choice([-8, -4, -1, 1, 4, 8]))])
    return assembled((text[:at] + value + text[end:]).encode(), data)


def entries_in_header(rng: random.Random, content: bytes) -> bytes:
    """Whole entries are taken away, given twice, exchanged or changed."""
    text, data = taken_apart(content)
    header: dict[str, Any] = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    one, other = rng.choice(names), rng.choice(names)
    action = rng.randrange(7)
    if action == 0:
        del header[one]
    elif action == 1:
        header[one], header[other] = header[other], header[one]
    elif action == 2:
        header[one]["dtype"] = rng.choice(DTYPES)
    elif action == 3:
        header[one]["shape"] = rng.choice([[2**32, 2**32], [0, 2**62], [-1, -4], [1] * 65, header[other]["shape"],
                                           header[one]["shape"][::-1]])
    elif action == 4:
        header[one]["data_offsets"] = rng.choice([header[other]["data_offsets"], [0, 2**63], [8, 0], [], [0, 4, 8]])
    elif action == 5:
        header[one][rng.choice(["dtype", "shape", "data_offsets", "extra"])] = rng.choice([None, 0, "F32", [0, 8], {}])
    twice = json.dumps({rng.choice([one, "dtype"]): header.get(one)})[1:-1]
    changed = json.dumps(header)
    return assembled((changed[:-1] + "," + twice + "}" if action == 6 else changed).encode(), data)


def name_in_header(rng: random.Random, content: bytes) -> bytes:
    """A tensor gets a name that means something elsewhere; the file stays valid unless the name is taken."""
    text, data = taken_apart(content)
    name = rng.choice([name for name in json.loads(text) if name != "__metadata__"])
    return assembled(text.replace(json.dumps(name) + ":", f'"{rng.choice(NAMES)}":', 1).encode(), data)


def text_of_header(rng: random.Random, content: bytes) -> bytes:
    """The JSON itself: bad UTF-8, other brackets, nesting, a second object."""
    text, data = taken_apart(content)
    raw = text.encode()
    at = rng.randrange(len(raw))
    nested = b'{"a":' * 2000 + b"1" + b"}" * 2000
    intruder = rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\\u", b"\0", b'"', b",", b"{", b"]"])
    return assembled(rng.choice([
        raw[:at] + intruder + raw[at:],
        raw + raw, b"[" + raw + b"]", b" " + raw, raw + b" " * rng.randrange(64), b'{"a":' + b"[" * 50_000, nested,
        raw[:-1] + b',"x":' + nested + b"}", b"\xef\xbb\xbf" + raw, text.encode("utf-16"), raw.replace(b":", b"=", 1),
    ]), data)


def length_of_header(rng: random.Random, content: bytes) -> bytes:
    text, data = taken_apart(content)
    n = len(text.encode())
    return assembled(text.encode(), data, rng.choice([
        0, 1, n - 8, n - 1, n + 1, n + 8, len(content), len(content) - 8, 100_000_000, 100_000_001, 2**31, 2**32 + n,
        2**62, 2**63, 2**63 + n, 2**64 - 1, rng.randrange(2**64)]))


HEADERS: tuple[Damage, ...] = (number_in_header, entries_in_header, name_in_header, text_of_header, length_of_header)


def resealed(content: bytes) -> bytes:
    """The file with right checksums of header and tensors, as somebody can make them who knows the format.

    What cannot be read as a header is left as it is.
    """
    try:
        text, data = taken_apart(content)
        header = json.loads(text)
        spans = {name: slice(*e["data_offsets"]) for name, e in header.items() if name != "__metadata__"}
        sums = {name: f"{zlib.crc32(data[span]):08x}" for name, span in spans.items()}
        metadata = {"tensorlite.header_crc32": "0" * 8, "tensorlite": "1", "tensorlite.crc32": json.dumps(sums)}
        raw = json.dumps({"__metadata__": metadata} | header | {"__metadata__": metadata}, separators=(",", ":"))
        start = len(raw.encode()).to_bytes(8, "little")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return content
    crc = f"{zlib.crc32(start + raw.encode()):08x}"
    return start + raw.replace('"00000000"', f'"{crc}"', 1).encode() + data


# ---- gzip ------------------------------------------------------------------------------------------------------------

_BOMB = gzip.compress(struct.pack(">HBBI", 0, 8, 1, 100) + bytes(30_000_000), 9, mtime=0)
FLAG_CRC, FLAG_EXTRA, FLAG_NAME, FLAG_COMMENT = 2, 4, 8, 16


def wrapping(rng: random.Random, content: bytes) -> bytes:
    """Other valid gzip files of the same bytes: another level, names that lead out, comments, extra fields."""
    plain = gzip.decompress(content)
    deflate = zlib.compressobj(rng.randint(0, 9), wbits=-rng.randint(9, 15))
    body = deflate.compress(plain) + deflate.flush()
    flags = rng.choice([0, 1, FLAG_NAME, FLAG_COMMENT, FLAG_EXTRA, FLAG_CRC])
    optional = {FLAG_NAME: b"../../etc/passwd\0", FLAG_COMMENT: b"x" * 300 + b"\0", FLAG_EXTRA: b"\x04\0abcd"}
    head = b"\x1f\x8b\x08" + bytes([flags]) + rng.randbytes(6) + optional.get(flags, b"")
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags == FLAG_CRC else b""
    return head + body + struct.pack("<II", zlib.crc32(plain), len(plain))


def members(rng: random.Random, content: bytes) -> bytes:
    """More than one member, one in another, or something behind the last."""
    half = gzip.decompress(content)
    at = rng.randrange(len(half))
    two = gzip.compress(half[:at], mtime=0) + gzip.compress(half[at:], mtime=0)
    return rng.choice([two, content + content, gzip.compress(content, mtime=0), content + gzip.compress(b"", mtime=0),
                       content + bytes(rng.randint(1, 600)), gzip.compress(half + half[4:], mtime=0)])


def trailer(rng: random.Random, content: bytes) -> bytes:
    crc, size = struct.unpack("<II", content[-8:])
    return content[:-8] + rng.choice([b"", struct.pack("<II", size, crc), struct.pack("<II", crc ^ 1, size),
                                      struct.pack("<II", crc, size + 1), struct.pack(">II", crc, size), content[-4:]])


def bomb(rng: random.Random, content: bytes) -> bytes:
    return _BOMB[: rng.choice([len(_BOMB), rng.randrange(len(_BOMB))])]


def inside(rng: random.Random, content: bytes) -> bytes:
    """The unpacked bytes damaged and packed again: gzip finds nothing."""
    return gzip.compress(rng.choice(BYTES + NUMBERS)(rng, gzip.decompress(content)), 1, mtime=0)


GZIPS: tuple[Damage, ...] = (wrapping, members, trailer, bomb, inside)

# ---- the head of an IDX file -----------------------------------------------------------------------------------------


def magic_number(rng: random.Random, content: bytes) -> bytes:
    code, ndim = rng.choice([8, 9, 10, 11, 12, 13, 14, 0, 255]), rng.choice([content[3], rng.randrange(256)])
    return bytes([rng.choice([0, 0, 1]), 0, code, ndim]) + content[4:]


def dimensions(rng: random.Random, content: bytes) -> bytes:
    count = rng.choice([content[3], content[3], 1, 32, 33])
    sizes = [rng.choice([0, 1, 2, 3, 4, 2**31, 2**32 - 1, 65536]) for _ in range(count)]
    return content[:3] + bytes([count]) + struct.pack(f">{count}I", *sizes) + content[4 + 4 * content[3] :]


NUMBERS: tuple[Damage, ...] = (magic_number, dimensions)
