"""Operations that users define: `Function`, with a forward and a backward of one's own, and `checkpoint`."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any

from .. import random
from ..errors import GradError
from .engine import propagate
from .mode import grad_enabled
from .op import Op
from .tape import Node, Saved, Var, intact, save, wrap

if TYPE_CHECKING:
    from ..tensor import Tensor


def _without_recording(function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function unrecorded, in a copy of the context: this thread's mode is never touched."""

    def call() -> Any:
        grad_enabled.set(False)
        return function(*args)

    return contextvars.copy_context().run(call)


class FunctionContext:
    """What `Function.forward` leaves for `Function.backward`: saved tensors and any attributes."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._to_save: tuple[Any, ...] = ()
        self._saved: list[tuple[Saved | None, Node | Var | None]] = []
        self._non_differentiable: tuple[Any, ...] = ()
        self._materialize = True
        self._create_graph = False

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs or intermediate tensors for backward; a later in-place change is noticed."""
        self._to_save = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say which outputs carry no gradient."""
        self._non_differentiable = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that no gradient reached."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to save_for_backward. Raises GradError if one was modified in place since."""
        result: list[Tensor | None] = []
        for saved, parent in self._saved:
            tensor = None if saved is None else wrap(intact(saved, self._name, "saved tensor"), self._backend)
            if tensor is not None and self._create_graph and parent is not None:
                if isinstance(parent, Var):
                    tensor = parent  # type: ignore[assignment]
                else:
                    tensor._node, tensor._requires_grad = parent, True
            result.append(tensor)
        return tuple(result)


class _Slots(dict[int, Any]):
    """The gradients of a Function's outputs, by output number; sums like a Tensor."""

    def __add__(self, other: _Slots) -> _Slots:
        total = _Slots(self)
        for i, g in other.items():
            total[i] = total[i] + g if i in total else g
        return total


class _FunctionOp(Op):
    """The op behind a Function class: one backward gives the gradients of all inputs."""

    def __init__(self, function: type[Function]) -> None:
        super().__init__(lambda be, *inputs: None, "none", False)
        self.name = function.__name__
        self.fresh = False  # a user's backward may return anything, also what it saved
        self.function = function

    def gradients(self, node: Node, g: _Slots, create_graph: bool, useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        ctx: FunctionContext | None = node.params.get("ctx")
        if ctx is None:
            raise GradError(f"{self.name}: trying to backward through the graph a second time: its saved values are "
                            "freed. Pass retain_graph=True to the first backward if the graph is needed again")
        ctx._create_graph = create_graph
        incoming = [g.get(i) if i in g or not ctx._materialize else _zeros(meta) for i, meta in enumerate(ctx._outputs)]
        results = self.function.backward(ctx, *incoming)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(node.parents):
            raise GradError(f"{self.name}.backward returned {len(results)} gradients for {len(node.parents)} inputs")
        for position, (parent, result) in enumerate(zip(node.parents, results, strict=False)):
            if parent is not None and result is not None:
                yield position, result


def _zeros(meta: tuple[Any, ...]) -> Tensor:
    shape, dtype, backend = meta
    return wrap(backend.fill("fill", shape, dtype, 0), backend)


class _OutputOp(Op):
    """Carries the gradient of one output of a Function to the node of the Function."""

    def gradients(self, node: Node, g: Any, create_graph: bool, useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        yield 0, _Slots({node.params["output"]: g})


_output_op = _OutputOp(lambda be, x: x, "none", False)
_output_op.name = "function_output"


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
        """Run forward, and record the Function if an argument requires grad."""
        needs = tuple(isinstance(a, Var) and bool(a.requires_grad) for a in args)  # type: ignore[attr-defined]
        ctx = FunctionContext(needs)
        result = _without_recording(lambda: cls.forward(ctx, *args, **kwargs))
        outputs = result if isinstance(result, tuple) else (result,)
        if True in needs and grad_enabled.get():
            outputs = cls._record(ctx, args, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    @classmethod
    def _record(cls, ctx: FunctionContext, args: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        parents = tuple(((a._node or a) if need else None) for a, need in zip(args, ctx.needs_input_grad, strict=True))
        metas = tuple((a.array.shape, a.array.dtype) if isinstance(a, Var) else None for a in args)
        node = _FunctionNode(cls._op, parents, metas, {}, {"ctx": ctx})
        results, made = _hang_outputs(node, outputs, ctx._non_differentiable)
        edges = {id(a): parent for a, parent in zip(args, parents, strict=True) if isinstance(a, Var)}
        ctx._name = cls.__name__
        ctx._backend = next(a.backend for a in args if isinstance(a, Var))
        ctx._outputs = [(o.array.shape, o.array.dtype, o.backend) if isinstance(o, Var) else None for o in outputs]
        for t in ctx._to_save:
            saved = None if t is None else save(t)
            parent = edges.get(id(t))
            ctx._saved.append((saved, None if t is None else parent if parent is not None else made.get(id(t))))
        ctx._to_save = ()
        return results


def _hang_outputs(node: Node, outputs: tuple[Any, ...], excluded: tuple[Any, ...] = ()) -> tuple[tuple[Any, ...], dict[int, Node]]:
    """Fresh tensors for the outputs, each tied to `node`; and the nodes between, by the id of the output."""
    results: list[Any] = []
    made: dict[int, Node] = {}
    for i, out in enumerate(outputs):
        if not isinstance(out, Var) or out.array.dtype.kind in "biu" or any(out is o for o in excluded):
            results.append(out)
            continue
        fresh = wrap(out.array, out.backend)  # never the argument itself: that one keeps its own history
        fresh._version = out._shared_version()
        fresh._node = made[id(out)] = Node(_output_op, (node,), (None,), {}, {"output": i})
        fresh._requires_grad = True
        results.append(fresh)
    return tuple(results), made


class _CheckpointOp(Op):
    """Recomputes a function in backward, then walks the fresh tape from its outputs to its inputs."""

    def gradients(self, node: Node, g: _Slots, create_graph: bool, useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        segment: _Segment = node.params["segment"]
        outputs, entries = segment.run(again=True)
        externals = [_standing_for(p) for p in node.parents[len(entries):]]
        targets = [e for e in entries if e is not None] + externals
        roots = [(outputs[i], gradient) for i, gradient in g.items()]
        leaves, nodes = propagate(roots, keep_graph=create_graph, create_graph=create_graph, targets=targets)
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
    """A checkpointed call: the function, its arguments, and the random state it started from."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], preserve_rng: bool) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.versions = [save(a) if isinstance(a, Var) else None for a in args]
        self.rng = random.get_rng_state() if preserve_rng else None

    def run(self, again: bool) -> tuple[tuple[Any, ...], list[Any]]:
        """Run recorded, whatever the mode. Returns the outputs, and per argument the Var at which its tape begins."""
        for saved in self.versions:
            if saved is not None:
                intact(saved, "checkpoint", "argument")

        def recorded() -> tuple[Any, list[Any]]:
            grad_enabled.set(True)
            entries = [a.view_as(a) if isinstance(a, Var) and a._requires_grad else None for a in self.args]
            args = [a if e is None else e for a, e in zip(self.args, entries, strict=True)]
            return self.function(*args, **self.kwargs), entries

        now = random.get_rng_state()
        if again and self.rng is not None:
            random.set_rng_state(self.rng)
        try:
            result, entries = contextvars.copy_context().run(recorded)
        finally:
            if again and self.rng is not None:
                random.set_rng_state(now)
        self.single = not isinstance(result, tuple)
        return ((result,) if self.single else result), entries


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """Call `function(*args)` without keeping its intermediate values; backward computes them again.

    Memory falls to the arguments and results, time grows by one forward. Random draws repeat exactly when
    `preserve_rng_state`. Gradients also reach parameters and tensors that the function uses without being given them.
    `use_reentrant` is accepted for PyTorch's sake; there is one implementation, which supports all that both of
    PyTorch's do. Raises GradError in backward if an argument was modified in place since.

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
    parents += _reached([o for o in outputs if isinstance(o, Var)], start, {id(e._node) for e in entries if e is not None})
    if all(parent is None for parent in parents):
        return outputs[0] if segment.single else outputs
    node = Node(_checkpoint_op, tuple(parents), (None,) * len(parents), {}, {"segment": segment})
    results, _ = _hang_outputs(node, outputs)
    return results[0] if segment.single else results


def _reached(outputs: list[Any], start: int, entries: set[int]) -> list[Any]:
    """The leaves and older nodes (seq below `start`) that the fresh tape of `outputs` leans on."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack = [o._node for o in outputs if o._node is not None]
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
