"""Who imports whom in the package, read from its syntax trees, and what `import tensorlite` loads.

A module imports only modules of its own layer or of a layer before it, and no modules import each other in a
ring. `if TYPE_CHECKING:` blocks do not count: they do not run. Imports in functions are of optional packages.
"""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tensorlite"

# Names below tensorlite; one that stands for a package stands for all in it, except what is listed by itself.
LAYERS = (
    ("errors", "hooks"),
    ("mistakes",),
    ("dtypes",),
    ("backends",),
    ("random",),
    ("autograd",),
    ("ops",),
    ("accelerator", "creation", "cuda", "inplace", "inspection", "linalg", "methods",
     "numpy_protocol", "printing", "sampling", "tensor"),
    ("nn.functional",),
    ("nn", "optim"),
    ("amp", "capture", "data", "files", "io", "safetensors_format", "utils"),
    ("custom", "custom_check", "simulator", "testing"),
    ("insight",),
    ("",),
    ("compat",),
)
OPTIONAL = {"PIL", "cupy", "cupyx", "cupy_backends", "matplotlib", "ml_dtypes", "pooch", "safetensors", "tensorboardX",
            "tqdm"}
LOADED_BY_DEVICE_NAME = {"tensorlite.backends.cuda"}  # imported only where its device is asked for


def module_name(path: Path) -> str:
    """tensorlite/nn/__init__.py -> "tensorlite.nn"."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(FILES)


def is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def imports(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement that can run below a node, and whether it stands in a function."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, in_function
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, ast.If) and is_type_checking(node.test):
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    for child in children:
        yield from imports(child, inside)


def targets(module: str, statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules that a statement in `module` imports, by their full names."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
        anchor = package[: len(package) - statement.level + 1]
        base = ".".join([*anchor, base] if base else anchor)
    for alias in statement.names:
        submodule = f"{base}.{alias.name}"
        yield submodule if submodule in FILES else base


def imported_by(module: str) -> Iterator[tuple[str, bool, int]]:
    """(imported module, stands in a function, line) for each import of a module."""
    for statement, in_function in imports(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        for target in targets(module, statement):
            yield target, in_function, statement.lineno


def inside_imports(module: str) -> set[str]:
    """The modules of the package that a module imports when it is loaded."""
    return {target for target, _, _ in imported_by(module) if target.split(".")[0] == "tensorlite"}


def layer(module: str) -> int:
    """The place of the longest listed name that a module is or lies in; an unlisted module is an error."""
    name = module.removeprefix("tensorlite").removeprefix(".")
    while True:
        for place, names in enumerate(LAYERS):
            if name in names and (name or module == "tensorlite"):
                return place
        if not name:
            raise AssertionError(f"{module} is in no layer: give it a place in LAYERS")
        name = name.rpartition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_left(module: str) -> None:
    wrong = [target for target in inside_imports(module) if layer(target) > layer(module)]
    assert not wrong, f"{module} imports {wrong}, which come after it"


def test_no_ring_of_imports() -> None:
    # A package's __init__ that gathers its submodules is no ring with them as long as they do not import it.
    graph = {module: inside_imports(module) - {module} for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_imports_in_functions_are_of_optional_packages(module: str) -> None:
    for target, in_function, line in imported_by(module):
        optional = target.split(".")[0] in OPTIONAL
        if in_function:
            assert optional, f"{module}:{line} imports {target} inside a function"
        elif module not in LOADED_BY_DEVICE_NAME:
            assert not optional, f"{module}:{line} imports {target} when it is loaded, not on first use"


def test_importing_tensorlite_loads_nothing_optional() -> None:
    command = "import json, sys, tensorlite; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    loaded = set(json.loads(finished.stdout))
    assert "tensorlite.tensor" in loaded
    unwanted = OPTIONAL | {"torch", "numpy.random", "requests", "urllib3"}
    assert not loaded & unwanted


def test_without_optional_packages_insight_loads_and_the_simulator_trains() -> None:
    """As `pip install tensorlite` leaves a machine: no bfloat16 to name in a table or to compare dtypes with."""
    program = f"""if True:
        import importlib, sys
        sys.modules.update(dict.fromkeys({sorted(OPTIONAL - {"tqdm"})}))  # their import raises
        import tensorlite as tl
        from tensorlite import nn
        for module in {[m for m in MODULES if m.startswith(("tensorlite.insight", "tensorlite.backends.kernels"))]}:
            importlib.import_module(module)
        assert tl.explain("relu")
        image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()).to("cuda:sim")
        recurrent, attention = nn.GRU(2, 4).to("cuda:sim"), nn.MultiheadAttention(4, 1).to("cuda:sim")
        x, _ = recurrent(image(tl.randn(3, 1, 4, 4, device="cuda:sim")).unsqueeze(0))
        attention(x, x, x)[0].sum().backward()
        assert image[0].weight.grad is not None
    """
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not finished.returncode, finished.stderr


def test_the_reader_of_imports_sees_what_it_should() -> None:
    source = (
        "import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "def f():\n    if x:\n        import d\ntry:\n    import e\nexcept ImportError:\n    pass\n"
    )
    found = {(s.names[0].name, in_function) for s, in_function in imports(ast.parse(source))}
    assert found == {("a", False), ("c", False), ("d", True), ("e", False)}
