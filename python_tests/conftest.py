"""The backend under test, and random numbers seeded from each test's own name.

A test thus sees the same numbers alone, in the whole suite, on every backend and machine, and no
two tests share theirs. The hash is CRC-32, because Python's own `hash` of a string changes from run
to run.
"""

import signal
import zlib

import numpy as np
import pytest
import torch

import backend


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of a backend."""
    parser.addoption(
        "--backend", choices=backend.BACKENDS, default="cpu", help="the kernels under test"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests' modules know the backend as they are imported; let Ctrl-C be heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job
    backend.NAME = config.getoption("--backend")
    config.addinivalue_line(
        "markers", "backends(*names, reason): the backends that a test is for, and why these alone"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is not for the backend."""
    for mark in item.iter_markers("backends"):
        if backend.NAME not in mark.args:
            pytest.skip(mark.kwargs["reason"])


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Let the ops run the backend's kernels."""
    backend.install()


def _seed(request: pytest.FixtureRequest) -> int:
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """NumPy generator of this test.

    A hypothesis test must not use it (the fixture is made once, not once an example): draw a seed.
    """
    return np.random.default_rng(_seed(request))


@pytest.fixture(autouse=True)
def torch_seed(request: pytest.FixtureRequest) -> int:
    """Seed torch's global generators for this test, and return the seed."""
    seed = _seed(request)
    torch.manual_seed(seed)
    return seed
