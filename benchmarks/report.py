"""From the records in benchmarks/results to docs/benchmarks.md, its charts, and the README's section of figures.

    python benchmarks/report.py

Every figure on those pages is written by this script. A benchmark without a record is left out; the README is changed
between its two marks alone. Charts need matplotlib; without it the tables are written, and the charts stay as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE, README = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- written by benchmarks/report.py: begin -->\n", "<!-- written by benchmarks/report.py: end -->"

NAMED = ("numpy", "torch", "jax", "tinygrad", "cupy-cuda12x", "cupy-cuda13x")  # packages whose versions matter
BUSY = 0.5  # load beyond that of the cores, which the benchmark before may have made, from which a record says so

# A chart's name -> the record that it is drawn from.
CHARTS = {"train_step": "train_step", "grid": "train_step", "mnist": "mnist_job", "growth": "growth",
          "bandwidth": "cpu_bandwidth", "footprint": "footprint"}

INTRODUCTION = '''# Benchmarks

Every figure and chart here is written by `make bench`: benchmarks/run.py measures and leaves records in
benchmarks/results, benchmarks/report.py turns them into this page. Under each stands what it was measured on. Figures
of different machines, or of a busy one, do not compare; the ratios are of subjects that took turns on one machine.

What is measured is the step that a user writes, on data that a user has:

```python
model = nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
optimizer = optim.Adam(model.parameters(), lr=1e-3)

@tl.capture                                        # eager without this line
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

losses = [step(tl.randn(16, 784), tl.randint(0, 10, (16,))).item() for _ in range(4)]
```

What makes a comparison fair:

- **The same mathematics.** Initial weights, data and batch order are drawn by NumPy and handed to all. Before any clock
  starts, the losses of the first steps must agree to a part in a thousand.
- **The same machine.** All cores, and the same ones, for every BLAS, OpenMP and XLA pool. Each subject sits in a
  process of its own; they take turns, each round beginning with another; reported are medians.
- **Rivals at their best.** torch with its fused Adam and with `torch.compile(mode="max-autotune")` for the shape at
  hand, JAX as one jitted function with donated buffers that does not wait between steps, tinygrad under TinyJit, and
  NumPy by hand with every buffer reused.
- **Normal numbers.** Runs are 500 steps at most, so that no gradient or moment becomes denormal, and this is checked;
  what denormal numbers cost is measured apart.
- **The whole step.** A turn ends when the last loss has been read and all work is done.
'''


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measured_on(record: dict[str, Any]) -> str:
    """The line under a table."""
    gpu = (record.get("gpu") or {}).get("name")
    where = gpu or f"{record['cpu'].strip()}, {record['threads']} threads, {record['memory_gb']} GB"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if name in NAMED)
    load = record["load"] or 0
    busy = f"; the machine was busy, load {load:.1f}" if load > record["cores"] + BUSY else ""
    return (f"*{where}; {record['system'].split('-')[0]}, Python {record['python']}, {versions}; commit "
            f"{record['commit']}, {record['date'][:10]}{busy}.*\n")


def microseconds(value: float) -> str:
    """In µs below ten milliseconds, else in ms."""
    return f"{value:,.0f} µs" if value < 1e4 else f"{value / 1e3:,.1f} ms"


def seconds(value: float | None) -> str:
    """Two digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.2f} s"


def step_table(record: dict[str, Any], key: str = "median_us") -> str:
    """Subjects down, sizes across, then the ratio to the fastest rival."""
    rows = record["rows"]
    header = ["a step of 784-h-h-10"] + [f"h {row['hidden']}, batch {row['batch']}" for row in rows]
    lines = [[label] + [microseconds(row[key][name]) for row in rows] for name, label in record["labels"].items()
             if all(name in row[key] for row in rows)]
    if key == "median_us" and all("ratio" in row for row in rows):
        lines.append(["**fastest rival**"] + [record["labels"][row["fastest_rival"]] for row in rows])
        lines += [[f"**{record['labels'][name]} / fastest rival**"] + [
            f"**{row['ratio'][name]:.2f}** ({row['ratio_of_minima'][name]:.2f})" for row in rows]
            for name in ("tensorlite-captured", "tensorlite-numpy") if name in record["labels"]]
    return table(header, lines)


def step_section(record: dict[str, Any]) -> Iterator[str]:
    """The training step: four sizes, with losses read, and the grid."""
    yield "## A training step\n"
    yield "![A training step at four sizes](images/train_step.svg)\n"
    yield ("The ratio is the median over rounds; in brackets that of the quickest rounds: where the two differ, the "
           "machine was busy with something else.\n")
    yield step_table(record)
    for name, reason in record["missing"].items():
        yield f"Left out: {name}, {reason}.\n"
    yield "The same with the loss read after every step, which ends whatever a library queues ahead:\n"
    yield step_table(record, "median_us_reading_each_loss")
    yield measured_on(record)
    worst = max(share for row in record["rows"] for share in row["denormal_share"].values())
    yield f"Denormal numbers among gradients and moments, at most: {worst:.2%}.\n"
    if record["grid"]:
        yield "## From small to large\n"
        yield "![Ratios by width and batch](images/grid.svg)\n"
        names = list(record["grid"][0]["median_us"])
        yield table(["hidden, batch"] + [record["labels"][name] for name in names] + ["captured / fastest rival"], [
            [f"{row['hidden']}, {row['batch']}"] + [microseconds(row["median_us"][name]) for name in names]
            + [f"{row['ratio'][names[0]]:.2f}" if "ratio" in row else "-"] for row in record["grid"]])
        yield measured_on(record)


def layers_table(record: dict[str, Any]) -> str:
    """Subjects down; for each model the step, its ratio to torch's, and its memory."""
    rows = record["rows"]
    header = ["a training step"] + [title for row in rows for title in (row["label"], "times torch's", "memory")]
    names = [name for name in record["labels"] if any(name in row["median_us"] for row in rows)]
    return table(header, [[record["labels"][name]] + [cell for row in rows for cell in _layers_cells(row, name)]
                          for name in names])


def _layers_cells(row: dict[str, Any], name: str) -> list[str]:
    if name not in row["median_us"]:
        return ["-", "-", "-"]
    ratio = f"{row['ratio'][name]:.2f} ({row['ratio_of_minima'][name]:.2f})" if "ratio" in row else "-"
    return [microseconds(row["median_us"][name]), ratio, f"{row['memory_bytes'][name] / 1e6:.1f} MB"]


def layers_section(record: dict[str, Any]) -> Iterator[str]:
    """Convolutions and attention: LeNet and a small GPT."""
    yield "## LeNet and a small GPT\n"
    yield ("Adam and cross entropy. The ratio is the median over rounds; in brackets that of the quickest rounds. "
           "Memory is what the first steps add to the process: gradients, activations, optimizer state, and what a "
           "recording or a compiled step keeps.\n")
    yield layers_table(record)
    yield measured_on(record)


def mnist_table(record: dict[str, Any], job: str) -> str:
    """Wall time of the whole job, and until each accuracy was reached."""
    result = record["jobs"][job]
    shares = ("97%", "98%", "99%")
    first = result["median_s"].get("tensorlite")
    rows = [[record["labels"][name], seconds(value), f"{value / first:.2f}" if first else "-",
             f"{result['accuracy'][name]:.2%}"] + [seconds(result["seconds_to"][name][share]) for share in shares]
            for name, value in result["median_s"].items()]
    title = "784-" + "-".join(map(str, result["hidden"])) + f"-10, {result['epochs']} epochs"
    reached = [f"to {share[:2]} %" for share in shares]
    return table([title, "whole job", "times tensorlite's", "right at the end", *reached], rows)


def mnist_section(record: dict[str, Any]) -> Iterator[str]:
    """Both jobs."""
    yield "## MNIST, the whole job\n"
    yield "![Accuracy against time](images/mnist.svg)\n"
    yield ("Wall time from the start of the process: imports, compiling, reading the files, training, and a test after "
           "each epoch. Libraries find what they compiled in an earlier process, unless the row says otherwise. The "
           "first recipe is plain; the second moves each digit by up to a pixel in every epoch and smooths labels by "
           "0.1.\n")
    if record["sample"]:
        yield "*Measured with the sample of 7,000 digits inside the package: no threshold means anything.*\n"
    for job in record["jobs"]:
        yield mnist_table(record, job)
    yield measured_on(record)


def growth_section(record: dict[str, Any]) -> Iterator[str]:
    """Time and memory against depth, width and batch."""
    yield "## How the cost grows\n"
    yield "![Time and memory against depth, width and batch](images/growth.svg)\n"
    for axis, result in record["axes"].items():
        header = [axis] + [f"{point:,}" for point in result["points"]]
        yield table(header, [
            [record["labels"][name]] + [f"{microseconds(us)}, {size / 1e6:,.1f} MB" for us, size in
                                        zip(measured["us"], measured["bytes"], strict=True)]
            for name, measured in result["measured"].items()])
    yield ("Memory is the process's peak beyond what it had before the network was built; depth is in layers of width "
           "16, batch 16; width in two layers at batch 16; batch in two layers of 64.\n")
    yield measured_on(record)


def bandwidth_section(record: dict[str, Any]) -> Iterator[str]:
    """Kernels against a measured copy."""
    libraries = {"tensorlite": "tensorlite, compiled", "tensorlite-numpy": "tensorlite, NumPy", "torch": "torch"}
    yield "## Kernels against the machine's copy\n"
    yield "![GB/s of each operation](images/bandwidth.svg)\n"
    for elements in record["elements"]:
        copy = record["copy"][str(elements)]["gb_per_s"]
        yield (f"{elements:,} numbers each, GB/s; a copy moves {copy:.1f} GB/s. Bytes are the least that an operation "
               "must move; one with much arithmetic cannot come near the copy.\n")
        yield table(["operation", *libraries.values()], [
            [row["row"]] + [f"{value:.1f}" if (value := row["measured"].get(name, {}).get("gb_per_s")) else "-"
                            for name in libraries] for row in record["rows"] if row["elements"] == elements])
    yield measured_on(record)


def footprint_section(record: dict[str, Any]) -> Iterator[str]:
    """Import, disk, memory."""
    yield "## Import time, installed size, peak memory\n"
    yield "![Import time, installed size, peak memory](images/footprint.svg)\n"
    yield table(["library", "import", "on disk, with all that it requires", "peak memory of a small training run"], [
        [name, f"{value * 1e3:.0f} ms", f"{record['installed_bytes'][name] / 1e6:.1f} MB",
         f"{record['peak_bytes'][name] / 1e6:.0f} MB" if name in record["peak_bytes"] else "-"]
        for name, value in record["import_s"].items()])
    yield measured_on(record)


def denormals_section(record: dict[str, Any]) -> Iterator[str]:
    """The step whose optimizer state is denormal."""
    yield "## Denormal numbers\n"
    yield ("Units that died get gradients of zero, and Adam's moments fade through the denormal numbers, on which "
           "processors are slower, some twice, some a hundred times. The worst case, all units dead, at hidden 256, "
           "batch 128:\n")
    yield table(["a step", "normal numbers", "denormal moments", "ratio"], [
        [row["label"], microseconds(row["normal_us"]), microseconds(row["denormal_us"]),
         f"{row['denormal_us'] / row['normal_us']:.2f}"] for row in record["rows"]])
    yield measured_on(record)


def gpu_section(results: Path) -> Iterator[str]:
    """What `make gpu` left, if it ever ran on a GPU."""
    yield "## On a GPU\n"
    records = [json.loads(path.read_text()) for path in sorted(results.glob("gpu-*/gpu_step.json"))]
    if not records:
        yield ("Nothing here has been measured on a GPU: none was at hand. `make gpu` runs tests, sanitizer and "
               "benchmarks on one in nine minutes.\n")
    for record in records:
        yield table([f"a step of 784-{'-'.join(map(str, record['hidden']))}-10, batch {record['batch']}",
                     "until the device is done", "of it on the host", "captured / this"], [
            [record["labels"][name], f"{result['step_us']:.1f} µs", f"{result['host_us']:.1f} µs",
             f"{record['ratios'][name]:.2f}" if name in record["ratios"] else "-"]
            for name, result in record["results"].items()])
        yield measured_on(record)


SECTIONS = {"train_step": step_section, "layers_step": layers_section, "mnist_job": mnist_section,
            "growth": growth_section, "cpu_bandwidth": bandwidth_section, "footprint": footprint_section,
            "denormals": denormals_section}


def page(records: dict[str, dict[str, Any]], results: Path) -> str:
    """docs/benchmarks.md."""
    parts = [INTRODUCTION]
    for name, section in SECTIONS.items():
        if name in records:
            parts += section(records[name])
    return "\n".join([*parts, *gpu_section(results)])


def readme_section(records: dict[str, dict[str, Any]]) -> str:
    """The README's figures: the steps, the MNIST job, the footprint."""
    parts = []
    if "train_step" in records:
        parts += ["![A training step at four sizes](docs/images/train_step.svg)\n", step_table(records["train_step"]),
                  measured_on(records["train_step"])]
    if "layers_step" in records:
        parts += [layers_table(records["layers_step"]), measured_on(records["layers_step"])]
    if "mnist_job" in records:
        parts += ["![MNIST, accuracy against time](docs/images/mnist.svg)\n"]
        parts += [mnist_table(records["mnist_job"], job) for job in records["mnist_job"]["jobs"]]
        parts += [measured_on(records["mnist_job"])]
    if "footprint" in records:
        parts += ["![Import time, size, memory](docs/images/footprint.svg)\n"]
    return "\n".join(parts)


def with_section(text: str, section: str) -> str:
    """A text in which `section` stands between the two marks. Exits where the marks are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"README.md needs both marks once:\n{BEGIN}{END}")
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{section}\n{END}", text,
                  flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args()
    records = {name: json.loads(path.read_text()) for name in SECTIONS
               if (path := options.results / f"{name}.json").exists()}
    if common.installed("matplotlib"):
        charts = importlib.import_module("charts")
        for name, record in CHARTS.items():
            if record in records and (name != "grid" or records[record]["grid"]):
                getattr(charts, name)(records[record], options.images / f"{name}.svg")
    else:
        print("matplotlib is not installed: the charts are not drawn")
    options.page.write_text(page(records, options.results), encoding="utf-8")
    readme = options.readme.read_text(encoding="utf-8")
    options.readme.write_text(with_section(readme, readme_section(records)), encoding="utf-8")
    print(f"written: {options.page}, {options.readme}, charts in {options.images}")


if __name__ == "__main__":
    main()
