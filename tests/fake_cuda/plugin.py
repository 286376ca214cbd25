"""A pytest plugin: `PYTHONPATH=tests pytest -p fake_cuda.plugin` runs tests with a GPU that is not there.

The stand-in driver is installed when pytest loads this module, before any conftest asks which devices are present.
Where it cannot be installed, the run ends with the reason.
"""

from __future__ import annotations

import pytest

import fake_cuda

reason = fake_cuda.missing()
if reason is not None:
    raise pytest.UsageError(f"fake_cuda: {reason}")
fake_cuda.install()
