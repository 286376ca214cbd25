"""Links from the pages to files of the repository, as they work where the pages are read as files.

`[examples/mnist.py](../examples/mnist.py)` becomes a link to a page of the site that shows the file, coloured, with its
path as title; one to the README is the site's first page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
LANGUAGES = {".py": "python", ".cu": "c++", ".cuh": "c++", ".h": "c++", ".cpp": "c++", ".toml": "toml", ".json": "json"}
LINK = re.compile(r"\]\(((?:\.\./)+[\w./-]+?)(#[\w-]+)?\)")


def file_of(page: Path, link: str) -> Path | None:
    """The file to which a page links, unless it is one of the site."""
    path = (page.parent / link).resolve()
    return path if path.is_file() and DOCS not in path.parents else None


def page_of(file: Path) -> str:
    """The document that shows a file."""
    return "source/" + re.sub(r"[^\w]+", "-", file.relative_to(ROOT).as_posix())


def write_pages(app: Sphinx) -> None:
    """A page for each file to which some page links."""
    (DOCS / "source").mkdir(exist_ok=True)
    for page in [*DOCS.glob("*.md"), *(DOCS / "examples").glob("*.md")]:
        links = {match[1] for match in LINK.finditer(page.read_text(encoding="utf-8"))}
        for file in {file_of(page, link) for link in links} - {None, ROOT / "README.md"}:
            text, title = file.read_text(encoding="utf-8").rstrip(), file.relative_to(ROOT).as_posix()
            head = f"---\norphan: true\n---\n\n# {title}\n\n````{{code-block}} {LANGUAGES.get(file.suffix, 'text')}"
            put(DOCS / f"{page_of(file)}.md", f"{head}\n:linenos:\n\n{text}\n````\n")


def put(path: Path, text: str) -> None:
    """Write a file, unless it has that text already: Sphinx then reads it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def lead_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn the links of a page into links to those pages."""
    page = DOCS / f"{name}.md"

    def target(match: re.Match[str]) -> str:
        path, anchor = (page.parent / match[1]).resolve(), match[2] or ""
        if path == ROOT / "README.md":
            return f"](/index.md{anchor})"
        if path.exists() and DOCS in [path, *path.parents]:
            return match[0]
        return f"](/{page_of(path)}.md)" if path.is_file() else "](/index.md)"

    source[0] = LINK.sub(target, source[0]).replace("\n\n```\n", "\n```\n")  # no empty line at the end of a doctest


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", lead_to_pages)
    return {"parallel_read_safe": True}
