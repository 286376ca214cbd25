"""docs/audit.md, made of the record: all ops at a glance, then by family and dtype, then the reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import cases
import cases_attention
import cases_conv
import cases_functional
import cases_margins
import cases_norm
import cases_pool
import cases_recurrent
import cases_selecting
import cases_statistics

from auditing import reasons
from auditing.record import ROOT

FILE = ROOT / "docs" / "audit.md"
FLOATS = ("float64", "float32", "float16", "bfloat16")
FAMILIES = {
    "Elementwise": cases.ELEMENTWISE,
    "Activations": [*cases.ACTIVATIONS, *cases_functional.ACTIVATIONS, *cases_margins.CUTS],
    "Comparison and logic": cases.LOGIC, "Reductions and scans": [*cases.REDUCTIONS, *cases_statistics.STATISTICS],
    "Shapes and movement": cases.MOVEMENT,
    "Products": [*cases.PRODUCTS, *cases.FUSED, *cases_functional.LINEAR],
    "Indexing and order": [*cases.INDEXING, *cases_selecting.SELECTING], "Attention": cases_attention.ATTENTION,
    "Convolution": cases_conv.CONVOLUTIONS, "Normalisation": [*cases_norm.NORMS, *cases_functional.NORMS],
    "Pooling": [*cases_pool.POOLING, *cases_functional.POOLING],
    "Windows and resampling": [*cases_pool.WINDOWS, *cases_functional.RESAMPLING],
    "Recurrent": cases_recurrent.RECURRENT, "Losses": [*cases_functional.LOSSES, *cases_margins.MARGINS],
}
OTHERS = "Others"
Row = dict[str, Any]

HEAD = """# Accuracy of every operation

How far is each operation from the exact result, in which dtype, on which device? This page is made by `python
tools/audit.py` (`make audit`) of {count} measurements, and CI fails when it is no longer true. The numbers stand in
`tensorlite/insight/audit.json` too, where `tl.explain` reads them.

**ulp** is the error in *units in the last place*: |computed - exact|, divided by the distance of neighbouring numbers
of the result's dtype at the exact value. ½ means rounded correctly. The exact value is that of a reference in numbers
of 60 digits, for the inputs of the test table and, for elementwise operations, for points at which formulas break:
zero, denormal, tiny, near 1, huge, and some of all magnitudes. Published is the largest error seen, rounded up to 0,
0.5, 1, 2, 5, 10, 20 and so on; 0 means that each number was exact.

**of terms**, behind a slash, is the same error in units of the sum of absolute values of what was added up. Where
terms cancel, as in 1 - 0.999, no sum is accurate to the last place of what is left, and this is the figure to go by.

**gradient** is the largest error of a gradient against central differences of the reference with a step of 2⁻⁶⁰ in 60
digits, in units in the last place of max(1, |exact|), for incoming gradients up to 1. **second**: second derivatives
are derivatives of the first (`tl.testing.gradgradcheck` in float64; in other dtypes as in float64).

**PyTorch**: the same call in PyTorch gives the same values, dtypes, shapes and gradients, also for NaN, infinity,
empty and 0-d tensors, ties and broadcasting; else what differs is named, and why. - means that PyTorch has no such
function. **captured**: `tl.capture` replays the same bits. **kernels**: how many of the kernel instances of this kind
the audit ran on `cuda:sim`, of all that are compiled for the GPU; tests of the kernels run more of them.

A row that is not exact names its [reasons](#reasons). The rows of one operation stand on its card, too:

```python
>>> print(tl.explain("softmax"))                  # doctest: +ELLIPSIS
op 'softmax'
...
audit ...
```

Measured on {machine} with NumPy {numpy} ({blas}), Python {python}, {compiler}. On another machine no figure may be
worse by more than one step. There is no GPU in it: `cuda:sim` runs the text of the CUDA kernels on the host, whose
exp is not the GPU's.
"""


def write(record: dict[str, Any]) -> None:
    FILE.write_text(text(record), encoding="utf-8")


def text(record: dict[str, Any]) -> str:
    """The page."""
    by_op: dict[str, list[Row]] = defaultdict(list)
    for row in record["rows"]:
        by_op[row["op"]].append(row)
    parts = [HEAD.format(count=f"{len(record['rows']):,}", **record["environment"]), "## All operations\n",
             _table(["operation", "cpu: ulp", "gradient", "cuda:sim: ulp", "gradient", "second", "PyTorch", "captured",
                     "kernels", "why"], [_glance(name, rows) for name, rows in sorted(by_op.items())])]
    for family, names in _families(by_op).items():
        parts += [f"## {family}\n", "Per dtype the worst of ulp (of terms) and gradient, on `cpu` and on `cuda:sim`.\n",
                  _table(["operation", "device", *FLOATS, "integers"],
                         [line for name in names for line in _details(name, by_op[name])])]
    parts += ["## Reasons\n", *_reasons(record["rows"])]
    return "\n".join(parts)


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {family: [] for family in (*FAMILIES, OTHERS)}
    for name in sorted(names):
        family = next((f for f, rows in FAMILIES.items() if any(case.op == name for case in rows)), OTHERS)
        found[family].append(name)
    return {family: members for family, members in found.items() if members}


def _glance(name: str, rows: list[Row]) -> list[str]:
    cells = [f"`{name}`"]
    for device in ("cpu", "cuda:sim"):
        here = [row for row in rows if row["device"] == device]
        cells += [_forward(here), _worst(here, "gradient_error")]
    double = {row["double_gradient"] for row in rows} - {None}
    whys = sorted({why for row in rows for why in row["note"].split(", ") if why})
    return [*cells, ("wrong" if "wrong" in double else "ok") if double else "-", _parity(rows), _captured(rows),
            _kernels(rows), " ".join(f"[{why}](#{why})" for why in whys)]


def _details(name: str, rows: list[Row]) -> Iterable[list[str]]:
    for device in ("cpu", "cuda:sim"):
        here = {row["dtype"]: row for row in rows if row["device"] == device}
        integers = [row for dtype, row in here.items() if dtype not in FLOATS]
        cells = [_both([here[dtype]]) if dtype in here else "" for dtype in FLOATS]
        yield [f"`{name}`" if device == "cpu" else "", device, *cells, _both(integers) if integers else ""]


def _both(rows: list[Row]) -> str:
    gradient = _worst(rows, "gradient_error")
    return _forward(rows) + (f" · {gradient}" if gradient != "-" else "")


def _forward(rows: list[Row]) -> str:
    strict, terms = _worst(rows, "forward_ulp"), _worst(rows, "forward_ulp_of_terms")
    return strict if strict == terms else f"{strict}/{terms}"


def _worst(rows: list[Row], name: str) -> str:
    figures = [row[name] for row in rows if name != "gradient_error" or row["double_gradient"] is not None]
    if not figures:
        return "-"
    return "∞" if None in figures else _short(max(figures))


def _short(figure: float) -> str:
    return f"{figure:g}" if figure < 1e4 else f"{figure:.0e}".replace("e+0", "e").replace("e+", "e")


def _parity(rows: list[Row]) -> str:
    if all(row["parity"] is None for row in rows):
        return "-"
    aspects = sorted({aspect for row in rows for aspect in reasons.differing(row)})
    return ", ".join(aspects) if aspects else "same"


def _captured(rows: list[Row]) -> str:
    return ", ".join(sorted({row["captured"] for row in rows}))


def _kernels(rows: list[Row]) -> str:
    ran, listed = (sum(row["instances"][i] for row in rows if "instances" in row) for i in range(2))
    return f"{ran}/{listed}" if listed else "-"


def _reasons(rows: list[Row]) -> Iterable[str]:
    """A paragraph for each reason; for differences to PyTorch one for each op."""
    used = {why for row in rows for why in row["note"].split(", ") if why}
    for name, meaning in reasons.TEXTS.items():
        if name in used:
            yield f"### {name}\n\n{meaning}\n"
    yield "### torch\n\nWhere the result is another one than PyTorch's, it is so for a reason:\n"
    yield _table(["operation", "aspects", "why"], [[f"`{op}`", ", ".join(aspects), why] for op, (aspects, why) in
                                                  sorted(reasons.DIFFERENCES.items())])


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
