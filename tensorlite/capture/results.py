"""Results of a captured step: tensors over memory that each replay fills anew.

Contract. `Results` hands out fresh tensors over the same memory after each replay. Those that it handed out before are
then overwritten: `retract`, called before a replay, turns each into an `OverwrittenTensor`, whose every use raises, and
refuses to go on while something else (a `.detach()`, a slice, `.numpy()`) still looks at that memory.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, NoReturn

from ..autograd.tape import wrap
from ..backends import Array, Backend
from ..errors import CaptureError
from ..tensor import Tensor


class OverwrittenTensor(Tensor):
    """A result of an earlier call, whose memory holds the result of a later one."""

    @property
    def array(self) -> NoReturn:
        step = vars(self)["captured_step"]
        raise CaptureError(f"this tensor was returned by an earlier call of the captured step '{step}', and a later "
                           "call has overwritten it; keep a .clone() of what is needed longer")


class Results:
    """The memory of a step's results, and the tensors over it that are in the user's hands."""

    def __init__(self, step: str, arrays: list[Array], backend: Backend) -> None:
        self._step = step
        self._arrays = arrays
        self._backend = backend
        self._given: list[weakref.ref[Tensor]] = []
        self._holds = _references(arrays)

    def give(self) -> list[Tensor]:
        """New tensors over the memory."""
        tensors = [wrap(array[...], self._backend) for array in self._arrays]
        self._given = [weakref.ref(tensor) for tensor in tensors]
        return tensors

    def apart(self, arrays: list[Array]) -> list[Array]:
        """Arguments of the next call; those that are results of the last one are copied out of its way."""
        given = [tensor.array for reference in self._given if (tensor := reference()) is not None]
        if not given:
            return arrays
        return [self._backend.copy(array) if any(array is one for one in given) else array for array in arrays]

    def retract(self) -> None:
        """Make tensors that were given before unusable. Raises CaptureError while views of them are held."""
        for given in self._given:
            tensor = given()
            if tensor is not None:
                _overwrite(tensor, self._step)
        for array, now, alone in zip(self._arrays, _references(self._arrays), self._holds, strict=True):
            if now > alone:
                raise CaptureError(
                    f"the captured step '{self._step}' would overwrite a result of shape {tuple(array.shape)} of its "
                    "last call, and something that shares its memory is still held, such as a .detach(), a slice or "
                    "a .numpy() of it, perhaps as an argument; use a .clone() instead")


def _references(arrays: list[Array]) -> list[int]:
    """How often each array is held; views of an array hold it."""
    return [sys.getrefcount(array) for array in arrays]


def _overwrite(tensor: Tensor, step: str) -> None:
    attributes: dict[str, Any] = vars(tensor)
    attributes.pop("array")
    attributes["captured_step"] = step
    tensor.__class__ = OverwrittenTensor
