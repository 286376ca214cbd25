"""The texts in the package: what they are, how they were made, damaged files."""

from __future__ import annotations

import gzip
import runpy
import shutil
from pathlib import Path

import pytest

import tensorlite as tl
from tensorlite.data import texts
from tensorlite.errors import ArgumentError, FileFormatError

TOOL = Path(__file__).parent.parent / "tools" / "make_texts.py"


@pytest.mark.parametrize(
    ("name", "count", "begin", "end"),
    [
        ("alice", 148379, "                ALICE'S ADVENTURES IN WONDERLAND\n", "the happy summer days.\n\n"),
        ("as_you_like_it", 122927, "ACT I\n\nSCENE I. Orchard of Oliver's house.\n", "bid me farewell.\n\n[Exeunt]\n"),
    ],
)
def test_texts(name: str, count: int, begin: str, end: str) -> None:
    text = tl.data.load_text(name)
    assert len(text) == count and text.startswith(begin) and end in text[-100:]
    assert text.isascii() and set(text) - {"\n"} == {c for c in text if c.isprintable()}
    assert "\n\n\n" not in text and " \n" not in text and text.endswith("\n")
    readme = (texts.FOLDER / "README.md").read_text(encoding="utf-8")
    assert texts.SHA256[name] in readme and "public domain" in readme


def test_layout_of_the_play() -> None:
    make = runpy.run_path(str(TOOL))["as_you_like_it"]
    corpus = "\tLIST\n\nA\tone.\n\nACT I\n\n\n\nSCENE I\tA house. \n\nJO\tWords:\n\tmore, and\ttabs.\n\n\t[Exit]\n"
    assert make(corpus) == "ACT I\n\nSCENE I. A house.\n\nJO:\nWords:\nmore, and tabs.\n\n[Exit]\n"


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="no text 'bible'; there are alice, as_you_like_it"):
        tl.data.load_text("bible")
    shutil.copytree(texts.FOLDER, tmp_path / "texts")
    monkeypatch.setattr(texts, "FOLDER", tmp_path / "texts")
    path = tmp_path / "texts" / "alice.txt.gz"
    whole = path.read_bytes()
    for data, match in (
        (b"Alice", "damaged"),
        (whole[:-20], "damaged"),
        (whole[:3000] + b"\0" + whole[3001:], "damaged"),
        (gzip.compress(b"Alice"), "SHA-256"),
    ):
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=f"alice.txt.gz: .*{match}.*; reinstall tensorlite"):
            tl.data.load_text()
