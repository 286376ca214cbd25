"""The kernels of convolution: each arithmetic and tile, every argument and layout, and which of them serves a call."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import Array, Backend, get
from tensorlite.backends.kernels import Instance, conv
from tensorlite.dtypes import DType
from tensorlite.testing import devices

KERNEL_DEVICES = [name for name in devices() if name != "cpu"]
pytestmark = pytest.mark.skipif(not KERNEL_DEVICES, reason="neither a C++ compiler for 'cuda:sim' nor a GPU is here")

Pair = tuple[int, int]
KERNELS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
TOLERANCE = {"float16": 1.5e-3, "bfloat16": 1.2e-2, "float32": 2e-6, "float64": 4e-15}  # of the sum of magnitudes
TF32 = 1.5e-3


class Shapes(NamedTuple):
    """A convolution: x (images, channels, *size) with weight (rows, channels / groups, *taps)."""

    images: int
    channels: int
    size: Pair
    rows: int
    taps: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def pixels(self) -> Pair:
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in
                         zip(self.size, self.padding, self.dilation, self.taps, self.stride, strict=True))
        return height, width

    @property
    def params(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def of(self, kernel: str) -> dict[str, tuple[int, ...]]:
        """The shapes of a kernel's operands, its result first."""
        shapes = {"x": (self.images, self.channels, *self.size), "g": (self.images, self.rows, *self.pixels),
                  "weight": (self.rows, self.channels // self.groups, *self.taps), "bias of x": (self.channels,),
                  "bias of g": (self.rows,)}
        names = {"conv2d": ("g", "x", "weight", "bias of g"), "conv2d_input_grad": ("x", "g", "weight", "bias of x"),
                 "conv2d_weight_grad": ("weight", "g", "x")}[kernel]
        return {name: shapes[name] for name in names}


PLAIN = Shapes(2, 3, (7, 8), 5, (3, 2), (1, 1), (1, 0))
NARROW = Shapes(2, 13, (6, 9), 10, (3, 3), (1, 1), (1, 1))
WIDE = Shapes(1, 33, (7, 5), 70, (2, 3), (1, 1), (0, 1))
SKEW = Shapes(2, 20, (11, 9), 24, (3, 2), (2, 3), (2, 1), (2, 3), 2)
PROBLEMS = {
    "few channels": PLAIN, "few channels, skew": Shapes(2, 4, (8, 9), 6, (3, 2), (3, 2), (1, 2), (2, 1), 2),
    "depthwise": Shapes(2, 6, (5, 9), 6, (3, 3), (1, 2), (1, 1), groups=6),
    "depthwise, twice": Shapes(1, 3, (5, 4), 6, (3, 3), (1, 1), (1, 1), groups=3),
    "a narrow tile": NARROW, "a wide tile": WIDE, "skew tiles": SKEW,
    "1x1": Shapes(2, 16, (4, 5), 17, (1, 1)), "1x1, stride": Shapes(2, 16, (4, 5), 17, (1, 1), (2, 3)),
    "a line": Shapes(2, 9, (1, 150), 8, (1, 5), (1, 2), (0, 2)),
    "more phases than a launch has": Shapes(1, 9, (13, 11), 8, (5, 3), (6, 5), (2, 1)),
    "a stride beyond the image": Shapes(1, 3, (3, 2), 2, (1, 1), (9, 9)),
    "more padding than taps": Shapes(1, 8, (2, 2), 9, (2, 2), (1, 1), (3, 4)),
}


@pytest.fixture(params=KERNEL_DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


@pytest.fixture
def with_tf32() -> Iterator[None]:
    """Products of float32 on tensor cores."""
    tl.set_float32_matmul_precision("high")
    yield
    tl.set_float32_matmul_precision("highest")


def drawn(shapes: dict[str, tuple[int, ...]], dtype: DType) -> list[np.ndarray]:
    """Operands without the result."""
    return [np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype.numpy)
            for seed, shape in enumerate(list(shapes.values())[1:])]


def reference(kernel: str, shapes: Shapes, *operands: np.ndarray | None) -> np.ndarray:
    """The sums in float64, tap by tap: `seen` is what the pixels see of x under one tap."""
    groups, (height, width) = shapes.groups, shapes.pixels
    (down, across), (result, *_) = shapes.padding, shapes.of(kernel).values()
    first, second, bias = (*[None if a is None else a.astype(np.float64) for a in operands], None)[:3]
    assert first is not None and second is not None
    padded_shape = (shapes.images, shapes.channels, shapes.size[0] + 2 * down, shapes.size[1] + 2 * across)
    padded, out = np.zeros(padded_shape), np.zeros(result)
    inner = padded[:, :, down:down + shapes.size[0], across:across + shapes.size[1]]
    if kernel != "conv2d_input_grad":
        inner[...] = first if kernel == "conv2d" else second
    for r, s in np.ndindex(shapes.taps):
        seen = padded[:, :, r * shapes.dilation[0]::shapes.stride[0], s * shapes.dilation[1]::shapes.stride[1]]
        for group in range(groups):
            channels = slice(group * shapes.channels // groups, (group + 1) * shapes.channels // groups)
            rows = slice(group * shapes.rows // groups, (group + 1) * shapes.rows // groups)
            part = seen[:, channels, :height, :width]
            if kernel == "conv2d":
                out[:, rows] += np.einsum("nchw,kc->nkhw", part, second[rows, :, r, s])
            elif kernel == "conv2d_weight_grad":
                out[rows, :, r, s] = np.einsum("nkhw,nchw->kc", first[:, rows], part)
            else:
                part += np.einsum("nkhw,kc->nchw", first[:, rows], second[rows, :, r, s])
    out = inner.copy() if kernel == "conv2d_input_grad" else out
    return out if bias is None else out + bias[:, None, None]


def check(actual: np.ndarray, kernel: str, shapes: Shapes, operands: list[np.ndarray | None],
          tolerance: float | None = None) -> None:
    if tolerance is None:
        tolerance = TOLERANCE[tl.dtypes.from_numpy(actual.dtype).name]
    magnitude = reference(kernel, shapes, *[None if a is None else np.abs(a) for a in operands]).max(initial=0)
    expected = reference(kernel, shapes, *operands)
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance * magnitude)


def run(backend: Backend, kernel: str, shapes: Shapes, operands: list[Any]) -> np.ndarray:
    placed = [backend.from_numpy(a) if type(a) is np.ndarray else a for a in operands]
    dtype = next(a.dtype for a in operands if a is not None)
    (result, *_) = shapes.of(kernel).values()
    return backend.to_numpy(backend.fill(kernel, result, dtype, *placed, **shapes.params))


@pytest.mark.parametrize("dtype", (tl.float16, tl.bfloat16, tl.float32, tl.float64), ids=str)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_dtype_and_argument(kernel: str, name: str, dtype: DType, backend: Backend) -> None:
    shapes = PROBLEMS[name]
    operands = drawn(shapes.of(kernel), dtype)
    check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands])


@pytest.mark.parametrize("name", ("a narrow tile", "a wide tile", "skew tiles"))
@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_on_tensor_cores(kernel: str, name: str, backend: Backend, with_tf32: None) -> None:
    shapes = PROBLEMS[name]
    operands = drawn(shapes.of(kernel), tl.float32)
    check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands], TF32)


@pytest.mark.parametrize("shapes", (PLAIN, NARROW, WIDE), ids=("plain", "narrow", "wide"))
@pytest.mark.parametrize("kernel", KERNELS[:2])
def test_without_bias(kernel: str, shapes: Shapes, backend: Backend) -> None:
    first, second, _ = drawn(shapes.of(kernel), tl.float32)
    check(run(backend, kernel, shapes, [first, second, None]), kernel, shapes, [first, second, None])


@pytest.mark.parametrize("channels", (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33))
def test_channels_around_packs_and_steps(channels: int, backend: Backend) -> None:
    for dtype in (tl.float16, tl.float32):
        for kernel in KERNELS:
            shapes = Shapes(1, channels, (3, 4), 9, (2, 2))
            operands = drawn(shapes.of(kernel), dtype)
            check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands])


@pytest.mark.parametrize("rows", (7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129))
def test_rows_around_tiles(rows: int, backend: Backend) -> None:
    for dtype in (tl.bfloat16, tl.float32):
        for kernel in KERNELS:
            shapes = Shapes(1, 5, (3, 3), rows, (2, 2))
            operands = drawn(shapes.of(kernel), dtype)
            check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands])


@pytest.mark.parametrize("width", (1, 3, 4, 5, 8, 9, 64, 65, 127, 128, 129))
def test_lines_around_packs_and_tiles(width: int, backend: Backend) -> None:
    for dtype in (tl.float16, tl.float32):
        for kernel in KERNELS:
            shapes = Shapes(2, 4, (1, width), 8, (1, 3), padding=(0, 1))
            operands = drawn(shapes.of(kernel), dtype)
            check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands])


# --- layouts ---------------------------------------------------------------------------------------------------------


def layouts(backend: Backend, a: np.ndarray) -> dict[str, Array]:
    """The same array as views of device memory."""
    dense = backend.from_numpy
    padded = dense(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))
    back = (slice(None, None, -1),) * a.ndim
    order = (*range(1, a.ndim), 0)
    return {
        "first dimension last": dense(np.ascontiguousarray(a.transpose(order))).transpose((a.ndim - 1,
                                                                                          *range(a.ndim - 1))),
        "channels last": dense(np.ascontiguousarray(np.moveaxis(a, 1, -1))).transpose((0, 3, 1, 2)),
        "backwards": dense(np.ascontiguousarray(a[back]))[back],
        "every second": dense(np.repeat(a, 2, -1))[..., ::2],
        "misaligned": padded[1:].reshape(a.shape),
    }


@pytest.mark.parametrize("shapes", (PLAIN, NARROW), ids=("plain", "tiles"))
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_layout_of_operands_and_result(kernel: str, shapes: Shapes, backend: Backend) -> None:
    first, second, *_ = drawn(shapes.of(kernel), tl.float32)
    tail: list[None] = [None] if kernel != "conv2d_weight_grad" else []
    for of_first, of_second in zip(layouts(backend, first).values(), reversed(layouts(backend, second).values()),
                                   strict=True):
        check(run(backend, kernel, shapes, [of_first, of_second, *tail]), kernel, shapes, [first, second, *tail])
    (result, *_) = shapes.of(kernel).values()
    for out in layouts(backend, np.zeros(result, np.float32)).values():
        backend.run(kernel, out, backend.from_numpy(first), backend.from_numpy(second), *tail, **shapes.params)
        check(backend.to_numpy(out), kernel, shapes, [first, second, *tail])


@pytest.mark.parametrize("shapes", (PLAIN, NARROW), ids=("plain", "tiles"))
def test_operands_that_repeat(shapes: Shapes, backend: Backend) -> None:
    _, x, weight, bias = (np.ones(shape, np.float32) for shape in shapes.of("conv2d").values())
    one = backend.from_numpy(np.ones(1, np.float32))
    repeated = [backend.expand(one.reshape((1,) * a.ndim), a.shape) for a in (x, weight, bias)]
    check(run(backend, "conv2d", shapes, repeated), "conv2d", shapes, [x, weight, bias])


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (tl.float16, tl.bfloat16), ids=str)
@pytest.mark.parametrize("rows", (1, 8))
def test_narrow_floats_accumulate_in_float32(rows: int, dtype: DType, backend: Backend) -> None:
    shapes = Shapes(1, 4096, (1, 1), rows, (1, 1))
    x, weight = (np.ones(shape, dtype.numpy) for shape in ((1, 4096, 1, 1), (rows, 4096, 1, 1)))
    result = run(backend, "conv2d", shapes, [x, weight, None])
    np.testing.assert_array_equal(result.astype(np.float32), np.full((1, rows, 1, 1), 4096))  # else it stops early


def test_tf32_rounds_factors_to_nearest(backend: Backend, with_tf32: None) -> None:
    shapes = Shapes(1, 8, (1, 5), 8, (1, 1))
    values = np.array([1 + 2**-10, 1 + 2**-11, 1 + 2**-11 - 2**-23, -1 - 2**-11, np.inf], np.float32)
    x, weight = np.zeros((1, 8, 1, 5), np.float32), np.zeros((8, 8, 1, 1), np.float32)
    x[0, 0, 0], weight[:, 0] = values, 1
    rounded = np.array([1 + 2**-10, 1 + 2**-10, 1, -1 - 2**-10, np.inf], np.float32)
    result = run(backend, "conv2d", shapes, [x, weight, None])
    np.testing.assert_array_equal(result[0, :, 0], np.tile(rounded, (8, 1)))


@pytest.mark.parametrize("shapes", (PLAIN, NARROW), ids=("plain", "tiles"))
def test_nan_reaches_the_pixels_that_see_it_and_no_other(shapes: Shapes, backend: Backend) -> None:
    x, weight, bias = drawn(shapes.of("conv2d"), tl.float32)
    x[1, 2, 3, 3] = np.nan
    result = run(backend, "conv2d", shapes, [x, weight, bias])
    np.testing.assert_array_equal(np.isnan(result), np.isnan(reference("conv2d", shapes, x, weight, bias)))
    assert np.isnan(result).any() and not np.isnan(result[0]).any()


@pytest.mark.parametrize("rows", (3, 20))
def test_sums_of_nothing(rows: int, backend: Backend) -> None:
    for shapes, kernel in ((Shapes(0, 4, (3, 3), rows, (2, 2)), "conv2d_weight_grad"),
                           (Shapes(2, rows, (4, 4), 4, (1, 1), (2, 2)), "conv2d_input_grad")):
        operands = drawn(shapes.of(kernel), tl.float32)
        check(run(backend, kernel, shapes, operands), kernel, shapes, [*operands])
    shapes = Shapes(0, 4, (3, 3), rows, (2, 2))
    assert run(backend, "conv2d", shapes, drawn(shapes.of("conv2d"), tl.float32)).shape == (0, rows, 2, 2)


@pytest.mark.parametrize("shapes", (Shapes(3, 2, (40, 9), 3, (3, 3)), Shapes(3, 9, (40, 31), 8, (3, 3))),
                         ids=("plain", "tiles"))
def test_split_sums_are_exact_enough_and_the_same_in_every_run(shapes: Shapes, backend: Backend) -> None:
    for dtype in (tl.float16, tl.float32):
        operands = drawn(shapes.of("conv2d_weight_grad"), dtype)
        first, second = (run(backend, "conv2d_weight_grad", shapes, operands) for _ in range(2))
        check(first, "conv2d_weight_grad", shapes, [*operands])
        assert first.tobytes() == second.tobytes()
    launches = [plan for plan in backend.plans.values() if isinstance(plan, conv.Launches)]  # type: ignore[attr-defined]
    assert any(plan.finish is not None for plan in launches)


# --- in the simulator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", (PLAIN, NARROW._replace(images=1), Shapes(1, 5, (5, 5), 20, (2, 2), (2, 2))),
                         ids=("plain", "a narrow tile", "a wide tile"))
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_thread_leaves_its_bounds_or_races(kernel: str, shapes: Shapes) -> None:
    for dtype in (tl.float16, tl.float32):
        operands = drawn(shapes.of(kernel), dtype)
        result = simulator.check(lambda operands=operands: run(get("cuda:sim"), kernel, shapes, operands), schedules=2)
        check(result, kernel, shapes, [*operands])


PRODUCT = """
#include "mma.cuh"
constexpr int K = MMA_WORDS * 4 / sizeof({T});
FN u32 word(const {T}* row, int first) {{  // the first element in the low bits
  u32 bits = 0;
  const auto* elements = reinterpret_cast<const {bits}*>(row + first);
  for (unsigned i = 0; i < 4 / sizeof({T}); ++i) bits |= u32(elements[i]) << 16 * i;
  return bits;
}}
__global__ void product(const {T}* a, const {T}* b, float* d) {{  // a (16, K), b (8, K), d (16, 8)
  const int lane = threadIdx.x % 32, group = lane / 4, place = lane % 4 * (K / 8);
  const u32 of_a[4] = {{word(a + group * K, place), word(a + (group + 8) * K, place),
                      word(a + group * K, place + K / 2), word(a + (group + 8) * K, place + K / 2)}};
  const u32 of_b[2] = {{word(b + group * K, place), word(b + group * K, place + K / 2)}};
  float sum[4] = {{100, 200, 300, 400}};
  mma<{T}>(sum, of_a, of_b);
  if (threadIdx.x < 32) return;  // the other warp's fragments are its own
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}}
"""


@pytest.mark.parametrize(("dtype", "bits"), ((tl.float16, "u16"), (tl.bfloat16, "u16"), (tl.float32, "u32")), ids=str)
def test_the_layout_of_products_on_tensor_cores(dtype: DType, bits: str) -> None:
    """That of the PTX manual for m16n8k16 and m16n8k8, which `product` spells out."""
    depth = 32 // dtype.itemsize
    a, b = (np.random.default_rng(n).integers(-8, 8, (n, depth)).astype(np.float32) for n in (16, 8))
    text = PRODUCT.format(T=dtype.c_type, bits=bits)
    d = np.zeros((16, 8), np.float32)
    tensors = [tl.tensor(x.astype(dtype.numpy), device="cuda:sim") for x in (a, b)]
    simulator.check(simulator.launch, text, "product", 1, 64, *tensors, d, schedules=2)
    start = np.tile(np.repeat([[100, 200], [300, 400]], 8, 0), 4)
    np.testing.assert_array_equal(d, a @ b.T + start)


# --- which kernel serves a call --------------------------------------------------------------------------------------


class _Planned(Exception):
    """Raised in place of a plan."""


def planned(monkeypatch: pytest.MonkeyPatch, kernel: str, shapes: Shapes, dtype: DType = tl.float32,
            tensor_cores: bool = True) -> str:
    """The expression of the instance that a call would launch first. Its operands are one element, repeated."""

    def record(instance: Instance, *_: Any, **__: Any) -> None:
        raise _Planned(instance.expression)

    backend: Any = get("cuda:sim")
    one = backend.from_numpy(np.ones(1, dtype.numpy))
    operands = [backend.expand(one.reshape((1,) * len(shape)), shape) for shape in shapes.of(kernel).values()]
    monkeypatch.setattr(backend, "plan", record)
    monkeypatch.setattr(backend, "tensor_cores", tensor_cores)
    with pytest.raises(_Planned) as caught:
        backend.run(kernel, *operands, **shapes.params)
    monkeypatch.undo()
    return str(caught.value)


def test_tiles_serve_what_fills_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def expression(kernel: str, *shapes: Any, dtype: DType = tl.float32, **options: Any) -> str:
        return planned(monkeypatch, kernel, Shapes(*shapes), dtype, **options)

    first, second = (64, 1, (28, 28), 6, (5, 5), (1, 1), (2, 2)), (64, 6, (14, 14), 16, (5, 5))  # LeNet's
    many = (64, 64, (14, 14), 64, (3, 3), (1, 1), (1, 1))
    assert expression("conv2d", *first) == "conv_gather<float, 4>"
    assert expression("conv2d_weight_grad", *first) == "conv_weight<float, 4>"
    assert expression("conv2d", *second) == "conv_tiles<Fma, Gather, 16>"
    assert expression("conv2d_input_grad", *second) == "conv_gather<float, 4>"
    assert expression("conv2d_weight_grad", *second) == "conv_tiles<Fma, Weight, 16>"
    for kernel, sum_ in zip(KERNELS, ("Gather", "Gather", "Weight"), strict=True):
        assert expression(kernel, *many) == f"conv_tiles<Fma, {sum_}, 64>"
        assert expression(kernel, *many, dtype=tl.bfloat16) == f"conv_tiles<TensorCores<bf16>, {sum_}, 64>"
        plain = f"conv_{sum_.lower()}<"
        assert expression(kernel, *many, dtype=tl.bfloat16, tensor_cores=False) == f"{plain}bf16, 4>"
        assert expression(kernel, *many, dtype=tl.float64) == f"{plain}double, 4>"
        assert expression(kernel, 2, 64, (9, 9), 64, (3, 3), (1, 1), (1, 1), (1, 1), 64).startswith(plain)
    assert expression("conv2d_weight_grad", 64, 3, (32, 32), 64, (3, 3)) == "conv_tiles<Fma, Weight, 64>"


def test_the_precision_of_float32_is_part_of_the_plan(monkeypatch: pytest.MonkeyPatch, with_tf32: None) -> None:
    assert planned(monkeypatch, "conv2d", NARROW) == "conv_tiles<TensorCores<float>, Gather, 16>"
    assert planned(monkeypatch, "conv2d", NARROW, tensor_cores=False) == "conv_tiles<Fma, Gather, 16>"
    backend = get("cuda:sim")
    x, weight, bias = drawn(NARROW.of("conv2d"), tl.float32)
    coarse = run(backend, "conv2d", NARROW, [x, weight, bias])
    tl.set_float32_matmul_precision("highest")
    assert run(backend, "conv2d", NARROW, [x, weight, bias]).tobytes() != coarse.tobytes()


def test_offsets_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles count a whole array in 32 bits, plain loops an image; an image beyond is refused."""
    backend: Any = get("cuda:sim")
    x, weight = backend.from_numpy(np.ones((1, 16, 1, 1), np.float32)), np.ones((16, 16, 1, 1), np.float32)

    def plan_with(images: int, pixels: int) -> str:
        shapes = Shapes(images, 16, (1, pixels), 16, (1, 1))
        many = backend.expand(x, (images, 16, 1, pixels))
        with monkeypatch.context() as patched:
            def record(instance: Instance, *_: Any, **__: Any) -> None:
                raise _Planned(instance.expression)

            patched.setattr(backend, "plan", record)
            with pytest.raises(_Planned) as caught:
                backend.run("conv2d", many, many, backend.from_numpy(weight), None, **shapes.params)
        return str(caught.value)

    assert plan_with(2**20, 2**9).startswith("conv_tiles<")
    assert plan_with(2**20, 2**10).startswith("conv_gather<")
    with pytest.raises(tl.ShapeError, match=r"conv2d: one image, here of \(16, 1, 8\).*less than 2\^31 elements"):
        run_far(backend)


def run_far(backend: Any) -> None:
    """A call on memory whose columns lie 2^29 elements apart; nothing is launched."""
    x = backend.from_numpy(np.ones((1, 16, 1, 8), np.float32))
    far = np.lib.stride_tricks.as_strided(x.view(np.ndarray), strides=(0, 0, 0, 4 * 2**29)).view(type(x))
    weight = backend.from_numpy(np.ones((16, 16, 1, 1), np.float32))
    backend.run("conv2d", x, far, weight, None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)


def test_other_dtypes_are_refused() -> None:
    backend = get("cuda:sim")
    shapes = {name: np.ones(shape, np.float32) for name, shape in PLAIN.of("conv2d").items()}
    x, weight = backend.from_numpy(shapes["x"]), backend.from_numpy(shapes["weight"].astype(np.float64))
    with pytest.raises(tl.DTypeError, match=r"conv2d does not take \(float32, float64, None\)"):
        backend.fill("conv2d", PLAIN.of("conv2d")["g"], np.dtype(np.float32), x, weight, None, **PLAIN.params)
    ints = [backend.from_numpy(np.ones(shape, np.int64)) for shape in PLAIN.of("conv2d_weight_grad").values()]
    with pytest.raises(tl.DTypeError, match="conv2d_weight_grad does not take"):
        backend.run("conv2d_weight_grad", *ints, **PLAIN.params)


def test_the_instances_of_every_call_are_listed() -> None:
    listed = {instance.expression for instance in conv.instances()}
    assert {"conv_gather<double, 1>", "conv_weight<f16, 4>", "add_splits<bf16>"} <= listed
    assert {f"conv_tiles<{arithmetic}, {sum_}, {tile}>" for arithmetic in ("Fma", "TensorCores<float>")
            for sum_ in ("Gather", "Weight") for tile in conv._TILE_THREADS} <= listed
    assert math.prod((4, 2, 2)) + 4 * 5 == len(listed)
