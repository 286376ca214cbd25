"""The command: reports on scripts, or with --run, a script's own output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from .report import DIFFERENT, MISSING, SAME, Report, check
from .running import run

_TEXT = """\
Says which of torch's names scripts use, and what becomes of each in tensorlite: same, different (and how) or missing
(and what to do instead). The scripts do not run. The exit status is 1 where something is missing for certain, and
2 where a script cannot be read; methods that are known by their names alone are listed apart, and count with
--strict."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    listed = sys.argv[1:] if arguments is None else list(arguments)
    if listed[:1] == ["--run"] and len(listed) > 1:
        run(listed[1], listed[2:])
        return 0
    parser = argparse.ArgumentParser("python -m tensorlite.compat", description=_TEXT,
                                     epilog="--run script.py [arguments] runs a script, with torch's imports served by "
                                            "tensorlite in that process.")
    parser.add_argument("scripts", nargs="+", metavar="script.py")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    parser.add_argument("--strict", action="store_true", help="let guesses count")
    options = parser.parse_args(listed)
    try:
        reports = [check(path) for path in options.scripts]
    except (OSError, SyntaxError, ValueError) as error:  # no file, or no Python
        parser.error(str(error))
    if options.json:
        print(json.dumps([report.as_dict() for report in reports], indent=2))
    else:
        print("\n\n".join([*map(str, reports), totals(reports)]))
    return int(any(not report.is_complete or (options.strict and report.count(MISSING)) for report in reports))


def totals(reports: Sequence[Report]) -> str:
    """One line for all scripts together; a name that several use counts once."""
    status = {row.name: row.status for report in reports for row in report.rows}
    counts = ", ".join(f"{list(status.values()).count(each)} {each}" for each in (SAME, DIFFERENT, MISSING))
    works = sum(each != MISSING for each in status.values())
    return f"{len(status)} names of torch: {counts}; {works / max(len(status), 1):.1%} work"


if __name__ == "__main__":
    sys.exit(main())
