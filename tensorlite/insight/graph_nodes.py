"""A model's graph of one forward pass as nodes with names: what TensorBoard shows, and what else draws graphs may take.

Names are paths, "Net/Linear[layers.0]/linear": the modules an operation was recorded in, each as Class[name], and the
operation. Parameters stand in the module that owns them, inputs and outputs under "input" and "output".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..autograd.tape import Node
from ..backends import Array
from ..backends.recording_memory import root
from ..nn import Module
from ..tensor import Tensor
from .forward_pass import ForwardPass, saved_arrays, tensors
from .nodes import is_plain


class GraphNode(NamedTuple):
    """A node: unique name, operation, names of the nodes it takes, shape of its result (None: several), parameters."""

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...] | None
    attributes: str


def graph_nodes(model: Module, *inputs: Any) -> list[GraphNode]:
    """The nodes of `model(*inputs)`, each after those that it takes. The model is left as it was.

    Raises GradError where nothing was recorded that leads to a result.

    >>> for node in graph_nodes(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), tl.ones(1, 2)):
    ...     print(node.name, node.op, node.inputs, node.shape)
    input/0 IO Node () (1, 2)
    Sequential/Linear[0]/weight Parameter () (3, 2)
    Sequential/Linear[0]/bias Parameter () (3,)
    Sequential/Linear[0]/linear linear ('input/0', 'Sequential/Linear[0]/weight', 'Sequential/Linear[0]/bias') (1, 3)
    Sequential/Tanh[1]/tanh tanh ('Sequential/Linear[0]/linear',) (1, 3)
    output/0 IO Node ('Sequential/Tanh[1]/tanh',) (1, 3)
    """
    return _Graph(model, inputs).nodes


class _Graph:
    """A graph in the making."""

    def __init__(self, model: Module, inputs: tuple[Any, ...]) -> None:
        self.nodes: list[GraphNode] = []
        self._count: Counter[str] = Counter()
        self._names: dict[int, str] = {}  # of nodes and leaves, by id
        self._keys = self._scopes(model)
        entries = tuple(self._enter(x) if isinstance(x, Tensor) else x for x in inputs)
        self._forward = forward = ForwardPass(model, entries, {})
        nodes = forward.nodes()
        self._shapes = {id(parent): meta[0] for node in nodes
                        for parent, meta in zip(node.parents, node.metas, strict=True) if parent is not None and meta}
        self._shapes.update({id(x._node): tuple(x.shape) for x in tensors(forward.result)})
        self._own: dict[int, tuple[str, str]] = {}
        for scope, key, parameter in self._parameters(model):
            self._own.setdefault(id(parameter), (scope, key))  # a shared one stands where it comes first
        for node in nodes:
            if id(node) not in self._names:
                self._add_node(node, self._keys[forward.module_of(node)])
        for i, x in enumerate(tensors(forward.result)):
            sources = [self._names[id(x._node)]] if x._node is not None else self._indices([x.array])
            self._add(f"output/{i}", "IO Node", tuple(sources), tuple(x.shape))

    def _scopes(self, model: Module) -> dict[str, str]:
        """'layers.0' -> 'Net/Linear[layers.0]', for each module."""
        scopes = {"": type(model).__name__}
        for name, module in model.named_modules():
            if name:
                outer = max((other for other in scopes if not other or name.startswith(f"{other}.")), key=len)
                local = name.removeprefix(f"{outer}.") if outer else name
                scopes[name] = f"{scopes[outer]}/{type(module).__name__}[{local}]"
        return scopes

    def _parameters(self, model: Module) -> list[tuple[str, str, Any]]:
        return [(self._keys[name], key, parameter) for name, module in model.named_modules()
                for key, parameter in module.named_parameters(recurse=False)]

    def _enter(self, x: Tensor) -> Tensor:
        """An input with a node of its own, where there are gradients to follow."""
        name = self._add(f"input/{self._count['input']}", "IO Node", (), tuple(x.shape))
        self._count["input"] += 1
        if not x.dtype.is_floating_point:
            self._names[id(x)] = name
            return x
        entry = x.detach().requires_grad_().clone()
        self._names[id(entry._node)] = name
        return entry

    def _add_node(self, node: Node, scope: str) -> None:
        taken = [self._leaf_or_node(parent) for parent in node.parents if parent is not None]
        taken += self._indices(saved_arrays(node))
        attributes = ", ".join(f"{name}={value!r}" for name, value in node.params.items() if is_plain(value))
        self._names[id(node)] = self._add(f"{scope}/{node.op.name}", node.op.name, tuple(taken),
                                          self._shapes.get(id(node)), attributes)

    def _indices(self, arrays: Iterable[Array]) -> list[str]:
        """The inputs without a gradient that arrays were made of, such as indices: no parents lead to them."""
        known = self._forward.indices
        return list(dict.fromkeys(self._names[id(known[key][1])] for key in map(id, map(root, arrays)) if key in known))

    def _leaf_or_node(self, parent: Any) -> str:
        if id(parent) not in self._names:  # a leaf that was not met before
            scope, key = self._own.get(id(parent), ("constant", "tensor"))
            kind = "Parameter" if id(parent) in self._own else "Constant"
            self._names[id(parent)] = self._add(f"{scope}/{key}", kind, (), tuple(parent.array.shape))
        return self._names[id(parent)]

    def _add(self, name: str, op: str, inputs: tuple[str, ...], shape: tuple[int, ...] | None,
             attributes: str = "") -> str:
        """Add a node; a name that there is already gets a number."""
        self._count[name] += 1
        if self._count[name] > 1:
            name = f"{name}_{self._count[name] - 1}"
        self.nodes.append(GraphNode(name, op, inputs, shape, attributes))
        return name
