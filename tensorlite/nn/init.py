"""Ways to fill a tensor with starting values, in place; each returns the tensor.

They write the memory directly, so they work on Parameters without switching gradient mode, and a backward that still
needs the old values refuses. fan_in and fan_out of a weight (out, in, ...) are in and out times the product of the
remaining sizes. All draws take a `generator`; the defaults and names are PyTorch's.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..creation import empty_like, from_numpy
from ..errors import ArgumentError, ShapeError
from ..random import Generator, fill_normal_, fill_uniform_
from ..tensor import Tensor

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
           "sigmoid")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the standard deviation makes up for a nonlinearity.

    1 for linear, convN and sigmoid, 5/3 for tanh, √2 for relu, √(2/(1+slope²)) for leaky_relu (slope = param or 0.01),
    3/4 for selu. Raises ArgumentError for another name.

    >>> nn.init.calculate_gain("relu")
    1.4142135623730951
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ArgumentError(f"calculate_gain: negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        known = ", ".join((*_LINEAR, "leaky_relu", *gains))
        raise ArgumentError(f"Unsupported nonlinearity {nonlinearity}; known: {known}")
    return gains[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with draws from U(a, b).

    >>> bool((nn.init.uniform_(tl.empty(100), 2, 3) >= 2).all())
    True
    """
    fill_uniform_(tensor, a, b, generator)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with draws from N(mean, std²)."""
    fill_normal_(tensor, mean, std, generator)
    return tensor


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Tensor:
    """Fill with draws from N(mean, std²) that lie in [a, b], by rejection.

    Raises ArgumentError for std <= 0 or a > b.
    """
    if not std > 0 or not a <= b or math.isnan(mean):
        raise ArgumentError("trunc_normal_: needs a mean, std > 0 and a <= b, "
                            f"got mean={mean}, std={std}, a={a}, b={b}")
    share = (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2))) / 2
    nearest = (min(max(mean, a), b) - mean) / std  # where the density is largest

    def from_normal() -> tuple[Tensor, Tensor]:
        values = normal_(empty_like(tensor), mean, std, generator)
        return values, ops.logical_and(ops.ge(values, a), ops.le(values, b))

    def from_uniform() -> tuple[Tensor, Tensor]:
        values = uniform_(empty_like(tensor), a, b, generator)
        height = ops.exp((ops.square((values - mean) * (1 / std)) - nearest**2) * -0.5)
        return values, ops.le(uniform_(empty_like(tensor), generator=generator), height)

    propose = from_normal if share > 0.3 else from_uniform  # the wider proposal would be refused too often
    values, accepted = propose()
    while not bool(accepted.all()):
        others, fit = propose()
        values, accepted = ops.where(accepted, values, others), ops.logical_or(accepted, fit)
    tensor.detach().copy_(values)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    tensor.detach().fill_(val)
    return tensor


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with 1 on the diagonal and 0 elsewhere. Raises ShapeError unless 2-D."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: only tensors with 2 dimensions are supported, got shape {tensor.shape}")
    return _write(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight (out, in, ...) such that it passes its input channels on, in each group.

    Raises ShapeError unless 3-D, 4-D or 5-D with `out` divisible by groups.
    """
    if tensor.ndim not in (3, 4, 5) or tensor.shape[0] % groups:
        raise ShapeError(f"dirac_: only tensors with 3, 4, or 5 dimensions whose first is divisible by groups={groups} "
                         f"are supported, got shape {tensor.shape}")
    values = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    center = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(per_group, tensor.shape[1])):
            values[(group * per_group + channel, channel, *center)] = 1
    return _write(tensor, values)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with U(±gain·√(6/(fan_in+fan_out))). Glorot and Bengio 2010."""
    bound = gain * math.sqrt(6 / (sum(_fans(tensor)) or 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with N(0, gain²·2/(fan_in+fan_out)). Glorot and Bengio 2010."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / (sum(_fans(tensor)) or 1)), generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Fill with U(±gain·√(3/fan)), gain that of the nonlinearity (a: the slope of leaky_relu). He et al. 2015."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Fill with N(0, gain²/fan), gain that of the nonlinearity (a: the slope of leaky_relu). He et al. 2015."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with gain times a uniformly drawn (semi-)orthogonal matrix (size(0), rest). Saxe et al. 2014.

    The factorisation runs on the host. Raises ShapeError for less than 2 dimensions.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: only tensors with 2 or more dimensions are supported, got shape {tensor.shape}")
    if not tensor.numel():
        return tensor
    draws = _host(normal_(empty_like(tensor), generator=generator)).reshape(tensor.shape[0], -1)
    tall = draws.shape[0] >= draws.shape[1]
    q, r = np.linalg.qr(draws if tall else draws.T)
    q *= np.sign(np.diag(r))  # makes q unique, and so uniformly distributed: Mezzadri 2007
    return _write(tensor, gain * (q if tall else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Fill a matrix with N(0, std²), and in each column a share `sparsity` of zeros. Martens 2010. 2-D only."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: only tensors with 2 dimensions are supported, got shape {tensor.shape}")
    if not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparse_: sparsity must lie in [0, 1], got {sparsity}")
    values = _host(normal_(empty_like(tensor), 0.0, std, generator))
    order = np.argsort(_host(uniform_(empty_like(tensor), generator=generator)), axis=0, kind="stable")
    np.put_along_axis(values, order[:math.ceil(sparsity * tensor.shape[0])], 0.0, axis=0)
    return _write(tensor, values)


def _fans(tensor: Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight (out, in, ...)."""
    if tensor.ndim < 2:
        raise ShapeError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, "
                         f"got {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan = _fans(tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan or 1)


def _host(tensor: Tensor) -> np.ndarray:
    """The values in float64 on the host."""
    return tensor.cpu().numpy().astype(np.float64)


def _write(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Copy host values into the tensor's memory."""
    tensor.detach().copy_(from_numpy(values).to(device=tensor.device, dtype=tensor.dtype))
    return tensor
