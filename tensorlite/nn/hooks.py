"""The hooks of a Module: kept apart from it, so that a Module without hooks pays nothing for them.

Order of a call: forward pre hooks, `forward`, forward hooks. A full backward hook needs the gradients at both
ends of the module; each tensor that enters or leaves passes an identity on which the hook waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..autograd import Function
from ..errors import ArgumentError
from ..hooks import RemovableHandle as RemovableHandle
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module

Hook = Callable[..., Any]


class HookTable(dict[int, tuple[Hook, bool]]):
    """Hooks in the order in which they run, each with whether it takes the keyword arguments too."""

    def register(self, hook: Hook, with_kwargs: bool = False, prepend: bool = False) -> RemovableHandle:
        """Add a hook at the end, or in front of all others."""
        others = list(self.items())
        handle = RemovableHandle(self, (hook, with_kwargs))
        if prepend:
            for key, entry in others:
                del self[key]
                self[key] = entry
        return handle


class Hooks:
    """All hooks of one Module."""

    def __init__(self) -> None:
        self.forward_pre = HookTable()
        self.forward = HookTable()
        self.backward = HookTable()

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `module.forward` between its hooks."""
        args, kwargs = self._before(module, args, kwargs)
        if not self.backward:
            return self._after(module, args, kwargs, module.forward(*args, **kwargs))
        boundary = _Boundary(module, list(self.backward.values()))
        args = boundary.enter(args)
        return boundary.leave(self._after(module, args, kwargs, module.forward(*args, **kwargs)))

    def _before(self, module: Module, args: tuple[Any, ...],
                kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        for hook, with_kwargs in list(self.forward_pre.values()):
            changed = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if changed is None:
                continue
            if not with_kwargs:
                args = changed if isinstance(changed, tuple) else (changed,)
            elif isinstance(changed, tuple) and len(changed) == 2:
                args, kwargs = changed
            else:
                raise ArgumentError(
                    f"a forward pre hook with kwargs must return None or (args, kwargs), got {type(changed).__name__}"
                )
        return args, kwargs

    def _after(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        for hook, with_kwargs in list(self.forward.values()):
            changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
            if changed is not None:
                result = changed
        return result


class _Boundary:
    """One call of a module whose backward is watched: gradients at its outputs, then at its inputs."""

    def __init__(self, module: Module, hooks: list[tuple[Hook, bool]]) -> None:
        self.module = module
        self.hooks = hooks
        self.arity = 0
        self.watched: list[int] = []  # positions of the inputs that require grad
        self.grad_output: tuple[Tensor | None, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, those that require grad behind an identity."""
        self.arity = len(args)
        self.watched = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        entered = list(args)
        for i, tensor in zip(self.watched, _Entry.apply(self, *[args[i] for i in self.watched]), strict=True):
            entered[i] = tensor
        return tuple(entered)

    def leave(self, result: Any) -> Any:
        """The result, its tensors behind an identity."""
        outputs = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(o, Tensor) for o in outputs):
            raise ArgumentError(f"{type(self.module).__name__}: a full backward hook needs an output that is a Tensor "
                                f"or a tuple of Tensors, got {type(result).__name__}")
        left = _Exit.apply(self, *outputs)
        return left if isinstance(result, tuple) else left[0]

    def run(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        """Call the hooks with the gradients of the watched inputs; returns these, perhaps replaced."""
        grad_input: list[Tensor | None] = [None] * self.arity
        for i, g in zip(self.watched, grads, strict=True):
            grad_input[i] = g
        current = tuple(grad_input)
        for hook, _ in self.hooks:
            changed = hook(self.module, current, self.grad_output)
            if changed is not None:
                current = self._checked(changed if isinstance(changed, tuple) else (changed,))
        return tuple(current[i] for i in self.watched)

    def _checked(self, changed: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(changed) != self.arity:
            raise ArgumentError(f"{type(self.module).__name__}: a full backward hook returned {len(changed)} gradients "
                                f"for {self.arity} inputs; return None or one entry per positional argument of forward")
        return changed


class _Entry(Function):
    """The identity on the inputs that require grad; its backward is where the hooks run."""

    @staticmethod
    def forward(ctx: Any, boundary: _Boundary, *tensors: Tensor) -> tuple[Any, ...]:
        ctx.boundary = boundary
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, *ctx.boundary.run(grads))


class _Exit(Function):
    """The identity on the outputs; its backward takes note of their gradients."""

    @staticmethod
    def forward(ctx: Any, boundary: _Boundary, *tensors: Tensor) -> tuple[Any, ...]:
        ctx.boundary = boundary
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.boundary.grad_output = grads
        if not ctx.boundary.watched:
            ctx.boundary.run(())
        return (None, *grads)
