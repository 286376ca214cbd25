"""What all tests share: each device present, and random examples that are the same in every run."""

from __future__ import annotations

import pytest
from hypothesis import settings

import tensorlite as tl

settings.register_profile("tensorlite", deadline=None, derandomize=True, database=None)  # no wall clock either
settings.load_profile("tensorlite")


@pytest.fixture(params=tl.testing.devices())
def device(request: pytest.FixtureRequest) -> str:
    """Each device present, by name."""
    return str(request.param)
