"""`Optimizer`: parameter groups, state, hooks, and the loop that hands the parameters to their update kernel.

A subclass adds a table entry: `_check` says which options are valid, `_plan` names the kernel, the state
tensors it takes and its options. The rest is here. The update of a group is one call through `Backend.run` on raw
arrays: nothing is recorded and no mode is switched, so an interrupt leaves none switched. A gradient is never changed.

What changes between steps (step number, learning rate) reaches the kernel in device memory, never as a Python
number: a recorded step can be replayed with the learning rate of the day.
"""

from __future__ import annotations

import contextvars
import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes
from ..autograd.mode import grad_enabled
from ..autograd.tape import wrap
from ..backends import Array, Backend, recording
from ..errors import ArgumentError, ShapeError
from ..hooks import RemovableHandle
from ..nn.utils import change_all
from ..tensor import Tensor
from . import recorded
from .groups import Group, Params, as_groups, check_param, listed, named
from .recorded import Rate, learning_rate

Closure = Callable[[], Any]

SCALAR_STATE = frozenset({"step", "mu_product", "eta", "mu"})  # 0-d float32, as PyTorch keeps them
NOT_OURS = frozenset({"foreach", "fused", "capturable", "differentiable"})  # how PyTorch computes, not what

_FLOAT32 = dtypes.float32.numpy


class Plan(NamedTuple):
    """How one group is updated: `kernel(params, grads, lr, *state, **options)`.

    `slots` names the state in the kernel's order; None stands for state that these options do without. The
    last name is of a tensor with the parameter's shape.
    """

    kernel: str
    slots: tuple[str | None, ...]
    options: dict[str, Any]


class Optimizer:
    """Base of all optimizers.

    `params` is an iterable of tensors, of dicts with the key 'params' and options of their own, or of (name,
    tensor) pairs such as `model.named_parameters()`. Options may be changed between steps in
    `param_groups[i]`; `state` holds a dict of tensors per parameter, in float32 for 16-bit parameters, on the
    parameter's device.

    Raises ArgumentError for no parameters, a non-leaf, a parameter in two groups or a bad option.
    A subclass of your own overrides `step` and works on `param.data`.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self._check(defaults)
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._rates: dict[tuple[int, Backend], Rate] = {}
        self._found_inf: Tensor | None = None  # 0-d float32: where it is not 0, a step changes nothing (GradScaler)
        self._pre_hooks: dict[int, Callable[..., Any]] = {}
        self._post_hooks: dict[int, Callable[..., Any]] = {}
        self._stepped = False  # for the schedulers' warning
        for group in as_groups(params):
            self.add_param_group(group)

    @staticmethod
    def _check(group: Mapping[str, Any]) -> None:
        """Raise ArgumentError for a bad option; called with the defaults and with every group."""

    @staticmethod
    def _plan(group: Mapping[str, Any]) -> Plan:
        """How the parameters of a group are updated with its present options; by default without a kernel."""
        return Plan("", (), {})

    @staticmethod
    def _initial(name: str, group: Mapping[str, Any]) -> float:
        """The value with which the state `name` starts."""
        return 0.0

    @staticmethod
    def _first_options(options: dict[str, Any]) -> dict[str, Any]:
        """The options of a parameter's first step."""
        return options

    # --- the step ------------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient. Returns the loss if a `closure` computes it anew."""
        if recording.active is not None:
            recorded.prepare(self)
        if self._pre_hooks:
            closure = self._run_pre_hooks(closure)
        loss = self._update(closure)
        self._stepped = True
        if self._post_hooks:
            for hook in list(self._post_hooks.values()):
                hook(self, () if closure is None else (closure,), {})
        return loss

    def _update(self, closure: Closure | None) -> Any:
        loss = None if closure is None else call_with_grad(closure)
        for index, group in enumerate(self.param_groups):
            self._update_group(index, group)
        return loss

    def _update_group(self, index: int, group: Group) -> None:
        """Hand the parameters of a group to the kernel: those of one device and dtype together, in their order."""
        kernel, slots, options = self._plan(group)
        if not kernel:
            raise NotImplementedError(f"{type(self).__name__} has neither a kernel nor a step() of its own")
        names = [name for name in slots if name is not None]
        first_options = self._first_options(options)
        batches: dict[tuple[Backend, np.dtype[Any], bool], list[list[Array]]] = {}
        batch: tuple[Any, ...] = (None, None, None)  # that of the parameter before
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            arrays = [param.array, grad.array]
            param._bump()
            used = options
            if names:
                state = self.state[param]
                held = state.get(names[-1])
                if (held is None or held.backend is not param.backend or held.array.dtype is not param.array.dtype
                        or len(state) < len(names)):
                    self._prepare(param, group, names)
                    if held is None:
                        used = first_options
                for name in names:
                    tensor = state[name]
                    tensor._bump()
                    arrays.append(tensor.array)
            of_param = param.backend, param.array.dtype, used is options
            if of_param != batch:
                batch = of_param
                rows = batches.setdefault(batch, [])
            rows.append(arrays)
        for (backend, _, is_usual), rows in batches.items():
            params, grads, *states = zip(*rows, strict=True)
            given = iter(states)
            backend.run(kernel, params, grads, self._rate(index, backend, group),
                        *[None if name is None else next(given) for name in slots],
                        **self._unless_skipped(backend, options if is_usual else first_options))

    def _rate(self, index: int, backend: Backend, group: Group) -> Array:
        value = learning_rate(group)
        rate = self._rates.get((index, backend))
        if rate is None:
            recorded.refuse_first_step(self, "room for its learning rate")
            rate = self._rates[index, backend] = Rate(backend, value)
        rate.set(value)
        return rate.array

    def _unless_skipped(self, backend: Backend, options: dict[str, Any]) -> dict[str, Any]:
        """The options, and what makes the kernel change nothing, where there is such a thing."""
        found_inf = self._found_inf
        if found_inf is None:
            return options
        return {**options, "skip": found_inf.to(backend.device).array}

    def _prepare(self, param: Tensor, group: Group, names: list[str]) -> None:
        """Make the state that is missing, and bring the rest to the parameter's device and dtype."""
        state = self.state[param]
        for name in names:
            shape, dtype = _state_form(name, param)
            held = state.get(name)
            if held is None:
                recorded.refuse_first_step(self, f"the state {name!r} of a parameter")
                value = self._initial(name, group)
                state[name] = wrap(param.backend.fill("fill", shape, dtype, value), param.backend)
            elif held.backend is not param.backend or held.array.dtype != dtype:
                state[name] = _as_state(held, name, param)

    # --- hooks ---------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return changed (args, kwargs)."""
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return RemovableHandle(self._post_hooks, hook)

    def _run_pre_hooks(self, closure: Closure | None) -> Closure | None:
        args: tuple[Any, ...] = () if closure is None else (closure,)
        kwargs: dict[str, Any] = {}
        for hook in list(self._pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is None:
                continue
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise ArgumentError(f"a step pre hook must return None or (args, kwargs), got {changed!r}")
            args, kwargs = changed
        return args[0] if args else kwargs.get("closure")

    # --- groups --------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with 0 in place."""
        filled = []
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                    continue
                grad = param.grad
                if grad is None:
                    continue
                if grad.requires_grad:
                    param.grad = grad = grad.detach()
                filled.append(grad)
        change_all("many_fill", filled, 0)

    def add_param_group(self, param_group: Group) -> None:
        """Optimize further parameters, with options of their own where given: {'params': ..., 'lr': 0.1}."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        if "params" not in param_group:
            raise ArgumentError(f"a param group needs the key 'params', got {sorted(param_group)}")
        group = {**self.defaults, **param_group, **named(listed(param_group["params"]))}
        params = group["params"]
        for param in params:
            check_param(param)
        self._check(group)
        if len(set(params)) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters, which are updated more than "
                "once a step; list each parameter once", stacklevel=3,
            )
        for other in self.param_groups:
            if ("param_names" in group) != ("param_names" in other):
                with_names = "with" if "param_names" in group else "without"
                raise ArgumentError("all optimizer param groups should be with/without names. cannot add "
                                    f"param group {with_names} names to the optimizer")
            if not set(params).isdisjoint(other["params"]):
                raise ArgumentError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # --- saving --------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rates": {}}  # a copy makes its own

    def state_dict(self) -> dict[str, Any]:
        """{'state': {index: {name: tensor}}, 'param_groups': [...]}: PyTorch's layout, tensors not copied.

        A parameter's index is its position in all groups together.
        """
        index: dict[Tensor, int] = {}
        for group in self.param_groups:
            for param in group["params"]:
                index.setdefault(param, len(index))
        groups = [{**group, "params": [index[p] for p in group["params"]]} for group in self.param_groups]
        state = {index[param]: dict(held) for param, held in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict()` (PyTorch's too): copies, brought to each parameter's device and dtype.

        Raises ArgumentError or ShapeError where it does not fit, before anything is changed.
        """
        if not {"state", "param_groups"} <= state_dict.keys():
            raise ArgumentError("an optimizer's state dict has the keys 'state' and 'param_groups', got "
                                f"{sorted(map(str, state_dict))}; is it a model's?")
        groups, params = self._loaded_groups(state_dict["param_groups"])
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for key, held in state_dict["state"].items():
            found = params.get(int(key))
            if found is None:
                raise ArgumentError(f"loaded state dict has state for parameter {key}, but no group has that")
            param, group = found
            state[param] = self._loaded_state(int(key), held, param, group)
        self.param_groups, self.state = groups, state

    def _loaded_groups(self, saved: list[Group]) -> tuple[list[Group], dict[int, tuple[Tensor, Group]]]:
        """The groups with the saved options, and by saved index the parameter and its group."""
        if len(saved) != len(self.param_groups):
            raise ArgumentError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved)}, the optimizer has {len(self.param_groups)}"
            )
        groups = []
        params: dict[int, tuple[Tensor, Group]] = {}
        for i, (own, other) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(own["params"]) != len(other["params"]):
                raise ArgumentError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                    f"group: group {i} has {len(other['params'])} parameters, not {len(own['params'])}"
                )
            options = {key: copy.deepcopy(value) for key, value in other.items() if key not in NOT_OURS}
            names = {"param_names": own["param_names"]} if "param_names" in own else {}
            group = {**self.defaults, **names, **options, "params": own["params"]}
            self._check(group)
            groups.append(group)
            for key, param in zip(other["params"], own["params"], strict=True):
                params[int(key)] = param, group
        return groups, params

    def _loaded_state(self, index: int, held: Mapping[str, Any], param: Tensor,
                      group: Group) -> dict[str, Any]:
        """The state of one parameter, copied."""
        held = {name: value for name, value in held.items() if value is not None}
        needed = {name for name in self._plan(group).slots if name is not None}
        if held and not needed <= held.keys():
            raise ArgumentError(
                f"loaded state of parameter {index} has {sorted(held)}, but {type(self).__name__} needs "
                f"{sorted(needed)}; was it saved by another optimizer?"
            )
        owner = f"parameter {index}"
        return {
            name: _as_state(value, name, param, owner) if name in needed else copy.deepcopy(value)
            for name, value in held.items()
        }


def call_with_grad(closure: Closure) -> Any:
    """Call a closure with recording on; under `no_grad` in a copy of the context: no mode is switched."""
    if grad_enabled.get():
        return closure()

    def recorded() -> Any:
        grad_enabled.set(True)
        return closure()

    return contextvars.copy_context().run(recorded)


def _state_form(name: str, param: Tensor) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a state tensor: 0-d float32 for counters, else as the parameter, 16 bits widened."""
    if name in SCALAR_STATE:
        return (), _FLOAT32
    return param.array.shape, dtypes.from_numpy(param.array.dtype).wide.numpy


def _as_state(value: Any, name: str, param: Tensor, owner: str = "a parameter") -> Tensor:
    """A copy of a tensor, array or number as state of `param`. Raises ShapeError where the shape differs."""
    shape, dtype = _state_form(name, param)
    array = value.backend.to_numpy(value.array) if isinstance(value, Tensor) else np.asarray(value)
    if array.shape != shape:
        raise ShapeError(
            f"state {name!r} of {owner} has shape {array.shape}, expected {shape}; "
            "the parameters must come in the order in which they were saved"
        )
    backend = param.backend
    return wrap(backend.fill("copy", shape, dtype, backend.from_numpy(array)), backend)
