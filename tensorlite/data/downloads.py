"""Where the files of a data set are found on this machine, and how they are downloaded where they are not.

`obtain` looks in these places; the first that applies decides:

1. The argument `root`. Files that are missing there are downloaded into it, unless `download=False`.
2. The environment variable TENSORLITE_DATA.
3. The user's cache folder.
4. Download into the cache folder, from the first mirror that works.

A folder that the user names is never silently replaced by another place: what is missing or damaged there is an error.
A downloaded file is checked beside its place and only then moved there: what lies in a folder is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar

from ..errors import FileFormatError
from ..files import open_regular

T = TypeVar("T")

_PROBE_SECONDS: Final = 5.0  # within which a mirror must answer at all
_STALL_SECONDS: Final = 15.0  # without one byte, and a download is given up
_STRAY_SECONDS: Final = 3600.0  # after which a partial file belongs to a process that was killed


class Remote(NamedTuple):
    """A file as the mirrors give it: its name there, the most bytes it may have, and what refuses a wrong one."""

    name: str
    limit: int
    check: Callable[[Path], object]  # raises FileFormatError


class Source(NamedTuple):
    """A data set: its name in messages, its places below a named folder, its cache folder, mirrors and files.

    What is missing below a named folder is downloaded into the first of the places. `instead` ends the messages of what
    could not be found: what else a user may take.
    """

    title: str
    places: tuple[str, ...]
    cache: Callable[[], Path]
    mirrors: Sequence[str]
    files: Sequence[Remote]
    instead: str = ""


def obtain(
    source: Source,
    marks: Sequence[str],
    read: Callable[[Path], T],
    root: str | os.PathLike[str] | None,
    download: bool,
    progress: bool,
) -> tuple[T, str]:
    """What `read` makes of the folder that has the files, and a line that says which folder it is.

    A folder that has one of the files `marks` is taken to hold the data set. Raises FileNotFoundError where a named
    folder lacks it, ConnectionError where a needed download fails, and whatever `read` raises.
    """
    if root is not None:
        return _from_root(source, marks, read, Path(root).expanduser(), download, progress)
    if named := os.environ.get("TENSORLITE_DATA"):
        folder = Path(named).expanduser()
        place = _place(source, marks, folder)
        if place is None:
            raise FileNotFoundError(
                f"TENSORLITE_DATA={named} has no {source.title}: {_expected(source, marks, folder)}. "
                f"Correct the variable, or unset it to have {source.title} downloaded{source.instead}"
            )
        return read(place), f"{source.title} in {folder} (TENSORLITE_DATA)"
    return _from_cache(source, read, download, progress)


def cache_folder(name: str) -> Path:
    """The folder of a data set's downloaded files under the platform's cache folder."""
    return Path(_pooch().os_cache("tensorlite")) / name


def check_file(path: Path, size: int, sha256: str) -> None:
    """Raise FileFormatError unless the file has exactly this size and SHA-256."""
    found = path.stat().st_size
    if found != size:
        raise FileFormatError(f"{path}: {found} bytes, expected {size}. Replace it by an intact copy.")
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise FileFormatError(
            f"{path}: the SHA-256 is {digest}, expected {sha256}: the file is damaged, or it is another data set under "
            "the same name. Replace it by an intact copy."
        )


def one_line(error: BaseException) -> str:
    """The error's message without line breaks."""
    return " ".join(str(error).split())


def _from_root(
    source: Source, marks: Sequence[str], read: Callable[[Path], T], root: Path, download: bool, progress: bool
) -> tuple[T, str]:
    place = _place(source, marks, root)
    if place is not None:
        return read(place), f"{source.title} in {root}"
    if not download:
        raise FileNotFoundError(
            f"no {source.title} in root={str(root)!r}: {_expected(source, marks, root)}. "
            f"Give another root, or download=True to have it downloaded{source.instead}"
        )
    target = root / source.places[0]
    _download(source, target, progress)
    return read(target), f"{source.title} downloaded to {target}"


def _from_cache(source: Source, read: Callable[[Path], T], download: bool, progress: bool) -> tuple[T, str]:
    """From the cache, downloading what is missing or damaged there; a cache counts only with all files."""
    folder = source.cache()
    damaged: FileFormatError | None = None
    try:
        if all((folder / file.name).is_file() for file in source.files):
            return read(folder), f"{source.title} in {folder}"
    except FileFormatError as error:
        damaged = error
    if not download:
        raise damaged or FileNotFoundError(f"{source.title} is not in {folder}, and download=False{source.instead}")
    try:
        _download(source, folder, progress)
    except OSError as error:
        if damaged is not None:
            raise damaged from error
        raise
    return read(folder), f"{source.title} downloaded to {folder}"


def _place(source: Source, marks: Sequence[str], folder: Path) -> Path | None:
    """The first of the data set's places below a folder that has one of the marks."""
    places = (folder / place for place in source.places)
    return next((place for place in places if any((place / mark).is_file() for mark in marks)), None)


def _expected(source: Source, marks: Sequence[str], folder: Path) -> str:
    return f"expected {marks[0]} in {' or '.join(str(folder / place) for place in source.places)}"


def _download(source: Source, folder: Path, progress: bool) -> None:
    """Download the files that `folder` does not hold intact; ConnectionError where no mirror gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_strays(folder)
    missing = [file for file in source.files if not _is_intact(folder, file)]
    failures = []
    for mirror in _answering(source.mirrors, source.files[0].name):
        try:
            while missing:
                _download_file(mirror, folder, missing[0], progress)
                del missing[0]
        except (OSError, FileFormatError) as error:  # requests' errors are OSErrors
            failures.append(f"{mirror}{missing[0].name}: {one_line(error)}")
    if missing:
        raise ConnectionError(
            f"{source.title} could not be downloaded: {'; '.join(failures) or 'no mirror answers'}; root= or "
            f"TENSORLITE_DATA can name a folder that has {', '.join(file.name for file in source.files)}"
            f"{source.instead}"
        )


def _answering(mirrors: Iterable[str], name: str) -> Iterator[str]:
    """Those mirrors, in their order, that answer in time. All are asked at once, for the file `name`.

    Each is asked in a thread because no timeout of a socket covers the look-up of its name, which can take minutes.
    """
    answers: dict[str, bool] = {}
    head = _http(_PROBE_SECONDS)

    def ask(mirror: str) -> None:
        with contextlib.suppress(Exception):  # whatever happens, this mirror does not answer
            answers[mirror] = head(f"{mirror}{name}", None, None, check_only=True)

    threads = {mirror: threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + _PROBE_SECONDS
    for mirror, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if answers.get(mirror):
            yield mirror


def _download_file(mirror: str, folder: Path, remote: Remote, progress: bool) -> None:
    """Download one file beside its place, check it, and only then move it there."""
    temporary = folder / f"{remote.name}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with open(temporary, "wb") as file, _progress_bar(remote.name, progress) as bar:
            _http(_STALL_SECONDS, bar)(f"{mirror}{remote.name}", _Limited(file, remote.limit), None)
        remote.check(temporary)
        os.replace(temporary, folder / remote.name)
    finally:
        temporary.unlink(missing_ok=True)


class _Limited:
    """A file that refuses more bytes than the data have: a mirror cannot fill the disk."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.flush = file.flush
        self._file = file
        self._left = limit

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise FileFormatError("the server sends more bytes than the data have")
        return self._file.write(data)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError("finding or downloading data sets needs the package pooch: pip install pooch") from error
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


def _is_intact(folder: Path, file: Remote) -> bool:
    try:
        file.check(folder / file.name)
    except (FileNotFoundError, FileFormatError):
        return False
    return True
