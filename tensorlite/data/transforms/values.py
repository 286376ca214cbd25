"""Transforms of pixels' values: dtypes and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import dtypes
from ...creation import tensor
from ...dtypes import DType
from ...errors import ArgumentError, DTypeError, ShapeError
from ...mistakes import type_name
from ...tensor import Tensor
from .base import Transform


class ToDtype(Transform):
    """Images of another dtype; with `scale` 0..255 of uint8 becomes 0..1 of a floating dtype, and the other way round.

    >>> tl.data.transforms.ToDtype(tl.float32, scale=True)(tl.tensor([[0, 51, 255]], dtype=tl.uint8))
    tensor([[0.0000, 0.2000, 1.0000]])
    """

    def __init__(self, dtype: DType, scale: bool = False) -> None:
        self.dtype = dtype
        self.scale = scale

    def apply(self, images: Tensor) -> Tensor:
        if not self.scale or images.dtype is self.dtype or images.is_floating_point() == self.dtype.is_floating_point:
            return images.to(self.dtype)
        if dtypes.uint8 not in (images.dtype, self.dtype):
            raise DTypeError(f"ToDtype: scale=True is between uint8 and floats, got {images.dtype} to {self.dtype}")
        if self.dtype is dtypes.uint8:
            return (images * (256 - 1e-3)).to(self.dtype)  # torchvision's factor: each of the 256 gets an equal share
        return images.to(self.dtype) / 255


class ToTensor:
    """A PIL image or a NumPy array (H, W, C) or (H, W) as a Tensor (C, H, W); uint8 becomes float32 in 0..1.

    Other dtypes keep their values; a PIL image of black and white becomes 0. and 1. A Tensor keeps its layout, but
    (H, W) of it becomes (1, H, W). Raises DTypeError for anything else, ShapeError for another number of dimensions.

    >>> tl.data.transforms.ToTensor()(np.full((1, 2, 3), 51, np.uint8)).shape
    (3, 1, 2)
    """

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, Tensor):  # what MNIST of tl.data gives
            planes = image.unsqueeze(0) if image.ndim == 2 else image
            return _as_parts(planes)
        if not isinstance(image, np.ndarray) and not hasattr(image, "__array_interface__"):
            raise DTypeError(f"ToTensor takes a PIL image or a NumPy array, got {type_name(image)}")
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3):
            raise ShapeError(f"ToTensor takes images (H, W, C) or (H, W), got shape {pixels.shape}")
        planes = tensor(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if planes.dtype is dtypes.bool_ and not isinstance(image, np.ndarray):
            return planes.float()
        return _as_parts(planes)

    def __repr__(self) -> str:
        return "ToTensor()"


def _as_parts(planes: Tensor) -> Tensor:
    """Bytes as parts of 255."""
    return planes.float() / 255 if planes.dtype is dtypes.uint8 else planes


class Normalize(Transform):
    """(images - mean) / std, each a number or one number per channel. DTypeError for integer images.

    >>> tl.data.transforms.Normalize([0.5, 1.0], [0.5, 2.0])(tl.ones(2, 1, 1)).flatten()
    tensor([1., 0.])
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = _numbers(mean)
        self.std = _numbers(std)
        self._tensors: dict[Any, tuple[Any, Any]] = {}
        if not all(self.std):
            raise ArgumentError(f"Normalize: std must not be 0, got {std}")

    def apply(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise DTypeError(f"Normalize takes floating images, got {images.dtype}; apply ToDtype before it")
        if {len(self.mean), len(self.std)} - {1, images.shape[1]}:
            raise ShapeError(
                f"Normalize: {len(self.mean)} means and {len(self.std)} deviations for {images.shape[1]} channels"
            )
        key = images.device, images.dtype
        if key not in self._tensors:
            self._tensors[key] = _per_channel(self.mean, images), _per_channel(self.std, images)
        mean, std = self._tensors[key]
        result: Tensor = (images - mean) / std
        return result


def _per_channel(numbers: tuple[float, ...], images: Tensor) -> Any:
    """A number, or one for each channel as a tensor that goes with the images."""
    if len(numbers) == 1:
        return numbers[0]
    return tensor(numbers, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)
