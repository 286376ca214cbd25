"""Products of matrices in recorded steps of device "cuda": cuBLASLt, and what happens where it has no way.

Runs on a GPU, and without one under the stand-in driver of tests/fake_cuda, in a process of its own. Products outside
of recordings, by cuBLAS, are in test_cuda_layer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fake_cuda
import numpy as np
import pytest
from on_gpu import gpu, numbers, run_under_the_stand_in, runs_directly

import tensorlite as tl
from tensorlite.backends import get
from tensorlite.nn import functional as F

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dense": lambda a: a,
    "transposed": lambda a: a.swapaxes(-1, -2).copy().swapaxes(-1, -2),
    "rows apart": lambda a: np.concatenate([a, a], -1)[..., : a.shape[-1]],
    "columns apart": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "odd start": lambda a: np.concatenate([a.reshape(-1)[:1], a.reshape(-1)])[1:].reshape(a.shape),
}
SHAPES = [((3, 4), (4, 5)), ((1, 4), (4, 1)), ((3, 1), (1, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
          ((6, 2, 3, 4), (2, 4, 5)), ((6, 1, 3, 4), (1, 2, 4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5))]


@runs_directly
def test_all_of_this_under_the_stand_in_driver() -> None:
    run_under_the_stand_in(__file__)


def on_gpu(array: np.ndarray) -> tl.Tensor:
    """The array on the GPU with the same strides and the same offset in its memory."""
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    x = tl.from_numpy(memory).to("cuda").array
    offset = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    import cupy

    return tl.Tensor._wrap(cupy.ndarray(array.shape, array.dtype, x.data + offset, strides=array.strides), get("cuda"))


def recorded(step: Callable[[], tl.Tensor]) -> tuple[np.ndarray, int]:
    """What a recorded step gives, computed by a second run, and its number of kernels."""
    with get("cuda").recorder() as recorder:
        result = step()
    program = recorder.finish()
    result.fill_(0)
    program.run()
    return result.cpu().numpy(), program.kernels


@gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products_of_every_layout(shapes: Any, layout: str) -> None:
    a, b = (numbers(*shape, dtype=np.float64) for shape in shapes)
    if layout == "odd start" and not (a.size and b.size):
        return
    for x, y in ((LAYOUTS[layout](a), b), (a, LAYOUTS[layout](b)), (LAYOUTS[layout](a), LAYOUTS["transposed"](b))):
        x_there, y_there = on_gpu(x), on_gpu(y)
        found, _ = recorded(lambda x=x_there, y=y_there: x @ y)
        np.testing.assert_allclose(found, a @ b, 1e-12, 1e-12)


@gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [
    (tl.float16, 2e-3), (tl.bfloat16, 2e-2), (tl.float32, 1e-5), (tl.float64, 1e-12), (tl.int64, 0)])
def test_every_dtype(dtype: Any, tolerance: float) -> None:
    x, y = tl.from_numpy(numbers(8, 16) * 4).to(dtype), tl.from_numpy(numbers(16, 8) * 4).to(dtype)
    bias = tl.arange(8).to(dtype)
    there = [each.cuda() for each in (x, y, bias)]
    found, kernels = recorded(lambda: there[0] @ there[1])
    assert kernels == 1
    tl.testing.assert_close(tl.from_numpy(found), x @ y, rtol=tolerance, atol=tolerance)
    if dtype.is_floating_point:
        found, _ = recorded(lambda: F.linear(there[0], there[1].t(), there[2]))
        tl.testing.assert_close(tl.from_numpy(found), F.linear(x, y.t(), bias), rtol=tolerance, atol=4 * tolerance)


@gpu
def test_narrow_products_are_summed_in_float32() -> None:
    for dtype in (tl.float16, tl.bfloat16):
        ones = tl.ones(1, 4096, dtype=dtype, device="cuda")
        found, _ = recorded(lambda ones=ones: ones @ ones.t())
        assert float(found[0, 0]) == 4096


@gpu
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4), (4,), (0, 4), (2, 0)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight, bias = numbers(*shape), numbers(5, shape[-1]), numbers(5) if with_bias else None
    moved = [None if a is None else tl.from_numpy(a).to("cuda") for a in (x, weight, bias)]
    found, _ = recorded(lambda: F.linear(*moved))
    np.testing.assert_allclose(found, x @ weight.T + (0 if bias is None else bias), 1e-5, 1e-5)


@gpu
def test_a_bias_is_added_by_the_product_itself() -> None:
    x, weight, bias = (tl.from_numpy(numbers(*shape)).cuda() for shape in ((6, 4), (5, 4), (5,)))
    expected = F.linear(x, weight, bias).cpu().numpy()
    found, kernels = recorded(lambda: F.linear(x, weight, bias))
    assert kernels == 1
    np.testing.assert_allclose(found, expected, 1e-6)


@gpu
@pytest.mark.parametrize("bias", [
    numbers(6)[1:], numbers(10)[::2], numbers(1).repeat(5)[:1].repeat(5), np.broadcast_to(numbers(1), (5,)),
], ids=["not aligned", "not dense", "dense", "repeated"])
def test_a_bias_that_lies_badly_is_added_all_the_same(bias: np.ndarray) -> None:
    x, weight = numbers(6, 4), numbers(5, 4)
    moved = [on_gpu(a) for a in (x, weight, bias)]
    found, _ = recorded(lambda: F.linear(*moved))
    np.testing.assert_allclose(found, x @ weight.T + bias, 1e-5, 1e-5)


@gpu
def test_where_the_library_adds_no_bias_it_is_there_before(driver: fake_cuda.Driver) -> None:
    """The stand-in knows no product of float64 with a bias."""
    x, weight, bias = (tl.from_numpy(numbers(*shape, dtype=np.float64)).cuda() for shape in ((6, 4), (5, 4), (5,)))
    before = driver.products
    found, kernels = recorded(lambda: F.linear(x, weight, bias))
    assert (kernels, driver.products - before) == (2, 2)
    np.testing.assert_allclose(found, F.linear(x, weight, bias).cpu().numpy(), 1e-12)


@gpu
def test_where_the_library_has_no_way_our_kernel_multiplies(driver: fake_cuda.Driver) -> None:
    driver.refuse_products(True)
    before = driver.products
    x, weight, bias = (tl.from_numpy(numbers(*shape)).cuda() for shape in ((7, 4), (6, 4), (6,)))
    found, kernels = recorded(lambda: F.linear(x, weight, bias))
    assert (kernels, driver.products) == (1, before)
    np.testing.assert_allclose(found, F.linear(x, weight, bias).cpu().numpy(), 1e-5, 1e-6)
    found, _ = recorded(lambda: x @ weight.t())
    np.testing.assert_allclose(found, (x @ weight.t()).cpu().numpy(), 1e-5, 1e-6)


class Library:
    """Watches calls of the library."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tensorlite.backends import cublaslt

        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        call = cublaslt._call

        def watched(name: str, *args: Any) -> None:
            self.calls.append((name, args))
            call(name, *args)

        monkeypatch.setattr(cublaslt, "_call", watched)

    def arguments(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in self.calls if called == name]


@gpu
def test_float32_products_may_use_tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    x = tl.ones(4, 9, device="cuda")
    try:
        for precision in ("highest", "high"):
            tl.set_float32_matmul_precision(precision)
            assert recorded(lambda: x @ x.t())[0].tolist() == [[9.0] * 4] * 4
            recorded(lambda: x.double() @ x.double().t())
    finally:
        tl.set_float32_matmul_precision("highest")
    described = [args[1:] for args in library.arguments("MatmulDescCreate")]
    assert described == [(68, 0), (70, 1), (77, 0)]  # cublasComputeType_t and cudaDataType_t: 32F, 64F, 32F_FAST_TF32


@gpu
def test_a_product_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    x, y = tl.ones(3, 11, device="cuda"), tl.ones(11, 2, device="cuda")
    for _ in range(3):
        recorded(lambda: x @ y + x @ y)
    assert len(library.arguments("MatmulDescCreate")) == 1
    assert len(library.arguments("Matmul")) == 6


@gpu
def test_descriptions_go_with_their_plans(driver: fake_cuda.Driver) -> None:
    x, y = tl.ones(3, 19, device="cuda"), tl.ones(19, 2, device="cuda")
    plans = get("cuda").plans  # type: ignore[attr-defined]
    plans.clear()
    before = driver.descriptions
    recorded(lambda: x @ y)
    assert driver.descriptions == before + 4  # one, and three layouts; the preference served once
    plans.clear()
    assert driver.descriptions == before


@gpu
def test_products_of_a_stream_share_a_workspace_and_streams_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    x, side = tl.ones(3, 3, device="cuda"), tl.cuda.Stream()

    def step() -> tl.Tensor:
        own = tl.cuda.current_stream()
        y = x @ x
        side.wait_stream(own)
        with tl.cuda.stream(side):
            z = x @ x
        own.wait_stream(side)
        return y @ z

    assert recorded(step)[0].tolist() == [[27.0] * 3] * 3
    (first, size, stream), (other, *_, other_stream), (last, *_, last_stream) = [
        args[-3:] for args in library.arguments("Matmul")]
    assert (first, stream) == (last, last_stream)
    assert stream != other_stream
    assert abs(first - other) >= size == (32 << 20 if tl.cuda.get_device_capability() >= (9, 0) else 4 << 20)


@gpu
def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorlite.backends import cublaslt

    monkeypatch.setattr(cublaslt, "find_library", lambda: "libnowhere.so.13")
    for cached in (cublaslt._load, cublaslt.handle):
        cached.cache_clear()
    x = tl.ones(13, 2, device="cuda")
    assert recorded(lambda: x + 1)[0].tolist() == [[2.0] * 2] * 13
    with pytest.raises(tl.DeviceError, match=r"needs cuBLASLt: libnowhere\.so\.13.*\npip install 'tensorlite"):
        recorded(lambda: x.t() @ x)
    assert (x.t() @ x).tolist() == [[13.0] * 2] * 2


@gpu
def test_a_call_that_the_library_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorlite.backends import cublaslt

    monkeypatch.setattr(cublaslt, "_BIAS", 99)
    x, weight, bias = tl.ones(2, 17, device="cuda"), tl.ones(3, 17, device="cuda"), tl.ones(3, device="cuda")
    with pytest.raises(tl.DeviceError, match=r"cublasLtMatmulDescSetAttribute failed with status 7"):
        recorded(lambda: F.linear(x, weight, bias))
