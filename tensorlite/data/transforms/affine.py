"""Rotations and other affine maps: each pixel of the result is looked up where the inverse map leads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ... import ops
from ...creation import arange
from ...errors import ArgumentError
from ...random import Generator
from ...tensor import Tensor
from .base import Range, Transform, bounds_of, check_interpolation, uniform


class RandomAffine(Transform):
    """Each image rotated, moved, scaled and sheared at random about its middle; what comes in from outside is `fill`.

    Angles, drawn from -degrees..degrees or from the range (low, high), count clockwise. `translate` = (a, b) moves by
    up to the parts a of the width and b of the height, in whole pixels; `scale` is a range of factors; `shear` a range
    of degrees along x as `degrees` is, or four numbers, of x and y. Pixels are taken by `interpolation` "nearest" or
    "bilinear", where bilinear results of integer images are rounded.

    >>> tl.data.transforms.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1))(tl.zeros(8, 1, 4, 4)).shape
    (8, 1, 4, 4)
    """

    def __init__(
        self,
        degrees: Range,
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: Range | None = None,
        interpolation: str = "nearest",
        fill: float = 0,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.degrees = bounds_of("degrees", degrees)
        self.translate = tuple(translate or (0.0, 0.0))
        self.scale = tuple(scale or (1.0, 1.0))
        self.shear = _shear(shear)
        self.interpolation = check_interpolation(type(self).__name__, interpolation)
        self.fill = fill
        self._generator = generator
        if len(self.translate) != 2 or not all(0 <= part <= 1 for part in self.translate):
            raise ArgumentError(f"RandomAffine: translate is two parts between 0 and 1, got {translate}")
        if len(self.scale) != 2 or min(self.scale) <= 0:
            raise ArgumentError(f"RandomAffine: scale is a range of positive factors, got {scale}")

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        angle = self._draw(images, self.degrees) * (math.pi / 180)
        right, down = (
            self._draw(images, (-part * size, part * size)).round() if part else 0.0
            for part, size in zip(self.translate, (width, height), strict=True)
        )
        factor = self._draw(images, self.scale) if self.scale != (1.0, 1.0) else 1.0
        # Where each pixel of the result comes from: the inverse of move · rotate · shear · scale, about the middle.
        y = arange(height, dtype=angle.dtype, device=images.device).reshape(-1, 1) - (height - 1) / 2 - down
        x = arange(width, dtype=angle.dtype, device=images.device) - (width - 1) / 2 - right
        (a, b), (c, d) = self._matrix(images, angle)
        return _sample(
            images,
            (a * y - c * x) / factor + (height - 1) / 2,
            (d * x - b * y) / factor + (width - 1) / 2,
            self.interpolation,
            self.fill,
        )

    def _matrix(self, images: Tensor, angle: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Rotation after shear, of determinant 1, for coordinates (x, y) with y downwards."""
        cos, sin = angle.cos(), angle.sin()
        if not any(self.shear):
            return (cos, -sin), (sin, cos)
        shear_x = self._draw(images, self.shear[:2]) * (math.pi / 180)
        shear_y = self._draw(images, self.shear[2:]) * (math.pi / 180)
        turned_cos = (angle - shear_y).cos() / shear_y.cos()
        turned_sin = (angle - shear_y).sin() / shear_y.cos()
        slope = shear_x.tan()
        return (turned_cos, -turned_cos * slope - sin), (turned_sin, -turned_sin * slope + cos)

    def _draw(self, images: Tensor, bounds: Sequence[float]) -> Tensor:
        return uniform(images, bounds[0], bounds[1], self._generator)


class RandomRotation(RandomAffine):
    """Each image rotated about its middle by an angle from -degrees..degrees or from the range (low, high).

    Angles count counter-clockwise. Pixels are taken by `interpolation` "nearest" or "bilinear"; what comes in from
    outside is `fill`.

    >>> tl.data.transforms.RandomRotation((90, 90))(tl.tensor([[1, 2], [3, 4]])).tolist()
    [[2, 4], [1, 3]]
    """

    def __init__(
        self,
        degrees: Range,
        interpolation: str = "nearest",
        fill: float = 0,
        *,
        generator: Generator | None = None,
    ) -> None:
        low, high = bounds_of("degrees", degrees)
        super().__init__((-high, -low), interpolation=interpolation, fill=fill, generator=generator)


def _pick(images: Tensor, places: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) at `places` (N, 1, h, w), positions in the flattened H*W."""
    count, channels, height, width = images.shape
    planes = arange(count * channels, device=images.device) * (height * width)
    return ops.take(images, planes.reshape(count, channels, 1, 1) + places)


def _sample(images: Tensor, y: Tensor, x: Tensor, interpolation: str, fill: float) -> Tensor:
    """Pixels at the coordinates y and x (N, 1, h, w), counted in pixels; beyond the images there is `fill`."""
    height, width = images.shape[2:]
    padded = ops.pad(images, (1, 2, 1, 2), value=fill)
    y, x = ops.clamp(y, -1, height) + 1, ops.clamp(x, -1, width) + 1
    row = width + 3
    if interpolation == "nearest":
        return _pick(padded, y.round().long() * row + x.round().long())
    top, left = y.floor(), x.floor()
    corner = top.long() * row + left.long()
    down, right = y - top, x - left
    values = padded if images.is_floating_point() else padded.to(y.dtype)
    upper = ops.lerp(_pick(values, corner), _pick(values, corner + 1), right.to(values.dtype))
    lower = ops.lerp(_pick(values, corner + row), _pick(values, corner + row + 1), right.to(values.dtype))
    result = ops.lerp(upper, lower, down.to(values.dtype))
    return result if images.is_floating_point() else result.round().to(images.dtype)


def _shear(shear: Range | None) -> tuple[float, float, float, float]:
    if isinstance(shear, Sequence) and len(shear) == 4:
        return (*bounds_of("shear", shear[:2]), *bounds_of("shear", shear[2:]))
    return (*bounds_of("shear", shear or 0.0), 0.0, 0.0)
