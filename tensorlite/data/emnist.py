"""EMNIST: handwritten digits and letters in MNIST's form, found or downloaded as `downloads` says.

All splits are in one archive of half a gigabyte, `gzip.zip`. Below a folder that the user names it lies in `emnist/` or
in torchvision's `EMNIST/raw/`. It stays as it is distributed: its size and SHA-256 (those that TensorFlow Datasets
records) are checked, whichever way it came, and the members that a split needs are read by their names, in memory;
nothing is extracted.
"""

from __future__ import annotations

import os
import string
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from ..errors import ArgumentError, FileFormatError
from ..tensor import Tensor
from . import downloads
from .downloads import Remote, Source
from .idx import parse_idx
from .image_set import Array, ImageSet

MIRRORS: Final = [
    "https://biometrics.nist.gov/cs_links/EMNIST/",
    "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
]
ARCHIVE: Final = "gzip.zip"
SIZE: Final = 561753746
SHA256: Final = "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"

_ALL = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
_MERGED = tuple(c for c in _ALL if c not in "cijklmopsuvwxyz")  # these look like their capitals
CLASSES: Final = {
    "byclass": _ALL,
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": ("N/A", *string.ascii_lowercase),  # labels are 1 to 26
    "digits": tuple(string.digits),
    "mnist": tuple(string.digits),
}


class EMNIST(ImageSet):
    """One split of EMNIST, handwritten digits and letters in MNIST's form. Cohen, Afshar, Tapson and van Schaik 2017.

    `split` is one of "byclass" (62 classes), "bymerge" and "balanced" (47: letters whose two cases look alike are one
    class), "letters" (26, labelled 1 to 26), "digits" and "mnist" (10); `classes` names them by label. `data` holds the
    images upright, uint8 (N, 28, 28), `targets` the labels, int64 (N,), and `source` says where they came from. The
    arguments are torchvision's. Raises ArgumentError for another split, FileFormatError for a damaged archive,
    FileNotFoundError where a named folder lacks it, ConnectionError where a needed download fails.

    >>> tl.data.EMNIST("nowhere", "balanced", download=False)
    Traceback (most recent call last):
    FileNotFoundError: no EMNIST in root='nowhere': expected gzip.zip in nowhere/emnist or nowhere/EMNIST/raw. ...
    """

    statistics: ClassVar = (0.1751, 0.3332)

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "balanced",
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = True,
        *,
        progress: bool = True,
    ) -> None:
        if split not in CLASSES:
            raise ArgumentError(f"EMNIST: unknown split {split!r}; there are {', '.join(CLASSES)}")
        arrays, self.source = downloads.obtain(_source(), (ARCHIVE,), lambda folder: _read(folder, split, train), root,
                                               download, progress)
        self.split = split
        self.train = train
        self.classes = CLASSES[split]
        super().__init__(*arrays, transform, target_transform)


def cache_folder() -> Path:
    """The folder of the downloaded archive under the platform's cache folder."""
    return downloads.cache_folder("emnist")


def _source() -> Source:
    return Source("EMNIST", ("emnist", "EMNIST/raw"), cache_folder, MIRRORS, [Remote(ARCHIVE, SIZE, _check)])


def _check(path: Path) -> None:
    downloads.check_file(path, SIZE, SHA256)


def _read(folder: Path, split: str, train: bool) -> tuple[Array, Array]:
    """Images and labels of one split; the archive's images lie on their side, columns first."""
    path = folder / ARCHIVE
    _check(path)
    prefix = f"gzip/emnist-{split}-{'train' if train else 'test'}"
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = [
                parse_idx(archive.read(member), f"{path}:{member}")
                for member in (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
            ]
    except (zipfile.BadZipFile, KeyError) as error:
        raise FileFormatError(f"{path}: not EMNIST's archive: {downloads.one_line(error)}") from error
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise FileFormatError(f"{path}: split {split}: images {images.shape} and labels {labels.shape} do not match")
    return np.ascontiguousarray(images.transpose(0, 2, 1)), labels
