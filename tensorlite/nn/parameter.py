"""Parameter: a leaf tensor that a Module finds by itself."""

from __future__ import annotations

from typing import Any

from ..creation import as_tensor, empty
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that is to be trained: it requires grad, and a Module that holds it lists it in `parameters()`.

    Shares the memory of `data` (any floating tensor, or what `tl.as_tensor` takes).

    >>> nn.Parameter(tl.zeros(2))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        source = empty(0) if data is None else as_tensor(data)
        self.array = source.array
        self.backend = source.backend
        self._version = source._shared_version()
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        copied: Parameter = memo[id(self)]
        return copied
