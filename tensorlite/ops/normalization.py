"""Normalisation: LayerNorm and RMSNorm over rows, BatchNorm, GroupNorm and InstanceNorm over channels.

Rows are what the last dimensions hold; their statistics are computed anew in backward. Over channels the statistics
are two numbers for each channel, or for each group of channels of a sample, computed once (`moments`), kept for
backward and handed to the running ones (`track_moments`). Batch, group and instance norm are one operation: the shape
of the statistics, (C,) or (N, G), says which elements they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.autocast import POLICY
from ..autograd.op import NONE, Op, op, unpack
from ..autograd.tape import Node, Var, wrap
from ..backends import Array, Backend, computing
from ..errors import DTypeError, ShapeError
from .elementwise import mul, sub
from .options import require_floating
from .reduce import mean, sum
from .wide import widened

if TYPE_CHECKING:
    from ..tensor import Tensor


def _require_gradient_of(name: str, x: Array, grad: Array) -> None:
    """Raise ShapeError where a gradient has not x's shape: kernels believe shapes, and read where these say."""
    if grad.shape != x.shape:
        raise ShapeError(f"{name}: a gradient of shape {grad.shape} for an input of shape {x.shape}")


# --- rows: LayerNorm and RMSNorm --------------------------------------------------------------------------------------


def _row_norm(name: str, centered: bool) -> tuple[Op, Op, Op]:
    """The operation of that name, its derivative in x, and its derivative in the weight.

    `centered` says whether the mean of a row is subtracted; n is the row over its deviation, the root of the mean of
    squares plus eps.
    """

    @op
    def norm(be: Backend, x: Array, weight: Array, bias: Array, *, dims: Any, eps: Any) -> Array:
        return be.fill(name, x.shape, x.dtype, x, weight, bias, dims=dims, eps=eps)

    @op
    def grad(be: Backend, grad: Array, x: Array, weight: Array, *, dims: Any, eps: Any) -> Array:
        """(a - mean(a) - n·mean(a·n))/deviation with a = grad·weight, where `centered`; else without mean(a)."""
        _require_gradient_of(f"{name}_grad", x, grad)
        return be.fill(f"{name}_grad", x.shape, x.dtype, grad, x, weight, dims=dims, eps=eps)

    @op
    def weight_grad(be: Backend, grad: Array, x: Array, *, dims: Any, eps: Any) -> Array:
        """Σ grad·n over all but `dims`."""
        _require_gradient_of(f"{name}_weight_grad", x, grad)
        return be.fill(f"{name}_weight_grad", x.shape[dims[0]:], x.dtype, grad, x, dims=dims, eps=eps)

    def bend(g: Any, grad: Any, x: Any, weight: Any, dims: tuple[int, ...], eps: float) -> Any:
        """The derivative of `grad` in x.

        Per row of C elements Σ g·grad = C·s·(mean(g·a) - mean(g)·mean(a) - mean(g·n)·mean(a·n)), with s = 1/deviation
        and without the product of means where nothing is centered. ds/dx = -s²·n/C, and what flows to n flows to x as
        by `grad`.
        """
        x, g = widened(x), widened(g)
        a = _weighted(widened(grad), weight)
        average = partial(mean, dim=dims, keepdim=True)
        centre = sub(x, average(x)) if centered else x
        scale = (average(centre * centre) + eps).rsqrt()
        normalized = centre * scale
        g_along, a_along = average(g * normalized), average(a * normalized)
        shared = average(g * a) - g_along * a_along
        if centered:
            shared = shared - average(g) * average(a)
        through_n = slope(g * a_along + a * g_along, x, None, dims=dims, eps=eps)
        return -(scale * (scale * normalized * shared + through_n))

    for function, suffix in ((norm, ""), (grad, "_grad"), (weight_grad, "_weight_grad")):
        function.name = name + suffix
        function.autocast = POLICY.get(function.name)
    slope = grad  # the name in the rules, where `grad` is an input
    norm.rules(
        x=lambda g, x, weight, dims, eps: slope(g, x, weight, dims=dims, eps=eps),
        weight=lambda g, x, dims, eps: weight_grad(g, x, dims=dims, eps=eps),
    )
    grad.rules(  # linear in grad·weight, and symmetric
        grad=lambda g, x, weight, dims, eps: _weighted(slope(g, x, None, dims=dims, eps=eps), weight),
        x=bend,
        weight=lambda g, grad, x, dims, eps: mul(grad, slope(g, x, None, dims=dims, eps=eps)),
    )
    weight_grad.rules(
        grad=lambda g, x, dims, eps: norm(x, g, None, dims=dims, eps=eps),
        x=lambda g, grad, x, dims, eps: slope(grad, x, g, dims=dims, eps=eps),
    )
    return norm, grad, weight_grad


def _weighted(x: Any, weight: Any) -> Any:
    return x if weight is None else mul(x, weight)


_layer_norm, layer_norm_grad, layer_norm_weight_grad = _row_norm("layer_norm", centered=True)
_layer_norm.rules(bias=lambda g: g)
_rms_norm, rms_norm_grad, rms_norm_weight_grad = _row_norm("rms_norm", centered=False)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, normalized_ndim: int,
               eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias over the last `normalized_ndim` dimensions; var is the biased one.

    Ba et al. 2016. weight and bias have the shape of those dimensions, or are None.
    """
    return _layer_norm(x, weight, bias, dims=_rows("layer_norm", x, normalized_ndim, weight=weight, bias=bias), eps=eps)


def rms_norm(x: Tensor, weight: Tensor | None, *, normalized_ndim: int, eps: float | None = None) -> Tensor:
    """x/√(mean(x²) + eps)·weight over the last `normalized_ndim` dimensions. Zhang and Sennrich 2019.

    eps None means the machine precision of the dtype that is computed in.
    """
    dims = _rows("rms_norm", x, normalized_ndim, weight=weight)
    if eps is None:
        eps = float(np.finfo(computing(x.array.dtype)).eps)
    return _rms_norm(x, weight, None, dims=dims, eps=eps)


def _rows(name: str, x: Tensor, normalized_ndim: int, **parts: Tensor | None) -> tuple[int, ...]:
    """The last dimensions of x. Raises DTypeError or ShapeError where x or a parameter does not fit."""
    require_floating(name, x)
    shape = x.shape[x.ndim - normalized_ndim:]
    for part, value in parts.items():
        if isinstance(value, Var) and value.array.shape != shape:
            raise ShapeError(f"{name}: {part} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    return tuple(range(x.ndim - normalized_ndim, x.ndim))


# --- channels: BatchNorm, GroupNorm and InstanceNorm ------------------------------------------------------------------


def moments(x: Tensor, groups: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of x (N, C, ...): per channel, (C,), or per sample and group of channels, (N, groups).

    In the dtype that is computed in: float32 for float16 and bfloat16. They carry no gradient. The caller has checked
    that `groups` divides C.

    >>> tl.ops.moments(tl.tensor([[1., 2.], [3., 6.]]))
    (tensor([2., 4.]), tensor([1., 4.]))
    """
    require_floating("moments", x)
    be, array = x.backend, x.array
    shape = array.shape[1:2] if groups is None else (array.shape[0], groups)
    dtype = computing(array.dtype)
    results = be.empty(shape, dtype), be.empty(shape, dtype)
    be.run("moments", results, array)
    return wrap(results[0], be), wrap(results[1], be)


def track_moments(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, momentum: float | Tensor, *,
                  count: int) -> None:
    """Move running statistics (C,) towards a batch's: running ← (1 - momentum)·running + momentum·batch, in place.

    mean and var, each of `count` elements, are those of `moments`; where samples have their own, their means are taken.
    The running variance is the unbiased one, var·count/(count - 1). A momentum that changes from step to step is a 0-d
    float64 tensor.
    """
    be = running_mean.backend
    for running in (running_mean, running_var):
        running._bump()
    be.run("track_moments", (running_mean.array, running_var.array), mean.array, var.array,
           momentum.array if isinstance(momentum, Var) else float(momentum), count=count)


class _BatchNormOp(Op):
    """The op of batch_norm, whose three gradients come of one kernel."""

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterator[tuple[int, Any]]:
        wanted = [parent is not None and (useful is None or parent in useful) for parent in node.parents[:3]]
        if create_graph or not any(wanted[:2]):  # by the rules, which can be differentiated
            yield from super().gradients(node, g, create_graph, useful)
            return
        saved = unpack(node, g.backend, create_graph)
        weight = saved.get("weight")  # not saved where x needs no gradient
        results = _batch_norm_grad(g, saved["x"], weight, saved["mean"], saved["var"], saved["eps"], saved["training"])
        for position, result in enumerate(results):
            if wanted[position]:
                yield position, result


def _batch_norm_grad(g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float,
                     training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives of batch_norm in x, weight and bias; the last two in the dtype of the statistics."""
    be, array = g.backend, x.array
    channels = array.shape[1:2]
    results = (be.empty(array.shape, array.dtype), be.empty(channels, mean.array.dtype),
               be.empty(channels, mean.array.dtype))
    be.run("batch_norm_grad", results, g.array, array, None if weight is None else weight.array, mean.array, var.array,
           eps=eps, training=training)
    return wrap(results[0], be), wrap(results[1], be), wrap(results[2], be)


@partial(_BatchNormOp, promote=NONE, view=False)
def _batch_norm(be: Backend, x: Array, weight: Array, bias: Array, mean: Array, var: Array, *, eps: Any,
                training: Any) -> Array:
    return be.fill("batch_norm", x.shape, x.dtype, x, weight, bias, mean, var, eps=eps)


def _grouped(x: Any, given: Any) -> tuple[Any, tuple[int, ...]]:
    """x in a shape, and the dimensions in it, along which the elements of a statistic lie."""
    if given.ndim == 1:
        return x, (0, *range(2, x.ndim))
    count = x.shape[1] // max(given.shape[1], 1) * math.prod(x.shape[2:])
    return x.reshape(*given.shape, count), (2,)


def _standardized(x: Any, given_mean: Any, given_var: Any, eps: float, training: bool) -> tuple[Any, Any]:
    """n = (x - mean)/√(var + eps) and 1/√(var + eps), of x as `_grouped` has it; in training differentiable through
    the statistics too."""
    x, dims = _grouped(widened(x), given_mean)
    if training:
        centered = sub(x, mean(x, dims, keepdim=True))
        var = mean(centered * centered, dims, keepdim=True)
    else:
        centered, var = sub(x, _of_channels(given_mean, x)), _of_channels(given_var, x)
    scale = (var + eps).rsqrt()
    return centered * scale, scale


def _of_channels(value: Any, x: Any) -> Any:
    """A value (C,) for each channel of x."""
    return value.reshape(*value.shape, *[1] * (x.ndim - 2))


def _batch_norm_x(g: Any, x: Any, weight: Any, mean: Any, var: Any, eps: float, training: bool) -> Any:
    normalized, scale = _standardized(x, mean, var, eps, training)
    a = widened(g) if weight is None else mul(widened(g), _of_channels(weight, g))
    a, dims = _grouped(a, mean)
    if training:
        a = a - _mean(a, dims) - normalized * _mean(a * normalized, dims)
    return (a * scale).reshape(x.shape)


def _mean(x: Any, dims: tuple[int, ...]) -> Any:
    return mean(x, dims, keepdim=True)


def _batch_norm_weight(g: Any, x: Any, mean: Any, var: Any, eps: float, training: bool) -> Any:
    normalized, _ = _standardized(x, mean, var, eps, training)
    return _sum_of_channels(mul(widened(g), normalized.reshape(g.shape)))


def _sum_of_channels(x: Any) -> Any:
    return sum(x, (0, *range(2, x.ndim)))


_batch_norm.name = "batch_norm"
_batch_norm.rules(x=_batch_norm_x, weight=_batch_norm_weight, bias=lambda g: _sum_of_channels(g))


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, *, eps: float = 1e-5,
               training: bool = False) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias for x (N, C, ...), with weight and bias (C,) or None.

    mean and var are of the shape (C,), or (N, G) for G groups of neighbouring channels. In training they are
    `moments(x)`, and gradients flow through them; else they are constants. Ioffe and Szegedy 2015.
    """
    require_floating("batch_norm", x)
    wide = computing(x.array.dtype)
    for name, part in (("weight", weight), ("bias", bias)):
        if isinstance(part, Var) and part.array.dtype not in (x.array.dtype, wide):
            raise DTypeError(f"batch_norm: {name} is {part.dtype.name} but the input {x.dtype.name}; bring them to one "
                             "dtype with .to()")
    return _batch_norm(x, weight, bias, _in_dtype(mean, wide), _in_dtype(var, wide), eps=eps, training=training)


def _in_dtype(x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    return x if x.array.dtype == dtype else wrap(x.backend.cast(x.array, dtype), x.backend)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, *, eps: float = 1e-5) -> Tensor:
    """(x - mean)/√(var + eps)·weight + bias, with the statistics of each sample's groups of channels. Wu and He 2018.

    The caller has checked that `groups` divides the channels of x (N, C, ...).
    """
    require_floating("group_norm", x)
    return batch_norm(x, weight, bias, *moments(x, groups), eps=eps, training=True)
