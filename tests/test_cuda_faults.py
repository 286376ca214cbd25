"""Promises T and V on a GPU: memory that runs out, a lost context, and processes forked after CUDA was used.

Runs on a GPU, and without one under the stand-in driver of tests/fake_cuda, in a process of its own. A GPU of a few
megabytes, and one that fails, only the stand-in can show.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import fake_cuda
import pytest
from long_runs import count
from on_gpu import gpu, run_under_the_stand_in, runs_directly

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import get
from tensorlite.nn import functional as F

MIB = 1 << 20
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@runs_directly
def test_all_of_this_under_the_stand_in_driver() -> None:
    run_under_the_stand_in(__file__)


# ---- T: memory and broken contexts ---------------------------------------------------------------------------------


def little_memory(driver: fake_cuda.Driver, size: int) -> None:
    """Leave so many bytes on the GPU."""
    gc.collect()
    tl.cuda.empty_cache()
    driver.configure(memory=tl.cuda.memory_reserved() + size)


class Net:
    """A network that trains on small batches and has no room for a large one."""

    def __init__(self) -> None:
        tl.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).to("cuda")
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.x, self.y = tl.randn(16, 8).to("cuda"), tl.arange(16).to("cuda") % 4

    def step(self, repeat: int = 1) -> None:
        self.optimizer.zero_grad()
        x = self.x.repeat(repeat, 1)
        F.cross_entropy(self.model(x), self.y.repeat(repeat)).backward()
        self.optimizer.step()

    def weights(self) -> list[Any]:
        return [p.detach().cpu().tolist() for p in self.model.parameters()]


@gpu
def test_running_out_of_memory_again_and_again_loses_nothing(driver: fake_cuda.Driver) -> None:
    """T: the process goes on, its results are those of a run without such errors, and not a byte is lost."""
    plain, tried = Net(), Net()
    plain.step()
    tried.step()
    little_memory(driver, 4 * MIB)
    held = None
    for number in range(count(30, 1000)):
        with pytest.raises(tl.OutOfMemoryError, match="is out of memory: float32"):
            tried.step(repeat=100_000)
        plain.step()
        tried.step()
        gc.collect()
        allocated = tl.cuda.memory_allocated()
        held = held or allocated
        assert allocated == held, number
    assert tried.weights() == plain.weights()


@gpu
def test_a_failed_gpu_says_that_this_process_cannot_use_it_any_more(driver: fake_cuda.Driver) -> None:
    """T: the error of CUDA itself is one of ours, and says what is lost and how to find the call."""
    x = tl.ones(4, device="cuda")
    backend: Any = get("cuda")
    lost = backend.failure(RuntimeError("cudaErrorIllegalAddress"))
    assert isinstance(lost, tl.errors.DeviceError)
    for part in ("'cuda:0' failed: cudaErrorIllegalAddress", "cannot use the GPU any more", "CUDA_LAUNCH_BLOCKING=1"):
        assert part in str(lost)
    assert x.tolist() == [1.0] * 4


# ---- V: fork ---------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> str:
    """What the error says that `work` raises in a forked child; "nothing" if it raises none, "hung" if it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        said = "nothing"
        try:
            work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    return said if os.waitpid(child, 0)[1] == 0 else "hung"


USES: dict[str, Callable[[Any], Any]] = {
    "an operation": lambda x: x + x, "in place": lambda x: x.add_(1.0), "a product": lambda x: x @ x,
    "reading": lambda x: x.tolist(), "printing": repr, "a new tensor": lambda x: tl.zeros(2, device="cuda"),
    "moving": lambda x: tl.ones(2).to("cuda"), "random numbers": lambda x: tl.rand(2, device="cuda"),
    "backward": lambda x: (x.clone().requires_grad_() * 2.0).sum().backward(), "a sum": lambda x: x.sum(),
    "synchronize": lambda x: tl.cuda.synchronize(), "memory": lambda x: tl.cuda.memory_allocated(),
    "another GPU": lambda x: tl.zeros(2, device="cuda:1"),
    "capture": lambda x: tl.capture(lambda t: t * 2.0)(x), "pinning": lambda x: tl.ones(2).pin_memory(),
}


@gpu
@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("use", USES)
def test_a_forked_process_that_uses_the_gpu_is_told_so(use: str) -> None:
    """V: at once, with the way out; it neither hangs nor computes on memory that is not its own."""
    x = tl.ones(2, 2, device="cuda")
    USES[use](x.clone())  # the parent may, and now has plans for it
    said = in_child(lambda: USES[use](x))
    assert said.startswith("DeviceError: device 'cuda:")
    assert "forked" in said and "multiprocessing.get_context('spawn')" in said
    assert (x + 1.0).tolist() == [[2.0, 2.0]] * 2


@gpu
@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_may_compute_on_the_cpu_and_free_what_it_inherited() -> None:
    """V: also what a DataLoader's own worker processes do."""
    held = [tl.ones(1000, device="cuda")]
    tl.rand(2, device="cuda")

    def work() -> None:
        held.clear()
        gc.collect()
        tl.manual_seed(3)
        batches = [batch.sum().item() for batch, in tl.data.DataLoader(tl.data.TensorDataset(tl.ones(8)), 4)]
        assert batches == [4.0, 4.0]
        assert (tl.cuda.is_available(), tl.cuda.device_count()) == (False, 0)
        raise ValueError("reached the end")

    assert in_child(work) == "ValueError: reached the end"
    assert held[0].sum().item() == 1000.0


SPAWNED = """
import multiprocessing, sys
import tensorlite as tl

def work(number):
    return tl.full((3,), float(number)).sum().item()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(work, range(4)))
"""


def test_the_way_out_works(tmp_path: Any) -> None:
    """V: what the message recommends."""
    program = tmp_path / "program.py"
    program.write_text(SPAWNED)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout == "[0.0, 3.0, 6.0, 9.0]\n", done.stderr
