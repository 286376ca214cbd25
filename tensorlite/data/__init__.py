"""Datasets, samplers, the DataLoader, MNIST and its relatives, under the names of torch.utils.data and torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mistakes import unknown_name as _unknown_name
from . import transforms as transforms
from .dataset import (
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)
from .emnist import EMNIST
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder, read_image
from .loader import DataLoader, WorkerInfo, get_worker_info
from .mnist import MNIST, load_mnist
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler
from .texts import load_text

__all__ = [
    "EMNIST",
    "MNIST",
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "FashionMNIST",
    "ImageFolder",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "load_mnist",
    "load_text",
    "random_split",
    "read_image",
    "transforms",
]

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
