"""The page of an explanation: one HTML file with its style inside, that opens without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from .parts import Part
from .sources import Source

_FORMULAS = frozenset({"formula", "derivatives", "where"})
_FOLDED = frozenset({"forward", "rules", "on the CPU", "on CUDA"})  # opened by a click

_STYLE = """
.tl-card { max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem 1.5rem; border: 1px solid #d8dce3;
  border-radius: 12px; background: #fff; color: #1d2430; font: 16px/1.55 system-ui, sans-serif; }
.tl-card h1 { margin: 1.2rem 0 .4rem; font-size: 1.5rem; }
.tl-card section { display: grid; grid-template-columns: 8rem 1fr; gap: .3rem 1rem; padding: .7rem 0;
  border-top: 1px solid #eceff4; }
.tl-card h2 { margin: .1rem 0 0; font-size: .85rem; font-weight: 600; color: #5a6579; }
.tl-card p { margin: 0 0 .2rem; }
.tl-card .formula p { font: 1.1rem/1.7 "STIX Two Math", "Cambria Math", Georgia, serif; }
.tl-card svg { display: block; max-width: 35rem; margin: 0 auto .6rem; font: 12px system-ui, sans-serif;
  fill: #5a6579; }
.tl-card .axis { stroke: #aab3c2; }
.tl-card math { font-size: 1.15rem; }
.tl-card mtd { padding: .15em .6em .15em 0; text-align: left; }
.tl-card pre { margin: .3rem 0 .8rem; padding: .7rem .9rem; overflow-x: auto; border-radius: 8px; background: #f4f6fa;
  font: .85rem/1.5 ui-monospace, monospace; }
.tl-card summary { cursor: pointer; color: #5a6579; font-size: .85rem; }
@media (max-width: 40rem) { .tl-card section { grid-template-columns: 1fr; } }
@media (prefers-color-scheme: dark) {
  body.tl-page { background: #12161d; }
  .tl-card { background: #1a202b; color: #e4e8ef; border-color: #323b4b; }
  .tl-card section { border-color: #2a3240; }
  .tl-card pre { background: #12161d; }
  .tl-card h2, .tl-card summary { color: #9aa7bd; }
}
"""


def page(name: str, parts: Iterable[Part], math: Mapping[str, str], figure: str) -> str:
    """The text of the page; `math` has MathML for the lines "left = right", by their left sides, `figure` is SVG."""
    body = "\n".join(_section(part, math if part.title in _FORMULAS else {}) for part in parts)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(name)} · tensorlite'
            f'</title>\n<style>{_STYLE}</style>\n</head>\n<body class="tl-page">\n<article class="tl-card">\n'
            f"<h1>{escape(name)}</h1>\n{figure}\n{body}\n</article>\n</body>\n</html>\n")


def _section(part: Part, math: Mapping[str, str]) -> str:
    kind = ' class="formula"' if part.title in _FORMULAS else ""
    lines = "".join(f"<p>{math.get(line.partition(' = ')[0]) or escape(line)}</p>" for line in part.lines)
    sources = "".join(_source(source, part.title in _FOLDED) for source in part.sources)
    return f"<section{kind}>\n<h2>{escape(part.title)}</h2>\n<div>{lines}{sources}</div>\n</section>"


def _source(source: Source, folded: bool) -> str:
    text = f"<pre>{escape(source.text)}</pre>"
    opened = "" if folded else " open"
    return f"<details{opened}><summary>{escape(source.place)}</summary>{text}</details>"
