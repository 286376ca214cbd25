"""Module: the base class of all layers and models.

Contract. What a Module owns lies in its ordinary attributes and nowhere else (see tree.py for what is owned and
found); reading an attribute therefore costs what it costs in any Python object, and a call without hooks is one
comparison and one call. `__setattr__` only refuses what would lose a Parameter without a word.
"""

from __future__ import annotations

import importlib
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

from .. import dtypes
from ..backends import Device
from ..dtypes import DType
from ..errors import DTypeError, TensorliteError
from ..tensor import Tensor
from . import state
from .hooks import Hook, Hooks, RemovableHandle
from .parameter import Parameter
from .tree import Finder, ModuleTree, children_first, join

if TYPE_CHECKING:
    from ..insight.summary import Summary

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
Fn = Callable[["Module"], Any]

_MAY_BE_OWNED = ("forward", "summary")  # methods in whose place an attribute may stand: PyTorch has no summary


class _HasForward(Protocol[P, R]):
    """What `__call__` borrows its signature from, so that a type checker sees `model(x)` as `forward` returns it."""

    _hooks: Hooks | None

    @property
    def forward(self) -> Callable[P, R]: ...


class Module(ModuleTree):
    """Base class of layers and models: assign Parameters and Modules to attributes, and write `forward`.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layers = [nn.Linear(2, 3), nn.Linear(3, 1)]
    ...     def forward(self, x):
    ...         for layer in self.layers:
    ...             x = F.relu(layer(x))
    ...         return x
    >>> [name for name, _ in Net().named_parameters()]
    ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'layers.1.bias']
    """

    training: bool
    _empty_parameters: frozenset[str] = frozenset()  # names that hold None, or a Parameter later
    _hooks: Hooks | None = None

    def __init__(self) -> None:
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; every subclass writes its own."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self: _HasForward[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._hooks.call(self, args, kwargs)  # type: ignore[no-any-return]
        except TensorliteError as error:
            _add_place(self, error)
            raise

    # --- what a module owns ------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, (Parameter, Module)):
            kind = "module" if isinstance(value, Module) else "parameters"
            if "training" not in own:
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call; "
                                     f"write super().__init__() first in {type(self).__name__}.__init__")
            if name not in own and name not in _MAY_BE_OWNED and hasattr(Module, name):
                raise AttributeError(f"cannot assign {kind} as '{name}': every Module has a method of that name")
            self._forget_buffer(name)
        elif value is not None:
            self._refuse_replacing(name, own.get(name), value)
        elif isinstance(own.get(name), Parameter):
            own["_empty_parameters"] = self._empty_parameters | {name}
        object.__setattr__(self, name, value)

    def _refuse_replacing(self, name: str, old: Any, value: Any) -> None:
        kind = type(value).__name__
        if isinstance(old, Parameter) or (name in self._empty_parameters and isinstance(value, Tensor)):
            raise TypeError(f"cannot assign '{kind}' as parameter '{name}' (nn.Parameter or None expected); "
                            f"write nn.Parameter(value), or module.{name}.data.copy_(value) to change its numbers")
        if isinstance(old, Module):
            raise TypeError(f"cannot assign '{kind}' as child module '{name}' (nn.Module or None expected); "
                            f"del module.{name} first to replace it by something else")
        if name in self._buffers and not isinstance(value, Tensor):
            raise TypeError(f"cannot assign '{kind}' object to buffer '{name}' (Tensor or None expected)")

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget_buffer(name)

    def _forget_buffer(self, name: str) -> None:
        if name in self._buffers:
            self.__dict__["_buffers"] = {k: v for k, v in self._buffers.items() if k != name}

    def _check_new_name(self, kind: str, name: str) -> None:
        if "training" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call; "
                                 f"write super().__init__() first in {type(self).__name__}.__init__")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{kind} name can't " + ('contain "."' if name else 'be empty string ""'))
        if hasattr(self, name) and getattr(self, name) is not None:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Own a tensor that is not trained, such as a running mean; `state_dict` has it if `persistent`."""
        self._check_new_name("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                            "(Tensor or None required)")
        object.__setattr__(self, name, tensor)
        self.__dict__["_buffers"] = {**self._buffers, name: persistent}

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as `self.<name> = param`; None reserves the name for a Parameter."""
        self._check_new_name("parameter", name)
        if param is None:
            self.__dict__["_empty_parameters"] = self._empty_parameters | {name}
        elif not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                            "(nn.Parameter or None required)")
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """The same as `self.<name> = module`, for names that are no Python identifiers too."""
        self._check_new_name("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass; pass an instance of one")
        setattr(self, name, module)

    register_module = add_module

    # --- acting on the whole tree --------------------------------------------------------------------------------

    def apply(self, fn: Fn) -> Self:
        """Call `fn(module)` for every module below and for this one, children first; returns self."""
        for module in children_first(self):
            fn(module)
        return self

    def train(self, mode: bool = True) -> Self:
        """Put this module and all below in training mode (dropout on, batch statistics used); returns self."""
        if not isinstance(mode, bool):
            raise TypeError("training mode is expected to be boolean")
        _set_training(Finder(self), self, mode, {id(self)})
        return self

    def eval(self) -> Self:
        """The same as `train(False)`; returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say for all parameters whether they require grad; returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or (with `set_to_none=False`) set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach().zero_()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device and/or a floating dtype, in place: `to('cuda')`, `to(tl.float64)`, `to(other_tensor)`.

        Parameters stay the same objects, so an optimizer made before still holds them. Only floating tensors
        change their dtype. Raises DTypeError for a dtype that is not floating. Returns self.
        """
        device, dtype = _device_and_dtype(*args, **kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise DTypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")

        def convert(t: Tensor) -> Tensor:
            wanted = dtype if dtype is not None and t.dtype.is_floating_point else t.dtype
            return t.detach().to(device=t.device if device is None else device, dtype=wanted)

        for tensor in (*self.parameters(), *self.buffers()):
            grad = tensor.grad if tensor.is_leaf else None
            tensor._set(convert(tensor))
            if grad is not None:
                tensor.grad = convert(grad)
        return self

    def cpu(self) -> Self:
        """Move to the CPU, in place."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move to a GPU, in place. Raises DeviceError, saying what is missing, where there is none."""
        return self.to("cuda" if device is None else device)

    def float(self) -> Self:
        """Convert floating tensors to float32, in place."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Convert floating tensors to float64, in place."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """Convert floating tensors to float16, in place."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """Convert floating tensors to bfloat16, in place."""
        return self.to(dtypes.bfloat16)

    # --- hooks -------------------------------------------------------------------------------------------------

    def _own_hooks(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(self, hook: Hook, *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, if not None, replaces the arguments.

        With `with_kwargs` it is `hook(module, args, kwargs)` and returns (args, kwargs).
        """
        return self._own_hooks().forward_pre.register(hook, with_kwargs, prepend)

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False,
                              with_kwargs: bool = False) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; what it returns, if not None, replaces the output.

        With `with_kwargs` it is `hook(module, args, kwargs, output)`.
        """
        return self._own_hooks().forward.register(hook, with_kwargs, prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` in backward, both tuples of tensors or None.

        What it returns, if not None, replaces `grad_input`.
        """
        return self._own_hooks().backward.register(hook, prepend=prepend)

    # --- saving and loading --------------------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """Name -> parameter or persistent buffer: detached tensors that share memory with the model.

        A tied tensor stands under each of its names. `keep_vars` gives the Parameters themselves.
        """
        return state.state_dict(self, prefix, keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> state.IncompatibleKeys:
        """Copy tensors into this model by name; returns (missing_keys, unexpected_keys).

        Everything is checked before anything is written. `strict=False` allows missing and unexpected names, but no
        other problem. With `assign` the model takes over the given tensors' memory, dtype and device.
        Raises ArgumentError that lists all problems.
        """
        return state.load_state_dict(self, state_dict, strict, assign)

    # --- how it looks --------------------------------------------------------------------------------------------

    def summary(self, *inputs: Any, input_size: Any = None, **options: Any) -> Summary:
        """The modules with shapes, parameters, operations and memory, for what `forward` takes or an `input_size`.

        See `tl.insight.summary` for the options.
        """
        insight = importlib.import_module("tensorlite.insight.summary")  # which no other layer imports
        result: Summary = insight.summary(self, *inputs, input_size=input_size, **options)
        return result

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr; for subclasses."""
        return ""

    def _child_lines(self) -> list[str]:
        return [f"({name}): {indent(repr(child))}" for name, child in self.named_children()]

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = (extra.split("\n") if extra else []) + (children := self._child_lines())
        if len(lines) < 2 and not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def indent(text: str) -> str:
    """Text whose lines after the first are moved two columns to the right."""
    return text.replace("\n", "\n  ")


def _set_training(finder: Finder, module: Module, mode: bool, seen: set[int]) -> None:
    """Set the mode of a module and below; a child whose class has its own `train` is left to that."""
    module.training = mode
    for _, child in finder.own(module)[0]:
        if id(child) in seen:
            continue
        seen.add(id(child))
        if type(child).train is Module.train:
            _set_training(finder, child, mode, seen)
        else:
            child.train(mode)


def _device_and_dtype(*args: Any, device: Any = None, dtype: Any = None,
                      non_blocking: bool = False) -> tuple[Any, DType | None]:
    """What the arguments of `to` ask for: devices and dtypes in any order, or a tensor that has both."""
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, bool) or arg is None:
            continue  # non_blocking, which changes nothing here
        elif isinstance(arg, (Device, int)) or (isinstance(arg, str) and arg not in dtypes.NAMES):
            device = arg
        else:
            dtype = arg
    return device, None if dtype is None else dtypes.as_dtype(dtype)


def _add_place(module: Any, error: TensorliteError) -> None:
    """Put the name of the part of `module` from which the error comes in front of the error's path."""
    inner = error.module
    if inner is None:
        error.module_path, error.module_type = "", type(module).__name__
    elif inner is not module:
        names = [name for name, part in module.named_modules() if part is inner]
        name = names[0] if names else f"({type(inner).__name__})"
        error.module_path = join(name, error.module_path or "") if error.module_path else name
    error.module = module
