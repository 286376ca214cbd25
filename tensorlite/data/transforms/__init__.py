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

from typing import TYPE_CHECKING

from ...mistakes import unknown_name as _unknown_name
from .affine import RandomAffine, RandomRotation
from .base import Compose, Transform
from .values import Normalize, ToDtype, ToTensor
from .windows import (
    CenterCrop,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomShift,
    RandomVerticalFlip,
    Resize,
)

__all__ = [
    "CenterCrop",
    "Compose",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "ToTensor",
    "Transform",
]

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
