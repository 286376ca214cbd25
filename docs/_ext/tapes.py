"""The pages of tapes that `tools/make_tape_pictures.py` makes, alive in the site.

Where pages are read as files, `![...](images/tape_n3.png)` on a line of its own is a picture of the network N3. In the
site it becomes the page itself, in a frame; the pictures of the other networks lead to theirs.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tools"))

from make_tape_pictures import NETWORKS  # noqa: E402

PICTURE = re.compile(r"^!\[(.*)\]\(images/tape_(n\d)\.png\)$", re.MULTILINE)
FRAMED = "n3"  # the one on whose numbers the text goes on


def show(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the live pages, or links to them, in the place of their pictures."""

    def live(match: re.Match[str]) -> str:
        text, network = match.groups()
        page = f"tapes/{network}.html"
        if network != FRAMED:
            return f"```{{image}} images/tape_{network}.png\n:target: {page}\n:alt: {text}\n```"
        frame = f'<iframe class="tape" src="{page}" title="{html.escape(text)}" loading="lazy"></iframe>'
        return f'```{{raw}} html\n{frame}\n<p class="tape"><a href="{page}">The same page alone</a></p>\n```'

    source[0] = PICTURE.sub(live, source[0])


def write_pages(app: Sphinx, error: Exception | None) -> None:
    """Run the networks, and write their pages beside those of the site."""
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir) / "tapes"
        folder.mkdir(exist_ok=True)
        for name, network in NETWORKS.items():
            network().to_html(folder / f"{name}.html")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", show)
    app.connect("build-finished", write_pages)
    return {"parallel_read_safe": True}
