"""What all tests share: each device present, and random examples that are the same in every run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import fake_cuda
import pytest
from data_server import Server
from hypothesis import settings

import tensorlite as tl

# PyTorch scripts, which test_compat.py runs, and fuzzers, whose modules import PyTorch. They stand here, not above: of
# several conftest.py pytest reads the nearest one's list alone.
collect_ignore = ["torch_scripts", *([] if importlib.util.find_spec("torch") else ["fuzz"])]

settings.register_profile("tensorlite", deadline=None, derandomize=True, database=None)  # no wall clock either
settings.load_profile("tensorlite")


@pytest.fixture(params=tl.testing.devices())
def device(request: pytest.FixtureRequest) -> str:
    """Each device present, by name."""
    return str(request.param)


@pytest.fixture
def driver() -> Iterator[fake_cuda.Driver]:
    """The stand-in driver, afterwards as it was before."""
    if not fake_cuda.is_installed():
        pytest.skip("only the stand-in driver can show this")
    installed = fake_cuda.install()
    yield installed
    installed.configure()
    installed.run_kernels(True)
    installed.refuse_products(False)
    tl.cuda.empty_cache()


@pytest.fixture
def second() -> str:
    """A second GPU."""
    if tl.cuda.device_count() < 2:
        pytest.skip("one GPU")
    return "cuda:1"


@pytest.fixture
def server() -> Iterator[Server]:
    """A mirror of data sets, on this machine."""
    pytest.importorskip("pooch")
    running = Server()
    yield running
    running.close()
