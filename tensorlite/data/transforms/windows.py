"""Transforms by whole rows and columns: resizing, crops, shifts, flips and erasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from ... import ops
from ...creation import arange
from ...errors import ArgumentError, ShapeError
from ...nn.functional.resampling import interpolate
from ...random import Generator
from ...sampling import rand, randint
from ...tensor import Tensor
from .base import Size, Transform, check_interpolation, check_probability, chosen, pair

_PADDINGS: Final = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}  # torchvision's names, and ours
_TRIES: Final = 10  # of RandomErasing to find a rectangle that fits into the image


class Resize(Transform):
    """Images of `size` (H, W), or with the shorter side of that size; `interpolation` is "bilinear" or "nearest".

    As torchvision's with antialias=False: a pixel of a smaller image is made of at most four. Results of integer images
    are rounded.

    >>> tl.data.transforms.Resize(2, "nearest")(tl.arange(24).reshape(4, 6)).tolist()
    [[0, 2, 4], [12, 14, 16]]
    """

    def __init__(self, size: Size, interpolation: str = "bilinear") -> None:
        self.size = size
        self.interpolation = check_interpolation("Resize", interpolation)
        pair("Resize", size)

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if isinstance(self.size, Sequence):
            target = tuple(self.size)
        else:
            short = min(height, width)
            target = (self.size * height // short, self.size * width // short)
        if images.is_floating_point():
            return interpolate(images, target, mode=self.interpolation)
        return interpolate(images.float(), target, mode=self.interpolation).round().to(images.dtype)


class CenterCrop(Transform):
    """The middle `size` (H, W) of each image; what reaches beyond a smaller image is 0.

    >>> tl.data.transforms.CenterCrop(2)(tl.arange(16).reshape(4, 4)).tolist()
    [[5, 6], [9, 10]]
    """

    def __init__(self, size: Size) -> None:
        self.size = pair("CenterCrop", size)

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
    """A part of size (H, W) of each image, anywhere with equal probability, after `padding` on all sides.

    `padding` is a number, (left and right, top and bottom), or (left, top, right, bottom), and what it adds by
    `padding_mode` "constant": `fill`; "edge": the pixels at the edge; "reflect": the image mirrored at its edge.
    ShapeError for images that are smaller than `size` even so.

    >>> tl.data.transforms.RandomCrop(2, padding=1)(tl.zeros(8, 1, 4, 4)).shape
    (8, 1, 2, 2)
    """

    def __init__(
        self,
        size: Size,
        padding: Size | None = None,
        fill: float = 0,
        padding_mode: str = "constant",
        *,
        generator: Generator | None = None,
    ) -> None:
        self.size = pair("RandomCrop", size)
        self.padding = _edges(padding or 0)
        self.fill = fill
        self.padding_mode = padding_mode
        self._generator = generator
        if padding_mode not in _PADDINGS:
            raise ArgumentError(f"RandomCrop: padding_mode is one of {', '.join(_PADDINGS)}, got {padding_mode!r}")

    def apply(self, images: Tensor) -> Tensor:
        left, top, right, bottom = self.padding
        edges, mode = (left, right, top, bottom), _PADDINGS[self.padding_mode]
        padded = ops.pad(images, edges, mode, self.fill if mode == "constant" else None)
        return _random_window(self, padded, self.size)


class RandomShift(Transform):
    """Each image moved by up to `pixels` (a number, or (down, right)) both ways; what comes in at the edges is `fill`.

    >>> image = tl.data.transforms.RandomShift((0, 1))(tl.tensor([[1, 2, 3]]))
    >>> image.tolist() in ([[0, 1, 2]], [[1, 2, 3]], [[2, 3, 0]])
    True
    """

    def __init__(self, pixels: Size, fill: float = 0, *, generator: Generator | None = None) -> None:
        self.pixels = pair("RandomShift", pixels, least=0)
        self.fill = fill
        self._generator = generator

    def apply(self, images: Tensor) -> Tensor:
        down, right = self.pixels
        height, width = images.shape[2:]
        return _random_window(self, ops.pad(images, (right, right, down, down), value=self.fill), (height, width))


class RandomHorizontalFlip(Transform):
    """Each image with probability p mirrored left to right.

    >>> tl.data.transforms.RandomHorizontalFlip(p=1)(tl.tensor([[1, 2, 3]])).tolist()
    [[3, 2, 1]]
    """

    dim = 3

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        self.p = check_probability(type(self).__name__, p)
        self._generator = generator

    def apply(self, images: Tensor) -> Tensor:
        return ops.where(chosen(images, self.p, self._generator), ops.flip(images, self.dim), images)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Each image with probability p turned upside down.

    >>> tl.data.transforms.RandomVerticalFlip(p=1)(tl.tensor([[1], [2]])).tolist()
    [[2], [1]]
    """

    dim = 2


class RandomErasing(Transform):
    """In each image with probability p a rectangle set to `value`. Zhong, Zheng, Kang, Li and Yang 2017.

    Its area is drawn from the range `scale` of parts of the image's area, and its height by its width from `ratio`,
    by the logarithm. An image stays whole if none of ten rectangles drawn fits into it.

    >>> erased = tl.data.transforms.RandomErasing(p=1, value=7)(tl.zeros(1, 1, 8, 8))
    >>> sorted(set(erased.flatten().tolist()))
    [0.0, 7.0]
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
        self.p = check_probability("RandomErasing", p)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.value = value
        self._generator = generator
        pairs = len(self.scale) == len(self.ratio) == 2
        if not pairs or not 0 <= self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
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


def _random_window(transform: Any, padded: Tensor, size: tuple[int, int]) -> Tensor:
    """A window of `size` at a random place of each padded image."""
    room = [have - want for have, want in zip(padded.shape[2:], size, strict=True)]
    if min(room) < 0:
        raise ShapeError(
            f"{type(transform).__name__}: size {size} does not fit into padded images of {tuple(padded.shape[2:])}"
        )
    if not any(room):
        return padded
    count, device = len(padded), padded.device
    top, left = (randint(0, n + 1, (count, 1), generator=transform._generator, device=device) for n in room)
    # Of the windows along a row, one for each image's row: whole rows are copied, and no index is as large as an image.
    number, rows = arange(count, device=device).reshape(-1, 1), top + arange(size[0], device=device)
    chosen = ops.unfold(padded, 3, size[1], 1)[number, :, rows, left]
    return ops.permute(chosen, 0, 2, 1, 3).contiguous()


def _edges(padding: Size) -> tuple[int, int, int, int]:
    """(left, top, right, bottom)."""
    edges = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    if len(edges) not in (1, 2, 4) or not all(isinstance(n, int) and n >= 0 for n in edges):
        raise ArgumentError(f"RandomCrop: padding is 1, 2 or 4 integers of at least 0, got {padding!r}")
    left, top, right, bottom = edges * (4 // len(edges))
    return left, top, right, bottom
