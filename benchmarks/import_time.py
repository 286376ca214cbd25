"""The cost of `import tensorlite` beside `import numpy`, and of installing it, in time and bytes.

    python benchmarks/import_time.py          # import time: fresh processes in turns, medians
    python benchmarks/import_time.py --size   # also installs NumPy, then this checkout, in a scratch folder

The time is that of the import statement alone, read inside the process; interpreter start is not in it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import common

TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def import_seconds(library: str) -> float:
    """Seconds that one fresh process spends in `import library`."""
    command = [sys.executable, "-c", TIMED.format(library)]
    environment = common.process_environment()
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)


def folder_bytes(folder: Path) -> int:
    """The sum of the file sizes below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def installed_bytes() -> dict[str, int]:
    """Bytes that an installation of NumPy takes, and that tensorlite with its dependencies adds to it."""
    checkout = str(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch) / ("Scripts" if os.name == "nt" else "bin") / "python"
        sizes = [folder_bytes(Path(scratch))]
        for package in ("numpy", checkout):
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True, cwd=scratch)
            sizes.append(folder_bytes(Path(scratch)))
    return {"numpy": sizes[1] - sizes[0], "tensorlite_adds": sizes[2] - sizes[1]}


def main() -> None:
    parser = common.argument_parser(__doc__, "import_time.json")
    parser.add_argument("--libraries", nargs="+", default=["numpy", "tensorlite"], help="first: the measure")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--size", action="store_true", help="installed size too; needs a package index")
    options = parser.parse_args()
    for library in options.libraries:
        import_seconds(library)  # compiled bytecode and a warm file cache for all
    times: dict[str, list[float]] = {library: [] for library in options.libraries}
    for _ in range(options.rounds):
        for library in options.libraries:
            times[library].append(import_seconds(library))
    medians = {library: statistics.median(values) for library, values in times.items()}
    first = options.libraries[0]
    for library, median in medians.items():
        print(f"import {library:12} {median * 1e3:7.1f} ms  {median / medians[first]:.2f} x {first}")
    record = {**common.environment(os.cpu_count() or 1), "median_s": medians, "rounds_s": times}
    if options.size:
        record["installed_bytes"] = installed_bytes()
        print("  ".join(f"{name} {size / 1e6:.2f} MB" for name, size in record["installed_bytes"].items()))
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
