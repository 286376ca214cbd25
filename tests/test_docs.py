"""README and docs tell the truth: ```python blocks run, ```diff blocks stand in their files, paths exist, tables of
contents and the reference are whole.

The blocks of a page run in order and share their names. A block with `>>>` is a doctest, another one is executed.
"""

from __future__ import annotations

import doctest
import importlib
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import backends, nn, optim
from tensorlite.backends import cpu

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
PAGES = [path for folder in (ROOT, DOCS, DOCS / "examples") for path in sorted(folder.glob("*.md"))]
TRANSLATIONS = [page for page in PAGES if page.name.endswith(".zh-CN.md")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block: what it is written in, its text, and the line on which that begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The path in the package that the block stands for, if its first line says so."""
        match = re.match(r"# tensorlite/(\S+\.py)\n", self.text)
        return match and match[1]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2))) for match in found]


def running_text(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def run(page: Path) -> int:
    """Run a page's Python blocks, those that stand for files excepted; how many there were."""
    names: dict[str, Any] = {"tl": tl, "np": np, "nn": nn, "F": nn.functional, "optim": optim, "__name__": page.stem}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    python = [block for block in blocks(page) if block.language == "python" and block.file is None]
    for block in python:
        if ">>>" in block.text:
            test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            report: list[str] = []
            runner.run(test, out=report.append, clear_globs=False)
            names.update(test.globs)
            assert not runner.summarize(verbose=False).failed, "".join(report)
        else:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
    return len(python)


@pytest.fixture(autouse=True)
def unchanged_tables() -> Iterator[None]:
    """The pages may add kernels and devices; afterwards they are gone."""
    with mock.patch.dict(cpu.KERNELS), mock.patch.dict(backends._MODULES), mock.patch.dict(backends._loaded):
        yield


APART = {"adding_a_backend", "audit"}  # the one has a test of its own, the other is made of figures alone


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem not in APART], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path) -> None:
    assert run(page) > 0


def test_the_backend_of_the_page_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/adding_a_backend.md"
    (source,) = [block for block in blocks(page) if block.file]
    assert source.file == "backends/toy.py"
    (tmp_path / "toy.py").write_text(source.text, encoding="utf-8")
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.setitem(backends._MODULES, "toy", "toy")
    monkeypatch.delitem(sys.modules, "tensorlite.backends.toy", raising=False)
    assert run(page) == 3


def code(page: Path) -> list[str]:
    """The lines of a page's code blocks, without comments."""
    return [re.sub(r"\s+# .*", "", line) for block in blocks(page) for line in block.text.splitlines()]


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda p: p.name)
def test_a_translation_has_the_code_of_its_original(page: Path) -> None:
    assert code(page) == code(page.with_name(page.name.replace(".zh-CN", "")))


def test_every_extra_is_explained() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = "".join(re.findall(r"^\| `.*", (DOCS / "install.md").read_text(encoding="utf-8"), re.MULTILINE))
    for extra in extras.keys() - {"test-cuda"}:  # which only `make test-cuda` wants
        assert f"`{extra}`" in rows, f"docs/install.md does not mention the extra {extra}"
        for page in sorted(ROOT.glob("README*.md")):
            assert f"`tensorlite[{extra}]`" in page.read_text(encoding="utf-8"), f"{page.name} does not mention {extra}"


def names_in_tables_of_contents(page: Path) -> list[str]:
    """The pages that a page's ```{toctree} blocks name, relative to docs/."""
    found = re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in found for line in block.splitlines() if line and not line.startswith(":")]
    return [(page.parent / line).relative_to(DOCS).as_posix() for line in lines]


def test_every_page_stands_in_one_table_of_contents() -> None:
    contents = DOCS / "index.md", DOCS / "examples/index.md"
    listed = [name for page in contents for name in names_in_tables_of_contents(page)]
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents]
    assert sorted([*listed, "index"]) == sorted([*pages, "api/index"])


PUBLIC = ["tensorlite", *(f"tensorlite.{name}" for name in (
    "accelerator", "amp", "autograd", "compat", "cuda", "data", "data.transforms", "errors", "insight", "insight.cards",
    "insight.meters", "linalg", "nn", "nn.functional", "nn.init", "nn.utils", "optim",
    "optim.lr_scheduler", "simulator", "testing", "utils"))]


@pytest.fixture(scope="module")
def reference() -> Iterator[list[Any]]:
    """The pages of the API reference."""
    with mock.patch.object(sys, "path", [str(DOCS / "_ext"), *sys.path]):
        yield importlib.import_module("reference").pages()


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module: str, reference: list[Any]) -> None:
    namespace = importlib.import_module(module)
    listed = {id(value) for page in reference for _, value in page.names}
    text = "".join(page.above for page in reference)
    public = {name: getattr(namespace, name) for name in dir(namespace) if not name.startswith("_")}
    ours = {name: value for name, value in public.items() if getattr(value, "__module__", "").startswith("tensorlite")}
    assert [name for name, value in ours.items() if callable(value) and id(value) not in listed] == []
    dtypes = [name for name, value in public.items() if isinstance(value, tl.dtypes.DType)]
    assert [name for name in dtypes if f"`tl.{name}`" not in text] == []


def test_what_is_loaded_on_first_use_is_in_the_reference(reference: list[Any]) -> None:
    listed = {name for page in reference for name, _ in page.names}
    lazy = {name for name in tl._LAZY if not isinstance(getattr(tl, name), ModuleType)}
    assert lazy - {name.removeprefix("tl.") for name in listed} == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page_of_an_example_quotes_it(example: str) -> None:
    """Its blocks without prompts are lines of the program, perhaps less indented; of its imports there may be fewer."""
    program = (ROOT / f"examples/{example}.py").read_text(encoding="utf-8")
    python = [block for block in blocks(DOCS / f"examples/{example}.md") if block.language == "python"]
    quoted = [block for block in python if ">>>" not in block.text]
    assert quoted
    for block in quoted:
        text = block.text if block.text in program else textwrap.indent(block.text, "    ", bool)
        lines = block.text.split("\n")
        only_imports = all(not line or (line.startswith(("import ", "from ")) and line in program) for line in lines)
        assert only_imports or text in program, f"line {block.line}: {example}.py has other lines now:\n{block.text}"


def test_what_a_diff_adds_stands_in_its_file() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "diff":
                first, *lines = block.text.splitlines()
                text = (ROOT / first.removeprefix("--- ")).read_text(encoding="utf-8")
                for hunk in re.split(r"^@@.*\n", "\n".join(lines), flags=re.MULTILINE):
                    added = re.sub(r"^\+", "", hunk.rstrip("\n"), flags=re.MULTILINE)
                    assert f"\n{added}\n" in text, (
                        f"{page.name}, line {block.line}: {first[4:]} has other lines now; bring the block on the page "
                        f"up to date:\n{added}")


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", running_text(page)):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_paths_in_running_text_exist() -> None:
    folders = "tensorlite|tests|examples|benchmarks|docs|kernels|tools"
    for page in PAGES:
        for path in re.findall(rf"`((?:{folders})/[\w/.]*)`", running_text(page)):
            assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_layout_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for path in (ROOT / "tensorlite").iterdir():
        if path.suffix == ".py" or (path / "__init__.py").exists():
            assert re.search(rf"\b{path.stem}\b", text), f"docs/architecture.md does not mention {path.name}"
