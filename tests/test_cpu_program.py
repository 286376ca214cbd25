"""Programs of device "cpu": replays equal to eager steps, stretches of compiled kernels, and errors in the data."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.backends import cpu_compiled, cpu_program, get, host
from tensorlite.backends.recording import Call
from tensorlite.errors import OutOfRangeError

BACKEND = get("cpu")
needs_compiler = pytest.mark.skipif(not host.is_available(), reason="no C++ compiler")


@pytest.fixture(params=["numpy", pytest.param("compiled", marks=needs_compiler)])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which kernels this process uses: NumPy's alone, or compiled ones where they take a call."""
    library, run = None, {}
    if request.param == "compiled":
        library, reason = cpu_compiled._loaded(cpu_compiled.build())
        assert library is not None, reason
        run = library.run
    monkeypatch.setattr(cpu_compiled, "library", lambda: library)
    monkeypatch.setattr(BACKEND, "_compiled", run)
    return str(request.param)


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process computes with the compiled kernels during the test, whatever it does otherwise."""
    monkeypatch.setenv("TENSORLITE_COMPILED", "")
    monkeypatch.setattr(cpu_compiled, "_state", cpu_compiled._State())
    monkeypatch.setattr(get("cpu"), "_compiled", None)
    assert cpu_compiled.compile_kernels()


def training(seed: int = 0) -> tuple[nn.Module, Callable[[], tl.Tensor]]:
    """A model and a step: layers of several kinds, dropout and clipping, so that some kernels are Python calls."""
    tl.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.LayerNorm(33), nn.Dropout(0.3), nn.Linear(33, 17), nn.GELU(),
                          nn.Linear(17, 5))
    optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    x, y = tl.randn(24, 20), tl.randint(0, 5, (24,))

    def step() -> tl.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    return model, step


def numbers(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def recorded(step: Callable[[], Any]) -> tuple[cpu_program.CpuProgram, Any]:
    with BACKEND.recorder() as recorder:
        result = step()
    program = recorder.finish()
    assert isinstance(program, cpu_program.CpuProgram)
    return program, result


def test_a_replay_is_the_step_bit_for_bit(kernels: str) -> None:
    model, step = training()
    losses = [step().item() for _ in range(20)]
    expected = numbers(model)
    model, step = training()
    assert step().item() == losses[0]
    program, loss = recorded(step)
    seen = [losses[0], loss.item()]
    for _ in range(18):
        program.run()
        seen.append(loss.item())
    assert seen == losses
    for actual, wanted in zip(numbers(model), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@needs_compiler
def test_neighbours_are_joined(in_use: None) -> None:
    x = np.ones((4, 3), np.float32)
    adds = [Call("add", x, (x, x), {}), Call("mul", x, (x, 0.5), {})]
    sine = Call("sin", np.empty_like(x), (x,), {})
    program = cpu_program.CpuProgram(BACKEND, [*adds, sine, *adds, *adds])
    assert program.kernels == 7
    kinds = [type(step) for step in program._steps]
    assert kinds == [cpu_program._Stretch, functools.partial, cpu_program._Stretch]
    for _ in range(3):
        program.run()
    assert (x == 1).all()


def test_programs_keep_the_memory_that_they_use(kernels: str) -> None:
    out = np.empty(1000, np.float32)
    program = cpu_program.CpuProgram(BACKEND, [Call("add", out, (np.ones(1000, np.float32), 1.0), {})])
    rubbish = [np.full(1000, np.nan, np.float32) for _ in range(50)]
    program.run()
    assert (out == 2).all() and len(rubbish) == 50


def test_an_error_in_the_data_is_the_eager_one(kernels: str) -> None:
    """It stops the program; with good data the program goes on as ever."""
    logits, target = np.zeros((2, 3), np.float32), np.array([0, 1])
    first, loss, last = (np.zeros((), np.float32) for _ in range(3))
    options = {"ignore_index": -100}
    calls = [Call("add", first, (first, 1.0), {}), Call("cross_entropy", loss, (logits, target), options),
             Call("add", last, (last, 1.0), {})]
    program = cpu_program.CpuProgram(BACKEND, calls)
    program.run()
    target[1] = 3
    with pytest.raises(OutOfRangeError, match="Target 3 is out of bounds: row 1 of 2, 3 classes"):
        program.run()
    assert (first, last) == (2, 1)
    target[1] = 2
    program.run()
    assert (first, last) == (3, 2)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_indices_that_numpy_takes_and_compiled_kernels_refuse(kernels: str) -> None:
    """A refusal in the midst of a stretch is NumPy's to compute, and the rest follows."""
    x, index, out = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1]), np.empty((2, 2), np.float32)
    total = np.empty_like(out)
    program = cpu_program.CpuProgram(BACKEND, [Call("index", out, (x, index), {"dims": (0,)}),
                                               Call("add", total, (out, 1.0), {})])
    program.run()
    np.testing.assert_array_equal(total, x[:2] + 1)
    index[...] = -1, -3
    program.run()
    np.testing.assert_array_equal(total, x[[2, 0]] + 1)


def test_narrow_dtypes_and_integers(kernels: str) -> None:
    half, whole = np.ones(5, np.float16), np.arange(5)
    BACKEND.run("fill", half, 0.1)
    calls = [Call("add", half, (half, half), {}), Call("mul", whole, (whole, 2), {})]
    program = cpu_program.CpuProgram(BACKEND, calls)
    program.run()
    assert (half == np.float16(0.1) * 2).all() and (whole == np.arange(5) * 2).all()


def test_observers_see_each_kernel(kernels: str) -> None:
    x = np.ones(3, np.float32)
    program = cpu_program.CpuProgram(BACKEND, [Call("add", x, (x, x), {}), Call("relu", x, (x,), {})])
    seen: list[str] = []

    def watch(backend: Any, kernel: str, *_: Any) -> None:
        seen.append(kernel)

    BACKEND.observers = (*BACKEND.observers, watch)
    try:
        program.run()
    finally:
        BACKEND.observers = tuple(observer for observer in BACKEND.observers if observer is not watch)
    assert seen == ["add", "relu"] and (x == 2).all()
    program.run()
    assert len(seen) == 2 and (x == 4).all()


def test_warnings_of_numpy_are_off_and_stay_the_users(kernels: str) -> None:
    x, out = np.zeros(3, np.float32), np.empty(3, np.float32)
    program = cpu_program.CpuProgram(BACKEND, [Call("log", out, (x,), {}), Call("div", out, (x, x), {})])
    with np.errstate(all="raise"):
        program.run()
        with pytest.raises(FloatingPointError):
            np.log(x)
    assert np.isnan(out).all()


def test_an_empty_program(kernels: str) -> None:
    cpu_program.CpuProgram(BACKEND, []).run()


def test_replays_do_not_grow_memory(kernels: str) -> None:
    _, step = training()
    step()
    program, _ = recorded(step)
    for _ in range(50):
        program.run()
    blocks = sys.getallocatedblocks()
    for _ in range(500):
        program.run()
    assert sys.getallocatedblocks() - blocks < 50


@needs_compiler
def test_a_cold_process_starts_on_numpy_and_stays_there(tmp_path: Path) -> None:
    """Its numbers do not change when the library that it had built lies ready."""
    ready = cpu_compiled.build()
    compiler = tmp_path / "quick-c++"  # it hands out what was compiled before
    compiler.write_text(f"""#!/bin/sh
case "$*" in *--version*) exit ;; esac
while [ "$1" != -o ]; do shift; done
cp {ready} "$2"
""")
    compiler.chmod(0o755)
    script = """
import tensorlite as tl
from tensorlite.backends import cpu_compiled
x = tl.linspace(-3, 3, 1000)
first = tl.nn.functional.silu(x).numpy().copy()
cpu_compiled.build()
assert (tl.nn.functional.silu(x).numpy() == first).all() and not cpu_compiled.kernels()
assert cpu_compiled.compile_kernels() and cpu_compiled.kernels()
assert abs(tl.nn.functional.silu(x).numpy() - first).max() < 1e-6
"""
    environment = {"TENSORLITE_CACHE": str(tmp_path), "TENSORLITE_COMPILED": "", "TENSORLITE_CXX": str(compiler)}
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, check=True, timeout=60)
