"""MNIST, the handwritten digits: found on this machine, downloaded, or the sample that the package carries.

Where the files are looked for; the first place that applies decides:

1. `sample=True`: the embedded sample, 6,000 training and 1,000 test digits, and nothing else is tried.
2. What `downloads` says: the argument `root`, the environment variable TENSORLITE_DATA, the cache folder, a download.
3. The embedded sample, unless `sample=False`, where neither a folder was named nor the download succeeds.

In a folder that the user names the files lie in the folder itself, in `mnist/` or in torchvision's `MNIST/raw/`,
gzipped or not. Every file is checked against its SHA-256, whichever way it came, and `source` says in one line what was
found.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from ..tensor import Tensor
from . import downloads
from .downloads import Remote, Source
from .idx import read_idx
from .image_set import Array, ImageSet

MIRRORS: Final = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
]
SAMPLE_FOLDER: Final = Path(__file__).parent / "mnist_sample"
TRAIN: Final = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST: Final = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Known(NamedTuple):
    """What a file must be: the shape in its header and the digest of its uncompressed bytes."""

    shape: tuple[int, ...]
    sha256: str


FULL: Final = {
    TRAIN[0]: Known((60000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    TRAIN[1]: Known((60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    TEST[0]: Known((10000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    TEST[1]: Known((10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
SAMPLE: Final = {
    TRAIN[0]: Known((6000, 28, 28), "276107be590759c3f0926df722c4de39cdda1227591a1ecd47a184690a8ebf06"),
    TRAIN[1]: Known((6000,), "68a5c4f7f395a30b3c9c1866520c6eee961a3d0347446a56e17e4f65c8dfbbc6"),
    TEST[0]: Known((1000, 28, 28), "08212e895b958225f959f761e33da53e35faa44cebc75e329dcaa7b477fbddc0"),
    TEST[1]: Known((1000,), "a8455fc3bf4f53a12fd7fac83ac10b16241e37d6ab97bdfad5c2ebdffb543bea"),
}


class MnistArrays(NamedTuple):
    """MNIST as NumPy arrays: images uint8 (N, 28, 28), labels uint8 (N,), and where they came from."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    source: str


def load_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    sample: bool | None = None,
    progress: bool = True,
) -> MnistArrays:
    """Both splits of MNIST as NumPy arrays; the module's docstring says where they are looked for.

    `sample=True` takes the embedded sample at once, `sample=False` never takes it. Raises FileFormatError for a damaged
    file, FileNotFoundError where a named folder lacks a file, ConnectionError where a needed download fails.

    >>> digits = tl.data.load_mnist(sample=True)
    >>> digits.train_images.shape, digits.test_labels.shape, digits.train_labels[:5].tolist()
    ((6000, 28, 28), (1000,), [5, 0, 4, 1, 9])
    """
    (x, y, test_x, test_y), source = _load(TRAIN + TEST, root, download, sample, progress)
    return MnistArrays(x, y, test_x, test_y, source)


class MNIST(ImageSet):
    """One split of MNIST as a dataset of (image, label): a uint8 tensor (28, 28) and a Python int, both transformed.

    `data` holds all images, uint8 (N, 28, 28), `targets` all labels, int64 (N,), and `source` says in one line where
    they came from. The arguments are torchvision's, and `sample` and `progress` of `load_mnist`; it raises the same.

    >>> digits = tl.data.MNIST(train=False, sample=True)
    >>> len(digits), digits[0][0].shape, digits[0][1]
    (1000, (28, 28), 7)
    >>> x, y = digits.as_tensors()
    >>> x.shape, x.dtype, y.dtype
    ((1000, 784), tensorlite.float32, tensorlite.int64)
    """

    classes: Final = tuple("0 1 2 3 4 5 6 7 8 9".split())
    statistics: ClassVar = (0.1307, 0.3081)

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = True,
        *,
        sample: bool | None = None,
        progress: bool = True,
    ) -> None:
        (images, labels), self.source = _load(TRAIN if train else TEST, root, download, sample, progress)
        self.train = train
        super().__init__(images, labels, transform, target_transform)


def _load(
    names: tuple[str, ...],
    root: str | os.PathLike[str] | None,
    download: bool,
    sample: bool | None,
    progress: bool,
) -> tuple[list[Array], str]:
    """The arrays of MNIST's files `names`, and the line that says where they came from."""
    if sample:
        return _read_sample(names, "as asked")
    marks = [f"{name}.gz" for name in names] + list(names)
    try:
        return downloads.obtain(_mnist(), marks, lambda folder: _read(names, folder, FULL), root, download, progress)
    except (ImportError, OSError) as error:
        if sample is False or root is not None or os.environ.get("TENSORLITE_DATA"):
            raise
        return _read_sample(names, downloads.one_line(error))


def cache_folder() -> Path:
    """The folder of downloaded MNIST files under the platform's cache folder."""
    return downloads.cache_folder("mnist")


def _mnist() -> Source:
    files = [
        Remote(
            f"{name}.gz",
            math.prod(known.shape) + 4096,  # the header, and what gzip adds at worst
            functools.partial(read_idx, **known._asdict()),
        )
        for name, known in FULL.items()
    ]
    return Source("MNIST", ("", "mnist", "MNIST/raw"), cache_folder, MIRRORS, files,
                  "; sample=True takes the 7,000 digits that come with tensorlite")


def _read_sample(names: tuple[str, ...], why: str) -> tuple[list[Array], str]:
    arrays = _read(names, SAMPLE_FOLDER, SAMPLE)
    return arrays, f"embedded sample of MNIST, 6,000 training and 1,000 test digits ({why})"


def _read(names: Iterable[str], folder: Path, known: dict[str, Known]) -> list[Array]:
    return [read_idx(_find(folder, name), **known[name]._asdict()) for name in names]


def _find(folder: Path, name: str) -> Path:
    """The plain file where there is one, for it reads faster, else the gzipped one."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
