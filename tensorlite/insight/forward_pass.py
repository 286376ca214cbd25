"""One forward pass, looked at: what each module took and gave, what its kernels computed, what waits for backward.

Contract. `ForwardPass(model, ...)` calls the model once, recorded, on stand-ins of what its modules hold besides
Parameters: each module gets another `__dict__` for the time of the call, in which buffers, lists and dicts are copies,
and then its own back, which was never touched. The random state is put back too. So the model is bit for bit as before,
also if the call fails; only what a forward pass changes inside of objects that are none of these stays changed. Nothing
but the model's modules and the observers of devices is involved; kernels of other threads are not counted.
"""

from __future__ import annotations

import contextvars
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .. import random
from ..autograd import tape
from ..autograd.mode import grad_enabled
from ..autograd.tape import Node, Var
from ..backends import Array, Backend, loaded, recording
from ..backends.recording_memory import is_whole, root
from ..capture.step import Captured
from ..capture.trees import flatten
from ..errors import GradError
from ..nn import Module
from ..nn.hooks import Hooks
from ..nn.parameter import Parameter
from ..random import Generator
from ..tensor import Tensor
from . import costs
from .nodes import ancestors

Shapes = tuple[tuple[int, ...], ...]


class Visit:
    """What one module did in the pass.

    calls            how often it was called
    inputs, outputs  shapes of the tensors of its first call
    flops, saved     floating-point operations of products, and bytes kept for backward, its submodules' left out
    """

    def __init__(self) -> None:
        self.calls = self.flops = self.saved = 0
        self.inputs: Shapes = ()
        self.outputs: Shapes = ()


class ForwardPass:
    """The call of a model.

    result   what it returned
    visits   name of a module, "" for the model -> Visit
    inputs   the tensors that it was given
    indices  by id of a block of memory: the block, and the tensor of integers among the inputs that it was made of
    filled   bytes of memory that kernels filled, each block once
    """

    def __init__(self, model: Module, args: tuple[Any, ...], kwargs: dict[str, Any], mode: str | None = None) -> None:
        recording.refuse("looking at a forward pass")
        self.inputs = tensors((args, kwargs))
        self.indices: dict[int, tuple[Array, Tensor]] = {
            id(root(x.array)): (root(x.array), x) for x in self.inputs if not x.dtype.is_floating_point}
        self.filled = 0
        self._names = {id(module): name for name, module in model.named_modules()}
        self.visits = {name: Visit() for name in self._names.values()}
        self._path: list[str] = [""]
        self._seqs, self._paths = [-1], [""]  # from a number of the tape on, the module that was called
        self._thread = threading.get_ident()
        self._blocks: dict[int, weakref.ref[Any]] = {}
        modules = list(model.modules())
        devices = {x.backend.device for x in (*model.parameters(), *model.buffers(), *self.inputs)}
        rng = random.default_states(devices)
        own = [(module, vars(module)) for module in modules]
        stand_ins = _StandIns()
        dicts = [(module, stand_ins.of_module(attributes, self._before, self._after)) for module, attributes in own]
        watched = self._watch()
        self._known = {id(root(x.array)) for x in (*model.parameters(), *stand_ins.tensors, *self.inputs)}
        try:
            _give(dicts)
            if mode is not None:
                model.train(mode == "train")
            context = contextvars.copy_context()
            context.run(grad_enabled.set, True)
            self.result = context.run(model, *args, **kwargs)
        finally:
            _give(own)
            for backend in watched:
                backend.observers = tuple(other for other in backend.observers if other != self._observe)
            random.restore_default_states(rng)
        self._count_saved()

    @property
    def saved(self) -> int:
        """Bytes of memory that the graph of the result holds until backward; parameters, buffers, inputs left out."""
        return sum(visit.saved for visit in self.visits.values())

    def nodes(self) -> list[Node]:
        """The nodes that lead to the result, in the order in which they were recorded."""
        return ancestors(x._node for x in tensors(self.result))

    def module_of(self, node: Node) -> str:
        """The name of the module in which a node was recorded, "" for the model itself."""
        return self._paths[bisect_right(self._seqs, node.seq) - 1]

    # --- while it runs -------------------------------------------------------------------------------------------

    def _watch(self) -> list[Backend]:
        backends = list(loaded())
        for backend in backends:
            backend.observers = (*backend.observers, self._observe)
        return backends

    def _before(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = self._names[id(module)]
        visit = self.visits[name]
        if not visit.calls:
            visit.inputs = shapes((args, kwargs))
        visit.calls += 1
        self._path.append(name)
        self._mark()

    def _after(self, module: Module, args: tuple[Any, ...], result: Any) -> None:
        name = self._names[id(module)]
        while self._path.pop() != name:  # a module that failed, where the one around it knows how to go on
            pass
        visit = self.visits[name]
        visit.outputs = visit.outputs or shapes(result)
        self._mark()

    def _mark(self) -> None:
        """The nodes recorded from now on belong to the innermost module of now."""
        self._seqs.append(next(tape._sequence))
        self._paths.append(self._path[-1])

    def _observe(self, backend: Backend, kernel: str, out: Any, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        if threading.get_ident() != self._thread:
            return
        self.visits[self._path[-1]].flops += costs.work(backend, kernel, out, args, params).flops
        source = next((self.indices[id(root(a))] for a in costs.arrays(args) if id(root(a)) in self.indices), None)
        for array in costs.arrays(out):
            block = root(array)
            if source is not None and array.dtype.kind in "biu":
                self.indices.setdefault(id(block), (block, source[1]))
            known = self._blocks.get(id(block))
            if id(block) not in self._known and (known is None or known() is not block):
                self._blocks[id(block)] = weakref.ref(block)
                self.filled += memory(array)

    # --- when it is through ----------------------------------------------------------------------------------------

    def _count_saved(self) -> None:
        """Give the memory that nodes saved to the modules that recorded them; each block to the first one."""
        seen = set(self._known)
        for node in self.nodes():
            for array in saved_arrays(node):
                block = root(array)
                if id(block) not in seen:
                    seen.add(id(block))
                    self.visits[self.module_of(node)].saved += memory(array)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors among the leaves of nested tuples, lists and dicts."""
    return [leaf for leaf in flatten(tree)[0] if isinstance(leaf, Tensor)]


def shapes(tree: Any) -> Shapes:
    """The shapes of the tensors in nested tuples, lists and dicts."""
    return tuple(tuple(x.array.shape) for x in tensors(tree))


def memory(array: Array) -> int:
    """The bytes of the array that an array is a view of: so much stays as long as the view does."""
    while not is_whole(array) and isinstance(array.base, (np.ndarray, type(array))):
        array = array.base
    return int(array.nbytes)


def saved_arrays(node: Node) -> Iterator[Array]:
    """Arrays that a node keeps for backward: an op's, indices that it was called with, a Function's, a checkpoint's."""
    if node.saved is None:
        raise GradError(f"{node.op.name}: its saved values are freed: look at the graph before backward, or pass "
                        "retain_graph=True")
    yield from (saved[0] for saved in node.saved.values() if isinstance(saved, tuple))
    yield from costs.arrays(list(node.params.values()))
    if "ctx" in node.params:
        yield from (entry[0][0] for entry in node.params["ctx"]._saved if entry is not None)
    if "segment" in node.params:
        yield from (saved[0] for saved in node.params["segment"].relied_on)


def _give(dicts: Iterable[tuple[Module, dict[str, Any]]]) -> None:
    for module, attributes in dicts:
        object.__setattr__(module, "__dict__", attributes)


class _StandIns:
    """Copies of what modules hold; what several of them share has one copy."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._copies: dict[int, Any] = {}

    def of_module(self, attributes: dict[str, Any], before: Callable[..., None],
                  after: Callable[..., None]) -> dict[str, Any]:
        """The attributes of a module with copies of its state, and with hooks around those that it has."""
        own = {name: self._copy(value) for name, value in attributes.items()}
        hooks = own["_hooks"] = Hooks()
        present = attributes.get("_hooks")
        if present is not None:
            hooks.forward_pre.update(present.forward_pre)
            hooks.forward.update(present.forward)
            hooks.backward = present.backward
        hooks.forward_pre.register(before, with_kwargs=True, prepend=True)
        hooks.forward.register(after)
        return own

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Var):
            kept = isinstance(value, Parameter) or value._requires_grad  # no forward pass writes into these
            return value if kept else self._known(value, self._cloned)
        if type(value) in (list, tuple, set):
            return self._known(value, lambda items: type(items)([self._copy(item) for item in items]))
        if type(value) is dict:
            return self._known(value, lambda items: {key: self._copy(item) for key, item in items.items()})
        if isinstance(value, Generator):
            return self._known(value, lambda generator: Generator(generator.device).set_state(generator.get_state()))
        return value._function if isinstance(value, Captured) else value  # a replay would hide its nodes

    def _known(self, value: Any, copy: Callable[[Any], Any]) -> Any:
        if id(value) not in self._copies:
            self._copies[id(value)] = value  # of a container that holds itself, the inner one
            self._copies[id(value)] = copy(value)
        return self._copies[id(value)]

    def _cloned(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor.detach().clone())
        return self.tensors[-1]
