"""Whether operations are recorded: `no_grad`, `enable_grad`, `inference_mode`, `set_grad_enabled`, `detect_anomaly`.

The modes live in context variables, so they belong to one thread (and one asyncio task). They are for users:
no library code switches one, so an interrupt inside the library can never leave one switched.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

grad_enabled: ContextVar[bool] = ContextVar("tensorlite_grad_enabled", default=True)
anomaly_enabled: ContextVar[bool] = ContextVar("tensorlite_anomaly_enabled", default=False)


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require grad are recorded in this thread."""
    return grad_enabled.get()


def is_anomaly_enabled() -> bool:
    """Whether `detect_anomaly` is on in this thread."""
    return anomaly_enabled.get()


class _Mode:
    """A context manager and decorator that gives one context variable a value; may be nested and reused."""

    variable: ContextVar[bool] = grad_enabled

    def __init__(self, value: bool) -> None:
        self.value = value
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(self.variable.get())
        self.variable.set(self.value)

    def __exit__(self, *exc_info: object) -> None:
        self.variable.set(self._previous.pop())

    def __call__(self, function: F) -> F:
        """The function, run under this mode; a generator function is under it while its body runs."""

        def new() -> _Mode:
            mode = _Mode(self.value)
            mode.variable = self.variable
            return mode

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with new():
                return function(*args, **kwargs)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            generator = function(*args, **kwargs)
            sent = None
            try:
                while True:
                    with new():
                        try:
                            item = generator.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield item
            finally:
                generator.close()

        return cast(F, generate if inspect.isgeneratorfunction(function) else call)


class no_grad(_Mode):
    """Record nothing: `with no_grad():` or `@no_grad()` or `@no_grad`.

    >>> x = tl.ones(2, requires_grad=True)
    >>> with tl.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __new__(cls, function: Any = None) -> Any:
        mode = super().__new__(cls)
        if function is None:
            return mode
        mode.__init__()
        return mode(function)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_Mode):
    """Record, also inside `no_grad`."""

    def __new__(cls, function: Any = None) -> Any:
        return no_grad.__new__(cls, function)  # type: ignore[arg-type]

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_Mode):
    """Switch recording on or off: at once as a statement, until the block ends as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._before = grad_enabled.get()
        grad_enabled.set(mode)

    def __enter__(self) -> None:
        self._previous.append(self._before)
        grad_enabled.set(self.value)

    def __call__(self, function: F) -> F:
        grad_enabled.set(self._before)
        return super().__call__(function)


class inference_mode(_Mode):
    """PyTorch's name for evaluation without recording. Here it is `no_grad`, with `mode=False` for no change."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode and grad_enabled.get())


class detect_anomaly(_Mode):
    """Remember the source line of every operation, and stop backward at the first NaN gradient, naming that line.

    Costs a walk up the stack per operation: for finding faults, not for training.
    """

    variable = anomaly_enabled

    def __init__(self) -> None:
        super().__init__(True)
