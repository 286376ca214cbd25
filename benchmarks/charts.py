"""The charts of docs/benchmarks.md and of the README, drawn from the benchmarks' records as SVG files.

One style for all: light background, colours that colour-blind people can tell apart, tensorlite always blue, names at
the lines and bars instead of a legend, and under each chart what it was measured on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

BLUE, SKY, ORANGE, AMBER, GREEN, GREY, DARK = (
    "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#8C8C8C", "#4D4D4D")
COLOURS = {
    "tensorlite-captured": BLUE, "tensorlite": SKY, "tensorlite-numpy": "#7C9FC4", "torch": ORANGE,
    "torch-compile": AMBER, "jax": GREEN, "tinygrad": GREY, "numpy": DARK,
}
STYLE = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "font.family": "sans-serif", "font.size": 9.5, "text.color": "#222222", "axes.labelcolor": "#444444",
    "axes.edgecolor": "#BBBBBB", "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left",
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.axisbelow": True,
    "grid.color": "#E6E6E6", "grid.linewidth": 0.8, "xtick.color": "#666666", "ytick.color": "#444444",
    "svg.fonttype": "none", "svg.hashsalt": "tensorlite",
}


def caption(record: dict[str, Any]) -> str:
    """Hardware, versions, commit and day of a record, in one line."""
    gpu = (record.get("gpu") or {}).get("name")
    where = f"{gpu}" if gpu else f"{record['cpu'].strip()}, {record['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items()
                         if name in ("numpy", "torch", "jax", "tinygrad"))
    return (f"{where} · {record['system'].split('-')[0]}, Python {record['python']}, {versions} · "
            f"commit {record['commit']} · {record['date'][:10]}")


def draw(path: Path, record: dict[str, Any], title: str, size: tuple[float, float],
         fill: Callable[[Figure], None]) -> None:
    """A figure with a title above and the record's caption below, written to `path`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(rect=(0.005, 0.06, 0.985, 0.93), wspace=0.05, hspace=0.08)
        figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
        fill(figure)
        figure.text(0.012, 0.012, caption(record), fontsize=7.5, color="#777777")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    path.write_text(re.sub(r"[ \t]+$", "", path.read_text(), flags=re.MULTILINE))


def time_text(microseconds: float) -> str:
    """Three digits and a unit."""
    for limit, unit in ((1e3, "µs"), (1e6, "ms"), (math.inf, "s")):
        if microseconds < limit:
            value = microseconds * 1e3 / limit if limit < math.inf else microseconds / 1e6
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    raise AssertionError("unreachable")


def bars(axes: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str],
         text: Callable[[float], str]) -> None:
    """Horizontal bars, each with its value; one far longer than the others is cut off, and says so."""
    limit = 3 * sorted(values)[len(values) // 2]
    places = range(len(values), 0, -1)
    axes.barh(places, [min(value, limit) for value in values], color=colours, height=0.72)
    for place, value in zip(places, values, strict=True):
        cut = value > limit
        axes.annotate(text(value) + (" →" if cut else ""), (min(value, limit), place), (-4 if cut else 4, 0),
                      textcoords="offset points", va="center", ha="right" if cut else "left", fontsize=8.5,
                      color="white" if cut else "#333333")
    axes.set_yticks(list(places), names)
    axes.set_xlim(0, min(max(values), limit) * 1.32)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])


def name_lines(axes: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right ends (x, y, name, colour) of lines, moved apart where they would overlap."""
    figure = axes.figure
    figure.canvas.draw()  # lays the panels out: from here on it is known where a point lies
    in_points = 72 / figure.dpi
    lines = sorted(lines, key=lambda line: line[1])
    heights = [axes.transData.transform(line[:2])[1] * in_points for line in lines]
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + 11.5) if moved else height)
    back = (sum(moved) - sum(heights)) / max(1, len(lines))
    for (x, y, name, colour), height, place in zip(lines, heights, moved, strict=True):
        label = axes.annotate(name, (x, y), (6, place - back - height), textcoords="offset points", va="center",
                              color=colour, fontsize=8.5, fontweight="bold", annotation_clip=False)
        label.set_in_layout(False)


def train_step(record: dict[str, Any], path: Path) -> None:
    """A panel for each of the four sizes, a bar for each subject."""
    rows = record["rows"]

    def fill(figure: Figure) -> None:
        panels = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, rows, strict=True):
            names = list(row["median_us"])
            bars(axes, [record["labels"][name] for name in names], list(row["median_us"].values()),
                 [COLOURS[name] for name in names], time_text)
            ratio = row.get("ratio", {}).get("tensorlite-captured")
            ratio = f"\n{ratio:.2f} x {record['labels'][row['fastest_rival']]}" if ratio else "\n"
            axes.set_title(f"hidden {row['hidden']}, batch {row['batch']}{ratio}", fontsize=9.5)

    draw(path, record, "One training step of 784-h-h-10 with Adam: shorter is better", (11.5, 3.7), fill)


def grid(record: dict[str, Any], path: Path) -> None:
    """Width by batch: the captured step divided by the fastest rival's."""
    rows = [row for row in (*record["rows"], *record["grid"]) if "tensorlite-captured" in row.get("ratio", {})]
    widths, batches = (sorted({row[key] for row in rows}) for key in ("hidden", "batch"))
    colours = LinearSegmentedColormap.from_list("faster to slower", [BLUE, "#FFFFFF", ORANGE])

    def fill(figure: Figure) -> None:
        axes = figure.subplots()
        for row in rows:
            place = batches.index(row["batch"]), widths.index(row["hidden"])
            ratio = row["ratio"]["tensorlite-captured"]
            shade = colours(0.5 + 0.5 * max(-1.0, min(1.0, math.log2(ratio) / 1.5)))
            axes.add_patch(matplotlib.patches.Rectangle(place, 0.96, 0.92, color=shade))
            dark = abs(math.log2(ratio)) > 1.0
            axes.text(place[0] + 0.48, place[1] + 0.58, f"{ratio:.2f}", ha="center", va="center", fontsize=11,
                      fontweight="bold", color="white" if dark else "#222222")
            axes.text(place[0] + 0.48, place[1] + 0.24, record["labels"][row["fastest_rival"]].split(",")[0],
                      ha="center", va="center", fontsize=7.5, color="white" if dark else "#555555")
        axes.set(xlim=(0, len(batches)), ylim=(0, len(widths)), xlabel="batch", ylabel="hidden")
        axes.set_xticks([i + 0.48 for i in range(len(batches))], batches)
        axes.set_yticks([i + 0.46 for i in range(len(widths))], widths)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)

    title = "tensorlite's captured step as a multiple of the fastest rival's: below 1 is faster"
    draw(path, record, title, (8.6, 4.4), fill)


def mnist(record: dict[str, Any], path: Path) -> None:
    """Accuracy against wall time since the process was started: a panel a job, a line a library."""
    colours = {"tensorlite": BLUE, "torch": ORANGE, "jax": GREEN}

    def fill(figure: Figure) -> None:
        panels = figure.subplots(1, len(record["jobs"]), squeeze=False)[0]
        for axes, result in zip(panels, record["jobs"].values(), strict=True):
            ends = []
            axes.grid(axis="y")
            for name in (name for name in colours if name in result["runs"]):
                runs = sorted(result["runs"][name], key=lambda run: run["seconds"])
                points = runs[len(runs) // 2]["points"]
                seconds, accuracy = [point[0] for point in points], [100 * point[2] for point in points]
                axes.plot(seconds, accuracy, color=colours[name], marker="o", markersize=3.5, linewidth=1.8)
                ends.append((seconds[-1], accuracy[-1], f"{name} {runs[len(runs) // 2]['seconds']:.1f} s",
                             colours[name]))
            epochs, hidden = result["epochs"], "-".join(map(str, result["hidden"]))
            axes.set_title(f"784-{hidden}-10, {epochs} epochs" + (", digits moved" if result["reach"] else ""))
            axes.set(xlabel="seconds since the process was started", xlim=(0, 1.3 * max(end[0] for end in ends)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 95.0))
            name_lines(axes, ends)

    draw(path, record, "MNIST, the whole job: test digits that are right, imports and compiling included", (11.5, 4.0),
         fill)


def growth(record: dict[str, Any], path: Path) -> None:
    """Time above and memory below, against depth, width and batch; logarithmic axes."""

    def fill(figure: Figure) -> None:
        panels = figure.subplots(2, len(record["axes"]), sharex="col", squeeze=False)
        for column, (axis, result) in enumerate(record["axes"].items()):
            for axes, key, scale in zip(panels[:, column], ("us", "bytes"), (1e-3, 1e-6), strict=True):
                ends = []
                axes.set(xscale="log", yscale="log")
                axes.grid(True)
                for name, measured in result["measured"].items():
                    values = [value * scale for value in measured[key]]
                    if key == "bytes":
                        values = [value if value >= 0.1 else math.nan for value in values]
                    axes.plot(result["points"], values, color=COLOURS[name], marker="o", markersize=3.5, linewidth=1.8)
                    ends.append((result["points"][-1], values[-1], record["labels"][name].split(", fused")[0],
                                 COLOURS[name]))
                axes.set_title({"us": "milliseconds a step", "bytes": "MB of memory"}[key] + f", by {axis}")
                axes.set_xlim(result["points"][0], result["points"][-1] ** 1.65)
                axes.margins(y=0.14)
                axes.set_xticks(result["points"], [f"{point:,}" for point in result["points"]], fontsize=8)
                axes.set_xticks([], minor=True)
                name_lines(axes, [end for end in ends if not math.isnan(end[1])])
            panels[1, column].set_xlabel(axis)

    draw(path, record, "How a training step's cost grows", (11.5, 5.6), fill)


def bandwidth(record: dict[str, Any], path: Path) -> None:
    """GB/s of each operation: a dot for each library, the copy as a line."""
    dots = {"tensorlite": (BLUE, "tensorlite, compiled kernels"),
            "tensorlite-numpy": (SKY, "tensorlite, NumPy kernels"), "torch": (ORANGE, "torch")}
    largest = max(record["elements"])
    rows = [row for row in record["rows"] if row["elements"] == largest]
    copy = record["copy"][str(largest)]["gb_per_s"]

    def fill(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="x")
        axes.set(xscale="log", xlabel="GB/s, counting the least bytes that the operation must move")
        axes.axvline(copy, color="#999999", linestyle="--", linewidth=1)
        axes.text(copy, len(rows) + 0.2, f"a copy, {copy:.0f} GB/s", ha="center", fontsize=8, color="#666666")
        for library, (colour, label) in dots.items():
            known = [(row["measured"].get(library, {}).get("gb_per_s"), place) for place, row in
                     zip(range(len(rows), 0, -1), rows, strict=True)]
            known = [(value, place) for value, place in known if value]
            axes.plot([value for value, _ in known], [place for _, place in known], "o", color=colour, markersize=6,
                      label=label)
        axes.set_yticks(range(len(rows), 0, -1), [row["row"] for row in rows])
        axes.set_ylim(0.3, len(rows) + 0.9)
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.01), labelcolor="linecolor",
                    handletextpad=0.1, columnspacing=1.2)

    draw(path, record, f"Kernels on {largest:,} numbers each", (8.6, 0.23 * len(rows) + 1.7), fill)


def footprint(record: dict[str, Any], path: Path) -> None:
    """Import time, installed size and peak memory side by side."""
    colours = {"numpy": DARK, "tensorlite": BLUE, "torch": ORANGE, "jax": GREEN, "tinygrad": GREY}
    panels = {"import": ("import_s", 1e3, "ms"), "on disk, with all that it requires": ("installed_bytes", 1e-6, "MB"),
              "peak memory, training": ("peak_bytes", 1e-6, "MB")}

    def fill(figure: Figure) -> None:
        for axes, (title, (key, scale, unit)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            names = list(record[key])
            values = [record[key][name] * scale for name in names]
            axes.set_title(title)
            axes.barh(range(len(names), 0, -1), values, color=[colours.get(name, GREY) for name in names], height=0.7)
            for place, value in zip(range(len(names), 0, -1), values, strict=True):
                axes.annotate(f"{value:.0f} {unit}", (value, place), (4, 0), textcoords="offset points", va="center",
                              fontsize=8.5)
            axes.set_yticks(range(len(names), 0, -1), names)
            axes.set(xlim=(0, max(values) * 1.3), xticks=[])
            axes.spines[["left", "bottom"]].set_visible(False)
            axes.tick_params(length=0)

    draw(path, record, "What a library costs before it computes", (11.5, 2.5), fill)
