"""What a running profile puts in place of ordinary functions, and takes away at the end.

Contract. `start` and `stop` are called in pairs, by any thread; between the first start and the last stop operations,
rules, modules, optimizers and the doors of the devices make spans (spans.py). Afterwards each attribute holds the very
object that it held before. The doors: `run` and `elementwise` are wrapped in the backend's instance, for the time at
which a kernel begins, and an observer says what the kernel was. A device that is first used while a profile runs is
seen from the first operation on its tensors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

from .. import backends
from ..autograd import engine
from ..autograd.function import Function
from ..autograd.op import Op
from ..autograd.tape import Node, Var
from ..backends import Backend
from ..capture.recorded import Recorded
from ..capture.step import Captured
from ..nn import Module
from ..optim import Optimizer
from . import costs, spans
from .device_clock import DeviceClock
from .exchange import Exchanges, is_outermost, with_subclasses
from .module_names import ModuleNames
from .spans import BACKWARD, CAPTURE, KERNEL, MODULE, OP, STEP, Span, Work

_ABSENT = object()
_lock = threading.RLock()
_in_place: _Instruments | None = None


def start(sink: spans.Sink) -> None:
    """Send spans to a sink from now on."""
    global _in_place
    with _lock:
        try:
            if _in_place is None:
                _in_place = _Instruments()
                _in_place.put()
            sink.began = perf_counter_ns()
            spans.sinks = (*spans.sinks, sink)
        except BaseException:
            _take_away_if_unused()
            raise


def stop(sink: spans.Sink, wait: bool) -> None:
    """Send no more spans to a sink; with `wait`, until the devices' own times of its kernels are there."""
    with _lock:
        spans.sinks = tuple(other for other in spans.sinks if other is not sink)
        doors = list(_in_place.doors.values()) if _in_place else []
        _take_away_if_unused()
    for door in doors:
        if door.clock is not None:
            door.clock.read(wait)


def _take_away_if_unused() -> None:
    global _in_place
    if _in_place is not None and not spans.sinks:
        _in_place.take_away()
        _in_place = None


class _Instruments:
    """All that is in place while at least one profile runs."""

    def __init__(self) -> None:
        self.doors: dict[int, _Door] = {}
        self._exchanges = Exchanges()
        self._names = ModuleNames()

    def put(self) -> None:
        exchange = self._exchanges.exchange
        exchange(Op, "__call__", self._operation)
        for op_class in with_subclasses(Op):
            exchange(op_class, "gradients", _rule)
        exchange(Function, "apply", _function)
        exchange(Node, "__init__", _node)
        exchange(engine, "_backward", _whole_backward)
        exchange(engine, "_grad", _whole_backward)
        exchange(Module, "__call__", self._module)
        for optimizer in with_subclasses(Optimizer):
            for name in ("step", "zero_grad"):
                exchange(optimizer, name, _optimizer_method)
        exchange(Captured, "__call__", _captured)
        exchange(Recorded, "replay", self._replay)
        for backend in backends.loaded():
            self.watch(backend)

    def take_away(self) -> None:
        for door in self.doors.values():
            door.take_away()
        self._exchanges.take_away()

    def watch(self, backend: Backend) -> None:
        """See the kernels of a device from now on."""
        with _lock:
            if id(backend) not in self.doors and _in_place is self:
                door = self.doors[id(backend)] = _Door(backend)
                door.put()

    def _operation(self, call: Callable[..., Any]) -> Any:
        @functools.wraps(call)
        def operation(op: Op, *inputs: Any, **params: Any) -> Any:
            for x in inputs:
                if isinstance(x, Var) and id(x.backend) not in self.doors:
                    self.watch(x.backend)
            with Span(OP, op.name):
                return call(op, *inputs, **params)

        return operation

    def _module(self, call: Callable[..., Any]) -> Any:
        @functools.wraps(call)
        def module(module: Module, *args: Any, **kwargs: Any) -> Any:
            path = self._names.path(module, spans.current_module())
            with Span(MODULE, type(module).__name__, path):
                return call(module, *args, **kwargs)

        return module

    def _replay(self, replay: Callable[..., Any]) -> Any:
        @functools.wraps(replay)
        def replayed(recorded: Recorded, leaves: Any) -> Any:
            self.watch(recorded._backend)
            door = self.doors.get(id(recorded._backend))
            if door is None or door.clock is None:  # it makes kernel after kernel
                return replay(recorded, leaves)
            return door.as_one(f"graph of {recorded.program.kernels} kernels", replay, recorded, leaves)

        return replayed


def _rule(gradients: Callable[..., Any]) -> Any:
    """An op's gradients, in a span that lasts while the engine adds them up."""

    @functools.wraps(gradients)
    def rule(op: Op, node: Node, *args: Any) -> Any:
        if not is_outermost(rule, type(op), "gradients"):  # called by those of a subclass, which have a span
            return gradients(op, node, *args)
        return spanned(op, node, *args)

    def spanned(op: Op, node: Node, *args: Any) -> Iterator[Any]:
        with Span(BACKWARD, f"{op.name} (backward)", node.module, closed=True):
            yield from gradients(op, node, *args)

    return rule


def _node(init: Callable[..., None]) -> Any:
    @functools.wraps(init)
    def node(self: Node, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.module = spans.current_module()

    return node


def _function(apply: Any) -> Any:
    @functools.wraps(apply.__func__)
    def function(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        with Span(OP, cls.__name__, closed=True):
            return apply.__func__(cls, *args, **kwargs)

    return classmethod(function)


def _whole_backward(walk: Callable[..., Any]) -> Any:
    @functools.wraps(walk)
    def backward(*args: Any) -> Any:
        with Span(BACKWARD, "backward"):
            return walk(*args)

    return backward


def _optimizer_method(method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def step(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if not is_outermost(step, type(optimizer), method.__name__):  # called by that of a subclass
            return method(optimizer, *args, **kwargs)
        with Span(STEP, f"{type(optimizer).__name__}.{method.__name__}"):
            return method(optimizer, *args, **kwargs)

    return step


def _captured(call: Callable[..., Any]) -> Any:
    @functools.wraps(call)
    def captured(step: Captured, *args: Any, **kwargs: Any) -> Any:
        with Span(CAPTURE, f"capture {step.name}"):
            return call(step, *args, **kwargs)

    return captured


class _Door:
    """A backend whose kernels make spans."""

    def __init__(self, backend: Backend) -> None:
        self.clock = DeviceClock(backend) if backend.device.type == "cuda" else None
        self._backend = backend
        self._before = {name: vars(backend).get(name, _ABSENT) for name in ("run", "elementwise", "observers")}
        self._now: dict[str, Any] = {"run": self._timed(backend.run)}
        if type(backend).elementwise is not Backend.elementwise:  # that one goes through run
            self._now["elementwise"] = self._timed(backend.elementwise)

    def put(self) -> None:
        for name, value in self._now.items():
            setattr(self._backend, name, value)
        self._backend.observers = (*self._backend.observers, self._observe)

    def take_away(self) -> None:
        backend, before = self._backend, self._before
        for name, value in self._now.items():
            if vars(backend).get(name) is not value:  # somebody else has exchanged it since
                continue
            if before[name] is _ABSENT:
                delattr(backend, name)
            else:
                setattr(backend, name, before[name])
        backend.observers = tuple(other for other in backend.observers if other != self._observe)
        if not backend.observers and before["observers"] is _ABSENT:
            del backend.observers

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        clock = self.clock

        def timed(kernel: str, *args: Any, **kwargs: Any) -> Any:
            with Span(KERNEL, kernel):
                return call(kernel, *args, **kwargs)

        def timed_on_device(kernel: str, *args: Any, **kwargs: Any) -> Any:
            assert clock is not None
            with Span(KERNEL, kernel) as span:
                clock.start(span)
                try:
                    return call(kernel, *args, **kwargs)
                finally:
                    clock.forget(span)

        return timed if clock is None else timed_on_device

    def as_one(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call what starts work that nobody tells of, as one kernel of which only the time is known."""
        assert self.clock is not None
        with Span(KERNEL, name) as span:
            self.clock.start(span)
            try:
                with spans.unseen():
                    result = call(*args)
                self.clock.end(span)
            finally:
                self.clock.forget(span)
            span.work = Work(str(self._backend.device), 0, 0)
            return result

    def _observe(self, backend: Backend, kernel: str, out: Any, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """A kernel has ended: say in its span what it was."""
        now = perf_counter_ns()
        span = spans.open_kernel()
        if span is None:  # called through a `run` that was taken before the profile began
            with Span(KERNEL, kernel) as span:
                span.work = costs.work(backend, kernel, out, args, params)
            return
        if self.clock is not None:
            self.clock.end(span)
        span.name, span.end = kernel, now
        span.work = costs.work(backend, kernel, out, args, params)
