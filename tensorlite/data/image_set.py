"""What MNIST and its relatives have in common: images of 28 x 28 grey bytes with a class each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..creation import from_numpy
from ..tensor import Tensor
from .dataset import Dataset

Array = np.ndarray[Any, Any]


class ImageSet(Dataset[tuple[Any, Any]]):
    """A dataset of (image, label): a uint8 tensor (28, 28) and a Python int, both transformed.

    `data` holds all images, uint8 (N, 28, 28), and `targets` all labels, int64 (N,). A subclass says in `statistics`
    what mean and standard deviation its training pixels have when they are scaled to 0..1.
    """

    statistics: ClassVar[tuple[float, float]]

    def __init__(
        self,
        images: Array,
        labels: Array,
        transform: Callable[[Tensor], Any] | None,
        target_transform: Callable[[int], Any] | None,
    ) -> None:
        self.transform = transform
        self.target_transform = target_transform
        self.data = from_numpy(images)
        self.targets = from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        named = {name: vars(self).get(name) for name in ("split", "train", "transform")}
        shown = "".join(f", {name}={value!r}" for name, value in named.items() if value is not None)
        return f"{type(self).__name__}({len(self)} images {self.data.shape[1:]}{shown})"

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.data[index], int(self.targets[index].item())
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def __getbatch__(self, indices: Array) -> tuple[Tensor, Tensor] | None:
        """Images and labels at `indices`, by one indexing each; None where a transform must see every item."""
        if self.transform is not None or self.target_transform is not None:
            return None
        return self.data[indices], self.targets[indices]

    def as_tensors(self, flatten: bool = True, normalize: bool = True) -> tuple[Tensor, Tensor]:
        """All images as float32 and all labels as int64, for training on whole arrays.

        Images are (N, 784), or (N, 1, 28, 28) with `flatten=False`. Pixels are x/255 in 0..1, and with `normalize`
        (x/255 - mean) / std by the `statistics` of the training pixels, so that these have mean 0 and deviation 1.
        """
        mean, std = self.statistics
        pixels = self.data.numpy().astype(np.float32)
        pixels /= np.float32(255)
        if normalize:
            pixels -= np.float32(mean)
            pixels /= np.float32(std)
        return from_numpy(pixels.reshape(len(self), *((784,) if flatten else (1, 28, 28)))), self.targets
