"""Transforms of whole batches of images, on the device where they are, under the names of torchvision.transforms.v2.

A transform takes images (N, C, H, W), or one image (C, H, W) or (H, W), and gives new ones of the same number of
dimensions. A random one draws anew for each image, not once for the batch, from `generator`, default the one of the
images' device; so a captured step draws new numbers at each replay. All of them are made of operations: gradients pass,
and what is drawn is the same on all devices.

>>> from tensorlite.data import transforms
>>> augment = transforms.Compose([
...     transforms.ToDtype(tl.float32, scale=True),
...     transforms.RandomCrop(28, padding=2),
...     transforms.RandomHorizontalFlip(0.5),
...     transforms.Normalize(0.5, 0.5),
... ])
>>> augment(tl.zeros(8, 1, 28, 28, dtype=tl.uint8)).shape
(8, 1, 28, 28)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes, ops
from ..creation import arange, tensor
from ..dtypes import DType
from ..errors import ArgumentError, DTypeError, ShapeError
from ..random import Generator
from ..sampling import rand, randint
from ..tensor import Tensor

_TRIES = 10  # of RandomErasing to find a rectangle that fits into the image

Size = int | Sequence[int]
Range = float | Sequence[float]


class Transform:
    """Base of transforms: a subclass says in `apply` what becomes of images (N, C, H, W)."""

    def __call__(self, images: Tensor) -> Tensor:
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
    """The given transforms, or any functions of images, one after another."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: Any) -> Any:
        for transform in self.transforms:
            images = transform(images)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


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


class CenterCrop(Transform):
    """The middle `size` (H, W) of each image; what reaches beyond a smaller image is 0.

    >>> tl.data.transforms.CenterCrop(2)(tl.arange(16).reshape(4, 4)).tolist()
    [[5, 6], [9, 10]]
    """

    def __init__(self, size: Size) -> None:
        self.size = _pair("CenterCrop", size)

    def apply(self, images: Tensor) -> Tensor:
        edges: list[int] = []
        for have, want in zip(reversed(images.shape[2:]), reversed(self.size), strict=True):
            if want > have:
                before = (want - have) // 2
                edges += [before, want - have - before]
            else:
                before = round((have - want) / 2)
                edges += [-before, before + want - have]
        return ops.pad(images, edges)


class RandomCrop(Transform):
    """A part of size (H, W) of each image, anywhere with equal probability, after `padding` with `fill` on all sides.

    `padding` is a number, (left and right, top and bottom), or (left, top, right, bottom). ShapeError for images that
    are smaller than `size` even so.
    """

    def __init__(
        self, size: Size, padding: Size | None = None, fill: float = 0, *, generator: Generator | None = None
    ) -> None:
        self.size = _pair("RandomCrop", size)
        self.padding = _edges(padding or 0)
        self.fill = fill
        self._generator = generator

    def apply(self, images: Tensor) -> Tensor:
        left, top, right, bottom = self.padding
        return _random_window(self, images, (left, right, top, bottom), self.size)


class RandomShift(Transform):
    """Each image moved by up to `pixels` (a number, or (down, right)) both ways; what comes in at the edges is `fill`.

    >>> image = tl.data.transforms.RandomShift((0, 1))(tl.tensor([[1, 2, 3]]))
    >>> image.tolist() in ([[0, 1, 2]], [[1, 2, 3]], [[2, 3, 0]])
    True
    """

    def __init__(self, pixels: Size, fill: float = 0, *, generator: Generator | None = None) -> None:
        self.pixels = _pair("RandomShift", pixels, least=0)
        self.fill = fill
        self._generator = generator

    def apply(self, images: Tensor) -> Tensor:
        down, right = self.pixels
        height, width = images.shape[2:]
        return _random_window(self, images, (right, right, down, down), (height, width))


class RandomHorizontalFlip(Transform):
    """Each image with probability p mirrored left to right.

    >>> tl.data.transforms.RandomHorizontalFlip(p=1)(tl.tensor([[1, 2, 3]])).tolist()
    [[3, 2, 1]]
    """

    dim = 3

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        self.p = _probability(type(self).__name__, p)
        self._generator = generator

    def apply(self, images: Tensor) -> Tensor:
        return ops.where(_chosen(images, self.p, self._generator), ops.flip(images, self.dim), images)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Each image with probability p turned upside down."""

    dim = 2


class RandomAffine(Transform):
    """Each image rotated, moved, scaled and sheared at random about its middle; what comes in from outside is `fill`.

    Angles, drawn from -degrees..degrees or from the range (low, high), count clockwise. `translate` = (a, b) moves by
    up to the parts a of the width and b of the height, in whole pixels; `scale` is a range of factors; `shear` a range
    of degrees along x as `degrees` is, or four numbers, of x and y. Pixels are taken by `interpolation` "nearest" or
    "bilinear", where bilinear results of integer images are rounded.
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
        self.degrees = _range("degrees", degrees)
        self.translate = tuple(translate or (0.0, 0.0))
        self.scale = tuple(scale or (1.0, 1.0))
        self.shear = _shear(shear)
        self.interpolation = interpolation
        self.fill = fill
        self._generator = generator
        if len(self.translate) != 2 or not all(0 <= part <= 1 for part in self.translate):
            raise ArgumentError(f"RandomAffine: translate is two parts between 0 and 1, got {translate}")
        if len(self.scale) != 2 or min(self.scale) <= 0:
            raise ArgumentError(f"RandomAffine: scale is a range of positive factors, got {scale}")
        if interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(f"RandomAffine: interpolation is 'nearest' or 'bilinear', got {interpolation!r}")

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
        return _uniform(images, bounds[0], bounds[1], self._generator)


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
        low, high = _range("degrees", degrees)
        super().__init__((-high, -low), interpolation=interpolation, fill=fill, generator=generator)


class RandomErasing(Transform):
    """In each image with probability p a rectangle set to `value`. Zhong, Zheng, Kang, Li and Yang 2017.

    Its area is drawn from the range `scale` of parts of the image's area, and its height by its width from `ratio`,
    by the logarithm. An image stays whole if none of ten rectangles drawn fits into it.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float = 0,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.p = _probability("RandomErasing", p)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.value = value
        self._generator = generator
        if not 0 <= self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"RandomErasing: scale is a range of parts, ratio of factors, got {scale} and {ratio}")

    def apply(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        draws = rand(5, _TRIES, count, 1, 1, 1, generator=self._generator, device=images.device)
        area = (draws[0] * (self.scale[1] - self.scale[0]) + self.scale[0]) * (height * width)
        low, high = map(math.log, self.ratio)
        ratio = (draws[1] * (high - low) + low).exp()
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < height) & (wide < width)
        first = fits & (fits.long().cumsum(0) == 1)
        top, left = (draws[2] * (height - tall + 1)).floor(), (draws[3] * (width - wide + 1)).floor()
        y = arange(height, device=images.device).reshape(-1, 1)
        x = arange(width, device=images.device)
        inside = first & (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
        return ops.where(inside.any(0) & (draws[4, 0] < self.p), self.value, images)


# --- what they share --------------------------------------------------------------------------------------------------


def _random_window(transform: Any, images: Tensor, edges: Sequence[int], size: tuple[int, int]) -> Tensor:
    """A window of `size` at a random place of each image, after padding by edges (left, right, top, bottom)."""
    padded = ops.pad(images, edges, value=transform.fill) if any(edges) else images
    room = [have - want for have, want in zip(padded.shape[2:], size, strict=True)]
    if min(room) < 0:
        raise ShapeError(
            f"{type(transform).__name__}: size {size} does not fit into images {tuple(images.shape)} "
            f"padded to {tuple(padded.shape[2:])}"
        )
    if not any(room):
        return padded
    count, device = (len(images), 1, 1, 1), images.device
    top, left = (randint(0, n + 1, count, generator=transform._generator, device=device) for n in room)
    y, x = arange(size[0], device=device).reshape(-1, 1), arange(size[1], device=device)
    rows = _planes(padded) + (y + top) * padded.shape[3] + left
    return ops.take(padded, rows + x)  # only this last sum is as large as the images


def _planes(images: Tensor) -> Tensor:
    """Where in the flattened images (N, C, H, W) each plane begins, (N, C, 1, 1)."""
    count, channels, height, width = images.shape
    planes = arange(count * channels, device=images.device) * (height * width)
    return planes.reshape(count, channels, 1, 1)


def _pick(images: Tensor, places: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) at `places` (N, 1, h, w), positions in the flattened H*W."""
    return ops.take(images, _planes(images) + places)


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


def _uniform(images: Tensor, low: float, high: float, generator: Generator | None) -> Tensor:
    """A number from low..high for each image, (N, 1, 1, 1): float64 for float64 images, else float32."""
    dtype = dtypes.float64 if images.dtype is dtypes.float64 else dtypes.float32
    return rand(len(images), 1, 1, 1, generator=generator, dtype=dtype, device=images.device) * (high - low) + low


def _chosen(images: Tensor, p: float, generator: Generator | None) -> Tensor:
    """For each image whether an event of probability p happens, (N, 1, 1, 1) bool."""
    return rand(len(images), 1, 1, 1, generator=generator, device=images.device) < p


def _per_channel(numbers: tuple[float, ...], images: Tensor) -> Any:
    """A number, or one for each channel as a tensor that goes with the images."""
    if len(numbers) == 1:
        return numbers[0]
    return tensor(numbers, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)


def _pair(what: str, size: Size, least: int = 1) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, int) and n >= least for n in pair):
        raise ArgumentError(f"{what} takes an integer of at least {least}, or two for height and width, got {size!r}")
    return pair[0], pair[1]


def _edges(padding: Size) -> tuple[int, int, int, int]:
    """(left, top, right, bottom)."""
    edges = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    if len(edges) not in (1, 2, 4) or not all(isinstance(n, int) and n >= 0 for n in edges):
        raise ArgumentError(f"RandomCrop: padding is 1, 2 or 4 integers of at least 0, got {padding!r}")
    left, top, right, bottom = edges * (4 // len(edges))
    return left, top, right, bottom


def _range(name: str, value: Range) -> tuple[float, float]:
    bounds = tuple(value) if isinstance(value, Sequence) else (-value, value)
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ArgumentError(f"{name} is a number of at least 0 or a range (low, high), got {value!r}")
    return bounds[0], bounds[1]


def _shear(shear: Range | None) -> tuple[float, float, float, float]:
    if isinstance(shear, Sequence) and len(shear) == 4:
        return (*_range("shear", shear[:2]), *_range("shear", shear[2:]))
    return (*_range("shear", shear or 0.0), 0.0, 0.0)


def _probability(what: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{what}: p is a probability between 0 and 1, got {p}")
    return p
