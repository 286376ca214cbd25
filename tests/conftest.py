"""What all tests share: the devices present, and a fixed seed."""

from __future__ import annotations

import pytest
from hypothesis import settings

import tensorlite as tl

# No wall clock, no random seed: a run finds what every run finds, however slow the machine.
settings.register_profile("tensorlite", deadline=None, derandomize=True, database=None)
settings.load_profile("tensorlite")


@pytest.fixture(autouse=True)
def seed() -> None:
    tl.manual_seed(0)


@pytest.fixture(params=tl.testing.devices() if hasattr(tl, "testing") else ["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """Each device present, by name."""
    return str(request.param)
