"""All that a machine with an NVIDIA GPU can say about this project, in one command of less than nine minutes.

    make gpu                            # with the packages that are there: nothing is installed or downloaded
    make gpu PYTHON=python3.12 ARGS="--only tests bandwidth"
    make gpu ARGS=--dry-run             # every step on "cuda:sim" and tiny sizes; the figures mean nothing

The steps: the tests of device "cuda"; compute-sanitizer's memcheck and racecheck over a sample of the tests of kernels
and of capture; GB/s of every kernel; convolutions and attention beside torch's; a training step, captured and eager,
beside torch, torch.compile, CUDA graphs, JAX and CuPy; MNIST to 98 %. Each has a time limit and a process group of its
own, and runs whatever became of the ones before. Results go to $OUT, or else to benchmarks/results/gpu-<name>-<date>:
summary.json, op_bandwidth.json, gpu_conv.json, gpu_attention.json, gpu_step.json, mnist_job.json and log.txt. The exit
status is 0 if no step failed; a step that cannot run here, for want of a tool, is listed as missing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

import gpu_common  # noqa: E402  (of benchmarks/, which is no package)

TOTAL_SECONDS = 530
TEST_WORKERS = 12
SANITIZER_OPTIONS = ("--error-exitcode", "86", "--print-limit", "20",
                     "--report-api-errors", "no")  # a test that runs out of memory on purpose is no error
DRY_RUN_ROWS = ("add", "sum of rows", "layer norm", "cross entropy, 1024 classes", "transpose", "Adam", "uniform",
                "rows by index")


@dataclass(frozen=True)
class Step:
    """A command with a time limit; `headline` finds in its output what the summary shows."""

    name: str
    command: Sequence[str]
    limit: float
    headline: str
    missing: str | None = None


def pytest_command(device: str, seconds: float, paths: Sequence[str], parallel: bool) -> list[str]:
    """pytest over a device's tests, without doctests, and without what happens to be installed: plugins, warnings."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=short", "-o", "addopts=", "-W", "default",
               "-p", "no:cacheprovider", "-p", "pytest_device", "--only-device", device, "--seconds", f"{seconds:.0f}"]
    if parallel and importlib.util.find_spec("xdist"):
        command += ["-p", "xdist", "-n", str(min(TEST_WORKERS, os.cpu_count() or 1))]
    return [*command, *paths]


def sanitizer() -> str | None:
    """compute-sanitizer, on the path or where the toolkit puts it."""
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")


def steps(out: Path, dry_run: bool) -> list[Step]:
    """All steps, in order. A dry run differs in device and sizes alone."""
    device = "cuda:sim" if dry_run else "cuda"
    return [*test_steps(device, dry_run), *benchmark_steps(device, out, dry_run)]


def test_steps(device: str, dry_run: bool) -> list[Step]:
    """All of the device's tests; those of kernels and capture under compute-sanitizer, which a dry run leaves out."""
    complete = all(map(importlib.util.find_spec, ("pytest", "hypothesis")))
    without_pytest = None if complete else "needs pytest and hypothesis"
    summary = r"\d+ (?:passed|failed|skipped).* in .*"
    kernel_tests = [str(path.relative_to(ROOT)) for pattern in ("test_kernels_*.py", "test_capture*.py")
                    for path in sorted((ROOT / "tests").glob(pattern))]
    tests = pytest_command(device, *((2, kernel_tests) if dry_run else (80, ["tests"])), parallel=not dry_run)
    listed = [Step("tests", tests, 105, summary, without_pytest)]
    found = sanitizer()
    missing = without_pytest or (None if dry_run or found else "compute-sanitizer is not installed")
    for tool, seconds in (("memcheck", 35), ("racecheck", 25)):
        watch = [] if dry_run or found is None else [found, "--tool", tool, *SANITIZER_OPTIONS]
        tests = pytest_command(device, 2 if dry_run else seconds, kernel_tests, parallel=False)
        tests += [] if dry_run else ["--exact-allocations"]
        listed.append(Step(tool, [*watch, *tests], seconds + 35, rf"{summary}|\w+ SUMMARY: .*", missing))
    return listed


def benchmark_steps(device: str, out: Path, dry_run: bool) -> list[Step]:
    """The benchmarks."""
    bandwidth: Sequence[str] = ("--seconds", "65")
    convolutions: Sequence[str] = ()
    attention: Sequence[str] = ("--samples", "5")
    step: Sequence[str] = ()
    mnist: Sequence[str] = ("--jobs", "five-epochs", "--runs", "2")
    if dry_run:
        bandwidth = ("--elements", "2048", "--rows", *DRY_RUN_ROWS)
        convolutions = ("--layers", "LeNet, second", "--batches", "1", "--precisions", "float32", "bfloat16",
                        "--samples", "1")
        attention = ("--shapes", "tiny", "--precisions", "float32", "bfloat16", "--samples", "1")
        step = ("--hidden", "16", "16", "--batch", "4", "--seconds", "0", "--rounds", "1",
                "--subjects", "torch", "torch-graph", "jax")
        mnist = ("--jobs", "five-epochs", "--runs", "1", "--epochs", "1", "--digits", "64", "--batch", "32",
                 "--hidden", "8", "--subjects", "tensorlite")
    to = {name: ("--device", device, "--json", str(out / f"{name}.json"))
          for name in ("op_bandwidth", "gpu_conv", "gpu_attention", "gpu_step", "mnist_job")}
    return [
        Step("bandwidth", python("benchmarks/op_bandwidth.py", *to["op_bandwidth"], *bandwidth), 90,
             r"at \d+ elements .*|\d+ elements; a copy .*|below: .*|error in .*|not measured within.*"),
        Step("conv", python("benchmarks/gpu_conv.py", *to["gpu_conv"], *convolutions), 35,
             r"time of .* cases|\d+ cases.*|wrong: .*|left out: .*"),
        Step("attention", python("benchmarks/gpu_attention.py", *to["gpu_attention"], *attention), 45,
             r"time of .* cases|\d+ cases.*|wrong: .*|left out: .*"),
        Step("step", python("benchmarks/gpu_step.py", *to["gpu_step"], *step), 70,
             r"tensorlite-captured / .*|tensorlite[\w-]* +[\d.]+ us.*|left out: .*"),
        Step("mnist", python("benchmarks/mnist_job.py", *to["mnist_job"], *mnist), 60,
             r"five-epochs: .* in all; .*|.*the sample of.*"),
    ]


def python(script: str, *arguments: str) -> list[str]:
    """A script of this project with the Python that runs this one."""
    return [sys.executable, script, *arguments]


def run(step: Step, limit: float, log: TextIO) -> dict[str, Any]:
    """Run a step, its output shown and logged as it comes; when its time is up, it and its children are killed."""
    if step.missing:
        return {"step": step.name, "outcome": "missing", "seconds": 0.0, "headline": [step.missing]}
    announce(f"--- {step.name}: {' '.join(step.command)}", log)
    search = os.pathsep.join([str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    start = time.monotonic()
    late = threading.Event()
    lines = []
    with subprocess.Popen(step.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
                          env=environment, start_new_session=True, errors="replace") as process:
        timer = threading.Timer(limit, kill, (process, late))
        timer.start()
        for line in process.stdout or ():
            lines.append(line.rstrip("\n"))
            announce(lines[-1], log)
        status = process.wait()
        timer.cancel()
    outcome = "out of time" if late.is_set() else "ok" if status == 0 else f"failed, status {status}"
    found = [match[0] for line in lines if (match := re.search(step.headline, line))]
    result = {"step": step.name, "outcome": outcome, "seconds": round(time.monotonic() - start, 1),
              "headline": found or lines[-1:]}
    failures = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    return {**result, "failures": failures} if failures else result


def kill(process: subprocess.Popen[str], late: threading.Event) -> None:
    """End a step and all that it started."""
    if process.returncode is None:  # not yet waited for, so the number is still its own
        late.set()
        os.killpg(process.pid, signal.SIGKILL)


def announce(line: str, log: TextIO) -> None:
    """Show and log a line."""
    print(line, flush=True)
    log.write(line + "\n")
    log.flush()


def check_device(device: str) -> None:
    """Stop with the backend's own words where the device cannot be used."""
    from tensorlite import DeviceError
    from tensorlite.backends import get

    try:
        get(device)
    except DeviceError as error:
        sys.exit(f"make gpu: {error}\n(`make gpu ARGS=--dry-run` goes through all steps without a GPU)")


def folder(dry_run: bool) -> Path:
    """Where the results go."""
    if os.environ.get("OUT"):
        return Path(os.environ["OUT"]).resolve()
    if dry_run:
        return Path(tempfile.mkdtemp(prefix="tensorlite-gpu-dry-run-"))
    name = re.sub(r"\W+", "-", gpu_common.gpu_state().get("name", "unknown").lower()).strip("-")
    return ROOT / "benchmarks" / "results" / f"gpu-{name}-{datetime.date.today()}"


def print_table(results: Sequence[dict[str, Any]], log: TextIO) -> None:
    """One line a step."""
    announce(f"\n{'step':10} {'outcome':18} {'seconds':>8}  what", log)
    for result in results:
        first, *others = result["headline"] or [""]
        announce(f"{result['step']:10} {result['outcome']:18} {result['seconds']:8.1f}  {first}", log)
        for line in others:
            announce(f"{'':38}  {line}", log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in steps(Path(), dry_run=True)]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these steps alone")
    parser.add_argument("--dry-run", action="store_true", help="go through all steps without a GPU")
    parser.add_argument("--commit", help="what to record as the commit, where git is not at hand")
    options = parser.parse_args()
    if options.commit:
        os.environ[gpu_common.COMMIT_VARIABLE] = options.commit
    device = "cuda:sim" if options.dry_run else "cuda"
    check_device(device)
    begun = time.monotonic()
    out = folder(options.dry_run)
    out.mkdir(parents=True, exist_ok=True)
    record = {**gpu_common.environment(device), "dry_run": options.dry_run}
    results: list[dict[str, Any]] = []
    with open(out / "log.txt", "w", encoding="utf-8") as log:
        for step in steps(out, options.dry_run):
            if step.name in options.only:
                left = TOTAL_SECONDS - (time.monotonic() - begun)
                results.append(run(step, max(1.0, min(step.limit, left)), log))
                gpu_common.save(out / "summary.json", {**record, "steps": results})
        print_table(results, log)
    print(f"results: {out}")
    sys.exit(any(result["outcome"] not in ("ok", "missing") for result in results))


if __name__ == "__main__":
    main()
