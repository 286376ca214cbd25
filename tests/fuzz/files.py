"""Corrupted files by the hundred thousand: each is refused by name, or read as exactly what it says.

    PYTHONPATH=tests python -m fuzz.files --seed 0 --count 100000          or: make fuzz

What "exactly" means is said by each of the `victims`, files of the kinds that tensorlite reads:

    checkpoint   our file with structure: only the intact bytes load. A refused one leaves model, optimizer and random
                 numbers as they were
    weights      our flat file: only the intact bytes load
    sealed       our flat file, its checksums made right again after the damage: what a plain reader of the format
                 finds in it, or refused
    foreign      a safetensors file without checksums: the same
    idx          no checksums: read as what its bytes say, so that encoding it gives them back, or refused
    idx, known   a gzipped one whose SHA-256 is known, as MNIST's are: the array of the intact file, or refused
    idx.gz       the array of the intact file (time stamp, name and level of gzip mean nothing), or what the unpacked
                 bytes say where those were damaged before packing

For each file: no exception but tensorlite's own, whose message can be printed and names the file; at most `SECONDS`
of processor time; and the address space of the process may grow by no more than `MEMORY`, so that a large allocation
fails. A file that hangs is ended by an alarm. The first failure is printed with what it takes to make the file again:
each has a random generator of its own, made of the seed and its number.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tensorlite as tl
from fuzz.damage import BYTES, GZIPS, HEADERS, NUMBERS, Damage, flipped, resealed
from tensorlite import nn, optim, safetensors_format
from tensorlite.data.idx import encode_idx, read_idx
from tensorlite.errors import FileFormatError

SECONDS = 0.1
MEMORY = 50 * 2**20
DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4",
          "F64": "<f8", "BF16": tl.bfloat16.numpy}

Found = list[tuple[str, str, tuple[int, ...], bytes]]  # name, dtype, shape and elements of each array


class Victim(NamedTuple):
    """A file, how it is read, and what a damaged one may be read as: None where it has to be refused."""

    content: bytes
    read: Callable[[str], Found]
    allowed: Callable[[bytes], Found | None]
    damages: tuple[Damage, ...]
    finish: Callable[[bytes], bytes] = lambda content: content


# ---- reading ---------------------------------------------------------------------------------------------------------


def described(arrays: dict[str, Any]) -> Found:
    return [(name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()]


def load(path: str) -> Found:
    loaded = tl.load(path)
    return described({name: tensor.numpy() for name, tensor in loaded.items()})


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("readers differ in which of the two they take")
    return found


def plainly(content: bytes) -> Found | None:
    """A safetensors file as its format says, with hardly a check; None where that does not work."""
    try:
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end], object_pairs_hook=no_key_twice)
        arrays = {}
        for name, entry in header.items():
            if name != safetensors_format.METADATA:
                first, last = entry["data_offsets"]
                elements = np.frombuffer(content[end + first : end + last], DTYPES[entry["dtype"]])
                arrays[name] = elements.reshape(entry["shape"])
        return described(arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def idx(path: str, sha256: str | None = None) -> Found:
    return described({"": read_idx(path, sha256=sha256)})


def idx_plainly(content: bytes) -> Found | None:
    """An IDX file as its format says; None where the bytes are not one."""
    try:
        code, ndim = content[2:4]
        shape = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
        dtype = np.dtype({8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}[code])
        array = np.frombuffer(content[4 + 4 * ndim :], dtype).reshape(shape)
        return described({"": array.astype(dtype.newbyteorder("="))}) if encode_idx(array) == content else None
    except (ValueError, KeyError, struct.error):
        return None


def idx_unpacked(content: bytes) -> Found | None:
    """A single gzip member around an IDX file, or an IDX file."""
    if content[:2] != b"\x1f\x8b":
        return idx_plainly(content)
    member = zlib.decompressobj(wbits=31)
    try:
        unpacked = member.decompress(content)
    except zlib.error:
        return None
    return idx_plainly(unpacked) if member.eof and not member.unused_data else None


class Run:
    """A model, its optimizer and the random numbers, for whose checkpoint a damaged one is given out."""

    def __init__(self) -> None:
        tl.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.model(tl.randn(4, 2)).square().sum().backward()
        self.optimizer.step()

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def state(self) -> Found:
        moments = self.optimizer.state_dict()["state"]
        tensors = self.model.state_dict() | {f"{i}.{key}": t for i, kept in moments.items() for key, t in kept.items()}
        arrays = {name: t.numpy() if isinstance(t, tl.Tensor) else np.asarray(t) for name, t in tensors.items()}
        return described(arrays | {"random": np.asarray(tl.get_rng_state())})

    def load(self, path: str) -> Found:
        before = self.state()
        try:
            tl.load_checkpoint(path, **self.parts())
        except FileFormatError:
            assert self.state() == before, "a refused checkpoint changed the running state"
            raise
        return self.state()


def victims() -> dict[str, Victim]:
    """The files, small so that damage meets every part of them."""
    run = Run()
    rng = np.random.default_rng(0)
    tensors = {"a": tl.from_numpy(rng.standard_normal((3, 5)).astype(np.float32)), "b.weight": tl.arange(7),
               "e": tl.zeros(0, 2), "flags": tl.tensor([True, False, True]),
               "ä": tl.tensor([1.5, -2.0], dtype=tl.bfloat16)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        tl.save_checkpoint(path, **run.parts(), epoch=3, note=("x", None, [1.5]))
        checkpoint, saved = path.read_bytes(), run.state()
        tl.save(tensors, path)
        weights, loaded = path.read_bytes(), load(str(path))
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    del header[safetensors_format.METADATA]
    text = json.dumps(header, separators=(",", ":")).encode()
    foreign = len(text).to_bytes(8, "little") + text + weights[8 + int.from_bytes(weights[:8], "little") :]
    numbers = rng.integers(-30_000, 30_000, (6, 5, 4)).astype(np.int16)
    plain = encode_idx(numbers)
    packed, digest = gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()
    only = described({"": numbers})
    return {
        "checkpoint": Victim(checkpoint, run.load, lambda b: saved if b == checkpoint else None, BYTES * 2 + HEADERS),
        "weights": Victim(weights, load, lambda b: loaded if b == weights else None, BYTES * 2 + HEADERS),
        "sealed": Victim(weights, load, plainly, HEADERS, resealed),
        "foreign": Victim(foreign, load, plainly, BYTES + HEADERS),
        "idx": Victim(plain, idx, idx_plainly, BYTES + NUMBERS * 2),
        "idx, known": Victim(packed, lambda path: idx(path, digest),
                             lambda b: only if idx_unpacked(b) == only else None, BYTES + GZIPS),
        "idx.gz": Victim(packed, idx, idx_unpacked, BYTES + GZIPS),
    }


# ---- the run ---------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One damaged file: of which victim, how it was damaged, and its number for making it again."""

    victim: str
    kind: str
    number: int
    content: bytes


def random_cases(files: dict[str, Victim], seed: int, first: int, count: int) -> Iterator[Case]:
    """`count` files, each made of (seed, number) alone."""
    names = list(files)
    for number in range(first, first + count):
        rng = random.Random(f"{seed} {number}")
        name = names[number % len(names)]
        victim = files[name]
        damage = rng.choice(victim.damages)
        content = damage(rng, victim.content)
        while rng.random() < 0.1:  # twice or more often, which may also mend it
            content = rng.choice(BYTES)(rng, content) if content else content
        yield Case(name, damage.__name__, number, victim.finish(content))


def systematic_cases(files: dict[str, Victim]) -> Iterator[Case]:
    """Every length and every flipped bit of each file whose bytes are not finished afterwards."""
    for name in ("checkpoint", "weights", "foreign", "idx", "idx.gz", "idx, known"):
        content = files[name].content
        yield from (Case(name, "every length", n, content[:n]) for n in range(len(content)))
        yield from (Case(name, "every bit", n, flipped(content, n)) for n in range(8 * len(content)))


class Tally:
    """What became of the files."""

    def __init__(self) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()
        self.read: Counter[tuple[str, str]] = Counter()
        self.slowest = 0.0

    def report(self) -> dict[str, Any]:
        pairs = sorted(self.refused | self.read)
        kinds = {f"{victim}: {kind}": {"refused": self.refused[victim, kind], "read": self.read[victim, kind]}
                 for victim, kind in pairs}
        total = self.refused.total() + self.read.total()
        return {"files": total, "refused": self.refused.total(), "read": self.read.total(),
                "slowest_ms": round(1e3 * self.slowest, 2), "kinds": kinds}


def examine(case: Case, victim: Victim, path: str, tally: Tally) -> None:
    """Read one damaged file. Raises AssertionError for anything but its refusal or its exact content."""
    with open(path, "wb") as file:
        file.write(case.content)
    began = time.process_time()
    try:
        found = victim.read(path)
    except FileFormatError as error:
        message = str(error)
        assert message.startswith(path), f"the message does not begin with the file's name: {message}"
        assert len(message.encode()) < 2000, f"a message of {len(message)} characters"
        tally.refused[case.victim, case.kind] += 1
    else:
        assert found == victim.allowed(case.content), "read as something that it is not"
        tally.read[case.victim, case.kind] += 1
    seconds = time.process_time() - began
    tally.slowest = max(tally.slowest, seconds)
    assert seconds < SECONDS, f"{seconds:.2f} s of processor time"


def run(cases: Iterator[Case], files: dict[str, Victim], folder: str) -> Tally:
    """All cases, one by one. Raises AssertionError with the first that fails, and leaves its file in the folder."""
    tally, path = Tally(), os.path.join(folder, "damaged")
    for case in cases:
        signal.alarm(30)  # ends the process: what hangs in C is not reached by an exception
        try:
            examine(case, files[case.victim], path, tally)
        except Exception as error:
            raise AssertionError(f"{case.victim}: {case.kind}, number {case.number}, kept as {path}") from error
        finally:
            signal.alarm(0)
    os.unlink(path)
    assert os.listdir(folder) == [], "reading left files behind"
    return tally


def limit_memory(size: int) -> None:
    """Let the address space of this process grow by `size` bytes at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="fuzz.files", description="Read damaged files; the docstring says what for.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=50_000, help="damaged files")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to make one file again")
    parser.add_argument("--systematic", action="store_true", help="before them every length and every flipped bit")
    parser.add_argument("--json", action="store_true", help="print counts by victim and kind, too")
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    files = victims()
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    if Path("/proc/self/statm").exists():
        limit_memory(MEMORY)
    began = time.monotonic()
    tallies = [run(systematic_cases(files), files, folder)] if options.systematic else []
    tallies.append(run(random_cases(files, options.seed, options.first, options.count), files, folder))
    os.rmdir(folder)
    for tally in tallies:
        report = tally.report()
        kinds = report.pop("kinds")
        print(f"fuzz.files: seed {options.seed}, {report}, {time.monotonic() - began:.0f} s", flush=True)
        if options.json:
            print(json.dumps(kinds, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
