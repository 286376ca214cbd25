"""Make the texts that the package carries from two files of the Canterbury corpus.

    python tools/make_texts.py FOLDER_WITH_THE_CORPUS [OUTPUT_FOLDER]

Nothing is rewritten, only the layout: line ends and blank lines become uniform, the note on the edition and the list of
characters are left out, and the play's speakers stand on lines of their own. Any run prints the digests that
`tensorlite/data/texts.py` expects. (They are of the uncompressed texts: the compressed bytes may differ with another
version of zlib.)
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
from pathlib import Path

from tensorlite.data.texts import FOLDER


def uniform(text: str) -> str:
    """One kind of line end, no blanks before it, one blank line at most, one line end at the end."""
    lines = [line.rstrip() for line in text.replace("\x1a", "").splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def alice(corpus: str) -> str:
    return uniform(re.sub(r"\n *THE MILLENNIUM FULCRUM EDITION.*\n", "\n", corpus))


def as_you_like_it(corpus: str) -> str:
    """From the first act on; `NAME<tab>line` becomes `NAME:` and the line, and the tabs before further lines go."""
    play = corpus[corpus.index("\nACT I\n") :]
    play = re.sub(r"^((?:ACT|SCENE) [IVX]+)\t", r"\1. ", play, flags=re.MULTILINE)
    play = re.sub(r"^([^\t\n]+)\t+", r"\1:\n", play, flags=re.MULTILINE)
    play = re.sub(r"^\t+", "", play, flags=re.MULTILINE)
    return uniform(re.sub(r"\t+", " ", play))


MAKERS = {"alice": ("alice29.txt", alice), "as_you_like_it": ("asyoulik.txt", as_you_like_it)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder with alice29.txt and asyoulik.txt")
    parser.add_argument("output", nargs="?", default=FOLDER, type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, (file, make) in MAKERS.items():
        data = make((arguments.corpus / file).read_bytes().decode("ascii").replace("\r\n", "\n")).encode("ascii")
        compressed = gzip.compress(data, compresslevel=9, mtime=0)
        (arguments.output / f"{name}.txt.gz").write_bytes(compressed)
        print(f"{hashlib.sha256(data).hexdigest()}  {name}  {len(data)} characters, {len(compressed)} bytes compressed")


if __name__ == "__main__":
    main()
