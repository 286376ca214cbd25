"""PyTorch scripts here: `python -m tensorlite.compat script.py` says which of torch's names a script uses, and what
becomes of each; `python -m tensorlite.compat --run script.py` runs it unchanged.

script.py which names a script uses, with kinds.py what its expressions are, and torch_names.py; places.py where these
names lie here; differences.py what differs, and what to do without what is missing; report.py the verdict; running.py
imports of torch served by tensorlite, with stand_ins.py and served_arguments.py.
"""

from __future__ import annotations

from .report import Report as Report
from .report import Row as Row
from .report import check as check
from .report import judge as judge
from .running import run as run
from .running import serving as serving
from .script import Use as Use
from .script import uses as uses
