"""Whether operations are recorded: `no_grad`, `enable_grad`, `inference_mode`, `set_grad_enabled`, `detect_anomaly`.

The modes, and autocast (autocast.py) beside them, live in context variables, so they belong to one thread (and one
asyncio task). They are for users: no library code switches one, so an interrupt inside the library can never leave one
switched.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ..errors import DTypeError

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

grad_enabled: ContextVar[bool] = ContextVar("tensorlite_grad_enabled", default=True)
LINES, LINES_AND_NAN = 1, 2  # what detect_anomaly asks for
anomaly_level: ContextVar[int] = ContextVar("tensorlite_anomaly_level", default=0)
autocast_regions: ContextVar[Mapping[str, Any]] = ContextVar("tensorlite_autocast", default=MappingProxyType({}))


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require grad are recorded in this thread."""
    return grad_enabled.get()


def is_anomaly_enabled() -> bool:
    """Whether `detect_anomaly` is on in this thread."""
    return anomaly_level.get() > 0


def run_with_grad(enabled: bool, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call a function with recording on or off, in a copy of the context: the caller's mode is never touched.

    Without autocast: a backward computes in the dtypes that its forward has chosen.
    """
    context = contextvars.copy_context()
    context.run(grad_enabled.set, enabled)
    if autocast_regions.get():
        context.run(autocast_regions.set, {})
    return context.run(function, *args, **kwargs)


class Mode:
    """A context manager and decorator that gives one context variable a value; may be nested and reused."""

    variable: ContextVar[Any] = grad_enabled

    def __init__(self, value: Any) -> None:
        self.value = value
        self._previous: list[Any] = []

    def _inside(self) -> Any:
        """The value that the variable has inside."""
        return self.value

    def __enter__(self) -> None:
        previous, inside = self.variable.get(), self._inside()
        self._previous.append(previous)
        try:
            self.variable.set(inside)
        except BaseException:  # an interrupt right after the switch: __exit__ will not be called
            self.variable.set(previous)
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.variable.set(self._previous[-1])  # before anything at which an interrupt could come
        self._previous.pop()

    def _again(self) -> Mode:
        """The same mode for one call of a decorated function: calls may overlap in time, in threads and generators."""
        mode = Mode(self._inside())
        mode.variable = self.variable
        return mode

    def __call__(self, function: F) -> F:
        """The function, run under this mode; a generator or coroutine function is under it while its body runs."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **kwargs)
            resume = functools.partial(generator.send, None)
            while True:
                with self._again():
                    try:
                        item = resume()
                    except StopIteration as stop:
                        return stop.value
                try:
                    resume = functools.partial(generator.send, (yield item))
                except BaseException as error:  # thrown in by the caller, or GeneratorExit
                    resume = functools.partial(generator.throw, error)

        @functools.wraps(function)
        async def await_(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return await function(*args, **kwargs)

        if inspect.isgeneratorfunction(function):
            return cast(F, generate)
        return cast(F, await_ if inspect.iscoroutinefunction(function) else call)


class _Switch(Mode):
    """A mode that needs no argument, so that `@no_grad` does as well as `@no_grad()`."""

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None or isinstance(function, bool) else cls()(function)


class no_grad(_Switch):
    """Record nothing: `with no_grad():` or `@no_grad()` or `@no_grad`.

    >>> x = tl.ones(2, requires_grad=True)
    >>> with tl.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_Switch):
    """Record, also inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(_Switch):
    """PyTorch's name for evaluation without recording. Here it is `no_grad`, and with `mode=False` `enable_grad`."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)


class set_grad_enabled(Mode):
    """Switch recording on or off: at once as a statement, until the block ends as a context manager."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise DTypeError(f"set_grad_enabled: mode must be True or False, got {mode!r}")
        super().__init__(mode)
        self._before = grad_enabled.get()
        grad_enabled.set(mode)

    def __enter__(self) -> None:
        self._previous.append(self._before)
        grad_enabled.set(self.value)

    def __call__(self, function: F) -> F:
        grad_enabled.set(self._before)
        return super().__call__(function)


class detect_anomaly(Mode):
    """Remember the source line of every operation, for the errors of a later backward through it.

    backward stops at the first NaN gradient (unless `check_nan=False`), naming the operation and that line; other
    errors in a rule name it too. Costs a walk up the stack per operation: for finding faults, not for training.
    """

    variable = anomaly_level

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(LINES_AND_NAN if check_nan else LINES)
