"""Backward: walks the tape from the newest node to the oldest and adds up gradients.

Iterative, so depth is bounded by memory only. Gradients reach `.grad` in one pass at the end: a backward that is
interrupted or refused leaves every `.grad` as it was. Nothing here knows an operation; rules come with the nodes.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import dtypes
from ..backends import recording, recording_memory
from ..errors import DeviceError, DTypeError, GradError, ShapeError
from .mode import LINES_AND_NAN, anomaly_level, run_with_grad
from .op import refresh
from .tape import Node, Var, wrap

if TYPE_CHECKING:
    from ..tensor import Tensor

Sum = tuple[Any, bool]  # a gradient, and whether it shares memory with nothing else
Sums = dict[Any, Sum]


class Visit(NamedTuple):
    """A node's turn in a backward: the gradient that came in, and per input position the one that goes out."""

    node: Node
    incoming: Tensor
    outgoing: list[tuple[int, Tensor]]


_accumulate_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a fork waits until no sum is under way, so that no child inherits the lock held
    os.register_at_fork(before=_accumulate_lock.acquire, after_in_parent=_accumulate_lock.release,
                        after_in_child=_accumulate_lock.release)


def propagate(roots: Sequence[tuple[Tensor, Tensor]], *, keep_graph: bool, create_graph: bool,
              targets: Sequence[Var] | None = None, beyond: bool = True) -> tuple[Sums, Sums, Sums]:
    """Propagate the gradients of the roots, with recording on exactly if `create_graph` (the caller sees to that).

    With `targets` only on the ways that lead to them; without `beyond` only up to them, and not through their hooks.
    Returns the sums that reached leaves, those at target nodes, and those for tensors that retain their gradient.
    """
    found: tuple[Sums, Sums, Sums] = {}, {}, {}
    for _ in _walk(roots, keep_graph, create_graph, targets, beyond, found, watched=False):
        pass  # a walk that nobody watches does not stop
    return found


def _walk(roots: Sequence[tuple[Tensor, Tensor]], keep_graph: bool, create_graph: bool, targets: Sequence[Var] | None,
          beyond: bool, found: tuple[Sums, Sums, Sums], watched: bool) -> Iterator[Visit]:
    """What `propagate` does, into `found`; where it is watched, it stops after each node and says what happened."""
    leaves, at_targets, retained = found
    pending: Sums = {}
    outgoing: list[tuple[int, Tensor]] = []
    ready: list[tuple[int, Node]] = []  # a heap: the largest seq, that is the newest node, first
    wanted = {t._node for t in targets or () if t._node is not None}
    useful = None if targets is None else _leading_to([root for root, _ in roots], targets, beyond)
    check_nan = anomaly_level.get() == LINES_AND_NAN

    def send(target: Any, g: Any, owned: bool) -> None:
        sums = leaves if isinstance(target, Var) else pending
        present = sums.get(target)
        if present is not None:
            sums[target] = _added(present, g, create_graph), True
            return
        sums[target] = g, owned
        if isinstance(target, Node):
            heapq.heappush(ready, (-target.seq, target))

    for root, g in roots:
        target = root._node or root
        if useful is None or target in useful:
            send(target, g, False)
    while ready:
        node = heapq.heappop(ready)[1]
        g, owned = pending.pop(node)
        if not beyond and node in wanted:
            at_targets[node] = g, False
            continue
        if node.hooks:
            g = _run_hooks(node.hooks, own((g, owned)))
        if node.retained is not None and (holder := node.retained()) is not None:
            retained[holder] = g, False
        if node in wanted:
            at_targets[node] = g, False
        fresh, metas, parents = node.op.fresh and not watched, node.metas, node.parents
        refuse_nan = check_nan or node.check_nan
        if useful is not None and useful.isdisjoint(parents):
            continue
        if node.op.adds is not None and not (create_graph or refuse_nan or watched):
            present = (leaves if isinstance(parents[0], Var) else pending).get(parents[0])
            if present is not None and present[1] and present[0].array.dtype is g.array.dtype:
                node.op.adds(g.backend, present[0].array, g.array, **node.params)
                continue
        try:
            for position, result in node.op.gradients(node, g, create_graph, useful):
                if useful is not None and parents[position] not in useful:
                    continue  # a Function gives the gradients of all its inputs at once
                meta = metas[position]
                if meta is None:  # not a Tensor: the outputs of a Function, gathered by its own ops
                    send(parents[position], result, False)
                    continue
                array = result.array
                if array.shape != meta[0] or array.dtype is not meta[1]:
                    result = reduce_to(result, meta[0], meta[1], node.op.name)
                    array = result.array
                if refuse_nan:
                    _refuse_nan(node, position, result)
                if watched:
                    outgoing.append((position, result))
                send(parents[position], result, fresh and recording_memory.is_whole(array) and array is not g.array)
        except Exception as error:
            if node.trace is not None:
                error.add_note(f"{node.op.name} was recorded at {node.trace}")
            raise
        if not keep_graph:
            node.free()
        if watched:
            yield Visit(node, g, outgoing)
            outgoing = []
    for leaf, total in leaves.items():
        if leaf._hooks and beyond:
            leaves[leaf] = _run_hooks(leaf._hooks, own(total)), False  # a hook may have kept its argument


def _added(total: Sum, g: Any, create_graph: bool) -> Any:
    """The sum with one more gradient, in its own memory where nothing else sees that."""
    present, owned = total
    if not owned or create_graph or not isinstance(present, Var) or present.array.dtype is not g.array.dtype:
        return present + g
    present.backend.run("add", present.array, present.array, g.array)
    return present


def reduce_to(g: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any], op: str) -> Tensor:
    """Undo broadcasting and promotion: sum g (in the wide type) to `shape`, then cast it to `dtype`.

    Raises ShapeError if the rule's gradient is no broadcast of the input.
    """
    if g.array.shape != shape:
        extra = g.ndim - len(shape)
        dims = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(shape) if n == 1 and extra >= 0 and g.shape[extra + i] != 1)
        if extra < 0 or any(n != 1 and n != g.shape[extra + i] for i, n in enumerate(shape)):
            raise ShapeError(f"{op}: its rule gave a gradient of shape {tuple(g.shape)} for an input of shape {shape}")
        g = g.sum(dims)
        if g.array.shape != shape:
            g = g.reshape(shape)
    return g if g.array.dtype == dtype else g.to(dtypes.from_numpy(dtype))


def own(total: Sum) -> Tensor:
    """The gradient in memory of its own."""
    g: Tensor = total[0]
    if total[1]:
        return g
    return g.clone() if g._requires_grad else wrap(g.backend.copy(g.array), g.backend)


def accumulate(sums: dict[Any, Sum], create_graph: bool) -> None:
    """Add the sums into `.grad` of their leaves."""
    for leaf, total in sums.items():
        with _accumulate_lock:
            if recording.active is not None and (recorder := recording.here()) is not None:
                recorder.note_grad_read(leaf)
                recorder.note_grad_written(leaf)
            present = leaf._grad
            if present is None:
                leaf._grad = own(total)
            elif create_graph or present._requires_grad or not present.backend.is_writable(present.array):
                leaf._grad = present + total[0]
            else:
                present._bump()
                present.backend.run("add", present.array, present.array, total[0].array)


def _run_hooks(hooks: dict[int, Callable[[Tensor], Tensor | None]], g: Tensor) -> Tensor:
    for hook in tuple(hooks.values()):
        replaced = hook(g)
        if replaced is None:
            continue
        if not isinstance(replaced, Var):
            raise DTypeError(f"a gradient hook must return a Tensor or None, got {type(replaced).__name__}")
        if (replaced.array.shape, replaced.array.dtype) != (g.array.shape, g.array.dtype):
            raise ShapeError(f"a gradient hook returned {replaced.dtype.name} {tuple(replaced.shape)} for a gradient "
                             f"that is {g.dtype.name} {tuple(g.shape)}")
        g = replaced
    return g


def _refuse_nan(node: Node, position: int, g: Tensor) -> None:
    if bool(np.isnan(g.backend.to_numpy(g.array)).any()):
        where = node.trace or "an unknown line: run the forward pass under detect_anomaly too"
        raise GradError(f"{node.op.name}: its gradient for input '{node.op.input_name(position)}' holds NaN; "
                        f"recorded at {where}")


def _leading_to(roots: Sequence[Var], targets: Sequence[Var], beyond: bool) -> set[Any]:
    """The nodes and leaves between the roots and the targets, both included; not `beyond` one target to others."""
    useful: set[Any] = {t._node or t for t in targets}
    seen: set[Node] = set()
    stack = [root._node for root in roots if root._node is not None]
    while stack:
        node = stack.pop()
        if node not in seen and (beyond or node not in useful):
            seen.add(node)
            stack.extend(p for p in node.parents if isinstance(p, Node))
    for node in sorted(seen, key=lambda n: n.seq):
        if any(parent in useful for parent in node.parents if parent is not None):
            useful.add(node)
    return useful


def _listed(what: str, tensors: Any) -> list[Any]:
    """One Tensor, or several, as a list. Raises DTypeError for what is none."""
    if isinstance(tensors, Var):
        return [tensors]
    listed = list(tensors) if isinstance(tensors, Iterable) else [tensors]
    for i, t in enumerate(listed):
        if not (isinstance(t, Var) or (t is None and what == "gradient")):
            raise DTypeError(f"{what} {i} must be a Tensor, got {type(t).__name__}")
    return listed


def _roots(outputs: Any, gradients: Any) -> list[tuple[Tensor, Tensor]]:
    """Pair each output with its incoming gradient, 1 for a single-element output without one."""
    tensors = _listed("output", outputs)
    given = [None] * len(tensors) if gradients is None else _listed("gradient", gradients)
    if len(given) != len(tensors):
        raise GradError(f"got {len(tensors)} tensors and {len(given)} gradients")
    pairs = []
    for i, (tensor, g) in enumerate(zip(tensors, given, strict=True)):
        if tensor._base is not None:
            refresh(tensor)
        if not tensor._requires_grad:
            raise GradError(f"element {i} of tensors does not require grad and does not have a grad_fn; set "
                            "requires_grad=True on an input, and compute outside no_grad and without .detach()")
        array = tensor.array
        if g is None:
            if array.size != 1:
                raise GradError("grad can be implicitly created only for scalar outputs, got shape "
                                f"{tuple(array.shape)}; reduce it (.sum(), .mean()) or pass gradient=")
            g = wrap(tensor.backend.fill("fill", array.shape, array.dtype, 1), tensor.backend)
        elif g.array.shape != array.shape:
            raise ShapeError(f"gradient of shape {tuple(g.shape)} for an output of shape {tuple(array.shape)}")
        elif g.backend is not tensor.backend:
            raise DeviceError(f"gradient on '{g.device}' for an output on '{tensor.device}'; move it with .to(device)")
        pairs.append((tensor, g if g.array.dtype == array.dtype else g.to(tensor.dtype)))
    return pairs


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Any = None) -> None:
    """Add d(tensors)/d(leaf), weighted by `grad_tensors`, to `.grad` of every leaf (or of `inputs` only).

    inputs        may hold results, which keep their gradient from then on (see Tensor.retain_grad)
    retain_graph  keep saved values for another backward; the default is `create_graph`
    create_graph  record the gradients' own computation, for higher derivatives

    Raises GradError for a tensor without graph, a freed graph, or a saved value that was modified in place.

    >>> x = tl.tensor(3.0, requires_grad=True)
    >>> tl.autograd.backward(x * x)
    >>> x.grad
    tensor(6.)
    """
    keep_graph = create_graph if retain_graph is None else retain_graph
    run_with_grad(create_graph, _backward, tensors, grad_tensors, keep_graph, create_graph, inputs)


def _backward(tensors: Any, grad_tensors: Any, keep_graph: bool, create_graph: bool, inputs: Any) -> None:
    targets = None if inputs is None else _targets(inputs)
    for target in targets or ():
        if target._node is not None:
            target._node.retain(target)
    leaves, _, retained = propagate(_roots(tensors, grad_tensors), create_graph=create_graph, targets=targets,
                                    keep_graph=keep_graph)
    if targets is not None:
        leaves = {t: leaves[t] for t in targets if t in leaves}
    leaves.update(retained)
    accumulate(leaves, create_graph)


def visits(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
           into_grad: bool = True) -> Iterator[Visit]:
    """`backward`, one node at a time, newest first; gradients reach `.grad` after the last visit, if `into_grad`.

    Each visit's gradients are in use until the walk has ended: look at them, do not change them.
    """
    keep_graph = create_graph if retain_graph is None else retain_graph
    roots = run_with_grad(create_graph, _roots, tensors, grad_tensors)
    found: tuple[Sums, Sums, Sums] = {}, {}, {}
    walk = _walk(roots, keep_graph, create_graph, None, True, found, watched=True)
    while (visit := run_with_grad(create_graph, next, walk, None)) is not None:
        yield visit
    leaves, _, retained = found
    if into_grad:
        run_with_grad(create_graph, accumulate, {**leaves, **retained}, create_graph)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, allow_unused: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, returned; no `.grad` changes.

    Raises GradError for an input that does not require grad or, unless `allow_unused` (then None) or
    `materialize_grads` (then zeros), that the outputs do not depend on.

    >>> x = tl.tensor(2.0, requires_grad=True)
    >>> g, = tl.autograd.grad(x ** 3, x, create_graph=True)
    >>> tl.autograd.grad(g, x)
    (tensor(12.),)
    """
    keep_graph = create_graph if retain_graph is None else retain_graph
    return run_with_grad(create_graph, _grad, outputs, inputs, grad_outputs, keep_graph, create_graph, allow_unused,
                         materialize_grads)


def _grad(outputs: Any, inputs: Any, grad_outputs: Any, keep_graph: bool, create_graph: bool, allow_unused: bool,
          materialize_grads: bool) -> tuple[Tensor | None, ...]:
    targets = _targets(inputs)
    leaves, nodes, retained = propagate(_roots(outputs, grad_outputs), create_graph=create_graph, targets=targets,
                                        keep_graph=keep_graph)
    accumulate(retained, create_graph)
    result: list[Tensor | None] = []
    for i, target in enumerate(targets):
        sums, key = (leaves, target) if target._node is None else (nodes, target._node)
        total = sums.get(key)
        if total is not None:
            result.append(own(total))
            sums[key] = total[0], False  # an input that is listed twice gets memory of its own twice
        elif materialize_grads:
            result.append(wrap(target.backend.fill("fill", target.array.shape, target.array.dtype, 0), target.backend))
        elif allow_unused:
            result.append(None)
        else:
            raise GradError(f"input {i} of shape {tuple(target.shape)} was not used to compute the outputs; "
                            "pass allow_unused=True to get None for it")
    return tuple(result)


def _targets(inputs: Any) -> list[Any]:
    targets = _listed("input", inputs)
    if not targets:
        raise GradError("the list of inputs is empty; name at least one tensor")
    for i, target in enumerate(targets):
        refresh(target)
        if not target._requires_grad:
            raise GradError(f"input {i} of shape {tuple(target.shape)} does not require grad")
    return targets
