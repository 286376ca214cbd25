"""FashionMNIST: MNIST's four files with clothes in them, found or downloaded as `downloads` says.

The files have MNIST's names, and so a folder of their own: `fashion-mnist/` or torchvision's `FashionMNIST/raw/` below
a folder that the user names. They stay gzipped as they are distributed, and in this form their sizes and SHA-256 are
checked, whichever way they came; both are those that TensorFlow Datasets records.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from ..tensor import Tensor
from . import downloads
from .downloads import Remote, Source
from .idx import read_idx
from .image_set import Array, ImageSet
from .mnist import TEST, TRAIN

MIRRORS: Final = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # has no https; the digests make up for it
]


class Packed(NamedTuple):
    """What a gzipped file must be: the shape in its header, and size and digest of the file as it is distributed."""

    shape: tuple[int, ...]
    size: int
    sha256: str


FILES: Final = {
    TRAIN[0]: Packed((60000, 28, 28), 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    TRAIN[1]: Packed((60000,), 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    TEST[0]: Packed((10000, 28, 28), 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    TEST[1]: Packed((10000,), 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}


class FashionMNIST(ImageSet):
    """One split of FashionMNIST, ten kinds of clothes in MNIST's form. Xiao, Rasul and Vollgraf 2017.

    `data` holds 60,000 or 10,000 images, uint8 (N, 28, 28), `targets` their labels, int64 (N,), and `source` says where
    they came from. The arguments are torchvision's. Raises FileFormatError for a damaged file, FileNotFoundError where
    a named folder lacks a file, ConnectionError where a needed download fails.

    >>> tl.data.FashionMNIST.classes[9]
    'Ankle boot'
    """

    classes: Final = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )
    statistics: ClassVar = (0.2860, 0.3530)

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = True,
        *,
        progress: bool = True,
    ) -> None:
        images, labels = [f"{name}.gz" for name in (TRAIN if train else TEST)]

        def read(folder: Path) -> tuple[Array, Array]:
            return _read(folder / images), _read(folder / labels)

        arrays, self.source = downloads.obtain(_source(), (images, labels), read, root, download, progress)
        self.train = train
        super().__init__(*arrays, transform, target_transform)


def cache_folder() -> Path:
    """The folder of downloaded FashionMNIST files under the platform's cache folder."""
    return downloads.cache_folder("fashion-mnist")


def _source() -> Source:
    files = [Remote(f"{name}.gz", known.size, functools.partial(_check, known)) for name, known in FILES.items()]
    return Source("FashionMNIST", ("fashion-mnist", "FashionMNIST/raw"), cache_folder, MIRRORS, files)


def _check(known: Packed, path: Path) -> None:
    downloads.check_file(path, known.size, known.sha256)


def _read(path: Path) -> Array:
    known = FILES[path.stem]
    _check(known, path)
    return read_idx(path, shape=known.shape)
