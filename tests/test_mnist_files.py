"""IDX files and MNIST: damaged and hostile files, where MNIST is looked for, downloads from a local server."""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import runpy
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_server import Server
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite.data import downloads, mnist
from tensorlite.data.idx import encode_idx, read_idx
from tensorlite.errors import ArgumentError, FileFormatError

pack = functools.partial(gzip.compress, mtime=0)
ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4) * 301 - 3000
DIGEST = hashlib.sha256(encode_idx(ARRAY)).hexdigest()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "some-file"
        path.write_bytes(data)
        return path

    return write


def refused(path: Path, match: str = "not a valid IDX file", **expected: Any) -> None:
    """read_idx refuses the file, names it, says what is wrong, and does not need memory for it."""
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=match) as caught:
            read_idx(path, **expected)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3), (3, 0, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("form", [bytes, pack])
def test_round_trip(write: Any, dtype: str, shape: tuple[int, ...], form: Callable[[bytes], bytes]) -> None:
    array = (np.random.default_rng(0).standard_normal(shape) * 100).astype(dtype)
    found = read_idx(write(form(encode_idx(array))), shape=shape)
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative and found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_known_bytes(write: Any) -> None:
    data = bytes.fromhex("00000b02 00000001 00000002 0001 fffe")
    np.testing.assert_array_equal(read_idx(write(data)), np.array([[1, -2]], np.int16))


def test_large_array_in_many_chunks(write: Any) -> None:
    array = np.random.default_rng(1).integers(0, 4, (1_000_003,), dtype=np.uint8)
    for form in (bytes, pack):
        np.testing.assert_array_equal(read_idx(write(form(encode_idx(array)))), array)


def test_other_byte_order_and_strides_are_encoded_right(write: Any) -> None:
    swapped = ARRAY.astype(ARRAY.dtype.newbyteorder()).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_idx(write(encode_idx(swapped))), ARRAY.transpose(2, 0, 1))


@pytest.mark.parametrize("array", [np.zeros(3, complex), np.zeros(3, np.int64), np.zeros(()), np.array(["a"])])
def test_encode_refuses(array: Any) -> None:
    with pytest.raises(ArgumentError, match="cannot hold an array of shape"):
        encode_idx(array)


@pytest.mark.parametrize("form", [bytes, pack])
def test_truncated_at_every_length(write: Any, form: Callable[[bytes], bytes]) -> None:
    data = form(encode_idx(ARRAY))
    for length in range(len(data)):
        refused(write(data[:length]), "truncated|damaged")


@pytest.mark.parametrize("extra", [b"\0", b"x", b"\0" * 512, pack(b""), pack(encode_idx(ARRAY))])
def test_bytes_after_the_end(write: Any, extra: bytes) -> None:
    refused(write(encode_idx(ARRAY) + extra), "too long")
    refused(write(pack(encode_idx(ARRAY) + extra)), "too long")
    refused(write(pack(encode_idx(ARRAY)) + extra), "bytes follow the end of the gzip stream")


@pytest.mark.parametrize("form", [bytes, pack])
@pytest.mark.parametrize(
    ("magic", "match"),
    [
        ("01000803", "wrong magic number 01000803"),
        ("00010803", "wrong magic"),
        ("89504e47", "wrong magic"),
        ("00000a03", "unknown element type 0x0a"),
        ("00000003", "unknown element type 0x00"),
        ("00000800", "0 dimensions"),
        ("00000821", "33 dimensions"),
        ("000008ff", "255 dimensions"),
    ],
)
def test_wrong_magic(write: Any, form: Callable[[bytes], bytes], magic: str, match: str) -> None:
    refused(write(form(bytes.fromhex(magic) + bytes(2000))), match)


@pytest.mark.parametrize("form", [bytes, pack])
@pytest.mark.parametrize("count", [0, 1, 3, 1000, 2**31, 2**32 - 1])
def test_wrong_count(write: Any, form: Callable[[bytes], bytes], count: int) -> None:
    data = bytearray(encode_idx(ARRAY))
    data[4:8] = struct.pack(">I", count)
    refused(write(form(bytes(data))), "truncated|too long|more than")


def test_expected_shape(write: Any) -> None:
    refused(write(encode_idx(ARRAY)), r"shape \(2, 3, 4\), expected \(2, 12\)", shape=(2, 12))


@pytest.mark.parametrize("form", [bytes, pack])
def test_every_flipped_bit_is_found(write: Any, form: Callable[[bytes], bytes]) -> None:
    """A bit of a gzip header that says nothing of the content may flip; the content is right or refused."""
    data = form(encode_idx(ARRAY))
    accepted = 0
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path = write(bytes(damaged))
        try:
            np.testing.assert_array_equal(read_idx(path, sha256=DIGEST), ARRAY)
            accepted += 1
        except FileFormatError as error:
            assert str(path) in str(error)
    assert accepted <= (0 if form is bytes else 8 * 6 + 1)  # time stamp, level, system; the "is text" flag


@pytest.mark.parametrize("form", [bytes, pack])
@pytest.mark.parametrize(
    "dims", [(2**31, 2**31), (2**32 - 1,), (2**32 - 1,) * 32, (0,) + (2**32 - 1,) * 3, (60000, 28, 28)]
)
def test_hostile_dimensions(write: Any, form: Callable[[bytes], bytes], dims: tuple[int, ...]) -> None:
    refused(write(form(struct.pack(f">HBB{len(dims)}I", 0, 0x0E, len(dims), *dims))))


def test_gzip_trailer(write: Any) -> None:
    data = pack(encode_idx(ARRAY))
    refused(write(data[:-8] + bytes(4) + data[-4:]), "incorrect data check")
    refused(write(data[:-4] + bytes(4)), "incorrect length check")


def test_gzip_bomb(write: Any) -> None:
    header = struct.pack(">HBBI", 0, 0x08, 1, 1000)
    bomb = write(pack(header + bytes(50_000_000)))
    assert bomb.stat().st_size < 60_000
    refused(bomb, "too long")


def test_gzip_of_gzip_is_not_unpacked_twice(write: Any) -> None:
    refused(write(pack(pack(encode_idx(ARRAY)))), "wrong magic number 1f8b")


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        read_idx(tmp_path / "nothing-here")


@settings(max_examples=300, deadline=None)
@given(
    head=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0c\x02\0\0\0\x01", b"\x1f\x8b\x08\0", b"\x1f\x8b"]),
    tail=st.binary(max_size=64),
    packed=st.booleans(),
)
def test_any_bytes_are_read_exactly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes, packed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    data = head + tail
    path.write_bytes(pack(data) if packed else data)
    try:
        array = read_idx(path)
    except FileFormatError as error:
        assert str(path) in str(error)
    else:
        assert packed or not data.startswith(b"\x1f\x8b")
        assert encode_idx(array) == data


# ---- MNIST: a set of four tiny files stands for the whole of it ----


def tiny_files() -> dict[str, bytes]:
    rng = np.random.default_rng(2)
    files = {}
    for names, count in ((mnist.TRAIN, 20), (mnist.TEST, 10)):
        files[names[0]] = encode_idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[names[1]] = encode_idx(np.arange(count, dtype=np.uint8) % 10)
    return files


TINY = tiny_files()
ALL = mnist.TRAIN + mnist.TEST


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The tiny set as MNIST, an empty cache, no mirrors; the cache's path."""
    shapes = {name: struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]]) for name, data in TINY.items()}
    full = {name: mnist.Known(shapes[name], hashlib.sha256(data).hexdigest()) for name, data in TINY.items()}
    monkeypatch.setattr(mnist, "FULL", full)
    monkeypatch.setattr(mnist, "MIRRORS", [])
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("TENSORLITE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


def fill(folder: Path, names: tuple[str, ...] = ALL, gz: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{'.gz' if gz else ''}").write_bytes(pack(TINY[name]) if gz else TINY[name])
    return folder


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 4
    path.write_bytes(data)


def test_sample() -> None:
    digits = mnist.load_mnist(sample=True)
    assert digits.train_images.shape == (6000, 28, 28) and digits.test_images.shape == (1000, 28, 28)
    assert np.bincount(digits.train_labels).tolist() == [600] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    assert "sample" in digits.source
    files = list(mnist.SAMPLE_FOLDER.iterdir())
    assert sorted(file.name for file in files) == sorted(["README.md", *(f"{name}.gz" for name in ALL)])
    assert sum(file.stat().st_size for file in files) < 1_200_000
    assert "CC BY-SA 3.0" in (mnist.SAMPLE_FOLDER / "README.md").read_text()


def test_sample_is_drawn_evenly() -> None:
    script = Path(__file__).parent.parent / "tools" / "make_mnist_sample.py"
    draw = runpy.run_path(str(script))["draw"]
    labels = np.random.default_rng(3).integers(0, 10, 5000)
    places = draw(labels, 30)
    assert np.bincount(labels[places]).tolist() == [30] * 10
    assert (np.diff(places) > 0).all() and places[0] < 50 and places[-1] > 4700


@pytest.mark.skipif("TENSORLITE_DATA" not in os.environ, reason="needs all of MNIST in TENSORLITE_DATA")
def test_sample_is_what_the_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    script = Path(__file__).parent.parent / "tools" / "make_mnist_sample.py"
    folder = Path(os.environ["TENSORLITE_DATA"])
    files = runpy.run_path(str(script))["sample_files"](folder)
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == {
        name: known.sha256 for name, known in mnist.SAMPLE.items()
    }


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("gz", [True, False])
def test_root_and_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, gz: bool) -> None:
    folder = fill(tmp_path / "data" / place, gz=gz)
    by_root = mnist.load_mnist(tmp_path / "data", download=False)
    monkeypatch.setenv("TENSORLITE_DATA", str(tmp_path / "data"))
    by_variable = mnist.load_mnist()
    for found in (by_root, by_variable):
        for array, name in zip(found[:4], ALL, strict=True):
            assert array.tobytes() == TINY[name][-array.size :]
    assert by_root.source == f"MNIST in {tmp_path / 'data'}" and "TENSORLITE_DATA" in by_variable.source
    assert folder.is_dir()


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    sources = []
    fill(offline)
    sources.append(mnist.load_mnist().source)
    monkeypatch.setenv("TENSORLITE_DATA", str(fill(tmp_path / "variable")))
    sources.append(mnist.load_mnist().source)
    sources.append(mnist.load_mnist(fill(tmp_path / "root")).source)
    sources.append(mnist.load_mnist(tmp_path / "root", sample=True).source)
    assert ["cache" in sources[0], "variable" in sources[1], "root" in sources[2], "sample" in sources[3]] == [True] * 4


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    fill(tmp_path / "digits")
    assert len(mnist.load_mnist("~/digits").train_labels) == 20


@pytest.mark.parametrize("train", [True, False])
def test_one_split_needs_its_files_only(tmp_path: Path, train: bool) -> None:
    fill(tmp_path / "some", mnist.TRAIN if train else mnist.TEST)
    assert len(tl.data.MNIST(tmp_path / "some", train=train)) == (20 if train else 10)
    with pytest.raises((FileNotFoundError, ConnectionError)):
        tl.data.MNIST(tmp_path / "some", train=not train)


def test_named_folder_without_mnist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    fill(offline)  # not fallen back to
    with pytest.raises(FileNotFoundError, match=r"no MNIST in root=.*absent"):
        mnist.load_mnist(tmp_path / "absent", download=False)
    with pytest.raises(ConnectionError, match="could not be downloaded: no mirror answers"):
        mnist.load_mnist(tmp_path / "absent")
    monkeypatch.setenv("TENSORLITE_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match=r"TENSORLITE_DATA=.*typo has no MNIST"):
        mnist.load_mnist()


def test_incomplete_folder_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=mnist.TRAIN[1]):
        mnist.load_mnist(fill(tmp_path / "part", mnist.TRAIN[:1]))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("gz", [True, False])
def test_damaged_file_in_a_named_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Path, name: str, gz: bool
) -> None:
    folder = fill(tmp_path / "data", gz=gz)
    fill(offline)  # not fallen back to
    damage(folder / (f"{name}.gz" if gz else name))
    with pytest.raises(FileFormatError, match=name):
        mnist.load_mnist(folder)
    monkeypatch.setenv("TENSORLITE_DATA", str(folder))
    with pytest.raises(FileFormatError, match=name):
        mnist.load_mnist()


def test_another_data_set_under_the_same_names(tmp_path: Path) -> None:
    folder = fill(tmp_path / "fashion")
    other = encode_idx(np.zeros((20, 28, 28), np.uint8))
    (folder / f"{mnist.TRAIN[0]}.gz").write_bytes(pack(other))
    with pytest.raises(FileFormatError, match="another data set under the same name"):
        mnist.load_mnist(folder)


def test_no_network_and_no_cache_gives_the_sample(monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", ["https://nowhere.invalid/", "https://127.0.0.1:9/"])
    source = mnist.load_mnist().source
    assert source.startswith("embedded sample of MNIST, 6,000 training and 1,000 test digits")
    assert "no mirror answers" in source and "\n" not in source
    assert list(offline.iterdir()) == []
    with pytest.raises(ConnectionError, match="TENSORLITE_DATA"):
        mnist.load_mnist(sample=False)


def test_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "file" / "cache")
    assert "embedded sample" in mnist.load_mnist().source


def test_download_false(offline: Path) -> None:
    assert "download=False" in mnist.load_mnist(download=False).source
    with pytest.raises(FileNotFoundError, match="download=False"):
        mnist.load_mnist(download=False, sample=False)
    fill(offline, ALL[:3])
    assert "sample" in tl.data.MNIST(download=False).source  # both splits of a program come from one place


def test_without_pooch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("TENSORLITE_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert "pip install pooch" in mnist.load_mnist().source
    with pytest.raises(ImportError, match="pip install pooch"):
        mnist.load_mnist(tmp_path / "absent")


def test_cache_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pooch = pytest.importorskip("pooch")
    assert mnist.cache_folder() == Path(pooch.os_cache("tensorlite")) / "mnist"


# ---- downloads, from a server on this machine ----


def mirror(server: Server, name: str, **replaced: bytes) -> str:
    """Serve the tiny set as a mirror, `train_images=` and so on replaced."""
    keys = dict(zip(("train_images", "train_labels", "test_images", "test_labels"), ALL, strict=True))
    files = {file: pack(data) for file, data in TINY.items()} | {keys[key]: data for key, data in replaced.items()}
    return server.mirror(name, {f"{file}.gz": data for file, data in files.items()})


def test_download_to_the_cache(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a"), mirror(server, "b")])
    first = mnist.load_mnist()
    assert first.source == f"MNIST downloaded to {offline}"
    assert sorted(path.name for path in offline.iterdir()) == sorted(f"{name}.gz" for name in ALL)
    assert server.requests == [f"/a/{name}.gz" for name in ALL]
    again = mnist.load_mnist(download=False)
    assert again.source == f"MNIST in {offline}" and len(server.requests) == 4
    np.testing.assert_array_equal(again.test_images, first.test_images)


def test_download_to_root(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: Path) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a")])
    digits = tl.data.MNIST(tmp_path / "new" / "folder", train=False)
    assert digits.source == f"MNIST downloaded to {tmp_path / 'new' / 'folder'}"
    assert len(tl.data.MNIST(tmp_path / "new" / "folder", download=False)) == 20
    assert not offline.exists()


@pytest.mark.parametrize(
    "bad",
    [
        pack(TINY[ALL[0]])[:-3],
        pack(TINY[ALL[0]][:-1] + b"\xaa"),
        pack(TINY[ALL[1]]),
        b"<html>Please log in to the network</html>",
        b"",
        os.urandom(100_000),
        None,
    ],
    ids=["truncated", "altered", "other file", "login page", "empty", "too long", "not found"],
)
def test_a_bad_mirror_is_passed_over(
    server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path, bad: bytes | None
) -> None:
    bad_mirror, good_mirror = mirror(server, "bad"), mirror(server, "good")
    server.pages[f"/bad/{mnist.TEST[0]}.gz"] = bad if bad is not None else b""
    if bad is None:
        del server.pages[f"/bad/{mnist.TEST[0]}.gz"]
    monkeypatch.setattr(mnist, "MIRRORS", [bad_mirror, good_mirror])
    assert "downloaded" in mnist.load_mnist().source
    assert server.requests.count(f"/bad/{mnist.TRAIN[0]}.gz") == 1  # what was right is not fetched twice
    assert server.requests.count(f"/good/{mnist.TRAIN[0]}.gz") == 0
    assert sorted(path.name for path in offline.iterdir()) == sorted(f"{name}.gz" for name in ALL)


def test_bad_mirrors_leave_no_partial_files(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    mirrors = [mirror(server, "a", train_labels=b"junk"), mirror(server, "b", train_labels=b"")]
    monkeypatch.setattr(mnist, "MIRRORS", mirrors)
    source = mnist.load_mnist().source
    assert "sample" in source and "/a/" in source and "/b/" in source and "junk" not in source
    assert [path.name for path in offline.iterdir()] == [f"{ALL[0]}.gz"]  # one intact file, none in part


def test_damaged_cache_is_replaced_or_reported(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    fill(offline)
    damage(offline / f"{mnist.TRAIN[0]}.gz")
    with pytest.raises(FileFormatError, match=mnist.TRAIN[0]):
        mnist.load_mnist()
    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a")])
    assert "downloaded" in mnist.load_mnist().source
    assert server.requests == [f"/a/{mnist.TRAIN[0]}.gz"]


def test_mirror_that_never_answers(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    """As a name server that does not reply: no timeout of a socket covers it."""
    good, release = mirror(server, "good"), threading.Event()
    real = downloads._http

    def http(seconds: float, progress: Any = False) -> Any:
        download = real(seconds, progress)

        def call(url: str, *args: Any, **named: Any) -> Any:
            if "silent" in url:
                release.wait(30)
            return download(url, *args, **named)

        return call

    monkeypatch.setattr(downloads, "_http", http)
    monkeypatch.setattr(downloads, "_PROBE_SECONDS", 2.0)
    monkeypatch.setattr(mnist, "MIRRORS", ["http://silent.invalid/", good])
    try:
        assert "downloaded" in mnist.load_mnist().source
    finally:
        release.set()


def test_interrupted_download_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    def interrupt(self: Any, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a")])
    monkeypatch.setattr(downloads._Limited, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mnist.load_mnist()
    assert list(offline.iterdir()) == []


def test_strays_of_killed_processes_are_removed(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    offline.mkdir()
    for name, age in (("old.1-1.part", 1e5), ("new.2-2.part", 0)):
        (offline / name).write_bytes(b"half")
        stamp = (offline / name).stat().st_mtime - age
        os.utime(offline / name, (stamp, stamp))
    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a")])
    mnist.load_mnist()
    assert [path.name for path in offline.glob("*.part")] == ["new.2-2.part"]


def test_progress_bar(
    server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(mnist, "MIRRORS", [mirror(server, "a")])
    monkeypatch.setattr(tqdm, "tqdm", lambda **named: tqdm.std.tqdm(**named | {"disable": False}))
    mnist.load_mnist()
    assert mnist.TRAIN[0] in capsys.readouterr().err


# ---- the dataset ----


def test_items_and_transforms(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    plain = tl.data.MNIST(root)
    image, label = plain[3]
    assert plain.data.shape == (20, 28, 28) and plain.data.dtype is tl.uint8 and plain.targets.dtype is tl.int64
    assert image.shape == (28, 28) and type(label) is int and label == 3
    changed = tl.data.MNIST(root, transform=lambda x: x.float() / 255, target_transform=lambda y: y + 100)
    image, label = changed[3]
    assert image.dtype is tl.float32 and label == 103 and float(image.max()) <= 1
    batches = list(tl.data.DataLoader(changed, batch_size=8))
    assert batches[0][0].shape == (8, 28, 28) and batches[2][1].tolist() == [106, 107, 108, 109]


def test_batches_equal_items(tmp_path: Path) -> None:
    dataset = tl.data.MNIST(fill(tmp_path / "data"))
    fast, slow = dataset.__getbatch__(np.array([5, 0, 5])), tl.data.default_collate([dataset[i] for i in (5, 0, 5)])
    assert fast is not None
    for a, b in zip(fast, slow, strict=True):
        assert a.dtype is b.dtype and a.tolist() == b.tolist()


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_as_tensors(tmp_path: Path, flatten: bool, normalize: bool) -> None:
    dataset = tl.data.MNIST(fill(tmp_path / "data"))
    x, y = dataset.as_tensors(flatten=flatten, normalize=normalize)
    expected = dataset.data.numpy().astype(np.float64) / 255
    if normalize:
        expected = (expected - 0.1307) / 0.3081
    assert x.dtype is tl.float32 and x.shape == ((20, 784) if flatten else (20, 1, 28, 28))
    np.testing.assert_allclose(x.numpy().reshape(20, 28, 28), expected, atol=1e-6)
    assert y.tolist() == [i % 10 for i in range(20)]
