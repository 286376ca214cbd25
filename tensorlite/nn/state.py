"""`state_dict` and `load_state_dict` of a Module: names of tensors, and loading that checks before it writes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..creation import as_tensor
from ..errors import ArgumentError
from ..inplace import check_writable
from ..tensor import Tensor
from .tree import join, walk

if TYPE_CHECKING:
    from .module import Module


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not find on one of the two sides."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _entries(module: Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of all parameters and persistent buffers; a tied one under each of its names."""
    for name, part, parameters in walk(module, prefix, remove_duplicate=False):
        for key, parameter in parameters:
            yield join(name, key), parameter
        for key, persistent in part._buffers.items():
            buffer = getattr(part, key)
            if persistent and buffer is not None:
                yield join(name, key), buffer


def state_dict(module: Module, prefix: str, keep_vars: bool) -> OrderedDict[str, Tensor]:
    """See `Module.state_dict`. A prefix is put in front as it is, so it usually ends with a dot."""
    result: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in _entries(module):
        if prefix + name in result:
            raise KeyError(f"two tensors of {type(module).__name__} have the name '{prefix + name}'; "
                           "rename a key of the dict that holds one of them")
        result[prefix + name] = tensor if keep_vars else tensor.detach()
    return result


def load_state_dict(module: Module, given: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """See `Module.load_state_dict`."""
    if not isinstance(given, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(given)}; pass what state_dict() gives")
    own = dict(_entries(module))
    keys = IncompatibleKeys([k for k in own if k not in given], [k for k in given if k not in own])
    problems: list[str] = []
    if strict and keys.missing_keys:
        problems.append(f"Missing key(s) in state_dict: {_quoted(keys.missing_keys)}. ")
    if strict and keys.unexpected_keys:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(keys.unexpected_keys)}. ")
    pairs: list[tuple[Tensor, Tensor]] = []
    for name, target in own.items():
        if name in given:
            value, problem = _check(name, given[name], target, assign)
            if problem:
                problems.append(problem)
            elif value is not None:
                pairs.append((target, value))
    if problems:
        raise ArgumentError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(problems))
    if not assign:
        for target, _ in pairs:
            check_writable(target, "load_state_dict")
    for target, value in _apart(pairs):
        if assign:
            _take_over(target, value)
        else:
            target.detach().copy_(value)
    return keys


def _take_over(target: Tensor, value: Tensor) -> None:
    """Give target the memory of value; a gradient that no longer fits its dtype or device is forgotten."""
    if value.dtype is not target.dtype or value.device != target.device:
        target.grad = None
    target._set(value)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _check(name: str, value: Any, target: Tensor, assign: bool) -> tuple[Tensor | None, str]:
    """The value as a tensor to copy into `target`, or what is wrong with it."""
    if not isinstance(value, Tensor):
        if not hasattr(value, "__array__"):
            return None, (f'While copying the parameter named "{name}", expected a Tensor or an array from checkpoint '
                          f"but received {type(value)}")
        value = as_tensor(value).clone()
    if value.shape != target.shape:
        return None, (f"size mismatch for {name}: copying a param with shape {value.shape} from checkpoint, "
                      f"the shape in current model is {target.shape}.")
    kinds = value.dtype.category, target.dtype.category
    if kinds[0] > kinds[1] or (assign and kinds[0] != kinds[1]):
        return None, (f"dtype mismatch for {name}: {value.dtype.name} from checkpoint does not fit "
                      f"the dtype in current model, {target.dtype.name}.")
    return value.detach(), ""


def _apart(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The pairs, with a copy of each value that lies in the memory of another pair's target.

    Swapping two layers by swapping their names must not read what was already overwritten.
    """
    owners = {id(target._shared_version()): target for target, _ in pairs}
    result = []
    for target, value in pairs:
        owner = owners.get(id(value._shared_version()))
        result.append((target, value if owner is None or owner is target else value.clone()))
    return result
