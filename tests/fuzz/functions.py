"""The whole table of functions: each public function by name, with what draws a call of it."""

from __future__ import annotations

from fuzz import functions_elementwise, functions_more, functions_nn, functions_reduce, functions_shape
from fuzz.table import ROWS

FAMILIES = (functions_elementwise, functions_more, functions_nn, functions_reduce, functions_shape)
NAMES = tuple(sorted(ROWS))
