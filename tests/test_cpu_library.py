"""The library of the CPU's compiled kernels: threads, how it comes to be built and used, and what is said of it."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import cpu_compiled, host
from tensorlite.backends.config import show_config
from tensorlite.errors import DeviceError

pytestmark = pytest.mark.skipif(not host.is_available(), reason="no C++ compiler")


@pytest.fixture(scope="module")
def compiled() -> cpu_compiled.Library:
    """The library, built if need be; NumPy goes on serving the process if it did so far."""
    library, reason = cpu_compiled._loaded(cpu_compiled.build())
    assert library is not None, reason
    return library


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tests run with compiled kernels off."""
    monkeypatch.setenv("TENSORLITE_COMPILED", "")


def values(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(shape).normal(size=shape) * 3, np.float32)


# --- threads ----------------------------------------------------------------------------------------------------------


SCRIPT = """
import hashlib, numpy as np
from tensorlite.backends import cpu_compiled
assert cpu_compiled.compile_kernels()
run, random = cpu_compiled.kernels(), np.random.default_rng(0)
x, y = (random.normal(size=(700, 1000)).astype(np.float32) for _ in range(2))
digest = hashlib.sha256()
for name, args, params in (("silu", (x,), {}), ("softmax", (x,), {"dim": 1}), ("div", (x, y), {}),
                           ("layer_norm", (x, None, None), {"dims": (1,), "eps": 1e-5})):
    out = np.empty_like(x)
    assert run[name](out, *args, **params)
    digest.update(out)
total = np.empty((1, 1000), np.float32)
assert run["sum"](total, x, dims=(0,))
digest.update(total)
state = [(np.zeros_like(x),), (np.zeros_like(x),)]
assert run["adam_step"]((x,), (y,), np.array(0.1), (np.zeros((), np.float32),), *state, None, beta1=0.9, beta2=0.99,
                        eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False, maximize=False)
digest.update(x)
tiny, halves = np.full(700_000, 1e-40, np.float32), np.empty(700_000, np.float32)
for flushing in (True, False):  # in all threads, as in the one that asks
    assert cpu_compiled.set_flush_denormal(flushing) and run["mul"](halves, tiny, 0.5)
    digest.update(halves)
for shape, statistics in (((50, 40, 17, 20), (40,)), ((7000, 100), (100,)), ((50, 40, 350), (50, 8))):
    x, g = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    mean, var, (weight, bias) = *np.empty((2, *statistics), np.float32), np.empty((2, shape[1]), np.float32)
    out = np.empty_like(x)
    assert run["moments"]((mean, var), x) and run["batch_norm"](out, x, None, None, mean, var, eps=1.0)
    digest.update(out)
    assert run["batch_norm_grad"]((out, weight, bias), g, x, None, mean, var, eps=1.0, training=True)
    for result in (mean, var, out, weight, bias):
        digest.update(result)
print(digest.hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    cpu_compiled.build()
    found = set()
    for count in ("1", "2", "5"):
        done = subprocess.run([sys.executable, "-c", SCRIPT], env={**os.environ, "TENSORLITE_THREADS": count},
                              capture_output=True, text=True, check=True, timeout=120)
        found.add(done.stdout)
    assert len(found) == 1


def test_numbers_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_compiled.threads() == 3
    monkeypatch.setenv("TENSORLITE_THREADS", "2")
    assert cpu_compiled.threads() == 2
    monkeypatch.setenv("TENSORLITE_THREADS", "0")
    assert cpu_compiled.threads() == 3
    monkeypatch.setenv("TENSORLITE_THREADS", "none")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cpu_compiled.threads() >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_computes_too() -> None:
    script = """
import os, numpy as np
from tensorlite.backends import cpu_compiled
assert cpu_compiled.compile_kernels()
add, x = cpu_compiled.kernels()["add"], np.ones(1_000_000, np.float32)
assert add(x, x, x)
child = os.fork()
assert add(x, x, x) and (x == 4).all()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    cpu_compiled.build()
    environment = {**os.environ, "TENSORLITE_THREADS": "4"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)


def test_many_python_threads_at_once(compiled: cpu_compiled.Library) -> None:
    x = values(600_000)
    outs = [np.empty_like(x) for _ in range(6)]
    threads = [threading.Thread(target=lambda o=out: [compiled.run["silu"](o, x) for _ in range(20)]) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


# --- how they come to be used -----------------------------------------------------------------------------------------

USED = ("import tensorlite as tl\nfrom tensorlite.backends import cpu_compiled\ntl.ones(3).relu()\n"
        "print(bool(cpu_compiled.kernels()), cpu_compiled.describe())")


def python(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True,
                          text=True, check=True, timeout=120)
    assert not done.stderr
    return done.stdout


def test_a_process_uses_what_lies_in_the_cache() -> None:
    cpu_compiled.build()
    assert python(USED, TENSORLITE_COMPILED="").startswith("True in use (")
    assert python(USED, TENSORLITE_COMPILED="1").startswith("True in use (")
    assert python(USED, TENSORLITE_COMPILED="0") == "False off (TENSORLITE_COMPILED=0)\n"
    off = "from tensorlite.backends import cpu_compiled as c; print(c.compile_kernels(), c.set_flush_denormal(True))"
    assert python(off, TENSORLITE_COMPILED="0") == "False False\n"


def test_without_a_compiler_numpy_serves(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "TENSORLITE_CACHE": str(tmp_path)}
    assert python(USED, **nothing).startswith("False no compiler: no C++ compiler found")
    fails = "from tensorlite.backends import cpu_compiled\ntry: cpu_compiled.compile_kernels()\nexcept Exception as e: "
    assert "no C++ compiler found" in python(fails + "print(e)", **nothing)


def test_a_compiler_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    failing = {"TENSORLITE_CXX": "/bin/false", "TENSORLITE_CACHE": str(tmp_path)}
    assert python(USED, **failing) == "False being built for later processes\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("host/*.failed")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "False not built: false refuses cpu" in python(USED, **failing)


def test_a_build_that_succeeds_forgets_the_failure_before() -> None:
    note = cpu_compiled._failure(cpu_compiled._target())
    note.write_text("an older compiler's words\n")
    cpu_compiled.build()
    assert not note.exists()


def test_without_a_cache_nothing_is_built_in_the_background() -> None:
    assert python(USED, TENSORLITE_CACHE="/dev/null/cache").startswith("False not built: /dev/null/cache cannot be wri")


def test_the_background_build_uses_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started with a lasting command, and its absence is no error."""
    started = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: started.append(command) or
                        subprocess.CompletedProcess(command, 0))
    assert cpu_compiled._build_in_background()
    assert "nice" in started[0][2] and started[0][-1] == cpu_compiled._BUILD

    def absent(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    assert not cpu_compiled._build_in_background()


def test_other_layouts_of_objects_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = cpu_compiled.build()
    monkeypatch.setattr(cpu_compiled, "_reads_arrays", lambda shared: False)
    assert cpu_compiled._loaded(path) == (None, "not usable: this NumPy lays out its arrays in another way")
    monkeypatch.setattr(sys, "implementation", type("other", (), {"name": "other"}))
    assert cpu_compiled._loaded(path) == (None, "not usable: this Python lays out its objects in another way")
    (tmp_path / "no.so").write_text("")
    assert cpu_compiled._loaded(tmp_path / "no.so")[1].startswith("not usable:")


def test_a_blas_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert None not in cpu_compiled._blas()[:2]
    assert not cpu_compiled._multiplies(lambda *_: None, ctypes.c_float, True)
    monkeypatch.setattr(cpu_compiled, "_multiplies", lambda *_: False)
    assert cpu_compiled._blas() == (None, None, False)


def test_the_choice_depends_on_layout_alone(compiled: cpu_compiled.Library) -> None:
    """Packed or called, again or for other data: the same code, and so the same bits."""
    x = values(37, 12)
    for name, params in (("silu", {}), ("softmax", {"dim": 1})):
        first, again = np.empty_like(x), np.empty_like(x)
        assert compiled.run[name](first, x, **params)
        task = compiled.pack[name](again, x, **params)
        assert compiled.replay(task, 0) == len(task)
        np.testing.assert_array_equal(first, again)
        x[...] = math.nan
        assert compiled.run[name](first, x, **params)
        x = values(37, 12)


def test_errors_without_a_compiler_are_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TENSORLITE_CXX", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DeviceError, match=r"no C\+\+ compiler found"):
        cpu_compiled.compile_kernels()


def test_show_config() -> None:
    text = show_config()
    assert text.startswith(f"tensorlite        {tl.__version__}")
    assert f"NumPy             {np.__version__}" in text
    assert cpu_compiled.describe() in text
    assert "device cuda:sim   present" in text


def test_show_config_starts_nothing() -> None:
    show = "from tensorlite.backends import config\nprint(config.show_config())"
    assert "compiled kernels  no kernel has run yet" in python(show)
    assert "device cuda:sim   missing" in python(show, PATH="")


def test_recordings_are_made_anew_when_compiled_kernels_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a replay would go on with NumPy's kernels, and eager calls with others."""
    monkeypatch.setattr(cpu_compiled._state, "library", None)
    monkeypatch.setattr(cpu_compiled, "_use", lambda found, reason: None)  # for the tests after this one
    step = tl.capture(lambda x: x * 2.0)
    for _ in range(3):
        step(tl.ones(3))
    assert step.stats().replays == 1
    tl.compile_kernels()
    step(tl.ones(3))
    assert step.stats().replays == 1
