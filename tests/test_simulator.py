"""The simulator: what kernels compute on it, and that `tl.simulator.check` finds bugs planted in working kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import simulator
from tensorlite.backends import get, simulator_check, simulator_library
from tensorlite.errors import ArgumentError, DeviceError, DTypeError

if not simulator.is_available():
    pytest.skip("no C++ compiler", allow_module_level=True)

SCHEDULES = 3

# Row sums by shuffles and shared memory.
SUMS = """
__device__ float block_sum(float value) {
  __shared__ float partial[32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f;
  if (threadIdx.x < 32)
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if (threadIdx.x == 0) partial[0] = value;
  __syncthreads();
  return partial[0];
}
__global__ void normalise(const float* x, float* out, int n) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
  sum = block_sum(sum);
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[blockIdx.x * n + i] = x[blockIdx.x * n + i] / sum;
}
"""
# Twice x, 16 bytes at a time.
TWICE = """
struct alignas(16) Four { float at[4]; };
__global__ void twice(const float* x, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * i + 3 < n) {
    Four four = reinterpret_cast<const Four*>(x)[i];
    for (int k = 0; k < 4; ++k) four.at[k] *= 2.0f;
    reinterpret_cast<Four*>(out)[i] = four;
  } else {
    for (int k = 4 * i; k < n; ++k) out[k] = 2.0f * x[k];
  }
}
"""
# The sum of all, by the block that comes last.
TOTAL = """
__global__ void total(const float* x, float* partial, unsigned* count, float* out) {
  __shared__ bool is_last;
  partial[blockIdx.x * 32 + threadIdx.x] = 2.0f * x[blockIdx.x * 32 + threadIdx.x];
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(count, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last || threadIdx.x != 0) return;
  float sum = 0.0f;
  for (int i = 0; i < 32 * gridDim.x; ++i) sum += partial[i];
  *out = sum;
}
"""
# Steps within a warp, by shared memory.
STAIRS = """
__global__ void stairs(int* out) {
  __shared__ int step[32];
  step[threadIdx.x] = 1;
  __syncwarp();
  for (int apart = 1; apart < 32; apart *= 2) {
    const int below = threadIdx.x >= apart ? step[threadIdx.x - apart] : 0;
    __syncwarp();
    step[threadIdx.x] += below;
    __syncwarp();
  }
  out[threadIdx.x] = step[threadIdx.x];
}
"""


def aligned(n: int, off: int = 0) -> np.ndarray:
    """0, 1, 2, ... as float32 at a multiple of 64 bytes, or `off` elements behind one."""
    room = np.zeros(n + 64, np.float32)
    start = -room.ctypes.data % 64 // 4 + off
    room[start:start + n] = np.arange(n)
    return room[start:start + n]


def run_sums(source: str) -> None:
    x, out = aligned(4 * 300) + 1, aligned(4 * 300)
    simulator.launch(source, "normalise", 4, 128, x, out, 300)
    rows = x.reshape(4, 300)
    np.testing.assert_allclose(out.reshape(4, 300), rows / rows.sum(1, keepdims=True), rtol=1e-6)


def run_twice(source: str, n: int = 1003, off: int = 0) -> None:
    x, out = aligned(n, off), aligned(n, off)
    simulator.launch(source, "twice", 3, 128, x, out, n)
    np.testing.assert_array_equal(out, 2 * x)


def run_total(source: str) -> None:
    x, partial, count, out = aligned(256), aligned(256), np.zeros(1, np.uint32), aligned(1)
    simulator.launch(source, "total", 8, 32, x, partial, count, out)
    assert out[0] == 2 * x.sum()


def run_stairs(source: str) -> None:
    out = np.zeros(32, np.int32)
    simulator.launch(source, "stairs", 1, 32, out)
    np.testing.assert_array_equal(out, np.arange(1, 33))


HEALTHY = {SUMS: run_sums, TWICE: run_twice, TOTAL: run_total, STAIRS: run_stairs}


@pytest.mark.parametrize(("source", "run"), HEALTHY.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_healthy_kernels_compute_and_are_silent(source: str, run: Any) -> None:
    run(source)
    simulator.check(run, source, schedules=SCHEDULES)


# Each row: a working kernel, a piece of it and what it is replaced by, and how the report reads.
BUGS = {
    "removed barrier, found as a race": (
        STAIRS, "    __syncwarp();\n    step[threadIdx.x] +=", "    step[threadIdx.x] +=",
        r"block \(0, 0, 0\), thread \(\d+, 0, 0\): data race on step at byte \d+: it \w+ at kernel.cu:\d+ "
        r"what thread \(\d+, 0, 0\) \w+ at kernel.cu:\d+"),
    "removed barrier, found as unwritten memory": (
        SUMS, "  __syncthreads();\n  value =", "  value =",
        r"thread \(1, 0, 0\): reads 4 bytes of shared memory that no thread of the block has written, at kernel.cu:6"),
    "removed barrier before a broadcast": (
        SUMS, "  __syncthreads();\n  return", "  return",
        r"data race on partial at byte 0: it writes at kernel.cu:10 what thread \(127, 0, 0\) reads at kernel.cu:11"),
    "one element too many": (
        SUMS, "i < n; i += blockDim.x) sum", "i <= n; i += blockDim.x) sum",
        r"block \(3, 0, 0\), thread \(44, 0, 0\): out of bounds: reads 4 bytes at kernel.cu:16: 0 bytes after the end "
        r"of array 0 of the launch \(float32, shape \(1200,\)\)"),
    "one element too early": (
        SUMS, "sum += x[", "sum += (x - 1)[",
        "out of bounds: reads 4 bytes at kernel.cu:16: 4 bytes before the start of array 0"),
    "a bounds check dropped": (
        TWICE, "4 * i + 3 < n", "i < n",
        "out of bounds: reads 16 bytes at kernel.cu:6: 4 bytes reach beyond the end of"),
    "a tail that writes too far": (
        TWICE, "int k = 4 * i; k < n", "int k = 4 * i; k < n + 1", "out of bounds: reads 4 bytes at kernel.cu:10"),
    "shared memory too small for a number known to the compiler": (
        STAIRS, "step[threadIdx.x] = 1", "step[32] = 1",
        "at kernel.cu:4: out of bounds: index 32 of an array of type"),
    "a pointer beyond shared memory": (
        SUMS, "partial[threadIdx.x / 32] = value", "*(partial + threadIdx.x + 32) = value",
        "out of bounds: writes 4 bytes at kernel.cu:5: 0 bytes after the end of partial"),
    "a barrier that some threads do not reach": (
        SUMS, "  sum = block_sum(sum);", "  if (threadIdx.x < 100) __syncthreads();\n  sum = block_sum(sum);",
        r"divergent barrier in block \(0, 0, 0\): thread \(0, 0, 0\) waits in __syncthreads at kernel.cu:17, and "
        r"thread \(100, 0, 0\) waits in a shuffle at kernel.cu:4"),
    "a barrier that comes after the end of some threads": (
        TWICE, "  if (4 * i + 3 < n) {", "  if (4 * i >= n) return;\n  __syncthreads();\n  if (4 * i + 3 < n) {",
        r"in block \(1, 0, 0\): thread \(0, 0, 0\) waits in __syncthreads at kernel.cu:6, and other threads have "
        "ended"),
    "barriers of two branches": (
        SUMS, "  if (threadIdx.x == 0) partial[0] = value;\n  __syncthreads();",
        "  if (threadIdx.x < 5) __syncthreads();\n  else\n    __syncthreads();",
        r"waits in __syncthreads at kernel.cu:10, and thread \(32, 0, 0\) waits in __syncthreads at kernel.cu:12"),
    "a shuffle that some lanes do not reach": (
        SUMS, "if (threadIdx.x < 32)\n", "if (threadIdx.x < 7)\n",
        r"thread \(0, 0, 0\) waits in a shuffle at kernel.cu:9, and thread \(7, 0, 0\) waits in __syncthreads"),
    "a shuffle without oneself": (
        SUMS, "__shfl_xor_sync(0xffffffffu, value, step);\n  if", "__shfl_xor_sync(0xfffffffeu, value, step);\n  if",
        "with mask 0xfffffffe, which does not name its own lane 0"),
    "blocks that write one element": (
        SUMS, "out[blockIdx.x * n + i]", "out[i]",
        r"block \(1, 0, 0\), thread \(32, 0, 0\): data race on array 1 of the launch .* at byte 128: it writes at "
        r"kernel.cu:18 what thread \(32, 0, 0\) of block \(0, 0, 0\) writes"),
    "a counter that is not atomic": (
        TOTAL, "atomicAdd(count, 1u)", "(*count)++", r"data race on array 2 of the launch \(uint32"),
    "no fence before another block reads": (
        TOTAL, "  __threadfence();\n", "", r"data race on array 1 .* what thread \(\d+, 0, 0\) of block"),
    "no barrier before another block reads": (
        TOTAL, "  __threadfence();\n  __syncthreads();", "  __threadfence();", "data race on array 1"),
    "a shift too far": (
        STAIRS, "apart *= 2", "apart <<= threadIdx.x + 40", "a shift of 'int' by 4[01] bits"),
    "a division by zero": (
        STAIRS, "apart *= 2", "apart = 32 / int(threadIdx.x)",
        r"thread \(0, 0, 0\) at kernel.cu:6: an integer division by zero"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(bug: str) -> None:
    source, piece, replacement, report = BUGS[bug]
    assert source.count(piece) >= 1
    with pytest.raises(simulator.SimulatorError, match=report) as caught:
        simulator.check(HEALTHY[source], source.replace(piece, replacement), schedules=SCHEDULES)
    assert " of kernel.cu, grid (" in str(caught.value)


def test_misaligned_vectors_are_found() -> None:
    with pytest.raises(simulator.SimulatorError, match=r"at kernel.cu:6: misaligned access: .* this one is 4 off"):
        simulator.check(run_twice, TWICE, 1003, 1)


def test_a_result_that_depends_on_the_order_of_blocks_is_found() -> None:
    """Atomics do not race, but only sums of integers are the same in every order."""
    source = "__global__ void last(int* out) { atomicExch(out, int(blockIdx.x)); }"
    out = np.zeros(1, np.int32)
    with pytest.raises(simulator.SimulatorError, match=r"last of kernel.cu: the result depends on the order of threads:"
                                                       r" element 0 of array 0 .* is 7 with threads in order and \d"):
        simulator.check(simulator.launch, source, "last", 8, 1, out)


def test_float_atomics_may_round_differently() -> None:
    source = "__global__ void sum(const float* x, float* out) { atomicAdd(out, x[blockIdx.x]); }"
    x, out = np.array([1e8, 1, -1e8, 1, 3, 7e7], np.float32), np.zeros(1, np.float32)
    simulator.check(simulator.launch, source, "sum", 6, 1, x, out, schedules=8)


def test_arrays_are_restored_between_schedules() -> None:
    source = "__global__ void increment(int* x) { x[threadIdx.x] += 1; }"
    x = np.arange(40, dtype=np.int32)
    simulator.check(simulator.launch, source, "increment", 1, 40, x, schedules=5)
    np.testing.assert_array_equal(x, np.arange(40) + 1)


def test_errors_stop_the_launch_and_nothing_else() -> None:
    broken = "__global__ void stuck() { if (threadIdx.x < 3) __syncthreads(); else __syncwarp(); }"
    for _ in range(3):
        with pytest.raises(simulator.SimulatorError, match="divergent barrier"):
            simulator.launch(broken, "stuck", 5, 64)
        run_sums(SUMS)


@pytest.mark.parametrize(("grid", "block", "shared", "report"), [
    (1, 1025, 0, "a block of 1025 threads.*CUDA allows 1024"),
    (1, (1, 1, 65), 0, "65 in z"),
    ((1, 65536), 1, 0, r"a grid of \(1, 65536, 1\) blocks"),
    (0, 1, 0, "empty"),
    (1, 1, 228 * 1024, "233472 bytes of dynamic shared memory; no GPU gives a block more than 232448"),
])
def test_geometries_that_no_gpu_takes(grid: Any, block: Any, shared: int, report: str) -> None:
    with pytest.raises(simulator.SimulatorError, match=report):
        simulator.launch("__global__ void nothing() {}", "nothing", grid, block, shared_bytes=shared)


@pytest.mark.parametrize(("args", "error", "report"), [
    ((1,), ArgumentError, "mixed takes 4 arguments, got 1"),
    ((1, 1, 1.0, b"12345678"), DTypeError, "argument 0 of mixed must be an array of floats of 8 bytes, got int 1"),
    ((np.zeros(1, np.float32), 1, 1.0, b"12345678"), DTypeError, "floats of 8 bytes, got one of float32"),
    ((np.zeros(1, np.int64), 1, 1.0, b"12345678"), DTypeError, "floats of 8 bytes, got one of int64"),
    ((np.zeros(1), 2.5, 1.0, b"12345678"), DTypeError, "argument 1 .* an unsigned integer of 1 bytes, got float 2.5"),
    ((np.zeros(1), 256, 1.0, b"12345678"), DTypeError, "argument 1 .* got int 256"),
    ((np.zeros(1), 1, np.zeros(1), b"12345678"), DTypeError, "argument 2 .* a number for a float of 8 bytes"),
    ((np.zeros(1), 1, 1.0, b"1"), DTypeError, "argument 3 .* bytes for a struct of 8"),
    ((tl.zeros(1), 1, 1.0, b"12345678"), ArgumentError, "is on device 'cpu'; move it"),
])
def test_arguments_that_do_not_fit(args: tuple[Any, ...], error: type[Exception], report: str) -> None:
    source = ("struct Pair { int a, b; };\n"
              "__global__ void mixed(double* out, unsigned char n, double x, Pair p) { *out = n + x + p.a + p.b; }")
    with pytest.raises(error, match=report):
        simulator.launch(source, "mixed", 1, 1, *args)
    out = tl.zeros(1, dtype=tl.float64, device="cuda:sim")
    simulator.launch(source, "mixed", 1, 1, out, 3, 0.5, np.array([10, 20], np.int32).tobytes())
    assert out.item() == 33.5


def test_bad_grids_and_schedules() -> None:
    with pytest.raises(ArgumentError, match="one to three sizes"):
        simulator.launch("__global__ void nothing() {}", "nothing", (1, 1, 1, 1), 1)
    for schedules in (0, 2.5):
        with (pytest.raises(ArgumentError, match=f"schedules must be an integer, at least 1, got {schedules}"),
              simulator.check(schedules=schedules)):  # type: ignore[arg-type]
            pass
    with pytest.raises(ArgumentError, match=r"check: takes a function .* got int; .* check\(schedules=3\)"):
        simulator.check(3)  # type: ignore[call-overload]


def test_memory_that_a_pointer_is_not_for() -> None:
    source = "__global__ void fill(float* x, int n) { for (int i = 0; i < n; ++i) x[i] = 1.0f; }"
    x = np.zeros((4, 3), np.float32)
    fixed = x.view()
    fixed.setflags(write=False)
    tensor = tl.zeros(3, 4, device="cuda:sim").t()
    for given, report in ((x[:, :2], r"argument 0 of fill, an array of shape \(4, 2\), has the strides \(12, 4\).*"
                                     r"np.ascontiguousarray\(x\)"),
                          (x.T, "has the strides"), (fixed, r"is read-only.*x.copy\(\), or x.setflags\(write=True\)"),
                          (tensor, r"a tensor of shape \(4, 3\), has strides.*x.contiguous\(\)")):
        with pytest.raises(ArgumentError, match=report):
            simulator.launch(source, "fill", 1, 1, given, 12)
    assert not x.any()
    simulator.launch(source, "fill", 1, 1, x, 12)
    simulator.launch(source, "fill", 1, 1, tensor.contiguous(), 12)
    assert x.all()


def test_lanes_exchange_values() -> None:
    source = """
    __global__ void exchange(int* out) {
      const int lane = threadIdx.x;
      int* mine = out + 8 * lane;
      mine[0] = __shfl_sync(~0u, lane, 5);
      mine[1] = __shfl_up_sync(~0u, lane, 3);
      mine[2] = __shfl_down_sync(~0u, lane, 3);
      mine[3] = __shfl_xor_sync(~0u, lane, 1, 16);
      mine[4] = __shfl_sync(~0u, lane, 1, 8);
      mine[5] = __ballot_sync(~0u, lane % 2);
      mine[6] = __any_sync(~0u, lane == 9) + 2 * __any_sync(~0u, lane > 40);
      mine[7] = __all_sync(~0u, lane < 32) + 2 * __all_sync(~0u, lane < 31);
    }"""
    out = np.zeros((32, 8), np.int32)
    simulator.check(simulator.launch, source, "exchange", 1, 32, out, schedules=SCHEDULES)
    lane = np.arange(32)
    expected = [0 * lane + 5, np.where(lane < 3, lane, lane - 3), np.where(lane > 28, lane, lane + 3), lane ^ 1,
                lane // 8 * 8 + 1, 0 * lane + np.int32(-0x55555556), 0 * lane + 1, 0 * lane + 1]
    np.testing.assert_array_equal(out, np.stack(expected, 1))


def test_halves_of_a_warp_go_their_own_ways() -> None:
    source = """
    __global__ void halves(int* out) {
      int value = threadIdx.x;
      if (threadIdx.x < 16) {
        for (int i = 0; i < 3; ++i) value += __shfl_xor_sync(0x0000ffffu, value, 1);
      } else {
        value = __shfl_down_sync(0xffff0000u, value, 1);
      }
      out[threadIdx.x] = __shfl_xor_sync(~0u, value, 16);
    }"""
    out = np.zeros(32, np.int32)
    simulator.check(simulator.launch, source, "halves", 1, 32, out, schedules=SCHEDULES)
    lane = np.arange(16)
    np.testing.assert_array_equal(out, np.concatenate([np.append(lane[1:] + 16, 31), (lane + (lane ^ 1)) * 4]))


def test_shared_memory_and_results_start_as_nan() -> None:
    source = """__global__ void peek(float* out) {
      __shared__ float fixed[4]; extern __shared__ __align__(16) float dynamic[];
      out[2 * blockIdx.x] = fixed[1]; out[2 * blockIdx.x + 1] = dynamic[1]; fixed[1] = dynamic[1] = 0.0f;
    }"""
    out = np.zeros(6, np.float32)
    simulator.launch(source, "peek", 3, 1, out, shared_bytes=8)
    assert np.isnan(out).all()
    assert np.isnan(get("cuda:sim").to_numpy(get("cuda:sim").empty((3, 2), np.dtype(np.float32)))).all()


def test_a_lane_that_takes_no_part_hands_over_nan() -> None:
    source = "__global__ void ask(float* out) { out[threadIdx.x] = __shfl_xor_sync(0xffu, 1.0f, 4); }"
    out = np.zeros(6, np.float32)
    simulator.launch(source, "ask", 1, 6, out)
    np.testing.assert_array_equal(out, [1, 1, np.nan, np.nan, 1, 1])


def test_arithmetic_of_the_device() -> None:
    source = """__global__ void compute(double* out) {
      out[0] = __umulhi(0xffffffffu, 0xfffffffeu);
      out[1] = double(__umul64hi(~0ull, 1ull << 63));
      out[2] = __popc(0xf0f0u) + 100 * __clz(1) + 10000 * __ffs(8);
      out[3] = fminf(NAN, 2.0f) + fmaxf(1.0f, NAN);
      out[4] = __int_as_float(0x3f800000) + __float_as_int(0.0f);
      out[5] = rsqrtf(4.0f) + rsqrt(16.0);
      out[6] = __dadd_rn(__dmul_rn(1.0 + 0x1p-52, 1.0 - 0x1p-52), -1.0);  // 0 with two roundings, not with one
      out[7] = min(3, 2) + max(2.5f, 1.0f);
    }"""
    out = np.zeros(8)
    simulator.launch(source, "compute", 1, 1, out)
    np.testing.assert_array_equal(out, [0xfffffffd, 2.0**63 - 1, 8 + 3100 + 40000, 3, 1, 0.75, 0, 4.5])


def test_atomics() -> None:
    source = """__global__ void count(int* i, double* d, unsigned long long* u) {
      atomicAdd(i, 1); atomicSub(i + 1, 1); atomicMax(i + 2, int(threadIdx.x)); atomicMin(i + 3, int(threadIdx.x));
      atomicCAS(i + 4, 0, 7); atomicAnd(i + 5, 6); atomicOr(i + 6, 8);
      atomicAdd(d, 0.5); atomicAdd(u, 1);
    }"""
    i, d, u = np.array([0, 0, 5, 5, 0, 7, 1], np.int32), np.zeros(1), np.array([2**40], np.uint64)
    simulator.check(simulator.launch, source, "count", 2, 50, i, d, u)
    np.testing.assert_array_equal(i, [100, -100, 49, 0, 7, 6, 9])
    assert (d[0], u[0]) == (50.0, 2**40 + 100)


def test_a_block_that_changes_what_another_has_read() -> None:
    source = "__global__ void take(int* x) { if (blockIdx.x == 1 || x[0] < 0) x[0] += 1; }"
    report = (r"block \(1, 0, 0\), thread \(0, 0, 0\): data race on array 0 .* it writes at kernel.cu:1 what thread "
              r"\(0, 0, 0\) of block \(0, 0, 0\) reads")
    with pytest.raises(simulator.SimulatorError, match=report):
        simulator.check(simulator.launch, source, "take", 2, 1, np.zeros(1, np.int32))


def test_atomic_and_plain_accesses_race() -> None:
    source = "__global__ void mixed(int* x) { if (threadIdx.x == 0) *x = 1; else atomicAdd(x, 1); }"
    with pytest.raises(simulator.SimulatorError, match="data race on array 0"):
        simulator.check(simulator.launch, source, "mixed", 1, 64, np.zeros(1, np.int32))


def test_what_another_block_published_is_not_known_before_an_atomic() -> None:
    source = """__global__ void publish(int* x, int* flag, int* out) {
      if (blockIdx.x == 0) { *x = 1; __threadfence(); atomicExch(flag, 1); } else { *out = *x; }
    }"""
    with pytest.raises(simulator.SimulatorError, match="data race on array 0"):
        simulator.check(simulator.launch, source, "publish", 2, 1, *(np.zeros(1, np.int32) for _ in range(3)),
                        schedules=1)  # blocks in order: the race is told, though it does not show


def test_arrays_that_share_memory_are_one() -> None:
    """A view within an array leaves all of it known, and the smaller elements tell what is raced for."""
    source = """__global__ void fill(float* part, double* whole, int n) {
      if (threadIdx.x < 8) part[threadIdx.x] = 1.0f;
      else if (threadIdx.x < n) whole[threadIdx.x + 4] = 2.0;
    }"""
    whole = np.zeros(40)
    part = whole.view(np.float32)[16:24]
    simulator.check(simulator.launch, source, "fill", 1, 64, part, whole, 36, schedules=SCHEDULES)
    np.testing.assert_array_equal(whole, [*[0] * 8, *part.view(np.float64), *[2] * 28])
    np.testing.assert_array_equal(part, 1)


def test_shared_memory_that_an_earlier_block_left_is_not_written() -> None:
    source = """__global__ void stale(int* out) {
      __shared__ int x;
      if (blockIdx.x == 0) x = 1;
      out[blockIdx.x] = x;
    }"""
    with pytest.raises(simulator.SimulatorError, match=r"block \(1, 0, 0\).* no thread of the block has written"):
        simulator.check(simulator.launch, source, "stale", 2, 1, np.zeros(2, np.int32), schedules=1)


def test_a_result_that_depends_on_the_order_of_threads_is_found() -> None:
    source = "__global__ void last(int* out) { atomicExch(out, int(threadIdx.x)); }"
    with pytest.raises(simulator.SimulatorError, match="the result depends on the order of threads"):
        simulator.check(simulator.launch, source, "last", 1, 64, np.zeros(1, np.int32))


@pytest.mark.parametrize("exchange", [
    "if (threadIdx.x < 16)\n __shfl_sync(~0u, 1, 0);\n else\n __shfl_sync(~0u, 1, 0);",
    "__shfl_sync(threadIdx.x == 0 ? 0x3u : 0x7u, 1, 0);",
])
def test_lanes_that_meet_at_different_places_or_for_different_lanes_are_found(exchange: str) -> None:
    with pytest.raises(simulator.SimulatorError, match="divergent"):
        simulator.launch(f"__global__ void apart() {{ {exchange} }}", "apart", 1, 32 if "16" in exchange else 3)


def test_checks_within_checks_go_on_behind_them() -> None:
    broken = STAIRS.replace("    __syncwarp();\n    step[threadIdx.x] +=", "    step[threadIdx.x] +=")
    with simulator.check(schedules=2):
        with simulator.check(schedules=1):
            run_stairs(STAIRS)
        with pytest.raises(simulator.SimulatorError, match="data race"):
            run_stairs(broken)


def test_half_precision_rounds_as_in_numpy() -> None:
    source = """
    #include "common.cuh"
    __global__ void widen_all(const u16* x, float* out) {
      const int i = thread_number<u32>();
      out[i] = widen(f16{x[i]});
    }
    template <class T>
    __global__ void narrow_all(const T* x, u16* out) {
      const int i = thread_number<u32>();
      out[i] = narrow<f16>(x[i]).bits;
    }"""
    bits = np.arange(65536).astype(np.uint16)
    wide = np.zeros(65536, np.float32)
    simulator.launch(source, "widen_all", 256, 256, bits, wide)
    np.testing.assert_array_equal(wide, bits.view(np.float16).astype(np.float32))
    for dtype, name in ((np.float32, "float"), (np.float64, "double")):
        values = wide[np.isfinite(wide)].astype(dtype)
        between = np.append(values[1:] / 2 + values[:-1] / 2, [1e-8, 65519.9, 65520, -np.inf, 1e9]).astype(dtype)
        for x in (values, between, np.nextafter(between, dtype(0)), np.nextafter(between, dtype(np.inf))):
            out = np.zeros(len(x), np.uint16)
            simulator.launch(source, f"narrow_all<{name}>", len(x), 1, x, out)
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(out.view(np.float16), x.astype(np.float16))


def test_bfloat16_rounds_to_even_and_keeps_nan_and_infinity() -> None:
    source = """
    #include "common.cuh"
    template <class T>
    __global__ void narrow_all(const T* x, u16* out) {
      const int i = thread_number<u32>();
      out[i] = narrow<bf16>(x[i]).bits;
    }
    __global__ void widen_all(const u16* x, float* out) {
      const int i = thread_number<u32>();
      out[i] = widen(bf16{x[i]});
    }"""
    bits = np.arange(65536, dtype=np.uint32)
    wide = np.zeros(65536, np.float32)
    simulator.launch(source, "widen_all", 256, 256, bits.astype(np.uint16), wide)
    np.testing.assert_array_equal(wide, (bits << 16).view(np.float32))
    for offset in (0, 1, 0x7fff, 0x8000, 0x8001, 0xffff):  # floats at, beside and half way between those of 16 bits
        x = (bits << 16 | np.uint32(offset)).view(np.float32)
        for dtype, name in ((np.float32, "float"), (np.float64, "double")):
            out = np.zeros(65536, np.uint16)
            with np.errstate(invalid="ignore"):  # signalling NaN
                expected = x.astype(tl.bfloat16.numpy).astype(np.float32)
                simulator.launch(source, f"narrow_all<{name}>", 256, 256, x.astype(dtype), out)
            np.testing.assert_array_equal((out.astype(np.uint32) << 16).view(np.float32), expected)


def test_compile_errors_show_the_line() -> None:
    with pytest.raises(simulator.CompileError, match=r"mine\.cu:3:\d+: error: 'missing' was not declared"):
        simulator.launch("\n__global__ void f(float* x) {\n  *x = missing;\n}", "f", 1, 1, np.zeros(1), name="mine.cu")


def test_a_function_that_falls_off_its_end_is_refused() -> None:
    source = "__device__ float half(float x) {\n  if (x > 0.0f) return x / 2;\n}\n" \
             "__global__ void f(float* x) { *x = half(*x); }"
    for run in (simulator.launch, lambda *args: simulator.check(simulator.launch, *args)):
        with pytest.raises(simulator.CompileError, match=r"kernel\.cu:3:\d+: error: .*non-void"):
            run(source, "f", 1, 1, np.zeros(1, np.float32))


# --- the device's arrays ----------------------------------------------------------------------------------------------


def test_arrays_refuse_numpy() -> None:
    array = get("cuda:sim").from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
    for use in (lambda: array + 1, lambda: np.sum(array), lambda: array.sum(), lambda: array.copy(),
                lambda: list(array), lambda: float(array[0, 0]), lambda: array.astype(np.float64),
                lambda: array[[0, 1]], lambda: array.__setitem__(0, 1.0)):
        with pytest.raises(DeviceError, match=r"cannot read device 'cuda:sim' \(shape .*Backend.to_numpy"):
            use()
    with pytest.raises(ValueError, match="copy"):
        array.T.reshape(6)


def test_arrays_are_views_of_aligned_memory() -> None:
    backend = get("cuda:sim")
    array = backend.from_numpy(np.arange(6, dtype=np.int16).reshape(2, 3))
    assert backend.address(array) % 256 == 0
    assert array.base is None
    for view in (array[1], array[1, 2], array.T, array.reshape(6), array[None], backend.expand(array, (4, 2, 3))):
        assert view.base is not None
        assert backend.shares_memory(view, array)
    assert array[1, 2].shape == ()
    assert not backend.shares_memory(array[0], array[1])
    np.testing.assert_array_equal(backend.to_numpy(array.T), np.arange(6).reshape(2, 3).T)
    host = np.arange(3)
    copy = backend.from_numpy(host)
    host[0] = 9
    np.testing.assert_array_equal(backend.to_numpy(copy), [0, 1, 2])
    assert repr(array) == "<array of shape (2, 3), dtype int16, on device 'cuda:sim'>"


def test_a_struct_of_the_wrong_size_is_refused() -> None:
    backend: Any = get("cuda:sim")
    library = simulator_library.Library("pair.cu", "__global__ void f(const double2 pair) {}", ["f"])
    arguments = tl.backends.kernels.Arguments(8)
    with pytest.raises(DeviceError, match=r"f of pair.cu takes a struct of 16 bytes, and Python packed 8"):
        backend.launch(library.function("f"), (1, 1, 1), (1, 1, 1), 0, arguments, ())


# --- processes --------------------------------------------------------------------------------------------------------


def run_python(script: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, **environment},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_switches_checks_on() -> None:
    script = """
        import numpy as np
        from tensorlite import simulator
        try:
            simulator.launch("__global__ void f(int* x) { *x = threadIdx.x; }", "f", 1, 2, np.zeros(1, np.int32))
        except simulator.SimulatorError as error:
            print(error)
    """
    assert "data race" in run_python(script, TENSORLITE_SIM_CHECK="1")
    assert run_python(script, TENSORLITE_SIM_CHECK="") == ""


def test_the_environment_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORLITE_SIM_CHECK", "yes")
    with pytest.raises(ArgumentError, match="TENSORLITE_SIM_CHECK=yes: expected a number of schedules"):
        simulator_check._schedules_of_environment()


def test_fibers_by_ucontext() -> None:
    """What other processors than x86-64 use."""
    script = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from tensorlite.backends import simulator_library
        simulator_library.RUNTIME += ("-DTL_SIMULATOR_UCONTEXT",)
        import test_simulator
        for source, run in test_simulator.HEALTHY.items():
            run(source)
        test_simulator.test_errors_stop_the_launch_and_nothing_else()
        test_simulator.test_planted_bugs_are_found("one element too many")
        print("done")
    """
    assert run_python(script) == "done\n"
