"""Names that a torch script may call while it runs here, though they change nothing: with `--run` alone, not in `tl`.

Each is a switch of how torch computes, or a wrapper whose result may be what it was given. Nothing that a program's
numbers depend on belongs here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..tensor import Tensor


def compiled(model: Any = None, **options: Any) -> Any:
    """torch.compile: the function or module itself; without one, a decorator."""
    return same if model is None else model


def same(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a decorator is put on."""
    return function


def variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """torch.autograd.Variable: the tensor itself, required to have a gradient if so."""
    return data.requires_grad_() if requires_grad else data


def no() -> bool:
    """Whether there is a library or device that there never is."""
    return False


def switched(*args: Any, **options: Any) -> None:
    """A switch of what is the same always."""


STAND_INS: Final[dict[str, Any]] = {
    "torch.autograd.Variable": variable,
    "torch.backends.cuda.matmul.allow_tf32": False,
    "torch.backends.cudnn.allow_tf32": False,
    "torch.backends.cudnn.benchmark": False,
    "torch.backends.cudnn.deterministic": True,
    "torch.backends.cudnn.enabled": False,
    "torch.backends.cudnn.is_available": no,
    "torch.backends.mps.is_available": no,
    "torch.backends.mps.is_built": no,
    "torch.compile": compiled,
    "torch.nn.parallel": None,
    "torch.set_num_threads": switched,
    "torch.use_deterministic_algorithms": switched,
}


def stands_in(path: str) -> bool:
    """Whether a path is one of these names, or leads to one."""
    return path in STAND_INS or is_module(path)


def is_module(path: str) -> bool:
    """Whether a path is a module in which one of these names lies, or an empty one of these names itself."""
    inside = any(name.startswith(f"{path}.") for name in STAND_INS)
    return inside or (path in STAND_INS and STAND_INS[path] is None)
