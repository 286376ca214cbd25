"""One recording of a step, for one signature: the program, and what is to be done around each run of it.

A replay must leave everything as the step itself would have: results handed out, `.grad` set, versions counted. And it
must notice where it would compute something else than the step: a gradient that is there now and was not then, memory
that a tensor no longer has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.tape import Node, wrap
from ..backends import Array, Backend, recording
from ..backends.recording_memory import root
from ..errors import CaptureError, DeviceError
from ..optim import Optimizer
from ..optim.recorded import Rates
from ..tensor import Tensor
from .results import Gradients, Results
from .surroundings import Surroundings
from .trees import flatten, unflatten


class Recorded:
    """A step recorded for arguments of one signature.

    Making one runs the step once, recording. Raises CaptureError where a replay could not repeat it.
    """

    def __init__(self, name: str, function: Callable[..., Any], leaves: Sequence[Any], structure: Any,
                 backend: Backend, surroundings: Surroundings) -> None:
        self.name = name
        self.replays = 0
        self.surroundings = surroundings
        self._backend = backend
        tensors = {place: leaf for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        self._inputs = [(place, _static(name, place, leaf, backend)) for place, leaf in tensors.items()]
        self._objects = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]  # kept: the signature has their ids
        self._recorder = backend.recorder()
        arguments = list(leaves)
        statics = []
        for place, array in self._inputs:
            backend.run("copy", array, leaves[place].array)
            arguments[place] = wrap(array, backend)
            arguments[place]._shared_version()  # counts changes in place
            statics.append(arguments[place])
        seen = [leaf._shared_version()[0] for leaf in tensors.values()]
        results = self._record(function, arguments, structure)
        for place, (leaf, before) in enumerate(zip(tensors.values(), seen, strict=True)):
            self._refuse_changed_argument(place, leaf._shared_version()[0] != before, statics[place])
        self._recorder.forget_own_leaves()
        self.first_result = self._finish(results)

    def _record(self, function: Callable[..., Any], arguments: list[Any], structure: Any) -> list[Array]:
        """Run the step. Returns the memory of its results; nothing else that it made is held afterwards."""
        recorder = self._recorder
        self._copies = 0
        for value in (*arguments, *self.surroundings.values):
            if isinstance(value, Optimizer):
                recorder.at_end(Rates(value).check)
        with recorder:
            args, kwargs = unflatten(arguments, structure)
            leaves, self._structure = flatten(function(*args, **kwargs))
            leaves = [self._apart(leaf) for leaf in leaves]
        for callback in recorder.end_callbacks:
            callback()
        self.surroundings.check(self.name)
        self._places = [i for i, leaf in enumerate(leaves)
                        if isinstance(leaf, Tensor) and recorder.owns(leaf.array)]
        self._leaves = [None if i in self._places else leaf for i, leaf in enumerate(leaves)]
        return [recorder.keep(leaves[i].array) for i in self._places]

    def _finish(self, results: list[Array]) -> Any:
        recorder = self._recorder
        self.program = recorder.finish()
        recorder.refuse_kept_memory()
        if self.program.kernels == self._copies:
            raise CaptureError(f"'{self.name}' does nothing on device '{self._backend.device}': there is nothing to "
                               "replay; give it an argument on the device where it computes, or name it with device=")
        self._gradients = Gradients(self.name, recorder.written_grads, recorder.owns)
        recording.watch(recorder)
        self._results = Results(self.name, results, self._backend)
        return self._hand_out()

    def replay(self, leaves: Sequence[Any]) -> Any:
        """Run the step again with other arguments of the same signature."""
        for leaf, then in self._recorder.read_grads.items():
            if leaf._grad is not (None if then is None else then()) or (leaf._grad is None) is not (then is None):
                raise CaptureError(_grad_message(self.name, leaf, then))
        arrays = self._results.apart([leaves[place].array for place, _ in self._inputs])
        self._results.retract()
        self._gradients.retract()
        run = self._backend.run
        for (_, static), array in zip(self._inputs, arrays, strict=True):
            run("copy", static, array)
        self.program.run()
        self._recorder.count_changes()
        self._gradients.give()
        self.replays += 1
        return self._hand_out()

    def outdated(self) -> str | None:
        """Why the recording must be made anew, if so. Brings numbers of the day to the device."""
        for callback in self._recorder.callbacks:
            callback()
        return self._recorder.outdated

    def _hand_out(self) -> Any:
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, self._results.give(), strict=True):
            leaves[place] = tensor
        return unflatten(leaves, self._structure)

    def _apart(self, leaf: Any) -> Any:
        """A checked result of the step; one that lies in the memory of an argument is copied out of it."""
        self._check_result(leaf)
        if isinstance(leaf, Tensor):
            whole = root(leaf.array)
            if any(whole is root(array) for _, array in self._inputs):
                self._copies += 1
                return wrap(self._backend.copy(leaf.array), self._backend)
        return leaf

    # --- what is refused -------------------------------------------------------------------------------------------

    def _check_result(self, leaf: Any) -> None:
        if not isinstance(leaf, Tensor):
            return
        if leaf.backend is not self._backend:
            raise DeviceError(f"captured step '{self.name}': a result is on device '{leaf.backend.device}', the step "
                              f"was recorded on '{self._backend.device}'; return it from there")
        if leaf._node is not None and _is_waiting_for_backward(leaf._node):
            raise CaptureError(
                f"captured step '{self.name}' returns a tensor of shape {tuple(leaf.array.shape)} whose graph still "
                "waits for backward(), and a replay makes no graph. Call backward() inside the step, compute under "
                "tl.no_grad(), or return .detach()")

    def _refuse_changed_argument(self, place: int, is_changed: bool, static: Tensor) -> None:
        """Raise CaptureError for a tensor argument of which replays would not do with a copy."""
        if static._requires_grad:
            raise CaptureError(
                f"captured step '{self.name}' asks for gradients of its tensor argument {place}, of which replays "
                "have a copy only. Begin with x = x.detach().requires_grad_(), and return x.grad")
        if static._shared_version()[0]:
            raise CaptureError(
                f"captured step '{self.name}' changes its tensor argument {place} in place: replays work on a copy "
                "of it, so yours would stay as it is. Let the step use it by name instead of as an argument")
        if is_changed:
            raise CaptureError(
                f"captured step '{self.name}' changes memory that its tensor argument {place} shares: replays work on "
                "a copy from before the step. Pass a .clone(), or let the step use the tensor by name")


def _static(name: str, place: int, leaf: Tensor, backend: Backend) -> Array:
    """The memory into which an argument is copied before each replay."""
    if leaf.backend is not backend:
        raise DeviceError(f"captured step '{name}': tensor argument {place} is on device '{leaf.backend.device}', the "
                          f"others on '{backend.device}'; move it with .to('{backend.device}')")
    if leaf._requires_grad:
        raise CaptureError(f"captured step '{name}': tensor argument {place} requires grad, but replays work on a copy "
                           "of it. Pass .detach(), or let the step use the tensor by name")
    return _with_strides_of(leaf.array, backend)


def _with_strides_of(array: Array, backend: Backend) -> Array:
    """New memory with the strides of an array, on which it depends in which order kernels add up.

    Row-major where elements share memory or lie in no such order: there, results may differ in the last place.
    """
    plain = backend.empty(array.shape, array.dtype)
    if plain.strides == array.strides or not array.size:
        return plain
    order = sorted(range(array.ndim), key=lambda i: (-array.strides[i], -array.shape[i]))
    *outer, size = [array.shape[i] for i in order]
    *steps, step = [array.strides[i] // array.itemsize for i in order]
    length = (size - 1) * step + 1  # of a row, of which each element that is a step on is taken
    width = steps[-1] if steps else length
    pairs = list(itertools.pairwise(steps))
    room = [above // max(below, 1) for above, below in pairs]  # of which the first few are taken
    if step < 1 or length > width or any(above != below * wide or wide < few for (above, below), wide, few in zip(
            pairs, room, outer[1:], strict=True)):
        return plain
    memory = backend.empty((*outer[:1], *room, width), array.dtype)
    taken = memory[(..., *[slice(few) for few in outer[1:]], slice(0, length, step))]
    return taken.transpose(sorted(range(array.ndim), key=order.__getitem__))


def _is_waiting_for_backward(node: Node) -> bool:
    """Whether a node of the graph still holds what backward needs."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.saved:
            return True
        stack.extend(parent for parent in node.parents if isinstance(parent, Node))
    return False


def _grad_message(step: str, leaf: Any, then: Any) -> str:
    def said(grad: Any) -> str:
        return "None" if grad is None else "a tensor"

    change = "another tensor" if then is not None and leaf._grad is not None else said(leaf._grad)
    return (f"captured step '{step}': when it was recorded, .grad of a tensor of shape {tuple(leaf.shape)} was "
            f"{said(then)} before the step, and is now {change}, which would change what the step does. Call "
            "zero_grad() inside the step before backward(), or always in the same way before it")
