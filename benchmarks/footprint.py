"""What a library costs before it computes: import time, installed size, and the peak memory of a small training run.

    python benchmarks/footprint.py
    python benchmarks/footprint.py --libraries numpy tensorlite --rounds 25

Import time is that of the statement alone, read inside fresh processes that take turns; the interpreter's start is not
in it. Installed size is that of the package's files and of all packages that it requires, NumPy's own size given apart.
Peak memory is the largest resident set of a process that imports the library and makes 50 steps of the training-step
benchmark (hidden 256, batch 128).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import common
import subjects
from growth import peak_bytes
from subjects import SUBJECTS

ROOT = Path(__file__).resolve().parent.parent
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
LIBRARIES = ("numpy", "tensorlite", "torch", "jax", "tinygrad")
MEMORY_SUBJECTS = ("numpy", "tensorlite-captured", "torch", "jax")
PACKAGE_FOLDERS = ("tensorlite", "kernels")  # of this checkout: what a wheel of it holds


class Trained:
    """A worker that trains a little, and tells what memory that took."""

    def __init__(self, name: str) -> None:
        self.session = SUBJECTS[name].make()

    def peak(self, steps: int) -> int:
        """The process's peak in bytes after so many steps."""
        self.session.setup([784, 256, 256, 10], 128)
        self.session.timed(steps)
        return peak_bytes()


def import_seconds(library: str) -> float:
    """Seconds that one fresh process spends in `import library`."""
    command = [sys.executable, "-c", TIMED.format(library)]
    environment = common.process_environment()
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)


def requirements(distribution: str, known: set[str] | None = None) -> set[str]:
    """An installed distribution and all that it requires, without extras."""
    known = set() if known is None else known
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name in known:
        return known
    try:
        needed = own_requirements() if name == common.SUBJECT else importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # for another platform or Python
        return known
    known.add(name)
    for requirement in needed:
        if "extra ==" not in requirement and (match := re.match(r"[\w.-]+", requirement)):
            requirements(match[0], known)
    return known


def own_requirements() -> list[str]:
    """What this checkout requires, installed or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def installed_bytes(distribution: str) -> int:
    """The sizes of a distribution's files, compiled bytecode left out; of this checkout, those of a wheel."""
    if distribution == common.SUBJECT:
        paths = [path for folder in PACKAGE_FOLDERS for path in (ROOT / folder).rglob("*")]
    else:
        paths = [Path(str(file.locate())) for file in importlib.metadata.files(distribution) or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and "__pycache__" not in path.parts)


def sizes(libraries: list[str]) -> dict[str, int]:
    """Bytes on disk of each library with all that it requires; NumPy's share is in each."""
    result = {}
    for library in libraries:
        needed = requirements(library) | {library}
        result[library] = sum(map(installed_bytes, needed))
    return result


def main() -> None:
    parser = common.argument_parser(__doc__, "footprint.json")
    parser.add_argument("--libraries", nargs="+", default=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=7, help="of imports; one more warms the caches")
    parser.add_argument("--steps", type=int, default=50, help="of the run whose memory is measured")
    parser.add_argument("--threads", type=int, default=common.cores())
    parser.add_argument("--worker", choices=MEMORY_SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(Trained(options.worker))
        return
    common.use_cores(options.threads)
    libraries = [library for library in options.libraries if common.installed(library)]
    times = common.take_turns(libraries, options.rounds + 1, import_seconds)
    record = {
        **common.environment(options.threads),
        "import_s": {library: statistics.median(values[1:]) for library, values in times.items()},
        "import_rounds_s": times,
        "installed_bytes": sizes(libraries),
        "peak_bytes": {},
    }
    for name in MEMORY_SUBJECTS:
        if SUBJECTS[name].library in libraries and subjects.why_missing(name, "cpu") is None:
            worker = subjects.start(__file__, name, options.threads)
            record["peak_bytes"][SUBJECTS[name].library] = worker.ask(do="peak", steps=options.steps)
            worker.close()
    for library in libraries:
        peak = record["peak_bytes"].get(library)
        print(f"{library:12} import {record['import_s'][library] * 1e3:7.1f} ms   on disk "
              f"{record['installed_bytes'][library] / 1e6:7.1f} MB" + (f"   peak {peak / 1e6:7.1f} MB" if peak else ""))
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
