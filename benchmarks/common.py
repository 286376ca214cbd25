"""What the benchmarks share: workers in processes of their own, turns, initial weights, a JSON record.

A comparison here is fair when all libraries get the same threads, data, initial weights, batch order and optimizer,
run one at a time in processes of their own, and take turns, so that a noisy machine hits all alike. The code that runs
in a worker is one for tensorlite and torch, which share names.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SUBJECT, RIVAL = "tensorlite", "torch"
PACKAGES = ("numpy", SUBJECT, RIVAL, "jax", "tinygrad")


def argument_parser(description: str | None, result: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands, with the option of where its JSON goes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results") / result)
    return parser


def add_turns(parser: argparse.ArgumentParser, rounds: int, seconds: float) -> None:
    """The options of a benchmark whose subjects take turns."""
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="length of a turn")
    parser.add_argument("--pause", type=float, default=0.15, help="rest before a turn, in seconds")
    parser.add_argument("--seed", type=int, default=0)


def process_environment(threads: int | None = None) -> dict[str, str]:
    """This process's environment, with every BLAS and OpenMP pool set to `threads` where that is given.

    Bytecode is kept, as it is after an installation: compiling a checkout anew is no part of any measurement.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if threads is not None:
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return environment


def build_kernels(lib: ModuleType) -> None:
    """Have tensorlite build its kernels for the CPU, wait, and use them: where there is a compiler, and if it may."""
    if lib.__name__ == SUBJECT and os.environ.get("TENSORLITE_COMPILED") != "0":
        with contextlib.suppress(lib.DeviceError):
            lib.compile_kernels()


def installed(library: str) -> bool:
    """Whether `library` can be imported, found without importing it."""
    return importlib.util.find_spec(library) is not None


def use_cores(threads: int) -> None:
    """Keep this process and those that it starts to so many cores: the one limit that every library heeds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
    """A process that holds one subject and answers requests, one JSON line each, until it is closed."""

    def __init__(self, script: str, subject: str, threads: int | None, **environment: str) -> None:
        self.subject = subject
        self._process = subprocess.Popen(
            [sys.executable, script, "--worker", subject],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**process_environment(threads), **environment},
        )

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer; a worker that died is an error that names it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the {self.subject} worker ended with status {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process by closing its input."""
        self._process.communicate()


def serve(subject: object) -> None:
    """Answer requests from standard input: `{"do": name, ...}` calls the subject's method of that name.

    Answers go to the standard output that the process began with; what libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(subject, request.pop("do"))(**request)), file=answers, flush=True)


def take_turns(
    subjects: Sequence[str], rounds: int, measure: Callable[[str], Any], pause: float = 0.0
) -> dict[str, list[Any]]:
    """What `measure` gives for each subject, once a round, each round beginning with another subject.

    The pause before a turn is for the thread pool of the one before: it spins a while before it sleeps.
    """
    measured: dict[str, list[Any]] = {subject: [] for subject in subjects}
    for turn in range(rounds):
        for place in range(len(subjects)):
            subject = subjects[(turn + place) % len(subjects)]
            time.sleep(pause)
            measured[subject].append(measure(subject))
    return measured


def initial_weights(sizes: Sequence[int], seed: int, identity: bool = False) -> dict[str, np.ndarray]:
    """PyTorch's default U(-1/sqrt(in), 1/sqrt(in)) for an MLP, as a state_dict of arrays drawn by NumPy.

    With `identity`, square layers hand their input on unchanged: signals neither fade nor grow at any depth.
    """
    generator = np.random.default_rng(seed)
    weights = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        bound = fan_in**-0.5
        weight = generator.uniform(-bound, bound, (fan_out, fan_in)).astype(np.float32)
        bias = generator.uniform(-bound, bound, fan_out).astype(np.float32)
        if identity and fan_in == fan_out:
            weight, bias = np.eye(fan_in, dtype=np.float32), np.zeros(fan_out, np.float32)
        weights[f"{2 * layer}.weight"], weights[f"{2 * layer}.bias"] = weight, bias
    return weights


def build_mlp(lib: ModuleType, sizes: Sequence[int], weights: dict[str, np.ndarray]) -> Any:
    """Linear-ReLU-...-Linear in `lib`, tensorlite or torch, with the given weights."""
    layers: list[Any] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [lib.nn.Linear(fan_in, fan_out), lib.nn.ReLU()]
    model = lib.nn.Sequential(*layers[:-1])
    set_parameters(lib, model, [lib.from_numpy(array) for array in weights.values()])
    return model


def set_parameters(lib: ModuleType, model: Any, values: Iterable[Any]) -> None:
    """Copy values into a model's parameters, in their order: torch's load_state_dict is quadratic in the layers."""
    with lib.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)


def read_idx(path: Path) -> np.ndarray:
    """One gzipped IDX file of bytes as an array: the plain reader that a NumPy user writes."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def mnist_folder() -> Path:
    """The folder of the four gzipped IDX files: below TENSORLITE_DATA, else the sample inside the package."""
    if "TENSORLITE_DATA" not in os.environ:
        return Path(__file__).resolve().parent.parent / "tensorlite" / "data" / "mnist_sample"
    folder = Path(os.environ["TENSORLITE_DATA"])
    return folder / "mnist" if (folder / "mnist").is_dir() else folder


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def installed_version(library: str) -> str:
    """The version of an installed library; one that is only on the path is said to be so."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed, imported from the path"


def commit() -> str:
    """The checkout's commit, with "+changes" where the tree differs from it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def environment(threads: int, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Where and with what a record was made."""
    versions = {name: installed_version(name) for name in packages if installed(name)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions,
        "system": platform.platform(),
        "cpu": cpu_model(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "cores": cores(),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # of the minute before
    }


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write the record, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written: {path}")
