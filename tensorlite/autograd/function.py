"""Operations that users define: `Function`, with a forward and a backward of one's own, and `checkpoint`."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any

from .. import random
from ..backends import Backend
from ..errors import DTypeError, GradError
from .autocast import without_cache
from .engine import propagate
from .mode import autocast_regions, grad_enabled, run_with_grad
from .op import Op, in_graph, needs_grad, tie_to_root
from .tape import Node, Saved, Var, intact, save, wrap

if TYPE_CHECKING:
    from ..tensor import Tensor


class FunctionContext:
    """What `Function.forward` leaves for `Function.backward`: saved tensors and any attributes."""

    def __init__(self, name: str, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._name = name
        self._to_save: tuple[Any, ...] = ()
        self._saved: list[tuple[Saved, Backend, Node | Var | int | None] | None] = []  # whence: an int names an output
        self._outputs: list[tuple[tuple[int, ...], Any, Backend] | None] = []  # of each: shape, dtype, backend
        self._non_differentiable: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._materialize = True
        self._recording: Node | None = None  # the Function's node, while its backward is recorded

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs or intermediate tensors for backward; a later in-place change is noticed."""
        self._to_save = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say which outputs carry no gradient."""
        self._non_differentiable = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Say which inputs forward changes in place; it must return them, and the same tensors come out of apply."""
        self._dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that no gradient reached."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to save_for_backward. Raises GradError if one was modified in place since."""
        return tuple(None if entry is None else self._unpack(*entry) for entry in self._saved)

    def _unpack(self, saved: Saved, backend: Backend, parent: Node | Var | int | None) -> Tensor:
        tensor = wrap(intact(saved, self._name, "saved tensor"), backend)
        tensor._version = saved[1]
        if self._recording is None or parent is None:
            return tensor
        if isinstance(parent, int):  # made anew: to keep the first one here would close a ring of references
            parent = _output_node(self._recording, parent)
        return in_graph(tensor, parent, self._name)


class _Slots(dict[int, Any]):
    """The gradients of a Function's outputs, by output number; adds up like a Tensor."""

    def __add__(self, other: _Slots) -> _Slots:
        total = _Slots(self)
        for i, g in other.items():
            total[i] = total[i] + g if i in total else g  # twice: one part comes from a higher derivative
        return total


class _FunctionOp(Op):
    """The op behind a Function class: one backward gives the gradients of all inputs."""

    def __init__(self, function: type[Function]) -> None:
        super().__init__(lambda be, *inputs: None, "none", False)
        self.name = function.__name__
        self.fresh = False  # a user's backward may return anything, also what it saved
        self.function = function

    def gradients(self, node: Node, g: _Slots, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        ctx: FunctionContext | None = node.params.get("ctx")
        if ctx is None:
            raise GradError(f"{self.name}: trying to backward through the graph a second time: its saved values are "
                            "freed. Pass retain_graph=True to the first backward if the graph is needed again")
        ctx._recording = node if create_graph else None
        incoming = [g.get(i) for i in range(len(ctx._outputs))]
        if ctx._materialize:
            incoming = [_zeros(*meta) if given is None and meta else given
                        for given, meta in zip(incoming, ctx._outputs, strict=True)]
        try:
            returned = self.function.backward(ctx, *incoming)
        finally:
            ctx._recording = None
        results = returned if isinstance(returned, tuple) else (returned,)
        count = len(node.parents)
        if len(results) < count or any(r is not None for r in results[count:]):
            raise GradError(f"{self.name}.backward returned {len(results)} gradients for {count} inputs; "
                            "return one, or None, for each argument of forward")
        for position, (parent, result) in enumerate(zip(node.parents, results, strict=False)):
            if parent is None or result is None:
                continue
            if not isinstance(result, Var):
                raise DTypeError(f"{self.name}.backward must return Tensors or None, got {type(result).__name__}")
            yield position, result


def _zeros(shape: tuple[int, ...], dtype: Any, backend: Backend) -> Tensor:
    return wrap(backend.fill("fill", shape, dtype, 0), backend)


class _OutputOp(Op):
    """Carries the gradient of one output of a Function to the node of the Function."""

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        yield 0, _Slots({node.params["output"]: g})


_output_op = _OutputOp(lambda be, x: x, "none", False)
_output_op.name = "function_output"


def output_number(node: Node) -> int | None:
    """Which output of a Function a node stands for; None for the node of an operation."""
    return node.params["output"] if node.op is _output_op else None


def _output_node(node: Node, output: int) -> Node:
    return Node(_output_op, (node,), (None,), {}, {"output": output})


class _FunctionNode(Node):
    """A Function's node; freeing it drops the context."""

    def free(self) -> None:
        self.params = {}


class Function:
    """A differentiable operation with hand-written derivative.

    Subclass it with static methods `forward(ctx, *args)` and `backward(ctx, *grad_outputs)`; call `apply`. backward
    returns one gradient (or None) per argument of forward. Written in tensor operations, backward can itself be
    differentiated.

    >>> class Cube(tl.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         x, = ctx.saved_tensors
    ...         return 3 * x * x * g
    >>> x = tl.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    _op: _FunctionOp

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._op = _FunctionOp(cls)

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the result from the arguments; tensors do not record inside."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradient of each argument of forward, given those of the outputs."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward, and record the Function if an argument requires grad.

        Raises GradError for a keyword argument that requires grad: backward has no place for its gradient.
        """
        needs = tuple(isinstance(a, Var) and needs_grad(a) for a in args)
        for name, value in kwargs.items():
            if isinstance(value, Var) and needs_grad(value) and grad_enabled.get():
                raise GradError(f"{cls.__name__}: the argument '{name}' requires grad and must be passed by position")
        ctx = FunctionContext(cls.__name__, needs)
        result = run_with_grad(False, cls.forward, ctx, *args, **kwargs)
        outputs = result if isinstance(result, tuple) else (result,)
        for t in ctx._dirty:
            t._bump()
            if not any(t is out for out in outputs):
                raise GradError(f"{cls.__name__}.forward marked an input as dirty that it does not return")
        if True in needs and grad_enabled.get():
            outputs = cls._record(ctx, args, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    @classmethod
    def _record(cls, ctx: FunctionContext, args: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        parents = tuple(((a._node or a) if need else None) for a, need in zip(args, ctx.needs_input_grad, strict=True))
        metas = tuple((a.array.shape, a.array.dtype) if isinstance(a, Var) else None for a in args)
        node = _FunctionNode(cls._op, parents, metas, {}, {"ctx": ctx})
        ctx._outputs = [(o.array.shape, o.array.dtype, o.backend) if isinstance(o, Var) else None for o in outputs]
        results = _hang_outputs(node, outputs, args, ctx._non_differentiable, ctx._dirty)
        origins: dict[int, Any] = {id(out): i for i, out in enumerate(outputs) if results[i] is not out}
        origins.update((id(a), parent) for a, parent in zip(args, parents, strict=True) if isinstance(a, Var))
        origins.update((id(out), i) for i, out in enumerate(outputs) if any(out is t for t in ctx._dirty))
        for t in ctx._to_save:
            ctx._saved.append(None if t is None else (save(t), t.backend, origins.get(id(t))))
        ctx._to_save = ctx._dirty = ctx._non_differentiable = ()
        return results


def _hang_outputs(node: Node, outputs: tuple[Any, ...], args: tuple[Any, ...], excluded: tuple[Any, ...],
                  dirty: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """Tensors for the outputs, each tied to `node` by a node of its own."""
    results: list[Any] = []
    for i, out in enumerate(outputs):
        if not isinstance(out, Var) or out.array.dtype.kind in "biu" or any(out is o for o in excluded):
            results.append(out)
            continue
        output_node = _output_node(node, i)
        if any(out is t for t in dirty):
            _require_own_memory(out, node.op.name)
            out._take_node(output_node)
            out._generation += 1
            results.append(out)
            continue
        fresh = wrap(out.array, out.backend)  # never the argument itself: that one keeps its own history
        fresh._version = out._shared_version()
        fresh._node, fresh._requires_grad = output_node, True
        for a in args:
            if isinstance(a, Var) and a.backend is out.backend and a.backend.shares_memory(a.array, out.array):
                tie_to_root(fresh, a)
                fresh._frozen_view = True
        results.append(fresh)
    return tuple(results)


def _require_own_memory(x: Var, name: str) -> None:
    """Refuse to give new history to a leaf that requires grad, or to a part of another tensor."""
    if x._requires_grad and x._node is None:
        raise GradError(f"{name}: a leaf Variable that requires grad is being used in an in-place operation; do it "
                        "under no_grad, or on a .clone()")
    if x._base is not None:
        raise GradError(f"{name}: a view is marked as dirty; pass a .clone() of it")


class _CheckpointOp(Op):
    """Recomputes a function in backward, then walks the fresh tape from its outputs to its inputs."""

    def gradients(self, node: Node, g: _Slots, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        segment: _Segment = node.params["segment"]
        outputs, entries = segment.run(again=True)
        externals = [_standing_for(p) for p in node.parents[len(entries):]]
        targets = [e for e in entries if e is not None] + externals
        roots = [(outputs[i], gradient) for i, gradient in g.items()]
        leaves, nodes, _ = propagate(roots, keep_graph=create_graph, create_graph=create_graph, targets=targets,
                                     beyond=False)  # from there on the walk that came here goes itself
        for position, target in enumerate([*entries, *externals]):
            if target is not None:
                total = leaves.get(target) if target._node is None else nodes.get(target._node)
                if total is not None:
                    yield position, total[0]


def _standing_for(parent: Any) -> Any:
    """A Var by which `propagate` knows a node or leaf as a target."""
    if isinstance(parent, Var):
        return parent
    stand_in = Var()
    stand_in._node = parent
    return stand_in


_checkpoint_op = _CheckpointOp(lambda be, *inputs: None, "none", False)
_checkpoint_op.name, _checkpoint_op.fresh = "checkpoint", False


class _Segment:
    """A checkpointed call: the function, its arguments, the random state and the autocast that it started from."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
                 preserve_rng: bool) -> None:
        self.function, self.kwargs = function, kwargs
        self.args: tuple[Any, ...] = args
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Var)]
        self.relied_on = [save(a) for a in tensors]
        self.devices = {a.backend.device for a in tensors}
        self.rng = random.default_states(self.devices) if preserve_rng else {}
        self.autocast = without_cache(autocast_regions.get())  # each run makes its own casts, as part of its tape

    def run(self, again: bool) -> tuple[tuple[Any, ...], list[Any]]:
        """Run recorded, whatever the mode. Returns the outputs, and per argument the Var at which its tape begins."""
        for saved in self.relied_on:
            intact(saved, "checkpoint", "argument or parameter")
        rng, now = (self.rng, random.default_states(self.devices)) if again and self.rng else ({}, {})
        try:
            random.restore_default_states(rng)
            result, entries = run_with_grad(True, self._recorded)
        finally:
            random.restore_default_states(now)
        self.single = not isinstance(result, tuple)
        return ((result,) if self.single else result), entries

    def _recorded(self) -> tuple[Any, list[Any]]:
        autocast_regions.set(self.autocast)  # in the copy of the context in which this is run
        needs = [isinstance(a, Var) and needs_grad(a) for a in self.args]
        entries = [a.view(a.shape) if need else None for a, need in zip(self.args, needs, strict=True)]
        args = [a if e is None else e for a, e in zip(self.args, entries, strict=True)]
        return self.function(*args, **self.kwargs), entries


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """Call `function(*args)` without keeping its intermediate values; backward computes them again.

    Memory falls to the arguments and results, time grows by one forward. Draws from the default generators repeat
    exactly when `preserve_rng_state`; those from a generator of your own do not. Gradients also reach parameters and
    tensors that the function uses without being given them. `use_reentrant` is accepted for PyTorch's sake; there is
    one implementation, which supports all that both of PyTorch's do. Raises GradError in backward if an argument was
    modified in place since.

    >>> x = tl.ones(3, requires_grad=True)
    >>> tl.autograd.checkpoint(lambda t: (t * 2).exp(), x).sum().backward()
    >>> x.grad
    tensor([14.7781, 14.7781, 14.7781])
    """
    if not grad_enabled.get():
        return function(*args, **kwargs)
    segment = _Segment(function, args, kwargs, preserve_rng_state)
    start = Node(_checkpoint_op, (), (), {}, {}).seq
    outputs, entries = segment.run(again=False)
    parents = [None if e is None else (a._node or a) for a, e in zip(args, entries, strict=True)]
    differentiable = [o for o in outputs if isinstance(o, Var) and needs_grad(o)]
    outside = _reached(differentiable, start, {id(e._node) for e in entries if e is not None})
    if not differentiable:
        return outputs[0] if segment.single else outputs
    segment.relied_on += [save(p) for p in outside if isinstance(p, Var)]
    parents += outside
    node = Node(_checkpoint_op, tuple(parents), (None,) * len(parents), {}, {"segment": segment})
    constant = tuple(o for o in outputs if isinstance(o, Var) and not o._requires_grad)
    results = _hang_outputs(node, outputs, (*args, *outside), constant)
    return results[0] if segment.single else results


def _reached(outputs: list[Var], start: int, entries: set[int]) -> list[Any]:
    """The leaves and older nodes (seq below `start`) that the fresh tape of `outputs` leans on."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack: list[Any] = [o._node or o for o in outputs]
    while stack:
        node = stack.pop()
        if id(node) in seen or id(node) in entries:
            continue
        seen.add(id(node))
        if isinstance(node, Var) or node.seq < start:
            found[id(node)] = node
        else:
            stack.extend(parent for parent in node.parents if parent is not None)
    return list(found.values())
