"""Automatic differentiation: a tape of operations, walked backwards.

tape.py what is recorded; op.py how an operation becomes differentiable; engine.py backward and grad; mode.py when
to record; function.py operations of the user's own; functional.py Jacobians. The engine knows no operation, the
operations know no engine.
"""

from . import functional as functional
from .engine import backward as backward
from .engine import grad as grad
from .function import Function as Function
from .function import checkpoint as checkpoint
from .mode import detect_anomaly as detect_anomaly
from .mode import enable_grad as enable_grad
from .mode import inference_mode as inference_mode
from .mode import is_grad_enabled as is_grad_enabled
from .mode import no_grad as no_grad
from .mode import set_grad_enabled as set_grad_enabled
