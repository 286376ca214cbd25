"""What tests of device "cuda" share: on a GPU they run directly, elsewhere in a process with the stand-in driver."""

from __future__ import annotations

from typing import Any

import fake_cuda
import numpy as np
import pytest

import tensorlite as tl

ON_GPU = "cuda" in tl.testing.devices()
gpu = pytest.mark.skipif(not ON_GPU, reason="no GPU, and not under the stand-in driver")
runs_directly = pytest.mark.skipif(ON_GPU, reason="runs directly")


def run_under_the_stand_in(*arguments: str) -> None:
    """Run test files, with pytest's options, above the stand-in driver; skips where it cannot be installed."""
    reason = fake_cuda.missing()
    if reason is not None:
        pytest.skip(reason)
    failures = fake_cuda.run_tests(*arguments)
    assert failures is None, failures


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)
