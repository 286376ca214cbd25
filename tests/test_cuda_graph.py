"""Steps of device "cuda" recorded as CUDA graphs: what is captured, on which memory, streams, errors, and growth.

Runs on a GPU, and without one under the stand-in driver of tests/fake_cuda, in a process of its own. What holds for
steps of every device is in test_capture.py.
"""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import pytest
from on_gpu import gpu, run_under_the_stand_in, runs_directly

import tensorlite as tl
from tensorlite.backends import get, recording
from tensorlite.errors import CaptureError

CAPTURE = Path(__file__).with_name("test_capture.py")


@runs_directly
def test_all_of_this_under_the_stand_in_driver() -> None:
    run_under_the_stand_in(__file__, str(CAPTURE), "-k", "test_cuda_graph or (cuda and not cuda:sim)")


def record(step: Callable[[], Any], device: str = "cuda") -> tuple[Any, Any]:
    """The program of a step, and what the step returned."""
    with get(device).recorder() as recorder:
        result = step()
    return recorder.finish(), result


def free_bytes() -> int:
    gc.collect()
    tl.cuda.empty_cache()
    return tl.cuda.mem_get_info()[0]


# --- what is captured -------------------------------------------------------------------------------------------------


@gpu
def test_a_recording_computes_when_it_is_finished_and_again_with_each_run() -> None:
    x = tl.tensor([1.0, -2.0], device="cuda")
    program, y = record(lambda: (x * 2 + 1).relu())
    assert program.kernels == 3
    assert y.tolist() == [3.0, 0.0]
    x.copy_(tl.tensor([5.0, 7.0], device="cuda"))
    assert y.tolist() == [3.0, 0.0]
    program.run()
    assert y.tolist() == [11.0, 15.0]


@gpu
def test_nothing_runs_while_a_step_is_recorded(driver: fake_cuda.Driver) -> None:
    x = tl.ones(4, device="cuda")
    with get("cuda").recorder() as recorder:
        before = driver.launches
        y = x + x
        x.zero_()
        assert driver.launches == before
    assert driver.launches == before + recorder.finish().kernels
    assert (x.tolist(), y.tolist()) == ([0.0] * 4, [2.0] * 4)


@gpu
def test_arguments_are_those_of_the_recording() -> None:
    x = tl.zeros(3, device="cuda")
    program, _ = record(lambda: x.add_(1.0))
    for number in (10.0, 100.0):  # the same plan, whose buffer these calls write to
        tl.zeros(3, device="cuda").add_(number)
    program.run()
    assert x.tolist() == [2.0] * 3


@gpu
def test_programs_do_not_disturb_each_other() -> None:
    x = tl.ones(256, device="cuda")
    programs = [record(lambda factor=factor: (x * factor).exp().log() + 1.0) for factor in (2.0, 3.0)]
    for _ in range(3):
        for program, _ in programs:
            program.run()
    assert [round(y[7].item(), 4) for _, y in programs] == [3.0, 4.0]


@gpu
def test_work_of_another_gpu_is_refused(second: str) -> None:
    x, y = tl.ones(2, device="cuda:0"), tl.ones(2, device=second)
    with pytest.raises(CaptureError, match=r"'cuda:1' cannot be part of a step that is captured on 'cuda:0'"):
        record(lambda: (x + 1, y + 1))
    with pytest.raises(CaptureError, match="'cuda:0' cannot be part of a step that is captured on 'cpu'"):
        record(lambda: x + 1, "cpu")
    assert (y + 1).tolist() == [2.0, 2.0]


@gpu
def test_any_gpu_can_be_recorded_whichever_is_current(second: str) -> None:
    x = tl.ones(2, 2, device=second)
    program, y = record(lambda: x @ x + 1, second)
    x.fill_(2.0)
    program.run()
    assert y.tolist() == [[9.0, 9.0]] * 2
    assert y.array.device.id == 1 and tl.cuda.current_device() == 0
    with tl.cuda.device(second):
        program, y = record(lambda: tl.ones(2, device="cuda:0") * 3, "cuda:0")
    assert y.tolist() == [3.0, 3.0]


# --- memory -----------------------------------------------------------------------------------------------------------


@gpu
def test_replays_do_not_write_over_what_was_allocated_since() -> None:
    x = tl.ones(1000, device="cuda")
    program, y = record(lambda: (x * 2).exp().sum())
    new = [tl.full((1000,), float(i), device="cuda") for i in range(8)]
    program.run()
    assert [each.sum().item() for each in new] == [1000.0 * i for i in range(8)]
    assert abs(y.item() - 1000 * np.exp(2)) < 1


@gpu
def test_memory_that_a_step_lets_go_of_serves_it_again() -> None:
    def chain() -> tl.Tensor:
        y = tl.ones(1 << 18, device="cuda")
        for _ in range(20):
            y = y * 1.5
        return y

    program, y = record(chain)
    assert program.kernels == 21
    assert (program.buffers, program.bytes) == (2, 2 << 20)
    assert y[5].item() == pytest.approx(1.5**20)


@gpu
def test_recorded_memory_is_counted_and_given_back(driver: fake_cuda.Driver) -> None:
    x = tl.ones(1 << 18, device="cuda")
    for keep_result in (False, True):
        free, held = free_bytes(), tl.cuda.memory_allocated()
        tl.cuda.reset_peak_memory_stats()
        program, y = record(lambda: (x + 1).relu())
        assert tl.cuda.max_memory_allocated() == held + program.bytes
        more = tl.zeros(1 << 10, device="cuda")
        assert tl.cuda.max_memory_allocated() == held + program.bytes + more.nbytes
        del more
        tl.cuda.empty_cache()
        assert tl.cuda.memory_allocated() - held == tl.cuda.memory_reserved() - held == program.bytes
        if keep_result:  # which outlives its program
            taken = program.bytes
            del program
            assert free_bytes() == free - taken
            assert y.sum().item() == 2 << 18
            del y
        else:
            del y, program
        assert tl.cuda.memory_allocated() == held
        assert free_bytes() == free


@gpu
def test_arrays_outside_of_the_recording_are_held_by_the_program() -> None:
    held = [tl.ones(100, device="cuda")]
    program, y = record(lambda: held[0].t() * 2.0)
    assert any(each is held[0].array for each in program.external)
    held.clear()
    others = [tl.zeros(100, device="cuda") for _ in range(4)]
    program.run()
    assert y.tolist() == [2.0] * 100
    del others


@gpu
def test_memory_that_nothing_holds_after_the_step_is_refused() -> None:
    held = [tl.ones(3, device="cuda")]

    def step() -> tl.Tensor:
        return held.pop() * 2

    with get("cuda").recorder() as recorder:
        y = step()
    assert y.tolist() == [2.0] * 3
    with pytest.raises(CaptureError, match=r"float32 tensor of shape \(3,\).*nothing holds after it"):
        recorder.finish()


@gpu
def test_a_recording_that_does_not_fit_is_an_error_of_ours(driver: fake_cuda.Driver) -> None:
    x = tl.ones(1 << 18, device="cuda")
    free_bytes()
    driver.configure(memory=tl.cuda.memory_reserved() + (8 << 20))
    with pytest.raises(tl.OutOfMemoryError, match=r"float32 \(262144,\) needs 1\.0 MiB"):
        record(lambda: [x + i for i in range(10)])
    program, y = record(lambda: x + 1)
    assert y[3].item() == 2.0
    assert tl.full((1 << 18,), 3.0, device="cuda")[4].item() == 3.0
    del program


@gpu
def test_a_hundred_thousand_replays_do_not_grow_memory(driver: fake_cuda.Driver) -> None:
    x = tl.ones(2, 2, device="cuda")
    program, y = record(lambda: (x @ x).relu().sum())
    driver.run_kernels(False)
    backend, free, objects = get("cuda"), free_bytes(), driver.objects
    program.run()
    gc.collect()
    tracemalloc.start()
    try:
        before, tracked = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
        for _ in range(100_000):
            program.run()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
        assert len(gc.get_objects()) <= tracked + 5
    finally:
        tracemalloc.stop()
    assert driver.objects == objects
    assert free_bytes() == free
    assert backend.device == y.device


@gpu
def test_recordings_leave_nothing_behind(driver: fake_cuda.Driver) -> None:
    x = tl.ones(8, device="cuda")

    def once() -> None:
        program, _ = record(lambda: x * 2 + 1)
        program.run()
        with pytest.raises(KeyError):
            record(lambda: {}[x + 1])
        with pytest.raises(CaptureError):
            record(lambda: (x + 1).tolist())

    once()
    gc.collect()
    free, objects = free_bytes(), driver.objects
    for _ in range(5):
        once()
    gc.collect()
    assert driver.objects == objects
    assert free_bytes() == free


# --- errors -----------------------------------------------------------------------------------------------------------


def works_on() -> None:
    """Eager work, its memory and the collector are as ever."""
    held = tl.cuda.memory_allocated()
    y = tl.ones(1 << 16, device="cuda") + 1
    assert y[9].item() == 2.0
    assert tl.cuda.memory_allocated() == held + (4 << 16)
    assert gc.isenabled() and recording.active is None
    tl.cuda.synchronize()


@gpu
def test_an_exception_in_the_middle_ends_the_capture_and_leaves_what_was_done() -> None:
    x, weight = tl.ones(4, device="cuda"), tl.ones(4, device="cuda", requires_grad=True)

    def step() -> None:
        x.add_(1.0)
        (weight * x).sum().backward()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(step)
    works_on()
    assert weight.grad is not None
    assert x.tolist() == weight.grad.tolist() == [2.0] * 4, "as on the CPU"
    assert record(lambda: x + 1)[1].tolist() == [3.0] * 4


@gpu
@pytest.mark.parametrize("wait", [
    lambda x: x.tolist(), lambda x: x.sum().item(), lambda x: tl.tensor([1.0], device="cuda"),
    lambda x: tl.cuda.synchronize(), lambda x: tl.cuda.current_stream().synchronize(),
    lambda x: tl.cuda.current_stream().query(), lambda x: tl.cuda.current_stream().record_event().query(),
    lambda x: tl.cuda.current_stream().record_event().synchronize(),
], ids=["tolist", "item", "tensor", "device", "stream", "stream query", "event query", "event"])
def test_what_waits_or_asks_is_refused_with_the_line(wait: Callable[[tl.Tensor], Any]) -> None:
    x = tl.ones(4, device="cuda")
    with pytest.raises(CaptureError, match=r"cannot be part of a captured step: recording at .*test_cuda_graph.py:\d+"):
        record(lambda: wait(x + 1))
    works_on()


@gpu
def test_what_breaks_the_capture_behind_our_back_is_named_by_lines() -> None:
    import cupy

    x = tl.ones(4, device="cuda")

    def ask(then: Callable[[tl.Tensor], Any]) -> None:
        y = x + 1
        assert not cupy.cuda.get_current_stream().done  # CUDA refuses, CuPy says nothing, the capture is lost
        then(y)

    for then, end in ((lambda y: y + 1, r"test_cuda_graph\.py:\d+"), (lambda y: None, "the end")):
        begin = r"the kernel of .*test_cuda_graph\.py:\d+"
        with pytest.raises(CaptureError, match=rf"gave up recording the step somewhere between {begin}.* and .*{end}"):
            record(lambda then=then: ask(then))
        works_on()


@gpu
def test_gradients_of_a_lost_recording_are_none() -> None:
    import cupy

    weight, other = (tl.ones(2, device="cuda", requires_grad=True) for _ in range(2))
    other.grad = before = tl.ones(2, device="cuda")

    def step() -> None:
        (weight * 2).sum().backward()
        assert not cupy.cuda.get_current_stream().done

    with pytest.raises(CaptureError):
        record(step)
    assert weight.grad is None
    assert other.grad is before


@gpu
def test_the_collector_is_off_while_a_step_is_recorded_and_stays_off_if_it_was() -> None:
    seen: list[bool] = []
    record(lambda: (seen.append(gc.isenabled()), tl.ones(2, device="cuda")))
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        record(lambda: tl.ones(2, device="cuda"))
        assert not gc.isenabled()
    finally:
        gc.enable()


@gpu
def test_an_error_in_a_kernel_of_a_replay_is_raised_when_results_are_read() -> None:
    divisor = tl.tensor([1, 2], device="cuda")
    x = tl.tensor([6, 6], device="cuda")
    program, y = record(lambda: x // divisor)
    assert y.tolist() == [6, 3]
    divisor.zero_()
    program.run()
    with pytest.raises(tl.ArgumentError, match=r"division or modulo by zero.*element [01]"):
        y.tolist()
    divisor.fill_(3)
    program.run()
    assert y.tolist() == [2, 2]


# --- streams and threads ----------------------------------------------------------------------------------------------


@gpu
def test_a_replay_is_in_order_with_the_current_stream(driver: fake_cuda.Driver) -> None:
    x = tl.ones(2, device="cuda")
    program, y = record(lambda: x + 1)
    assert driver.last_stream == tl.cuda.current_stream().cuda_stream
    side = tl.cuda.Stream()
    side.wait_stream(tl.cuda.current_stream())
    with tl.cuda.stream(side):
        x.fill_(4.0)
        program.run()
        assert driver.last_stream == side.cuda_stream
        assert y.tolist() == [5.0, 5.0]


@gpu
def test_a_step_may_fork_streams_that_come_back() -> None:
    x, side = tl.ones(3, device="cuda"), tl.cuda.Stream()

    def step() -> tl.Tensor:
        own = tl.cuda.current_stream()
        side.wait_stream(own)
        with tl.cuda.stream(side):
            y = x * 2
        z = x * 3
        own.wait_stream(side)
        return y + z

    program, y = record(step)
    x.fill_(2.0)
    program.run()
    assert y.tolist() == [10.0] * 3


@gpu
def test_a_stream_that_takes_no_part_is_refused() -> None:
    x, side = tl.ones(3, device="cuda"), tl.cuda.Stream()

    def apart() -> tl.Tensor:
        with tl.cuda.stream(side):
            return x * 2

    def forked() -> tl.Tensor:
        side.wait_stream(tl.cuda.current_stream())
        return apart()

    with pytest.raises(CaptureError, match=r"takes no part in the captured step.*wait_stream.*test_cuda_graph\.py:\d+"):
        record(apart)
    works_on()
    with pytest.raises(CaptureError, match=r"CUDA gave up recording.*and the end"):
        record(forked)
    works_on()


@gpu
def test_numbers_of_the_day_are_written_before_the_recorded_work(driver: fake_cuda.Driver) -> None:
    rate = tl.full((1,), 1.0, device="cuda")
    outside = tl.cuda.current_stream().cuda_stream

    def step() -> tl.Tensor:
        before = driver.launches
        rate.backend.overwrite(rate.array, 5.0)
        assert (driver.launches, driver.last_stream) == (before + 1, outside)
        return rate * 2

    program, y = record(step)
    assert program.kernels == 1
    assert y.item() == 10.0
    rate.backend.overwrite(rate.array, 6.0)
    program.run()
    assert y.item() == 12.0


@gpu
def test_another_thread_works_and_waits_while_one_records() -> None:
    x, recording_now, waiting = tl.ones(4, device="cuda"), threading.Event(), threading.Event()
    results: list[Any] = []

    def other() -> None:
        recording_now.wait(10)
        results.append((tl.full((4,), 2.0, device="cuda") + 1).tolist())
        waiting.set()
        tl.cuda.synchronize()
        results.append(recording.active)

    thread = threading.Thread(target=other)
    thread.start()

    def step() -> tl.Tensor:
        recording_now.set()
        waiting.wait(10)
        thread.join(0.05)  # it waits for the whole GPU, which would break off the capture
        assert thread.is_alive()
        return x + 1

    _, y = record(step)
    thread.join(10)
    assert y.tolist() == [2.0] * 4
    assert results == [[3.0] * 4, None]


@gpu
def test_another_gpu_may_be_waited_for_while_one_is_recorded(second: str) -> None:
    x = tl.ones(2, device="cuda:0")

    def step() -> tl.Tensor:
        thread = threading.Thread(target=lambda: tl.cuda.synchronize(second))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        return x + 1

    assert record(step)[1].tolist() == [2.0, 2.0]


@gpu
def test_threads_may_replay_one_program() -> None:
    total = tl.zeros(1, device="cuda")
    program, _ = record(lambda: total.add_(1.0))
    threads = [threading.Thread(target=lambda: [program.run() for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tl.cuda.synchronize()
    assert total.item() == 101.0


@gpu
def test_a_graph_that_cuda_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    class Broken:
        def launch(self) -> None:
            raise cupy.cuda.runtime.CUDARuntimeError(719)

    with pytest.raises(tl.DeviceError, match="device 'cuda:0' failed"):
        get("cuda").launch_graph(Broken())  # type: ignore[attr-defined]


# --- views ------------------------------------------------------------------------------------------------------------


@gpu
def test_kept_views_see_replays_and_hold_no_block() -> None:
    x, backend = tl.ones(4, 6, device="cuda"), get("cuda")
    with backend.recorder() as recorder:
        y = (x * 2).t()[1:, ::2]
        assert recorder.owns(y.array) and not recorder.owns(x.array)
        kept = recorder.keep(y.array)
        address = y.data_ptr()
        del y
        again = tl.empty(4, 6, device="cuda")
        assert address - 4 * 1 == again.data_ptr(), "the block is free for the recording again"
        again.copy_(x)
    program = recorder.finish()
    assert kept.shape == (5, 2) and recorder.owns(kept)
    np.testing.assert_array_equal(backend.to_numpy(kept), np.ones((5, 2)))
    x.fill_(7.0)
    program.run()
    np.testing.assert_array_equal(backend.to_numpy(kept), np.full((5, 2), 7.0))


@gpu
def test_addresses_are_found_in_their_blocks() -> None:
    from tensorlite.backends import cuda_graph

    blocks = cuda_graph._Blocks()
    for start, size in ((4096, 512), (1024, 1024), (8192, 512)):
        blocks.hold(SimpleNamespace(ptr=start, size=size))
    inside = [1024, 2047, 4096, 4607, 8192, 8703]
    assert [address for address in (0, 1023, *inside, 2048, 4095, 4608, 8191, 8704) if address in blocks] == inside
