"""Folders of images: classes and their order, what is read, damaged files, workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.data import ImageFolder, read_image
from tensorlite.errors import ArgumentError, FileFormatError

Image = pytest.importorskip("PIL.Image")

FILES = ("dog/b.png", "dog/a.bmp", "cat/later/2.PNG", "cat/1.png", "cat/3.ppm", "Zebra/x.tiff")


def pixels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number, name in enumerate(FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(number)).save(tmp_path / name)
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "readme.png").write_bytes(b"not in a class")
    return tmp_path


def test_classes_and_files_are_sorted(pets: Path) -> None:
    folder = ImageFolder(pets)
    assert folder.classes == ["Zebra", "cat", "dog"] and folder.class_to_idx == {"Zebra": 0, "cat": 1, "dog": 2}
    names = [Path(path).relative_to(pets).as_posix() for path, _ in folder.samples]
    assert names == ["Zebra/x.tiff", "cat/1.png", "cat/3.ppm", "cat/later/2.PNG", "dog/a.bmp", "dog/b.png"]
    assert folder.targets == [0, 1, 1, 1, 2, 2] and len(folder) == 6
    for (image, label), name in zip([folder[i] for i in range(6)], names, strict=True):
        assert image.dtype is tl.uint8 and type(label) is int
        np.testing.assert_array_equal(image.numpy(), pixels_of(FILES.index(name)).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_rgb_or_grey(tmp_path: Path, kind: str) -> None:
    array = pixels_of(0)
    image = Image.fromarray(array.astype(np.uint16)[..., 0]) if kind == "I;16" else Image.fromarray(array).convert(kind)
    path = tmp_path / ("image.tiff" if kind == "CMYK" else "image.png")
    image.save(path)
    with Image.open(path) as opened:
        assert opened.mode == kind
        for mode, shape in (("RGB", (3, 5, 7)), ("L", (1, 5, 7))):
            found = read_image(path, mode)
            expected = np.asarray(opened.convert(mode)).reshape(5, 7, -1).transpose(2, 0, 1)
            assert found.shape == shape and found.is_contiguous()
            np.testing.assert_array_equal(found.numpy(), expected)
            found[:] = 0  # memory of its own, that can be written


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "smooth.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "smooth.jpg").numpy().transpose(1, 2, 0).astype(int) - smooth).max() < 12


def damaged(data: bytes) -> list[bytes]:
    altered = bytearray(data)
    altered[len(data) // 2] ^= 0xFF
    return [data[: len(data) // 2], data[:20], b"", b"<html></html>", bytes(altered)]


def test_damaged_images_are_refused_by_name(pets: Path) -> None:
    path = pets / "dog" / "b.png"
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=r"b\.png: not an intact image: "):
            ImageFolder(pets)[5]
    path.unlink()
    folder = ImageFolder(pets)
    (pets / "dog" / "a.bmp").unlink()
    with pytest.raises(FileNotFoundError):
        folder[4]


def test_an_image_of_too_many_pixels_is_refused(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(FileFormatError, match="decompression bomb"):
        ImageFolder(pets)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_through_a_loader(pets: Path, workers: int) -> None:
    transform = tl.data.transforms.ToDtype(tl.float32, scale=True)
    folder = ImageFolder(pets, transform, lambda label: label + 10, mode="L")
    images, labels = zip(*tl.data.DataLoader(folder, batch_size=4, num_workers=workers), strict=True)
    assert [batch.shape for batch in images] == [(4, 1, 5, 7), (2, 1, 5, 7)]
    assert [label for batch in labels for label in batch.tolist()] == [10, 11, 11, 11, 12, 12]
    np.testing.assert_array_equal(images[1].numpy()[1] * 255, read_image(pets / "dog/b.png", "L").numpy())


def test_damaged_images_are_named_through_workers(pets: Path) -> None:
    (pets / "dog" / "a.bmp").write_bytes(b"BM")
    with pytest.raises(FileFormatError, match=r"a\.bmp"):
        list(tl.data.DataLoader(ImageFolder(pets), batch_size=2, num_workers=2))


def test_loader_and_files_of_ones_own(pets: Path) -> None:
    (pets / "Zebra" / "x.tiff").rename(pets / "Zebra" / "x.gif")
    folder = ImageFolder(pets, loader=lambda path: Path(path).name, is_valid_file=lambda path: path[-5] in "xb1s")
    assert [folder[i] for i in range(len(folder))] == [("x.gif", 0), ("1.png", 1), ("b.png", 2), ("notes.txt", 2)]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda root: ImageFolder(root / "absent"), FileNotFoundError, "absent"),
        (lambda root: ImageFolder(root / "dog"), FileNotFoundError, "has no subfolders"),
        (lambda root: ImageFolder(root, is_valid_file=lambda path: "cat" in path), FileNotFoundError, "no images of"),
        (lambda root: ImageFolder(root, mode="CMYK"), ArgumentError, "mode is 'RGB' or 'L', got 'CMYK'"),
    ],
)
def test_refusals(pets: Path, make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make(pets)


def test_without_pillow(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'tensorlite\[images\]'"):
        ImageFolder(pets)[0]
