"""What is no file under the name of one: pipes, devices, folders, links that lead nowhere; names that try to lead out.

Promises W and Y: reading either gives exactly what was saved or raises an error with the name, at once.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import safetensors_format
from tensorlite.data.downloads import check_file
from tensorlite.data.idx import encode_idx, read_idx
from tensorlite.data.image_folder import read_image
from tensorlite.errors import FileFormatError
from tensorlite.files import open_regular

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes, links and devices of POSIX")

READERS: dict[str, Callable[[Path], Any]] = {
    "load": tl.load,
    "load_checkpoint": lambda path: tl.load_checkpoint(path, model=tl.nn.Linear(1, 1)),
    "read_idx": read_idx,
    "read_image": read_image,
    "check_file": lambda path: check_file(path, path.stat().st_size, "0" * 64),
}


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    """Whatever waits for a pipe is broken off, and the test fails."""

    def give_up(*signal_and_frame: object) -> None:
        raise AssertionError("still waiting after ten seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, tuple[Callable[[Path], None], type[Exception], str]] = {
    "a pipe": (pipe, FileFormatError, "not a regular file, but a pipe"),
    "a link to /dev/zero": (link("/dev/zero"), FileFormatError, "not a regular file, but a character device"),
    "a link to /dev/full": (link("/dev/full"), FileFormatError, "not a regular file, but a character device"),
    "a link to a terminal": (link("/dev/tty"), (FileFormatError, OSError), "character device|No such device"),
    "a folder": (Path.mkdir, IsADirectoryError, "Is a directory"),
    "a link to a folder": (link("."), IsADirectoryError, "Is a directory"),
    "a link that leads nowhere": (link("nothing"), FileNotFoundError, "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), OSError, "symbolic links"),
    "an empty file": (Path.touch, FileFormatError, "empty|truncated|not an intact image|SHA-256"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_by_name(reader: str, kind: str, tmp_path: Path) -> None:
    if reader == "read_image":
        pytest.importorskip("PIL")
    make, error, message = SPECIAL[kind]
    path = tmp_path / "weights"
    make(path)
    with pytest.raises(error, match=message) as caught:
        READERS[reader](path)
    assert str(path) in str(caught.value)


def test_a_socket_is_refused_by_name() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = f"{folder}/s"  # names of sockets have to be short
        server.bind(path)
        with pytest.raises(OSError, match=path):
            tl.load(path)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    tl.save({"a": tl.ones(3)}, tmp_path / "folder" / "w")
    (tmp_path / "link").symlink_to("real/w")
    (tmp_path / "numbers").write_bytes(encode_idx(np.arange(3, dtype=np.uint8)))
    (tmp_path / "link to numbers").symlink_to(tmp_path / "numbers")
    assert tl.load(tmp_path / "link")["a"].tolist() == tl.load(tmp_path / "real/w")["a"].tolist() == [1.0] * 3
    assert read_idx(tmp_path / "link to numbers").tolist() == [0, 1, 2]


def test_a_regular_file_is_opened_as_ever_and_a_refused_one_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"abc")
    with open_regular(path) as file:
        assert file.read() == b"abc"
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(50):
        with pytest.raises(FileFormatError):
            open_regular(tmp_path / "pipe")
    assert before == 0 or len(os.listdir("/proc/self/fd")) == before


# ---- saving where something else is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a pipe", "a link to /dev/full", "a folder", "a link to itself"])
def test_saving_over_what_is_no_file_changes_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    SPECIAL[kind][0](path)
    before = path.lstat()
    with pytest.raises(OSError, match="not saved, and nothing changed") as caught:
        tl.save([1], path)
    assert caught.value.filename == str(path)
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert os.listdir(tmp_path) == ["weights"]


def test_a_name_with_a_nul_byte_is_refused(tmp_path: Path) -> None:
    for work in (lambda path: tl.save([1], path), tl.load, read_idx):
        with pytest.raises(ValueError, match="null byte"):
            work(f"{tmp_path}/a\0b")
    assert os.listdir(tmp_path) == []


NAMES = ["../up", "/etc/passwd", "a/../../b", "nul\0byte", "..", ".", "", "C:\\x", "new\nline", "\u202e", "x" * 10_000]


def test_names_of_tensors_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever written or looked for under a name that stands in a file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tl.save({name: tl.full((2,), float(i)) for i, name in enumerate(NAMES)}, "w")
    loaded = tl.load("w")
    assert list(loaded) == NAMES
    assert [tensor.tolist() for tensor in loaded.values()] == [[float(i)] * 2 for i in range(len(NAMES))]
    with pytest.raises(RuntimeError, match="Unexpected key"):
        tl.nn.Linear(1, 1).load_state_dict(loaded)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "w"]
    assert stat.S_ISREG(os.stat("w").st_mode)
    with open("w", "rb") as file:
        assert list(safetensors_format.read(file, "w").arrays) == NAMES
