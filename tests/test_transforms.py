"""Transforms of batches: exact results, statistics of what is drawn, devices, captured steps, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.data import transforms as T
from tensorlite.errors import ArgumentError, DTypeError, ShapeError

DTYPES = [tl.uint8, tl.float32, tl.float64, tl.float16]


def numbered(*shape: int, dtype: Any = tl.float32) -> tl.Tensor:
    """Images in which all pixels differ, from 1 on (up to what uint8 holds)."""
    return tl.arange(1, math.prod(shape) + 1).reshape(*shape).to(dtype)


def moved(image: np.ndarray, down: int, right: int, fill: float) -> np.ndarray:
    height, width = image.shape[-2:]
    result = np.full_like(image, fill)
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_rows, from_columns = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    result[..., rows, columns] = image[..., from_rows, from_columns]
    return result


# ---- crops and shifts ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shift_is_one_of_all_shifts_each_as_often(dtype: Any) -> None:
    tl.manual_seed(0)
    image = numbered(2, 4, 5, dtype=dtype)
    batch = T.RandomShift((1, 2), fill=77)(image.expand(3000, 2, 4, 5))
    assert batch.dtype is dtype and batch.shape == (3000, 2, 4, 5)
    expected = [moved(image.numpy(), down, right, 77) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)]
    counts = [(batch.numpy() == one).all((1, 2, 3)).sum() for one in expected]
    assert sum(counts) == 3000, "each image is moved as a whole, all channels alike"
    assert min(counts) > 140 and max(counts) < 260


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    tl.manual_seed(1)
    images = numbered(50, 3, 6, 7)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 4), (1, 3)), constant_values=-1)
    crops = T.RandomCrop((5, 9), padding=(1, 2, 3, 4), fill=-1)(images).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 9), axis=(2, 3))
    places = [np.argwhere((windows[n] == crops[n][:, None, None]).all((0, 3, 4))) for n in range(50)]
    assert all(len(found) >= 1 for found in places)
    tops, lefts = ({int(found[0][axis]) for found in places} for axis in (0, 1))
    assert tops == set(range(12 - 5 + 1)) and lefts == set(range(11 - 9 + 1))


@pytest.mark.parametrize(
    ("padding", "expected"), [(1, (1, 1, 1, 1)), ((1, 2), (1, 2, 1, 2)), ([1, 2, 3, 4], (1, 2, 3, 4))]
)
def test_padding_of_a_crop_counts_as_torchvisions(padding: Any, expected: tuple[int, ...]) -> None:
    assert T.RandomCrop(3, padding).padding == expected
    left, top, right, bottom = expected
    whole = T.RandomCrop((4 + top + bottom, 4 + left + right), padding)(tl.ones(1, 1, 4, 4)).numpy()[0, 0]
    np.testing.assert_array_equal(whole, np.pad(np.ones((4, 4)), ((top, bottom), (left, right))))


@pytest.mark.parametrize("size", [(3, 4), 3, 5, (8, 2), 9])
def test_center_crop(size: Any) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    image = numbered(1, 5, 6)
    found = T.CenterCrop(size)(image).numpy()[0]
    big = np.pad(image.numpy()[0], 20)
    top = 20 + (round((5 - height) / 2) if height <= 5 else -((height - 5) // 2))
    left = 20 + (round((6 - width) / 2) if width <= 6 else -((width - 6) // 2))
    np.testing.assert_array_equal(found, big[top : top + height, left : left + width])


@pytest.mark.parametrize(("mode", "theirs"), [("edge", "edge"), ("reflect", "reflect")])
def test_padding_modes(mode: str, theirs: Any) -> None:
    image = numbered(1, 1, 4, 5)
    found = T.RandomCrop((10, 9), (2, 3), padding_mode=mode)(image)
    np.testing.assert_array_equal(found.numpy()[0, 0], np.pad(image.numpy()[0, 0], ((3, 3), (2, 2)), theirs))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resize(mode: str) -> None:
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).random((2, 3, 6, 9))
    for size, target in (((4, 5), (4, 5)), (3, (3, 4)), (12, (12, 18)), ([7, 9], (7, 9))):
        expected = torch.nn.functional.interpolate(torch.tensor(images), target, mode=mode).numpy()
        np.testing.assert_allclose(T.Resize(size, mode)(tl.from_numpy(images)).numpy(), expected, atol=1e-12)
        tall = T.Resize(size, mode)(tl.from_numpy(images.transpose(0, 1, 3, 2)))
        assert tall.shape[2:] == (target[::-1] if isinstance(size, int) else target)
    grey = tl.tensor([[0, 255]], dtype=tl.uint8)
    assert T.Resize((1, 4))(grey).tolist() == [[0, 64, 191, 255]] and T.Resize((1, 4))(grey).dtype is tl.uint8


# ---- flips ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "axis"), [(T.RandomHorizontalFlip, 3), (T.RandomVerticalFlip, 2)])
def test_flips_come_with_their_probability(kind: Any, axis: int, dtype: Any) -> None:
    tl.manual_seed(2)
    images = numbered(1, 2, 3, 4, dtype=dtype).expand(2000, 2, 3, 4)
    for p in (0.0, 0.25, 1.0):
        found = kind(p)(images)
        flipped = (found.numpy() == np.flip(images.numpy(), axis)).all((1, 2, 3))
        same = (found.numpy() == images.numpy()).all((1, 2, 3))
        assert (flipped ^ same).all() and found.dtype is dtype
        assert abs(flipped.mean() - p) < 0.04 and (p not in (0, 1) or flipped.mean() == p)


# ---- rotations ----


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2, 5])
def test_quarter_turns_are_those_of_rot90(mode: str, quarters: int) -> None:
    for dtype in DTYPES:
        images = numbered(3, 2, 5, 5, dtype=dtype)
        found = T.RandomRotation((90 * quarters, 90 * quarters), mode, fill=9)(images)
        expected = np.rot90(images.numpy(), quarters, (2, 3))
        exact = mode == "nearest" or dtype is tl.uint8
        tolerance = 0 if exact else {tl.float16: 0.2, tl.float32: 1e-3, tl.float64: 1e-10}[dtype]
        np.testing.assert_allclose(found.numpy(), expected, atol=tolerance, err_msg=str(dtype))
        assert found.dtype is dtype


def sampled_by_torch(images: np.ndarray, inverse: np.ndarray, mode: str) -> np.ndarray:
    """torch's grid_sample at `inverse` (2, 2) of each pixel's place from the middle, zeros outside."""
    torch = pytest.importorskip("torch")
    height, width = images.shape[2:]
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    source_x, source_y = np.tensordot(inverse, np.stack([x, y]), 1)
    grid = np.stack([source_x * 2 / width, source_y * 2 / height], -1)[None].repeat(len(images), 0)
    sample = torch.nn.functional.grid_sample
    return sample(torch.tensor(images), torch.tensor(grid), mode, "zeros", align_corners=False).numpy()


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_affine_maps_are_those_of_torch(mode: str) -> None:
    rng = np.random.default_rng(3)
    for trial in range(25):
        images = rng.random((2, 3, *rng.integers(1, 12, 2)))
        angle, factor = rng.uniform(-180, 180), rng.uniform(0.5, 2)
        shear = rng.uniform(-40, 40, 2) if trial % 3 else np.zeros(2)
        transform = T.RandomAffine(
            (angle, angle), scale=(factor, factor), shear=(shear[0], shear[0], shear[1], shear[1]), interpolation=mode
        )
        a, (sx, sy) = np.radians(angle), np.radians(shear)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        sheared = np.array([[1, 0], [-np.tan(sy), 1]]) @ np.array([[1, -np.tan(sx)], [0, 1]])
        expected = sampled_by_torch(images, np.linalg.inv(turn @ sheared) / factor, mode)
        np.testing.assert_allclose(transform(tl.from_numpy(images)).numpy(), expected, atol=1e-9)
    rotation = T.RandomRotation((angle, angle), mode)(tl.from_numpy(images)).numpy()
    np.testing.assert_allclose(rotation, sampled_by_torch(images, turn, mode), atol=1e-9)


def test_angles_are_drawn_for_each_image_from_their_range() -> None:
    """A bright pixel far from the middle says by its place through which angle its image was turned."""
    tl.manual_seed(4)
    images = tl.zeros(400, 1, 101, 101)
    images[:, :, 50, 90] = 1000.0
    for low, high in ((-30, 60), (-20, 20)):
        degrees: Any = (low, high) if low != -high else high
        turned = T.RandomRotation(degrees, "bilinear")(images).numpy()[:, 0]
        y, x = np.divmod(turned.reshape(400, -1).argmax(1), 101)
        angles = np.degrees(np.arctan2(50 - y, x - 50))
        assert low - 1 < angles.min() < low + 3 and high - 3 < angles.max() < high + 1
        assert abs(angles.mean() - (low + high) / 2) < 5 and len(np.unique(angles)) > 30


def test_affine_moves_by_whole_pixels_within_its_parts() -> None:
    tl.manual_seed(5)
    image = numbered(1, 1, 6, 10).expand(500, 1, 6, 10)
    found = T.RandomAffine(0, translate=(0.2, 0.5), fill=-5)(image).numpy()
    seen = {
        (down, right)
        for down in range(-4, 5)
        for right in range(-3, 4)
        if (found == moved(image.numpy()[0], down, right, -5)).all((1, 2, 3)).any()
    }
    assert seen == {(down, right) for down in range(-3, 4) for right in range(-2, 3)}


def test_bilinear_bytes_are_rounded_and_filled() -> None:
    image = tl.tensor([[0, 0, 0], [0, 100, 0], [0, 0, 0]], dtype=tl.uint8)
    found = T.RandomAffine(0, scale=(2, 2), interpolation="bilinear")(image)
    assert found.tolist() == [[25, 50, 25], [50, 100, 50], [25, 50, 25]] and found.dtype is tl.uint8
    small = T.RandomAffine(0, scale=(0.5, 0.5), interpolation="bilinear", fill=200)(image)
    assert small.tolist() == [[200, 200, 200], [200, 100, 200], [200, 200, 200]]


# ---- values ----


def test_bytes_become_floats_and_back() -> None:
    values = tl.arange(256).to(tl.uint8).reshape(16, 16)
    scaled = T.ToDtype(tl.float32, scale=True)(values)
    np.testing.assert_array_equal(scaled.numpy(), np.arange(256, dtype=np.float32).reshape(16, 16) / 255)
    assert T.ToDtype(tl.uint8, scale=True)(scaled).tolist() == values.tolist()
    shares = T.ToDtype(tl.uint8, scale=True)(tl.tensor([[0.0039, 0.0040, 0.5, 0.9960, 0.9970]]))
    assert shares.tolist() == [[0, 1, 127, 254, 255]], "256 equal shares of 0..1"
    assert T.ToDtype(tl.float64)(values).tolist() == values.tolist()
    assert T.ToDtype(tl.float64, scale=True)(scaled).dtype is tl.float64
    with pytest.raises(DTypeError, match=r"between uint8 and floats, got tensorlite.int32"):
        T.ToDtype(tl.float32, scale=True)(tl.zeros(2, 2, dtype=tl.int32))


def test_normalize() -> None:
    images = np.random.default_rng(0).random((4, 3, 2, 2))
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    expected = (images - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    transform = T.Normalize(mean, std)
    for dtype, tolerance in ((tl.float64, 1e-15), (tl.float32, 1e-6)):
        found = transform(tl.tensor(images, dtype=dtype))
        assert found.dtype is dtype
        np.testing.assert_allclose(found.numpy(), expected, atol=tolerance)
    np.testing.assert_allclose(T.Normalize(0.5, 2)(tl.tensor(images)).numpy(), (images - 0.5) / 2, atol=1e-15)


def test_erased_rectangles() -> None:
    tl.manual_seed(6)
    images = tl.ones(1500, 2, 20, 30)
    found = T.RandomErasing(0.4, scale=(0.05, 0.2), ratio=(0.5, 2.0), value=-3)(images).numpy()
    erased = found == -3
    assert (erased[:, 0] == erased[:, 1]).all() and (erased | (found == 1)).all()
    hit = erased.any((1, 2, 3))
    assert abs(hit.mean() - 0.4) < 0.05
    rows, columns = erased[hit, 0].any(2), erased[hit, 0].any(1)
    tall, wide = rows.sum(1), columns.sum(1)
    assert (erased[hit, 0].sum((1, 2)) == tall * wide).all(), "rectangles"
    areas, ratios = tall * wide / 600, tall / wide
    assert 0.04 < areas.min() < 0.07 and 0.17 < areas.max() < 0.22
    assert 0.4 < ratios.min() < 0.6 and 1.7 < ratios.max() < 2.4
    assert rows[:, 0].any() and rows[:, -1].any() and columns[:, 0].any() and columns[:, -1].any(), "up to the edges"
    whole = T.RandomErasing(1.0, scale=(1.0, 1.0))(images[:5]).numpy()
    assert (whole == 1).all(), "a rectangle as large as the image does not fit, as in torchvision"


# ---- all of them ----

ALL: list[Callable[[], Any]] = [
    lambda: T.RandomShift(2, fill=1),
    lambda: T.RandomCrop((4, 5), padding=1),
    lambda: T.RandomCrop(5, 1, padding_mode="reflect"),
    lambda: T.RandomHorizontalFlip(),
    lambda: T.RandomVerticalFlip(),
    lambda: T.RandomRotation(40, "bilinear"),
    lambda: T.RandomAffine(30, (0.3, 0.3), (0.8, 1.2), 20),
    lambda: T.RandomErasing(0.7),
    lambda: T.Compose([T.RandomShift(1), T.RandomRotation(20, "bilinear"), T.Normalize([0.1, 0.2], [0.3, 0.4])]),
]


@pytest.mark.parametrize("make", ALL)
def test_devices_draw_the_same(make: Callable[[], Any]) -> None:
    images = tl.from_numpy(np.random.default_rng(1).random((6, 2, 6, 7)))
    found = {}
    for device in tl.testing.devices():
        tl.manual_seed(7)
        result = make()(images.to(device))
        assert result.device == tl.as_device(device)
        found[device] = result.cpu().numpy()
    for device, result in found.items():
        np.testing.assert_allclose(result, found["cpu"], atol=1e-12, err_msg=device)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("device", tl.testing.devices())
def test_a_captured_step_draws_anew_and_as_an_eager_one(make: Callable[[], Any], device: str) -> None:
    images = tl.from_numpy(np.random.default_rng(1).random((5, 2, 6, 7), dtype=np.float32)).to(device)
    transform = make()
    tl.manual_seed(8)
    eager = [transform(images).cpu().numpy() for _ in range(5)]
    step = tl.capture(transform)
    tl.manual_seed(8)
    captured = [step(images).clone().cpu().numpy() for _ in range(5)]
    np.testing.assert_array_equal(captured, eager)
    assert len({each.tobytes() for each in captured}) > 2


@pytest.mark.parametrize("make", ALL[:-1])
def test_a_generator_of_ones_own(make: Callable[[], Any]) -> None:
    transform, images = make(), tl.rand(5, 2, 6, 7)
    transform._generator = tl.Generator().manual_seed(3)
    first = transform(images)
    tl.manual_seed(99)
    transform._generator.manual_seed(3)
    assert transform(images).tolist() == first.tolist()
    state = tl.get_rng_state().tolist()
    transform(images)
    assert tl.get_rng_state().tolist() == state, "the default generator is left alone"


@pytest.mark.parametrize("make", ALL)
def test_gradients_pass(make: Callable[[], Any]) -> None:
    images = tl.from_numpy(np.random.default_rng(2).random((3, 2, 6, 7))).requires_grad_()

    def function(x: tl.Tensor) -> tl.Tensor:
        tl.manual_seed(9)
        return make()(x)

    assert tl.testing.gradcheck(function, images)


@pytest.mark.parametrize("make", ALL[:-1])
def test_single_images_keep_their_dimensions(make: Callable[[], Any]) -> None:
    for shape in ((2, 6, 7), (6, 7)):
        tl.manual_seed(10)
        image = tl.rand(*shape)
        tl.manual_seed(11)
        found = make()(image)
        tl.manual_seed(11)
        batch = make()(image.reshape((1,) * (4 - len(shape)) + shape))
        assert found.ndim == len(shape) and found.flatten().tolist() == batch.flatten().tolist()
    for shape in ((7,), (1, 1, 2, 3, 4)):
        with pytest.raises(ShapeError, match=r"takes images \(N, C, H, W\)"):
            make()(tl.zeros(*shape))


@pytest.mark.parametrize("make", ALL)
def test_no_images(make: Callable[[], Any]) -> None:
    shape = make()(tl.zeros(3, 2, 6, 7)).shape
    assert make()(tl.zeros(0, 2, 6, 7)).shape == (0, *shape[1:])


def test_in_a_dataset_and_by_name() -> None:
    transform = T.Compose([T.ToDtype(tl.float32, scale=True), T.RandomShift(1)])
    digits = tl.data.MNIST(train=False, sample=True, transform=transform)
    images, _ = next(iter(tl.data.DataLoader(digits, batch_size=4)))
    assert images.shape == (4, 28, 28) and 0 < float(images.max()) <= 1
    assert repr(T.RandomCrop(3, 1)) == "RandomCrop(size=(3, 3), padding=(1, 1, 1, 1), fill=0, padding_mode='constant')"
    assert repr(transform).startswith("Compose([ToDtype(dtype=tensorlite.float32, scale=True), RandomShift(")
    with pytest.raises(NotImplementedError, match="must define apply"):
        T.Transform()(tl.zeros(2, 2))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: T.RandomCrop(9)(tl.zeros(2, 1, 8, 8)), ShapeError, r"size \(9, 9\) does not fit"),
        (lambda: T.RandomCrop(0), ArgumentError, "at least 1"),
        (lambda: T.RandomCrop(3, 1, padding_mode="mirror"), ArgumentError, "one of constant, edge, reflect"),
        (lambda: T.Resize((1, 2, 3)), ArgumentError, "two for height and width"),
        (lambda: T.Resize(4, "area"), ArgumentError, "Resize: interpolation is"),
        (lambda: T.RandomCrop(3, -1), ArgumentError, "padding is 1, 2 or 4 integers"),
        (lambda: T.RandomShift(-1), ArgumentError, "at least 0"),
        (lambda: T.RandomShift((1, 2, 3)), ArgumentError, "two for height and width"),
        (lambda: T.RandomHorizontalFlip(1.5), ArgumentError, "between 0 and 1"),
        (lambda: T.RandomRotation(-5), ArgumentError, "degrees is a number of at least 0"),
        (lambda: T.RandomRotation((5, -5)), ArgumentError, "range"),
        (lambda: T.RandomRotation(5, "cubic"), ArgumentError, "'nearest' or 'bilinear'"),
        (lambda: T.RandomAffine(0, (2, 0)), ArgumentError, "translate is two parts"),
        (lambda: T.RandomAffine(0, scale=(0, 1)), ArgumentError, "positive factors"),
        (lambda: T.RandomErasing(scale=(0.5, 0.1)), ArgumentError, "scale is a range"),
        (lambda: T.Normalize(0, 0), ArgumentError, "std must not be 0"),
        (lambda: T.Normalize(0, 1)(tl.zeros(2, 2, dtype=tl.uint8)), DTypeError, "apply ToDtype before"),
        (lambda: T.Normalize([0, 1], 1)(tl.zeros(2, 3, 4, 4)), ShapeError, "2 means and 1 deviations for 3 channels"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
