"""The host's compiler: found or asked for, and libraries that are built once, by however many processes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tensorlite.backends import elf, get, host, kernel_sources, simulator_library
from tensorlite.errors import DeviceError

needs_compiler = pytest.mark.skipif(not host.is_available(), reason="no C++ compiler")
ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no variables of the user's."""
    for name in ("TENSORLITE_CXX", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "host"


def counting_compiler(folder: Path) -> Path:
    """A compiler that notes each compilation in a file."""
    script = folder / "counting-c++"
    script.write_text(f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo run >> {folder}/runs ;; esac\n'
                      f'exec {host.compiler()} "$@"\n')
    script.chmod(0o755)
    return script


def editing_compiler(folder: Path, file: Path) -> Path:
    """A compiler that is handed a file too late: it has just been edited."""
    script = folder / "editing-c++"
    script.write_text(f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo "constexpr int value = 2;" > {file} ;; esac\n'
                      f'exec {host.compiler()} "$@"\n')
    script.chmod(0o755)
    return script


# --- finding it -------------------------------------------------------------------------------------------------------


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"no C\+\+ compiler found .*'apt install g\+\+' on Debian .*"
                                          r"'dnf install gcc-c\+\+' on Fedora; .* "
                                          "TENSORLITE_CXX"):
        host.compiler()
    assert not host.is_available()


def test_the_device_says_so_too(tmp_path: Path) -> None:
    script = "import tensorlite as tl\ntry: tl.ones(1, device='cuda:sim')\nexcept tl.errors.DeviceError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PATH": str(tmp_path)}, check=True,
                          capture_output=True, text=True)
    assert "no C++ compiler found" in done.stdout


@pytest.mark.parametrize("variable", ["TENSORLITE_CXX", "CXX"])
def test_a_variable_names_the_compiler(variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my-c++"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(variable, str(program))
    assert host.compiler() == str(program)
    monkeypatch.setenv(variable, "/no/such/c++")
    with pytest.raises(DeviceError, match=f"{variable}=/no/such/c\\+\\+ names no program"):
        host.compiler()


# --- building ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_a_library_is_built_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORLITE_CXX", str(counting_compiler(tmp_path)))
    path = host.build("answer", ANSWER)
    assert path.parent == cache
    assert path.name.startswith("answer-")
    assert ctypes.CDLL(str(path)).answer() == 42
    assert host.build("answer", ANSWER) == path
    assert host.build("answer", ANSWER, ("-O1",)) != path
    assert host.build("answer", ANSWER.replace("42", "43")) != path
    assert (tmp_path / "runs").read_text().count("run") == 3
    assert sorted(p.suffix for p in cache.iterdir()) == [path.suffix] * 3  # no lock or temporary file stays


@needs_compiler
def test_an_included_kernel_file_counts_and_another_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    monkeypatch.setattr(kernel_sources, "folder", lambda: folder)
    text = '#include "outer.cuh"\n' + ANSWER.replace("42", "value")
    (folder / "outer.cuh").write_text('#pragma once\n#include "inner.cuh"\n')
    (folder / "inner.cuh").write_text("constexpr int value = 1;\n")
    first = host.build("answer", text)
    (folder / "other.cuh").write_text("constexpr int other = 1;\n")
    assert host.build("answer", text) == first
    (folder / "inner.cuh").write_text("constexpr int value = 2;\n")
    second = host.build("answer", text)
    assert [ctypes.CDLL(str(path)).answer() for path in (first, second)] == [1, 2]


@needs_compiler
def test_a_file_that_changes_while_it_is_compiled(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    monkeypatch.setattr(kernel_sources, "folder", lambda: folder)
    text = '#include "inner.cuh"\n' + ANSWER.replace("42", "value")
    (folder / "inner.cuh").write_text("constexpr int value = 1;\n")
    monkeypatch.setenv("TENSORLITE_CXX", str(editing_compiler(tmp_path, folder / "inner.cuh")))
    with pytest.raises(DeviceError, match=r"kernels changed while answer was compiled: .*; start the program again"):
        host.build("answer", text)
    assert not list(cache.iterdir())  # nothing of value 2 under the hash of value 1
    assert ctypes.CDLL(str(host.build("answer", text))).answer() == 2


@needs_compiler
def test_processes_and_threads_build_at_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORLITE_CXX", str(counting_compiler(tmp_path)))
    script = f"from tensorlite.backends import host\nprint(host.build('answer', {ANSWER!r}))"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    threads = [threading.Thread(target=host.build, args=("answer", ANSWER)) for _ in range(4)]
    for thread in threads:
        thread.start()
    paths = {process.communicate()[0].strip() for process in processes}
    for thread in threads:
        thread.join()
    assert paths == {str(host.build("answer", ANSWER))}
    assert (tmp_path / "runs").read_text().count("run") <= 2  # one, and one more who came as it ended


@needs_compiler
def test_a_compile_error_shows_what_helps(cache: Path) -> None:
    text = "\n".join(['#line 1 "mine.cu"', *[f"int f{i}() {{ return missing{i}; }}" for i in range(40)]])
    with pytest.raises(host.CompileError) as caught:
        host.build("mine", text)
    message = str(caught.value).splitlines()
    assert message[0].endswith("refuses mine:")
    assert "mine.cu:1:" in message[1]
    assert "error: 'missing0' was not declared" in message[1]
    assert message[-1].startswith("... and ")
    assert len(message) < 30
    assert not list(cache.iterdir())


@needs_compiler
def test_native_code_is_kept_apart_by_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    here = host.build("answer", ANSWER, ("-march=native",))
    monkeypatch.setattr(host, "_processor", lambda: "another")
    assert host.build("answer", ANSWER, ("-march=native",)) != here


@needs_compiler
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORLITE_CACHE", str(tmp_path / "file" / "cache"))
    assert ctypes.CDLL(str(host.build("answer", ANSWER))).answer() == 42


@needs_compiler
def test_what_nobody_uses_is_removed(cache: Path) -> None:
    old = host.build("answer", ANSWER)
    (cache / ".answer-killed").mkdir()
    for path in (old, cache / ".answer-killed"):
        os.utime(path, (1e9, 1e9))
    new = host.build("answer", ANSWER, ("-O1",))
    assert list(cache.iterdir()) == [new]


# --- what simulated kernels are made of -----------------------------------------------------------------------------


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="ELF")
def test_variables_of_a_library() -> None:
    text = ('extern "C" __attribute__((visibility("hidden"))) char __bss_start[];\n'
            "namespace { int f() { static int few[3]; static char many[100]; return ++few[1] + ++many[1]; } }\n")
    path = host.build("variables", text + ANSWER.replace("42", "f() + *__bss_start"))
    assert {(v.name, v.size) for v in elf.variables(path, "__bss_start")} == {("few", 12), ("many", 100)}


@needs_compiler
def test_libraries_bring_no_other_compiler_runtime() -> None:
    """The sanitizers' options would link libraries that kernels do without."""
    library = simulator_library.Library("f.cu", "__global__ void f(float* x) { *x = expf(*x); }", ("f",))
    get("cuda:sim")
    for path in (library.path, library.checked.path):
        assert not any(name in path.read_bytes() for name in (b"libtsan", b"libubsan", b"libstdc++"))


@needs_compiler
def test_a_build_that_goes_on_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    assert not host.is_being_built(path)
    with host._only_one(path.with_suffix(".lock")):
        assert host.is_being_built(path)
    assert not host.is_being_built(path)
    path.with_suffix(".lock").touch()  # left behind by a process that was killed
    assert not host.is_being_built(path)
