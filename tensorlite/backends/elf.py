"""The variables of a shared library, read from its symbol table: 64-bit ELF, as Linux has it.

What a running program cannot ask the loader for: names, places and sizes of variables that the library keeps to itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SYMBOL_TABLE = 2  # a section's type
_VARIABLE = 1  # a symbol's type
_LAST_NAME = re.compile(r"E(\d+)([A-Za-z_]\w*)$")  # of a C++ symbol: _ZZ <function> E <length><name>, perhaps _<number>


class Variable(NamedTuple):
    """A variable's place relative to the origin asked for; its name is empty if the compiler made it for itself."""

    offset: int
    size: int
    name: str


class _Symbol(NamedTuple):
    name: str
    info: int
    section: int
    value: int
    size: int


def variables(path: Path, origin: str) -> list[Variable]:
    """The variables in the section that the symbol `origin` points at, sorted, at their distances from it."""
    symbols = list(_symbols(path.read_bytes()))
    start = next(symbol for symbol in symbols if symbol.name == origin)
    return sorted(Variable(s.value - start.value, s.size, _plain_name(s.name)) for s in symbols
                  if s.section == start.section and s.info & 15 == _VARIABLE and s.name.startswith("_Z"))


def _symbols(data: bytes) -> Iterator[_Symbol]:
    sections_at, = struct.unpack_from("<Q", data, 40)
    entry, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQII", data, sections_at + entry * i) for i in range(count)]
    for _, kind, _, _, offset, size, strings, _ in sections:
        if kind == _SYMBOL_TABLE:
            names_at = sections[strings][4]
            for at in range(offset, offset + size, 24):
                name, info, _, section, value, length = struct.unpack_from("<IBBHQQ", data, at)
                end = data.index(b"\0", names_at + name)
                yield _Symbol(data[names_at + name:end].decode(), info, section, value, length)


def _plain_name(symbol: str) -> str:
    """The last name of a C++ symbol: "partial" of _ZZN12_GLOBAL__N_19block_sumEfE7partial; none for a guard's."""
    if symbol.startswith("_ZGV"):
        return ""
    match = _LAST_NAME.search(symbol)
    return match[2][:int(match[1])] if match else symbol
