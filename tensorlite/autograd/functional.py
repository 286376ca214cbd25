"""Whole Jacobians and Hessians, a row for each element of a result, under torch.autograd.functional's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import GradError
from .engine import grad
from .mode import run_with_grad
from .tape import Var

if TYPE_CHECKING:
    from ..tensor import Tensor


def jacobian(func: Callable[..., Tensor], inputs: Tensor | tuple[Tensor, ...], create_graph: bool = False) -> Any:
    """The derivatives of each element of func(*inputs) in each element of the inputs: (*result.shape, *input.shape).

    A tensor for an input, a tuple for a tuple of them. With create_graph it can be differentiated. One backward pass
    for each element of the result. Raises GradError for a func that gives anything but one Tensor.

    >>> tl.autograd.functional.jacobian(lambda x: x**2, tl.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return run_with_grad(True, _jacobian, func, inputs, create_graph)


def _jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool) -> Any:
    listed = inputs if isinstance(inputs, tuple) else (inputs,)
    points = [x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in listed]
    result = func(*points)
    if not isinstance(result, Var):
        raise GradError(f"jacobian: func must give one Tensor, got {type(result).__name__}")
    value: Any = result
    elements = value.reshape(-1)
    rows = [grad(elements[i], points, retain_graph=True, create_graph=create_graph, allow_unused=True,
                 materialize_grads=True) for i in range(value.numel())] if value.requires_grad else []
    found = [_stacked([row[place] for row in rows], x, value.shape) for place, x in enumerate(points)]
    return tuple(found) if isinstance(inputs, tuple) else found[0]


def _stacked(rows: list[Any], x: Any, shape: tuple[int, ...]) -> Any:
    """The gradients of all elements in one tensor."""
    if not rows:
        return x.new_zeros(*shape, *x.shape)
    found = x.new_zeros(len(rows), *x.shape)
    for place, row in enumerate(rows):
        found[place] = row
    return found.reshape(*shape, *x.shape)


def hessian(func: Callable[..., Tensor], inputs: Tensor, create_graph: bool = False) -> Any:
    """The second derivatives of a scalar func(input): (*input.shape, *input.shape).

    Raises ShapeError for a func whose result has more than one element.

    >>> tl.autograd.functional.hessian(lambda x: (x**3).sum(), tl.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    def gradient(x: Tensor) -> Any:
        return jacobian(lambda y: func(y).reshape(()), x, create_graph=True)

    return jacobian(gradient, inputs, create_graph)
