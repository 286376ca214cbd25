"""The CUDA backend without a GPU: real CuPy and NVRTC above stand-ins for driver, runtime, cuBLAS and cuBLASLt.

`install()` must run before CuPy is imported. It builds libraries of this folder with the host's compiler, loads them
under the names of NVIDIA's, and redirects the CUDA runtime that CuPy links statically. Kernels that are launched run in
the simulator, from the same source. It patches the running process for good: use a process of its own.

    PYTHONPATH=tests pytest -p fake_cuda.plugin tests/test_ops.py     # the devices present are then cpu, cuda:sim, cuda

Needs Linux on x86-64, a C++ compiler, and CuPy and NVRTC as the extras cuda12 or cuda13 install them. `missing()` says
what is not there.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from tensorlite.backends import get, host, kernel_sources, simulator_check, simulator_library
from tensorlite.errors import DeviceError

FOLDER = Path(__file__).resolve().parent
LAUNCH_FAILURE = 719  # cudaErrorLaunchFailure
SIZER = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)
LAUNCHER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint,
                            ctypes.c_void_p)


def missing() -> str | None:
    """Why the stand-in cannot be installed here; None where it can."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "the stand-in driver needs Linux on x86-64"
    if _compiler() is None or shutil.which("nm") is None:
        return "the stand-in driver needs a C++ compiler and nm"
    if importlib.util.find_spec("cupy_backends") is None:
        return "the stand-in driver needs CuPy"
    if not any(fields[-1] == "cudaMalloc" for fields in _symbols(_path_of("cupy_backends.cuda.api.runtime"))):
        return "this CuPy does not name the functions of its CUDA runtime, so they cannot be redirected"
    return None


def run_tests(*paths: str) -> str | None:
    """Run test files in a process of their own, with the stand-in; what they say if one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "fake_cuda.plugin", "-p", "no:cacheprovider", *paths]
    finished = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(FOLDER.parent)}, cwd=FOLDER.parent.parent,
                              capture_output=True, text=True, check=False)
    return finished.stdout + finished.stderr if finished.returncode else None


class Driver:
    """The stand-in driver of this process."""

    def __init__(self, library: ctypes.CDLL, products: ctypes.CDLL) -> None:
        self.library = library
        self._products = products  # cuBLASLt
        products.fake_products.restype = ctypes.c_ulonglong
        products.fake_descriptions.restype = ctypes.c_longlong
        library.fake_launches.restype = ctypes.c_ulonglong
        library.fake_objects.restype = ctypes.c_longlong
        library.fake_last_stream.restype = ctypes.c_void_p
        self.functions: dict[int, Any] = {}  # the driver's handle -> the simulator's function, or how to load it
        self._launcher = LAUNCHER(self._launch)  # kept alive
        self._sizer = SIZER(lambda handle: simulator_check.chosen(self._function(handle)).arguments_size)
        library.fake_on_sizing(self._sizer)
        self.run_kernels(True)

    @property
    def launches(self) -> int:
        """Kernels that ran, those of graphs among them."""
        return int(self.library.fake_launches())

    @property
    def products(self) -> int:
        """Products of cuBLASLt that ran."""
        return int(self._products.fake_products())

    @property
    def descriptions(self) -> int:
        """Descriptors, layouts and preferences of cuBLASLt that there are."""
        return int(self._products.fake_descriptions())

    @property
    def objects(self) -> int:
        """Streams, events and graphs that there are."""
        return int(self.library.fake_objects())

    def refuse_products(self, wanted: bool) -> None:
        """Whether cuBLASLt knows no way to multiply."""
        self._products.fake_refuse_products(wanted)

    @property
    def last_stream(self) -> int:
        """The handle of the stream of the last launch; 0 is the default one."""
        return self.library.fake_last_stream() or 0

    def run_kernels(self, wanted: bool) -> None:
        """Whether a launch runs its kernel; if not it does nothing, as for measuring what Python costs."""
        self.library.fake_on_launch(self._launcher if wanted else LAUNCHER(0))

    def configure(self, devices: int = 2, memory: int = 8 << 30, capability: int = 90) -> None:
        """GPUs that are there, the bytes of each, and their compute capability times ten."""
        self.library.fake_configure(devices, ctypes.c_size_t(memory), capability)

    def _launch(self, function: int, grid_and_block: Any, shared: int, arguments: int) -> int:
        try:
            self._simulate(function, tuple(grid_and_block[:6]), shared, arguments)
        except BaseException:  # a callback from C cannot raise; the backend sees a failed launch
            traceback.print_exc()
            return LAUNCH_FAILURE
        return 0

    def _simulate(self, handle: int, geometry: tuple[int, ...], shared: int, arguments: int) -> None:
        simulator_library.launch(self._function(handle), geometry[:3], geometry[3:], shared, arguments)

    def _function(self, handle: int) -> Any:
        function = self.functions[handle]
        if callable(function):
            function = self.functions[handle] = function()
        return function


_installed: Driver | None = None


def is_installed() -> bool:
    """Whether this process has the stand-in driver."""
    return _installed is not None


def install() -> Driver:
    """Put the stand-in in place, once per process. CuPy must not have been imported yet."""
    global _installed
    if _installed is None:
        if "cupy" in sys.modules:
            raise RuntimeError("install the stand-in driver before CuPy is imported")
        driver = ctypes.CDLL(str(_build(["driver.cpp", "streams.cpp"], "libcuda.so.1")), mode=ctypes.RTLD_GLOBAL)
        _load_blas()
        products = ctypes.CDLL(str(_build(["cublaslt.cpp"], "libcublasLt.so.12")))
        _redirect_runtime(driver)
        _installed = Driver(driver, products)
        _watch_loading(_installed)
    return _installed


def _compiler() -> str | None:
    try:
        return host.compiler()
    except DeviceError:
        return None


def _build(sources: list[str], name: str, extra: str = "") -> Path:
    """A shared library `name` of files of this folder and more text, built once per content."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.h"))]
    texts += [(FOLDER / source).read_text(encoding="utf-8") for source in sources]
    content = hashlib.sha256("".join([*texts, extra]).encode()).hexdigest()[:16]
    folder = kernel_sources.cache_folder() / "fake_cuda" / content
    library = folder / name
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{name}.{os.getpid()}"
        versions = folder / "versions"  # as NVIDIA's libraries name theirs
        versions.write_text(f"{name} {{ global: *; }};\n", encoding="utf-8")
        command = [str(_compiler()), "-std=c++17", "-O2", "-fPIC", "-shared", *[str(FOLDER / each) for each in sources],
                   "-x", "c++", "-", f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}", "-o", str(unfinished)]
        subprocess.run(command, input=extra, text=True, check=True)
        os.replace(unfinished, library)
    return library


def _path_of(module: str) -> str:
    """The file of a compiled module, which is not imported."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return spec.origin


def _symbols(path: str, *options: str) -> list[list[str]]:
    """The lines of nm, split."""
    listed = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in listed.splitlines()]


def _load_blas() -> None:
    """Load the stand-in for cuBLAS, with a refusing function for all that CuPy's module wants besides."""
    wrapper = _path_of("cupy_backends.cuda.libs.cublas")
    written = (FOLDER / "cublas.cpp").read_text(encoding="utf-8")
    wanted = [fields[-1].partition("@")[0] for fields in _symbols(wrapper, "-D", "--undefined-only")]
    refusing = [name for name in wanted if name.startswith("cublas") and f" {name}(" not in written]
    extra = 'extern "C" {\n' + "".join(f"int {name}() {{ return 15; }}\n" for name in refusing) + "}\n"
    name = _soname(wrapper)
    ctypes.CDLL(str(_build(["cublas.cpp"], name, extra)), mode=ctypes.RTLD_GLOBAL)


def _soname(wrapper: str) -> str:
    """The name under which CuPy's module asks for cuBLAS, such as libcublas.so.12."""
    found = re.search(rb"libcublas\.so\.\d+", Path(wrapper).read_bytes())
    assert found is not None
    return found.group().decode()


def _redirect_runtime(driver: ctypes.CDLL) -> None:
    """Let every function of the CUDA runtime in CuPy's module jump into the stand-in."""
    from cuda import pathfinder

    libs: Any = importlib.import_module("cupy_backends.cuda.libs")  # loads the runtime's module too
    real = libs._pathfinder
    libs._pathfinder = types.SimpleNamespace(  # cuBLAS is loaded already
        load_nvidia_dynamic_lib=lambda name: None if name == "cublas" else real.load_nvidia_dynamic_lib(name),
        DynamicLibNotFoundError=pathfinder.DynamicLibNotFoundError)
    path = _path_of("cupy_backends.cuda.api.runtime")
    base = next(int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines()
                if line.endswith(path))
    driver.fake_redirect.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    for fields in _symbols(path):
        if len(fields) == 3 and fields[1] in "tT" and re.fullmatch(r"cuda[A-Z]\w+", fields[2]):
            name = re.sub(r"(_v\d+|_ptsz|_ptds)+$", "", fields[2])
            target = getattr(driver, f"fake_{name}", driver.fake_unsupported)
            address = ctypes.cast(target, ctypes.c_void_p).value
            if driver.fake_redirect(base + int(fields[0], 16), address):
                raise OSError(f"cannot write over {fields[2]} of {path}")


def _watch_loading(driver: Driver) -> None:
    """Note which kernel instance stands behind each handle that the driver gives out."""
    from tensorlite.backends import cuda  # loads CuPy: the stand-in must be in place

    load = cuda.CudaBackend.load

    def watched(backend: Any, instance: Any, siblings: Any) -> int:
        handle = load(backend, instance, siblings)
        driver.functions[handle] = lambda: get("cuda:sim").function(instance, siblings)  # type: ignore[attr-defined]
        return handle

    cuda.CudaBackend.load = watched  # type: ignore[method-assign]
