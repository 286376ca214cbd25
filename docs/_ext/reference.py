"""The API reference: a page for each part of the library, written from the docstrings of its public names.

A docstring here is Markdown already, but for its tables of arguments and its examples: see `markdown`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from repository import put

import tensorlite as tl
from tensorlite import (
    accelerator,
    amp,
    autograd,
    compat,
    cuda,
    data,
    errors,
    insight,
    linalg,
    nn,
    optim,
    random,
    simulator,
    testing,
)
from tensorlite.autograd.op import Op
from tensorlite.data import transforms
from tensorlite.dtypes import DType
from tensorlite.insight import cards, doctor, meters
from tensorlite.nn import functional, init, utils
from tensorlite.optim import lr_scheduler

if TYPE_CHECKING:  # the tests read these pages without Sphinx
    from sphinx.application import Sphinx


class Page(NamedTuple):
    """A page: its file, its title, what stands above the names, and the names: (as a user writes it, the object)."""

    file: str
    title: str
    names: list[tuple[str, Any]]
    above: str = ""


def public(module: types.ModuleType, prefix: str, chosen: Callable[[Any], bool] = lambda value: True,
           ) -> list[tuple[str, Any]]:
    """The functions and classes that a module offers, aliases of the same object once, under the first name."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in inspect.getmembers(module):
        ours = getattr(value, "__module__", "") or ""
        if not name.startswith("_") and (callable(value) or isinstance(value, Op)) and ours.startswith("tensorlite"):
            if not inspect.ismodule(value) and chosen(value):
                first = found.get(id(value))
                if first is None or name == value.__name__:
                    found[id(value)] = f"{prefix}.{name}", value
    return sorted(found.values(), key=lambda pair: pair[0].lower())


def comes_from(*modules: str) -> Callable[[Any], bool]:
    """Whether something is defined in one of some modules of the library, or below."""
    whole = tuple(f"tensorlite.{name}" for name in modules)
    return lambda value: any(value.__module__ == name or value.__module__.startswith(f"{name}.") for name in whole)


def pages() -> list[Page]:
    """All pages, in the order of the table of contents."""
    math = ("ops.elementwise", "ops.activation", "ops.logic")
    sums = ("ops.reduce", "ops.order", "ops.matmul", "ops.einsum", "ops.fused")
    listed = comes_from(*math, *sums)
    others = [(name, value) for name, value in public(tl, "tl", comes_from("ops")) if not listed(value)]
    return [
        Page("tensor", "Tensor", [("tensorlite.Tensor", tl.Tensor)]),
        Page("creation", "Making tensors", public(tl, "tl", comes_from("creation", "sampling"))),
        Page("math", "Elementwise mathematics", public(tl, "tl", comes_from(*math))),
        Page("reductions", "Sums, means, sorting, products", public(tl, "tl", comes_from(*sums))),
        Page("linalg", "Linear algebra: linalg", public(linalg, "tl.linalg", comes_from("linalg", "ops"))),
        Page("shapes", "Shapes, indexing, and the other operations", others),
        Page("autograd", "Autograd", public(autograd, "tl.autograd")),
        Page("nn", "Layers: nn", public(nn, "nn")),
        Page("functional", "Functions: nn.functional", public(functional, "F")),
        Page("nn_init", "Initial values: nn.init", public(init, "nn.init")),
        Page("nn_utils", "nn.utils", public(utils, "nn.utils")),
        Page("optim", "Optimizers: optim", public(optim, "optim")),
        Page("lr_scheduler", "Learning rates: optim.lr_scheduler", public(lr_scheduler, "optim.lr_scheduler")),
        Page("data", "Data", public(data, "tl.data")),
        Page("transforms", "Transforms of images: data.transforms", public(transforms, "tl.data.transforms")),
        Page("capture", "Capture and mixed precision",
             [*public(tl, "tl", comes_from("capture", "amp")), *public(amp, "tl.amp")]),
        Page("insight", "Insight: what makes it visible",
             [*at_the_top(public(insight, "tl.insight")), ("tl.doctor", tl.doctor),
              *((f"tl.insight.doctor.{found.__name__}", found) for found in (doctor.Report, doctor.Finding)),
              *public(cards, "tl.insight.cards")]),
        Page("meters", "Meters", public(meters, "tl.meters")),
        Page("io", "Saving and loading", public(tl, "tl", comes_from("io", "safetensors_format"))),
        Page("random", "Random numbers", public(random, "tl.random", comes_from("random"))),
        Page("dtypes", "Dtypes, devices, errors",
             [*public(tl, "tl", comes_from("dtypes", "backends", "inspection", "printing")),
              ("tl.show_config", tl.show_config), ("tl.compile_kernels", tl.compile_kernels),
              ("tl.set_flush_denormal", tl.set_flush_denormal), *public(errors, "tl.errors")], dtypes()),
        Page("cuda", "GPUs, kernels, the simulator",
             [*public(cuda, "tl.cuda"), *public(accelerator, "tl.accelerator"), ("tl.kernel", tl.kernel),
              *public(simulator, "tl.simulator")]),
        Page("testing", "Testing", public(testing, "tl.testing")),
        Page("compat", "PyTorch scripts: compat", public(compat, "compat")),
    ]


def at_the_top(names: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Names of a package as `tl.name`, where tensorlite itself has them."""
    return [(f"tl.{value.__name__}" if hasattr(tl, value.__name__) else name, value) for name, value in names]


def dtypes() -> str:
    """A table of the dtypes with their aliases."""
    names: dict[DType, list[str]] = {}
    for name, value in vars(tl).items():
        if isinstance(value, DType):
            names.setdefault(value, []).append(f"`tl.{name}`")
    rows = [f"| {', '.join(sorted(names[dtype], key=len, reverse=True))} | {dtype.itemsize} |" for dtype in names]
    return "\n".join(["| dtype | bytes |", "| --- | ---: |", *rows, ""])


# --- one name -------------------------------------------------------------------------------------------------------


def entry(name: str, value: Any) -> str:
    """What the reference says of one name."""
    kind = "class" if inspect.isclass(value) else "function"
    lines = [f"`````{{py:{kind}}} {name}{signature(value)}", "", markdown(inspect.getdoc(value) or ""), ""]
    if inspect.isclass(value):
        for member, function in methods(value):
            lines += [f"````{{py:method}} {member}{signature(function)}", "", markdown(inspect.getdoc(function) or ""),
                      "````", ""]
    return "\n".join([*lines, "`````", ""])


def methods(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """The public methods that a class has by itself or, for Tensor, from the classes that make it up."""
    owners = [c for c in cls.__mro__ if c.__module__.startswith("tensorlite")] if cls is tl.Tensor else [cls]
    found = {name: value for owner in reversed(owners) for name, value in vars(owner).items()}
    for name, value in sorted(found.items()):
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (callable(function) or isinstance(function, Op)):
            if inspect.getdoc(function) and not inspect.isclass(function):
                yield name, function


def signature(value: Any) -> str:
    """The parameters with their defaults, without annotations; those that every op and method has are left out."""
    try:
        found = inspect.signature(value.__init__ if inspect.isclass(value) and "__init__" in vars(value) else value)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    if isinstance(value, Op) or (parameters and parameters[0].name == "self"):
        parameters = parameters[1:]
    text = str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    return re.sub(r"<([\w.]+)[^>]*>", r"\1", text)


ARGUMENT = re.compile(r"^([\w*][\w*, /.()]*?)(?: {2,}|\t)(\S.*)$")
CODE = re.compile(r"(`+[^`]*`+)")


def markdown(text: str) -> str:
    """A docstring as Markdown: examples and tables become blocks, arguments a list, stars stay stars."""
    return "\n\n".join(block(paragraph) for paragraph in re.split(r"\n\s*\n", text.strip("\n")) if paragraph.strip())


def block(paragraph: str) -> str:
    lines = paragraph.split("\n")
    if paragraph.lstrip().startswith(">>>"):
        return f"```pycon\n{inspect.cleandoc(paragraph)}\n```"
    if all(line.startswith(" ") for line in lines) or "──" in paragraph or any("|" in line for line in lines[1:]):
        return f"```text\n{paragraph}\n```"
    items: list[str] = []
    for line in lines:
        if found := ARGUMENT.match(line):
            items.append(f"- `{found[1]}`: {escaped(found[2])}")
        elif items and line.startswith(" "):
            items[-1] += f"\n  {escaped(line.strip())}"
        else:
            items.append(escaped(line))
    joined: list[str] = []
    for item in items:
        if joined and item.startswith("- ") != joined[-1].startswith("- "):
            joined.append("")
        joined.append(item)
    return "\n".join(joined)


def escaped(text: str) -> str:
    """Text in which Markdown sees no emphasis, link or tag; what stands in backticks is left alone."""
    parts = CODE.split(text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]$|#\\])", r"\\\1", part) for part in parts)


# --- Sphinx ---------------------------------------------------------------------------------------------------------


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    listed = pages()
    for page in listed:
        entries = [entry(*name) for name in page.names]
        put(folder / f"{page.file}.md", "\n".join([f"# {page.title}", "", page.above, *entries]))
    contents = ["# API reference", "", "Written from the docstrings, whose examples run as tests. `tl` is tensorlite, "
                "`F` is `tensorlite.nn.functional`. {ref}`All names <genindex>` in one list.", "",
                "```{toctree}", ":maxdepth: 1", "", *(page.file for page in listed), "```", ""]
    put(folder / "index.md", "\n".join(contents))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
