"""The page of a tape: one HTML file that shows a graph and walks the chain rule through it, without any network.

graph.py makes the data of a tape: boxes.py (modules, repetitions), gradients.py (a backward pass), figures.py (tensors
in few numbers), explained.py and formulas.py (how each gradient is formed). page.html, page.css and the scripts are the
page, in plain JavaScript: model.js, text.js, layout.js, camera.js, drawing.js, panel.js, walk.js, page.js.

Contract. Strings of the tape (names, source lines, paths) reach the page as JSON in which no character of HTML's own
stands, and the scripts put them in as text only. The page's policy lets the browser run these scripts and no other.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import Tape
from .graph import page_data

if TYPE_CHECKING:
    from ...tensor import Tensor

SCRIPTS = ("text", "model", "layout", "camera", "drawing", "panel", "walk", "page")
_FOLDER = Path(__file__).parent


def write(tape: Tape, path: str | PathLike[str], gradient: Tensor | None = None) -> None:
    """Write the page of a tape to a file."""
    Path(path).write_text(page(page_data(tape, gradient)), encoding="utf-8", newline="\n")


def page(data: dict[str, Any]) -> str:
    """The page for the data of a tape."""
    style, script = _style(), _script()
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    filled = {"title": html.escape(data["title"]), "policy": policy, "style": style, "script": script, "data": text}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _read("page.html"))


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _style() -> str:
    return _read("page.css")


@functools.cache
def _script() -> str:
    scripts = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{scripts}\n}})();\n'


def _hash(text: str) -> str:
    """What a policy calls an inline script or style of exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
