"""FashionMNIST and EMNIST: where they are looked for, downloads from a local server, damaged files, what they hold."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_server import Server

import tensorlite as tl
from tensorlite.data import downloads, emnist, fashion_mnist, mnist
from tensorlite.data.idx import encode_idx, parse_idx
from tensorlite.errors import ArgumentError, FileFormatError

pack = functools.partial(gzip.compress, mtime=0)


def images_of(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


CLOTHES = {
    f"{name}.gz": pack(encode_idx(array))
    for names, count in ((mnist.TRAIN, 20), (mnist.TEST, 10))
    for name, array in zip(names, (images_of(count, count), np.arange(count, dtype=np.uint8) % 10), strict=True)
}
REAL_CLOTHES, REAL_LETTERS = fashion_mnist.FILES, (emnist.SIZE, emnist.SHA256)
LABELS = {"balanced": range(47), "letters": range(1, 27), "digits": range(10)}


def archive_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def letters_archive(**replaced: np.ndarray) -> bytes:
    """EMNIST's archive in small: images on their side, one of each class in training, reversed in the test split."""
    members = {"gzip/emnist-balanced-mapping.txt": b"0 48\n", "gzip/../../outside": b"never extracted"}
    for split, labels in LABELS.items():
        for part, order in (("train", 1), ("test", -1)):
            upright = images_of(len(labels), len(split))[::order]
            arrays = {"images": upright.transpose(0, 2, 1), "labels": np.array(labels, np.uint8)[::order]} | replaced
            for kind, dims in (("images", 3), ("labels", 1)):
                name = f"gzip/emnist-{split}-{part}-{kind}-idx{dims}-ubyte.gz"
                members[name] = pack(encode_idx(arrays[kind]))
    return archive_of(members)


LETTERS = letters_archive()


def known_archive(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Make `data` what EMNIST's archive must be."""
    monkeypatch.setattr(emnist, "SIZE", len(data))
    monkeypatch.setattr(emnist, "SHA256", hashlib.sha256(data).hexdigest())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The tiny sets in place of the real ones, an empty cache, no mirrors; the folder of the caches."""
    packed = {
        name: fashion_mnist.Packed(parse_idx(data, "").shape, len(data), hashlib.sha256(data).hexdigest())
        for name, data in ((name.removesuffix(".gz"), data) for name, data in CLOTHES.items())
    }
    monkeypatch.setattr(fashion_mnist, "FILES", packed)
    monkeypatch.setattr(fashion_mnist, "MIRRORS", [])
    monkeypatch.setattr(emnist, "MIRRORS", [])
    monkeypatch.setattr(downloads, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("TENSORLITE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    known_archive(monkeypatch, LETTERS)
    return tmp_path / "cache"


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


# ---- FashionMNIST ----


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
def test_clothes_in_a_named_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    fill(tmp_path / "data" / place, CLOTHES)
    clothes = tl.data.FashionMNIST(tmp_path / "data", download=False)
    np.testing.assert_array_equal(clothes.data.numpy(), images_of(20, 20))
    assert clothes.targets.tolist() == [i % 10 for i in range(20)] and clothes.targets.dtype is tl.int64
    assert clothes.train and clothes.source == f"FashionMNIST in {tmp_path / 'data'}"
    monkeypatch.setenv("TENSORLITE_DATA", str(tmp_path / "data"))
    test = tl.data.FashionMNIST(train=False)
    assert len(test) == 10 and not test.train and "TENSORLITE_DATA" in test.source


def test_clothes_are_not_looked_for_among_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, CLOTHES)  # where MNIST's files may lie, under the same names
    with pytest.raises(FileNotFoundError, match=r"no FashionMNIST in root=.*fashion-mnist or .*FashionMNIST/raw"):
        tl.data.FashionMNIST(tmp_path, download=False)
    monkeypatch.setenv("TENSORLITE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"TENSORLITE_DATA=.* has no FashionMNIST"):
        tl.data.FashionMNIST()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-9] + b"x" + data[-8:]])
def test_damaged_clothes_are_refused(tmp_path: Path, damage: object) -> None:
    for name in CLOTHES:
        fill(tmp_path / "fashion-mnist", CLOTHES | {name: damage(CLOTHES[name])})  # type: ignore[operator]
        with pytest.raises(FileFormatError, match=f"{name}: .*expected"):
            tl.data.FashionMNIST(tmp_path, train=name.startswith("train"))


def test_clothes_are_downloaded_into_a_folder_of_their_own(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: Path
) -> None:
    bad = server.mirror("bad", CLOTHES | {f"{mnist.TEST[0]}.gz": CLOTHES[f"{mnist.TEST[1]}.gz"]})
    monkeypatch.setattr(fashion_mnist, "MIRRORS", [bad, server.mirror("good", CLOTHES)])
    to_root = tl.data.FashionMNIST(tmp_path / "root")
    assert to_root.source == f"FashionMNIST downloaded to {tmp_path / 'root' / 'fashion-mnist'}"
    assert sorted(path.name for path in (tmp_path / "root" / "fashion-mnist").iterdir()) == sorted(CLOTHES)
    assert server.requests.count(f"/bad/{mnist.TRAIN[0]}.gz") == 1 and not offline.exists()
    to_cache = tl.data.FashionMNIST()
    assert to_cache.source == f"FashionMNIST downloaded to {offline / 'fashion-mnist'}"
    assert tl.data.FashionMNIST(download=False).source == f"FashionMNIST in {offline / 'fashion-mnist'}"
    np.testing.assert_array_equal(to_cache.data.numpy(), to_root.data.numpy())


def test_without_network_nothing_takes_the_place_of_clothes() -> None:
    pytest.importorskip("pooch")
    with pytest.raises(ConnectionError, match=r"FashionMNIST could not be downloaded: no mirror answers; .*train-im"):
        tl.data.FashionMNIST()
    with pytest.raises(FileNotFoundError, match=r"FashionMNIST is not in .*download=False"):
        tl.data.FashionMNIST(download=False)


def test_clothes_as_tensors_items_and_batches(tmp_path: Path) -> None:
    fill(tmp_path / "fashion-mnist", CLOTHES)
    clothes = tl.data.FashionMNIST(tmp_path, transform=lambda x: x.float(), target_transform=lambda y: y + 100)
    image, label = clothes[13]
    assert image.dtype is tl.float32 and label == 103 and clothes.classes[13 - 10] == "Dress"
    x, _ = clothes.as_tensors(flatten=False)
    assert x.shape == (20, 1, 28, 28)
    np.testing.assert_allclose(x.numpy()[:, 0], (images_of(20, 20) / 255 - 0.2860) / 0.3530, atol=1e-6)


def test_the_real_files_are_those_that_are_published() -> None:
    sizes = {26421880: (60000, 28, 28), 29515: (60000,), 4422102: (10000, 28, 28), 5148: (10000,)}
    assert {known.size: known.shape for known in REAL_CLOTHES.values()} == sizes
    assert all(len(bytes.fromhex(known.sha256)) == 32 for known in REAL_CLOTHES.values())
    assert REAL_LETTERS == (561753746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e")


# ---- EMNIST ----


@pytest.mark.parametrize("split", LABELS)
@pytest.mark.parametrize("place", ["emnist", "EMNIST/raw"])
def test_letters_stand_upright(tmp_path: Path, split: str, place: str) -> None:
    fill(tmp_path / place, {"gzip.zip": LETTERS})
    train, test = (tl.data.EMNIST(tmp_path, split, train, download=False) for train in (True, False))
    np.testing.assert_array_equal(train.data.numpy(), images_of(len(LABELS[split]), len(split)))
    assert train.data.numpy().flags.c_contiguous
    assert train.targets.tolist() == list(LABELS[split]) and test.targets.tolist() == list(LABELS[split])[::-1]
    np.testing.assert_array_equal(test.data.numpy(), train.data.numpy()[::-1])
    assert train.source == f"EMNIST in {tmp_path}" and train.split == split
    assert [path.name for path in (tmp_path / place).iterdir()] == ["gzip.zip"], "nothing is extracted"


def test_classes_of_the_splits_are_torchvisions() -> None:
    counts = {name: len(classes) for name, classes in emnist.CLASSES.items()}
    assert counts == {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 27, "digits": 10, "mnist": 10}
    assert "".join(emnist.CLASSES["balanced"]) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
    assert emnist.CLASSES["byclass"][36] == "a" and emnist.CLASSES["letters"][26] == "z"


def test_unknown_split_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"unknown split 'capitals'; there are byclass, .*mnist"):
        tl.data.EMNIST(split="capitals")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:99] + b"?" + data[100:]])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: object) -> None:
    fill(tmp_path / "emnist", {"gzip.zip": damage(LETTERS)})  # type: ignore[operator]
    with pytest.raises(FileFormatError, match=r"gzip.zip: .*expected"):
        tl.data.EMNIST(tmp_path)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"not an archive", "not EMNIST's archive"),
        (archive_of({"gzip/emnist-balanced-train-images-idx3-ubyte.gz": b"junk"}), "not a valid IDX file"),
        (archive_of({"readme": b""}), r"not EMNIST's archive: .*emnist-balanced-train-images"),
        (letters_archive(labels=np.arange(5, dtype=np.uint8)), "do not match"),
        (letters_archive(images=np.zeros((47, 27, 28), np.uint8)), "do not match"),
    ],
)
def test_an_archive_with_other_contents_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, match: str
) -> None:
    known_archive(monkeypatch, data)
    fill(tmp_path / "emnist", {"gzip.zip": data})
    with pytest.raises(FileFormatError, match=match):
        tl.data.EMNIST(tmp_path)


def test_a_mirror_cannot_fill_the_disk() -> None:
    stream = io.BytesIO()
    limited = downloads._Limited(stream, 10)
    limited.write(b"12345")
    limited.write(b"67890")
    with pytest.raises(FileFormatError, match="more bytes than the data have"):
        limited.write(b"1")
    assert stream.getvalue() == b"1234567890"


def test_letters_are_downloaded(server: Server, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    mirrors = [server.mirror(name, {"gzip.zip": data}) for name, data in (("long", LETTERS * 2), ("good", LETTERS))]
    monkeypatch.setattr(emnist, "MIRRORS", mirrors)
    letters = tl.data.EMNIST(split="letters")
    assert letters.source == f"EMNIST downloaded to {offline / 'emnist'}" and len(letters) == 26
    assert server.requests == ["/long/gzip.zip", "/good/gzip.zip"]
    assert [path.name for path in (offline / "emnist").iterdir()] == ["gzip.zip"]
    assert len(tl.data.EMNIST(split="digits", download=False)) == 10
