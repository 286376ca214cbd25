"""What the doctor puts around operations, modules, backward and optimizers while it looks on.

Contract. `start` and `stop` are called in pairs; each thread has its own Watch, and one that has none runs through the
wrappers without being seen. After the last `stop` each attribute holds the very object that it held before. A captured
step is run as the ordinary function that it was made of, at every call, while its thread is watched.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from ...autograd import engine
from ...autograd.function import Function
from ...autograd.op import Op
from ...autograd.tape import Node
from ...backends import recording
from ...capture.step import Captured
from ...nn import Module
from ...optim import Optimizer
from ...tensor import Tensor
from ..exchange import Exchanges, is_outermost, with_subclasses
from .places import locate
from .watch import Watch, parameters_of

Call = Callable[..., Any]


class _Here(threading.local):
    """The Watches of this thread, the innermost last: only that one sees."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []


_here = _Here()
_lock = threading.Lock()
_active = 0
_exchanges = Exchanges()


def start(watch: Watch) -> None:
    """Let a Watch see this thread from now on."""
    global _active
    with _lock:
        if not _active:
            try:
                _put()
            except BaseException:
                _exchanges.take_away()
                raise
        _active += 1
        _here.watches.append(watch)


def stop(watch: Watch) -> None:
    """Let a Watch of this thread see nothing more."""
    global _active
    _here.watches.remove(watch)
    with _lock:
        _active -= 1
        if not _active:
            _exchanges.take_away()


def current() -> Watch | None:
    """The Watch that is to be told what this thread does; None in a recording, which has no values to look at."""
    if not _here.watches or recording.here() is not None:
        return None
    watch = _here.watches[-1]
    return None if watch.hidden else watch


def _put() -> None:
    exchange = _exchanges.exchange
    exchange(Op, "__call__", _operation)
    for op_class in with_subclasses(Op):
        exchange(op_class, "gradients", _gradients)
    exchange(Function, "apply", _function)
    exchange(engine, "_backward", _backward)
    exchange(engine, "_grad", _grad)
    exchange(engine, "accumulate", _accumulate)
    exchange(Module, "__call__", _module)
    exchange(Module, "zero_grad", _zero_grad)
    for optimizer in with_subclasses(Optimizer):
        exchange(optimizer, "step", _step)
        exchange(optimizer, "zero_grad", _zero_grad)
    exchange(Captured, "__call__", _captured)


def _unseen(watch: Watch, call: Call, *args: Any, **kwargs: Any) -> Any:
    """Call a function whose inner calls are not to be told."""
    watch.hidden += 1
    try:
        return call(*args, **kwargs)
    finally:
        watch.hidden -= 1


def _operation(call: Call) -> Call:
    @functools.wraps(call)
    def operation(op: Op, *inputs: Any, **params: Any) -> Any:
        watch = current()
        if watch is None:
            return call(op, *inputs, **params)
        place = watch.before_operation()
        out = _unseen(watch, call, op, *inputs, **params)
        watch.after_operation(op.name, inputs, out, place)
        return out

    return operation


def _function(apply: Any) -> Any:
    @functools.wraps(apply.__func__)
    def function(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        watch = current()
        if watch is None:
            return apply.__func__(cls, *args, **kwargs)
        place = watch.before_operation()
        out = _unseen(watch, apply.__func__, cls, *args, **kwargs)
        for result in out if isinstance(out, tuple) else (out,):
            watch.after_operation(cls.__name__, args, result, place)
        return out

    return classmethod(function)


def _module(call: Call) -> Call:
    @functools.wraps(call)
    def module(module: Module, *args: Any, **kwargs: Any) -> Any:
        watch = current()
        if watch is None:
            return call(module, *args, **kwargs)
        place = watch.enter(module, args)
        try:
            out = call(module, *args, **kwargs)
        except BaseException:
            watch.fail()
            raise
        watch.leave(module, args, out, place)
        return out

    return module


def _backward(walk: Call) -> Call:
    @functools.wraps(walk)
    def backward(tensors: Any, gradients: Any, keep_graph: bool, *args: Any) -> Any:
        watch = current()
        if watch is None:
            return walk(tensors, gradients, keep_graph, *args)
        watch.backwards += 1
        result = _unseen(watch, walk, tensors, gradients, keep_graph, *args)
        watch.tell("backward", [tensors] if isinstance(tensors, Tensor) else list(tensors), keep_graph)
        return result

    return backward


def _grad(walk: Call) -> Call:
    @functools.wraps(walk)
    def grad(*args: Any) -> Any:
        watch = current()
        return walk(*args) if watch is None else _unseen(watch, walk, *args)

    return grad


def _in_backward() -> Watch | None:
    """The Watch of this thread, in the midst of a backward that it sees; one that is taken in steps hides nothing."""
    if not _here.watches or recording.here() is not None:
        return None
    return _here.watches[-1]


def _gradients(gradients: Call) -> Call:
    @functools.wraps(gradients)
    def rule(op: Op, node: Node, g: Any, *args: Any) -> Any:
        watch = _in_backward()
        if watch is None or not is_outermost(rule, type(op), "gradients"):
            return gradients(op, node, g, *args)
        results = list(gradients(op, node, g, *args))
        if watch.is_looking:
            watch.tell("rule", node, g, results)
        return results

    return rule


def _accumulate(accumulate: Call) -> Call:
    @functools.wraps(accumulate)
    def accumulated(sums: dict[Any, Any], create_graph: bool) -> None:
        watch = _in_backward()
        if watch is None:
            accumulate(sums, create_graph)
            return
        leaves = list(sums)
        watch.backwards += not watch.hidden
        watch.tell("arriving", leaves)
        accumulate(sums, create_graph)
        watch.tell("arrived", leaves)

    return accumulated


def _zero_grad(method: Call) -> Call:
    @functools.wraps(method)
    def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
        watch = current()
        if watch is None or not is_outermost(zero_grad, type(owner), "zero_grad"):
            return method(owner, *args, **kwargs)
        place, _ = locate(watch.module)
        result = method(owner, *args, **kwargs)
        parameters = parameters_of(owner) if isinstance(owner, Optimizer) else list(owner.parameters())
        watch.tell("zero_grad", owner, parameters, place)
        return result

    return zero_grad


def _step(method: Call) -> Call:
    @functools.wraps(method)
    def step(optimizer: Optimizer, closure: Any = None, *args: Any, **kwargs: Any) -> Any:
        watch = current()
        if watch is None or not is_outermost(step, type(optimizer), "step"):
            return method(optimizer, *(() if closure is None else (closure,)), *args, **kwargs)
        place, _ = locate(watch.module)
        began = [] if closure is not None else [watch.start_step(optimizer, place)]

        def seen() -> Any:
            loss = closure()
            began[:] = [watch.start_step(optimizer, place)]
            return loss

        result = method(optimizer, *(() if closure is None else (seen,)), *args, **kwargs)
        for started in began:
            watch.end_step(*started)
        return result

    return step


def _captured(call: Call) -> Call:
    @functools.wraps(call)
    def captured(step: Captured, *args: Any, **kwargs: Any) -> Any:
        watch = current()
        if watch is None:
            return call(step, *args, **kwargs)
        watch.captured.add(step.name)
        return step._body(*args, **kwargs)

    return captured
