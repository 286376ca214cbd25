"""`save`, `load` and checkpoints: safetensors files with checksums, written atomically, never a pickle.

Contract. A flat state_dict becomes an ordinary safetensors file with the same names, which the `safetensors`
package and PyTorch users read. Anything nested is taken apart into such named tensors and a JSON text that
says how they lie in dicts, lists and tuples. A tensor is written under each of its names, so that a reader
finds tied weights under both, and comes back with memory of its own; `load_state_dict` copies it into what
is tied.

A file appears under its name when it is complete and on disk, not before: it is written in the same folder
under a name with the number of its process, synchronised, and renamed over the old one. Whatever comes
between (kill, full disk, no permission), the old file stays. What killed processes left goes at the next
save in that folder.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import platform
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedWriter
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import random, safetensors_format
from .creation import from_numpy
from .errors import ArgumentError, DeviceError
from .files import open_regular
from .safetensors_format import METADATA, parse_object, refuse
from .tensor import Tensor

Path = str | os.PathLike[str]

_MAX_DEPTH: Final = 100
_MAX_BITS: Final = 4096
_LABEL: Final = "checkpoint"
_VERSION: Final = 1
_RNG: Final = "rng"
_RESERVED: Final = {_LABEL, _RNG, "restore_rng", "map_location"}

_numbers = itertools.count()


@runtime_checkable
class Stateful(Protocol):
    """What a part of a checkpoint needs; modules, optimizers, schedulers and loaders have it."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> Any: ...


def save(obj: Any, path: Path) -> None:
    """Write a state_dict, a tensor, or nested dicts, lists and tuples of tensors and plain values to a file.

    Plain values are None, bool, int, float (NaN and infinities, too) and str; keys of dicts are such values.
    All come back exactly, other mappings as dicts. The file replaces an old one as a whole or not at all.

    Raises ArgumentError for anything else in `obj`, with its place, and OSError with `path` where that
    cannot be written; the old file is intact then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save({"weight": tl.ones(2), "steps": (1, 2)}, f"{folder}/a.safetensors")
    ...     tl.load(f"{folder}/a.safetensors")
    {'weight': tensor([1., 1.]), 'steps': (1, 2)}
    """
    name = os.fsdecode(path)
    tensors: dict[str, Tensor] = {}
    structure = None
    if isinstance(obj, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in obj.items()):
        tensors.update(obj)
    else:
        structure = json.dumps({"object": _pack(obj, (), tensors)}, separators=(",", ":"), allow_nan=False)
    specs = {key: (tensor.dtype, tensor.shape) for key, tensor in tensors.items()}
    with _replacing(name) as file:
        safetensors_format.write(file, specs, lambda key: _on_host(tensors[key]), structure)


def load(path: Path, map_location: Any = None, weights_only: bool = True) -> Any:
    """What `save` wrote, or the flat dict of name -> tensor that any other safetensors file is.

    The tensors are on the CPU, or on the device `map_location`; none requires a gradient. Nothing in a file
    can run code, and the memory taken is bounded by the file's size; PyTorch's `weights_only` has to be True.

    Raises FileFormatError with the file and the tensor for a file that is damaged, cut short or of another
    format (for PyTorch's pickles with a hint how to convert them).
    """
    if not weights_only:
        raise ArgumentError("tl.load: weights_only=False would load pickled objects, which tensorlite never does")
    name = os.fsdecode(path)
    with open_regular(name) as file:
        arrays, structure = safetensors_format.read(file, name)
    tensors = {key: from_numpy(array) for key, array in arrays.items()}
    if map_location is not None:
        tensors = {key: tensor.to(map_location) for key, tensor in tensors.items()}
    if structure is None:
        return tensors
    result = _unpack(parse_object(structure, name, "the structure").get("object"), tensors, name)
    if tensors:
        refuse(name, f"tensor {next(iter(tensors))!r} has no place in the structure")
    return result


def save_checkpoint(
    path: Path,
    *,
    model: Stateful | None = None,
    optimizer: Stateful | None = None,
    scheduler: Stateful | None = None,
    loader: Stateful | None = None,
    generator: random.Generator | None = None,
    epoch: int | None = None,
    **extra: Any,
) -> None:
    """Write all that a training run needs to go on, in one file: the parts given and the default generator.

    Of `extra`, what has a `state_dict` is saved by it (a second optimizer, an averaged model); the rest are
    values for `save`, which `load_checkpoint` returns. A run resumed from the file computes the same bits as
    one that was never stopped.

    Raises what `save` raises, and ArgumentError for an extra with a name that the checkpoint needs itself.
    """
    if reserved := sorted(_RESERVED & extra.keys()):
        raise ArgumentError(f"save_checkpoint: an extra cannot be named {', '.join(reserved)}")
    stateful = {key: value for key, value in extra.items() if isinstance(value, Stateful)}
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler} | stateful
    parts = _parts(given, generator, _DefaultRandomState(), loader)
    content: dict[str, Any] = {_LABEL: {"version": _VERSION, "parts": list(parts)}}
    content |= {key: part.state_dict() for key, part in parts.items()}
    content |= {key: value for key, value in extra.items() if key not in parts}
    save(content | {"epoch": epoch}, path)


def load_checkpoint(
    path: Path,
    *,
    model: Stateful | None = None,
    optimizer: Stateful | None = None,
    scheduler: Stateful | None = None,
    loader: Stateful | None = None,
    generator: random.Generator | None = None,
    restore_rng: bool = True,
    map_location: Any = None,
    **extra: Stateful | None,
) -> dict[str, Any]:
    """Give the parts, and the default generator if `restore_rng`, the state that `save_checkpoint` wrote.

    Returns the other values: the extras and `epoch`. What is in the file but not asked for is passed over,
    so a model can be loaded alone. All or nothing: the whole file is read and checked before anything
    changes, and if a part refuses its state, all parts get back what they had.

    Raises what `load` raises; ArgumentError for a part that the file does not have; what the
    `load_state_dict` of a part raises, with a note that names the part and the file.

    >>> import tempfile
    >>> model = nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save_checkpoint(f"{folder}/run.safetensors", model=model, epoch=3, best=0.5)
    ...     tl.load_checkpoint(f"{folder}/run.safetensors", model=model)
    {'best': 0.5, 'epoch': 3}
    """
    name = os.fsdecode(path)
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler} | extra
    parts = _parts(given, generator, _DefaultRandomState() if restore_rng else None, loader)
    content, saved = _checkpoint(load(name, map_location), name)
    if missing := [key for key in parts if key not in saved]:
        there = ", ".join(key for key in saved if key != _RNG)
        raise ArgumentError(f"load_checkpoint: {name} has no {', '.join(missing)}; its parts are: {there}")
    before = {key: _snapshot(part.state_dict()) for key, part in parts.items()}
    with ExitStack() as undo:
        for key, part in parts.items():
            undo.callback(part.load_state_dict, before[key])
            try:
                part.load_state_dict(content[key])
            except Exception as error:
                error.add_note(f"while '{key}' was loaded from {name}; all parts get back the state they had")
                raise
        undo.pop_all()
    return {key: value for key, value in content.items() if key not in saved}


class _RandomState:
    """A generator as a part of a checkpoint."""

    def __init__(self, generator: random.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.generator.get_state().tolist()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.generator.set_state(state_dict["state"])


class _DefaultRandomState:
    """The default generators of all devices as a part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        defaults = tuple(random._defaults.items())
        return {str(device): generator.get_state().tolist() for device, generator in defaults}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        # A device without a state has drawn nothing, and begins with the seed of the CPU's generator.
        random.manual_seed(state_dict["cpu"][0])
        for device, state in state_dict.items():
            with suppress(DeviceError):  # the run goes on where that device is missing
                random.default_for(device).set_state(state)


def _parts(given: dict[str, Any], generator: random.Generator | None, rng: Any, loader: Any) -> dict[str, Stateful]:
    """The arguments that are not None, by name, in the order of loading; each must have a state.

    The loader is last: one that is being iterated should not be touched if another part refuses its state.
    """
    own = None if generator is None else _RandomState(generator)
    named = {**given, "generator": own, _RNG: rng, "loader": loader}
    for key, part in named.items():
        if part is not None and not isinstance(part, Stateful):
            kind = type(part).__name__
            raise ArgumentError(f"checkpoint: {key} is a {kind}, which has no state_dict and load_state_dict")
    return {key: part for key, part in named.items() if part is not None}


def _checkpoint(content: Any, name: str) -> tuple[dict[str, Any], list[str]]:
    """The content without its label, and the names of the parts in it."""
    label = content.pop(_LABEL, None) if isinstance(content, dict) else None
    if not isinstance(label, dict):
        refuse(name, "not a checkpoint of save_checkpoint; read it with tl.load")
    if label.get("version") != _VERSION:
        refuse(name, f"a checkpoint of version {label.get('version')!r}; this tensorlite reads {_VERSION}")
    saved = label.get("parts")
    if not isinstance(saved, list) or not all(isinstance(key, str) and key in content for key in saved):
        refuse(name, "the label of the checkpoint does not fit its content")
    return content, saved


def _snapshot(state: Any) -> Any:
    """A deep copy, its tensors on the CPU: a GPU may have no room for a second model."""
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, (), tensors)
    copies = {key: from_numpy(np.array(_on_host(tensor))) for key, tensor in tensors.items()}
    return _unpack(tree, copies, "snapshot")


def _on_host(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().array
    return array


def _pack(value: Any, place: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, in which a tensor is {"tensor": name}; the tensors are put into `tensors`.

    Tuples, dicts and floats unknown to JSON are marked in the same way, by an object with a single key.
    """
    if isinstance(value, Tensor):
        name = _free_name(place, tensors)
        tensors[name] = value
        return {"tensor": name}
    if len(place) > _MAX_DEPTH:
        raise ArgumentError(f"tl.save: obj is more than {_MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if _is_plain(value):
        return value
    if isinstance(value, Mapping) and all(_is_plain(key) for key in value):
        items = [_pack(item, (*place, str(key)), tensors) for key, item in value.items()]
        return {"dict": [list(value), items]}
    if type(value) in (list, tuple):
        items = [_pack(item, (*place, str(i)), tensors) for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    where = "".join(f"[{key!r}]" for key in place)
    raise ArgumentError(f"tl.save: obj{where} {_complaint(value)}")


def _unpack(node: Any, tensors: dict[str, Tensor], name: str, depth: int = 0) -> Any:
    """The object of which `_pack` made `node`; each tensor is taken out of `tensors`."""
    if depth > _MAX_DEPTH:
        refuse(name, "the structure is nested too deeply")
    match node:
        case None | bool() | int() | float() | str():
            return node
        case list():
            return [_unpack(item, tensors, name, depth + 1) for item in node]
        case {"tensor": str(key)} if key in tensors:
            return tensors.pop(key)
        case {"float": "nan" | "inf" | "-inf" as text}:
            return float(text)
        case {"tuple": list(items)}:
            return tuple(_unpack(item, tensors, name, depth + 1) for item in items)
        case {"dict": [list(keys), list(items)]} if len(keys) == len(items) and all(map(_is_plain, keys)):
            return dict(zip(keys, (_unpack(item, tensors, name, depth + 1) for item in items), strict=True))
    refuse(name, f"the structure has an entry of unknown form: {str(node)[:100]}")


def _is_plain(value: Any) -> bool:
    """A value that JSON gives back exactly, and that can be the key of a dict."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return value.bit_length() <= _MAX_BITS
    return value is None or isinstance(value, str)


def _free_name(place: tuple[str, ...], tensors: Mapping[str, Tensor]) -> str:
    """The place with dots; underscores follow where that is taken, as in {"a.b": t, "a": {"b": t}}."""
    name = ".".join(place).encode(errors="replace").decode() or "tensor"
    while name in tensors or name == METADATA:
        name += "_"
    return name


def _complaint(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "is a NumPy array; make it a tensor with tl.from_numpy"
    if isinstance(value, np.generic):
        return f"is a NumPy {type(value).__name__}; make it a Python number with .item()"
    if isinstance(value, Mapping):
        return "is a dict with a key that is not None, a bool, an int, a finite float or a str"
    kind = f"an int of more than {_MAX_BITS} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return f"is {kind}; a file holds tensors, None, bool, int, float, str, and dicts, lists, tuples of them"


@contextmanager
def _replacing(path: str) -> Iterator[BufferedWriter]:
    """A new file that takes the place of `path`, or of what this links to, if the block raises nothing.

    It lies in the same folder, so that renaming is a single step, and is on disk before that: a power cut
    leaves the old file or the new one. An OSError is raised anew with `path` in it.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f"{_prefix()}{os.getpid()}-{next(_numbers)}.tmp")
    try:
        mode = _mode_to_keep(target)
        _remove_strays(folder)
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode or 0o666)) as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            problem = f"not saved, and nothing changed: {error.strerror or error}"
            raise OSError(error.errno or errno.EIO, problem, path) from error
        raise
    _synchronise(folder)


def _mode_to_keep(target: str) -> int | None:
    """The permissions of an old file, None for a new one. Raises OSError for what should not be replaced."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(target)):
            return None
        raise FileNotFoundError(errno.ENOENT, "the folder does not exist; create it first") from None
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(errno.EEXIST, "something other than a file has this name")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the old file is write-protected")
    return stat.S_IMODE(status.st_mode)


def _prefix() -> str:
    """How this machine's temporary files begin; on another that shares the folder, numbers mean others."""
    return f".tensorlite-{zlib.crc32(platform.node().encode()):08x}-"


def _remove_strays(folder: str) -> None:
    """Delete what killed processes of this machine left in the folder, as far as that is allowed."""
    pattern = re.compile(re.escape(_prefix()) + r"(\d+)-\d+\.tmp")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            # On Windows os.kill would end the process, whatever the signal, so strays stay there.
            if match and os.name != "nt" and not _is_alive(int(match[1])):
                with suppress(OSError):
                    os.unlink(entry.path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _synchronise(folder: str) -> None:
    """Put the renaming on disk where the system can: it may not let a folder be opened or synchronised."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise OSError(error.errno, "saved, but the folder was not synchronised", folder) from error
        finally:
            os.close(descriptor)
