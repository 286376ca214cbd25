"""`with tl.tape():` has each node keep what the graph alone does not know: source line, module, values.

Contract. Only while such a block is open is anything wrapped, and what other threads record meanwhile is left alone.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..autograd import function
from ..autograd.function import output_number
from ..autograd.op import Op
from ..autograd.tape import Node, Seen, Var, save
from ..errors import user_line
from ..nn import Module, containers
from . import names
from .exchange import Exchanges
from .module_names import ModuleNames

_depth: ContextVar[int] = ContextVar("tape", default=0)
_modules: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("tape_modules", default=())  # as in Seen


class tape:
    """Keep source lines, module paths, values and names of variables, for `Tensor.tape` and `backward_steps`.

    Values stay in memory as long as the graph does: this is for looking, not for training.

    >>> w = tl.tensor(2.0, requires_grad=True)
    >>> with tl.tape():
    ...     loss = (w * 3.0).square()
    >>> [record.value.item() for record in loss.tape().records]
    [6.0, 36.0]
    """

    def __enter__(self) -> None:
        _watch.start()
        _depth.set(_depth.get() + 1)

    def __exit__(self, *exc_info: object) -> None:
        _depth.set(_depth.get() - 1)
        _watch.stop()
        names.learn_variables()


class _Watch:
    """The wrappers that serve all `with tl.tape():` blocks that are open, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._exchanges = Exchanges()
        self.modules = ModuleNames()

    def start(self) -> None:
        with self._lock:
            self._open += 1
            if self._open == 1:
                self.modules = ModuleNames()
                self._exchanges.exchange(Op, "_record", _noting)
                self._exchanges.exchange(function, "_hang_outputs", _noting_outputs)
                self._exchanges.exchange(Module, "__call__", _in_module)
                self._exchanges.exchange(containers, "_is_plain", _one_by_one)

    def stop(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._exchanges.take_away()


_watch = _Watch()


def _kind(module: Module) -> str:
    """A module's class and what it was made with: "Linear(5, 16)"."""
    made_with = re.sub(r"\b(in_features|out_features)=|, bias=True$", "", module.extra_repr())
    return type(module).__name__ + (f"({made_with})" if made_with else "")


def _in_module(call: Callable[..., Any]) -> Any:
    @functools.wraps(call)
    def module(module: Module, *args: Any, **kwargs: Any) -> Any:
        if not _depth.get():
            return call(module, *args, **kwargs)
        outer = _modules.get()
        path = _watch.modules.path(module, outer[-1][0] if outer else "")
        if not outer:
            names.learn_model(module, path)
        token = _modules.set((*outer, (path, _kind(module))))
        try:
            return call(module, *args, **kwargs)
        finally:
            _modules.reset(token)

    return module


def _one_by_one(is_plain: Callable[..., bool]) -> Any:
    """Has Sequential call a Linear and its ReLU one after the other, so that both of their results are seen."""

    @functools.wraps(is_plain)
    def fused(*args: Any) -> bool:
        return not _depth.get() and is_plain(*args)

    return fused


def _noting(record: Callable[..., None]) -> Any:
    @functools.wraps(record)
    def noted(op: Op, out: Any, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        record(op, out, inputs, params)
        if _depth.get() and out._node is not None:
            _note(out._node, out, inputs)

    return noted


def _noting_outputs(hang: Callable[..., tuple[Any, ...]]) -> Any:
    """For Functions and checkpoints: a node for the whole, with one for each result."""

    @functools.wraps(hang)
    def noted(node: Node, outputs: tuple[Any, ...], args: tuple[Any, ...], *options: Any) -> tuple[Any, ...]:
        results = hang(node, outputs, args, *options)
        if _depth.get():
            hung = [(out._node, out) for out in results if isinstance(out, Var) and _is_output(out._node, node)]
            for each in (*hung, *[(node, out) for _, out in hung[:1]]):
                _note(*each, args)
        return results

    return noted


def _is_output(node: Node | None, maker: Node) -> bool:
    return node is not None and output_number(node) is not None and node.parents[0] is maker


def _note(node: Any, result: Var, inputs: tuple[Any, ...]) -> None:
    modules = _modules.get()
    node.trace, node.module = user_line(), modules[-1][0] if modules else ""
    node.seen = Seen(save(result), tuple(save(x) if isinstance(x, Var) else x for x in inputs), modules)
