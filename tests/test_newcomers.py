"""What a newcomer stumbles over: names nearly right, axes left out, images of other libraries, objects printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import nn, optim
from tensorlite.data import DataLoader, ImageFolder, TensorDataset, transforms
from tensorlite.files import open_regular


@pytest.mark.parametrize(("module", "name", "meant"), [
    (tl, "softmx", "softmax"), (tl, "Tenser", "Tensor"), (tl, "explian", "explain"), (nn, "Conv2D", "Conv2d"),
    (nn, "BatchNorm2D", "BatchNorm2d"), (nn, "zzz", None), (F, "Relu", "relu"), (optim, "adamw", "AdamW"),
    (F, "crossentropy", "cross_entropy"), (optim.lr_scheduler, "StepLr", "StepLR"),
    (tl.data, "Dataloader", "DataLoader"), (transforms, "resize", "Resize"), (nn, "_Conv2d", None),
])
def test_a_name_nearly_right(module: Any, name: str, meant: str | None) -> None:
    words = f"module '{module.__name__}' has no attribute '{name}'"
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == (words if meant is None else f"{words}; did you mean '{meant}'?")


def test_a_torch_tensor() -> None:
    torch = pytest.importorskip("torch")
    for call in (F.relu, lambda x: tl.ones(2) @ x, lambda x: F.linear(x, tl.ones(2, 2)), nn.Conv1d(1, 1, 1)):
        with pytest.raises(tl.DTypeError, match=r"got torch.Tensor; convert it with tl.from_numpy\(t.detach"):
            call(torch.ones(2))


def test_what_is_no_number_has_no_cure() -> None:
    with pytest.raises(tl.DTypeError, match=r"^relu: expected Tensors or numbers, got dict$"):
        F.relu({})  # type: ignore[arg-type]
    with pytest.raises(tl.DTypeError, match=r"^linear: expected a Tensor, got NoneType \[in Linear\]$"):
        nn.Linear(2, 2)(None)
    with pytest.raises(tl.DTypeError, match=r"^linear: expected a Tensor, got ndarray; wrap it in tl.tensor\(...\)"):
        nn.Linear(2, 2)(np.ones((1, 2)))


def test_to_tensor() -> None:
    to_tensor = transforms.ToTensor()
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(to_tensor(pixels).numpy(), expected)
    np.testing.assert_array_equal(to_tensor(pixels[:, ::-1]).numpy(), expected[:, :, ::-1])
    assert to_tensor(pixels[..., 0]).shape == (1, 2, 4)
    np.testing.assert_array_equal(to_tensor(pixels.astype(np.float32))[1].numpy(), pixels[..., 1])
    assert to_tensor(pixels > 3).dtype is tl.bool_
    given = to_tensor(tl.tensor(pixels[..., 0]))
    assert (given.shape, given.dtype, given.max().item()) == ((1, 2, 4), tl.float32, np.float32(21) / np.float32(255))
    assert repr(to_tensor) == "ToTensor()"
    with pytest.raises(tl.DTypeError, match="takes a PIL image or a NumPy array, got list"):
        to_tensor([1])
    with pytest.raises(tl.ShapeError, match=r"images \(H, W, C\) or \(H, W\), got shape \(4,\)"):
        to_tensor(np.ones(4))


def test_images_of_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    color = transforms.ToTensor()(image.new("RGB", (5, 4), (255, 0, 51)))
    assert (color.shape, color[:, 0, 0].tolist()) == ((3, 4, 5), [1.0, 0.0, np.float32(0.2).item()])
    assert transforms.ToTensor()(image.new("1", (2, 1), 1)).tolist() == [[[1.0, 1.0]]]
    with pytest.raises(tl.DTypeError, match=r"Resize takes a Tensor, got PIL.Image; put ToTensor\(\) before it"):
        transforms.Resize(3)(image.new("RGB", (5, 4)))


def test_mnist_offline_names_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = "; sample=True takes the 7,000 digits that come with tensorlite$"
    monkeypatch.setattr("tensorlite.data.mnist.MIRRORS", ())
    for download, error in ((False, FileNotFoundError), (True, ConnectionError)):
        with pytest.raises(error, match=sample):
            tl.data.MNIST(tmp_path, download=download)
    monkeypatch.setenv("TENSORLITE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=sample):
        tl.data.MNIST()
    monkeypatch.delenv("TENSORLITE_DATA")
    monkeypatch.setattr("tensorlite.data.mnist.cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=sample):
        tl.data.MNIST(download=False, sample=False)


@pytest.mark.parametrize("load", [open_regular, tl.load, tl.load_checkpoint, tl.data.read_image, tl.data.MNIST])
def test_a_number_is_no_path(load: Callable[[Any], Any], tmp_path: Path) -> None:
    with (tmp_path / "bytes").open("wb") as file:
        with pytest.raises(TypeError, match=r"os.PathLike object, not int"):
            load(file.fileno())
        file.write(b"still open")


def test_what_datasets_print(tmp_path: Path) -> None:
    digits = tl.data.MNIST(train=False, sample=True)
    assert repr(digits) == "MNIST(1000 images (28, 28), train=False)"
    scaled = tl.data.MNIST(sample=True, transform=transforms.ToTensor())
    assert repr(scaled) == "MNIST(6000 images (28, 28), train=True, transform=ToTensor())"
    pairs = TensorDataset(tl.ones(3, 2), tl.arange(3))
    assert repr(pairs) == "TensorDataset(float32 (3, 2), int64 (3,))"
    assert repr(DataLoader(pairs, 2)) == f"DataLoader({pairs!r}, batch_size=2, drop_last=False)"
    shuffled = DataLoader(pairs, 2, shuffle=True, num_workers=1)
    assert repr(shuffled) == f"DataLoader({pairs!r}, batch_size=2, shuffle=True, drop_last=False, num_workers=1)"
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").touch()
    pictures = ImageFolder(tmp_path, transforms.CenterCrop(2))
    crop = repr(transforms.CenterCrop(2))
    assert repr(pictures) == f"ImageFolder({str(tmp_path)!r}, 1 images of 1 classes, mode='RGB', transform={crop})"


def test_images_without_a_channel_axis() -> None:
    weight = tl.ones(4, 1, 3, 3)
    with pytest.raises(tl.ShapeError, match=r"for a batch without its channel axis say .unsqueeze\(1\)"):
        F.conv2d(tl.ones(8, 28, 28), weight)
    with pytest.raises(tl.ShapeError, match=r"give it a channel with .unsqueeze\(0\)"):
        F.conv2d(tl.ones(28, 28), weight)
    with pytest.raises(tl.ShapeError, match="expects 1 input channels, got 3") as caught:
        F.conv2d(tl.ones(2, 3, 5, 5), weight)
    assert "unsqueeze" not in str(caught.value)
    with pytest.raises(tl.ShapeError, match="expects 3 input channels, got 2") as caught:
        F.conv2d(tl.ones(2, 5, 5), tl.ones(4, 3, 3, 3))
    assert "unsqueeze" not in str(caught.value)


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "glu": (lambda: F.glu(tl.ones(2), 3), tl.OutOfRangeError, "dimension out of range"),
    "size": (lambda: tl.ones(2).size(1), tl.OutOfRangeError, "dimension out of range"),
    "stride": (lambda: tl.ones(2).stride(-3), tl.OutOfRangeError, "dimension out of range"),
    "trunc_normal": (lambda: nn.init.trunc_normal_(tl.ones(2), mean=float("nan")), tl.ArgumentError, "needs a mean"),
    "lengths": (lambda: nn.utils.rnn.unpad_sequence(tl.ones(2, 3), [1, 2]), tl.ArgumentError,
                "2 lengths for 3 sequences"),
    "arange": (lambda: tl.arange(float("nan")), tl.ArgumentError, "step 1 does not lead from 0 to nan"),
    "dtype": (lambda: tl.zeros(2, dtype={"a": 1}), tl.DTypeError, "not a dtype"),
    "erasing": (lambda: transforms.RandomErasing(scale=(0.1,)), tl.ArgumentError, "scale is a range"),  # type: ignore[arg-type]
    "modules": (lambda: nn.ModuleList(0), TypeError, "'int' object is not iterable"),  # type: ignore[arg-type]
    "device": (lambda: nn.SinusoidalEncoding(4, device=""), tl.DeviceError, "unknown device ''"),
    "table": (lambda: nn.ParameterDict(0), TypeError, "int"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_ended_in_an_index_error_or_not_at_all(name: str) -> None:
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


def test_sizes_and_values_of_tensors() -> None:
    x = tl.ones(2, 3)
    assert (x.size(-1), x.stride(-2)) == (3, 3)
    assert tl.full_like(x, tl.tensor(2)).tolist() == x.new_full((2, 3), tl.tensor(2)).tolist() == [[2.0] * 3] * 2
