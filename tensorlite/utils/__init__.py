"""PyTorch's paths to what lies elsewhere here: `tl.utils.data` is `tl.data`, `tl.utils.checkpoint` has `checkpoint`."""

from __future__ import annotations

import sys

from .. import data as data
from . import checkpoint as checkpoint

sys.modules[f"{__name__}.data"] = data  # for `from tensorlite.utils.data import DataLoader`
