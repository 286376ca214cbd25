"""What damage, hostile files, kills and full disks do to saved files: an error of ours, or nothing at all.

Flipped bits and truncations are tried exhaustively on a small file, at random on a larger one. Kills happen in
processes that one helper forks, at random moments and at each step of a save.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import count

import tensorlite as tl
from tensorlite import safetensors_format
from tensorlite.errors import FileFormatError

posix = pytest.mark.skipif(os.name != "posix", reason="processes and limits of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def small(path: Path) -> bytes:
    """A file with everything: several dtypes, an empty tensor, structure, a name beyond ASCII."""
    weight = tl.arange(6, dtype=tl.float32).reshape(2, 3)
    flags = tl.tensor([True, False, True])
    tl.save({"w": weight, "ä": (flags, [tl.zeros(0)]), "n": 3}, path)
    return path.read_bytes()


def plain(path: Path) -> bytes:
    """A flat file, whose metadata has no structure."""
    tl.save({"w": tl.arange(4, dtype=tl.int16), "e": tl.zeros(0, 2)}, path)
    return path.read_bytes()


def empty(path: Path) -> bytes:
    """A file without a single tensor."""
    tl.save({}, path)
    return path.read_bytes()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def refusal(content: bytes, name: str = "run.safetensors") -> str | None:
    """The message with which the content is refused; None if it is loaded. Another exception fails the test."""
    try:
        safetensors_format.read(io.BytesIO(content), name)
    except FileFormatError as error:
        assert str(error).startswith(f"{name}: ")
        return str(error)
    return None


# ---- damage


@pytest.mark.parametrize("make", [small, plain, empty])
def test_every_single_bit_of_a_file_is_guarded(make: Callable[[Path], bytes], path: Path) -> None:
    content = make(path)
    assert refusal(content) is None
    silent = [bit for bit in range(8 * len(content)) if refusal(flipped(content, bit)) is None]
    assert silent == []


@posix
def test_flips_in_a_checkpoint_are_all_found_by_load(path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {f"{i}.weight": tl.from_numpy(rng.standard_normal((8, 8)).astype(np.float32)) for i in range(4)}
    moments = {i: {"step": tl.tensor(3.0), "exp_avg": tl.ones(8, 8)} for i in range(4)}
    tl.save({"model": weights, "optimizer": {"state": moments, "lr": 0.1}, "epoch": 3}, path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    ranges = {name: e["data_offsets"] for name, e in json.loads(content[8:start]).items() if name != "__metadata__"}
    owner = {start + at: f"{path}: the checksum of tensor '{name}'" for name, r in ranges.items() for at in range(*r)}
    silent = []
    messages = {}
    with open(path, "r+b", buffering=0) as file:
        for bit in rng.integers(0, 8 * len(content), count(10_000, 100_000)).tolist():
            at = bit // 8
            os.pwrite(file.fileno(), flipped(content[at : at + 1], bit % 8), at)
            try:
                tl.load(path)
                silent.append(bit)
            except FileFormatError as error:
                messages[at] = str(error)
            os.pwrite(file.fileno(), content[at : at + 1], at)
    assert silent == []
    assert sum(at in owner for at in messages) > 1000
    assert all(message.startswith(owner.get(at, f"{path}: ")) for at, message in messages.items())
    assert path.read_bytes() == content


def test_bursts_and_swaps_are_found(path: Path) -> None:
    content = small(path)
    rng = random.Random(0)
    for _ in range(5000):
        at, width = rng.randrange(len(content)), rng.randint(1, 4)
        changed = bytearray(content)
        changed[at : at + width] = rng.randbytes(width)[: len(content) - at]
        if changed != content:
            assert refusal(bytes(changed)) is not None, (at, bytes(changed[at : at + width]))
    for i in range(len(content) - 1):
        if content[i] != content[i + 1]:
            swapped = content[:i] + bytes([content[i + 1], content[i]]) + content[i + 2 :]
            assert refusal(swapped) is not None, i


@pytest.mark.parametrize("make", [small, plain, empty])
def test_every_truncation_and_any_appendage_is_refused(make: Callable[[Path], bytes], path: Path) -> None:
    content = make(path)
    for length in range(len(content)):
        message = refusal(content[:length])
        assert message is not None, length
    assert "the file is empty" in str(refusal(b""))
    assert "cut short" in str(refusal(content[:5]))
    for tail in (b"\0", b" ", b"0" * 8, content):
        assert "cut short or too long" in str(refusal(content + tail))
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"run\.safetensors: the file is empty"):
        tl.load(path)


def test_truncations_of_foreign_files_are_refused(path: Path) -> None:
    from safetensors.numpy import save

    content = save({"a": np.ones((2, 3), np.float32), "b": np.arange(5)}, {"note": "x"})
    assert refusal(content) is None
    assert all(refusal(content[:length]) is not None for length in range(len(content)))


def test_random_bytes_raise_only_our_error_and_take_no_memory(path: Path) -> None:
    rng = random.Random(0)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            content = rng.randbytes(rng.randrange(200))
            if rng.random() < 0.5:  # a credible length, so that the header itself is random
                content = rng.randrange(2 * len(content) + 1).to_bytes(8, "little") + b"{" + content
            assert refusal(content) is not None or content[8:].strip() == b"{}"  # that is a file without tensors
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_mutations_of_foreign_files_load_or_raise_only_our_error() -> None:
    from safetensors.numpy import save

    arrays = {"a": np.ones((2, 3), np.float32), "b.c": np.arange(3), "d": np.array([True]), "e": np.zeros((0, 4))}
    content = save(arrays, {"note": "x"})
    rng = random.Random(0)
    refused = 0
    for _ in range(20_000):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            action = rng.randrange(4)
            if action == 0:
                changed[at] = rng.choice(b'0123456789-.,:[]{}"eE \\n\x00\xff')
            elif action == 1:
                changed.insert(at, rng.randrange(256))
            elif action == 2:
                del changed[at]
            else:
                changed[at : at + 1] = changed[at : at + rng.randrange(20)] * 2
        refused += refusal(bytes(changed)) is not None
    assert 10_000 < refused < 20_000


# ---- hostile headers


def craft(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with the given header, written as it is if it is bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FLOATS = b"\0" * 8
HOSTILE = {
    "header longer than the file": (craft({}, length=100), "announce a header of 100 bytes"),
    "header of 2**63 bytes": (craft({}, length=2**63), "not a safetensors file, or cut short"),
    "header not in UTF-8": (craft(b'{"\xff": 1}'), "not valid JSON"),
    "header no object": (craft(b"[1, 2]"), "does not begin with"),
    "header no JSON": (craft(b"{abc}"), "not valid JSON"),
    "two objects": (craft(b"{}{}"), "not valid JSON"),
    "nested deeply": (craft(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "a number of 5000 digits": (craft(b'{"a":' + b"9" * 5000 + b"}"), "not valid JSON"),
    "NaN": (craft(b'{"a":NaN}'), "NaN is not a JSON value"),
    "a name twice": (craft(b'{"a":' + (e := json.dumps(entry()).encode()) + b',"a":' + e + b"}", FLOATS), "twice"),
    "a field twice": (craft(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', FLOATS), "twice"),
    "metadata no object": (craft({"__metadata__": []}), "not an object of strings"),
    "metadata with a number": (craft({"__metadata__": {"a": 1}}), "not an object of strings"),
    "no dtype": (craft({"a": {"shape": [2], "data_offsets": [0, 8]}}, FLOATS), "tensor 'a' has not exactly"),
    "a field too many": (craft({"a": entry() | {"x": 1}}, FLOATS), "tensor 'a' has not exactly"),
    "entry no object": (craft({"a": [1]}), "tensor 'a' has not exactly"),
    "unknown dtype": (craft({"a": entry(dtype="F31")}, FLOATS), "dtype 'F31'; tensorlite has BOOL"),
    "dtype of another kind": (craft({"a": entry(dtype=["F32"])}, FLOATS), "tensor 'a' has dtype"),
    "negative dimension": (craft({"a": entry(shape=[-2])}, FLOATS), "integers >= 0"),
    "two negative dimensions": (craft({"a": entry(shape=[-2, -1])}, FLOATS), "integers >= 0"),
    "fractional dimension": (craft({"a": entry(shape=[2.0])}, FLOATS), "integers >= 0"),
    "dimension True": (craft({"a": entry(shape=[True, 2])}, FLOATS), "integers >= 0"),
    "shape no list": (craft({"a": entry(shape=2)}, FLOATS), "integers >= 0"),
    "65 dimensions": (craft({"a": entry(shape=[1] * 64 + [2])}, FLOATS), "at most 64"),
    "dimension of 2**70": (craft({"a": entry(shape=[2**70])}, FLOATS), "integers >= 0"),
    "product that wraps to 8 bytes": (craft({"a": entry(shape=[2**62 + 1, 2])}, FLOATS), "larger than any memory"),
    "huge product behind a zero": (craft({"a": entry([0, 2**62, 2**62], (0, 0))}), "larger than any memory"),
    "three offsets": (craft({"a": entry(offsets=[0, 4, 8])}, FLOATS), r"\[begin, end\] is expected"),
    "offsets reversed": (craft({"a": entry(offsets=[8, 0])}, FLOATS), r"\[begin, end\] is expected"),
    "offset negative": (craft({"a": entry(offsets=[-8, 0])}, FLOATS), r"\[begin, end\] is expected"),
    "size too small": (craft({"a": entry(offsets=[0, 4])}, FLOATS), "takes 8 bytes, its data_offsets"),
    "size too large": (craft({"a": entry(offsets=[0, 12])}, b"\0" * 12), "takes 8 bytes, its data_offsets"),
    "offsets beyond the file": (craft({"a": entry([2**40], (0, 2**42))}, FLOATS), "cut short or too long"),
    "hole at the start": (craft({"a": entry(offsets=[4, 12])}, b"\0" * 12), "leaves a hole after the header"),
    "hole between": (craft({"a": entry(), "b": entry(offsets=[9, 17])}, b"\0" * 17), "'b' .* hole after tensor 'a'"),
    "overlap": (craft({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12), "tensor 'b' .* overlaps tensor 'a'"),
    "twice the same bytes": (craft({"a": entry(), "b": entry()}, FLOATS), "overlaps"),
    "data after the last tensor": (craft({"a": entry()}, b"\0" * 9), "cut short or too long"),
    "data without a tensor": (craft({}, b"\0"), "cut short or too long"),
    "bool of 2": (craft({"a": entry(offsets=[0, 2], dtype="BOOL")}, b"\1\2"), "bytes other than 0 and 1"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_with_the_reason(content: bytes, message: str, path: Path) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message) as caught:
            tl.load(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content) + 200_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000


def test_a_header_above_the_limit_is_refused_unread(path: Path) -> None:
    with open(path, "wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # sparse: takes no room on the disk
    with pytest.raises(FileFormatError, match="takes 100000001 bytes, the format allows 100000000"):
        tl.load(path)


def test_zero_size_and_scalar_tensors_of_foreign_files_load() -> None:
    zero, scalar = entry([0, 5], (0, 0)), entry([], (0, 4))
    arrays = safetensors_format.read(io.BytesIO(craft({"z": zero, "s": scalar, "y": zero}, b"\0\0\x80?")), "x").arrays
    assert [array.shape for array in arrays.values()] == [(0, 5), (), (0, 5)]
    assert arrays["s"] == 1.0


def sealed(metadata: dict[str, str], tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A file with valid checksums and whatever else in its metadata: a forger can do that."""
    sums = {name: f"{zlib.crc32(data[slice(*e['data_offsets'])]):08x}" for name, e in tensors.items()}
    metadata = {"tensorlite.header_crc32": "0" * 8, "tensorlite": "1", "tensorlite.crc32": json.dumps(sums)} | metadata
    text = json.dumps({"__metadata__": metadata} | tensors, separators=(",", ":"))
    start = len(text).to_bytes(8, "little")
    crc = f"{zlib.crc32(start + text.encode()):08x}"
    return start + text.replace('"00000000"', f'"{crc}"', 1).encode() + data


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"tensorlite.structure": "{"}, "the structure is not valid JSON"),
        ({"tensorlite.structure": "[]"}, "the structure is not a JSON object"),
        ({"tensorlite.structure": '{"object":{"tensor":"b"}}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":[{"tensor":"a"},{"tensor":"a"}]}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":{"call":"os.system"}}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":{"dict":[[[1]],[2]]}}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":{"dict":[[1],[]]}}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":{"float":"1"}}'}, "entry of unknown form"),
        ({"tensorlite.structure": '{"object":3}'}, "tensor 'a' has no place in the structure"),
        ({"tensorlite.structure": '{"object":' + "[" * 500 + "]" * 500 + "}"}, "nested too deeply"),
        ({"tensorlite": "2"}, "version '2' of tensorlite's rules; this one reads '1'"),
        ({"tensorlite.crc32": "{}"}, "checksums have different names"),
        ({"tensorlite.crc32": "[]"}, "is not a JSON object"),
        ({"tensorlite.crc32": '{"a": 5}'}, "checksum of tensor 'a' does not match"),
    ],
)
def test_forged_metadata_is_refused(metadata: dict[str, str], message: str, path: Path) -> None:
    path.write_bytes(sealed({}, {"a": entry()}, FLOATS))
    assert tl.load(path)["a"].tolist() == [0.0, 0.0]
    path.write_bytes(sealed(metadata, {"a": entry()}, FLOATS))
    with pytest.raises(FileFormatError, match=message):
        tl.load(path)


@pytest.mark.parametrize("kept", ["tensorlite", "tensorlite.crc32", "tensorlite.header_crc32", "tensorlite.x"])
def test_one_key_of_ours_is_enough_to_demand_the_checksums(kept: str) -> None:
    for value in ("1", "00000000"):
        message = refusal(craft({"__metadata__": {kept: value}, "a": entry()}, FLOATS))
        assert message is not None and "checksum of the header" in message


def test_a_damaged_checkpoint_leaves_the_running_state_untouched(path: Path) -> None:
    class Part:
        value = "old"

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: Any) -> None:
            self.value = state["value"]

    part = Part()
    part.value = "saved"
    tl.save_checkpoint(path, model=part, weights=tl.ones(3))
    part.value = "old"
    state = tl.default_generator.get_state().tolist()
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], flipped(content, 8 * (len(content) - 1)), flipped(content, 3000), b""):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"run\.safetensors"):
            tl.load_checkpoint(path, model=part)
        assert part.value == "old"
        assert tl.default_generator.get_state().tolist() == state


# ---- kills


def run_helper(code: str, *arguments: Any) -> str:
    """Run code in a process of its own, which may fork, and return what it prints."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=count(300, 3000))
    assert done.returncode == 0, done.stderr
    return done.stdout


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
import tensorlite as tl

folder, kills = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "run.safetensors")

def state(version):
    return {"version": version, "parts": [tl.full((size,), float(version)) for size in (1, 30000, 7, 60000)]}

def save_for_ever(version):
    while True:
        version += 1
        tl.save(state(version), path)

rng = random.Random(0)
tl.save(state(0), path)
strays = unreadable = mixed = backwards = 0
version = 0
for _ in range(kills):
    child = os.fork()
    if child == 0:
        save_for_ever(version)
    time.sleep(rng.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    strays += any(name.endswith(".tmp") for name in os.listdir(folder))
    try:
        loaded = tl.load(path)
    except Exception:
        unreadable += 1
        continue
    mixed += any(bool((part != float(loaded["version"])).any()) for part in loaded["parts"])
    backwards += loaded["version"] < version
    version = loaded["version"]
tl.save(state(version), path)
left = sum(name.endswith(".tmp") for name in os.listdir(folder))
print(strays, unreadable, mixed, backwards, left, version)
"""


@posix
def test_kills_at_random_leave_the_old_or_the_new_file(tmp_path: Path) -> None:
    numbers = run_helper(KILLED_AT_RANDOM, tmp_path, count(200, 1000)).split()
    strays, unreadable, mixed, backwards, left, version = map(int, numbers)
    assert (unreadable, mixed, backwards) == (0, 0, 0)
    assert left <= 1
    assert strays > 0, "no kill hit a save: the test tests nothing"
    assert version > 0


KILLED_AT_EACH_STEP = """
import os, signal, sys
import tensorlite as tl
from tensorlite import io, safetensors_format

folder = sys.argv[1]
path = os.path.join(folder, "run.safetensors")
new = [tl.full((50000,), 2.0), tl.full((3,), 2.0)]

class Dies:
    "Stands for a module; the process kills itself before or after the call of one function."
    def __init__(self, module, function, number, after):
        self.module, self.function, self.left, self.after = module, function, number, after
    def __getattr__(self, name):
        original = getattr(self.module, name)
        return self.call if name == self.function else original
    def call(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0 and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = getattr(self.module, self.function)(*args, **kwargs)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

steps = [(io, "os", os, *step) for step in (("open", 1), ("fsync", 1), ("replace", 1), ("fsync", 2))]
steps += [(safetensors_format, "zlib", safetensors_format.zlib, "crc32", number) for number in (1, 2, 3, 4)]
seen = []
for owner, name, module, function, number in steps:
    for after in (False, True):
        tl.save([tl.full((50000,), 1.0), tl.full((3,), 1.0)], path)
        child = os.fork()
        if child == 0:
            setattr(owner, name, Dies(module, function, number, after))
            tl.save(new, path)
            os._exit(7)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, (function, number, after)
        values = {float(part.min()) for part in tl.load(path)} | {float(part.max()) for part in tl.load(path)}
        assert len(values) == 1, (function, number, after, values)
        seen.append(f"{function}{number}{'+' if after else '-'}={values.pop():g}")
tl.save(new, path)
assert os.listdir(folder) == ["run.safetensors"], os.listdir(folder)
print(*seen)
"""


@posix
def test_a_kill_at_each_step_of_a_save_leaves_a_whole_file(tmp_path: Path) -> None:
    seen = dict(item.split("=") for item in run_helper(KILLED_AT_EACH_STEP, tmp_path).split())
    assert len(seen) == 16
    new = {"replace1+", "fsync2-", "fsync2+"}  # from the renaming on it is the new one
    assert {step for step, value in seen.items() if value == "2"} == new


TRAINED_UNDER_FIRE = """
import hashlib, os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import tensorlite as tl
from test_io import Run, bits

STEPS = 40

def train(path):
    run, done = Run(seed=0), 0
    if os.path.exists(path):
        done = tl.load_checkpoint(path, **run.parts())["epoch"]
    while done < STEPS:
        run.train(1)
        done += 1
        tl.save_checkpoint(path, **run.parts(), epoch=done)
    return hashlib.sha256(b"".join(map(bits, run.model.state_dict().values()))).hexdigest()

expected = train(os.path.join(sys.argv[2], "uninterrupted.safetensors"))
path = os.path.join(sys.argv[2], "run.safetensors")
rng, kills, finished = random.Random(0), 0, 0
while kills < int(sys.argv[3]) or finished == 0:
    child = os.fork()
    if child == 0:
        os._exit(0 if train(path) == expected else 3)
    if kills < int(sys.argv[3]):
        time.sleep(rng.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    kills += status == signal.SIGKILL
    if status == 0 and kills < int(sys.argv[3]):  # it was done before the kill: the next one begins anew
        os.unlink(path)
    finished += status == 0
print(kills, finished)
"""


@posix
def test_a_run_killed_and_resumed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    wanted = count(20, 100)
    kills, finished = map(int, run_helper(TRAINED_UNDER_FIRE, Path(__file__).parent, tmp_path, wanted).split())
    assert kills == wanted
    assert finished > 0


@posix
def test_strays_of_dead_processes_go_and_those_of_living_ones_stay(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    prefix = tl.io._prefix()
    dead = [f"{prefix}{child.pid}-0.tmp", f"{prefix}{child.pid}-12.tmp", f"{prefix}{10**30}-1.tmp"]
    alive = [f"{prefix}{os.getpid()}-999.tmp", f"{prefix}1-0.tmp"]
    foreign = [".tensorlite-00000000-" + f"{child.pid}-0.tmp", f"x{dead[0]}", f"{dead[0]}x", f"{prefix}-1-0.tmp"]
    for name in dead + alive + foreign:
        (path.parent / name).write_bytes(b"x")
    tl.save([1], path)
    assert sorted(os.listdir(path.parent)) == sorted([*alive, *foreign, path.name])


# ---- disks and permissions


def files(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


@pytest.mark.parametrize("function", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    tl.save({"a": tl.ones(3)}, path)
    before = files(path.parent)
    failed = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        failed.append(args)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            tl.save({"a": tl.zeros(3)}, path)
    assert failed
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert "not saved" in str(caught.value)
    assert files(path.parent) == before


def test_an_interrupt_in_mid_save_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tl.save({"a": tl.ones(3)}, path)
    before = files(path.parent)

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tl.save({"a": tl.zeros(3)}, path)
    assert files(path.parent) == before


def test_a_folder_that_cannot_be_synchronised_is_no_error_but_a_broken_disk_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise = os.fsync
    for code in (errno.EINVAL, errno.ENOTSUP, errno.EIO):
        calls: list[int] = []

        def second_fails(descriptor: int, code: int = code, calls: list[int] = calls) -> None:
            calls.append(descriptor)
            if len(calls) == 2:
                raise OSError(code, os.strerror(code))
            synchronise(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", second_fails)
            if code == errno.EIO:
                with pytest.raises(OSError, match="saved, but the folder was not synchronised") as caught:
                    tl.save([code], path)
                assert caught.value.filename == str(path.parent)
            else:
                tl.save([code], path)
        assert len(calls) == 2
        assert tl.load(path) == [code]


LIMITED = """
import resource, sys
import tensorlite as tl

path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        tl.save({"w": tl.ones(100_000)}, path)
    except OSError as error:
        assert error.filename == path, error
        print(type(error).__name__, error.errno)
"""


@posix
@pytest.mark.parametrize("limit", [0, 100, 4096, 399_999])
def test_no_room_for_the_whole_file(path: Path, limit: int) -> None:
    tl.save({"a": tl.ones(3)}, path)
    before = files(path.parent)
    assert run_helper(LIMITED, path, limit).splitlines() == [f"OSError {errno.EFBIG}"] * 3
    assert files(path.parent) == before


UNPRIVILEGED = """
import os, sys
import tensorlite as tl

path = sys.argv[1]
tl.zeros(3)  # the first kernel loads modules, which others may not read
if os.getuid() == 0:
    os.setuid(65534)
try:
    tl.save({"a": tl.zeros(3)}, path)
except OSError as error:
    assert error.filename == path, error
    print(type(error).__name__)
"""


@posix
@pytest.mark.parametrize("protected", ["folder", "file"])
def test_write_protection_is_respected(protected: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:  # tmp_path lies in a folder that other users cannot enter
        folder = Path(name)
        path = folder / "run.safetensors"
        tl.save({"a": tl.ones(3)}, path)
        path.chmod(0o444 if protected == "file" else 0o666)
        folder.chmod(0o555 if protected == "folder" else 0o777)
        before = files(folder)
        assert run_helper(UNPRIVILEGED, path) == "PermissionError\n"
        assert files(folder) == before
        folder.chmod(0o700)


def test_a_missing_folder_is_named(path: Path) -> None:
    target = path.parent / "missing" / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="the folder does not exist") as caught:
        tl.save([1], target)
    assert caught.value.filename == str(target)


def test_a_file_that_shrinks_while_it_is_read_is_refused(path: Path) -> None:
    content = small(path)

    class Shrinking(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[: len(buffer) // 2])

    with pytest.raises(FileFormatError, match="became shorter while tensor"):
        safetensors_format.read(Shrinking(content), "x")


def test_training_on_while_saving_gives_a_file_with_valid_checksums(path: Path) -> None:
    """Elements may be of two moments then, as in any library; the sum belongs to what was written."""
    import threading

    array = np.zeros(300_000, np.float32)
    tensor = tl.from_numpy(array)
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            np.add(array, 1, out=array)
            time.sleep(0)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(5):
            tl.save({"w": tensor}, path)
            assert tl.load(path)["w"].shape == (300_000,)
    finally:
        done.set()
        thread.join()


def test_threads_that_save_to_one_name_do_not_disturb_each_other(path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def save(version: int) -> None:
        tl.save({"version": version, "w": tl.full((1000,), float(version))}, path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(64)))
    loaded = tl.load(path)
    assert bool((loaded["w"] == float(loaded["version"])).all())
    assert os.listdir(path.parent) == [path.name]
