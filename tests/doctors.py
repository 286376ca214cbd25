"""What the tests of tl.doctor share: data, a model, the usual loop, and what a finding must say."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.insight.doctor import Finding, Report
from tensorlite.nn import functional as F


def data(n: int = 64, device: str = "cpu") -> tuple[tl.Tensor, tl.Tensor]:
    """Points around three centres, in an order that is no order."""
    y = tl.randint(0, 3, (n,))
    return (tl.randn(3, 10)[y] + tl.randn(n, 10) * 0.7).to(device), y.to(device)


def mlp(*end: nn.Module, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, outputs), *end)


def train(model: nn.Module, loss_fn: Callable[..., tl.Tensor] = F.cross_entropy, *, x: Any = None, y: Any = None,
          optimizer: Any = None, steps: int = 6, **options: Any) -> Report:
    """The usual loop under a doctor, on the same batch."""
    given = data()
    x, y = given[0] if x is None else x, given[1] if y is None else y
    optimizer = optim.SGD(model.parameters(), lr=0.05) if optimizer is None else optimizer
    with tl.doctor(quiet=True, **options) as d:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
    return d.report


def only(report: Report, rule: str) -> Finding:
    """The one finding of a report, which must be of that rule, and whose line must be of the tests."""
    assert [finding.rule for finding in report] == [rule], report
    return report.findings[0]


def line_of(finding: Finding) -> str:
    """The source line that a finding names."""
    assert finding.place is not None, finding
    assert "test" in finding.place.file or "doctors" in finding.place.file, finding
    assert linecache.getline(finding.place.file, finding.place.line).strip() == finding.place.text
    return finding.place.text
