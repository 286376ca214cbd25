"""The thin layer over CuPy, NVRTC and cuBLAS: memory, GPUs, streams, launches, products, errors.

Runs on a GPU, and without one under the stand-in driver of tests/fake_cuda, in a process of its own. What only the
stand-in can show, such as a GPU with a megabyte of memory, is skipped on a real one.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import pytest
from on_gpu import gpu, numbers, run_under_the_stand_in, runs_directly

import tensorlite as tl
from tensorlite import nn
from tensorlite.backends import get


@runs_directly
def test_all_of_this_under_the_stand_in_driver() -> None:
    run_under_the_stand_in(__file__)


# --- memory -----------------------------------------------------------------------------------------------------------


@gpu
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float32", "float64"])
def test_numbers_go_there_and_back(dtype: str) -> None:
    values = (numbers(3, 4) * 3).astype(getattr(tl, dtype if dtype != "bool" else "bool_").numpy)
    for array in (values, values.T, values[::-1, ::2], np.asarray(values[1, 1]), values[:0]):
        back = tl.from_numpy(array).to("cuda").cpu().numpy()
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@gpu
def test_a_large_array_goes_there_and_back() -> None:
    values = numbers(1024, 1024)
    np.testing.assert_array_equal(tl.from_numpy(values).to("cuda").cpu().numpy(), values)


@gpu
def test_an_array_may_change_as_soon_as_it_was_handed_over() -> None:
    for size in (16, 1 << 20):
        values = np.zeros(size, np.float32)
        x = get("cuda").from_numpy(values)
        values[:] = 1
        assert not get("cuda").to_numpy(x).any()


@gpu
def test_pinned_memory_is_held_while_it_is_copied() -> None:
    backend: Any = get("cuda")
    for size in (0, 3, 1 << 19):
        values = backend.pinned(numbers(size, 2))
        assert backend.is_pinned(values) == (size > 0)
        np.testing.assert_array_equal(values, numbers(size, 2))
        for non_blocking in (False, True):
            x = backend.from_numpy(values, non_blocking=non_blocking)
            np.testing.assert_array_equal(backend.to_numpy(x), values)
    assert not backend.is_pinned(numbers(3))


@gpu
def test_a_pinned_tensor_is_copied_beside_python() -> None:
    x = tl.arange(12, dtype=tl.float32).reshape(3, 4).t()
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and not pinned.to("cuda").is_pinned()
    assert pinned.device == tl.device("cpu")
    np.testing.assert_array_equal(pinned.numpy(), x.numpy())
    np.testing.assert_array_equal(pinned.to("cuda", non_blocking=True).cpu().numpy(), x.numpy())


@gpu
def test_views_share_memory_and_copies_do_not() -> None:
    x = tl.zeros(4, 6, device="cuda")
    for view in (x.t(), x[1:, ::2], x.reshape(2, 12), x.t()[::2].expand(2, 3, 4), x.diagonal()):
        assert x.backend.shares_memory(x.array, view.array)
        assert view.array.base is not None
    assert x[1].data_ptr() == x.data_ptr() + 24
    y = x.t().reshape(-1)
    assert not x.backend.shares_memory(x.array, y.array)
    assert not x.backend.is_writable(x[:1].expand(4, 6).array)


@gpu
def test_empty_tensors_can_be_written() -> None:
    x = tl.zeros(0, 5, device="cuda")
    assert x.fill_(1.0).tolist() == [] and x.add_(1.0).shape == (0, 5)


@gpu
def test_memory_is_counted() -> None:
    gc.collect()
    tl.cuda.empty_cache()
    tl.cuda.reset_peak_memory_stats()
    before = tl.cuda.memory_allocated()
    x = tl.zeros(1 << 18, device="cuda")
    assert tl.cuda.memory_allocated() == before + (1 << 20)
    del x
    assert tl.cuda.memory_allocated() == before
    assert tl.cuda.max_memory_allocated() == before + (1 << 20)
    assert tl.cuda.memory_reserved() >= 1 << 20
    tl.cuda.empty_cache()
    free, total = tl.cuda.mem_get_info()
    assert 0 < free <= total
    tl.cuda.reset_peak_memory_stats()
    assert tl.cuda.max_memory_allocated() == before


@gpu
def test_out_of_memory_frees_what_the_pool_keeps_and_tries_again(driver: fake_cuda.Driver) -> None:
    gc.collect()
    tl.cuda.empty_cache()
    driver.configure(memory=tl.cuda.memory_reserved() + (8 << 20))
    x = tl.zeros(6 << 18, device="cuda")  # 6 MiB
    del x
    tl.zeros(1 << 20, device="cuda")  # what the pool keeps is of another size


@gpu
def test_out_of_memory_says_what_holds_it(driver: fake_cuda.Driver) -> None:
    gc.collect()
    tl.cuda.empty_cache()
    driver.configure(memory=tl.cuda.memory_reserved() + (8 << 20))
    held = tl.zeros(5, 1 << 18, device="cuda")
    message = r"float32 \(1048576,\) needs 4\.0 MiB; of (?s:.)*5\.0 MiB: float32 \(5, 262144\)"
    with pytest.raises(tl.OutOfMemoryError, match=message):
        tl.zeros(1 << 20, device="cuda")
    assert held[0, 0].item() == 0


# --- GPUs, threads and streams ----------------------------------------------------------------------------------------


@gpu
def test_what_there_is() -> None:
    assert tl.cuda.is_available()
    assert tl.cuda.device_count() >= 1
    assert tl.cuda.get_device_name()
    assert tl.cuda.get_device_capability() >= (7, 0)
    with pytest.raises(tl.DeviceError, match=r"device 'cuda:99' does not exist; there (is|are) 'cuda:0'"):
        tl.zeros(1, device="cuda:99")
    with pytest.raises(tl.ArgumentError, match="expected a GPU such as 'cuda:0' or its index, got device 'cpu'"):
        tl.cuda.memory_allocated("cpu")


@gpu
def test_an_old_gpu_is_refused(driver: fake_cuda.Driver) -> None:
    import cupy

    driver.configure(devices=3, capability=61)
    cupy.cuda.Device(2)
    with pytest.raises(tl.DeviceError, match=r"capability 6\.1; the kernels need 7\.0 or later"):
        get("cuda:2")


@gpu
def test_products_on_tensor_cores_begin_with_ampere(driver: fake_cuda.Driver) -> None:
    from tensorlite.backends import cuda

    for index, capability in ((3, 75), (4, 80)):  # CuPy asks each GPU once
        driver.configure(devices=5, capability=capability)
        assert cuda.create(index).tensor_cores == (capability >= 80)


@gpu
def test_work_goes_to_the_gpu_of_the_array(second: str) -> None:
    x = tl.tensor([1.0, -2.0], device=second)
    y = (x * 2 + 1).relu()
    assert str(y.device) == second
    assert y.array.device.id == 1
    assert y.tolist() == [3.0, 0.0]
    assert (x.reshape(1, 2) @ x.reshape(2, 1)).item() == 5.0
    assert (x.to("cuda:0") + 1).tolist() == [2.0, -1.0]
    import cupy

    assert cupy.cuda.runtime.getDevice() == 0, "the thread's current GPU was changed"
    with pytest.raises(tl.DeviceError, match=r"add: expected all tensors on one device.*'cuda:1'.*'cuda:0'"):
        x + tl.ones(2, device="cuda:0")


@gpu
def test_which_gpu_is_meant_without_an_index(second: str) -> None:
    assert tl.cuda.current_device() == 0
    with tl.cuda.device(second):
        assert tl.cuda.current_device() == 1
        assert str(tl.zeros(1, device="cuda").device) == second
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(tl.cuda.current_device()))
        thread.start()
        thread.join()
        assert seen == [0]
    assert str(tl.zeros(1, device="cuda").device) == "cuda:0"
    tl.cuda.set_device(1)
    assert str(tl.zeros(1).cuda().device) == second
    tl.cuda.set_device(0)


@gpu
def test_a_new_thread_can_work_at_once() -> None:
    x = tl.ones(3, device="cuda")
    results: list[Any] = []

    def work() -> None:
        results.append((x + 1).tolist())
        results.append((x.reshape(1, 3) @ x.reshape(3, 1)).item())

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results == [[2.0, 2.0, 2.0], 3.0] * 2


@gpu
def test_seeds() -> None:
    draws = []
    for seed in (tl.cuda.manual_seed, tl.cuda.manual_seed_all, tl.manual_seed):
        seed(5)
        draws.append(tl.rand(4, device="cuda").tolist())
    assert draws[0] == draws[1] == draws[2]


@gpu
def test_streams() -> None:
    x = tl.ones(3, device="cuda")
    side = tl.cuda.Stream()
    assert tl.cuda.current_stream() != side
    side.wait_stream(tl.cuda.current_stream())
    with tl.cuda.stream(side):
        assert tl.cuda.current_stream() == side
        y = x + 1
        if fake_cuda.is_installed():
            assert fake_cuda.install().last_stream == side.cuda_stream
    assert tl.cuda.current_stream() != side
    tl.cuda.current_stream().wait_stream(side)
    assert y.tolist() == [2.0, 2.0, 2.0]
    side.synchronize()
    assert side.query()
    assert repr(side).startswith("<tl.cuda.Stream on 'cuda:0' at 0x")
    assert len({side, tl.cuda.current_stream()}) == 2


@gpu
def test_events() -> None:
    start, end = tl.cuda.Event(enable_timing=True), tl.cuda.Event(enable_timing=True)
    with pytest.raises(tl.ArgumentError, match="the event was not recorded"):
        start.query()
    start.record()
    tl.ones(3, device="cuda")
    end.record()
    end.synchronize()
    end.wait()
    assert end.query()
    assert start.elapsed_time(end) >= 0
    with pytest.raises(tl.ArgumentError, match="enable_timing=True"):
        tl.cuda.Event().elapsed_time(end)


# --- launches ---------------------------------------------------------------------------------------------------------


@gpu
def test_an_error_in_a_kernel_is_raised_when_results_are_read_and_the_gpu_works_on() -> None:
    x = tl.tensor([1, 2, 3], device="cuda")
    for read in (lambda y: y.tolist(), lambda y: tl.cuda.synchronize()):
        y = x // tl.tensor([1, 0, 1], device="cuda")
        with pytest.raises(tl.ArgumentError, match=r"division or modulo by zero.*element 1"):
            read(y)
        assert (x + 1).tolist() == [2, 3, 4]


def launch_of_an_addition() -> Any:
    """What x + 1 calls `launch` with."""
    backend: Any = get("cuda")
    calls: list[Any] = []
    backend.launch = lambda *arguments: calls.append(arguments)
    try:
        _ = tl.ones(8, device="cuda") + 1
    finally:
        del backend.launch
    return calls[-1]


@gpu
def test_a_launch_that_cuda_refuses_is_an_error_of_ours(driver: fake_cuda.Driver) -> None:
    function, _, block, *rest = launch_of_an_addition()
    with pytest.raises(tl.DeviceError, match=r"device 'cuda:0' failed: .*status 1 .*CUDA_LAUNCH_BLOCKING=1"):
        get("cuda").launch(function, (0, 1, 1), block, *rest)  # type: ignore[attr-defined]


@gpu
def test_much_shared_memory_is_asked_for(driver: fake_cuda.Driver) -> None:
    function, grid, block, _, arguments, arrays = launch_of_an_addition()
    driver.run_kernels(False)
    try:
        for size in (100 << 10, 60 << 10):
            get("cuda").launch(function, grid, block, size, arguments, arrays)  # type: ignore[attr-defined]
    finally:
        driver.run_kernels(True)


@gpu
def test_kernels_are_compiled_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorlite.backends import nvrtc

    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path))
    expression = "vectorised<formulas::relu, u32, float, float>"
    first = nvrtc.build("elementwise.cu", [expression], "sm_90")
    monkeypatch.setattr(nvrtc, "compile_text", lambda *args: pytest.fail("compiled again"))
    assert nvrtc.build("elementwise.cu", [expression], "sm_90").symbols == first.symbols
    monkeypatch.undo()
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path))
    (kept,) = (tmp_path / "cubin").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])  # damaged
    assert nvrtc.build("elementwise.cu", [expression], "sm_90").image == first.image
    assert nvrtc.build("elementwise.cu", [expression], "compute_90").image.lstrip().startswith(b"//")  # PTX


@gpu
def test_what_the_compiler_says_is_shown() -> None:
    from tensorlite.backends import nvrtc

    message = r"NVRTC 1\d\.\d+ does not compile mine\.cu for f(?s:.)*mine\.cu\(1\): error"
    with pytest.raises(tl.DeviceError, match=message):
        nvrtc.compile_text("mine.cu", "__global__ void f() { oops; }", {}, ["f"], nvrtc.options("mine.cu", "sm_90"))


@gpu
def test_the_target_of_a_gpu_that_the_compiler_does_not_know() -> None:
    from tensorlite.backends import nvrtc

    newest = max(nvrtc.nvrtc.getSupportedArchs())
    assert nvrtc.architecture(9, 0) == "sm_90"
    assert nvrtc.architecture(8, 8) in ("sm_87", "sm_88")
    assert nvrtc.architecture(99, 0) == f"compute_{newest}"
    with pytest.raises(tl.DeviceError, match=r"compiles for no GPU of compute capability 1\.0"):
        nvrtc.architecture(1, 0)


@gpu
def test_a_product_that_cublas_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    from tensorlite.backends import cublas

    def refuse(*arguments: Any) -> None:
        raise cupy.cuda.cublas.CUBLASError(13)

    monkeypatch.setattr(cublas, "_call", refuse)
    with pytest.raises(tl.DeviceError, match=r"matmul of float32 \(2, 3\) and \(3, 4\) on 'cuda:0': cuBLAS refused it"):
        tl.ones(2, 3, device="cuda") @ tl.ones(3, 4, device="cuda")


@gpu
def test_an_allocation_after_a_fault_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    from tensorlite.backends import cuda

    def fail(*arguments: Any) -> None:
        raise cupy.cuda.runtime.CUDARuntimeError(700)

    monkeypatch.setattr(cuda, "ndarray", fail)
    with pytest.raises(tl.DeviceError, match="device 'cuda:0' failed"):
        tl.ones(2, device="cuda")


@gpu
def test_a_missing_compiler_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorlite.backends import nvrtc

    def fail() -> None:
        raise RuntimeError("CuPy failed to load libnvrtc.so.12")

    monkeypatch.setattr(nvrtc, "nvrtc", SimpleNamespace(getSupportedArchs=fail))
    with pytest.raises(tl.DeviceError, match=r"needs NVRTC.*libnvrtc\.so\.12\npip install 'tensorlite\[cuda1[23]\]'"):
        nvrtc.architecture(9, 0)


@gpu
def test_a_missing_cublas_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    from tensorlite.backends import cublas

    def fail() -> None:
        raise ImportError("Failure finding libcublas")

    monkeypatch.setattr(cublas, "_handles", SimpleNamespace(by_gpu={}))
    monkeypatch.setattr(cupy.cuda, "get_cublas_handle", fail)
    with pytest.raises(tl.DeviceError, match=r"matmul on 'cuda:0' needs cuBLAS: Failure.*\npip install 'tensorlite"):
        tl.ones(2, 2, device="cuda") @ tl.ones(2, 2, device="cuda")


@gpu
def test_random_numbers_are_not_contracted() -> None:
    from tensorlite.backends import nvrtc

    assert "-fmad=false" in nvrtc.options("random.cu", "sm_90")
    assert not any("fast" in option or "ftz" in option for option in nvrtc.options("elementwise.cu", "sm_90"))


# --- products ---------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "dense": lambda a: a,
    "transposed": lambda a: a.swapaxes(-2, -1).copy().swapaxes(-2, -1),
    "rows apart": lambda a: np.repeat(a, 2, -2)[..., ::2, :],
    "part of wider rows": lambda a: np.concatenate([a, a], -1)[..., :a.shape[-1]],
    "columns apart": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "backwards": lambda a: a[..., ::-1, :].copy()[..., ::-1, :],
}
COPIED = {"columns apart", "backwards"}
SHAPES = [((3, 4), (4, 5)), ((1, 4), (4, 5)), ((3, 4), (4, 1)), ((3, 1), (1, 5)), ((1, 1), (1, 1)),
          ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((6, 2, 3, 4), (2, 4, 5)),
          ((6, 1, 3, 4), (1, 2, 4, 5)), ((2, 1, 4), (4, 5)), ((2, 7, 3, 4), (4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5))]


def on_gpu(array: np.ndarray) -> tl.Tensor:
    """The array on the GPU with the same strides."""
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    x = tl.from_numpy(memory).to("cuda").array
    offset = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    import cupy

    view = cupy.ndarray(array.shape, array.dtype, x.data + offset, strides=array.strides)
    return tl.Tensor._wrap(view, get("cuda"))


class Door:
    """The kernels that pass the door of device "cuda"."""

    def __init__(self) -> None:
        self.kernels: list[str] = []

    def __enter__(self) -> list[str]:
        get("cuda").observers = (lambda backend, kernel, *rest: self.kernels.append(kernel),)
        return self.kernels

    def __exit__(self, *error: object) -> None:
        get("cuda").observers = ()


@gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products_of_every_layout(shapes: Any, layout: str) -> None:
    a, b = (numbers(*shape, dtype=np.float64) for shape in shapes)
    for x, y in ((LAYOUTS[layout](a), b), (a, LAYOUTS[layout](b)), (LAYOUTS[layout](a), LAYOUTS["transposed"](b))):
        with Door() as kernels:
            product = on_gpu(x) @ on_gpu(y)
        np.testing.assert_allclose(product.cpu().numpy(), a @ b, 1e-12, 1e-12)
        assert layout in COPIED or "copy" not in kernels, "a layout that cuBLAS takes was copied"


@gpu
def test_an_expanded_factor_is_not_copied() -> None:
    a, b = numbers(3, 4), numbers(4, 5)
    with Door() as kernels:
        product = tl.from_numpy(a).to("cuda").expand(6, 2, 3, 4) @ tl.from_numpy(b).to("cuda").expand(2, 4, 5)
    assert "copy" not in kernels
    np.testing.assert_allclose(product.cpu().numpy(), np.broadcast_to(a @ b, (6, 2, 3, 5)), 1e-5, 1e-5)


@gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(tl.float16, 2e-3), (tl.bfloat16, 2e-2), (tl.float32, 1e-5)])
def test_narrow_products_are_summed_in_float32(dtype: Any, tolerance: float) -> None:
    ones = tl.ones(1, 4096, dtype=dtype, device="cuda")
    assert (ones @ ones.t()).item() == 4096  # in 16 bits the sum would stop growing at 2048 or 256
    a, b = tl.from_numpy(numbers(8, 16)).to(dtype), tl.from_numpy(numbers(16, 8)).to(dtype)
    tl.testing.assert_close((a.cuda() @ b.cuda()).cpu(), a @ b, rtol=tolerance, atol=tolerance)


@gpu
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4), (4,), (0, 4)])
def test_linear(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight, bias = numbers(*shape), numbers(5, 4), numbers(5) if with_bias else None
    expected = x @ weight.T + (0 if bias is None else bias)
    moved = [None if a is None else tl.from_numpy(a).to("cuda") for a in (x, weight, bias)]
    np.testing.assert_allclose(nn.functional.linear(*moved).cpu().numpy(), expected, 1e-5, 1e-5)


@gpu
def test_linear_without_inputs_is_its_bias() -> None:
    out = nn.functional.linear(tl.ones(2, 0, device="cuda"), tl.ones(3, 0, device="cuda"), tl.ones(3, device="cuda"))
    assert out.tolist() == [[1.0] * 3] * 2


@gpu
def test_float32_products_may_use_tensor_cores() -> None:
    import cupy

    seen = []
    product = cupy.cuda.cublas.gemmEx

    def watched(*args: Any) -> None:
        seen.append(args[-2])
        product(*args)

    x = tl.ones(4, 4, device="cuda")
    try:
        cupy.cuda.cublas.gemmEx = watched
        for precision in ("highest", "high"):
            tl.set_float32_matmul_precision(precision)
            assert (x @ x).tolist() == [[4.0] * 4] * 4
            x.double() @ x.double()
    finally:
        cupy.cuda.cublas.gemmEx = product
        tl.set_float32_matmul_precision("highest")
    assert seen == [68, 70, 77, 70]  # cublasComputeType_t: 32F, 64F, 32F_FAST_TF32


# --- all together -----------------------------------------------------------------------------------------------------


@gpu
def test_a_small_network_learns_as_on_the_cpu() -> None:
    losses = []
    for device in ("cpu", "cuda"):
        tl.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
        optimizer = tl.optim.Adam(model.parameters(), lr=0.05)
        x, y = tl.from_numpy(numbers(16, 6)).to(device), tl.from_numpy(np.arange(16) % 3).to(device)
        row = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            row.append(loss.item())
        losses.append(row)
    np.testing.assert_allclose(losses[1], losses[0], 1e-4)
    assert losses[0][-1] < losses[0][0]


@gpu
def test_more_elements_than_31_bits_count() -> None:
    if tl.cuda.mem_get_info()[0] < 16 * 2**30:
        pytest.skip("needs 16 GiB of free memory on the GPU")
    n = 2**31 + 5
    x = tl.zeros(n, dtype=tl.uint8, device="cuda")
    x[-3:] = 7
    y = x + 1
    assert y[:2].tolist() == [1, 1] and y[-4:].tolist() == [1, 8, 8, 8]
    assert x.argmax().item() == n - 3 and x.amax().item() == 7
    assert x[tl.tensor([0, n - 4, n - 1], device="cuda")].tolist() == [0, 0, 7]
    assert y.reshape(7, -1).t().contiguous()[-1].tolist()[-1] == 8
