"""Print how large the project is: lines a file, the core against its budget, and the largest files.

    python tools/code_size.py [--all]

"lines" are all lines; "code" leaves out blank lines, comments and docstrings. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ("errors", "dtypes", "backends", "autograd", "ops", "creation", "methods", "tensor")
TENSOR_PARTS = ("hooks", "inplace", "numpy_protocol", "printing", "random", "sampling")
CORE_BUDGET = 3000
FILE_BUDGET = 400
FOLDERS = ("tensorlite", "kernels", "examples", "benchmarks", "tools", "tests")
SUFFIXES = (".py", ".cu", ".cuh", ".h", ".cpp")
NOT_CODE = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}


def docstring_lines(source: str) -> set[int]:
    """The line numbers that docstrings cover."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                if isinstance(first.value.value, str):
                    lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(path: Path) -> int:
    """Lines with code: for Python by its tokens, for C++ those that are neither blank nor a // comment."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum(1 for line in source.splitlines() if line.strip() and not line.strip().startswith("//"))
    occupied: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] not in NOT_CODE:
            occupied.update(range(token.start[0], token.end[0] + 1))
    return len(occupied - docstring_lines(source))


def measure(folder: str) -> dict[str, tuple[int, int]]:
    """(lines, code) of every source file below a folder of the project, by its path in the project."""
    sizes = {}
    for path in sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        sizes[path.relative_to(ROOT).as_posix()] = lines, code_lines(path)
    return sizes


def below(sizes: dict[str, tuple[int, int]], names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Those of the sizes that belong to the named modules and packages of tensorlite."""
    starts = tuple(f"tensorlite/{name}{end}" for name in names for end in "./")
    return {path: size for path, size in sizes.items() if path.startswith(starts)}


def total(sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Sums of lines and of code."""
    return sum(lines for lines, _ in sizes.values()), sum(code for _, code in sizes.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="list the files outside the package too")
    options = parser.parse_args()
    by_folder = {folder: measure(folder) for folder in FOLDERS}
    everything = {path: size for sizes in by_folder.values() for path, size in sizes.items()}
    core = below(everything, CORE)
    parts = below(everything, TENSOR_PARTS)

    print(f"{'lines':>6} {'code':>6}  file")
    for path, (lines, code) in (everything if options.all else by_folder["tensorlite"]).items():
        print(f"{lines:6} {code:6}  {path}{'  (core)' if path in core else ''}")
    print()
    for folder, sizes in by_folder.items():
        print("{:6} {:6}  {}/ in {} files".format(*total(sizes), folder, len(sizes)))
    print("{:6} {:6}  the core: {} (aim: about {} lines)".format(*total(core), ", ".join(CORE), CORE_BUDGET))
    print("{:6} {:6}  beside it: {}".format(*total(parts), ", ".join(TENSOR_PARTS)))
    print(f"\nlargest files (aim: at most {FILE_BUDGET} lines each)")
    for path, (lines, code) in sorted(everything.items(), key=lambda item: -item[1][0])[:10]:
        print(f"{lines:6} {code:6}  {path}{'  over' if lines > FILE_BUDGET else ''}")


if __name__ == "__main__":
    main()
