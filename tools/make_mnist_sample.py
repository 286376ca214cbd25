"""Draw the MNIST sample that the package carries, from the four MNIST files.

    python tools/make_mnist_sample.py FOLDER_WITH_MNIST [OUTPUT_FOLDER]

The draw has no random numbers: of each class it takes digits evenly spaced over that class's places in the file,
and leaves them in the order of the file. So the sample can be made again, bit for bit, and any run of it prints
the digests that `tensorlite/data/mnist.py` expects. (The digests are of the uncompressed files: the compressed
bytes may differ with another version of zlib.)
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tensorlite.data.idx import encode_idx
from tensorlite.data.mnist import SAMPLE_FOLDER, load_mnist

PER_CLASS = {"train": 600, "t10k": 100}


def draw(labels: np.ndarray[Any, Any], per_class: int) -> np.ndarray[Any, Any]:
    """Places of `per_class` digits of each class, evenly spaced over the class, in ascending order."""
    chosen = []
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        chosen.append(places[np.arange(per_class) * len(places) // per_class])
    return np.sort(np.concatenate(chosen))


def sample_files(folder: str | Path) -> dict[str, bytes]:
    """File name -> uncompressed IDX bytes of the sample drawn from the MNIST files in `folder`."""
    full = load_mnist(folder, download=False)
    splits = {"train": (full.train_images, full.train_labels), "t10k": (full.test_images, full.test_labels)}
    files = {}
    for split, (images, labels) in splits.items():
        places = draw(labels, PER_CLASS[split])
        files[f"{split}-images-idx3-ubyte"] = encode_idx(images[places])
        files[f"{split}-labels-idx1-ubyte"] = encode_idx(labels[places])
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="folder with the four MNIST files")
    parser.add_argument("output", nargs="?", default=SAMPLE_FOLDER, type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, data in sample_files(arguments.source).items():
        compressed = gzip.compress(data, compresslevel=9, mtime=0)
        (arguments.output / f"{name}.gz").write_bytes(compressed)
        print(f"{hashlib.sha256(data).hexdigest()}  {name}  {len(compressed)} bytes")


if __name__ == "__main__":
    main()
