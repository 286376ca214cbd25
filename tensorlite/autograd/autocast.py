"""Automatic mixed precision: in which dtype an operation runs inside `tl.autocast`.

`POLICY` is the one place where that is decided, by an operation's name: products of matrices in 16 bits; sums, norms,
losses and functions whose range or slope is large in float32. What it does not name runs in what its inputs combine to.
The names and choices are those that PyTorch has for CUDA, here for every device.

`Op.__call__` asks the table. A function that is composed of several operations and has a row of its own is marked with
`autocasts`; of what it calls, nothing is cast again. Casts are recorded operations, so that gradients arrive in the
dtype of the parameter. float64, integers and bools are never cast.

The regions that are in force lie in a context variable, as the modes of mode.py do; `tl.autocast` sets it.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from .. import dtypes
from ..backends import NARROW, recording
from .mode import autocast_regions, grad_enabled
from .tape import Var, Version

if TYPE_CHECKING:
    from ..tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Regions = Mapping[str, "Region"]  # type of device -> the innermost region
Inputs = tuple[Any, ...]
Policy = Callable[["Region", Inputs], Inputs]  # the inputs of an operation -> those that it gets

_FLOATS: Final = frozenset({*NARROW, "f"})  # NumPy's codes of the dtypes that are cast


class _Use:
    """Whether this process has ever entered a region; until then no operation asks its context for one."""

    begun = False


use = _Use()


class _Cast(NamedTuple):
    """A parameter's cast, and all that must be as it was then for it to serve again."""

    source: Var  # held, so that its id remains its own
    version: Version  # that of the memory: other memory has another one
    seen: int
    recorder: recording.Recorder | None  # a cast of another recording, or of none, is no part of this one's replays
    with_grad: bool
    result: Tensor


class Region:
    """What one `with autocast(...)` means to the operations in it.

    dtype    float16 or bfloat16
    caching  whether a parameter that is used several times is cast once; casts are dropped with the outermost region
    """

    def __init__(self, dtype: dtypes.DType, caching: bool, outer: Region | None) -> None:
        use.begun = True
        self.dtype = dtype
        self.caching = caching
        self.char = dtype.numpy.char
        self._casts: dict[tuple[int, str], _Cast] = {} if outer is None else outer._casts

    def narrowed(self, x: Any) -> Any:
        """A float tensor in the region's dtype; anything else as it is."""
        if not _is_one_of(x, _FLOATS) or x.array.dtype.char == self.char:
            return x
        if self.caching and x._requires_grad and x._node is None and x._base is None:
            return self._cast_once(x)
        return _to(x, self.dtype)

    def _cast_once(self, parameter: Var) -> Tensor:
        key = id(parameter), self.char
        version, with_grad, recorder = parameter._shared_version(), grad_enabled.get(), recording.here()
        found = self._casts.get(key)
        if (found is None or found.version is not version or found.seen != version[0]
                or found.recorder is not recorder or found.with_grad is not with_grad):
            result = _to(parameter, self.dtype)
            found = _Cast(parameter, version, version[0], recorder, with_grad, result)
            self._casts[key] = found
            if recorder is not None:
                recorder.at_end(functools.partial(self._casts.pop, key, None))
        return found.result


def _is_one_of(x: Any, codes: frozenset[str]) -> bool:
    return isinstance(x, Var) and x.array.dtype.char in codes


def _to(x: Var, dtype: dtypes.DType) -> Tensor:
    result: Tensor = x.to(dtype)  # type: ignore[attr-defined]
    return result


# --- the table -------------------------------------------------------------------------------------------------------


def lower(region: Region, inputs: Inputs) -> Inputs:
    """The 16-bit dtype of the region: products of matrices, which are most of the work and lose little."""
    return tuple([region.narrowed(x) for x in inputs])


def float32(region: Region, inputs: Inputs) -> Inputs:
    """float32, in and out: sums over many elements, and functions that 16 bits would overflow or round too much."""
    return tuple([_to(x, dtypes.float32) if _is_one_of(x, NARROW) else x for x in inputs])


def widest(region: Region, inputs: Inputs) -> Inputs:
    """What the inputs combine to, inside too: functions composed of operations that have rows of their own."""
    codes = {x.array.dtype.char for x in inputs if _is_one_of(x, _FLOATS)}
    return inputs if len(codes) < 2 else float32(region, inputs)


POLICY: Final[dict[str, Policy]] = {
    **dict.fromkeys((
        "matmul", "linear", "linear_relu", "addmm", "prelu",
        "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d",
        "scaled_dot_product_attention", "rnn", "gru", "lstm",
    ), lower),
    **dict.fromkeys((
        # sums, products and norms
        "sum", "prod", "cumsum", "cumprod", "norm", "normalize", "layer_norm", "cosine_similarity",
        "rms_norm", "group_norm", "local_response_norm",
        # powers, exponentials and what is steep
        "pow", "square", "reciprocal", "rsqrt", "exp", "expm1", "log", "log2", "log10", "log1p", "logsumexp",
        "softplus", "softmax", "log_softmax", "acos", "asin", "cosh", "sinh", "tan",
        # losses
        "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "mse_loss",
        "l1_loss", "smooth_l1_loss", "huber_loss", "pairwise_distance", "cdist", "hinge_embedding_loss",
        "cosine_embedding_loss", "margin_ranking_loss", "triplet_margin_loss", "soft_margin_loss", "multi_margin_loss",
        "poisson_nll_loss",
    ), float32),
    **dict.fromkeys(("dot", "tensordot", "bilinear", "mish", "logsigmoid"), widest),
}


# --- how it is applied -----------------------------------------------------------------------------------------------


def cast_inputs(policy: Policy, regions: Regions, inputs: Inputs) -> Inputs:
    """The inputs of an operation with that policy, as the region of their device wants them."""
    region = _region_of(regions, inputs)
    return inputs if region is None else policy(region, inputs)


def _region_of(regions: Regions, inputs: Inputs) -> Region | None:
    """The region of the device on which the first tensor lies."""
    for x in inputs:
        if isinstance(x, Var):
            return regions.get(x.backend.device.type)
    return None


def in_force() -> tuple[tuple[str, str], ...]:
    """The regions of this thread as plain values, device and dtype: equal where operations choose the same dtypes."""
    regions = autocast_regions.get()
    return tuple(sorted((device, region.dtype.name) for device, region in regions.items())) if regions else ()


def without_cache(regions: Regions) -> Regions:
    """The same regions, in which every use of a parameter casts it anew."""
    return {device: Region(region.dtype, False, None) for device, region in regions.items()}


def meets(x: Var, y: Var) -> bool:
    """Whether the factors of a product, of different dtypes, are brought to one by the region in force."""
    return (x.array.dtype.char in _FLOATS and y.array.dtype.char in _FLOATS
            and _region_of(autocast_regions.get(), (x,)) is not None)


def autocasts(function: Callable[P, R]) -> Callable[P, R]:
    """A function composed of operations, to be called as its own row of POLICY says."""
    policy = POLICY[function.__name__]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        regions = autocast_regions.get()
        if not regions:
            return function(*args, **kwargs)
        values = cast_inputs(policy, regions, (*args, *kwargs.values()))
        positional: Any = values[:len(args)]
        named: Any = dict(zip(kwargs, values[len(args):], strict=True))
        context = contextvars.copy_context()
        context.run(autocast_regions.set, {})
        return context.run(function, *positional, **named)

    return call
