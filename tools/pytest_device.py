"""A pytest plugin for tools/gpu.py: only the tests of one device, in random order, as many as fit a time.

    PYTHONPATH=tools python -m pytest -p pytest_device --only-device cuda --seconds 60 tests

A test belongs to a device if a parameter of it is the device's name; the tests of the thin layer over CuPy, of graphs
and of products of matrices, which name none, belong to "cuda". The order is the same in every run and spreads over all
files, so that a run which ends early has seen something of each. What is not reached in time is skipped, and counted at
the end.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

DEVICES = frozenset({"cpu", "cuda", "cuda:sim"})
CUDA_ALONE = frozenset({"test_cuda_layer.py", "test_cuda_graph.py", "test_cuda_products.py"})
NOT_REACHED = "not reached within the time given"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("device")
    group.addoption("--only-device", choices=sorted(DEVICES), default="cuda", help="run this device's tests alone")
    group.addoption("--exact-allocations", action="store_true",
                    help="each array an allocation of the driver, so that a memory checker sees where it ends")
    group.addoption("--seconds", type=float, default=float("inf"), help="begin no further test after this time")


def belongs(item: pytest.Item, device: str) -> bool:
    """Whether a test is one of the device's."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = {value for value in values if isinstance(value, str)} & DEVICES
    return device in named if named else device == "cuda" and item.path.name in CUDA_ALONE


def spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests in random order, but first one of every file, then another one of every file, and so on."""
    shuffled = random.Random(0).sample(items, len(items))
    seen: Counter[Path] = Counter()
    turns = []
    for item in shuffled:
        turns.append(seen[item.path])
        seen[item.path] += 1
    return [item for _, item in sorted(zip(turns, shuffled, strict=True), key=lambda pair: pair[0])]


class Selection:
    """Chooses the tests, and watches the clock."""

    def __init__(self, device: str, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.begun: float | None = None  # when the first test did, after collection

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        config.hook.pytest_deselected(items=[item for item in items if not belongs(item, self.device)])
        items[:] = spread([item for item in items if belongs(item, self.device)])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = now
        if now - self.begun > self.seconds:
            pytest.skip(NOT_REACHED)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        late = sum(NOT_REACHED in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
        if late:
            terminalreporter.write_line(f"{late} tests {NOT_REACHED}, {self.seconds:.0f} s")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # a device without tests is not one that passes them


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--exact-allocations"):
        import cupy

        cupy.cuda.set_allocator(None)
    config.pluginmanager.register(Selection(config.getoption("--only-device"), config.getoption("--seconds")))
