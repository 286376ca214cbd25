"""Runs PyTorch scripts and prints what each printed, as JSON: `run_torch_scripts.py MODE script.py ...`.

MODE is "torch" (PyTorch itself), "served" (tensorlite in its place, as `python -m tensorlite.compat --run` does), or
"renamed" (tensorlite, with the import lines changed by hand: `import tensorlite as torch`).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMPORTS = (
    (r"^import torch$", "import tensorlite as torch"),
    (r"^import torch\.", "import tensorlite."),
    (r"^from torch\b", "from tensorlite"),
)


def torch_itself(script: str) -> None:
    runpy.run_path(script, run_name="__main__")


def served(script: str) -> None:
    from tensorlite import compat

    compat.run(script)


def renamed(script: str) -> None:
    source = Path(script).read_text(encoding="utf-8")
    for pattern, replacement in IMPORTS:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder, Path(script).name)
        changed.write_text(source, encoding="utf-8")
        runpy.run_path(str(changed), run_name="__main__")


def printed(run: Callable[[str], Any], script: str) -> str:
    """What a script prints; if it fails, also the last line of its traceback."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(script)
        except Exception:
            text.write(traceback.format_exc().splitlines()[-1])
    return text.getvalue()


if __name__ == "__main__":
    how = {"torch": torch_itself, "served": served, "renamed": renamed}[sys.argv[1]]
    results = {Path(script).stem: printed(how, script) for script in sys.argv[2:]}
    print(json.dumps(results))
