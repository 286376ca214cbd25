"""Backward: walks the tape from the newest node to the oldest and adds up gradients.

Iterative, so depth is bounded by memory only. Gradients reach `.grad` in one pass at the end: a backward that is
interrupted or refused leaves every `.grad` as it was. Nothing here knows an operation; rules come with the nodes.
"""

from __future__ import annotations

import contextvars
import heapq
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..errors import GradError, ShapeError
from .mode import grad_enabled
from .op import refresh
from .tape import Node, Var, wrap

if TYPE_CHECKING:
    from ..tensor import Tensor

Sum = tuple[Any, bool]  # a gradient, and whether it shares memory with nothing else
_accumulate_lock = threading.Lock()


def propagate(roots: Sequence[tuple[Tensor, Tensor]], *, keep_graph: bool, create_graph: bool,
              targets: Sequence[Var] | None = None) -> tuple[dict[Any, Sum], dict[Any, Sum]]:
    """Propagate the gradients of the roots. Returns the sums that reached leaves, and those at target nodes.

    With `create_graph` the rules are recorded in a copy of the context, so that no mode is switched.
    """
    if not create_graph:
        return _propagate(roots, keep_graph, False, targets)

    def recorded() -> Any:
        grad_enabled.set(True)
        return _propagate(roots, keep_graph, True, targets)

    return contextvars.copy_context().run(recorded)  # type: ignore[no-any-return]


def _propagate(roots: Sequence[tuple[Tensor, Tensor]], keep_graph: bool, create_graph: bool,
               targets: Sequence[Var] | None) -> tuple[dict[Any, Sum], dict[Any, Sum]]:
    pending: dict[Any, Sum] = {}
    leaves: dict[Any, Sum] = {}
    at_targets: dict[Any, Sum] = {}
    ready: list[tuple[int, Node]] = []  # a heap: the largest seq, that is the newest node, first
    wanted = {t._node for t in targets or () if t._node is not None}
    useful = None if targets is None else _leading_to([root for root, _ in roots], targets)

    def send(target: Node | Var, g: Any, owned: bool) -> None:
        sums = leaves if isinstance(target, Var) else pending
        present = sums.get(target)
        if present is not None:
            sums[target] = present[0] + g, True
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
        g = pending.pop(node)[0]
        if node.hooks:
            g = _run_hooks(node.hooks, g)
        if node.retained is not None and (holder := node.retained()) is not None:
            holder._grad = own((g, False))
        if node in wanted:
            at_targets[node] = g, False
        fresh, metas, parents = node.op.fresh, node.metas, node.parents
        for position, result in node.op.gradients(node, g, create_graph, useful):
            meta = metas[position]
            if meta is None:  # not a Tensor: the outputs of a Function, gathered by its own ops
                send(parents[position], result, False)
                continue
            array = result.array
            if array.shape != meta[0] or array.dtype is not meta[1]:
                result = reduce_to(result, meta[0], meta[1], node.op.name)
                array = result.array
            if node.trace is not None:
                _refuse_nan(node, position, result)
            send(parents[position], result, fresh and array.base is None and array is not g.array)
        if not keep_graph:
            node.free()
    for leaf, (g, owned) in leaves.items():
        if leaf._hooks:
            hooked = _run_hooks(leaf._hooks, g)
            leaves[leaf] = hooked, owned and hooked is g
    return leaves, at_targets


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
    g, owned = total
    if owned:
        return g
    return g.clone() if g._requires_grad else wrap(g.backend.copy(g.array), g.backend)


def accumulate(sums: dict[Any, Sum], create_graph: bool) -> None:
    """Add the sums into `.grad` of their leaves."""
    for leaf, total in sums.items():
        with _accumulate_lock:
            present = leaf._grad
            if present is None:
                leaf._grad = own(total)
            elif create_graph or present._requires_grad:
                leaf._grad = present + total[0]
            else:
                present.backend.run("add", present.array, present.array, total[0].array)
                present._bump()


def _run_hooks(hooks: dict[int, Callable[[Tensor], Tensor | None]], g: Tensor) -> Tensor:
    for hook in tuple(hooks.values()):
        replaced = hook(g)
        if replaced is not None:
            if replaced.shape != g.shape:
                raise ShapeError(f"a gradient hook returned shape {replaced.shape} for a gradient of shape {g.shape}")
            g = replaced
    return g


def _refuse_nan(node: Node, position: int, g: Tensor) -> None:
    if bool(np.isnan(g.backend.to_numpy(g.array)).any()):
        raise GradError(f"{node.op.name}: its gradient for input '{node.op.input_name(position)}' holds NaN; "
                        f"recorded at {node.trace}")


def _leading_to(roots: Sequence[Var], targets: Sequence[Var]) -> set[Any]:
    """The nodes and leaves between the roots and the targets, both included."""
    useful: set[Any] = {t._node or t for t in targets}
    seen: set[Node] = set()
    stack = [root._node for root in roots if root._node is not None]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(p for p in node.parents if isinstance(p, Node))
    for node in sorted(seen, key=lambda n: n.seq):
        if any(parent in useful for parent in node.parents if parent is not None):
            useful.add(node)
    return useful


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Var) else list(tensors)


def _roots(outputs: Any, gradients: Any) -> list[tuple[Tensor, Tensor]]:
    """Pair each output with its incoming gradient, 1 for a single-element output without one."""
    tensors = _listed(outputs)
    given = [None] * len(tensors) if gradients is None else _listed(gradients)
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
                raise GradError(f"grad can be implicitly created only for scalar outputs, got shape {tuple(array.shape)}; "
                                "reduce it (.sum(), .mean()) or pass gradient=")
            g = wrap(tensor.backend.fill("fill", array.shape, array.dtype, 1), tensor.backend)
        elif g.array.shape != array.shape:
            raise ShapeError(f"gradient of shape {tuple(g.shape)} for an output of shape {tuple(array.shape)}")
        pairs.append((tensor, g if g.array.dtype == array.dtype else g.to(tensor.dtype)))
    return pairs


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Any = None) -> None:
    """Add d(tensors)/d(leaf), weighted by `grad_tensors`, to `.grad` of every leaf (or of `inputs` only).

    retain_graph  keep saved values for another backward; the default is `create_graph`
    create_graph  record the gradients' own computation, for higher derivatives

    Raises GradError for a tensor without graph, a freed graph, or a saved value that was modified in place.

    >>> x = tl.tensor(3.0, requires_grad=True)
    >>> tl.autograd.backward(x * x)
    >>> x.grad
    tensor(6.)
    """
    targets = None if inputs is None else _targets(inputs)
    leaves, nodes = propagate(_roots(tensors, grad_tensors), create_graph=create_graph, targets=targets,
                              keep_graph=create_graph if retain_graph is None else retain_graph)
    if targets is not None:
        leaves = {t: leaves[t] if t._node is None else nodes[t._node]
                  for t in targets if (t in leaves if t._node is None else t._node in nodes)}
    accumulate(leaves, create_graph)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, allow_unused: bool = False, materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, returned; no `.grad` changes.

    Raises GradError for an input that does not require grad or, unless `allow_unused` (then None) or
    `materialize_grads` (then zeros), that the outputs do not depend on.

    >>> x = tl.tensor(2.0, requires_grad=True)
    >>> g, = tl.autograd.grad(x ** 3, x, create_graph=True)
    >>> tl.autograd.grad(g, x)
    (tensor(12.),)
    """
    targets = _targets(inputs)
    leaves, nodes = propagate(_roots(outputs, grad_outputs), create_graph=create_graph, targets=targets,
                              keep_graph=create_graph if retain_graph is None else retain_graph)
    result: list[Tensor | None] = []
    for i, target in enumerate(targets):
        total = leaves.get(target) if target._node is None else nodes.get(target._node)
        if total is not None:
            result.append(total[0] if create_graph else own(total))
        elif materialize_grads:
            result.append(wrap(target.backend.fill("fill", target.array.shape, target.array.dtype, 0), target.backend))
        elif allow_unused:
            result.append(None)
        else:
            raise GradError(f"input {i} of shape {tuple(target.shape)} was not used to compute the outputs; "
                            "pass allow_unused=True to get None for it")
    return tuple(result)


def _targets(inputs: Any) -> list[Any]:
    targets = _listed(inputs)
    for i, target in enumerate(targets):
        refresh(target)
        if not target._requires_grad:
            raise GradError(f"input {i} of shape {tuple(target.shape)} does not require grad")
    return targets
