"""What the benchmarks share: one network in two libraries, workers in processes of their own, a JSON record.

A comparison here is fair when both libraries get the same threads, data, initial weights, batch order
and optimizer, run one at a time in processes of their own, and take turns, so that a noisy machine hits
both alike. The code that runs in a worker is the same for both: tensorlite has PyTorch's names.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SUBJECT, RIVAL = "tensorlite", "torch"

# A subject is a library and how its Adam is made. The first is measured against each of the others.
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    SUBJECT: (SUBJECT, {}),
    RIVAL: (RIVAL, {}),
    "torch-fused": (RIVAL, {"fused": True}),
}


def argument_parser(description: str | None, result: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands, with the option of where its JSON goes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results") / result)
    return parser


def process_environment(threads: int | None = None) -> dict[str, str]:
    """This process's environment, with every BLAS and OpenMP pool set to `threads` where that is given.

    Bytecode is kept, as it is after an installation: compiling a checkout anew is no part of any measurement.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if threads is not None:
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return environment


def installed(library: str) -> bool:
    """Whether `library` can be imported, found without importing it."""
    return importlib.util.find_spec(library) is not None


class Worker:
    """A process that holds one subject and answers requests, one JSON line each, until it is closed."""

    def __init__(self, script: str, subject: str, threads: int | None) -> None:
        self.subject = subject
        self._process = subprocess.Popen(
            [sys.executable, script, "--worker", subject],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=process_environment(threads),
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


def serve(handlers: dict[str, Callable[..., Any]]) -> None:
    """Answer requests from standard input: `{"do": name, ...}` calls `handlers[name](...)`."""
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(handlers[request.pop("do")](**request)), flush=True)


def initial_weights(sizes: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """PyTorch's default U(-1/sqrt(in), 1/sqrt(in)) for an MLP, as a state_dict of arrays drawn by NumPy."""
    generator = np.random.default_rng(seed)
    weights = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        bound = fan_in**-0.5
        for name, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
            weights[f"{2 * layer}.{name}"] = generator.uniform(-bound, bound, shape).astype(np.float32)
    return weights


def build_mlp(lib: ModuleType, sizes: Sequence[int], seed: int) -> Any:
    """Linear-ReLU-...-Linear in `lib` with the weights of `initial_weights`."""
    layers: list[Any] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [lib.nn.Linear(fan_in, fan_out), lib.nn.ReLU()]
    model = lib.nn.Sequential(*layers[:-1])
    arrays = initial_weights(sizes, seed)
    model.load_state_dict({name: lib.from_numpy(array) for name, array in arrays.items()})
    return model


def read_idx(path: Path) -> np.ndarray:
    """One gzipped IDX file of bytes as an array: the plain reader that a NumPy user writes."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def mnist_folder() -> Path:
    """The folder of the four gzipped IDX files, from TENSORLITE_DATA."""
    if "TENSORLITE_DATA" not in os.environ:
        sys.exit("set TENSORLITE_DATA to a folder with the four gzipped IDX files of MNIST in mnist/")
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


def environment(threads: int, packages: Sequence[str] = ("numpy", SUBJECT, RIVAL)) -> dict[str, Any]:
    """Where and with what a record was made."""
    versions = {name: installed_version(name) for name in packages if installed(name)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions,
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write the record, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written: {path}")
