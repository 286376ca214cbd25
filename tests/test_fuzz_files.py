"""A few thousand corrupted files in each run of the tests, and proof that the fuzzer would find what is wrong.

`make fuzz` reads a hundred times as many; docs/reliability.md has the counts.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import files

from tensorlite import io, safetensors_format
from tensorlite.data import idx

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and alarms as Linux has them")


def test_corrupted_files_are_refused_or_read_exactly() -> None:
    """W, Y: in a process that has 50 MB and is ended where it hangs."""
    done = subprocess.run([sys.executable, "-m", "fuzz.files", "--seed", "11", "--count", "12000"], text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'files': 12000" in done.stdout


def without(module: Any, function: str, *_: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, function, lambda *args, **kwargs: None)


def no_checksums_of_tensors(patch: pytest.MonkeyPatch) -> None:
    read = safetensors_format._read_array

    def unsummed(file: Any, path: str, name: str, entry: Any, crcs: Any) -> Any:
        return read(file, path, name, entry, None)

    patch.setattr(safetensors_format, "_read_array", unsummed)


def keys_may_stand_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(safetensors_format, "_unique_keys", dict)


def memory_before_checks(patch: pytest.MonkeyPatch) -> None:
    """Tensors are allocated as the header says, whatever the size of the file."""
    entry = safetensors_format._entry

    def eager(name: str, value: Any, path: str) -> Any:
        try:
            np.empty(value["shape"], np.float32)
        except (ValueError, TypeError, KeyError, IndexError):
            pass
        return entry(name, value, path)

    patch.setattr(safetensors_format, "_entry", eager)


def errors_of_pythons_own(patch: pytest.MonkeyPatch) -> None:
    import json

    patch.setattr(safetensors_format, "parse_object", lambda text, path, what: json.loads(text))


def file_not_named(patch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, problem: str) -> Any:
        raise files.FileFormatError(problem)

    patch.setattr(safetensors_format, "refuse", refuse)


def parts_are_loaded_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint's model is changed before the rest of the file has been looked at."""
    check = io._checkpoint

    def hasty(path: str, **parts: Any) -> None:
        parts["model"][0].weight.detach().add_(1.0)
        check(io.load(path), path)

    patch.setattr(files.tl, "load_checkpoint", hasty)


def native_byte_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(idx.sys, "byteorder", "big")


def gzip_as_the_module_reads_it(patch: pytest.MonkeyPatch) -> None:
    """Members one after another, and zeros behind them, pass."""

    class Lenient:
        def __init__(self, file: Any) -> None:
            self.file = gzip.GzipFile(fileobj=file)

        def readinto(self, buffer: memoryview) -> int:
            try:
                return self.file.readinto(buffer)
            except gzip.BadGzipFile as error:
                raise EOFError(error) from error

    patch.setattr(idx, "_GzipStream", Lenient)


def gzip_without_its_checksum(patch: pytest.MonkeyPatch) -> None:
    class Careless(idx._GzipStream):
        def __init__(self, file: Any) -> None:
            file.read(10)
            self._file, self._inflate = file, zlib.decompressobj(wbits=-zlib.MAX_WBITS)

        def readinto(self, buffer: memoryview) -> int:
            return 0 if self._inflate.eof else super().readinto(buffer)

    patch.setattr(idx, "_GzipStream", Careless)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no checksum of the header": without(safetensors_format, "_check_header_crc"),
    "no checksums of tensors": no_checksums_of_tensors,
    "no check of the layout": without(safetensors_format, "_check_layout"),
    "keys may stand twice": keys_may_stand_twice,
    "memory before checks": memory_before_checks,
    "errors of Python's own": errors_of_pythons_own,
    "the file is not named": file_not_named,
    "parts are loaded one by one": parts_are_loaded_one_by_one,
    "elements in the wrong byte order": native_byte_order,
    "what follows an IDX file passes": without(idx._Reader, "_expect_end"),
    "gzip as Python's module reads it": gzip_as_the_module_reads_it,
    "gzip without its checksum": gzip_without_its_checksum,
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it the same files pass: the test above reads more of them."""
    victims = files.victims()
    with monkeypatch.context() as patch:
        PLANTED[bug](patch)
        cases = files.random_cases(victims, 11, 0, 10_000)
        with pytest.raises(AssertionError, match=r"number \d+, kept as"):
            files.run(cases, victims, str(tmp_path))
