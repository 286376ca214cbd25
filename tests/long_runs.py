"""How often a test repeats what it does: a little in each run of the tests, more for figures that are published.

    TENSORLITE_TEST_LONG=1 python -m pytest tests/test_checkpoint_faults.py -k kill

docs/reliability.md has what such runs counted.
"""

from __future__ import annotations

import os

LONG = os.environ.get("TENSORLITE_TEST_LONG") == "1"


def count(usual: int, long: int) -> int:
    """One of the two."""
    return long if LONG else usual
