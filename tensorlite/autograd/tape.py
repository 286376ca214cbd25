"""The tape: what a recorded operation remembers.

`Var` is a raw array on a device with a place in the graph; `tensor.Tensor` adds everything a user sees.
`Node` is one recorded operation. Nodes point to their parents and to raw arrays, never to the Var that holds their
result, so there is no reference cycle and a graph dies by reference counts alone. The running number `seq` of a
node is larger than its parents': descending `seq` is the order of backward, with no sorting pass.

    tensor._node ──► Node(mul) ──► Node(exp) ──► leaf Var
                       │ saved: raw arrays, each with the version it had
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backends import Array, Backend, recording
from ..errors import GradError

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .op import Op, Plan

_sequence = itertools.count()


# How often the memory of a storage was changed in place: one number in a list, the same list for all tensors that
# share the storage. A list, because two are made per recorded operation and a class would take five times as long.
Version = list[int]

Saved = tuple[Array, Version, int]  # a raw array kept for backward, its version counter, and the count when it was kept


def save(x: Var) -> Saved:
    """x's array, with the version it has now."""
    version = x._shared_version()
    return x.array, version, version[0]


def intact(saved: Saved, op: str, name: str) -> Array:
    """The saved array, if its memory still holds what was saved. Raises GradError otherwise."""
    array, version, seen = saved
    if version[0] != seen:
        what = "its result" if name == "out" else f"its input '{name}'"
        raise GradError(
            f"{op}: a tensor needed for its gradient was modified by an in-place operation: {what} of shape "
            f"{tuple(array.shape)} is at version {version[0]}, expected version {seen}. "
            "Change a .clone() of it, or use the out-of-place operation"
        )
    return array


# How a view came from its root: the way to its source, and the operation that made it of that. Linked, for in a long
# chain of views a list per view would take quadratic room.
Replay = tuple[Any, "Op", dict[str, Any]] | None


class Seen(NamedTuple):
    """What an operation was given and what it gave, kept where a user asked to see it."""

    result: Saved
    inputs: tuple[Any, ...]  # Saved, or a number as it came
    modules: tuple[tuple[str, str], ...]  # the modules that were being called, outermost first: path, and what it is


class Node:
    """One recorded operation.

    op        the Op, whose rules give the gradients
    parents   per input: the Node that made it, the leaf Var itself, or None where no gradient flows
    metas     per input: shape and dtype, to which its gradient is brought
    saved     name -> Saved, or number, for the names that the needed rules ask for; None once freed
    params    the keyword parameters of the call
    plan      which rules of the op to run, and what they ask for
    """

    hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
    retained: weakref.ref[Var] | None = None  # the tensor that wants this node's gradient in its .grad
    trace: str | None = None  # the user's source line, under detect_anomaly and tl.tape()
    check_nan: bool = False  # whether backward stops at a NaN that this node makes
    module: str = ""  # the path of the module that recorded it, where a profile or tl.tape() looked on
    seen: Seen | None = None  # the values, where tl.tape() looked on

    def __init__(self, op: Op, parents: tuple[Node | Var | None, ...], metas: tuple[Any, ...],
                 saved: dict[str, Any], params: dict[str, Any], plan: Plan | None = None) -> None:
        self.op = op
        self.plan = plan
        self.parents = parents
        self.metas = metas
        self.saved: dict[str, Any] | None = saved
        self.params = params
        self.seq = next(_sequence)

    def name(self) -> str:
        """'MulBackward0', as PyTorch would call it."""
        return "".join(part.capitalize() for part in self.op.name.split("_")) + "Backward0"

    @property
    def next_functions(self) -> tuple[tuple[Node | Var | None, int], ...]:
        """The nodes (or leaf tensors) to which this one sends gradients, each with output number 0."""
        return tuple((parent, 0) for parent in self.parents)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def retain(self, tensor: Var) -> None:
        """Store the gradient that arrives here in `tensor.grad` too, as long as the tensor lives."""
        self.retained = weakref.ref(tensor)

    def free(self) -> None:
        """Let go of the saved values. A node that saved nothing can be walked again, as in PyTorch."""
        if self.saved:
            self.saved = None


_tensor_class: type[Tensor]


def set_tensor_class(cls: type[Tensor]) -> None:
    """Tell the tape which class the results of operations have; called once, by tensor.py."""
    global _tensor_class
    _tensor_class = cls


def wrap(array: Array, backend: Backend) -> Tensor:
    """A Tensor that holds a raw array and does not require grad."""
    result = object.__new__(_tensor_class)
    result.array = array
    result.backend = backend
    return result


class Var:
    """A raw array on a device, with its place in the graph. Defaults stand in the class to keep creation cheap.

    A view made by a recorded view operation keeps its root (`_base`) and the operations that lead to it
    (`_replay`), so that after an in-place change anywhere in the shared memory its history can be made anew.
    """

    array: Array
    backend: Backend
    _requires_grad: bool = False
    _grad: Tensor | None = None
    _node: Node | None = None
    _version: Version | None = None
    _hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
    _base: Var | None = None
    _replay: Replay = None
    _generation: int = 0  # of a root: recorded in-place changes so far; of a view: those its node knows of
    _frozen_view: bool = False  # a view whose history cannot be made anew: see op.refuse_frozen

    def _shared_version(self) -> Version:
        version = self._version
        if version is None:
            version = self._version = [0]
        return version

    def _bump(self) -> None:
        """Say that the memory was changed in place; a backward that needs the old contents will refuse."""
        if self._version is not None:  # else nothing was saved of it, and nothing shares it
            self._version[0] += 1
        if recording.active is not None and (recorder := recording.here()) is not None:
            recorder.note_change(self)

    def _take_node(self, node: Node | None) -> None:
        """Have another history from now on; `retain_grad` moves along, as in PyTorch."""
        old = self._node
        self._node, self._requires_grad = node, node is not None
        if old is not None and old.retained is not None and old.retained() is self:
            old.retained = None
            if node is not None:
                node.retain(self)

    def _set(self, other: Var) -> None:
        """Hold another tensor's array and device from now on, keeping identity and grad settings."""
        self._require_leaf("_set")
        recording.replaced(self.array)
        self.array = other.array
        self.backend = other.backend
        self._version = other._shared_version()
        self._base, self._replay = None, None

    def _require_leaf(self, what: str) -> None:
        if self._node is not None:
            raise GradError(f"{what}: only a leaf tensor can do this; use .detach() first")
