"""Links from the pages to files of the repository, as they work where the pages are read as files.

`[examples/mnist.py](../examples/mnist.py)` becomes a link to a page of the site that shows the file, coloured, with its
path as title; one to the README is the site's first page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent.parent
LANGUAGES = {".py": "python", ".cu": "c++", ".cuh": "c++", ".h": "c++", ".cpp": "c++", ".toml": "toml", ".json": "json"}
LINK = re.compile(r"\]\(\.\./([\w./-]+?)(#[\w-]+)?\)")


def page_of(path: str) -> str:
    """The document that shows a file."""
    return "source/" + re.sub(r"[^\w]+", "-", path)


def write_pages(app: Sphinx) -> None:
    """A page for each file to which some page links."""
    folder = Path(app.srcdir) / "source"
    folder.mkdir(exist_ok=True)
    for page in Path(app.srcdir).glob("*.md"):
        for path in {match[1] for match in LINK.finditer(page.read_text(encoding="utf-8"))}:
            file = ROOT / path
            if path != "README.md" and file.is_file():
                text = file.read_text(encoding="utf-8").rstrip()
                head = f"---\norphan: true\n---\n\n# {path}\n\n````{{code-block}} {LANGUAGES.get(file.suffix, 'text')}"
                put(Path(app.srcdir) / f"{page_of(path)}.md", f"{head}\n:linenos:\n\n{text}\n````\n")


def put(path: Path, text: str) -> None:
    """Write a file, unless it has that text already: Sphinx then reads it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def lead_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn the links of a page into links to those pages."""

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if path == "README.md":
            return f"](index.md{anchor})"
        return f"]({page_of(path)}.md)" if (ROOT / path).is_file() else "](index.md)"

    source[0] = LINK.sub(target, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", lead_to_pages)
    return {"parallel_read_safe": True}
