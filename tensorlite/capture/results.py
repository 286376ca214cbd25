"""Results of a captured step: tensors over memory that each replay fills anew.

Contract. `Results` hands out fresh tensors over the same memory after each replay. Those that it handed out before are
then overwritten: `retract`, called before a replay, turns each into an `OverwrittenTensor`, whose every use raises, and
refuses to go on while something else (a `.detach()`, a slice, `.numpy()`) still looks at that memory.
`Gradients` sets `.grad` after each replay; tensors that were in it before, and are still held, are overwritten too.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ..autograd.tape import Var, wrap
from ..backends import Array, Backend
from ..errors import CaptureError
from ..tensor import Tensor


class OverwrittenTensor(Tensor):
    """A result of an earlier call, whose memory holds the result of a later one."""

    @property
    def array(self) -> NoReturn:
        step = vars(self)["captured_step"]
        raise CaptureError(f"this tensor was returned, or left in .grad, by an earlier call of the captured step "
                           f"'{step}', and a later call has overwritten it; keep a .clone() of what is needed longer")


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


class Gradients:
    """The `.grad` that a replay leaves in tensors. Those in its own memory are overwritten by the next one."""

    def __init__(self, step: str, leaves: Iterable[Var], owns: Callable[[Array], bool]) -> None:
        self._step = step
        self._kept = [(leaf, leaf._grad) for leaf in leaves if leaf._grad is None or not owns(leaf._grad.array)]
        self._leaves = [leaf for leaf in leaves if leaf._grad is not None and owns(leaf._grad.array)]
        self._tensors: list[Tensor] = [leaf._grad for leaf in self._leaves if leaf._grad is not None]

    def give(self) -> None:
        """Set them."""
        for leaf, gradient in zip(self._leaves, self._tensors, strict=True):
            leaf._grad = gradient
        for leaf, known in self._kept:
            leaf._grad = known

    def retract(self) -> None:
        """Make those unusable that something but its leaf holds, and use new tensors from here on."""
        if max(_references(self._tensors), default=0) <= _HELD_BY_LEAF:
            return
        for i, references in enumerate(_references(self._tensors)):
            if references > _HELD_BY_LEAF:
                held, leaf = self._tensors[i], self._leaves[i]
                fresh = self._tensors[i] = held.detach()
                if leaf._grad is held:
                    leaf._grad = fresh
                _overwrite(held, self._step)


def _references(things: list[Any]) -> list[int]:
    """How often each thing is held; views of an array hold it."""
    return [sys.getrefcount(thing) for thing in things]


def _references_held_by_leaf() -> int:
    """Those to a gradient that only its leaf and a list hold."""
    gradients = [object()]
    leaf = {"grad": gradients[0]}
    return _references(gradients)[0] if leaf else 0


_HELD_BY_LEAF = _references_held_by_leaf()


def _overwrite(tensor: Tensor, step: str) -> None:
    attributes: dict[str, Any] = vars(tensor)
    attributes.pop("array")
    attributes["captured_step"] = step
    tensor.__class__ = OverwrittenTensor
