"""MNIST, the handwritten digits: found on this machine, downloaded, or the sample that the package carries.

Where the files are looked for; the first place that applies decides:

1. `sample=True`: the embedded sample, 6,000 training and 1,000 test digits, and nothing else is tried.
2. The argument `root`. Files that are missing there are downloaded into it, unless `download=False`.
3. The environment variable TENSORLITE_DATA.
4. The user's cache folder.
5. Download into the cache folder, from the first mirror that works.
6. The embedded sample, unless `sample=False`.

In 2 and 3 the files lie in the folder itself, in `mnist/` or in torchvision's `MNIST/raw/`, gzipped or not. A folder
that the user names is never silently replaced by another place: what is missing or damaged there is an error.
Every file is checked against its SHA-256, whichever way it came, and `source` says in one line what was found.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from ..creation import from_numpy
from ..errors import FileFormatError
from ..tensor import Tensor
from .dataset import Dataset
from .idx import read_idx

Array = np.ndarray[Any, Any]

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

_PROBE_SECONDS: Final = 5.0  # within which a mirror must answer at all
_STALL_SECONDS: Final = 15.0  # without one byte, and a download is given up
_STRAY_SECONDS: Final = 3600.0  # after which a partial file belongs to a process that was killed
_MEAN: Final = 0.1307  # of all training pixels scaled to 0..1
_STD: Final = 0.3081


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


class MNIST(Dataset[tuple[Any, Any]]):
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
        self.transform = transform
        self.target_transform = target_transform
        self.data = from_numpy(images)
        self.targets = from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.data[index], int(self.targets[index].item())
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def __getbatch__(self, indices: Array) -> tuple[Tensor, Tensor] | None:
        """Images and labels at `indices`, by one indexing each; None where a transform must see every item."""
        if self.transform is not None or self.target_transform is not None:
            return None
        return self.data[indices], self.targets[indices]

    def as_tensors(self, flatten: bool = True, normalize: bool = True) -> tuple[Tensor, Tensor]:
        """All images as float32 and all labels as int64, for training on whole arrays.

        Images are (N, 784), or (N, 1, 28, 28) with `flatten=False`. Pixels are x/255 in 0..1, and with `normalize`
        (x/255 - 0.1307) / 0.3081, so that the training pixels have mean 0 and standard deviation 1.
        """
        pixels = self.data.numpy().astype(np.float32)
        pixels /= np.float32(255)
        if normalize:
            pixels -= np.float32(_MEAN)
            pixels /= np.float32(_STD)
        return from_numpy(pixels.reshape(len(self), *((784,) if flatten else (1, 28, 28)))), self.targets


def _load(
    names: tuple[str, ...],
    root: str | os.PathLike[str] | None,
    download: bool,
    sample: bool | None,
    progress: bool,
) -> tuple[list[Array], str]:
    """The arrays of the files `names`, and the line that says where they came from."""
    if sample:
        return _read_sample(names, "as asked")
    if root is not None:
        return _from_root(names, Path(root).expanduser(), download, progress)
    if named := os.environ.get("TENSORLITE_DATA"):
        folder = Path(named).expanduser()
        arrays = _read_named(names, folder)
        if arrays is None:
            raise FileNotFoundError(
                f"TENSORLITE_DATA={named} has no MNIST: expected {names[0]}.gz in it, or in {folder / 'mnist'}. "
                "Correct the variable, or unset it to have MNIST downloaded"
            )
        return arrays, f"MNIST in {folder} (TENSORLITE_DATA)"
    try:
        return _from_cache(names, download, progress)
    except (ImportError, OSError) as error:
        if sample is False:
            raise
        return _read_sample(names, _one_line(error))


def _from_root(
    names: tuple[str, ...], root: Path, download: bool, progress: bool
) -> tuple[list[Array], str]:
    arrays = _read_named(names, root)
    if arrays is not None:
        return arrays, f"MNIST in {root}"
    if not download:
        raise FileNotFoundError(
            f"no MNIST in root={str(root)!r}: expected {names[0]}.gz in it, or in {root / 'mnist'}. "
            "Give another root, or download=True to have it downloaded"
        )
    _download(root, FULL, progress)
    return _read(names, root, FULL), f"MNIST downloaded to {root}"


def _from_cache(names: tuple[str, ...], download: bool, progress: bool) -> tuple[list[Array], str]:
    """From the cache, downloading what is missing or damaged there; a cache counts only with all four files."""
    folder = cache_folder()
    damaged: FileFormatError | None = None
    try:
        if all((folder / f"{name}.gz").is_file() for name in FULL):
            return _read(names, folder, FULL), f"MNIST in {folder}"
    except FileFormatError as error:
        damaged = error
    if not download:
        raise damaged or FileNotFoundError(f"MNIST is not in {folder}, and download=False")
    try:
        _download(folder, FULL, progress)
    except OSError as error:
        if damaged is not None:
            raise damaged from error
        raise
    return _read(names, folder, FULL), f"MNIST downloaded to {folder}"


def cache_folder() -> Path:
    """The folder of downloaded MNIST files under the platform's cache folder."""
    return Path(_pooch().os_cache("tensorlite")) / "mnist"


def _read_sample(names: tuple[str, ...], why: str) -> tuple[list[Array], str]:
    arrays = _read(names, SAMPLE_FOLDER, SAMPLE)
    return arrays, f"embedded sample of MNIST, 6,000 training and 1,000 test digits ({why})"


def _read_named(names: tuple[str, ...], folder: Path) -> list[Array] | None:
    """The files in a folder named by the user; None where it has none of them, an error where it has some."""
    for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
        if any(_find(place, name).is_file() for name in names):
            return _read(names, place, FULL)
    return None


def _read(names: Iterable[str], folder: Path, known: dict[str, Known]) -> list[Array]:
    return [read_idx(_find(folder, name), **known[name]._asdict()) for name in names]


def _find(folder: Path, name: str) -> Path:
    """The plain file where there is one, for it reads faster, else the gzipped one."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _download(folder: Path, known: dict[str, Known], progress: bool) -> None:
    """Download the files that `folder` does not hold intact; ConnectionError where no mirror gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_strays(folder)
    missing = [name for name in known if not _is_intact(folder / f"{name}.gz", known[name])]
    failures = []
    for mirror in _answering(MIRRORS):
        try:
            while missing:
                _download_file(mirror, folder, missing[0], known[missing[0]], progress)
                del missing[0]
        except (OSError, FileFormatError) as error:  # requests' errors are OSErrors
            failures.append(f"{mirror}{missing[0]}.gz: {_one_line(error)}")
    if missing:
        raise ConnectionError(
            f"MNIST could not be downloaded: {'; '.join(failures) or 'no mirror answers'}; "
            "root= or TENSORLITE_DATA can name a folder that has its four files"
        )


def _answering(mirrors: Iterable[str]) -> Iterator[str]:
    """Those mirrors, in their order, that answer in time. All are asked at once.

    Each is asked in a thread because no timeout of a socket covers the look-up of its name, which can take minutes.
    """
    answers: dict[str, bool] = {}
    head = _http(_PROBE_SECONDS)

    def ask(mirror: str) -> None:
        with contextlib.suppress(Exception):  # whatever happens, this mirror does not answer
            answers[mirror] = head(f"{mirror}{TRAIN[0]}.gz", None, None, check_only=True)

    threads = {mirror: threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + _PROBE_SECONDS
    for mirror, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if answers.get(mirror):
            yield mirror


def _download_file(mirror: str, folder: Path, name: str, known: Known, progress: bool) -> None:
    """Download one file beside its place, check it, and only then move it there."""
    temporary = folder / f"{name}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with open(temporary, "wb") as file, _progress_bar(name, progress) as bar:
            _http(_STALL_SECONDS, bar)(f"{mirror}{name}.gz", _Limited(file, known), None)
        read_idx(temporary, **known._asdict())
        os.replace(temporary, folder / f"{name}.gz")
    finally:
        temporary.unlink(missing_ok=True)


class _Limited:
    """A file that refuses more bytes than the uncompressed data have: a mirror cannot fill the disk."""

    def __init__(self, file: BinaryIO, known: Known) -> None:
        self.flush = file.flush
        self._file = file
        self._left = math.prod(known.shape) + 4096  # the header, and what gzip adds at worst

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise FileFormatError("the server sends more bytes than the data have")
        return self._file.write(data)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError("finding or downloading MNIST needs the package pooch: pip install pooch") from error
    return pooch


def _http(seconds: float, progress: Any = False) -> Any:
    """pooch's downloader: called with (url, file, None) it streams the url into the file."""
    return _pooch().HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=seconds)


@contextlib.contextmanager
def _progress_bar(name: str, wanted: bool) -> Iterator[Any]:
    """tqdm's bar on a terminal; False, pooch's word for none, where it is not wanted or tqdm is not there."""
    try:
        from tqdm import tqdm
    except ImportError:
        wanted = False
    if not wanted:
        yield False
        return
    # A total, for pooch asks for the bar's truth value; it puts the real one in.
    with tqdm(desc=name, total=1, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        yield bar


def _remove_strays(folder: Path) -> None:
    """Remove partial files of processes that were killed long ago."""
    for stray in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - stray.stat().st_mtime > _STRAY_SECONDS:
                stray.unlink()


def _is_intact(path: Path, known: Known) -> bool:
    try:
        read_idx(path, **known._asdict())
    except (FileNotFoundError, FileFormatError):
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
