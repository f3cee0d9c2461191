"""Fixtures of every test: random numbers seeded from the test's own name.

A test thus sees the same numbers alone, in the whole suite and on every machine, and no two tests
share theirs. The hash is CRC-32, because Python's own `hash` of a string changes from run to run.
"""

import zlib

import numpy as np
import pytest
import torch


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
