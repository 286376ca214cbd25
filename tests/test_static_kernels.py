"""Kernels as the GPU's compiler sees them: a sample for tools/check_kernels.py, and that it finds faults."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tensorlite.backends.kernels import Instance, catalogue

TOOLS = Path(__file__).resolve().parent.parent / "tools"
SAMPLE = 60  # instances; the tool itself compiles them all


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/check_kernels.py."""
    pytest.importorskip("cupy", reason="NVRTC is reached through CuPy")
    from tensorlite.backends import nvrtc

    try:
        nvrtc.version()
    except RuntimeError as error:
        pytest.skip(f"no NVRTC: {error}")
    spec = importlib.util.spec_from_file_location("check_kernels", TOOLS / "check_kernels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_kernels"] = module  # its workers are told what to run by this name
    spec.loader.exec_module(module)
    return module


def compiled(tool: ModuleType, text: str, expression: str, name: str = "mine.cu") -> list[str]:
    """What the tool says of a kernel in a text of its own."""
    flags = (*tool.nvrtc.options(name, tool.MAIN), "--ptxas-options=-v")
    result = tool.nvrtc.compile_text(name, text, tool.nvrtc.headers(), [expression], flags)
    job = tool.Job(name, tool.MAIN, (expression,))
    (report,) = tool.reports(job, result, tool.machine_code(result.image))
    return [complaint.partition("> ")[2] or complaint for complaint in tool.complaints(report)]


def test_a_sample_of_all_kernels(tool: ModuleType) -> None:
    instances = list(dict.fromkeys(catalogue.instances()))
    one_of_each_file = {instance.file: instance for instance in instances}.values()
    sample = list(dict.fromkeys((*one_of_each_file, *instances[::len(instances) // SAMPLE])))
    found, wrong = tool.check(list(tool.jobs(sample, [tool.MAIN], False)), workers=1)
    assert not wrong, "\n".join(wrong)
    assert len(found) >= SAMPLE
    assert {report.instance.file for report in found} == {instance.file for instance in instances}


def test_every_instance_is_compiled_for_two_architectures(tool: ModuleType) -> None:
    instances = [Instance("elementwise.cu", f"vectorised<{i}>") for i in range(500)]
    chosen = list(tool.jobs(instances, [tool.MAIN, *tool.OTHERS], False))
    seen = sorted(expression for job in chosen for expression in job.expressions)
    assert seen == sorted(i.expression for i in instances * 2)
    assert {job.target for job in chosen} == {tool.MAIN, *tool.OTHERS}


def test_registers_that_spill_are_found(tool: ModuleType) -> None:
    text = """
    template <int N> __global__ void __launch_bounds__(1024, 2) spilling(float* x) {
      float v[N];
    #pragma unroll
      for (int i = 0; i < N; ++i) v[i] = x[i * 1024 + threadIdx.x];
      __syncthreads();
    #pragma unroll
      for (int i = 0; i < N; ++i) x[(N - i) * 1024 + threadIdx.x] = v[i] * v[(i + 7) % N];
    }"""
    assert any("bytes of registers" in complaint for complaint in compiled(tool, text, "spilling<64>"))


def test_too_many_registers_are_found(tool: ModuleType) -> None:
    text = """
    template <int N> __global__ void greedy(float* x) {
      float v[N];
    #pragma unroll
      for (int i = 0; i < N; ++i) v[i] = x[i * 1024 + threadIdx.x];
      __syncthreads();
    #pragma unroll
      for (int i = 0; i < N; ++i) x[(N - i) * 1024 + threadIdx.x] = v[i] * v[(i + 7) % N];
    }"""
    assert any("registers, budget 64" in complaint for complaint in compiled(tool, text, "greedy<96>"))


def test_an_array_on_the_stack_is_found(tool: ModuleType) -> None:
    text = """
    template <int N> __global__ void stacked(float* x, int at) {
      float v[N];
      for (int i = 0; i < N; ++i) v[i] = x[i];
      for (int i = 0; i < N; ++i) v[i * at % N] += v[i];
      for (int i = 0; i < N; ++i) x[i] = v[i];
    }"""
    assert any("has a stack of" in complaint for complaint in compiled(tool, text, "stacked<32>"))


def test_products_without_tensor_cores_are_found(tool: ModuleType) -> None:
    if tool.disassembler() is None:
        pytest.skip("no nvdisasm")
    text = """
    #include "mma.cuh"
    struct Loop {
      static FN void add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { d[0] += float_of(a[0] + b[0]); }
    };
    template <class T> struct TensorCores {
      static FN void add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma<T>(d, a, b); }
    };
    template <class Math, class> __global__ void product(const u32* x, float* out) {
      float d[4] = {};
      const u32 a[4] = {x[threadIdx.x], x[threadIdx.x + 32], x[threadIdx.x + 64], x[threadIdx.x + 96]};
      Math::add(d, a, {x[threadIdx.x + 128], x[threadIdx.x + 160]});
      for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = d[i];
    }"""
    for dtype in ("f16", "bf16", "float"):
        assert compiled(tool, text, f"product<TensorCores<{dtype}>, int>") == []
    assert compiled(tool, text, "product<Loop, TensorCores<f16>>") == ["for sm_90 has no product on tensor cores"]


@pytest.mark.parametrize(("pack", "complaint"), [
    ("alignas(16)", []), ("", ["for sm_90 has no 16-byte load", "for sm_90 has no 16-byte store"])])
def test_narrow_accesses_are_found(tool: ModuleType, pack: str, complaint: list[str]) -> None:
    if tool.disassembler() is None:
        pytest.skip("no nvdisasm")
    text = f"""
    struct {pack} Four {{ float at[4]; }};
    template <class F, class Index, class Out, class A> __global__ void vectorised(Four* out, const Four* x) {{
      out[threadIdx.x] = x[threadIdx.x];
    }}"""
    assert compiled(tool, text, "vectorised<int, unsigned, float, float>", "elementwise.cu") == complaint
