"""Settings of the pytest-benchmark suites: `pytest --benchmark-only`, in this folder.

Each group of the output is one case, with a row a peer. SEQKERN_BENCH_THREADS sets the threads
of both (default 2).
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the suites import case.py


@pytest.fixture(autouse=True, scope="session")
def bench_threads() -> Iterator[None]:
    """Use the same number of threads for both peers."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("SEQKERN_BENCH_THREADS", "2")))
    yield
    torch.set_num_threads(before)
