"""README and docs tell the truth: ```python blocks run, ```diff blocks stand in their files, paths exist.

The blocks of a page run in order and share their names. A block with `>>>` is a doctest, another one is executed.
"""

from __future__ import annotations

import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import backends, nn, optim
from tensorlite.backends import cpu

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
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


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "adding_a_backend"], ids=lambda p: p.name)
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
