"""A folder of images as a dataset, one subfolder per class. Pillow reads them; it is imported on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..creation import from_numpy
from ..errors import ArgumentError, FileFormatError
from ..files import open_regular
from ..tensor import Tensor
from .dataset import Dataset

EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
MODES: Final = ("RGB", "L")


class ImageFolder(Dataset[tuple[Any, Any]]):
    """The images below root/class/ as a dataset of (image, label), uint8 (C, H, W) and a Python int, both transformed.

    Classes are the subfolders of `root`, labelled 0, 1, ... in the order of their names; their images lie at any depth,
    with the suffixes of `EXTENSIONS`, in upper or lower case, or are those files for whose path `is_valid_file` says
    so. `mode` is "RGB" for three channels or "L" for one, to which every image is converted; `loader`, where given, is
    called with the path instead. `classes`, `class_to_idx`, `samples` (path and label) and `targets` tell what was
    found.

    Raises FileNotFoundError where there are no classes, or a class without images; ImportError without Pillow; and,
    when an item is read, FileFormatError for a file that is not an intact image.

        root/cat/one.png    root/cat/more/two.jpg    root/dog/three.png

    >>> pets = tl.data.ImageFolder("root")                                                              # doctest: +SKIP
    >>> pets.classes, pets.targets                                                                      # doctest: +SKIP
    (['cat', 'dog'], [0, 0, 1])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        loader: Callable[[str], Any] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        *,
        mode: str = "RGB",
    ) -> None:
        if mode not in MODES:
            raise ArgumentError(f"ImageFolder: mode is 'RGB' or 'L', got {mode!r}")
        self.root = Path(root).expanduser()
        self.transform = transform
        self.target_transform = target_transform
        self.mode = mode
        self.loader = loader or self._read
        self.classes = _classes(self.root)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        wanted = is_valid_file or _is_image
        self.samples = [
            (path, label) for name, label in self.class_to_idx.items() for path in _files(self.root / name, wanted)
        ]
        self.targets = [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        transform = "" if self.transform is None else f", transform={self.transform!r}"
        return (f"ImageFolder({str(self.root)!r}, {len(self)} images of {len(self.classes)} classes, "
                f"mode={self.mode!r}{transform})")

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        image = self.loader(path)
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def _read(self, path: str) -> Tensor:
        return read_image(path, self.mode)


def read_image(path: str | os.PathLike[str], mode: str = "RGB") -> Tensor:
    """An image file as uint8 (C, H, W), of three channels for mode "RGB" and one for "L".

    Raises FileFormatError, which names the file, for one that is not an intact image, and ImportError without Pillow.
    """
    image = _pillow()
    with open_regular(path) as file:
        try:
            with image.open(file) as opened:
                pixels = np.array(opened.convert(mode))
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
            raise FileFormatError(f"{os.fspath(path)}: not an intact image: {error}") from error
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return from_numpy(np.ascontiguousarray(planes))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs the package Pillow: pip install 'tensorlite[images]'") from error
    return Image


def _classes(root: Path) -> list[str]:
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(f"ImageFolder: {root} has no subfolders; each class of images is one")
    return classes


def _files(folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """The wanted files at any depth below a class's folder, sorted by folder, then by name."""
    found = [
        os.path.join(place, name)
        for place, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if wanted(os.path.join(place, name))
    ]
    if not found:
        raise FileNotFoundError(
            f"ImageFolder: no images of class {folder.name!r} in {folder}; by default their suffixes are "
            f"{', '.join(EXTENSIONS)}"
        )
    return found


def _is_image(path: str) -> bool:
    return path.lower().endswith(EXTENSIONS)
