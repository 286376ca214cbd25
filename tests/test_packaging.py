"""What an installation holds: kernels, sample digits, type marker, and how many bytes it adds to NumPy's."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import tensorlite as tl
from tensorlite.backends import kernel_sources
from tensorlite.errors import TensorliteError

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MEGABYTE = 1_000_000


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative path -> contents, without bytecode."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and its bytecode: what an installer leaves in site-packages."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    assert compileall.compile_dir(site, quiet=1)
    return site


def test_the_wheel_holds_the_package_and_nothing_else(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert top == {"tensorlite", f"tensorlite-{tl.__version__}.dist-info"}
    package = files_below(installed / "tensorlite")
    kernels = {name for name in package if name.startswith("_kernels/")}
    assert package.keys() - kernels == files_below(ROOT / "tensorlite").keys()
    assert "py.typed" in package
    assert len([name for name in package if name.startswith("data/mnist_sample/")]) >= 4


def test_the_wheel_holds_the_kernels(installed: Path) -> None:
    assert files_below(installed / "tensorlite" / "_kernels") == files_below(ROOT / "kernels")


def test_kernels_are_found_in_an_installation(installed: Path) -> None:
    command = (
        "import tensorlite; from tensorlite.backends import kernel_sources as k;"
        "print(tensorlite.__file__, k.folder(), len(k.read('README.md')), sep='\\n')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", command],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    init, folder, length = finished.stdout.splitlines()
    assert Path(init) == installed / "tensorlite" / "__init__.py"
    assert Path(folder) == (installed / "tensorlite" / "_kernels").resolve()
    assert int(length) == len((ROOT / "kernels" / "README.md").read_text(encoding="utf-8"))


def test_kernels_are_found_in_a_checkout() -> None:
    assert kernel_sources.folder() == ROOT / "kernels"
    assert kernel_sources.read("README.md") == (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")


def test_a_missing_kernel_file_is_an_error_that_lists_the_files() -> None:
    with pytest.raises(TensorliteError, match=r"no kernel file 'nothing\.cu'.*README\.md"):
        kernel_sources.read("nothing.cu")


def test_missing_kernels_are_an_error_that_names_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_sources, "_PACKAGE", tmp_path / "tensorlite")
    with pytest.raises(TensorliteError, match=r"_kernels nor .*kernels is a folder; reinstall"):
        kernel_sources.folder()


def requirements(name: str) -> set[str]:
    """The distributions that installing `name` brings, itself among them, by what is installed here."""
    packaging_requirements = pytest.importorskip("packaging.requirements")
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        lines = PROJECT["dependencies"] if current == "tensorlite" else importlib.metadata.requires(current)
        for line in lines or ():
            requirement = packaging_requirements.Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def test_an_installation_adds_less_than_ten_megabytes_to_numpy(installed: Path) -> None:
    brought = requirements("tensorlite") - requirements("numpy") - {"tensorlite"}
    sizes = {"tensorlite": folder_bytes(installed)}
    for name in brought:
        paths = [Path(str(file.locate())) for file in importlib.metadata.files(name) or ()]
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        assert sizes[name] > 0, f"no files are listed for {name}"
    assert sum(sizes.values()) < 10 * MEGABYTE, sizes


def test_dependencies_and_extras_are_those_promised() -> None:
    assert PROJECT["name"] == "tensorlite"
    assert PROJECT["version"] == tl.__version__
    assert PROJECT["requires-python"] == ">=3.11"
    assert "numpy>=2.1" in PROJECT["dependencies"]
    assert {"cuda12", "cuda13", "download", "test", "dev", "plot"} <= PROJECT["optional-dependencies"].keys()
