"""What transforms share: the base class, Compose, and how arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ... import dtypes
from ...errors import ArgumentError, DTypeError, ShapeError
from ...mistakes import type_name
from ...random import Generator
from ...sampling import rand
from ...tensor import Tensor

Size = int | Sequence[int]
Range = float | Sequence[float]


class Transform:
    """Base of transforms: a subclass says in `apply` what becomes of images (N, C, H, W)."""

    def __call__(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor):
            raise DTypeError(f"{type(self).__name__} takes a Tensor, got {type_name(images)}; put ToTensor() before it "
                             "for PIL images and NumPy arrays")
        if not 2 <= images.ndim <= 4:
            raise ShapeError(
                f"{type(self).__name__} takes images (N, C, H, W), (C, H, W) or (H, W), got shape {tuple(images.shape)}"
            )
        missing = 4 - images.ndim
        if not missing:
            return self.apply(images)
        result = self.apply(images.reshape((1,) * missing + tuple(images.shape)))
        return result.reshape(result.shape[missing:])

    def apply(self, images: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} is a Transform and must define apply")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({shown})"


class Compose:
    """The given transforms, or any functions of images, one after another.

    >>> T = tl.data.transforms
    >>> T.Compose([T.CenterCrop(2), T.RandomHorizontalFlip(p=1)])(tl.arange(16).reshape(4, 4)).tolist()
    [[6, 5], [10, 9]]
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: Any) -> Any:
        for transform in self.transforms:
            images = transform(images)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


def uniform(images: Tensor, low: float, high: float, generator: Generator | None) -> Tensor:
    """A number from low..high for each image, (N, 1, 1, 1): float64 for float64 images, else float32."""
    dtype = dtypes.float64 if images.dtype is dtypes.float64 else dtypes.float32
    return rand(len(images), 1, 1, 1, generator=generator, dtype=dtype, device=images.device) * (high - low) + low


def chosen(images: Tensor, p: float, generator: Generator | None) -> Tensor:
    """For each image whether an event of probability p happens, (N, 1, 1, 1) bool."""
    return rand(len(images), 1, 1, 1, generator=generator, device=images.device) < p


def pair(what: str, size: Size, least: int = 1) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, int) and n >= least for n in pair):
        raise ArgumentError(f"{what} takes an integer of at least {least}, or two for height and width, got {size!r}")
    return pair[0], pair[1]


def bounds_of(name: str, value: Range) -> tuple[float, float]:
    bounds = tuple(value) if isinstance(value, Sequence) else (-value, value)
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ArgumentError(f"{name} is a number of at least 0 or a range (low, high), got {value!r}")
    return bounds[0], bounds[1]


def check_interpolation(what: str, mode: str) -> str:
    if mode not in ("nearest", "bilinear"):
        raise ArgumentError(f"{what}: interpolation is 'nearest' or 'bilinear', got {mode!r}")
    return mode


def check_probability(what: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{what}: p is a probability between 0 and 1, got {p}")
    return p
