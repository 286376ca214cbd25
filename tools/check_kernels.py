"""Static checks of every kernel instance, without a GPU: it compiles, keeps within its registers, moves 16 bytes, and
multiplies on tensor cores where it should.

    python tools/check_kernels.py                     # each instance for sm_90 and for one of the other architectures
    python tools/check_kernels.py --all               # each for all of them: half an hour
    python tools/check_kernels.py --files reduce.cu --targets sm_80 --every 10

Needs CuPy and NVRTC, as the extras cuda12 and cuda13 install them; where nvdisasm is found (the package
nvidia-cuda-nvdisasm, or the CUDA toolkit), machine code is read too. From what ptxas says of each kernel: no register
spills, no stack but where one is known, and no more registers than the budget. Ends with status 1 and a list otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tensorlite.backends import kernel_sources, nvrtc
from tensorlite.backends.kernels import Instance, catalogue
from tensorlite.errors import DeviceError

MAIN = "sm_90"  # every instance is compiled for it, and its machine code is read
OTHERS = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120")
PER_COMPILATION = 48  # instances: reading the headers costs as much as one instance

# Registers of a thread. 64 let 1024 threads be at work on a multiprocessor, half of what it holds; more needs a reason.
REGISTERS = 64
BUDGETS = {  # template -> registers, for float64 the second number
    "held": (200, 224), "held_grad": (200, 224), "held_weight_grad": (168, 168),  # a row in registers, read once
    "long_rows": (96, 112), "long_rows_grad": (112, 128), "long_rows_weight_grad": (96, 120),  # a piece of a row
    "cross_entropy": (96, 96),  # likewise
    "matmul": (128, 128),  # a tile of the product in registers
    "attention": (248, 248),  # a tile of scores, one of the result, and on tensor cores one of q
    "attention_query_grad": (255, 255), "attention_key_grad": (255, 255),  # and one tile or two more
    "add_chunks": (128, 72),  # many rows under way at a time
    "rows": (88, 88), "columns": (80, 80),  # argmax and argmin: values with their places
    "fold_stretches": (80, 88),  # packs of two arrays under way, and two sums
    "vectorised": (64, 80), "strided": (64, 80),
    "conv_tiles": (128, 128),  # a tile of the product in registers, and what the next step needs on its way
    "conv_gather": (128, 128), "conv_weight": (128, 128),  # the places of several taps
    "packed": (80, 96),  # optimizers: packs of up to five arrays, and the addresses of these
}

# Bytes of stack. CUDA's sin, cos and tan reduce huge arguments by a table walk, off the usual path.
STACKS = {"formulas::sin": 40, "formulas::cos": 40, "formulas::tan": 40}

# Kernels of which the compiler sees that a part of each element suffices, and loads no more: the low bytes of an
# integer that becomes a narrower one, the upper half of a double whose sign is asked for.
PARTLY_READ = {"vectorised<formulas::signbit, u32, bool, double>",
               *(f"vectorised<formulas::copy, u32, {narrower}, i64>" for narrower in ("u8", "i8", "i16", "i32"))}

SIZES = {"bool": 1, "u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8,
         "f16": 2, "bf16": 2, "float": 4, "double": 8}


class Report(NamedTuple):
    """What ptxas says of one kernel, and whether its machine code has 16-byte loads and stores, and products on tensor
    cores (None: not read)."""

    instance: Instance
    target: str
    registers: int
    stack: int
    spills: int
    loads: bool | None = None
    stores: bool | None = None
    products: bool | None = None


class Job(NamedTuple):
    """Instances of one file to compile for one architecture."""

    file: str
    target: str
    expressions: tuple[str, ...]


# --- what to compile --------------------------------------------------------------------------------------------------


def jobs(instances: Sequence[Instance], targets: Sequence[str], every_target: bool) -> Iterator[Job]:
    """All instances for the first target; each for one of the others, or for all if `every_target`."""
    for number, target in enumerate(targets):
        chosen = [i for i in instances if every_target or number == 0
                  or zlib.crc32(i.expression.encode()) % (len(targets) - 1) == number - 1]
        for file in dict.fromkeys(i.file for i in chosen):
            expressions = [i.expression for i in chosen if i.file == file]
            for start in range(0, len(expressions), PER_COMPILATION):
                yield Job(file, target, tuple(expressions[start:start + PER_COMPILATION]))


def run(job: Job) -> list[Report]:
    """Compile, and read what there is to know."""
    flags = (*nvrtc.options(job.file, job.target), "--ptxas-options=-v")
    compiled = nvrtc.compile_text(job.file, kernel_sources.read(job.file), nvrtc.headers(), job.expressions, flags)
    is_read = job.target == MAIN and any(any(wanted(Instance(job.file, e))) for e in job.expressions)
    return list(reports(job, compiled, machine_code(compiled.image) if is_read else None))


# --- what the compiler says -------------------------------------------------------------------------------------------

_ENTRY = re.compile(
    r"Compiling entry function '(?P<symbol>\S+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers", re.DOTALL)


def reports(job: Job, compiled: nvrtc.Compiled, code: dict[str, str] | None) -> Iterator[Report]:
    """One report per instance, from ptxas' log and the machine code by symbol."""
    found = {entry["symbol"]: entry for entry in _ENTRY.finditer(compiled.log)}
    for expression, symbol in compiled.symbols.items():
        entry = found[symbol]
        text = code.get(symbol) if code else None
        yield Report(
            Instance(job.file, expression), job.target, int(entry["registers"]), int(entry["stack"]),
            int(entry["stores"]) + int(entry["loads"]),
            None if text is None else re.search(r"\bLDG\.E\S*\.128", text) is not None,
            None if text is None else re.search(r"\bSTG\.E\S*\.128", text) is not None,
            None if text is None else re.search(r"\bHMMA\.", text) is not None)


def disassembler() -> str | None:
    """The path of nvdisasm: on the PATH, or in the package nvidia-cuda-nvdisasm."""
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    return shutil.which("nvdisasm") or next(map(str, packages.glob("*/bin/nvdisasm")), None)


def machine_code(image: bytes) -> dict[str, str] | None:
    """The disassembly of each kernel by its symbol; None where there is no nvdisasm."""
    program = disassembler()
    if program is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        text = subprocess.run([program, "-c", file.name], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^//-+ \.text\.(\S+)", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


# --- what must be true ------------------------------------------------------------------------------------------------


def template(expression: str) -> str:
    """vectorised<formulas::relu, u32, float, float> -> vectorised."""
    return expression.partition("<")[0]


def sixteen_bytes(instance: Instance) -> tuple[bool, bool]:
    """Whether a kernel must hold loads, and stores, of 16 bytes: those that move packs of neighbouring elements."""
    name = template(instance.expression)
    arguments = instance.expression[:-1].partition("<")[2].split(", ")
    if (instance.file, name) == ("elementwise.cu", "vectorised"):  # formula, index, result, operands
        result, *operands = [SIZES[argument] for argument in arguments[2:]]
        is_read_whole = instance.expression not in PARTLY_READ
        return max(operands) >= result and is_read_whole, result >= max(operands)
    if instance.file in ("softmax.cu", "layer_norm.cu", "cross_entropy.cu") and len(arguments) > 2:
        width, element = arguments[-2:]  # of a pack
        is_pack = int(width) * SIZES[element] == 16
        return is_pack, is_pack and name not in ("cross_entropy", "held_weight_grad", "long_rows_weight_grad")
    if (instance.file, name) in (("reduce.cu", "rows"), ("reduce.cu", "columns")):
        *_, element, width = arguments
        return int(width) * SIZES[element] == 16, False
    if (instance.file, name) in (("optimizer.cu", "packed"), ("amp.cu", "unscale")):
        return True, True
    if instance.file == "attention.cu":
        return "TensorCores" in instance.expression, False
    if (instance.file, name) == ("dropout.cu", "dense"):
        return 4 * SIZES[arguments[-1]] >= 16, 4 * SIZES[arguments[-1]] >= 16
    if instance.file == "batch_norm.cu" and name in ("fold_stretches", "normalise", "slope"):
        *_, element, width = arguments
        is_pack = int(width) * SIZES[element] == 16
        return is_pack, is_pack and name != "fold_stretches"
    if instance.file == "linear.cu":
        *_, element, width = arguments
        is_pack = int(width) * SIZES[element] == 16
        return is_pack, is_pack
    if instance.file == "many.cu":
        return name != "finish" and "Fill" not in arguments[0], name == "change"
    if (instance.file, name) == ("random.cu", "dense"):  # four numbers at a time, but of Choice one
        return False, 4 * SIZES[arguments[-1]] >= 16 and "Choice" not in arguments[0]
    is_pack = "Pack<u64, 2>" in instance.expression  # elements that index.cu moves without looking at them
    return is_pack, is_pack


def wanted(instance: Instance) -> tuple[bool, bool, bool]:
    """Whether a kernel must hold 16-byte loads, 16-byte stores, and products on tensor cores."""
    return *sixteen_bytes(instance), "TensorCores" in instance.expression


def complaints(report: Report) -> Iterator[str]:
    """What is wrong with a kernel, one line each."""
    file, expression = report.instance
    name = f"{file}: {expression} for {report.target}"
    budget = BUDGETS.get(template(expression), (REGISTERS, REGISTERS))["double" in expression]
    if report.spills:
        yield f"{name} spills {report.spills} bytes of registers"
    if report.registers > budget:
        yield f"{name} takes {report.registers} registers, budget {budget}"
    if report.stack > max((size for part, size in STACKS.items() if f"{part}," in expression), default=0):
        yield f"{name} has a stack of {report.stack} bytes"
    kinds = ("16-byte load", "16-byte store", "product on tensor cores")
    for kind, is_wanted, present in zip(kinds, wanted(report.instance), report[-3:], strict=True):
        if is_wanted and present is False:
            yield f"{name} has no {kind}"


def check(chosen: Sequence[Job], workers: int) -> tuple[list[Report], list[str]]:
    """Run all jobs; their reports, and what is wrong."""
    found: list[Report] = []
    wrong: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run, job) for job in chosen]):
            try:
                found += future.result()
            except DeviceError as error:
                wrong.append(str(error))
    for report in found:
        wrong += complaints(report)
    return found, sorted(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=[MAIN, *OTHERS], help="the first gets all instances")
    parser.add_argument("--files", nargs="+", help="only these of kernels/")
    parser.add_argument("--every", type=int, default=1, help="only each N-th instance")
    parser.add_argument("--all", action="store_true", help="every instance for every target")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    start = time.monotonic()
    known = {f"sm_{number}" for number in nvrtc.nvrtc.getSupportedArchs()}
    if unknown := [target for target in options.targets if target not in known]:
        print(f"NVRTC {nvrtc.version()} does not know {', '.join(unknown)}: left out")
    targets = [target for target in options.targets if target in known]
    instances = [i for i in dict.fromkeys(catalogue.instances()) if not options.files or i.file in options.files]
    chosen = list(jobs(instances[::options.every], targets, options.all))
    found, wrong = check(chosen, options.workers)
    print("\n".join(wrong))
    for file in sorted({report.instance.file for report in found}):
        of_file = [report for report in found if report.instance.file == file]
        read = sum(report.loads is not None for report in of_file)
        print(f"{file:20} {len(of_file):5} kernels, {max(r.registers for r in of_file):3} registers at most, "
              f"machine code of {read} read")
    print(f"{len(instances[::options.every])} instances of {len(instances)}, {len(found)} kernels compiled with NVRTC "
          f"{nvrtc.version()} in {time.monotonic() - start:.0f} s; {len(wrong)} complaints")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
