"""`autocast`: the context manager and decorator under which operations choose their dtype (autograd/autocast.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import dtypes
from ..autograd.autocast import Region
from ..autograd.mode import Mode, autocast_regions
from ..backends import as_device
from ..errors import ArgumentError

_DEFAULTS = {"cpu": dtypes.bfloat16}  # as PyTorch's; other devices float16


class autocast(Mode):
    """Inside: products of matrices in 16 bits, sums, norms and losses in float32, the rest in what inputs combine to.

    device_type    'cuda', 'cpu' or 'cuda:sim': only tensors there are concerned; may be nested for several
    dtype          float16 or bfloat16; by default float16 on GPUs, whose gradients need a GradScaler, and else bfloat16
    enabled        False switches it off, within an outer region too
    cache_enabled  whether a parameter that is used several times in the outermost region is cast once

    For the forward pass and the loss; backward computes in the dtypes that the forward has chosen, and gradients arrive
    in the parameters' own dtype. A context manager, or a decorator of functions. Belongs to the thread that enters it.
    Micikevicius et al. 2018. Raises ArgumentError for another dtype, DeviceError for an unknown device.

    >>> x, w = tl.ones(2, 3), tl.ones(4, 3, requires_grad=True)
    >>> with tl.amp.autocast("cpu", dtype=tl.bfloat16):
    ...     y = F.linear(x, w)
    ...     y.dtype, y.exp().dtype
    (tensorlite.bfloat16, tensorlite.float32)
    >>> y.sum().backward()
    >>> w.grad.dtype
    tensorlite.float32
    """

    variable = autocast_regions

    def __init__(self, device_type: Any, dtype: Any = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        self.device_type = as_device(device_type).type
        self.dtype = get_autocast_dtype(self.device_type) if dtype is None else dtypes.as_dtype(dtype)
        self.enabled = enabled
        self.cache_enabled = cache_enabled is not False
        if not self.dtype.is_narrow and enabled:
            raise ArgumentError(f"autocast takes float16 or bfloat16, got {self.dtype.name}; "
                                "use enabled=False to compute in the inputs' own dtypes")
        super().__init__(None)

    def _inside(self) -> Mapping[str, Region]:
        """The regions in force inside: those outside, and this one's in place of that of the same device."""
        regions = dict(autocast_regions.get())
        outer = regions.pop(self.device_type, None)
        if self.enabled:
            regions[self.device_type] = Region(self.dtype, self.cache_enabled, outer)
        return regions


def get_autocast_dtype(device_type: Any) -> dtypes.DType:
    """The dtype that autocast uses on a type of device: that of the region in force, else the default.

    >>> tl.amp.get_autocast_dtype("cuda")
    tensorlite.float16
    """
    kind = as_device(device_type).type
    region = autocast_regions.get().get(kind)
    return _DEFAULTS.get(kind, dtypes.float16) if region is None else region.dtype


def is_autocast_enabled(device_type: Any = None) -> bool:
    """Whether autocast is on in this thread, for a type of device, or for any.

    >>> with tl.amp.autocast("cpu"):
    ...     tl.amp.is_autocast_enabled("cpu"), tl.amp.is_autocast_enabled("cuda")
    (True, False)
    """
    regions = autocast_regions.get()
    return bool(regions) if device_type is None else as_device(device_type).type in regions
